//! Looking at a log: everything about it as data, without changing, creating or locking anything.
//!
//! ```no_run
//! # fn main() -> jlog::Result<()> {
//! let log = jlog::Log::open("/var/spool/events")?;
//! let seen = jlog::inspect::inspect(&log)?;
//! for finding in seen.problems() {
//!     println!("{} {}: {}", finding.kind, finding.file, finding.detail);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! It reads every segment once, from start to end, in constant memory; beside live writers it sees a consistent
//! beginning of what they write.

use std::fmt;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use super::checked::control::CONTROL;
use super::checked::index::{self, Made};
use super::checked::settings::{FoundSettings, Settings};
use super::checkpoints::{self, Stored};
use super::kept::used_up_to;
use super::names::{Listing, METASTORE, PRE_COMMIT, Subscriber, checkpoint_path};
use super::pre_commit::{Contents, dissect};
use super::shared::{Shared, Sight};
use super::{Format, Log, cursor::Tail};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{Marker, RecordId, SegmentId, Timestamp};
use crate::io::{File, Open};
use crate::order::Order;
use crate::record::Compression;
use crate::record::checked::LogIdentity;
use crate::record::classic::{Codec, Metastore, PRE_COMMIT_POINTER};
use crate::record::index::Index;
use crate::record::scan::ClassicWalk;
use crate::record::slots::Held;
use crate::record::walk::{Ending, Extent, Found, Hole, HoleKind, Step, Walk};
use crate::segment::{IndexCheck, IndexDetails, IndexState, SegmentSource};

/// What kind of thing a finding is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum FindingKind {
    /// The metastore is missing, damaged, or does not fit the segments.
    Metastore,
    /// A segment is missing, or finished and yet empty.
    Missing,
    /// Bytes of a segment hold no sound record, or a record that cannot be decompressed.
    Damage,
    /// The active segment ends with bytes that are no whole record: a write under way, or one that a crash cut short.
    Torn,
    /// An index contradicts its segment. libjlog's readers may stop at it, or skip messages.
    Index,
    /// A checkpoint cannot be read, or names a place that is not in the log.
    Checkpoint,
    /// The pre_commit buffer holds what is no whole record, or its pointer is wrong.
    PreCommit,
    /// Damage that a repair has mended; readers are told how many messages are lost. Not a problem any more.
    Repaired,
    /// What a crash leaves where nothing promised was lost: a slot torn while another one is sound, an index that was not
    /// on the disk yet, a checkpoint on a record of an unsynced log that a power cut took. Not a problem: the next write,
    /// or the next writer, settles it.
    Leftover,
    /// The control file of a checksummed log cannot be read. The next writer makes it anew: not a problem.
    Control,
    /// A file that is not a log's. Not a problem.
    Stray,
    /// A file belongs to another user than the directory: processes of that user may be locked out. Not a problem yet.
    Owner,
}

impl fmt::Display for FindingKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FindingKind::Metastore => "metastore",
            FindingKind::Missing => "missing",
            FindingKind::Damage => "damage",
            FindingKind::Torn => "torn",
            FindingKind::Index => "index",
            FindingKind::Checkpoint => "checkpoint",
            FindingKind::PreCommit => "pre_commit",
            FindingKind::Repaired => "repaired",
            FindingKind::Leftover => "leftover",
            FindingKind::Control => "control",
            FindingKind::Stray => "stray",
            FindingKind::Owner => "owner",
        })
    }
}

/// Something that is not as it should be, or worth knowing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it is about.
    pub kind: FindingKind,
    /// The segment it lies in, if it lies in one.
    pub segment: Option<SegmentId>,
    /// The name of the file, in the log's directory.
    pub file: String,
    /// The first byte of it in that file.
    pub from: u64,
    /// The byte behind the last one.
    pub to: u64,
    /// The last readable record before it.
    pub after: Option<RecordId>,
    /// How many messages are lost, where that is proved.
    pub lost: Option<u64>,
    /// The record before it whose length it leaves unproved.
    pub doubtful: Option<RecordId>,
    /// What it is, in a sentence without the place.
    pub detail: String,
}

impl Finding {
    fn new(kind: FindingKind, file: impl Into<String>, detail: impl Into<String>) -> Finding {
        Finding {
            kind,
            segment: None,
            file: file.into(),
            from: 0,
            to: 0,
            after: None,
            lost: None,
            doubtful: None,
            detail: detail.into(),
        }
    }

    /// Whether something is wrong: all but what was repaired or a crash has left, the control file, strays, and owners.
    pub fn is_problem(&self) -> bool {
        !matches!(
            self.kind,
            FindingKind::Repaired
                | FindingKind::Leftover
                | FindingKind::Control
                | FindingKind::Stray
                | FindingKind::Owner
        )
    }

