//! Everything a simulated disk knows: files, directories, and the names that are not durable yet.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::path::{Component, Path};
use std::sync::Arc;
use std::thread::ThreadId;

use nix::libc;

use super::crash::MadeOf;
use super::dice::Dice;
use super::fault::Faults;
use super::inode::{Change, Inode};
use super::op::{Op, Traced};
use super::profile::Profile;
use super::{LARGEST_FILE, Observer};

pub(super) const ROOT: usize = 0;

/// Behind one lock.
#[derive(Default)]
pub(super) struct State {
    /// Files and directories, by number; a node is never taken out, for an unsynced removal may not survive.
    pub(super) nodes: Vec<Node>,
    /// Name operations that are not durable yet, oldest first. A rename is one of them, with two entries.
    pub(super) unsynced: Vec<Vec<Entry>>,
    pub(super) profile: Profile,
    pub(super) capacity: Option<u64>,
    pub(super) faults: Faults,
    /// Decides the lengths of short transfers.
    pub(super) dice: Dice,
    /// Decides what [`Disk::random`](crate::io::Disk::random) returns.
    pub(super) randomness: Dice,
    /// Another number after each power cut.
    pub(super) boot: u64,
    pub(super) made_of: MadeOf,

    pub(super) operations: u64,
    pub(super) calls: [u64; Op::COUNT],
    pub(super) trace: Vec<Traced>,
    pub(super) no_trace: bool,
    pub(super) observer: Option<Observer>,
    /// How many observers there were.
    pub(super) observers: u64,
    /// The thread that is with the observer now, which has then been taken out.
    pub(super) observing: Option<ThreadId>,

    /// How many open file descriptions there were.
    pub(super) descriptions: u64,
    /// How many threads wait for a lock or a watch.
    pub(super) waiting: u32,
}

impl State {
    pub(super) fn new(nodes: Vec<Node>, seed: u64, boot: u64) -> State {
        let randomness = Dice::nth(boot, 1);
        State { nodes, dice: Dice::new(seed), randomness, boot, ..State::default() }
    }

    pub(super) fn find(&self, path: &Path) -> io::Result<usize> {
        self.walk(&steps(path))
    }

    fn walk(&self, steps: &[&OsStr]) -> io::Result<usize> {
        steps.iter().try_fold(ROOT, |dir, step| match self.names(dir)?.get(*step) {
            Some(node) => Ok(*node),
            None => errno(libc::ENOENT),
        })
    }

    /// The directory a path lies in, which must be there, and the name in it, which need not.
    pub(super) fn place(&self, path: &Path) -> io::Result<(usize, Arc<OsStr>)> {
        let steps = steps(path);
        let Some((name, dirs)) = steps.split_last() else { return errno(libc::EISDIR) };
        let dir = self.walk(dirs)?;
        self.names(dir)?;
        Ok((dir, Arc::from(*name)))
    }

    pub(super) fn names(&self, node: usize) -> io::Result<&Names> {
        match &self.nodes[node].body {
            Body::Directory(directory) => Ok(&directory.names),
            Body::File(_) => errno(libc::ENOTDIR),
        }
    }

    pub(super) fn file(&mut self, node: usize) -> io::Result<&mut Inode> {
        match &mut self.nodes[node].body {
            Body::File(file) => Ok(file),
            Body::Directory(_) => errno(libc::EISDIR),
        }
    }

    /// What was heard of a directory so far: another number after each change of a file in it.
    pub(super) fn news(&self, dir: usize) -> u64 {
        self.nodes[dir].body.directory().map_or(0, |directory| directory.news)
    }

    /// Whoever watches the directory of this file hears of it.
    pub(super) fn announce(&mut self, node: usize) {
        let Some(dir) = self.nodes[node].parent else { return };
        if let Body::Directory(directory) = &mut self.nodes[dir].body {
            directory.news += 1;
        }
    }

    /// Changes names, as one step that a power cut keeps or loses whole.
    pub(super) fn put(&mut self, entries: Vec<Entry>) {
        for entry in &entries {
            let Body::Directory(directory) = &mut self.nodes[entry.dir].body else { continue };
            let replaced = entry.put_into(Arc::make_mut(&mut directory.names));
            directory.news += 1;
            if let Some(replaced) = replaced {
                self.nodes[replaced].parent = None;
            }
            if let Some(node) = entry.node {
                self.nodes[node].parent = Some(entry.dir);
            }
        }
        self.unsynced.push(entries);
    }

    pub(super) fn sync_names(&mut self, dir: usize) {
        if self.profile.lies() {
            return;
        }
        let concerned = |entries: &Vec<Entry>| entries.iter().any(|entry| entry.dir == dir);
        if self.profile.journals_names() {
            return self.commit_names_up_to(concerned);
        }
        let (synced, left) = std::mem::take(&mut self.unsynced).into_iter().partition(concerned);
        self.unsynced = left;
        self.keep_names(synced);
    }

