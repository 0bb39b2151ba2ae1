//! The books: which messages there are, where their records lie, and what of each segment is still needed.
//!
//! Everything here is memory, behind the spool's one lock. It is a function of the records in the logs: whatever is
//! changed here follows a record that was written, and opening a spool reads the same records again.

use std::collections::HashMap;

use jlog::SegmentId;

use crate::error::{Resource, Result, SpoolError};
use crate::index::{Entry, Index, QueueKey, Slot};
use crate::note::Stands;
use crate::record::{BodyPlace, Home, LogNo, Remove};

/// The body is in pieces: see [`Books::bodies`].
pub(crate) const PIECES: u8 = 1;
/// The message has resources: see [`Books::resources`].
pub(crate) const RESOURCES: u8 = 2;
/// A record of it was found damaged.
pub(crate) const CORRUPT: u8 = 4;
/// It is kept out of the schedule until it is released.
pub(crate) const HELD: u8 = 8;
/// Nothing of it is on the disk: see `Durability::Deferred`.
pub(crate) const UNWRITTEN: u8 = 16;

/// The number of a segment in the books. Fewer bytes than a [`Home`], of which there are three in every entry.
pub(crate) type SegmentSlot = u16;

/// "No record": of metadata that stands in the message's own record.
pub(crate) const NOWHERE: Spot = Spot { segment: u16::MAX, at: 0 };

/// Where a record lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Spot {
    pub(crate) segment: SegmentSlot,
    /// The offset in the segment's file, by 8.
    pub(crate) at: u32,
}

impl Spot {
    /// The spot at a byte of a segment. Segments have at most 4 GiB.
    pub(crate) fn at(segment: SegmentSlot, offset: u64) -> Spot {
        Spot { segment, at: u32::try_from(offset / 8).expect("a segment has at most 4 GiB") }
    }

    pub(crate) fn offset(self) -> u64 {
        u64::from(self.at) * 8
    }
}

/// A segment that holds records.
#[derive(Debug, Clone)]
pub(crate) struct Segment {
    pub(crate) home: Home,
    /// Records that are needed, but for removals.
    pub(crate) live: u32,
    /// About how many bytes these take.
    pub(crate) live_bytes: u64,
    /// Up to where its file holds records.
    pub(crate) end: u64,
    /// Some of its records were copied already, and nothing may be forgotten before all are.
    pub(crate) half_moved: bool,
    /// A summary of it is on the disk.
    pub(crate) summarized: bool,
    /// What is left of it cannot be read, and so it cannot be given back.
    pub(crate) stuck: bool,
    /// When the newest message that was accepted into it was made; 0 if none was.
    pub(crate) newest: u32,
}

/// A piece of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Where in the body it belongs.
    pub(crate) at: u64,
    pub(crate) len: u32,
    pub(crate) spot: Spot,
}

/// A body in pieces.
#[derive(Debug, Clone, Default)]
pub(crate) struct BodyPieces {
    /// In order.
    pub(crate) pieces: Vec<Piece>,
    /// How many messages have it.
    pub(crate) messages: u32,
    /// How many handles of this process: builders, and messages that were not accepted yet.
    pub(crate) handles: u32,
}

impl Segment {
    fn is_unfinished(&self) -> bool {
        self.half_moved || self.stuck
    }

    /// What is left of it cannot be moved.
    pub(crate) fn is_stuck(&self) -> bool {
        self.stuck
    }
}

impl BodyPieces {
    /// Whether the pieces make up a body of so many bytes.
    pub(crate) fn is_whole(&self, size: u64) -> bool {
        let mut end = 0;
        self.pieces.iter().all(|piece| {
            let follows = piece.at == end;
            end = piece.at.saturating_add(u64::from(piece.len));
            follows
        }) && end == size
    }
}

