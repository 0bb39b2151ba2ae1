//! What all handles of one log share: where it lies, how its bytes are laid out, and which segment is active.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use super::checked::Checked;
use super::checked::control::Control;
use super::checked::files::OpenFiles;
use super::checked::settings::{FoundSettings, Settings};
use super::detect::{Detected, Layout};
use super::metrics::Metrics;
use super::names::{Listing, METASTORE};
use crate::error::{Error, ErrorKind, Result};
use crate::id::SegmentId;
use crate::io::{Disk, File, Open, RawWatch};
use crate::order::Order;
use crate::record::checked::{Beginning, LogIdentity, SEGMENT_HEADER, SegmentHeader};
use crate::record::classic::{Codec, META_LEN, Metastore};
use crate::record::index::{self, Index};
use crate::record::scan::ClassicWalk;
use crate::record::walk::{Extent, Source, Walk};
use crate::record::{CheckedWalk, Compression};
use crate::segment::{SegmentSource, data_path, index_path};

#[derive(Debug)]
pub(crate) struct Shared {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    layout: Form,
    problem: Option<String>,
    /// The metastore, if it is one that can be believed: other processes change it at any time.
    metastore: Option<File>,
    /// The highest segment known to exist. The metastore may lag behind it after a power cut.
    floor: AtomicU32,
    /// The one file that this "log" consists of, where a segment is looked at by itself.
    lone: Option<(SegmentId, PathBuf)>,
    metrics: Metrics,
    /// The segments held open for point reads.
    files: OpenFiles,
    /// Which subscriber, in the order of names, was last found to keep a segment.
    holder: AtomicUsize,
    /// The permission bits of new files, where they are not to be the metastore's; 0 where they are.
    mode: AtomicU32,
    #[cfg(feature = "async")]
    watcher: super::future::Watcher,
}

