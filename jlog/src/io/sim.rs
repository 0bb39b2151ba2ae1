//! The simulated disk: files in memory, with every fault a disk can show and what a power cut leaves of it.
//!
//! ```
//! use std::path::Path;
//! use jlog::io::{File, Open, sim::SimDisk};
//!
//! let disk = SimDisk::new(1);
//! let file = File::open(&disk, Path::new("/a"), Open::Create(0o644))?;
//! file.pwrite(b"kept?", 0)?;
//! file.sync()?;
//! // The bytes are synced, but not the name: the directory was not.
//! assert!(File::open(&disk.power_cut(), Path::new("/a"), Open::Read).is_err());
//! # Ok::<(), jlog::Error>(())
//! ```
//!
//! # What it assumes
//!
//! - A file's bytes are durable after its own sync, its name after [`Disk::sync_dir`] of the directory it is in.
//! - A rename is one step, between two directories too; the sync of either makes it durable.
//! - A write changes no byte outside its range, not even in a sector it shares with others. Inside its range a power
//!   cut may leave, sector by sector, the old bytes, the new ones, or zeros.
//! - After a sync that failed, the kernel shows what was written and will never write it: the next sync succeeds and
//!   saves nothing of it.
//!
//! Paths are absolute (`/log/a`); `/` exists. There are no symbolic links, and modes are kept but refuse nobody.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::path::{Component, Path};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use nix::libc;

use super::{Disk, Open, PathInfo, PathKind, RawFile, RawMap};

/// The unit in which an unsynced write survives a power cut, in bytes.
pub const SECTOR: usize = 512;

/// No file grows beyond this (`EFBIG`): a wild offset must not eat the memory of the machine that runs the test.
pub const LARGEST_FILE: u64 = 1 << 30;

/// The kernel's limit of pieces in one `pwritev`.
const MOST_PIECES: usize = 1024;

const ROOT: usize = 0;

/// What an operation was: each method of [`Disk`], [`RawFile`] and [`RawMap`] that reaches the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "each is named after its method")]
pub enum Op {
    Open,
    Names,
    Info,
    CreateDir,
    Remove,
    RemoveDir,
    Rename,
    SyncDir,
    FreeSpace,
    Pread,
    Pwrite,
    Pwritev,
    Sync,
    Size,
    Truncate,
    Lock,
    Unlock,
    LockHolder,
    OpenedElsewhere,
    MapRead,
    MapRdwr,
    /// A store into a mapping. On a real disk it cannot fail; here it can, so that a disk that died stays dead.
    MapWrite,
    MapSync,
}

impl Op {
    /// Whether a signal may interrupt it: the calls that [`File`](super::File) makes again.
    fn is_interruptible(self) -> bool {
        matches!(self, Op::Open | Op::Pread | Op::Pwrite | Op::Pwritev | Op::Sync | Op::Truncate | Op::Lock)
    }
}

/// An operation that was asked for, whether it succeeded or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traced {
    /// What it was.
    pub op: Op,
    /// The file or directory; of a rename, the old name.
    pub path: Arc<Path>,
    /// Where in the file, in bytes.
    pub offset: Option<u64>,
    /// How many bytes were asked for; of a truncation, the new size.
    pub len: Option<u64>,
}

/// How often a fault strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Times {
    /// Only then.
    Once,
    /// Then and ever after, until [`SimDisk::heal`].
    Sticky,
}

/// A disk in memory. Clones are the same disk.
///
/// Nothing it does depends on anything but its seed and the order of the calls.
#[derive(Clone)]
pub struct SimDisk {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    /// A lock was released.
    released: Condvar,
}

impl SimDisk {
    /// A disk with an empty root directory and no faults. The seed decides the lengths of short transfers.
    pub fn new(seed: u64) -> SimDisk {
        SimDisk::of(State::new(vec![Node::directory(0o755)], seed))
    }

    fn of(state: State) -> SimDisk {
        SimDisk { shared: Arc::new(Shared { state: Mutex::new(state), released: Condvar::new() }) }
    }

    /// How many operations were asked for so far: the number, from 0, of the next one.
    pub fn operations(&self) -> u64 {
        self.state().trace.len() as u64
    }

    /// How many operations of this kind were asked for so far: the number, from 0, of the next one.
    pub fn calls(&self, op: Op) -> u64 {
        self.state().calls_of(op)
    }

