//! `jlog write`: appends what it reads.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use clap::{Args, ValueEnum};
use jlog::{Durability, ErrorKind, Format, Log, MAX_MESSAGE, RecordId, Timestamp, Writer, WriterOptions};
use serde::Deserialize;

use super::settings::parse_durability;
use crate::console::say;
use crate::exit::{Exit, Failure, Outcome};
use crate::holder;
use crate::interrupt;
use crate::measure::things;
use crate::options::batch_bytes;
use crate::owner;

pub(super) const EXAMPLES: &str = "\
Examples:
  echo 'order 17 paid' | jlog write /var/spool/events
  jlog write /var/spool/events one.txt two.txt --durability process
  jlog-inspect dump OLD --format jsonl | jlog write NEW --jsonl

A JSON line holds \"data\" or \"data_b64\", and perhaps \"time\" (RFC 3339); other members are ignored.
What was read is appended before the next input is waited for, and is on the disk when the command
ends, unless --sync never. Before that it is as durable as the log says, or --durability; into a
classic log it is synced every MiB. In a checksummed log, what is appended together is seen together
or not at all.";

#[derive(Debug, Args)]
pub(super) struct Write {
    /// The log
    #[arg(value_name = "LOG")]
    log: PathBuf,
    /// Files to read [default: standard input]
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Messages end with a zero byte instead of a newline
    #[arg(long, conflicts_with_all = ["length_prefixed", "jsonl"])]
    null: bool,
    /// Before each message stands its length: four bytes, the most significant first
    #[arg(long, conflicts_with = "jsonl")]
    length_prefixed: bool,
    /// Each line is a JSON object
    #[arg(long)]
    jsonl: bool,
    /// What is promised once messages are appended: sync, group:2ms, interval:1s, process [default: what the log says]
    #[arg(long, value_name = "WHAT", value_parser = parse_durability)]
    durability: Option<Durability>,
    /// When messages are synced to the disk, whatever the log says
    #[arg(long, value_name = "WHEN", conflicts_with = "durability")]
    sync: Option<Sync>,
    /// Keep all other writers out [default of checksummed logs]
    #[arg(long, conflicts_with = "shared")]
    exclusive: bool,
    /// Let others write as well; while one has the log for himself, wait for him [default of classic logs]
    #[arg(long)]
    shared: bool,
    /// Say how many messages were written
    #[arg(short, long)]
    verbose: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Sync {
    /// Each message, before the next is read
    Each,
    /// Every MiB, and at the end
    Batch,
    /// When the kernel likes
    Never,
}

/// Where one message ends and the next begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    EndsWith(u8),
    Length,
}

/// Where the log does not say when to sync, it is done every so many bytes.
const SYNC_EVERY: usize = 1 << 20;
/// So much is read at once.
const CHUNK: usize = 64 * 1024;
/// The length before a length-prefixed message.
const PREFIX: usize = 4;

pub(super) fn run(args: &Write) -> Outcome {
    let _owner = owner::act_for(&args.log)?;
    let log = Log::open(&args.log)?;
    let sync = when_to_sync(args, log.format());
    let writer = log.writer_with(&writer_options(args, sync)).map_err(|error| say_who(&log, error))?;
    report_recovery(&writer);
    let mut appender = Appender {
        writer,
        sync,
        jsonl: args.jsonl,
        batch: Vec::new(),
        batch_bytes: 0,
        most: batch_bytes(&log)?,
        unsynced: 0,
        written: 0,
        last: None,
    };

    let outcome = appender.read_all(args).and_then(|()| appender.finish());
    if let Err(failure) = outcome {
        // What was read before it went wrong is written; but never again what the engine may have written in part.
        let unsure = matches!(failure, Failure::Engine(_));
        if !unsure {
            let _ = appender.finish();
        }
        let more = if unsure { "; of the next ones, some may be there as well" } else { "" };
        say("jlog", format!("{} written{more}", things(appender.written, "message")));
        return Err(failure);
    }
    if appender.sync != Some(Sync::Never) {
        let close = appender.writer.close();
        close?;
    }
    if args.verbose {
        let last = appender.last.map(|id| format!(", the last one is {id}")).unwrap_or_default();
        say("jlog", format!("{} written{last}", things(appender.written, "message")));
    }
    Ok(Exit::Fine)
}

