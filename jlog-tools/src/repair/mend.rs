//! The repair of one log: look, plan, ask, do, look again.

use std::io::{self, BufRead, IsTerminal, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use jlog::inspect::Inspection;
use jlog::repair::{self, Options, RepairPlan, Repaired, Step};
use jlog::{ErrorKind, Log};
use serde::Serialize;

use super::plan::{self, Loss, SCHEMA};
use crate::console::{Console, Tone, printable};
use crate::exit::{Exit, Failure, Outcome};
use crate::inspect::{inspection, print_finding};
use crate::interrupt;
use crate::measure::things;
use crate::owner;
use crate::report::Problem;

/// Whether the plan may be carried out. `wait` is in microseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Consent {
    /// No: only shown.
    DryRun,
    /// Yes, without a question.
    Given { wait: u64 },
    /// To be asked for on the terminal; without one, no.
    Ask { wait: u64 },
}

/// How often a log that is in use is tried again.
pub(super) const AGAIN: Duration = Duration::from_millis(200);

#[derive(Serialize)]
struct Report {
    schema: &'static str,
    log: String,
    plan: plan::Report,
    applied: bool,
    /// Where the originals are kept.
    kept: Option<String>,
    lost_messages: u64,
    /// False where there are places of which it is not known how many were lost.
    lost_is_certain: bool,
    /// The problems that are there now.
    problems: Vec<Problem>,
}

/// Repairs one log.
pub(crate) fn one(
    console: &mut Console,
    path: &Path,
    options: &Options,
    consent: Consent,
    json: bool,
) -> Outcome {
    one_at(console, path, options, consent, json, &stamp())
}

/// As [`one`], with the originals kept under this name.
pub(super) fn one_at(
    console: &mut Console,
    path: &Path,
    options: &Options,
    consent: Consent,
    json: bool,
    stamp: &str,
) -> Outcome {
    let _owner = owner::act_for(path)?;
    let deadline = Instant::now() + consent.wait();
    let mut shown: Option<Vec<Step>> = None;
    loop {
        let log = Log::open(path)?;
        let seen = inspection(console, &log)?;
        let plan = repair::plan(&log, &seen, options)?;
        if plan.is_empty() {
            return nothing_to_do(console, &seen, &plan, json);
        }
        // What is done is what was shown, even where we had to wait and look again.
        if shown.as_ref() != Some(&plan.steps) {
            let wanted = !console.quiet || !matches!(consent, Consent::Given { .. });
            if !json && wanted {
                plan::print(console, &seen, &plan)?;
                way_back(console, path, &plan, options)?;
            }
            if !may(console, consent, json)? {
                if json {
                    report(console, &seen, &plan, &Repaired::default(), false)?;
                }
                return Ok(Exit::Problem);
            }
            shown = Some(plan.steps.clone());
        }
        match repair::apply(&log, &plan, stamp) {
            Ok(done) => return verify(console, path, &plan, &done, json),
            Err(error) if in_use(error.kind()) && Instant::now() < deadline => interrupt::sleep(AGAIN)?,
            Err(error) => return Err(error.into()),
        }
    }
}

impl Consent {
    pub(super) fn wait(self) -> Duration {
        match self {
            Consent::DryRun => Duration::ZERO,
            Consent::Given { wait } | Consent::Ask { wait } => Duration::from_micros(wait),
        }
    }
}

/// Another process has the log open, or has changed it since we looked.
fn in_use(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Busy | ErrorKind::Invalid)
}

/// The name of the directory that keeps the originals: the time, in UTC.
pub(super) fn stamp() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn way_back(console: &mut Console, path: &Path, plan: &RepairPlan, options: &Options) -> Result<(), Failure> {
    let loss = Loss::of(plan);
    if loss.known > 0 || loss.perhaps_more {
        let line = console.paint(Tone::Lost, loss);
        writeln!(console, " {line}: these bytes hold nothing that can be read")?;
    }
    if options.no_undo {
        writeln!(console, " no copies are kept: there is no way back")?;
        return Ok(());
    }
    let size = console.units.size(plan.kept_bytes);
    let path = printable(&path.to_string_lossy());
    writeln!(console, " originals are kept in .repair/ ({size}); take back with: jlog-repair undo {path}")?;
    Ok(())
}

