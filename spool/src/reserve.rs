//! Free space: what has to stay free, and the file that is given up so that removals find room on a full disk.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jlog::io::{Disk, File, Open};

use crate::error::{Resource, Result, SpoolError};
use crate::options::SpoolOptions;

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
    min_free: u64,
    mode: u32,
    /// It was given up: nothing is accepted before it is there again. Changed by who holds `since`.
    released: AtomicBool,
    /// Bytes accepted since the file system was asked.
    since: Mutex<u64>,
}

impl Reserve {
    pub(crate) fn new(dir: &Path, options: &SpoolOptions) -> Reserve {
        Reserve {
            path: dir.join(NAME),
            dir: dir.to_path_buf(),
            bytes: options.reserve,
            min_free: options.min_free,
            mode: options.mode,
            released: AtomicBool::new(false),
            since: Mutex::new(ASK_AFTER),
        }
    }

    fn since(&self) -> MutexGuard<'_, u64> {
        self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the file, if there is room for it: where there is none, nothing is accepted before there is.
    pub(crate) fn fill(&self, disk: &dyn Disk) -> Result<()> {
        let _since = self.since();
        self.make(disk)
    }

    /// It is written, not only extended: that is what keeps the room.
    fn make(&self, disk: &dyn Disk) -> Result<()> {
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
                self.released.store(true, Ordering::Release);
                let _ = disk.remove(&self.path);
                return Err(error.into());
            }
            at += len as u64;
        }
        // Space that is only promised is not there when it is needed.
        file.sync()?;
        self.released.store(false, Ordering::Release);
        Ok(())
    }

    /// Refuses to take `more` bytes where there is no room for them. The file system is asked rarely, and most who ask
    /// here wait for nobody.
    pub(crate) fn require(&self, disk: &dyn Disk, more: u64) -> Result<()> {
        if self.min_free == 0 && !self.is_released() {
            return Ok(());
        }
        let mut since = self.since();
        *since = since.saturating_add(more);
        if self.is_released() {
            self.require_free(disk, 2 * self.bytes, more)?;
            self.make(disk)?;
        }
        if self.min_free > 0 && (*since >= ASK_AFTER || more >= ASK_AFTER) {
            self.require_free(disk, 0, more)?;
            *since = 0;
        }
        Ok(())
    }

    fn require_free(&self, disk: &dyn Disk, beside: u64, more: u64) -> Result<()> {
        let least = self.min_free.saturating_add(beside).saturating_add(more);
        // A file system that cannot say how much is free will say so when it is full.
        let free = disk.free_space(&self.dir).unwrap_or(u64::MAX);
        if free >= least {
            return Ok(());
        }
        let detail = format!("{free} bytes are free, and {least} have to stay free");
        Err(SpoolError::Full { what: Resource::Space, detail })
    }

    /// Gives the room up, if it was not given up before.
    pub(crate) fn release(&self, disk: &dyn Disk) {
        let _since = self.since();
        if !self.is_released() && self.bytes > 0 {
            self.released.store(true, Ordering::Release);
            let _ = disk.remove(&self.path);
        }
    }

    /// Whether it was given up.
    pub(crate) fn is_released(&self) -> bool {
        self.released.load(Ordering::Acquire)
    }
}
