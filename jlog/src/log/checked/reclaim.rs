//! Reclaiming: the space of a sealed segment whose records nobody needs, given back in any order.
//!
//! The segment becomes a stub: its header, and one closing commit with a note that stands for all of its records. So the
//! chain of segments stays whole, each id stays what it is, and nothing looks missing.
//!
//! ```text
//!   the index is removed, and that is on the disk      its entries would point behind the stub's end
//!   the stub is written and synced under another name
//!   it takes the segment's name, and that is on the disk
//! ```
//!
//! Broken off anywhere, the segment is whole, or it is the stub.

use std::path::Path;

use crate::error::{Error, ErrorKind, Result};
use crate::id::{SegmentId, Timestamp};
use crate::io::{Disk, File, Open};
use crate::log::checkpoints::sync_names;
use crate::log::names::METASTORE;
use crate::log::shared::{Shared, Sight};
use crate::log::writer::data_mode;
use crate::record::checked::{
    COMMIT_HEADER, CommitHeader, Place, RECORD_HEADER, RecordHeader, SEGMENT_HEADER, SegmentHeader, kind,
};
use crate::record::walk::Step;

/// A stub on its way; whoever finds one has found what a crash has left of it.
const STUB: &str = ".stub";

/// The bytes of a stub.
pub(crate) const STUB_LEN: usize = SEGMENT_HEADER + COMMIT_HEADER + RECORD_HEADER;

const DOING: &str = "reclaim the segment";

/// Makes a sealed segment a stub. Durable when it returns.
pub(crate) fn reclaim(log: &Shared, id: SegmentId) -> Result<()> {
    log.require_writable()?;
    let metastore = File::open(&**log.disk(), &log.dir().join(METASTORE), Open::ReadWrite)?;
    let _lock = metastore.lock()?;
    if id == log.active()? {
        let what = format!("segment {id} is being written; only a finished one can be given back");
        return Err(Error::new(ErrorKind::Invalid, DOING, what).at(log.dir()));
    }
    let disk = &**log.disk();
    let path = log.data_path(id);
    let Some(file) = File::open_existing(disk, &path, Open::Read)? else {
        let what = format!("the log has no segment {id}");
        return Err(Error::new(ErrorKind::NoSuchRecord, DOING, what).at(log.dir()));
    };
    if is_stub(log, id, &file)? {
        // Whoever made it may have died before its name was on the disk.
        return sync_names(log);
    }
    drop(file);

    let header = log.require_header(id)?;
    let bytes = stub(&header, records_of(log, id)?);
    remove(disk, &log.index_path(id))?;
    sync_names(log)?;

    let new = log.dir().join(STUB);
    // What a crash has left is not written over: its rename may be what was lost, and then these are a segment's bytes.
    remove(disk, &new)?;
    let made = File::open(disk, &new, Open::CreateNew(data_mode(log)?)).and_then(|file| {
        file.pwrite(&bytes, 0)?;
        file.sync()
    });
    if let Err(error) = made {
        let _ = disk.remove(&new);
        return Err(error);
    }
    disk.rename(&new, &path).map_err(|e| Error::io("put the stub in the segment's place", &path, e))?;
    log.files().forget(id);
    sync_names(log)
}

/// Whether a segment was reclaimed.
pub(crate) fn is_reclaimed(log: &Shared, id: SegmentId) -> Result<bool> {
    let Some(file) = File::open_existing(&**log.disk(), &log.data_path(id), Open::Read)? else {
        let what = format!("the log has no segment {id}");
        return Err(Error::new(ErrorKind::NoSuchRecord, "look at the segment", what).at(log.dir()));
    };
    is_stub(log, id, &file)
}

/// Whether a segment's file is a stub: its first commit closes it, and holds the note, or nothing in so small a file.
pub(crate) fn is_stub(log: &Shared, id: SegmentId, file: &File) -> Result<bool> {
    let mut bytes = [0; STUB_LEN];
    let got = file.pread_up_to(&mut bytes, 0)?;
    let place = Place::new(log.identity(), id.0);
    let at = SEGMENT_HEADER;
    let commit = CommitHeader::decode(bytes[..got].get(at..).unwrap_or_default(), place, at as u64);
    let Some(commit) = commit.filter(|commit| commit.closing && commit.first_marker == 1) else {
        return Ok(false);
    };
    let at = at + COMMIT_HEADER;
    let note = RecordHeader::decode(bytes[..got].get(at..).unwrap_or_default(), place, at as u64);
    if commit.records == 0 {
        return Ok(file.size()? <= STUB_LEN as u64);
    }
    Ok(note.is_some_and(|note| note.kind == kind::RECLAIMED))
}

/// How many records a sealed segment has, or had: as the next one says, or else as its own bytes do.
fn records_of(log: &Shared, id: SegmentId) -> Result<u32> {
    let next = id.next().map_or(Ok(None), |next| log.header(next))?;
    if let Some(next) = next.filter(|next| next.previous_end >= SEGMENT_HEADER as u64) {
        return Ok(next.previous_marker);
    }
    let Some(mut walk) = log.walk(id, Sight::Written)? else { return Ok(0) };
    while !matches!(walk.step()?, Step::End(_)) {}
    Ok(walk.marker())
}

/// A segment that says no more than that so many records stood in it.
fn stub(header: &SegmentHeader, records: u32) -> Vec<u8> {
    let (place, at) = (Place::new(header.log, header.segment), SEGMENT_HEADER as u64);
    let len = if records > 0 { RECORD_HEADER as u32 } else { 0 };
    let commit = CommitHeader { len, records, first_marker: 1, durable: at, closing: true };
    let mut bytes = header.encode().to_vec();
    bytes.extend_from_slice(&commit.encode(place, at));
    if records > 0 {
        let note = RecordHeader {
            len: 0,
            time: Timestamp { seconds: records, micros: 0 },
            kind: kind::RECLAIMED,
            compressed: false,
            payload_crc: crc32fast::hash(&[]),
        };
        bytes.extend_from_slice(&note.encode(place, at + COMMIT_HEADER as u64));
    }
    bytes
}

fn remove(disk: &dyn Disk, path: &Path) -> Result<()> {
    match disk.remove(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io(DOING, path, error)),
        _ => Ok(()),
    }
}
