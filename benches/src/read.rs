//! Reading. The page cache is warm; every byte of every message is touched.

use std::fs::File;
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use jlog::{CreateOptions, Durability, Log, RecordId, Start, Subscriber, Timestamp, WriterOptions};

use crate::{Outcome, cpu_time, message};

/// A way to read a log of `count` messages of `size` bytes once; the CPU time it took.
pub type Read = fn(log: &Path, count: u64) -> Outcome<Duration>;

/// The ways to read a classic log.
pub const CLASSIC_READS: &[(&str, Read)] = &[
    ("raw: preads of 256 KiB", raw_read),
    ("reader, record by record", read_records),
    ("reader, an interval at a time", read_intervals),
    ("reader, all in one bulk", read_bulk),
    ("reader, one id at a time", read_by_id),
    ("inspect", read_inspect),
];

/// The ways to read a checksummed log: the same, and what verifying costs whoever does nothing else.
pub const CHECKED_READS: &[(&str, Read)] = &[
    ("raw: preads of 256 KiB", raw_read),
    ("raw: the same, and a CRC-32 of each message's bytes", raw_read_verified),
    ("reader, record by record", read_records),
    ("reader, an interval at a time", read_intervals),
    ("reader, all in one bulk", read_bulk),
    ("reader, one id at a time", read_by_id),
    ("inspect", read_inspect),
];

/// What a log to read looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    Classic,
    /// Each record was appended by itself, and is a commit.
    Single,
    /// Appended in batches of 64 KiB.
    Batches,
}

/// Makes the log that the reading benches read, with one subscriber at its beginning.
pub fn log_to_read(path: &Path, count: u64, size: usize, shape: Shape) -> Outcome<()> {
    let (format, batch) = match shape {
        Shape::Classic => (CreateOptions::classic(), 1 << 20),
        Shape::Single => (CreateOptions::new(), 1),
        Shape::Batches => (CreateOptions::new(), 64 << 10),
    };
    let log = Log::create_with(path, &format)?;
    log.add_subscriber(&Subscriber::new("bench")?, Start::Begin)?;
    let writer = log.writer_with(&WriterOptions::new().exclusive(true).durability(Durability::Process))?;
    let message = message(size);
    let most = (batch / size as u64).max(1);
    let mut done = 0;
    while done < count {
        let now = most.min(count - done);
        writer.append_batch((0..now).map(|n| (&message[..], Timestamp::new(1_700_000_000, n as u32))))?;
        done += now;
    }
    Ok(writer.close()?)
}

/// Touches every byte, eight at a time: what a consumer does at the least.
pub fn sum(bytes: &[u8]) -> u64 {
    let words = bytes.chunks_exact(8);
    let rest = words.remainder().iter().map(|b| u64::from(*b)).sum::<u64>();
    words.filter_map(|word| word.try_into().ok()).map(u64::from_ne_bytes).fold(rest, u64::wrapping_add)
}

fn raw_read(log: &Path, _: u64) -> Outcome<Duration> {
    each_block(log, |block| {
        black_box(sum(block));
    })
}

fn raw_read_verified(log: &Path, count: u64) -> Outcome<Duration> {
    let bytes: u64 = segment_sizes(log)?.iter().sum();
    let message = usize::try_from(bytes / count)?.max(1);
    each_block(log, |block| {
        black_box(sum(block));
        for message in block.chunks(message) {
            black_box(crc32fast::hash(message));
        }
    })
}

fn segment_sizes(log: &Path) -> Outcome<Vec<u64>> {
    Log::open(log)?.segments()?.iter().map(|id| Ok(log.join(id.to_string()).metadata()?.len())).collect()
}

fn each_block(log: &Path, mut take: impl FnMut(&[u8])) -> Outcome<Duration> {
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
            take(&block[..got]);
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

fn read_intervals(log: &Path, count: u64) -> Outcome<Duration> {
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

fn read_bulk(log: &Path, count: u64) -> Outcome<Duration> {
    let log = Log::open(log)?;
    let start = cpu_time();
    let mut reader = log.reader(&Subscriber::new("bench")?)?;
    let read = reader.read_bulk(RecordId::new(0, 1), RecordId::new(u32::MAX, u32::MAX), |record| {
        black_box(sum(record.payload));
        Ok(())
    })?;
    let spent = cpu_time() - start;
    require(u64::from(read) == count)?;
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
