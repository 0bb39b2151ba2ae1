//! `summary` of a spool: how much it holds, for how long, and whether all is well, on one screen.

use std::fs;
use std::io::Write;
use std::path::Path;

use ::spool::{Listed, MessageId, Spool};
use serde::Serialize;

use super::{QUARANTINE, Remark, SCHEMA, due, now, open, owner, remarks, seconds, time};
use crate::console::{Console, Tone, printable};
use crate::exit::{Exit, Failure, Outcome};
use crate::holder::Holder;
use crate::inspect::Look;
use crate::measure::{count, things};
use crate::report::Owner;

/// How a spool stands.
#[derive(Debug)]
pub(crate) struct Standing {
    spool: Spool,
    owner: Option<Holder>,
    oldest: Option<MessageId>,
    next_due: Option<u32>,
    quarantined: u64,
    remarks: Vec<Remark>,
    now: u32,
}

#[derive(Serialize)]
struct Report<'a> {
    schema: &'static str,
    spool: String,
    status: &'static str,
    messages: u64,
    bytes: u64,
    queues: u64,
    oldest: Option<String>,
    oldest_created: Option<String>,
    next_due: Option<String>,
    held: u64,
    corrupt: u64,
    quarantined: u64,
    segments: u64,
    disk_bytes: u64,
    live_bytes: u64,
    owner: Option<Owner>,
    findings: &'a [Remark],
}

pub(in crate::inspect) fn run(look: &mut Look<'_>, path: &Path) -> Outcome {
    let standing = Standing::of(path)?;
    if look.json {
        look.console.json(&standing.report())?;
    } else if !look.console.quiet || !standing.is_sound() {
        print(look.console, &standing)?;
    }
    Ok(if standing.is_sound() { Exit::Fine } else { Exit::Problem })
}

impl Standing {
    pub(crate) fn of(path: &Path) -> Result<Standing, Failure> {
        let spool = open(path)?;
        Ok(Standing {
            owner: owner(path),
            oldest: spool.entries()?.map(|listed: Listed| listed.id).min(),
            next_due: spool.next_due()?,
            quarantined: quarantined(path),
            remarks: remarks(&spool)?,
            now: now(),
            spool,
        })
    }

    fn is_sound(&self) -> bool {
        self.spool.stats().corrupt == 0 && !self.remarks.iter().any(|remark| remark.problem)
    }

    fn report(&self) -> Report<'_> {
        let stats = self.spool.stats();
        Report {
            schema: SCHEMA,
            spool: self.spool.path().to_string_lossy().into_owned(),
            status: if self.is_sound() { "sound" } else { "damaged" },
            messages: stats.messages,
            bytes: stats.bytes,
            queues: stats.queues,
            oldest: self.oldest.map(|id| id.to_string()),
            oldest_created: self.oldest.map(|id| time(id.created())),
            next_due: self.next_due.map(time),
            held: stats.held,
            corrupt: stats.corrupt,
            quarantined: self.quarantined,
            segments: stats.segments,
            disk_bytes: stats.disk_bytes,
            live_bytes: stats.live_bytes,
            owner: self
                .owner
                .clone()
                .map(|Holder { pid, name }| Owner { pid, name: (!name.is_empty()).then_some(name) }),
            findings: &self.remarks,
        }
    }
}

/// How many records were set aside: each in a file, and the reason beside it.
fn quarantined(path: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(path.join(QUARANTINE)) else { return 0 };
    entries.flatten().filter(|entry| entry.path().extension().is_some_and(|end| end == "bin")).count() as u64
}

/// Prints the summary of a spool.
pub(crate) fn print(console: &mut Console, standing: &Standing) -> Result<(), Failure> {
    let stats = standing.spool.stats();
    let path = printable(&standing.spool.path().to_string_lossy());
    writeln!(console, "{}   spool", console.paint(Tone::Strong, path))?;
    let average = stats.bytes.checked_div(stats.messages);
    let average = average.map(|bytes| format!("   {} on average", console.units.size(bytes)));
    let oldest = standing.oldest.map(|id| {
        let age = seconds(standing.now.saturating_sub(id.created()));
        format!("{age}   {id}")
    });
    let disk = format!(
        "{} in {}, {} of it needed",
        console.units.size(stats.disk_bytes),
        things(stats.segments, "segment"),
        console.units.size(stats.live_bytes)
    );
    let some = |n: u64| (n > 0).then(|| count(n));
    let lines = [
        ("messages", Some(format!("{}{}", count(stats.messages), average.unwrap_or_default()))),
        ("bytes", Some(console.units.size(stats.bytes))),
        ("queues", Some(count(stats.queues))),
        ("oldest", oldest),
        ("next due", standing.next_due.map(|at| due(at, standing.now))),
        ("held", some(stats.held)),
        ("corrupt", some(stats.corrupt)),
        ("set aside", some(standing.quarantined)),
        ("disk", Some(disk)),
        ("owner", standing.owner.as_ref().map(|owner| printable(&owner.to_string()))),
        ("health", Some(health(console, standing))),
    ];
    for (label, line) in lines {
        if let Some(line) = line {
            writeln!(console, "  {label:<12} {line}")?;
        }
    }
    for remark in &standing.remarks {
        writeln!(console, "    {}: {}", remark.kind, printable(&remark.detail))?;
    }
    Ok(())
}

fn health(console: &Console, standing: &Standing) -> String {
    let dash = console.glyph("—", "-");
    let problems = standing.remarks.iter().filter(|remark| remark.problem).count() as u64;
    let notes = standing.remarks.len() as u64 - problems;
    if standing.is_sound() {
        let sound = console.paint(Tone::Healthy, "sound");
        return match notes {
            0 => format!("{sound}, as far as opening it tells {dash} `jlog-inspect check` reads all of it"),
            n => format!("{sound}, with {}", things(n, "remark")),
        };
    }
    let what = console.paint(Tone::Lost, things(problems.max(1), "problem"));
    format!("{what} {dash} see `jlog-inspect check`, mend with `jlog-repair`")
}
