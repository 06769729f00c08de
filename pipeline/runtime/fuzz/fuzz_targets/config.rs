#![no_main]

use eddy_runtime_fuzz::checks::config;

libfuzzer_sys::fuzz_target!(|data: &[u8]| config(data));
