//! `Spool`: the application's side of it all.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;

use jlog::Timestamp;
use jlog::io::forks;

use crate::books::{Books, CORRUPT, HELD, PIECES, RESOURCES, UNWRITTEN};
use crate::builder::MessageBuilder;
use crate::error::{Result, SpoolError};
use crate::id::MessageId;
use crate::index::{QueueKey, Slot, State};
use crate::keep::Keeper;
use crate::load::Report;
use crate::message::Message;
use crate::options::{Durability, SpoolOptions};
use crate::pool::{Completion, Pool};
use crate::reclaim::Maintained;
use crate::retry::{NextAttempt, RetryPolicy};
use crate::store::{Change, Store, Written};

/// A spool: messages held durably between "accepted" and "delivered".
///
/// One process owns it; its threads share it by reference. In a fork of that process it takes nothing, and dropping it
/// changes nothing: fork first, then open. Times are arguments: nothing here asks what time it is.
#[derive(Debug)]
pub struct Spool {
    pub(crate) keeper: Option<Keeper>,
    pub(crate) loader: Option<JoinHandle<()>>,
    pub(crate) store: Arc<Store>,
    /// The [`forks`] at which it was opened.
    pub(crate) forks: u32,
}

/// How far a spool is read in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecoveryProgress {
    /// Segments that hold, or may hold, messages; 0 before they are counted.
    pub total: u64,
    /// Those that were read.
    pub done: u64,
    /// All is read: every call answers.
    pub complete: bool,
}

/// What a message is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ListedState {
    /// It waits for its next attempt.
    Delayed,
    /// It was handed out.
    Active,
    /// It is kept out of the schedule: see [`Spool::hold`].
    Held,
    /// A record of it is damaged.
    Corrupt,
    /// It is in no list.
    Idle,
}

/// What the spool knows of a message without reading anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The message.
    pub id: MessageId,
    /// The bytes of its body; 4 GiB - 1 for more.
    pub size: u32,
    /// How often its delivery was tried; 255 for more.
    pub attempts: u8,
    /// When its next turn comes, in seconds since 1970.
    pub next_attempt: u32,
    /// Its priority.
    pub priority: u8,
    /// Its queue.
    pub queue: QueueKey,
    /// What it is doing.
    pub state: ListedState,
    /// Its body is large, or shared with other messages.
    pub in_pieces: bool,
    /// It has resources.
    pub has_resources: bool,
    /// Nothing of it is on the disk: [`Durability::Deferred`].
    pub unwritten: bool,
}

/// Where a message's own record lies, for tools: see [`Spool::location`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// The segment's file.
    pub path: PathBuf,
    /// The record's offset in it, in bytes.
    pub offset: u64,
}

/// What a queue holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueInfo {
    /// Which.
    pub key: QueueKey,
    /// All its messages.
    pub messages: u64,
    /// Those that wait.
    pub delayed: u64,
    /// Those that were handed out.
    pub active: u64,
    /// The bytes of all bodies.
    pub bytes: u64,
    /// When the first of those that wait is due.
    pub next_due: Option<u32>,
}

/// Figures of a spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct SpoolStats {
    /// Messages held.
    pub messages: u64,
    /// Bytes of their bodies, each message's counted.
    pub bytes: u64,
    /// Messages of which a record is damaged.
    pub corrupt: u64,
    /// Messages kept out of the schedule.
    pub held: u64,
    /// Queues that hold a message.
    pub queues: u64,
    /// Messages the spool itself keeps in memory.
    pub resident: u64,
    /// Bytes of their bodies.
    pub resident_bytes: u64,
    /// Bytes of memory that the index takes.
    pub index_bytes: u64,
    /// Segments that hold messages, or may.
    pub segments: u64,
    /// Bytes of records in them.
    pub disk_bytes: u64,
    /// About how many of these are needed.
    pub live_bytes: u64,
    /// Removals that may not be on the disk.
    pub undurable_removes: u64,
    /// Messages accepted since the spool was opened.
    pub accepted: u64,
    /// Messages removed.
    pub removed: u64,
    /// Updates written.
    pub updated: u64,
    /// Messages whose metadata was read.
    pub loaded: u64,
    /// Bodies released from memory.
    pub released: u64,
    /// Damaged records met.
    pub damaged_records: u64,
    /// Segments given back.
    pub reclaimed_segments: u64,
    /// Bytes copied for that.
    pub moved_bytes: u64,
}

