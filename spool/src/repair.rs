//! Mending what of a spool is not its logs: the file `spool`, and summaries that say what the segments do not.
//!
//! The logs are repaired first, by [`jlog::repair`]: it keeps every record that is sound. What follows from that for the
//! spool is looked for here, and done when it is asked for:
//!
//! ```text
//!   the file `spool` is missing, or no slot of it is sound   made anew; ids and change numbers go on above all there are
//!   a summary is not sound, or its segment is gone           removed: it is made again from the segment
//!   a summary lacks a record that its segment holds          removed
//!   a summary notes a record that cannot be read             written without it; a removal stays, and so does a message
//!                                                            of which other records have all
//! ```
//!
//! A summary is the last that knows of removals that cannot be read any more: without them, messages that were delivered
//! would be there again.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jlog::io::{Disk, File, Open, OsDisk};
use jlog::{ErrorKind, Log, LogIdentity, Marker, OnDamage, RecordId, SegmentId};

use crate::books::home;
use crate::error::{Result, SpoolError};
use crate::note::{NoNote, Note, What, of_record};
use crate::open::require_own;
use crate::record::{BodyPlace, Home, LogNo};
use crate::settings::Settings;
use crate::summary::{self, Summary};

/// The name under which a file `spool` is kept that could not be read.
const DAMAGED: &str = "spool.damaged";

/// One thing to be mended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// The file `spool` is made anew.
    Settings {
        /// How often the spool was opened, at least: ids and change numbers go on above it.
        opened: u64,
    },
    /// A summary that is not to be believed is removed.
    RemoveSummary {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A summary is written without the records that cannot be read any more.
    TrimSummary {
        /// The file.
        path: PathBuf,
        /// How many records it loses.
        records: u64,
    },
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Step::Settings { opened } => {
                write!(f, "the file `spool` is made anew, as of a spool that was opened {opened} times")
            }
            Step::RemoveSummary { path, why } => write!(f, "{}: {why}: removed", path.display()),
            Step::TrimSummary { path, records } => {
                let s = if *records == 1 { "" } else { "s" };
                write!(
                    f,
                    "{}: notes {records} record{s} that cannot be read: written without",
                    path.display()
                )
            }
        }
    }
}

/// What is to be mended of a spool, and what is written for it.
#[derive(Debug, Clone)]
pub struct Plan {
    dir: PathBuf,
    /// What is done, in this order.
    pub steps: Vec<Step>,
    /// The trimmed summaries, in the order of their steps.
    trimmed: Vec<(LogIdentity, Home, Summary)>,
}

/// Looks for what is to be mended of a spool beside its logs. Reads all of it, and changes nothing.
///
/// # Errors
/// Those of reading; [`Newer`](SpoolError::Newer).
pub fn plan(spool: impl AsRef<Path>) -> Result<Plan> {
    plan_on(Arc::new(OsDisk), spool.as_ref())
}

/// As [`plan`], on a disk of the caller's.
///
/// # Errors
/// As [`plan`].
pub fn plan_on(disk: Arc<dyn Disk>, spool: &Path) -> Result<Plan> {
    let mut plan = Plan { dir: spool.to_path_buf(), steps: Vec::new(), trimmed: Vec::new() };
    let lost = Settings::read(&*disk, spool)?.is_none();
    let mut newest = 0;
    let mut known = Vec::new();
    let mut compared = Vec::new();
    let mut metadata = HashMap::new();
    for no in LogNo::ALL {
        let log = Log::open_on(Arc::clone(&disk), spool.join(no.name()))?;
        let identity = log.identity().unwrap_or(LogIdentity([0; 16]));
        for segment in log.segments()? {
            if log.is_reclaimed(segment).unwrap_or(false) {
                continue;
            }
            let home = home(no, segment);
            known.push((home, identity));
            let there = notes(&log, segment)?;
            let told = summary::read(&*disk, spool, identity, home)?;
            let all = there.iter().chain(told.iter().flat_map(|summary| &summary.notes));
            newest = all.map(Note::change).max().unwrap_or(0).max(newest);
            let found = match told {
                Some(summary) => Some(Compared::of(&log, home, identity, summary, &there)?),
                None => None,
            };
            for note in there.iter().chain(found.iter().flat_map(Compared::readable)) {
                if let What::Meta { id, change, .. } = note.what {
                    let known: &mut u64 = metadata.entry(id).or_default();
                    *known = change.max(*known);
                }
            }
            compared.extend(found.filter(|found| !found.is_sound()));
        }
    }
    for compared in compared {
        plan.mend(compared, &metadata);
    }
    plan.find_unfit(&*disk, &known)?;
    if lost {
        plan.steps.insert(0, Step::Settings { opened: (newest >> 40) + 1 });
    }
    Ok(plan)
}

