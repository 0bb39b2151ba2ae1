#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| jlog_tests::fuzzing::classic_harm::directory(data));
