//! `meta`: the metastore, with libjlog's names of its fields; of a checksummed log, its settings and how it stands.

use std::io::Write;
use std::path::Path;

use clap::ValueEnum;
use jlog::{Format, Log, Metastore};
use serde::Serialize;

use super::Look;
use crate::exit::{Exit, Failure, Outcome};
use crate::report::{Owner, SCHEMA, byte_order, compression, format};
use crate::standing::{RetentionReport, Standing, time, when_full};

pub(super) const EXAMPLES: &str = "\
Examples:
  jlog-inspect meta /var/spool/events
  jlog-inspect meta --field storage_log /var/spool/events     for scripts
  jlog-inspect meta --field durability /var/spool/events

Sizes are in bytes. Each format has fields of its own. Where the metastore is damaged or missing, what
it should be is printed, and the exit code is 4.";

/// A field of the metastore, or, of a checksummed log, of what its processes tell each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(super) enum Field {
    /// Classic or checksummed
    Format,
    /// Which log it is (checksummed)
    Identity,
    /// The active segment
    StorageLog,
    /// The segment size in bytes
    UnitLimit,
    /// The safety level: 0 unsafe, 1 almost safe, 2 safe (classic)
    Safety,
    /// What an acknowledgement promises (checksummed)
    Durability,
    /// The first word of every record (classic)
    HdrMagic,
    /// Little or big (classic)
    ByteOrder,
    /// None, null or lz4
    Compression,
    /// The most bytes the log may have (checksummed)
    Quota,
    /// The bytes that must stay free on the disk (checksummed)
    MinFree,
    /// What happens when one of these is reached (checksummed)
    WhenFull,
    /// How much of what is read is kept (checksummed)
    KeepBytes,
    /// How long what is read is kept (checksummed)
    KeepFor,
    /// When a subscriber keeps nothing any more (checksummed)
    ExpireAfter,
    /// The last message known to be on the disk (checksummed)
    Durable,
    /// Who writes to it alone (checksummed)
    Owner,
    /// The size of the file in bytes
    Length,
}

impl Field {
    /// Whether logs of this format have it.
    fn is_of(self, format: Format) -> bool {
        match self {
            Field::Safety | Field::HdrMagic | Field::ByteOrder => format == Format::Classic,
            Field::StorageLog | Field::UnitLimit | Field::Compression | Field::Length => true,
            // A classic metastore is shown as it is: it does not say what it is.
            _ => format == Format::Checksummed,
        }
    }

    fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
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
    safety: Option<String>,
    hdr_magic: Option<String>,
    length: usize,
    identity: Option<String>,
    durability: Option<String>,
    retention: Option<RetentionReport>,
    durable: Option<String>,
    owner: Option<Owner>,
    problem: Option<String>,
}

pub(super) fn run(look: &mut Look<'_>, path: &Path, field: Option<Field>) -> Outcome {
    let log = look.open(path)?;
    if path.is_file() {
        let what = format!("{}: one segment file by itself has no metastore", path.display());
        return Err(Failure::Other(what));
    }
    let facts = Facts { meta: log.metastore()?, standing: Standing::of(&log, false)?, log };
    let problem = facts.log.metastore_problem().map(str::to_owned);
    if let Some(problem) = &problem {
        look.console.say(format!("the metastore is not to be believed: {problem}"));
    }
    let exit = if problem.is_some() { Exit::Problem } else { Exit::Fine };

    let console = &mut *look.console;
    let kind = facts.log.format();
    if let Some(field) = field {
        if field != Field::Format && !field.is_of(kind) {
            let what = format!("{}: a {kind} log has no {}", path.display(), field.name());
            return Err(Failure::Other(what));
        }
        let value = facts.value(field);
        writeln!(console, "{value}")?;
    } else if look.json {
        console.json(&facts.report(problem))?;
    } else {
        for field in Field::value_variants().iter().filter(|field| field.is_of(kind)) {
            let (name, value) = (field.name(), facts.value(*field));
            writeln!(console, "{name:<12} {value}")?;
        }
    }
    Ok(exit)
}

/// What there is to tell.
struct Facts {
    log: Log,
    meta: Metastore,
    standing: Standing,
}

impl Facts {
    fn report(&self, problem: Option<String>) -> Report {
        let (log, meta, standing) = (&self.log, &self.meta, &self.standing);
        let classic = log.format() == Format::Classic;
        Report {
            schema: SCHEMA,
            log: log.path().to_string_lossy().into_owned(),
            format: format(log.format()),
            byte_order: byte_order(meta.order),
            compression: compression(log.compression()),
            storage_log: meta.active.to_string(),
            unit_limit: meta.unit_limit,
            safety: classic.then(|| meta.safety.to_string()),
            hdr_magic: classic.then(|| format!("{:08x}", meta.magic)),
            length: meta.len,
            identity: log.identity().map(|identity| identity.to_string()),
            durability: standing.durability.map(|durability| durability.to_string()),
            retention: (!classic).then(|| RetentionReport::of(&standing.retention)),
            durable: standing.durable.map(|id| id.to_string()),
            owner: standing.owner.as_ref().map(Owner::of),
            problem,
        }
    }

    /// As scripts read it: a dash where there is nothing.
    fn value(&self, field: Field) -> String {
        let (log, meta, standing) = (&self.log, &self.meta, &self.standing);
        let retention = &standing.retention;
        let or_dash = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
        let number = |value: Option<u64>| or_dash(value.map(|value| value.to_string()));
        match field {
            Field::Format => format(log.format()).to_owned(),
            Field::Identity => or_dash(log.identity().map(|identity| identity.to_string())),
            Field::StorageLog => meta.active.to_string(),
            Field::UnitLimit => meta.unit_limit.to_string(),
            Field::Safety => meta.safety.to_string(),
            Field::Durability => or_dash(standing.durability.map(|durability| durability.to_string())),
            Field::HdrMagic => format!("{:08x}", meta.magic),
            Field::ByteOrder => byte_order(meta.order).to_owned(),
            Field::Compression => compression(log.compression()).to_owned(),
            Field::Quota => number(retention.quota),
            Field::MinFree => number(retention.min_free),
            Field::WhenFull => when_full(retention.when_full).to_owned(),
            Field::KeepBytes => number(retention.keep_bytes),
            Field::KeepFor => or_dash(retention.keep_for.map(time)),
            Field::ExpireAfter => or_dash(retention.expire_after.map(time)),
            Field::Durable => or_dash(standing.durable.map(|id| id.to_string())),
            Field::Owner => or_dash(standing.owner.as_ref().map(ToString::to_string)),
            Field::Length => meta.len.to_string(),
        }
    }
}
