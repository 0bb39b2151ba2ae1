//! Waiting for records, seeking by id and by time, and how far subscribers are behind: in both formats.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jlog::io::{Disk, Open, OsDisk, PathInfo, RawFile, RawWatch};
use jlog::{
    CreateOptions, Durability, Format, GapKind, Log, OnDamage, Start, Subscriber, Timestamp, WriterOptions,
};
use jlog_tests::{Scratch, at};

const BOTH: [Format; 2] = [Format::Checksummed, Format::Classic];

fn log_of(scratch: &Scratch, format: Format, count: u32) -> Log {
    let options = CreateOptions::new().format(format).segment_size(1500);
    let log = Log::create_with(scratch.path(), &options).unwrap();
    let writer = log.writer().unwrap();
    for n in 0..count {
        writer.append(format!("message {n:05}").as_bytes(), at(10 * n)).unwrap();
    }
    writer.close().unwrap();
    log
}

fn patience() -> Duration {
    Duration::from_secs(30)
}

#[test]
fn a_reader_that_waits_misses_no_record_of_a_writer_that_is_faster_or_slower() {
    for format in BOTH {
        let scratch = Scratch::new();
        let log = log_of(&scratch, format, 0);
        let writer = log.writer().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for n in 0..600u32 {
                    writer.append(&n.to_le_bytes(), at(n)).unwrap();
                    if n % 50 == 0 {
                        std::thread::yield_now();
                    }
                }
            });
            let mut cursor = log.cursor().unwrap();
            for n in 0..600u32 {
                assert!(cursor.wait(patience()).unwrap(), "{format}: record {n} never came");
                assert_eq!(cursor.next_record().unwrap().unwrap().payload, n.to_le_bytes());
            }
        });
    }
}

#[test]
fn a_wait_without_anybody_who_writes_ends_when_it_should() {
    for format in BOTH {
        let scratch = Scratch::new();
        let log = log_of(&scratch, format, 3);
        let mut cursor = log.cursor_after(log.last_id().unwrap());
        assert!(!cursor.wait(Duration::from_millis(30)).unwrap());
        assert!(!cursor.is_ready().unwrap());
        assert_eq!(cursor.next_record().unwrap(), None);
    }
}

#[test]
fn another_process_wakes_a_reader_within_its_wait() {
    let scratch = Scratch::new();
    let log = log_of(&scratch, Format::Checksummed, 0);
    // Another handle of the log shares nothing with this one but the files.
    let writer = Log::open(scratch.path()).unwrap().writer().unwrap();
    let woken = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut cursor = log.cursor().unwrap();
            woken.store(cursor.wait(patience()).unwrap(), Ordering::Release);
        });
        writer.append(b"wake up", at(1)).unwrap();
    });
    assert!(woken.into_inner());
}

#[test]
fn a_time_leads_to_the_first_record_that_is_not_earlier() {
    for format in BOTH {
        let scratch = Scratch::new();
        let log = log_of(&scratch, format, 500);
        assert!(log.segments().unwrap().len() > 4);
        for (time, wanted) in [(0, 0), (1, 1), (10, 1), (11, 2), (2345, 235), (4990, 499)] {
            let mut cursor = log.cursor_from(at(time)).unwrap();
            let record = cursor.next_record().unwrap().unwrap();
            assert_eq!(record.payload, format!("message {wanted:05}").as_bytes(), "{format}: {time}");
        }
        assert_eq!(log.cursor_from(at(4991)).unwrap().next_record().unwrap(), None, "{format}");
    }
}

#[test]
fn a_clock_that_steps_back_hides_no_record_from_a_search_by_time() {
    let scratch = Scratch::new();
    let log = Log::create_with(scratch.path(), &CreateOptions::new().segment_size(600)).unwrap();
    let writer = log.writer().unwrap();
    let times: Vec<u32> = (0..100).map(|n| if n % 7 == 0 { n * 3 } else { n }).collect();
    for time in &times {
        writer.append(b"x", at(*time)).unwrap();
    }
    for wanted in 0..300 {
        let first = times.iter().position(|time| *time >= wanted);
        let found = log.cursor_from(at(wanted)).unwrap().next_record().unwrap().map(|record| record.time);
        assert_eq!(found, first.map(|n| at(times[n])), "from {wanted} on");
    }
}