    /// Whether the log is damaged by it: all problems but a torn end.
    pub fn is_damage(&self) -> bool {
        self.is_problem() && self.kind != FindingKind::Torn
    }
}

/// What is known of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentReport {
    /// Its number.
    pub id: SegmentId,
    /// The bytes of it that are in use: a checksummed segment is made with room for what will be written.
    pub bytes: u64,
    /// The size of its data file.
    pub file_bytes: u64,
    /// How many messages can be read from it.
    pub messages: u64,
    /// How many records stood in it before its space was given back: all of them, or none.
    pub reclaimed: u64,
    /// The marker of its last message; greater than `messages` where some are lost, or were reclaimed.
    pub last_marker: Marker,
    /// Whether it is finished: a later one is active.
    pub sealed: bool,
    /// Its index.
    pub index: IndexDetails,
    /// Whether all its bytes are sound records, but for a torn end of the active segment.
    pub sound: bool,
    /// The earliest and the latest time of its messages.
    pub times: Option<(Timestamp, Timestamp)>,
    /// How many subscribers still want it.
    pub pending: usize,
}

/// What is known of a subscriber.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriberReport {
    /// Its name.
    pub name: Subscriber,
    /// Its checkpoint; `None` if it cannot be read.
    pub checkpoint: Option<RecordId>,
    /// How many readable messages it has not read.
    pub behind_messages: u64,
    /// How many bytes these take in the segments.
    pub behind_bytes: u64,
    /// The microseconds between the first message it has not read and the newest one.
    pub behind_micros: u64,
    /// The first byte it has not read in its checkpoint's segment, where that segment is there.
    pub offset: Option<u64>,
}

/// A message in the pre_commit buffer, which readers do not see yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Buffered {
    /// The time its writer gave it.
    pub time: Timestamp,
    /// The message.
    pub payload: Vec<u8>,
}

/// What is known of the pre_commit buffer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PreCommitReport {
    /// The size of the buffer, without the pointer in front of it; `None` if there is no such file.
    pub capacity: Option<u64>,
    /// How many messages it holds.
    pub messages: u32,
    /// The bytes they take.
    pub bytes: u64,
}

/// All that is known of a log.
#[derive(Debug, Clone)]
pub struct Inspection {
    /// Where it lies.
    pub path: PathBuf,
    /// Its format.
    pub format: Format,
    /// Which log it is, if it is a checksummed one.
    pub identity: Option<LogIdentity>,
    /// Whether it is one segment file by itself.
    pub lone_segment: bool,
    /// Its byte order.
    pub order: Order,
    /// How records are stored.
    pub compression: Compression,
    /// Its metastore; if that is damaged or missing, what it should be. Not meaningful for a lone segment.
    pub metastore: Metastore,
    /// The segment that is written to now: the metastore's, or a later one where the metastore lags behind.
    pub active: SegmentId,
    /// Its segments, in order.
    pub segments: Vec<SegmentReport>,
    /// Its subscribers, by name.
    pub subscribers: Vec<SubscriberReport>,
    /// Its pre_commit buffer.
    pub pre_commit: PreCommitReport,
    /// What is not as it should be, in the order of the log, and what else is worth knowing.
    pub findings: Vec<Finding>,
    /// How many messages can be read.
    pub messages: u64,
    /// The size of all data files.
    pub bytes: u64,
    /// The end of the active segment.
    pub tail: Tail,
}

impl Inspection {
    /// The findings that are problems.
    pub fn problems(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| finding.is_problem())
    }

    /// Whether nothing but, at most, a torn end of the active segment is wrong.
    pub fn is_sound(&self) -> bool {
        !self.findings.iter().any(Finding::is_damage)
    }

    /// The earliest and the latest time of all messages.
    pub fn times(&self) -> Option<(Timestamp, Timestamp)> {
        let all = self.segments.iter().filter_map(|segment| segment.times);
        all.reduce(|(first, last), (from, to)| (first.min(from), last.max(to)))
    }
}

/// How far an inspection is: bytes of segments read, and bytes there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes read so far.
    pub done: u64,
    /// Bytes of all segments.
    pub total: u64,
}

/// Looks at a whole log.
pub fn inspect(log: &Log) -> Result<Inspection> {
    inspect_with(log, &mut |_| ControlFlow::Continue(()))
}