/// A resource of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ResourceSpot {
    pub(crate) name: String,
    pub(crate) spot: Spot,
    pub(crate) span: u32,
    /// The record says that there is no such resource any more. It is needed as long as the message is: an older record
    /// may be there.
    pub(crate) gone: bool,
}

/// What the spool holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Totals {
    /// Of bodies, each message's counted.
    pub(crate) bytes: u64,
    pub(crate) corrupt: u64,
    pub(crate) held: u64,
}

pub(crate) struct Books {
    pub(crate) index: Index,
    slots: Vec<Option<Segment>>,
    by_home: HashMap<Home, SegmentSlot>,
    pub(crate) bodies: HashMap<u64, BodyPieces>,
    /// Which body in pieces a message has.
    body_of: HashMap<u64, u64>,
    pub(crate) resources: HashMap<u64, Vec<ResourceSpot>>,
    /// By the segment that holds them: how many removals there are of messages whose own record was in which segment.
    removals: HashMap<Home, HashMap<Home, u32>>,
    /// How many segments are half moved or stuck: as long as there are any, old copies may be met again.
    unfinished: usize,
    /// Messages on their way: their ids, and how many bytes their bodies have.
    pending: HashMap<u64, u64>,
    pending_bytes: u64,
    pub(crate) totals: Totals,
    /// The spool is being read in: the schedule is made at the end, of all at once.
    loading: bool,
}

/// What a removal takes in a record of its own, as reclaim writes it again. In a record of many it takes less: a segment of
/// such counts as fuller than it is, and is not copied for nothing.
const REMOVAL_BYTES: u64 = 56;

/// A length in one byte, at most 6 % above what it is: a mantissa of 16 steps, and 15 powers of two, of 16 bytes.
fn weight(bytes: u64) -> u8 {
    let units = bytes.div_ceil(16);
    let mut power = 0;
    while (units.div_ceil(1 << power)) > 31 && power < 14 {
        power += 1;
    }
    let mantissa = units.div_ceil(1 << power).min(31);
    if power == 0 && mantissa < 16 {
        return u8::try_from(mantissa).unwrap_or(0);
    }
    u8::try_from((power + 1) * 16 + mantissa - 16).unwrap_or(u8::MAX)
}

/// What [`weight`] stands for.
fn weighed(weight: u8) -> u64 {
    let (power, mantissa) = (u64::from(weight >> 4), u64::from(weight & 15));
    16 * if power == 0 { mantissa } else { (mantissa + 16) << (power - 1) }
}

/// What a standing record may take, by the three highest flags of its message.
const STANDING_BYTES: [u64; 8] = [128, 160, 192, 256, 384, 768, 2048, 8192];
const STANDING_SHIFT: u32 = 5;

/// A message that comes into the books.
#[derive(Debug, Clone)]
pub(crate) struct Coming {
    pub(crate) id: u64,
    pub(crate) spot: Spot,
    /// The bytes of its record; 0 where it is not on the disk.
    pub(crate) span: u64,
    pub(crate) place: BodyPlace,
    pub(crate) size: u64,
    pub(crate) stands: Stands,
    pub(crate) flags: u8,
}

impl Books {
    pub(crate) fn new(seed: u64) -> Books {
        Books {
            index: Index::new(seed),
            slots: Vec::new(),
            by_home: HashMap::new(),
            bodies: HashMap::new(),
            body_of: HashMap::new(),
            resources: HashMap::new(),
            removals: HashMap::new(),
            unfinished: 0,
            pending: HashMap::new(),
            pending_bytes: 0,
            totals: Totals::default(),
            loading: true,
        }
    }

    // Segments

