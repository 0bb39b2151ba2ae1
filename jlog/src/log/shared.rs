//! What all handles of one log share: where it lies, how its bytes are laid out, and which segment is active.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::detect::Detected;
use super::names::{Listing, METASTORE};
use crate::error::{Error, ErrorKind, Result};
use crate::id::SegmentId;
use crate::io::{Disk, File, Open};
use crate::record::classic::{Codec, Metastore};
use crate::segment::{SegmentSource, data_path, index_path};

#[derive(Debug)]
pub(crate) struct Shared {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    detected: Detected,
    /// The metastore, if it is one that can be believed: other processes change it at any time.
    metastore: Option<File>,
    /// The highest segment known to exist. The metastore may lag behind it after a power cut.
    floor: AtomicU32,
    /// The one file that this "log" consists of, where a segment is looked at by itself.
    lone: Option<(SegmentId, PathBuf)>,
}

impl Shared {
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        dir: &Path,
        detected: Detected,
        listing: &Listing,
    ) -> Result<Shared> {
        let metastore = match detected.problem {
            None => Some(File::open(&*disk, &dir.join(METASTORE), Open::Read)?),
            Some(_) => None,
        };
        let floor = AtomicU32::new(listing.last_segment().unwrap_or_default().0);
        Ok(Shared { disk, dir: dir.to_path_buf(), detected, metastore, floor, lone: None })
    }

    /// One segment file by itself.
    pub(crate) fn lone(disk: Arc<dyn Disk>, file: &Path, id: SegmentId, detected: Detected) -> Shared {
        let dir = file.parent().unwrap_or(file).to_path_buf();
        let floor = AtomicU32::new(id.0);
        Shared { disk, dir, detected, metastore: None, floor, lone: Some((id, file.to_path_buf())) }
    }

    pub(crate) fn is_lone(&self) -> bool {
        self.lone.is_some()
    }

    /// What lies in the directory now.
    pub(crate) fn listing(&self) -> Result<Listing> {
        match &self.lone {
            Some((id, _)) => Ok(Listing { segments: vec![*id], ..Listing::default() }),
            None => Listing::read(&*self.disk, &self.dir),
        }
    }

    pub(crate) fn data_path(&self, id: SegmentId) -> PathBuf {
        match &self.lone {
            Some((lone, path)) if *lone == id => path.clone(),
            _ => data_path(&self.dir, id),
        }
    }

    pub(crate) fn index_path(&self, id: SegmentId) -> PathBuf {
        index_path(&self.dir, id)
    }

    /// Opens a segment to read it; `None` if it is not there.
    pub(crate) fn segment(&self, id: SegmentId) -> Result<Option<SegmentSource>> {
        let data = File::open_existing(&*self.disk, &self.data_path(id), Open::Read)?;
        Ok(data.map(|data| SegmentSource::new(&self.disk, Arc::new(data), self.index_path(id), self.codec())))
    }

    pub(crate) fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn codec(&self) -> Codec {
        self.detected.meta.codec()
    }

    /// What is wrong with the metastore, if anything is.
    pub(crate) fn metastore_problem(&self) -> Option<&str> {
        self.detected.problem.as_deref()
    }

    /// The metastore as it is now.
    pub(crate) fn metastore(&self) -> Result<Metastore> {
        let Some(file) = &self.metastore else { return Ok(self.detected.meta) };
        self.decode(file)
    }

    /// Reads the metastore through a handle of the caller's.
    pub(crate) fn decode(&self, file: &File) -> Result<Metastore> {
        let meta = &self.detected.meta;
        let mut bytes = vec![0; meta.len];
        file.pread(&mut bytes, 0)?;
        match Metastore::decode(&bytes, meta.order) {
            Ok(now) if now.magic == meta.magic => Ok(now),
            Ok(_) => {
                Err(Error::damaged("read the metastore", file.path(), 12, "its record magic has changed"))
            }
            Err(reason) => Err(Error::damaged("read the metastore", file.path(), 0, reason.to_string())),
        }
    }

    /// The segment that is written to now.
    pub(crate) fn active(&self) -> Result<SegmentId> {
        let Some(file) = &self.metastore else {
            return Ok(self.listing()?.last_segment().unwrap_or_default().max(self.detected.meta.active));
        };
        let meta = self.decode(file)?;
        let known = SegmentId(self.floor.load(Ordering::Relaxed));
        if known <= meta.active { Ok(meta.active) } else { Ok(self.caught_up(&meta, &self.listing()?)) }
    }

    /// The active segment, where the metastore may lag behind the segments after a power cut: the last one that holds
    /// anything, or the one behind it if that one is full. An empty segment may have been made by somebody who died
    /// before he could move the metastore on; until the one before it is full it is still written to.
    pub(crate) fn caught_up(&self, meta: &Metastore, listing: &Listing) -> SegmentId {
        let later: Vec<_> = listing.segments.iter().copied().filter(|id| *id >= meta.active).collect();
        let size = |id: SegmentId| self.disk.info(&self.data_path(id), false).map_or(0, |info| info.len);
        let written = later.iter().rposition(|id| size(*id) > 0).unwrap_or(0);
        let Some(active) = later.get(written).copied() else { return meta.active };
        match later.get(written + 1) {
            Some(next) if size(active) >= u64::from(meta.unit_limit) => *next,
            // The metastore's own segment is not there, and nothing behind it is written to.
            _ if size(active) == 0 => meta.active,
            _ => active,
        }
    }

    /// A segment of this number is known to exist.
    pub(crate) fn saw(&self, id: SegmentId) {
        self.floor.fetch_max(id.0, Ordering::Relaxed);
    }

    pub(crate) fn is_sealed(&self, id: SegmentId) -> Result<bool> {
        Ok(id < self.active()?)
    }

    pub(crate) fn next_segment(&self, id: SegmentId) -> Result<SegmentId> {
        id.next().ok_or_else(|| {
            let what = "segment ffffffff is the last one a log can have; start a new log";
            Error::new(ErrorKind::TooLarge, "go on to the next segment", what).at(&self.dir)
        })
    }
}
