//! The store: two logs, the books over them, and every change to both, in an order that a crash may break off anywhere.
//!
//! Locks are taken in this order, and never held while waiting for a disk but where said: a message's state (held over the
//! writing of that message), a message's turn (held over the writing of an update or a removal, not over its sync), the
//! books (memory only), then the small ones: handles, residents, and so on.

use std::collections::HashMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, Weak};

use jlog::io::Disk;
use jlog::{Entry, ErrorKind, Log, Place, SegmentId, Timestamp, Writer};

use crate::body::{Body, PIECE, Pieces};
use crate::books::{self, Books, CORRUPT, Coming, NOWHERE, Piece, Spot, UNWRITTEN};
use crate::context::Context;
use crate::error::{Resource, Result, SpoolError};
use crate::hooks::{LoadOutcome, MetaEdit, ask};
use crate::id::{IdGenerator, MessageId};
use crate::index::Slot;
use crate::keep::Bell;
use crate::load::Loading;
use crate::message::{Dirty, Held, Inner, Message, State};
use crate::note::Stands;
use crate::options::{Durability, OnCorrupt, SpoolOptions};
use crate::quarantine;
use crate::reclaim::Moving;
use crate::record::{
    Accept, BodyPlace, CHUNK_HEAD, Chunk, Home, LogNo, Meta, Remove, ResourceRecord, Standing, Update, kind,
    log_kind,
};
use crate::reserve::Reserve;
use crate::residency::{Limits, Residents};

/// Messages have their turns, by id: two changes of one message are written in the order in which the books see them.
const TURNS: usize = 64;
/// How many messages one record of removals names at most.
const REMOVES: usize = 1 << 16;

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
    /// The hour that the active segment of the arrivals is of.
    window: AtomicU32,
    /// Removals that may not be on the disk.
    pub(crate) undurable: AtomicU32,
    reserve: Mutex<Reserve>,
    /// The segment that reclaim is at.
    pub(crate) moving: Mutex<Option<Moving>>,
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

/// What [`Spool::update`](crate::Spool::update) wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Written {
    /// Nothing: the disk has it as it is.
    None,
    /// How the message stands: some hundred bytes.
    Standing,
    /// All its metadata, and how it stands.
    Full,
}

/// The records of one commit on their way.
#[derive(Default)]
struct Draft {
    bytes: Vec<u8>,
    records: Vec<(u8, Range<usize>)>,
}

impl Draft {
    fn put(&mut self, kind: u8, encode: impl FnOnce(&mut Vec<u8>)) -> usize {
        let from = self.bytes.len();
        encode(&mut self.bytes);
        self.records.push((kind, from..self.bytes.len()));
        self.records.len() - 1
    }

    fn entries(&self, time: Timestamp) -> Vec<Entry<'_>> {
        let entry = |(kind, range): &(u8, Range<usize>)| Entry {
            kind: log_kind(*kind),
            time,
            payload: &self.bytes[range.clone()],
        };
        self.records.iter().map(entry).collect()
    }
}

/// What a message's records say of it.
pub(crate) struct Fetched {
    pub(crate) standing: Standing,
    pub(crate) meta: Meta,
    pub(crate) body: Body,
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
        let reserve = Reserve::new(&dir, options.reserve, options.mode);
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
            window: AtomicU32::new(0),
            undurable: AtomicU32::new(0),
            reserve: Mutex::new(reserve),
            moving: Mutex::default(),
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

    /// Keeps room for a full disk. Where there is none now, nothing is accepted before there is.
    pub(crate) fn fill_reserve(&self) {
        let _ = self.reserve.lock().unwrap_or_else(PoisonError::into_inner).fill(&*self.disk);
    }

    pub(crate) fn log(&self, log: LogNo) -> &Log {
        &self.logs[log as usize]
    }

