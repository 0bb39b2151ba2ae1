//! The control file: what the processes of one log tell each other, for as long as the machine runs.
//!
//! It is never needed on the disk. After a boot it says nothing of writers any more; what it says to have been durable
//! stays true, and counts as evidence.

use crate::error::{Error, ErrorKind, Result};
use crate::id::{Marker, RecordId, SegmentId};
use crate::io::{Disk, File, Open};
use crate::record::checked::{Features, LogIdentity, u32_at, u64_at};
use crate::record::slots::{self, Fill, Held, SLOT};

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

pub(crate) const CONTROL: &str = "control";

/// A place in a log up to which something holds: so many bytes of a segment, with so many records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Mark {
    pub(crate) segment: SegmentId,
    pub(crate) end: u64,
    pub(crate) marker: u32,
}

impl Mark {
    pub(crate) fn id(self) -> RecordId {
        RecordId { segment: self.segment, marker: Marker(self.marker) }
    }
}

/// What the control file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Control {
    /// The run of the machine it was written in.
    pub(crate) boot: [u8; 16],
    /// Counts the writers that took the log over.
    pub(crate) term: u64,
    /// The process that owns the log, or wrote to it last.
    pub(crate) pid: u32,
    /// Up to where the active segment is written, as far as that was told.
    pub(crate) written: Mark,
    /// Up to where the log is on the disk.
    pub(crate) durable: Mark,
    /// Several processes write.
    pub(crate) shared: bool,
    /// Records may be seen before they are durable: the writer acknowledges them before.
    pub(crate) eager: bool,
    /// A sync is under way, or the process that made it has died in it.
    pub(crate) syncing: bool,
    /// A sync has failed: what the kernel shows of the active segment may not be on the disk.
    pub(crate) poisoned: bool,
    /// The last writer has closed the log and made everything durable.
    pub(crate) clean: bool,
}

const VALUE: usize = 96;

impl Control {
    fn encode(&self) -> [u8; VALUE] {
        let mut out = [0; VALUE];
        out[..16].copy_from_slice(&self.boot);
        out[16..24].copy_from_slice(&self.term.to_le_bytes());
        out[24..28].copy_from_slice(&self.pid.to_le_bytes());
        let flags = [self.shared, self.eager, self.syncing, self.poisoned, self.clean];
        out[28] = flags.iter().enumerate().map(|(bit, flag)| u8::from(*flag) << bit).sum();
        for (at, mark) in [(32, self.written), (48, self.durable)] {
            out[at..at + 8].copy_from_slice(&mark.end.to_le_bytes());
            out[at + 8..at + 12].copy_from_slice(&mark.segment.0.to_le_bytes());
            out[at + 12..at + 16].copy_from_slice(&mark.marker.to_le_bytes());
        }
        out
    }

    fn decode(value: &[u8]) -> Control {
        let mark = |at: usize| Mark {
            end: u64_at(value, at),
            segment: SegmentId(u32_at(value, at + 8)),
            marker: u32_at(value, at + 12),
        };
        let flag = |bit: u32| value[28] & (1 << bit) != 0;
        Control {
            boot: value[..16].try_into().expect("sixteen bytes"),
            term: u64_at(value, 16),
            pid: u32_at(value, 24),
            written: mark(32),
            durable: mark(48),
            shared: flag(0),
            eager: flag(1),
            syncing: flag(2),
            poisoned: flag(3),
            clean: flag(4),
        }
    }

    /// Whether the last writer has left anything that is not settled.
    pub(crate) fn is_doubted(&self) -> bool {
        self.syncing || self.poisoned
    }
}

/// The control file has two slots, written in turn: whoever reads while one is being written finds the other one whole.
const SLOTS: usize = 2;

