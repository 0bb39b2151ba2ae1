//! The control: a file written full of zeros, messages appended behind one another by group commit, and an array that
//! says where each is. No checksums, no room given back.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use jlog_benches::Outcome;

use crate::group::Group;
use crate::{META, Plan, Store};

/// Before each message: one more than its id, and its length; length 0: the message is removed. All zeros: the end.
const HEADER: usize = 16;

pub(crate) struct Raw {
    file: File,
    end: AtomicU64,
    /// By id: where the message is, and its length in the lowest 24 bits; 0: nowhere.
    places: Vec<AtomicU64>,
    group: Group<Batch>,
    syncs: AtomicU64,
}

#[derive(Default)]
struct Batch {
    at: Option<u64>,
    bytes: Vec<u8>,
}

impl Raw {
    pub(crate) fn open(dir: &Path, plan: Plan) -> Outcome<Raw> {
        let path = dir.join("raw");
        let new = !path.exists();
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        if new {
            // Every message, its removal, and the end.
            let room = plan.messages * (2 * HEADER + META + plan.body) as u64 + HEADER as u64;
            let block = vec![0; 64 << 10];
            for at in (0..=room).step_by(block.len()) {
                file.write_all_at(&block, at)?;
            }
            file.sync_all()?;
            File::open(dir)?.sync_all()?;
        }
        let mut raw = Raw {
            file,
            end: AtomicU64::new(0),
            places: (0..plan.messages).map(|_| AtomicU64::new(0)).collect(),
            group: Group::default(),
            syncs: AtomicU64::new(0),
        };
        raw.scan()?;
        Ok(raw)
    }

    /// From header to header, to the end.
    fn scan(&mut self) -> Outcome<()> {
        let mut at = 0;
        loop {
            let mut header = [0; HEADER];
            self.file.read_exact_at(&mut header, at)?;
            let (number, len) = header.split_at(8);
            let (number, len) = (u64::from_le_bytes(number.try_into()?), u64::from_le_bytes(len.try_into()?));
            if number == 0 {
                break;
            }
            at += HEADER as u64;
            let place = if len == 0 { 0 } else { at << 24 | len };
            *self.places[number as usize - 1].get_mut() = place;
            at += len;
        }
        *self.end.get_mut() = at;
        Ok(())
    }

    fn append(&self, id: u64, pieces: &[&[u8]]) -> impl FnOnce(&mut Batch) {
        let len: usize = pieces.iter().map(|piece| piece.len()).sum();
        move |batch| {
            // Nobody else adds to the batch meanwhile: what follows in the file follows in the batch.
            let at = self.end.fetch_add((HEADER + len) as u64, Relaxed);
            batch.at.get_or_insert(at);
            batch.bytes.extend_from_slice(&(id + 1).to_le_bytes());
            batch.bytes.extend_from_slice(&(len as u64).to_le_bytes());
            pieces.iter().for_each(|piece| batch.bytes.extend_from_slice(piece));
            let place = if len == 0 { 0 } else { (at + HEADER as u64) << 24 | len as u64 };
            self.places[id as usize].store(place, Relaxed);
        }
    }

    fn commit(&self, batch: Batch) -> Outcome<()> {
        self.file.write_all_at(&batch.bytes, batch.at.unwrap_or_default())?;
        self.syncs.fetch_add(1, Relaxed);
        Ok(self.file.sync_data()?)
    }
}

impl Store for Raw {
    fn accept(&self, id: u64, meta: &[u8], body: &[u8]) -> Outcome<()> {
        self.group.join(self.append(id, &[meta, body]), |batch| self.commit(batch))
    }

    fn load(&self, id: u64) -> Outcome<Vec<u8>> {
        let place = self.places[id as usize].load(Relaxed);
        if place == 0 {
            return Err("no such message".into());
        }
        let mut message = vec![0; (place & 0xff_ffff) as usize];
        self.file.read_exact_at(&mut message, place >> 24)?;
        Ok(message)
    }

    fn remove(&self, ids: &[u64]) -> Outcome<()> {
        let add = |batch: &mut Batch| ids.iter().for_each(|id| self.append(*id, &[])(batch));
        self.group.join(add, |batch| self.commit(batch))
    }

    fn index(&mut self) -> Outcome<usize> {
        Ok(self.places.iter().filter(|place| place.load(Relaxed) != 0).count())
    }

    fn syncs(&self) -> u64 {
        self.syncs.load(Relaxed)
    }
}
