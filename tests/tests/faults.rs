//! A disk that fails, at every operation in turn: what was acknowledged is there, nothing is there that was refused,
//! and the log goes on when the disk does.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jlog::io::sim::{Op, SimDisk, Times};
use jlog::io::{Disk, File, Open};
use jlog::{
    Compression, CreateOptions, Durability, ErrorKind, Log, OnDamage, RecordId, Result, Safety, Start,
    Subscriber, Writer, WriterOptions,
};
use jlog_tests::{SIM_LOG, Seen, at, get, open_sim, read_all, sim_files};
use nix::libc::{EACCES, EDQUOT, EIO, ENOSPC};

const COUNT: u32 = 24;

fn message(n: u32) -> Vec<u8> {
    let mut message = format!("{n}:").into_bytes();
    message.resize(message.len() + n as usize * 37 % 150, n as u8);
    message
}

fn number(payload: &[u8]) -> u32 {
    let (digits, _) = payload.split_at(payload.iter().position(|byte| *byte == b':').unwrap());
    let n = std::str::from_utf8(digits).unwrap().parse().unwrap();
    assert!(payload == message(n), "a message that nobody wrote");
    n
}

fn create(disk: &SimDisk, safety: Safety) -> Result<Log> {
    let options = CreateOptions::classic().segment_size(400).safety(safety);
    Log::create_on(Arc::new(disk.clone()), SIM_LOG, &options)
}

/// What became of a run that met faults.
#[derive(Default)]
struct Run {
    acknowledged: Vec<(RecordId, u32)>,
    /// Messages whose append failed and may yet be in the log: the writer was at its end.
    unsure: BTreeSet<u32>,
    errors: Vec<ErrorKind>,
    /// Whether the disk fails once only, so that what has failed can be cleared away.
    fails_once: bool,
}

impl Run {
    /// Tries until it succeeds; whatever was wrong with the disk is over after the first error.
    fn until_done<T>(&mut self, disk: &SimDisk, mut what: impl FnMut() -> Result<T>) -> T {
        for _ in 0..3 {
            match what() {
                Ok(done) => return done,
                Err(error) => {
                    self.errors.push(error.kind());
                    disk.heal();
                }
            }
        }
        panic!("it does not go on: {:?}", self.errors)
    }

    fn write(&mut self, disk: &SimDisk, options: &WriterOptions) {
        let log = self.create(disk);
        let mut writer = self.until_done(disk, || log.writer_with(options));
        for n in 0..COUNT {
            self.append(disk, &log, &mut writer, options, n);
        }
        for _ in 0..3 {
            match writer.sync() {
                Ok(()) => return,
                Err(error) => self.errors.push(error.kind()),
            }
            disk.heal();
            if writer.sync().is_err() {
                drop(writer);
                writer = self.until_done(disk, || log.writer_with(options));
            }
        }
    }

    fn create(&mut self, disk: &SimDisk) -> Log {
        let fails_once = self.fails_once;
        self.until_done(disk, || {
            let made = create(disk, Safety::AlmostSafe);
            if made.is_ok() {
                return made;
            }
            disk.heal();
            // What is half made is removed, unless the disk refuses that too.
            if disk.names(Path::new(SIM_LOG)).is_ok() {
                assert!(!fails_once, "a log that was not made is in the way");
                for left in disk.names(Path::new(SIM_LOG)).unwrap() {
                    disk.remove(&Path::new(SIM_LOG).join(left)).unwrap();
                }
                disk.remove_dir(Path::new(SIM_LOG)).unwrap();
            }
            made
        })
    }

    fn append(&mut self, disk: &SimDisk, log: &Log, writer: &mut Writer, options: &WriterOptions, n: u32) {
        for _ in 0..4 {
            let error = match writer.append(&message(n), at(n)) {
                Ok(id) => return self.acknowledged.push((id, n)),
                Err(error) => error,
            };
            disk.heal();
            self.errors.push(error.kind());
            if error.kind() == ErrorKind::Poisoned {
                self.unsure.insert(n);
                // An exclusive writer keeps the next one out for as long as it is open.
                *writer = {
                    let placeholder = SimDisk::new(0);
                    let other = create(&placeholder, Safety::Unsafe).unwrap().writer().unwrap();
                    drop(std::mem::replace(writer, other));
                    self.until_done(disk, || log.writer_with(options))
                };
            }
        }
        panic!("appending does not go on: {:?}", self.errors)
    }