impl Spool {
    /// Opens the spool with the default options, and makes it where there is none. One process owns it from then on.
    ///
    /// It returns before all is read in (see [`Spool::recovery`]): messages are accepted at once; whatever needs to know what
    /// is held waits.
    ///
    /// # Errors
    /// [`Locked`](SpoolError::Locked) if another process owns it; [`NotASpool`](SpoolError::NotASpool) if something else is there;
    /// [`Newer`](SpoolError::Newer) for a spool of a later version.
    pub fn open(path: impl AsRef<Path>) -> Result<Spool> {
        SpoolOptions::new().open(path)
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.store.dir
    }

    /// How it was opened.
    pub fn options(&self) -> &SpoolOptions {
        self.store.options()
    }

    /// How far it is read in.
    pub fn recovery(&self) -> RecoveryProgress {
        let loading = self.store.loading.lock().unwrap_or_else(PoisonError::into_inner);
        RecoveryProgress { total: loading.total, done: loading.done, complete: loading.ended.is_some() }
    }

    /// Waits until it is read in, and tells what was found.
    ///
    /// # Errors
    /// What kept it from being read in.
    pub fn wait_recovered(&self) -> Result<Report> {
        self.store.wait_loaded()?;
        Ok(self.store.loading.lock().unwrap_or_else(PoisonError::into_inner).report.clone())
    }

    // Making and accepting messages

    /// An id that no message has, or had.
    pub fn new_id(&self, now: Timestamp) -> MessageId {
        self.store.ids.next(now.seconds)
    }

    /// An empty message.
    pub fn message(&self, now: Timestamp) -> Message {
        Message::new(self.new_id(now))
    }

    /// A message that is about to be received, of about `size_hint` bytes (0: not known).
    pub fn builder(&self, now: Timestamp, size_hint: usize) -> MessageBuilder {
        MessageBuilder::new(Arc::clone(&self.store), self.new_id(now), now, size_hint)
    }

    /// Takes a message over: when this returns the sender may be told so. As durable as
    /// [`SpoolOptions::durability`] says: by default it is on the disk.
    ///
    /// # Errors
    /// Nothing of it is held then: [`Full`](SpoolError::Full), [`TooLarge`](SpoolError::TooLarge),
    /// [`Refused`](SpoolError::Refused), [`Exists`](SpoolError::Exists). After [`Unhealthy`](SpoolError::Unhealthy), or another
    /// failure of the disk, it may be held or not: do not tell the sender that it is.
    pub fn accept(&self, message: &Message, now: Timestamp) -> Result<()> {
        self.accept_batch(std::slice::from_ref(message), now)
    }

    /// Takes several messages over, all or none: with one write and one sync, and with one body for those that
    /// [share](Message::share) it.
    ///
    /// # Errors
    /// As [`Spool::accept`].
    pub fn accept_batch(&self, messages: &[Message], now: Timestamp) -> Result<()> {
        self.accept_as(messages, now, self.store.options().durability)
    }

    /// As [`Spool::accept_batch`], as durable as is said here (`force_sync`: [`Durability::Power`]).
    ///
    /// # Errors
    /// As [`Spool::accept`].
    pub fn accept_as(&self, messages: &[Message], now: Timestamp, durability: Durability) -> Result<()> {
        self.store.tell_time(now);
        self.store.accept(messages, now, durability)
    }

