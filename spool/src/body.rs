//! Bodies: in memory, on the disk, or in pieces; and the reader of any of them.

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::sync::{Arc, Weak};

use crate::error::{Result, SpoolError};
use crate::store::Store;

/// The bytes of a piece: what is in memory of a large body at a time.
pub(crate) const PIECE: usize = 256 << 10;

/// Where a message's body is, as its handle knows.
#[derive(Debug, Clone)]
pub(crate) enum Body {
    /// In memory. Messages whose bodies are the same allocation share it.
    Memory(Arc<[u8]>),
    /// On the disk, to be read with the message's id.
    OnDisk { size: u64 },
    /// On the disk in pieces, and never whole in memory.
    Pieces(Arc<Pieces>),
}

impl Body {
    pub(crate) fn size(&self) -> u64 {
        match self {
            Body::Memory(bytes) => bytes.len() as u64,
            Body::OnDisk { size } => *size,
            Body::Pieces(pieces) => pieces.size,
        }
    }
}

/// A body in pieces. As long as one of these is there the pieces are kept, whatever becomes of the messages.
#[derive(Debug)]
pub(crate) struct Pieces {
    pub(crate) store: Weak<Store>,
    pub(crate) number: u64,
    pub(crate) size: u64,
    /// From where on a body is large.
    pub(crate) limit: u64,
}

impl Drop for Pieces {
    fn drop(&mut self) {
        if let Some(store) = self.store.upgrade() {
            store.drop_body_handle(self.number);
        }
    }
}

/// Reads a body from its beginning, with at most 256 KiB of it in memory beside what was there before.
pub struct BodyReader {
    source: Source,
    at: u64,
    /// The piece at hand, and where in the body it begins.
    piece: Vec<u8>,
    piece_at: u64,
}

#[derive(Clone)]
enum Source {
    Bytes(Arc<[u8]>),
    Pieces(Arc<Pieces>),
}

impl BodyReader {
    pub(crate) fn of_bytes(bytes: Arc<[u8]>) -> BodyReader {
        BodyReader { source: Source::Bytes(bytes), at: 0, piece: Vec::new(), piece_at: 0 }
    }

    pub(crate) fn of_pieces(pieces: Arc<Pieces>) -> BodyReader {
        BodyReader { source: Source::Pieces(pieces), at: 0, piece: Vec::new(), piece_at: 0 }
    }

    /// The bytes of the whole body.
    pub fn size(&self) -> u64 {
        match &self.source {
            Source::Bytes(bytes) => bytes.len() as u64,
            Source::Pieces(pieces) => pieces.size,
        }
    }

    /// The bytes from here on that are in memory, at least one unless the body ends here.
    fn at_hand(&mut self) -> io::Result<&[u8]> {
        if self.at >= self.size() {
            return Ok(&[]);
        }
        match &self.source {
            Source::Bytes(bytes) => Ok(&bytes[usize::try_from(self.at).unwrap_or(usize::MAX)..]),
            Source::Pieces(pieces) => {
                let within = |at: u64, piece: &[u8], piece_at: u64| {
                    at.checked_sub(piece_at).filter(|from| *from < piece.len() as u64)
                };
                if within(self.at, &self.piece, self.piece_at).is_none() {
                    let store = pieces.store.upgrade();
                    let store = store.ok_or_else(|| io::Error::other("the spool was closed"))?;
                    self.piece_at = store
                        .read_piece(pieces.number, self.at, &mut self.piece)
                        .map_err(io::Error::other)?;
                }
                let from = within(self.at, &self.piece, self.piece_at)
                    .ok_or_else(|| io::Error::other("the pieces of the body do not follow each other"))?;
                Ok(&self.piece[usize::try_from(from).unwrap_or(usize::MAX)..])
            }
        }
    }
}

impl Read for BodyReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.at_hand()?;
        let len = bytes.len().min(buffer.len());
        buffer[..len].copy_from_slice(&bytes[..len]);
        self.at += len as u64;
        Ok(len)
    }
}

impl Seek for BodyReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let (base, by) = match to {
            SeekFrom::Start(at) => (at, 0),
            SeekFrom::End(by) => (self.size(), by),
            SeekFrom::Current(by) => (self.at, by),
        };
        let invalid = || io::Error::new(io::ErrorKind::InvalidInput, "before the body's first byte");
        self.at = base.checked_add_signed(by).ok_or_else(invalid)?;
        Ok(self.at)
    }
}

impl std::fmt::Debug for BodyReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BodyReader({} of {} bytes)", self.at, self.size())
    }
}

/// Copies a body into a file without a name.
pub(crate) fn to_file(body: &mut BodyReader) -> Result<std::fs::File> {
    let dir = std::env::temp_dir();
    let failed = |error| SpoolError::io("copy the body into a temporary file", &dir, error);
    let mut file = tempfile::tempfile().map_err(failed)?;
    io::copy(body, &mut file).map_err(failed)?;
    file.flush().and_then(|()| file.rewind()).map_err(failed)?;
    Ok(file)
}
