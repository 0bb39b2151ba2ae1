//! Who holds the lock of a file, as far as the kernel tells it in `/proc`. Asking takes no lock and opens nothing.

use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// A process that holds a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Holder {
    /// Its number and its name; `None` where only root, or its user, may see them.
    pub(crate) process: Option<(u32, String)>,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.process {
            Some((pid, name)) => write!(f, "process {pid} ({name})"),
            None => f.write_str("a process of another user"),
        }
    }
}

/// Who owns a checksummed log: its writer holds the lock of this file for as long as it lives.
pub(crate) fn of_log(dir: &Path) -> Option<Holder> {
    of_file(&dir.join("control"))
}

/// Who holds a lock of the whole file.
fn of_file(path: &Path) -> Option<Holder> {
    let file = fs::metadata(path).ok()?;
    let all = fs::read_to_string("/proc/locks").ok()?;
    // Looking through all processes is worth it only where there is a lock. The device is compared below: some file
    // systems go by another number here.
    let locked: Vec<_> =
        all.lines().filter_map(locked_inode).filter(|(_, inode)| *inode == file.ino()).collect();
    if locked.is_empty() {
        return None;
    }
    let mut processes = fs::read_dir("/proc").ok()?.flatten();
    let process = processes.find_map(|process| {
        let pid: u32 = process.file_name().to_str()?.parse().ok()?;
        let mut open = fs::read_dir(process.path().join("fd")).ok()?.flatten();
        open.find(|open| {
            let same = |there: fs::Metadata| (there.dev(), there.ino()) == (file.dev(), file.ino());
            let locks = || fs::read_to_string(process.path().join("fdinfo").join(open.file_name()));
            fs::metadata(open.path()).is_ok_and(same)
                && locks().is_ok_and(|text| text.lines().any(|line| line.starts_with("lock:")))
        })?;
        let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
        Some((pid, name.trim_end().to_owned()))
    });
    let device = (u64::from(major(file.dev())), u64::from(minor(file.dev())));
    let seen = process.is_some() || locked.iter().any(|(of, _)| *of == device);
    seen.then_some(Holder { process })
}

/// The parts of a device's number, as Linux packs them.
fn major(device: u64) -> u32 {
    ((device >> 8 & 0xfff) | (device >> 32 & !0xfff)) as u32
}

fn minor(device: u64) -> u32 {
    ((device & 0xff) | (device >> 12 & !0xff)) as u32
}

/// Device and inode of a line of `/proc/locks`: `1: OFDLCK ADVISORY  WRITE -1 fe:00:10010635 0 EOF`. Who only waits for
/// a lock has an arrow there.
fn locked_inode(line: &str) -> Option<((u64, u64), u64)> {
    let words: Vec<_> = line.split_whitespace().collect();
    let place = words.get(5).filter(|_| words.get(1) == Some(&"OFDLCK"))?;
    let mut parts = place.split(':');
    let mut number = |radix| u64::from_str_radix(parts.next()?, radix).ok();
    Some(((number(16)?, number(16)?), number(10)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_told_by_its_inode() {
        let held = "1: OFDLCK ADVISORY  WRITE -1 fe:00:10010635 0 EOF";
        assert_eq!(locked_inode(held), Some(((0xfe, 0), 10_010_635)));
        assert_eq!(locked_inode("1: -> OFDLCK ADVISORY  WRITE -1 fe:00:10010635 0 EOF"), None);
        assert_eq!(locked_inode(""), None);
    }

    #[test]
    fn a_file_without_a_lock_has_no_holder() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(of_file(file.path()), None);
        assert_eq!(of_file(Path::new("/nowhere/at/all")), None);
    }
}
