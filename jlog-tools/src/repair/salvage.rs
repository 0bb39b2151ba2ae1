//! `salvage`: what can be read of a log, into a new one.

use std::io::Write;
use std::path::Path;
use std::time::SystemTime;

use jlog::inspect::{Progress, buffered};
use jlog::{
    CreateOptions, Durability, Entry, ErrorKind, Format, Kind, Log, RecordId, Start, Subscriber, Timestamp,
    Writer, WriterOptions,
};
use serde::Serialize;

use super::plan::SCHEMA;
use crate::console::{Console, printable};
use crate::exit::{Exit, Failure, Outcome};
use crate::gap;
use crate::interrupt;
use crate::measure::things;
use crate::options::{self, Endian};
use crate::progress::Bar;

pub(super) const EXAMPLES: &str = "\
Examples:
  jlog-repair salvage /var/spool/events /var/spool/events.new
  jlog-repair salvage --format checksummed /var/spool/jlog /var/spool/events      convert

The new log gets the format, the settings and the subscribers of the old one, each where it was; with
--format it gets another format, and of the settings those that this has. Messages in a pre_commit
buffer are copied as the last ones. Ids are new; times stay. Every gap is reported.";

#[derive(Serialize)]
struct Report {
    schema: &'static str,
    from: String,
    to: String,
    messages: u64,
    gaps: u64,
}

/// What is copied where, and into what.
pub(super) struct Job<'a> {
    pub(super) from: &'a Path,
    pub(super) to: &'a Path,
    pub(super) endian: Endian,
    /// The format of the new log; the old one's without it.
    pub(super) format: Option<Format>,
}

pub(super) fn run(console: &mut Console, job: &Job<'_>, json: bool) -> Outcome {
    let Job { from, to, .. } = *job;
    let source = options::open(from, job.endian)?;
    let lone = from.is_file();
    require_space(&source, to)?;
    let made = Log::create_with(to, &like(&source, job.format.unwrap_or(source.format()))?)?;

    // All of it is synced when it is closed; until then nobody is to rely on it.
    let how = WriterOptions::new().exclusive(true).durability(Durability::Process);
    let mut copy = Copy {
        writer: made.writer_with(&how)?,
        batch: Vec::new(),
        kinds: made.format() == Format::Checksummed,
        batch_bytes: 0,
        most: options::batch_bytes(&made)?,
        followers: if lone { Vec::new() } else { followers(console, &source)? },
        settled: Vec::new(),
        last: None,
        messages: 0,
        gaps: 0,
        unsettled: 0,
    };
    let outcome = copy.all(console, &source);
    let (messages, gaps, settled) = (copy.messages, copy.gaps, std::mem::take(&mut copy.settled));
    let exit = if copy.unsettled == 0 { Exit::Fine } else { Exit::Problem };
    let outcome = outcome.and_then(|()| Ok(copy.writer.close()?));
    if let Err(failure) = outcome {
        console.say(format!("{} is not complete; remove it before the next attempt", to.display()));
        return Err(failure);
    }
    for (name, at) in settled {
        made.add_subscriber(&name, at.map_or(Start::Begin, Start::After))?;
    }

    if json {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        console.json(&Report { schema: SCHEMA, from: text(from), to: text(to), messages, gaps })?;
    } else {
        let (messages, gaps) = (things(messages, "message"), things(gaps, "gap"));
        writeln!(console, "salvaged: {messages} copied to {}, {gaps}", printable(&to.to_string_lossy()))?;
    }
    Ok(exit)
}

/// A log like the source, as far as the format has a place for it.
fn like(source: &Log, format: Format) -> Result<CreateOptions, Failure> {
    let meta = source.metastore()?;
    let now = Timestamp::from(SystemTime::now());
    let options = CreateOptions::new().format(format).segment_size(meta.unit_limit).created(now);
    Ok(match (source.format(), format) {
        (Format::Checksummed, Format::Checksummed) => options
            .durability(source.durability()?)
            .compression(source.compression())
            .retention(source.retention()?),
        // libjlog's levels below safe sync no append: what comes nearest would sync less than is usual here.
        (Format::Classic, Format::Checksummed) => options.compression(source.compression()),
        (Format::Checksummed, Format::Classic) => {
            options.safety(meta.safety).compression(source.compression())
        }
        (Format::Classic, Format::Classic) => {
            options.safety(meta.safety).compression(source.compression()).order(source.order())
        }
    })
}

