//! `jlog clean`: removes what no subscriber wants any more.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use jlog::{ErrorKind, Log, SegmentId};

use crate::console::{Console, name};
use crate::exit::{Exit, Failure, Outcome};
use crate::measure::things;
use crate::options::{Common, with_console};
use crate::owner;

pub(super) const EXAMPLES: &str = "\
Examples:
  jlog clean /var/spool/events
  jlog clean -n /var/spool/events          what would be removed, and who holds the rest

Reading removes what it can by itself; this is for what is left, as after `jlog subs LOG remove`.
Without subscribers nothing is removed.";

#[derive(Debug, Args)]
pub(super) struct Clean {
    /// The log
    #[arg(value_name = "LOG")]
    log: PathBuf,
    /// Remove nothing, only say what would be
    #[arg(short = 'n', long)]
    dry_run: bool,
}

pub(super) fn run(args: &Clean) -> Outcome {
    let _owner = owner::act_for(&args.log)?;
    let log = Log::open(&args.log)?;
    with_console("jlog", &Common::default(), |console| {
        let before = log.size()?;
        let (done, segments) =
            if args.dry_run { ("would remove", log.cleanable()?) } else { ("removed", log.clean()?) };
        for segment in &segments {
            writeln!(console, "{done} {segment}")?;
        }
        let freed = if args.dry_run { 0 } else { before.saturating_sub(log.size()?) };
        let freed = if freed > 0 { format!(", {}", console.units.size(freed)) } else { String::new() };
        console.say(format!("{done} {}{freed}", things(segments.len() as u64, "segment")));
        say_who_holds(console, &log, &segments)?;
        Ok(Exit::Fine)
    })
}

/// Says for which subscribers the rest is kept.
fn say_who_holds(console: &Console, log: &Log, gone: &[SegmentId]) -> Result<(), Failure> {
    let left: Vec<_> = log.segments()?.into_iter().filter(|id| !gone.contains(id)).collect();
    let subscribers = log.subscribers()?;
    if subscribers.is_empty() {
        console.say("there is no subscriber, so everything is kept");
        return Ok(());
    }
    let Some(oldest) = left.first().filter(|_| left.len() > 1) else { return Ok(()) };
    let mut holders = Vec::new();
    for subscriber in &subscribers {
        match log.checkpoint(subscriber) {
            Ok(at) if at.segment <= *oldest => holders.push(name(subscriber, 40)),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Damaged => {
                holders.push(format!("{} (its checkpoint cannot be read)", name(subscriber, 40)));
            }
            Err(error) => return Err(error.into()),
        }
    }
    if !holders.is_empty() {
        let count = things(left.len() as u64, "segment");
        console.say(format!("{count} from {oldest} on are held by {}", holders.join(", ")));
    }
    Ok(())
}
