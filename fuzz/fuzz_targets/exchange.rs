#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| qanat_fuzz::run("exchange", input));
