//! Bodies in pieces: large ones, and those that several messages share.

use std::sync::{Arc, Weak};

use jlog::{Entry, SegmentId, Timestamp};

use super::Store;
use crate::body::Pieces;
use crate::books::Spot;
use crate::error::{Result, SpoolError};
use crate::record::{CHUNK_HEAD, Chunk, Home, LogNo, kind, log_kind};

impl Store {
    /// A body that will be written piece by piece.
    pub(crate) fn new_body(&self) -> Arc<Pieces> {
        let number = self.next_change();
        self.body_handle(number, 0)
    }

    /// A handle of a body: as long as it lives, so do the pieces.
    pub(super) fn body_handle(&self, number: u64, size: u64) -> Arc<Pieces> {
        self.books().bodies.entry(number).or_default().handles += 1;
        let (store, limit) = (Weak::clone(&self.me), self.options.large_message_threshold);
        Arc::new(Pieces { store, number, size, limit })
    }

    pub(crate) fn sized_body(&self, pieces: Arc<Pieces>, size: u64) -> Arc<Pieces> {
        self.body_handle(pieces.number, size)
    }

    pub(crate) fn drop_body_handle(&self, number: u64) {
        self.books().drop_body(number, |body| body.handles = body.handles.saturating_sub(1));
    }

    /// Writes a piece of a body: on the disk with the next sync, which the message's own acceptance waits for.
    pub(crate) fn write_piece(&self, body: u64, at: u64, bytes: &[u8], now: Timestamp) -> Result<()> {
        self.reserve.require(&*self.disk, bytes.len() as u64)?;
        let mut payload = Vec::with_capacity(CHUNK_HEAD + bytes.len());
        Chunk { body, at, bytes }.encode(&mut payload);
        let entry = Entry { kind: log_kind(kind::CHUNK), time: now, payload: &payload };
        let _flight = self.flights.board();
        let places = self.writer(LogNo::Arrivals)?.append_entries(&[entry], jlog::Durability::Process)?;
        let mut books = self.books();
        self.book_pieces(&mut books, body, &[(at, bytes.len(), 0)], &places)
    }

    /// Reads the piece of a body that holds the byte at `at`, and says where in the body it begins.
    pub(crate) fn read_piece(&self, body: u64, at: u64, bytes: &mut Vec<u8>) -> Result<u64> {
        loop {
            let found = {
                let books = self.books();
                let pieces = books.bodies.get(&body).map(|body| &body.pieces[..]).unwrap_or_default();
                let behind = pieces.partition_point(|piece| piece.at <= at);
                let piece = behind.checked_sub(1).map(|n| pieces[n]);
                piece.and_then(|piece| Some((piece, books.home(piece.spot)?)))
            };
            let Some((piece, home)) = found else {
                return Err(SpoolError::Invalid(format!("body {body:x} has no piece at byte {at}")));
            };
            let read = self.read_record(home, piece.spot, piece.len as usize + CHUNK_HEAD, bytes);
            match read {
                Ok(_) => {}
                Err(error) => {
                    let books = self.books();
                    let now = books.bodies.get(&body).map(|body| &body.pieces[..]).unwrap_or_default();
                    if now.contains(&piece) {
                        return Err(error.into());
                    }
                    continue;
                }
            }
            let sound = Chunk::decode(bytes).is_some_and(|chunk| chunk.body == body && chunk.at == piece.at);
            if !sound {
                return Err(SpoolError::Invalid(format!(
                    "the piece of body {body:x} at byte {at} is another one"
                )));
            }
            bytes.drain(..CHUNK_HEAD);
            return Ok(piece.at);
        }
    }

    pub(super) fn read_record(
        &self,
        home: Home,
        spot: Spot,
        expected: usize,
        payload: &mut Vec<u8>,
    ) -> jlog::Result<u8> {
        let log = self.log(home.log);
        let (kind, _) = log.read_at(SegmentId(home.segment), spot.offset(), expected, payload)?;
        Ok(kind.number())
    }
}
