//! The log's directory, as a place where files are kept, replaced and brought back.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::manifest::{Entry, MANIFEST, MOST_MANIFEST, UNDONE};
use super::{Deed, Digest, Past, changed, digest};
use crate::error::{Error, ErrorKind, Result};
use crate::io::{Disk, File, Open};
use crate::log::kept::{each_chunk, make_dir, require_own};
use crate::log::names::{KEPT, METASTORE};

/// What libjlog gives its files where nobody says otherwise.
pub(super) const DEFAULT_MODE: u32 = 0o640;

/// A small file is written in place, in one piece; what somebody has made larger than any of them ever is, is replaced.
const MOST_IN_PLACE: u64 = 64 * 1024;

/// A file to be changed, and how.
pub(super) struct Target {
    pub(super) file: String,
    pub(super) deed: Deed,
    pub(super) mode: u32,
}

impl Target {
    /// A file is either as it was or as it will be, at every instant: what takes two writes in place is replaced.
    pub(super) fn settle(&mut self, file: Option<&File>) -> Result<()> {
        let Deed::Overwrite(bytes) = &mut self.deed else { return Ok(()) };
        if file.map_or(Ok(0), File::size)? > bytes.len() as u64 {
            self.deed = Deed::Replace(std::mem::take(bytes));
        }
        Ok(())
    }
}

/// The log's directory, as a place where files are kept, replaced and brought back.
pub(super) struct Site {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) dir: PathBuf,
}

impl Site {
    pub(super) fn path(&self, file: &str) -> PathBuf {
        self.dir.join(file)
    }

    pub(super) fn open(&self, file: &str) -> Result<Option<File>> {
        File::open_existing(&*self.disk, &self.path(file), Open::ReadWrite)
    }

    pub(super) fn sync(&self, dir: &Path) -> Result<()> {
        self.disk.sync_dir(dir).map_err(|e| Error::io("sync the directory", dir, e))
    }

    pub(super) fn require_space(&self, bytes: u64) -> Result<()> {
        // A file system that cannot say how much is free will say so when it is full.
        let Ok(free) = self.disk.free_space(&self.dir) else { return Ok(()) };
        if free >= bytes {
            return Ok(());
        }
        let what = format!("copies take {bytes} bytes and {free} are free: {} are missing", bytes - free);
        Err(Error::new(ErrorKind::NoSpace, "keep what the repair replaces", what).at(&self.dir))
    }

    /// A new directory for what this repair keeps.
    pub(super) fn stage(&self, stamp: &str) -> Result<PathBuf> {
        make_dir(&*self.disk, &self.dir.join(KEPT))?;
        for n in 0u32.. {
            let name = if n == 0 { stamp.to_owned() } else { format!("{stamp}.{n}") };
            let dir = self.dir.join(KEPT).join(name);
            if self.disk.info(&dir, false).is_err() {
                make_dir(&*self.disk, &dir)?;
                return Ok(dir);
            }
        }
        Err(Error::new(ErrorKind::TooLarge, "keep what the repair replaces", "every name is taken")
            .at(&self.dir))
    }

    /// Keeps the original and stages what replaces it; the log is not changed.
    pub(super) fn prepare(
        &self,
        dir: &Path,
        target: &Target,
        file: Option<&File>,
        no_undo: bool,
    ) -> Result<Entry> {
        let old = file.map(digest).transpose()?;
        if let Some(file) = file.filter(|_| !no_undo) {
            let kept = self.new_file(&dir.join(&target.file), 0o600)?;
            each_chunk(file, 0, u64::MAX, &mut |chunk, at| kept.pwrite(chunk, at))?;
            kept.sync()?;
        }
        let staged = staged(dir, &target.file);
        let new = match (&target.deed, file) {
            (Deed::Overwrite(bytes), _) => (bytes.len() as u64, crc32fast::hash(bytes)),
            (Deed::Replace(bytes) | Deed::Make(bytes), _) => {
                self.write_new(&staged, bytes, target.mode)?;
                (bytes.len() as u64, crc32fast::hash(bytes))
            }
            (Deed::Truncate(to), Some(file)) => digest_up_to(file, *to)?,
            (Deed::Cut(ranges), Some(file)) => {
                let new = self.new_file(&staged, target.mode)?;
                let mut at = 0;
                each_kept_chunk(file, ranges, &mut |chunk| {
                    new.pwrite(chunk, at)?;
                    at += chunk.len() as u64;
                    Ok(())
                })?;
                new.sync()?;
                digest(&new)?
            }
            (Deed::Patch(patches, cut), Some(file)) => {
                let new = self.new_file(&staged, target.mode)?;
                each_chunk(file, 0, cut.unwrap_or(u64::MAX), &mut |chunk, at| new.pwrite(chunk, at))?;
                for (at, bytes) in patches {
                    new.pwrite(bytes, *at)?;
                }
                new.sync()?;
                digest(&new)?
            }
            (Deed::Truncate(_) | Deed::Cut(_) | Deed::Patch(..), None) => {
                return Err(changed(&self.path(&target.file)));
            }
        };
        Ok(Entry { file: target.file.clone(), old, new: Some(new) })
    }

