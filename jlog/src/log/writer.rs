//! `Writer`: appends to a log of either format.

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::checked::control::Mark;
use super::checked::group::Group;
use super::checked::writer::CheckedWriter;
use super::classic_writer::ClassicWriter;
use super::durability::Durability;
use super::names::METASTORE;
use super::shared::Shared;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{RecordId, SegmentId, Timestamp};
use crate::io::{forks, require_process};
use crate::record::checked::Kind;
use crate::sync::thread::{self, JoinHandle};
use crate::sync::{Condvar, Mutex};

/// How a [`Writer`] works.
#[derive(Debug, Clone, Default)]
pub struct WriterOptions {
    pub(crate) durability: Option<Durability>,
    pub(crate) exclusive: Option<bool>,
    pub(crate) buffer: Option<u32>,
    pub(crate) linger: Option<Duration>,
}

impl WriterOptions {
    /// The defaults: as durable as the log says, unbuffered. A checksummed log is owned, a classic one shared.
    pub fn new() -> WriterOptions {
        WriterOptions::default()
    }

    /// What an acknowledgement promises. The default of a checksummed log is what it was made with; of a classic one
    /// [`Durability::Sync`] at safety level safe, else [`Durability::Process`].
    pub fn durability(mut self, durability: Durability) -> WriterOptions {
        self.durability = Some(durability);
        self
    }

    /// Whether this writer owns the log. An owner holds the lock that others take for each append: he is several times
    /// faster, groups the syncs of all his threads, and is the default for checksummed logs. A second owner is refused
    /// with [`Busy`](ErrorKind::Busy) and told who the first is; writers that share (`false`) wait until he has closed.
    /// Readers are not affected. Sharing is the default for classic logs, which libjlog's processes write as well.
    pub fn exclusive(mut self, exclusive: bool) -> WriterOptions {
        self.exclusive = Some(exclusive);
        self
    }

    /// Classic logs only: gathers records in the log's pre_commit file, `bytes` large, and moves them to the segment when it is full,
    /// on [`Writer::flush`], and on close. Gathered records survive the death of the process, not of the machine;
    /// readers see them once they are moved. Includes [`WriterOptions::exclusive`] unless that is said to be false; 0 is
    /// unbuffered. With [`Durability::Sync`] every append is moved and synced at once: then a buffer gains nothing.
    ///
    /// With `exclusive(false)` others append in between, and the segment is locked only while records are moved there.
    /// The buffer is still this writer's alone: a second that wants it gets [`Busy`](ErrorKind::Busy), and so does a libjlog
    /// process that *opens* the log for writing, which waits for the buffer until this writer closes; one that has the
    /// log open already goes on. The id that an append returns is then where the record will stand if nobody else
    /// appends before it is moved, and [`Writer::last_id`] tells of what was in the segment when this writer last looked.
    pub fn buffer(mut self, bytes: u32) -> WriterOptions {
        self.buffer = (bytes > 0).then_some(bytes);
        self
    }

    /// Classic logs that are shared, at levels that do not sync each append: how long a burst of appends may keep the
    /// lock of the active segment, instead of taking it for each. Appends that come within a fifth of that time of
    /// each other are a burst; when the time is up, each takes the lock by itself for another fifth, so that others
    /// get theirs. Once no further append comes, the lock is given back by a thread named `jlog-unlock`. The default is
    /// one millisecond; zero keeps it never, and has no thread.
    pub fn linger(mut self, at_most: Duration) -> WriterOptions {
        self.linger = Some(at_most);
        self
    }
}

/// A record to be appended: see [`Writer::append_entries`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// What it is.
    pub kind: Kind,
    /// The time it carries. Times need not ascend.
    pub time: Timestamp,
    /// What it holds, at most [`MAX_MESSAGE`](crate::MAX_MESSAGE) bytes.
    pub payload: &'a [u8],
}

/// Where a record stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Its id.
    pub id: RecordId,
    /// The first byte of its header in its segment's file.
    pub offset: u64,
    /// The bytes it takes there, header and padding included.
    pub stored_len: u64,
}

