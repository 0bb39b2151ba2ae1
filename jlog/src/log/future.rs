//! Appends and reads as futures, for any executor (feature `async`).
//!
//! Nothing here needs a runtime, and a future may be dropped at any time: an append that was polled is in the log and
//! will be durable, one that was not is not there; waiting for records leaves nothing behind.
//!
//! Two threads serve them, each started by the first future that needs it, and gone with the writer or the log:
//! `jlog-commit` syncs for those who wait, `jlog-watch` waits for the files of the log to change.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::durability::Durability;
use super::reader::Reader;
use super::shared::Shared;
use super::writer::{Engine, Writer};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{RecordId, Timestamp};
use crate::io::forks;
use crate::sync::thread::{self, JoinHandle};
use crate::sync::{Condvar, Mutex};

/// Syncs for futures.
#[derive(Debug)]
pub(crate) struct Committer {
    engine: Weak<Engine>,
    wanted: Arc<Wanted>,
    /// The [`forks`] at which it was made.
    forks: u32,
}

#[derive(Debug, Default)]
struct Wanted {
    state: Mutex<Wish>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Wish {
    /// The last record that somebody waits for.
    until: Option<RecordId>,
    thread: Option<JoinHandle<()>>,
    over: bool,
}

impl Committer {
    pub(crate) fn new(engine: &Arc<Engine>) -> Committer {
        Committer { engine: Arc::downgrade(engine), wanted: Arc::default(), forks: forks() }
    }

    /// Sees to it that the record becomes durable, without waiting for that.
    fn want(&self, record: RecordId) -> Result<()> {
        let mut wish = self.wanted.state.lock().unwrap_or_else(PoisonError::into_inner);
        wish.until = wish.until.max(Some(record));
        if wish.thread.is_none() {
            let (engine, wanted) = (Weak::clone(&self.engine), Arc::clone(&self.wanted));
            let commit = move || while serve(&engine, &wanted) {};
            wish.thread = Some(start("jlog-commit", commit)?);
        }
        self.wanted.changed.notify_one();
        Ok(())
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        // In a fork there is no such thread.
        if self.forks != forks() {
            return;
        }
        let mut wish = self.wanted.state.lock().unwrap_or_else(PoisonError::into_inner);
        wish.over = true;
        let thread = wish.thread.take();
        drop(wish);
        self.wanted.changed.notify_one();
        // It holds the writer while it syncs: whoever opens the log next is not to find it owned.
        if let Some(thread) = thread.filter(|thread| thread.thread().id() != thread::current().id()) {
            let _ = thread.join();
        }
    }
}

/// One sync for all who wait; false once there is nobody to serve any more.
fn serve(engine: &Weak<Engine>, wanted: &Wanted) -> bool {
    let mut wish = wanted.state.lock().unwrap_or_else(PoisonError::into_inner);
    while wish.until.is_none() && !wish.over {
        wish = wanted.changed.wait(wish).unwrap_or_else(PoisonError::into_inner);
    }
    let Some(until) = wish.until.take() else { return false };
    drop(wish);
    let Some(engine) = engine.upgrade() else { return false };
    let outcome = engine.wait_durable(until);
    drop(engine);
    // Who waits is told of a failure by the watermark. Want of space is none: nobody is told, and it is tried again.
    if outcome.is_err_and(|error| error.kind() == ErrorKind::NoSpace) {
        let mut wish = wanted.state.lock().unwrap_or_else(PoisonError::into_inner);
        wish.until = wish.until.max(Some(until));
        if !wish.over {
            (wish, _) = wanted.changed.wait_timeout(wish, SHORT).unwrap_or_else(PoisonError::into_inner);
        }
        return !wish.over;
    }
    true
}

fn start(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    let started = thread::Builder::new().name(name.to_owned()).spawn(run);
    started.map_err(|error| Error::new(ErrorKind::Io, "start a thread", error.to_string()))
}

/// The future of [`Writer::append_async`].
#[derive(Debug)]
#[must_use = "nothing is appended before it is polled"]
pub struct Append<'a> {
    writer: &'a Writer,
    message: &'a [u8],
    time: Timestamp,
    appended: Option<RecordId>,
}