/// The log's own durability decides, unless something else is asked for; libjlog's would never sync.
fn when_to_sync(args: &Write, format: Format) -> Option<Sync> {
    let classic = format == Format::Classic && args.durability.is_none();
    args.sync.or(classic.then_some(Sync::Batch))
}

fn writer_options(args: &Write, sync: Option<Sync>) -> WriterOptions {
    let durability = match sync {
        Some(Sync::Each) => Some(Durability::Sync),
        Some(Sync::Batch | Sync::Never) => Some(Durability::Process),
        None => args.durability,
    };
    let options = WriterOptions::new();
    let options = durability.map_or(options.clone(), |durability| options.durability(durability));
    if args.exclusive || args.shared { options.exclusive(args.exclusive) } else { options }
}

/// An owner is named, and what can be done about him.
fn say_who(log: &Log, error: jlog::Error) -> Failure {
    match holder::of_log(log) {
        Some(owner) if error.kind() == ErrorKind::Busy && log.format() == Format::Checksummed => {
            let advice = "let it close the log first, or wait for that with --shared";
            let log = log.path().display();
            Failure::Other(format!("{log}: {owner} has the log to write to it alone; {advice}"))
        }
        _ => Failure::Engine(error),
    }
}

/// Says what a crash of an earlier writer had left.
fn report_recovery(writer: &Writer) {
    let found = writer.recovery();
    if let Some((after, bytes)) = found.torn {
        let what = "were cut off and kept in .repair/torn/";
        say("jlog", format!("{bytes} torn bytes behind message {after} {what}"));
    }
    if let Some(segment) = found.damaged {
        say(
            "jlog",
            format!("segment {segment} is damaged, and written behind the damage; see `jlog-inspect check`"),
        );
    }
    if found.flushed > 0 {
        let count = things(u64::from(found.flushed), "message");
        say("jlog", format!("{count} of an earlier writer moved from the pre_commit buffer to the log"));
    }
}

struct Appender {
    writer: Writer,
    /// When to sync; `None`: the writer's durability says it.
    sync: Option<Sync>,
    jsonl: bool,
    batch: Vec<(Vec<u8>, Timestamp)>,
    batch_bytes: usize,
    /// So many bytes are appended together.
    most: usize,
    /// Bytes appended since the last sync.
    unsynced: usize,
    written: u64,
    last: Option<RecordId>,
}

impl Appender {
    fn read_all(&mut self, args: &Write) -> Result<(), Failure> {
        let framing = if args.length_prefixed {
            Framing::Length
        } else {
            Framing::EndsWith(if args.null { 0 } else { b'\n' })
        };
        if args.files.is_empty() {
            let stdin = io::stdin().as_fd().try_clone_to_owned();
            let stdin = stdin.map_err(|error| Failure::io("read", Path::new("standard input"), &error))?;
            return self.read(stdin, Path::new("standard input"), framing);
        }
        for path in &args.files {
            let file = File::open(path).map_err(|error| Failure::io("open", path, &error))?;
            self.read(file.into(), path, framing)?;
        }
        Ok(())
    }

    /// Appends all messages of one input, and lets none wait for more input.
    fn read(&mut self, input: OwnedFd, name: &Path, framing: Framing) -> Result<(), Failure> {
        let mut input =
            Input { file: File::from(input), name, framing, bytes: Vec::new(), at: 0, ended: false };
        let mut number = 0u64;
        loop {
            while let Some(message) = input.message()? {
                number += 1;
                let message = if self.jsonl {
                    from_json(message)
                        .map_err(|why| Failure::Other(format!("{}: line {number}: {why}", name.display())))?
                } else {
                    (message.to_vec(), Timestamp::from(SystemTime::now()))
                };
                self.add(message)?;
            }
            if input.ended {
                return self.append();
            }
            if !interrupt::has_input(input.file.as_fd()) {
                self.append()?;
            }
            input.fill()?;
        }
    }

    fn add(&mut self, message: (Vec<u8>, Timestamp)) -> Result<(), Failure> {
        self.batch_bytes += message.0.len();
        self.batch.push(message);
        if self.sync == Some(Sync::Each) || self.batch_bytes >= self.most { self.append() } else { Ok(()) }
    }

