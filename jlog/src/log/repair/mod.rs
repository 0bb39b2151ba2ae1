//! Mending a log: first a plan, as data; then, if it is wanted, the deed, which does exactly what the plan says.
//!
//! What is cut or replaced is kept in `.repair/<time>/` with a manifest, and [`undo`] brings it back. A repair can be
//! broken off at any instant: the log is then as damaged as it was, or less, and the next plan goes on from there.
//!
//! - `plan`: from what an inspection found to steps; `checked_plan`: of a checksummed log
//! - `apply`: the steps taken, and taken back
//! - `manifest`: what is written down of a repair
//! - `site`: the directory, as a place where files are kept, replaced and brought back

mod apply;
mod checked_plan;
mod manifest;
mod plan;
mod site;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use apply::{apply, history, undo, undo_on};
pub use plan::plan;

use super::inspect::Finding;
use super::kept::each_chunk;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{RecordId, SegmentId};
use crate::io::File;

/// A part of the log that a repair may be restricted to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    /// The metastore.
    Metastore,
    /// Checkpoints.
    Checkpoints,
    /// Indexes.
    Indexes,
    /// Damaged bytes, and torn ends, of segments.
    Data,
    /// The pre_commit buffer.
    PreCommit,
}

/// What is done with damaged bytes inside a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Holes {
    /// In a classic log they are cut out: the records behind them move down, and so do their ids; checkpoints move with
    /// them. In a checksummed log a note of how many messages were lost is put in their place, and nothing moves.
    #[default]
    Cut,
    /// They stay. Readers of this engine stop there, or pass over them; libjlog's may delete what stands around them.
    Leave,
}

/// Where a checkpoint goes whose place is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum LostPlace {
    /// Before everything that it may not have read: read twice, but nothing skipped.
    #[default]
    Before,
    /// Behind everything that it may have read: nothing read twice, but perhaps skipped.
    After,
    /// To the end of the log.
    End,
}

/// What a repair may do.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Only these parts; all where it is empty.
    pub only: Vec<Part>,
    /// Only these segments; all where it is empty. Metastore, checkpoints and pre_commit belong to none.
    pub segments: Vec<SegmentId>,
    /// Damaged bytes inside a segment.
    pub holes: Holes,
    /// Checkpoints whose place is lost.
    pub lost_place: LostPlace,
    /// Only what loses no whole message.
    pub safe_only: bool,
    /// Keep no copies. There is no way back then.
    pub no_undo: bool,
}

/// One thing that a repair does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What it mends.
    pub part: Part,
    /// The file, by its name in the log's directory.
    pub file: String,
    /// The bytes it is about.
    pub from: u64,
    /// The byte behind the last one.
    pub to: u64,
    /// What is wrong: "torn end", "damage", "index" and the like.
    pub what: String,
    /// What is done: "cut 244 B", "rebuild" and the like.
    pub deed: String,
    /// How many messages are lost with it, where that is proved; 0 for none.
    pub lost: Option<u64>,
    /// Whether it loses no whole message.
    pub safe: bool,
    /// Ids that change: the last that stays as it is, where later ones of the segment move.
    pub moves_ids_after: Option<RecordId>,
}

/// What a repair would do.
#[derive(Debug, Clone, Default)]
pub struct RepairPlan {
    /// Its steps, in the order they are taken.
    pub steps: Vec<Step>,
    /// What cannot be mended, or is left because the options say so.
    pub left: Vec<Finding>,
    /// The bytes that will be kept in `.repair/`.
    pub kept_bytes: u64,
    /// What the steps do: one for each.
    deeds: Vec<Deed>,
    /// The files to be changed, as they were when this was planned; `None` where there was none.
    planned_on: BTreeMap<String, Option<Digest>>,
    options: Options,
}

impl RepairPlan {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}

/// What a step does to a file.
#[derive(Debug, Clone)]
enum Deed {
    /// Writes these bytes over the file in place, in one write: running processes have it mapped. A file that is longer
    /// than they are is replaced instead.
    Overwrite(Vec<u8>),
    /// Cuts the file in place.
    Truncate(u64),
    /// Replaces the file by one that lacks these ranges.
    Cut(Vec<(u64, u64)>),
    /// Replaces the file by one that has these bytes at these offsets, cut to this length.
    Patch(Vec<(u64, Vec<u8>)>, Option<u64>),
    /// Replaces the file by one with these bytes.
    Replace(Vec<u8>),
    /// Makes the file anew with these bytes.
    Make(Vec<u8>),
}

/// What a repair did.
#[derive(Debug, Clone, Default)]
pub struct Repaired {
    /// The steps taken.
    pub steps: usize,
    /// Where the originals are kept; `None` where nothing was changed or nothing was to be kept.
    pub kept: Option<PathBuf>,
}

/// A repair of the past.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Past {
    /// The directory with its originals; its name is the time it was given.
    pub dir: PathBuf,
    /// Whether it was taken back.
    pub undone: bool,
    /// The lines of its manifest.
    pub lines: Vec<String>,
}

/// The length and the CRC-32 of a file.
type Digest = (u64, u32);

fn digest(file: &File) -> Result<Digest> {
    let mut crc = crc32fast::Hasher::new();
    let mut len = 0;
    each_chunk(file, 0, u64::MAX, &mut |chunk, _| {
        crc.update(chunk);
        len += chunk.len() as u64;
        Ok(())
    })?;
    Ok((len, crc.finalize()))
}

fn changed(path: &Path) -> Error {
    let what = "the log has changed since it was inspected; plan the repair again";
    Error::new(ErrorKind::Invalid, "repair it", what).at(path)
}