    /// fdatasync and msync alike: the whole file.
    pub(super) fn sync_file(&mut self, node: usize) -> io::Result<()> {
        let profile = self.profile;
        let file = self.file(node)?;
        if profile.lies() {
            return Ok(());
        }
        file.sync();
        if profile.journals_names() {
            self.commit_names_up_to(|entries| entries.iter().any(|entry| entry.node == Some(node)));
        }
        Ok(())
    }

    /// Makes the last name operation that is meant durable, and all that came before it.
    fn commit_names_up_to(&mut self, meant: impl Fn(&Vec<Entry>) -> bool) {
        let count = self.unsynced.iter().rposition(meant).map_or(0, |last| last + 1);
        let synced = self.unsynced.drain(..count).collect();
        self.keep_names(synced);
    }

    fn keep_names(&mut self, synced: Vec<Vec<Entry>>) {
        for entry in synced.iter().flatten() {
            if let Body::Directory(directory) = &mut self.nodes[entry.dir].body {
                entry.put_into(Arc::make_mut(&mut directory.durable));
            }
        }
    }

    /// How many of `len` bytes a write at `offset` takes now.
    pub(super) fn admit(&mut self, node: usize, offset: u64, len: usize) -> io::Result<usize> {
        if self.faults.empty_writes {
            return Ok(0);
        }
        if offset.checked_add(len as u64).is_none_or(|end| end > LARGEST_FILE) {
            return errno(libc::EFBIG);
        }
        let grows_to = (self.file(node)?.live.len() as u64).saturating_add(self.room());
        let fits = clamp(grows_to.saturating_sub(offset)).min(len);
        if fits == 0 && len > 0 { errno(libc::ENOSPC) } else { Ok(self.shorten(fits)) }
    }

    pub(super) fn shorten(&mut self, len: usize) -> usize {
        if self.faults.short && len > 0 { 1 + self.dice.below(len) } else { len }
    }

    /// Writes what was admitted: where it should be, or where a misdirected write goes.
    pub(super) fn write(&mut self, node: usize, at: usize, bytes: Vec<u8>) -> io::Result<()> {
        let Some((elsewhere, offset)) = self.faults.misdirected.take() else {
            self.file(node)?.change(Change::Write { at, bytes });
            return Ok(());
        };
        self.file(elsewhere)?.hit(clamp(offset), &bytes);
        self.file(node)?.change_in_memory_only(&Change::Write { at, bytes });
        Ok(())
    }

    /// The bytes that files may still grow by.
    pub(super) fn room(&self) -> u64 {
        let Some(capacity) = self.capacity else { return u64::MAX };
        let used: u64 = self
            .nodes
            .iter()
            .map(|node| match &node.body {
                Body::File(file) if file.opens > 0 || node.parent.is_some() => file.live.len() as u64,
                _ => 0,
            })
            .sum();
        capacity.saturating_sub(used)
    }
}

/// The names in a directory, and the nodes they name.
pub(super) type Names = BTreeMap<Arc<OsStr>, usize>;

/// A directory entry that was set, or with `None` taken away.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) dir: usize,
    pub(super) name: Arc<OsStr>,
    pub(super) node: Option<usize>,
}

impl Entry {
    /// Returns the node that had the name.
    pub(super) fn put_into(&self, names: &mut Names) -> Option<usize> {
        match self.node {
            Some(node) => names.insert(Arc::clone(&self.name), node),
            None => names.remove(&self.name),
        }
    }
}

#[derive(Clone)]
pub(super) struct Node {
    pub(super) mode: u32,
    /// The directory that names it now; `None` for the root and for what was removed.
    pub(super) parent: Option<usize>,
    pub(super) body: Body,
}

#[derive(Clone)]
pub(super) enum Body {
    File(Inode),
    Directory(Directory),
}

impl Body {
    pub(super) fn directory(&self) -> Option<&Directory> {
        match self {
            Body::Directory(directory) => Some(directory),
            Body::File(_) => None,
        }
    }
}

/// The names as they are, and as they are on the disk: shared with the images of a power cut until they change.
#[derive(Clone, Default)]
pub(super) struct Directory {
    pub(super) names: Arc<Names>,
    pub(super) durable: Arc<Names>,
    pub(super) news: u64,
}

impl Node {
    pub(super) fn file(mode: u32) -> Node {
        Node { mode, parent: None, body: Body::File(Inode::default()) }
    }

    pub(super) fn directory(mode: u32) -> Node {
        Node { mode, parent: None, body: Body::Directory(Directory::default()) }
    }
}

/// The names on the way from the root.
pub(super) fn steps(path: &Path) -> Vec<&OsStr> {
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

pub(super) fn clamp(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

pub(super) fn errno<T>(errno: i32) -> io::Result<T> {
    Err(io::Error::from_raw_os_error(errno))
}
