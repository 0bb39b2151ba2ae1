//! Group commit in every order that two or three threads can take (loom).
//!
//! The log is two numbers here: how many records are written, and how many the disk has. What each model claims is
//! compared with these.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use loom::thread;

use super::counted;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{RecordId, SegmentId};
use crate::log::checked::control::Mark;
use crate::log::checked::group::Group;
use crate::sync::{Mutex, MutexGuard};

/// A sync that fails, and how: the how-manieth.
type Failing = Option<(u32, ErrorKind)>;

#[derive(Default)]
struct Log {
    group: Group,
    disk: Mutex<Disk>,
}

#[derive(Default)]
struct Disk {
    written: u32,
    durable: u32,
    syncs: u32,
    failing: Failing,
    failed: bool,
}

fn id(record: u32) -> RecordId {
    RecordId::new(0, record)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Log {
    fn new(failing: Failing) -> Arc<Log> {
        Arc::new(Log { group: Group::default(), disk: Mutex::new(Disk { failing, ..Disk::default() }) })
    }

    fn write(&self) -> u32 {
        let mut disk = lock(&self.disk);
        disk.written += 1;
        disk.written
    }

    /// As a writer does it: what is written when the sync begins is what it makes durable.
    fn sync(&self) -> Result<Mark> {
        let noted = lock(&self.disk).written;
        let mut disk = lock(&self.disk);
        assert!(!disk.failed, "a sync behind one that has failed");
        disk.syncs += 1;
        if let Some((_, kind)) = disk.failing.filter(|(nth, _)| *nth == disk.syncs) {
            disk.failed = kind != ErrorKind::NoSpace;
            return Err(Error::new(kind, "sync", "the disk says so"));
        }
        disk.durable = disk.durable.max(noted);
        Ok(Mark { segment: SegmentId(0), end: u64::from(noted), marker: noted })
    }

    fn wait(&self, record: u32, company: Duration) -> Result<()> {
        self.group.arrive();
        let outcome = self.group.wait(id(record), company, || self.sync());
        if outcome.is_ok() {
            let durable = lock(&self.disk).durable;
            assert!(durable >= record, "record {record} was acknowledged, and the disk has {durable}");
        }
        outcome
    }

    fn append(&self) -> Result<()> {
        self.wait(self.write(), Duration::ZERO)
    }

    /// The watermark, which is never ahead of the disk.
    fn watermark(&self) -> u32 {
        let mark = self.group.durable().marker;
        assert!(lock(&self.disk).durable >= mark, "the watermark is ahead of the disk");
        mark
    }
}

/// Does the first in another thread, the second in this one, and tells how both came out.
fn together<T: 'static>(
    log: &Arc<Log>,
    one: impl FnOnce(&Log) -> T + 'static,
    other: impl FnOnce(&Log) -> T,
) -> [T; 2] {
    let there = Arc::clone(log);
    let thread = thread::spawn(move || one(&there));
    let here = other(log);
    [thread.join().expect("it has not panicked"), here]
}

/// In every order; with so many threads that they are too many, in all in which one is put off so often at most.
fn every_order(most_preemptions: Option<usize>, of: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = most_preemptions;
    counted(|orders| {
        model.check(move || {
            orders.fetch_add(1, Ordering::Relaxed);
            of();
        });
    });
}

#[test]
fn loom_nobody_is_acknowledged_by_a_sync_that_began_before_his_bytes_were_written() {
    every_order(None, || {
        let log = Log::new(None);
        let outcomes = together(&log, Log::append, Log::append);
        assert!(outcomes.iter().all(Result::is_ok));
        assert_eq!(log.watermark(), 2);
    });
}

#[test]
fn loom_three_threads_share_syncs_and_none_is_left_waiting() {
    every_order(Some(3), || {
        let log = Log::new(None);
        let third = Arc::clone(&log);
        let third = thread::spawn(move || third.append());
        let outcomes = together(&log, Log::append, Log::append);
        assert!(outcomes.iter().all(Result::is_ok));
        assert!(third.join().expect("it has not panicked").is_ok());
        assert_eq!(log.watermark(), 3);
        assert!(lock(&log.disk).syncs <= 3);
    });
}

#[test]
fn loom_a_leader_that_waits_for_company_is_not_missed_by_it() {
    every_order(None, || {
        let log = Log::new(None);
        let patient = |log: &Log| log.wait(log.write(), Duration::from_millis(1));
        let outcomes = together(&log, patient, patient);
        assert!(outcomes.iter().all(Result::is_ok));
    });
}

