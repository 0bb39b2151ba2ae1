//! The log: who may append, who has read what, what may be deleted.
//!
//! - `names`, `detect`, `shared`: what lies in the directory, how its bytes are laid out, what all handles share
//! - `writer`, `pre_commit`, `kept`: appending; what is cut off is kept
//! - `cursor`, `gap`, `reader`, `checkpoints`: reading, and what may be deleted once it is read
//! - [`inspect`], [`repair`]: looking without touching; mending by plan

mod checked;
mod checkpoints;
mod classic_writer;
mod cursor;
mod detect;
mod durability;
#[cfg(feature = "async")]
mod future;
mod gap;
pub mod inspect;
mod kept;
mod lag;
mod libjlog;
mod linger;
mod metrics;
mod names;
mod pre_commit;
mod reader;
pub mod repair;
mod shared;
mod writer;

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

pub use checked::settings::{Retention, WhenFull};
pub use checkpoints::{Checkpoint, Pending};
pub use cursor::{Cursor, OnDamage, Record, Tail};
pub use durability::Durability;
#[cfg(feature = "async")]
pub use future::{Append, Ready};
pub use gap::{Gap, GapKind};
pub use lag::Lag;
pub use libjlog::Index;
pub use metrics::Counts;
pub use names::Subscriber;
pub use reader::{Interval, Reader};
pub use writer::{Entry, Place, Recovery, Writer, WriterOptions};

use crate::error::{Error, ErrorKind, Result};
use crate::id::{Marker, RecordId, SegmentId, Timestamp};
use crate::io::{Disk, File, Open, OsDisk, PathKind};
use crate::order::Order;
use crate::record::Compression;
use crate::record::checked::{Kind, LogIdentity};
use crate::record::classic::{DEFAULT_UNIT_LIMIT, META_LEN, Metastore, Safety};
use crate::record::walk::{Step, Walk};
use crate::segment::{IndexCheck, IndexDetails, SegmentSource, build_index};
use names::{Listing, METASTORE, NEW_METASTORE};
use shared::{Shared, Sight};

/// The format of a log's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Format {
    /// This engine's own: every meaningful byte is covered by a checksum (`docs/format-checksummed.md`).
    #[default]
    Checksummed,
    /// libjlog 2.x's, bit for bit, for logs that C processes write or read (`docs/format-classic.md`).
    Classic,
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Format::Checksummed => "checksummed",
            Format::Classic => "classic",
        })
    }
}

/// How a log is made: see [`Log::create_with`].
#[derive(Debug, Clone)]
pub struct CreateOptions {
    format: Format,
    segment_size: u32,
    safety: Safety,
    durability: Option<Durability>,
    compression: Compression,
    order: Order,
    mode: u32,
    created: Timestamp,
    retention: Retention,
}

impl Default for CreateOptions {
    fn default() -> CreateOptions {
        CreateOptions {
            format: Format::Checksummed,
            segment_size: DEFAULT_UNIT_LIMIT,
            safety: Safety::AlmostSafe,
            durability: None,
            compression: Compression::None,
            order: Order::native(),
            mode: 0o640,
            created: Timestamp::default(),
            retention: Retention::default(),
        }
    }
}

impl CreateOptions {
    /// A checksummed log that syncs before it acknowledges: segments of 4 MiB, not compressed, mode 0640.
    pub fn new() -> CreateOptions {
        CreateOptions::default()
    }

    /// libjlog's format and defaults: segments of 4 MiB, almost safe, not compressed, this machine's byte order, mode 0640.
    pub fn classic() -> CreateOptions {
        CreateOptions { format: Format::Classic, ..CreateOptions::default() }
    }

    /// The format, for the log's whole life.
    pub fn format(mut self, format: Format) -> CreateOptions {
        self.format = format;
        self
    }

    /// The size in bytes at which a segment is finished. A record is never split: the one that reaches the size is the
    /// segment's last. 0 is refused by [`Log::create_with`].
    pub fn segment_size(mut self, bytes: u32) -> CreateOptions {
        self.segment_size = bytes;
        self
    }

    /// What an acknowledgement promises, where a writer does not say otherwise. The default is [`Durability::Sync`]. A classic
    /// log keeps the safety level that comes nearest.
    pub fn durability(mut self, durability: Durability) -> CreateOptions {
        self.durability = Some(durability);
        self.safety = durability.safety();
        self
    }