    /// The log holds every acknowledged record under its id, nothing twice, and nothing else.
    fn check(&self, records: &[Seen]) {
        let there: Vec<_> = records.iter().map(|record| (record.id, number(&record.payload))).collect();
        for acknowledged in &self.acknowledged {
            assert!(there.contains(acknowledged), "{acknowledged:?} was acknowledged: {there:?}");
        }
        assert!(there.is_sorted_by_key(|(_, n)| *n), "{there:?}");
        for n in 0..COUNT {
            let times = there.iter().filter(|(_, m)| *m == n).count();
            assert!(
                times == 1 || (times == 2 && self.unsure.contains(&n)),
                "{n} is there {times} times: {there:?}"
            );
        }
    }
}

/// Of those that share, one takes the lock for each append, and one keeps it: nothing hangs on how fast they are.
fn workloads() -> [WriterOptions; 6] {
    let options = WriterOptions::new;
    [
        options().linger(Duration::ZERO),
        options().linger(Duration::from_secs(3600)),
        options().durability(Durability::Sync),
        options().exclusive(true),
        options().buffer(300),
        options().buffer(300).exclusive(false),
    ]
}

/// Runs a workload once for each operation it makes, and lets that operation fail.
fn at_every_operation(errno: i32, times: Times, mut check: impl FnMut(u64, &SimDisk, &Run)) {
    for options in workloads() {
        let disk = SimDisk::new(1);
        Run::default().write(&disk, &options);
        for (n, calm) in (0..).zip(disk.trace()) {
            // A store into a mapping does not fail: only the death of the process prevents it.
            if calm.op == Op::MapWrite {
                continue;
            }
            let disk = SimDisk::new(1);
            disk.fail_at(n, errno, times);
            let mut run = Run { fails_once: times == Times::Once, ..Run::default() };
            run.write(&disk, &options);
            disk.heal();
            check(n, &disk, &run);
        }
    }
}

#[test]
fn a_full_disk_at_any_operation_loses_no_acknowledged_record_and_writing_goes_on() {
    for (errno, times) in [(ENOSPC, Times::Once), (ENOSPC, Times::Sticky), (EDQUOT, Times::Once)] {
        at_every_operation(errno, times, |n, disk, run| {
            // A sync that finds no space has failed like any other: trying again would not tell what is on the disk.
            let a_sync = disk.trace()[n as usize].op == Op::Sync || times == Times::Sticky;
            let as_it_should = |kind: &ErrorKind| match kind {
                ErrorKind::NoSpace | ErrorKind::Poisoned => true,
                kind => a_sync && *kind == ErrorKind::Io,
            };
            assert!(run.errors.iter().all(as_it_should), "operation {n}: {:?}", run.errors);
            let seen = read_all(&open_sim(disk));
            assert_eq!(seen.gaps, [], "operation {n}");
            run.check(&seen.records);
        });
    }
}

#[test]
fn a_broken_disk_at_any_operation_loses_no_acknowledged_record_and_writing_goes_on() {
    for times in [Times::Once, Times::Sticky] {
        at_every_operation(EIO, times, |n, disk, run| {
            let only = [ErrorKind::Io, ErrorKind::Poisoned];
            assert!(run.errors.iter().all(|kind| only.contains(kind)), "operation {n}: {:?}", run.errors);
            let seen = read_all(&open_sim(disk));
            assert_eq!(seen.gaps, [], "operation {n}");
            run.check(&seen.records);
        });
    }
}

