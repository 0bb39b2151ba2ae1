//! The one error type: which file, where in it, what we were doing, and what the program may do next.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::log::Gap;

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What a program can do about an error. Two causes that lead to the same action are one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// There is nothing at that path. Create the log, or correct the path.
    NotFound,
    /// Something is at that path already. Open it, or choose another path.
    AlreadyExists,
    /// The path is not a log: a file where a directory is wanted, or a directory without a log's files.
    NotALog,
    /// The operating system refuses access. Change the permissions, or the user.
    Permission,
    /// The device is full, or a quota or a size limit is reached. Free space and try again: nothing half-written stays.
    NoSpace,
    /// Somebody else holds what this call needs. Try again later.
    Busy,
    /// An earlier write or sync on this handle failed. Open the log again.
    Poisoned,
    /// Bytes on disk are not what they should be. Look with `jlog-inspect check`, mend with `jlog-repair`.
    Damaged,
    /// The caller asked for something that cannot be: correct the argument.
    Invalid,
    /// No subscriber has that name. Add it, or correct the name.
    UnknownSubscriber,
    /// A subscriber of that name exists already.
    SubscriberExists,
    /// The record, or the log's number space, is at its limit.
    TooLarge,
    /// There is no record with that id: it was never written, or it is pruned.
    NoSuchRecord,
    /// This engine cannot do that with this log.
    Unsupported,
    /// The operating system reported any other failure.
    Io,
}

/// An error: its kind, the file and the byte it is about, and what was being done.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    doing: &'static str,
    path: Option<PathBuf>,
    offset: Option<u64>,
    detail: String,
    source: Option<io::Error>,
    gap: Option<Gap>,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, doing: &'static str, detail: impl Into<String>) -> Error {
        let detail = detail.into();
        Error(Box::new(Inner { kind, doing, path: None, offset: None, detail, source: None, gap: None }))
    }

    /// The error of a system call. The kind follows from the operating system's own code.
    pub(crate) fn io(doing: &'static str, path: &Path, source: io::Error) -> Error {
        let mut error = Error::new(kind_of(&source), doing, String::new()).at(path);
        error.0.source = Some(source);
        error
    }

    pub(crate) fn poisoned(path: &Path) -> Error {
        Error::new(
            ErrorKind::Poisoned,
            "use a handle",
            "an earlier write or sync on this handle failed, so what is on disk is not known; open it again",
        )
        .at(path)
    }

    pub(crate) fn damaged(doing: &'static str, path: &Path, offset: u64, detail: impl Into<String>) -> Error {
        Error::new(ErrorKind::Damaged, doing, detail).at(path).byte(offset)
    }

    pub(crate) fn gap(path: &Path, gap: Gap) -> Error {
        let detail = gap.to_string();
        let mut error = Error::damaged("read the next record", path, gap.from, detail);
        error.0.gap = Some(gap);
        error
    }

    pub(crate) fn of_kind(mut self, kind: ErrorKind) -> Error {
        self.0.kind = kind;
        self
    }

    pub(crate) fn at(mut self, path: &Path) -> Error {
        self.0.path = Some(path.to_path_buf());
        self
    }

    pub(crate) fn byte(mut self, offset: u64) -> Error {
        self.0.offset = Some(offset);
        self
    }

    /// What the program may do next.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The file or directory it is about.
    pub fn path(&self) -> Option<&Path> {
        self.0.path.as_deref()
    }

    /// The byte in that file, where one is known.
    pub fn offset(&self) -> Option<u64> {
        self.0.offset
    }

    /// The records that cannot be delivered, where a reader met damage: see [`Reader::skip_gap`](crate::Reader::skip_gap).
    pub fn gap_met(&self) -> Option<&Gap> {
        self.0.gap.as_ref()
    }

    /// The operating system's error number, where it reported one.
    pub fn os_error(&self) -> Option<i32> {
        self.0.source.as_ref().and_then(io::Error::raw_os_error)
    }

    /// What to do about it, in one sentence; empty where the message says it all.
    pub fn advice(&self) -> &'static str {
        match self.0.kind {
            ErrorKind::Damaged => "look with `jlog-inspect check`, mend with `jlog-repair`",
            ErrorKind::NoSpace => {
                "free some space and try again; what was not acknowledged is not in the log"
            }
            ErrorKind::Permission => {
                "check the owner and mode of the directory and its files, and the user you run as"
            }
            ErrorKind::Busy => "wait for the other process, or stop it",
            _ => "",
        }
    }
}

fn kind_of(source: &io::Error) -> ErrorKind {
    use io::ErrorKind as Os;
    match source.kind() {
        Os::NotFound => ErrorKind::NotFound,
        Os::AlreadyExists => ErrorKind::AlreadyExists,
        Os::PermissionDenied | Os::ReadOnlyFilesystem => ErrorKind::Permission,
        Os::StorageFull | Os::QuotaExceeded | Os::FileTooLarge => ErrorKind::NoSpace,
        Os::NotADirectory => ErrorKind::NotALog,
        Os::WouldBlock => ErrorKind::Busy,
        _ => ErrorKind::Io,
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &self.0;
        if let Some(path) = &inner.path {
            write!(f, "{}: ", path.display())?;
        }
        if let Some(offset) = inner.offset {
            write!(f, "byte {offset}: ")?;
        }
        write!(f, "cannot {}", inner.doing)?;
        if !inner.detail.is_empty() {
            write!(f, ": {}", inner.detail)?;
        }
        if let Some(source) = &inner.source {
            write!(f, ": {source}")?;
        }
        match self.advice() {
            "" => Ok(()),
            advice => write!(f, "; {advice}"),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.0.kind)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|source| source as _)
    }
}
