//! `jlog-inspect`: looks at a log, or at a spool, and changes nothing.

mod check;
mod dump;
mod map;
mod meta;
mod metrics;
mod segments;
mod show;
pub(crate) mod spool;
mod subscribers;
mod summary;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use jlog::inspect::{Inspection, inspect_with};
use jlog::{ErrorKind, Log};

use crate::console::Console;
use crate::exit::{Exit, Failure, Outcome};
use crate::interrupt;
use crate::options::{self, Common, Endian};
use crate::place::{self, Where};
use crate::progress::Bar;
use crate::standing::Standing;

pub(crate) use check::{print as print_check, print_finding};
pub(crate) use map::print as print_map;
pub(crate) use subscribers::table as subscribers_table;
pub(crate) use summary::{align_right, borderless, print as print_summary, rows};

const EXAMPLES: &str = "\
Examples:
  jlog-inspect /var/spool/events                 one screen about the log
  jlog-inspect check /var/spool/events           every problem, a line each
  jlog-inspect dump /var/spool/events --from -15m --format jsonl
  jlog-inspect subs /var/spool/events --max-lag 10000 --max-age 15m
  jlog-inspect /var/spool/mail                   one screen about a spool
  jlog-inspect messages /var/spool/mail          its messages, a line each
  jlog-inspect queues --ages /var/spool/mail     what its queues hold, by age

LOG is a log's directory, one segment file by itself, or a spool's directory, for `summary`, `check`,
`show` and the commands that only a spool has: `messages`, `queues`, `quarantine`. Without it, the
current directory.
Nothing is created, locked or changed, whatever the command.

Exit code: 0 nothing is wrong, 4 a problem was found, 8 could not look, 16 wrong usage,
32 interrupted";

/// Look at a jlog log or a spool, without changing anything
#[derive(Debug, Parser)]
#[command(name = "jlog-inspect", version, after_help = EXAMPLES)]
pub(crate) struct Inspect {
    /// The log [default: the current directory]
    #[arg(value_name = "LOG")]
    log: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
    /// The byte order of the log
    #[arg(long, global = true, value_name = "ORDER", default_value = "auto", help_heading = "Output")]
    endian: Endian,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// One screen: format, size, time range, subscribers, health [the default]
    #[command(after_help = "Example:\n  jlog-inspect summary /var/spool/events")]
    Summary(OneLog),
    /// Segments with sizes, messages, times, index state, pending subscribers
    #[command(visible_alias = "segs", after_help = "Example:\n  jlog-inspect segments /var/spool/events")]
    Segments(OneLog),
    /// Subscribers with checkpoint, and lag in messages, bytes and time
    #[command(visible_alias = "subs", after_help = subscribers::EXAMPLES)]
    Subscribers(SubscribersArgs),
    /// Print messages
    #[command(visible_alias = "cat", after_help = dump::EXAMPLES)]
    Dump(DumpArgs),
    /// Print one message: time, place on disk, bytes; of a spool, envelope, contexts, standing, headers
    #[command(after_help = spool::show::EXAMPLES)]
    Show(ShowArgs),
    /// Verify everything, and print every problem
    #[command(visible_alias = "verify", after_help = check::EXAMPLES)]
    Check(OneLog),
    /// Picture of the segments: read, still wanted, damaged, torn
    #[command(after_help = "Example:\n  jlog-inspect map /var/spool/events")]
    Map(OneLog),
    /// Print the metastore: what was settled when the log was made, and since
    #[command(after_help = meta::EXAMPLES)]
    Meta(MetaArgs),
    /// Print numbers for Prometheus
    #[command(after_help = metrics::EXAMPLES)]
    Metrics(MetricsArgs),
    /// Of a spool: its messages, a line each
    #[command(visible_alias = "list", after_help = spool::messages::EXAMPLES)]
    Messages(Box<spool::messages::Filters>),
    /// Of a spool: what each queue holds
    #[command(after_help = spool::queues::EXAMPLES)]
    Queues(QueuesArgs),
    /// Of a spool: damaged records that were set aside
    #[command(after_help = "Example:\n  jlog-inspect quarantine /var/spool/mail")]
    Quarantine(OneLog),
}

