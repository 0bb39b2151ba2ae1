//! `check` of a spool: both of its logs, and every message whole.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use ::spool::{MessageId, Spool, SpoolError};
use jlog::Log;
use jlog::inspect::{Inspection, Progress};
use serde::Serialize;

use super::{LOGS, Remark, SCHEMA, open, remarks, say_gone};
use crate::console::{Console, Tone, printable};
use crate::exit::{Exit, Failure, Outcome};
use crate::inspect::{Look, inspection, print_finding};
use crate::interrupt;
use crate::measure::{count, things};
use crate::progress::Bar;
use crate::report::Problem;

/// What became of reading everything.
#[derive(Debug)]
pub(crate) struct Checked {
    logs: Vec<(&'static str, Inspection)>,
    /// What opening the spool told.
    remarks: Vec<Remark>,
    /// Messages read whole, and the bytes of their bodies.
    pub(crate) whole: u64,
    bytes: u64,
    /// Those that cannot be read, and why.
    pub(crate) damaged: BTreeMap<MessageId, String>,
    /// Those that were removed meanwhile.
    gone: u64,
}

#[derive(Serialize)]
struct Report<'a> {
    schema: &'static str,
    spool: String,
    status: &'static str,
    whole_messages: u64,
    whole_bytes: u64,
    gone_messages: u64,
    damaged: Vec<DamagedReport<'a>>,
    findings: Vec<&'a Remark>,
    logs: Vec<LogReport>,
}

#[derive(Serialize)]
struct DamagedReport<'a> {
    id: String,
    detail: &'a str,
}

#[derive(Serialize)]
struct LogReport {
    log: &'static str,
    segments: usize,
    bytes: u64,
    problems: Vec<Problem>,
}

pub(in crate::inspect) fn run(look: &mut Look<'_>, path: &Path) -> Outcome {
    let checked = check(look.console, path)?;
    if look.json {
        look.console.json(&checked.report(path))?;
    } else {
        print(look.console, &checked)?;
    }
    Ok(if checked.is_sound() { Exit::Fine } else { Exit::Problem })
}

/// Reads all of a spool.
pub(crate) fn check(console: &Console, path: &Path) -> Result<Checked, Failure> {
    let mut logs = Vec::new();
    for name in LOGS {
        logs.push((name, inspection(console, &Log::open(path.join(name))?)?));
    }
    let spool = open(path)?;
    let mut checked =
        Checked { logs, remarks: remarks(&spool)?, whole: 0, bytes: 0, damaged: BTreeMap::new(), gone: 0 };
    let ids: Vec<MessageId> = spool.entries()?.map(|listed| listed.id).collect();
    checked.read(console, &spool, ids)?;
    // The owner may have moved, or removed, what could not be read: it is looked at again as it is now.
    let suspects: Vec<MessageId> = std::mem::take(&mut checked.damaged).into_keys().collect();
    if !suspects.is_empty() {
        checked.read(console, &open(path)?, suspects)?;
    }
    Ok(checked)
}

impl Checked {
    fn read(&mut self, console: &Console, spool: &Spool, ids: Vec<MessageId>) -> Result<(), Failure> {
        let total = spool.stats().bytes;
        let mut bar = Bar::new(console);
        for id in ids {
            match whole(spool, id) {
                Ok(bytes) => {
                    self.whole += 1;
                    self.bytes += bytes;
                }
                Err(SpoolError::NotFound(_)) => {
                    self.gone += 1;
                    say_gone(console, id);
                }
                Err(error) => {
                    self.damaged.insert(id, reason(&error));
                }
            }
            if bar.tell(Progress { done: self.bytes, total }).is_break() {
                interrupt::check()?;
            }
        }
        Ok(())
    }

    pub(crate) fn is_sound(&self) -> bool {
        self.damaged.is_empty()
            && !self.remarks.iter().any(|remark| remark.problem)
            && self.logs.iter().all(|(_, seen)| seen.problems().next().is_none())
    }