    /// libjlog's safety level. In a checksummed log it stands for a durability: see [`Durability::of_safety`].
    pub fn safety(mut self, safety: Safety) -> CreateOptions {
        self.safety = safety;
        self.durability = Some(Durability::of_safety(safety));
        self
    }

    /// How messages are stored: in a classic log for its whole life and every record, in a checksummed one for those
    /// that become shorter by it. [`Compression::Null`] is for classic logs alone; here it is no compression.
    pub fn compression(mut self, compression: Compression) -> CreateOptions {
        self.compression = compression;
        self
    }

    /// The byte order of a classic log, for its whole life. Running libjlog processes want their machine's. A checksummed
    /// log has one order everywhere.
    pub fn order(mut self, order: Order) -> CreateOptions {
        self.order = order;
        self
    }

    /// The permission bits of the log's files (less the umask); its directory gets them with an x for every r.
    pub fn mode(mut self, mode: u32) -> CreateOptions {
        self.mode = mode & 0o666;
        self
    }

    /// The time it is now, which a checksummed log remembers as its beginning. The default is 0: not told.
    pub fn created(mut self, time: Timestamp) -> CreateOptions {
        self.created = time;
        self
    }

    /// How long records are kept, beside what subscribers ask for. A classic log has no place for that:
    /// [`Log::create_with`] refuses it there.
    pub fn retention(mut self, retention: Retention) -> CreateOptions {
        self.retention = retention;
        self
    }

    /// The bytes of the metastore.
    fn metastore(&self, disk: &dyn Disk, dir: &Path) -> Result<Vec<u8>> {
        if self.format == Format::Checksummed {
            let random = disk.random().map_err(|e| Error::io("find an identity for the log", dir, e))?;
            return Ok(checked::settings::Settings {
                segment_size: self.segment_size,
                durability: self.durability.unwrap_or(Durability::Sync),
                compression: self.compression,
                created: self.created,
                retention: self.retention,
                ..checked::settings::Settings::new(LogIdentity(random))
            }
            .encode_file());
        }
        if self.retention != Retention::default() {
            let what = "a classic log has no place for a retention policy";
            return Err(Error::new(ErrorKind::Unsupported, "create the log", what).at(dir));
        }
        let meta = Metastore {
            active: SegmentId(0),
            unit_limit: self.segment_size,
            safety: self.safety,
            magic: self.compression.magic(),
            order: self.order,
            len: META_LEN,
        };
        Ok(meta.encode())
    }
}

/// Where a new subscriber starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// With the oldest record that is kept.
    Begin,
    /// Behind the newest record that readers can see.
    End,
    /// Behind this record. It must be between the oldest and the newest.
    After(RecordId),
    /// With the first record that is not earlier than this time.
    At(Timestamp),
    /// Where another subscriber is.
    CopyOf(Subscriber),
}

/// A log. Opening one reads its metastore and lists its directory; it changes nothing and takes no lock.
///
/// It can be opened, and read, without write permission, on a read-only file system, in either byte order, beside
/// any number of processes that write to it, and with a metastore that is damaged or missing.
#[derive(Debug, Clone)]
pub struct Log {
    shared: Arc<Shared>,
}

impl Log {
    /// Makes a log with the default options: checksummed, synced before it acknowledges. Durable, name and all, when it
    /// returns. For libjlog's format see [`CreateOptions::classic`].
    pub fn create(path: impl AsRef<Path>) -> Result<Log> {
        Log::create_with(path, &CreateOptions::default())
    }

    /// Makes a log. Durable, name and all, when it returns; there is no segment before the first writer.
    ///
    /// # Errors
    /// [`AlreadyExists`](ErrorKind::AlreadyExists) if anything is at the path; [`NotFound`](ErrorKind::NotFound) without its parent directory;
    /// [`Invalid`](ErrorKind::Invalid) for a segment size of 0.
    pub fn create_with(path: impl AsRef<Path>, options: &CreateOptions) -> Result<Log> {
        Log::create_on(Arc::new(OsDisk), path, options)
    }