    /// The number of a segment, which is noted if it was not known.
    pub(crate) fn segment_slot(&mut self, home: Home) -> Result<SegmentSlot> {
        if let Some(slot) = self.by_home.get(&home) {
            return Ok(*slot);
        }
        let free = self.slots.iter().position(Option::is_none).unwrap_or(self.slots.len());
        let slot = SegmentSlot::try_from(free).ok().filter(|slot| *slot < NOWHERE.segment);
        let Some(slot) = slot else {
            let detail = "65,535 segments hold messages; larger segments hold more".to_owned();
            return Err(SpoolError::Full { what: Resource::Segments, detail });
        };
        let segment = Segment {
            home,
            live: 0,
            live_bytes: 0,
            end: 0,
            half_moved: false,
            summarized: false,
            stuck: false,
            newest: 0,
        };
        if free == self.slots.len() {
            self.slots.push(Some(segment));
        } else {
            self.slots[free] = Some(segment);
        }
        self.by_home.insert(home, slot);
        Ok(slot)
    }

    /// Why no more messages may come, if the numbers of segments are nearly used up: some are kept for copies and removals.
    pub(crate) fn segments_full(&self) -> Option<SpoolError> {
        let detail = || "65,000 segments hold messages; larger segments hold more".to_owned();
        (self.by_home.len() >= 65_000)
            .then(|| SpoolError::Full { what: Resource::Segments, detail: detail() })
    }

    pub(crate) fn spot(&mut self, home: Home, offset: u64) -> Result<Spot> {
        Ok(Spot::at(self.segment_slot(home)?, offset))
    }

    /// Notes that the file of a segment reaches so far.
    pub(crate) fn reaches(&mut self, spot: Spot, span: u64) {
        if let Some(segment) = self.segment_at(spot.segment) {
            segment.end = segment.end.max(spot.offset() + span);
        }
    }

    fn segment_at(&mut self, slot: SegmentSlot) -> Option<&mut Segment> {
        self.slots.get_mut(usize::from(slot))?.as_mut()
    }

    /// Where a record's segment is. Records of a segment that is gone are in nobody's entry.
    pub(crate) fn home(&self, spot: Spot) -> Option<Home> {
        Some(self.slots.get(usize::from(spot.segment))?.as_ref()?.home)
    }

    pub(crate) fn segment(&self, home: Home) -> Option<&Segment> {
        self.slots[usize::from(*self.by_home.get(&home)?)].as_ref()
    }

    pub(crate) fn segment_mut(&mut self, home: Home) -> Option<&mut Segment> {
        let slot = *self.by_home.get(&home)?;
        self.segment_at(slot)
    }

    pub(crate) fn segments(&self) -> impl Iterator<Item = &Segment> {
        self.slots.iter().flatten()
    }

    pub(crate) fn slot_of(&self, home: Home) -> Option<SegmentSlot> {
        self.by_home.get(&home).copied()
    }

    /// About how many bytes of a segment are needed, removals too.
    pub(crate) fn needed(&self, segment: &Segment) -> u64 {
        let removals = self.removals.get(&segment.home).into_iter().flatten();
        let removals = removals.filter(|(of, _)| self.is_removal_needed(segment.home, **of));
        segment.live_bytes + removals.map(|(_, count)| u64::from(*count)).sum::<u64>() * REMOVAL_BYTES
    }

    /// Whether a removal in a segment has to stay: as long as what it removes may be met again. That is in the segment
    /// where it was, and in any segment that was not wholly moved: there may be copies of whatever was moved from it.
    pub(crate) fn is_removal_needed(&self, holder: Home, of: Home) -> bool {
        let own = self.segment(holder).is_some_and(Segment::is_unfinished);
        let old_copies = self.unfinished > usize::from(own);
        // In its own segment it goes with what it removes.
        old_copies || (of != holder && self.by_home.contains_key(&of))
    }

    /// Notes of a segment that some of it was moved, or that what is left of it cannot be.
    pub(crate) fn mark(&mut self, home: Home, half_moved: bool, stuck: bool) {
        let Some(segment) = self.segment_mut(home) else { return };
        let before = segment.is_unfinished();
        (segment.half_moved, segment.stuck) = (half_moved, stuck);
        let after = segment.is_unfinished();
        self.unfinished = self.unfinished + usize::from(after) - usize::from(before);
    }