    fn append(&mut self) -> Result<(), Failure> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let messages = self.batch.iter().map(|(message, time)| (&message[..], *time));
        self.last = self.writer.append_batch(messages)?;
        self.written += self.batch.len() as u64;
        self.unsynced += self.batch_bytes;
        self.batch.clear();
        self.batch_bytes = 0;
        if self.sync == Some(Sync::Batch) && self.unsynced >= SYNC_EVERY {
            self.writer.sync()?;
            self.unsynced = 0;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Failure> {
        self.append()?;
        match self.sync {
            Some(Sync::Never) => Ok(self.writer.flush()?),
            Some(Sync::Each | Sync::Batch) | None => Ok(self.writer.sync()?),
        }
    }
}

/// What was read and is not yet taken apart.
struct Input<'a> {
    file: File,
    name: &'a Path,
    framing: Framing,
    bytes: Vec<u8>,
    /// What lies before was handed out.
    at: usize,
    ended: bool,
}

impl Input<'_> {
    /// The next message that is there as a whole.
    fn message(&mut self) -> Result<Option<&[u8]>, Failure> {
        let rest = &self.bytes[self.at..];
        let (from, len, next) = match self.framing {
            Framing::EndsWith(end) => match rest.iter().position(|byte| *byte == end) {
                Some(len) => (self.at, len, len + 1),
                // The last one need not be ended.
                None if self.ended && !rest.is_empty() => (self.at, rest.len(), rest.len()),
                None => return self.too_long(rest.len()).map(|()| None),
            },
            Framing::Length => match rest.first_chunk::<PREFIX>() {
                None if self.ended && !rest.is_empty() => return Err(self.cut_short()),
                None => return Ok(None),
                Some(prefix) => {
                    let len = u32::from_be_bytes(*prefix) as usize;
                    self.too_long(len)?;
                    if rest.len() - PREFIX < len {
                        return if self.ended { Err(self.cut_short()) } else { Ok(None) };
                    }
                    (self.at + PREFIX, len, PREFIX + len)
                }
            },
        };
        self.at += next;
        Ok(Some(&self.bytes[from..from + len]))
    }

    fn fill(&mut self) -> Result<(), Failure> {
        interrupt::wait_for_input(self.file.as_fd())?;
        self.bytes.drain(..self.at);
        self.at = 0;
        // As much again as there is already: a long message is not copied over and over.
        let had = self.bytes.len();
        self.bytes.resize(had + CHUNK.max(had), 0);
        let outcome = self.file.read(&mut self.bytes[had..]);
        self.bytes.truncate(had + *outcome.as_ref().unwrap_or(&0));
        match outcome {
            Ok(0) => self.ended = true,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Failure::io("read", self.name, &error)),
        }
        Ok(())
    }

    fn too_long(&self, len: usize) -> Result<(), Failure> {
        if len <= MAX_MESSAGE {
            return Ok(());
        }
        Err(Failure::Other(format!("{}: a message is longer than {MAX_MESSAGE} bytes", self.name.display())))
    }

    fn cut_short(&self) -> Failure {
        Failure::Other(format!("{}: the last message is cut short", self.name.display()))
    }
}

/// A JSON line, as `jlog-inspect dump` prints it, or with less in it.
#[derive(Deserialize)]
struct Line {
    data: Option<String>,
    data_b64: Option<String>,
    time: Option<String>,
}

fn from_json(line: &[u8]) -> Result<(Vec<u8>, Timestamp), String> {
    let line: Line = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    let message = match (line.data, line.data_b64) {
        (Some(text), None) => text.into_bytes(),
        (None, Some(coded)) => BASE64.decode(coded).map_err(|error| format!("data_b64: {error}"))?,
        (Some(_), Some(_)) => return Err("both data and data_b64 are there".to_owned()),
        (None, None) => return Err("neither data nor data_b64 is there".to_owned()),
    };
    let time = match line.time {
        Some(time) => parse_time(&time)?,
        None => Timestamp::from(SystemTime::now()),
    };
    Ok((message, time))
}

/// A time that a record can hold: from 1970 to 2106, in microseconds.
fn parse_time(text: &str) -> Result<Timestamp, String> {
    let moment: jiff::Timestamp = text.parse().map_err(|error| format!("time: {error}"))?;
    let outside = |_| format!("time: {text} is outside the years 1970 to 2106, which a record can hold");
    let micros = u64::try_from(moment.as_microsecond()).map_err(outside)?;
    let seconds = u32::try_from(micros / 1_000_000).map_err(outside)?;
    Ok(Timestamp::new(seconds, (micros % 1_000_000) as u32))
}
