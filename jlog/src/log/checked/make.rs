//! Making segments: from nothing, or from one that nobody wants any more.
//!
//! A segment gets its name once its header is on the disk, and its first record once its name is. So a segment that
//! is there begins with a sound header, and all before it is complete.

use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use super::reclaim::STUB_LEN;
use crate::error::{Error, ErrorKind, Result};
use crate::id::SegmentId;
use crate::io::{Disk, File, Open};
use crate::log::kept::sync_names;
use crate::record::checked::{Beginning, SEGMENT_HEADER, SegmentHeader};
use crate::segment::data_path;
use crate::sync::{Mutex, MutexGuard};

/// A segment on its way; whoever finds one has found what a crash has left of it.
const NEW: &str = ".new";
/// A segment that was removed, and whose space the next one takes.
const SPARE: &str = ".spare";
/// The space of the next segment, made ready while this one is written.
const AHEAD: &str = ".ahead";
/// The same, on its way.
const AHEAD_NEW: &str = ".ahead.new";
const CHUNK: usize = 256 * 1024;

fn spare(dir: &Path) -> PathBuf {
    dir.join(SPARE)
}

/// Makes a segment, durable with its name and its header, and returns it with its header. With `room`, so many bytes
/// are written in advance, so that later syncs change no size.
pub(crate) fn make(
    disk: &dyn Disk,
    dir: &Path,
    mut header: SegmentHeader,
    room: Option<u64>,
    ahead: &Ahead,
    mode: u32,
) -> Result<(File, SegmentHeader)> {
    let path = dir.join(NEW);
    // What a crash has left is not written over: of two renames it may have lost the first, and then these are the bytes
    // of a segment that is still there.
    remove(disk, &path)?;
    let reused = room.is_some() && take_spare(disk, dir, &path)?;
    if room.is_some() && !reused {
        ahead.take(disk, dir, &path)?;
    }
    let file = File::open(disk, &path, Open::Create(mode))?;
    header.recycled = reused;
    file.pwrite(&header.encode(), 0)?;
    if let Some(room) = room {
        fill(&file, room)?;
    }
    file.sync()?;

    let target = data_path(dir, SegmentId(header.segment));
    disk.rename(&path, &target).map_err(|e| Error::io("give the new segment its name", &target, e))?;
    if !crate::planted("missing_directory_sync") {
        // It is there from now on, so this is no "try again when there is space".
        sync_names(disk, dir).map_err(|error| error.of_kind(ErrorKind::Io))?;
    }
    drop(file);
    // Under its own name, so that errors tell of it.
    Ok((File::open(disk, &target, Open::ReadWrite)?, header))
}

/// Whether this process has made the next segment's space ready. What another one has left is not believed.
#[derive(Debug, Default)]
pub(crate) struct Ahead {
    ready: Mutex<bool>,
}

impl Ahead {
    /// Makes a file of `room` zeros, on the disk, unless there is something that the next segment can be made from. False
    /// if there was nothing to do, or no space.
    pub(crate) fn make(&self, disk: &dyn Disk, dir: &Path, room: u64, mode: u32) -> Result<bool> {
        if *self.ready() || disk.info(&spare(dir), false).is_ok() {
            return Ok(false);
        }
        // It must not be what fills the disk.
        if disk.free_space(dir).is_ok_and(|free| free < room.saturating_mul(2)) {
            return Ok(false);
        }
        let path = dir.join(AHEAD_NEW);
        remove(disk, &path)?;
        let file = File::open(disk, &path, Open::Create(mode))?;
        fill(&file, room)?;
        if file.size()? < room {
            drop(file);
            return remove(disk, &path).map(|()| false);
        }
        file.sync()?;
        let target = dir.join(AHEAD);
        disk.rename(&path, &target)
            .map_err(|e| Error::io("give the space of the next segment its name", &target, e))?;
        *self.ready() = true;
        Ok(true)
    }

    /// Removes what another process has left ready, or on its way. What stays does no harm but for its space.
    pub(crate) fn clear(disk: &dyn Disk, dir: &Path) {
        for name in [AHEAD, AHEAD_NEW] {
            let path = dir.join(name);
            if disk.info(&path, false).is_ok() {
                let _ = disk.remove(&path);
            }
        }
    }

    /// Makes the space the new segment, if it is ready. It never was another one: its name needs no sync.
    fn take(&self, disk: &dyn Disk, dir: &Path, path: &Path) -> Result<()> {
        let mut ready = self.ready();
        if !std::mem::take(&mut *ready) {
            return remove(disk, &dir.join(AHEAD));
        }
        match disk.rename(&dir.join(AHEAD), path) {
            // Somebody has removed it.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            other => other.map_err(|e| Error::io("use the space that is ready", path, e)),
        }
    }

    fn ready(&self) -> MutexGuard<'_, bool> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes the spare file the new one, if there is one that is nothing else any more.
fn take_spare(disk: &dyn Disk, dir: &Path, path: &Path) -> Result<bool> {
    let Some(file) = File::open_existing(disk, &spare(dir), Open::Read)? else { return Ok(false) };
    let mut bytes = [0; SEGMENT_HEADER];
    let got = file.pread_up_to(&mut bytes, 0)?;
    drop(file);
    let gone = match SegmentHeader::decode(&bytes[..got]) {
        Beginning::Sound(was) => disk.info(&data_path(dir, SegmentId(was.segment)), false).is_err(),
        Beginning::Damaged | Beginning::Newer(_) => false,
    };
    if !gone {
        remove(disk, &spare(dir))?;
        return Ok(false);
    }
    disk.rename(&spare(dir), path).map_err(|e| Error::io("use a spare segment again", &spare(dir), e))?;
    // The name it had must be gone before its bytes are another segment's.
    sync_names(disk, dir)?;
    Ok(true)
}

fn remove(disk: &dyn Disk, path: &Path) -> Result<()> {
    match disk.remove(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io("remove what a crash has left", path, error))
        }
        _ => Ok(()),
    }
}

/// Writes zeros up to `room`. Where there is no space for that the segment grows as it is written.
fn fill(file: &File, room: u64) -> Result<()> {
    let zeros = vec![0; CHUNK.min(usize::try_from(room).unwrap_or(CHUNK))];
    let mut at = file.size()?;
    while at < room {
        let len = usize::try_from(room - at).unwrap_or(CHUNK).min(zeros.len());
        match file.pwrite(&zeros[..len], at) {
            Ok(()) => at += len as u64,
            Err(error) if error.kind() == ErrorKind::NoSpace => {
                return file.truncate(SEGMENT_HEADER as u64);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The bytes that the next segment will take and that are taken already.
pub(crate) fn spare_bytes(disk: &dyn Disk, dir: &Path) -> u64 {
    let len = |path: PathBuf| disk.info(&path, false).map_or(0, |info| info.len);
    len(spare(dir)).max(len(dir.join(AHEAD)))
}

/// Removes a segment that nobody wants any more, or puts it aside for [`make`] to use. A stub has no room worth keeping.
pub(crate) fn unmake(disk: &dyn Disk, dir: &Path, path: &Path, keep: bool) -> std::io::Result<()> {
    let taken = disk.info(&spare(dir), false).is_ok();
    let roomy = || disk.info(path, false).is_ok_and(|info| info.len > STUB_LEN as u64);
    if keep && !taken && roomy() { disk.rename(path, &spare(dir)) } else { disk.remove(path) }
}
