#![no_main]

use eddy_schemas_fuzz::readings;

libfuzzer_sys::fuzz_target!(init: eddy_schemas_fuzz::begin(), |data: &[u8]| readings(data));