/// What is copied takes about as much space as it does now.
fn require_space(source: &Log, to: &Path) -> Result<(), Failure> {
    let parent = match to.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    // Where that cannot be told, the copy will.
    let (Ok(free), Ok(wanted)) = (fs2::available_space(parent), source.size()) else { return Ok(()) };
    if free >= wanted {
        return Ok(());
    }
    let missing = wanted - free;
    Err(Failure::Other(format!(
        "{}: there are {free} bytes free, and {missing} more are needed",
        parent.display()
    )))
}

/// The subscribers whose checkpoint can be read, by checkpoint.
fn followers(console: &Console, source: &Log) -> Result<Vec<(Subscriber, RecordId)>, Failure> {
    let mut followers = Vec::new();
    for name in source.subscribers()? {
        match source.checkpoint(&name) {
            Ok(at) => followers.push((name, at)),
            Err(error) if error.kind() == ErrorKind::Damaged => {
                console.say(format!("subscriber {name:?} starts at the beginning: {error}"));
                followers.push((name, RecordId::default()));
            }
            Err(error) => return Err(error.into()),
        }
    }
    followers.sort_by_key(|(_, at)| *at);
    Ok(followers)
}

struct Copy {
    writer: Writer,
    batch: Vec<(Kind, Vec<u8>, Timestamp)>,
    /// Whether the new log has kinds. A classic one has messages alone.
    kinds: bool,
    batch_bytes: usize,
    /// So many bytes are appended together.
    most: usize,
    /// Subscribers whose checkpoint lies ahead, in the source's ids.
    followers: Vec<(Subscriber, RecordId)>,
    /// Subscribers with their checkpoint in the new log.
    settled: Vec<(Subscriber, Option<RecordId>)>,
    /// The last message written, by its new id.
    last: Option<RecordId>,
    messages: u64,
    gaps: u64,
    /// The gaps that nobody had decided on before.
    unsettled: u64,
}

impl Copy {
    fn all(&mut self, console: &mut Console, source: &Log) -> Result<(), Failure> {
        let total = source.size()?;
        let mut bar = Bar::new(console);
        let mut done = 0;
        let mut cursor = source.cursor()?;
        // What is written and was never acknowledged may be somebody's only copy.
        cursor.see_unsynced(true);
        loop {
            match cursor.next_record() {
                Ok(None) => break,
                Ok(Some(record)) => {
                    done += record.stored_len;
                    self.settle_before(record.id)?;
                    self.add(record.kind, record.payload, record.time)?;
                }
                Err(error) => match cursor.skip_gap() {
                    Some(gap) => {
                        self.gaps += 1;
                        self.unsettled += u64::from(!gap::is_settled(&gap));
                        gap::say(console, &gap);
                    }
                    None => return Err(error.into()),
                },
            }
            if bar.tell(Progress { done, total }).is_break() {
                return Err(Failure::Interrupted);
            }
        }
        self.write()?;
        self.settled.extend(self.followers.drain(..).map(|(name, _)| (name, self.last)));
        for message in buffered(source)? {
            interrupt::check()?;
            self.add(Kind::MESSAGE, &message.payload, message.time)?;
        }
        self.write()
    }

    /// Subscribers whose checkpoint lies before this message are behind what was copied so far.
    fn settle_before(&mut self, id: RecordId) -> Result<(), Failure> {
        let passed = self.followers.iter().take_while(|(_, at)| *at < id).count();
        if passed > 0 {
            self.write()?;
            self.settled.extend(self.followers.drain(..passed).map(|(name, _)| (name, self.last)));
        }
        Ok(())
    }

    fn add(&mut self, kind: Kind, message: &[u8], time: Timestamp) -> Result<(), Failure> {
        // One of the format's own that this version does not know was delivered as a message, and is copied as one.
        let kind = Kind::application(kind.number()).unwrap_or(Kind::MESSAGE);
        self.batch.push((kind, message.to_vec(), time));
        self.batch_bytes += message.len();
        self.messages += 1;
        if self.batch_bytes >= self.most { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> Result<(), Failure> {
        let batch = self.batch.iter();
        let last = if self.kinds {
            let entries: Vec<_> =
                batch.map(|(kind, payload, time)| Entry { kind: *kind, time: *time, payload }).collect();
            self.writer.append_entries(&entries, self.writer.durability())?.last().map(|place| place.id)
        } else {
            self.writer.append_batch(batch.map(|(_, message, time)| (&message[..], *time)))?
        };
        self.last = last.or(self.last);
        self.batch.clear();
        self.batch_bytes = 0;
        Ok(())
    }
}