    /// Every operation so far; operation `n` is element `n`.
    pub fn trace(&self) -> Vec<Traced> {
        self.state().trace.clone()
    }

    /// Operation number `n` of the disk (see [`SimDisk::operations`]) fails with this error number and does nothing.
    ///
    /// A sticky `EINTR` never ends: the engine makes interrupted calls again.
    pub fn fail_at(&self, n: u64, errno: i32, times: Times) {
        self.state().faults.push(Fault { op: None, n, errno, times });
    }

    /// Call number `n` of this kind (see [`SimDisk::calls`]) fails with this error number and does nothing.
    pub fn fail_call(&self, op: Op, n: u64, errno: i32, times: Times) {
        self.state().faults.push(Fault { op: Some(op), n, errno, times });
    }

    /// The next call of this kind fails with this error number and does nothing.
    pub fn fail_next(&self, op: Op, errno: i32, times: Times) {
        let n = self.calls(op);
        self.fail_call(op, n, errno, times);
    }

    /// Whether reads and writes transfer less than asked, by a random amount; always at least one byte.
    pub fn short_transfers(&self, on: bool) {
        self.state().short = on;
    }

    /// Every `k`-th operation of the disk is interrupted (`EINTR`) if it is of a kind that can be. With `Some(1)` all
    /// are, and nobody gets anywhere.
    pub fn interrupt_every(&self, k: Option<u64>) {
        self.state().interrupt_every = k;
    }

    /// Whether writes succeed, write nothing, and say so.
    pub fn empty_writes(&self, on: bool) {
        self.state().empty_writes = on;
    }

    /// The bytes all files may have together. A write that passes it is cut short there, and the next one gets `ENOSPC`.
    /// Holes count; directories do not. An unlinked file counts until it is closed.
    pub fn limit(&self, capacity: Option<u64>) {
        self.state().capacity = capacity;
    }

    /// Ends every fault: scheduled ones, short transfers, interruptions, empty writes. The capacity stays.
    pub fn heal(&self) {
        let mut state = self.state();
        state.faults.clear();
        state.short = false;
        state.interrupt_every = None;
        state.empty_writes = false;
    }

    /// The disk after a power cut that lost all it may lose: only what was synced is there. No faults; same capacity.
    ///
    /// This disk goes on as if nothing had happened, so that one run can be cut at many points.
    pub fn power_cut(&self) -> SimDisk {
        SimDisk::of(self.state().after_cut(0, None))
    }

    /// The disk after a power cut, as the seed decides: every unsynced sector, on its own, is as it was, as it became
    /// after any of the writes, or zeros where it was written; every file has any size it had since its sync; every
    /// unsynced name operation happened or did not. No faults; same capacity.
    pub fn torn_power_cut(&self, seed: u64) -> SimDisk {
        SimDisk::of(self.state().after_cut(seed, Some(Dice(seed))))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts and traces an operation, and lets it fail if it is its turn. What follows under this guard cannot be
    /// seen half done.
    fn begin(
        &self,
        op: Op,
        path: &Path,
        offset: Option<u64>,
        len: Option<u64>,
    ) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.state();
        let (number, nth) = (state.trace.len() as u64, state.calls_of(op));
        state.trace.push(Traced { op, path: Arc::from(path), offset, len });
        state.calls.insert(op, nth + 1);

        if let Some(fault) = state.faults.iter().find(|fault| fault.strikes(op, number, nth)) {
            return errno(fault.errno);
        }
        if op.is_interruptible() && state.interrupt_every.is_some_and(|k| (number + 1).is_multiple_of(k)) {
            return errno(libc::EINTR);
        }
        Ok(state)
    }
}

impl fmt::Debug for SimDisk {
    // Not the state: it is megabytes, and whoever prints may hold its lock.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimDisk").finish_non_exhaustive()
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn RawFile>> {
        let mut state = self.begin(Op::Open, path, None, None)?;
        let (dir, name) = state.place(path)?;

        let node = match (state.names(dir)?.get(&name).copied(), how) {
            (Some(_), Open::CreateNew(_)) => return errno(libc::EEXIST),
            (Some(node), _) => node,
            (None, Open::Create(mode) | Open::CreateNew(mode)) => {
                state.make(dir, name, Node::file(mode & 0o7777))
            }
            (None, _) => return errno(libc::ENOENT),
        };
        state.file(node)?.opens += 1;
        state.descriptions += 1;

        let description = Description {
            disk: self.clone(),
            id: state.descriptions,
            node,
            path: Arc::from(path),
            writable: how != Open::Read,
        };
        Ok(Box::new(SimFile(Arc::new(description))))
    }