    /// Forgets a segment of which nothing is needed. Its records are gone from the disk, or will never be read.
    pub(crate) fn forget_segment(&mut self, home: Home) {
        self.mark(home, false, false);
        let Some(slot) = self.by_home.remove(&home) else { return };
        debug_assert!(self.slots[usize::from(slot)].as_ref().is_some_and(|segment| segment.live == 0));
        self.slots[usize::from(slot)] = None;
        self.forget_removals(home);
    }

    /// Notes a removal that stands in `holder`, of a message whose record was in `of`.
    pub(crate) fn note_removal(&mut self, holder: Home, of: Home) {
        *self.removals.entry(holder).or_default().entry(of).or_default() += 1;
    }

    /// Notes all removals of a record that stands at `at`.
    pub(crate) fn note_removals(&mut self, at: Spot, removal: &Remove) {
        if let Some(holder) = self.home(at) {
            removal.gone.iter().for_each(|(_, of)| self.note_removal(holder, *of));
        }
    }

    /// The removals of a segment were copied where they are needed.
    pub(crate) fn forget_removals(&mut self, holder: Home) {
        self.removals.remove(&holder);
    }

    fn gains(&mut self, spot: Spot, bytes: u64) {
        if let Some(segment) = self.segment_at(spot.segment) {
            segment.live += 1;
            segment.live_bytes += bytes;
        }
    }

    fn loses(&mut self, spot: Spot, bytes: u64) {
        if let Some(segment) = self.segment_at(spot.segment) {
            segment.live = segment.live.saturating_sub(1);
            segment.live_bytes = segment.live_bytes.saturating_sub(bytes);
        }
    }

    // Messages

    /// Takes ids for messages that are about to be written: nobody else gets them meanwhile.
    pub(crate) fn reserve(&mut self, id: u64, bytes: u64) -> bool {
        let free = self.pending.insert(id, bytes);
        if let Some(before) = free {
            self.pending.insert(id, before);
            return false;
        }
        self.pending_bytes += bytes;
        true
    }

    pub(crate) fn release_reserved(&mut self, id: u64) {
        self.pending_bytes -= self.pending.remove(&id).unwrap_or_default();
    }

    /// How many messages there are.
    pub(crate) fn messages(&self) -> u64 {
        self.index.len() as u64
    }

    /// What is held, and what is on its way: messages, and bytes.
    pub(crate) fn with_pending(&self) -> (u64, u64) {
        (self.messages() + self.pending.len() as u64, self.totals.bytes + self.pending_bytes)
    }

    pub(crate) fn find(&self, id: u64) -> Option<Slot> {
        self.index.find(id)
    }

    fn base_bytes(entry: &Entry) -> u64 {
        weighed(entry.base_weight)
    }

    fn standing_bytes(entry: &Entry) -> u64 {
        STANDING_BYTES[usize::from(entry.flags >> STANDING_SHIFT)]
    }

    /// Takes a message in, in no list of the schedule. It must not be there.
    pub(crate) fn add(&mut self, coming: &Coming) -> Slot {
        let queue = self.index.intern(&coming.stands.queue);
        let size = u32::try_from(coming.size).unwrap_or(u32::MAX);
        let stands = &coming.stands;
        let mut entry = Entry::new(coming.id, queue, stands.next_attempt, size, stands.priority);
        entry.attempts = u8::try_from(stands.attempts).unwrap_or(u8::MAX);
        entry.flags = coming.flags | if stands.held { HELD } else { 0 };
        if let BodyPlace::Pieces(body) = coming.place {
            entry.flags |= PIECES;
            self.body_of.insert(coming.id, body);
            self.bodies.entry(body).or_default().messages += 1;
        }
        entry.base_weight = weight(coming.span);
        (entry.base_seg, entry.base_at) = (coming.spot.segment, coming.spot.at);
        self.gains(coming.spot, Books::base_bytes(&entry));
        if let Some(segment) = self.segment_at(coming.spot.segment) {
            segment.newest = segment.newest.max((coming.id >> 32) as u32);
        }
        self.totals.bytes += u64::from(entry.size());
        self.totals.held += u64::from(stands.held);
        self.index.insert(entry)
    }