    /// Accepts in a thread of `pool`'s: the SWAPOUT pool of Momentum. Where the pool's backlog is full, it waits here.
    pub fn submit(&self, pool: &Pool, messages: Vec<Message>, now: Timestamp) -> Completion<Result<()>> {
        self.store.tell_time(now);
        let store = Arc::clone(&self.store);
        pool.submit(move || store.accept(&messages, now, store.options().durability))
    }

    // Having messages

    /// The message of this id, its metadata read if it is not in memory. All who ask get the same message.
    ///
    /// # Errors
    /// [`NotFound`](SpoolError::NotFound), [`Corrupt`](SpoolError::Corrupt), [`Refused`](SpoolError::Refused) by a hook.
    pub fn get(&self, id: MessageId) -> Result<Message> {
        self.store.get(id)
    }

    /// Whether a message is held.
    ///
    /// # Errors
    /// What kept the spool from being read in.
    pub fn contains(&self, id: MessageId) -> Result<bool> {
        self.store.wait_loaded()?;
        Ok(self.store.books().find(id.to_u64()).is_some())
    }

    /// How many messages are held.
    ///
    /// # Errors
    /// What kept the spool from being read in.
    pub fn len(&self) -> Result<u64> {
        self.store.wait_loaded()?;
        Ok(self.store.books().messages())
    }

