//! The steps of a plan taken, and taken back.

use std::path::Path;
use std::sync::Arc;

use super::checked_plan::is_told_with_another;
use super::manifest::{MANIFEST, Manifest, UNDONE};
use super::site::{DEFAULT_MODE, Site, Target};
use super::{Deed, Past, RepairPlan, Repaired, changed, digest};
use crate::error::{Error, ErrorKind, Result};
use crate::io::{Disk, File, LockGuard, OsDisk};
use crate::log::Log;
use crate::log::checked::control::CONTROL;
use crate::log::inspect::inspect;
use crate::log::names::METASTORE;
use crate::log::writer::data_mode;

/// Does what the plan says, and keeps the originals in `.repair/<stamp>/`. All of it is on disk when this returns.
///
/// # Errors
/// [`Busy`](ErrorKind::Busy) if another process has a file open or locked that is to be changed: nothing is changed then.
/// [`NoSpace`](ErrorKind::NoSpace) if there is no room for the copies: nothing is changed then either.
/// [`Invalid`](ErrorKind::Invalid) if the log has changed since it was inspected.
pub fn apply(log: &Log, plan: &RepairPlan, stamp: &str) -> Result<Repaired> {
    if plan.is_empty() {
        return Ok(Repaired::default());
    }
    let site = Site { disk: Arc::clone(log.shared.disk()), dir: log.shared.dir().to_path_buf() };
    let metastore = site.open(METASTORE)?;
    // Nobody opens a segment to write, makes one, or adds a subscriber while this is held.
    let _lock = metastore.as_ref().map(lock_now).transpose()?;

    // The owner of a checksummed log holds this one.
    let control = match log.shared.checked() {
        Some(_) => site.open(CONTROL)?,
        None => None,
    };
    let _owner = control.as_ref().map(lock_now).transpose()?;

    // While the log was inspected others may have gone on, and pruned: what was seen of it may never have been there at one
    // time. Nobody prunes or goes on to another segment now.
    if super::plan(log, &inspect(log)?, &plan.options)?.steps != plan.steps {
        return Err(changed(log.path()));
    }

    let mode = if metastore.is_some() { data_mode(&log.shared)? } else { DEFAULT_MODE };
    let mut targets = plan
        .deeds
        .iter()
        .zip(&plan.steps)
        .filter_map(|(deed, step)| match deed {
            Deed::Cut(ranges) if ranges.is_empty() => None,
            deed if is_told_with_another(deed) => None,
            deed => Some(Target { file: step.file.clone(), deed: deed.clone(), mode }),
        })
        .collect::<Vec<_>>();
    let files = targets.iter().map(|target| site.open(&target.file)).collect::<Result<Vec<_>>>()?;
    for (target, file) in targets.iter_mut().zip(&files) {
        target.settle(file.as_ref())?;
    }
    let mut locks = Vec::new();
    for (target, file) in targets.iter().zip(&files) {
        let Some(file) = file.as_ref().filter(|_| target.file != METASTORE) else { continue };
        locks.push(lock_now(file)?);
        refuse_if_open(file)?;
    }
    // A libjlog writer fills the segment it has open, whatever the metastore says: it must not be finished under it.
    let active = log.metastore()?.active.to_string();
    let changes = |name: &str| targets.iter().any(|target| target.file == name);
    if changes(METASTORE)
        && !changes(&active)
        && log.metastore_problem().is_none()
        && let Some(file) = site.open(&active)?
    {
        refuse_if_open(&file)?;
    }
    site.require_space(plan.kept_bytes * 2)?;

    let dir = site.stage(stamp)?;
    let mut manifest = Manifest::new(plan);
    for (target, file) in targets.iter_mut().zip(&files) {
        let entry = site.prepare(&dir, target, file.as_ref(), plan.options.no_undo)?;
        if plan.planned_on.get(&target.file) != Some(&entry.old) {
            site.remove_dir_of_names(&dir)?;
            return Err(changed(&site.path(&target.file)));
        }
        manifest.entries.push(entry);
    }
    site.sync(&dir)?;
    if !plan.options.no_undo {
        site.write_new(&dir.join(MANIFEST), manifest.encode().as_bytes(), 0o600)?;
        site.sync(&dir)?;
    }

    for (target, file) in targets.iter().zip(&files) {
        site.perform(&dir, target, file.as_ref())?;
    }
    site.sync(&site.dir)?;
    drop(locks);
    if plan.options.no_undo {
        site.remove_dir_of_names(&dir)?;
    }
    Ok(Repaired { steps: plan.steps.len(), kept: (!plan.options.no_undo).then_some(dir) })
}

