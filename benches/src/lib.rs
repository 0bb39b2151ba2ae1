//! What the benches measure: ways to append and to read, each beside a raw control that moves the same bytes.
//!
//! Times are CPU times of the process, user and system together: wall time on a shared machine says more about its
//! neighbours. Every case says how durable its appends are; none of these syncs each record, but every one syncs a
//! segment when it is finished, as the log does, except where its name says otherwise.

use std::fs::{self, File};
use std::hint::black_box;
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jlog::io::{Disk, Open, OsDisk, PathInfo, RawFile, RawMap, RawWatch};
use jlog::{CreateOptions, Log, Start, Subscriber, Timestamp, WriterOptions};
use nix::time::{ClockId, clock_gettime};

/// A result that a bench may give up on.
pub type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// The segment size of libjlog's default, and of every case.
pub const SEGMENT: u64 = 4 << 20;
/// The bytes that a classic record takes beside its message.
const HEADER: usize = 16;
/// A log is thrown away and begun anew after this many bytes, so that a long bench does not fill the disk.
const MOST_BYTES: u64 = 96 << 20;

/// The CPU time this process has used.
pub fn cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).map(Duration::from).unwrap_or_default()
}

/// A way to append `count` messages of `size` bytes to a fresh place in `dir`; the CPU time it took.
pub type Append = fn(dir: &Path, count: u64, size: usize) -> Outcome<Duration>;

/// The ways to append: a name, what an acknowledged record survives, and the way.
pub const APPENDS: &[(&str, &str, Append)] = &[
    ("raw: one pwrite a message", "process; a sync each 4 MiB", raw_pwrite),
    ("raw: 64 KiB batches", "process; a sync each 4 MiB", raw_batches),
    ("exclusive, one by one", "process", exclusive),
    ("shared, one by one", "process", shared),
    ("exclusive, batches of 64 KiB", "process", exclusive_batches),
    ("shared, batches of 64 KiB", "process", shared_batches),
    ("exclusive, 1 MiB pre_commit", "process", buffered),
];

/// A message of `size` bytes that differs from its neighbours.
fn message(size: usize) -> Vec<u8> {
    (0..size).map(|n| b'a' + (n % 23) as u8).collect()
}

/// Runs `part` on fresh directories until `count` messages are through, and adds up the CPU time it says it took.
fn in_parts(
    dir: &Path,
    count: u64,
    size: usize,
    part: impl Fn(&Path, u64) -> Outcome<Duration>,
) -> Outcome<Duration> {
    let most = (MOST_BYTES / (size + HEADER) as u64).max(1);
    let (mut left, mut spent) = (count, Duration::ZERO);
    while left > 0 {
        let now = left.min(most);
        let place = tempfile::tempdir_in(dir)?;
        spent += part(&place.path().join("log"), now)?;
        left -= now;
    }
    Ok(spent)
}

/// The files of a raw control: one after another, each synced when it is full, as segments are.
struct RawFiles<'a> {
    dir: &'a Path,
    file: File,
    at: u64,
    made: u32,
}

impl RawFiles<'_> {
    fn new(dir: &Path) -> io::Result<RawFiles<'_>> {
        fs::create_dir(dir)?;
        Ok(RawFiles { dir, file: File::create_new(dir.join("0"))?, at: 0, made: 1 })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, self.at)?;
        self.at += bytes.len() as u64;
        if self.at >= SEGMENT {
            self.file.sync_data()?;
            self.file = File::create_new(self.dir.join(self.made.to_string()))?;
            self.made += 1;
            self.at = 0;
        }
        Ok(())
    }
}

fn raw_pwrite(dir: &Path, count: u64, size: usize) -> Outcome<Duration> {
    let record = message(size + HEADER);
    in_parts(dir, count, size, |place, count| {
        let mut files = RawFiles::new(place)?;
        let start = cpu_time();
        for _ in 0..count {
            files.write(&record)?;
        }
        Ok(cpu_time() - start)
    })
}

fn raw_batches(dir: &Path, count: u64, size: usize) -> Outcome<Duration> {
    let record = message(size + HEADER);
    in_parts(dir, count, size, |place, count| {
        let mut files = RawFiles::new(place)?;
        let mut batch = Vec::with_capacity(2 * BATCH);
        let start = cpu_time();
        for _ in 0..count {
            batch.extend_from_slice(&record);
            if batch.len() >= BATCH {
                files.write(&batch)?;
                batch.clear();
            }
        }
        files.write(&batch)?;
        Ok(cpu_time() - start)
    })
}

const BATCH: usize = 64 * 1024;

/// Appends one by one through a writer of these options.
fn one_by_one(dir: &Path, count: u64, size: usize, options: &WriterOptions) -> Outcome<Duration> {
    let message = message(size);
    in_parts(dir, count, size, |place, count| {
        let writer = Log::create_with(place, &CreateOptions::classic())?.writer_with(options)?;
        let start = cpu_time();
        for n in 0..count {
            writer.append(&message, Timestamp::new(1_700_000_000, n as u32))?;
        }
        writer.flush()?;
        Ok(cpu_time() - start)
    })
}