    /// Whether none is held.
    ///
    /// # Errors
    /// What kept the spool from being read in.
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }

    /// All messages, in no order, without reading anything. Those that come or go meanwhile may be seen or not.
    ///
    /// # Errors
    /// What kept the spool from being read in.
    pub fn entries(&self) -> Result<Entries<'_>> {
        self.store.wait_loaded()?;
        Ok(Entries { store: &self.store, after: None, page: Vec::new().into_iter(), ended: false })
    }

    /// What is known of one message without reading anything.
    ///
    /// # Errors
    /// [`NotFound`](SpoolError::NotFound).
    pub fn entry(&self, id: MessageId) -> Result<Listed> {
        self.store.wait_loaded()?;
        let books = self.store.books();
        let slot = books.find(id.to_u64()).ok_or(SpoolError::NotFound(id))?;
        Ok(listed(&books, slot))
    }

    /// Where a message's own record lies now: reclaim may move it at any time. It stands in place of the path that
    /// `ec_spool_ctx_construct_filename` makes of an id; `None` for a message that is in memory alone.
    ///
    /// # Errors
    /// [`NotFound`](SpoolError::NotFound).
    pub fn location(&self, id: MessageId) -> Result<Option<Location>> {
        self.store.wait_loaded()?;
        let books = self.store.books();
        let slot = books.find(id.to_u64()).ok_or(SpoolError::NotFound(id))?;
        let spot = books.base(slot);
        Ok(books.home(spot).map(|home| {
            let segment = jlog::SegmentId(home.segment).to_string();
            Location { path: self.store.log(home.log).path().join(segment), offset: spot.offset() }
        }))
    }

    // Changing and removing

    /// Writes what was changed of a message since it was written: how it stands alone, where that suffices.
    ///
    /// # Errors
    /// [`Refused`](SpoolError::Refused) by a hook, [`NotFound`](SpoolError::NotFound), and those of writing: the changes stay
    /// in memory.
    pub fn update(&self, message: &Message, now: Timestamp) -> Result<Written> {
        self.store.update(message, now, Change::default())
    }

    /// As [`Spool::update`], all of the metadata, changed or not (`force`).
    ///
    /// # Errors
    /// As [`Spool::update`].
    pub fn update_all(&self, message: &Message, now: Timestamp) -> Result<Written> {
        self.store.update(message, now, Change { force: true, ..Change::default() })
    }

    /// Removes a message: it was delivered, or has failed. In the kernel when it returns; a power cut may bring back what was
    /// removed in the last moments (see [`SpoolOptions::max_undurable_removes`]).
    ///
    /// # Errors
    /// [`NotFound`](SpoolError::NotFound), and those of writing: the message stays.
    pub fn remove(&self, id: MessageId) -> Result<()> {
        match self.store.remove(&[id])? {
            0 => Err(SpoolError::NotFound(id)),
            _ => Ok(()),
        }
    }

    /// Removes several, with one record, and returns how many of them there were.
    ///
    /// # Errors
    /// Those of writing.
    pub fn remove_all(&self, ids: &[MessageId]) -> Result<usize> {
        self.store.remove(ids)
    }

    /// As [`Spool::remove`], on the disk when it returns.
    ///
    /// # Errors
    /// As [`Spool::remove`].
    pub fn remove_durable(&self, id: MessageId) -> Result<()> {
        self.remove(id)?;
        self.sync()
    }

    /// Makes everything durable that was written so far.
    ///
    /// # Errors
    /// [`Unhealthy`](SpoolError::Unhealthy).
    pub fn sync(&self) -> Result<()> {
        self.store.sync()
    }

    // The schedule

    /// Hands out messages whose time has come, at most so many: the earliest first, of those the ones of higher priority.
    /// They are active from then on, until they are [tried again](Spool::retry), [put back](Spool::put_back) or removed.
    ///
    /// # Errors
    /// What kept the spool from being read in.
    pub fn due(&self, now: Timestamp, limit: usize) -> Result<Vec<MessageId>> {
        self.store.wait_loaded()?;
        self.store.tell_time(now);
        let mut books = self.store.books();
        let due = books.index.due(now.seconds, limit);
        Ok(ids(&books, due))
    }

    /// As [`Spool::due`], of one queue.
    ///
    /// # Errors
    /// What kept the spool from being read in.
    pub fn due_in(&self, queue: &QueueKey, now: Timestamp, limit: usize) -> Result<Vec<MessageId>> {
        self.store.wait_loaded()?;
        let mut books = self.store.books();
        let Some(queue) = books.index.queue(queue) else { return Ok(Vec::new()) };
        let due = books.index.due_in(queue, now.seconds, limit);
        Ok(ids(&books, due))
    }

    /// Hands out one message, due or not (`dequeue_live_message`). False, and nothing changes, if it was handed out already
    /// or is kept out of the schedule.
    ///
    /// # Errors
    /// [`NotFound`](SpoolError::NotFound).
    pub fn take(&self, id: MessageId) -> Result<bool> {
        self.store.wait_loaded()?;
        let mut books = self.store.books();
        let slot = books.find(id.to_u64()).ok_or(SpoolError::NotFound(id))?;
        let waits = books.index.get(slot).state() == State::Delayed;
        if waits {
            books.index.activate(slot);
        }
        Ok(waits)
    }

    /// When the next message is due, in seconds since 1970; `None` if none waits.
    ///
    /// # Errors
    /// What kept the spool from being read in.
    pub fn next_due(&self) -> Result<Option<u32>> {
        self.store.wait_loaded()?;
        Ok(self.store.books().index.next_due())
    }

    /// An attempt has failed: counts it, notes the reply, and puts the message where its next turn is, durably; or says
    /// that there is none, and leaves the message active, for its sender to be told and it to be removed. `spread` seconds
    /// are added to the wait: see [`Jitter`](crate::Jitter).
    ///
    /// # Errors
    /// As [`Spool::update`].
    pub fn retry(
        &self,
        message: &Message,
        reply: &[u8],
        policy: &RetryPolicy,
        spread: u32,
        now: Timestamp,
    ) -> Result<NextAttempt> {
        let attempts = message.attempts().saturating_add(1);
        let next = policy.next(message.created(), attempts, now.seconds, spread);
        message.attempted(
            attempts,
            reply,
            match next {
                NextAttempt::At(at) => Some(at),
                NextAttempt::Expired(_) => None,
            },
        );
        let waits = matches!(next, NextAttempt::At(_));
        self.store.update(message, now, Change { schedule: waits, ..Change::default() })?;
        Ok(next)
    }

    /// Puts a message that was handed out back to where it was in its queue.
    ///
    /// # Errors
    /// [`NotFound`](SpoolError::NotFound).
    pub fn put_back(&self, id: MessageId) -> Result<()> {
        let at = self.entry(id)?.next_attempt;
        self.reschedule(id, at)
    }

    /// Moves a message's next turn, in memory alone: after a crash it is where it was.
    ///
    /// # Errors
    /// [`NotFound`](SpoolError::NotFound).
    pub fn reschedule(&self, id: MessageId, at: u32) -> Result<()> {
        self.store.wait_loaded()?;
        let mut books = self.store.books();
        let slot = books.find(id.to_u64()).ok_or(SpoolError::NotFound(id))?;
        books.schedule(slot, at);
        Ok(())
    }

    /// Keeps a message out of the schedule, across restarts.
    ///
    /// # Errors
    /// As [`Spool::update`].
    pub fn hold(&self, id: MessageId, now: Timestamp) -> Result<()> {
        self.set_held(id, true, now)
    }

    /// Puts a message that was held back into the schedule.
    ///
    /// # Errors
    /// As [`Spool::update`].
    pub fn release(&self, id: MessageId, now: Timestamp) -> Result<()> {
        self.set_held(id, false, now)
    }

    fn set_held(&self, id: MessageId, held: bool, now: Timestamp) -> Result<()> {
        let message = self.get(id)?;
        message.set_held(held);
        self.store.update(&message, now, Change { schedule: true, ..Change::default() }).map(drop)
    }

    // Queues

    /// The queues that hold a message, by their keys.
    ///
    /// # Errors
    /// What kept the spool from being read in.
    pub fn queues(&self) -> Result<Vec<QueueInfo>> {
        self.store.wait_loaded()?;
        let books = self.store.books();
        Ok(books.index.queues().map(|(queue, key)| queue_info(&books, queue, key)).collect())
    }

    /// One queue; `None` if it holds nothing.
    ///
    /// # Errors
    /// What kept the spool from being read in.
    pub fn queue(&self, key: &QueueKey) -> Result<Option<QueueInfo>> {
        self.store.wait_loaded()?;
        let books = self.store.books();
        Ok(books.index.queue(key).map(|queue| queue_info(&books, queue, key)))
    }

    /// The queues of a group.
    ///
    /// # Errors
    /// What kept the spool from being read in.
    pub fn queues_of_group(&self, group: &str) -> Result<Vec<QueueInfo>> {
        Ok(self.queues()?.into_iter().filter(|queue| queue.key.group == group).collect())
    }

    /// A page of a queue: those that wait, in their order, and then those that were handed out. It begins behind `after`.
    ///
    /// # Errors
    /// [`NotFound`](SpoolError::NotFound) if `after` has gone.
    pub fn list(&self, queue: &QueueKey, after: Option<MessageId>, limit: usize) -> Result<Vec<Listed>> {
        self.store.wait_loaded()?;
        let books = self.store.books();
        let Some(queue) = books.index.queue(queue) else { return Ok(Vec::new()) };
        let after = match after {
            Some(id) => Some(books.find(id.to_u64()).ok_or(SpoolError::NotFound(id))?),
            None => None,
        };
        let page = books.index.list(queue, after, limit);
        Ok(page.into_iter().map(|slot| listed(&books, slot)).collect())
    }

    /// Removes those messages of a queue that `which` picks, without reading them: with one record for some ten thousand.
    /// How many there were.
    ///
    /// # Errors
    /// Those of writing.
    pub fn purge(&self, queue: &QueueKey, which: impl FnMut(&Listed) -> bool) -> Result<usize> {
        let ids = self.pick(queue, which)?;
        self.store.remove(&ids)
    }

    /// Makes those messages of a queue due at `at` that `which` picks, without reading them, and in memory alone: after a
    /// crash they are where they were. How many there were.
    ///
    /// # Errors
    /// What kept the spool from being read in.
    pub fn requeue(&self, queue: &QueueKey, at: u32, which: impl FnMut(&Listed) -> bool) -> Result<usize> {
        let ids = self.pick(queue, which)?;
        let mut books = self.store.books();
        let mut moved = 0;
        for id in ids {
            if let Some(slot) = books.find(id.to_u64())
                && books.index.get(slot).state() == State::Delayed
            {
                books.schedule(slot, at);
                moved += 1;
            }
        }
        Ok(moved)
    }

    /// Moves a message to another queue, durably (`assign_domain`, `change_binding_slot`).
    ///
    /// # Errors
    /// As [`Spool::update`].
    pub fn assign(&self, id: MessageId, queue: QueueKey, now: Timestamp) -> Result<()> {
        let message = self.get(id)?;
        message.set_queue(queue);
        self.store.update(&message, now, Change::default()).map(drop)
    }

    fn pick(&self, queue: &QueueKey, mut which: impl FnMut(&Listed) -> bool) -> Result<Vec<MessageId>> {
        self.store.wait_loaded()?;
        let (mut picked, mut after) = (Vec::new(), None);
        loop {
            let books = self.store.books();
            let Some(number) = books.index.queue(queue) else { return Ok(picked) };
            let page: Vec<Slot> = books.index.slots_after(after).take(PAGE).collect();
            let Some(last) = page.last() else { return Ok(picked) };
            after = Some(*last);
            let ours = page.into_iter().filter(|slot| books.index.get(*slot).queue() == number);
            let ours: Vec<Listed> = ours.map(|slot| listed(&books, slot)).collect();
            drop(books);
            picked.extend(ours.iter().filter(|listed| which(listed)).map(|listed| listed.id));
        }
    }

    // Memory, and keeping the disk

    /// Whether so much is in memory that more should be released (`ec_message_should_reduce_resources`).
    pub fn should_reduce_resources(&self) -> bool {
        self.store.residents().is_full()
    }

    /// Writes what is in memory alone: see [`Durability::Deferred`].
    ///
    /// # Errors
    /// Those of writing.
    pub fn write_deferred(&self, now: Timestamp) -> Result<()> {
        self.store.write_all(now)
    }

    /// A bounded piece of keeping: gives back segments that are not needed, having copied at most about `budget` bytes of
    /// what is, and writes summaries. The spool's own thread does it, where it has one.
    ///
    /// # Errors
    /// Those of reading and writing.
    pub fn maintain(&self, budget: u64) -> Result<Maintained> {
        self.store.remove_condemned();
        let mut done = self.store.reclaim(budget)?;
        done.summaries = self.store.summarize(false)?;
        Ok(done)
    }

    /// Figures.
    pub fn stats(&self) -> SpoolStats {
        let counts = &self.store.counts;
        let read = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed);
        let mut stats = SpoolStats {
            accepted: read(&counts.accepted),
            removed: read(&counts.removed),
            updated: read(&counts.updated),
            loaded: read(&counts.loaded),
            released: read(&counts.released),
            damaged_records: read(&counts.corrupt),
            reclaimed_segments: read(&counts.reclaimed_segments),
            moved_bytes: read(&counts.moved_bytes),
            undurable_removes: u64::from(self.store.undurable.load(Ordering::Relaxed)),
            ..SpoolStats::default()
        };
        {
            let residents = self.store.residents();
            (stats.resident, stats.resident_bytes) = (residents.len() as u64, residents.bytes());
        }
        let books = self.store.books();
        let totals = books.totals;
        (stats.messages, stats.bytes) = (books.messages(), totals.bytes);
        (stats.corrupt, stats.held) = (totals.corrupt, totals.held);
        stats.queues = books.index.queue_count() as u64;
        stats.index_bytes = books.index.memory() as u64;
        for segment in books.segments() {
            stats.segments += 1;
            stats.disk_bytes += segment.end;
            stats.live_bytes += books.needed(segment).min(segment.end);
        }
        stats
    }

    /// Writes what is in memory alone, syncs, and leaves the spool so that it opens quickly. Handles of messages that are
    /// still there find it closed. Dropping a spool does the same and ignores errors.
    ///
    /// # Errors
    /// Those of writing.
    pub fn close(mut self) -> Result<()> {
        self.shut()
    }

    fn shut(&mut self) -> Result<()> {
        self.keeper = None;
        let loader = self.loader.take();
        // The threads, and whatever locks they held, are those of the process that opened it.
        if self.forks != forks() {
            return Err(SpoolError::Invalid("the spool belongs to the process that opened it".to_owned()));
        }
        if let Some(loader) = loader {
            let _ = loader.join();
        }
        if self.store.is_read_only() || self.store.is_closed() {
            return Ok(());
        }
        let now = Timestamp::new(self.store.latest.load(Ordering::Relaxed), 0);
        let written = self.store.write_all(now).and_then(|()| self.store.sync());
        // What cannot be summarized is read when the spool is opened.
        let _ = self.store.summarize(true);
        let closed = self.store.close_logs();
        written.and(closed)
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        let _ = self.shut();
    }
}