#[test]
fn a_process_that_dies_at_any_operation_leaves_all_that_it_has_acknowledged() {
    for options in workloads() {
        let calm = SimDisk::new(1);
        Run::default().write(&calm, &options);
        for n in 0..calm.operations() {
            let disk = SimDisk::new(1);
            disk.fail_at(n, EIO, Times::Sticky);
            let Ok(log) = create(&disk, Safety::AlmostSafe) else { continue };
            let mut acknowledged = BTreeSet::new();
            if let Ok(writer) = log.writer_with(&options) {
                let appended = |m: &u32| writer.append(&message(*m), at(*m)).is_ok();
                acknowledged.extend((0..COUNT).take_while(appended));
            }
            disk.heal();

            let log = open_sim(&disk);
            log.writer_with(&options).unwrap().close().unwrap();
            let seen = read_all(&log);
            assert_eq!((seen.gaps.len(), seen.tail), (0, jlog::Tail::Clean), "operation {n}");
            let there: Vec<_> = seen.records.iter().map(|record| number(&record.payload)).collect();
            let once: BTreeSet<_> = there.iter().copied().collect();
            assert!(
                acknowledged.is_subset(&once),
                "operation {n}: {acknowledged:?} were acknowledged: {there:?}"
            );
            // One more may be there, which was not acknowledged yet. Between the flush of a buffer and its clearing a
            // death leaves the records in both places.
            assert!(once.len() <= acknowledged.len() + 1, "operation {n}: {there:?}");
            let died_at = &calm.trace()[n as usize];
            let twice = there.len() > once.len();
            assert!(!twice || died_at.op == Op::MapWrite, "operation {n}: {died_at:?}, {there:?}");
        }
    }
}

/// Behind what is gathered stand the records from before the last flush, whole.
#[test]
fn a_process_that_dies_while_it_gathers_delivers_nothing_a_second_time() {
    let options = WriterOptions::new().buffer(300);
    let mut points = 0;
    loop {
        let disk = SimDisk::new(1);
        let log = create(&disk, Safety::AlmostSafe).unwrap();
        let writer = log.writer_with(&options).unwrap();
        let append = |n: u32| writer.append(&n.to_le_bytes(), at(n));
        for n in 0..3 {
            append(n).unwrap();
        }
        writer.flush().unwrap();
        disk.fail_at(disk.operations() + points, EIO, Times::Sticky);
        let done = append(3).is_ok();
        drop(writer);
        disk.heal();

        let log = open_sim(&disk);
        log.writer_with(&options).unwrap().close().unwrap();
        let there: Vec<_> = read_all(&log).records.iter().map(|record| record.payload.clone()).collect();
        let all: Vec<_> = (0..4u32).map(|n| n.to_le_bytes().to_vec()).collect();
        // What was not acknowledged yet may be there.
        assert!(there == all || !done && there == all[..3], "operation {points} of the append: {there:?}");
        if done {
            break;
        }
        points += 1;
    }
    assert!(points > 1, "{points}");
}

#[test]
fn short_transfers_and_interruptions_change_nothing_but_the_time_it_takes() {
    for options in workloads() {
        let calm = SimDisk::new(1);
        Run::default().write(&calm, &options);
        for storm in [None, Some(2), Some(3), Some(7)] {
            for seed in 0..4 {
                let disk = SimDisk::new(seed);
                disk.short_transfers(true);
                disk.interrupt_every(storm);
                let mut run = Run::default();
                run.write(&disk, &options);
                assert_eq!(run.errors, [], "seed {seed}, storm {storm:?}");
                run.check(&read_all(&open_sim(&disk)).records);
                disk.heal();
                assert!(sim_files(&disk) == sim_files(&calm), "seed {seed}, storm {storm:?}");
            }
        }
    }
}

#[test]
fn a_disk_that_fills_up_refuses_whole_records_and_takes_them_when_there_is_space() {
    for options in workloads() {
        for capacity in (100..2400).step_by(13) {
            let disk = SimDisk::new(capacity);
            let log = create(&disk, Safety::AlmostSafe).unwrap();
            disk.limit(Some(capacity));
            let mut run = Run::default();
            let Ok(writer) = log.writer_with(&options) else { continue };
            let mut refused = Vec::new();
            for n in 0..COUNT {
                match writer.append(&message(n), at(n)) {
                    Ok(id) => run.acknowledged.push((id, n)),
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
                        refused.push(n);
                    }
                }
            }
            let seen = read_all(&log);
            assert_eq!(
                (seen.gaps.len(), seen.tail),
                (0, jlog::Tail::Clean),
                "capacity {capacity}: nothing is half there"
            );
            disk.limit(None);
            for n in refused {
                let id = writer.append(&message(n), at(n)).unwrap();
                run.acknowledged.push((id, n));
            }
            writer.close().unwrap();
            let mut records = read_all(&log).records;
            records.sort_by_key(|record| number(&record.payload));
            run.check(&records);
        }
    }
}