    /// As [`Log::create_with`], on a disk of the caller's.
    pub fn create_on(disk: Arc<dyn Disk>, path: impl AsRef<Path>, options: &CreateOptions) -> Result<Log> {
        let dir = path.as_ref();
        if options.segment_size == 0 {
            return Err(Error::new(
                ErrorKind::Invalid,
                "create the log",
                "segments of 0 bytes would never fill",
            )
            .at(dir));
        }
        let metastore = options.metastore(&*disk, dir)?;
        let exec = (options.mode & 0o444) >> 2;
        disk.create_dir(dir, options.mode | exec).map_err(|e| Error::io("create the log", dir, e))?;
        let made = (|| {
            // Named once it is whole: whoever is killed here leaves a log, or none.
            let (new, path) = (dir.join(NEW_METASTORE), dir.join(METASTORE));
            let file = File::open(&*disk, &new, Open::CreateNew(options.mode))?;
            file.pwrite(&metastore, 0)?;
            file.sync()?;
            disk.rename(&new, &path).map_err(|e| Error::io("give the metastore its name", &path, e))?;
            disk.sync_dir(dir).map_err(|e| Error::io("sync the directory", dir, e))?;
            kept::sync_parent(&*disk, &absolute(dir))?;
            Log::open_on(Arc::clone(&disk), dir)
        })();
        if made.is_err() {
            // What is not a log yet must not be in the way of the next attempt.
            let _ = disk.remove(&dir.join(NEW_METASTORE));
            let _ = disk.remove(&dir.join(METASTORE));
            let _ = disk.remove_dir(dir);
        }
        made
    }

    /// Opens a log, whatever format and byte order it is in.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if there is nothing; [`NotALog`](ErrorKind::NotALog) if it is a file, or a directory without any of a log's files.
    pub fn open(path: impl AsRef<Path>) -> Result<Log> {
        Log::open_on(Arc::new(OsDisk), path)
    }

    /// As [`Log::open`], on a disk of the caller's.
    pub fn open_on(disk: Arc<dyn Disk>, path: impl AsRef<Path>) -> Result<Log> {
        Log::open_with(disk, path, None)
    }

    /// As [`Log::open_on`], in a byte order of the caller's instead of the one detected.
    pub fn open_with(disk: Arc<dyn Disk>, path: impl AsRef<Path>, order: Option<Order>) -> Result<Log> {
        let dir = path.as_ref();
        names::require_directory(&*disk, dir)?;
        let listing = Listing::read(&*disk, dir)?;
        if !listing.is_a_log() {
            let what =
                "the directory holds no metastore, no segments and no checkpoints; `jlog create` makes a log";
            return Err(Error::new(ErrorKind::NotALog, "open the log", what).at(dir));
        }
        let detected = detect::detect(&disk, dir, &listing, order)?;
        let shared = Shared::new(disk, dir, detected, &listing)?;
        Ok(Log { shared: Arc::new(shared) })
    }

    /// Opens one segment file by itself, to look at it: as a log of this one segment, with nothing else in it.
    ///
    /// # Errors
    /// [`NotALog`](ErrorKind::NotALog) if it holds no record that can be recognised.
    pub fn open_segment(disk: Arc<dyn Disk>, file: impl AsRef<Path>, order: Option<Order>) -> Result<Log> {
        let path = absolute(file.as_ref());
        let name = path.file_name().map(OsStrExt::as_bytes).unwrap_or_default();
        let id = SegmentId::from_file_name(name).unwrap_or_default();
        let detected = detect::detect_segment(&*disk, &path, id, order)?;
        let shared = Shared::lone(disk, &path, id, detected);
        // A checksummed segment says itself which one it is, whatever its file is called.
        let said = shared.checked().map_or(Ok(None), |_| shared.any_header(id))?.map(|header| header.segment);
        let shared = match said {
            Some(said) if said != id.0 => shared.called(SegmentId(said)),
            _ => shared,
        };
        Ok(Log { shared: Arc::new(shared) })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        self.shared.dir()
    }

    /// The metastore as it is now; if it is damaged or missing, what the log's other files say it should be.
    pub fn metastore(&self) -> Result<Metastore> {
        self.shared.metastore()
    }

    /// What is wrong with the metastore, if anything is. Such a log can be read but not written.
    pub fn metastore_problem(&self) -> Option<&str> {
        self.shared.metastore_problem()
    }

    /// The format of its files.
    pub fn format(&self) -> Format {
        if self.shared.checked().is_some() { Format::Checksummed } else { Format::Classic }
    }