    pub(super) fn perform(&self, dir: &Path, target: &Target, file: Option<&File>) -> Result<()> {
        match (&target.deed, file) {
            (Deed::Overwrite(bytes), Some(file)) => overwrite(file, bytes),
            (Deed::Truncate(to), Some(file)) => {
                file.truncate(*to)?;
                file.sync()
            }
            (Deed::Cut(_) | Deed::Patch(..) | Deed::Replace(_), Some(_)) | (Deed::Make(_), None) => {
                self.put(dir, &target.file)
            }
            _ => Err(changed(&self.path(&target.file))),
        }
    }

    /// Moves a staged file into its place.
    fn put(&self, dir: &Path, file: &str) -> Result<()> {
        let path = self.path(file);
        self.disk
            .rename(&staged(dir, file), &path)
            .map_err(|e| Error::io("put the mended file in its place", &path, e))?;
        self.sync(&self.dir)
    }

    pub(super) fn restore(&self, dir: &Path, entry: &Entry, file: Option<&File>) -> Result<()> {
        let path = self.path(&entry.file);
        match (entry.old, file) {
            (None, Some(_)) => {
                self.disk.remove(&path).map_err(|e| Error::io("remove what the repair made", &path, e))
            }
            (None, None) => Ok(()),
            (Some(old), _) => {
                let kept = File::open(&*self.disk, &dir.join(&entry.file), Open::Read)?;
                if digest(&kept)? != old {
                    let what = "the kept original is damaged itself";
                    return Err(Error::damaged("take the repair back", kept.path(), 0, what));
                }
                // The same way back as forth: in place what one write can bring back, all else by a rename.
                let shared = entry.file == METASTORE || entry.file.starts_with("cp.");
                let small = shared && old.0 <= MOST_IN_PLACE;
                let one_write = |file: &&File| small && file.size().is_ok_and(|now| now <= old.0);
                match file.filter(one_write) {
                    Some(file) => {
                        let mut bytes = Vec::new();
                        each_chunk(&kept, 0, u64::MAX, &mut |chunk, _| {
                            bytes.extend_from_slice(chunk);
                            Ok(())
                        })?;
                        overwrite(file, &bytes)
                    }
                    None => {
                        let mode = self
                            .disk
                            .info(&self.path(METASTORE), false)
                            .map_or(DEFAULT_MODE, |info| info.mode & 0o666);
                        let _ = self.disk.remove(&staged(dir, &entry.file));
                        let back = self.new_file(&staged(dir, &entry.file), mode)?;
                        each_chunk(&kept, 0, u64::MAX, &mut |chunk, at| back.pwrite(chunk, at))?;
                        back.sync()?;
                        self.put(dir, &entry.file)
                    }
                }
            }
        }
    }

    fn new_file(&self, path: &Path, mode: u32) -> Result<File> {
        File::open(&*self.disk, path, Open::CreateNew(mode))
    }

    pub(super) fn write_new(&self, path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
        let file = self.new_file(path, mode)?;
        file.pwrite(bytes, 0)?;
        file.sync()
    }

    pub(super) fn remove_dir_of_names(&self, dir: &Path) -> Result<()> {
        let failed = |e| Error::io("remove the working directory of the repair", dir, e);
        for name in self.disk.names(dir).map_err(failed)? {
            self.disk.remove(&dir.join(name)).map_err(failed)?;
        }
        self.disk.remove_dir(dir).map_err(failed)
    }

    pub(super) fn past(&self) -> Result<Vec<Past>> {
        let kept = self.dir.join(KEPT);
        let mut names = match self.disk.names(&kept) {
            Ok(names) => names,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Error::io("list what repairs have kept", &kept, error)),
        };
        require_own(&*self.disk, &kept)?;
        names.sort();
        let mut past = Vec::new();
        let own = |dir: &PathBuf| require_own(&*self.disk, dir).is_ok();
        for dir in names.into_iter().map(|name| kept.join(name)).filter(own) {
            // Without a manifest it is not a repair, or one that was broken off before it changed anything.
            let Ok(Some(file)) = File::open_existing(&*self.disk, &dir.join(MANIFEST), Open::Read) else {
                continue;
            };
            let mut text = Vec::new();
            each_chunk(&file, 0, MOST_MANIFEST, &mut |chunk, _| {
                text.extend_from_slice(chunk);
                Ok(())
            })?;
            let lines = String::from_utf8_lossy(&text).lines().map(str::to_owned).collect();
            let undone = self.disk.info(&dir.join(UNDONE), false).is_ok();
            past.push(Past { dir, undone, lines });
        }
        Ok(past)
    }
}

fn staged(dir: &Path, file: &str) -> PathBuf {
    dir.join(format!("new-{file}"))
}

/// Writes a small file anew in place; it is no longer than the bytes are.
fn overwrite(file: &File, bytes: &[u8]) -> Result<()> {
    file.pwrite(bytes, 0)?;
    file.sync()
}

fn digest_up_to(file: &File, to: u64) -> Result<Digest> {
    let mut crc = crc32fast::Hasher::new();
    each_chunk(file, 0, to, &mut |chunk, _| {
        crc.update(chunk);
        Ok(())
    })?;
    Ok((to, crc.finalize()))
}

/// The bytes of a file outside the ranges.
fn each_kept_chunk(file: &File, cut: &[(u64, u64)], take: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let mut cut = cut.to_vec();
    cut.sort_unstable();
    let mut at = 0;
    for (from, to) in cut.into_iter().chain([(u64::MAX, u64::MAX)]) {
        each_chunk(file, at, from, &mut |chunk, _| take(chunk))?;
        at = to;
    }
    Ok(())
}
