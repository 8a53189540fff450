//! The target `canon` for libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| vac_fuzz::canon::target(data));
