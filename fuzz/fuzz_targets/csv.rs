#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| batchplan_fuzz::run("csv", input));
