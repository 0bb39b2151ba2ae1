//! The whole writer over a simulated disk, beside readers and other writers, in many orders of their threads (shuttle).
//!
//! Segments are so small that every few records begin a new one. A record is its number. What is on the disk is what a
//! power cut at that moment leaves.
//!
//! The orders are a seed's: `JLOG_ORDERS` says how many of them, `JLOG_SEED` which. When one fails, shuttle prints it.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, PoisonError};

use nix::libc;
use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::{Config, MaxSteps, Runner};

use super::counted;
use crate::io::Disk;
use crate::io::sim::{Op, SimDisk, Times};
use crate::sync::{Mutex, thread};
use crate::{
    CreateOptions, Durability, ErrorKind, Log, RecordId, Result, SegmentId, Timestamp, Writer, WriterOptions,
};

const LOG: &str = "/log";
/// Room for three records.
const SEGMENT: u32 = 400;

fn from_environment(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |value| value.parse().expect("a number"))
}

/// Half of the orders at random, half with few changes of who goes on, at random places.
fn many_orders(of: impl Fn() + Send + Sync + 'static) {
    let (seed, orders) =
        (from_environment("JLOG_SEED", 1), from_environment("JLOG_ORDERS", 5000) as usize / 2);
    println!("seed {seed}");
    let mut config = Config::new();
    config.stack_size = 1 << 20;
    counted(|tried| {
        let one = Arc::new(move || {
            tried.fetch_add(1, Ordering::Relaxed);
            of();
        });
        let again = Arc::clone(&one);
        Runner::new(RandomScheduler::new_from_seed(seed, orders), config.clone()).run(move || one());
        // Who asks a lock of the simulated disk again and again may be the only one who ever goes on here: such an order is
        // left. One in which nobody can go on fails all the same, and so does an endless one at random.
        config.max_steps = MaxSteps::ContinueAfter(1_000_000);
        Runner::new(PctScheduler::new_from_seed(seed, 3, orders), config).run(move || again());
    });
}

fn new_log(disk: &SimDisk) -> Log {
    disk.keep_trace(false);
    Log::create_on(Arc::new(disk.clone()), LOG, &CreateOptions::new().segment_size(SEGMENT)).unwrap()
}

/// As another process sees it.
fn open(disk: &SimDisk) -> Log {
    Log::open_on(Arc::new(disk.clone()), LOG).unwrap()
}

/// The records that a power cut would leave now.
fn on_disk(disk: &SimDisk) -> BTreeSet<u32> {
    let log = open(&disk.power_cut());
    let mut cursor = log.cursor().unwrap();
    let mut found = BTreeSet::new();
    while let Some(record) = cursor.next_record().unwrap() {
        found.insert(number(record.payload));
    }
    found
}

fn number(payload: &[u8]) -> u32 {
    u32::from_le_bytes(payload.try_into().unwrap())
}

/// Appends a record, and looks whether it is on the disk when that is said.
fn append(disk: &SimDisk, writer: &Writer, number: u32) -> Result<RecordId> {
    let id = writer.append(&number.to_le_bytes(), Timestamp::new(number, 0))?;
    assert!(on_disk(disk).contains(&number), "{number} ({id}) was acknowledged and is not on the disk");
    assert!(
        writer.durable_id() >= id,
        "{number} ({id}) was acknowledged, the watermark is {}",
        writer.durable_id()
    );
    Ok(id)
}

/// Reads along until it has seen so many records, or is told that no more will come.
///
/// None may be there before it is on the disk, none may be missing between two, and none may come twice.
fn follow(disk: &SimDisk, records: usize, over: &AtomicBool) -> Vec<u32> {
    let log = open(disk);
    let mut cursor = log.cursor().unwrap();
    let mut seen = Vec::new();
    let mut last: Option<RecordId> = None;
    while seen.len() < records {
        let done = over.load(Ordering::Relaxed);
        let Some(record) = cursor.next_record().unwrap() else {
            if done {
                break;
            }
            thread::yield_now();
            continue;
        };
        let (id, number) = (record.id, number(record.payload));
        assert!(on_disk(disk).contains(&number), "{number} ({id}) was read and is not on the disk");
        if let Some(last) = last {
            let next = RecordId { marker: crate::Marker(last.marker.0 + 1), ..last };
            let first = RecordId::new(last.segment.0 + 1, 1);
            assert!([next, first].contains(&id), "{id} was read behind {last}");
        }
        last = Some(id);
        seen.push(number);
    }
    seen
}

fn join<T>(thread: thread::JoinHandle<T>) -> T {
    thread.join().expect("it has not panicked")
}

fn distinct(numbers: &[u32]) -> BTreeSet<u32> {
    let set: BTreeSet<u32> = numbers.iter().copied().collect();
    assert_eq!(set.len(), numbers.len(), "a record came twice: {numbers:?}");
    set
}

