//! The entries of all messages, in chunks of a fixed size: growing copies nothing, and a chunk that is no longer needed
//! is given back.

use std::cmp::Reverse;

use super::queues::QueueRef;
use super::schedule::Order;
use super::table::mix;

/// Entries in a chunk: 208 KiB.
const CHUNK: usize = 4096;

/// Where a message's entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Slot(u32);

impl Slot {
    /// No slot: the end of a list, a leaf of a tree.
    pub(super) const NIL: Slot = Slot(u32::MAX);

    /// This, unless it is [`Slot::NIL`].
    pub(super) fn some(self) -> Option<Slot> {
        (self != Slot::NIL).then_some(self)
    }

    fn new(chunk: usize, place: usize) -> Slot {
        Slot(u32::try_from(chunk * CHUNK + place).expect("memory ends before the slots do"))
    }

    /// Its number: slots that are used again have the same.
    pub(crate) fn number(self) -> usize {
        self.0 as usize
    }

    fn chunk(self) -> usize {
        self.0 as usize / CHUNK
    }

    fn place(self) -> usize {
        self.0 as usize % CHUNK
    }
}

/// Which list a message is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum State {
    /// No message at all: an entry of the slab's free ones.
    Free,
    /// In none.
    Idle,
    /// Among its queue's delayed ones.
    Delayed,
    /// Among its queue's active ones: it has been handed out.
    Active,
}

/// What the index knows of a message.
///
/// A record's place is the slot of its segment and its offset there, counted in 8 bytes. Its weight is its length, in
/// one byte, on a scale of the store's.
#[derive(Clone, Debug)]
#[repr(C)]
pub(crate) struct Entry {
    /// In halves, so that an entry needs the alignment of a u32 only.
    id: [u32; 2],
    pub(super) next_attempt: u32,
    pub(super) size: u32,
    pub(super) queue: QueueRef,
    /// Where the base record lies in its segment.
    pub(crate) base_at: u32,
    /// Where the newest metadata record lies in its segment.
    pub(crate) meta_at: u32,
    /// Where the newest state record lies in its segment.
    pub(crate) state_at: u32,
    /// Delayed: the earlier ones. Active: the one before. Free: the next free one.
    pub(super) left: Slot,
    /// Delayed: the later ones. Active: the one behind. Free: the free one before.
    pub(super) right: Slot,
    /// The segment of the base record.
    pub(crate) base_seg: u16,
    /// The segment of the newest metadata record.
    pub(crate) meta_seg: u16,
    /// The segment of the newest state record.
    pub(crate) state_seg: u16,
    /// Attempts made; stays at 255.
    pub(crate) attempts: u8,
    /// The store's own bits.
    pub(crate) flags: u8,
    /// Weight of the base record.
    pub(crate) base_weight: u8,
    /// Weight of the newest metadata record.
    pub(crate) meta_weight: u8,
    pub(super) priority: u8,
    pub(super) state: State,
}

const _: () = assert!(size_of::<Entry>() == 52 && align_of::<Entry>() == 4);

impl Entry {
    /// The segment of a record that is not there.
    pub(crate) const NO_SEGMENT: u16 = u16::MAX;

    /// The entry of a message none of whose records is known yet, and which is in no list. `next_attempt` counts
    /// seconds, `size` the bytes of the body.
    pub(crate) fn new(id: u64, queue: QueueRef, next_attempt: u32, size: u32, priority: u8) -> Entry {
        Entry {
            id: [id as u32, (id >> 32) as u32],
            next_attempt,
            size,
            queue,
            base_at: 0,
            meta_at: 0,
            state_at: 0,
            left: Slot::NIL,
            right: Slot::NIL,
            base_seg: Entry::NO_SEGMENT,
            meta_seg: Entry::NO_SEGMENT,
            state_seg: Entry::NO_SEGMENT,
            attempts: 0,
            flags: 0,
            base_weight: 0,
            meta_weight: 0,
            priority,
            state: State::Idle,
        }
    }

    /// The message's id.
    pub(crate) fn id(&self) -> u64 {
        u64::from(self.id[1]) << 32 | u64::from(self.id[0])
    }

    /// When it is tried next, in seconds.
    pub(crate) fn next_attempt(&self) -> u32 {
        self.next_attempt
    }

    /// Bytes of the body; `u32::MAX` stands for all that is larger.
    pub(crate) fn size(&self) -> u32 {
        self.size
    }

    /// The queue it is in.
    pub(crate) fn queue(&self) -> QueueRef {
        self.queue
    }

    /// Of two messages that are due in the same second, the one with the higher priority goes first.
    pub(crate) fn priority(&self) -> u8 {
        self.priority
    }

    /// Which list it is in.
    pub(crate) fn state(&self) -> State {
        self.state
    }

    /// Its place among the delayed ones.
    pub(super) fn order(&self) -> Order {
        Order { next_attempt: self.next_attempt, priority: Reverse(self.priority), id: self.id() }
    }
}

