//! `Reader`: what a subscriber has not read yet, and the checkpoint that moves when it says so.

use std::sync::Arc;

use super::checkpoints;
use super::cursor::{Cursor, OnDamage, Record, Tail};
use super::gap::Gap;
use super::names::Subscriber;
use super::shared::Shared;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{Marker, RecordId, SegmentId};

/// The unread records of one segment: see [`Reader::interval`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interval {
    /// The first unread record.
    pub first: RecordId,
    /// The last record of the same segment that is there now.
    pub last: RecordId,
    /// How many can be read of `first..=last`; fewer than their distance where some are damaged.
    pub count: u32,
}

/// Reads on behalf of a subscriber. Reading changes nothing on disk; the checkpoint moves with [`Reader::checkpoint`]
/// and [`Reader::commit`] alone, so what was read and not committed is read again by the next reader of the name.
///
/// One reader a subscriber: two of the same name both get every record, and the later commit wins.
#[derive(Debug)]
pub struct Reader {
    log: Arc<Shared>,
    subscriber: Subscriber,
    cursor: Cursor,
    /// Where random access last was: a cursor behind the record it last gave.
    near: Option<Cursor>,
    start: RecordId,
}

impl Reader {
    pub(crate) fn open(log: Arc<Shared>, subscriber: &Subscriber) -> Result<Reader> {
        // With its segment open, no repair moves the ids in it: what the checkpoint means stays what it means.
        let mut start = checkpoints::of(&log, subscriber)?;
        loop {
            let mut cursor = Cursor::of_subscriber(Arc::clone(&log), start);
            cursor.enter()?;
            let now = checkpoints::of(&log, subscriber)?;
            if now == start {
                return Ok(Reader { log, subscriber: subscriber.clone(), cursor, near: None, start });
            }
            start = now;
        }
    }

    #[cfg(feature = "async")]
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.log
    }

    /// The subscriber.
    pub fn subscriber(&self) -> &Subscriber {
        &self.subscriber
    }

    /// Chooses what happens where records cannot be delivered. The default is [`OnDamage::Stop`].
    pub fn on_damage(&mut self, policy: OnDamage) {
        self.cursor.on_damage(policy);
    }

    /// Whether records are seen that are written but not yet on the disk: see [`Cursor::see_unsynced`].
    pub fn see_unsynced(&mut self, see: bool) {
        self.cursor.see_unsynced(see);
    }

    /// The next unread record, or `None` where the log ends for now. See [`Cursor::next_record`].
    pub fn next_record(&mut self) -> Result<Option<Record<'_>>> {
        self.cursor.next_record()
    }

    /// Whether a record, or a gap to be told of, is ahead now.
    pub fn is_ready(&mut self) -> Result<bool> {
        self.cursor.is_ready()
    }

    /// Waits until one is, at most so long: see [`Cursor::wait`].
    pub fn wait(&mut self, at_most: std::time::Duration) -> Result<bool> {
        self.cursor.wait(at_most)
    }

    /// Passes over the gap that the last error told of.
    pub fn skip_gap(&mut self) -> Option<Gap> {
        self.cursor.skip_gap()
    }

    /// How many gaps were passed over so far.
    pub fn gaps(&self) -> u64 {
        self.cursor.gaps()
    }

    /// What lay at the end of the log when the last read answered `None`.
    pub fn tail(&self) -> Tail {
        self.cursor.tail()
    }

    /// The id of the last record that [`Reader::next_record`] delivered.
    pub fn last_id(&self) -> Option<RecordId> {
        self.cursor.last_id()
    }

    /// The unread records of the next segment that has any, without reading them: `None` if nothing is unread.
    ///
    /// Unlike libjlog's call of that name it moves no checkpoint. It reads the segment's headers up to its end.
    pub fn interval(&mut self) -> Result<Option<Interval>> {
        let mut ahead = Cursor::new(Arc::clone(&self.log), self.position());
        ahead.on_damage(OnDamage::Skip);
        let Some(first) = ahead.next_record()?.map(|record| record.id) else { return Ok(None) };
        let mut interval = Interval { first, last: first, count: 1 };
        let end_of_segment = RecordId { segment: first.segment, marker: Marker(u32::MAX) };
        while let Some(record) = ahead.next_up_to(end_of_segment)? {
            interval.last = record.id;
            interval.count += 1;
        }
        Ok(Some(interval))
    }

    /// Reads one record by its id, whatever the checkpoint. Going forward costs nothing extra; going back, or to
    /// another segment, walks that segment from its start.
    ///
    /// # Errors
    /// [`NoSuchRecord`](ErrorKind::NoSuchRecord) if there is none of that id; [`Damaged`](ErrorKind::Damaged) if it cannot be delivered.
    pub fn read(&mut self, id: RecordId) -> Result<Record<'_>> {
        let before = RecordId { segment: id.segment, marker: Marker(id.marker.0.saturating_sub(1)) };
        let near = self.near.take().filter(|near| near.last_id().is_some_and(|last| same_way(last, id)));
        let near = self.near.insert(near.unwrap_or_else(|| Cursor::new(Arc::clone(&self.log), before)));
        near.on_damage(OnDamage::Stop);
        near.read_at(id)
    }

    /// Hands the records `first..=last` to `take`, one after another, and returns how many that were. If they lie ahead,
    /// the reader goes on behind them, as if [`Reader::next_record`] had delivered them; a record that `take` fails on
    /// counts as delivered too, so do not commit then.
    ///
    /// # Errors
    /// As [`Reader::next_record`]; and whatever `take` returns.
    pub fn read_bulk(
        &mut self,
        first: RecordId,
        last: RecordId,
        mut take: impl FnMut(Record<'_>) -> Result<()>,
    ) -> Result<u32> {
        let mut behind;
        let cursor = if first > self.position() {
            &mut self.cursor
        } else {
            let before =
                RecordId { segment: first.segment, marker: Marker(first.marker.0.saturating_sub(1)) };
            behind = Cursor::of_subscriber(Arc::clone(&self.log), before);
            behind.on_damage(self.cursor.policy());
            &mut behind
        };
        let mut count = 0;
        while let Some(record) = cursor.next_up_to(last)? {
            if record.id >= first {
                take(record)?;
                count += 1;
            }
        }
        Ok(count)
    }

    /// Moves the subscriber's checkpoint: everything up to `id` is done with. Segments that nobody wants any more are
    /// removed. In the kernel when it returns; on disk at safety level safe, and whenever a segment is left behind.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) for an id beyond what this reader has delivered: nothing is changed then. To move a checkpoint
    /// past what was not read, use [`Log::set_checkpoint`](crate::Log::set_checkpoint).
    pub fn checkpoint(&mut self, id: RecordId) -> Result<Vec<SegmentId>> {
        if id > self.position() {
            let what = format!("{id} was not delivered yet; the last that was is {}", self.position());
            return Err(Error::new(ErrorKind::Invalid, "move the checkpoint", what).at(self.log.dir()));
        }
        checkpoints::advance(&self.log, &self.subscriber, id)
    }

    /// Moves the checkpoint to the last record delivered: see [`Reader::checkpoint`].
    pub fn commit(&mut self) -> Result<Vec<SegmentId>> {
        match self.last_id() {
            Some(last) => self.checkpoint(last),
            None => Ok(Vec::new()),
        }
    }

    fn position(&self) -> RecordId {
        self.last_id().unwrap_or(self.start)
    }
}

/// Whether a cursor behind `last` can reach `id` by going forward in the same segment.
fn same_way(last: RecordId, id: RecordId) -> bool {
    last.segment == id.segment && last.marker < id.marker
}
