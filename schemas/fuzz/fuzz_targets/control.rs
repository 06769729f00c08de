#![no_main]

use eddy_schemas_fuzz::control;

libfuzzer_sys::fuzz_target!(|data: &[u8]| control(data));
