//! `quarantine`: the records that a spool has set aside because they are damaged.

use std::io::Write;
use std::path::Path;

use ::spool::quarantined;
use serde::Serialize;

use super::{SCHEMA, cell};
use crate::console::{Tone, printable};
use crate::exit::{Exit, Outcome};
use crate::inspect::Look;
use crate::inspect::summary::{align_right, borderless, rows};

/// The letters of a reason there is room for.
const REASON: usize = 200;

#[derive(Serialize)]
struct Report {
    schema: &'static str,
    spool: String,
    records: Vec<Record>,
}

#[derive(Serialize)]
struct Record {
    message: Option<String>,
    path: String,
    bytes: u64,
    reason: String,
}

pub(in crate::inspect) fn run(look: &mut Look<'_>, path: &Path) -> Outcome {
    let all = quarantined(path)?;
    let exit = if all.is_empty() { Exit::Fine } else { Exit::Problem };
    let console = &mut *look.console;
    if look.json {
        let record = |kept: ::spool::Quarantined| Record {
            message: kept.message.map(|id| id.to_string()),
            path: kept.path.to_string_lossy().into_owned(),
            bytes: kept.bytes,
            reason: kept.reason,
        };
        let records = all.into_iter().map(record).collect();
        console.json(&Report { schema: SCHEMA, spool: path.to_string_lossy().into_owned(), records })?;
        return Ok(exit);
    }
    if all.is_empty() {
        if !console.quiet {
            console.say("nothing is set aside");
        }
        return Ok(exit);
    }
    let mut table = borderless();
    table.set_header(["message", "size", "file", "reason"]);
    for kept in &all {
        table.add_row([
            kept.message.map_or_else(|| "?".to_owned(), |id| id.to_string()),
            console.units.size(kept.bytes),
            printable(&kept.path.file_name().unwrap_or_default().to_string_lossy()),
            cell(kept.reason.as_bytes(), REASON),
        ]);
    }
    align_right(&mut table, &[1]);
    for (n, line) in rows(&table).into_iter().enumerate() {
        let line = if n == 0 { console.paint(Tone::Strong, line) } else { line };
        writeln!(console, "{line}")?;
    }
    Ok(exit)
}