/// Whether the plan may be carried out: what was said on the command line, or what the user says now.
pub(super) fn may(console: &mut Console, consent: Consent, json: bool) -> Result<bool, Failure> {
    match consent {
        Consent::Given { .. } => return Ok(true),
        Consent::DryRun => return Ok(false),
        Consent::Ask { .. } => {}
    }
    if json || !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        console.say("nothing was changed: there is no terminal to ask on; -y does all of it, -p what loses no message");
        return Ok(false);
    }
    console.flush()?;
    let _ = write!(io::stderr(), "Repair? [y/N] ");
    let _ = io::stderr().flush();
    interrupt::wait_for_input(io::stdin().as_fd())?;
    let mut answer = String::new();
    io::stdin()
        .lock()
        .read_line(&mut answer)
        .map_err(|error| Failure::Other(format!("cannot read the answer: {error}")))?;
    let yes = matches!(answer.trim(), "y" | "Y" | "yes");
    if !yes {
        console.say("nothing was changed");
    }
    Ok(yes)
}

/// The plan is empty: there is nothing wrong, or nothing that this repair may do.
fn nothing_to_do(console: &mut Console, seen: &Inspection, plan: &RepairPlan, json: bool) -> Outcome {
    if json {
        report(console, seen, plan, &Repaired::default(), false)?;
    } else if plan.left.is_empty() {
        if !console.quiet {
            let path = printable(&seen.path.to_string_lossy());
            writeln!(console, "{path}: nothing to repair")?;
        }
    } else {
        plan::print(console, seen, plan)?;
    }
    Ok(if plan.left.is_empty() { Exit::Fine } else { Exit::Problem })
}

/// Looks at the log again, and says what became of it.
fn verify(console: &mut Console, path: &Path, plan: &RepairPlan, done: &Repaired, json: bool) -> Outcome {
    let seen = Log::open(path).map_err(Failure::from).and_then(|log| inspection(console, &log));
    let seen =
        seen.inspect_err(|_| console.say("the repair is done, but what became of it was not looked at"))?;
    let left: Vec<_> = seen.problems().collect();
    let exit = if left.is_empty() { Exit::Repaired } else { Exit::Problem };
    if json {
        report(console, &seen, plan, done, true)?;
        return Ok(exit);
    }

    let undo = match &done.kept {
        Some(_) => format!("jlog-repair undo {}", printable(&path.to_string_lossy())),
        None => "not possible".to_owned(),
    };
    let line = format!(
        "repaired: {}, {} left, {}, undo: {undo}",
        things(done.steps as u64, "place"),
        left.len(),
        Loss::of(plan)
    );
    let line = console.paint(if left.is_empty() { Tone::Healthy } else { Tone::Lost }, line);
    writeln!(console, "{line}")?;
    for finding in left {
        print_finding(console, &seen, finding)?;
    }
    Ok(exit)
}

fn report(
    console: &mut Console,
    seen: &Inspection,
    plan: &RepairPlan,
    done: &Repaired,
    applied: bool,
) -> Result<(), Failure> {
    let loss = Loss::of(plan);
    console.json(&Report {
        schema: SCHEMA,
        log: seen.path.to_string_lossy().into_owned(),
        plan: plan::Report::of(plan),
        applied,
        kept: done.kept.as_ref().map(|dir| dir.to_string_lossy().into_owned()),
        lost_messages: loss.known,
        lost_is_certain: !loss.perhaps_more,
        problems: seen.problems().map(Problem::of).collect(),
    })
}
