//! `dump`: the messages themselves, past damage, with every gap reported.

use std::path::Path;

use jlog::inspect::buffered;
use jlog::{Cursor, ErrorKind, Log, Tail};

use super::{DumpArgs, Look};
use crate::console::Console;
use crate::exit::{Exit, Failure, Outcome};
use crate::gap;
use crate::interrupt;
use crate::measure::things;
use crate::message::{Format, Message};
use crate::options::subscriber;
use crate::place::{Range, Where};

pub(super) const EXAMPLES: &str = "\
Examples:
  jlog-inspect dump /var/spool/events --from end-10
  jlog-inspect dump /var/spool/events --from \"2 hours ago\" --to -15m
  jlog-inspect dump /var/spool/events -S billing -n 1 --format hex
  jlog-inspect dump /var/spool/events --format jsonl > events.jsonl

WHERE is an id (0000001a:00000003), begin, end, end-100, a time (2026-11-22T10:00, with Z or an
offset for another time zone than the local one), or a time ago (\"2 hours ago\", -15m). Both ends
are included. Damage is passed over; every gap is reported on standard error, and the exit code
is 4, unless a repair, or the log's retention, had settled all of them before. Messages of a
checksummed log that are not yet on the disk are left out without --unsynced. Messages in a
pre_commit buffer come last; they have no id, and raw leaves them out.";

pub(super) fn run(look: &mut Look<'_>, path: &Path, args: &DumpArgs) -> Outcome {
    let format = if look.json { Format::Jsonl } else { args.format };
    if format == Format::Raw && look.console.is_terminal() && !args.force {
        let what = "raw messages may upset a terminal: redirect them, or say --force";
        return Err(Failure::Usage(what.to_owned()));
    }
    let log = look.open(path)?;
    let mut range = Range::of(&log, args.from, args.to)?;
    if let Some(name) = &args.subscriber {
        range.after = log.checkpoint(&subscriber(name)?)?;
    } else if range.empty && matches!(args.from, Some(Where::Id(_))) {
        look.console.say("the log ends before that message");
    }

    let (unsynced, left) = (args.unsynced, args.count);
    let mut dump = Dump { console: look.console, range, format, unsynced, left, exit: Exit::Fine };
    if !range.empty {
        dump.records(&log)?;
    }
    if range.last.is_none() {
        dump.buffered(&log)?;
    }
    Ok(dump.exit)
}

struct Dump<'a> {
    console: &'a mut Console,
    range: Range,
    format: Format,
    unsynced: bool,
    /// How many messages may still be printed.
    left: Option<u64>,
    exit: Exit,
}

impl Dump<'_> {
    fn records(&mut self, log: &Log) -> Result<(), Failure> {
        let mut cursor = self.range.cursor(log)?;
        cursor.see_unsynced(self.unsynced);
        while self.left != Some(0) {
            interrupt::check()?;
            match cursor.next_record() {
                Ok(None) => {
                    self.tail(&cursor);
                    break;
                }
                Ok(Some(record)) if self.range.last.is_some_and(|last| record.id > last) => break,
                Ok(Some(record)) => {
                    let message = Message::from(&record);
                    self.print(&message)?;
                }
                Err(error) => {
                    let damaged = error.kind() == ErrorKind::Damaged;
                    if let Some(gap) = cursor.skip_gap() {
                        gap::say(self.console, &gap);
                        if gap::is_settled(&gap) {
                            continue;
                        }
                    } else if damaged {
                        // The checkpoint it starts from is beyond the end.
                        self.console.say(&error);
                        self.exit = Exit::Problem;
                        break;
                    } else {
                        return Err(error.into());
                    }
                    self.exit = Exit::Problem;
                }
            }
        }
        Ok(())
    }

    fn tail(&mut self, cursor: &Cursor) {
        if let Tail::Torn { from } = cursor.tail() {
            self.console.say(format!(
                "torn end: the last message is cut short, from byte {from} of the active segment"
            ));
            self.exit = Exit::Problem;
        }
    }

    fn buffered(&mut self, log: &Log) -> Result<(), Failure> {
        let messages = buffered(log)?;
        if self.format == Format::Raw {
            if !messages.is_empty() {
                let what = things(messages.len() as u64, "message");
                self.console.say(format!("{what} in the pre_commit buffer left out"));
            }
            return Ok(());
        }
        for message in &messages {
            if self.left != Some(0) {
                self.print(&Message::from(message))?;
            }
        }
        Ok(())
    }

    fn print(&mut self, message: &Message<'_>) -> Result<(), Failure> {
        if !self.range.has_time(message.time.as_micros()) {
            return Ok(());
        }
        let clock = self.console.clock.clone();
        message.print(self.console, self.format, &clock)?;
        self.left = self.left.map(|left| left - 1);
        Ok(())
    }
}
