//! The operating system's disk, counting its system calls, and, if wanted, with syncs that only take time: what a sync
//! costs then is the same for all, and what is left is how many of them each way needs.

use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jlog::io::{Disk, Open, OsDisk, PathInfo, RawFile, RawMap, RawWatch};

/// The operating system's disk, counting.
#[derive(Debug, Default)]
pub struct BenchDisk {
    counts: Arc<Counts>,
    sync: Option<Duration>,
}

impl BenchDisk {
    /// Every sync takes so long, and makes nothing durable.
    pub fn with_syncs_of(time: Duration) -> BenchDisk {
        BenchDisk { sync: Some(time), ..BenchDisk::default() }
    }

    /// System calls so far, and the syncs among them.
    pub fn counts(&self) -> (u64, u64) {
        self.counts.read()
    }
}

#[derive(Debug, Default)]
struct Counts {
    calls: AtomicU64,
    syncs: AtomicU64,
}

impl Counts {
    fn call(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
    }

    fn sync(&self) {
        self.call();
        self.syncs.fetch_add(1, Ordering::Relaxed);
    }

    fn read(&self) -> (u64, u64) {
        (self.calls.load(Ordering::Relaxed), self.syncs.load(Ordering::Relaxed))
    }
}

impl Disk for BenchDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn RawFile>> {
        self.counts.call();
        let file = OsDisk.open(path, how)?;
        Ok(Box::new(BenchFile { file, counts: Arc::clone(&self.counts), sync: self.sync }))
    }

    fn names(&self, dir: &Path) -> io::Result<Vec<std::ffi::OsString>> {
        self.counts.call();
        OsDisk.names(dir)
    }

    fn info(&self, path: &Path, follow: bool) -> io::Result<PathInfo> {
        self.counts.call();
        OsDisk.info(path, follow)
    }

    fn create_dir(&self, path: &Path, mode: u32) -> io::Result<()> {
        self.counts.call();
        OsDisk.create_dir(path, mode)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.counts.call();
        OsDisk.remove(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.counts.call();
        OsDisk.remove_dir(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.counts.call();
        OsDisk.rename(from, to)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.counts.sync();
        match self.sync {
            Some(time) => wait(time),
            None => OsDisk.sync_dir(dir)?,
        }
        Ok(())
    }

    fn free_space(&self, path: &Path) -> io::Result<u64> {
        self.counts.call();
        OsDisk.free_space(path)
    }

    fn boot(&self) -> io::Result<[u8; 16]> {
        self.counts.call();
        OsDisk.boot()
    }

    fn random(&self) -> io::Result<[u8; 16]> {
        self.counts.call();
        OsDisk.random()
    }

    fn watch(&self, dir: &Path) -> io::Result<Option<Box<dyn RawWatch>>> {
        self.counts.call();
        OsDisk.watch(dir)
    }
}

#[derive(Debug)]
struct BenchFile {
    file: Box<dyn RawFile>,
    counts: Arc<Counts>,
    sync: Option<Duration>,
}

impl RawFile for BenchFile {
    fn pread(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.counts.call();
        self.file.pread(buffer, offset)
    }

    fn pwrite(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.counts.call();
        self.file.pwrite(bytes, offset)
    }

    fn pwritev(&self, pieces: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        self.counts.call();
        self.file.pwritev(pieces, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.counts.sync();
        match self.sync {
            Some(time) => wait(time),
            None => self.file.sync()?,
        }
        Ok(())
    }

    fn drop_cache(&self) -> io::Result<()> {
        self.counts.call();
        self.file.drop_cache()
    }

    fn size(&self) -> io::Result<u64> {
        self.counts.call();
        self.file.size()
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        self.counts.call();
        self.file.truncate(size)
    }

    fn lock(&self, wait: bool) -> io::Result<bool> {
        self.counts.call();
        self.file.lock(wait)
    }

    fn unlock(&self) -> io::Result<()> {
        self.counts.call();
        self.file.unlock()
    }

    fn lock_holder(&self) -> io::Result<Option<Option<u32>>> {
        self.counts.call();
        self.file.lock_holder()
    }

    fn opened_elsewhere(&self) -> io::Result<Option<bool>> {
        self.counts.call();
        self.file.opened_elsewhere()
    }

    fn map_read(&self, len: usize) -> io::Result<Box<dyn RawMap>> {
        self.counts.call();
        self.file.map_read(len)
    }

    fn map_rdwr(&self, len: usize) -> io::Result<Box<dyn RawMap>> {
        self.counts.call();
        self.file.map_rdwr(len)
    }
}

/// A sync that takes so long, and no time of the processor.
fn wait(time: Duration) {
    std::thread::sleep(time);
}
