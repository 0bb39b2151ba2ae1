//! The simulated disk: files in memory, with every fault a disk can show and what a power cut leaves of it.
//!
//! ```
//! use std::path::Path;
//! use jlog::io::{File, Open, sim::{Limits, SimDisk}};
//!
//! let disk = SimDisk::new(1);
//! let file = File::open(&disk, Path::new("/a"), Open::Create(0o644))?;
//! file.pwrite(b"kept?", 0)?;
//! file.sync()?;
//! // The bytes are synced, but not the name: the directory was not.
//! assert!(File::open(&disk.power_cut(), Path::new("/a"), Open::Read).is_err());
//!
//! // All that a power cut may leave: a disk with the name, and one without.
//! let found = |image| File::open(&image, Path::new("/a"), Open::Read).is_ok();
//! let images: Vec<bool> = disk.crash_states(Limits::default(), 1).map(found).collect();
//! assert_eq!(images, [false, true]);
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
//!   saves nothing of it. What the kernel shows ends with [`RawFile::drop_cache`].
//!
//! That is [`Profile::Posix`]; the others assume more, or less.
//!
//! Paths are absolute (`/log/a`); `/` exists. There are no symbolic links, and modes are kept but refuse nobody.

mod crash;
mod cut;
mod dice;
mod fault;
mod handle;
mod inode;
mod op;
mod profile;
mod state;
mod torn;
mod turn;
mod watch;

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Arc, PoisonError};

use nix::libc;

use self::cut::Cut;
use self::dice::Dice;
use self::fault::{Fault, Faults};
use self::handle::SimFile;
use self::state::{Body, Entry, Node, State, errno, steps};
use self::watch::SimWatch;
use super::{Disk, Open, PathInfo, PathKind, RawFile, RawWatch};
use crate::sync::{Condvar, Mutex, MutexGuard};

pub use self::crash::{CrashStates, Limits, MadeOf};
pub use self::fault::Times;
pub use self::op::{Op, Traced};
pub use self::profile::Profile;

/// The unit in which an unsynced write survives a power cut, in bytes.
pub const SECTOR: usize = 512;

/// No file grows beyond this (`EFBIG`): a wild offset must not eat the memory of the machine that runs the test.
pub const LARGEST_FILE: u64 = 1 << 30;

/// Who looks at the disk before each change: see [`SimDisk::observe`].
type Observer = Box<dyn FnMut(&SimDisk, &Traced) + Send>;

/// A disk in memory. Clones are the same disk.
///
/// Nothing it does depends on anything but its seed and the order of the calls.
#[derive(Clone)]
pub struct SimDisk {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    /// A lock was released, or a directory has news.
    woken: Condvar,
    /// Held by who changes the disk while it is observed. Taken before the state.
    order: Mutex<()>,
}

/// What is done to it.
impl SimDisk {
    /// A disk with an empty root directory and no faults. The seed decides the lengths of short transfers, and what
    /// [`Disk::random`] and [`Disk::boot`] return.
    pub fn new(seed: u64) -> SimDisk {
        SimDisk::of(State::new(vec![Node::directory(0o755)], seed, seed))
    }

    fn of(state: State) -> SimDisk {
        let shared = Shared { state: Mutex::new(state), woken: Condvar::new(), order: Mutex::new(()) };
        SimDisk { shared: Arc::new(shared) }
    }

    /// What kind of disk it is from now on: what its syncs do, and what its power cuts leave.
    pub fn profile(&self, profile: Profile) {
        self.state().profile = profile;
    }

    /// Operation number `n` of the disk (see [`SimDisk::operations`]) fails with this error number and does nothing.
    ///
    /// A sticky `EINTR` never ends: the engine makes interrupted calls again.
    pub fn fail_at(&self, n: u64, errno: i32, times: Times) {
        self.state().faults.scheduled.push(Fault { op: None, n, errno, times });
    }

    /// Call number `n` of this kind (see [`SimDisk::calls`]) fails with this error number and does nothing.
    pub fn fail_call(&self, op: Op, n: u64, errno: i32, times: Times) {
        self.state().faults.scheduled.push(Fault { op: Some(op), n, errno, times });
    }

    /// The next call of this kind fails with this error number and does nothing.
    pub fn fail_next(&self, op: Op, errno: i32, times: Times) {
        let n = self.calls(op);
        self.fail_call(op, n, errno, times);
    }

    /// Whether reads and writes transfer less than asked, by a random amount; always at least one byte.
    pub fn short_transfers(&self, on: bool) {
        self.state().faults.short = on;
    }

