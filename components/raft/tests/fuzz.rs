//! The fuzzer's lives of a group, from seeds: the short form of `make fuzz` for every test run.
#![allow(
    clippy::cast_possible_truncation,
    clippy::print_stdout,
    reason = "a test: it draws bytes, and names its seed"
)]

#[path = "../fuzz/src/input.rs"]
mod input;

/// So many lives.
const LIVES: u64 = 3_000;

/// Bytes of one.
const BYTES: usize = 2_000;

#[test]
fn no_message_makes_a_group_panic() {
    let (mut led_count, mut committed_count, mut refused_count) = (0, 0, 0);
    for seed in 0..LIVES {
        let mut state = seed;
        let bytes: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .take(BYTES)
        .collect();
        match std::panic::catch_unwind(|| input::run(&bytes)) {
            Ok(life) => {
                led_count += u64::from(life.has_led);
                committed_count += life.committed_count.min(100);
                refused_count += life.refused_count;
            }
            Err(panic) => {
                println!("seed {seed}");
                std::panic::resume_unwind(panic);
            }
        }
    }
    // Lives that led nowhere would show nothing.
    assert!(led_count > LIVES / 10, "{led_count} have led");
    assert!(committed_count > 3 * LIVES, "{committed_count} entries are committed");
    assert!(refused_count > 10 * LIVES, "{refused_count} messages are refused");
}