impl Writer {
    /// Appends a record; ready once it is as durable as the writer's [`Durability`] says. Feature `async`.
    ///
    /// The record is in the kernel after the first poll, which may have to wait for a new segment to be made; the wait
    /// for the disk is not in the caller's thread. Dropped before the first poll, nothing was appended; dropped later,
    /// the record stays and becomes durable all the same.
    ///
    /// # Errors
    /// As [`Writer::append`].
    pub fn append_async<'a>(&'a self, message: &'a [u8], time: Timestamp) -> Append<'a> {
        Append { writer: self, message, time, appended: None }
    }
}

impl Future for Append<'_> {
    type Output = Result<RecordId>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let id = match self.appended {
            Some(id) => id,
            None => {
                let id = self.writer.append_as(self.message, self.time, Durability::Process)?;
                if !self.writer.durability().is_synced() {
                    return Poll::Ready(Ok(id));
                }
                self.appended = Some(id);
                self.writer.committer.want(id)?;
                id
            }
        };
        match self.writer.engine().poll_durable(id, context.waker()) {
            Some(outcome) => Poll::Ready(outcome.map(|()| id)),
            None => Poll::Pending,
        }
    }
}

/// The future of [`Reader::ready`].
#[derive(Debug)]
#[must_use = "it waits when it is polled"]
pub struct Ready<'a> {
    reader: &'a mut Reader,
}

impl Reader {
    /// Ready once a record, or a gap to be told of, is ahead: [`Reader::next_record`] then gives it at once. Feature
    /// `async`. Writers of all processes wake it. It may be dropped at any time: nothing was read.
    ///
    /// # Errors
    /// As [`Reader::next_record`], but for gaps.
    pub fn ready(&mut self) -> Ready<'_> {
        Ready { reader: self }
    }
}

impl Future for Ready<'_> {
    type Output = Result<()>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if self.reader.is_ready()? {
            return Poll::Ready(Ok(()));
        }
        let log = Arc::clone(self.reader.shared());
        Watcher::register(&log, context.waker())?;
        // What came before somebody watched is found now.
        if self.reader.is_ready()? { Poll::Ready(Ok(())) } else { Poll::Pending }
    }
}

/// Wakes futures when the files of the log change.
#[derive(Debug, Default)]
pub(crate) struct Watcher {
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    wakers: Vec<Waker>,
    running: bool,
}

/// Between two looks at whether the log is still open; and where nothing tells of changes, or of space.
const LONG: Duration = Duration::from_millis(500);
const SHORT: Duration = Duration::from_millis(10);

impl Watcher {
    fn register(log: &Arc<Shared>, waker: &Waker) -> Result<()> {
        let mut waiting = log.watcher().waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if !waiting.wakers.iter().any(|known| known.will_wake(waker)) {
            waiting.wakers.push(waker.clone());
        }
        if !waiting.running {
            let watch = log.watch()?;
            let log = Arc::downgrade(log);
            start("jlog-watch", move || {
                loop {
                    let changed = match &watch {
                        Some(watch) => watch.wait(LONG).unwrap_or(true),
                        None => {
                            thread::sleep(SHORT);
                            true
                        }
                    };
                    let Some(log) = log.upgrade() else { return };
                    if changed {
                        log.watcher().wake();
                    }
                }
            })?;
            waiting.running = true;
        }
        Ok(())
    }

    fn wake(&self) {
        let wakers = std::mem::take(&mut self.waiting.lock().unwrap_or_else(PoisonError::into_inner).wakers);
        wakers.into_iter().for_each(Waker::wake);
    }
}
