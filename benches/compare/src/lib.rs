//! The spool beside other ways to hold messages durably: each a [`Store`], driven alike by the bench `spool_table`.
//!
//! - `raw`: the control: one file of zeros, records appended by group commit
//! - `files`: a file a message
//! - `databases`: fjall and redb (feature `peers`)
//! - `spool_row`: this repository's own
//! - `group`: the group commit that the control and the databases share
//! - `measure`: accepting, loading, removing, opening

#[cfg(feature = "peers")]
mod databases;
mod files;
mod group;
pub mod measure;
mod raw;
mod spool_row;

use std::path::Path;

use jlog_benches::Outcome;

/// A way to hold messages. Ids are numbers from 0 on, each accepted once; metadata begin with the id, little-endian.
pub trait Store: Send + Sync {
    /// Returns when the message is on the disk.
    fn accept(&self, id: u64, meta: &[u8], body: &[u8]) -> Outcome<()>;

    /// A message: its metadata, then its body.
    fn load(&self, id: u64) -> Outcome<Vec<u8>>;

    /// Returns when none of these will be there after a power cut.
    fn remove(&self, ids: &[u64]) -> Outcome<()>;

    /// Learns, and keeps in memory, what a scheduler begins with: the id of every message, and when it is due (here: 8
    /// bytes that a message's place or its metadata tell). How many there are.
    fn index(&mut self) -> Outcome<usize>;

    /// Syncs so far, as far as they can be counted.
    fn syncs(&self) -> u64;
}

/// What a store is opened for.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Ids are below this.
    pub messages: u64,
    /// The bytes of a body.
    pub body: usize,
}

/// The bytes of a message's metadata.
pub const META: usize = 600;
/// What each database may use to keep in memory what it has read.
pub const CACHE: usize = 64 << 20;

/// The ways to hold messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Row {
    /// The raw control.
    Raw,
    /// Temporary name, write, fsync, rename, fsync of the directory.
    FilesAndNames,
    /// The same without the last: a message may lose its name in a power cut.
    Files,
    /// The same without any fsync: to make a spool to open.
    FilesUnsynced,
    /// fjall, each sender a batch of its own.
    #[cfg(feature = "peers")]
    FjallAlone,
    /// fjall, all waiting senders in one batch.
    #[cfg(feature = "peers")]
    Fjall,
    /// redb, all waiting senders in one transaction.
    #[cfg(feature = "peers")]
    Redb,
    /// What this repository has.
    Spool,
}

impl Row {
    /// Those that acknowledge after a sync; the control first.
    pub const ACCEPT: &[Row] = &[
        Row::Raw,
        Row::FilesAndNames,
        Row::Files,
        #[cfg(feature = "peers")]
        Row::FjallAlone,
        #[cfg(feature = "peers")]
        Row::Fjall,
        #[cfg(feature = "peers")]
        Row::Redb,
        Row::Spool,
    ];

    /// Those that find a message by its id, and its messages after an open; the control first.
    pub const KEEP: &[Row] = &[
        Row::Raw,
        Row::FilesUnsynced,
        #[cfg(feature = "peers")]
        Row::Fjall,
        #[cfg(feature = "peers")]
        Row::Redb,
        Row::Spool,
    ];

    /// What the tables call it.
    pub fn name(self) -> &'static str {
        match self {
            Row::Raw => "raw group commit, on a zeroed file",
            Row::FilesAndNames => "a file a message, its directory synced",
            Row::Files => "a file a message, its directory not synced",
            Row::FilesUnsynced => "a file a message",
            #[cfg(feature = "peers")]
            Row::FjallAlone => "fjall, a batch a message",
            #[cfg(feature = "peers")]
            Row::Fjall => "fjall, grouped",
            #[cfg(feature = "peers")]
            Row::Redb => "redb, grouped",
            Row::Spool => spool_row::NAME,
        }
    }

    /// Opens, or makes, what lies in `dir`.
    pub fn open(self, dir: &Path, plan: Plan) -> Outcome<Box<dyn Store>> {
        Ok(match self {
            Row::Raw => Box::new(raw::Raw::open(dir, plan)?),
            Row::FilesAndNames => Box::new(files::Files::open(dir, files::Syncs::FileAndName)?),
            Row::Files => Box::new(files::Files::open(dir, files::Syncs::File)?),
            Row::FilesUnsynced => Box::new(files::Files::open(dir, files::Syncs::None)?),
            #[cfg(feature = "peers")]
            Row::FjallAlone => Box::new(databases::Fjall::open(dir, true)?),
            #[cfg(feature = "peers")]
            Row::Fjall => Box::new(databases::Fjall::open(dir, false)?),
            #[cfg(feature = "peers")]
            Row::Redb => Box::new(databases::Redb::open(dir)?),
            Row::Spool => Box::new(spool_row::SpoolRow::open(dir)?),
        })
    }
}

/// A message's place in an index of 16 bytes a message.
type Index = Vec<(u64, u64)>;

/// The number that metadata begin with.
#[cfg(feature = "peers")]
fn due(meta: &[u8]) -> Outcome<u64> {
    let first = meta.first_chunk().ok_or("metadata begin with 8 bytes")?;
    Ok(u64::from_le_bytes(*first))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Pool;

    #[test]
    fn what_was_accepted_and_not_removed_is_there_after_opening_again() {
        let plan = Plan { messages: 9, body: 4096 };
        let pool = Pool::new(plan.body);
        for row in Row::KEEP {
            let dir = tempfile::tempdir().unwrap();
            let store = row.open(dir.path(), plan).unwrap();
            for id in 0..9 {
                store.accept(id, &pool.meta(id), pool.body(id)).unwrap();
            }
            store.remove(&[3, 7]).unwrap();
            drop(store);

            let mut store = row.open(dir.path(), plan).unwrap();
            assert_eq!(store.index().unwrap(), 7, "{row:?}");
            for id in [0, 1, 2, 4, 5, 6, 8] {
                let message = [&pool.meta(id)[..], pool.body(id)].concat();
                assert_eq!(store.load(id).unwrap(), message, "{row:?}");
            }
            assert!(store.load(3).is_err(), "{row:?}");
        }
    }

    #[test]
    fn every_row_accepts_from_several_senders() {
        let plan = Plan { messages: 40, body: 100 };
        for row in Row::ACCEPT {
            let dir = tempfile::tempdir().unwrap();
            let store = row.open(dir.path(), plan).unwrap();
            let sent = measure::accept(&*store, plan, 8).unwrap();
            assert_eq!((sent.records, sent.waits.len()), (40, 40), "{row:?}");
            assert!(sent.syncs > 0, "{row:?}");
        }
    }
}