/// As [`inspect`], telling about every MiB how far it is; it ends with [`Busy`](ErrorKind::Busy) where it is told to break off.
pub fn inspect_with(log: &Log, progress: &mut dyn FnMut(Progress) -> ControlFlow<()>) -> Result<Inspection> {
    let shared = &*log.shared;
    let listing = shared.listing()?;
    let metastore = shared.metastore()?;
    let mut survey = Survey::start(shared, &listing, progress)?;

    survey.metastore(&listing, &metastore);
    let mut previous = None;
    for id in &listing.segments {
        survey.missing_between(previous, *id);
        survey.segment(*id)?;
        previous = Some(*id);
    }
    survey.checkpoints(&listing)?;
    survey.pre_commit()?;
    survey.strays(&listing);
    survey.owners()?;
    Ok(survey.finish(metastore))
}

/// The messages in the pre_commit buffer, in order: written, but not yet to be seen by readers.
pub fn buffered(log: &Log) -> Result<Vec<Buffered>> {
    let codec = log.shared.codec();
    let contents = read_pre_commit(&log.shared)?.map(|(contents, _)| contents).unwrap_or_default();
    let bytes = &contents.bytes[..];
    let mut walk = ClassicWalk::new(bytes, codec, bytes.len() as u64, true);
    let mut messages = Vec::new();
    while let Step::Record(found) = walk.step()? {
        let mut payload = Vec::new();
        let stored = walk.stored(&found)?;
        if codec.compression().decompress(stored, found.header.len, &mut payload).is_ok() {
            messages.push(Buffered { time: found.header.time, payload });
        }
    }
    Ok(messages)
}

/// The pre_commit file taken apart, and its size; `None` if there is none.
pub(crate) fn read_pre_commit(log: &Shared) -> Result<Option<(Contents, u64)>> {
    if log.is_lone() || log.checked().is_some() {
        return Ok(None);
    }
    let path = log.dir().join(PRE_COMMIT);
    let Some(file) = File::open_existing(&**log.disk(), &path, Open::Read)? else { return Ok(None) };
    let size = file.size()?;
    let mut bytes = vec![0; PRE_COMMIT_POINTER];
    let got = file.pread_up_to(&mut bytes, 0)?;
    bytes.truncate(got);
    // What lies beyond what is in use says nothing, however long the file is.
    let used = if got < PRE_COMMIT_POINTER { 0 } else { u64::from(log.codec().order.u32(&bytes)) };
    let len = usize::try_from(size.min(PRE_COMMIT_POINTER as u64 + used)).unwrap_or(usize::MAX);
    bytes.resize(len, 0);
    let got = file.pread_up_to(&mut bytes, 0)?;
    Ok(Some((dissect(&bytes[..got], log.codec()), size)))
}

/// A subscriber on the way along the log: counted once the walk has come to the first record it has not read.
struct Follower {
    report: SubscriberReport,
    /// Messages and bytes before the first unread one, and its time.
    read: Option<(u64, u64, Timestamp)>,
}

struct Survey<'a> {
    log: &'a Shared,
    progress: &'a mut dyn FnMut(Progress) -> ControlFlow<()>,
    done: u64,
    total: u64,
    told: u64,
    active: SegmentId,
    /// Subscribers by checkpoint; those before `passed` have been counted.
    followers: Vec<Follower>,
    passed: usize,
    segments: Vec<SegmentReport>,
    findings: Vec<Finding>,
    messages: u64,
    /// Bytes of the readable messages.
    message_bytes: u64,
    newest: Option<Timestamp>,
    last: Option<RecordId>,
    pre_commit: PreCommitReport,
    tail: Tail,
    message: Vec<u8>,
}

/// Bytes that may be a write under way are looked at again so many times.
const PATIENCE: u32 = 3;

/// What is known of a segment's index along the walk.
enum IndexWatch {
    Classic(IndexCheck),
    /// The index that the records make.
    Checked(Option<Index>),
}

impl IndexWatch {
    fn open(log: &Shared, id: SegmentId) -> Result<IndexWatch> {
        if log.checked().is_some() {
            // Of a segment by itself it is not known whether it is finished, and so not what its index should be.
            let header = if log.is_lone() { None } else { log.header(id)? };
            return Ok(IndexWatch::Checked(header.map(Index::new)));
        }
        Ok(IndexWatch::Classic(IndexCheck::open(&**log.disk(), &log.index_path(id), log.codec())?))
    }

    fn record(&mut self, walk: &Walk<SegmentSource>, found: &Found) -> Result<()> {
        match self {
            IndexWatch::Classic(check) => check.record(u64::from(found.marker) - 1, found.offset),
            IndexWatch::Checked(None) => Ok(()),
            IndexWatch::Checked(Some(index)) => {
                // Within a batch nothing begins that an index tells of.
                if walk.is_between_commits() {
                    index.commit(found.header.time, walk.position(), walk.marker());
                }
                Ok(())
            }
        }
    }

    fn hole(&mut self, walk: &Walk<SegmentSource>, hole: &Hole) {
        if let IndexWatch::Checked(Some(index)) = self
            && walk.is_between_commits()
        {
            index.commit(Timestamp::default(), hole.to.max(index.end), walk.marker());
        }
    }