    fn names(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        let state = self.begin(Op::Names, dir, None, None)?;
        let node = state.find(dir)?;
        Ok(state.names(node)?.keys().cloned().collect())
    }

    fn info(&self, path: &Path, _follow: bool) -> io::Result<PathInfo> {
        let state = self.begin(Op::Info, path, None, None)?;
        let node = &state.nodes[state.find(path)?];
        let (kind, len) = match &node.body {
            Body::File(file) => (PathKind::File, file.live.len() as u64),
            Body::Directory { .. } => (PathKind::Directory, 0),
        };
        Ok(PathInfo { kind, len, mode: node.mode, owner: (0, 0) })
    }

    fn create_dir(&self, path: &Path, mode: u32) -> io::Result<()> {
        let mut state = self.begin(Op::CreateDir, path, None, None)?;
        if state.find(path).is_ok() {
            return errno(libc::EEXIST);
        }
        let (dir, name) = state.place(path)?;
        state.make(dir, name, Node::directory(mode));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.begin(Op::Remove, path, None, None)?;
        let node = state.find(path)?;
        state.file(node)?;
        let (dir, name) = state.place(path)?;
        state.rename(vec![Entry { dir, name, node: None }]);
        Ok(())
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.begin(Op::RemoveDir, path, None, None)?;
        let node = state.find(path)?;
        if !state.names(node)?.is_empty() {
            return errno(libc::ENOTEMPTY);
        }
        let (dir, name) = state.place(path)?;
        state.rename(vec![Entry { dir, name, node: None }]);
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.begin(Op::Rename, from, None, None)?;
        let node = state.find(from)?;
        if steps(to).starts_with(&steps(from)) {
            return if steps(to) == steps(from) { Ok(()) } else { errno(libc::EINVAL) };
        }
        let (old_dir, old_name) = state.place(from)?;
        let (new_dir, new_name) = state.place(to)?;
        if let Some(replaced) = state.names(new_dir)?.get(&new_name).copied() {
            match (&state.nodes[node].body, &state.nodes[replaced].body) {
                (Body::File(_), Body::Directory { .. }) => return errno(libc::EISDIR),
                (Body::Directory { .. }, Body::File(_)) => return errno(libc::ENOTDIR),
                (_, Body::Directory { names, .. }) if !names.is_empty() => return errno(libc::ENOTEMPTY),
                _ => {}
            }
        }
        state.rename(vec![
            Entry { dir: old_dir, name: old_name, node: None },
            Entry { dir: new_dir, name: new_name, node: Some(node) },
        ]);
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.begin(Op::SyncDir, dir, None, None)?;
        let node = state.find(dir)?;
        state.names(node)?;
        state.sync_names(node);
        Ok(())
    }

    fn free_space(&self, path: &Path) -> io::Result<u64> {
        let state = self.begin(Op::FreeSpace, path, None, None)?;
        state.find(path)?;
        Ok(state.room())
    }
}

/// An open file description: what the kernel keeps for as long as a handle or a mapping of it is left.
#[derive(Debug)]
struct Description {
    disk: SimDisk,
    id: u64,
    node: usize,
    path: Arc<Path>,
    writable: bool,
}

impl Description {
    fn begin(&self, op: Op, offset: Option<u64>, len: Option<u64>) -> io::Result<MutexGuard<'_, State>> {
        self.disk.begin(op, &self.path, offset, len)
    }

    fn write(&self, op: Op, mut bytes: Vec<u8>, offset: u64) -> io::Result<usize> {
        let mut state = self.begin(op, Some(offset), Some(bytes.len() as u64))?;
        if !self.writable {
            return errno(libc::EBADF);
        }
        let len = state.admit(self.node, offset, bytes.len())?;
        bytes.truncate(len);
        if len > 0 {
            state.file(self.node)?.change(Change::Write { at: offset as usize, bytes });
        }
        Ok(len)
    }

    /// fdatasync and msync alike: the whole file. Refused, the kernel forgets that there was anything to write.
    fn sync(&self, op: Op) -> io::Result<()> {
        match self.begin(op, None, None) {
            Ok(mut state) => state.file(self.node)?.sync(),
            Err(error) => {
                if error.kind() != io::ErrorKind::Interrupted {
                    self.disk.state().file(self.node)?.unsynced.clear();
                }
                return Err(error);
            }
        }
        Ok(())
    }
}