#[test]
fn on_a_full_disk_subscribers_go_on_and_make_the_space_that_writing_needs() {
    let disk = SimDisk::new(1);
    let log = create(&disk, Safety::AlmostSafe).unwrap();
    let s = Subscriber::new("s").unwrap();
    log.add_subscriber(&s, Start::Begin).unwrap();
    let writer = log.writer().unwrap();
    disk.limit(Some(2000));
    let refused = (0..).find(|n| writer.append(&[0; 100], at(*n)).is_err()).unwrap();

    let mut reader = log.reader(&s).unwrap();
    for n in 0..refused {
        assert_eq!(reader.next_record().unwrap().unwrap().time, at(n));
    }
    assert!(reader.next_record().unwrap().is_none());
    assert!(!reader.commit().unwrap().is_empty());
    writer.append(&[0; 100], at(refused)).unwrap();
    assert_eq!(reader.next_record().unwrap().unwrap().time, at(refused));
}

#[test]
fn after_a_failed_sync_the_writer_writes_nothing_more() {
    for options in workloads() {
        let disk = SimDisk::new(1);
        let log = create(&disk, Safety::AlmostSafe).unwrap();
        let writer = log.writer_with(&options).unwrap();
        writer.append(b"0:", at(0)).unwrap();
        disk.fail_next(Op::Sync, EIO, Times::Once);
        disk.fail_next(Op::MapSync, EIO, Times::Once);
        assert_eq!(writer.sync().unwrap_err().kind(), ErrorKind::Io);
        disk.heal();

        let before = disk.operations();
        assert_eq!(writer.append(b"1:", at(1)).unwrap_err().kind(), ErrorKind::Poisoned);
        assert_eq!(writer.append_batch([(&b"1:"[..], at(1))]).unwrap_err().kind(), ErrorKind::Poisoned);
        assert_eq!(writer.sync().unwrap_err().kind(), ErrorKind::Poisoned);
        assert_eq!(writer.flush().unwrap_err().kind(), ErrorKind::Poisoned);
        drop(writer);
        let wrote = disk.trace().split_off(before as usize);
        let wrote: Vec<_> = wrote.iter().filter(|t| !matches!(t.op, Op::Unlock)).collect();
        assert!(wrote.is_empty(), "{wrote:?}");
        log.writer_with(&options).unwrap().append(b"1:", at(1)).unwrap();
    }
}

#[test]
fn writes_that_write_nothing_are_an_error_and_not_a_loop() {
    let disk = SimDisk::new(1);
    let log = create(&disk, Safety::AlmostSafe).unwrap();
    let writer = log.writer().unwrap();
    writer.append(b"0:", at(0)).unwrap();
    disk.empty_writes(true);
    assert_eq!(writer.append(b"1:", at(1)).unwrap_err().kind(), ErrorKind::Io);
    disk.heal();
    assert_eq!(log.writer().unwrap().append(b"1:", at(1)).unwrap(), RecordId::new(0, 2));
}

#[test]
fn whoever_may_not_is_told_so_and_nothing_is_changed() {
    let disk = SimDisk::new(1);
    let log = create(&disk, Safety::AlmostSafe).unwrap();
    log.writer().unwrap().append(b"0:", at(0)).unwrap();
    let before = sim_files(&disk);
    disk.fail_next(Op::Open, EACCES, Times::Sticky);
    assert_eq!(log.writer().unwrap_err().kind(), ErrorKind::Permission);
    assert_eq!(Log::open_on(Arc::new(disk.clone()), SIM_LOG).unwrap_err().kind(), ErrorKind::Permission);
    let s = Subscriber::new("s").unwrap();
    assert_eq!(log.add_subscriber(&s, Start::Begin).unwrap_err().kind(), ErrorKind::Permission);
    disk.heal();
    assert!(sim_files(&disk) == before);
}

// Power cuts.

/// Every state in which a power cut may leave the disk: the worst, and some of the rest.
fn cuts(disk: &SimDisk) -> Vec<(u64, SimDisk)> {
    let torn = (1..=6).map(|seed| (seed, disk.torn_power_cut(seed)));
    std::iter::once((0, disk.power_cut())).chain(torn).collect()
}

/// After a power cut: all that was acknowledged as durable is there under its id, and appending goes on behind it.
fn assert_durable(disk: &SimDisk, durable: &[(RecordId, u32)], what: &str) {
    let log = open_sim(disk);
    for when in ["", ", after a writer was there"] {
        let there: Vec<_> = read_all(&log).records.iter().map(|r| (r.id, r.payload.clone())).collect();
        for (id, n) in durable {
            assert!(there.contains(&(*id, message(*n))), "{what}{when}: {n} at {id} was durable");
        }
        let writer = log.writer().unwrap();
        let id = writer.append(&message(COUNT), at(COUNT)).unwrap();
        let last = read_all(&log).records.pop().unwrap();
        assert_eq!((last.id, last.payload), (id, message(COUNT)), "{what}{when}");
    }
}

