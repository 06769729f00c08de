#![no_main]

use eddy_schemas_fuzz::batch;

libfuzzer_sys::fuzz_target!(|data: &[u8]| batch(data));
