#![no_main]

use eddy_runtime_fuzz::checks::bundle;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bundle(data));
