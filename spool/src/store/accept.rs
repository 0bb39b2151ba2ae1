//! Accepting: messages that are new are written, all of a batch or none of it.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError, Weak};

use jlog::{Entry, Place, Timestamp};

use super::Store;
use crate::body::{Body, PIECE};
use crate::books::{self, Books, Coming, NOWHERE, Piece, ResourceSpot, Spot, UNWRITTEN};
use crate::context::ContextFilter;
use crate::error::{Resource, Result, SpoolError};
use crate::hooks::{MetaEdit, ask};
use crate::id::MessageId;
use crate::index::{QueueKey, Slot};
use crate::message::{Dirty, Held, Message, State};
use crate::note::Stands;
use crate::options::Durability;
use crate::record::{
    Accept, BodyPlace, Chunk, Home, LogNo, Meta, Remove, ResourceRecord, Standing, kind, log_kind,
};

/// The records of one commit on their way.
#[derive(Default)]
pub(super) struct Draft {
    bytes: Vec<u8>,
    records: Vec<(u8, Range<usize>)>,
}

/// What metadata are taken to have, where nothing is known of them yet.
const METADATA_GUESS: u64 = 1024;

impl Draft {
    fn with_room(bytes: usize) -> Draft {
        Draft { bytes: Vec::with_capacity(bytes), records: Vec::new() }
    }

    pub(super) fn put(&mut self, kind: u8, encode: impl FnOnce(&mut Vec<u8>)) -> usize {
        let from = self.bytes.len();
        encode(&mut self.bytes);
        self.records.push((kind, from..self.bytes.len()));
        self.records.len() - 1
    }

    pub(super) fn entries(&self, time: Timestamp) -> Vec<Entry<'_>> {
        let entry = |(kind, range): &(u8, Range<usize>)| Entry {
            kind: log_kind(*kind),
            time,
            payload: &self.bytes[range.clone()],
        };
        self.records.iter().map(entry).collect()
    }
}

impl Store {
    /// Writes messages that are new: all of them, or none.
    pub(crate) fn accept(&self, batch: &[Message], now: Timestamp, durability: Durability) -> Result<()> {
        self.writer(LogNo::Arrivals)?;
        if batch.iter().any(|message| message.id().pid != self.ids.incarnation()) {
            // Not of this run's making: it may be here already.
            self.wait_loaded()?;
        }
        for message in batch {
            ask("on_recipient", &self.options.hooks, |hook| hook.on_recipient(message))?;
        }
        ask("before_accept", &self.options.hooks, |hook| hook.before_accept(batch))?;

        self.write_new(batch, now, durability, false)
    }

