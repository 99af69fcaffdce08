//! Whatever arrives, a group never panics: `make fuzz`.
#![no_main]

#[path = "../src/input.rs"]
mod input;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let life = input::run(bytes);
    assert!(life.committed_count < u64::MAX / 2, "{life:?}");
});
