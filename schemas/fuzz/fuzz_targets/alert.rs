#![no_main]

use eddy_schemas_fuzz::alert;

libfuzzer_sys::fuzz_target!(|data: &[u8]| alert(data));
