//! `MessageBuilder`: a message that is being received.

use std::io::{self, Write};
use std::sync::Arc;

use jlog::Timestamp;

use crate::body::{Body, PIECE, Pieces};
use crate::error::{Result, SpoolError};
use crate::id::MessageId;
use crate::message::Message;
use crate::store::Store;

/// Takes a message's body as it comes (`ec_message_builder`).
///
/// Up to the [threshold](crate::SpoolOptions::large_message_threshold) it is kept in memory; beyond, it goes to the disk in pieces
/// of 256 KiB, so that no more than one is in memory. [`finish`](MessageBuilder::finish) makes the message; dropping the builder
/// discards what was written.
#[derive(Debug)]
pub struct MessageBuilder {
    store: Arc<Store>,
    id: MessageId,
    now: Timestamp,
    buffer: Vec<u8>,
    /// The body in pieces, once it is large, and how many bytes of it are written.
    large: Option<Arc<Pieces>>,
    written: u64,
    failed: bool,
}

impl MessageBuilder {
    pub(crate) fn new(store: Arc<Store>, id: MessageId, now: Timestamp, size_hint: usize) -> MessageBuilder {
        // A hint from the network is not believed beyond what may become of it in memory.
        let room = size_hint.min(PIECE);
        MessageBuilder {
            store,
            id,
            now,
            buffer: Vec::with_capacity(room),
            large: None,
            written: 0,
            failed: false,
        }
    }

    /// The id that the message will have.
    pub fn id(&self) -> MessageId {
        self.id
    }

    /// How many bytes were taken so far.
    pub fn size(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// Takes more of the body.
    ///
    /// # Errors
    /// [`TooLarge`](SpoolError::TooLarge) beyond the spool's limit, [`Full`](SpoolError::Full) where a large body finds no
    /// space. The builder takes nothing more then, and makes no message.
    pub fn push(&mut self, bytes: &[u8]) -> Result<()> {
        if self.failed {
            return Err(SpoolError::Invalid(format!("what was written of message {} has failed", self.id)));
        }
        let taken = self.take(bytes);
        self.failed = taken.is_err();
        taken
    }

    fn take(&mut self, mut bytes: &[u8]) -> Result<()> {
        let limit = self.store.options().max_message_size;
        let size = self.size() + bytes.len() as u64;
        if size > limit {
            return Err(SpoolError::TooLarge { what: "a message", size, limit });
        }
        let threshold = self.store.options().large_message_threshold;
        if self.large.is_none() && size < threshold {
            self.buffer.extend_from_slice(bytes);
            return Ok(());
        }
        while self.buffer.len() + bytes.len() >= PIECE {
            let (now, later) = bytes.split_at(PIECE.saturating_sub(self.buffer.len()).min(bytes.len()));
            self.buffer.extend_from_slice(now);
            bytes = later;
            self.write_piece()?;
        }
        self.buffer.extend_from_slice(bytes);
        if self.large.is_none() {
            self.large = Some(self.pieces());
        }
        Ok(())
    }

    fn pieces(&self) -> Arc<Pieces> {
        self.store.new_body()
    }

    fn write_piece(&mut self) -> Result<()> {
        let pieces = match &self.large {
            Some(pieces) => Arc::clone(pieces),
            None => Arc::clone(self.large.insert(self.pieces())),
        };
        // A buffer that a large threshold has let grow goes in several.
        for piece in self.buffer.chunks(PIECE) {
            self.store.write_piece(pieces.number, self.written, piece, self.now)?;
            self.written += piece.len() as u64;
        }
        self.buffer.clear();
        Ok(())
    }

    /// The message, complete: not accepted yet.
    ///
    /// # Errors
    /// Those of writing the rest of a large body; [`Invalid`](SpoolError::Invalid) after an error of
    /// [`push`](MessageBuilder::push).
    pub fn finish(mut self) -> Result<Message> {
        if self.failed {
            return Err(SpoolError::Invalid(format!("what was written of message {} has failed", self.id)));
        }
        if self.large.is_some() && !self.buffer.is_empty() {
            self.write_piece()?;
        }
        let body = match self.large.take() {
            None => Body::Memory(Arc::from(std::mem::take(&mut self.buffer))),
            Some(pieces) => Body::Pieces(self.store.sized_body(pieces, self.written)),
        };
        Ok(Message::with_body(self.id, body))
    }
}

impl Write for MessageBuilder {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.push(bytes).map(|()| bytes.len()).map_err(io::Error::other)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
