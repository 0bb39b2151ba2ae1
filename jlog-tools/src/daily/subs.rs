//! `jlog subs`: the subscribers of a log.

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use jlog::inspect::SubscriberReport;
use jlog::{ErrorKind, Log, OnDamage, RecordId, Start, Subscriber, Timestamp};

use crate::console::{Console, printable_json};
use crate::exit::{Exit, Failure, Outcome};
use crate::inspect::subscribers_table;
use crate::interrupt;
use crate::measure::things;
use crate::options::{Common, subscriber, with_console};
use crate::owner;
use crate::place::{self, Where};
use crate::report::Follower;

pub(super) const EXAMPLES: &str = "\
Examples:
  jlog subs /var/spool/events                            the same as list
  jlog subs /var/spool/events add billing --at end
  jlog subs /var/spool/events set billing 0000001a:00000003
  jlog subs /var/spool/events rename billing invoices

WHERE is begin, end, behind a message, or a time (2026-11-22T10:00, \"2 hours ago\", -15m): before the first
message that is not earlier. Limits to watch: jlog-inspect subs LOG --max-lag N";

#[derive(Debug, Args)]
pub(super) struct Subs {
    /// The log
    #[arg(value_name = "LOG")]
    log: PathBuf,
    /// Print JSON for programs
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    deed: Option<Deed>,
}

#[derive(Debug, Subcommand)]
enum Deed {
    /// Print the subscribers, their checkpoints, and how far they are behind [the default]
    List,
    /// Add a subscriber
    Add {
        /// Its name: 1 to 126 bytes of any kind
        #[arg(value_name = "NAME")]
        name: OsString,
        /// Where it starts: begin, end, behind a message, or at a time
        #[arg(long, value_name = "WHERE", default_value = "begin", value_parser = parse_spot)]
        #[arg(allow_hyphen_values = true)]
        at: Spot,
        /// Start where this subscriber is
        #[arg(long, value_name = "NAME", conflicts_with = "at")]
        copy: Option<OsString>,
    },
    /// Remove a subscriber
    Remove {
        /// Its name
        #[arg(value_name = "NAME")]
        name: OsString,
    },
    /// Move a subscriber's checkpoint: everything up to there is done with
    Set {
        /// Its name
        #[arg(value_name = "NAME")]
        name: OsString,
        /// Begin, end, a message (marker 0 is before a segment's first), or a time
        #[arg(value_name = "WHERE", value_parser = parse_spot, allow_hyphen_values = true)]
        at: Spot,
    },
    /// Add a subscriber where another one is
    Copy {
        /// The one that is there
        #[arg(value_name = "FROM")]
        from: OsString,
        /// The new one
        #[arg(value_name = "TO")]
        to: OsString,
    },
    /// Give a subscriber another name
    Rename {
        /// Its name
        #[arg(value_name = "FROM")]
        from: OsString,
        /// Its new name
        #[arg(value_name = "TO")]
        to: OsString,
    },
}

/// A place for a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spot {
    Begin,
    End,
    After(RecordId),
    At(Timestamp),
}

fn parse_spot(text: &str) -> Result<Spot, String> {
    match place::parse(text)? {
        Where::Begin => Ok(Spot::Begin),
        Where::FromEnd(0) => Ok(Spot::End),
        Where::FromEnd(_) => {
            Err(format!("{text:?} is no place for a checkpoint; begin, end, an id or a time is"))
        }
        Where::Id(id) => Ok(Spot::After(id)),
        Where::Time(micros) => Ok(Spot::At(place::timestamp(micros))),
    }
}