    pub(crate) fn base(&self, slot: Slot) -> Spot {
        let entry = self.index.get(slot);
        Spot { segment: entry.base_seg, at: entry.base_at }
    }

    pub(crate) fn meta(&self, slot: Slot) -> Spot {
        let entry = self.index.get(slot);
        Spot { segment: entry.meta_seg, at: entry.meta_at }
    }

    pub(crate) fn standing(&self, slot: Slot) -> Spot {
        let entry = self.index.get(slot);
        Spot { segment: entry.state_seg, at: entry.state_at }
    }

    /// About how many bytes the message's records take: what to read at once.
    pub(crate) fn lengths(&self, slot: Slot) -> (usize, usize) {
        let entry = self.index.get(slot);
        let bytes = |weight| usize::try_from(weighed(weight)).unwrap_or(usize::MAX);
        (bytes(entry.base_weight), bytes(entry.meta_weight))
    }

    /// The message's own record lies elsewhere now.
    pub(crate) fn move_base(&mut self, slot: Slot, to: Spot) {
        let bytes = Books::base_bytes(self.index.get(slot));
        let from = self.base(slot);
        let entry = self.index.get_mut(slot);
        (entry.base_seg, entry.base_at) = (to.segment, to.at);
        self.loses(from, bytes);
        self.gains(to, bytes);
    }

    /// The message got a record of its own: see [`UNWRITTEN`].
    pub(crate) fn written(&mut self, slot: Slot, spot: Spot, span: u64, place: BodyPlace) {
        let id = self.index.get(slot).id();
        let entry = self.index.get_mut(slot);
        entry.flags &= !UNWRITTEN;
        if let BodyPlace::Pieces(body) = place
            && entry.flags & PIECES == 0
        {
            entry.flags |= PIECES;
            self.body_of.insert(id, body);
            self.bodies.entry(body).or_default().messages += 1;
        }
        let entry = self.index.get_mut(slot);
        entry.base_weight = weight(span);
        (entry.base_seg, entry.base_at) = (spot.segment, spot.at);
        let bytes = Books::base_bytes(entry);
        self.gains(spot, bytes);
    }

    /// The message has new metadata, in a record of `span` bytes: what it had before is not needed any more.
    pub(crate) fn set_meta(&mut self, slot: Slot, to: Spot, span: u64, keep_standing: bool) {
        self.drop_meta(slot);
        if !keep_standing {
            self.drop_standing(slot);
        }
        let entry = self.index.get_mut(slot);
        (entry.meta_seg, entry.meta_at) = (to.segment, to.at);
        entry.meta_weight = weight(span);
        let bytes = weighed(entry.meta_weight);
        self.gains(to, bytes);
    }

    /// A record says how the message stands: the one before is not needed any more.
    pub(crate) fn set_standing(&mut self, slot: Slot, to: Spot, span: u64) {
        self.drop_standing(slot);
        let entry = self.index.get_mut(slot);
        (entry.state_seg, entry.state_at) = (to.segment, to.at);
        let class = STANDING_BYTES.iter().position(|bytes| *bytes >= span).unwrap_or(7);
        entry.flags &= (1 << STANDING_SHIFT) - 1;
        entry.flags |= u8::try_from(class).unwrap_or(7) << STANDING_SHIFT;
        let bytes = Books::standing_bytes(entry);
        self.gains(to, bytes);
    }

