//! `subscribers`: who has read how far, and whether that is far enough.

use std::io::Write;
use std::path::Path;

use jlog::inspect::SubscriberReport;
use serde::Serialize;

use super::summary::{align_right, borderless, rows};
use super::{Look, verdict};
use crate::console::{Console, Tone, name};
use crate::exit::{Exit, Failure, Outcome};
use crate::measure::{count, lasting, things};
use crate::report::{self, Heading};

pub(super) const EXAMPLES: &str = "\
Examples:
  jlog-inspect subscribers /var/spool/events
  jlog-inspect subs /var/spool/events --max-lag 10000 --max-age 15m || page-somebody

The age is the time between the first message a subscriber has not read and the newest one.";

/// How far behind is too far. The age is in microseconds.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Limits {
    pub(super) lag: Option<u64>,
    pub(super) age: Option<u64>,
}

#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    heading: Heading,
    subscribers: Vec<report::Follower>,
}

pub(super) fn run(look: &mut Look<'_>, path: &Path, limits: Limits) -> Outcome {
    let seen = look.inspect(path)?;
    let late: Vec<_> = seen.subscribers.iter().filter_map(|sub| limits.exceeded(sub)).collect();
    let console = &mut *look.console;
    for what in &late {
        console.say(what);
    }
    let exit = if late.is_empty() { verdict(&seen) } else { Exit::Problem };
    if look.json {
        console.json(&Report { heading: Heading::of(&seen), subscribers: report::followers(&seen) })?;
        return Ok(exit);
    }

    let shown: Vec<_> =
        seen.subscribers.iter().filter(|sub| !console.quiet || limits.exceeded(sub).is_some()).collect();
    table(console, &shown, |sub| limits.exceeded(sub).is_some())?;
    Ok(exit)
}

/// Prints who has read how far, and how much is left; those that are `late` stand out.
pub(crate) fn table(
    console: &mut Console,
    shown: &[&SubscriberReport],
    late: impl Fn(&SubscriberReport) -> bool,
) -> Result<(), Failure> {
    let mut table = borderless();
    table.set_header(["subscriber", "checkpoint", "behind", "bytes", "age"]);
    for sub in shown {
        table.add_row([
            name(&sub.name, usize::MAX),
            sub.checkpoint.map_or_else(|| "(unreadable)".to_owned(), |id| id.to_string()),
            count(sub.behind_messages),
            console.units.size(sub.behind_bytes),
            lasting(sub.behind_micros),
        ]);
    }
    align_right(&mut table, &[2, 3]);
    for (row, line) in rows(&table).into_iter().enumerate() {
        let tone = match row.checked_sub(1).and_then(|row| shown.get(row)) {
            None => Tone::Strong,
            Some(sub) if late(sub) || sub.checkpoint.is_none() => Tone::Lost,
            Some(_) => Tone::Healthy,
        };
        let line = console.paint(tone, line);
        writeln!(console, "{line}")?;
    }
    Ok(())
}

impl Limits {
    fn exceeded(&self, sub: &SubscriberReport) -> Option<String> {
        let name = &sub.name;
        if let Some(most) = self.lag.filter(|most| sub.behind_messages > *most) {
            let behind = things(sub.behind_messages, "message");
            return Some(format!("{name} is {behind} behind, and {} is the most", count(most)));
        }
        let most = self.age.filter(|most| sub.behind_micros > *most)?;
        Some(format!("{name} is {} behind, and {} is the most", lasting(sub.behind_micros), lasting(most)))
    }
}
