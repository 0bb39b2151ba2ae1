//! One segment: a data file and its index, where records meet files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::id::SegmentId;
use crate::io::{Disk, File, Open};
use crate::record::classic::{Codec, INDEX_ENTRY, encode_index};
use crate::record::scan::ClassicWalk;
use crate::record::walk::{Ending, Listed, Source, Step, Walk};

/// The paths of a segment's two files.
pub(crate) fn data_path(dir: &Path, id: SegmentId) -> PathBuf {
    dir.join(id.to_string())
}

pub(crate) fn index_path(dir: &Path, id: SegmentId) -> PathBuf {
    dir.join(format!("{id}.idx"))
}

/// The bytes of a segment as the walk wants them.
#[derive(Debug, Clone)]
pub(crate) struct SegmentSource {
    disk: Arc<dyn Disk>,
    data: Arc<File>,
    index: PathBuf,
    codec: Codec,
}

/// An index with more entries than this (32 MiB) is not consulted.
const MOST_ENTRIES: u64 = 4 << 20;

impl SegmentSource {
    /// Over a data file that is open already.
    pub(crate) fn new(disk: &Arc<dyn Disk>, data: Arc<File>, index: PathBuf, codec: Codec) -> SegmentSource {
        SegmentSource { disk: Arc::clone(disk), data, index, codec }
    }

    pub(crate) fn data(&self) -> &File {
        &self.data
    }

    /// A walk through all that the file of a classic segment holds now.
    pub(crate) fn classic_walk(self, sealed: bool) -> Result<ClassicWalk<SegmentSource>> {
        let (codec, end) = (self.codec, self.data.size()?);
        Ok(ClassicWalk::new(self, codec, end, sealed))
    }
}

impl Source for SegmentSource {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        self.data.pread_up_to(buffer, offset)
    }

    fn size(&self) -> Result<u64> {
        self.data.size()
    }

    fn index(&self) -> Result<Listed> {
        let Some(file) = File::open_existing(&*self.disk, &self.index, Open::Read)? else {
            return Ok(Listed::default());
        };
        let entries = file.size()? / INDEX_ENTRY as u64;
        if entries > MOST_ENTRIES {
            return Ok(Listed::default());
        }
        let mut bytes = vec![0; entries as usize * INDEX_ENTRY];
        let got = file.pread_up_to(&mut bytes, 0)?;
        Ok(decode_index(&bytes[..got], self.codec))
    }
}

fn decode_index(bytes: &[u8], codec: Codec) -> Listed {
    let mut offsets: Vec<u64> = bytes.chunks_exact(INDEX_ENTRY).map(|entry| codec.order.u64(entry)).collect();
    let closed = offsets.len() > 1 && offsets.last() == Some(&0);
    if closed {
        offsets.pop();
    }
    Listed { offsets, closed }
}

/// What `jlog_idx_details` tells, and whether the index is right: see [`Log::index_details`](crate::Log::index_details).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexDetails {
    /// How many records the index lists (without the closing entry).
    pub entries: u64,
    /// Whether it carries the closing entry: the segment is finished and all of it is listed.
    pub closed: bool,
    /// How it stands to the data.
    pub state: IndexState,
}

/// How an index stands to the data it was made from. It is a cache: readers of libjlog extend it or make it anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IndexState {
    /// There is none.
    Missing,
    /// What it lists is right, but not all is listed yet, or a finished segment's index is not closed yet.
    Partial,
    /// All records are listed, and it is closed exactly if the segment is finished.
    Complete,
    /// It lists what is not, or no longer, in the data, or is closed too early.
    Stale,
    /// Its length or its entries cannot be an index at all.
    Damaged,
}

impl std::fmt::Display for IndexState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            IndexState::Missing => "missing",
            IndexState::Partial => "partial",
            IndexState::Complete => "complete",
            IndexState::Stale => "stale",
            IndexState::Damaged => "damaged",
        })
    }
}

/// Compares an index with the records of its segment, one after another as the walk finds them, in constant memory.
pub(crate) struct IndexCheck {
    file: Option<File>,
    codec: Codec,
    size: u64,
    /// Entries compared, and the block of entries last read.
    compared: u64,
    block: Vec<u8>,
    block_at: u64,
    /// The first entry that is wrong: its position, what it says, what it should say.
    pub(crate) wrong: Option<(u64, u64, u64)>,
}

