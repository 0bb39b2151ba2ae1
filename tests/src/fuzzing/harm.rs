//! What happens to the files of a log or a spool.

use std::path::{Path, PathBuf};

use arbitrary::Arbitrary;
use jlog::io::{Disk, File, Open};

/// Something that happens to one of several files.
#[derive(Debug, Arbitrary)]
pub struct Harm {
    file: u8,
    at: u16,
    kind: Kind,
}

#[derive(Debug, Arbitrary)]
enum Kind {
    Overwrite(Vec<u8>),
    Flip(u8),
    Truncate,
    Extend(u8),
    Remove,
    /// Copies bytes from `at` to the end of the file over those at another place.
    CopyTo(u16),
    /// Puts the file in the place of another one.
    RenameTo(u8),
}

impl Harm {
    /// Whether it puts a file in the place of another one.
    pub fn renames(&self) -> bool {
        matches!(self.kind, Kind::RenameTo(_))
    }

    /// Does it to one of these files, if that is there.
    pub fn inflict(&self, disk: &dyn Disk, files: &[PathBuf]) {
        let path = pick(files, self.file);
        let Ok(file) = File::open(disk, path, Open::ReadWrite) else { return };
        let size = file.size().unwrap();
        let at = u64::from(self.at) % (size + 1);
        match &self.kind {
            Kind::Overwrite(bytes) => file.pwrite(&bytes[..bytes.len().min(64)], at),
            Kind::Flip(bit) if at < size => {
                let mut byte = [0];
                file.pread(&mut byte, at).unwrap();
                file.pwrite(&[byte[0] ^ (1 << (bit % 8))], at)
            }
            Kind::Flip(_) => Ok(()),
            Kind::Truncate => file.truncate(at),
            Kind::Extend(by) => file.truncate(size + u64::from(*by)),
            Kind::Remove => {
                drop(file);
                return disk.remove(path).unwrap();
            }
            Kind::RenameTo(other) => {
                drop(file);
                return disk.rename(path, pick(files, *other)).unwrap();
            }
            Kind::CopyTo(to) => {
                let mut bytes = vec![0; (size - at) as usize];
                file.pread(&mut bytes, at).unwrap();
                file.pwrite(&bytes, u64::from(*to) % (size + 1))
            }
        }
        .unwrap();
    }
}

fn pick(files: &[PathBuf], which: u8) -> &Path {
    &files[usize::from(which) % files.len()]
}

/// The paths of these files of a log.
pub fn in_log(names: &[&str]) -> Vec<PathBuf> {
    names.iter().map(|name| Path::new(crate::SIM_LOG).join(name)).collect()
}
