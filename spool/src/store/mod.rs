//! The store: two logs, the books over them, and every change to both, in an order that a crash may break off anywhere.
//!
//! - `accept`: messages that are new; `pieces`: bodies that are written and read in pieces
//! - `read`: what the disk has of a message; `change`: updates and removals
//!
//! Locks are taken in this order, and never held while waiting for a disk but where said: a message's state (held over the
//! writing of that message), a message's turn (held over the writing of an update or a removal, not over its sync), the
//! books (memory only), then the small ones: handles, residents, and so on.

mod accept;
mod change;
mod pieces;
mod read;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, Weak};

use jlog::io::Disk;
use jlog::{Log, Timestamp, Writer};

use crate::body::Body;
use crate::books::Books;
use crate::error::{Result, SpoolError};
use crate::flight::Flights;
use crate::id::{IdGenerator, MessageId};
use crate::keep::Bell;
use crate::load::Loading;
use crate::message::{Dirty, Inner, Message, State};
use crate::options::SpoolOptions;
use crate::reclaim::Moving;
use crate::record::LogNo;
use crate::reserve::Reserve;
use crate::residency::{Limits, Residents};

pub(crate) use change::Change;
pub use change::Written;

/// Messages have their turns, by id: two changes of one message are written in the order in which the books see them.
const TURNS: usize = 64;

pub(crate) struct Store {
    pub(crate) me: Weak<Store>,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) dir: PathBuf,
    options: SpoolOptions,
    pub(crate) logs: [Log; 2],
    /// Nothing is written without them; `None` once the spool is closed.
    writers: RwLock<Option<Arc<[Writer; 2]>>>,
    read_only: bool,
    books: Mutex<Books>,
    pub(crate) loading: Mutex<Loading>,
    pub(crate) loaded: Condvar,
    changes: AtomicU64,
    pub(crate) ids: IdGenerator,
    turns: [Mutex<()>; TURNS],
    handles: Mutex<HashMap<MessageId, Weak<Inner>>>,
    residents: Mutex<Residents>,
    /// Messages that are in memory alone.
    unwritten: Mutex<HashMap<MessageId, Message>>,
    /// The arrivals' segment whose successor's space was asked for, and one more.
    pub(crate) ahead: AtomicU32,
    pub(crate) made_ahead: AtomicU32,
    /// Damaged messages that are to be removed.
    condemned: Mutex<Vec<MessageId>>,
    /// The hour that the active segment of the arrivals is of.
    window: AtomicU32,
    /// Removals that may not be on the disk.
    pub(crate) undurable: AtomicU32,
    pub(crate) reserve: Reserve,
    /// Those who have written what the books do not know of yet.
    pub(crate) flights: Flights,
    /// The segment that reclaim is at.
    pub(crate) moving: Mutex<Option<Moving>>,
    /// Held by an import: of two at a time, one could take the id that the other is about to.
    pub(crate) importing: Mutex<()>,
    /// The latest time that any call told.
    pub(crate) latest: AtomicU32,
    pub(crate) keeper: Bell,
    pub(crate) counts: Counts,
}

/// What the spool has done since it was opened.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) accepted: AtomicU64,
    pub(crate) removed: AtomicU64,
    pub(crate) updated: AtomicU64,
    pub(crate) loaded: AtomicU64,
    pub(crate) released: AtomicU64,
    pub(crate) corrupt: AtomicU64,
    pub(crate) reclaimed_segments: AtomicU64,
    pub(crate) moved_bytes: AtomicU64,
}

pub(crate) struct Parts {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) dir: PathBuf,
    pub(crate) options: SpoolOptions,
    pub(crate) logs: [Log; 2],
    pub(crate) writers: Option<[Writer; 2]>,
    /// How often the spool was opened: no two runs give the same numbers.
    pub(crate) opened: u64,
    pub(crate) seed: u64,
}

impl Store {
    pub(crate) fn new(parts: Parts) -> Arc<Store> {
        let Parts { disk, dir, options, logs, writers, opened, seed } = parts;
        let limits = Limits {
            messages: options.max_resident_messages,
            bytes: options.max_resident_bytes,
            per_queue: options.max_resident_per_queue,
        };
        let reserve = Reserve::new(&dir, &options);
        Arc::new_cyclic(|me| Store {
            me: Weak::clone(me),
            disk,
            dir,
            logs,
            read_only: writers.is_none(),
            writers: RwLock::new(writers.map(Arc::new)),
            books: Mutex::new(Books::new(seed)),
            loading: Mutex::new(Loading::default()),
            loaded: Condvar::new(),
            changes: AtomicU64::new(opened << 40),
            ids: IdGenerator::new((opened & 0xffff) as u16),
            turns: std::array::from_fn(|_| Mutex::new(())),
            handles: Mutex::default(),
            residents: Mutex::new(Residents::new(limits)),
            unwritten: Mutex::default(),
            ahead: AtomicU32::new(0),
            made_ahead: AtomicU32::new(0),
            condemned: Mutex::default(),
            window: AtomicU32::new(0),
            undurable: AtomicU32::new(0),
            reserve,
            flights: Flights::default(),
            moving: Mutex::default(),
            importing: Mutex::default(),
            latest: AtomicU32::new(0),
            keeper: Bell::default(),
            counts: Counts::default(),
            options,
        })
    }

    pub(crate) fn options(&self) -> &SpoolOptions {
        &self.options
    }