    pub(crate) fn drop_meta(&mut self, slot: Slot) {
        let spot = self.meta(slot);
        let bytes = weighed(self.index.get(slot).meta_weight);
        if spot.segment != NOWHERE.segment {
            self.loses(spot, bytes);
            self.index.get_mut(slot).meta_seg = NOWHERE.segment;
        }
    }

    pub(crate) fn drop_standing(&mut self, slot: Slot) {
        let spot = self.standing(slot);
        if spot.segment != NOWHERE.segment {
            let bytes = Books::standing_bytes(self.index.get(slot));
            self.loses(spot, bytes);
            self.index.get_mut(slot).state_seg = NOWHERE.segment;
        }
    }

    /// What the schedule goes by, without a change of its list: for messages in none.
    pub(crate) fn stand(&mut self, slot: Slot, stands: &Stands) {
        let queue = self.index.intern(&stands.queue);
        self.index.get_mut(slot).attempts = u8::try_from(stands.attempts).unwrap_or(u8::MAX);
        self.set_flag(slot, HELD, stands.held);
        self.index.assign(slot, queue, stands.next_attempt, stands.priority);
    }

    /// Puts a message among the delayed ones of its queue.
    pub(crate) fn schedule(&mut self, slot: Slot, next_attempt: u32) {
        let entry = self.index.get(slot);
        let (queue, priority) = (entry.queue(), entry.priority());
        if self.loading || entry.flags & (CORRUPT | HELD) != 0 {
            self.index.assign(slot, queue, next_attempt, priority);
        } else {
            self.index.delay(slot, queue, next_attempt);
        }
    }

    /// Hands a message out. One that is kept out of the schedule stays so.
    pub(crate) fn activate(&mut self, slot: Slot) {
        if self.index.get(slot).flags & (CORRUPT | HELD) == 0 {
            self.index.activate(slot);
        }
    }

    /// All is read in: makes the schedule.
    pub(crate) fn finish_schedule(&mut self) {
        self.index.build_schedule();
        self.loading = false;
        let held: Vec<Slot> = match self.totals.held {
            0 => Vec::new(),
            _ => self.index.slots().filter(|slot| self.index.get(*slot).flags & HELD != 0).collect(),
        };
        held.into_iter().for_each(|slot| self.index.idle(slot));
    }

    /// Messages whose bodies are not whole.
    pub(crate) fn broken_bodies(&self) -> Vec<Slot> {
        let broken = self.body_of.iter().filter_map(|(id, body)| {
            let slot = self.index.find(*id)?;
            let size = self.index.get(slot).size();
            let pieces = self.bodies.get(body);
            let whole = pieces.is_some_and(|pieces| {
                let end = pieces.pieces.last().map_or(0, |last| last.at.saturating_add(u64::from(last.len)));
                let told = if size == u32::MAX { end.max(u64::from(size)) } else { u64::from(size) };
                pieces.is_whole(told)
            });
            (!whole).then_some(slot)
        });
        broken.collect()
    }

    /// Takes a message out, and with it what only it needed. Its entry, as it was.
    pub(crate) fn remove(&mut self, slot: Slot) -> Entry {
        let id = self.index.get(slot).id();
        self.drop_meta(slot);
        self.drop_standing(slot);
        let base = self.base(slot);
        let entry = self.index.remove(slot);
        if entry.flags & UNWRITTEN == 0 {
            self.loses(base, Books::base_bytes(&entry));
        }
        for resource in self.resources.remove(&id).unwrap_or_default() {
            self.loses(resource.spot, u64::from(resource.span));
        }
        if let Some(body) = self.body_of.remove(&id) {
            self.drop_body(body, |body| body.messages = body.messages.saturating_sub(1));
        }
        self.totals.bytes -= u64::from(entry.size());
        self.totals.corrupt -= u64::from(entry.flags & CORRUPT != 0);
        self.totals.held -= u64::from(entry.flags & HELD != 0);
        entry
    }