#[test]
fn a_record_acknowledged_as_synced_survives_any_power_cut() {
    for safety in [Safety::Unsafe, Safety::AlmostSafe, Safety::Safe] {
        let disk = SimDisk::new(1);
        let log = create(&disk, safety).unwrap();
        let writer = log.writer_with(&WriterOptions::new().durability(Durability::Sync)).unwrap();
        let mut durable = Vec::new();
        for n in 0..COUNT {
            durable.push((writer.append(&message(n), at(n)).unwrap(), n));
            for (seed, cut) in cuts(&disk) {
                assert_durable(&cut, &durable, &format!("{safety}, seed {seed}, {n} records"));
            }
        }
    }
}

#[test]
fn at_level_safe_every_append_is_synced_without_being_asked_for() {
    let disk = SimDisk::new(1);
    let log = create(&disk, Safety::Safe).unwrap();
    let writer = log.writer().unwrap();
    assert_eq!(writer.durability(), Durability::Sync);
    let durable = [(writer.append(&message(0), at(0)).unwrap(), 0)];
    assert_durable(&disk.power_cut(), &durable, "safe");
}

#[test]
fn sync_makes_durable_what_was_appended_before_it_also_from_the_buffer() {
    for options in workloads() {
        let disk = SimDisk::new(1);
        let writer = create(&disk, Safety::AlmostSafe).unwrap().writer_with(&options).unwrap();
        let mut durable = Vec::new();
        for n in 0..COUNT {
            durable.push((writer.append(&message(n), at(n)).unwrap(), n));
            if n % 5 == 2 {
                writer.sync().unwrap();
                for (seed, cut) in cuts(&disk) {
                    assert_durable(&cut, &durable, &format!("seed {seed}, {n} records"));
                }
            }
        }
    }
}

#[test]
fn a_power_cut_at_any_operation_leaves_all_that_was_synced_and_a_log_that_can_be_written() {
    let options = WriterOptions::new().durability(Durability::Sync);
    let whole = SimDisk::new(1);
    Run::default().write(&whole, &options);
    for n in 0..whole.operations() {
        let disk = SimDisk::new(1);
        disk.fail_at(n, EIO, Times::Sticky);
        let Ok(log) = create(&disk, Safety::AlmostSafe) else { continue };
        let mut durable = Vec::new();
        if let Ok(writer) = log.writer_with(&options) {
            for m in 0..COUNT {
                let Ok(id) = writer.append(&message(m), at(m)) else { break };
                durable.push((id, m));
            }
        }
        for (seed, cut) in cuts(&disk) {
            assert_durable(&cut, &durable, &format!("cut at operation {n}, seed {seed}"));
        }
    }
}

#[test]
fn a_new_log_and_a_new_subscriber_are_durable_when_they_are_there() {
    let disk = SimDisk::new(1);
    create(&disk, Safety::Unsafe).unwrap();
    let log = open_sim(&disk.power_cut());
    assert_eq!(log.metastore().unwrap().unit_limit, 400);

    let s = Subscriber::new("s").unwrap();
    open_sim(&disk).add_subscriber(&s, Start::Begin).unwrap();
    assert_eq!(open_sim(&disk.power_cut()).checkpoint(&s).unwrap(), RecordId::new(0, 0));
    assert!(open_sim(&disk).remove_subscriber(&s).unwrap());
    assert_eq!(open_sim(&disk.power_cut()).subscribers().unwrap(), []);
}

/// A log of [`COUNT`] records, all of them durable, with two subscribers at its beginning.
fn with_subscribers(safety: Safety) -> (SimDisk, Log, [Subscriber; 2]) {
    let disk = SimDisk::new(1);
    let log = create(&disk, safety).unwrap();
    let both = ["fast", "slow"].map(|name| Subscriber::new(name).unwrap());
    both.iter().for_each(|subscriber| log.add_subscriber(subscriber, Start::Begin).unwrap());
    let writer = log.writer().unwrap();
    for n in 0..COUNT {
        writer.append(&message(n), at(n)).unwrap();
    }
    writer.close().unwrap();
    (disk, log, both)
}

