//! The repair of a spool: of its two logs, as of any others, then of what follows from that for the spool.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use ::spool::repair::{self, Plan, Step};
use ::spool::{MessageId, Spool};
use jlog::repair::{Options, history};
use serde::Serialize;

use super::mend::{AGAIN, Consent, may, one_at, stamp};
use super::past;
use crate::console::{Console, Tone, printable};
use crate::exit::{Exit, Failure, Outcome};
use crate::inspect::spool::{Checked, LOGS, check, open, owner};
use crate::interrupt;
use crate::measure::{count, things};
use crate::owner::act_for;

/// The name of the schema of what is printed of a spool's repair.
const SCHEMA: &str = "spool-repair/1";

#[derive(Serialize)]
struct Report {
    schema: &'static str,
    spool: String,
    /// What is mended beside the logs.
    steps: Vec<String>,
    applied: bool,
    whole_messages: u64,
    lost: Vec<String>,
    returned: Vec<String>,
    damaged: Vec<String>,
    problems: Vec<String>,
}

/// The messages of a spool, as far as can be told.
struct Held {
    there: BTreeSet<MessageId>,
    /// What was read of it; none where it could not be.
    checked: Option<Checked>,
}

/// Repairs one spool.
pub(crate) fn one(
    console: &mut Console,
    path: &Path,
    options: &Options,
    consent: Consent,
    json: bool,
) -> Outcome {
    if !matches!(consent, Consent::DryRun) {
        require_idle(path, consent)?;
    }
    let before = Held::look(console, path)?;
    let mut worst = Exit::Fine;
    // One name for both: what was mended together is taken back together.
    let stamp = stamp();
    for log in LOGS {
        worst = worst.max(one_at(console, &path.join(log), options, consent, json, &stamp)?);
    }
    let _owner = act_for(path)?;
    let mut plan = repair::plan(path)?;
    if worst == Exit::Problem {
        // What is damaged stays for now: so does what is known of it.
        plan.keep_unreadable();
    }
    let mut applied = worst == Exit::Repaired;
    if !plan.is_empty() {
        if !json && (!console.quiet || !matches!(consent, Consent::Given { .. })) {
            print_plan(console, path, &plan)?;
        }
        if may(console, consent, json)? {
            repair::apply(&plan)?;
            applied = true;
            worst = worst.max(Exit::Repaired);
        } else {
            worst = Exit::Problem;
        }
    }
    let after = Held::look(console, path)?;
    if after.checked.as_ref().is_none_or(|checked| !checked.is_sound()) {
        worst = Exit::Problem;
    }
    let ended = Ended { before: &before, after: &after, applied };
    if json {
        ended.report(console, path, &plan)?;
    } else {
        ended.print(console, path)?;
    }
    Ok(worst)
}

/// Waits, as long as was allowed, until no process owns the spool.
fn require_idle(path: &Path, consent: Consent) -> Result<(), Failure> {
    let deadline = Instant::now() + consent.wait();
    while let Some(holder) = owner(path) {
        if Instant::now() >= deadline {
            let at = path.display();
            return Err(Failure::Other(format!("{at}: the spool belongs to {holder}; stop it first")));
        }
        interrupt::sleep(AGAIN)?;
    }
    Ok(())
}

impl Held {
    fn look(console: &Console, path: &Path) -> Result<Held, Failure> {
        let read = |spool: &Spool| Ok::<_, Failure>(spool.entries()?.map(|listed| listed.id).collect());
        match open(path).and_then(|spool| read(&spool)) {
            Ok(there) => Ok(Held { there, checked: Some(check(console, path)?) }),
            Err(Failure::Interrupted) => Err(Failure::Interrupted),
            Err(failure) => {
                console.say(format!("its messages cannot be listed: {failure}"));
                Ok(Held { there: BTreeSet::new(), checked: None })
            }
        }
    }

    fn damaged(&self) -> impl Iterator<Item = (&MessageId, &String)> {
        self.checked.iter().flat_map(|checked| &checked.damaged)
    }

    fn whole(&self) -> u64 {
        self.checked.as_ref().map_or(0, |checked| checked.whole)
    }
}

