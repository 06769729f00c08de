#![no_main]

use eddy_runtime_fuzz::checks::position;

libfuzzer_sys::fuzz_target!(|data: &[u8]| position(data));
