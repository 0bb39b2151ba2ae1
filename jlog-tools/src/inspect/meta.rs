//! `meta`: the metastore, with libjlog's names of its fields.

use std::io::Write;
use std::path::Path;

use clap::ValueEnum;
use jlog::{Log, Metastore};
use serde::Serialize;

use super::Look;
use crate::exit::{Exit, Failure, Outcome};
use crate::report::{SCHEMA, byte_order, compression};

pub(super) const EXAMPLES: &str = "\
Examples:
  jlog-inspect meta /var/spool/events
  jlog-inspect meta --field storage_log /var/spool/events     for scripts

Where the metastore is damaged or missing, what it should be is printed, and the exit code is 4.";

/// A field of the metastore.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(super) enum Field {
    /// The active segment
    StorageLog,
    /// The segment size in bytes
    UnitLimit,
    /// The safety level: 0 unsafe, 1 almost safe, 2 safe
    Safety,
    /// The first word of every record
    HdrMagic,
    /// Little or big
    ByteOrder,
    /// None, null or lz4
    Compression,
    /// The size of the file in bytes
    Length,
}

#[derive(Serialize)]
struct Report {
    schema: &'static str,
    log: String,
    format: &'static str,
    byte_order: &'static str,
    compression: &'static str,
    storage_log: String,
    unit_limit: u32,
    safety: String,
    hdr_magic: String,
    length: usize,
    problem: Option<String>,
}

pub(super) fn run(look: &mut Look<'_>, path: &Path, field: Option<Field>) -> Outcome {
    let log = look.open(path)?;
    if path.is_file() {
        let what = format!("{}: one segment file by itself has no metastore", path.display());
        return Err(Failure::Other(what));
    }
    let meta = log.metastore()?;
    let problem = log.metastore_problem().map(str::to_owned);
    if let Some(problem) = &problem {
        look.console.say(format!("the metastore is not to be believed: {problem}"));
    }
    let exit = if problem.is_some() { Exit::Problem } else { Exit::Fine };

    let console = &mut *look.console;
    if let Some(field) = field {
        let value = value(&log, &meta, field);
        writeln!(console, "{value}")?;
    } else if look.json {
        console.json(&Report {
            schema: SCHEMA,
            log: log.path().to_string_lossy().into_owned(),
            format: "classic",
            byte_order: byte_order(meta.order),
            compression: compression(log.compression()),
            storage_log: meta.active.to_string(),
            unit_limit: meta.unit_limit,
            safety: meta.safety.to_string(),
            hdr_magic: format!("{:08x}", meta.magic),
            length: meta.len,
            problem,
        })?;
    } else {
        for field in Field::value_variants() {
            let name = field.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
            let value = value(&log, &meta, *field);
            writeln!(console, "{name:<12} {value}")?;
        }
    }
    Ok(exit)
}

fn value(log: &Log, meta: &Metastore, field: Field) -> String {
    match field {
        Field::StorageLog => meta.active.to_string(),
        Field::UnitLimit => meta.unit_limit.to_string(),
        Field::Safety => meta.safety.to_string(),
        Field::HdrMagic => format!("{:08x}", meta.magic),
        Field::ByteOrder => byte_order(meta.order).to_owned(),
        Field::Compression => compression(log.compression()).to_owned(),
        Field::Length => meta.len.to_string(),
    }
}
