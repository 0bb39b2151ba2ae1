//! The small files of the checksummed format: each holds its value in slots of 512 bytes, and the newest sound one
//! counts. A write changes one slot, and never the last one known to be on the disk, so that what a power cut tears is
//! never all there is.
//!
//! ```text
//!  slot   0        8  10         24          40            48                           508  512
//!         |magic   |v |features.. |log        |generation   |the value of this file      |crc |
//! ```
//!
//! The checksum begins with the name of the file and the number of the slot: one subscriber's checkpoint does not pass for
//! another's, whatever a disk does with its blocks.

use super::checked::{Features, LogIdentity, VERSION, u32_at, u64_at};

/// The unit in which a disk writes: a slot never shares one with another.
pub(crate) const SLOT: usize = 512;
/// Where the value begins in a slot, and the most bytes it can have; what is behind it is zeros, and room to grow.
const VALUE: usize = 48;
const MOST_VALUE: usize = 128;

/// Which file it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Metastore,
    Checkpoint,
    Control,
}

impl Kind {
    fn magic(self) -> [u8; 8] {
        match self {
            Kind::Metastore => *b"jlogms\x02\n",
            Kind::Checkpoint => *b"jlogcp\x02\n",
            Kind::Control => *b"jlogct\x02\n",
        }
    }
}

/// A sound slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) log: LogIdentity,
    /// Which number of value this is: the higher, the newer.
    pub(crate) generation: u64,
    pub(crate) features: Features,
    pub(crate) value: [u8; MOST_VALUE],
    /// Which slot of its file it stands in.
    pub(crate) number: usize,
}

/// What a file of slots holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Held {
    /// The newest sound slot, and how many others are not sound though something stands in them.
    Newest(Slot, usize),
    /// A sound slot that this engine must not read: why.
    Newer(String),
    /// No sound slot.
    Nothing,
}

/// What a slot holds, to be written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fill<'a> {
    pub(crate) log: LogIdentity,
    pub(crate) generation: u64,
    pub(crate) features: Features,
    pub(crate) value: &'a [u8],
}

/// The bytes of slot `number` of the file of this name.
pub(crate) fn encode(kind: Kind, name: &[u8], number: usize, fill: Fill<'_>) -> [u8; SLOT] {
    let Fill { log, generation, features, value } = fill;
    let mut out = [0; SLOT];
    out[..8].copy_from_slice(&kind.magic());
    out[8..10].copy_from_slice(&VERSION.to_le_bytes());
    features.put(&mut out, 10);
    out[24..40].copy_from_slice(&log.0);
    out[40..48].copy_from_slice(&generation.to_le_bytes());
    out[VALUE..VALUE + value.len()].copy_from_slice(value);
    let crc = checksum(name, number, &out);
    out[SLOT - 4..].copy_from_slice(&crc.to_le_bytes());
    out
}

fn checksum(name: &[u8], number: usize, slot: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(name);
    crc.update(&(number as u64).to_le_bytes());
    crc.update(&slot[..SLOT - 4]);
    crc.finalize()
}

/// Whether a file begins like one of the checksummed format.
pub(crate) fn could_be(kind: Kind, file: &[u8]) -> bool {
    file.chunks(SLOT).any(|slot| slot.starts_with(&kind.magic()))
}

/// What the slots of the file of this name hold.
pub(crate) fn decode(kind: Kind, name: &[u8], file: &[u8]) -> Held {
    let mut newest: Option<Slot> = None;
    let mut unsound = 0;
    let mut newer = None;
    for (number, bytes) in file.chunks(SLOT).enumerate() {
        if bytes.iter().all(|byte| *byte == 0) {
            continue;
        }
        let sound = bytes.len() == SLOT
            && bytes[..8] == kind.magic()
            && checksum(name, number, bytes) == u32_at(bytes, SLOT - 4);
        if !sound {
            unsound += 1;
            continue;
        }
        let features = Features::at(bytes, 10);
        if let Some(why) = features.unreadable(u16::from_le_bytes([bytes[8], bytes[9]])) {
            newer = Some(why);
            continue;
        }
        let slot = Slot {
            log: LogIdentity(bytes[24..40].try_into().expect("sixteen bytes")),
            generation: u64_at(bytes, 40),
            features,
            value: bytes[VALUE..VALUE + MOST_VALUE].try_into().expect("a slot has as many"),
            number,
        };
        if newest.as_ref().is_none_or(|newest| newest.generation < slot.generation) {
            newest = Some(slot);
        }
    }
    match (newer, newest) {
        (Some(why), _) => Held::Newer(why),
        (None, Some(slot)) => Held::Newest(slot, unsound),
        (None, None) => Held::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: LogIdentity = LogIdentity([3; 16]);
    const NAME: &[u8] = b"cp.73";

    fn slot(number: usize, generation: u64) -> [u8; SLOT] {
        let value = &generation.to_le_bytes();
        let fill = Fill { log: LOG, generation, features: Features::default(), value };
        encode(Kind::Checkpoint, NAME, number, fill)
    }

    fn generation(file: &[u8]) -> Option<u64> {
        match decode(Kind::Checkpoint, NAME, file) {
            Held::Newest(slot, _) => Some(slot.generation),
            _ => None,
        }
    }

    #[test]
    fn the_newest_sound_slot_counts() {
        assert_eq!(generation(&[slot(0, 5), slot(1, 4)].concat()), Some(5));
        assert_eq!(generation(&[slot(0, 5), slot(1, 6)].concat()), Some(6));
        assert_eq!(generation(&[[0; SLOT], slot(1, 6)].concat()), Some(6));
        assert_eq!(generation(&[0; 3 * SLOT]), None);
        assert_eq!(generation(&[]), None);
    }

    #[test]
    fn a_write_torn_at_any_byte_leaves_the_value_before_it() {
        let file = [slot(0, 5), slot(1, 4)].concat();
        for cut in 0..SLOT {
            let mut torn = file.clone();
            torn[SLOT..SLOT + cut].copy_from_slice(&slot(1, 6)[..cut]);
            assert_eq!(generation(&torn), Some(5), "torn at {cut}");
        }
    }

    #[test]
    fn a_slot_that_belongs_elsewhere_does_not_count() {
        assert_eq!(decode(Kind::Metastore, NAME, &slot(0, 5)), Held::Nothing, "another kind of file");
        assert_eq!(decode(Kind::Checkpoint, b"cp.74", &slot(0, 5)), Held::Nothing, "another subscriber");
        assert_eq!(generation(&[slot(0, 5), slot(0, 6)].concat()), Some(5), "another place in the file");
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        for bit in (0..SLOT * 8).step_by(if cfg!(miri) { 61 } else { 1 }) {
            let mut bytes = slot(0, 5);
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(Kind::Checkpoint, NAME, &bytes), Held::Nothing, "bit {bit}");
        }
    }
}
