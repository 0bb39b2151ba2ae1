//! Appending, acknowledged after a sync: several senders, each with one record on the way, as connections have.

use std::path::Path;
use std::sync::{Arc, Barrier, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jlog::io::{Disk, Open, RawFile};
use jlog::{CreateOptions, Log, Timestamp, Writer, WriterOptions};

use crate::disk::BenchDisk;
use crate::{Outcome, cpu_time, message};

/// The messages of all these benches.
pub const MESSAGE: usize = 1024;
/// What a commit of one such message takes in a checksummed log, and what the controls write.
pub const COMMIT: usize = MESSAGE + 56;

/// Something that acknowledges a record once it is on the disk.
pub trait Durable: Sync {
    /// Returns when the record is on the disk.
    fn append(&self, message: &[u8]) -> Outcome<()>;
}

/// What became of so many records.
#[derive(Debug, Clone)]
pub struct Sent {
    /// How many there were.
    pub records: u64,
    /// How long it took until all were acknowledged, and the CPU time of the process meanwhile.
    pub wall: Duration,
    pub cpu: Duration,
    /// All syncs, those of finished and new segments among them.
    pub syncs: u64,
    /// How long each waited for its acknowledgement.
    pub waits: Vec<Duration>,
}

impl Sent {
    /// The wait that so many hundredths of the records did not exceed.
    pub fn wait(&mut self, hundredths: usize) -> Duration {
        self.waits.sort_unstable();
        let at = self.waits.len() * hundredths / 100;
        self.waits.get(at.min(self.waits.len().saturating_sub(1))).copied().unwrap_or_default()
    }
}

/// `senders` threads, each sending `each` records one after another.
pub fn send(to: &dyn Durable, disk: &BenchDisk, senders: usize, each: u64) -> Outcome<Sent> {
    let message = message(MESSAGE);
    let one = || {
        let mut waits = Vec::with_capacity(each as usize);
        for _ in 0..each {
            let start = Instant::now();
            to.append(&message)?;
            waits.push(start.elapsed());
        }
        Ok(waits)
    };
    together(senders, || disk.counts().1, one)
}

/// What `senders` threads that begin together have sent: each does `one`, which says how long its records waited. `syncs`
/// counts all so far.
pub fn together(
    senders: usize,
    syncs: impl Fn() -> u64,
    one: impl Fn() -> Outcome<Vec<Duration>> + Sync,
) -> Outcome<Sent> {
    let begin = Barrier::new(senders + 1);
    std::thread::scope(|scope| {
        let sender = || {
            begin.wait();
            one()
        };
        let threads: Vec<_> = (0..senders).map(|_| scope.spawn(sender)).collect();
        let (before, cpu) = (syncs(), cpu_time());
        begin.wait();
        let start = Instant::now();
        let mut waits = Vec::new();
        for thread in threads {
            let sent: Outcome<Vec<Duration>> = thread.join().map_err(|_| "a sender panicked")?;
            waits.extend(sent?);
        }
        let (wall, cpu) = (start.elapsed(), cpu_time() - cpu);
        Ok(Sent { records: waits.len() as u64, wall, cpu, syncs: syncs() - before, waits })
    })
}

/// The file of a control: with so many bytes of zeros in it, on the disk, or empty.
fn control_file(disk: &BenchDisk, path: &Path, zeros: u64) -> Outcome<Box<dyn RawFile>> {
    let file = disk.open(path, Open::CreateNew(0o600))?;
    // In small pieces: a page cache made of large ones takes a tenth longer to sync a few bytes of.
    let block = vec![0; 64 << 10];
    let mut at = 0;
    while at < zeros {
        at += file.pwrite(&block, at)? as u64;
    }
    file.sync()?;
    Ok(file)
}

/// The control for one sender: a write and a sync, and nothing around them.
#[derive(Debug)]
pub struct WriteAndSync {
    file: Box<dyn RawFile>,
    end: Mutex<u64>,
}

impl WriteAndSync {
    /// With `room` bytes written in advance.
    pub fn new(disk: &BenchDisk, path: &Path, room: u64) -> Outcome<WriteAndSync> {
        Ok(WriteAndSync { file: control_file(disk, path, room)?, end: Mutex::new(0) })
    }
}

impl Durable for WriteAndSync {
    fn append(&self, message: &[u8]) -> Outcome<()> {
        let mut record = [0; COMMIT];
        record[..message.len()].copy_from_slice(message);
        let mut end = self.end.lock().unwrap_or_else(PoisonError::into_inner);
        *end += self.file.pwrite(&record, *end)? as u64;
        Ok(self.file.sync()?)
    }
}

/// The control for several: group commit as one writes it in an hour. Records are gathered in memory; whoever finds
/// nobody leading writes all that is there with one write, syncs, and wakes the others.
#[derive(Debug)]
pub struct GroupControl {
    file: Box<dyn RawFile>,
    turn: Mutex<Turn>,
    turned: Condvar,
}

#[derive(Debug, Default)]
struct Turn {
    gathered: Vec<u8>,
    end: u64,
    appended: u64,
    durable: u64,
    leading: bool,
}

impl GroupControl {
    /// With `room` bytes written in advance; 0: the file grows.
    pub fn new(disk: &BenchDisk, path: &Path, room: u64) -> Outcome<GroupControl> {
        let file = control_file(disk, path, room)?;
        Ok(GroupControl { file, turn: Mutex::default(), turned: Condvar::new() })
    }

    fn turn(&self) -> MutexGuard<'_, Turn> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Durable for GroupControl {
    fn append(&self, message: &[u8]) -> Outcome<()> {
        let mut turn = self.turn();
        turn.gathered.extend_from_slice(message);
        turn.gathered.extend_from_slice(&[0; COMMIT - MESSAGE]);
        turn.appended += 1;
        let mine = turn.appended;
        while turn.leading && turn.durable < mine {
            turn = self.turned.wait(turn).unwrap_or_else(PoisonError::into_inner);
        }
        if turn.durable >= mine {
            return Ok(());
        }
        turn.leading = true;
        let (bytes, upto, at) = (std::mem::take(&mut turn.gathered), turn.appended, turn.end);
        turn.end += bytes.len() as u64;
        drop(turn);
        let outcome = self.file.pwrite(&bytes, at).and_then(|_| self.file.sync());
        let mut turn = self.turn();
        (turn.leading, turn.durable) = (false, upto);
        drop(turn);
        self.turned.notify_all();
        Ok(outcome?)
    }
}

/// A log under test.
#[derive(Debug)]
pub struct LogWriter(Writer);

impl LogWriter {
    /// A new log, and its writer.
    pub fn new(
        disk: &Arc<BenchDisk>,
        path: &Path,
        format: &CreateOptions,
        options: &WriterOptions,
    ) -> Outcome<LogWriter> {
        let log = Log::create_on(Arc::clone(disk) as Arc<dyn Disk>, path, format)?;
        Ok(LogWriter(log.writer_with(options)?))
    }

    /// A writer of a log that is there.
    pub fn open(disk: &Arc<BenchDisk>, path: &Path, options: &WriterOptions) -> Outcome<LogWriter> {
        Ok(LogWriter(Log::open_on(Arc::clone(disk) as Arc<dyn Disk>, path)?.writer_with(options)?))
    }
}

impl Durable for LogWriter {
    fn append(&self, message: &[u8]) -> Outcome<()> {
        self.0.append(message, Timestamp::new(1_700_000_000, 0))?;
        Ok(())
    }
}

/// A way to append durably.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// One write and one sync a record; senders wait for each other.
    WriteAndSync,
    /// The raw group commit, on a file that was written in advance.
    GroupOnZeros,
    /// The raw group commit, on a file that grows.
    GroupGrowing,
    /// A checksummed log with its defaults: synced before it acknowledges, segments of 4 MiB.
    Checksummed,
    /// The same with segments so large that none is finished meanwhile.
    OneSegment,
    /// A classic log whose writer syncs before it acknowledges.
    Classic,
}