/// What a writer found, and put right, when it was opened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recovery {
    /// Torn bytes at the end of the active segment: where they began, and how many they were. They were cut off, and
    /// kept in `.repair/torn/` (but for zeros).
    pub torn: Option<(RecordId, u64)>,
    /// This segment, the active one, is damaged before its end. Writing goes on behind the damage; readers are told of
    /// it, and `jlog-repair` mends it.
    pub damaged: Option<SegmentId>,
    /// The metastore named this segment as the active one, though later ones were there.
    pub metastore_behind: Option<SegmentId>,
    /// Records that a dead writer had left in the pre_commit buffer, moved to the segment now.
    pub flushed: u32,
    /// Bytes of the pre_commit buffer that were no whole record. They were kept in `.repair/torn/`.
    pub pre_commit_torn: Option<u64>,
    /// Another process has the pre_commit buffer open, or the system cannot tell (only the file's owner may ask), and so
    /// what is in it was left alone. [`Writer::sync`] and close ask again.
    pub pre_commit_in_use: bool,
}

/// Appends to a log. Several threads may share one.
///
/// It belongs to the process that opened it. In a fork of that process it answers [`Poisoned`](ErrorKind::Poisoned), and
/// dropping it changes nothing: open another one there, in a checksummed log with
/// [`WriterOptions::exclusive`]`(false)` on both sides.
#[derive(Debug)]
pub struct Writer {
    // Dropped in this order: what futures wait for is synced before the engine goes.
    #[cfg(feature = "async")]
    pub(crate) committer: super::future::Committer,
    /// Syncs from time to time, at [`Durability::Interval`].
    ticker: Option<Ticker>,
    engine: Arc<Engine>,
    /// The [`forks`] at which it was opened, and of which log.
    forks: u32,
    dir: PathBuf,
}

/// What appends, by the log's format.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "there is one to a writer, behind an Arc")]
pub(crate) enum Engine {
    Classic(ClassicWriter, Group),
    Checked(CheckedWriter),
}

impl Writer {
    pub(crate) fn open(log: Arc<Shared>, options: &WriterOptions) -> Result<Writer> {
        if let Some(problem) = log.metastore_problem() {
            let what = format!("the metastore cannot be believed ({problem}), so nothing may be appended");
            return Err(Error::damaged("open the log for writing", &log.dir().join(METASTORE), 0, what));
        }
        if log.is_lone() {
            let what = "one segment by itself can only be looked at";
            return Err(Error::new(ErrorKind::Unsupported, "open the log for writing", what).at(log.dir()));
        }
        let (forks, dir) = (forks(), log.dir().to_path_buf());
        let engine = match log.checked() {
            Some(_) if options.buffer.is_some() => {
                let what = "a checksummed log has no pre_commit buffer; append in batches instead";
                return Err(
                    Error::new(ErrorKind::Unsupported, "open the log for writing", what).at(log.dir())
                );
            }
            Some(_) => Engine::Checked(CheckedWriter::open(log, options)?),
            None => Engine::Classic(ClassicWriter::open(log, options)?, Group::default()),
        };
        let engine = Arc::new(engine);
        let ticker = match engine.durability() {
            Durability::Interval(most) => Some(Ticker::start(&engine, most)?),
            _ => None,
        };
        Ok(Writer {
            #[cfg(feature = "async")]
            committer: super::future::Committer::new(&engine),
            engine,
            ticker,
            forks,
            dir,
        })
    }

    #[cfg(feature = "async")]
    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// What was put right when this writer was opened, and since: another writer's death may leave a torn record too.
    pub fn recovery(&self) -> Recovery {
        match &*self.engine {
            Engine::Classic(writer, _) => writer.recovery(),
            Engine::Checked(writer) => writer.recovery(),
        }
    }

    /// What an acknowledgement promises.
    pub fn durability(&self) -> Durability {
        self.engine.durability()
    }

