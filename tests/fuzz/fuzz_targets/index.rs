//! The target `index` for libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| vac_fuzz::index::target(data));