impl Drop for Description {
    fn drop(&mut self) {
        if let Ok(file) = self.disk.state().file(self.node) {
            file.opens -= 1;
            file.locked_by.take_if(|holder| *holder == self.id);
        }
        self.disk.shared.released.notify_all();
    }
}

#[derive(Debug)]
struct SimFile(Arc<Description>);

impl SimFile {
    fn map(&self, op: Op, len: usize) -> io::Result<Box<dyn RawMap>> {
        drop(self.0.begin(op, None, Some(len as u64))?);
        if op == Op::MapRdwr && !self.0.writable {
            return errno(libc::EACCES);
        }
        Ok(Box::new(SimMap { description: Arc::clone(&self.0), len, writable: op == Op::MapRdwr }))
    }
}

impl RawFile for SimFile {
    fn pread(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.0.begin(Op::Pread, Some(offset), Some(buffer.len() as u64))?;
        let left = state.file(self.0.node)?.live.len().saturating_sub(clamp(offset));
        let len = state.shorten(buffer.len().min(left));
        if len > 0 {
            let start = clamp(offset);
            buffer[..len].copy_from_slice(&state.file(self.0.node)?.live[start..start + len]);
        }
        Ok(len)
    }

    fn pwrite(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.0.write(Op::Pwrite, bytes.to_vec(), offset)
    }

    fn pwritev(&self, pieces: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        if pieces.len() > MOST_PIECES {
            return errno(libc::EINVAL);
        }
        self.0.write(Op::Pwritev, pieces.iter().flat_map(|piece| piece.iter().copied()).collect(), offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync(Op::Sync)
    }

    fn size(&self) -> io::Result<u64> {
        let mut state = self.0.begin(Op::Size, None, None)?;
        Ok(state.file(self.0.node)?.live.len() as u64)
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        let mut state = self.0.begin(Op::Truncate, None, Some(size))?;
        if !self.0.writable {
            return errno(libc::EINVAL);
        }
        if size > LARGEST_FILE {
            return errno(libc::EFBIG);
        }
        let growth = size.saturating_sub(state.file(self.0.node)?.live.len() as u64);
        if growth > state.room() {
            return errno(libc::ENOSPC);
        }
        state.file(self.0.node)?.change(Change::Size(clamp(size)));
        Ok(())
    }

    fn lock(&self, wait: bool) -> io::Result<bool> {
        let mut state = self.0.begin(Op::Lock, None, None)?;
        if !self.0.writable {
            return errno(libc::EBADF);
        }
        while state.file(self.0.node)?.locked_by.is_some_and(|holder| holder != self.0.id) {
            if !wait {
                return Ok(false);
            }
            state = self.0.disk.shared.released.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.file(self.0.node)?.locked_by = Some(self.0.id);
        Ok(true)
    }

    fn unlock(&self) -> io::Result<()> {
        let mut state = self.0.begin(Op::Unlock, None, None)?;
        state.file(self.0.node)?.locked_by.take_if(|holder| *holder == self.0.id);
        self.0.disk.shared.released.notify_all();
        Ok(())
    }

    fn lock_holder(&self) -> io::Result<Option<Option<u32>>> {
        let mut state = self.0.begin(Op::LockHolder, None, None)?;
        let other = state.file(self.0.node)?.locked_by.filter(|holder| *holder != self.0.id);
        Ok(other.map(|_| None))
    }

    fn opened_elsewhere(&self) -> io::Result<Option<bool>> {
        let mut state = self.0.begin(Op::OpenedElsewhere, None, None)?;
        Ok(Some(state.file(self.0.node)?.opens > 1))
    }

    fn map_read(&self, len: usize) -> io::Result<Box<dyn RawMap>> {
        self.map(Op::MapRead, len)
    }

    fn map_rdwr(&self, len: usize) -> io::Result<Box<dyn RawMap>> {
        self.map(Op::MapRdwr, len)
    }
}

#[derive(Debug)]
struct SimMap {
    description: Arc<Description>,
    len: usize,
    writable: bool,
}

impl SimMap {
    /// The range in the file. Where the file was cut below the mapping, a real process would be dead now (SIGBUS).
    fn range(&self, file: &Inode, at: usize, len: usize) -> io::Result<Range<usize>> {
        match at.checked_add(len) {
            Some(end) if end <= self.len && end <= file.live.len() => Ok(at..end),
            Some(end) if end <= self.len => {
                Err(io::Error::other("SIGBUS: the file was cut below the mapping"))
            }
            _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "outside the mapping")),
        }
    }
}