    /// Whether other writers are kept out.
    pub fn is_exclusive(&self) -> bool {
        match &*self.engine {
            Engine::Classic(writer, _) => writer.is_exclusive(),
            Engine::Checked(writer) => writer.is_exclusive(),
        }
    }

    /// Appends a record and returns its id, as durable as the writer's [`Durability`] says.
    ///
    /// In a log that syncs, readers see it once it is on the disk; else at once, or in buffered mode after a flush.
    ///
    /// # Errors
    /// [`TooLarge`](ErrorKind::TooLarge) above [`MAX_MESSAGE`](crate::MAX_MESSAGE) bytes. [`NoSpace`](ErrorKind::NoSpace): nothing of the record stays, and
    /// appending goes on when there is space again. After any other failed write, or a failed sync, this writer
    /// answers [`Poisoned`](ErrorKind::Poisoned); the record may or may not be in the log.
    pub fn append(&self, message: &[u8], time: Timestamp) -> Result<RecordId> {
        self.append_as(message, time, self.durability())
    }

    /// As [`Writer::append`], with a durability of this record's own. Readers see it when the log's durability says so.
    pub fn append_as(&self, message: &[u8], time: Timestamp, durability: Durability) -> Result<RecordId> {
        match self.here()? {
            Engine::Classic(writer, group) => {
                let id = writer.append(message, time, durability).inspect_err(|error| tell(group, error))?;
                if durability.is_synced() {
                    group.reached(mark(id));
                    group.deliver();
                }
                Ok(id)
            }
            Engine::Checked(writer) => {
                let entry = Entry { kind: Kind::MESSAGE, time, payload: message };
                let last = writer.append(&mut std::iter::once(entry), durability, &mut |_| {})?;
                Ok(last.expect("one record was appended"))
            }
        }
    }

    /// Appends several records, one behind the other, and returns the id of the last; `None` for none. One lock, one
    /// write and one sync serve all of them.
    ///
    /// In the checksummed format a batch is atomic: readers see all of it or nothing, after a crash too. In the classic
    /// format some of the first may be there after an error or a crash.
    ///
    /// # Errors
    /// As [`Writer::append`]; [`TooLarge`](ErrorKind::TooLarge) for a batch of 4 GiB.
    pub fn append_batch<'a>(
        &self,
        messages: impl IntoIterator<Item = (&'a [u8], Timestamp)>,
    ) -> Result<Option<RecordId>> {
        let mut messages = messages.into_iter();
        match self.here()? {
            Engine::Classic(writer, group) => {
                let last = writer.append_batch(&mut messages)?;
                if let Some(id) = last.filter(|_| writer.durability().is_synced()) {
                    group.reached(mark(id));
                    group.deliver();
                }
                Ok(last)
            }
            Engine::Checked(writer) => {
                let mut entries =
                    messages.map(|(payload, time)| Entry { kind: Kind::MESSAGE, time, payload });
                writer.append(&mut entries, writer.durability(), &mut |_| {})
            }
        }
    }

