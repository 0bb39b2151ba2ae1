//! Lingering: a burst of appends keeps the lock of the active data file for a moment, instead of taking it for each.
//!
//! Who holds the lock is the only one who may append, or finish the segment: what he knew of its end when he took the
//! lock stays true, so the appends that follow ask for nothing. [`Linger`] decides how long, and knows no thread;
//! [`Unlocker`] is the thread that gives the lock back when no further append comes.

use std::sync::{Arc, PoisonError};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

use super::classic_writer::State;
use crate::io::{OwnedLock, forks};
use crate::sync::Mutex;

/// How long a lock is kept, unless the writer was told otherwise.
pub(crate) const LINGER: Duration = Duration::from_millis(1);

/// The part of that within which an append must follow another to belong to its burst.
const NEXT: u32 = 5;
/// The part of that for which each append takes the lock anew, once it was kept for its time. Who waits for the lock is
/// not handed it: the kernel wakes him, which takes longer than an append does, and he tries again. So one release
/// gives him hardly a chance, and a hundred do.
const TURNS: u32 = 10;

/// One in so many appends that find the lock kept asks for the time. That costs a tenth of a small append.
const ASK: u32 = 8;

/// The lock of the active data file between two appends, and whether to keep it.
#[derive(Debug)]
pub(crate) struct Linger {
    most: Duration,
    /// How soon an append must follow another to belong to its burst.
    next: Duration,
    /// For how long each append takes the lock anew, once it was kept for its time.
    turns: Duration,
    kept: Option<Kept>,
    /// When the last append began that asked for the time, or had the lock, if it had to wait for it; and how many have
    /// come since.
    last: Option<Instant>,
    unasked: u32,
    /// When a lock was given back because its time was up.
    given_back: Option<Instant>,
    /// Who gives it back when nobody appends. Without, nothing is kept.
    unlocker: Option<Watch>,
    ended: bool,
}

/// A lock, and since when it is held.
#[derive(Debug)]
pub(crate) struct Kept {
    _lock: OwnedLock,
    since: Instant,
}

impl Kept {
    pub(crate) fn new(lock: OwnedLock) -> Kept {
        Kept { _lock: lock, since: Instant::now() }
    }
}

/// The unlocking thread, as the writer sees it.
#[derive(Debug)]
struct Watch {
    thread: Thread,
    /// It sleeps until it is woken.
    asleep: bool,
}

impl Linger {
    /// Locks are kept for so long at most; for no time: never.
    pub(crate) fn new(most: Duration) -> Linger {
        let (next, turns) = (most / NEXT, most / TURNS);
        Linger {
            most,
            next,
            turns,
            kept: None,
            last: None,
            unasked: 0,
            given_back: None,
            unlocker: None,
            ended: false,
        }
    }

    /// The time, if this matters: `None` if locks are never kept.
    pub(crate) fn begin(&mut self) -> Option<Instant> {
        if self.most.is_zero() {
            return None;
        }
        self.unasked += 1;
        if self.kept.is_some() && self.unasked < ASK {
            return self.last;
        }
        self.unasked = 0;
        Some(Instant::now())
    }

    /// The lock, if it is still held since an append before.
    pub(crate) fn take(&mut self) -> Option<Kept> {
        self.kept.take()
    }

    /// Gives the lock back, if it is kept.
    pub(crate) fn release(&mut self) {
        drop(self.take());
    }

    /// An append that began at this time is done: its lock is kept if another may be expected soon. True if it would be,
    /// but that there is no [`Unlocker`].
    pub(crate) fn leave(&mut self, lock: Kept, began: Instant) -> bool {
        let follows = self.last.is_some_and(|last| since(last, began) < self.next);
        self.last = Some(began.max(lock.since));
        if since(lock.since, began) >= self.most {
            self.given_back = Some(began);
            return false;
        }
        let others_turn = self.given_back.is_some_and(|then| since(then, began) < self.turns);
        if !follows || others_turn {
            return false;
        }
        let Some(unlocker) = &mut self.unlocker else { return true };
        self.kept = Some(lock);
        if std::mem::take(&mut unlocker.asleep) {
            unlocker.thread.unpark();
        }
        false
    }

    /// Gives the lock back if its time is up, or nobody appends any more. Returns how long until it is worth another
    /// look; `None`: when somebody keeps it again.
    fn look(&mut self, now: Instant) -> Option<Duration> {
        let idle = self.last.map_or(self.next, |last| since(last, now));
        if idle >= self.next {
            self.release();
            if let Some(unlocker) = &mut self.unlocker {
                unlocker.asleep = true;
                return None;
            }
        } else if self.kept.as_ref().is_some_and(|kept| since(kept.since, now) >= self.most) {
            self.given_back = Some(now);
            self.release();
        }
        // As long as the burst goes on, nobody needs to wake this thread.
        Some(self.next.saturating_sub(idle).max(self.next / 2))
    }
}

fn since(then: Instant, now: Instant) -> Duration {
    now.saturating_duration_since(then)
}