    fn finish(
        self,
        log: &Shared,
        id: SegmentId,
        walk: &Walk<SegmentSource>,
        sound: bool,
    ) -> Result<(IndexDetails, String)> {
        match self {
            IndexWatch::Classic(check) => {
                check.finish(u64::from(walk.marker()), walk.end(), walk.is_sealed())
            }
            IndexWatch::Checked(made) => {
                let Some(mut index) = made else {
                    // The segment's own header is lost; its index may be as well.
                    let there = log.disk().info(&log.index_path(id), false).is_ok();
                    let lost = there && log.read_index(id)?.is_none();
                    let state = if lost { IndexState::Damaged } else { IndexState::Missing };
                    let what = "its checksum does not hold".to_owned();
                    return Ok((IndexDetails { entries: 0, closed: false, state }, what));
                };
                (index.end, index.last_marker) = (walk.position(), walk.marker());
                let made = Made { index, damaged: !sound, sealed: walk.is_sealed() };
                let details = index::compare(log, id, &made)?;
                let what = match details.state {
                    IndexState::Damaged => "its checksum does not hold",
                    _ => "it says other than the segment",
                };
                Ok((details, what.to_owned()))
            }
        }
    }
}

fn hole_detail(kind: HoleKind) -> &'static str {
    match kind {
        HoleKind::Bytes => "these bytes hold no record that can be believed",
        HoleKind::Payload => "the message's checksum does not hold",
        HoleKind::Beginning => "the segment's header is damaged; its records are not",
        HoleKind::Foreign => {
            "the file is another segment: of another log, or of this one under another number"
        }
        HoleKind::CutShort => "the segment ends here, and the next one says it did not",
        HoleKind::Repaired => "a repair has put a note in the place of damage",
        HoleKind::Reclaimed => "the space of its records was given back",
    }
}

/// Progress is told of about this often.
const STRIDE: u64 = 1 << 20;