    /// Which log it is: a checksummed one was given an identity when it was made, a classic one has none.
    pub fn identity(&self) -> Option<LogIdentity> {
        self.shared.checked().map(|checked| checked.log)
    }

    /// What an acknowledgement promises where a writer does not say otherwise.
    pub fn durability(&self) -> Result<Durability> {
        match self.format() {
            Format::Checksummed => Ok(self.shared.current_settings()?.durability),
            Format::Classic if self.metastore()?.safety == Safety::Safe => Ok(Durability::Sync),
            Format::Classic => Ok(Durability::Process),
        }
    }

    /// The last record that is known to be on the disk, whichever process wrote it; `None` in a classic log, or where
    /// nobody has told since the machine was booted: then what can be read is what the disk has.
    pub fn durable_id(&self) -> Result<Option<RecordId>> {
        let control = self.shared.control()?.filter(|control| self.shared.is_of_now(control));
        Ok(control.map(|control| control.durable.id()))
    }

    /// The process that owns a checksummed log now: its writer keeps others out. `None` if nobody does, or several share it.
    pub fn owner(&self) -> Result<Option<u32>> {
        let checked = self.shared.checked();
        checked.map_or(Ok(None), |checked| checked.owner(&**self.shared.disk(), self.path()))
    }

    /// What this process has done with the log since it was opened.
    pub fn counts(&self) -> Counts {
        self.shared.metrics().read()
    }

    /// How records are stored.
    pub fn compression(&self) -> Compression {
        self.shared.compression()
    }

    /// The log's byte order.
    pub fn order(&self) -> Order {
        self.shared.codec().order
    }

    /// A writer, beside others. What a crash has left torn at the end is cut off first, and kept aside.
    ///
    /// # Errors
    /// [`Damaged`](ErrorKind::Damaged) if the metastore is; [`Permission`](ErrorKind::Permission) without write access.
    pub fn writer(&self) -> Result<Writer> {
        self.writer_with(&WriterOptions::default())
    }

    /// A writer that works as the options say.
    pub fn writer_with(&self, options: &WriterOptions) -> Result<Writer> {
        Writer::open(Arc::clone(&self.shared), options)
    }

    /// A reader for a subscriber, from its checkpoint on.
    ///
    /// # Errors
    /// [`UnknownSubscriber`](ErrorKind::UnknownSubscriber), or [`Damaged`](ErrorKind::Damaged) if its checkpoint is.
    pub fn reader(&self, subscriber: &Subscriber) -> Result<Reader> {
        Reader::open(Arc::clone(&self.shared), subscriber)
    }

    /// A cursor that belongs to no subscriber, from the oldest record on.
    pub fn cursor(&self) -> Result<Cursor> {
        // What was made ahead of the active segment holds nothing yet, and a cursor there would be beyond the end.
        let first = self.first_segment()?.min(self.shared.active()?);
        Ok(self.cursor_after(checkpoints::start_of(first)))
    }

    /// A cursor that belongs to no subscriber, from the first record behind `after` on.
    pub fn cursor_after(&self, after: RecordId) -> Cursor {
        Cursor::new(Arc::clone(&self.shared), after)
    }

    /// A cursor that belongs to no subscriber, from the first record on that is not earlier than `time`.
    ///
    /// In a checksummed log it reads the headers of some segments and the index of one; in a classic one all records
    /// before it.
    pub fn cursor_from(&self, time: Timestamp) -> Result<Cursor> {
        if self.shared.checked().is_none() {
            let mut cursor = self.cursor()?;
            cursor.skip_to_time(time)?;
            return Ok(cursor);
        }
        let segments = self.list()?.segments;
        // All before a segment is earlier if the latest time before it is: headers are asked for by bisection, and one
        // that is damaged says no, which costs a longer way.
        let (mut from, mut to) = (0, segments.len());
        while from + 1 < to {
            let middle = from + (to - from) / 2;
            let header = self.shared.header(segments[middle])?;
            if header.is_some_and(|header| header.latest_before < time) { from = middle } else { to = middle }
        }
        let Some(start) = segments.get(from).copied() else { return self.cursor() };
        let mut cursor = self.cursor_after(checkpoints::start_of(start));
        let entry = self.shared.read_index(start)?.and_then(|index| index.before_time(time));
        if let Some(entry) = entry.filter(|_| start < self.shared.active().unwrap_or_default()) {
            cursor.resume_at(entry.offset, entry.marker)?;
        }
        cursor.skip_to_time(time)?;
        Ok(cursor)
    }

