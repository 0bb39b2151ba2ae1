//! `jlog-repair`: the only command that changes a damaged log, or spool. First a plan, then the deed.

mod mend;
mod past;
mod plan;
mod salvage;
mod spool;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use jlog::SegmentId;
use jlog::repair::{Holes, LostPlace, Options, Part};

use crate::daily::FormatName;
use crate::exit::{Exit, Failure, Outcome};
use crate::inspect::spool::is_one as is_spool;
use crate::interrupt;
use crate::options::{self, Common, Endian};
use crate::place;

pub(crate) use mend::{Consent, one};
pub(crate) use spool::one as one_spool;

const EXAMPLES: &str = "\
Examples:
  jlog-repair -n /var/spool/events          show the plan, change nothing
  jlog-repair /var/spool/events             show the plan, ask, repair, verify again
  jlog-repair -p /var/spool/events          from a script: only what loses no whole message
  jlog-repair undo /var/spool/events        take the last repair back
  jlog-repair salvage /var/spool/events /var/spool/events.new

A LOG may also be a spool: both of its logs are repaired, every message whose records are sound is kept,
and a file `spool` that is lost is made anew.

Before a file is changed, the original is kept in LOG/.repair/<time>/, and `undo` brings it back.
Stop the log's writers and readers first: a repair refuses to change a file that another process
has open. Without a terminal, and without -y or -p, the plan is printed and nothing is changed.

Exit code: 0 nothing to do, 1 repaired, 4 damage is left, 8 could not work, 16 wrong usage,
32 interrupted; of several logs, the greatest. Salvage: 0 all was copied, 4 not all was readable.";

