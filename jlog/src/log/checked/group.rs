//! Group commit: threads that append at the same time share syncs; and the watermark, which says how far they came.
//!
//! Whoever waits for a record first leads: it notes how far the log is written, syncs, and wakes all whose records lay
//! before that note. A record that was written after it waits for the next sync, which one of those then leads.
//!
//! A leader that syncs at once would meet half of the senders only: those of the sync before are still on their way
//! back. So it waits for as many as it has reason to expect, as long as more keep coming, and never longer than a
//! fraction of what a sync takes. One sender expects nobody, and waits for nothing.

use std::collections::VecDeque;
use std::fmt;
use std::sync::PoisonError;
use std::task::Waker;
use std::time::Duration;

use super::control::Mark;
use crate::error::{Error, ErrorKind, Result};
use crate::id::RecordId;
use crate::sync::{Condvar, Instant, Mutex, MutexGuard, thread};

/// What is called once a record is durable, or cannot become so any more.
type Callback = Box<dyn FnOnce(Result<RecordId>) + Send>;

#[derive(Default)]
pub(crate) struct Group {
    turn: Mutex<Turn>,
    /// Something became durable, a leader stepped down, or all is over.
    turned: Condvar,
    /// A record was written that nobody has synced yet.
    arrived: Condvar,
}

#[derive(Default)]
struct Turn {
    durable: Mark,
    leading: bool,
    /// The leader waits for others.
    gathering: bool,
    /// Why nothing will become durable any more.
    failed: Option<String>,
    /// Commits that wait for a sync, and how many came back after the last two.
    pending: u32,
    expected: u32,
    took: Duration,
    callbacks: Vec<(RecordId, Callback)>,
    wakers: Vec<(RecordId, Waker)>,
    /// Who is to be told, once nobody holds a lock: what they do then may come back to the writer.
    ready: VecDeque<Told>,
}

enum Told {
    Call(Callback, Result<RecordId>),
    Wake(Waker),
}

/// A leader waits for others at most so long, whatever a sync takes.
const MOST_PATIENCE: Duration = Duration::from_millis(2);
/// If nobody came for so long, nobody will.
const SILENCE: Duration = Duration::from_micros(150);
/// A thread that sleeps for less than this sleeps for about this: the kernel's timers are no finer.
const SLUGGISH: Duration = Duration::from_micros(100);

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group").field("durable", &self.turn().durable).finish_non_exhaustive()
    }
}

impl Group {
    pub(crate) fn starting_at(durable: Mark) -> Group {
        let group = Group::default();
        group.turn().durable = durable;
        group
    }

    pub(crate) fn durable(&self) -> Mark {
        self.turn().durable
    }

    /// One more commit waits for a sync.
    pub(crate) fn arrive(&self) {
        let mut turn = self.turn();
        turn.pending += 1;
        if turn.gathering && turn.pending >= turn.expected {
            self.arrived.notify_one();
        }
    }

    /// Waits until the record is durable, leading a sync if nobody does. `sync` makes durable what is written when it is
    /// called, and says how far that was.
    pub(crate) fn wait(
        &self,
        for_record: RecordId,
        company: Duration,
        sync: impl Fn() -> Result<Mark>,
    ) -> Result<()> {
        let mut turn = self.turn();
        loop {
            if turn.durable.id() >= for_record {
                return Ok(());
            }
            if let Some(why) = &turn.failed {
                return Err(lost(why));
            }
            if !turn.leading {
                turn.leading = true;
                break;
            }
            turn = self.turned.wait(turn).unwrap_or_else(PoisonError::into_inner);
        }
        let turn = self.gather(turn, company);
        drop(turn);
        self.lead(sync)
    }

    /// Syncs what is written now, whoever else leads.
    pub(crate) fn sync_now(&self, sync: impl Fn() -> Result<Mark>) -> Result<()> {
        let mut turn = self.turn();
        while turn.leading {
            turn = self.turned.wait(turn).unwrap_or_else(PoisonError::into_inner);
        }
        if let Some(why) = &turn.failed {
            return Err(lost(why));
        }
        turn.leading = true;
        drop(turn);
        self.lead(sync)
    }

    /// Waits for those who are likely to come.
    fn gather<'a>(&'a self, mut turn: MutexGuard<'a, Turn>, company: Duration) -> MutexGuard<'a, Turn> {
        turn.gathering = true;
        let start = Instant::now();
        let patience = company.max((turn.took / 4).min(MOST_PATIENCE));
        while turn.pending < turn.expected || start.elapsed() < company {
            let left = patience.saturating_sub(start.elapsed());
            if left.is_zero() {
                break;
            }
            if patience < SLUGGISH {
                drop(turn);
                thread::yield_now();
                turn = self.turn();
                continue;
            }
            let before = turn.pending;
            let slice = if company.is_zero() { left.min(SILENCE) } else { left };
            let (back, waited) =
                self.arrived.wait_timeout(turn, slice).unwrap_or_else(PoisonError::into_inner);
            turn = back;
            if waited.timed_out() && turn.pending == before {
                break;
            }
        }
        turn.gathering = false;
        turn
    }

