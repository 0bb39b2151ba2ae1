//! What is cut off is kept aside: the bytes of torn records, in `.repair/torn/`.

use std::path::{Path, PathBuf};

use super::names::KEPT;
use super::shared::Shared;
use crate::error::{Error, ErrorKind, Result};
use crate::io::{Disk, File, Open, PathKind};

/// Kept bytes belong to the log's owner alone: nobody else reads them in the normal course.
const DIR_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
const CHUNK: usize = 64 * 1024;

/// Makes a directory inside the log, if it is not there. Its name is durable when this returns.
pub(crate) fn make_dir(disk: &dyn Disk, path: &Path) -> Result<()> {
    match disk.create_dir(path, DIR_MODE) {
        Ok(()) => sync_parent(disk, path),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => require_own(disk, path),
        Err(error) => Err(Error::io("make a directory to keep bytes in", path, error)),
    }
}

/// Refuses what is no directory of the log itself: through a link, what is kept would be written, and removed, elsewhere.
pub(crate) fn require_own(disk: &dyn Disk, path: &Path) -> Result<()> {
    let doing = "keep bytes in it";
    match disk.info(path, false).map_err(|e| Error::io(doing, path, e))?.kind {
        PathKind::Directory => Ok(()),
        _ => Err(Error::new(ErrorKind::Invalid, doing, "it is no directory, or a link to one").at(path)),
    }
}

pub(crate) fn sync_parent(disk: &dyn Disk, path: &Path) -> Result<()> {
    sync_names(disk, path.parent().unwrap_or(path))
}

/// Makes durable what the files in a directory are called.
pub(crate) fn sync_names(disk: &dyn Disk, dir: &Path) -> Result<()> {
    disk.sync_dir(dir).map_err(|e| Error::io("sync the directory", dir, e))
}

/// Keeps the bytes `from..to` of a file as `.repair/torn/<label>-<from>`, durably. Zeros are not worth keeping.
///
/// Returns the path, or `None` where there was nothing to keep.
pub(crate) fn keep_torn(
    log: &Shared,
    label: &str,
    file: &File,
    from: u64,
    to: u64,
) -> Result<Option<PathBuf>> {
    if used_up_to(file, from, to)? == from {
        return Ok(None);
    }
    let disk = &**log.disk();
    let dir = log.dir().join(KEPT);
    make_dir(disk, &dir)?;
    let dir = dir.join("torn");
    make_dir(disk, &dir)?;

    let kept = new_file(disk, &dir, &format!("{label}-{from}"))?;
    let copied =
        copy(file, &kept, from, to).and_then(|()| kept.sync()).and_then(|()| sync_parent(disk, kept.path()));
    if let Err(error) = copied {
        let _ = disk.remove(kept.path());
        return Err(error);
    }
    Ok(Some(kept.path().to_path_buf()))
}

/// Keeps damaged bytes as `.repair/damaged/<label>-<from>-<to>`, durably, unless they are there already.
pub(crate) fn keep_damaged(log: &Shared, label: &str, file: &File, from: u64, to: u64) -> Result<()> {
    let disk = &**log.disk();
    let dir = log.dir().join(KEPT);
    make_dir(disk, &dir)?;
    let dir = dir.join("damaged");
    make_dir(disk, &dir)?;
    let path = dir.join(format!("{label}-{from}-{to}"));
    if disk.info(&path, false).is_ok() {
        return Ok(());
    }
    let kept = File::open(disk, &path, Open::CreateNew(FILE_MODE))?;
    let copied =
        copy(file, &kept, from, to).and_then(|()| kept.sync()).and_then(|()| sync_parent(disk, &path));
    copied.inspect_err(|_| drop(disk.remove(&path)))
}

/// A new file of that name, or of that name and a number.
fn new_file(disk: &dyn Disk, dir: &Path, name: &str) -> Result<File> {
    for n in 0u32.. {
        let path = if n == 0 { dir.join(name) } else { dir.join(format!("{name}.{n}")) };
        match File::open(disk, &path, Open::CreateNew(FILE_MODE)) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            outcome => return outcome,
        }
    }
    Err(Error::new(ErrorKind::TooLarge, "keep torn bytes", "every name is taken").at(dir))
}

/// Copies the bytes `from..to` of one file to the start of another.
pub(crate) fn copy(source: &File, target: &File, from: u64, to: u64) -> Result<()> {
    each_chunk(source, from, to, &mut |chunk, at| target.pwrite(chunk, at - from))
}

/// The end of the bytes in `from..to` that are not all zeros; `from` where they are.
pub(crate) fn used_up_to(file: &File, from: u64, to: u64) -> Result<u64> {
    let mut end = from;
    each_chunk(file, from, to, &mut |chunk, at| {
        if let Some(last) = chunk.iter().rposition(|byte| *byte != 0) {
            end = at + last as u64 + 1;
        }
        Ok(())
    })?;
    Ok(end)
}

/// Reads `from..to`, or as much of it as there is, a piece at a time.
pub(crate) fn each_chunk(
    file: &File,
    from: u64,
    to: u64,
    take: &mut dyn FnMut(&[u8], u64) -> Result<()>,
) -> Result<()> {
    let mut chunk = vec![0; CHUNK];
    let mut at = from;
    while at < to {
        let want = usize::try_from(to - at).unwrap_or(CHUNK).min(CHUNK);
        let got = file.pread_up_to(&mut chunk[..want], at)?;
        if got == 0 {
            break;
        }
        take(&chunk[..got], at)?;
        at += got as u64;
    }
    Ok(())
}
