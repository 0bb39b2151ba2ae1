//! How far a subscriber is behind.

use std::sync::Arc;

use super::cursor::{Cursor, OnDamage};
use super::shared::{Shared, Sight};
use crate::error::Result;
use crate::id::{RecordId, Timestamp};
use crate::record::checked::SEGMENT_HEADER;
use crate::record::walk::{Source, Step, Walk};

/// How far a subscriber is behind what readers can see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Lag {
    /// Records not read yet; lost ones among them count.
    pub records: u64,
    /// The bytes these take in the segments.
    pub bytes: u64,
    /// The microseconds between the first record not read and the newest one.
    pub micros: u64,
}

pub(crate) fn of(log: &Arc<Shared>, checkpoint: RecordId) -> Result<Lag> {
    let mut ahead = Cursor::new(Arc::clone(log), checkpoint);
    ahead.on_damage(OnDamage::Skip);
    let Some(first) = ahead.next_record()? else { return Ok(Lag::default()) };
    let (id, time, offset, len) = (first.id, first.time, first.offset, first.stored_len);
    if log.checked().is_none() {
        return by_reading(ahead, len, time.as_micros());
    }

    let active = log.active()?;
    let mut newest = time;
    let Some(mut walk) = log.walk(active, Sight::Acknowledged)? else { return Ok(Lag::default()) };
    while let Some(found) = next(&mut walk)? {
        newest = newest.max(found);
    }
    let end = (u64::from(walk.marker()), walk.position());
    let (Some(there), Some(here)) = (log.header(active)?, log.header(id.segment)?) else {
        return by_reading(ahead, len, time.as_micros());
    };
    newest = newest.max(there.latest_before);
    let head = SEGMENT_HEADER as u64;
    let records = there.records_before.saturating_add(end.0);
    let bytes = there.bytes_before.saturating_add(end.1.saturating_sub(head));
    let read = here.records_before.saturating_add(u64::from(id.marker.0) - 1);
    let passed = here.bytes_before.saturating_add(offset - head);
    Ok(Lag {
        records: records.saturating_sub(read),
        bytes: bytes.saturating_sub(passed),
        micros: newest.as_micros().saturating_sub(time.as_micros()),
    })
}

/// The time of the next record of a walk; what is damaged is passed over.
fn next<S: Source>(walk: &mut Walk<S>) -> Result<Option<Timestamp>> {
    loop {
        match walk.step()? {
            Step::Record(found) => return Ok(Some(found.header.time)),
            Step::Hole(_) => {}
            Step::End(_) => return Ok(None),
        }
    }
}

/// By reading all that is unread; the first of it was just read.
fn by_reading(mut ahead: Cursor, len: u64, first: u64) -> Result<Lag> {
    let mut lag = Lag { records: 1, bytes: len, micros: 0 };
    while let Some(record) = ahead.next_record()? {
        lag.records += 1;
        lag.bytes += record.stored_len;
        lag.micros = lag.micros.max(record.time.as_micros().saturating_sub(first));
    }
    Ok(lag)
}
