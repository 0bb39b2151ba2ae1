//! The metastore of a checksummed log: what was settled when it was made, and what may be changed since.

use std::path::Path;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::id::{SegmentId, Timestamp};
use crate::io::{Disk, File, Open};
use crate::log::durability::Durability;
use crate::log::names::METASTORE;
use crate::record::Compression;
use crate::record::checked::{Features, LogIdentity, put_time, time_at, u32_at, u64_at};
use crate::record::slots::{self, Fill, Held, Kind, SLOT};

/// The metastore has two slots, written in turn.
const SLOTS: usize = 2;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) log: LogIdentity,
    pub(crate) generation: u64,
    pub(crate) features: Features,
    pub(crate) segment_size: u32,
    pub(crate) durability: Durability,
    pub(crate) compression: Compression,
    pub(crate) created: Timestamp,
    /// Segments before this one may have been removed unread, because a policy said so.
    pub(crate) dropped_before: SegmentId,
    pub(crate) retention: Retention,
}

/// How long records are kept, beside what subscribers ask for. Nothing of it is set by default: what all have read
/// goes at once, and what is unread stays.
///
/// Segments go as a whole, the oldest first, and never the active one. Times are those of the records:
/// it is their distance from the newest one that counts, so one record from the future makes all others look old. A log without subscribers keeps everything but what `quota` or `expire_after` removes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Retention {
    /// What all have read stays until the log has more bytes than this.
    pub keep_bytes: Option<u64>,
    /// What all have read stays until it is older, than the newest record, by so much.
    pub keep_for: Option<Duration>,
    /// The most bytes the log's segments may have. Looked at when a segment is finished and the next one is made.
    pub quota: Option<u64>,
    /// The bytes that must stay free on its file system. Looked at as `quota` is.
    pub min_free: Option<u64>,
    /// What happens when `quota` or `min_free` is reached.
    pub when_full: WhenFull,
    /// What is older, than the newest record, by so much goes, whoever has not read it: a subscriber that is dead or too
    /// slow keeps nothing older than this. It meets a [`Gap`](crate::Gap) when it comes back.
    pub expire_after: Option<Duration>,
}

/// What happens when a quota is reached: see [`Retention`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum WhenFull {
    /// The append fails with [`NoSpace`](ErrorKind::NoSpace).
    #[default]
    Error,
    /// The append waits until subscribers have moved on.
    Block,
    /// The oldest segments go, read or not. Subscribers that had not read them meet a [`Gap`](crate::Gap).
    DropOldest,
}

/// What was found of the metastore.
#[derive(Debug, Clone)]
pub(crate) enum FoundSettings {
    /// The settings; and what is wrong with the file all the same, if anything is.
    Sound(Settings, Option<String>),
    Newer(String),
    /// Nothing that can be believed.
    Lost,
}

const VALUE: usize = 128;

/// A duration that is not set, in microseconds.
const NEVER: u64 = u64::MAX;

impl Settings {
    pub(crate) fn new(log: LogIdentity) -> Settings {
        Settings {
            log,
            generation: 1,
            features: Features::default(),
            segment_size: crate::record::classic::DEFAULT_UNIT_LIMIT,
            durability: Durability::Sync,
            compression: Compression::None,
            created: Timestamp::default(),
            dropped_before: SegmentId(0),
            retention: Retention::default(),
        }
    }

    fn value(&self) -> [u8; VALUE] {
        let mut out = [0; VALUE];
        let (level, micros) = self.durability.encode();
        let Retention { keep_bytes, keep_for, quota, min_free, when_full, expire_after } = self.retention;
        out[..4].copy_from_slice(&self.segment_size.to_le_bytes());
        out[4] = level;
        out[5] = match self.compression {
            Compression::None | Compression::Null => 0,
            Compression::Lz4 => 1,
        };
        out[6] = match when_full {
            WhenFull::Error => 0,
            WhenFull::Block => 1,
            WhenFull::DropOldest => 2,
        };
        out[8..16].copy_from_slice(&micros.to_le_bytes());
        put_time(&mut out, 16, self.created);
        out[24..28].copy_from_slice(&self.dropped_before.0.to_le_bytes());
        let micros =
            |time: Option<Duration>| time.map_or(NEVER, |t| u64::try_from(t.as_micros()).unwrap_or(NEVER));
        let numbers = [
            keep_bytes.unwrap_or(NEVER),
            micros(keep_for),
            quota.unwrap_or(NEVER),
            min_free.unwrap_or(NEVER),
            micros(expire_after),
        ];
        for (n, number) in numbers.into_iter().enumerate() {
            out[32 + 8 * n..40 + 8 * n].copy_from_slice(&number.to_le_bytes());
        }
        out
    }

