//! From an id to its slot: an open-addressed table that holds the slots alone, because the ids are in the entries.
//!
//! A bucket is a slot and a byte that says how far from home it is (linear probing, Robin Hood). Of two neighbours the
//! second is never farther from home than the first by more than one, so that a search ends early, and a removal moves
//! the rest of the run one back: no tombstones, and the memory goes by the number of messages, not by their history.
//! Runs of the hash are tables of their own that grow one by one: no insertion waits until all of a million is moved.

use super::slab::{Slab, Slot};

/// The tables there are: the top byte of the hash.
const SHARDS: usize = 256;

/// Buckets of the smallest shard that holds anything.
const FEWEST: usize = 10;

/// Spreads a number over 64 bits. For one seed, no two numbers have the same result.
pub(super) fn mix(number: u64, seed: u64) -> u64 {
    let x = number ^ seed;
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// The ids of all messages.
pub(super) struct Table {
    seed: u64,
    shards: Vec<Shard>,
}

impl Table {
    pub(super) fn new(seed: u64) -> Table {
        Table { seed, shards: (0..SHARDS).map(|_| Shard::with_buckets(0)).collect() }
    }

    pub(super) fn find(&self, slab: &Slab, id: u64) -> Option<Slot> {
        let hash = mix(id, self.seed);
        let shard = &self.shards[shard(hash)];
        shard.find(hash, |slot| slab.at(slot).id() == id).map(|bucket| shard.slots[bucket])
    }

    /// Takes in a slot whose entry is in the slab, and whose id is not here.
    pub(super) fn insert(&mut self, slab: &Slab, slot: Slot) {
        let hash = mix(slab.at(slot).id(), self.seed);
        let shard = &mut self.shards[shard(hash)];
        while shard.is_full() || !shard.insert(hash, slot) {
            shard.rebuild(grown(shard.slots.len()), |slot| mix(slab.at(slot).id(), self.seed));
        }
    }

    /// Takes out a slot whose entry is still in the slab.
    pub(super) fn remove(&mut self, slab: &Slab, slot: Slot) {
        let hash = mix(slab.at(slot).id(), self.seed);
        let shard = &mut self.shards[shard(hash)];
        if let Some(bucket) = shard.find(hash, |other| other == slot) {
            shard.remove(bucket);
        }
        if shard.len * 4 < shard.slots.len() && shard.slots.len() > FEWEST {
            let buckets = (shard.len * 2).max(FEWEST);
            shard.rebuild(buckets, |slot| mix(slab.at(slot).id(), self.seed));
        }
    }

    /// Bytes allocated.
    pub(super) fn memory(&self) -> usize {
        let buckets: usize = self.shards.iter().map(|shard| shard.slots.len()).sum();
        buckets * (size_of::<Slot>() + size_of::<u8>()) + self.shards.capacity() * size_of::<Shard>()
    }
}

fn shard(hash: u64) -> usize {
    (hash >> 56) as usize
}

fn grown(buckets: usize) -> usize {
    (buckets + buckets / 2).max(FEWEST)
}

/// A table of its own. `away` says of every bucket: 0 if it is empty, else 1 more than its distance from home.
struct Shard {
    slots: Box<[Slot]>,
    away: Box<[u8]>,
    len: usize,
}

impl Shard {
    fn with_buckets(buckets: usize) -> Shard {
        Shard { slots: vec![Slot::NIL; buckets].into(), away: vec![0; buckets].into(), len: 0 }
    }

    /// Whether one more would be more than four in five buckets: beyond, the runs become long.
    fn is_full(&self) -> bool {
        (self.len + 1) * 5 > self.slots.len() * 4
    }

    /// The bucket where a hash belongs: its place in the range of hashes, scaled to the number of buckets.
    fn home(&self, hash: u64) -> usize {
        let fraction = (hash >> 24) & 0xffff_ffff;
        ((fraction * self.slots.len() as u64) >> 32) as usize
    }

    fn next(&self, bucket: usize) -> usize {
        if bucket + 1 == self.slots.len() { 0 } else { bucket + 1 }
    }

    /// The bucket of a hash whose slot is the one looked for.
    fn find(&self, hash: u64, matches: impl Fn(Slot) -> bool) -> Option<usize> {
        if self.len == 0 {
            return None;
        }
        let mut bucket = self.home(hash);
        // Whoever has the same home is exactly as far from it as we are; after one that is nearer to its own, no more.
        for away in 1..=u8::MAX {
            if self.away[bucket] < away {
                return None;
            }
            if self.away[bucket] == away && matches(self.slots[bucket]) {
                return Some(bucket);
            }
            bucket = self.next(bucket);
        }
        None
    }

    /// Puts a slot behind all that are at least as far from home, and moves the rest of the run one on. False, and
    /// nothing done, if somebody's distance does not fit its byte any more. There must be an empty bucket.
    fn insert(&mut self, hash: u64, slot: Slot) -> bool {
        let mut bucket = self.home(hash);
        let mut away = 1;
        while self.away[bucket] >= away {
            if away == u8::MAX {
                return false;
            }
            away += 1;
            bucket = self.next(bucket);
        }
        let mut end = bucket;
        while self.away[end] != 0 {
            if self.away[end] == u8::MAX {
                return false;
            }
            end = self.next(end);
        }

        let mut moving = (slot, away);
        while bucket != end {
            std::mem::swap(&mut self.slots[bucket], &mut moving.0);
            std::mem::swap(&mut self.away[bucket], &mut moving.1);
            moving.1 += 1;
            bucket = self.next(bucket);
        }
        (self.slots[end], self.away[end]) = moving;
        self.len += 1;
        true
    }

    /// Empties a bucket, and moves those behind it back that are not at home.
    fn remove(&mut self, mut bucket: usize) {
        let mut next = self.next(bucket);
        while self.away[next] > 1 {
            self.slots[bucket] = self.slots[next];
            self.away[bucket] = self.away[next] - 1;
            (bucket, next) = (next, self.next(next));
        }
        self.away[bucket] = 0;
        self.len -= 1;
    }

    /// Moves everything to another number of buckets, or to more if it does not fit.
    fn rebuild(&mut self, mut buckets: usize, hash: impl Fn(Slot) -> u64) {
        loop {
            let mut new = Shard::with_buckets(buckets);
            let mut full = self.slots.iter().zip(&self.away).filter(|(_, away)| **away != 0);
            if full.all(|(slot, _)| new.insert(hash(*slot), *slot)) {
                *self = new;
                return;
            }
            buckets = grown(buckets);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::index::{Entry, QueueRef};

    /// Every bucket's distance is the truth, and a run has no gap.
    fn check(table: &Table, slab: &Slab) {
        for (number, shard) in table.shards.iter().enumerate() {
            let mut len = 0;
            for (bucket, away) in shard.away.iter().enumerate().filter(|(_, away)| **away != 0) {
                let hash = mix(slab.at(shard.slots[bucket]).id(), table.seed);
                assert_eq!(super::shard(hash), number);
                assert_eq!((shard.home(hash) + usize::from(*away) - 1) % shard.slots.len(), bucket);
                let before = if bucket == 0 { shard.slots.len() - 1 } else { bucket - 1 };
                assert!(shard.away[before] + 1 >= *away);
                len += 1;
            }
            assert_eq!(shard.len, len);
        }
    }

    proptest! {
        #[test]
        fn what_was_inserted_is_found_and_what_was_removed_is_not(
            ops in prop::collection::vec((any::<bool>(), 0..600u64), 1..2000),
        ) {
            let (mut table, mut slab, mut model) = (Table::new(7), Slab::new(0), BTreeMap::new());
            for (insert, id) in ops {
                // All in one shard, so that runs are long and wrap around.
                let id = unmix(id.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 8, 7);
                match model.get(&id).copied() {
                    None if insert => {
                        let slot = slab.insert(Entry::new(id, QueueRef::NONE, 0, 0, 0));
                        table.insert(&slab, slot);
                        model.insert(id, slot);
                    }
                    Some(slot) if !insert => {
                        table.remove(&slab, slot);
                        slab.remove(slot);
                        model.remove(&id);
                    }
                    expected => prop_assert_eq!(table.find(&slab, id), expected),
                }
            }
            check(&table, &slab);
            for (id, slot) in &model {
                prop_assert_eq!(table.find(&slab, *id), Some(*slot));
            }
        }
    }

    /// The number that [`mix`] makes this of.
    fn unmix(mixed: u64, seed: u64) -> u64 {
        let unshift = |mut x: u64, by: u32| {
            let y = x;
            for _ in 0..64 / by {
                x = y ^ (x >> by);
            }
            x
        };
        let x = unshift(mixed, 31).wrapping_mul(inverse(0x94d0_49bb_1331_11eb));
        let x = unshift(x, 27).wrapping_mul(inverse(0xbf58_476d_1ce4_e5b9));
        unshift(x, 30) ^ seed
    }

    /// What an odd number is multiplied with to give 1: each round doubles the bits that are right.
    fn inverse(odd: u64) -> u64 {
        (0..6).fold(odd, |x, _| x.wrapping_mul(2u64.wrapping_sub(odd.wrapping_mul(x))))
    }

    #[test]
    fn mixing_loses_nothing() {
        for number in [0, 1, 7, u64::MAX, 0x0123_4567_89ab_cdef] {
            assert_eq!(unmix(mix(number, 42), 42), number);
        }
    }

    #[test]
    fn a_table_that_was_emptied_is_small_again() {
        let (mut table, mut slab) = (Table::new(7), Slab::new(0));
        let small = table.memory();
        let slots: Vec<Slot> =
            (0..100_000).map(|id| slab.insert(Entry::new(id, QueueRef::NONE, 0, 0, 0))).collect();
        slots.iter().for_each(|slot| table.insert(&slab, *slot));
        assert!(table.memory() - small <= 100_000 * 10);
        check(&table, &slab);
        for slot in slots {
            table.remove(&slab, slot);
            slab.remove(slot);
        }
        assert!(table.memory() - small <= SHARDS * FEWEST * 5);
    }

    #[test]
    fn more_of_one_hash_than_a_distance_can_count_are_not_taken_and_not_lost() {
        let mut shard = Shard::with_buckets(1000);
        let slots = slots(256);
        for slot in &slots[..255] {
            assert!(shard.insert(5 << 24, *slot));
        }
        assert!(!shard.insert(5 << 24, slots[255]));
        assert_eq!(shard.len, 255);
        for slot in &slots[..255] {
            assert!(shard.find(5 << 24, |other| other == *slot).is_some());
        }
        assert!(shard.find(5 << 24, |_| false).is_none());
    }

    #[test]
    fn one_that_would_move_another_too_far_is_not_taken() {
        let mut shard = Shard::with_buckets(1000);
        let slots = slots(257);
        let (first, second) = (0, 4_300_000 << 24);
        assert_eq!((shard.home(first), shard.home(second)), (0, 1));
        for slot in &slots[..255] {
            assert!(shard.insert(second, *slot));
        }
        assert!(shard.insert(first, slots[255]));
        assert!(!shard.insert(first, slots[256]));
        for slot in &slots[..255] {
            assert!(shard.find(second, |other| other == *slot).is_some());
        }
    }

    fn slots(n: u64) -> Vec<Slot> {
        let mut slab = Slab::new(0);
        (0..n).map(|id| slab.insert(Entry::new(id, QueueRef::NONE, 0, 0, 0))).collect()
    }
}