impl Way {
    /// What the tables call it.
    pub fn name(self) -> &'static str {
        match self {
            Way::WriteAndSync => "raw: pwrite and fdatasync, on a zeroed file",
            Way::GroupOnZeros => "raw group commit, on a zeroed file",
            Way::GroupGrowing => "raw group commit, on a growing file",
            Way::Checksummed => "checksummed, segments of 4 MiB",
            Way::OneSegment => "checksummed, one large segment",
            Way::Classic => "classic, synced, segments of 4 MiB",
        }
    }

    /// Makes it ready, in `dir`, for so many records.
    pub fn prepare(self, disk: &Arc<BenchDisk>, dir: &Path, records: u64) -> Outcome<Box<dyn Durable>> {
        let room = records * COMMIT as u64 + (1 << 20);
        let path = dir.join("log");
        let owner = WriterOptions::new().exclusive(true).durability(jlog::Durability::Sync);
        let log = |format: CreateOptions| -> Outcome<Box<dyn Durable>> {
            Ok(Box::new(LogWriter::new(disk, &path, &format, &owner)?))
        };
        Ok(match self {
            Way::WriteAndSync => Box::new(WriteAndSync::new(disk, &path, room)?),
            Way::GroupOnZeros => Box::new(GroupControl::new(disk, &path, room)?),
            Way::GroupGrowing => Box::new(GroupControl::new(disk, &path, 0)?),
            Way::Checksummed => log(CreateOptions::new())?,
            Way::OneSegment => log(CreateOptions::new().segment_size(u32::try_from(room)?))?,
            Way::Classic => log(CreateOptions::classic())?,
        })
    }

    /// One run in a fresh directory below `dir`; every sync takes `sync`, or what the disk takes.
    pub fn run(self, dir: &Path, senders: usize, each: u64, sync: Option<Duration>) -> Outcome<Sent> {
        let place = tempfile::tempdir_in(dir)?;
        let disk = Arc::new(sync.map_or_else(BenchDisk::default, BenchDisk::with_syncs_of));
        let ready = self.prepare(&disk, place.path(), senders as u64 * each)?;
        send(&*ready, &disk, senders, each)
    }
}