/// The thread that gives the lock back: `jlog-unlock`. It ends when this is dropped, and the lock is given back then.
#[derive(Debug)]
pub(crate) struct Unlocker {
    state: Arc<Mutex<State>>,
    thread: Option<JoinHandle<()>>,
    /// The [`forks`] at which it was started.
    forks: u32,
}

impl Unlocker {
    /// `None` if the system has no thread for it: then nothing is kept.
    pub(crate) fn start(state: &Arc<Mutex<State>>) -> Option<Unlocker> {
        let watched = Arc::clone(state);
        let run = move || {
            loop {
                let wait = {
                    // Where a thread panicked while it appended, the next append says so; others need the lock.
                    let mut state = watched.lock().unwrap_or_else(PoisonError::into_inner);
                    if state.linger.ended {
                        return;
                    }
                    state.linger.look(Instant::now())
                };
                match wait {
                    Some(wait) => std::thread::park_timeout(wait),
                    None => std::thread::park(),
                }
            }
        };
        let thread = std::thread::Builder::new().name("jlog-unlock".to_owned()).spawn(run).ok()?;
        let watch = Watch { thread: thread.thread().clone(), asleep: false };
        state.lock().unwrap_or_else(PoisonError::into_inner).linger.unlocker = Some(watch);
        Some(Unlocker { state: Arc::clone(state), thread: Some(thread), forks: forks() })
    }
}

impl Drop for Unlocker {
    fn drop(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        if self.forks != forks() {
            // A fork's copy: thread and lock are its parent's, and the state may be locked by a thread that is not here.
            std::mem::forget(thread);
            return;
        }
        {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.linger.release();
            state.linger.ended = true;
        }
        thread.thread().unpark();
        let _ = thread.join();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::sim::SimDisk;
    use crate::io::{File, Open};
    use std::path::Path;

    const MS: Duration = Duration::from_millis(1);
    const US: Duration = Duration::from_micros(1);

    /// A burst of appends, at times of the test's choosing, and somebody else who looks whether the lock is free.
    struct Burst {
        linger: Linger,
        file: Arc<File>,
        other: File,
        start: Instant,
    }

    impl Burst {
        fn new() -> Burst {
            let disk = SimDisk::new(1);
            let open = || File::open(&disk, Path::new("/data"), Open::Create(0o644)).unwrap();
            let mut linger = Linger::new(MS);
            linger.unlocker = Some(Watch { thread: std::thread::current(), asleep: true });
            Burst { linger, file: Arc::new(open()), other: open(), start: Instant::now() }
        }

        fn append(&mut self, at: Duration) {
            let began = self.start + at;
            let taken = || Kept { _lock: self.file.lock_owned().unwrap(), since: began };
            let lock = self.linger.take().unwrap_or_else(taken);
            self.linger.leave(lock, began);
        }

        fn look(&mut self, at: Duration) -> Option<Duration> {
            self.linger.look(self.start + at)
        }

        fn is_free(&self) -> bool {
            self.other.try_lock().unwrap().is_some()
        }
    }

    #[test]
    fn appends_that_come_now_and_then_keep_no_lock() {
        let mut burst = Burst::new();
        for n in 0..10 {
            burst.append(n * MS / NEXT);
            assert!(burst.is_free(), "after append {n}");
        }
    }

    #[test]
    fn appends_close_to_each_other_keep_it_for_its_time_and_then_let_others_have_turns() {
        let mut burst = Burst::new();
        let mut kept = Vec::new();
        for n in 0..400 {
            burst.append(n * 10 * US);
            kept.push(!burst.is_free());
        }
        let runs: Vec<_> = kept.chunk_by(|a, b| a == b).map(|run| (run[0], run.len())).collect();
        // The first is alone. One takes the lock and keeps it, for 1 ms; then each takes it anew for 100 us.
        assert_eq!(runs[..5], [(false, 1), (true, 100), (false, 10), (true, 100), (false, 10)], "{runs:?}");
    }

    #[test]
    fn a_lock_that_nobody_uses_any_more_is_given_back_and_the_thread_sleeps() {
        let mut burst = Burst::new();
        burst.append(Duration::ZERO);
        burst.append(10 * US);
        assert!(!burst.is_free());
        assert_eq!(burst.look(110 * US), Some(100 * US), "idle for half of the time that ends a burst");
        assert!(!burst.is_free());
        assert_eq!(burst.look(210 * US), None);
        assert!(burst.is_free());
        assert!(burst.linger.unlocker.as_ref().unwrap().asleep);
    }

    #[test]
    fn a_lock_is_given_back_when_its_time_is_up_also_within_a_long_append() {
        let mut burst = Burst::new();
        for n in 0..99 {
            burst.append(n * 10 * US);
        }
        assert!(burst.look(1005 * US).is_some());
        assert!(!burst.is_free());
        assert!(burst.look(1010 * US).is_some());
        assert!(burst.is_free());
        burst.append(1015 * US);
        assert!(burst.is_free(), "others have their turn");
    }

    #[test]
    fn without_a_thread_nothing_is_kept() {
        let mut burst = Burst::new();
        burst.linger.unlocker = None;
        burst.append(Duration::ZERO);
        burst.append(US);
        assert!(burst.is_free());
    }
}
