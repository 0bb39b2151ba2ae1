#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| jlog_tests::fuzzing::c_calls::c_calls(data));
