//! The walk through a segment, of either format: what there is to read, and what is not to be believed.

use super::checked_walk::CheckedWalk;
use super::classic::Header;
use super::compress::Compression;
use super::scan::ClassicWalk;
use crate::error::Result;

/// Reads are made in blocks of this size.
pub(super) const BLOCK: usize = 128 * 1024;

/// What is known of a segment's bytes from outside of them, at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    /// How many bytes to read: the file's size, or what readers may see of it.
    pub(crate) end: u64,
    /// A later segment is written to: all up to the end has to be there.
    pub(crate) sealed: bool,
    /// Up to here the bytes are known to have been on the disk once.
    pub(crate) proven: u64,
    /// The records up to this one are known to have been on the disk once.
    pub(crate) proven_marker: u32,
    /// The marker of the last record, where that is known.
    pub(crate) last: Option<u32>,
    /// A writer is alive, so nothing has gone astray behind the end: what is not there has not been written yet.
    pub(crate) settled: bool,
}

impl Extent {
    /// Of a file of which nothing else is known.
    pub(crate) fn of_size(end: u64, sealed: bool) -> Extent {
        Extent { end, sealed, proven: 0, proven_marker: 0, last: None, settled: false }
    }
}

/// A walk through the records of one segment.
#[derive(Debug)]
pub(crate) enum Walk<S> {
    Classic(ClassicWalk<S>),
    Checked(CheckedWalk<S>),
}

macro_rules! either {
    ($walk:expr, $each:ident => $what:expr) => {
        match $walk {
            Walk::Classic($each) => $what,
            Walk::Checked($each) => $what,
        }
    };
}

impl<S: Source> Walk<S> {
    pub(crate) fn source(&self) -> &S {
        either!(self, walk => walk.source())
    }

    /// How many bytes of the segment it knows of.
    pub(crate) fn end(&self) -> u64 {
        self.extent().end
    }

    pub(crate) fn is_sealed(&self) -> bool {
        self.extent().sealed
    }

    /// What it was told of the segment last.
    pub(crate) fn extent(&self) -> Extent {
        match self {
            Walk::Classic(walk) => Extent::of_size(walk.end(), walk.is_sealed()),
            Walk::Checked(walk) => walk.extent(),
        }
    }

    /// Whether the last record was the last of its commit. Classic records are written by themselves.
    pub(crate) fn is_between_commits(&self) -> bool {
        match self {
            Walk::Classic(_) => true,
            Walk::Checked(walk) => walk.is_between_commits(),
        }
    }

    /// Where the next step starts: the end of the last record, or of the last hole.
    pub(crate) fn position(&self) -> u64 {
        either!(self, walk => walk.position())
    }

    /// The marker of the last record so far.
    pub(crate) fn marker(&self) -> u32 {
        either!(self, walk => walk.marker())
    }

    /// Goes on from a place known from an earlier walk: `marker` records end at `pos`.
    pub(crate) fn resume(&mut self, pos: u64, marker: u32) {
        either!(self, walk => walk.resume(pos, marker));
    }

    /// Takes note of how the segment stands now. What was read ahead is forgotten: a torn end may have been replaced.
    pub(crate) fn refresh(&mut self, extent: Extent) {
        match self {
            Walk::Classic(walk) => walk.refresh(extent.end, extent.sealed),
            Walk::Checked(walk) => walk.refresh(extent),
        }
    }

    /// The next record, hole, or the end. At the end it stays there until [`Walk::refresh`].
    pub(crate) fn step(&mut self) -> Result<Step> {
        either!(self, walk => walk.step())
    }

    /// The next record, if nothing about it needs a second look and it lies in the block at hand.
    // Inlined: what it returns, copied from callee to caller, takes as long as the work.
    #[inline(always)]
    pub(crate) fn quick_step(&mut self) -> Option<Found> {
        either!(self, walk => walk.quick_step())
    }

    /// The stored bytes of a record that the walk has found; fewer where the file was cut meanwhile.
    pub(crate) fn stored(&mut self, found: &Found) -> Result<&[u8]> {
        either!(self, walk => walk.stored(found))
    }

    /// As [`Walk::stored`], of a record that lies in the block at hand.
    pub(crate) fn at_hand(&self, found: &Found) -> &[u8] {
        either!(self, walk => walk.at_hand(found))
    }
}

