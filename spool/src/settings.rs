//! The file `spool`: that a directory is one, of which version, and how often it was opened to write.
//!
//! ```text
//!   0       8         10      16        24       32           40              508   512
//!   +-------+---------+-------+---------+--------+------------+---------------+-----+
//!   | magic | version | zeros | created | opened | generation | zeros         | crc |
//!   +-------+---------+-------+---------+--------+------------+---------------+-----+
//! ```
//!
//! Two slots of 512 bytes, written one after the other, each synced: what a power cut tears, or what rots, is never all. All of it fits into
//! the room that the file has had from the beginning, so that a full disk keeps nobody from opening the spool.

use std::path::{Path, PathBuf};

use jlog::io::{Disk, File, Open};

use crate::error::{Result, SpoolError};
use crate::wire::{Taken, put_u16, put_u64};

/// The version of the spool's files that this crate writes.
pub(crate) const VERSION: u16 = 1;

const MAGIC: [u8; 8] = *b"spool\x00\x01\n";
const SLOT: usize = 512;
/// The file's name.
pub(crate) const NAME: &str = "spool";

/// What the file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Settings {
    /// When the spool was made, in seconds since 1970.
    pub(crate) created: u64,
    /// How often it was opened to write: no two runs of it give the same ids and change numbers.
    pub(crate) opened: u64,
    generation: u64,
}

enum Slot {
    Sound(Settings),
    Newer(u16),
    Unsound,
}

impl Settings {
    fn encode(self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        put_u16(&mut out, VERSION);
        out.resize(16, 0);
        put_u64(&mut out, self.created);
        put_u64(&mut out, self.opened);
        put_u64(&mut out, self.generation);
        out.resize(SLOT - 4, 0);
        let crc = crc32fast::hash(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    fn decode(slot: &[u8]) -> Slot {
        let sound = || {
            let (body, crc) = slot.split_at_checked(SLOT - 4)?;
            let crc = u32::from_le_bytes(crc.try_into().ok()?);
            (body.starts_with(&MAGIC) && crc32fast::hash(body) == crc).then_some(Taken(&body[8..]))
        };
        let Some(mut taken) = sound() else { return Slot::Unsound };
        let read = |taken: &mut Taken<'_>| {
            let version = taken.u16()?;
            taken.bytes(6)?;
            let settings = Settings { created: taken.u64()?, opened: taken.u64()?, generation: taken.u64()? };
            Some((version, settings))
        };
        match read(&mut taken) {
            Some((VERSION, settings)) => Slot::Sound(settings),
            Some((version, _)) => Slot::Newer(version),
            None => Slot::Unsound,
        }
    }

    pub(crate) fn path(dir: &Path) -> PathBuf {
        dir.join(NAME)
    }

    /// Makes the file. Durable when it returns, but for its name.
    pub(crate) fn create(disk: &dyn Disk, dir: &Path, created: u64, mode: u32) -> Result<Settings> {
        Settings::create_as(disk, dir, Settings { created, ..Settings::default() }, mode)
    }

    /// As [`Settings::create`], of a spool that was opened so often.
    pub(crate) fn create_opened(disk: &dyn Disk, dir: &Path, opened: u64, mode: u32) -> Result<Settings> {
        Settings::create_as(disk, dir, Settings { opened, ..Settings::default() }, mode)
    }

    fn create_as(disk: &dyn Disk, dir: &Path, settings: Settings, mode: u32) -> Result<Settings> {
        let file = File::open(disk, &Settings::path(dir), Open::Create(mode))?;
        file.pwrite(&[settings.encode(), vec![0; SLOT]].concat(), 0)?;
        file.sync()?;
        Ok(settings)
    }

    /// What the file says; `None` if there is none, or no slot of it is sound.
    pub(crate) fn read(disk: &dyn Disk, dir: &Path) -> Result<Option<Settings>> {
        let path = Settings::path(dir);
        let Some(file) = File::open_existing(disk, &path, Open::Read)? else { return Ok(None) };
        // After a sync that failed the kernel shows what is not on the disk: the next write would go over what is.
        file.drop_cache()?;
        let mut bytes = [0; 2 * SLOT];
        let got = file.pread_up_to(&mut bytes, 0)?;
        let mut newest: Option<Settings> = None;
        for slot in bytes[..got].chunks_exact(SLOT) {
            match Settings::decode(slot) {
                Slot::Sound(settings) => {
                    newest = newest.filter(|n| n.generation > settings.generation).or(Some(settings));
                }
                Slot::Newer(version) => return Err(SpoolError::Newer { path, version }),
                Slot::Unsound => {}
            }
        }
        Ok(newest)
    }

    /// Notes that the spool is opened to write once more. On disk when it returns.
    pub(crate) fn count_open(self, disk: &dyn Disk, dir: &Path) -> Result<Settings> {
        let file = File::open(disk, &Settings::path(dir), Open::ReadWrite)?;
        let mut next = Settings { opened: self.opened + 1, ..self };
        // Into both slots, one after the other: where one rots, the count does not go back.
        for _ in 0..2 {
            next.generation += 1;
            file.pwrite(&next.encode(), (next.generation % 2) * SLOT as u64)?;
            file.sync()?;
        }
        Ok(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jlog::io::OsDisk;

    #[test]
    fn the_newest_sound_slot_counts_and_one_that_rots_costs_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut settings = Settings::create(&OsDisk, dir.path(), 7, 0o600).expect("made");
        for opened in 1..=5 {
            settings = settings.count_open(&OsDisk, dir.path()).expect("counted");
            assert_eq!(Settings::read(&OsDisk, dir.path()).expect("read"), Some(settings));
            assert_eq!(settings.opened, opened);
        }
        let path = Settings::path(dir.path());
        let whole = std::fs::read(&path).expect("there");
        for at in 0..whole.len() {
            let mut torn = whole.clone();
            torn[at] ^= 1;
            std::fs::write(&path, &torn).expect("written");
            let read = Settings::read(&OsDisk, dir.path()).expect("read").expect("one slot is sound");
            assert_eq!(read.opened, 5, "byte {at}: {read:?}");
        }
    }

    #[test]
    fn a_newer_spool_is_refused_and_named() {
        let dir = tempfile::tempdir().expect("a directory");
        let settings = Settings::create(&OsDisk, dir.path(), 7, 0o600).expect("made");
        let mut slot = settings.encode();
        slot[8] = 2;
        let crc = crc32fast::hash(&slot[..SLOT - 4]);
        slot[SLOT - 4..].copy_from_slice(&crc.to_le_bytes());
        std::fs::write(Settings::path(dir.path()), slot).expect("written");
        let refused = Settings::read(&OsDisk, dir.path());
        assert!(matches!(refused, Err(SpoolError::Newer { version: 2, .. })), "{refused:?}");
    }
}