/// The notes of all records of a segment that can be read, each with its record's place.
fn notes(log: &Log, segment: SegmentId) -> Result<Vec<Note>> {
    let mut all = Vec::new();
    let mut cursor = log.cursor_after(RecordId { segment, marker: Marker(0) });
    cursor.on_damage(OnDamage::Skip);
    while let Some(record) = cursor.next_record()? {
        if record.id.segment != segment {
            break;
        }
        let span = u32::try_from(record.stored_len).unwrap_or(u32::MAX);
        match of_record(record.kind, record.payload, record.offset, span) {
            Ok(mut notes) => all.append(&mut notes),
            Err(NoNote::Newer(version)) => {
                let path = log.path().join(segment.to_string());
                return Err(SpoolError::Newer { path, version: u16::from(version) });
            }
            Err(NoNote::Unknown) => {}
        }
    }
    Ok(all)
}

impl Plan {
    /// Whether there is nothing to be done.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Leaves summaries as they are that note records which cannot be read: as long as those are to stay.
    pub fn keep_unreadable(&mut self) {
        self.steps.retain(|step| !matches!(step, Step::TrimSummary { .. }));
        self.trimmed.clear();
    }

    /// What a comparison comes to. `metadata` has the newest change of each message's metadata that can be read.
    fn mend(&mut self, compared: Compared, metadata: &HashMap<u64, u64>) {
        let Compared { home, identity, mut summary, gone, lacks } = compared;
        let path = summary::path(&self.dir, home);
        if lacks {
            self.steps.push(Step::RemoveSummary { path, why: "it lacks a record of its segment" });
            return;
        }
        let before = summary.notes.len();
        let mut gone = gone.into_iter();
        summary.notes.retain(|note| !gone.next().unwrap_or(false) || is_needed(note, metadata));
        let records = (before - summary.notes.len()) as u64;
        if records > 0 {
            self.steps.push(Step::TrimSummary { path, records });
            self.trimmed.push((identity, home, summary));
        }
    }

    /// Summaries that cannot be read, or are of no segment there is.
    fn find_unfit(&mut self, disk: &dyn Disk, known: &[(Home, LogIdentity)]) -> Result<()> {
        let dir = self.dir.join(summary::DIR);
        require_own(disk, &dir)?;
        let mut names = disk.names(&dir).unwrap_or_default();
        names.sort();
        for name in names {
            let Some(home) = summary::named(&name) else { continue };
            let path = dir.join(name);
            let Some((_, identity)) = known.iter().find(|(known, _)| *known == home) else {
                self.steps.push(Step::RemoveSummary { path, why: "its segment is gone" });
                continue;
            };
            if summary::read(disk, &self.dir, *identity, home)?.is_none() {
                self.steps.push(Step::RemoveSummary { path, why: "it is not sound" });
            }
        }
        Ok(())
    }
}

/// A summary beside its segment.
struct Compared {
    home: Home,
    identity: LogIdentity,
    summary: Summary,
    /// Of each of its notes, whether its record cannot be read any more.
    gone: Vec<bool>,
    /// Whether the segment holds a record that it does not note.
    lacks: bool,
}

impl Compared {
    /// Both are in the order of the records.
    fn of(
        log: &Log,
        home: Home,
        identity: LogIdentity,
        summary: Summary,
        there: &[Note],
    ) -> Result<Compared> {
        let mut rest = there.iter().filter(|note| note.offset < summary.end).peekable();
        let mut gone = Vec::with_capacity(summary.notes.len());
        for note in &summary.notes {
            let is_met = rest.next_if(|there| *there == note).is_some();
            // Whoever knows its place can read what a reader does not come to: behind a damaged header of a batch.
            gone.push(!is_met && !is_at_its_place(log, home, note)?);
        }
        let lacks = rest.next().is_some();
        Ok(Compared { home, identity, summary, gone, lacks })
    }