    /// `None` for numbers that nothing written by this version has.
    fn of(slot: &slots::Slot) -> Option<Settings> {
        let value = &slot.value;
        let number = |n: usize| Some(u64_at(value, 32 + 8 * n)).filter(|number| *number != NEVER);
        let time = |n: usize| number(n).map(Duration::from_micros);
        Some(Settings {
            log: slot.log,
            generation: slot.generation,
            features: slot.features,
            segment_size: Some(u32_at(value, 0)).filter(|size| *size > 0)?,
            durability: Durability::decode(value[4], u64_at(value, 8))?,
            compression: [Compression::None, Compression::Lz4].get(usize::from(value[5])).copied()?,
            created: time_at(value, 16),
            dropped_before: SegmentId(u32_at(value, 24)),
            retention: Retention {
                keep_bytes: number(0),
                keep_for: time(1),
                quota: number(2),
                min_free: number(3),
                when_full: [WhenFull::Error, WhenFull::Block, WhenFull::DropOldest]
                    .get(usize::from(value[6]))
                    .copied()?,
                expire_after: time(4),
            },
        })
    }

    fn slot(&self, number: usize) -> [u8; SLOT] {
        let Settings { log, generation, features, .. } = *self;
        let fill = Fill { log, generation, features, value: &self.value() };
        slots::encode(Kind::Metastore, METASTORE.as_bytes(), number, fill)
    }

    /// The whole file, both slots with the same.
    pub(crate) fn encode_file(&self) -> Vec<u8> {
        [self.slot(0), self.slot(1)].concat()
    }

    /// Understands a metastore's bytes.
    pub(crate) fn decode(file: &[u8]) -> FoundSettings {
        match slots::decode(Kind::Metastore, METASTORE.as_bytes(), file) {
            Held::Newer(why) => FoundSettings::Newer(why),
            Held::Nothing => FoundSettings::Lost,
            Held::Newest(slot, unsound) => match Settings::of(&slot) {
                None => FoundSettings::Lost,
                Some(settings) => {
                    let short = file.len() < SLOTS * SLOT;
                    let problem = (unsound > 0 || short).then(|| {
                        "one of its two slots is damaged; the other one is sound, and the next change mends it".to_owned()
                    });
                    FoundSettings::Sound(settings, problem)
                }
            },
        }
    }

    pub(crate) fn read(file: &File) -> Result<FoundSettings> {
        let mut bytes = [0; SLOTS * SLOT];
        let got = file.pread_up_to(&mut bytes, 0)?;
        Ok(Settings::decode(&bytes[..got]))
    }

    /// Changes the metastore, under its lock. On disk when it returns.
    pub(crate) fn change(
        disk: &dyn Disk,
        dir: &Path,
        change: impl FnOnce(&mut Settings),
    ) -> Result<Settings> {
        let file = File::open(disk, &dir.join(METASTORE), Open::ReadWrite)?;
        let _lock = file.lock()?;
        Settings::change_locked(&file, change)
    }

    /// The same, for who holds the metastore's lock.
    pub(crate) fn change_locked(file: &File, change: impl FnOnce(&mut Settings)) -> Result<Settings> {
        let mut bytes = [0; SLOTS * SLOT];
        let got = file.pread_up_to(&mut bytes, 0)?;
        let (Held::Newest(slot, _), FoundSettings::Sound(mut settings, _)) = (
            slots::decode(Kind::Metastore, METASTORE.as_bytes(), &bytes[..got]),
            Settings::decode(&bytes[..got]),
        ) else {
            let what = "none of its slots is sound";
            return Err(Error::damaged("change the metastore", file.path(), 0, what));
        };
        if let Some(why) = settings.features.unwritable() {
            return Err(Error::new(ErrorKind::Unsupported, "change the metastore", why).at(file.path()));
        }
        change(&mut settings);
        settings.generation = settings.generation.checked_add(1).ok_or_else(|| {
            let what = "it says that it was changed more often than can be; nobody but a forger wrote that";
            Error::damaged("change the metastore", file.path(), 0, what)
        })?;
        let slot_to = (slot.number + 1) % SLOTS;
        file.pwrite(&settings.slot(slot_to), (slot_to * SLOT) as u64)?;
        file.sync()?;
        Ok(settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_read_back() {
        let mut settings = Settings::new(LogIdentity([5; 16]));
        settings.retention = Retention {
            keep_bytes: Some(1),
            keep_for: Some(Duration::from_secs(2)),
            quota: None,
            min_free: Some(4),
            when_full: WhenFull::DropOldest,
            expire_after: Some(Duration::from_secs(5)),
        };
        for durability in [
            Durability::Sync,
            Durability::Group(Duration::from_micros(250)),
            Durability::Interval(Duration::from_secs(1)),
            Durability::Process,
        ] {
            settings.durability = durability;
            let FoundSettings::Sound(back, None) = Settings::decode(&settings.encode_file()) else {
                panic!("it was not read")
            };
            assert_eq!(back, settings);
        }
    }

    #[test]
    fn one_damaged_slot_costs_nothing_and_is_told_of() {
        let settings = Settings::new(LogIdentity([5; 16]));
        for at in [3, SLOT + 3] {
            let mut file = settings.encode_file();
            file[at] ^= 1;
            assert!(
                matches!(Settings::decode(&file), FoundSettings::Sound(back, Some(_)) if back == settings)
            );
        }
        assert!(matches!(
            Settings::decode(&settings.encode_file()[..SLOT]),
            FoundSettings::Sound(_, Some(_))
        ));
        assert!(matches!(Settings::decode(&[0; SLOT]), FoundSettings::Lost));
    }
}