    /// Appends several records of any kind, one behind the other, as one commit, and says where each stands: see
    /// [`Log::read_at`](crate::Log::read_at). One lock, one write and one sync serve all of them; large payloads are
    /// written from where they are. As durable when it returns as `durability` says. None at all is no commit.
    ///
    /// Readers see all of them or nothing, after a crash too.
    ///
    /// # Errors
    /// As [`Writer::append_batch`]; [`Invalid`](ErrorKind::Invalid) for a kind that is the format's own, which only an
    /// unknown one read from a log can be; [`Unsupported`](ErrorKind::Unsupported) for a classic log.
    pub fn append_entries(&self, entries: &[Entry<'_>], durability: Durability) -> Result<Vec<Place>> {
        let writer = self.checked("append entries")?;
        if entries.is_empty() {
            return Ok(Vec::new());
        }
        let mut places = Vec::with_capacity(entries.len());
        writer.append(&mut entries.iter().copied(), durability, &mut |place| places.push(place))?;
        Ok(places)
    }

    /// Finishes the active segment, unless it holds no record, and goes on in the next one; returns the segment that is
    /// active now. All that was appended before is durable when it returns, and so is the new segment's name.
    ///
    /// # Errors
    /// As [`Writer::append`], where the next segment cannot be made; [`Unsupported`](ErrorKind::Unsupported) for a
    /// classic log.
    pub fn rotate(&self) -> Result<SegmentId> {
        self.checked("finish the segment")?.rotate()
    }

    /// Makes the space of the next segment ready, so that finishing the active one does not wait for it: a file of zeros
    /// as large as a segment, on the disk when it returns. False if there was nothing to do: it is ready, or there is a
    /// removed segment to be used again, or no space; or this writer does not own the log, or makes segments that grow.
    /// Call it from a thread of your own when the active segment is half full: it takes as long as writing a segment.
    ///
    /// # Errors
    /// [`Unsupported`](ErrorKind::Unsupported) for a classic log; those of writing, which do the log no harm.
    pub fn make_ahead(&self) -> Result<bool> {
        self.checked("make the next segment's space ready")?.make_ahead()
    }

    /// The writer of a checksummed log.
    fn checked(&self, doing: &'static str) -> Result<&CheckedWriter> {
        match self.here()? {
            Engine::Checked(writer) => Ok(writer),
            Engine::Classic(..) => {
                Err(Error::new(ErrorKind::Unsupported, doing, "only a checksummed log can do that"))
            }
        }
    }

    /// Moves buffered records to the segment, so that readers see them. In the kernel when it returns.
    pub fn flush(&self) -> Result<()> {
        match self.here()? {
            Engine::Classic(writer, _) => writer.flush(),
            Engine::Checked(_) => Ok(()),
        }
    }

    /// Flushes, and makes all that was appended durable: on disk when it returns.
    pub fn sync(&self) -> Result<()> {
        self.here()?.sync()
    }

    /// Flushes, syncs, and closes; a checksummed log is left so that the next writer finds nothing to put right.
    /// Dropping a writer flushes and ignores errors.
    pub fn close(mut self) -> Result<()> {
        self.ticker = None;
        match self.here()? {
            Engine::Classic(writer, _) => writer.sync(),
            Engine::Checked(writer) => writer.close(),
        }
    }

    /// The id of the last record of the active segment that this writer knows of; marker 0 if it knows of none.
    pub fn last_id(&self) -> Result<RecordId> {
        self.here()?.last_id()
    }

    /// The watermark: the last record that is known to be on the disk, and with it all before.
    pub fn durable_id(&self) -> RecordId {
        match &*self.engine {
            Engine::Classic(_, group) => group.durable().id(),
            Engine::Checked(writer) => writer.durable_id(),
        }
    }

    /// Waits until this record is on the disk, syncing if nobody else does.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) for a record that was not appended yet; as [`Writer::sync`].
    pub fn wait_durable(&self, id: RecordId) -> Result<()> {
        self.here()?.wait_durable(id)
    }

    /// Calls back, once, when this record is on the disk, or cannot get there any more; at once if it is. The call
    /// comes from the thread that synced, which goes on when it returns. It makes nobody sync.
    pub fn on_durable(&self, id: RecordId, call: impl FnOnce(Result<RecordId>) + Send + 'static) {
        match self.here() {
            Ok(Engine::Classic(_, group)) => group.call(id, Box::new(call)),
            Ok(Engine::Checked(writer)) => writer.on_durable(id, Box::new(call)),
            Err(error) => call(Err(error)),
        }
    }

    /// What appends, in the process that opened it. In a fork of it not even its locks may be asked for: the thread that
    /// held one of them is not there.
    fn here(&self) -> Result<&Engine> {
        require_process(self.forks, &self.dir)?;
        Ok(&self.engine)
    }
}

/// A writer of a classic log that is at its end tells all who wait for its records.
fn tell(group: &Group, error: &Error) {
    if !matches!(error.kind(), ErrorKind::NoSpace | ErrorKind::TooLarge | ErrorKind::Busy) {
        group.fail(&error.to_string());
        group.deliver();
    }
}

fn mark(id: RecordId) -> Mark {
    Mark { segment: id.segment, end: 0, marker: id.marker.0 }
}

impl Engine {
    fn durability(&self) -> Durability {
        match self {
            Engine::Classic(writer, _) => writer.durability(),
            Engine::Checked(writer) => writer.durability(),
        }
    }

