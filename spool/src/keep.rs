//! The thread that keeps the spool, `spool-keep`: removals reach the disk in time, space is given back, summaries are
//! written. All of it away from those who accept and deliver.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use jlog::io::forks;

use crate::error::{Result, SpoolError};
use crate::record::LogNo;
use crate::store::Store;

/// Wakes the thread.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    rung: Mutex<bool>,
    changed: Condvar,
}

impl Bell {
    pub(crate) fn ring(&self) {
        *self.rung.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }

    /// Waits until it is rung, at most so long.
    fn wait(&self, at_most: Duration) {
        let mut rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        if !*rung {
            (rung, _) = self.changed.wait_timeout(rung, at_most).unwrap_or_else(PoisonError::into_inner);
        }
        *rung = false;
    }
}

/// Without a reason it looks this often whether there is something to do.
const IDLE: Duration = Duration::from_secs(1);
/// Bytes that are copied before it looks at anything else.
const BUDGET: u64 = 4 << 20;

/// The thread: stopped, and waited for, when this is dropped.
#[derive(Debug)]
pub(crate) struct Keeper {
    stop: Arc<AtomicBool>,
    store: Weak<Store>,
    thread: Option<JoinHandle<()>>,
    forks: u32,
}

impl Keeper {
    pub(crate) fn start(store: &Arc<Store>) -> Result<Keeper> {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, kept) = (Arc::clone(&stop), Arc::downgrade(store));
        let thread = std::thread::Builder::new()
            .name("spool-keep".to_owned())
            .spawn(move || {
                while !stopped.load(Ordering::Acquire)
                    && let Some(store) = kept.upgrade()
                {
                    keep(&store, &stopped);
                }
            })
            .map_err(|error| SpoolError::io("start the thread that keeps the spool", &store.dir, error))?;
        Ok(Keeper { stop, store: Arc::downgrade(store), thread: Some(thread), forks: forks() })
    }
}

/// One round. What fails is tried again in the next one: those who accept and remove are told of a failed disk themselves.
fn keep(store: &Store, stopped: &AtomicBool) {
    let age = store.options().max_undurable_removes.1;
    let pending = store.undurable.load(Ordering::Acquire) > 0;
    store.keeper.wait(if pending { age } else { IDLE });
    if store.undurable.load(Ordering::Acquire) > 0 {
        if !pending {
            // The first removal has just come: others may share its sync.
            std::thread::sleep(age);
        }
        let _ = store.sync();
    }
    if stopped.load(Ordering::Acquire) || !store.is_loaded() {
        return;
    }
    store.remove_condemned();
    make_ahead(store);
    let done = store.reclaim(BUDGET).unwrap_or_default();
    let _ = store.summarize(false);
    if done.more && done.moved > 0 {
        store.keeper.ring();
    }
}

/// Makes the space of the arrivals' next segment ready, where it was asked for. That it cannot be done harms nobody.
fn make_ahead(store: &Store) {
    let asked = store.ahead.load(Ordering::Relaxed);
    if asked > store.made_ahead.load(Ordering::Relaxed)
        && let Ok(writer) = store.writer(LogNo::Arrivals)
        && writer.last_id().is_ok_and(|last| last.segment.0 < asked)
    {
        let _ = writer.make_ahead();
        store.made_ahead.store(asked, Ordering::Relaxed);
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        // In a fork there is no such thread.
        if self.forks != forks() {
            return;
        }
        self.stop.store(true, Ordering::Release);
        if let Some(store) = self.store.upgrade() {
            store.keeper.ring();
        }
        // A hook or a handle may end the spool on this very thread.
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != std::thread::current().id()
        {
            let _ = thread.join();
        }
    }
}