/// Mend a damaged jlog log, or a spool, by a plan that is shown first
#[derive(Debug, Parser)]
#[command(
    name = "jlog-repair",
    version,
    after_help = EXAMPLES,
    arg_required_else_help = true,
    subcommand_negates_reqs = true,
    subcommand_precedence_over_arg = true
)]
pub(crate) struct Repair {
    /// The logs
    #[arg(value_name = "LOG", required = true)]
    logs: Vec<PathBuf>,
    #[command(flatten)]
    how: How,
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Args)]
struct How {
    /// Show the plan, change nothing
    #[arg(short = 'n', long, conflicts_with_all = ["preen", "yes"])]
    dry_run: bool,
    /// No questions: only what loses no whole message (torn end, indexes, metastore, checkpoints)
    #[arg(short = 'p', long, conflicts_with = "yes")]
    preen: bool,
    /// No questions: everything in the plan
    #[arg(short = 'y', long)]
    yes: bool,
    /// Only these parts
    #[arg(long, value_name = "PARTS", value_delimiter = ',')]
    only: Vec<PartName>,
    /// Only these segments
    #[arg(long, value_name = "ID", value_parser = parse_segment)]
    segment: Vec<SegmentId>,
    /// Damaged bytes inside a segment: mend or leave them. To mend them is to cut them out of a classic log, so that
    /// later ids of the segment move down; in a checksummed log, to put a note of what is lost in their place, so that
    /// all ids stay
    #[arg(long, value_name = "HOW", default_value = "cut")]
    holes: HolesName,
    /// A checkpoint whose place is lost goes before what it may not have read (twice, but never skipped), after it,
    /// or to the end of the log
    #[arg(long, value_name = "WHERE", default_value = "before")]
    checkpoints: PlaceName,
    /// Keep no copies; there is no way back then
    #[arg(long)]
    no_undo: bool,
    /// Wait so long (30s, 5m) for other processes to let go of the log, instead of refusing
    #[arg(long, value_name = "DURATION", value_parser = place::parse_duration)]
    wait: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum PartName {
    Metastore,
    Checkpoints,
    Indexes,
    Data,
    PreCommit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum HolesName {
    Cut,
    Leave,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum PlaceName {
    Before,
    After,
    End,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Take back the last repair
    #[command(after_help = "Example:\n  jlog-repair undo /var/spool/events")]
    Undo {
        /// The log
        #[arg(value_name = "LOG")]
        log: PathBuf,
    },
    /// What earlier repairs did
    #[command(after_help = "Example:\n  jlog-repair history /var/spool/events")]
    History {
        /// The log
        #[arg(value_name = "LOG")]
        log: PathBuf,
    },
    /// Copy every readable message, with its time, into a new log; the source is only read
    #[command(after_help = salvage::EXAMPLES)]
    Salvage {
        /// The log to read, or one segment file of it
        #[arg(value_name = "FROM")]
        from: PathBuf,
        /// The log to make; nothing may be there yet
        #[arg(value_name = "TO")]
        to: PathBuf,
        /// The byte order of the log that is read
        #[arg(long, value_name = "ORDER", default_value = "auto")]
        endian: Endian,
        /// The format of the new log [default: the old one's]
        #[arg(long, value_name = "FORMAT")]
        format: Option<FormatName>,
    },
}

/// The whole program `jlog-repair`.
pub fn main() -> ExitCode {
    options::run("jlog-repair", |repair: Repair| run("jlog-repair", repair))
}

/// Runs a command line of `jlog-repair`.
pub(crate) fn run(tool: &'static str, repair: Repair) -> Outcome {
    interrupt::watch();
    let Repair { logs, how, common, command } = repair;
    options::with_console(tool, &common, |console| match command {
        Some(Command::Undo { log }) if is_spool(&log) => spool::undo(console, &log, common.json),
        Some(Command::History { log }) if is_spool(&log) => spool::history_of(console, &log, common.json),
        Some(Command::Undo { log }) => past::undo(console, &log, common.json),
        Some(Command::History { log }) => past::history(console, &log, common.json),
        Some(Command::Salvage { from, to, endian, format }) => {
            let format = format.map(FormatName::format);
            salvage::run(console, &salvage::Job { from: &from, to: &to, endian, format }, common.json)
        }
        None => {
            let mut worst = Exit::Fine;
            for log in &logs {
                let one = if is_spool(log) { spool::one } else { mend::one };
                let exit = match one(console, log, &how.options(), how.consent(), common.json) {
                    // One log that cannot be repaired does not keep the others from being.
                    Err(failure @ (Failure::Engine(_) | Failure::Other(_))) if logs.len() > 1 => {
                        console.say(&failure);
                        failure.exit()
                    }
                    outcome => outcome?,
                };
                worst = worst.max(exit);
            }
            Ok(worst)
        }
    })
}

impl How {
    fn options(&self) -> Options {
        Options {
            only: self.only.iter().map(|part| part.part()).collect(),
            segments: self.segment.clone(),
            holes: match self.holes {
                HolesName::Cut => Holes::Cut,
                HolesName::Leave => Holes::Leave,
            },
            lost_place: match self.checkpoints {
                PlaceName::Before => LostPlace::Before,
                PlaceName::After => LostPlace::After,
                PlaceName::End => LostPlace::End,
            },
            safe_only: self.preen,
            no_undo: self.no_undo,
        }
    }

    fn consent(&self) -> Consent {
        let wait = self.wait.unwrap_or(0);
        if self.dry_run {
            Consent::DryRun
        } else if self.yes || self.preen {
            Consent::Given { wait }
        } else {
            Consent::Ask { wait }
        }
    }
}

impl PartName {
    fn part(self) -> Part {
        match self {
            PartName::Metastore => Part::Metastore,
            PartName::Checkpoints => Part::Checkpoints,
            PartName::Indexes => Part::Indexes,
            PartName::Data => Part::Data,
            PartName::PreCommit => Part::PreCommit,
        }
    }
}

fn parse_segment(text: &str) -> Result<SegmentId, String> {
    let hex = (1..=8).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
    let number = if hex { u32::from_str_radix(text, 16).ok() } else { None };
    number
        .map(SegmentId)
        .ok_or_else(|| format!("{text:?} is no segment: give up to 8 hex digits, as in 0000000a"))
}