impl<'a> Survey<'a> {
    fn start(
        log: &'a Shared,
        listing: &Listing,
        progress: &'a mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Survey<'a>> {
        let mut total = 0;
        for id in &listing.segments {
            total += log.disk().info(&log.data_path(*id), false).map_or(0, |info| info.len);
        }
        let mut followers: Vec<_> = checkpoints::all(log, listing)?
            .into_iter()
            .map(|(name, checkpoint)| SubscriberReport {
                name,
                checkpoint,
                behind_messages: 0,
                behind_bytes: 0,
                behind_micros: 0,
                offset: None,
            })
            .map(|report| Follower { report, read: None })
            .collect();
        followers.sort_by_key(|follower| follower.report.checkpoint);
        let active = log.active()?;
        Ok(Survey {
            log,
            progress,
            done: 0,
            total,
            told: 0,
            active,
            followers,
            passed: 0,
            segments: Vec::new(),
            findings: Vec::new(),
            messages: 0,
            message_bytes: 0,
            newest: None,
            last: None,
            pre_commit: PreCommitReport::default(),
            tail: Tail::Clean,
            message: Vec::new(),
        })
    }

    fn metastore(&mut self, listing: &Listing, metastore: &Metastore) {
        if self.log.is_lone() {
            return;
        }
        let last = listing.last_segment();
        let path = self.log.dir().join(METASTORE);
        let len = self.log.disk().info(&path, false).map_or(0, |info| info.len);
        let half = half_sound(self.log).filter(|_| self.log.metastore_problem().is_none());
        let kind = if half.is_some() { FindingKind::Leftover } else { FindingKind::Metastore };
        let mut found = |detail: String| {
            let finding = Finding::new(kind, METASTORE, detail);
            self.findings.push(Finding { to: len, ..finding });
        };
        if let Some(problem) = self.log.metastore_problem() {
            found(problem.to_owned());
        } else if let Some(half) = half {
            found(half);
        } else if self.log.checked().is_some() {
            // Nothing in it says which segment is active.
        } else if self.active > metastore.active {
            found(format!("it names {} as the active segment, though {} is", metastore.active, self.active));
        } else if let Some(last) = last.filter(|last| last.next().is_some_and(|next| next < metastore.active))
        {
            found(format!(
                "it names {} as the active segment, though the last one there is {last}",
                metastore.active
            ));
        }
    }

    fn missing_between(&mut self, previous: Option<SegmentId>, id: SegmentId) {
        let Some(first) = previous.and_then(SegmentId::next).filter(|first| *first < id) else { return };
        let through = SegmentId(id.0 - 1);
        let detail = if first == through {
            "the segment is missing, though later ones are there".to_owned()
        } else {
            format!("the segments {first} to {through} are missing, though later ones are there")
        };
        let finding = Finding::new(FindingKind::Missing, first.to_string(), detail);
        self.findings.push(Finding { segment: Some(first), after: self.last, ..finding });
    }

    fn segment(&mut self, id: SegmentId) -> Result<()> {
        // Pruned since the directory was listed.
        let Some(mut walk) = self.log.walk(id, Sight::Written)? else { return Ok(()) };
        let sealed = walk.is_sealed();
        self.add_evidence(id, &mut walk);
        let mut index = IndexWatch::open(self.log, id)?;
        let mut patience = PATIENCE;
        let mut report = SegmentReport {
            id,
            bytes: 0,
            file_bytes: 0,
            messages: 0,
            reclaimed: 0,
            last_marker: Marker(0),
            sealed,
            index: IndexDetails { entries: 0, closed: false, state: IndexState::Missing },
            sound: true,
            times: None,
            pending: 0,
        };
        let mut doubtful = None;

        let ending = loop {
            match walk.step()? {
                Step::Record(found) => {
                    index.record(&walk, &found)?;
                    let id = RecordId { segment: id, marker: Marker(found.marker) };
                    doubtful = found.doubtful.then_some(id);
                    self.record(&mut walk, &found, &mut report)?;
                }
                Step::Hole(hole) if hole.kind == HoleKind::Reclaimed => {
                    report.reclaimed += u64::from(hole.lost.unwrap_or(0));
                    index.hole(&walk, &hole);
                }
                Step::Hole(hole) => {
                    report.sound &= hole.kind == HoleKind::Repaired;
                    index.hole(&walk, &hole);
                    self.hole(id, &hole, doubtful.take());
                }
                Step::End(ending) => {
                    // A live writer may have been in the middle of a write: look again before calling it torn.
                    if !sealed && ending != Ending::Clean && patience > 0 {
                        let extent = self.log.extent(id, walk.source().data(), Sight::Written)?;
                        if extent.end > walk.end() || extent.settled {
                            patience -= 1;
                            walk.refresh(extent);
                            self.add_evidence(id, &mut walk);
                            continue;
                        }
                    }
                    break ending;
                }
            }
            self.tell(walk.position())?;
        };

        report.file_bytes = walk.source().data().size()?;
        report.bytes = if self.log.checked().is_some() { walk.position() } else { walk.end() };
        report.last_marker = Marker(walk.marker());
        if sealed && walk.end() == 0 && self.log.checked().is_none() {
            report.sound = false;
            let finding =
                Finding::new(FindingKind::Missing, id.to_string(), "the segment is finished and yet empty");
            self.findings.push(Finding { segment: Some(id), after: self.last, ..finding });
        }
        if let Ending::Torn { from } = ending {
            let to = match self.log.checked() {
                Some(_) => used_up_to(walk.source().data(), from, u64::MAX)?,
                None => walk.end(),
            };
            self.torn(id, from, to);
        }
        let (details, wrong) = index.finish(self.log, id, &walk, report.sound)?;
        if matches!(details.state, IndexState::Stale | IndexState::Damaged) {
            // Of a checksummed log it is never synced: a crash leaves what it leaves.
            let cache = self.log.checked().is_some();
            let kind = if cache { FindingKind::Leftover } else { FindingKind::Index };
            let finding = Finding::new(kind, format!("{id}.idx"), wrong);
            let to = self.log.disk().info(&self.log.index_path(id), false).map_or(0, |info| info.len);
            self.findings.push(Finding { segment: Some(id), to, ..finding });
        }
        report.index = details;
        self.done = self.done.saturating_add(walk.end());
        self.segments.push(report);
        Ok(())
    }

    /// What a subscriber has read was on the disk, in a log that syncs before it shows.
    fn add_evidence(&self, id: SegmentId, walk: &mut Walk<SegmentSource>) {
        if self.log.checked().is_none() || !self.log.settings().durability.is_synced() {
            return;
        }
        let checkpoints = self.followers.iter().filter_map(|follower| follower.report.checkpoint);
        let read = checkpoints.filter(|at| at.segment == id).map(|at| at.marker.0).max().unwrap_or(0);
        let extent = walk.extent();
        if read > extent.proven_marker {
            walk.refresh(Extent { proven_marker: read, ..extent });
        }
    }

    fn record(
        &mut self,
        walk: &mut Walk<SegmentSource>,
        found: &Found,
        report: &mut SegmentReport,
    ) -> Result<()> {
        let id = RecordId { segment: report.id, marker: Marker(found.marker) };
        let len = found.span;
        if found.compression != Compression::None {
            let stored = walk.stored(found)?;
            if let Err(why) = found.compression.decompress(stored, found.header.len, &mut self.message) {
                report.sound = false;
                let finding = Finding::new(FindingKind::Damage, report.id.to_string(), why);
                self.findings.push(Finding {
                    segment: Some(report.id),
                    from: found.offset,
                    to: found.offset + len,
                    after: self.last,
                    lost: Some(1),
                    ..finding
                });
                return Ok(());
            }
        }

        let time = found.header.time;
        self.count_followers(id, Some((found.offset, time)));
        self.messages += 1;
        self.message_bytes += len;
        self.newest = Some(self.newest.map_or(time, |newest| newest.max(time)));
        self.last = Some(id);
        report.messages += 1;
        report.times = Some(report.times.map_or((time, time), |(from, to)| (from.min(time), to.max(time))));
        Ok(())
    }

    /// The walk has come to `id`: whoever has a checkpoint before that has not read it.
    fn count_followers(&mut self, id: RecordId, place: Option<(u64, Timestamp)>) {
        while let Some(follower) = self.followers.get_mut(self.passed) {
            match follower.report.checkpoint {
                Some(checkpoint) if checkpoint >= id => break,
                // A checkpoint that cannot be read sorts first, and wants everything.
                checkpoint => {
                    if let Some((offset, time)) = place {
                        follower.read = Some((self.messages, self.message_bytes, time));
                        let same = checkpoint.is_some_and(|checkpoint| checkpoint.segment == id.segment);
                        follower.report.offset = same.then_some(offset);
                    }
                }
            }
            self.passed += 1;
        }
    }

    fn hole(&mut self, id: SegmentId, hole: &Hole, doubtful: Option<RecordId>) {
        let mut detail = match (hole.starts_with_header, hole.after) {
            _ if hole.kind != HoleKind::Bytes => hole_detail(hole.kind).to_owned(),
            _ if self.log.checked().is_some() => "these bytes were on the disk and are damaged".to_owned(),
            (true, _) => "the record that begins here has a wrong length, or is cut short".to_owned(),
            (false, 0) => "no valid record header at the start of the segment".to_owned(),
            (false, after) => {
                let after = RecordId { segment: id, marker: Marker(after) };
                format!("no valid record header after message {after}")
            }
        };
        if let Some(id) = doubtful {
            detail.push_str(&format!("; nothing proves the length of {id} before it"));
        }
        let kind = if hole.kind == HoleKind::Repaired { FindingKind::Repaired } else { FindingKind::Damage };
        let finding = Finding::new(kind, id.to_string(), detail);
        self.findings.push(Finding {
            segment: Some(id),
            from: hole.from,
            to: hole.to,
            after: self.last,
            lost: hole.lost.map(u64::from),
            doubtful,
            ..finding
        });
    }

    fn torn(&mut self, id: SegmentId, from: u64, to: u64) {
        self.tail = Tail::Torn { from };
        let detail = "the last message is cut short, or was never there; the next writer cuts these bytes off and keeps them";
        let finding = Finding::new(FindingKind::Torn, id.to_string(), detail);
        self.findings.push(Finding { segment: Some(id), from, to, after: self.last, ..finding });
    }

    fn tell(&mut self, position: u64) -> Result<()> {
        let done = self.done.saturating_add(position);
        if done < self.told.saturating_add(STRIDE) {
            return Ok(());
        }
        self.told = done;
        match (self.progress)(Progress { done, total: self.total.max(done) }) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => {
                Err(Error::new(ErrorKind::Busy, "look at the log", "it was broken off"))
            }
        }
    }