    /// What is wrong beside damaged messages, a sentence each.
    pub(crate) fn problems(&self) -> Vec<String> {
        let logs = self.logs.iter().flat_map(|(log, seen)| {
            seen.problems().map(move |found| format!("{log}/{}: {}", found.file, found.detail))
        });
        logs.chain(self.further().filter(|remark| remark.problem).map(|remark| remark.detail.clone()))
            .collect()
    }

    /// What opening told, but for what is told already: by the logs, or of a damaged message.
    fn further(&self) -> impl Iterator<Item = &Remark> {
        let told = |id: &String| self.damaged.keys().any(|damaged| damaged.to_string() == *id);
        self.remarks.iter().filter(move |remark| {
            !matches!(remark.kind, "damage" | "repaired") && !remark.message.as_ref().is_some_and(told)
        })
    }

    fn report(&self, path: &Path) -> Report<'_> {
        let log = |(log, seen): &(&'static str, Inspection)| LogReport {
            log,
            segments: seen.segments.len(),
            bytes: seen.bytes,
            problems: seen.problems().map(Problem::of).collect(),
        };
        Report {
            schema: SCHEMA,
            spool: path.to_string_lossy().into_owned(),
            status: if self.is_sound() { "sound" } else { "damaged" },
            whole_messages: self.whole,
            whole_bytes: self.bytes,
            gone_messages: self.gone,
            damaged: self
                .damaged
                .iter()
                .map(|(id, detail)| DamagedReport { id: id.to_string(), detail })
                .collect(),
            findings: self.further().collect(),
            logs: self.logs.iter().map(log).collect(),
        }
    }
}

/// Reads all that a spool has of a message, and says how long its body is.
fn whole(spool: &Spool, id: MessageId) -> Result<u64, SpoolError> {
    let message = spool.get(id)?;
    let mut body = message.body()?;
    let bytes = io::copy(&mut body, &mut io::sink());
    let bytes = bytes.map_err(|error| SpoolError::Invalid(error.to_string()))?;
    if bytes != message.size() {
        let what = format!("its body has {bytes} bytes of {}", message.size());
        return Err(SpoolError::Invalid(what));
    }
    for name in message.resources()? {
        message.resource(&name)?;
    }
    Ok(bytes)
}

/// Why a message cannot be read, without the advice to call this command.
fn reason(error: &SpoolError) -> String {
    let text = match error {
        SpoolError::Corrupt { detail, .. } => detail.clone(),
        other => other.to_string(),
    };
    match text.split_once("; look with `jlog-inspect") {
        Some((reason, _)) => reason.to_owned(),
        None => text,
    }
}

/// Prints what was found, and the closing line.
pub(crate) fn print(console: &mut Console, checked: &Checked) -> Result<(), Failure> {
    for (log, seen) in &checked.logs {
        for finding in &seen.findings {
            if finding.is_problem() || !console.quiet {
                write!(console, "{log} ")?;
                print_finding(console, seen, finding)?;
            }
        }
    }
    for remark in checked.further() {
        if remark.problem || !console.quiet {
            let tone = if remark.problem { Tone::Lost } else { Tone::Dim };
            let label = console.paint(tone, remark.kind.to_uppercase());
            writeln!(console, "{label} {}", printable(&remark.detail))?;
        }
    }
    for (id, detail) in &checked.damaged {
        let label = console.paint(Tone::Lost, "MESSAGE");
        writeln!(console, "{label} {id}: {}", printable(detail))?;
    }
    if !console.quiet {
        let gone = match checked.gone {
            0 => String::new(),
            n => format!(", {} removed meanwhile", count(n)),
        };
        let damaged = match checked.damaged.len() as u64 {
            0 => "none is damaged".to_owned(),
            n => format!("{} damaged", count(n)),
        };
        let damaged = match (checked.is_sound(), checked.damaged.is_empty()) {
            (true, _) => console.paint(Tone::Healthy, damaged),
            (false, true) => damaged,
            (false, false) => console.paint(Tone::Lost, damaged),
        };
        let whole = things(checked.whole, "message");
        let size = console.units.size(checked.bytes);
        writeln!(console, "{whole} read whole, {size}{gone}: {damaged}")?;
    }
    Ok(())
}
