//! A repair plan on the screen and in JSON.

use std::io::Write;

use jlog::inspect::Inspection;
use jlog::repair::{Part, RepairPlan, Step};
use serde::Serialize;

use crate::console::{Console, Tone, printable};
use crate::exit::Failure;
use crate::inspect::{align_right, borderless, print_finding, rows};
use crate::measure::things;
use crate::report::Problem;

/// The name of the schema of everything that `jlog-repair --json` prints.
pub(super) const SCHEMA: &str = "jlog-repair/1";

/// A plan in JSON.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    steps: Vec<StepReport>,
    left: Vec<Problem>,
    kept_bytes: u64,
}

#[derive(Debug, Serialize)]
struct StepReport {
    part: &'static str,
    file: String,
    from: u64,
    to: u64,
    what: String,
    deed: String,
    lost_messages: Option<u64>,
    safe: bool,
    moves_ids_after: Option<String>,
}

impl Report {
    pub(super) fn of(plan: &RepairPlan) -> Report {
        Report {
            steps: plan.steps.iter().map(StepReport::of).collect(),
            left: plan.left.iter().map(Problem::of).collect(),
            kept_bytes: plan.kept_bytes,
        }
    }
}

impl StepReport {
    fn of(step: &Step) -> StepReport {
        StepReport {
            part: match step.part {
                Part::Metastore => "metastore",
                Part::Checkpoints => "checkpoints",
                Part::Indexes => "indexes",
                Part::Data => "data",
                Part::PreCommit => "pre_commit",
            },
            file: step.file.clone(),
            from: step.from,
            to: step.to,
            what: step.what.clone(),
            deed: step.deed.clone(),
            lost_messages: step.lost,
            safe: step.safe,
            moves_ids_after: step.moves_ids_after.map(|id| id.to_string()),
        }
    }
}

/// What a plan costs in messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Loss {
    /// So many are known to be lost.
    pub(super) known: u64,
    /// There are places where it is not known.
    pub(super) perhaps_more: bool,
}

impl Loss {
    pub(super) fn of(plan: &RepairPlan) -> Loss {
        Loss {
            known: plan.steps.iter().filter_map(|step| step.lost).sum(),
            perhaps_more: plan.steps.iter().any(|step| step.lost.is_none() && !step.safe),
        }
    }
}

impl std::fmt::Display for Loss {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.known, self.perhaps_more) {
            (0, true) => f.write_str("an unknown number of messages lost"),
            (known, true) => write!(f, "at least {} lost", things(known, "message")),
            (known, false) => write!(f, "{} lost", things(known, "message")),
        }
    }
}

/// Prints the plan: what is wrong, what is done about it, what it costs, and what stays as it is.
pub(super) fn print(console: &mut Console, seen: &Inspection, plan: &RepairPlan) -> Result<(), Failure> {
    let path = console.paint(Tone::Strong, printable(&seen.path.to_string_lossy()));
    let size = console.units.size(seen.bytes);
    let (segments, messages) =
        (things(seen.segments.len() as u64, "segment"), things(seen.messages, "message"));
    writeln!(console, "{path}   {size}, {segments}, {messages}\n")?;

    let mut table = borderless();
    for (n, step) in plan.steps.iter().enumerate() {
        table.add_row([
            format!(" {}", n + 1),
            what(step).to_owned(),
            place(step),
            printable(&step.deed),
            cost(step),
        ]);
    }
    align_right(&mut table, &[0]);
    for (line, step) in rows(&table).into_iter().zip(&plan.steps) {
        let line = console.paint(if step.safe { Tone::Mendable } else { Tone::Lost }, line);
        writeln!(console, "{line}")?;
        if what(step) != step.what {
            writeln!(console, "    {}", printable(&step.what))?;
        }
    }
    if !plan.is_empty() {
        writeln!(console)?;
    }
    if !plan.left.is_empty() {
        writeln!(console, " left as it is:")?;
        for finding in &plan.left {
            write!(console, " ")?;
            print_finding(console, seen, finding)?;
        }
        writeln!(console)?;
    }
    for id in plan.steps.iter().filter_map(|step| step.moves_ids_after) {
        writeln!(
            console,
            " ids of segment {} behind {id} move down; checkpoints move with them",
            id.segment
        )?;
    }
    Ok(())
}

/// What is wrong, in a word or two; the rest of it stands on a line of its own.
fn what(step: &Step) -> &str {
    match step.part {
        Part::Metastore => "metastore",
        Part::PreCommit => "pre_commit",
        Part::Checkpoints | Part::Indexes | Part::Data => &step.what,
    }
}

/// The bytes in question, where it is not the whole file.
fn place(step: &Step) -> String {
    let file = printable(&step.file);
    match step.part {
        Part::Data | Part::PreCommit => format!("{file} bytes {}..{}", step.from, step.to),
        Part::Metastore | Part::Checkpoints | Part::Indexes => file,
    }
}

fn cost(step: &Step) -> String {
    match (step.lost, step.safe) {
        (_, true) => "safe".to_owned(),
        (Some(lost), false) => format!("{} lost", things(lost, "message")),
        (None, false) => "messages lost: not known".to_owned(),
    }
}
