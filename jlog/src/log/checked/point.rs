//! Point reads: one record, by the place where it stands.

use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::id::{SegmentId, Timestamp};
use crate::io::{File, Open};
use crate::log::shared::Shared;
use crate::record::Compression;
use crate::record::checked::{Kind, Place, RECORD_HEADER, RecordHeader, kind};
use crate::record::describe;

use super::reclaim;

/// A payload expected to be longer than this is believed only as far as the file reaches.
const LIKELY: usize = 128 * 1024;

const DOING: &str = "read the record";

/// The record whose header stands at `offset`. Its message is in `payload` then.
pub(crate) fn read(
    log: &Shared,
    id: SegmentId,
    offset: u64,
    expected_len: usize,
    payload: &mut Vec<u8>,
) -> Result<(Kind, Timestamp)> {
    let found = read_at(log, id, offset, expected_len, payload);
    match &found {
        Ok(_) => log.metrics().delivered(1, payload.len() as u64),
        Err(_) => payload.clear(),
    }
    found
}

fn read_at(
    log: &Shared,
    id: SegmentId,
    offset: u64,
    expected_len: usize,
    payload: &mut Vec<u8>,
) -> Result<(Kind, Timestamp)> {
    let since = match log.files().find(id) {
        Err(since) => since,
        Ok(file) => match read_from(log, id, &file, offset, expected_len, payload)? {
            Stands::Record(kind, time) => return Ok((kind, time)),
            // Another process may have removed or replaced the file since: it is looked at as it is now.
            Stands::Reclaimed | Stands::Nothing(_) => log.files().forget(id),
        },
    };
    let path = log.data_path(id);
    let Some(file) = File::open_existing(&**log.disk(), &path, Open::Read)? else {
        let what = format!("the log has no segment {id}; it was removed, or never made");
        return Err(Error::new(ErrorKind::NoSuchRecord, DOING, what).at(log.dir()));
    };
    let file = Arc::new(file);
    let gone = |what: &str| Err(Error::new(ErrorKind::NoSuchRecord, DOING, what).at(&path).byte(offset));
    match read_from(log, id, &file, offset, expected_len, payload)? {
        Stands::Record(kind, time) => {
            log.files().keep(id, &file, since);
            Ok((kind, time))
        }
        Stands::Reclaimed => gone("its segment was reclaimed"),
        Stands::Nothing(_) if reclaim::is_stub(log, id, &file)? => gone("its segment was reclaimed"),
        Stands::Nothing(what) => Err(Error::damaged(DOING, &path, offset, what)),
    }
}

/// What stands at a place.
enum Stands {
    Record(Kind, Timestamp),
    Reclaimed,
    /// No record that can be delivered: why.
    Nothing(String),
}

fn read_from(
    log: &Shared,
    id: SegmentId,
    file: &File,
    offset: u64,
    expected_len: usize,
    payload: &mut Vec<u8>,
) -> Result<Stands> {
    let nothing = |what: &str| Ok(Stands::Nothing(what.to_owned()));
    // Where no system call reaches nothing stands.
    let body = offset.saturating_add(RECORD_HEADER as u64);
    if body.saturating_add(u64::from(u32::MAX)) > i64::MAX as u64 {
        return nothing("no file reaches so far");
    }
    let expected = if expected_len > LIKELY { bounded(file, body, expected_len)? } else { expected_len };
    payload.resize(RECORD_HEADER + expected, 0);
    let got = file.pread_up_to(payload, offset)?;

    let place = Place::new(log.identity(), id.0);
    let Some(header) = RecordHeader::decode(&payload[..got], place, offset) else {
        return nothing("no record's header stands here");
    };
    let len = header.len as usize;
    if RECORD_HEADER + len > got {
        if bounded(file, body, len)? < len {
            return nothing("the file ends within the record");
        }
        payload.resize(RECORD_HEADER + len, 0);
        let more = file.pread_up_to(&mut payload[got..], offset + got as u64)?;
        payload.truncate(got + more);
    }
    payload.truncate(RECORD_HEADER + len);
    payload.drain(..RECORD_HEADER);
    if !header.holds(payload) {
        return nothing("the message's checksum does not hold");
    }
    match header.kind {
        kind::RECLAIMED => return Ok(Stands::Reclaimed),
        kind::LOST => return nothing("a repair has noted that records are lost here"),
        _ => {}
    }
    let Some((message, skip, compression)) = describe(&header, payload) else {
        return nothing("the compressed message is too short to have a length");
    };
    if compression != Compression::None {
        let stored = std::mem::take(payload);
        let stored = &stored[usize::try_from(skip).unwrap_or(usize::MAX).min(stored.len())..];
        if let Err(why) = compression.decompress(stored, message.len, payload) {
            return Ok(Stands::Nothing(why));
        }
    }
    Ok(Stands::Record(Kind(header.kind), header.time))
}

/// So many bytes from `at` on, or as many as the file has.
fn bounded(file: &File, at: u64, len: usize) -> Result<usize> {
    Ok(len.min(usize::try_from(file.size()?.saturating_sub(at)).unwrap_or(usize::MAX)))
}
