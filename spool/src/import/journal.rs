//! The journal of an import, `imports/<number of the source>`: what makes it possible to be broken off anywhere.
//!
//! ```text
//!   +-----+-----+------+---------+      header: the source, and how an mbox began
//!   | len | crc | kind | content |      begin:  (name at the source, first id here) of each message of a batch
//!   +-----+-----+------+---------+      done:   the last batch is accepted, durably
//! ```
//!
//! A batch is begun, on disk, before it is accepted. After a crash the messages of a batch that is not done are in the
//! spool or not, and their ids tell. One mechanism serves every source; a mark on the messages themselves would mean
//! reading all of them to go on, and be gone with those that were delivered meanwhile.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use jlog::io::{File, Open};

use crate::error::{Result, SpoolError};
use crate::id::MessageId;
use crate::open::make_dir;
use crate::store::Store;
use crate::wire::{Taken, put_sized, put_u32, put_u64};

/// The directory's name.
const DIR: &str = "imports";
const HEADER: u8 = 1;
const BEGIN: u8 = 2;
const DONE: u8 = 3;
/// Length and checksum.
const HEAD: usize = 8;
/// A larger file is no journal: it would be of some hundred million messages.
const MOST: u64 = 4 << 30;

/// What a message is called at its source.
pub(super) type Name = Box<[u8]>;

/// Which source a journal is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    /// Its kind and its path.
    pub(super) source: Vec<u8>,
    /// Of an mbox, so many bytes at its beginning, and their checksum: another file may have the path by now.
    pub(super) head: (u64, u32),
}

/// What a journal says when it is opened.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Messages that were accepted, and the first id of each.
    pub(super) done: HashMap<Name, MessageId>,
    /// Messages that were about to be, and the first id of each.
    pub(super) begun: Vec<(Name, MessageId)>,
    head: Option<(u64, u32)>,
}

/// A journal that is written on.
#[derive(Debug)]
pub(super) struct Journal<'a> {
    store: &'a Store,
    file: File,
    path: PathBuf,
    header_end: u64,
    end: u64,
}

impl<'a> Journal<'a> {
    /// The place of a source's journal.
    fn path(store: &Store, source: &[u8]) -> PathBuf {
        // FNV-1a: the same number in every run and on every machine.
        let number = source.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
        store.dir.join(DIR).join(format!("{number:016x}"))
    }

    /// How an mbox began when its import did.
    pub(super) fn head(store: &Store, source: &[u8]) -> Result<Option<(u64, u32)>> {
        let path = Journal::path(store, source);
        let Some(file) = File::open_existing(&*store.disk, &path, Open::Read)? else { return Ok(None) };
        Ok(read(&whole(&file)?, source, &path)?.0.head)
    }

    /// Opens the journal of a source, and makes it where there is none; `afresh` forgets what an earlier one says.
    pub(super) fn open(store: &'a Store, identity: &Identity, afresh: bool) -> Result<(Journal<'a>, Known)> {
        let dir = store.dir.join(DIR);
        let sync = |dir: &Path| {
            store.disk.sync_dir(dir).map_err(|error| SpoolError::io("sync the directory", dir, error))
        };
        make_dir(&*store.disk, &dir, 0o700)?;
        sync(&store.dir)?;
        let path = Journal::path(store, &identity.source);
        let file = File::open(&*store.disk, &path, Open::Create(0o600))?;
        sync(&dir)?;
        let (mut known, mut header_end, mut end) = (Known::default(), 0, 0);
        if !afresh {
            (known, header_end, end) = read(&whole(&file)?, &identity.source, &path)?;
        }
        if known.head != Some(identity.head) {
            (known, header_end, end) = (Known::default(), 0, 0);
        }
        // What a crash has torn, and what is not to be known any more.
        file.truncate(end)?;
        let mut journal = Journal { store, file, path, header_end, end };
        if journal.end == 0 {
            let mut header = vec![HEADER];
            put_sized(&mut header, &identity.source);
            put_u64(&mut header, identity.head.0);
            put_u32(&mut header, identity.head.1);
            journal.append(&header)?;
            journal.header_end = journal.end;
        }
        Ok((journal, known))
    }