pub(super) fn run(args: Subs) -> Outcome {
    let _owner = owner::act_for(&args.log)?;
    let log = Log::open(&args.log)?;
    match args.deed.unwrap_or(Deed::List) {
        Deed::List => {
            let common = Common { json: args.json, ..Common::default() };
            return with_console("jlog", &common, |console| list(console, &log, args.json));
        }
        Deed::Add { name, at, copy } => {
            let start = match copy {
                Some(other) => Start::CopyOf(subscriber(&other)?),
                None => at.start(),
            };
            log.add_subscriber(&Subscriber::new(name.as_bytes())?, start)?;
        }
        Deed::Remove { name } => remove(&log, &subscriber(&name)?)?,
        Deed::Set { name, at } => {
            let to = match at {
                Spot::Begin => log.first_id()?,
                Spot::End => log.last_id()?,
                Spot::After(id) => id,
                Spot::At(time) => before_time(&log, time)?,
            };
            let removed = log.set_checkpoint(&subscriber(&name)?, to)?;
            if !removed.is_empty() {
                let what = things(removed.len() as u64, "segment");
                crate::console::say("jlog", format!("{what} that nobody wants any more removed"));
            }
        }
        Deed::Copy { from, to } => {
            log.add_subscriber(&Subscriber::new(to.as_bytes())?, Start::CopyOf(subscriber(&from)?))?;
        }
        Deed::Rename { from, to } => {
            let from = subscriber(&from)?;
            // In this order nothing that it has yet to read is ever without a reader.
            log.add_subscriber(&Subscriber::new(to.as_bytes())?, Start::CopyOf(from.clone()))?;
            remove(&log, &from)?;
        }
    }
    Ok(Exit::Fine)
}

impl Spot {
    fn start(self) -> Start {
        match self {
            Spot::Begin => Start::Begin,
            Spot::End => Start::End,
            Spot::After(id) => Start::After(id),
            Spot::At(time) => Start::At(time),
        }
    }
}

/// The place before the first message that is not earlier.
fn before_time(log: &Log, time: Timestamp) -> Result<RecordId, Failure> {
    let mut cursor = log.cursor_from(time)?;
    cursor.on_damage(OnDamage::Skip);
    let first = cursor.next_record()?.map(|record| record.id);
    Ok(first.map_or(log.last_id()?, place::before))
}

fn remove(log: &Log, subscriber: &Subscriber) -> Result<(), Failure> {
    if !log.remove_subscriber(subscriber)? {
        // Asked for its checkpoint, the engine says who there is.
        log.checkpoint(subscriber)?;
    }
    Ok(())
}

/// Checkpoints that cannot be read are listed as such; the exit code then is 4.
fn list(console: &mut Console, log: &Log, json: bool) -> Outcome {
    let mut exit = Exit::Fine;
    let mut all = Vec::new();
    for name in log.subscribers()? {
        interrupt::check()?;
        let mut report = SubscriberReport {
            name,
            checkpoint: None,
            behind_messages: 0,
            behind_bytes: 0,
            behind_micros: 0,
            offset: None,
        };
        match lag(log, &mut report) {
            Ok(()) => {}
            // Its checkpoint cannot be read, or is not in the log.
            Err(error) if error.kind() == ErrorKind::Damaged => {
                console.say(&error);
                exit = Exit::Problem;
            }
            // Removed meanwhile.
            Err(error) if error.kind() == ErrorKind::UnknownSubscriber => continue,
            Err(error) => return Err(error.into()),
        }
        all.push(report);
    }
    if json {
        for report in &all {
            writeln!(console, "{}", printable_json(serde_json::to_string(&Follower::of(report))?))?;
        }
    } else if !all.is_empty() {
        subscribers_table(console, &all.iter().collect::<Vec<_>>(), |_| false)?;
    }
    Ok(exit)
}

fn lag(log: &Log, report: &mut SubscriberReport) -> jlog::Result<()> {
    report.checkpoint = Some(log.checkpoint(&report.name)?);
    let lag = log.lag(&report.name)?;
    (report.behind_messages, report.behind_bytes, report.behind_micros) =
        (lag.records, lag.bytes, lag.micros);
    Ok(())
}