    /// Writes messages that are not here, or are `held` in memory alone.
    pub(super) fn write_new(
        &self,
        batch: &[Message],
        now: Timestamp,
        durability: Durability,
        held: bool,
    ) -> Result<()> {
        let mut batch: Vec<&Message> = batch.iter().collect();
        batch.sort_unstable_by_key(|message| message.id());
        if let Some(twice) = batch.windows(2).find(|pair| pair[0].id() == pair[1].id()) {
            return Err(SpoolError::Exists(twice[0].id()));
        }
        let mut states: Vec<MutexGuard<'_, State>> = batch.iter().map(|message| message.state()).collect();
        let mut reserved = self.require_room(&batch, &states, held)?;
        for state in &mut states {
            // At once, where nothing else was said.
            if state.standing.next_attempt == 0 {
                state.standing.next_attempt = now.seconds;
            }
        }

        if matches!(durability, Durability::Deferred { .. }) {
            self.hold(&batch, &mut states)?;
            drop((states, reserved));
            // Where memory is short, some of those that were used longest ago are written.
            batch.iter().for_each(|message| self.touch(message));
            return Ok(());
        }
        let room: u64 = states.iter().map(|state| state.body.size().min(PIECE as u64) + METADATA_GUESS).sum();
        let mut draft = Draft::with_room(usize::try_from(room).unwrap_or(0));
        let mut bodies = SharedBodies::of(&states, self.options.large_message_threshold);
        let mut drafted = Vec::with_capacity(batch.len());
        for (message, state) in batch.iter().zip(&mut states) {
            let place = self.draft_body(&mut draft, state, &mut bodies)?;
            drafted.push(self.draft_message(&mut draft, message.id(), state, place)?);
        }
        self.enter_window(now)?;
        let flight = self.flights.board();
        let writer = self.writer(LogNo::Arrivals)?;
        let durable = match durability.in_log(self.options.commit_delay) {
            _ if crate::planted("accepted_before_sync") => jlog::Durability::Process,
            durable => durable,
        };
        let places = writer.append_entries(&draft.entries(now), durable)?;

        let (mut removed, mut leaving) = (Vec::new(), Vec::new());
        let mut books = self.books();
        reserved.release(&mut books);
        for (number, pieces) in &bodies.drafted {
            self.book_pieces(&mut books, *number, pieces, &places)?;
        }
        for ((message, state), drafted) in batch.iter().zip(&mut states).zip(&drafted) {
            let (spot, span) = self.book(&mut books, &places[drafted.record])?;
            let slot = match books.find(message.id().to_u64()) {
                Some(slot) if held => {
                    books.written(slot, spot, span, drafted.place);
                    slot
                }
                None if held => {
                    removed.extend(books.home(spot).map(|home| (message.id().to_u64(), home)));
                    continue;
                }
                _ => self.book_message(&mut books, message.id(), state, spot, span, drafted.place),
            };
            for (name, record) in &drafted.resources {
                let (spot, span) = self.book(&mut books, &places[*record])?;
                let span = u32::try_from(span).unwrap_or(u32::MAX);
                books.set_resource(slot, ResourceSpot { name: name.clone(), spot, span, gone: false });
            }
            // Whoever is handed it from now on gets this handle, and nobody removes it before it is among the residents.
            self.adopt(message);
            if !held {
                leaving.extend(self.reside(message, state));
            }
        }
        drop(books);
        if !removed.is_empty() {
            // They were removed while they were written.
            let remove = Remove { change: self.next_change(), gone: removed };
            self.write_removal(&remove)?;
        }
        drop(flight);
        for (state, drafted) in states.iter_mut().zip(drafted) {
            state.resources.clear();
            state.dirty = Dirty::default();
            state.stored = true;
            if let (BodyPlace::Pieces(number), Body::Memory(bytes)) = (drafted.place, &state.body)
                && bytes.len() as u64 >= self.options.large_message_threshold
            {
                let pieces = self.body_handle(number, bytes.len() as u64);
                state.body = Body::Pieces(pieces);
            }
        }
        drop(states);
        self.counts.accepted.fetch_add(batch.len() as u64, Ordering::Relaxed);
        leaving.iter().for_each(|message| self.let_go(message));
        Ok(())
    }