impl RawMap for SimMap {
    fn len(&self) -> usize {
        self.len
    }

    fn read(&self, at: usize, into: &mut [u8]) -> io::Result<()> {
        // A load is no operation: no fault is before it and no crash point after it.
        let mut state = self.description.disk.state();
        let file = state.file(self.description.node)?;
        into.copy_from_slice(&file.live[self.range(file, at, into.len())?]);
        Ok(())
    }

    fn write(&self, at: usize, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.description.begin(Op::MapWrite, Some(at as u64), Some(bytes.len() as u64))?;
        if !self.writable {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a store into a read-only mapping"));
        }
        let file = state.file(self.description.node)?;
        self.range(file, at, bytes.len())?;
        file.change(Change::Write { at, bytes: bytes.to_vec() });
        Ok(())
    }

    fn publish(&self, at: usize, word: [u8; 4]) -> io::Result<()> {
        if !at.is_multiple_of(word.len()) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a published word must be aligned to 4"));
        }
        self.write(at, &word)
    }

    fn sync(&self) -> io::Result<()> {
        self.description.sync(Op::MapSync)
    }
}

/// Everything the disk knows, behind one lock.
#[derive(Default)]
struct State {
    /// Files and directories, by number; a node is never taken out, for an unsynced removal may not survive.
    nodes: Vec<Node>,
    /// Name operations that are not durable yet, oldest first. A rename is one of them, with two entries.
    unsynced: Vec<Vec<Entry>>,
    descriptions: u64,
    dice: Dice,
    trace: Vec<Traced>,
    calls: BTreeMap<Op, u64>,
    faults: Vec<Fault>,
    short: bool,
    interrupt_every: Option<u64>,
    empty_writes: bool,
    capacity: Option<u64>,
}

impl State {
    fn new(nodes: Vec<Node>, seed: u64) -> State {
        State { nodes, dice: Dice(seed), ..State::default() }
    }

    fn calls_of(&self, op: Op) -> u64 {
        self.calls.get(&op).copied().unwrap_or(0)
    }

    fn find(&self, path: &Path) -> io::Result<usize> {
        self.walk(&steps(path))
    }

    fn walk(&self, steps: &[&OsStr]) -> io::Result<usize> {
        steps.iter().try_fold(ROOT, |dir, step| match self.names(dir)?.get(*step) {
            Some(node) => Ok(*node),
            None => errno(libc::ENOENT),
        })
    }

    /// The directory a path lies in, which must be there, and the name in it, which need not.
    fn place(&self, path: &Path) -> io::Result<(usize, OsString)> {
        let steps = steps(path);
        let Some((name, dirs)) = steps.split_last() else { return errno(libc::EISDIR) };
        let dir = self.walk(dirs)?;
        self.names(dir)?;
        Ok((dir, name.to_os_string()))
    }

    fn names(&self, node: usize) -> io::Result<&BTreeMap<OsString, usize>> {
        match &self.nodes[node].body {
            Body::Directory { names, .. } => Ok(names),
            Body::File(_) => errno(libc::ENOTDIR),
        }
    }

    fn file(&mut self, node: usize) -> io::Result<&mut Inode> {
        match &mut self.nodes[node].body {
            Body::File(file) => Ok(file),
            Body::Directory { .. } => errno(libc::EISDIR),
        }
    }

    fn make(&mut self, dir: usize, name: OsString, node: Node) -> usize {
        let number = self.nodes.len();
        self.nodes.push(node);
        self.rename(vec![Entry { dir, name, node: Some(number) }]);
        number
    }