#[derive(Debug)]
enum Form {
    Classic(Metastore),
    Checked(Checked),
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
        let last = listing.last_segment().unwrap_or_default();
        Ok(Shared { metastore, ..Shared::of(disk, dir, detected, last) })
    }

    fn of(disk: Arc<dyn Disk>, dir: &Path, detected: Detected, last: SegmentId) -> Shared {
        let layout = match detected.layout {
            Layout::Classic(meta) => Form::Classic(meta),
            Layout::Checked(settings) => Form::Checked(Checked::new(&*disk, settings)),
        };
        Shared {
            disk,
            dir: dir.to_path_buf(),
            layout,
            problem: detected.problem,
            metastore: None,
            floor: AtomicU32::new(last.0),
            lone: None,
            metrics: Metrics::default(),
            files: OpenFiles::default(),
            holder: AtomicUsize::new(0),
            mode: AtomicU32::new(0),
            #[cfg(feature = "async")]
            watcher: Default::default(),
        }
    }

    /// One segment file by itself.
    pub(crate) fn lone(disk: Arc<dyn Disk>, file: &Path, id: SegmentId, detected: Detected) -> Shared {
        let dir = file.parent().unwrap_or(file);
        Shared { lone: Some((id, file.to_path_buf())), ..Shared::of(disk, dir, detected, id) }
    }

    /// The same segment by itself, under another number.
    pub(crate) fn called(self, id: SegmentId) -> Shared {
        let lone = self.lone.map(|(_, path)| (id, path));
        Shared { lone, floor: AtomicU32::new(id.0), ..self }
    }

    pub(crate) fn is_lone(&self) -> bool {
        self.lone.is_some()
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    pub(crate) fn files(&self) -> &OpenFiles {
        &self.files
    }

    pub(crate) fn mode(&self) -> &AtomicU32 {
        &self.mode
    }

    pub(crate) fn holder(&self) -> &AtomicUsize {
        &self.holder
    }

    #[cfg(feature = "async")]
    pub(crate) fn watcher(&self) -> &super::future::Watcher {
        &self.watcher
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

    /// Opens a segment to read it, and a walk through what readers may see of it; `None` if it is not there.
    pub(crate) fn walk(&self, id: SegmentId, sight: Sight) -> Result<Option<Walk<SegmentSource>>> {
        // Asked before the file is opened: what is finished then stays as it is.
        let sealed = self.is_sealed(id)?;
        let Some(data) = File::open_existing(&*self.disk, &self.data_path(id), Open::Read)? else {
            return Ok(None);
        };
        let data = Arc::new(data);
        let source = SegmentSource::new(&self.disk, Arc::clone(&data), self.index_path(id), self.codec());
        match &self.layout {
            Form::Classic(_) => {
                Ok(Some(Walk::Classic(ClassicWalk::new(source, self.codec(), data.size()?, sealed))))
            }
            Form::Checked(checked) => {
                let extent = self.checked_extent(checked, id, &data, sealed, sight)?;
                Ok(Some(Walk::Checked(CheckedWalk::new(source, checked.log, id.0, extent))))
            }
        }
    }

    /// Whether a checksummed log's segment was removed since it was opened.
    pub(crate) fn is_gone(&self, id: SegmentId) -> Result<bool> {
        if self.checked().is_none() || self.is_lone() {
            return Ok(false);
        }
        self.is_there(id).map(|there| !there)
    }

    /// Whether a segment's file is there.
    pub(crate) fn is_there(&self, id: SegmentId) -> Result<bool> {
        match self.disk.info(&self.data_path(id), false) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Error::io("look at the segment", &self.data_path(id), error)),
        }
    }

    /// Whether a walk is through the last segment of a checksummed log that nobody has written to in this run of the machine,
    /// as far as it was told.
    pub(crate) fn is_without_writer<S: Source>(&self, walk: &Walk<S>) -> bool {
        let extent = walk.extent();
        matches!(walk, Walk::Checked(_)) && !extent.sealed && !extent.settled && !self.is_lone()
    }

    /// How a segment stands now.
    pub(crate) fn extent(&self, id: SegmentId, data: &File, sight: Sight) -> Result<Extent> {
        let sealed = self.is_sealed(id)?;
        match &self.layout {
            Form::Classic(_) => Ok(Extent::of_size(data.size()?, sealed)),
            Form::Checked(checked) => self.checked_extent(checked, id, data, sealed, sight),
        }
    }

    fn checked_extent(
        &self,
        checked: &Checked,
        id: SegmentId,
        data: &File,
        sealed: bool,
        sight: Sight,
    ) -> Result<Extent> {
        let size = data.size()?;
        if self.is_lone() {
            return Ok(Extent::of_size(size, sealed));
        }
        if sealed {
            return self.sealed_extent(id, size);
        }
        let Some(control) = checked.control(&*self.disk, &self.dir)? else {
            return Ok(Extent::of_size(size, false));
        };
        let here = control.durable.segment == id;
        let proven = if here { control.durable.end } else { 0 };
        let proven_marker = if here { control.durable.marker } else { 0 };
        let known =
            Extent { end: size.max(proven), sealed, proven, proven_marker, last: None, settled: false };
        if !checked.is_of_now(&control) {
            // Whatever a power cut has left is on the disk.
            return Ok(known);
        }
        let settled = !control.poisoned;
        if !control.eager && sight == Sight::Acknowledged {
            let end = if here { proven } else { size.min(SEGMENT_HEADER as u64) };
            return Ok(Extent { end, last: Some(control.durable.marker).filter(|_| here), settled, ..known });
        }
        Ok(Extent { settled, ..known })
    }

    /// Where a finished segment ends, and with which record, as the next one says.
    fn sealed_extent(&self, id: SegmentId, size: u64) -> Result<Extent> {
        let next = id.next().map_or(Ok(None), |next| self.header(next))?;
        if let Some(next) = next.filter(|next| next.previous_end >= SEGMENT_HEADER as u64) {
            let (end, last) = (next.previous_end, next.previous_marker);
            return Ok(Extent {
                proven: end,
                proven_marker: last,
                last: Some(last),
                ..Extent::of_size(end, true)
            });
        }
        // Without it the commit that closes the segment says where it ends.
        Ok(Extent::of_size(size, true))
    }

    /// The header of a segment of this checksummed log, if it is there, sound, and this segment's.
    pub(crate) fn header(&self, id: SegmentId) -> Result<Option<SegmentHeader>> {
        Ok(self.any_header(id)?.filter(|header| self.is_own(header, id)))
    }

    fn is_own(&self, header: &SegmentHeader, id: SegmentId) -> bool {
        header.log == self.identity() && header.segment == id.0
    }

    /// The header in a segment's file, if it is sound, whosever it is.
    pub(crate) fn any_header(&self, id: SegmentId) -> Result<Option<SegmentHeader>> {
        let Some(file) = File::open_existing(&*self.disk, &self.data_path(id), Open::Read)? else {
            return Ok(None);
        };
        let mut bytes = [0; SEGMENT_HEADER];
        let got = file.pread_up_to(&mut bytes, 0)?;
        Ok(match SegmentHeader::decode(&bytes[..got]) {
            Beginning::Sound(header) => Some(header),
            Beginning::Damaged | Beginning::Newer(_) => None,
        })
    }

    /// How many records the log had before a segment, as its header says; `None` where that is not known. Behind a segment
    /// that had lost its header the count begins anew.
    pub(crate) fn records_before(&self, id: SegmentId) -> Result<Option<u64>> {
        let header = self.header(id)?;
        Ok(header.map(|header| header.records_before).filter(|before| *before > 0 || id == SegmentId(0)))
    }

    /// The header of a segment of this log that is in use.
    pub(crate) fn require_header(&self, id: SegmentId) -> Result<SegmentHeader> {
        self.header(id)?.ok_or_else(|| {
            let what = "the segment's header is damaged, or another segment's";
            Error::damaged("read the segment", &self.data_path(id), 0, what)
        })
    }

    /// The index of a sealed checksummed segment, if it is there, sound, and this segment's.
    pub(crate) fn read_index(&self, id: SegmentId) -> Result<Option<Index>> {
        let Some(file) = File::open_existing(&*self.disk, &self.index_path(id), Open::Read)? else {
            return Ok(None);
        };
        let size = file.size()?;
        if size > index::MOST_BYTES {
            return Ok(None);
        }
        let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
        let got = file.pread_up_to(&mut bytes, 0)?;
        let index = Index::decode(&bytes[..got]);
        Ok(index.filter(|index| self.is_own(&index.header, id)))
    }

    /// A watch over the log's directory, if the system has one.
    pub(crate) fn watch(&self) -> Result<Option<Box<dyn RawWatch>>> {
        self.disk.watch(&self.dir).map_err(|e| Error::io("watch the log", &self.dir, e))
    }

    pub(crate) fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn checked(&self) -> Option<&Checked> {
        match &self.layout {
            Form::Classic(_) => None,
            Form::Checked(checked) => Some(checked),
        }
    }

    /// The layout of classic records. A checksummed log has none; what it has instead is the native one, uncompressed.
    pub(crate) fn codec(&self) -> Codec {
        match &self.layout {
            Form::Classic(meta) => meta.codec(),
            Form::Checked(_) => Codec { order: Order::Little, magic: Compression::None.magic() },
        }
    }

    pub(crate) fn compression(&self) -> Compression {
        match &self.layout {
            Form::Classic(meta) => meta.codec().compression(),
            Form::Checked(checked) => checked.settings.compression,
        }
    }

    /// Which checksummed log this is; zeros for a classic one, which has no identity.
    pub(crate) fn identity(&self) -> LogIdentity {
        self.checked().map_or(LogIdentity([0; 16]), |checked| checked.log)
    }

    /// The settings of a checksummed log when it was opened.
    pub(crate) fn settings(&self) -> &Settings {
        static CLASSIC: std::sync::LazyLock<Settings> =
            std::sync::LazyLock::new(|| Settings::new(LogIdentity([0; 16])));
        self.checked().map_or(&*CLASSIC, |checked| &checked.settings)
    }

    /// The settings of a checksummed log as they are now.
    pub(crate) fn current_settings(&self) -> Result<Settings> {
        let Some(file) = self.metastore.as_ref().filter(|_| self.checked().is_some()) else {
            return Ok(self.settings().clone());
        };
        match Settings::read(file)? {
            FoundSettings::Sound(settings, _) => Ok(settings),
            FoundSettings::Newer(why) => {
                Err(Error::new(ErrorKind::Unsupported, "read the metastore", why).at(file.path()))
            }
            FoundSettings::Lost => {
                let what = "none of its slots is sound any more";
                Err(Error::damaged("read the metastore", file.path(), 0, what))
            }
        }
    }

    /// The segments before this one may have been removed unread, because a policy says so.
    pub(crate) fn dropped_before(&self) -> SegmentId {
        let now = self.current_settings().map(|settings| settings.dropped_before);
        now.unwrap_or(self.settings().dropped_before)
    }

    /// Refuses to change a log that this engine may only read.
    pub(crate) fn require_writable(&self) -> Result<()> {
        match self.settings().features.unwritable() {
            None => Ok(()),
            Some(why) => Err(Error::new(ErrorKind::Unsupported, "change the log", why).at(&self.dir)),
        }
    }

    pub(crate) fn boot(&self) -> [u8; 16] {
        self.checked().map_or([0; 16], Checked::boot)
    }

    pub(crate) fn is_of_now(&self, control: &Control) -> bool {
        self.checked().is_some_and(|checked| checked.is_of_now(control))
    }

    /// What the control file of a checksummed log says.
    pub(crate) fn control(&self) -> Result<Option<Control>> {
        self.checked().map_or(Ok(None), |checked| checked.control(&*self.disk, &self.dir))
    }

    pub(crate) fn is_control_whole(&self) -> bool {
        self.checked().is_none_or(|checked| checked.is_control_whole(&*self.disk, &self.dir))
    }

    /// What is wrong with the metastore, if anything is.
    pub(crate) fn metastore_problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// The metastore as it is now; of a checksummed log, what it would say in the classic format.
    pub(crate) fn metastore(&self) -> Result<Metastore> {
        match (&self.layout, &self.metastore) {
            (Form::Classic(meta), None) => Ok(*meta),
            (Form::Classic(_), Some(file)) => self.decode(file),
            (Form::Checked(_), _) => {
                let settings = self.current_settings()?;
                Ok(Metastore {
                    active: self.active()?,
                    unit_limit: settings.segment_size,
                    safety: settings.durability.safety(),
                    magic: 0,
                    order: Order::Little,
                    len: 2 * crate::record::slots::SLOT,
                })
            }
        }
    }

    /// Reads the metastore of a classic log through a handle of the caller's.
    pub(crate) fn decode(&self, file: &File) -> Result<Metastore> {
        let Form::Classic(meta) = &self.layout else { return self.metastore() };
        // Of 12 bytes or 16. On the stack: readers that wait ask all the time.
        let mut bytes = [0; META_LEN];
        let bytes = &mut bytes[..meta.len.min(META_LEN)];
        file.pread(bytes, 0)?;
        match Metastore::decode(bytes, meta.order) {
            Ok(now) if now.magic == meta.magic => Ok(now),
            Ok(_) => {
                Err(Error::damaged("read the metastore", file.path(), 12, "its record magic has changed"))
            }
            Err(reason) => Err(Error::damaged("read the metastore", file.path(), 0, reason.to_string())),
        }
    }

    /// The segment that is written to now.
    pub(crate) fn active(&self) -> Result<SegmentId> {
        let meta = match (&self.layout, &self.metastore) {
            (Form::Checked(checked), _) => return self.checked_active(checked),
            (Form::Classic(_), Some(file)) => self.decode(file)?,
            (Form::Classic(meta), None) => {
                return Ok(self.listing()?.last_segment().unwrap_or_default().max(meta.active));
            }
        };
        let known = SegmentId(self.floor.load(Ordering::Relaxed));
        if known <= meta.active { Ok(meta.active) } else { Ok(self.caught_up(&meta, &self.listing()?)) }
    }

    /// In the checksummed format it is the last one there is: a segment is made only when the one before is complete.
    fn checked_active(&self, checked: &Checked) -> Result<SegmentId> {
        if let Some((id, _)) = &self.lone {
            return Ok(*id);
        }
        match checked.control(&*self.disk, &self.dir)? {
            // A later segment that was there when the log was opened is later all the same.
            Some(control) if checked.is_of_now(&control) => {
                Ok(control.written.segment.max(SegmentId(self.floor.load(Ordering::Relaxed))))
            }
            // What it says of another boot's writers is void, but not what they had on the disk.
            told => {
                let durable = told.map(|control| control.durable.segment).unwrap_or_default();
                Ok(self.listing()?.last_segment().unwrap_or_default().max(durable))
            }
        }
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

    /// How many records a segment that is not there is known to have had on the disk; 0 if nothing tells of any.
    pub(crate) fn durable_in(&self, id: SegmentId) -> Result<u32> {
        let told = self.control()?.map(|control| control.durable);
        Ok(told.filter(|durable| durable.segment == id).map_or(0, |durable| durable.marker))
    }

    /// The highest segment that is known to exist, without a look at the disk.
    pub(crate) fn seen(&self) -> SegmentId {
        SegmentId(self.floor.load(Ordering::Relaxed))
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

/// What a reader wants to see of the active segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Sight {
    /// Records that are acknowledged: in a log that syncs them first, those on the disk.
    #[default]
    Acknowledged,
    /// All that is written.
    Written,
}