fn print_plan(console: &mut Console, path: &Path, plan: &Plan) -> Result<(), Failure> {
    let path = console.paint(Tone::Strong, printable(&path.to_string_lossy()));
    writeln!(console, "{path}   spool\n")?;
    for (n, step) in plan.steps.iter().enumerate() {
        let line = format!(" {}  {}", n + 1, printable(&step.to_string()));
        let tone = if matches!(step, Step::TrimSummary { .. }) { Tone::Lost } else { Tone::Mendable };
        let line = console.paint(tone, line);
        writeln!(console, "{line}")?;
    }
    writeln!(console)?;
    Ok(())
}

/// What became of a spool.
struct Ended<'a> {
    before: &'a Held,
    after: &'a Held,
    applied: bool,
}

impl Ended<'_> {
    fn lost(&self) -> impl Iterator<Item = &MessageId> {
        self.before.there.difference(&self.after.there)
    }

    /// Messages whose removal stood in what was damaged.
    fn returned(&self) -> impl Iterator<Item = &MessageId> {
        let known = self.before.checked.is_some();
        self.after.there.difference(&self.before.there).filter(move |_| known)
    }

    fn print(&self, console: &mut Console, path: &Path) -> Result<(), Failure> {
        for id in self.lost() {
            let why = self.before.damaged().find(|(damaged, _)| *damaged == id).map_or("", |(_, why)| why);
            let line = console.paint(Tone::Lost, format!("lost     {id}"));
            writeln!(console, "{line}  {}", printable(why))?;
        }
        for id in self.returned() {
            writeln!(console, "back     {id}  its removal stood in what was damaged")?;
        }
        for (id, why) in self.after.damaged() {
            let line = console.paint(Tone::Lost, format!("damaged  {id}"));
            writeln!(console, "{line}  {}", printable(why))?;
        }
        let whole = things(self.after.whole(), "message");
        let left = self.after.damaged().count() as u64;
        let lost = self.lost().count() as u64;
        let unchanged = if self.applied || lost + left == 0 { "" } else { "; nothing was changed" };
        if !console.quiet || lost + left > 0 {
            let path = printable(&path.to_string_lossy());
            let line =
                format!("{path}: {whole} whole, {} lost, {} damaged{unchanged}", count(lost), count(left));
            let tone = if lost + left > 0 { Tone::Lost } else { Tone::Healthy };
            let line = console.paint(tone, line);
            writeln!(console, "{line}")?;
        }
        Ok(())
    }

    fn report(&self, console: &mut Console, path: &Path, plan: &Plan) -> Result<(), Failure> {
        let texts = |ids: &mut dyn Iterator<Item = &MessageId>| ids.map(ToString::to_string).collect();
        console.json(&Report {
            schema: SCHEMA,
            spool: path.to_string_lossy().into_owned(),
            steps: plan.steps.iter().map(ToString::to_string).collect(),
            applied: self.applied,
            whole_messages: self.after.whole(),
            lost: texts(&mut self.lost()),
            returned: texts(&mut self.returned()),
            damaged: texts(&mut self.after.damaged().map(|(id, _)| id)),
            problems: self.after.checked.iter().flat_map(Checked::problems).collect(),
        })
    }
}

/// Takes back the last repair of a spool's logs: of both, where both were repaired together.
pub(super) fn undo(console: &mut Console, path: &Path, json: bool) -> Outcome {
    require_idle(path, Consent::Given { wait: 0 })?;
    let _owner = act_for(path)?;
    let mut last = Vec::new();
    for log in LOGS {
        let log = path.join(log);
        let past = history(&log)?.into_iter().filter(|past| !past.undone);
        last.extend(past.map(|past| past::time(&past)).max().map(|time| (time, log)));
    }
    let Some(newest) = last.iter().map(|(time, _)| time.clone()).max() else {
        return Err(Failure::Other(format!("{}: there is no repair to take back", path.display())));
    };
    for (time, log) in last {
        if time == newest {
            past::undo(console, &log, json)?;
        }
    }
    Ok(Exit::Fine)
}

/// What earlier repairs did to a spool's logs.
pub(super) fn history_of(console: &mut Console, path: &Path, json: bool) -> Outcome {
    for log in LOGS {
        past::history(console, &path.join(log), json)?;
    }
    Ok(Exit::Fine)
}
