//! This repository's own row. Until the spool is there, the log it will stand on: a message is one record, metadata and
//! body one behind the other, acknowledged after a sync. A log finds no message by its id, and removes none.

use std::path::Path;
use std::sync::Arc;

use jlog::io::Disk;
use jlog::{CreateOptions, Durability, Log, Timestamp, Writer, WriterOptions};
use jlog_benches::Outcome;
use jlog_benches::disk::BenchDisk;

use crate::Store;

/// What the tables call it.
pub(crate) const NAME: &str = "jlog append";

const SEGMENT: u32 = 64 << 20;

pub(crate) struct SpoolRow {
    writer: Writer,
    disk: Arc<BenchDisk>,
}

impl SpoolRow {
    pub(crate) fn open(dir: &Path) -> Outcome<SpoolRow> {
        let disk = Arc::new(BenchDisk::default());
        let format = CreateOptions::new().segment_size(SEGMENT);
        let log = Log::create_on(Arc::clone(&disk) as Arc<dyn Disk>, dir.join("log"), &format)?;
        let owner = WriterOptions::new().exclusive(true).durability(Durability::Sync);
        Ok(SpoolRow { writer: log.writer_with(&owner)?, disk })
    }
}

impl Store for SpoolRow {
    fn accept(&self, _id: u64, meta: &[u8], body: &[u8]) -> Outcome<()> {
        self.writer.append(&[meta, body].concat(), Timestamp::new(1_700_000_000, 0))?;
        Ok(())
    }

    fn load(&self, _id: u64) -> Outcome<Vec<u8>> {
        Err("a log finds no message by its id".into())
    }

    fn remove(&self, _ids: &[u64]) -> Outcome<()> {
        Err("a log removes no message".into())
    }

    fn index(&mut self) -> Outcome<usize> {
        Err("a log has no index of messages".into())
    }

    fn syncs(&self) -> u64 {
        self.disk.counts().1
    }
}