    /// Reads one record by the place where it stands: `offset` is that of its header in the segment's file, as
    /// [`Place`] and [`Record`] tell it. `payload` is cleared, and holds the message then.
    ///
    /// One system call, if the segment is held open (a few dozen are, those read last) and the record is not longer than
    /// `expected_len` bytes, which is a guess; two, if it is. The checksums of its header, of its place and of its message
    /// are compared. Several threads may read at the same time. What is written and not yet acknowledged is read as well.
    ///
    /// # Errors
    /// [`NoSuchRecord`](ErrorKind::NoSuchRecord) if the segment is not there, or was reclaimed;
    /// [`Damaged`](ErrorKind::Damaged), with file and offset, if no sound record of this place stands there;
    /// [`Unsupported`](ErrorKind::Unsupported) for a classic log.
    pub fn read_at(
        &self,
        segment: SegmentId,
        offset: u64,
        expected_len: usize,
        payload: &mut Vec<u8>,
    ) -> Result<(Kind, Timestamp)> {
        self.require_checked("read the record")?;
        checked::point::read(&self.shared, segment, offset, expected_len, payload)
    }

    /// How far a subscriber is behind what readers can see.
    ///
    /// In a checksummed log it reads no more than two segments, whatever lies between them; in a classic one all of it.
    pub fn lag(&self, subscriber: &Subscriber) -> Result<Lag> {
        lag::of(&self.shared, self.checkpoint(subscriber)?)
    }

    /// Adds a subscriber. Durable when it returns.
    ///
    /// # Errors
    /// [`SubscriberExists`](ErrorKind::SubscriberExists); [`Invalid`](ErrorKind::Invalid) for a start that is not in the log;
    /// [`UnknownSubscriber`](ErrorKind::UnknownSubscriber) if the one to copy is.
    pub fn add_subscriber(&self, subscriber: &Subscriber, start: Start) -> Result<()> {
        let metastore = File::open(&**self.shared.disk(), &self.path().join(METASTORE), Open::ReadWrite)?;
        // Keeps what the new checkpoint needs from being pruned before it is there.
        let _lock = metastore.lock()?;
        let at = match start {
            Start::Begin => checkpoints::start_of(self.first_segment()?),
            Start::End => self.last_id()?,
            Start::After(id) => self.require_inside(id)?,
            Start::At(time) => {
                let cursor = self.cursor_from(time)?;
                cursor.last_id().unwrap_or(checkpoints::start_of(cursor.segment()))
            }
            Start::CopyOf(other) => checkpoints::of(&self.shared, &other)?,
        };
        checkpoints::create(&self.shared, subscriber, at, writer::data_mode(&self.shared)?)
    }

