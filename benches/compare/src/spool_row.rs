//! This repository's own row. The metadata are one pair of a message's context.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use jlog::io::Disk;
use jlog_benches::Outcome;
use jlog_benches::disk::BenchDisk;
use spool::{Message, MessageId, Scope, Spool, SpoolOptions, Timestamp};

use crate::Store;

/// What the tables call it.
pub(crate) const NAME: &str = "the spool";

const NOW: Timestamp = Timestamp { seconds: 1_700_000_000, micros: 0 };
const KEY: &str = "metadata";

pub(crate) struct SpoolRow {
    spool: Spool,
    disk: Arc<BenchDisk>,
}

impl SpoolRow {
    pub(crate) fn open(dir: &Path) -> Outcome<SpoolRow> {
        let disk = Arc::new(BenchDisk::default());
        // Nothing stays in memory: every message that is loaded is read from the disk, as in the other rows.
        let options = SpoolOptions::new().max_resident_messages(0);
        let spool = options.open_on(Arc::clone(&disk) as Arc<dyn Disk>, dir.join("spool"))?;
        Ok(SpoolRow { spool, disk })
    }
}

impl Store for SpoolRow {
    fn accept(&self, id: u64, meta: &[u8], body: &[u8]) -> Outcome<()> {
        let message = Message::from_bytes(MessageId::from_u64(id), body);
        message.context_set(Scope::Message, KEY, meta)?;
        Ok(self.spool.accept(&message, NOW)?)
    }

    fn load(&self, id: u64) -> Outcome<Vec<u8>> {
        let message = self.spool.get(MessageId::from_u64(id))?;
        let mut whole = message.context_get(Scope::Message, KEY)?;
        message.body()?.read_to_end(&mut whole)?;
        Ok(whole)
    }

    fn remove(&self, ids: &[u64]) -> Outcome<()> {
        let ids: Vec<MessageId> = ids.iter().map(|id| MessageId::from_u64(*id)).collect();
        self.spool.remove_all(&ids)?;
        Ok(self.spool.sync()?)
    }

    fn index(&mut self) -> Outcome<usize> {
        let found = self.spool.wait_recovered()?;
        Ok(usize::try_from(found.messages)?)
    }

    fn syncs(&self) -> u64 {
        self.disk.counts().1
    }
}
