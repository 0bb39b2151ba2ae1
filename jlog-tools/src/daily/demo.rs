//! `jlog demo`: the main job in a few seconds, on a spool or a log in a temporary directory. Every number in it is
//! counted.

mod spool;

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::time::{Duration, Instant, SystemTime};

use clap::Args;
use jlog::inspect::Inspection;
use jlog::repair::{self, Options};
use jlog::{CreateOptions, Log, OnDamage, RecordId, SegmentId, Start, Subscriber, Timestamp};

use crate::console::{Console, Tone};
use crate::exit::{Exit, Failure, Outcome};
use crate::inspect::{inspection, print_check, print_map, print_summary};
use crate::measure::{count, things};
use crate::options::{Common, with_console};
use crate::repair::{Consent, one as mend};
use crate::standing::Standing;
use crate::{interrupt, options};

pub(super) const EXAMPLES: &str = "\
Examples:
  jlog demo                 a spool at work
  jlog demo --keep          and have a look at it yourself
  jlog demo --log           the log below it: subscribers, a writer killed, damage, repair";

#[derive(Debug, Args)]
pub(super) struct Demo {
    /// Show a log instead of a spool
    #[arg(long)]
    log: bool,
    /// Keep the spool, or the log
    #[arg(long)]
    keep: bool,
    /// Do not wait for the reader
    #[arg(long)]
    fast: bool,
    /// Draw with ASCII characters only
    #[arg(long)]
    ascii: bool,
}

/// The process that is killed while it writes.
#[derive(Debug, Args)]
pub(super) struct Victim {
    #[arg(value_name = "LOG")]
    log: PathBuf,
    /// It is a spool
    #[arg(long)]
    spool: bool,
}

const SEGMENT: u32 = 128 * 1024;
/// Who reads, and how many of a hundred messages it reads before the next hundred are written.
const PACES: [(&str, usize); 3] = [("audit", 100), ("search-index", 60), ("billing", 25)];
const ROUNDS: usize = 40;
const ROUND: usize = 100;
/// The writer is killed after so many acknowledgements, or so much time.
const ACKNOWLEDGED: usize = 5_000;
const KILL_AFTER: Duration = Duration::from_millis(1500);
/// So far before the end of a record lies a byte of its message: what fills it up takes less.
const BEHIND: u64 = 12;
/// The bytes of the write that never finished.
const HALF_A_WRITE: usize = 300;
/// So many lost messages are named.
const MOST_NAMED: usize = 10;

pub(super) fn run(args: &Demo) -> Outcome {
    let common = Common { ascii: args.ascii, ..Common::default() };
    let place = tempfile::Builder::new().prefix("jlog-demo-").tempdir();
    let place =
        place.map_err(|error| Failure::Other(format!("cannot make a temporary directory: {error}")))?;
    let name = if args.log { "events" } else { "mail" };
    let outcome = with_console("jlog", &common, |console| {
        let path = place.path().join(name);
        let mut show = Show { console, path, pause: Duration::from_millis(if args.fast { 0 } else { 600 }) };
        if args.log { show.log() } else { show.spool() }
    });
    if args.keep {
        let kept = place.keep();
        crate::console::say("jlog", format!("it is kept in {}", kept.join(name).display()));
    }
    outcome
}

struct Show<'a> {
    console: &'a mut Console,
    path: PathBuf,
    /// Between the acts.
    pause: Duration,
}

