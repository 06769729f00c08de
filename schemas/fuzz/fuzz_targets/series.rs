#![no_main]

use eddy_schemas_fuzz::series;

libfuzzer_sys::fuzz_target!(|data: &[u8]| series(data));
