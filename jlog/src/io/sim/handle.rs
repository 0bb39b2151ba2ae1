//! Open files and mappings of the simulated disk.

use std::io::{self, IoSlice};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use nix::libc;

use super::inode::{Change, Inode};
use super::op::Op;
use super::state::{State, clamp, errno};
use super::turn::Turn;
use super::{LARGEST_FILE, SimDisk};
use crate::io::{RawFile, RawMap};

/// The kernel's limit of pieces in one `pwritev`.
const MOST_PIECES: usize = 1024;

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
    fn begin(&self, op: Op, offset: Option<u64>, len: Option<u64>) -> io::Result<Turn<'_>> {
        self.disk.begin(op, Arc::clone(&self.path), offset, len)
    }

    fn write(&self, op: Op, mut bytes: Vec<u8>, offset: u64) -> io::Result<usize> {
        let mut turn = self.begin(op, Some(offset), Some(bytes.len() as u64))?;
        if !self.writable {
            return errno(libc::EBADF);
        }
        let len = turn.admit(self.node, offset, bytes.len())?;
        bytes.truncate(len);
        if len > 0 {
            turn.write(self.node, clamp(offset), bytes)?;
            turn.changed(self.node);
        }
        Ok(len)
    }

    /// Refused, the kernel forgets that there was anything to write.
    fn sync(&self, op: Op) -> io::Result<()> {
        match self.begin(op, None, None) {
            Ok(mut turn) => turn.sync_file(self.node),
            Err(error) => {
                if error.kind() != io::ErrorKind::Interrupted {
                    let mut state = self.disk.state();
                    let the_size_stays = state.profile.size_survives_a_failed_sync();
                    state.file(self.node)?.fail_sync(the_size_stays);
                }
                Err(error)
            }
        }
    }

    fn release(&self, state: &mut State) {
        if let Ok(file) = state.file(self.node) {
            file.locked_by.take_if(|holder| *holder == self.id);
        }
    }
}

impl Drop for Description {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        self.release(&mut state);
        if let Ok(file) = state.file(self.node) {
            file.opens -= 1;
        }
        self.disk.wake(&state);
    }
}

/// An open file.
#[derive(Debug)]
pub(super) struct SimFile(Arc<Description>);

impl SimFile {
    /// Opens a file that is there.
    pub(super) fn open(
        disk: &SimDisk,
        state: &mut State,
        node: usize,
        path: &Path,
        writable: bool,
    ) -> io::Result<SimFile> {
        state.file(node)?.opens += 1;
        state.descriptions += 1;
        let (id, path) = (state.descriptions, Arc::from(path));
        Ok(SimFile(Arc::new(Description { disk: disk.clone(), id, node, path, writable })))
    }

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
        let mut turn = self.0.begin(Op::Pread, Some(offset), Some(buffer.len() as u64))?;
        let left = turn.file(self.0.node)?.live.len().saturating_sub(clamp(offset));
        let len = turn.shorten(buffer.len().min(left));
        if len > 0 {
            let start = clamp(offset);
            buffer[..len].copy_from_slice(&turn.file(self.0.node)?.live[start..start + len]);
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
        let mut bytes = Vec::with_capacity(pieces.iter().map(|piece| piece.len()).sum());
        pieces.iter().for_each(|piece| bytes.extend_from_slice(piece));
        self.0.write(Op::Pwritev, bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync(Op::Sync)
    }

    fn drop_cache(&self) -> io::Result<()> {
        let mut turn = self.0.begin(Op::DropCache, None, None)?;
        turn.file(self.0.node)?.drop_cache();
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        let mut turn = self.0.begin(Op::Size, None, None)?;
        Ok(turn.file(self.0.node)?.live.len() as u64)
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        let mut turn = self.0.begin(Op::Truncate, None, Some(size))?;
        if !self.0.writable {
            return errno(libc::EINVAL);
        }
        if size > LARGEST_FILE {
            return errno(libc::EFBIG);
        }
        let growth = size.saturating_sub(turn.file(self.0.node)?.live.len() as u64);
        if growth > turn.room() {
            return errno(libc::ENOSPC);
        }
        turn.file(self.0.node)?.change(Change::Size(clamp(size)));
        turn.changed(self.0.node);
        Ok(())
    }

    fn lock(&self, wait: bool) -> io::Result<bool> {
        let mut turn = self.0.begin(Op::Lock, None, None)?;
        if !self.0.writable {
            return errno(libc::EBADF);
        }
        while turn.file(self.0.node)?.locked_by.is_some_and(|holder| holder != self.0.id) {
            if !wait {
                return Ok(false);
            }
            turn = turn.wait();
        }
        turn.file(self.0.node)?.locked_by = Some(self.0.id);
        Ok(true)
    }

    fn unlock(&self) -> io::Result<()> {
        let mut turn = self.0.begin(Op::Unlock, None, None)?;
        self.0.release(&mut turn);
        self.0.disk.wake(&turn);
        Ok(())
    }

    fn lock_holder(&self) -> io::Result<Option<Option<u32>>> {
        let mut turn = self.0.begin(Op::LockHolder, None, None)?;
        let other = turn.file(self.0.node)?.locked_by.filter(|holder| *holder != self.0.id);
        Ok(other.map(|_| None))
    }

    fn opened_elsewhere(&self) -> io::Result<Option<bool>> {
        let mut turn = self.0.begin(Op::OpenedElsewhere, None, None)?;
        Ok(Some(turn.file(self.0.node)?.opens > 1))
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
        let mut turn = self.description.begin(Op::MapWrite, Some(at as u64), Some(bytes.len() as u64))?;
        if !self.writable {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a store into a read-only mapping"));
        }
        // No watch hears of it, as inotify does not.
        let file = turn.file(self.description.node)?;
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