    pub(crate) fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_read_only(&self) -> bool {
        self.read_only
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.writers.read().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    pub(crate) fn is_loaded(&self) -> bool {
        let loading = self.loading.lock().unwrap_or_else(PoisonError::into_inner);
        matches!(loading.ended, Some(Ok(())))
    }

    /// The writer of a log, as long as the spool is open.
    pub(crate) fn writer(&self, log: LogNo) -> Result<LogWriter> {
        let writers = self.writers.read().unwrap_or_else(PoisonError::into_inner);
        match &*writers {
            Some(writers) => Ok(LogWriter { writers: Arc::clone(writers), log }),
            None if self.read_only => Err(SpoolError::ReadOnly),
            None => Err(SpoolError::Invalid("the spool was closed".to_owned())),
        }
    }

    /// The time that a call has told.
    pub(crate) fn tell_time(&self, now: Timestamp) {
        self.latest.fetch_max(now.seconds, Ordering::Relaxed);
    }

    pub(crate) fn log(&self, log: LogNo) -> &Log {
        &self.logs[log as usize]
    }

    pub(crate) fn next_change(&self) -> u64 {
        self.changes.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Nothing on the disk has a greater change number than this.
    pub(crate) fn observe_change(&self, change: u64) {
        self.changes.fetch_max(change, Ordering::Relaxed);
    }

    fn turn(&self, id: MessageId) -> usize {
        let mixed = id.to_u64().wrapping_mul(0x9e37_79b9_7f4a_7c15);
        usize::try_from(mixed >> 58).unwrap_or(0)
    }

    fn take_turn(&self, id: MessageId) -> MutexGuard<'_, ()> {
        self.turns[self.turn(id)].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the turns of all messages: nobody writes an update or a removal meanwhile.
    pub(crate) fn take_all_turns(&self) -> Vec<MutexGuard<'_, ()>> {
        self.turns.iter().map(|turn| turn.lock().unwrap_or_else(PoisonError::into_inner)).collect()
    }

    // Handles, and what stays in memory

    /// The message is stored here from now on.
    fn adopt(&self, message: &Message) {
        let _ = message.inner.store.set(Weak::clone(&self.me));
        self.handles().insert(message.id(), Arc::downgrade(&message.inner));
    }

    fn handles(&self) -> MutexGuard<'_, HashMap<MessageId, Weak<Inner>>> {
        self.handles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn handle(&self, id: MessageId) -> Option<Message> {
        self.handles().get(&id).and_then(Weak::upgrade).map(|inner| Message { inner })
    }

    /// The last handle of a message is gone. Another may have been made meanwhile.
    pub(crate) fn forget_handle(&self, id: MessageId) {
        let mut handles = self.handles();
        if handles.get(&id).is_some_and(|handle| handle.strong_count() == 0) {
            handles.remove(&id);
        }
    }

    pub(crate) fn residents(&self) -> MutexGuard<'_, Residents> {
        self.residents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The message was used: it stays in memory, and others go for it. What they have that the disk has not is written.
    pub(crate) fn touch(&self, message: &Message) {
        let leaving = {
            let state = message.state();
            let books = self.books();
            match books.find(message.id().to_u64()) {
                Some(_) => self.reside(message, &state),
                None => Vec::new(),
            }
        };
        leaving.iter().for_each(|message| self.let_go(message));
    }

    /// Notes a message among those that stay in memory, with the books in hand, so that nobody removes it meanwhile.
    /// Returns those that have to [go](Store::let_go): perhaps this one.
    pub(crate) fn reside(&self, message: &Message, state: &State) -> Vec<Message> {
        match &state.body {
            Body::Memory(bytes) if !message.goes_with_its_handles() => {
                let mut residents = self.residents();
                let mut gone = residents.keep(message, bytes.len() as u64, Arc::clone(&state.standing.queue));
                if message.goes_with_its_handles() {
                    // Somebody has said so just now.
                    gone.extend(residents.forget(message.id()));
                }
                gone
            }
            _ => Vec::new(),
        }
    }

    /// The message does not stay in memory for the spool's sake any more.
    pub(crate) fn forget_resident(&self, id: MessageId) {
        // Not dropped with the lock in hand: it may be the last handle, and that asks for this lock again.
        let gone = self.residents().forget(id);
        drop(gone);
    }

    pub(crate) fn forget_unwritten(&self, id: MessageId) {
        let gone = self.unwritten.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        drop(gone);
    }

    /// Releases what the disk has of a message. A message that is in memory alone, or cannot be written, keeps all it has.
    pub(crate) fn let_go(&self, message: &Message) {
        let saved = {
            let state = message.state();
            state.stored && state.dirty == Dirty::default() && state.resources.is_empty()
        };
        if !saved {
            let now = Timestamp::new(self.latest.load(Ordering::Relaxed), 0);
            let how = Change { force: self.is_unwritten(message.id()), wait: false, ..Change::default() };
            if self.update(message, now, how).is_err() {
                return;
            }
        }
        if message.release(!self.options.keep_contexts) {
            self.counts.released.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The writer of one of a spool's logs.
pub(crate) struct LogWriter {
    writers: Arc<[Writer; 2]>,
    log: LogNo,
}

impl std::ops::Deref for LogWriter {
    type Target = Writer;

    fn deref(&self) -> &Writer {
        &self.writers[self.log as usize]
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Store({})", self.dir.display())
    }
}