    /// Changes names, as one step that a power cut keeps or loses whole.
    fn rename(&mut self, entries: Vec<Entry>) {
        for entry in &entries {
            if let Body::Directory { names, .. } = &mut self.nodes[entry.dir].body {
                entry.put_into(names);
            }
        }
        self.unsynced.push(entries);
    }

    fn sync_names(&mut self, dir: usize) {
        let (synced, left) = std::mem::take(&mut self.unsynced)
            .into_iter()
            .partition(|entries: &Vec<Entry>| entries.iter().any(|entry| entry.dir == dir));
        self.unsynced = left;
        for entry in synced.iter().flatten() {
            if let Body::Directory { durable, .. } = &mut self.nodes[entry.dir].body {
                entry.put_into(durable);
            }
        }
    }

    /// How many of `len` bytes a write at `offset` takes now.
    fn admit(&mut self, node: usize, offset: u64, len: usize) -> io::Result<usize> {
        if self.empty_writes {
            return Ok(0);
        }
        if offset.checked_add(len as u64).is_none_or(|end| end > LARGEST_FILE) {
            return errno(libc::EFBIG);
        }
        let grows_to = (self.file(node)?.live.len() as u64).saturating_add(self.room());
        let fits = clamp(grows_to.saturating_sub(offset)).min(len);
        if fits == 0 && len > 0 { errno(libc::ENOSPC) } else { Ok(self.shorten(fits)) }
    }

    fn shorten(&mut self, len: usize) -> usize {
        if self.short && len > 0 { 1 + self.dice.below(len) } else { len }
    }

    /// The bytes that files may still grow by.
    fn room(&self) -> u64 {
        let Some(capacity) = self.capacity else { return u64::MAX };
        let named = self.reachable();
        let used: u64 = self
            .nodes
            .iter()
            .enumerate()
            .map(|(number, node)| match &node.body {
                Body::File(file) if file.opens > 0 || named.contains(&number) => file.live.len() as u64,
                _ => 0,
            })
            .sum();
        capacity.saturating_sub(used)
    }

    /// The nodes that have a path.
    fn reachable(&self) -> BTreeSet<usize> {
        let mut found = BTreeSet::from([ROOT]);
        let mut dirs = vec![ROOT];
        while let Some(dir) = dirs.pop() {
            let Ok(names) = self.names(dir) else { continue };
            dirs.extend(names.values().copied().filter(|node| found.insert(*node)));
        }
        found
    }

    /// What a power cut leaves: with dice, of what was not synced, what they say; without, nothing.
    fn after_cut(&self, seed: u64, mut dice: Option<Dice>) -> State {
        let nodes = self.nodes.iter().map(|node| node.after_cut(dice.as_mut())).collect();
        let mut state = State { capacity: self.capacity, ..State::new(nodes, seed) };
        for entries in &self.unsynced {
            if dice.as_mut().is_some_and(|dice| dice.below(2) == 1) {
                state.rename(entries.clone());
            }
        }
        for dir in 0..state.nodes.len() {
            state.sync_names(dir);
        }
        state
    }
}

/// A directory entry that was set, or with `None` taken away.
#[derive(Clone)]
struct Entry {
    dir: usize,
    name: OsString,
    node: Option<usize>,
}

impl Entry {
    fn put_into(&self, names: &mut BTreeMap<OsString, usize>) {
        match self.node {
            Some(node) => drop(names.insert(self.name.clone(), node)),
            None => drop(names.remove(&self.name)),
        }
    }
}

struct Node {
    mode: u32,
    body: Body,
}

enum Body {
    File(Inode),
    /// The names as they are, and as they are on the disk.
    Directory {
        names: BTreeMap<OsString, usize>,
        durable: BTreeMap<OsString, usize>,
    },
}

impl Node {
    fn file(mode: u32) -> Node {
        Node { mode, body: Body::File(Inode::default()) }
    }

    fn directory(mode: u32) -> Node {
        Node { mode, body: Body::Directory { names: BTreeMap::new(), durable: BTreeMap::new() } }
    }

