//! Reading length-prefixed bytes that come from a disk: nothing is believed before it is compared with what is there.
//!
//! A field is its length in bytes (u32, little-endian) and the bytes. Everything the spool writes of a message besides
//! its body is made of them.

use std::fmt;

/// Bytes that are not what the spool writes: what was wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodeError {
    /// The byte it was seen at, counted from the first of the bytes given.
    pub at: usize,
    /// What is wrong there.
    pub what: &'static str,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.what, self.at)
    }
}

impl std::error::Error for DecodeError {}

/// The bytes still to be read, and how many were read before them.
pub(crate) struct Input<'a> {
    rest: &'a [u8],
    at: usize,
}

impl<'a> Input<'a> {
    /// Reads `bytes` from the first one on.
    pub(crate) fn new(bytes: &'a [u8]) -> Input<'a> {
        Input { rest: bytes, at: 0 }
    }

    /// How many bytes are left.
    pub(crate) fn left(&self) -> usize {
        self.rest.len()
    }

    /// The error that `what` is wrong here.
    pub(crate) fn refuse(&self, what: &'static str) -> DecodeError {
        DecodeError { at: self.at, what }
    }

    /// The next byte.
    pub(crate) fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(self.take(1)?[0])
    }

    /// The next little-endian number.
    pub(crate) fn u32(&mut self) -> Result<u32, DecodeError> {
        let bytes = self.take(4)?;
        Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    /// The next field.
    pub(crate) fn field(&mut self) -> Result<&'a [u8], DecodeError> {
        let length = self.u32()?;
        self.take(usize::try_from(length).unwrap_or(usize::MAX))
    }

    /// The next field, which is text.
    pub(crate) fn text(&mut self) -> Result<&'a str, DecodeError> {
        let at = self.at;
        let bytes = self.field()?;
        std::str::from_utf8(bytes).map_err(|_| DecodeError { at, what: "text that is not UTF-8" })
    }

    /// Refuses bytes that are left.
    pub(crate) fn end(&self) -> Result<(), DecodeError> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.refuse("bytes after the end")) }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let Some((taken, rest)) = self.rest.split_at_checked(count) else {
            return Err(self.refuse("fewer bytes than their length says"));
        };
        self.rest = rest;
        self.at += count;
        Ok(taken)
    }
}