/// The bytes of a segment, and the entries of its index (which is only ever believed after damage, and verified).
pub(crate) trait Source {
    /// Reads up to `buffer.len()` bytes at `offset`; fewer only at the end.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize>;
    /// What the index lists; nothing where there is no usable one.
    fn index(&self) -> Result<Listed>;
    /// How many bytes there are.
    fn size(&self) -> Result<u64>;
}

/// The entries of an index, without the closing one, and whether that is there.
#[derive(Debug, Clone, Default)]
pub(crate) struct Listed {
    pub(crate) offsets: Vec<u64>,
    pub(crate) closed: bool,
}

impl Source for &[u8] {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(self.len());
        let len = buffer.len().min(self.len() - from);
        buffer[..len].copy_from_slice(&self[from..from + len]);
        Ok(len)
    }

    fn index(&self) -> Result<Listed> {
        Ok(Listed::default())
    }

    fn size(&self) -> Result<u64> {
        Ok(self.len() as u64)
    }
}

/// A record that the walk found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) offset: u64,
    /// Its position in the segment, from 1, counting what a hole has lost.
    pub(crate) marker: u32,
    pub(crate) header: Header,
    /// The bytes behind it are damaged, and so nothing proves its length.
    pub(crate) doubtful: bool,
    /// Where the stored message begins.
    pub(crate) body: u64,
    /// The bytes the record takes, with its header and what fills it up.
    pub(crate) span: u64,
    pub(crate) compression: Compression,
    /// What kind of record it is: 1, a message, for all classic ones.
    pub(crate) kind: u8,
}

/// Why there is a hole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HoleKind {
    /// Bytes that hold no record that can be believed.
    Bytes,
    /// The header of a record is sound, and its payload is not.
    Payload,
    /// The header of the segment; no record is lost with it.
    Beginning,
    /// The segment is another one: of another log, or of this log under another number.
    Foreign,
    /// Sound records end before the segment does, as the one behind it knows.
    CutShort,
    /// What a repair has put in the place of damage.
    Repaired,
    /// What stands in the place of records that nobody needs any more.
    Reclaimed,
}

/// Bytes that hold no record that can be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hole {
    pub(crate) from: u64,
    pub(crate) to: u64,
    /// How many records were there, where that is proved.
    pub(crate) lost: Option<u32>,
    /// The marker of the last record before it.
    pub(crate) after: u32,
    /// Whether a torn or wrong length in an otherwise sound header begins the hole.
    pub(crate) starts_with_header: bool,
    pub(crate) kind: HoleKind,
    /// It lies within a commit whose header is sound.
    pub(crate) inside: bool,
}

/// How the bytes of a segment end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// With the last byte of a record.
    Clean,
    /// With bytes, from here on, that are no whole record; nothing sound is behind them.
    Torn { from: u64 },
}

/// What the walk met next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Record(Found),
    Hole(Hole),
    End(Ending),
}

/// Bytes that were read: `bytes` stand at `at`.
#[derive(Debug, Default)]
pub(super) struct Block {
    pub(super) bytes: Vec<u8>,
    pub(super) at: u64,
}

impl Block {
    /// The `len` bytes at `at`, if all of them were read.
    pub(super) fn get(&self, at: u64, len: usize) -> Option<&[u8]> {
        let from = usize::try_from(at.checked_sub(self.at)?).ok()?;
        self.bytes.get(from..from.checked_add(len)?)
    }

    /// `len` bytes at `at`, or fewer where the bytes end; reads on from there, at least [`BLOCK`] bytes.
    pub(super) fn fill<S: Source>(&mut self, source: &S, at: u64, len: usize, end: u64) -> Result<&[u8]> {
        if self.get(at, len).is_none() {
            // A length is never believed beyond what is there.
            let end = if len > BLOCK { end.min(source.size()?) } else { end };
            let left = usize::try_from(end.saturating_sub(at)).unwrap_or(usize::MAX);
            self.bytes.resize(len.max(BLOCK).min(left), 0);
            self.at = at;
            let got = source.read_at(&mut self.bytes, at);
            // After an error nothing was read: what the buffer holds then are no bytes of the segment.
            self.bytes.truncate(*got.as_ref().unwrap_or(&0));
            got?;
        }
        let from = usize::try_from(at - self.at).unwrap_or(usize::MAX).min(self.bytes.len());
        let to = from.saturating_add(len).min(self.bytes.len());
        Ok(&self.bytes[from..to])
    }
}