#[test]
fn loom_the_watermark_never_goes_back_and_never_ahead_of_the_disk() {
    every_order(Some(3), || {
        let log = Log::new(None);
        // A rotation makes durable what is written, and says so by itself; a third thread looks on.
        let rotating = Arc::clone(&log);
        let rotate = thread::spawn(move || {
            rotating.write();
            rotating.group.reached(rotating.sync().expect("no sync fails here"));
        });
        let look = |log: &Log| {
            let seen = [log.watermark(), log.watermark()];
            assert!(seen.is_sorted(), "{seen:?}");
        };
        together(&log, |log| assert!(log.append().is_ok()), look);
        rotate.join().expect("it has not panicked");
    });
}

#[test]
fn loom_a_failed_sync_fails_all_who_wait_and_nobody_is_acknowledged_after_it() {
    for nth in [1, 2] {
        every_order(None, move || {
            let log = Log::new(Some((nth, ErrorKind::Io)));
            let outcomes = together(&log, Log::append, Log::append);
            let acknowledged = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
            let (durable, failed) = {
                let disk = lock(&log.disk);
                (disk.durable, disk.failed)
            };
            assert!(acknowledged <= durable as usize);
            assert_eq!(acknowledged < 2, failed);
            if failed {
                // Not even tried: `sync` would say so.
                assert!(log.append().is_err());
                assert!(log.group.sync_now(|| log.sync()).is_err());
            }
        });
    }
}

#[test]
fn loom_where_there_is_no_space_the_next_one_who_waits_tries_again() {
    every_order(None, || {
        let log = Log::new(Some((1, ErrorKind::NoSpace)));
        let outcomes = together(&log, Log::append, Log::append);
        // Who led is told; the other one has led a sync of his own.
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_err()).count(), 1);
    });
}

#[test]
fn loom_each_callback_is_called_once_whether_the_sync_succeeds_or_fails() {
    for failing in [None, Some((1, ErrorKind::Io))] {
        every_order(None, move || {
            let log = Log::new(failing);
            let told = Arc::new(Mutex::new(Vec::new()));
            let record = log.write();
            let hear = Arc::clone(&told);
            let ask = move |log: &Log| {
                let call = move |outcome: Result<RecordId>| lock(&hear).push(outcome.is_ok());
                log.group.call(id(record), Box::new(call));
                log.group.deliver();
                None
            };
            let sync = move |log: &Log| {
                let outcome = log.wait(record, Duration::ZERO);
                log.group.deliver();
                Some(outcome.is_ok())
            };
            let [_, outcome] = together(&log, ask, sync);
            assert_eq!(outcome, Some(failing.is_none()));
            assert_eq!(*lock(&told), [failing.is_none()]);
        });
    }
}

#[test]
fn loom_sync_now_beside_one_who_waits_makes_all_durable() {
    every_order(None, || {
        let log = Log::new(None);
        let sync = |log: &Log| {
            let written = log.write();
            let outcome = log.group.sync_now(|| log.sync());
            assert!(lock(&log.disk).durable >= written);
            outcome
        };
        let outcomes = together(&log, sync, Log::append);
        assert!(outcomes.iter().all(Result::is_ok));
        assert_eq!(log.watermark(), 2);
    });
}

#[cfg(feature = "async")]
#[test]
fn loom_whoever_is_woken_by_the_watermark_is_woken() {
    use std::task::{Wake, Waker};

    /// What a future's executor waits for.
    #[derive(Default)]
    struct Woken(Mutex<bool>, crate::sync::Condvar);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            *lock(&self.0) = true;
            self.1.notify_all();
        }
    }

    for failing in [None, Some((1, ErrorKind::Io))] {
        every_order(None, move || {
            let log = Log::new(failing);
            let record = log.write();
            let committing = Arc::clone(&log);
            let committer = thread::spawn(move || {
                let outcome = committing.wait(record, Duration::ZERO);
                committing.group.deliver();
                outcome
            });
            let woken = Arc::new(Woken::default());
            let waker = Waker::from(Arc::clone(&woken));
            let outcome = loop {
                if let Some(outcome) = log.group.poll(id(record), &waker) {
                    break outcome;
                }
                let mut flag = lock(&woken.0);
                while !*flag {
                    flag = woken.1.wait(flag).unwrap_or_else(PoisonError::into_inner);
                }
                *flag = false;
            };
            assert_eq!(outcome.is_ok(), failing.is_none());
            assert_eq!(committer.join().expect("it has not panicked").is_ok(), failing.is_none());
            drop(waker);
        });
    }
}
