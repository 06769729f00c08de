#![no_main]

use eddy_capture_fuzz::topic;

libfuzzer_sys::fuzz_target!(init: eddy_capture_fuzz::begin(), |data: &[u8]| topic(data));
