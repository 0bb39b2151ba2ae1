//! Who owns a log: the process that its control file names, by number and name.

use std::fmt;
use std::fs;

use jlog::Log;

/// A process that owns a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Holder {
    pub(crate) pid: u32,
    /// What it is called; empty where the system does not tell, as of a process in another container.
    pub(crate) name: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name[..] {
            "" => write!(f, "process {}", self.pid),
            name => write!(f, "process {} ({name})", self.pid),
        }
    }
}

/// Who owns the log now, if anybody does.
pub(crate) fn of_log(log: &Log) -> Option<Holder> {
    let pid = log.owner().ok().flatten()?;
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    Some(Holder { pid, name: name.trim_end().to_owned() })
}
