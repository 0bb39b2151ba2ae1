//! Looks at as many crash states as it is told to: first those of every short history, then of longer ones at random.
//!
//! `crash-states [--states N] [--seed N] [--steps N] [--effort full|brief|scant]`, and to see a failure again
//! `crash-states --seed N --effort NAME --replay begun:profile:steps[:moment:image]`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::process::ExitCode;
use std::time::Instant;

use jlog_tests::crash::{Case, Dice, Effort, Totals, cases_of, random_case, run, run_all};

struct Wanted {
    states: u64,
    seed: u64,
    /// Every history of up to so many steps.
    steps: usize,
    effort: Option<Effort>,
    replay: Option<String>,
}

impl Wanted {
    fn read() -> Wanted {
        let mut wanted = Wanted { states: 2_800_000, seed: 1, steps: 4, effort: None, replay: None };
        let mut arguments = std::env::args().skip(1);
        while let Some(name) = arguments.next() {
            let value = arguments.next().unwrap_or_default();
            let number = || value.parse::<u64>().unwrap_or_else(|_| panic!("{name} wants a number"));
            match name.as_str() {
                "--states" => wanted.states = number(),
                "--seed" => wanted.seed = number(),
                "--steps" => wanted.steps = number() as usize,
                "--effort" => wanted.effort = Some(Effort::named(&value).unwrap()),
                "--replay" => wanted.replay = Some(value),
                _ => panic!("{name}: not known"),
            }
        }
        wanted
    }
}

fn main() -> ExitCode {
    let wanted = Wanted::read();
    let outcome = match &wanted.replay {
        Some(place) => again(place, wanted.seed, wanted.effort.unwrap_or(Effort::FULL)),
        None => look(&wanted),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            println!("FAILED: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn again(place: &str, seed: u64, effort: Effort) -> Result<(), String> {
    let case: Case = place.parse()?;
    let mut place = place.split(':').skip(3).map(|part| part.parse().unwrap());
    let chosen = place.next().zip(place.next());
    let (totals, outcome) = run(&case, seed, effort, chosen);
    println!("{totals}");
    outcome
}

fn look(wanted: &Wanted) -> Result<(), String> {
    let start = Instant::now();
    // A failure is printed once, at the end.
    std::panic::set_hook(Box::new(|_| {}));
    let mut totals = Totals::default();
    let mut look_at = |cases: &[Case], usual: Effort| {
        let (more, outcome) = run_all(cases, wanted.seed, wanted.effort.unwrap_or(usual));
        totals.add(&more);
        outcome.inspect_err(|_| println!("{totals}")).map(|()| totals.clone())
    };
    let mut so_far = Totals::default();
    for count in 1..=wanted.steps {
        let usual = [Effort::FULL, Effort::FULL, Effort::BRIEF, Effort::SCANT][count.min(4) - 1];
        so_far = look_at(&cases_of(count), usual)?;
    }
    println!("every history of up to {} steps: {} states", wanted.steps, so_far.all_states());
    let mut dice = Dice(wanted.seed);
    while so_far.all_states() < wanted.states {
        let cases: Vec<Case> = (0..256).map(|_| random_case(&mut dice)).collect();
        so_far = look_at(&cases, Effort::FULL)?;
    }
    println!("{so_far}\nin {:.1?}", start.elapsed());
    so_far.met_everything()
}
