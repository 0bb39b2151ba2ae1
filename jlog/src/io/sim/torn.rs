//! What a power cut may leave of a file: each of its sectors as it was at some time, and one of its sizes.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use super::SECTOR;
use super::crash::MadeOf;
use super::dice::Dice;
use super::inode::{Change, Inode};
use super::profile::{Garbage, Profile};

/// A file with changes that are not durable. Its atoms are its size, then its sectors.
pub(super) struct Torn {
    pub(super) node: usize,
    durable: Arc<Vec<u8>>,
    /// The first is the durable one; they differ from each other.
    sizes: Vec<Size>,
    newest_size: usize,
    sectors: Vec<Sector>,
    size_waits_for_data: bool,
}

/// A size that the file had, and the first moment at which it had it.
#[derive(Clone, Copy)]
struct Size {
    size: usize,
    /// How many changes were made by then.
    changes: usize,
    /// The least size until then: what lies behind it is data of these changes.
    least: usize,
}

/// A sector that was written or cut.
struct Sector {
    start: usize,
    /// The first is the durable one; they differ from each other.
    versions: Vec<Version>,
    newest: usize,
}

struct Version {
    bytes: Box<[u8]>,
    /// What of it is to be garbage.
    garbage: Vec<Range<usize>>,
    /// It lacks this change, by number, and later ones, but none before: `usize::MAX` if it lacks none.
    lacks: usize,
}

impl Torn {
    pub(super) fn new(node: usize, file: &Inode, profile: Profile) -> Torn {
        let mut now = Size { size: file.durable.len(), changes: 0, least: file.durable.len() };
        let mut sizes = vec![now];
        let mut touched = BTreeMap::<usize, Story>::new();
        for (n, change) in file.unsynced.iter().enumerate() {
            for sector in sectors(change, &touched, file.durable.len()) {
                touched.entry(sector).or_insert_with(|| Story::new(&file.durable, sector)).go_on(n, change);
            }
            let size = change.size_after(now.size);
            now = Size { size, changes: n + 1, least: now.least.min(size) };
            if sizes.iter().all(|before| before.size != size) {
                sizes.push(now);
            }
        }
        let sectors = touched.into_values().map(|story| story.end(profile));
        Torn {
            node,
            durable: Arc::clone(&file.durable),
            newest_size: sizes.iter().position(|one| one.size == now.size).unwrap_or(0),
            sizes,
            sectors: sectors.filter(|sector| sector.versions.len() > 1).collect(),
            size_waits_for_data: profile.size_waits_for_data(),
        }
    }

    /// For each atom, how many outcomes it has, and which of them is the newest.
    pub(super) fn atoms(&self) -> impl Iterator<Item = (usize, usize)> {
        let sectors = self.sectors.iter().map(|sector| (sector.versions.len(), sector.newest));
        std::iter::once((self.sizes.len(), self.newest_size)).chain(sectors)
    }

    pub(super) fn atoms_len(&self) -> usize {
        1 + self.sectors.len()
    }

    /// Whether the profile allows this outcome of each of its atoms, and no outcome with a lower number shows the same.
    pub(super) fn is_exact(&self, outcomes: &[usize]) -> bool {
        let size = self.sizes[outcomes[0]];
        self.sectors.iter().zip(&outcomes[1..]).all(|(sector, &outcome)| {
            self.allows(sector, outcome, size)
                && !(0..outcome).any(|lower| {
                    self.allows(sector, lower, size) && sector.shows_the_same(lower, outcome, size.size)
                })
        })
    }

    fn allows(&self, sector: &Sector, outcome: usize, size: Size) -> bool {
        !self.size_waits_for_data || sector.is_complete(outcome, size)
    }

    /// The file with this outcome of each of its atoms; instead of what the profile excludes, with the newest.
    pub(super) fn image(
        &self,
        outcomes: &[usize],
        rubbish: &mut Rubbish<'_>,
        made_of: &mut MadeOf,
    ) -> Arc<Vec<u8>> {
        let size = self.sizes[outcomes[0]];
        let mut is_ahead = false;
        let mut bytes = None;
        for (sector, &outcome) in self.sectors.iter().zip(&outcomes[1..]) {
            if sector.start >= size.size {
                break;
            }
            let outcome = if self.allows(sector, outcome, size) { outcome } else { sector.newest };
            is_ahead |= !sector.is_complete(outcome, size);
            sector.count(outcome, made_of);
            if outcome > 0 {
                let bytes = bytes.get_or_insert_with(|| self.resized(size.size));
                sector.versions[outcome].put_into(bytes, sector.start, rubbish);
            }
        }
        made_of.sizes_behind += u32::from(outcomes[0] != self.newest_size);
        made_of.sizes_ahead += u32::from(is_ahead);
        match bytes {
            Some(bytes) => Arc::new(bytes),
            None if size.size == self.durable.len() => Arc::clone(&self.durable),
            None => Arc::new(self.resized(size.size)),
        }
    }

    fn resized(&self, size: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(size);
        bytes.extend_from_slice(&self.durable[..size.min(self.durable.len())]);
        bytes.resize(size, 0);
        bytes
    }
}

/// The sectors that a change touches. A cut touches those that hold something.
fn sectors(change: &Change, touched: &BTreeMap<usize, Story>, durable: usize) -> Vec<usize> {
    let span = change.span();
    let (first, end) = (span.start / SECTOR, span.end.div_ceil(SECTOR));
    if matches!(change, Change::Write { .. }) {
        return (first..end).collect();
    }
    let durable = durable.div_ceil(SECTOR);
    (first..durable).chain(touched.range(first.max(durable)..).map(|(sector, _)| *sector)).collect()
}

