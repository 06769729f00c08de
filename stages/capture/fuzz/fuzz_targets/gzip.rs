#![no_main]

use eddy_capture_fuzz::gzip;

libfuzzer_sys::fuzz_target!(init: eddy_capture_fuzz::begin(), |data: &[u8]| gzip(data));