    fn lead(&self, sync: impl Fn() -> Result<Mark>) -> Result<()> {
        let covered = self.turn().pending;
        let start = Instant::now();
        let leading = Leading(self);
        let outcome = sync();
        std::mem::forget(leading);
        let took = start.elapsed();
        let mut turn = self.turn();
        turn.leading = false;
        match outcome {
            Ok(mark) => {
                turn.pending = turn.pending.saturating_sub(covered);
                turn.expected = covered + turn.pending;
                turn.took = took;
                self.reach(turn, mark);
                Ok(())
            }
            // What is written is there: the next one who waits tries again.
            Err(error) if error.kind() == ErrorKind::NoSpace => {
                drop(turn);
                self.turned.notify_all();
                Err(error)
            }
            Err(error) => {
                self.end(turn, &error.to_string());
                Err(error)
            }
        }
    }

    /// The log is durable up to `mark`, however that came.
    pub(crate) fn reached(&self, mark: Mark) {
        let turn = self.turn();
        // Waking nobody is a system call as well.
        if mark > turn.durable {
            self.reach(turn, mark);
        }
    }

    fn reach(&self, mut turn: MutexGuard<'_, Turn>, mark: Mark) {
        turn.durable = turn.durable.max(mark);
        let durable = turn.durable.id();
        let callbacks = split(&mut turn.callbacks, durable);
        let wakers = split(&mut turn.wakers, durable);
        turn.ready.extend(callbacks.into_iter().map(|(id, callback)| Told::Call(callback, Ok(id))));
        turn.ready.extend(wakers.into_iter().map(|(_, waker)| Told::Wake(waker)));
        drop(turn);
        self.turned.notify_all();
    }

    /// Tells those who asked to be told. The caller holds no lock.
    pub(crate) fn deliver(&self) {
        // One by one: if a callback panics, the others are still to be told.
        loop {
            let told = self.turn().ready.pop_front();
            match told {
                Some(Told::Call(callback, outcome)) => callback(outcome),
                Some(Told::Wake(waker)) => waker.wake(),
                None => return,
            }
        }
    }

    /// Nothing will become durable any more: all who wait are told.
    pub(crate) fn fail(&self, why: &str) {
        self.end(self.turn(), why);
    }

    fn end(&self, mut turn: MutexGuard<'_, Turn>, why: &str) {
        turn.failed.get_or_insert_with(|| why.to_owned());
        let callbacks = std::mem::take(&mut turn.callbacks);
        let wakers = std::mem::take(&mut turn.wakers);
        turn.ready.extend(callbacks.into_iter().map(|(_, callback)| Told::Call(callback, Err(lost(why)))));
        turn.ready.extend(wakers.into_iter().map(|(_, waker)| Told::Wake(waker)));
        drop(turn);
        self.turned.notify_all();
    }

    /// Calls back once the record is durable: at once, if it is.
    pub(crate) fn call(&self, when: RecordId, callback: Callback) {
        let mut turn = self.turn();
        if turn.durable.id() >= when {
            drop(turn);
            return callback(Ok(when));
        }
        if let Some(why) = turn.failed.clone() {
            drop(turn);
            return callback(Err(lost(&why)));
        }
        turn.callbacks.push((when, callback));
    }

    /// Whether the record is durable; if it is not yet, `waker` is woken when that changes.
    #[cfg(feature = "async")]
    pub(crate) fn poll(&self, record: RecordId, waker: &Waker) -> Option<Result<()>> {
        let mut turn = self.turn();
        if turn.durable.id() >= record {
            return Some(Ok(()));
        }
        if let Some(why) = &turn.failed {
            return Some(Err(lost(why)));
        }
        if !turn.wakers.iter().any(|(id, known)| *id == record && known.will_wake(waker)) {
            turn.wakers.push((record, waker.clone()));
        }
        None
    }

    fn turn(&self) -> MutexGuard<'_, Turn> {
        // Nothing in here is left half done by a panic: each field is right by itself.
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A leader who does not come back must not leave the others waiting.
struct Leading<'a>(&'a Group);

impl Drop for Leading<'_> {
    fn drop(&mut self) {
        let mut turn = self.0.turn();
        turn.leading = false;
        self.0.end(turn, "the thread that synced has panicked");
    }
}

/// Takes out those that wait for no more than `durable`.
fn split<T>(waiting: &mut Vec<(RecordId, T)>, durable: RecordId) -> Vec<(RecordId, T)> {
    let (ready, left) = waiting.drain(..).partition(|(id, _)| *id <= durable);
    *waiting = left;
    ready
}

fn lost(why: &str) -> Error {
    let what =
        format!("the sync that was to make it durable has failed, so it may or may not be in the log: {why}");
    Error::new(ErrorKind::Poisoned, "acknowledge the record", what)
}