/// Reads all there is in steps of five with a commit after each, and returns what came and what was committed.
fn read_and_commit(log: &Log, subscriber: &Subscriber, run: &mut Run, disk: &SimDisk) -> Vec<u32> {
    let mut reader = run.until_done(disk, || log.reader(subscriber));
    let mut seen = Vec::new();
    loop {
        let mut next = None;
        for _ in 0..3 {
            match reader.next_record() {
                Ok(record) => {
                    next = Some(record.map(|record| number(record.payload)));
                    break;
                }
                Err(error) => {
                    assert!(error.gap_met().is_none(), "a failed read is no gap: {error}");
                    run.errors.push(error.kind());
                    disk.heal();
                }
            }
        }
        match next.unwrap() {
            Some(n) => seen.push(n),
            None => break,
        }
        if seen.len() % 5 == 0 {
            run.until_done(disk, || reader.commit());
        }
    }
    run.until_done(disk, || reader.commit());
    seen
}

#[test]
fn a_reader_that_meets_a_failing_disk_misses_nothing_and_repeats_nothing() {
    let (disk, log, [fast, slow]) = with_subscribers(Safety::Safe);
    let start = disk.operations();
    let mut calm = Run::default();
    read_and_commit(&log, &fast, &mut calm, &disk);
    read_and_commit(&log, &slow, &mut calm, &disk);
    let operations = disk.operations() - start;

    for (errno, times) in [(EIO, Times::Once), (EIO, Times::Sticky), (ENOSPC, Times::Once)] {
        for n in 0..operations {
            let (disk, log, both) = with_subscribers(Safety::Safe);
            disk.fail_at(disk.operations() + n, errno, times);
            for subscriber in &both {
                let mut run = Run::default();
                let seen = read_and_commit(&log, subscriber, &mut run, &disk);
                assert!(seen.iter().copied().eq(0..COUNT), "operation {n}: {seen:?}");
            }
            disk.heal();
            let last = log.last_id().unwrap();
            for subscriber in &both {
                assert_eq!(log.checkpoint(subscriber).unwrap(), last, "operation {n}");
            }
            log.clean().unwrap();
            assert_eq!(log.segments().unwrap(), [log.active_segment().unwrap()], "operation {n}");
        }
    }
}

#[test]
fn a_power_cut_at_any_operation_of_a_subscriber_leaves_all_that_it_has_not_committed() {
    for safety in [Safety::Unsafe, Safety::AlmostSafe, Safety::Safe] {
        let (disk, log, [fast, slow]) = with_subscribers(safety);
        let places: Vec<_> = read_all(&log).records.iter().map(|record| record.id).collect();
        let start = disk.operations();
        let mut calm = Run::default();
        read_and_commit(&log, &fast, &mut calm, &disk);
        read_and_commit(&log, &slow, &mut calm, &disk);
        for n in 0..disk.operations() - start {
            let (disk, log, both) = with_subscribers(safety);
            disk.fail_at(disk.operations() + n, EIO, Times::Sticky);
            let mut committed = [None, None];
            for (subscriber, committed) in both.iter().zip(&mut committed) {
                let Ok(mut reader) = log.reader(subscriber) else { continue };
                let mut count = 0;
                while let Ok(Some(record)) = reader.next_record() {
                    let id = record.id;
                    count += 1;
                    if count % 5 == 0 && reader.commit().is_ok() {
                        *committed = Some(id);
                    }
                }
            }
            for (seed, cut) in cuts(&disk) {
                let what = format!("{safety}, cut at operation {n}, seed {seed}");
                let log = open_sim(&cut);
                for (subscriber, committed) in both.iter().zip(committed) {
                    let checkpoint = log.checkpoint(subscriber).unwrap();
                    if safety == Safety::Safe {
                        assert!(committed.is_none_or(|committed| committed <= checkpoint), "{what}");
                    }
                    let mut reader = log.reader(subscriber).unwrap();
                    reader.on_damage(OnDamage::Stop);
                    let mut rest = Vec::new();
                    while let Some(record) =
                        reader.next_record().unwrap_or_else(|error| panic!("{what}: {error}"))
                    {
                        rest.push(number(record.payload));
                    }
                    let first = rest.first().copied().unwrap_or(COUNT);
                    assert!(rest.iter().copied().eq(first..COUNT), "{what}: {rest:?}");
                    let done = places.iter().filter(|place| **place <= checkpoint).count() as u32;
                    assert_eq!(first, done, "{what}: {subscriber} at {checkpoint}");
                }
            }
        }
    }
}

