#![no_main]

use eddy_capture_fuzz::{Format, decoder};

libfuzzer_sys::fuzz_target!(init: eddy_capture_fuzz::begin(), |data: &[u8]| decoder(Format::Plain, data));
