//! How a command ends: the exit codes, and what can go wrong on the way.

use std::fmt;
use std::io;
use std::path::Path;
use std::process::ExitCode;

/// The exit codes of all commands, as fsck has them. Of several, the greatest counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Exit {
    /// Nothing is wrong; it is done.
    Fine = 0,
    /// Damage was found and mended.
    Repaired = 1,
    /// A problem was found, or is left.
    Problem = 4,
    /// It could not be done: no log, no permission, an input or output error.
    Failed = 8,
    /// The command line makes no sense.
    Usage = 16,
    /// Ended by the user.
    Interrupted = 32,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// Why a command could not go on.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The engine's answer.
    Engine(jlog::Error),
    /// Something in the way that is not the engine's business.
    Other(String),
    /// The command line makes no sense.
    Usage(String),
    /// Nobody reads the output any more. Not an error.
    ClosedPipe,
    /// The user has had enough.
    Interrupted,
}

/// How a command ends, or why it could not.
pub(crate) type Outcome = Result<Exit, Failure>;

impl Failure {
    /// A system call that failed: what it was for, and on which file.
    pub(crate) fn io(doing: &str, path: &Path, error: &io::Error) -> Failure {
        Failure::Other(format!("{}: cannot {doing}: {error}", path.display()))
    }

    pub(crate) fn exit(&self) -> Exit {
        match self {
            Failure::Engine(_) | Failure::Other(_) => Exit::Failed,
            Failure::Usage(_) => Exit::Usage,
            Failure::ClosedPipe => Exit::Fine,
            Failure::Interrupted => Exit::Interrupted,
        }
    }
}

impl From<jlog::Error> for Failure {
    fn from(error: jlog::Error) -> Failure {
        Failure::Engine(error)
    }
}

/// What the spool says of itself is said well enough.
impl From<spool::SpoolError> for Failure {
    fn from(error: spool::SpoolError) -> Failure {
        match error {
            spool::SpoolError::Log(error) => Failure::Engine(error),
            other => Failure::Other(other.to_string()),
        }
    }
}

impl From<spool::mailbox::Error> for Failure {
    fn from(error: spool::mailbox::Error) -> Failure {
        Failure::Other(error.to_string())
    }
}

/// Errors of standard output; all others are made with [`Failure::io`].
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::ClosedPipe,
            _ => Failure::Other(format!("cannot write the output: {error}")),
        }
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Failure {
        Failure::from(io::Error::from(error))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Engine(error) => write!(f, "{error}"),
            Failure::Other(what) | Failure::Usage(what) => f.write_str(what),
            Failure::ClosedPipe => f.write_str("the output was closed"),
            Failure::Interrupted => f.write_str("interrupted"),
        }
    }
}