    /// Every `k`-th operation of the disk is interrupted (`EINTR`) if it is of a kind that can be. With `Some(1)` all
    /// are, and nobody gets anywhere.
    pub fn interrupt_every(&self, k: Option<u64>) {
        self.state().faults.interrupt_every = k;
    }

    /// Whether writes succeed, write nothing, and say so.
    pub fn empty_writes(&self, on: bool) {
        self.state().faults.empty_writes = on;
    }

    /// The next write to any file (not through a mapping) lands in this file, at this offset, and is durable there at
    /// once. Beyond the end of the file it is lost.
    ///
    /// Memory shows both files as they should be, until [`RawFile::drop_cache`] or a power cut. A size that the write
    /// changed is changed.
    pub fn misdirect_next(&self, to: &Path, offset: u64) -> io::Result<()> {
        let mut state = self.state();
        let node = state.find(to)?;
        state.file(node)?;
        state.faults.misdirected = Some((node, offset));
        Ok(())
    }

    /// The bytes all files may have together. A write that passes it is cut short there, and the next one gets `ENOSPC`.
    /// Holes count; directories do not. An unlinked file counts until it is closed.
    pub fn limit(&self, capacity: Option<u64>) {
        self.state().capacity = capacity;
    }

    /// Ends every fault: scheduled ones, short transfers, interruptions, empty writes, the misdirection of a write to
    /// come. The capacity and the profile stay.
    pub fn heal(&self) {
        self.state().faults = Faults::default();
    }
}

/// What it tells.
impl SimDisk {
    /// How many operations were asked for so far: the number, from 0, of the next one.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// How many operations of this kind were asked for so far: the number, from 0, of the next one.
    pub fn calls(&self, op: Op) -> u64 {
        self.state().calls[op as usize]
    }

    /// Every operation so far; operation `n` is element `n`.
    pub fn trace(&self) -> Vec<Traced> {
        self.state().trace.clone()
    }

    /// Whether operations are traced, as they are unless told otherwise; images of a power cut do as the disk did.
    /// With `false` the trace is forgotten; one begun again begins with the next operation.
    pub fn keep_trace(&self, on: bool) {
        let mut state = self.state();
        state.no_trace = !on;
        if !on {
            state.trace = Vec::new();
        }
    }

    /// Calls this before each operation that may change what a power cut leaves: writes, truncations, name operations,
    /// openings that make a file, and syncs of all kinds, also those that are going to fail. There are no other crash
    /// points, but for the one behind the last operation.
    ///
    /// It may look at the disk it is given, and even change it: what it does itself is not observed. It replaces the
    /// observer before it. A closure that keeps a clone of the disk keeps it for ever.
    pub fn observe(&self, observer: impl FnMut(&SimDisk, &Traced) + Send + 'static) {
        self.set_observer(Some(Box::new(observer)));
    }

    /// Ends [`SimDisk::observe`].
    pub fn unobserve(&self) {
        self.set_observer(None);
    }

    fn set_observer(&self, observer: Option<Observer>) {
        let mut state = self.state();
        state.observers += 1;
        let old = std::mem::replace(&mut state.observer, observer);
        // Dropping it may close files of this disk.
        drop(state);
        drop(old);
    }
}

/// What a power cut leaves of it.
impl SimDisk {
    /// The disk after a power cut that lost all it may lose: only what was synced is there. No faults; same capacity.
    ///
    /// This disk goes on as if nothing had happened, so that one run can be cut at many points.
    pub fn power_cut(&self) -> SimDisk {
        crash::worst(&self.cut())
    }

    /// The disk after a power cut, as the seed decides: every unsynced sector, on its own, is as it was, as it became
    /// after any of the writes, or zeros where it was written; every file has any size it had since its sync; every
    /// unsynced name operation happened or did not. Other profiles leave other things. No faults; same capacity.
    pub fn torn_power_cut(&self, seed: u64) -> SimDisk {
        crash::any(&self.cut(), seed)
    }

    /// The disks that a power cut may leave at this moment: all of them within the limits, else a sample. Each is a
    /// disk of its own, without faults and without a trace of what was before; capacity and profile are the same.
    pub fn crash_states(&self, limits: Limits, seed: u64) -> CrashStates {
        CrashStates::new(self.cut(), limits, seed)
    }

    /// What the power cut did that left this disk.
    pub fn made_of(&self) -> MadeOf {
        self.state().made_of
    }

    fn cut(&self) -> Cut {
        Cut::new(&self.state())
    }
}