fn in_batches(dir: &Path, count: u64, size: usize, options: &WriterOptions) -> Outcome<Duration> {
    let message = message(size);
    let most = (BATCH / (size + HEADER)).max(1) as u64;
    in_parts(dir, count, size, |place, count| {
        let writer = Log::create_with(place, &CreateOptions::classic())?.writer_with(options)?;
        let start = cpu_time();
        let mut done = 0;
        while done < count {
            let now = most.min(count - done);
            writer.append_batch((0..now).map(|n| (&message[..], Timestamp::new(1_700_000_000, n as u32))))?;
            done += now;
        }
        Ok(cpu_time() - start)
    })
}

fn exclusive(dir: &Path, count: u64, size: usize) -> Outcome<Duration> {
    one_by_one(dir, count, size, &WriterOptions::new().exclusive(true))
}

fn shared(dir: &Path, count: u64, size: usize) -> Outcome<Duration> {
    one_by_one(dir, count, size, &WriterOptions::new())
}

fn exclusive_batches(dir: &Path, count: u64, size: usize) -> Outcome<Duration> {
    in_batches(dir, count, size, &WriterOptions::new().exclusive(true))
}

fn shared_batches(dir: &Path, count: u64, size: usize) -> Outcome<Duration> {
    in_batches(dir, count, size, &WriterOptions::new())
}

fn buffered(dir: &Path, count: u64, size: usize) -> Outcome<Duration> {
    one_by_one(dir, count, size, &WriterOptions::new().buffer(1 << 20))
}

/// A way to read a log of `count` messages of `size` bytes once; the CPU time it took.
pub type Read = fn(log: &Path, count: u64) -> Outcome<Duration>;

/// The ways to read. The page cache is warm; every byte of every message is touched.
pub const READS: &[(&str, Read)] = &[
    ("raw: preads of 256 KiB", raw_read),
    ("reader, record by record", read_records),
    ("reader, an interval at a time", read_bulk),
    ("reader, one id at a time", read_by_id),
    ("inspect", read_inspect),
];

/// Makes the log that the reading benches read, with one subscriber at its beginning.
pub fn log_to_read(path: &Path, count: u64, size: usize) -> Outcome<()> {
    let log = Log::create_with(path, &CreateOptions::classic())?;
    log.add_subscriber(&Subscriber::new("bench")?, Start::Begin)?;
    let writer = log.writer_with(&WriterOptions::new().exclusive(true))?;
    let message = message(size);
    writer.append_batch((0..count).map(|n| (&message[..], Timestamp::new(1_700_000_000, n as u32))))?;
    Ok(writer.close()?)
}

/// Touches every byte, eight at a time: what a consumer does at the least.
fn sum(bytes: &[u8]) -> u64 {
    let words = bytes.chunks_exact(8);
    let rest = words.remainder().iter().map(|b| u64::from(*b)).sum::<u64>();
    words.filter_map(|word| word.try_into().ok()).map(u64::from_ne_bytes).fold(rest, u64::wrapping_add)
}

fn raw_read(log: &Path, _: u64) -> Outcome<Duration> {
    let mut block = vec![0; 256 * 1024];
    let start = cpu_time();
    for id in Log::open(log)?.segments()? {
        let file = File::open(log.join(id.to_string()))?;
        let mut at = 0;
        loop {
            let got = file.read_at(&mut block, at)?;
            if got == 0 {
                break;
            }
            black_box(sum(&block[..got]));
            at += got as u64;
        }
    }
    Ok(cpu_time() - start)
}

fn read_records(log: &Path, count: u64) -> Outcome<Duration> {
    let log = Log::open(log)?;
    let start = cpu_time();
    let mut reader = log.reader(&Subscriber::new("bench")?)?;
    let mut read = 0;
    while let Some(record) = reader.next_record()? {
        black_box(sum(record.payload));
        read += 1;
    }
    let spent = cpu_time() - start;
    require(read == count)?;
    Ok(spent)
}

fn read_bulk(log: &Path, count: u64) -> Outcome<Duration> {
    let log = Log::open(log)?;
    let start = cpu_time();
    let mut reader = log.reader(&Subscriber::new("bench")?)?;
    let mut read = 0;
    while let Some(interval) = reader.interval()? {
        read += u64::from(reader.read_bulk(interval.first, interval.last, |record| {
            black_box(sum(record.payload));
            Ok(())
        })?);
    }
    let spent = cpu_time() - start;
    require(read == count)?;
    Ok(spent)
}

fn read_by_id(log: &Path, count: u64) -> Outcome<Duration> {
    let log = Log::open(log)?;
    let start = cpu_time();
    let mut reader = log.reader(&Subscriber::new("bench")?)?;
    let mut read = 0;
    for segment in log.segments()? {
        for marker in 1.. {
            match reader.read(jlog::RecordId { segment, marker: jlog::Marker(marker) }) {
                Ok(record) => black_box(sum(record.payload)),
                Err(error) if error.kind() == jlog::ErrorKind::NoSuchRecord => break,
                Err(error) => return Err(error.into()),
            };
            read += 1;
        }
    }
    let spent = cpu_time() - start;
    require(read == count)?;
    Ok(spent)
}

