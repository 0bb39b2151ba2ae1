//! `SpoolError`: what went wrong, and what the application may do next.

use std::path::{Path, PathBuf};

use crate::id::MessageId;

/// A result of this crate.
pub type Result<T> = std::result::Result<T, SpoolError>;

/// What is used up where a spool takes no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Resource {
    /// The file system is full, or less is free than [`min_free`](crate::SpoolOptions::min_free) asks for.
    Space,
    /// The spool holds [`max_bytes`](crate::SpoolOptions::max_bytes).
    Bytes,
    /// The spool holds [`max_messages`](crate::SpoolOptions::max_messages).
    Messages,
    /// More segments hold messages than can be numbered: 65,535.
    Segments,
}

/// An error of the spool.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpoolError {
    /// The spool holds no such message: it was never accepted, or it was removed.
    #[error("the spool holds no message {0}")]
    NotFound(MessageId),
    /// A message of this id is in the spool already.
    #[error("the spool holds a message {0} already")]
    Exists(MessageId),
    /// Another process owns the spool.
    #[error("{}: the spool belongs to another process{}; stop it, or look with open_read_only", path.display(), holder(*pid))]
    Locked {
        /// The spool.
        path: PathBuf,
        /// The process, where the system can name it.
        pid: Option<u32>,
    },
    /// Nothing of this message was taken: tell the sender to try again later (SMTP 452 4.3.1).
    #[error("the spool is full: {detail}")]
    Full {
        /// What is used up.
        what: Resource,
        /// How much of it there is, and how much was asked for.
        detail: String,
    },
    /// A message, or a part of one, is larger than the spool takes (SMTP 552 5.3.4).
    #[error("{what} of {size} bytes is above the limit of {limit}")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// Its bytes.
        size: u64,
        /// What is allowed.
        limit: u64,
    },
    /// A record of a message is damaged. What was done with it says [`OnCorrupt`](crate::OnCorrupt).
    #[error("message {id} is damaged: {detail}{}", kept(quarantined.as_deref()))]
    Corrupt {
        /// The message.
        id: MessageId,
        /// Where its bytes were set aside.
        quarantined: Option<PathBuf>,
        /// What is wrong, with file and offset.
        detail: String,
    },
    /// A hook refused.
    #[error("refused by the hook {hook}: {why}")]
    Refused {
        /// The hook.
        hook: &'static str,
        /// Its reason.
        why: String,
    },
    /// The caller asked for what cannot be.
    #[error("{0}")]
    Invalid(String),
    /// The directory is no spool.
    #[error("{}: not a spool: {why}", path.display())]
    NotASpool {
        /// The directory.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// The spool, or a record in it, was written by a newer version of this library. Nothing was changed.
    #[error("{}: written by a newer version ({version}) of the spool than this one knows ({}); use that version", path.display(), crate::settings::VERSION)]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u16,
    },
    /// The spool was opened to be looked at.
    #[error("the spool was opened read-only")]
    ReadOnly,
    /// An earlier write or sync failed, so what is on the disk is not known: drop the spool and open it again. What was
    /// accepted before is safe.
    #[error("an earlier write or sync of the spool failed, open it again: {0}")]
    Unhealthy(#[source] jlog::Error),
    /// The log below failed.
    #[error(transparent)]
    Log(jlog::Error),
    /// A mailbox that messages come from, or go to, failed.
    #[error(transparent)]
    Mailbox(#[from] crate::mailbox::Error),
    /// The operating system failed.
    #[error("{}: cannot {doing}: {source}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

fn holder(pid: Option<u32>) -> String {
    pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
}

fn kept(path: Option<&Path>) -> String {
    path.map(|path| format!("; its bytes are kept in {}", path.display())).unwrap_or_default()
}

impl SpoolError {
    pub(crate) fn io(doing: &'static str, path: &Path, source: std::io::Error) -> SpoolError {
        if source.kind() == std::io::ErrorKind::StorageFull {
            let detail = format!("{}: cannot {doing}: {source}", path.display());
            return SpoolError::Full { what: Resource::Space, detail };
        }
        SpoolError::Io { doing, path: path.to_path_buf(), source }
    }

    /// Whether trying again later may help, without anything being mended.
    pub fn is_transient(&self) -> bool {
        matches!(self, SpoolError::Full { .. } | SpoolError::Locked { .. })
    }
}

impl From<jlog::Error> for SpoolError {
    fn from(error: jlog::Error) -> SpoolError {
        match error.kind() {
            jlog::ErrorKind::NoSpace => SpoolError::Full { what: Resource::Space, detail: error.to_string() },
            jlog::ErrorKind::Poisoned => SpoolError::Unhealthy(error),
            _ => SpoolError::Log(error),
        }
    }
}