    /// Removes a subscriber; false if there was none. Durable when it returns. What only it wanted stays until
    /// [`Log::clean`], or until another subscriber's checkpoint moves past it.
    pub fn remove_subscriber(&self, subscriber: &Subscriber) -> Result<bool> {
        let path = names::checkpoint_path(self.path(), subscriber);
        match self.shared.disk().remove(&path) {
            Ok(()) => checkpoints::sync_names(&self.shared).map(|()| true),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Error::io("remove the subscriber", &path, error)),
        }
    }

    /// The subscribers, by name.
    pub fn subscribers(&self) -> Result<Vec<Subscriber>> {
        Ok(self.list()?.subscribers)
    }

    /// A subscriber's checkpoint: the last record it is done with.
    pub fn checkpoint(&self, subscriber: &Subscriber) -> Result<RecordId> {
        checkpoints::of(&self.shared, subscriber)
    }

    /// Moves a subscriber's checkpoint, forward or back, and removes the segments that nobody wants any more because
    /// of it. In the kernel when it returns; on disk at safety level safe, and whenever a segment is left behind.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) if the log has no such place: nothing is changed then.
    pub fn set_checkpoint(&self, subscriber: &Subscriber, to: RecordId) -> Result<Vec<SegmentId>> {
        self.require_inside(to)?;
        checkpoints::advance(&self.shared, subscriber, to)
    }

    /// The start of the oldest segment: marker 0, as the id of "before the first record".
    pub fn first_id(&self) -> Result<RecordId> {
        Ok(checkpoints::start_of(self.first_segment()?))
    }

    /// The id of the newest record that readers can see; marker 0 if the active segment has none.
    pub fn last_id(&self) -> Result<RecordId> {
        let segment = self.shared.active()?;
        let Some(mut walk) = self.walk(segment)? else { return Ok(checkpoints::start_of(segment)) };
        while !matches!(walk.step()?, Step::End(_)) {}
        Ok(RecordId { segment, marker: Marker(walk.marker()) })
    }

    /// The segments that are there, in order.
    pub fn segments(&self) -> Result<Vec<SegmentId>> {
        Ok(self.list()?.segments)
    }

    /// The segment that is written to now.
    pub fn active_segment(&self) -> Result<SegmentId> {
        self.shared.active()
    }

    /// How many subscribers still want a segment, and the first one that anybody wants.
    pub fn pending_readers(&self, segment: SegmentId) -> Result<Pending> {
        checkpoints::pending(&self.shared, segment)
    }

    /// Removes every segment before the first one that a subscriber wants, and says which.
    ///
    /// The active segment always stays; without subscribers, or while a checkpoint cannot be read, everything does.
    pub fn clean(&self) -> Result<Vec<SegmentId>> {
        if let Some(problem) = self.metastore_problem() {
            let what = format!("the metastore cannot be believed ({problem}), so nothing is deleted");
            return Err(Error::damaged("clean the log", &self.path().join(METASTORE), 0, what));
        }
        checkpoints::prune(&self.shared, SegmentId(0), SegmentId(u32::MAX))
    }

    /// Removes every segment before this one, whoever has not read it, but for the active one. It is remembered that they
    /// were removed on purpose: subscribers meet a gap of kind [`Dropped`](GapKind::Dropped).
    ///
    /// # Errors
    /// [`Unsupported`](ErrorKind::Unsupported) for a classic log, which has no place to remember that.
    pub fn drop_before(&self, segment: SegmentId) -> Result<Vec<SegmentId>> {
        if self.shared.checked().is_none() || self.metastore_problem().is_some() {
            let what = "only a sound checksummed log can remember what was dropped unread";
            return Err(Error::new(ErrorKind::Unsupported, "drop segments", what).at(self.path()));
        }
        checkpoints::drop_before(&self.shared, segment)
    }

    /// Gives back the space of a finished segment whose records nobody needs any more, whatever lies before and behind it.
    /// What stays of it is a stub of less than 200 bytes that stands for all of its records: every other id stays what it
    /// is, and nothing is missing. Cursors pass over it; a subscriber who had not read all of it meets a gap of kind
    /// [`Reclaimed`](GapKind::Reclaimed). Who still has the old file open may read it to its end.
    ///
    /// Durable when it returns, after one sync of a small file and two of the directory; broken off anywhere, the segment
    /// is whole or it is the stub. A segment that was reclaimed before stays as it is. Where all segments up to some place
    /// can go, [`Log::drop_before`] is better: it leaves nothing.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) for the active segment; [`NoSuchRecord`](ErrorKind::NoSuchRecord) for one that is
    /// not there; [`Damaged`](ErrorKind::Damaged) if its header is; [`NoSpace`](ErrorKind::NoSpace) if there is none for
    /// the stub; [`Unsupported`](ErrorKind::Unsupported) for a classic log, and one whose metastore is damaged.
    pub fn reclaim(&self, segment: SegmentId) -> Result<()> {
        self.require_checked("reclaim the segment")?;
        if self.shared.is_lone() || self.metastore_problem().is_some() {
            let what = "only a log with a sound metastore can be changed";
            return Err(Error::new(ErrorKind::Unsupported, "reclaim the segment", what).at(self.path()));
        }
        checked::reclaim::reclaim(&self.shared, segment)
    }

    /// Whether a segment was [reclaimed](Log::reclaim). Reads its first 184 bytes. A finished segment that never had a
    /// record, and takes no room, is as good as reclaimed.
    ///
    /// # Errors
    /// [`NoSuchRecord`](ErrorKind::NoSuchRecord) for a segment that is not there; [`Unsupported`](ErrorKind::Unsupported)
    /// for a classic log.
    pub fn is_reclaimed(&self, segment: SegmentId) -> Result<bool> {
        self.require_checked("look at the segment")?;
        checked::reclaim::is_reclaimed(&self.shared, segment)
    }

    /// What [`Log::clean`] would remove now.
    pub fn cleanable(&self) -> Result<Vec<SegmentId>> {
        let listing = self.list()?;
        let Some(earliest) = checkpoints::earliest_wanted(&self.shared, &listing)? else {
            return Ok(Vec::new());
        };
        let limit = earliest.min(self.shared.active()?);
        Ok(listing.segments.into_iter().filter(|id| *id < limit).collect())
    }

    /// The bytes of all regular files in the directory (not in `.repair/`).
    pub fn size(&self) -> Result<u64> {
        let disk = self.shared.disk();
        let names = disk.names(self.path()).map_err(|e| Error::io("list the directory", self.path(), e))?;
        let mut total = 0;
        for name in names {
            match disk.info(&self.path().join(name), false) {
                Ok(info) if info.kind == PathKind::File => total += info.len,
                // Anything else, or removed since the directory was listed.
                _ => {}
            }
        }
        Ok(total)
    }

    /// What the index of a segment lists, and how it stands to the data, which is read in full for that.
    ///
    /// # Errors
    /// [`NoSuchRecord`](ErrorKind::NoSuchRecord) if there is no such segment.
    pub fn index_details(&self, segment: SegmentId) -> Result<IndexDetails> {
        if self.shared.checked().is_some() {
            let made = checked::index::of(&self.shared, segment)?;
            let Some(made) = made else { return Err(self.no_segment(segment)) };
            return checked::index::compare(&self.shared, segment, &made);
        }
        let Some(mut walk) = self.walk(segment)? else { return Err(self.no_segment(segment)) };
        let path = self.shared.index_path(segment);
        let mut check = IndexCheck::open(&**self.shared.disk(), &path, self.shared.codec())?;
        loop {
            match walk.step()? {
                Step::Record(found) => check.record(u64::from(found.marker) - 1, found.offset)?,
                Step::Hole(_) => {}
                Step::End(_) => {
                    let (details, _) =
                        check.finish(u64::from(walk.marker()), walk.end(), walk.is_sealed())?;
                    return Ok(details);
                }
            }
        }
    }

    /// Makes the index of a segment anew: of a classic one for libjlog's readers, who then need not, of a checksummed
    /// one for who seeks in it. In the kernel when it returns.
    ///
    /// # Errors
    /// [`Damaged`](ErrorKind::Damaged) if the segment is: an index over damage would hide it. [`Invalid`](ErrorKind::Invalid) for the active segment
    /// of a checksummed log, whose writer makes it when it finishes the segment.
    pub fn build_index(&self, segment: SegmentId) -> Result<IndexDetails> {
        if self.shared.checked().is_some() {
            checked::index::build(&self.shared, segment)?;
            return self.index_details(segment);
        }
        let Some(mut walk) = self.walk(segment)? else { return Err(self.no_segment(segment)) };
        let sealed = walk.is_sealed();
        let bytes = build_index(&mut walk, self.shared.codec(), sealed)?;
        let path = self.shared.index_path(segment);
        let file = File::open(&**self.shared.disk(), &path, Open::Create(writer::data_mode(&self.shared)?))?;
        // In place, under the lock that libjlog's readers take to extend it.
        let _lock = file.lock()?;
        file.truncate(0)?;
        file.pwrite(&bytes, 0)?;
        self.index_details(segment)
    }

    /// Changes the segment size of later segments. Running writers, libjlog's too, follow at their next append (an
    /// exclusive one when it finishes its segment). On disk when it returns.
    pub fn set_segment_size(&self, bytes: u32) -> Result<()> {
        if bytes == 0 {
            let what = "segments of 0 bytes would never fill";
            return Err(Error::new(ErrorKind::Invalid, "change the segment size", what).at(self.path()));
        }
        if self.shared.checked().is_some() {
            return self.change(|settings| settings.segment_size = bytes);
        }
        self.store(4, bytes)
    }

    /// Changes the safety level; of a checksummed log, the durability it stands for. On disk when it returns.
    pub fn set_safety(&self, safety: Safety) -> Result<()> {
        if self.shared.checked().is_some() {
            return self.set_durability(Durability::of_safety(safety));
        }
        self.store(8, safety.number())
    }

    /// Changes what acknowledgements promise, for writers opened from now on; of a classic log, the safety level that
    /// comes nearest. On disk when it returns.
    pub fn set_durability(&self, durability: Durability) -> Result<()> {
        if self.shared.checked().is_some() {
            return self.change(|settings| settings.durability = durability);
        }
        self.store(8, durability.safety().number())
    }

    /// How long records are kept, beside what subscribers ask for.
    pub fn retention(&self) -> Result<Retention> {
        Ok(self.shared.current_settings()?.retention)
    }

    /// Changes how long records are kept. On disk when it returns.
    ///
    /// # Errors
    /// [`Unsupported`](ErrorKind::Unsupported) for a classic log.
    pub fn set_retention(&self, retention: Retention) -> Result<()> {
        if self.shared.checked().is_none() {
            let what = "a classic log has no place for a retention policy";
            return Err(Error::new(ErrorKind::Unsupported, "change the retention", what).at(self.path()));
        }
        self.change(|settings| settings.retention = retention)
    }

    fn change(&self, change: impl FnOnce(&mut checked::settings::Settings)) -> Result<()> {
        if let Some(problem) = self.metastore_problem() {
            let path = self.path().join(METASTORE);
            return Err(Error::damaged("change the metastore", &path, 0, problem));
        }
        checked::settings::Settings::change(&**self.shared.disk(), self.path(), change).map(drop)
    }

    /// Stores one field of the metastore in place, as libjlog does: running processes have the file mapped.
    fn store(&self, at: u64, number: u32) -> Result<()> {
        let path = self.path().join(METASTORE);
        if let Some(problem) = self.metastore_problem() {
            return Err(Error::damaged("change the metastore", &path, 0, problem));
        }
        let file = File::open(&**self.shared.disk(), &path, Open::ReadWrite)?;
        let _lock = file.lock()?;
        let mut word = [0; 4];
        self.order().put_u32(&mut word, number);
        file.pwrite(&word, at)?;
        file.sync()
    }

    fn list(&self) -> Result<Listing> {
        self.shared.listing()
    }

    fn first_segment(&self) -> Result<SegmentId> {
        match self.list()?.segments.first() {
            Some(first) => Ok(*first),
            None => self.shared.active(),
        }
    }

    fn walk(&self, segment: SegmentId) -> Result<Option<Walk<SegmentSource>>> {
        self.shared.walk(segment, Sight::Acknowledged)
    }

    fn require_checked(&self, doing: &'static str) -> Result<()> {
        if self.shared.checked().is_some() {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Unsupported, doing, "only a checksummed log can do that").at(self.path()))
    }

    fn no_segment(&self, segment: SegmentId) -> Error {
        let what = format!("the log has no segment {segment}");
        Error::new(ErrorKind::NoSuchRecord, "look at the segment", what).at(self.path())
    }

    /// A checkpoint may be the start of a segment that is there, any of its records, or the start of the active one.
    fn require_inside(&self, id: RecordId) -> Result<RecordId> {
        let outside =
            |what: String| Err(Error::new(ErrorKind::Invalid, "move the checkpoint", what).at(self.path()));
        let (first, active) = (self.first_segment()?, self.shared.active()?);
        if id.segment < first || id.segment > active {
            return outside(format!("{id} is outside the log, which holds segments {first} to {active}"));
        }
        if id.marker == Marker(0) {
            return Ok(id);
        }
        let Some(mut walk) = self.walk(id.segment)? else {
            return outside(format!("segment {} is missing", id.segment));
        };
        while walk.marker() < id.marker.0 && !matches!(walk.step()?, Step::End(_)) {}
        if walk.marker() < id.marker.0 {
            let last = RecordId { segment: id.segment, marker: Marker(walk.marker()) };
            return outside(format!("{id} is beyond the segment's last message {last}"));
        }
        Ok(id)
    }
}

/// The path with a parent that can be opened: `events` lies in `.`.
fn absolute(dir: &Path) -> std::path::PathBuf {
    if dir.parent().is_some_and(|parent| parent.as_os_str().is_empty()) {
        Path::new(".").join(dir)
    } else {
        dir.to_path_buf()
    }
}