/// The messages of a spool, one after the other: see [`Spool::entries`].
#[derive(Debug)]
pub struct Entries<'a> {
    store: &'a Store,
    after: Option<Slot>,
    page: std::vec::IntoIter<Listed>,
    ended: bool,
}

/// Entries are copied so many at a time: in between, others may take the books.
const PAGE: usize = 1024;

impl Iterator for Entries<'_> {
    type Item = Listed;

    fn next(&mut self) -> Option<Listed> {
        if let Some(listed) = self.page.next() {
            return Some(listed);
        }
        if self.ended {
            return None;
        }
        let books = self.store.books();
        let slots: Vec<Slot> = books.index.slots_after(self.after).take(PAGE).collect();
        self.ended = slots.len() < PAGE;
        self.after = slots.last().copied();
        self.page = slots.into_iter().map(|slot| listed(&books, slot)).collect::<Vec<_>>().into_iter();
        drop(books);
        self.page.next()
    }
}

fn ids(books: &Books, slots: Vec<Slot>) -> Vec<MessageId> {
    slots.into_iter().map(|slot| MessageId::from_u64(books.index.get(slot).id())).collect()
}

fn listed(books: &Books, slot: Slot) -> Listed {
    let entry = books.index.get(slot);
    let state = match entry.state() {
        _ if entry.flags & CORRUPT != 0 => ListedState::Corrupt,
        _ if entry.flags & HELD != 0 => ListedState::Held,
        State::Delayed => ListedState::Delayed,
        State::Active => ListedState::Active,
        State::Idle | State::Free => ListedState::Idle,
    };
    Listed {
        id: MessageId::from_u64(entry.id()),
        size: entry.size(),
        attempts: entry.attempts,
        next_attempt: entry.next_attempt(),
        priority: entry.priority(),
        queue: books.queue_key(slot).clone(),
        state,
        in_pieces: entry.flags & PIECES != 0,
        has_resources: entry.flags & RESOURCES != 0,
        unwritten: entry.flags & UNWRITTEN != 0,
    }
}

fn queue_info(books: &Books, queue: crate::index::QueueRef, key: &QueueKey) -> QueueInfo {
    let counts = books.index.counts(queue);
    let first = books.index.first_delayed(queue);
    QueueInfo {
        key: key.clone(),
        messages: u64::from(counts.messages),
        delayed: u64::from(counts.delayed),
        active: u64::from(counts.active),
        bytes: counts.bytes,
        next_due: first.map(|slot| books.index.get(slot).next_attempt()),
    }
}
