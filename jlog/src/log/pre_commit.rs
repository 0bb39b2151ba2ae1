//! The pre_commit buffer: a mapped file in which a classic writer gathers records.
//!
//! Four bytes say how many bytes of the buffer behind them are in use. Its contents survive the death of the process
//! that maps it. It belongs to one writer at a time; libjlog does not enforce that, this engine does, by holding the
//! file's lock for as long as it uses the buffer.

use std::time::Duration;

use super::checkpoints::sync_names;
use super::kept;
use super::names::PRE_COMMIT;
use super::shared::Shared;
use crate::error::{Error, ErrorKind, Result};
use crate::io::{File, Map, Open};
use crate::order::Order;
use crate::record::classic::{Codec, PRE_COMMIT_POINTER};
use crate::record::scan::ClassicWalk;
use crate::record::walk::{Ending, Step};

/// What a pre_commit file holds.
#[derive(Debug, Clone, Default)]
pub(crate) struct Contents {
    /// The whole records, one behind the other, and how many they are.
    pub(crate) bytes: Vec<u8>,
    pub(crate) records: u32,
    /// What the pointer says is in use, as offsets in the file, without being a whole record.
    pub(crate) torn: Vec<(u64, u64)>,
    /// Why the file is not as it should be.
    pub(crate) problem: Option<String>,
}

/// Takes a pre_commit file apart.
pub(crate) fn dissect(file: &[u8], codec: Codec) -> Contents {
    let mut contents = Contents::default();
    if file.len() < PRE_COMMIT_POINTER {
        if !file.is_empty() {
            contents.problem = Some(format!("it has {} bytes, too few for its pointer", file.len()));
        }
        return contents;
    }
    let (pointer, buffer) = file.split_at(PRE_COMMIT_POINTER);
    let pointer = codec.order.u32(pointer) as usize;
    if pointer > buffer.len() {
        let what = format!("its pointer says {pointer} bytes are in use, the buffer has {}", buffer.len());
        contents.problem = Some(what);
    }

    let used = &buffer[..pointer.min(buffer.len())];
    let mut walk = ClassicWalk::new(used, codec, used.len() as u64, false);
    let torn = |from: u64, to: u64| (from + PRE_COMMIT_POINTER as u64, to + PRE_COMMIT_POINTER as u64);
    // Reading from memory cannot fail.
    while let Ok(step) = walk.step() {
        match step {
            Step::Record(found) => {
                let from = found.offset as usize;
                contents.bytes.extend_from_slice(&used[from..walk.position() as usize]);
                contents.records += 1;
            }
            Step::Hole(hole) => contents.torn.push(torn(hole.from, hole.to)),
            Step::End(ending) => {
                if let Ending::Torn { from } = ending {
                    contents.torn.push(torn(from, used.len() as u64));
                }
                break;
            }
        }
    }
    if contents.problem.is_none() {
        contents.problem =
            contents.torn.first().map(|(from, to)| format!("bytes {from}..{to} are no whole record"));
    }
    contents
}

/// The pointer and as much of the buffer as it says is in use: of a file of any size.
fn used_part(map: &Map, codec: Codec) -> Result<Vec<u8>> {
    let mut pointer = [0; PRE_COMMIT_POINTER];
    map.read(0, &mut pointer)?;
    let used = codec.order.u32(&pointer) as usize;
    let mut bytes = vec![0; map.len().min(PRE_COMMIT_POINTER + used)];
    map.read(0, &mut bytes)?;
    Ok(bytes)
}

/// A pre_commit file in use. `used` bytes of the buffer hold `records` records; the file's pointer says the same.
#[derive(Debug)]
pub(crate) struct PreCommit {
    file: File,
    map: Map,
    order: Order,
    used: usize,
    records: u32,
    /// What was found in it, until it is moved to the segment.
    left: Option<Contents>,
}

/// What became of an attempt to take over the log's buffer.
pub(crate) enum Taken {
    Ours(Box<PreCommit>),
    InUse,
    Nothing,
}

/// How often, and how long apart, a writer asks whether the buffer is free.
pub(crate) const PATIENCE: u32 = 50;
const MOMENT: Duration = Duration::from_millis(2);