    pub(crate) fn set_flag(&mut self, slot: Slot, flag: u8, on: bool) {
        let entry = self.index.get_mut(slot);
        if (entry.flags & flag != 0) == on {
            return;
        }
        entry.flags ^= flag;
        let count = match flag {
            CORRUPT => &mut self.totals.corrupt,
            HELD => &mut self.totals.held,
            _ => return,
        };
        *count = if on { *count + 1 } else { *count - 1 };
    }

    // Bodies in pieces, and resources

    pub(crate) fn body_of(&self, id: u64) -> Option<u64> {
        self.body_of.get(&id).copied()
    }

    /// Notes a piece. Where one is known for that place of the body already, it is left, and said where that one is.
    pub(crate) fn add_piece(&mut self, body: u64, piece: Piece) -> Option<Spot> {
        let pieces = &mut self.bodies.entry(body).or_default().pieces;
        match pieces.binary_search_by_key(&piece.at, |known| known.at) {
            Ok(known) => Some(pieces[known].spot),
            Err(at) => {
                pieces.insert(at, piece);
                self.gains(piece.spot, u64::from(piece.len));
                None
            }
        }
    }

    /// A resource of a message, or that it is gone.
    pub(crate) fn resource(&self, id: u64, name: &str) -> Option<&ResourceSpot> {
        self.resources.get(&id)?.iter().find(|resource| resource.name == name)
    }

    /// A piece lies elsewhere now; false if the body is gone, or the piece is not where it was.
    pub(crate) fn move_piece(&mut self, body: u64, from: Spot, to: Spot) -> bool {
        let pieces = self.bodies.get_mut(&body).map(|body| &mut body.pieces);
        let Some(piece) = pieces.and_then(|pieces| pieces.iter_mut().find(|piece| piece.spot == from)) else {
            return false;
        };
        piece.spot = to;
        let bytes = u64::from(piece.len);
        self.loses(from, bytes);
        self.gains(to, bytes);
        true
    }

    /// Changes who needs a body; whose nobody does goes.
    pub(crate) fn drop_body(&mut self, number: u64, change: impl FnOnce(&mut BodyPieces)) {
        let Some(body) = self.bodies.get_mut(&number) else { return };
        change(body);
        if body.messages > 0 || body.handles > 0 {
            return;
        }
        let gone = self.bodies.remove(&number).unwrap_or_default();
        for piece in gone.pieces {
            self.loses(piece.spot, u64::from(piece.len));
        }
    }

    pub(crate) fn set_resource(&mut self, slot: Slot, resource: ResourceSpot) {
        let id = self.index.get(slot).id();
        let held = self.resources.entry(id).or_default();
        let before = held.iter().position(|known| known.name == resource.name);
        let before = before.map(|at| held.remove(at));
        let (spot, span) = (resource.spot, resource.span);
        held.push(resource);
        let any = held.iter().any(|known| !known.gone);
        if let Some(before) = before {
            self.loses(before.spot, u64::from(before.span));
        }
        self.gains(spot, u64::from(span));
        self.set_flag(slot, RESOURCES, any);
    }

    /// A resource lies elsewhere now; false if it is not where it was.
    pub(crate) fn move_resource(&mut self, id: u64, from: Spot, to: Spot) -> bool {
        let held = self.resources.get_mut(&id);
        let found = held.and_then(|held| held.iter_mut().find(|resource| resource.spot == from));
        let Some(resource) = found else { return false };
        resource.spot = to;
        let bytes = u64::from(resource.span);
        self.loses(from, bytes);
        self.gains(to, bytes);
        true
    }

    pub(crate) fn queue_key(&self, slot: Slot) -> &QueueKey {
        self.index.key(self.index.get(slot).queue())
    }
}

/// A segment of a log as the books name it.
pub(crate) fn home(log: LogNo, segment: SegmentId) -> Home {
    Home { log, segment: segment.0 }
}
