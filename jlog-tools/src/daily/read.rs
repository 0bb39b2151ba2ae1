//! `jlog read`: prints what a subscriber has not read yet, and moves its checkpoint behind what was printed.

use std::ffi::{OsStr, OsString};
use std::io::{ErrorKind as Os, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use clap::Args;
use jlog::{ErrorKind, Log, Reader, Record, RecordId};

use crate::console::Console;
use crate::exit::{Exit, Failure, Outcome};
use crate::gap;
use crate::interrupt;
use crate::measure::rfc3339;
use crate::message::{Format, Message, escape};
use crate::options::{Common, subscriber, with_console};
use crate::owner;

pub(super) const EXAMPLES: &str = "\
Examples:
  jlog read /var/spool/events -S billing
  jlog read /var/spool/events -S billing -n 10 --no-commit
  jlog read /var/spool/events -S billing -f --exec 'curl -sf --data-binary @- http://127.0.0.1/bill'

Messages are printed as lines; on a terminal, with control characters escaped. The checkpoint moves
after they were written to standard output, so what is not known to have been printed is printed
again. With --exec it moves after each success; the command gets JLOG_ID and JLOG_TIME.
Messages that a repair has noted as lost, or that the log's retention has removed, are reported and
passed. Exit code 4: stopped at other damage, or passed over it with --skip-damage.";

#[derive(Debug, Args)]
pub(super) struct Read {
    /// The log
    #[arg(value_name = "LOG")]
    log: PathBuf,
    /// The subscriber
    #[arg(short = 'S', long, value_name = "NAME")]
    subscriber: OsString,
    /// Leave the checkpoint where it is
    #[arg(long)]
    no_commit: bool,
    /// At most so many messages
    #[arg(short = 'n', long, value_name = "N")]
    count: Option<u64>,
    /// Wait for more messages at the end
    #[arg(short, long)]
    follow: bool,
    /// How messages are printed, instead of as lines
    #[arg(long, value_name = "FORMAT")]
    format: Option<Format>,
    /// Run a shell command for each message, with the message on its standard input; stop when it fails
    #[arg(long, value_name = "COMMAND", conflicts_with = "format")]
    exec: Option<OsString>,
    /// Go on behind damage; every gap is reported
    #[arg(long)]
    skip_damage: bool,
    /// Also messages that are written but not yet on the disk: a power cut may take them back
    #[arg(long)]
    unsynced: bool,
}

/// The checkpoint moves after about so many bytes were printed, and at every end.
const COMMIT_EVERY: u64 = 1 << 20;
/// How long an interrupt may go unnoticed at the end of a log that is followed.
const GLANCE: Duration = Duration::from_millis(100);

pub(super) fn run(args: &Read) -> Outcome {
    let _owner = owner::act_for(&args.log)?;
    let log = Log::open(&args.log)?;
    let mut reader = log.reader(&subscriber(&args.subscriber)?)?;
    reader.see_unsynced(args.unsynced);
    with_console("jlog", &Common::default(), |console| {
        let mut reading =
            Reading { reader, args, left: args.count, done: None, uncommitted: 0, exit: Exit::Fine };
        let outcome = reading.all(console);
        match outcome {
            // What could not be printed is not read.
            Err(failure @ Failure::ClosedPipe) => Err(failure),
            outcome => {
                reading.commit(console)?;
                outcome.map(|()| reading.exit)
            }
        }
    })
}

struct Reading<'a> {
    reader: Reader,
    args: &'a Read,
    left: Option<u64>,
    /// The last message that was printed, or that the command has taken.
    done: Option<RecordId>,
    /// Bytes printed since the checkpoint moved.
    uncommitted: u64,
    exit: Exit,
}

impl Reading<'_> {
    fn all(&mut self, console: &mut Console) -> Result<(), Failure> {
        while self.left != Some(0) {
            interrupt::check()?;
            match self.reader.next_record() {
                Ok(Some(record)) => {
                    let (id, len) = (record.id, record.stored_len);
                    match &self.args.exec {
                        Some(command) => exec(command, &record)?,
                        None => print(console, self.args.format, &record)?,
                    }
                    self.done = Some(id);
                    self.left = self.left.map(|left| left - 1);
                    self.uncommitted += len;
                    if self.args.exec.is_some() || self.uncommitted >= COMMIT_EVERY {
                        self.commit(console)?;
                    }
                }
                Ok(None) if !self.args.follow => break,
                Ok(None) => {
                    self.commit(console)?;
                    self.wait()?;
                }
                Err(error) => {
                    if error.kind() != ErrorKind::Damaged {
                        return Err(error.into());
                    }
                    let settled = error.gap_met().is_some_and(gap::is_settled);
                    if !settled {
                        self.exit = Exit::Problem;
                    }
                    let pass = settled || self.args.skip_damage;
                    match if pass { self.reader.skip_gap() } else { None } {
                        Some(gap) => gap::say(console, &gap),
                        None => {
                            console.say(&error);
                            break;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Waits for more.
    fn wait(&mut self) -> Result<(), Failure> {
        loop {
            interrupt::check()?;
            match self.reader.wait(GLANCE) {
                Ok(false) => {}
                // What is wrong, the next read will tell.
                Ok(true) | Err(_) => return Ok(()),
            }
        }
    }

    /// Moves the checkpoint behind what has left this process.
    fn commit(&mut self, console: &mut Console) -> Result<(), Failure> {
        console.flush()?;
        self.uncommitted = 0;
        if let Some(id) = self.done.take().filter(|_| !self.args.no_commit) {
            self.reader.checkpoint(id)?;
        }
        Ok(())
    }
}

fn print(console: &mut Console, format: Option<Format>, record: &Record<'_>) -> Result<(), Failure> {
    let clock = console.clock.clone();
    match format {
        None if console.is_terminal() => {
            escape(record.payload, console)?;
            console.write_all(b"\n")?;
        }
        format => Message::from(record).print(console, format.unwrap_or(Format::Raw), &clock)?,
    }
    Ok(())
}

/// Runs the command on a message. A failure of it ends the reading, before the message.
fn exec(command: &OsStr, record: &Record<'_>) -> Result<(), Failure> {
    let failed = |what: String| {
        Failure::Other(format!("the command {what} on message {}; the checkpoint stays before it", record.id))
    };
    let mut child = Command::new("/bin/sh")
        .arg("-c")
        .arg(command)
        .env("JLOG_ID", record.id.to_string())
        .env("JLOG_TIME", rfc3339(record.time))
        .stdin(Stdio::piped())
        .spawn()
        .map_err(|error| failed(format!("could not be started ({error})")))?;
    if let Some(mut stdin) = child.stdin.take() {
        match stdin.write_all(record.payload) {
            // It need not read what it is given.
            Err(error) if error.kind() != Os::BrokenPipe => {
                return Err(failed(format!("could not be fed ({error})")));
            }
            _ => {}
        }
    }
    let status = child.wait().map_err(|error| failed(format!("could not be waited for ({error})")))?;
    if status.success() { Ok(()) } else { Err(failed(format!("failed ({status})"))) }
}