impl PreCommit {
    /// Takes over the log's buffer, with what a dead writer has left in it. One that another process has open is that
    /// process's: libjlog's writers keep it open, and know by heart how far they have filled it. If `insist`, that is
    /// an error.
    pub(crate) fn open(log: &Shared, insist: bool, tries: u32) -> Result<Taken> {
        let path = log.dir().join(PRE_COMMIT);
        let Some(file) = File::open_existing(&**log.disk(), &path, Open::ReadWrite)? else {
            return Ok(Taken::Nothing);
        };
        if file.size()? <= PRE_COMMIT_POINTER as u64 {
            return Ok(Taken::Nothing);
        }
        // Somebody who only looks has it open for a moment.
        for n in 0..tries {
            if n > 0 {
                std::thread::sleep(MOMENT);
            }
            match file.opened_elsewhere()? {
                Some(false) => return PreCommit::take(log, file).map(Box::new).map(Taken::Ours),
                Some(true) => {}
                // Not told is not free: libjlog's writer would write over what is taken from it.
                None => break,
            }
        }
        if !insist {
            return Ok(Taken::InUse);
        }
        let what = "another process uses it, or only its owner may ask; a pre_commit buffer belongs to one writer at a time";
        Err(Error::new(ErrorKind::Busy, "gather records in the pre_commit buffer", what).at(&path))
    }

    fn take(log: &Shared, file: File) -> Result<PreCommit> {
        file.lock()?.keep();
        let map = file.map_rdwr()?;
        let left = dissect(&used_part(&map, log.codec())?, log.codec());
        let (used, records) = (left.bytes.len(), left.records);
        let order = log.codec().order;
        Ok(PreCommit { file, map, order, used, records, left: Some(left) })
    }

    /// Makes an empty buffer of `capacity` bytes, in place of any that is there (which must be empty).
    pub(crate) fn create(log: &Shared, capacity: u32, mode: u32) -> Result<PreCommit> {
        let path = log.dir().join(PRE_COMMIT);
        match log.disk().remove(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io("replace it", &path, error));
            }
            _ => {}
        }
        let file = File::open(&**log.disk(), &path, Open::CreateNew(mode))?;
        file.lock()?.keep();
        // Written, not extended: a store into a mapped hole that the full disk cannot fill would kill the process.
        file.pwrite(&vec![0; PRE_COMMIT_POINTER + capacity as usize], 0)?;
        file.sync()?;
        sync_names(log)?;
        let map = file.map_rdwr()?;
        Ok(PreCommit { file, map, order: log.codec().order, used: 0, records: 0, left: None })
    }

    pub(crate) fn capacity(&self) -> u32 {
        u32::try_from(self.map.len() - PRE_COMMIT_POINTER).unwrap_or(u32::MAX)
    }

    pub(crate) fn records(&self) -> u32 {
        self.records
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.used == 0 && self.left.is_none()
    }

    /// Gathers a record. False if there is no room.
    pub(crate) fn push(&mut self, record: &[u8]) -> Result<bool> {
        let at = PRE_COMMIT_POINTER + self.used;
        if record.len() > self.map.len() - at {
            return Ok(false);
        }
        if crate::planted("pointer_before_bytes") {
            self.point_to(self.used + record.len())?;
        }
        self.map.write(at, record)?;
        // One store behind both header and payload: a kill between the two leaves no half record in use.
        self.point_to(self.used + record.len())?;
        self.used += record.len();
        self.records += 1;
        Ok(true)
    }

    /// The records gathered.
    pub(crate) fn contents(&self) -> Result<Vec<u8>> {
        if let Some(left) = &self.left {
            return Ok(left.bytes.clone());
        }
        let mut bytes = vec![0; self.used];
        self.map.read(PRE_COMMIT_POINTER, &mut bytes)?;
        Ok(bytes)
    }

    pub(crate) fn clear(&mut self) -> Result<()> {
        self.left = None;
        self.used = 0;
        self.records = 0;
        self.point_to(0)
    }

    /// Keeps what was found in it and is no whole record, and says how many bytes that is.
    pub(crate) fn keep_torn_bytes(&self, log: &Shared) -> Result<Option<u64>> {
        let Some(left) = &self.left else { return Ok(None) };
        for (from, to) in &left.torn {
            kept::keep_torn(log, PRE_COMMIT, &self.file, *from, *to)?;
        }
        let bytes = left.torn.iter().map(|(from, to)| to - from).sum();
        Ok(Some(bytes).filter(|bytes| *bytes > 0))
    }

    fn point_to(&self, used: usize) -> Result<()> {
        let used = u32::try_from(used).unwrap_or(u32::MAX);
        let mut word = [0; PRE_COMMIT_POINTER];
        self.order.put_u32(&mut word, used);
        self.map.publish(0, word)
    }
}