    fn checkpoints(&mut self, listing: &Listing) -> Result<()> {
        self.active_missing(listing)?;
        let mut unread = None;
        for name in &listing.subscribers {
            let path = checkpoint_path(self.log.dir(), name);
            let file = name.file_name().to_string_lossy().into_owned();
            let mut found = |kind: FindingKind, len: u64, detail: String| {
                let finding = Finding::new(kind, file.clone(), detail);
                self.findings.push(Finding { to: len, ..finding });
            };
            match checkpoints::read(self.log, &path)? {
                Stored::Nobody => {}
                Stored::Short(len) => {
                    found(
                        FindingKind::Checkpoint,
                        len,
                        format!("subscriber \"{name}\": {}", checkpoints::unreadable(self.log, len)),
                    );
                }
                Stored::At(id, len) => {
                    let right = checkpoints::file_len(self.log);
                    if len != right {
                        let what =
                            format!("subscriber \"{name}\": it has {len} bytes, a checkpoint has {right}");
                        found(FindingKind::Checkpoint, len, what);
                    } else if has_unsound_slot(self.log, &path)? {
                        let what = "one of its slots is damaged or torn; what it held may have been newer";
                        let what = format!("subscriber \"{name}\": {what}");
                        found(FindingKind::Leftover, len, what);
                    }
                    let dropped = id.segment < self.log.dropped_before();
                    let taken = id.segment == self.active
                        && self.log.checked().is_some()
                        && !self.log.settings().durability.is_synced();
                    let why = misplaced(id, &self.segments, self.active);
                    let first = self.segments.first().map(|segment| segment.id);
                    if why.is_some() && !dropped && self.log.checked().is_some() && Some(id.segment) < first {
                        // It keeps what it has not read: so that was not removed because all had read it.
                        unread = Some(unread.map_or(id.segment, |before: SegmentId| before.min(id.segment)));
                    } else if let Some(why) = why.clone().filter(|_| taken) {
                        let what = format!("subscriber \"{name}\" at {id}: {why}, which was not on the disk");
                        found(FindingKind::Leftover, len, what);
                    } else if let Some(why) = why.filter(|_| !dropped) {
                        found(FindingKind::Checkpoint, len, format!("subscriber \"{name}\" at {id}: {why}"));
                    }
                }
            }
        }
        if let (Some(before), Some(first)) = (unread, self.segments.first().map(|segment| segment.id)) {
            let through = SegmentId(first.0 - 1);
            let detail = if before == through {
                format!("segment {before} is missing, and not all subscribers had read it")
            } else {
                format!("segments {before} to {through} are missing, and not all subscribers had read them")
            };
            let finding = Finding::new(FindingKind::Missing, before.to_string(), detail);
            self.findings.push(Finding { segment: Some(before), ..finding });
        }
        Ok(())
    }