#[test]
fn a_torn_end_is_durable_in_its_keeping_place_before_it_is_cut() {
    let disk = SimDisk::new(1);
    let log = create(&disk, Safety::AlmostSafe).unwrap();
    let writer = log.writer().unwrap();
    writer.append(&message(0), at(0)).unwrap();
    writer.close().unwrap();
    let whole = get(&disk, "00000000").unwrap();
    let torn = [&whole[..], b"\x18\x73\x3a\x66 torn"].concat();
    jlog_tests::put(&disk, "00000000", &torn);

    let before = disk.operations();
    log.writer().unwrap();
    let operations = disk.operations() - before;
    for n in 0..=operations {
        let disk = SimDisk::new(1);
        let log = create(&disk, Safety::AlmostSafe).unwrap();
        jlog_tests::put(&disk, "00000000", &torn);
        disk.fail_at(disk.operations() + n, EIO, Times::Sticky);
        let _ = log.writer();
        for (seed, cut) in cuts(&disk) {
            let left = get(&cut, "00000000").unwrap();
            let kept = match cut.names(&Path::new(SIM_LOG).join(".repair/torn")) {
                Ok(names) => names.into_iter().map(|name| name.into_string().unwrap()).collect(),
                Err(_) => Vec::new(),
            };
            let kept = kept
                .iter()
                .any(|name| get(&cut, &format!(".repair/torn/{name}")).unwrap() == torn[whole.len()..]);
            assert!(left.starts_with(&whole), "operation {n}, seed {seed}");
            assert!(left == torn || kept, "operation {n}, seed {seed}: torn bytes are gone");
        }
    }
}

/// Records that a reader's block does not hold: each takes a read of its own.
fn long_records(compression: Compression) -> (SimDisk, Log, Subscriber) {
    let disk = SimDisk::new(1);
    let options = CreateOptions::classic().segment_size(2_000_000).compression(compression);
    let log = Log::create_on(Arc::new(disk.clone()), SIM_LOG, &options).unwrap();
    let s = Subscriber::new("s").unwrap();
    log.add_subscriber(&s, Start::Begin).unwrap();
    let writer = log.writer().unwrap();
    for n in 0..8 {
        let mut dice = n;
        let noise = |_| {
            dice = u32::wrapping_add(u32::wrapping_mul(dice, 1_664_525), 1_013_904_223);
            (dice >> 24) as u8
        };
        writer.append(&(0..300_000).map(noise).collect::<Vec<_>>(), at(n)).unwrap();
    }
    writer.close().unwrap();
    (disk, log, s)
}

#[test]
fn a_record_that_could_not_be_read_is_the_next_one_still() {
    for compression in [Compression::None, Compression::Lz4] {
        let (disk, log, s) = long_records(compression);
        let whole = read_all(&log).records;
        let before = disk.operations();
        let mut reader = log.reader(&s).unwrap();
        while reader.next_record().unwrap().is_some() {}
        for n in 0..disk.operations() - before {
            let mut reader = log.reader(&s).unwrap();
            reader.on_damage(OnDamage::Skip);
            disk.fail_at(disk.operations() + n, EIO, Times::Once);
            let mut seen = Vec::new();
            loop {
                match reader.next_record() {
                    Ok(Some(record)) => seen.push(Seen::from(record)),
                    Ok(None) => break,
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Io, "operation {n}"),
                }
            }
            disk.heal();
            assert!(seen == whole, "{compression}, operation {n}: {} records", seen.len());
            assert_eq!(reader.gaps(), 0);
        }
    }
}

#[test]
fn a_record_that_could_not_be_read_by_its_id_can_be_read_later() {
    let (disk, log, s) = long_records(Compression::None);
    let whole = read_all(&log).records;
    let mut failed = 0;
    for n in 0..40 {
        let mut reader = log.reader(&s).unwrap();
        disk.fail_at(disk.operations() + n, EIO, Times::Once);
        for record in &whole {
            let first = reader.read(record.id).map(Seen::from);
            let outcome = first.or_else(|error| {
                assert_eq!(error.kind(), ErrorKind::Io, "operation {n}");
                failed += 1;
                reader.read(record.id).map(Seen::from)
            });
            assert!(outcome.unwrap() == *record, "operation {n}");
        }
        disk.heal();
    }
    assert!(failed > 20, "the reads that failed: {failed}");
}