#[derive(Debug, Args)]
struct OneLog {
    /// The log [default: the current directory]
    #[arg(value_name = "LOG")]
    log: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct SubscribersArgs {
    #[command(flatten)]
    at: OneLog,
    /// Exit with 4 if a subscriber is more messages behind
    #[arg(long, value_name = "N")]
    max_lag: Option<u64>,
    /// Exit with 4 if a subscriber is further behind in time (90s, 15m, "1 day")
    #[arg(long, value_name = "DURATION", value_parser = place::parse_duration)]
    max_age: Option<u64>,
}

#[derive(Debug, Args)]
struct DumpArgs {
    #[command(flatten)]
    at: OneLog,
    /// From this message or time on
    #[arg(long, value_name = "WHERE", value_parser = place::parse, allow_hyphen_values = true)]
    from: Option<Where>,
    /// Up to this message or time
    #[arg(long, value_name = "WHERE", value_parser = place::parse, allow_hyphen_values = true)]
    to: Option<Where>,
    /// Also messages that are written but not yet on the disk
    #[arg(long)]
    unsynced: bool,
    /// From a subscriber's checkpoint on, which stays where it is
    #[arg(short = 'S', long, value_name = "NAME", conflicts_with = "from")]
    subscriber: Option<OsString>,
    /// At most so many messages
    #[arg(short = 'n', long, value_name = "N")]
    count: Option<u64>,
    /// How messages are printed
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: crate::message::Format,
    /// Print raw messages to a terminal all the same
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Args)]
struct ShowArgs {
    /// The message, as in 0000001a:00000003; of a spool, as in 18/00-00002-C6DD1CA4
    #[arg(value_name = "ID")]
    id: String,
    #[command(flatten)]
    at: OneLog,
    /// Of a spool: print the message itself, byte for byte; with --json, in a member `body`
    #[arg(long, visible_alias = "full", conflicts_with_all = ["meta", "xml"])]
    body: bool,
    /// Of a spool: without the message's headers
    #[arg(long, conflicts_with = "xml")]
    meta: bool,
    /// Of a spool: envelope and contexts as XML
    #[arg(long)]
    xml: bool,
}

#[derive(Debug, Args)]
struct QueuesArgs {
    #[command(flatten)]
    at: OneLog,
    /// How many messages of which age each queue holds
    #[arg(long)]
    ages: bool,
}

#[derive(Debug, Args)]
struct MetaArgs {
    #[command(flatten)]
    at: OneLog,
    /// Print the value of one field
    #[arg(long, value_name = "NAME")]
    field: Option<meta::Field>,
}

#[derive(Debug, Args)]
pub(crate) struct MetricsArgs {
    #[command(flatten)]
    at: OneLog,
    /// Put them into this file, whole or not at all, instead of printing them
    #[arg(long, value_name = "FILE")]
    textfile: Option<PathBuf>,
}

/// The whole program `jlog-inspect`.
pub fn main() -> ExitCode {
    options::run("jlog-inspect", |inspect: Inspect| run("jlog-inspect", inspect))
}

