//! What lies in a log's directory, and what subscribers' names are called there.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::checked::control::CONTROL;
use crate::error::{Error, ErrorKind, Result};
use crate::id::SegmentId;
use crate::io::{Disk, PathKind};

/// The name of a subscriber: 1 to 126 bytes of any kind.
///
/// Its checkpoint lies in `cp.` and two hex digits a byte, so 126 bytes fill the 255 that a file name may have.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subscriber(Vec<u8>);

/// The longest name of a subscriber, in bytes.
const LONGEST_NAME: usize = 126;

impl Subscriber {
    /// A name for a new subscriber. Empty names and names above 126 bytes are [`Invalid`](ErrorKind::Invalid).
    pub fn new(name: impl AsRef<[u8]>) -> Result<Subscriber> {
        let name = name.as_ref();
        if name.is_empty() {
            return Err(Error::new(ErrorKind::Invalid, "name a subscriber", "the name is empty"));
        }
        Subscriber::existing(name)
    }

    /// As [`Subscriber::new`], but the empty name, which libjlog accepts, is accepted too: to reach what it has made.
    pub fn existing(name: impl AsRef<[u8]>) -> Result<Subscriber> {
        let name = name.as_ref();
        if name.len() > LONGEST_NAME {
            let what = format!("the name has {} bytes, the most is {LONGEST_NAME}", name.len());
            return Err(Error::new(ErrorKind::Invalid, "name a subscriber", what));
        }
        Ok(Subscriber(name.to_vec()))
    }

    /// The bytes of the name.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The name of its checkpoint file.
    pub(crate) fn file_name(&self) -> OsString {
        let mut name = b"cp.".to_vec();
        for byte in &self.0 {
            name.extend_from_slice(format!("{byte:02x}").as_bytes());
        }
        OsString::from_vec(name)
    }

    /// The subscriber whose checkpoint file has this name, if it is the name of one.
    pub(crate) fn from_file_name(name: &[u8]) -> Option<Subscriber> {
        let digits = name.strip_prefix(b"cp.")?;
        let lower = digits.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !lower || digits.len() % 2 != 0 || digits.len() > 2 * LONGEST_NAME {
            return None;
        }
        let pairs =
            digits.chunks_exact(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
        pairs.collect::<Option<Vec<u8>>>().map(Subscriber)
    }
}

impl fmt::Display for Subscriber {
    /// The name, with control characters and bytes that are not UTF-8 escaped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                if c.is_control() { write!(f, "{}", c.escape_default())? } else { write!(f, "{c}")? }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Subscriber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

pub(crate) const METASTORE: &str = "metastore";
/// A metastore that is being made.
pub(crate) const NEW_METASTORE: &str = ".metastore.new";
pub(crate) const PRE_COMMIT: &str = "pre_commit";
/// Where what was cut or replaced is kept.
pub(crate) const KEPT: &str = ".repair";

/// The files of a log, by what they are. Segments ascend.
#[derive(Debug, Clone, Default)]
pub(crate) struct Listing {
    pub(crate) segments: Vec<SegmentId>,
    pub(crate) indexes: BTreeSet<SegmentId>,
    pub(crate) subscribers: Vec<Subscriber>,
    pub(crate) metastore: bool,
    pub(crate) pre_commit: bool,
    pub(crate) control: bool,
    /// Files whose name begins with `cp.` and yet is none that a subscriber's name becomes.
    pub(crate) odd_checkpoints: Vec<OsString>,
    /// All other names that do not begin with a dot.
    pub(crate) strays: Vec<OsString>,
}

impl Listing {
    pub(crate) fn read(disk: &dyn Disk, dir: &Path) -> Result<Listing> {
        let names = disk.names(dir).map_err(|e| Error::io("list the directory", dir, e))?;
        let mut listing = Listing::default();
        for name in names {
            listing.add(name);
        }
        listing.segments.sort_unstable();
        listing.subscribers.sort();
        listing.odd_checkpoints.sort();
        listing.strays.sort();
        Ok(listing)
    }

    fn add(&mut self, name: OsString) {
        let bytes = name.as_bytes();
        if let Some(id) = SegmentId::from_file_name(bytes) {
            self.segments.push(id);
        } else if let Some(id) = bytes.strip_suffix(b".idx").and_then(SegmentId::from_file_name) {
            self.indexes.insert(id);
        } else if let Some(subscriber) = Subscriber::from_file_name(bytes) {
            self.subscribers.push(subscriber);
        } else if bytes == METASTORE.as_bytes() {
            self.metastore = true;
        } else if bytes == PRE_COMMIT.as_bytes() {
            self.pre_commit = true;
        } else if bytes == CONTROL.as_bytes() {
            self.control = true;
        } else if bytes.starts_with(b"cp.") {
            self.odd_checkpoints.push(name);
        } else if !bytes.starts_with(b".") {
            self.strays.push(name);
        }
    }

    pub(crate) fn last_segment(&self) -> Option<SegmentId> {
        self.segments.last().copied()
    }

    /// Whether anything here is a log's.
    pub(crate) fn is_a_log(&self) -> bool {
        self.metastore || !self.segments.is_empty() || !self.subscribers.is_empty()
    }
}

pub(crate) fn checkpoint_path(dir: &Path, subscriber: &Subscriber) -> PathBuf {
    dir.join(subscriber.file_name())
}

/// Refuses what is no directory, with an error that says what it is instead.
pub(crate) fn require_directory(disk: &dyn Disk, dir: &Path) -> Result<()> {
    let info = disk.info(dir, true).map_err(|e| Error::io("open the log", dir, e))?;
    if info.kind == PathKind::Directory {
        return Ok(());
    }
    Err(Error::new(ErrorKind::NotALog, "open the log", "a log is a directory, and this is a file").at(dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_up_to_126_bytes_has_a_file_name_and_comes_back() {
        for name in [&b"s"[..], &[0xff, 0x00, b'/', b'\n'], &[b'x'; 126], "größe".as_bytes()] {
            let subscriber = Subscriber::new(name).unwrap();
            assert_eq!(Subscriber::from_file_name(subscriber.file_name().as_bytes()), Some(subscriber));
        }
        assert_eq!(Subscriber::new(b"s").unwrap().file_name(), "cp.73");
    }

    #[test]
    fn an_empty_name_and_one_of_127_bytes_are_refused() {
        assert_eq!(Subscriber::new(b"").unwrap_err().kind(), ErrorKind::Invalid);
        assert_eq!(Subscriber::new([b'x'; 127]).unwrap_err().kind(), ErrorKind::Invalid);
        assert!(Subscriber::existing(b"").is_ok(), "libjlog makes subscribers with an empty name");
    }

    #[test]
    fn file_names_that_no_subscriber_has_are_not_taken_for_one() {
        for name in [&b"cp.7"[..], b"cp.7G", b"cp.7A", b"cp", b"xp.73", b"cp.73.tmp"] {
            assert_eq!(Subscriber::from_file_name(name), None);
        }
    }

    #[test]
    fn names_print_without_control_characters() {
        assert_eq!(Subscriber::new(b"a\x1b[31m\xff\n").unwrap().to_string(), "a\\u{1b}[31m\\xff\\n");
    }
}
