//! `jlog subs`: the subscribers of a log.

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use jlog::{ErrorKind, Log, RecordId, Start, Subscriber};
use serde::Serialize;

use crate::console::{Console, name};
use crate::exit::{Exit, Failure, Outcome};
use crate::measure::things;
use crate::options::{Common, subscriber, with_console};
use crate::owner;
use crate::report::Name;

pub(super) const EXAMPLES: &str = "\
Examples:
  jlog subs /var/spool/events                            the same as list
  jlog subs /var/spool/events add billing --at end
  jlog subs /var/spool/events set billing 0000001a:00000003
  jlog subs /var/spool/events rename billing invoices

How far they are behind: jlog-inspect subs LOG";

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
    /// Print the subscribers and their checkpoints [the default]
    List,
    /// Add a subscriber
    Add {
        /// Its name: 1 to 126 bytes of any kind
        #[arg(value_name = "NAME")]
        name: OsString,
        /// Where it starts: begin, end, or behind a message
        #[arg(long, value_name = "WHERE", default_value = "begin", value_parser = parse_spot)]
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
        /// Begin, end, or a message (marker 0 is before a segment's first)
        #[arg(value_name = "WHERE", value_parser = parse_spot)]
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
}

fn parse_spot(text: &str) -> Result<Spot, String> {
    match text {
        "begin" => Ok(Spot::Begin),
        "end" => Ok(Spot::End),
        _ => text.parse().map(Spot::After).map_err(|error| format!("{error}, begin or end")),
    }
}

#[derive(Serialize)]
struct Line {
    #[serde(flatten)]
    name: Name,
    checkpoint: Option<String>,
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
        }
    }
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
    for subscriber in log.subscribers()? {
        let checkpoint = match log.checkpoint(&subscriber) {
            Ok(id) => Some(id.to_string()),
            Err(error) if error.kind() == ErrorKind::Damaged => {
                console.say(&error);
                exit = Exit::Problem;
                None
            }
            // Removed meanwhile.
            Err(error) if error.kind() == ErrorKind::UnknownSubscriber => continue,
            Err(error) => return Err(error.into()),
        };
        if json {
            serde_json::to_writer(&mut *console, &Line { name: Name::of(&subscriber), checkpoint })?;
            writeln!(console)?;
        } else {
            let place = checkpoint.as_deref().unwrap_or("(unreadable)");
            writeln!(console, "{place:<17}  {}", name(&subscriber, usize::MAX))?;
        }
    }
    Ok(exit)
}