fn read_inspect(log: &Path, count: u64) -> Outcome<Duration> {
    let log = Log::open(log)?;
    let start = cpu_time();
    let seen = jlog::inspect::inspect(&log)?;
    let spent = cpu_time() - start;
    require(seen.messages == count)?;
    Ok(spent)
}

/// A bench that read the wrong number of messages has measured something else.
fn require(right: bool) -> Outcome<()> {
    if right { Ok(()) } else { Err("the bench read another number of messages than were written".into()) }
}

/// The system calls that one way of appending makes for `count` messages: all of them, and the syncs among them.
pub fn system_calls(dir: &Path, count: u64, size: usize, options: &WriterOptions) -> Outcome<(u64, u64)> {
    let disk = Arc::new(Counting::default());
    let place = tempfile::tempdir_in(dir)?;
    let log = Log::create_on(
        Arc::clone(&disk) as Arc<dyn Disk>,
        place.path().join("log"),
        &CreateOptions::classic(),
    )?;
    let writer = log.writer_with(options)?;
    let message = message(size);
    let before = disk.counts.read();
    for n in 0..count {
        writer.append(&message, Timestamp::new(1_700_000_000, n as u32))?;
    }
    let after = disk.counts.read();
    Ok((after.0 - before.0, after.1 - before.1))
}

/// The operating system's disk, counting.
#[derive(Debug, Default)]
struct Counting {
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    calls: AtomicU64,
    syncs: AtomicU64,
}

impl Counts {
    fn call(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
    }

    fn sync(&self) {
        self.call();
        self.syncs.fetch_add(1, Ordering::Relaxed);
    }

    fn read(&self) -> (u64, u64) {
        (self.calls.load(Ordering::Relaxed), self.syncs.load(Ordering::Relaxed))
    }
}

impl Disk for Counting {
    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn RawFile>> {
        self.counts.call();
        Ok(Box::new(CountingFile { file: OsDisk.open(path, how)?, counts: Arc::clone(&self.counts) }))
    }

    fn names(&self, dir: &Path) -> io::Result<Vec<std::ffi::OsString>> {
        self.counts.call();
        OsDisk.names(dir)
    }

    fn info(&self, path: &Path, follow: bool) -> io::Result<PathInfo> {
        self.counts.call();
        OsDisk.info(path, follow)
    }

    fn create_dir(&self, path: &Path, mode: u32) -> io::Result<()> {
        self.counts.call();
        OsDisk.create_dir(path, mode)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.counts.call();
        OsDisk.remove(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.counts.call();
        OsDisk.remove_dir(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.counts.call();
        OsDisk.rename(from, to)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.counts.sync();
        OsDisk.sync_dir(dir)
    }

    fn free_space(&self, path: &Path) -> io::Result<u64> {
        self.counts.call();
        OsDisk.free_space(path)
    }

    fn boot(&self) -> io::Result<[u8; 16]> {
        self.counts.call();
        OsDisk.boot()
    }

    fn random(&self) -> io::Result<[u8; 16]> {
        self.counts.call();
        OsDisk.random()
    }

    fn watch(&self, dir: &Path) -> io::Result<Option<Box<dyn RawWatch>>> {
        self.counts.call();
        OsDisk.watch(dir)
    }
}

#[derive(Debug)]
struct CountingFile {
    file: Box<dyn RawFile>,
    counts: Arc<Counts>,
}

impl RawFile for CountingFile {
    fn pread(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.counts.call();
        self.file.pread(buffer, offset)
    }

    fn pwrite(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.counts.call();
        self.file.pwrite(bytes, offset)
    }

    fn pwritev(&self, pieces: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        self.counts.call();
        self.file.pwritev(pieces, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.counts.sync();
        self.file.sync()
    }

    fn drop_cache(&self) -> io::Result<()> {
        self.counts.call();
        self.file.drop_cache()
    }

    fn size(&self) -> io::Result<u64> {
        self.counts.call();
        self.file.size()
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        self.counts.call();
        self.file.truncate(size)
    }

    fn lock(&self, wait: bool) -> io::Result<bool> {
        self.counts.call();
        self.file.lock(wait)
    }

    fn unlock(&self) -> io::Result<()> {
        self.counts.call();
        self.file.unlock()
    }

    fn lock_holder(&self) -> io::Result<Option<Option<u32>>> {
        self.counts.call();
        self.file.lock_holder()
    }

    fn opened_elsewhere(&self) -> io::Result<Option<bool>> {
        self.counts.call();
        self.file.opened_elsewhere()
    }

    fn map_read(&self, len: usize) -> io::Result<Box<dyn RawMap>> {
        self.counts.call();
        self.file.map_read(len)
    }

    fn map_rdwr(&self, len: usize) -> io::Result<Box<dyn RawMap>> {
        self.counts.call();
        self.file.map_rdwr(len)
    }
}