/// Takes back the last repair that was not taken back yet; `None` if there is none. On disk when this returns.
///
/// # Errors
/// [`Invalid`](ErrorKind::Invalid) if a file has changed since the repair: taking it back would lose what was written since. Nothing
/// is changed then. [`Busy`](ErrorKind::Busy) as for [`apply`].
pub fn undo(log_dir: impl AsRef<Path>) -> Result<Option<Past>> {
    undo_on(Arc::new(OsDisk), log_dir.as_ref())
}

/// As [`undo`], on a disk of the caller's.
pub fn undo_on(disk: Arc<dyn Disk>, log_dir: &Path) -> Result<Option<Past>> {
    let site = Site { disk, dir: log_dir.to_path_buf() };
    let Some(mut past) = site.past()?.into_iter().rev().find(|past| !past.undone) else { return Ok(None) };
    let manifest = Manifest::decode(&past.lines, &past.dir.join(MANIFEST))?;
    let metastore = site.open(METASTORE)?;
    let _lock = metastore.as_ref().map(lock_now).transpose()?;

    let files = manifest.entries.iter().map(|entry| site.open(&entry.file)).collect::<Result<Vec<_>>>()?;
    let mut locks = Vec::new();
    for (entry, file) in manifest.entries.iter().zip(&files) {
        let now = file.as_ref().map(digest).transpose()?;
        if now != entry.new && now != entry.old {
            let what = "it has changed since the repair; taking that back would lose what was written since";
            return Err(
                Error::new(ErrorKind::Invalid, "take the repair back", what).at(&site.path(&entry.file))
            );
        }
        let Some(file) = file.as_ref().filter(|_| entry.file != METASTORE) else { continue };
        locks.push(lock_now(file)?);
        refuse_if_open(file)?;
    }
    for (entry, file) in manifest.entries.iter().zip(&files) {
        site.restore(&past.dir, entry, file.as_ref())?;
    }
    site.sync(&site.dir)?;
    drop(locks);
    site.write_new(&past.dir.join(UNDONE), b"", 0o600)?;
    site.sync(&past.dir)?;
    past.undone = true;
    Ok(Some(past))
}

/// The repairs of the past whose originals are kept, oldest first.
pub fn history(log_dir: impl AsRef<Path>) -> Result<Vec<Past>> {
    Site { disk: Arc::new(OsDisk), dir: log_dir.as_ref().to_path_buf() }.past()
}

/// Takes the lock of a file, or says who has it.
fn lock_now(file: &File) -> Result<LockGuard<'_>> {
    file.try_lock()?.ok_or_else(|| {
        let who = match file.lock_holder() {
            Ok(Some(Some(pid))) => format!("process {pid} has it locked"),
            _ => "another process has it locked".to_owned(),
        };
        Error::new(ErrorKind::Busy, "change it", who).at(file.path())
    })
}

fn refuse_if_open(file: &File) -> Result<()> {
    let what = match file.opened_elsewhere()? {
        Some(false) => return Ok(()),
        Some(true) => "another process has it open; stop the log's writers and readers first",
        None => "whether another process has it open only its owner may ask, and only on a local file system",
    };
    Err(Error::new(ErrorKind::Busy, "change it", what).at(file.path()))
}