    fn readable(&self) -> impl Iterator<Item = &Note> {
        self.summary.notes.iter().zip(&self.gone).filter(|(_, gone)| !**gone).map(|(note, _)| note)
    }

    fn is_sound(&self) -> bool {
        !self.lacks && !self.gone.contains(&true)
    }
}

fn is_at_its_place(log: &Log, home: Home, note: &Note) -> Result<bool> {
    let mut payload = Vec::new();
    match log.read_at(SegmentId(home.segment), note.offset, note.span as usize, &mut payload) {
        Ok((kind, _)) => {
            Ok(of_record(kind, &payload, note.offset, note.span).is_ok_and(|notes| notes.contains(note)))
        }
        Err(error) if matches!(error.kind(), ErrorKind::Damaged | ErrorKind::NoSuchRecord) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Whether a summary has to know of a record that cannot be read: a removal; or a message whose body lies elsewhere, and whose
/// metadata a later record has.
fn is_needed(note: &Note, metadata: &HashMap<u64, u64>) -> bool {
    match &note.what {
        What::Remove { .. } => true,
        What::Accept { id, change, place: BodyPlace::Pieces(_), .. } => {
            metadata.get(id).is_some_and(|newer| newer > change)
        }
        _ => false,
    }
}

/// Does what was planned. The spool must not be open. On the disk when it returns, but for summaries: they are derived.
///
/// # Errors
/// [`Locked`](SpoolError::Locked), and those of writing. What was done then stays done.
pub fn apply(plan: &Plan) -> Result<()> {
    apply_on(Arc::new(OsDisk), plan)
}

/// As [`apply`], on a disk of the caller's.
///
/// # Errors
/// As [`apply`].
pub fn apply_on(disk: Arc<dyn Disk>, plan: &Plan) -> Result<()> {
    let arrivals = Log::open_on(Arc::clone(&disk), plan.dir.join(LogNo::Arrivals.name()))?;
    if let Some(pid) = arrivals.owner()? {
        return Err(SpoolError::Locked { path: plan.dir.clone(), pid: Some(pid) });
    }
    let disk = &*disk;
    require_own(disk, &plan.dir.join(summary::DIR))?;
    let mut trimmed = plan.trimmed.iter();
    for step in &plan.steps {
        match step {
            Step::Settings { opened } => make_settings(disk, &plan.dir, *opened)?,
            Step::RemoveSummary { path, .. } => match disk.remove(path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(SpoolError::io("remove a summary", path, error));
                }
                _ => {}
            },
            Step::TrimSummary { .. } => {
                if let Some((identity, home, summary)) = trimmed.next() {
                    summary::write(disk, &plan.dir, *identity, *home, summary, 0o640)?;
                }
            }
        }
    }
    Ok(())
}

/// Makes the file `spool`. What was there is kept beside it; a crash on the way leaves a spool to be repaired.
fn make_settings(disk: &dyn Disk, dir: &Path, opened: u64) -> Result<()> {
    let path = Settings::path(dir);
    let sync = |doing| disk.sync_dir(dir).map_err(|error| SpoolError::io(doing, dir, error));
    if File::open_existing(disk, &path, Open::Read)?.is_some() {
        let kept = dir.join(DAMAGED);
        disk.rename(&path, &kept).map_err(|error| SpoolError::io("keep what was there", &kept, error))?;
    }
    // As readable as the spool is.
    let beside = disk.info(&dir.join(LogNo::Arrivals.name()).join("metastore"), false);
    let mode = beside.map_or(0o640, |info| info.mode & 0o666);
    Settings::create_opened(disk, dir, opened, mode)?;
    sync("sync the spool")
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;
    use crate::{Message, MessageId, Scope, Spool, SpoolOptions, Timestamp};
    use jlog::io::sim::SimDisk;

    fn now(seconds: u32) -> Timestamp {
        Timestamp::new(1_700_000_000 + seconds, 0)
    }

    fn open(dir: &Path) -> Spool {
        SpoolOptions::new().background(false).segment_size(64 << 10).reserve(0).open(dir).unwrap()
    }

    fn accepted(spool: &Spool, at: u32) -> MessageId {
        let message = Message::from_bytes(spool.new_id(now(at)), vec![b'x'; 900]);
        spool.accept(&message, now(at)).unwrap();
        message.id()
    }

    fn ids(spool: &Spool) -> Vec<MessageId> {
        let mut ids: Vec<_> = spool.entries().unwrap().map(|listed| listed.id).collect();
        ids.sort_unstable();
        ids
    }

    #[test]
    fn a_sound_spool_needs_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let spool = open(dir.path());
        let kept = accepted(&spool, 0);
        spool.remove(accepted(&spool, 1)).unwrap();
        let beside = plan(dir.path()).unwrap();
        assert!(beside.is_empty());
        assert!(matches!(apply(&beside), Err(SpoolError::Locked { pid: Some(_), .. })));
        spool.close().unwrap();
        assert_eq!(plan(dir.path()).unwrap().steps, []);
        assert_eq!(ids(&open(dir.path())), [kept]);
    }

    #[test]
    fn a_spool_that_lost_its_file_keeps_its_messages_and_gives_no_id_twice() {
        for damage in [None, Some(vec![7; 1024])] {
            let dir = tempfile::tempdir().unwrap();
            let mut held = Vec::new();
            for _ in 0..5 {
                let spool = open(dir.path());
                held.push(accepted(&spool, 0));
            }
            let path = dir.path().join("spool");
            match &damage {
                None => std::fs::remove_file(&path).unwrap(),
                Some(bytes) => std::fs::write(&path, bytes).unwrap(),
            }
            assert!(matches!(Spool::open(dir.path()), Err(SpoolError::NotASpool { .. })));
            let plan = plan(dir.path()).unwrap();
            let [Step::Settings { opened }] = plan.steps[..] else { panic!("{:?}", plan.steps) };
            assert!(opened >= 5, "{opened}");
            apply(&plan).unwrap();
            assert_eq!(dir.path().join(DAMAGED).exists(), damage.is_some());

            let spool = open(dir.path());
            assert_eq!(ids(&spool), held);
            let fresh = accepted(&spool, 0);
            assert!(!held.contains(&fresh));
            drop(spool);
            // Its change is the newest: what it removes stays removed.
            let spool = open(dir.path());
            spool.remove_all(&held).unwrap();
            drop(spool);
            assert_eq!(ids(&open(dir.path())), [fresh]);
        }
    }

    #[test]
    fn a_repair_that_a_power_cut_breaks_off_can_be_done_again() {
        let (disk, dir) = (SimDisk::new(1), Path::new("/spool"));
        let options = || SpoolOptions::new().background(false).segment_size(64 << 10).reserve(0);
        let spool = options().open_on(Arc::new(disk.clone()), dir).unwrap();
        let held = [accepted(&spool, 0), accepted(&spool, 1)];
        spool.close().unwrap();
        let file = File::open(&disk, &Settings::path(dir), Open::ReadWrite).unwrap();
        file.pwrite(&[0; 1024], 0).unwrap();
        file.sync().unwrap();
        drop(file);

        let images = Arc::new(std::sync::Mutex::new(Vec::new()));
        let seen = Arc::clone(&images);
        disk.observe(move |disk, _| {
            let mut seen = seen.lock().unwrap();
            seen.push(disk.power_cut());
            seen.extend((0..8).map(|seed| disk.torn_power_cut(seed)));
        });
        apply_on(Arc::new(disk.clone()), &plan_on(Arc::new(disk.clone()), dir).unwrap()).unwrap();
        disk.unobserve();
        let mut images = std::mem::take(&mut *images.lock().unwrap());
        images.push(disk.power_cut());
        assert!(images.len() > 9 * 4, "{}", images.len());
        for image in images {
            let image: Arc<dyn Disk> = Arc::new(image);
            apply_on(Arc::clone(&image), &plan_on(Arc::clone(&image), dir).unwrap()).unwrap();
            assert!(plan_on(Arc::clone(&image), dir).unwrap().is_empty());
            let spool = options().open_on(image, dir).unwrap();
            assert_eq!(ids(&spool), held);
            assert!(!held.contains(&accepted(&spool, 1)));
        }
    }

    #[test]
    fn a_summary_that_is_not_sound_or_of_no_segment_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let spool = open(dir.path());
        let kept = accepted(&spool, 0);
        spool.close().unwrap();
        let summaries = dir.path().join(summary::DIR);
        let one = std::fs::read_dir(&summaries).unwrap().next().unwrap().unwrap().path();
        std::fs::write(&one, b"nothing").unwrap();
        let stray = summaries.join("a00009999");
        std::fs::write(&stray, b"nothing").unwrap();
        let plan = plan(dir.path()).unwrap();
        assert_eq!(plan.steps.len(), 2, "{:?}", plan.steps);
        apply(&plan).unwrap();
        assert!(!one.exists() && !stray.exists());
        assert_eq!(ids(&open(dir.path())), [kept]);
    }

    #[test]
    fn a_summary_forgets_what_cannot_be_read_but_no_removal() {
        let dir = tempfile::tempdir().unwrap();
        let spool = open(dir.path());
        let all: Vec<_> = (0..4).map(|n| accepted(&spool, n)).collect();
        spool.remove(all[0]).unwrap();
        let last = accepted(&spool, 5);
        spool.close().unwrap();
        // Of the records: 0 is gone, 1 is damaged, and so is the removal of 0.
        let home = home(LogNo::Arrivals, SegmentId(0));
        let log = Log::open(dir.path().join("arrivals")).unwrap();
        let there = notes(&log, log.segments().unwrap()[0]).unwrap();
        let file = std::fs::OpenOptions::new().write(true).open(log.path().join("00000000")).unwrap();
        for note in &there {
            let hit = match &note.what {
                What::Accept { id, .. } => *id == all[1].to_u64(),
                What::Remove { .. } => true,
                _ => false,
            };
            if hit {
                use std::os::unix::fs::FileExt as _;
                file.write_all_at(b"damage", note.offset + 40).unwrap();
            }
        }
        let plan = plan(dir.path()).unwrap();
        let path = summary::path(dir.path(), home);
        assert_eq!(plan.steps, [Step::TrimSummary { path, records: 1 }]);
        apply(&plan).unwrap();
        assert_eq!(ids(&open(dir.path())), [all[2], all[3], last]);
    }

    /// A message's own record was damaged. Its body, and its metadata anew, lay elsewhere, and it could be delivered, until a
    /// repair took it out of the summary, which alone knew of it.
    #[test]
    fn a_message_of_which_other_records_have_all_survives_the_loss_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let large = || {
            let options = SpoolOptions::new().background(false).segment_size(64 << 10).reserve(0);
            options.large_message_threshold(1000).open(dir.path()).unwrap()
        };
        let spool = large();
        let [changed, unchanged] = [0, 1].map(|n| {
            let mut builder = spool.builder(now(n), 0);
            builder.write_all(&[b'y'; 3000]).unwrap();
            let message = builder.finish().unwrap();
            spool.accept(&message, now(n)).unwrap();
            message.id()
        });
        let message = spool.get(changed).unwrap();
        message.context_set(Scope::Message, "seen", "twice").unwrap();
        spool.update(&message, now(2)).unwrap();
        drop(message);
        spool.close().unwrap();

        let log = Log::open(dir.path().join("arrivals")).unwrap();
        let file = std::fs::OpenOptions::new().write(true).open(log.path().join("00000000")).unwrap();
        for note in notes(&log, SegmentId(0)).unwrap() {
            if matches!(note.what, What::Accept { .. }) {
                use std::os::unix::fs::FileExt as _;
                file.write_all_at(b"damage", note.offset + 40).unwrap();
            }
        }
        let steps = plan(dir.path()).unwrap();
        let path = summary::path(dir.path(), home(LogNo::Arrivals, SegmentId(0)));
        assert_eq!(steps.steps, [Step::TrimSummary { path, records: 1 }], "not that of {unchanged}");
        apply(&steps).unwrap();
        assert!(plan(dir.path()).unwrap().is_empty());

        let spool = large();
        assert_eq!(ids(&spool), [changed]);
        let message = spool.get(changed).unwrap();
        let mut body = Vec::new();
        message.body().unwrap().read_to_end(&mut body).unwrap();
        assert!(body == [b'y'; 3000]);
        assert_eq!(message.context_get(Scope::Message, "seen").unwrap(), b"twice");
    }
}