    fn after_cut(&self, dice: Option<&mut Dice>) -> Node {
        let body = match &self.body {
            Body::Directory { durable, .. } => {
                Body::Directory { names: durable.clone(), durable: durable.clone() }
            }
            Body::File(file) => {
                let left = dice.map_or_else(|| file.durable.clone(), |dice| file.torn(dice));
                Body::File(Inode { live: left.clone(), durable: left, ..Inode::default() })
            }
        };
        Node { mode: self.mode, body }
    }
}

/// A file. `live` is `durable` with `unsynced` done to it, unless a sync failed: then what it lost is only in `live`.
#[derive(Default)]
struct Inode {
    live: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Change>,
    opens: u32,
    locked_by: Option<u64>,
}

impl Inode {
    fn change(&mut self, change: Change) {
        change.make(&mut self.live);
        self.unsynced.push(change);
    }

    fn sync(&mut self) {
        for change in self.unsynced.drain(..) {
            change.make(&mut self.durable);
        }
    }

    fn torn(&self, dice: &mut Dice) -> Vec<u8> {
        let mut sizes = vec![self.durable.len()];
        for change in &self.unsynced {
            sizes.push(change.size_after(sizes[sizes.len() - 1]));
        }
        let longest = sizes.iter().copied().max().unwrap_or(0);
        let mut image = self.durable.clone();
        image.resize(longest, 0);

        let mut touched = BTreeMap::<usize, Vec<&Change>>::new();
        for change in &self.unsynced {
            let span = change.span(longest);
            for sector in span.start / SECTOR..span.end.div_ceil(SECTOR) {
                touched.entry(sector).or_default().push(change);
            }
        }
        for (sector, changes) in touched {
            let within = sector * SECTOR..longest.min((sector + 1) * SECTOR);
            // 0: old; up to the number of changes: as it was after that many; one more: zeros.
            let reached = dice.below(changes.len() + 2);
            for change in changes.iter().take(reached) {
                change.make_within(&mut image, within.clone(), reached > changes.len());
            }
        }
        image.truncate(sizes[dice.below(sizes.len())]);
        image
    }
}

/// A change of a file that is not durable yet.
enum Change {
    Write { at: usize, bytes: Vec<u8> },
    Size(usize),
}

impl Change {
    fn make(&self, file: &mut Vec<u8>) {
        file.resize(self.size_after(file.len()), 0);
        if let Change::Write { at, bytes } = self {
            file[*at..at + bytes.len()].copy_from_slice(bytes);
        }
    }

    fn size_after(&self, size: usize) -> usize {
        match self {
            Change::Write { at, bytes } => size.max(at + bytes.len()),
            Change::Size(size) => *size,
        }
    }

    /// The bytes it changes in a file that was never longer than `longest`: a cut zeroes what lay behind it.
    fn span(&self, longest: usize) -> Range<usize> {
        match self {
            Change::Write { at, bytes } => *at..at + bytes.len(),
            Change::Size(size) => *size..longest,
        }
    }

    fn make_within(&self, file: &mut [u8], within: Range<usize>, zeros: bool) {
        let span = self.span(file.len());
        let part = span.start.max(within.start)..span.end.min(within.end);
        match self {
            Change::Write { at, bytes } if !zeros => {
                file[part.clone()].copy_from_slice(&bytes[part.start - at..part.end - at]);
            }
            _ => file[part].fill(0),
        }
    }
}

struct Fault {
    /// Which operations are counted: `None`, all.
    op: Option<Op>,
    n: u64,
    errno: i32,
    times: Times,
}

impl Fault {
    fn strikes(&self, op: Op, number: u64, nth: u64) -> bool {
        let now = match self.op {
            None => number,
            Some(mine) if mine == op => nth,
            Some(_) => return false,
        };
        match self.times {
            Times::Once => now == self.n,
            Times::Sticky => now >= self.n,
        }
    }
}

/// splitmix64: a few lines, and good enough to roll.
#[derive(Default)]
struct Dice(u64);

impl Dice {
    /// A number less than `sides`, which is not 0.
    fn below(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % sides as u64) as usize
    }
}

/// The names on the way from the root.
fn steps(path: &Path) -> Vec<&OsStr> {
    let mut steps = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => steps.push(name),
            Component::ParentDir => drop(steps.pop()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    steps
}

fn clamp(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

fn errno<T>(errno: i32) -> io::Result<T> {
    Err(io::Error::from_raw_os_error(errno))
}