impl Show<'_> {
    fn log(&mut self) -> Outcome {
        self.write_and_read()?;
        self.kill_a_writer()?;
        let before = self.damage()?;
        self.look()?;
        self.repair(&before)?;
        self.undo()?;
        self.read_on()?;
        self.farewell()
    }

    fn write_and_read(&mut self) -> Result<(), Failure> {
        self.act("1. A log, three subscribers that read at different paces, one writer")?;
        let log = {
            let now = Timestamp::from(SystemTime::now());
            Log::create_with(&self.path, &CreateOptions::new().segment_size(SEGMENT).created(now))?
        };
        let mut readers = Vec::new();
        for (name, pace) in PACES {
            let name = Subscriber::new(name)?;
            log.add_subscriber(&name, Start::Begin)?;
            readers.push((log.reader(&name)?, pace, 0));
        }
        let writer = log.writer()?;

        let heading = format!("{:>10} {:>10} {:>14} {:>10}", "written", "audit", "search-index", "billing");
        self.line(heading)?;
        let mut pruned = 0;
        for round in 1..=ROUNDS {
            let messages: Vec<_> = (0..ROUND).map(|n| message_text((round - 1) * ROUND + n)).collect();
            let now = Timestamp::from(SystemTime::now());
            writer.append_batch(messages.iter().map(|message| (message.as_bytes(), now)))?;
            for (reader, pace, read) in &mut readers {
                for _ in 0..*pace {
                    if reader.next_record()?.is_some() {
                        *read += 1;
                    }
                }
                pruned += reader.commit()?.len();
            }
            if round % (ROUNDS / 5) == 0 {
                let cells: Vec<_> = readers.iter().map(|(_, _, read)| count(*read)).collect();
                let written = count((round * ROUND) as u64);
                self.line(format!("{written:>10} {:>10} {:>14} {:>10}", cells[0], cells[1], cells[2]))?;
            }
            interrupt::sleep(self.pause / 20)?;
        }
        writer.close()?;
        let pruned = things(pruned as u64, "segment");
        self.line(format!("{pruned} that all three had read removed on the way"))
    }

    fn kill_a_writer(&mut self) -> Result<(), Failure> {
        self.act("2. Another process writes, and is killed with SIGKILL in the middle of it")?;
        let program = std::env::current_exe().map_err(|error| self.broken("find the program", &error))?;
        let child = Command::new(program)
            .arg("demo-writer")
            .arg(&self.path)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| self.broken("start the writer", &error))?;
        let mut child = Killed(child);
        let heard: Vec<RecordId> =
            child.acknowledgements().map_err(|error| self.broken("hear the writer", &error))?;
        let acknowledged: BTreeMap<usize, RecordId> = heard.into_iter().enumerate().collect();
        self.line(format!("killed after {}", things(acknowledged.len() as u64, "acknowledgement")))?;

        let log = Log::open(&self.path)?;
        let writer = log.writer()?;
        let found = writer.recovery();
        writer.close()?;
        match found.torn {
            Some((_, bytes)) => self.line(format!("opened again: {bytes} torn bytes at the end cut off"))?,
            None => self.line("opened again: the last record is whole")?,
        }

        let first = acknowledged.values().next().copied().unwrap_or_default();
        let mut cursor = log.cursor_after(crate::place::before(first));
        let (mut there, mut sound) = (0u64, 0u64);
        while let Some(record) = cursor.next_record()? {
            let number = there as usize;
            there += 1;
            if acknowledged.get(&number) == Some(&record.id)
                && record.payload == message_text(number).as_bytes()
            {
                sound += 1;
            }
        }
        let promised = acknowledged.len() as u64;
        let line =
            format!("{} of {} acknowledged messages are there, byte for byte", count(sound), count(promised));
        let line = self.console.paint(if sound == promised { Tone::Healthy } else { Tone::Lost }, line);
        self.line(line)?;
        let more = there - promised.min(there);
        if more > 0 {
            self.line(format!("and {} whose acknowledgement never came through", things(more, "message")))?;
        }
        Ok(())
    }

    /// Damages the log, and returns what was in it.
    fn damage(&mut self) -> Result<Messages, Failure> {
        self.act(
            "3. The disk goes bad: one bit flips in a sealed segment, and half a write is left at the end",
        )?;
        let before = readable(&self.path)?;
        let log = Log::open(&self.path)?;
        let segments = log.segments()?;
        let active = log.active_segment()?;
        let victim = segments.get(segments.len() / 2).copied().filter(|id| *id < active).unwrap_or(active);

        let mut cursor = log.cursor_after(RecordId { segment: victim, ..RecordId::default() });
        let (mut message, mut byte) = (RecordId::default(), 0);
        while let Some(record) = cursor.next_record()? {
            if record.id.segment != victim || record.offset > u64::from(SEGMENT) / 2 {
                break;
            }
            (message, byte) = (record.id, record.offset + record.stored_len - BEHIND);
        }
        let file = self.segment_file(victim)?;
        let mut bits = [0];
        file.read_exact_at(&mut bits, byte).map_err(|error| self.broken("damage the log", &error))?;
        file.write_all_at(&[bits[0] ^ 1], byte).map_err(|error| self.broken("damage the log", &error))?;
        self.line(format!("segment {victim}: one bit of byte {byte} flipped, in message {message}"))?;

        let end = self.seen()?.segments.last().map_or(0, |segment| segment.bytes);
        let half: Vec<u8> = (0..HALF_A_WRITE).map(|n| (n * 37 + 11) as u8).collect();
        let file = self.segment_file(active)?;
        file.write_all_at(&half, end).map_err(|error| self.broken("damage the log", &error))?;
        self.line(format!(
            "segment {active}: {HALF_A_WRITE} bytes of a write that never finished, from byte {end} on"
        ))?;
        Ok(before)
    }

    fn segment_file(&self, id: SegmentId) -> Result<File, Failure> {
        let path = self.path.join(id.to_string());
        OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .map_err(|error| Failure::io("open", &path, &error))
    }

    fn look(&mut self) -> Result<(), Failure> {
        self.act("4. A look at it, which changes nothing")?;
        let seen = self.seen()?;
        let standing = Standing::of(&Log::open(&self.path)?, false)?;
        self.command("jlog inspect")?;
        print_summary(self.console, &seen, &standing)?;
        self.wait()?;
        self.command("jlog inspect map")?;
        print_map(self.console, &seen)?;
        self.wait()?;
        self.command("jlog inspect check")?;
        print_check(self.console, &seen)
    }

    /// Repairs the log, and compares what can be read then with what was there before.
    fn repair(&mut self, before: &Messages) -> Result<(), Failure> {
        self.act("5. Repair: first the plan, then the deed")?;
        self.command("jlog repair -n")?;
        let options = Options::default();
        mend(self.console, &self.path, &options, Consent::DryRun, false)?;
        self.wait()?;
        self.command("jlog repair -y -q")?;
        self.mend_quietly()?;
        self.command("jlog inspect check")?;
        let seen = self.seen()?;
        print_check(self.console, &seen)?;
        let after = readable(&self.path)?;
        let same = before.iter().filter(|(id, message)| after.get(id) == Some(message)).count();
        let line = format!(
            "{} of {} messages are there, byte for byte, under the ids they had",
            count(same as u64),
            count(before.len() as u64)
        );
        self.line(line)?;
        for lost in before.keys().filter(|id| !after.contains_key(id)).take(MOST_NAMED) {
            self.line(format!("lost: {lost}"))?;
        }
        Ok(())
    }

    fn mend_quietly(&mut self) -> Result<(), Failure> {
        let quiet = std::mem::replace(&mut self.console.quiet, true);
        let outcome = mend(self.console, &self.path, &Options::default(), Consent::Given { wait: 0 }, false);
        self.console.quiet = quiet;
        outcome.map(|_| ())
    }

    fn undo(&mut self) -> Result<(), Failure> {
        self.act("6. A repair can be taken back")?;
        self.command("jlog repair undo")?;
        repair::undo(&self.path)?;
        let problems = self.seen()?.problems().count() as u64;
        self.line(format!("the damage is back as it was: {}", things(problems, "problem")))?;
        self.command("jlog repair -y -q")?;
        self.mend_quietly()
    }

    fn read_on(&mut self) -> Result<(), Failure> {
        self.act("7. Everybody reads on from where they were, and is told of what is lost")?;
        let log = Log::open(&self.path)?;
        let size = log.size()?;
        let mut removed = 0;
        for (name, _) in PACES {
            let mut reader = log.reader(&Subscriber::new(name)?)?;
            let (mut read, mut lost) = (0u64, 0u64);
            loop {
                match reader.next_record() {
                    Ok(Some(_)) => read += 1,
                    Ok(None) => break,
                    Err(error) => match reader.skip_gap() {
                        Some(gap) => lost += gap.lost.unwrap_or(0),
                        None => return Err(error.into()),
                    },
                }
            }
            removed += reader.commit()?.len();
            let read = things(read, "message");
            self.line(format!(
                "{name:<13} {read:>14} read, and told that {} lost",
                if lost == 1 { "1 is".to_owned() } else { format!("{} are", count(lost)) }
            ))?;
        }
        let (from, to) = (self.console.units.size(size), self.console.units.size(log.size()?));
        let removed = things(removed as u64, "segment");
        self.line(format!("{removed} that nobody wants any more removed: {from} before, {to} now"))
    }

    fn farewell(&mut self) -> Outcome {
        self.act("On a log of your own")?;
        self.hints(&["inspect YOUR-LOG", "inspect check YOUR-LOG", "repair -n YOUR-LOG"])
    }

    /// Ends with what to type next.
    fn hints(&mut self, hints: &[&str]) -> Outcome {
        let program = std::env::current_exe().map_err(|error| self.broken("find the program", &error))?;
        let program = match std::env::current_dir() {
            Ok(here) => program.strip_prefix(here).unwrap_or(&program).to_path_buf(),
            Err(_) => program,
        };
        let program = program.display();
        for what in hints {
            self.line(format!("{program} {what}"))?;
        }
        Ok(Exit::Fine)
    }

    fn seen(&self) -> Result<Inspection, Failure> {
        inspection(self.console, &Log::open(&self.path)?)
    }

    fn act(&mut self, title: &str) -> Result<(), Failure> {
        self.wait()?;
        let title = self.console.paint(Tone::Strong, title);
        writeln!(self.console, "\n{title}\n")?;
        Ok(())
    }

    fn line(&mut self, line: impl std::fmt::Display) -> Result<(), Failure> {
        writeln!(self.console, "   {line}")?;
        Ok(self.console.flush()?)
    }

    fn command(&mut self, command: &str) -> Result<(), Failure> {
        let path = self.path.display();
        let line = self.console.paint(Tone::Strong, format!("$ {command} {path}"));
        writeln!(self.console, "\n{line}")?;
        Ok(())
    }

    fn wait(&mut self) -> Result<(), Failure> {
        self.console.flush()?;
        interrupt::sleep(self.pause)
    }

    fn broken(&self, doing: &str, error: &std::io::Error) -> Failure {
        Failure::io(doing, &self.path, error)
    }
}