    /// The active segment is made before the metastore names it; only the very first one is made later.
    fn active_missing(&mut self, listing: &Listing) -> Result<()> {
        let last = listing.last_segment();
        // What the control file says to have been on the disk was, in whatever run of the machine.
        let durable = self.log.control()?.map(|control| control.durable.segment);
        let active = self.active.max(durable.unwrap_or_default());
        let expected = active.0 > 0 && last.is_none_or(|last| last < active);
        if !expected || self.log.is_lone() || (self.log.metastore_problem().is_some() && durable.is_none()) {
            return Ok(());
        }
        // A writer may have made it since the directory was listed.
        if self.log.disk().info(&self.log.data_path(active), false).is_ok() {
            return Ok(());
        }
        // In a checksummed log each segment before it was there as well.
        let behind = last.and_then(SegmentId::next).filter(|_| self.log.checked().is_some());
        let first = behind.unwrap_or(active);
        let detail = if first == active {
            "the active segment is missing".to_owned()
        } else {
            format!("the segments {first} to {active} are missing, the active one among them")
        };
        let finding = Finding::new(FindingKind::Missing, first.to_string(), detail);
        self.findings.push(Finding { segment: Some(first), after: self.last, ..finding });
        Ok(())
    }

    fn pre_commit(&mut self) -> Result<()> {
        let Some((contents, size)) = read_pre_commit(self.log)? else { return Ok(()) };
        self.pre_commit = PreCommitReport {
            capacity: Some(size.saturating_sub(PRE_COMMIT_POINTER as u64)),
            messages: contents.records,
            bytes: contents.bytes.len() as u64,
        };
        if let Some(problem) = contents.problem {
            let (from, to) = contents.torn.first().copied().unwrap_or((0, size));
            let finding = Finding::new(FindingKind::PreCommit, PRE_COMMIT, problem);
            self.findings.push(Finding { from, to, ..finding });
        }
        Ok(())
    }

    fn strays(&mut self, listing: &Listing) {
        for name in &listing.odd_checkpoints {
            let detail =
                "no subscriber's checkpoint has such a name; what it names is kept from being deleted";
            self.findings.push(Finding::new(FindingKind::Stray, name.to_string_lossy(), detail));
        }
        for id in listing.indexes.iter().filter(|id| listing.segments.binary_search(id).is_err()) {
            let finding =
                Finding::new(FindingKind::Stray, format!("{id}.idx"), "an index without its segment");
            self.findings.push(Finding { segment: Some(*id), ..finding });
        }
        let classic = self.log.checked().is_none();
        for (there, name, theirs) in
            [(listing.control, CONTROL, !classic), (listing.pre_commit, PRE_COMMIT, classic)]
        {
            if there && !theirs {
                let detail = "not a file of a log of this format; it is left alone";
                self.findings.push(Finding::new(FindingKind::Stray, name, detail));
            }
        }
        if listing.control && !classic && !self.log.is_control_whole() {
            let detail = "it, or one of its slots, cannot be read; the next writer makes it anew";
            self.findings.push(Finding::new(FindingKind::Control, CONTROL, detail));
        }
        for name in &listing.strays {
            let detail = "not a file of a log; it is left alone";
            self.findings.push(Finding::new(FindingKind::Stray, name.to_string_lossy(), detail));
        }
    }