/// Reads the control file through a handle, while others may write it; and which write of it this was.
///
/// `None` where it says nothing: it is not this log's, or is no whole value. One of a newer version is
/// [`Unsupported`](ErrorKind::Unsupported).
fn read_whole(file: &File, log: LogIdentity) -> Result<Option<(Control, u64)>> {
    for _ in 0..8 {
        let mut bytes = [0; SLOTS * SLOT];
        let got = file.pread_up_to(&mut bytes, 0)?;
        match slots::decode(slots::Kind::Control, CONTROL.as_bytes(), &bytes[..got]) {
            Held::Newest(slot, _) if slot.log == log => {
                return Ok(Some((Control::decode(&slot.value), slot.generation)));
            }
            Held::Newest(..) => return Ok(None),
            Held::Newer(why) => {
                return Err(
                    Error::new(ErrorKind::Unsupported, "read what other writers say", why).at(file.path())
                );
            }
            Held::Nothing if got == 0 => return Ok(None),
            Held::Nothing => std::thread::yield_now(),
        }
    }
    Ok(None)
}

/// Whether all slots that something stands in are sound. One may be written at this moment: it is looked at again.
pub(crate) fn is_whole(file: &File) -> Result<bool> {
    for _ in 0..8 {
        let mut bytes = [0; SLOTS * SLOT];
        let got = file.pread_up_to(&mut bytes, 0)?;
        let held = slots::decode(slots::Kind::Control, CONTROL.as_bytes(), &bytes[..got]);
        if matches!(held, Held::Newest(_, 0)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// As [`read_whole`], for a reader, who can do without.
pub(crate) fn read(file: &File, log: LogIdentity) -> Result<Option<Control>> {
    match read_whole(file, log) {
        Err(error) if error.kind() == ErrorKind::Unsupported => Ok(None),
        outcome => Ok(outcome?.map(|(control, _)| control)),
    }
}

/// The control file, for a writer.
#[derive(Debug)]
pub(crate) struct ControlFile {
    pub(crate) file: File,
    log: LogIdentity,
    /// The last write of the file that is known.
    writes: AtomicU64,
}

impl ControlFile {
    pub(crate) fn path(dir: &Path) -> PathBuf {
        dir.join(CONTROL)
    }

    /// Opens it, or makes it: it may have been left behind when the log was copied.
    pub(crate) fn open(disk: &dyn Disk, dir: &Path, log: LogIdentity, mode: u32) -> Result<ControlFile> {
        let file = File::open(disk, &ControlFile::path(dir), Open::Create(mode))?;
        Ok(ControlFile { file, log, writes: AtomicU64::new(0) })
    }

    pub(crate) fn read(&self) -> Result<Option<Control>> {
        let read = read_whole(&self.file, self.log)?;
        if let Some((_, writes)) = read {
            self.writes.store(writes, Ordering::Relaxed);
        }
        Ok(read.map(|(control, _)| control))
    }

    /// In the kernel when it returns: what it says holds for the machine that runs. Whoever shares the log has read it
    /// since he took its lock.
    pub(crate) fn write(&self, control: &Control) -> Result<()> {
        let generation = self.writes.load(Ordering::Relaxed).wrapping_add(1);
        let number = (generation % SLOTS as u64) as usize;
        let fill =
            Fill { log: self.log, generation, features: Features::default(), value: &control.encode() };
        let bytes = slots::encode(slots::Kind::Control, CONTROL.as_bytes(), number, fill);
        self.file.pwrite(&bytes, (number * SLOT) as u64)?;
        self.writes.store(generation, Ordering::Relaxed);
        Ok(())
    }

    /// The error of who cannot have the log because somebody else owns it.
    pub(crate) fn busy(&self) -> Error {
        let who = match self.read() {
            Ok(Some(control)) => format!("process {} owns the log", control.pid),
            _ => "another process owns the log".to_owned(),
        };
        Error::new(ErrorKind::Busy, "own the log", who).at(self.file.path())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_back() {
        let control = Control {
            boot: [9; 16],
            term: 7,
            pid: 1234,
            written: Mark { segment: SegmentId(3), end: 4096, marker: 12 },
            durable: Mark { segment: SegmentId(2), end: 2048, marker: 11 },
            shared: true,
            eager: false,
            syncing: true,
            poisoned: false,
            clean: true,
        };
        assert_eq!(Control::decode(&control.encode()), control);
        assert!(control.is_doubted());
    }
}
