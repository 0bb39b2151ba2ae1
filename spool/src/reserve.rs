//! Free space: what has to stay free, and the file that is given up so that removals find room on a full disk.

use std::path::{Path, PathBuf};

use jlog::io::{Disk, File, Open};

use crate::error::{Resource, Result, SpoolError};

/// The reserve's file name.
pub(crate) const NAME: &str = "reserve";
/// The file system is asked again after so many bytes.
const ASK_AFTER: u64 = 1 << 20;

/// Room that is kept for removals and updates.
#[derive(Debug)]
pub(crate) struct Reserve {
    path: PathBuf,
    dir: PathBuf,
    bytes: u64,
    mode: u32,
    /// It was given up: nothing is accepted before it is there again.
    released: bool,
    /// Bytes accepted since the file system was asked.
    since: u64,
}

impl Reserve {
    pub(crate) fn new(dir: &Path, bytes: u64, mode: u32) -> Reserve {
        let path = dir.join(NAME);
        Reserve { path, dir: dir.to_path_buf(), bytes, mode, released: false, since: ASK_AFTER }
    }

    /// Makes the file, if there is room for it. It is written, not only extended: that is what keeps the room.
    pub(crate) fn fill(&mut self, disk: &dyn Disk) -> Result<()> {
        if self.bytes == 0 {
            return Ok(());
        }
        let file = File::open(disk, &self.path, Open::Create(self.mode))?;
        let zeros = vec![0; usize::try_from(self.bytes.min(1 << 20)).unwrap_or(1 << 20)];
        let mut at = file.size()?;
        while at < self.bytes {
            let len = usize::try_from(self.bytes - at).unwrap_or(zeros.len()).min(zeros.len());
            if let Err(error) = file.pwrite(&zeros[..len], at) {
                drop(file);
                self.released = true;
                let _ = disk.remove(&self.path);
                return Err(error.into());
            }
            at += len as u64;
        }
        // Space that is only promised is not there when it is needed.
        file.sync()?;
        self.released = false;
        Ok(())
    }

    /// Refuses to take `more` bytes where there is no room for them.
    pub(crate) fn require(&mut self, disk: &dyn Disk, more: u64, min_free: u64) -> Result<()> {
        self.since = self.since.saturating_add(more);
        let full = |free: u64, least: u64| {
            let detail = format!("{free} bytes are free, and {least} have to stay free");
            Err(SpoolError::Full { what: Resource::Space, detail })
        };
        if self.released {
            let least = min_free.saturating_add(2 * self.bytes).saturating_add(more);
            let free = free(disk, &self.dir);
            if free < least {
                return full(free, least);
            }
            self.fill(disk)?;
        }
        if min_free > 0 && (self.since >= ASK_AFTER || more >= ASK_AFTER) {
            let least = min_free.saturating_add(more);
            let free = free(disk, &self.dir);
            if free < least {
                return full(free, least);
            }
            self.since = 0;
        }
        Ok(())
    }

    /// Gives the room up, if it was not given up before.
    pub(crate) fn release(&mut self, disk: &dyn Disk) {
        if !self.released && self.bytes > 0 {
            self.released = true;
            let _ = disk.remove(&self.path);
        }
    }

    /// Whether it was given up.
    pub(crate) fn is_released(&self) -> bool {
        self.released
    }
}

/// A file system that cannot say how much is free will say so when it is full.
fn free(disk: &dyn Disk, dir: &Path) -> u64 {
    disk.free_space(dir).unwrap_or(u64::MAX)
}
