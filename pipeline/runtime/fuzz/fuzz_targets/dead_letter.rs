#![no_main]

use eddy_runtime_fuzz::checks::dead_letter;

libfuzzer_sys::fuzz_target!(|data: &[u8]| dead_letter(data));