/// Runs a command line of `jlog-inspect`.
pub(crate) fn run(tool: &'static str, inspect: Inspect) -> Outcome {
    interrupt::watch();
    let Inspect { log, common, endian, command } = inspect;
    options::with_console(tool, &common, |console| {
        let mut look = Look { console, json: common.json, endian };
        match command {
            None => {
                let log = options::one_log(log, None)?;
                look.or_hint(&log, |look| either(look, &log, spool::summary::run, summary::run))
            }
            Some(Command::Summary(at)) => {
                let log = options::one_log(log, at.log)?;
                either(&mut look, &log, spool::summary::run, summary::run)
            }
            Some(Command::Segments(at)) => segments::run(&mut look, &options::one_log(log, at.log)?),
            Some(Command::Check(at)) => {
                let log = options::one_log(log, at.log)?;
                either(&mut look, &log, spool::check::run, check::run)
            }
            Some(Command::Map(at)) => map::run(&mut look, &options::one_log(log, at.log)?),
            Some(Command::Subscribers(args)) => {
                let limits = subscribers::Limits { lag: args.max_lag, age: args.max_age };
                subscribers::run(&mut look, &options::one_log(log, args.at.log)?, limits)
            }
            Some(Command::Dump(args)) => {
                let at = options::one_log(log, args.at.log.clone())?;
                dump::run(&mut look, &at, &args)
            }
            Some(Command::Show(args)) => match spool::show::named(log.as_ref(), &args)? {
                Some((id, at)) => {
                    spool::require(&at)?;
                    spool::show::run(&mut look, &at, id, &args)
                }
                None if args.body || args.meta || args.xml => {
                    Err(Failure::Usage("--body, --meta and --xml are for messages of a spool".to_owned()))
                }
                None => show::run(&mut look, log, &args),
            },
            Some(Command::Messages(filters)) => {
                let at = options::one_log(log, filters.spool.clone())?;
                spool::require(&at)?;
                spool::messages::run(&mut look, &at, &filters)
            }
            Some(Command::Queues(args)) => {
                let at = options::one_log(log, args.at.log)?;
                spool::require(&at)?;
                spool::queues::run(&mut look, &at, args.ages)
            }
            Some(Command::Quarantine(at)) => {
                let at = options::one_log(log, at.log)?;
                spool::require(&at)?;
                spool::quarantine::run(&mut look, &at)
            }
            Some(Command::Meta(args)) => {
                meta::run(&mut look, &options::one_log(log, args.at.log)?, args.field)
            }
            Some(Command::Metrics(args)) => {
                metrics::run(&mut look, &options::one_log(log, args.at.log)?, args.textfile.as_deref())
            }
        }
    })
}

/// What is to be done with a spool, or with a log, whichever it is.
fn either(
    look: &mut Look<'_>,
    path: &Path,
    with_spool: impl FnOnce(&mut Look<'_>, &Path) -> Outcome,
    with_log: impl FnOnce(&mut Look<'_>, &Path) -> Outcome,
) -> Outcome {
    if spool::is_one(path) { with_spool(look, path) } else { with_log(look, path) }
}

/// Runs `metrics` alone.
pub(crate) fn run_metrics(tool: &'static str, args: MetricsArgs) -> Outcome {
    let common = Common::default();
    options::with_console(tool, &common, |console| {
        let mut look = Look { console, json: false, endian: Endian::Auto };
        metrics::run(&mut look, &options::one_log(None, args.at.log)?, args.textfile.as_deref())
    })
}

/// What a command looks with.
pub(crate) struct Look<'a> {
    pub(crate) console: &'a mut Console,
    pub(crate) json: bool,
    pub(crate) endian: Endian,
}

impl Look<'_> {
    fn open(&self, path: &Path) -> Result<Log, Failure> {
        if spool::is_one(path) {
            let at = path.display();
            let what = format!("{at} is a spool; its logs are {at}/arrivals and {at}/survivors");
            return Err(Failure::Usage(what));
        }
        options::open(path, self.endian)
    }

    fn inspect(&self, path: &Path) -> Result<Inspection, Failure> {
        inspection(self.console, &self.open(path)?)
    }

    /// As [`Look::inspect`], and how the log stands.
    fn survey(&self, path: &Path) -> Result<(Inspection, Standing), Failure> {
        let log = self.open(path)?;
        let seen = inspection(self.console, &log)?;
        let standing = Standing::of(&log, seen.lone_segment)?;
        Ok((seen, standing))
    }

    /// Where a log is named that is not there, it may have been meant for a command.
    fn or_hint(&mut self, log: &Path, run: impl FnOnce(&mut Self) -> Outcome) -> Outcome {
        let outcome = run(self);
        match (&outcome, options::mistyped::<Inspect>(log)) {
            (Err(Failure::Engine(error)), Some(hint)) if error.kind() == ErrorKind::NotFound => {
                Err(Failure::Usage(hint))
            }
            _ => outcome,
        }
    }
}

/// Looks at a whole log, with a progress bar, until the user has had enough.
pub(crate) fn inspection(console: &Console, log: &Log) -> Result<Inspection, Failure> {
    let mut bar = Bar::new(console);
    let outcome = inspect_with(log, &mut |progress| bar.tell(progress));
    interrupt::check()?;
    Ok(outcome?)
}

/// The exit code of a look: whether anything is wrong, a torn end included.
fn verdict(seen: &Inspection) -> Exit {
    if seen.problems().next().is_some() { Exit::Problem } else { Exit::Fine }
}