    /// Refuses what there is no room for, before anything of it is written; the room of what there is room for is taken.
    fn require_room(
        &self,
        batch: &[&Message],
        states: &[MutexGuard<'_, State>],
        held: bool,
    ) -> Result<Reserved<'_>> {
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
            require_standing(&state.standing)?;
            bytes += size;
        }
        let mut reserved = Reserved { store: self, ids: Vec::with_capacity(batch.len()) };
        let mut books = self.books();
        let (messages, total) = books.with_pending();
        let over = |what, have: u64, more: u64, limit: Option<u64>, unit| {
            let limit = limit.filter(|limit| !held && have + more > *limit)?;
            let detail =
                format!("it holds {have} {unit}, and with {more} more its limit of {limit} is passed");
            Some(SpoolError::Full { what, detail })
        };
        let more = batch.len() as u64;
        let full = over(Resource::Messages, messages, more, self.options.max_messages, "messages")
            .or_else(|| over(Resource::Bytes, total, bytes, self.options.max_bytes, "bytes"));
        let full = full.or_else(|| books.segments_full());
        let taken = full.map_or(Ok(()), Err).and_then(|()| {
            batch.iter().zip(states).try_for_each(|(message, state)| {
                let id = message.id().to_u64();
                let unwritten = books.find(id).map(|slot| books.index.get(slot).flags & UNWRITTEN != 0);
                let fits = if held { unwritten == Some(true) } else { unwritten.is_none() && !state.stored };
                if !fits && held {
                    return Err(SpoolError::NotFound(message.id()));
                }
                if !fits || !books.reserve(id, state.body.size()) {
                    return Err(SpoolError::Exists(message.id()));
                }
                reserved.ids.push(id);
                Ok(())
            })
        });
        drop(books);
        taken?;
        self.reserve.require(&*self.disk, bytes)?;
        Ok(reserved)
    }

    /// Holds messages in memory alone: `Durability::Deferred`.
    fn hold(&self, batch: &[&Message], states: &mut [MutexGuard<'_, State>]) -> Result<()> {
        for (message, state) in batch.iter().zip(states) {
            {
                let mut unwritten = self.unwritten.lock().unwrap_or_else(PoisonError::into_inner);
                unwritten.insert(message.id(), (*message).clone());
            }
            self.adopt(message);
            let mut books = self.books();
            let slot = self.book_message(&mut books, message.id(), state, NOWHERE, 0, BodyPlace::Inline);
            books.set_flag(slot, UNWRITTEN, true);
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

    pub(super) fn draft_resources(
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
    pub(super) fn encode_meta(&self, id: MessageId, state: &mut State) -> Result<Vec<u8>> {
        let Some(contexts) = &mut state.contexts else {
            return Err(SpoolError::Invalid(format!("the contexts of message {id} are not in memory")));
        };
        let mut edit = MetaEdit { id, envelope: &mut state.envelope, contexts };
        ask("before_update", &self.options.hooks, |hook| hook.before_update(&mut edit))?;
        let mut out = Vec::new();
        let filters = &self.options.context_filter;
        if filters.iter().all(ContextFilter::keeps_all) {
            Meta::encode(&state.envelope, [&contexts[0], &contexts[1]], &mut out);
        } else {
            let kept = [filters[0].apply(&contexts[0]), filters[1].apply(&contexts[1])];
            Meta::encode(&state.envelope, [&kept[0], &kept[1]], &mut out);
        }
        let (size, limit) = (out.len() as u64, self.options.max_metadata_size);
        if size > limit {
            return Err(SpoolError::TooLarge { what: "the metadata of a message", size, limit });
        }
        Ok(out)
    }

    /// Where a record that was just written lies, for the books.
    pub(super) fn book(&self, books: &mut Books, place: &Place) -> Result<(Spot, u64)> {
        self.book_in(books, LogNo::Arrivals, place)
    }

    /// The active segment is half full: the space of the next one is made ready, once.
    fn ask_for_space(&self, next: u32) {
        if self.ahead.fetch_max(next, Ordering::Relaxed) < next {
            self.keeper.ring();
        }
    }

    pub(crate) fn book_in(&self, books: &mut Books, log: LogNo, place: &Place) -> Result<(Spot, u64)> {
        let spot = books.spot(books::home(log, place.id.segment), place.offset)?;
        books.reaches(spot, place.stored_len);
        if log == LogNo::Arrivals && place.offset > u64::from(self.options.segment_size) / 2 {
            self.ask_for_space(place.id.segment.0.saturating_add(1));
        }
        Ok((spot, place.stored_len))
    }

    pub(super) fn book_pieces(
        &self,
        books: &mut Books,
        number: u64,
        pieces: &[DraftedPiece],
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
}

/// Ids that are taken by messages on their way, until this is dropped.
struct Reserved<'a> {
    store: &'a Store,
    ids: Vec<u64>,
}

impl Reserved<'_> {
    fn release(&mut self, books: &mut Books) {
        self.ids.drain(..).for_each(|id| books.release_reserved(id));
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        if !self.ids.is_empty() {
            let mut books = self.store.books();
            self.release(&mut books);
        }
    }
}

/// What a standing record may take is bounded: a queue's key is no place for a text.
pub(super) fn require_standing(standing: &Standing) -> Result<()> {
    let QueueKey { domain, binding, group } = &*standing.queue;
    let (size, limit) = ((domain.len() + binding.len() + group.len()) as u64, 2048);
    if size > limit {
        return Err(SpoolError::TooLarge { what: "the key of a queue", size, limit });
    }
    Ok(())
}

/// A message's own record in a draft, and its resources'.
pub(super) struct Drafted {
    record: usize,
    place: BodyPlace,
    resources: Vec<(String, usize)>,
}

/// A piece in a draft: where in the body it belongs, how long it is, which record it is.
pub(super) type DraftedPiece = (u64, usize, usize);

/// The bodies of a batch that are written in pieces: those that several of its messages share, and large ones.
struct SharedBodies {
    /// By where in memory they are; the number, once it is drafted.
    by_address: HashMap<usize, Option<u64>>,
    /// Their pieces: where in the body, how long, which record of the draft.
    drafted: Vec<(u64, Vec<DraftedPiece>)>,
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