    /// Tools run as another user leave files that the log's own processes cannot open.
    fn owners(&mut self) -> Result<()> {
        if self.log.is_lone() {
            return Ok(());
        }
        let (disk, dir) = (self.log.disk(), self.log.dir());
        let info = disk.info(dir, true).map_err(|e| Error::io("look at the directory", dir, e))?;
        let mut names = disk.names(dir).map_err(|e| Error::io("list the directory", dir, e))?;
        names.sort();
        for name in names {
            // Gone since it was listed: nothing to say of it.
            let Ok(file) = disk.info(&dir.join(&name), false) else { continue };
            if file.owner != info.owner {
                let ((user, group), (dir_user, dir_group)) = (file.owner, info.owner);
                let detail = format!("it belongs to {user}:{group}, the directory to {dir_user}:{dir_group}");
                self.findings.push(Finding::new(FindingKind::Owner, name.to_string_lossy(), detail));
            }
        }
        Ok(())
    }

    fn finish(self, metastore: Metastore) -> Inspection {
        let Survey { log, mut segments, findings, messages, message_bytes, newest, followers, .. } = self;
        let mut subscribers: Vec<_> = followers
            .into_iter()
            .map(|Follower { mut report, read }| {
                if let Some((read, bytes, first)) = read {
                    report.behind_messages = messages - read;
                    report.behind_bytes = message_bytes - bytes;
                    let newest = newest.unwrap_or(first).as_micros();
                    report.behind_micros = newest.saturating_sub(first.as_micros());
                }
                report
            })
            .collect();
        subscribers.sort_by(|a, b| a.name.cmp(&b.name));
        for segment in &mut segments {
            let wants = |s: &&SubscriberReport| s.checkpoint.is_none_or(|id| id.segment <= segment.id);
            segment.pending = subscribers.iter().filter(wants).count();
        }
        let lone = log.is_lone();
        let path = match segments.first() {
            Some(segment) if lone => log.data_path(segment.id),
            _ => log.dir().to_path_buf(),
        };
        let codec: Codec = log.codec();
        Inspection {
            path,
            format: if log.checked().is_some() { Format::Checksummed } else { Format::Classic },
            identity: log.checked().map(|checked| checked.log),
            lone_segment: lone,
            order: codec.order,
            compression: log.compression(),
            metastore,
            active: self.active,
            // A segment reaches as far as its neighbour says, and that may be nonsense.
            bytes: segments.iter().fold(0, |sum: u64, segment| sum.saturating_add(segment.bytes)),
            segments,
            subscribers,
            pre_commit: self.pre_commit,
            findings,
            messages,
            tail: self.tail,
        }
    }
}

/// What is wrong with a metastore of which one slot is sound.
fn half_sound(log: &Shared) -> Option<String> {
    log.checked()?;
    let file = File::open(&**log.disk(), &log.dir().join(METASTORE), Open::Read).ok()?;
    match Settings::read(&file) {
        Ok(FoundSettings::Sound(_, problem)) => problem,
        _ => None,
    }
}

/// Whether something stands in a slot of a checksummed checkpoint and yet is none. A subscriber may be writing it at this
/// moment: it is looked at again.
pub(crate) fn has_unsound_slot(log: &Shared, path: &Path) -> Result<bool> {
    if log.checked().is_none() {
        return Ok(false);
    }
    for _ in 0..8 {
        let Some(file) = File::open_existing(&**log.disk(), path, Open::Read)? else { return Ok(false) };
        let mut bytes = [0; checkpoints::CHECKED_LEN];
        let got = file.pread_up_to(&mut bytes, 0)?;
        if matches!(checkpoints::decode_slots(path, &bytes[..got]), Held::Newest(_, 0)) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Why a checkpoint names no place in the log, if it does not.
pub(crate) fn misplaced(id: RecordId, segments: &[SegmentReport], active: SegmentId) -> Option<String> {
    if id.segment > active {
        return Some(format!("it is beyond the active segment {active}"));
    }
    match segments.iter().find(|segment| segment.id == id.segment) {
        Some(segment) if !segment.sealed && id.marker > segment.last_marker => {
            let last = RecordId { segment: segment.id, marker: segment.last_marker };
            Some(format!("it is beyond the last message {last}"))
        }
        // libjlog leaves a checkpoint beyond the end of a finished segment; it means the next segment's start.
        Some(_) => None,
        // Only the active segment may not be there yet, and then nobody has read any of it.
        None if id.marker > Marker(0) || id.segment < active => {
            Some(format!("segment {} is missing", id.segment))
        }
        None => None,
    }
}