#[test]
fn shuttle_what_four_threads_are_told_is_on_the_disk_is_there_and_a_reader_sees_no_more_and_no_less() {
    many_orders(|| {
        let disk = SimDisk::new(1);
        let writer = Arc::new(new_log(&disk).writer().unwrap());
        let reader = {
            let disk = disk.clone();
            thread::spawn(move || follow(&disk, 8, &AtomicBool::new(false)))
        };
        let writers = [0, 2, 4, 6].map(|first| {
            let (disk, writer) = (disk.clone(), Arc::clone(&writer));
            thread::spawn(move || {
                let ids = [first, first + 1].map(|number| append(&disk, &writer, number).unwrap());
                assert!(ids[0] < ids[1]);
            })
        });
        writers.into_iter().for_each(join);
        assert_eq!(distinct(&join(reader)), (0..8).collect());
    });
}

#[test]
fn shuttle_after_a_sync_that_failed_nobody_is_acknowledged_and_nothing_unsynced_is_read() {
    for nth in 0..3 {
        many_orders(move || {
            let disk = SimDisk::new(1);
            let log = new_log(&disk);
            let writer = Arc::new(log.writer().unwrap());
            disk.fail_call(Op::Sync, disk.calls(Op::Sync) + nth, libc::EIO, Times::Once);
            let over = Arc::new(AtomicBool::new(false));
            let failed = Arc::new(AtomicBool::new(false));
            let reader = {
                let (disk, over) = (disk.clone(), Arc::clone(&over));
                thread::spawn(move || follow(&disk, usize::MAX, &over))
            };
            let writers = [0, 2, 4].map(|first| {
                let (disk, writer, failed) = (disk.clone(), Arc::clone(&writer), Arc::clone(&failed));
                thread::spawn(move || {
                    let mut acknowledged = Vec::new();
                    for number in [first, first + 1] {
                        let too_late = failed.load(Ordering::Relaxed);
                        match append(&disk, &writer, number) {
                            Ok(_) if too_late => panic!("{number} was acknowledged after the failure"),
                            Ok(_) => acknowledged.push(number),
                            Err(error) => {
                                assert!(
                                    matches!(error.kind(), ErrorKind::Io | ErrorKind::Poisoned),
                                    "{error}"
                                );
                                failed.store(true, Ordering::Relaxed);
                            }
                        }
                    }
                    acknowledged
                })
            });
            let acknowledged = distinct(&writers.map(join).concat());
            over.store(true, Ordering::Relaxed);
            let read = distinct(&join(reader));
            assert!(failed.load(Ordering::Relaxed), "the sync that was to fail was not made");
            assert!(read.is_superset(&acknowledged), "read {read:?}, acknowledged {acknowledged:?}");
            assert!(on_disk(&disk).is_superset(&read));

            // Who opens it next goes on behind what the disk has.
            drop(writer);
            let writer = log.writer().unwrap();
            append(&disk, &writer, 100).unwrap();
            assert!(on_disk(&disk).is_superset(&acknowledged));
        });
    }
}

#[test]
fn shuttle_each_callback_is_called_once_while_segments_are_finished_under_it() {
    many_orders(|| {
        let disk = SimDisk::new(1);
        let writer = Arc::new(new_log(&disk).writer().unwrap());
        let called: Arc<Mutex<Vec<u32>>> = Arc::default();
        let writers = [0, 2].map(|first: u32| {
            let (disk, writer, called) = (disk.clone(), Arc::clone(&writer), Arc::clone(&called));
            thread::spawn(move || {
                for number in [first, first + 1] {
                    let message = number.to_le_bytes();
                    let id = writer.append_as(&message, Timestamp::new(1, 0), Durability::Process).unwrap();
                    let (there, called) = (disk.clone(), Arc::clone(&called));
                    writer.on_durable(id, move |outcome| {
                        assert_eq!(outcome.unwrap(), id);
                        assert!(on_disk(&there).contains(&number));
                        called.lock().unwrap_or_else(PoisonError::into_inner).push(number);
                    });
                }
            })
        });
        let rotator = {
            let writer = Arc::clone(&writer);
            thread::spawn(move || {
                let before = writer.durable_id();
                let active = writer.rotate().unwrap();
                let between = writer.durable_id();
                assert!(between >= before);
                assert!(between.segment >= active || active == SegmentId(0));
                writer.sync().unwrap();
                assert!(writer.durable_id() >= between);
            })
        };
        writers.into_iter().for_each(join);
        join(rotator);
        writer.sync().unwrap();
        assert_eq!(writer.durable_id(), writer.last_id().unwrap());
        let called = distinct(&called.lock().unwrap_or_else(PoisonError::into_inner));
        assert_eq!(called, (0..4).collect());
    });
}

#[test]
fn shuttle_two_processes_that_share_a_log_lose_nothing_of_each_other() {
    many_orders(|| {
        let disk = SimDisk::new(1);
        new_log(&disk);
        let reader = {
            let disk = disk.clone();
            thread::spawn(move || follow(&disk, 8, &AtomicBool::new(false)))
        };
        let processes = [0, 4].map(|first| {
            let disk = disk.clone();
            thread::spawn(move || {
                let writer =
                    Arc::new(open(&disk).writer_with(&WriterOptions::new().exclusive(false)).unwrap());
                let threads = [first, first + 2].map(|first| {
                    let (disk, writer) = (disk.clone(), Arc::clone(&writer));
                    thread::spawn(move || {
                        for number in [first, first + 1] {
                            append(&disk, &writer, number).unwrap();
                        }
                    })
                });
                threads.into_iter().for_each(join);
            })
        });
        processes.into_iter().for_each(join);
        assert_eq!(distinct(&join(reader)), (0..8).collect());
    });
}

