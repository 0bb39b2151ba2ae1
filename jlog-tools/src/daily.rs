//! `jlog`: daily work with a log. To look and to mend, it holds the other two programs as well.

mod alter;
mod clean;
mod create;
mod demo;
mod read;
mod settings;
mod spool;
mod subs;
mod write;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::exit::Outcome;
use crate::inspect::{Inspect, MetricsArgs};
use crate::repair::Repair;
use crate::{inspect, interrupt, options, repair};

pub(crate) use settings::FormatName;

const EXAMPLES: &str = "\
Examples:
  jlog demo                                         see what it does, in a few seconds
  jlog create /var/spool/events --subscriber billing
  echo 'order 17 paid' | jlog write /var/spool/events
  jlog read /var/spool/events -S billing
  jlog inspect /var/spool/events

Exit code: 0 done, 4 a problem was found in the log, 8 could not be done, 16 wrong usage,
32 interrupted";

/// Durable journaled logs: append, read by named subscribers, inspect, repair
#[derive(Debug, Parser)]
#[command(name = "jlog", version, after_help = EXAMPLES, arg_required_else_help = true)]
struct Daily {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a log
    #[command(after_help = create::EXAMPLES)]
    Create(create::Create),
    /// Append messages
    #[command(after_help = write::EXAMPLES)]
    Write(write::Write),
    /// Print what a subscriber has not read yet, and move its checkpoint
    #[command(after_help = read::EXAMPLES)]
    Read(read::Read),
    /// List, add, remove and move subscribers
    #[command(after_help = subs::EXAMPLES)]
    Subs(subs::Subs),
    /// Remove the segments that no subscriber wants any more
    #[command(after_help = clean::EXAMPLES)]
    Clean(clean::Clean),
    /// Change a log's settings: segment size, durability, retention
    #[command(visible_alias = "set", after_help = alter::EXAMPLES)]
    Alter(alter::Alter),
    /// Import, hold, release, requeue, remove and export messages of a spool that no process owns
    #[command(after_help = spool::EXAMPLES)]
    Spool(spool::Spool),
    /// Print numbers for Prometheus: the same as jlog-inspect metrics
    #[command(
        after_help = "Example:\n  jlog metrics /var/spool/events --textfile /var/lib/node_exporter/jlog.prom"
    )]
    Metrics(MetricsArgs),
    /// Look at a log, without changing anything: the same as jlog-inspect
    Inspect(Inspect),
    /// Mend a damaged log: the same as jlog-repair
    Repair(Repair),
    /// A spool at work, in a few seconds: accept, be killed, deliver, be damaged, inspect, repair
    #[command(after_help = demo::EXAMPLES)]
    Demo(demo::Demo),
    /// The writer that `demo` kills
    #[command(hide = true)]
    DemoWriter(demo::Victim),
}

/// The whole program `jlog`.
pub fn main() -> ExitCode {
    options::run("jlog", |daily: Daily| run(daily.command))
}

fn run(command: Command) -> Outcome {
    interrupt::watch();
    match command {
        Command::Create(args) => create::run(&args),
        Command::Write(args) => write::run(&args),
        Command::Read(args) => read::run(&args),
        Command::Subs(args) => subs::run(args),
        Command::Clean(args) => clean::run(&args),
        Command::Alter(args) => alter::run(&args),
        Command::Spool(args) => spool::run(&args),
        Command::Metrics(args) => inspect::run_metrics("jlog", args),
        Command::Inspect(args) => inspect::run("jlog", args),
        Command::Repair(args) => repair::run("jlog", args),
        Command::Demo(args) => demo::run(&args),
        Command::DemoWriter(args) => demo::write_until_killed(&args),
    }
}