/// What happens to a sector, as it is being told.
struct Story {
    start: usize,
    versions: Vec<Version>,
    newest: usize,
    /// What was changed, and of it what was written.
    changed: Vec<Range<usize>>,
    written: Vec<Range<usize>>,
    /// Whether it lies wholly behind the durable end.
    is_new: bool,
}

impl Story {
    fn new(durable: &[u8], sector: usize) -> Story {
        let start = sector * SECTOR;
        let mut bytes = vec![0; SECTOR];
        let there = &durable[start.min(durable.len())..(start + SECTOR).min(durable.len())];
        bytes[..there.len()].copy_from_slice(there);
        let old = Version { bytes: bytes.into(), garbage: Vec::new(), lacks: usize::MAX };
        let is_new = there.is_empty();
        Story { start, versions: vec![old], newest: 0, changed: Vec::new(), written: Vec::new(), is_new }
    }

    /// Change number `n`.
    fn go_on(&mut self, n: usize, change: &Change) {
        let part = change.part_in(self.start, SECTOR);
        if matches!(change, Change::Write { .. }) {
            self.written.push(part.clone());
        }
        self.changed.push(part);

        let before = &mut self.versions[self.newest];
        let mut bytes = before.bytes.clone();
        change.make_in(self.start, &mut bytes);
        if bytes != before.bytes {
            before.lacks = n;
            self.newest = self.number_of(bytes);
        }
    }

    /// The number of the version with these bytes, which lacks nothing.
    fn number_of(&mut self, bytes: Box<[u8]>) -> usize {
        if bytes == self.versions[0].bytes {
            self.versions[0].lacks = usize::MAX;
            return 0;
        }
        self.versions.push(Version { bytes, garbage: Vec::new(), lacks: usize::MAX });
        self.versions.len() - 1
    }

    fn end(mut self, profile: Profile) -> Sector {
        if profile.zeroes_overwrites() && !self.is_new {
            let mut bytes = self.versions[0].bytes.clone();
            self.changed.iter().for_each(|part| bytes[part.clone()].fill(0));
            if self.versions.iter().all(|version| version.bytes != bytes) {
                self.versions.push(Version { bytes, garbage: Vec::new(), lacks: 0 });
            }
        }
        let is_garbage = profile.garbage() != Garbage::None && !self.written.is_empty();
        if is_garbage {
            let bytes = self.versions[self.newest].bytes.clone();
            let whole = profile.garbage() == Garbage::Sector;
            let garbage = if whole { std::iter::once(0..SECTOR).collect() } else { self.written };
            self.versions.push(Version { bytes, garbage, lacks: 0 });
        }
        Sector { start: self.start, versions: self.versions, newest: self.newest }
    }
}

impl Sector {
    /// Whether it has all that made the file grow to this size.
    fn is_complete(&self, outcome: usize, size: Size) -> bool {
        let grown = self.start < size.size && self.start + SECTOR > size.least;
        !grown || self.versions[outcome].lacks >= size.changes
    }

    /// Whether two outcomes are the same in a file that ends here.
    fn shows_the_same(&self, one: usize, other: usize, end: usize) -> bool {
        let seen = end.saturating_sub(self.start).min(SECTOR);
        let (one, other) = (&self.versions[one], &self.versions[other]);
        seen == 0 || one.garbage == other.garbage && one.bytes[..seen] == other.bytes[..seen]
    }

    fn count(&self, outcome: usize, made_of: &mut MadeOf) {
        let version = &self.versions[outcome];
        if !version.garbage.is_empty() {
            made_of.garbage_sectors += 1;
        } else if outcome != self.newest {
            let zeros = version.bytes.iter().all(|byte| *byte == 0);
            made_of.zero_sectors += u32::from(zeros);
            made_of.torn_sectors += u32::from(!zeros);
        }
    }
}

impl Version {
    fn put_into(&self, file: &mut [u8], start: usize, rubbish: &mut Rubbish<'_>) {
        let end = file.len().min(start + SECTOR);
        let sector = &mut file[start..end];
        sector.copy_from_slice(&self.bytes[..end - start]);
        if !self.garbage.is_empty() {
            rubbish.put_into(sector, &self.garbage);
        }
    }
}

/// Where garbage comes from: half of it is random, half is what lies or lay elsewhere on the disk, for a block that is
/// used again shows records that look sound.
pub(super) struct Rubbish<'a> {
    pub(super) files: &'a [Arc<Vec<u8>>],
    pub(super) dice: &'a mut Dice,
}

impl Rubbish<'_> {
    fn put_into(&mut self, sector: &mut [u8], parts: &[Range<usize>]) {
        let mut garbage = [0; SECTOR];
        self.dice.fill(&mut garbage);
        if !self.files.is_empty() && self.dice.below(2) == 1 {
            let file = &self.files[self.dice.below(self.files.len())];
            let start = self.dice.below(file.len().div_ceil(SECTOR)) * SECTOR;
            let old = &file[start..file.len().min(start + SECTOR)];
            garbage[..old.len()].copy_from_slice(old);
        }
        for part in parts {
            let part = part.start.min(sector.len())..part.end.min(sector.len());
            sector[part.clone()].copy_from_slice(&garbage[part]);
        }
    }
}
