//! Records that cannot be delivered: what is missing, and between which records.

use std::fmt;

use crate::id::{RecordId, SegmentId};

/// Why records cannot be delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GapKind {
    /// Bytes in a segment hold no record that can be believed.
    Damage,
    /// A record's header is sound, but what it holds cannot be decompressed.
    Undecodable,
    /// Segment files are not there, though later ones are.
    Missing,
    /// A finished segment holds no bytes at all.
    Empty,
    /// The file under a segment's name is another segment: of another log, or of this one under another number.
    Foreign,
    /// A finished segment ends before the one behind it says it did.
    CutShort,
    /// Damage that was mended: a repair has put a note in the place of the records that were lost.
    Repaired,
    /// Segments were removed before all had read them, because a retention policy says so.
    Dropped,
    /// A segment's space was given back before this subscriber had read all of it: see [`Log::reclaim`](crate::Log::reclaim).
    Reclaimed,
}

/// A stretch of the log that holds no record that can be delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// Why.
    pub kind: GapKind,
    /// The segment it lies in; of missing ones, the first.
    pub segment: SegmentId,
    /// The last missing segment; the same as `segment` in all other cases.
    pub through: SegmentId,
    /// The first byte in the segment's file.
    pub from: u64,
    /// The byte behind the last one.
    pub to: u64,
    /// The last record before it.
    pub after: Option<RecordId>,
    /// How many records are lost, where that is proved.
    pub lost: Option<u64>,
    /// The record before it, where the damage leaves its length unproved: it is delivered next, marked as doubtful.
    pub doubtful: Option<RecordId>,
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            GapKind::Damage => {
                write!(f, "segment {} bytes {}..{} hold no sound record", self.segment, self.from, self.to)?;
            }
            GapKind::Undecodable => {
                write!(
                    f,
                    "segment {} bytes {}..{}: the record cannot be decompressed",
                    self.segment, self.from, self.to
                )?;
            }
            GapKind::Missing if self.segment == self.through => {
                write!(f, "segment {} is missing", self.segment)?;
            }
            GapKind::Missing => write!(f, "segments {} to {} are missing", self.segment, self.through)?,
            GapKind::Dropped if self.segment == self.through => {
                write!(f, "segment {} was removed unread, by the log's retention policy", self.segment)?;
            }
            GapKind::Dropped => write!(
                f,
                "segments {} to {} were removed unread, by the log's retention policy",
                self.segment, self.through
            )?,
            GapKind::Foreign => write!(f, "the file of segment {} is another segment", self.segment)?,
            GapKind::CutShort => write!(f, "segment {} is cut short at byte {}", self.segment, self.from)?,
            GapKind::Repaired => {
                write!(
                    f,
                    "segment {} bytes {}..{} were damaged, and mended by a repair",
                    self.segment, self.from, self.to
                )?;
            }
            GapKind::Reclaimed => write!(f, "the space of segment {} was given back", self.segment)?,
            GapKind::Empty => write!(f, "segment {} is finished and yet empty", self.segment)?,
        }
        if let Some(after) = self.after {
            write!(f, ", after message {after}")?;
        }
        match self.lost {
            Some(1) => f.write_str("; 1 message is lost"),
            Some(lost) => write!(f, "; {lost} messages are lost"),
            None => f.write_str("; how many messages are lost is not known"),
        }?;
        match self.doubtful {
            Some(id) => write!(f, ", and {id} before it may be cut short"),
            None => Ok(()),
        }
    }
}