impl SimDisk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets who waits look again.
    fn wake(&self, state: &State) {
        if state.waiting > 0 {
            self.shared.woken.notify_all();
        }
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
        let creates = matches!(how, Open::Create(_) | Open::CreateNew(_)) && self.state().find(path).is_err();
        let mut turn = self.begin_with(creates, Op::Open, path, None, None)?;
        let (dir, name) = turn.place(path)?;

        let node = match (turn.names(dir)?.get(&name).copied(), how) {
            (Some(_), Open::CreateNew(_)) => return errno(libc::EEXIST),
            (Some(node), _) => node,
            (None, Open::Create(mode) | Open::CreateNew(mode)) => {
                turn.make(dir, name, Node::file(mode & 0o7777))
            }
            (None, _) => return errno(libc::ENOENT),
        };
        Ok(Box::new(SimFile::open(self, &mut turn, node, path, how != Open::Read)?))
    }

    fn names(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        let turn = self.begin(Op::Names, dir, None, None)?;
        let node = turn.find(dir)?;
        Ok(turn.names(node)?.keys().map(|name| name.to_os_string()).collect())
    }

    fn info(&self, path: &Path, _follow: bool) -> io::Result<PathInfo> {
        let turn = self.begin(Op::Info, path, None, None)?;
        let node = &turn.nodes[turn.find(path)?];
        let (kind, len) = match &node.body {
            Body::File(file) => (PathKind::File, file.live.len() as u64),
            Body::Directory(_) => (PathKind::Directory, 0),
        };
        Ok(PathInfo { kind, len, mode: node.mode, owner: (0, 0) })
    }

    fn create_dir(&self, path: &Path, mode: u32) -> io::Result<()> {
        let mut turn = self.begin(Op::CreateDir, path, None, None)?;
        if turn.find(path).is_ok() {
            return errno(libc::EEXIST);
        }
        let (dir, name) = turn.place(path)?;
        turn.make(dir, name, Node::directory(mode));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut turn = self.begin(Op::Remove, path, None, None)?;
        let node = turn.find(path)?;
        turn.file(node)?;
        let (dir, name) = turn.place(path)?;
        turn.rename(vec![Entry { dir, name, node: None }]);
        Ok(())
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let mut turn = self.begin(Op::RemoveDir, path, None, None)?;
        let node = turn.find(path)?;
        if !turn.names(node)?.is_empty() {
            return errno(libc::ENOTEMPTY);
        }
        let (dir, name) = turn.place(path)?;
        turn.rename(vec![Entry { dir, name, node: None }]);
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut turn = self.begin(Op::Rename, from, None, None)?;
        let node = turn.find(from)?;
        if steps(to).starts_with(&steps(from)) {
            return if steps(to) == steps(from) { Ok(()) } else { errno(libc::EINVAL) };
        }
        let (old_dir, old_name) = turn.place(from)?;
        let (new_dir, new_name) = turn.place(to)?;
        if let Some(replaced) = turn.names(new_dir)?.get(&new_name).copied() {
            match (&turn.nodes[node].body, &turn.nodes[replaced].body) {
                (Body::File(_), Body::Directory(_)) => return errno(libc::EISDIR),
                (Body::Directory(_), Body::File(_)) => return errno(libc::ENOTDIR),
                (_, Body::Directory(replaced)) if !replaced.names.is_empty() => {
                    return errno(libc::ENOTEMPTY);
                }
                _ => {}
            }
        }
        turn.rename(vec![
            Entry { dir: old_dir, name: old_name, node: None },
            Entry { dir: new_dir, name: new_name, node: Some(node) },
        ]);
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut turn = self.begin(Op::SyncDir, dir, None, None)?;
        let node = turn.find(dir)?;
        turn.names(node)?;
        turn.sync_names(node);
        Ok(())
    }

    fn free_space(&self, path: &Path) -> io::Result<u64> {
        let turn = self.begin(Op::FreeSpace, path, None, None)?;
        turn.find(path)?;
        Ok(turn.room())
    }

    fn boot(&self) -> io::Result<[u8; 16]> {
        let turn = self.begin(Op::Boot, Path::new("/"), None, None)?;
        let mut id = [0; 16];
        Dice::nth(turn.boot, 0).fill(&mut id);
        Ok(id)
    }

    fn random(&self) -> io::Result<[u8; 16]> {
        let mut bytes = [0; 16];
        self.state().randomness.fill(&mut bytes);
        Ok(bytes)
    }

    fn watch(&self, dir: &Path) -> io::Result<Option<Box<dyn RawWatch>>> {
        let state = self.state();
        let node = state.find(dir)?;
        state.names(node)?;
        Ok(Some(Box::new(SimWatch::begin(self, node, state.news(node)))))
    }
}