#[test]
fn another_segments_file_leads_no_search_by_time_past_records_and_counts_for_nothing() {
    let scratch = Scratch::new();
    let log = log_of(&scratch, Format::Checksummed, 200);
    let segments = log.segments().unwrap();
    let first = scratch.read(&segments[0].to_string());
    let subscriber = Subscriber::new("s").unwrap();
    log.add_subscriber(&subscriber, Start::Begin).unwrap();
    for place in &segments[1..] {
        let name = place.to_string();
        let was = scratch.read(&name);
        scratch.write(&name, &first);

        let mut cursor = log.cursor().unwrap();
        cursor.on_damage(OnDamage::Skip);
        let mut times = Vec::new();
        while let Some(record) = cursor.next_record().unwrap() {
            times.push(record.time);
        }
        assert!(times.len() < 200, "{name}: nothing is missing");
        for wanted in (0..2000).step_by(70).map(at) {
            let mut cursor = log.cursor_from(wanted).unwrap();
            cursor.on_damage(OnDamage::Skip);
            let found = loop {
                match cursor.next_record() {
                    Ok(Some(record)) if record.time < wanted => {}
                    Ok(record) => break record.map(|record| record.time),
                    Err(error) => assert!(cursor.skip_gap().is_some(), "{name}: {error}"),
                }
            };
            assert_eq!(
                found,
                times.iter().copied().find(|time| *time >= wanted),
                "{name}: from {wanted:?} on"
            );
        }
        let lag = log.lag(&subscriber).unwrap();
        assert!(lag.records >= times.len() as u64, "{name}: {lag:?}, {} are readable", times.len());
        scratch.write(&name, &was);
    }
}

#[test]
fn a_subscriber_may_start_at_a_time() {
    let scratch = Scratch::new();
    let log = log_of(&scratch, Format::Checksummed, 100);
    let subscriber = Subscriber::new("late").unwrap();
    log.add_subscriber(&subscriber, Start::At(at(505))).unwrap();
    let mut reader = log.reader(&subscriber).unwrap();
    assert_eq!(reader.next_record().unwrap().unwrap().payload, b"message 00051");
}

#[test]
fn lag_counts_what_was_not_read() {
    for format in BOTH {
        let scratch = Scratch::new();
        let log = log_of(&scratch, format, 200);
        let mut all = Vec::new();
        let mut cursor = log.cursor().unwrap();
        while let Some(record) = cursor.next_record().unwrap() {
            all.push(record.id);
        }
        let subscriber = Subscriber::new("s").unwrap();
        for read in [0, 1, 57, 199, 200] {
            let place = if read == 0 { Start::Begin } else { Start::After(all[read - 1]) };
            log.add_subscriber(&subscriber, place).unwrap();
            let lag = log.lag(&subscriber).unwrap();
            assert_eq!(lag.records, 200 - read as u64, "{format}");
            let first = at(10 * read.min(199) as u32).as_micros();
            let micros = at(1990).as_micros() - first;
            assert_eq!(lag.micros, micros, "{format}: {read} read");
            assert_eq!(lag.bytes > 0, read < 200, "{format}: {read} read: {lag:?}");
            log.remove_subscriber(&subscriber).unwrap();
        }
    }
}

#[test]
fn the_watermark_tells_and_calls_back() {
    for format in BOTH {
        let scratch = Scratch::new();
        let log = log_of(&scratch, format, 0);
        let options = WriterOptions::new().durability(Durability::Process).exclusive(true);
        let writer = log.writer_with(&options).unwrap();
        let id = writer.append(b"one", at(1)).unwrap();
        assert!(writer.durable_id() < id, "{format}");
        let (told, heard) = std::sync::mpsc::channel();
        writer.on_durable(id, move |outcome| told.send(outcome.unwrap()).unwrap());
        assert!(heard.try_recv().is_err(), "{format}: nobody has synced");
        writer.wait_durable(id).unwrap();
        assert_eq!(heard.recv_timeout(patience()).unwrap(), id);
        assert!(writer.durable_id() >= id, "{format}");
        let late = writer.append_as(b"two", at(2), Durability::Sync).unwrap();
        assert!(writer.durable_id() >= late, "{format}");
    }
}

