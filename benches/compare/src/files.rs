//! A file a message, as Postfix's queue: a temporary name until all of it is there.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use jlog_benches::Outcome;

use crate::{Index, Store};

/// What is synced before a message is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Syncs {
    None,
    File,
    FileAndName,
}

pub(crate) struct Files {
    path: PathBuf,
    dir: File,
    synced: Syncs,
    syncs: AtomicU64,
    index: Index,
}

impl Files {
    pub(crate) fn open(path: &Path, synced: Syncs) -> Outcome<Files> {
        let dir = File::open(path)?;
        Ok(Files { path: path.into(), dir, synced, syncs: AtomicU64::new(0), index: Index::new() })
    }

    fn name(&self, id: u64) -> PathBuf {
        self.path.join(format!("{id:016x}"))
    }

    fn sync(&self, file: &File) -> Outcome<()> {
        self.syncs.fetch_add(1, Relaxed);
        Ok(file.sync_all()?)
    }
}

impl Store for Files {
    fn accept(&self, id: u64, meta: &[u8], body: &[u8]) -> Outcome<()> {
        let temporary = self.path.join(format!("tmp.{id:016x}"));
        let mut file = File::create_new(&temporary)?;
        file.write_all(&[meta, body].concat())?;
        if self.synced != Syncs::None {
            self.sync(&file)?;
        }
        fs::rename(temporary, self.name(id))?;
        if self.synced == Syncs::FileAndName {
            self.sync(&self.dir)?;
        }
        Ok(())
    }

    fn load(&self, id: u64) -> Outcome<Vec<u8>> {
        Ok(fs::read(self.name(id))?)
    }

    fn remove(&self, ids: &[u64]) -> Outcome<()> {
        for id in ids {
            fs::remove_file(self.name(*id))?;
        }
        self.sync(&self.dir)
    }

    /// A name, and a stat for the time, which Postfix keeps there.
    fn index(&mut self) -> Outcome<usize> {
        self.index.clear();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let name = entry.file_name();
            if let Ok(id) = u64::from_str_radix(&name.to_string_lossy(), 16) {
                self.index.push((id, entry.metadata()?.mtime() as u64));
            }
        }
        Ok(self.index.len())
    }

    fn syncs(&self) -> u64 {
        self.syncs.load(Relaxed)
    }
}
