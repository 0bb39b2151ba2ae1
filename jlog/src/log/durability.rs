//! `Durability`: what an acknowledgement promises.

use std::time::Duration;

use crate::record::classic::Safety;

/// What holds of a record when the call that appended it has returned. `docs/durability.md` has the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Durability {
    /// It is on the disk. Threads that append at the same time share syncs. The default of the checksummed format.
    Sync,
    /// It is on the disk; before the sync, the writer waits so long for others to share it with.
    Group(Duration),
    /// It is in the kernel, and will be on the disk after so long at the latest, or an error is reported by the next
    /// call: it survives the death of the process, and of the machine but for the last so-and-so long.
    Interval(Duration),
    /// It is in the kernel: it survives the death of the process. It is on the disk after [`Writer::sync`](crate::Writer::sync), or when
    /// its segment is finished.
    Process,
}

impl Durability {
    /// Whether a record is on the disk once it is acknowledged.
    pub fn is_synced(self) -> bool {
        matches!(self, Durability::Sync | Durability::Group(_))
    }

    /// What libjlog's safety levels are taken for in a checksummed log. Each promises more than libjlog's does: there,
    /// no append is ever synced.
    pub fn of_safety(safety: Safety) -> Durability {
        match safety {
            Safety::Unsafe => Durability::Process,
            Safety::AlmostSafe => Durability::Interval(Duration::from_secs(1)),
            Safety::Safe => Durability::Sync,
        }
    }

    /// The safety level that comes nearest.
    pub fn safety(self) -> Safety {
        match self {
            Durability::Sync | Durability::Group(_) => Safety::Safe,
            Durability::Interval(_) => Safety::AlmostSafe,
            Durability::Process => Safety::Unsafe,
        }
    }

    pub(crate) fn encode(self) -> (u8, u64) {
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        match self {
            Durability::Sync => (0, 0),
            Durability::Group(wait) => (1, micros(wait)),
            Durability::Interval(most) => (2, micros(most)),
            Durability::Process => (3, 0),
        }
    }

    pub(crate) fn decode(level: u8, micros: u64) -> Option<Durability> {
        let time = Duration::from_micros(micros);
        Some(match level {
            0 => Durability::Sync,
            1 => Durability::Group(time),
            2 => Durability::Interval(time),
            3 => Durability::Process,
            _ => return None,
        })
    }
}

impl std::fmt::Display for Durability {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Durability::Sync => f.write_str("sync"),
            Durability::Group(wait) => write!(f, "group {wait:?}"),
            Durability::Interval(most) => write!(f, "interval {most:?}"),
            Durability::Process => f.write_str("process"),
        }
    }
}
