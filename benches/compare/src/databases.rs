//! fjall and redb, each with metadata and bodies apart, so that an open reads metadata alone. Waiting senders share a
//! durable batch or transaction.

use std::fs::OpenOptions;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use fjall::{
    CompressionType, Database, Keyspace, KeyspaceCreateOptions, KvSeparationOptions, PersistMode, Slice,
};
use jlog_benches::Outcome;
use redb::backends::FileBackend;
use redb::{ReadableDatabase, ReadableTable, StorageBackend, TableDefinition};

use crate::group::Group;
use crate::{CACHE, Index, Store, due};

/// A message on its way into a batch.
struct Message<T> {
    id: u64,
    meta: T,
    body: T,
}

/// Without compression, as the others; bodies in files of their own, as its documentation advises for large values.
pub(crate) struct Fjall {
    database: Database,
    metas: Keyspace,
    bodies: Keyspace,
    group: Group<Vec<Message<Slice>>>,
    /// Each sender commits for itself, as its documentation's examples do.
    alone: bool,
    /// Its own commits; what flushes and compaction sync is not seen.
    commits: AtomicU64,
    index: Index,
}

impl Fjall {
    pub(crate) fn open(dir: &Path, alone: bool) -> Outcome<Fjall> {
        let plain = || fjall::config::CompressionPolicy::all(CompressionType::None);
        let options = || KeyspaceCreateOptions::default().data_block_compression_policy(plain());
        let apart = KvSeparationOptions::default().compression(CompressionType::None);
        let database = Database::builder(dir)
            .cache_size(CACHE as u64)
            .journal_compression(CompressionType::None)
            .open()?;
        let metas = database.keyspace("meta", options)?;
        let bodies = database.keyspace("body", || options().with_kv_separation(Some(apart)))?;
        let (group, commits) = (Group::default(), AtomicU64::new(0));
        Ok(Fjall { database, metas, bodies, group, alone, commits, index: Index::new() })
    }

    /// A durable batch. A committed batch is synced before anyone sees it; fdatasync, as the control's.
    fn commit(&self, fill: impl FnOnce(&mut fjall::OwnedWriteBatch)) -> Outcome<()> {
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncData));
        fill(&mut batch);
        self.commits.fetch_add(1, Relaxed);
        Ok(batch.commit()?)
    }
}

impl Store for Fjall {
    fn accept(&self, id: u64, meta: &[u8], body: &[u8]) -> Outcome<()> {
        let message = Message { id, meta: Slice::from(meta), body: Slice::from(body) };
        if self.alone {
            return self.commit(|batch| {
                batch.insert(&self.metas, id.to_be_bytes(), message.meta);
                batch.insert(&self.bodies, id.to_be_bytes(), message.body);
            });
        }
        self.group.join(
            |messages| messages.push(message),
            |messages| {
                self.commit(|batch| {
                    for Message { id, meta, body } in messages {
                        batch.insert(&self.metas, id.to_be_bytes(), meta);
                        batch.insert(&self.bodies, id.to_be_bytes(), body);
                    }
                })
            },
        )
    }

    fn load(&self, id: u64) -> Outcome<Vec<u8>> {
        let of = |keyspace: &Keyspace| keyspace.get(id.to_be_bytes())?.ok_or("no such message".into());
        let meta: Outcome<Slice> = of(&self.metas);
        let body: Outcome<Slice> = of(&self.bodies);
        Ok([&meta?[..], &body?[..]].concat())
    }

    fn remove(&self, ids: &[u64]) -> Outcome<()> {
        self.commit(|batch| {
            for id in ids {
                batch.remove(&self.metas, id.to_be_bytes());
                batch.remove(&self.bodies, id.to_be_bytes());
            }
        })
    }

    fn index(&mut self) -> Outcome<usize> {
        self.index.clear();
        for entry in self.metas.iter() {
            let (id, meta) = entry.into_inner()?;
            self.index.push((u64::from_be_bytes((*id).try_into()?), due(&meta)?));
        }
        Ok(self.index.len())
    }

    fn syncs(&self) -> u64 {
        self.commits.load(Relaxed)
    }
}

const METAS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("meta");
const BODIES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("body");

pub(crate) struct Redb {
    database: redb::Database,
    group: Group<Vec<Message<Vec<u8>>>>,
    syncs: Arc<AtomicU64>,
    index: Index,
}

impl Redb {
    pub(crate) fn open(dir: &Path) -> Outcome<Redb> {
        let path = dir.join("redb");
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let syncs = Arc::default();
        let backend = Counting { file: FileBackend::new(file)?, syncs: Arc::clone(&syncs) };
        let database = redb::Builder::new().set_cache_size(CACHE).create_with_backend(backend)?;
        let tables = database.begin_write()?;
        tables.open_table(METAS)?;
        tables.open_table(BODIES)?;
        tables.commit()?;
        Ok(Redb { database, group: Group::default(), syncs, index: Index::new() })
    }
}

impl Store for Redb {
    fn accept(&self, id: u64, meta: &[u8], body: &[u8]) -> Outcome<()> {
        let message = Message { id, meta: meta.to_vec(), body: body.to_vec() };
        self.group.join(
            |messages| messages.push(message),
            |messages| {
                let transaction = self.database.begin_write()?;
                {
                    let mut metas = transaction.open_table(METAS)?;
                    let mut bodies = transaction.open_table(BODIES)?;
                    for Message { id, meta, body } in &messages {
                        metas.insert(id, &meta[..])?;
                        bodies.insert(id, &body[..])?;
                    }
                }
                Ok(transaction.commit()?)
            },
        )
    }

    fn load(&self, id: u64) -> Outcome<Vec<u8>> {
        let transaction = self.database.begin_read()?;
        let meta = transaction.open_table(METAS)?.get(id)?.ok_or("no such message")?;
        let body = transaction.open_table(BODIES)?.get(id)?.ok_or("no such message")?;
        Ok([meta.value(), body.value()].concat())
    }

    fn remove(&self, ids: &[u64]) -> Outcome<()> {
        let transaction = self.database.begin_write()?;
        {
            let mut metas = transaction.open_table(METAS)?;
            let mut bodies = transaction.open_table(BODIES)?;
            for id in ids {
                metas.remove(id)?;
                bodies.remove(id)?;
            }
        }
        Ok(transaction.commit()?)
    }

    fn index(&mut self) -> Outcome<usize> {
        self.index.clear();
        for entry in self.database.begin_read()?.open_table(METAS)?.iter()? {
            let (id, meta) = entry?;
            self.index.push((id.value(), due(meta.value())?));
        }
        Ok(self.index.len())
    }

    fn syncs(&self) -> u64 {
        self.syncs.load(Relaxed)
    }
}

/// redb's own file, its syncs counted.
#[derive(Debug)]
struct Counting {
    file: FileBackend,
    syncs: Arc<AtomicU64>,
}

impl StorageBackend for Counting {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.syncs.fetch_add(1, Relaxed);
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }
}
