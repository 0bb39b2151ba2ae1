//! The power goes at every moment of short histories of a checksummed log: see `jlog_tests::crash`.
//!
//! Here, a sample of them. `cargo run --release -p jlog-tests --bin crash-states` looks at all, and at more.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use jlog_tests::crash::{Case, Dice, Effort, cases_of, random_case, run_all};

const SEED: u64 = 1;

fn look(cases: &[Case], effort: Effort) {
    let (totals, outcome) = run_all(cases, SEED, effort);
    println!("{totals}");
    if let Err(failure) = outcome.and_then(|()| totals.met_everything()) {
        panic!("{failure}");
    }
}

#[test]
fn what_was_acknowledged_survives_a_power_cut_at_any_moment_and_nothing_else_appears() {
    // All of one step, and every so many of two to four.
    let mut cases = cases_of(1);
    cases.extend([2, 3, 4].into_iter().flat_map(cases_of).step_by(STRIDE));
    let mut dice = Dice(SEED);
    cases.extend((0..12).map(|_| random_case(&mut dice)));
    look(&cases, Effort::SHORT);
}

const STRIDE: usize = 997;

#[test]
#[ignore = "a minute in a release build: crash-states does the same, and more"]
fn all_histories_of_three_steps_survive_a_power_cut_at_any_moment() {
    look(&(1..=3).flat_map(cases_of).collect::<Vec<_>>(), Effort::FULL);
}