    fn next_change(&self) -> u64 {
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

    /// How durable a write is that is acknowledged.
    fn acknowledged(&self, durability: Durability) -> jlog::Durability {
        match durability {
            Durability::Power if self.options.commit_delay.is_zero() => jlog::Durability::Sync,
            Durability::Power => jlog::Durability::Group(self.options.commit_delay),
            Durability::Process | Durability::Deferred { .. } => jlog::Durability::Process,
        }
    }

    // Accepting

    /// Writes messages that are new: all of them, or none.
    pub(crate) fn accept(&self, batch: &[Message], now: Timestamp, durability: Durability) -> Result<()> {
        self.writer(LogNo::Arrivals)?;
        for message in batch {
            ask("on_recipient", &self.options.hooks, |hook| hook.on_recipient(message))?;
        }
        ask("before_accept", &self.options.hooks, |hook| hook.before_accept(batch))?;

        let mut batch: Vec<&Message> = batch.iter().collect();
        batch.sort_unstable_by_key(|message| message.id());
        if let Some(twice) = batch.windows(2).find(|pair| pair[0].id() == pair[1].id()) {
            return Err(SpoolError::Exists(twice[0].id()));
        }
        let mut states: Vec<MutexGuard<'_, State>> = batch.iter().map(|message| message.state()).collect();
        self.require_room(&batch, &states)?;

        if matches!(durability, Durability::Deferred { .. }) {
            return self.hold(&batch, &mut states);
        }
        let mut draft = Draft::default();
        let mut bodies = SharedBodies::of(&states, self.options.large_message_threshold);
        let mut drafted = Vec::with_capacity(batch.len());
        for (message, state) in batch.iter().zip(&mut states) {
            let place = self.draft_body(&mut draft, state, &mut bodies)?;
            drafted.push(self.draft_message(&mut draft, message.id(), state, place)?);
        }
        self.enter_window(now)?;
        let writer = self.writer(LogNo::Arrivals)?;
        let places = writer.append_entries(&draft.entries(now), self.acknowledged(durability))?;

        let mut books = self.books();
        for (number, pieces) in &bodies.drafted {
            self.book_pieces(&mut books, *number, pieces, &places)?;
        }
        for ((message, state), drafted) in batch.iter().zip(&mut states).zip(&drafted) {
            let (spot, span) = self.book(&mut books, &places[drafted.record])?;
            let slot = match books.find(message.id().to_u64()) {
                // It was in memory alone until now.
                Some(slot) => {
                    books.written(slot, spot, span, drafted.place);
                    slot
                }
                None => self.book_message(&mut books, message.id(), state, spot, span, drafted.place),
            };
            for (name, record) in &drafted.resources {
                let (spot, span) = self.book(&mut books, &places[*record])?;
                books.set_resource(slot, name, Some((spot, u32::try_from(span).unwrap_or(u32::MAX))));
            }
        }
        drop(books);
        for ((message, state), drafted) in batch.iter().zip(&mut states).zip(drafted) {
            state.resources.clear();
            state.dirty = Dirty::default();
            state.stored = true;
            if let (BodyPlace::Pieces(number), Body::Memory(bytes)) = (drafted.place, &state.body)
                && bytes.len() as u64 >= self.options.large_message_threshold
            {
                let pieces = self.body_handle(number, bytes.len() as u64);
                state.body = Body::Pieces(pieces);
            }
            self.adopt(message);
        }
        drop(states);
        self.counts.accepted.fetch_add(batch.len() as u64, Ordering::Relaxed);
        for message in batch {
            self.touch(message);
        }
        Ok(())
    }

    /// Refuses what there is no room for, before anything of it is written.
    fn require_room(&self, batch: &[&Message], states: &[MutexGuard<'_, State>]) -> Result<()> {
        let mut bytes = 0;
        for (message, state) in batch.iter().zip(states) {
            let size = state.body.size();
            if size > self.options.max_message_size {
                let limit = self.options.max_message_size;
                return Err(SpoolError::TooLarge { what: "a message", size, limit });
            }
            if let Body::Pieces(pieces) = &state.body
                && !Weak::ptr_eq(&pieces.store, &self.me)
            {
                let what = format!("the body of message {} lies in another spool", message.id());
                return Err(SpoolError::Invalid(what));
            }
            bytes += size;
        }
        let books = self.books();
        for (message, state) in batch.iter().zip(states) {
            let there = books.find(message.id().to_u64());
            let unwritten = there.is_some_and(|slot| books.index.get(slot).flags & UNWRITTEN != 0);
            if (there.is_some() && !unwritten) || (state.stored && !unwritten) {
                return Err(SpoolError::Exists(message.id()));
            }
        }
        let totals = books.totals;
        drop(books);
        let over = |what, have: u64, more: u64, limit: Option<u64>, unit| {
            let limit = limit.filter(|limit| have + more > *limit)?;
            let detail =
                format!("it holds {have} {unit}, and with {more} more its limit of {limit} is passed");
            Some(SpoolError::Full { what, detail })
        };
        let more = batch.len() as u64;
        let full = over(Resource::Messages, totals.messages, more, self.options.max_messages, "messages")
            .or_else(|| over(Resource::Bytes, totals.bytes, bytes, self.options.max_bytes, "bytes"));
        if let Some(full) = full {
            return Err(full);
        }
        let mut reserve = self.reserve.lock().unwrap_or_else(PoisonError::into_inner);
        reserve.require(&*self.disk, bytes, self.options.min_free)
    }

    /// Holds messages in memory alone: `Durability::Deferred`.
    fn hold(&self, batch: &[&Message], states: &mut [MutexGuard<'_, State>]) -> Result<()> {
        let mut books = self.books();
        for (message, state) in batch.iter().zip(states) {
            let slot = self.book_message(&mut books, message.id(), state, NOWHERE, 0, BodyPlace::Inline);
            books.set_flag(slot, UNWRITTEN, true);
            self.adopt(message);
            let mut unwritten = self.unwritten.lock().unwrap_or_else(PoisonError::into_inner);
            unwritten.insert(message.id(), (*message).clone());
        }
        Ok(())
    }

    /// Puts into the draft what of a message's body lies beside its own record.
    fn draft_body(&self, draft: &mut Draft, state: &State, bodies: &mut SharedBodies) -> Result<BodyPlace> {
        let bytes = match &state.body {
            Body::Memory(bytes) => bytes,
            Body::Pieces(pieces) => return Ok(BodyPlace::Pieces(pieces.number)),
            Body::OnDisk { .. } => {
                return Err(SpoolError::Invalid(
                    "the body of a message that is not stored is missing".into(),
                ));
            }
        };
        let Some(known) = bodies.by_address.get_mut(&address(bytes)) else { return Ok(BodyPlace::Inline) };
        if let Some(number) = *known {
            return Ok(BodyPlace::Pieces(number));
        }
        let number = self.next_change();
        *known = Some(number);
        let mut at = 0;
        let mut pieces = Vec::new();
        for piece in bytes.chunks(PIECE) {
            let chunk = Chunk { body: number, at, bytes: piece };
            let record = draft.put(kind::CHUNK, |out| chunk.encode(out));
            pieces.push((at, piece.len(), record));
            at += piece.len() as u64;
        }
        bodies.drafted.push((number, pieces));
        Ok(BodyPlace::Pieces(number))
    }

    fn draft_message(
        &self,
        draft: &mut Draft,
        id: MessageId,
        state: &mut State,
        place: BodyPlace,
    ) -> Result<Drafted> {
        let meta = self.encode_meta(id, state)?;
        let change = self.next_change();
        let empty: Arc<[u8]> = Arc::from([]);
        let inline = match (&state.body, place) {
            (Body::Memory(bytes), BodyPlace::Inline) => bytes,
            _ => &empty,
        };
        let accept = Accept {
            id: id.to_u64(),
            change,
            standing: state.standing.clone(),
            meta: &meta,
            place,
            size: state.body.size(),
            body: inline,
        };
        let record = draft.put(kind::ACCEPT, |out| accept.encode(out));
        let resources = self.draft_resources(draft, id, state, None);
        Ok(Drafted { record, place, resources })
    }

    fn draft_resources(
        &self,
        draft: &mut Draft,
        id: MessageId,
        state: &State,
        base: Option<Home>,
    ) -> Vec<(String, usize)> {
        let mut drafted = Vec::new();
        for (name, held) in &state.resources {
            let bytes = match held {
                Held::Dirty(bytes) => Some(&bytes[..]),
                Held::Deleted => None,
            };
            let record = ResourceRecord { id: id.to_u64(), change: self.next_change(), base, name, bytes };
            drafted.push((name.clone(), draft.put(kind::RESOURCE, |out| record.encode(out))));
        }
        drafted
    }

    /// The metadata as it will be written: after the hooks' last change, and without what is filtered out.
    fn encode_meta(&self, id: MessageId, state: &mut State) -> Result<Vec<u8>> {
        let contexts = state.contexts.get_or_insert_with(Default::default);
        let mut edit = MetaEdit { id, envelope: &mut state.envelope, contexts };
        ask("before_update", &self.options.hooks, |hook| hook.before_update(&mut edit))?;
        let filters = &self.options.context_filter;
        let kept = [filters[0].apply(&contexts[0]), filters[1].apply(&contexts[1])];
        let meta = Meta { envelope: state.envelope.clone(), contexts: kept };
        let mut out = Vec::new();
        meta.encode(&mut out);
        let (size, limit) = (out.len() as u64, self.options.max_metadata_size);
        if size > limit {
            return Err(SpoolError::TooLarge { what: "the metadata of a message", size, limit });
        }
        Ok(out)
    }

    /// Where a record that was just written lies, for the books.
    fn book(&self, books: &mut Books, place: &Place) -> Result<(Spot, u64)> {
        self.book_in(books, LogNo::Arrivals, place)
    }

    pub(crate) fn book_in(&self, books: &mut Books, log: LogNo, place: &Place) -> Result<(Spot, u64)> {
        let spot = books.spot(books::home(log, place.id.segment), place.offset)?;
        books.reaches(spot, place.stored_len);
        Ok((spot, place.stored_len))
    }

    fn book_pieces(
        &self,
        books: &mut Books,
        number: u64,
        pieces: &[(u64, usize, usize)],
        places: &[Place],
    ) -> Result<()> {
        for (at, len, record) in pieces {
            let (spot, _) = self.book(books, &places[*record])?;
            books.add_piece(number, Piece { at: *at, len: u32::try_from(*len).unwrap_or(u32::MAX), spot });
        }
        Ok(())
    }

    fn book_message(
        &self,
        books: &mut Books,
        id: MessageId,
        state: &State,
        spot: Spot,
        span: u64,
        place: BodyPlace,
    ) -> Slot {
        let stands = Stands::from(state.standing.clone());
        let next = stands.next_attempt;
        let size = state.body.size();
        let slot = books.add(&Coming { id: id.to_u64(), spot, span, place, size, stands, flags: 0 });
        books.schedule(slot, next);
        slot
    }

    /// Goes on in a new segment where the hour is another one than that of the active segment.
    fn enter_window(&self, now: Timestamp) -> Result<()> {
        let window = now.seconds / 3600;
        let before = self.window.fetch_max(window, Ordering::Relaxed);
        if before != 0 && before < window {
            self.writer(LogNo::Arrivals)?.rotate()?;
            self.keeper.ring();
        }
        Ok(())
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
        let (bytes, queue) = {
            let state = message.state();
            let Body::Memory(bytes) = &state.body else { return };
            (bytes.len() as u64, state.standing.queue.clone())
        };
        let gone = self.residents().keep(message, bytes, queue);
        for message in gone {
            self.let_go(&message);
        }
    }

    /// Releases what the disk has of a message. A message that is in memory alone, or cannot be written, keeps all it has.
    fn let_go(&self, message: &Message) {
        let dirty = message.state().dirty != Dirty::default();
        if dirty && self.update(message, false, Timestamp::new(message.created(), 0), false).is_err() {
            return;
        }
        if message.release_body() {
            self.counts.released.fetch_add(1, Ordering::Relaxed);
        }
        if !self.options.keep_contexts {
            message.release_contexts();
        }
    }

    // Bodies in pieces

    /// A body that will be written piece by piece.
    pub(crate) fn new_body(&self) -> Arc<Pieces> {
        let number = self.next_change();
        self.body_handle(number, 0)
    }

    /// A handle of a body: as long as it lives, so do the pieces.
    fn body_handle(&self, number: u64, size: u64) -> Arc<Pieces> {
        self.books().bodies.entry(number).or_default().handles += 1;
        let (store, limit) = (Weak::clone(&self.me), self.options.large_message_threshold);
        Arc::new(Pieces { store, number, size, limit })
    }

    pub(crate) fn sized_body(&self, pieces: Arc<Pieces>, size: u64) -> Arc<Pieces> {
        self.body_handle(pieces.number, size)
    }

    pub(crate) fn drop_body_handle(&self, number: u64) {
        self.books().drop_body(number, |body| body.handles = body.handles.saturating_sub(1));
    }

    /// Writes a piece of a body: on the disk with the next sync, which the message's own acceptance waits for.
    pub(crate) fn write_piece(&self, body: u64, at: u64, bytes: &[u8], now: Timestamp) -> Result<()> {
        {
            let mut reserve = self.reserve.lock().unwrap_or_else(PoisonError::into_inner);
            reserve.require(&*self.disk, bytes.len() as u64, self.options.min_free)?;
        }
        let mut payload = Vec::with_capacity(CHUNK_HEAD + bytes.len());
        Chunk { body, at, bytes }.encode(&mut payload);
        let entry = Entry { kind: log_kind(kind::CHUNK), time: now, payload: &payload };
        let places = self.writer(LogNo::Arrivals)?.append_entries(&[entry], jlog::Durability::Process)?;
        let mut books = self.books();
        self.book_pieces(&mut books, body, &[(at, bytes.len(), 0)], &places)
    }

    /// Reads the piece of a body that holds the byte at `at`, and says where in the body it begins.
    pub(crate) fn read_piece(&self, body: u64, at: u64, bytes: &mut Vec<u8>) -> Result<u64> {
        loop {
            let found = {
                let books = self.books();
                let pieces = books.bodies.get(&body).map(|body| &body.pieces[..]).unwrap_or_default();
                let behind = pieces.partition_point(|piece| piece.at <= at);
                let piece = behind.checked_sub(1).map(|n| pieces[n]);
                piece.and_then(|piece| Some((piece, books.home(piece.spot)?)))
            };
            let Some((piece, home)) = found else {
                return Err(SpoolError::Invalid(format!("body {body:x} has no piece at byte {at}")));
            };
            let read = self.read_record(home, piece.spot, piece.len as usize + CHUNK_HEAD, bytes);
            match read {
                Ok(_) => {}
                Err(error) => {
                    let books = self.books();
                    let now = books.bodies.get(&body).map(|body| &body.pieces[..]).unwrap_or_default();
                    if now.contains(&piece) {
                        return Err(error.into());
                    }
                    continue;
                }
            }
            let sound = Chunk::decode(bytes).is_some_and(|chunk| chunk.body == body && chunk.at == piece.at);
            if !sound {
                return Err(SpoolError::Invalid(format!(
                    "the piece of body {body:x} at byte {at} is another one"
                )));
            }
            bytes.drain(..CHUNK_HEAD);
            return Ok(piece.at);
        }
    }

    fn read_record(
        &self,
        home: Home,
        spot: Spot,
        expected: usize,
        payload: &mut Vec<u8>,
    ) -> jlog::Result<u8> {
        let log = self.log(home.log);
        let (kind, _) = log.read_at(SegmentId(home.segment), spot.offset(), expected, payload)?;
        Ok(kind.number())
    }

    // Reading

    /// Reads the record of a message that `find` points out, wherever it has been moved to meanwhile. `None` where there
    /// is none.
    pub(crate) fn read_of<T>(
        &self,
        id: MessageId,
        find: impl Fn(&Books, Slot) -> Option<(Spot, usize)>,
        decode: impl Fn(u8, &[u8]) -> Option<T>,
    ) -> Result<Option<T>> {
        let mut payload = Vec::new();
        loop {
            let (spot, home, expected) = {
                let books = self.books();
                let slot = books.find(id.to_u64()).ok_or(SpoolError::NotFound(id))?;
                let Some((spot, expected)) = find(&books, slot) else { return Ok(None) };
                let Some(home) = books.home(spot) else { return Ok(None) };
                (spot, home, expected)
            };
            let what = match self.read_record(home, spot, expected, &mut payload) {
                Ok(kind) => match decode(kind, &payload) {
                    Some(decoded) => return Ok(Some(decoded)),
                    None => format!("{}: byte {}: this is no record of it", self.place(home), spot.offset()),
                },
                Err(error) if matches!(error.kind(), ErrorKind::NoSuchRecord | ErrorKind::Damaged) => {
                    error.to_string()
                }
                Err(error) => return Err(error.into()),
            };
            let still = {
                let books = self.books();
                let slot = books.find(id.to_u64()).ok_or(SpoolError::NotFound(id))?;
                find(&books, slot).is_some_and(|(now, _)| now == spot)
            };
            // Reclaim may have moved it after it was looked up.
            if still {
                return Err(self.corrupt(id, home, spot, what));
            }
        }
    }

    fn place(&self, home: Home) -> String {
        self.log(home.log).path().join(SegmentId(home.segment).to_string()).display().to_string()
    }

    /// A record of a message is damaged: it is set aside as the policy says, and the error tells of it.
    fn corrupt(&self, id: MessageId, home: Home, spot: Spot, detail: String) -> SpoolError {
        self.counts.corrupt.fetch_add(1, Ordering::Relaxed);
        let policy = self.options.on_corrupt;
        let mut quarantined = None;
        if policy != OnCorrupt::Leave && !self.is_read_only() {
            let span = {
                let books = self.books();
                let slot = books.find(id.to_u64());
                slot.map_or(0, |slot| books.lengths(slot).0 as u64 + 64)
            };
            let path = self.log(home.log).path().join(SegmentId(home.segment).to_string());
            let kept = quarantine::keep(&*self.disk, &self.dir, id, &path, spot.offset(), span, &detail);
            quarantined = kept.ok();
            let mut books = self.books();
            if let Some(slot) = books.find(id.to_u64()) {
                books.set_flag(slot, CORRUPT, true);
                books.index.idle(slot);
            }
        }
        let error = SpoolError::Corrupt { id, quarantined, detail };
        if policy == OnCorrupt::Remove && !self.is_read_only() {
            // Where it cannot be removed it stays, marked.
            let _ = self.remove(&[id]);
        }
        for hook in &self.options.hooks {
            hook.on_corrupt(id, &error);
        }
        error
    }

    /// The message of this id, the same for all who ask.
    pub(crate) fn get(&self, id: MessageId) -> Result<Message> {
        self.wait_loaded()?;
        if let Some(message) = self.handle(id)
            && self.books().find(id.to_u64()).is_some()
        {
            return Ok(message);
        }
        let fetched = match self.fetch(id) {
            Ok(fetched) => fetched,
            Err(error) => {
                let outcome = LoadOutcome::Failed(id, &error);
                ask("after_load", &self.options.hooks, |hook| hook.after_load(&outcome))?;
                return Err(error);
            }
        };
        let message = Message::from_state(
            id,
            State {
                envelope: fetched.meta.envelope,
                contexts: Some(fetched.meta.contexts),
                standing: fetched.standing,
                body: fetched.body,
                resources: Default::default(),
                dirty: Dirty::default(),
                stored: true,
            },
        );
        let outcome = LoadOutcome::Loaded(&message);
        ask("after_load", &self.options.hooks, |hook| hook.after_load(&outcome))?;
        let _ = message.inner.store.set(Weak::clone(&self.me));
        let message = {
            let mut handles = self.handles();
            match handles.get(&id).and_then(Weak::upgrade) {
                // Somebody else was quicker.
                Some(inner) => Message { inner },
                None => {
                    handles.insert(id, Arc::downgrade(&message.inner));
                    message
                }
            }
        };
        self.counts.loaded.fetch_add(1, Ordering::Relaxed);
        self.touch(&message);
        Ok(message)
    }

    /// What the disk has of a message.
    pub(crate) fn fetch(&self, id: MessageId) -> Result<Fetched> {
        let number = id.to_u64();
        let newer = self.read_of(
            id,
            |books, slot| {
                let spot = books.meta(slot);
                (spot.segment != NOWHERE.segment).then(|| (spot, books.lengths(slot).1))
            },
            |kind, bytes| {
                let update = Update::decode(kind, bytes).filter(|update| update.id == number)?;
                Some((Meta::decode(update.meta?)?, update.standing))
            },
        )?;
        let (meta, mut standing, body) = match newer {
            Some((meta, standing)) => (meta, standing, None),
            None => self.fetch_base(id)?,
        };
        if let Some(newest) = self.fetch_standing(id)? {
            standing = newest;
        }
        let body = match body {
            Some(body) => body,
            None => self.body_on_disk(id)?,
        };
        Ok(Fetched { standing, meta, body })
    }

    /// A message's own record: its metadata as it was accepted, and its body if that is inline.
    fn fetch_base(&self, id: MessageId) -> Result<(Meta, Standing, Option<Body>)> {
        let number = id.to_u64();
        let base = self.read_of(
            id,
            |books, slot| Some((books.base(slot), books.lengths(slot).0)),
            |kind, bytes| {
                let accept = Accept::decode(bytes).filter(|a| kind == kind::ACCEPT && a.id == number)?;
                let body = match accept.place {
                    BodyPlace::Inline => Some(Body::Memory(Arc::from(accept.body))),
                    BodyPlace::Pieces(_) => None,
                };
                Some((Meta::decode(accept.meta)?, accept.standing, body))
            },
        )?;
        base.ok_or(SpoolError::NotFound(id))
    }

    fn fetch_standing(&self, id: MessageId) -> Result<Option<Standing>> {
        let number = id.to_u64();
        self.read_of(
            id,
            |books, slot| {
                let spot = books.standing(slot);
                (spot.segment != NOWHERE.segment).then_some((spot, 256))
            },
            |kind, bytes| {
                Update::decode(kind, bytes).filter(|update| update.id == number).map(|update| update.standing)
            },
        )
    }

    /// Where the body of a stored message is.
    fn body_on_disk(&self, id: MessageId) -> Result<Body> {
        let found = {
            let books = self.books();
            let slot = books.find(id.to_u64()).ok_or(SpoolError::NotFound(id))?;
            let body = books.body_of(id.to_u64());
            let size = body
                .and_then(|body| books.bodies.get(&body))
                .map(|body| body.pieces.last().map_or(0, |piece| piece.at + u64::from(piece.len)));
            (u64::from(books.index.get(slot).size()), body.zip(size))
        };
        Ok(match found {
            (_, Some((number, size))) if size >= self.options.large_message_threshold => {
                Body::Pieces(self.body_handle(number, size))
            }
            (_, Some((_, size))) => Body::OnDisk { size },
            (size, None) => Body::OnDisk { size },
        })
    }

    pub(crate) fn read_contexts(&self, id: MessageId) -> Result<[Context; 2]> {
        Ok(self.fetch(id)?.meta.contexts)
    }

    /// The body of a message that is not large.
    pub(crate) fn read_body(&self, id: MessageId) -> Result<Arc<[u8]>> {
        let (number, size) = {
            let books = self.books();
            let slot = books.find(id.to_u64()).ok_or(SpoolError::NotFound(id))?;
            (books.body_of(id.to_u64()), u64::from(books.index.get(slot).size()))
        };
        let Some(number) = number else {
            return match self.fetch_base(id)?.2 {
                Some(Body::Memory(bytes)) => Ok(bytes),
                _ => Err(SpoolError::Invalid(format!("message {id} has no body of its own"))),
            };
        };
        let mut whole = Vec::new();
        let mut piece = Vec::new();
        while (whole.len() as u64) < size {
            let at = self.read_piece(number, whole.len() as u64, &mut piece)?;
            if at != whole.len() as u64 || piece.is_empty() {
                return Err(SpoolError::Invalid(format!(
                    "the pieces of the body of message {id} do not follow each other"
                )));
            }
            whole.extend_from_slice(&piece);
        }
        Ok(Arc::from(whole))
    }

    pub(crate) fn has_resource(&self, id: MessageId, name: &str) -> bool {
        self.books().resources.get(&id.to_u64()).is_some_and(|all| all.iter().any(|one| one.name == name))
    }

    pub(crate) fn resource_names(&self, id: MessageId) -> Vec<String> {
        let books = self.books();
        let all = books.resources.get(&id.to_u64()).map(Vec::as_slice).unwrap_or_default();
        all.iter().map(|one| one.name.clone()).collect()
    }

    pub(crate) fn read_resource(&self, id: MessageId, name: &str) -> Result<Option<Arc<[u8]>>> {
        let number = id.to_u64();
        self.read_of(
            id,
            |books, _| {
                let all = books.resources.get(&number)?;
                all.iter().find(|one| one.name == name).map(|one| (one.spot, one.span as usize))
            },
            |kind, bytes| {
                let record = ResourceRecord::decode(bytes)?;
                let ours = kind == kind::RESOURCE && record.id == number && record.name == name;
                record.bytes.filter(|_| ours).map(Arc::from)
            },
        )
    }

    // Changing

    /// Writes what of a message is not on the disk as it is.
    pub(crate) fn update(
        &self,
        message: &Message,
        force: bool,
        now: Timestamp,
        schedule: bool,
    ) -> Result<Written> {
        let id = message.id();
        self.writer(LogNo::Arrivals)?;
        self.wait_loaded()?;
        let mut state = message.state();
        if self.is_unwritten(id) {
            return self.update_unwritten(message, state, force, now, schedule);
        }
        let dirty = state.dirty;
        if !force && dirty == Dirty::default() && state.resources.is_empty() {
            return Ok(Written::None);
        }
        let full = force || dirty.meta;
        if full && state.contexts.is_none() {
            state.contexts = Some(self.read_contexts(id)?);
        }
        let meta = if full { Some(self.encode_meta(id, &mut state)?) } else { None };

        let turn = self.take_turn(id);
        let base = {
            let books = self.books();
            let slot = books.find(id.to_u64()).ok_or(SpoolError::NotFound(id))?;
            books.home(books.base(slot)).ok_or(SpoolError::NotFound(id))?
        };
        let mut draft = Draft::default();
        let update = Update {
            id: id.to_u64(),
            change: self.next_change(),
            base,
            standing: state.standing.clone(),
            meta: meta.as_deref(),
        };
        let record = draft.put(update.kind(), |out| update.encode(out));
        let resources = self.draft_resources(&mut draft, id, &state, Some(base));
        let places = self.append_needed(&draft, now)?;
        {
            let mut books = self.books();
            let slot = books.find(id.to_u64()).ok_or(SpoolError::NotFound(id))?;
            let (spot, span) = self.book(&mut books, &places[record])?;
            if full {
                books.set_meta(slot, spot, span, false);
            } else {
                books.set_standing(slot, spot);
            }
            for (name, record) in &resources {
                let (spot, span) = self.book(&mut books, &places[*record])?;
                let gone = matches!(state.resources.get(name), Some(Held::Deleted));
                let at = (!gone).then_some((spot, u32::try_from(span).unwrap_or(u32::MAX)));
                books.set_resource(slot, name, at);
            }
            self.restand(&mut books, slot, &state.standing, schedule);
        }
        state.dirty = Dirty::default();
        state.resources.clear();
        drop(turn);
        drop(state);
        self.counts.updated.fetch_add(1, Ordering::Relaxed);
        if let Some(last) = places.last().filter(|_| self.options.durability == Durability::Power) {
            self.writer(LogNo::Arrivals)?.wait_durable(last.id)?;
        }
        Ok(if full { Written::Full } else { Written::Standing })
    }

    /// The schedule follows what a message's record says; a message that was handed out stays so unless it is to be
    /// `schedule`d.
    fn restand(&self, books: &mut Books, slot: Slot, standing: &Standing, schedule: bool) {
        let was = books.index.get(slot).state();
        books.stand(slot, &Stands::from(standing.clone()));
        if schedule || was == crate::index::State::Delayed {
            books.schedule(slot, standing.next_attempt);
        } else if was == crate::index::State::Active {
            books.index.activate(slot);
        }
    }

    pub(crate) fn is_unwritten(&self, id: MessageId) -> bool {
        let books = self.books();
        books.find(id.to_u64()).is_some_and(|slot| books.index.get(slot).flags & UNWRITTEN != 0)
    }

    /// A message that is in memory alone is written once it has failed often enough, or memory is short.
    fn update_unwritten(
        &self,
        message: &Message,
        mut state: MutexGuard<'_, State>,
        force: bool,
        now: Timestamp,
        schedule: bool,
    ) -> Result<Written> {
        let due = match self.options.durability {
            Durability::Deferred { after_attempts } => state.standing.attempts >= after_attempts,
            _ => true,
        };
        {
            let mut books = self.books();
            let slot = books.find(message.id().to_u64()).ok_or(SpoolError::NotFound(message.id()))?;
            let standing = state.standing.clone();
            self.restand(&mut books, slot, &standing, schedule);
        }
        if !due && !force && !self.residents().is_full() {
            return Ok(Written::None);
        }
        state.stored = false;
        drop(state);
        self.accept(std::slice::from_ref(message), now, Durability::Power)?;
        self.unwritten.lock().unwrap_or_else(PoisonError::into_inner).remove(&message.id());
        Ok(Written::Full)
    }

    /// Appends what must be written on a full disk as well: room is kept for it.
    fn append_needed(&self, draft: &Draft, now: Timestamp) -> Result<Vec<Place>> {
        let writer = self.writer(LogNo::Arrivals)?;
        let entries = draft.entries(now);
        match writer.append_entries(&entries, jlog::Durability::Process) {
            Err(error) if error.kind() == ErrorKind::NoSpace => {
                let mut reserve = self.reserve.lock().unwrap_or_else(PoisonError::into_inner);
                if !reserve.release(&*self.disk) {
                    return Err(error.into());
                }
                Ok(writer.append_entries(&entries, jlog::Durability::Process)?)
            }
            other => Ok(other?),
        }
    }

    /// Removes messages, and returns how many there were. In the kernel when it returns: see
    /// [`Store::sync`](Store::sync).
    pub(crate) fn remove(&self, ids: &[MessageId]) -> Result<usize> {
        self.writer(LogNo::Arrivals)?;
        self.wait_loaded()?;
        let mut turns: Vec<usize> = ids.iter().map(|id| self.turn(*id)).collect();
        turns.sort_unstable();
        turns.dedup();
        let turns: Vec<MutexGuard<'_, ()>> = turns
            .iter()
            .map(|turn| self.turns[*turn].lock().unwrap_or_else(PoisonError::into_inner))
            .collect();

        let mut gone = Vec::with_capacity(ids.len());
        let mut unwritten = Vec::new();
        {
            let books = self.books();
            for id in ids {
                let Some(slot) = books.find(id.to_u64()) else { continue };
                match books.home(books.base(slot)) {
                    Some(home) => gone.push((id.to_u64(), home)),
                    None => unwritten.push(*id),
                }
            }
        }
        let mut draft = Draft::default();
        for gone in gone.chunks(REMOVES) {
            let remove = Remove { change: self.next_change(), gone: gone.to_vec() };
            draft.put(kind::REMOVE, |out| remove.encode(out));
        }
        let places =
            if gone.is_empty() { Vec::new() } else { self.append_needed(&draft, Timestamp::default())? };

        let mut removed = 0;
        {
            let mut books = self.books();
            for (gone, place) in gone.chunks(REMOVES).zip(&places) {
                let (spot, _) = self.book(&mut books, place)?;
                let holder = books.home(spot);
                for (id, home) in gone {
                    let Some(slot) = books.find(*id) else { continue };
                    books.remove(slot);
                    removed += 1;
                    if let Some(holder) = holder {
                        books.note_removal(holder, *home);
                    }
                }
            }
            for id in &unwritten {
                if let Some(slot) = books.find(id.to_u64()) {
                    books.remove(slot);
                    removed += 1;
                }
            }
        }
        drop(turns);
        for id in ids {
            self.residents().forget(*id);
            self.unwritten.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
        }
        self.counts.removed.fetch_add(removed as u64, Ordering::Relaxed);
        self.removed(u32::try_from(gone.len()).unwrap_or(u32::MAX))?;
        Ok(removed)
    }

    /// Keeps to how many removals may not be on the disk.
    fn removed(&self, removals: u32) -> Result<()> {
        if removals == 0 {
            return Ok(());
        }
        let before = self.undurable.fetch_add(removals, Ordering::AcqRel);
        if before.saturating_add(removals) > self.options.max_undurable_removes.0 {
            return self.sync();
        }
        if before == 0 {
            self.keeper.ring();
        }
        Ok(())
    }

    /// Makes all that was written durable.
    pub(crate) fn sync(&self) -> Result<()> {
        let removals = self.undurable.load(Ordering::Acquire);
        for log in LogNo::ALL {
            self.writer(log)?.sync()?;
        }
        let _ = self
            .undurable
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |now| Some(now.saturating_sub(removals)));
        Ok(())
    }

    /// Writes what is in memory alone.
    pub(crate) fn write_all(&self, now: Timestamp) -> Result<()> {
        let unwritten: Vec<Message> = {
            let held = self.unwritten.lock().unwrap_or_else(PoisonError::into_inner);
            held.values().cloned().collect()
        };
        for message in unwritten {
            self.update(&message, true, now, false)?;
        }
        Ok(())
    }

    /// Leaves the logs so that the next open finds nothing to put right.
    pub(crate) fn close_logs(&self) -> Result<()> {
        let writers = self.writers.write().unwrap_or_else(PoisonError::into_inner).take();
        // Who is still writing closes them by dropping them.
        let Some(writers) = writers.and_then(Arc::into_inner) else { return Ok(()) };
        writers.into_iter().try_for_each(|writer| Ok(writer.close()?))
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

/// A message's own record in a draft, and its resources'.
struct Drafted {
    record: usize,
    place: BodyPlace,
    resources: Vec<(String, usize)>,
}

/// The bodies of a batch that are written in pieces: those that several of its messages share, and large ones.
struct SharedBodies {
    /// By where in memory they are; the number, once it is drafted.
    by_address: HashMap<usize, Option<u64>>,
    /// Their pieces: where in the body, how long, which record of the draft.
    drafted: Vec<(u64, Vec<(u64, usize, usize)>)>,
}

fn address(bytes: &Arc<[u8]>) -> usize {
    bytes.as_ptr() as usize
}

impl SharedBodies {
    fn of(states: &[MutexGuard<'_, State>], large: u64) -> SharedBodies {
        let mut seen: HashMap<usize, usize> = HashMap::new();
        let mut by_address = HashMap::new();
        for state in states {
            let Body::Memory(bytes) = &state.body else { continue };
            if bytes.is_empty() {
                continue;
            }
            let times = seen.entry(address(bytes)).or_default();
            *times += 1;
            if *times > 1 || bytes.len() as u64 >= large {
                by_address.insert(address(bytes), None);
            }
        }
        SharedBodies { by_address, drafted: Vec::new() }
    }
}
