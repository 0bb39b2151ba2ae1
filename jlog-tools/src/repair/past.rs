//! What earlier repairs did, and the way back from the last one.

use std::io::Write;
use std::path::Path;

use jlog::Log;
use jlog::repair::{self, Past};
use serde::Serialize;

use super::plan::SCHEMA;
use crate::console::{Console, Tone, printable};
use crate::exit::{Exit, Failure, Outcome};
use crate::owner;

#[derive(Serialize)]
struct Report {
    schema: &'static str,
    log: String,
    repairs: Vec<PastReport>,
}

#[derive(Serialize)]
struct PastReport {
    time: String,
    dir: String,
    undone: bool,
    manifest: Vec<String>,
}

impl PastReport {
    fn of(past: &Past) -> PastReport {
        PastReport {
            time: time(past),
            dir: past.dir.to_string_lossy().into_owned(),
            undone: past.undone,
            manifest: past.lines.clone(),
        }
    }
}

/// The time of a repair is the name of its directory.
pub(super) fn time(past: &Past) -> String {
    past.dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

pub(super) fn history(console: &mut Console, path: &Path, json: bool) -> Outcome {
    // That it is a log at all; without repairs it would look the same.
    let log = Log::open(path)?;
    let all = repair::history(path)?;
    if json {
        return report(console, &log, &all).map(|()| Exit::Fine);
    }
    for past in &all {
        let state = if past.undone { "  (taken back)" } else { "" };
        let heading = console.paint(Tone::Strong, format!("{}{state}", printable(&time(past))));
        writeln!(console, "{heading}")?;
        for line in past.lines.iter().filter_map(|line| line.strip_prefix("# ")) {
            writeln!(console, "  {}", printable(line))?;
        }
    }
    if all.is_empty() && !console.quiet {
        console.say("no repair has kept anything here");
    }
    Ok(Exit::Fine)
}

pub(super) fn undo(console: &mut Console, path: &Path, json: bool) -> Outcome {
    let _owner = owner::act_for(path)?;
    let log = Log::open(path)?;
    let Some(past) = repair::undo(path)? else {
        return Err(Failure::Other(format!("{}: there is no repair to take back", path.display())));
    };
    if json {
        return report(console, &log, std::slice::from_ref(&past)).map(|()| Exit::Fine);
    }
    writeln!(
        console,
        "taken back: the repair of {}; the log is as damaged as it was before",
        printable(&time(&past))
    )?;
    Ok(Exit::Fine)
}

fn report(console: &mut Console, log: &Log, all: &[Past]) -> Result<(), Failure> {
    console.json(&Report {
        schema: SCHEMA,
        log: log.path().to_string_lossy().into_owned(),
        repairs: all.iter().map(PastReport::of).collect(),
    })
}