/// Messages by their ids.
type Messages = BTreeMap<RecordId, Vec<u8>>;

/// What can be read, past damage.
fn readable(path: &Path) -> Result<Messages, Failure> {
    let mut cursor = Log::open(path)?.cursor()?;
    cursor.on_damage(OnDamage::Skip);
    let mut messages = Messages::new();
    while let Some(record) = cursor.next_record()? {
        messages.insert(record.id, record.payload.to_vec());
    }
    Ok(messages)
}

/// The n-th message: always the same, so that what comes back can be compared.
fn message_text(n: usize) -> String {
    let items = ["apples", "bolts", "candles", "doorbells", "envelopes"];
    let dozen = 1 + n % 12;
    let note = "please ring twice; ".repeat(n * 7 % 23);
    format!("order {n}: {dozen} dozen {}; {note}paid", items[n % items.len()])
}

/// A process that is killed at the latest when this is dropped.
struct Killed(Child);

impl Killed {
    /// Listens to the ids that the writer has acknowledgements for, in the order of the messages, and kills it.
    fn acknowledgements<Id: FromStr>(&mut self) -> std::io::Result<Vec<Id>> {
        let mut lines =
            BufReader::new(self.0.stdout.take().into_iter().next().ok_or(std::io::ErrorKind::BrokenPipe)?);
        let end = Instant::now() + KILL_AFTER;
        let mut text = Vec::new();
        let mut heard = 0;
        while heard < ACKNOWLEDGED && Instant::now() < end && lines.read_until(b'\n', &mut text)? > 0 {
            heard += 1;
        }
        self.0.kill()?;
        self.0.wait()?;
        // What it had said before it died counts as well; half a line does not.
        lines.read_to_end(&mut text)?;
        let whole = text.iter().rposition(|byte| *byte == b'\n').unwrap_or(0);
        let ids = String::from_utf8_lossy(&text[..whole]).into_owned();
        Ok(ids.lines().filter_map(|line| line.parse().ok()).collect())
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        // It is dead already, unless something went wrong.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Writes as fast as it can, and says the id of each message once it is acknowledged.
pub(super) fn write_until_killed(args: &Victim) -> Outcome {
    if args.spool {
        return spool::accept_until_killed(args);
    }
    let log = Log::open(&args.log)?;
    let writer = log.writer()?;
    let mut console = Console::new("jlog", &options::Common::default());
    for number in 0.. {
        let id = writer.append(message_text(number).as_bytes(), Timestamp::from(SystemTime::now()))?;
        writeln!(console, "{id}")?;
        console.flush()?;
        interrupt::check()?;
    }
    Ok(Exit::Fine)
}