#[test]
fn a_synced_record_is_durable_in_a_segment_that_another_process_has_begun() {
    // libjlog makes the next segment and moves the metastore on without a sync of anything.
    for begun_while_open in [true, false] {
        let disk = SimDisk::new(1);
        let log = create(&disk, Safety::AlmostSafe).unwrap();
        let sync = WriterOptions::new().durability(Durability::Sync);
        let first = log.writer_with(&sync).unwrap();
        let mut durable = vec![(first.append(&message(0), at(0)).unwrap(), 0)];

        let path = |name: &str| Path::new(SIM_LOG).join(name);
        File::open(&disk, &path("00000001"), Open::Create(0o640)).unwrap();
        let metastore = File::open(&disk, &path("metastore"), Open::ReadWrite).unwrap();
        metastore.pwrite(&1_u32.to_ne_bytes(), 0).unwrap();

        let writer = if begun_while_open { first } else { log.writer_with(&sync).unwrap() };
        for n in 1..3 {
            durable.push((writer.append(&message(n), at(n)).unwrap(), n));
            assert_eq!(durable[n as usize].0, RecordId::new(1, n));
            for (seed, cut) in cuts(&disk) {
                assert_durable(&cut, &durable, &format!("seed {seed}, {n} records"));
            }
        }
    }
}

#[test]
fn a_record_gathered_and_acknowledged_as_synced_survives_a_power_cut_at_any_operation() {
    let options = WriterOptions::new().buffer(256).durability(Durability::Sync);
    let calm = SimDisk::new(1);
    let writer = create(&calm, Safety::AlmostSafe).unwrap().writer_with(&options).unwrap();
    for n in 0..COUNT {
        writer.append(&message(n), at(n)).unwrap();
    }
    let most = calm.operations();
    drop(writer);

    for n in 0..most {
        let disk = SimDisk::new(1);
        let Ok(log) = create(&disk, Safety::AlmostSafe) else { unreachable!() };
        let Ok(writer) = log.writer_with(&options) else { unreachable!() };
        // From here on the process is cut off from the disk at the n-th operation.
        disk.fail_at(n, EIO, Times::Sticky);
        let mut durable = Vec::new();
        for n in 0..COUNT {
            let Ok(id) = writer.append(&message(n), at(n)) else { break };
            durable.push((id, n));
        }
        std::mem::forget(writer);
        for (seed, cut) in cuts(&disk) {
            let log = open_sim(&cut);
            // The next writer moves what is in the buffer, and then the power fails again.
            drop(log.writer().unwrap());
            for (again, cut) in cuts(&cut) {
                let log = open_sim(&cut);
                drop(log.writer().unwrap());
                let there: Vec<_> = read_all(&log).records.iter().map(|r| r.payload.clone()).collect();
                for (_, record) in &durable {
                    assert!(
                        there.contains(&message(*record)),
                        "cut at {n}, seeds {seed} and {again}: {record} is gone"
                    );
                }
            }
        }
    }
}

/// A kill stops at some call for good, and nobody clears away. An empty metastore used to be left: the log opened, as what
/// its segments would have said, and no writer could be had of it.
#[test]
fn whoever_is_killed_while_a_log_is_made_leaves_a_log_or_none() {
    for options in [CreateOptions::new(), CreateOptions::classic()] {
        let (mut logs, mut none) = (0, 0);
        for n in 0.. {
            let disk = SimDisk::new(n);
            disk.fail_at(n, EIO, Times::Sticky);
            let made = Log::create_on(Arc::new(disk.clone()), SIM_LOG, &options);
            disk.heal();
            match Log::open_on(Arc::new(disk.clone()), SIM_LOG) {
                Ok(log) => {
                    let writer = log.writer().unwrap_or_else(|error| panic!("killed at {n}: {error}"));
                    writer.append(b"goes on", at(1)).unwrap();
                    logs += 1;
                }
                Err(error) => {
                    assert!(matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotALog), "{error}");
                    none += 1;
                }
            }
            if made.is_ok() {
                break;
            }
        }
        assert!(logs > 1 && none > 2, "{logs} logs, {none} times none");
    }
}