#[test]
fn shuttle_a_sync_that_fails_in_one_process_is_not_taken_for_done_by_another() {
    for nth in 0..3 {
        many_orders(move || {
            let disk = SimDisk::new(1);
            new_log(&disk);
            let ready = Arc::new(AtomicU32::new(0));
            let processes = [0, 3].map(|first| {
                let (disk, ready) = (disk.clone(), Arc::clone(&ready));
                thread::spawn(move || {
                    let shared = WriterOptions::new().exclusive(false);
                    let mut writer = open(&disk).writer_with(&shared).unwrap();
                    ready.fetch_add(1, Ordering::Relaxed);
                    while ready.load(Ordering::Relaxed) < 2 {
                        thread::yield_now();
                    }
                    if first == 0 {
                        disk.fail_call(Op::Sync, disk.calls(Op::Sync) + nth, libc::EIO, Times::Once);
                    }
                    let mut acknowledged = Vec::new();
                    for number in first..first + 3 {
                        match append(&disk, &writer, number) {
                            Ok(_) => acknowledged.push(number),
                            Err(_) => writer = open(&disk).writer_with(&shared).unwrap(),
                        }
                    }
                    acknowledged
                })
            });
            let acknowledged = distinct(&processes.map(join).concat());
            assert!(acknowledged.len() >= 4, "one sync has failed: {acknowledged:?}");
            assert!(on_disk(&disk).is_superset(&acknowledged));
        });
    }
}

#[cfg(feature = "async")]
mod futures {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Wake, Waker};

    use super::*;
    use crate::sync::{Condvar, MutexGuard};

    #[derive(Default)]
    struct Woken(Mutex<bool>, Condvar);

    impl Woken {
        fn flag(&self) -> MutexGuard<'_, bool> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            *self.flag() = true;
            self.1.notify_all();
        }
    }

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut future = pin!(future);
        loop {
            if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                return value;
            }
            let mut flag = woken.flag();
            while !*flag {
                flag = woken.1.wait(flag).unwrap_or_else(PoisonError::into_inner);
            }
            *flag = false;
        }
    }

    #[test]
    fn shuttle_every_future_is_woken_and_a_dropped_one_holds_nobody_up() {
        for failing in [false, true] {
            many_orders(move || {
                let disk = SimDisk::new(1);
                let log = new_log(&disk);
                let writer = Arc::new(log.writer().unwrap());
                if failing {
                    disk.fail_call(Op::Sync, disk.calls(Op::Sync) + 1, libc::EIO, Times::Once);
                }
                let tasks = [0, 2, 4].map(|first: u32| {
                    let (disk, writer) = (disk.clone(), Arc::clone(&writer));
                    thread::spawn(move || {
                        for number in [first, first + 1] {
                            let message = number.to_le_bytes();
                            let mut append = pin!(writer.append_async(&message, Timestamp::new(1, 0)));
                            if number == 3 {
                                // Given up while it waits.
                                let _ = append.as_mut().poll(&mut Context::from_waker(Waker::noop()));
                                continue;
                            }
                            match block_on(append) {
                                Ok(_) => assert!(on_disk(&disk).contains(&number)),
                                Err(error) => assert!(failing, "{error}"),
                            }
                        }
                    })
                });
                tasks.into_iter().for_each(join);
                // Its thread is gone with it: the log has no owner any more.
                drop(Arc::into_inner(writer).expect("nobody else has it"));
                log.writer().unwrap();
            });
        }
    }

    /// Another process's sync has failed while this one's record waited for its own, and there was no space for the
    /// segment to go on in: the sync was given up, and nobody told the future.
    #[test]
    fn shuttle_a_future_is_not_forgotten_where_there_is_no_space_to_go_on_in() {
        many_orders(|| {
            let disk = SimDisk::new(1);
            new_log(&disk);
            let shared = WriterOptions::new().exclusive(false);
            let [ours, theirs] = [(); 2].map(|()| open(&disk).writer_with(&shared).unwrap());
            let waiting = thread::spawn(move || {
                let _ = block_on(ours.append_async(&1u32.to_le_bytes(), Timestamp::new(1, 0)));
            });
            disk.limit(Some(1 << 20));
            let room = disk.free_space(std::path::Path::new(LOG)).unwrap();
            disk.limit(Some((1 << 20) - room + 200));
            disk.fail_next(Op::Sync, libc::EIO, Times::Once);
            let _ = theirs.append(&2u32.to_le_bytes(), Timestamp::new(1, 0));
            (0..10).for_each(|_| thread::yield_now());
            disk.limit(None);
            join(waiting);
        });
    }
}
