//! Appending without a sync of each record. Every way syncs a segment when it is finished, as the log does.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jlog::io::Disk;
use jlog::{CreateOptions, Durability, Log, Timestamp, WriterOptions};

use crate::disk::BenchDisk;
use crate::{Outcome, SEGMENT, cpu_time, message};

/// The bytes that a raw control writes beside a message: what a classic record takes. A checksummed one takes 56 and what
/// fills it up to a multiple of 8, and in a batch 24; that is part of its cost.
const HEADER: usize = 16;
/// A log is thrown away and begun anew after this many bytes, so that a long bench does not fill the disk.
const MOST_BYTES: u64 = 96 << 20;
const BATCH: usize = 64 * 1024;

/// A way to append `count` messages of `size` bytes to a fresh place in `dir`; the CPU time it took.
pub type Append = fn(dir: &Path, count: u64, size: usize) -> Outcome<Duration>;

/// The ways to append: a name, what an acknowledged record survives, and the way.
pub const APPENDS: &[(&str, &str, Append)] = &[
    ("raw: one pwrite a message", "process; a sync each 4 MiB", raw_pwrite),
    ("raw: 64 KiB batches", "process; a sync each 4 MiB", raw_batches),
    ("checksummed, owner, one by one", "process", |dir, count, size| {
        one_by_one(dir, count, size, &checksummed(), &owner())
    }),
    ("checksummed, shared, one by one", "process", |dir, count, size| {
        one_by_one(dir, count, size, &checksummed(), &shared())
    }),
    ("checksummed, owner, batches of 64 KiB", "process", |dir, count, size| {
        in_batches(dir, count, size, &checksummed(), &owner())
    }),
    ("checksummed, shared, batches of 64 KiB", "process", |dir, count, size| {
        in_batches(dir, count, size, &checksummed(), &shared())
    }),
    ("classic, exclusive, one by one", "process", |dir, count, size| {
        one_by_one(dir, count, size, &CreateOptions::classic(), &owner())
    }),
    ("classic, shared, one by one", "process", |dir, count, size| {
        one_by_one(dir, count, size, &CreateOptions::classic(), &shared())
    }),
    ("classic, shared, a lock for each append", "process", |dir, count, size| {
        one_by_one(dir, count, size, &CreateOptions::classic(), &shared().linger(Duration::ZERO))
    }),
    ("classic, exclusive, batches of 64 KiB", "process", |dir, count, size| {
        in_batches(dir, count, size, &CreateOptions::classic(), &owner())
    }),
    ("classic, shared, batches of 64 KiB", "process", |dir, count, size| {
        in_batches(dir, count, size, &CreateOptions::classic(), &shared())
    }),
    ("classic, exclusive, 1 MiB pre_commit", "process", |dir, count, size| {
        one_by_one(dir, count, size, &CreateOptions::classic(), &WriterOptions::new().buffer(1 << 20))
    }),
];

/// A checksummed log that acknowledges as the classic one does: once the record is in the kernel.
fn checksummed() -> CreateOptions {
    CreateOptions::new().durability(Durability::Process)
}

fn owner() -> WriterOptions {
    WriterOptions::new().exclusive(true)
}

fn shared() -> WriterOptions {
    WriterOptions::new().exclusive(false)
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

/// Appends one by one to a log like this, through a writer of these options.
fn one_by_one(
    dir: &Path,
    count: u64,
    size: usize,
    format: &CreateOptions,
    options: &WriterOptions,
) -> Outcome<Duration> {
    let message = message(size);
    in_parts(dir, count, size, |place, count| {
        let writer = Log::create_with(place, format)?.writer_with(options)?;
        let start = cpu_time();
        for n in 0..count {
            writer.append(&message, Timestamp::new(1_700_000_000, n as u32))?;
        }
        writer.flush()?;
        Ok(cpu_time() - start)
    })
}

fn in_batches(
    dir: &Path,
    count: u64,
    size: usize,
    format: &CreateOptions,
    options: &WriterOptions,
) -> Outcome<Duration> {
    let message = message(size);
    let most = (BATCH / (size + HEADER)).max(1) as u64;
    in_parts(dir, count, size, |place, count| {
        let writer = Log::create_with(place, format)?.writer_with(options)?;
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

/// The system calls that one way of appending makes for `count` messages: all of them, and the syncs among them.
pub fn system_calls(
    dir: &Path,
    count: u64,
    size: usize,
    format: &CreateOptions,
    options: &WriterOptions,
) -> Outcome<(u64, u64)> {
    let disk = Arc::new(BenchDisk::default());
    let place = tempfile::tempdir_in(dir)?;
    let log = Log::create_on(Arc::clone(&disk) as Arc<dyn Disk>, place.path().join("log"), format)?;
    let writer = log.writer_with(options)?;
    let message = message(size);
    let before = disk.counts();
    for n in 0..count {
        writer.append(&message, Timestamp::new(1_700_000_000, n as u32))?;
    }
    let after = disk.counts();
    Ok((after.0 - before.0, after.1 - before.1))
}