impl IndexCheck {
    pub(crate) fn open(disk: &dyn Disk, path: &Path, codec: Codec) -> Result<IndexCheck> {
        let file = File::open_existing(disk, path, Open::Read)?;
        let size = file.as_ref().map_or(Ok(0), File::size)?;
        Ok(IndexCheck { file, codec, size, compared: 0, block: Vec::new(), block_at: 0, wrong: None })
    }

    fn entry(&mut self, slot: u64) -> Result<Option<u64>> {
        let at = slot * INDEX_ENTRY as u64;
        let Some(file) = &self.file else { return Ok(None) };
        if at + INDEX_ENTRY as u64 > self.size {
            return Ok(None);
        }
        if at < self.block_at || at + INDEX_ENTRY as u64 > self.block_at + self.block.len() as u64 {
            self.block.resize(64 * 1024, 0);
            let got = file.pread_up_to(&mut self.block, at)?;
            self.block.truncate(got);
            self.block_at = at;
        }
        let from = (at - self.block_at) as usize;
        Ok(self.block.get(from..from + INDEX_ENTRY).map(|bytes| self.codec.order.u64(bytes)))
    }

    /// The walk has found a record at `offset`, which stands at `slot` (from 0) of the records that were ever there.
    pub(crate) fn record(&mut self, slot: u64, offset: u64) -> Result<()> {
        let listed = self.entry(slot)?;
        if let Some(listed) = listed {
            self.compared = slot + 1;
            if listed != offset && self.wrong.is_none() {
                self.wrong = Some((slot, listed, offset));
            }
        }
        Ok(())
    }

    /// The walk is at its end: `records` were ever there, the data has `end` bytes.
    pub(crate) fn finish(mut self, records: u64, end: u64, sealed: bool) -> Result<(IndexDetails, String)> {
        let stored = self.size / INDEX_ENTRY as u64;
        let last = if stored > 1 { self.entry(stored - 1)? } else { None };
        let closed = last == Some(0);
        let entries = if closed { stored - 1 } else { stored };
        let beyond = entries > records;

        let (state, detail) = if self.file.is_none() {
            (IndexState::Missing, String::new())
        } else if !self.size.is_multiple_of(INDEX_ENTRY as u64) {
            (
                IndexState::Damaged,
                format!("it has {} bytes, and an index is a whole number of 8-byte entries", self.size),
            )
        } else if let Some((slot, listed, offset)) = self.wrong {
            let what = format!("entry {} says {listed}, the record is at {offset}", slot + 1);
            let impossible = listed >= end || (listed == 0 && slot > 0);
            (if impossible { IndexState::Damaged } else { IndexState::Stale }, what)
        } else if beyond {
            let what = format!("it lists {entries} messages, the segment holds {records}");
            (IndexState::Stale, what)
        } else if closed && !sealed {
            (IndexState::Stale, "it is closed, but the segment is still being written".to_owned())
        } else if closed && entries < records {
            (IndexState::Stale, format!("it is closed after {entries} messages, the segment holds {records}"))
        } else if entries == records && (closed == sealed || records == 0) {
            (IndexState::Complete, String::new())
        } else {
            (IndexState::Partial, String::new())
        };
        Ok((IndexDetails { entries, closed, state }, detail))
    }
}

/// The bytes of the index that a sound segment should have. Needs 8 bytes of memory a record.
pub(crate) fn build_index(walk: &mut Walk<SegmentSource>, codec: Codec, sealed: bool) -> Result<Vec<u8>> {
    let mut offsets = Vec::new();
    loop {
        match walk.step()? {
            Step::Record(found) => offsets.push(found.offset),
            Step::Hole(hole) => {
                let what = format!("bytes {}..{} are damaged", hole.from, hole.to);
                return Err(Error::new(ErrorKind::Damaged, "index a segment", what)
                    .at(walk.source().data().path())
                    .byte(hole.from));
            }
            Step::End(Ending::Torn { .. } | Ending::Clean) => {
                return Ok(encode_index(&offsets, sealed, codec.order));
            }
        }
    }
}