    /// Notes which messages are about to be accepted. On disk when it returns.
    pub(super) fn begin<'m>(&mut self, batch: impl Iterator<Item = (&'m [u8], MessageId)>) -> Result<()> {
        let mut record = vec![BEGIN];
        for (name, id) in batch {
            put_sized(&mut record, name);
            put_u64(&mut record, id.to_u64());
        }
        self.append(&record)
    }

    /// Notes that the last batch is accepted. On disk when it returns.
    pub(super) fn done(&mut self) -> Result<()> {
        self.append(&[DONE])
    }

    /// Forgets the batches: nothing of them is at the source any more. What a crash brings back does no harm.
    pub(super) fn clear(&mut self) -> Result<()> {
        self.file.truncate(self.header_end)?;
        self.end = self.header_end;
        Ok(())
    }

    /// Removes the journal: nothing is at the source any more.
    pub(super) fn remove(self) -> Result<()> {
        drop(self.file);
        self.store
            .disk
            .remove(&self.path)
            .map_err(|error| SpoolError::io("remove the journal of an import", &self.path, error))
    }

    fn append(&mut self, payload: &[u8]) -> Result<()> {
        let mut record = Vec::with_capacity(HEAD + payload.len());
        put_u32(&mut record, u32::try_from(payload.len()).expect("a batch is far below this"));
        put_u32(&mut record, crc32fast::hash(payload));
        record.extend_from_slice(payload);
        self.file.pwrite(&record, self.end)?;
        self.file.sync()?;
        self.end += record.len() as u64;
        Ok(())
    }
}

fn whole(file: &File) -> Result<Vec<u8>> {
    let size = file.size()?;
    if size > MOST {
        return Err(SpoolError::Invalid(format!(
            "{}: a journal of {size} bytes is none",
            file.path().display()
        )));
    }
    let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
    let got = file.pread_up_to(&mut bytes, 0)?;
    bytes.truncate(got);
    Ok(bytes)
}

/// What is known, where the header ends, and where the last sound record does.
fn read(bytes: &[u8], source: &[u8], path: &Path) -> Result<(Known, u64, u64)> {
    let mut known = Known::default();
    let (mut header_end, mut end) = (0, 0);
    let mut taken = Taken(bytes);
    let mut last = Vec::new();
    while let Some(payload) = next(&mut taken) {
        let mut content = Taken(payload);
        match content.bytes(1) {
            Some([HEADER]) => {
                let Some((theirs, head)) = header(&mut content) else { break };
                if theirs != source {
                    let theirs = String::from_utf8_lossy(theirs);
                    let what = format!("{}: the journal of another import, of {theirs}", path.display());
                    return Err(SpoolError::Invalid(what));
                }
                known.head = Some(head);
                header_end = bytes.len() - taken.0.len();
            }
            Some([BEGIN]) => {
                known.begun.append(&mut last);
                let Some(batch) = batch(content) else { break };
                last = batch;
            }
            Some([DONE]) => known.done.extend(last.drain(..)),
            _ => break,
        }
        end = bytes.len() - taken.0.len();
    }
    known.begun.append(&mut last);
    Ok((known, header_end as u64, end as u64))
}

fn next<'b>(taken: &mut Taken<'b>) -> Option<&'b [u8]> {
    let mut ahead = *taken;
    let (len, crc) = (usize::try_from(ahead.u32()?).ok()?, ahead.u32()?);
    let payload = ahead.bytes(len).filter(|payload| crc32fast::hash(payload) == crc)?;
    *taken = ahead;
    Some(payload)
}

fn header<'b>(content: &mut Taken<'b>) -> Option<(&'b [u8], (u64, u32))> {
    Some((content.sized()?, (content.u64()?, content.u32()?)))
}

fn batch(mut content: Taken<'_>) -> Option<Vec<(Name, MessageId)>> {
    let mut batch = Vec::new();
    while !content.0.is_empty() {
        batch.push((Name::from(content.sized()?), MessageId::from_u64(content.u64()?)));
    }
    Some(batch)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(payload: &[u8]) -> Vec<u8> {
        let mut record = Vec::new();
        put_u32(&mut record, payload.len() as u32);
        put_u32(&mut record, crc32fast::hash(payload));
        record.extend_from_slice(payload);
        record
    }

    fn begin(name: &[u8], id: u64) -> Vec<u8> {
        let mut payload = vec![BEGIN];
        put_sized(&mut payload, name);
        put_u64(&mut payload, id);
        record(&payload)
    }

    #[test]
    fn a_batch_that_was_begun_and_not_done_is_told_apart_and_a_torn_record_is_none() {
        let mut header = vec![HEADER];
        put_sized(&mut header, b"mbox:/a");
        put_u64(&mut header, 7);
        put_u32(&mut header, 9);
        let bytes =
            [record(&header), begin(b"1", 1), begin(b"2", 2), record(&[DONE]), begin(b"3", 3)].concat();
        let path = Path::new("/j");
        for cut in 0..=bytes.len() {
            let (known, header_end, end) = read(&bytes[..cut], b"mbox:/a", path).unwrap();
            assert!(end as usize <= cut && header_end <= end);
            assert!(known.done.is_empty() || known.done.keys().all(|name| **name == *b"2"));
            if cut == bytes.len() {
                assert_eq!(known.head, Some((7, 9)));
                let begun: Vec<_> = known.begun.iter().map(|(name, id)| (&name[..], id.to_u64())).collect();
                assert_eq!(begun, [(&b"1"[..], 1), (b"3", 3)]);
            }
        }
        assert!(matches!(read(&bytes, b"mbox:/b", path), Err(SpoolError::Invalid(_))));
    }
}