    pub(crate) fn sync(&self) -> Result<()> {
        match self {
            Engine::Classic(writer, group) => {
                let last = writer.last_id()?;
                writer.sync().inspect_err(|error| {
                    group.fail(&error.to_string());
                    group.deliver();
                })?;
                group.reached(mark(last));
                group.deliver();
                Ok(())
            }
            Engine::Checked(writer) => writer.sync(),
        }
    }

    pub(crate) fn last_id(&self) -> Result<RecordId> {
        match self {
            Engine::Classic(writer, _) => writer.last_id(),
            Engine::Checked(writer) => writer.last_id(),
        }
    }

    #[cfg(feature = "async")]
    pub(crate) fn poll_durable(&self, id: RecordId, waker: &std::task::Waker) -> Option<Result<()>> {
        match self {
            Engine::Classic(_, group) => group.poll(id, waker),
            Engine::Checked(writer) => writer.poll_durable(id, waker),
        }
    }

    pub(crate) fn wait_durable(&self, id: RecordId) -> Result<()> {
        match self {
            Engine::Classic(_, group) if group.durable().id() >= id => Ok(()),
            Engine::Classic(..) => self.sync(),
            Engine::Checked(writer) => writer.wait_durable(id),
        }
    }
}

/// The thread that syncs from time to time: `jlog-sync`.
#[derive(Debug)]
struct Ticker {
    stop: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<JoinHandle<()>>,
    forks: u32,
}

impl Ticker {
    fn start(engine: &Arc<Engine>, every: Duration) -> Result<Ticker> {
        let stop = Arc::new((Mutex::new(false), Condvar::new()));
        // Not kept alive by the thread: in a fork, where there is no such thread, its files could never be closed.
        let (stopped, engine) = (Arc::clone(&stop), Arc::downgrade(engine));
        let tick = move || {
            let (flag, changed) = &*stopped;
            let mut stop = flag.lock().unwrap_or_else(PoisonError::into_inner);
            while !*stop {
                (stop, _) = changed.wait_timeout(stop, every).unwrap_or_else(PoisonError::into_inner);
                drop(stop);
                // A failed sync ends the writer: its next call says so.
                let _ = engine.upgrade().map(|engine| engine.sync());
                stop = flag.lock().unwrap_or_else(PoisonError::into_inner);
            }
        };
        let thread = thread::Builder::new().name("jlog-sync".to_owned()).spawn(tick);
        let thread = thread
            .map_err(|error| Error::new(ErrorKind::Io, "start the thread that syncs", error.to_string()))?;
        Ok(Ticker { stop, thread: Some(thread), forks: forks() })
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        // In a fork there is no such thread.
        if self.forks != forks() {
            return;
        }
        *self.stop.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.stop.1.notify_all();
        // A callback may drop the writer on this very thread.
        let other = |thread: &JoinHandle<()>| thread.thread().id() != thread::current().id();
        if let Some(thread) = self.thread.take().filter(other) {
            let _ = thread.join();
        }
    }
}

/// New files get the metastore's permissions, as all of a log's files have the same; or those that were asked for.
pub(crate) fn data_mode(log: &Shared) -> Result<u32> {
    let chosen = log.mode().load(Ordering::Relaxed);
    if chosen != 0 {
        return Ok(chosen);
    }
    let path = log.dir().join(METASTORE);
    let info = log.disk().info(&path, false).map_err(|e| Error::io("look at the metastore", &path, e))?;
    Ok(info.mode & 0o666)
}