#[test]
fn an_interval_syncs_by_itself() {
    let scratch = Scratch::new();
    let log = log_of(&scratch, Format::Checksummed, 0);
    let every = Durability::Interval(Duration::from_millis(5));
    let writer = log.writer_with(&WriterOptions::new().durability(every)).unwrap();
    let id = writer.append(b"soon", at(1)).unwrap();
    let (told, heard) = std::sync::mpsc::channel();
    writer.on_durable(id, move |outcome| told.send(outcome.unwrap()).unwrap());
    assert_eq!(heard.recv_timeout(patience()).unwrap(), id);
}

#[test]
fn what_is_lost_with_a_missing_segment_is_counted() {
    let scratch = Scratch::new();
    let log = log_of(&scratch, Format::Checksummed, 200);
    let segments = log.segments().unwrap();
    std::fs::remove_file(scratch.path().join(segments[1].to_string())).unwrap();
    let mut cursor = log.cursor().unwrap();
    let mut read = 0;
    let lost = loop {
        match cursor.next_record() {
            Ok(Some(_)) => read += 1,
            Ok(None) => panic!("the gap was passed over"),
            Err(error) => break error.gap_met().unwrap().clone(),
        }
    };
    assert_eq!((lost.kind, lost.segment), (GapKind::Missing, segments[1]));
    cursor.skip_gap();
    while cursor.next_record().unwrap().is_some() {
        read += 1;
    }
    assert_eq!(read + lost.lost.unwrap(), 200);
}

/// The operating system's disk. Something happens once, right behind one of the next looks at a directory or a file.
#[derive(Clone, Default)]
struct Meddler(Arc<Mutex<Option<(u32, Meddling)>>>);

type Meddling = Box<dyn FnOnce() + Send>;

impl Meddler {
    fn meddle(&self) {
        let mut planned = self.0.lock().unwrap();
        let due = match &mut *planned {
            Some((0, _)) => planned.take(),
            Some((looks, _)) => {
                *looks -= 1;
                None
            }
            None => None,
        };
        drop(planned);
        if let Some((_, meddling)) = due {
            meddling();
        }
    }
}

impl std::fmt::Debug for Meddler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Meddler")
    }
}

impl Disk for Meddler {
    fn names(&self, dir: &Path) -> io::Result<Vec<std::ffi::OsString>> {
        let names = OsDisk.names(dir);
        self.meddle();
        names
    }
    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn RawFile>> {
        let file = OsDisk.open(path, how);
        self.meddle();
        file
    }
    fn info(&self, path: &Path, follow: bool) -> io::Result<PathInfo> {
        OsDisk.info(path, follow)
    }
    fn create_dir(&self, path: &Path, mode: u32) -> io::Result<()> {
        OsDisk.create_dir(path, mode)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        OsDisk.remove(path)
    }
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        OsDisk.remove_dir(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        OsDisk.rename(from, to)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        OsDisk.sync_dir(dir)
    }
    fn free_space(&self, path: &Path) -> io::Result<u64> {
        OsDisk.free_space(path)
    }
    fn boot(&self) -> io::Result<[u8; 16]> {
        OsDisk.boot()
    }
    fn random(&self) -> io::Result<[u8; 16]> {
        OsDisk.random()
    }
    fn watch(&self, dir: &Path) -> io::Result<Option<Box<dyn RawWatch>>> {
        OsDisk.watch(dir)
    }
}

/// Another process had made it between the listing of the directory and the question how far the log is durable.
#[test]
fn a_segment_made_while_it_is_being_looked_for_is_not_missing() {
    for looks in 0.. {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        Log::create(&path).unwrap();
        let disk = Meddler::default();
        let log = Log::open_on(Arc::new(disk.clone()), &path).unwrap();
        let mut cursor = log.cursor().unwrap();
        let append = move || {
            let writer = Log::open(&path).unwrap().writer().unwrap();
            writer.append(b"first", Timestamp::new(1, 0)).unwrap();
        };
        *disk.0.lock().unwrap() = Some((looks, Box::new(append)));
        let seen = cursor.next_record().unwrap().is_some();
        if disk.0.lock().unwrap().is_some() {
            assert!(looks > 2, "the log was looked at {looks} times");
            return;
        }
        assert!(seen || cursor.next_record().unwrap().is_some(), "behind look {looks}");
    }
}