/// A chunk that was given back has no entries.
struct Chunk {
    entries: Box<[Entry]>,
    live: usize,
}

/// The entries of all messages.
pub(super) struct Slab {
    seed: u64,
    chunks: Vec<Chunk>,
    /// Numbers of chunks that were given back.
    absent: Vec<usize>,
    /// The first of the free entries, which are a list in both directions.
    free: Slot,
    /// How many are in that list.
    vacant: usize,
    len: usize,
}

impl Slab {
    /// An empty one. The seed is for [`Slab::weight`].
    pub(super) fn new(seed: u64) -> Slab {
        Slab { seed, chunks: Vec::new(), absent: Vec::new(), free: Slot::NIL, vacant: 0, len: 0 }
    }

    pub(super) fn at(&self, slot: Slot) -> &Entry {
        &self.chunks[slot.chunk()].entries[slot.place()]
    }

    pub(super) fn at_mut(&mut self, slot: Slot) -> &mut Entry {
        &mut self.chunks[slot.chunk()].entries[slot.place()]
    }

    /// What decides which of two messages is higher in a tree. No two ids have the same.
    pub(super) fn weight(&self, slot: Slot) -> u64 {
        mix(self.at(slot).id(), self.seed)
    }

    /// Takes an entry in, idle.
    pub(super) fn insert(&mut self, entry: Entry) -> Slot {
        if self.free == Slot::NIL {
            self.grow();
        }
        let slot = self.free;
        self.unlink(slot);
        *self.at_mut(slot) = Entry { left: Slot::NIL, right: Slot::NIL, state: State::Idle, ..entry };
        self.chunks[slot.chunk()].live += 1;
        self.len += 1;
        slot
    }

    /// Takes an entry out. It must be idle.
    pub(super) fn remove(&mut self, slot: Slot) -> Entry {
        let entry = self.at(slot).clone();
        debug_assert_eq!(entry.state, State::Idle, "only an idle entry is taken out");

        self.link(slot);
        self.len -= 1;
        let chunk = &mut self.chunks[slot.chunk()];
        chunk.live -= 1;
        // One chunk's worth of free entries stays, so that the next insertions do not ask for it again.
        if chunk.live == 0 && self.vacant >= 2 * CHUNK {
            self.shrink(slot.chunk());
        }
        entry
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The slots of messages behind this one. Chunks without any are stepped over, so that there are never more than
    /// two chunks of free entries between two messages.
    pub(super) fn slots_after(&self, after: Option<Slot>) -> impl Iterator<Item = Slot> + '_ {
        let from = after.map_or(0, |slot| slot.0 as usize + 1);
        let chunks = self.chunks.iter().enumerate().skip(from / CHUNK).filter(|(_, chunk)| chunk.live > 0);
        chunks.flat_map(move |(number, chunk)| {
            let first = from.saturating_sub(number * CHUNK);
            let entries = chunk.entries.iter().enumerate().skip(first);
            entries.filter(|(_, e)| e.state != State::Free).map(move |(place, _)| Slot::new(number, place))
        })
    }

    /// Bytes allocated.
    pub(super) fn memory(&self) -> usize {
        (self.chunks.len() - self.absent.len()) * CHUNK * size_of::<Entry>()
            + self.chunks.capacity() * size_of::<Chunk>()
            + self.absent.capacity() * size_of::<usize>()
    }

    /// Adds a chunk of free entries.
    fn grow(&mut self) {
        let number = self.absent.pop().unwrap_or_else(|| {
            self.chunks.push(Chunk { entries: Box::default(), live: 0 });
            self.chunks.len() - 1
        });
        let free = Entry { state: State::Free, ..Entry::new(0, QueueRef::NONE, 0, 0, 0) };
        self.chunks[number].entries = vec![free; CHUNK].into();
        for place in (0..CHUNK).rev() {
            self.link(Slot::new(number, place));
        }
    }

    /// Gives a chunk back that holds no message.
    fn shrink(&mut self, number: usize) {
        for place in 0..CHUNK {
            self.unlink(Slot::new(number, place));
        }
        self.chunks[number].entries = Box::default();
        self.absent.push(number);
    }

    /// Puts an entry first among the free ones.
    fn link(&mut self, slot: Slot) {
        let next = std::mem::replace(&mut self.free, slot);
        if let Some(next) = next.some() {
            self.at_mut(next).right = slot;
        }
        let entry = self.at_mut(slot);
        (entry.left, entry.right, entry.state) = (next, Slot::NIL, State::Free);
        self.vacant += 1;
    }

    /// Takes an entry out of the free ones.
    fn unlink(&mut self, slot: Slot) {
        let entry = self.at(slot);
        let (next, before) = (entry.left, entry.right);
        if let Some(next) = next.some() {
            self.at_mut(next).right = before;
        }
        match before.some() {
            Some(before) => self.at_mut(before).left = next,
            None => self.free = next,
        }
        self.vacant -= 1;
    }
}
