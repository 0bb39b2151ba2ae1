//! Logs of the checksummed format: what is theirs alone. Reading them, their subscribers, looking at them and mending
//! them are the same code as for classic logs.
//!
//! - `settings`: the metastore; `control`: what the processes of a log tell each other
//! - `retention`: what goes beside what all have read
//! - `point`, `files`: reading one record by its place; the segments held open for that
//! - `reclaim`: giving back the space of a segment that nobody needs, in any order
//! - `index`: making and comparing the index of a segment
//! - `writer`, `group`, `make`, `recover`: appending; sharing syncs; making segments; what an unclean end has left

pub(crate) mod control;
pub(crate) mod files;
pub(crate) mod group;
pub(crate) mod index;
#[cfg(all(test, any(loom, shuttle)))]
mod interleavings;
mod make;
pub(crate) mod point;
pub(crate) mod reclaim;
mod recover;
pub(crate) mod retention;
pub(crate) mod settings;
pub(crate) mod writer;

use std::path::Path;
use std::sync::{Arc, PoisonError};

use crate::error::Result;
use crate::io::{Disk, File, Open};
use crate::record::checked::LogIdentity;
use crate::sync::Mutex;
use control::{Control, ControlFile};
use settings::Settings;

pub(crate) use make::{Ahead, spare_bytes, unmake};

/// What all handles of one checksummed log share.
#[derive(Debug)]
pub(crate) struct Checked {
    pub(crate) log: LogIdentity,
    /// The settings when the log was opened.
    pub(crate) settings: Settings,
    /// Of what run of the machine the control file must tell to be believed.
    boot: [u8; 16],
    control: Mutex<Option<Arc<File>>>,
    pub(crate) ahead: Ahead,
}

impl Checked {
    pub(crate) fn new(disk: &dyn Disk, settings: Settings) -> Checked {
        // Without a boot to compare with, the control file says nothing of this run.
        let boot = disk.boot().unwrap_or_default();
        Checked { log: settings.log, settings, boot, control: Mutex::new(None), ahead: Ahead::default() }
    }

    pub(crate) fn boot(&self) -> [u8; 16] {
        self.boot
    }

    /// What the control file says, if it says anything: of this run of the machine, or of an earlier one.
    pub(crate) fn control(&self, disk: &dyn Disk, dir: &Path) -> Result<Option<Control>> {
        self.control_file(disk, dir)?.map_or(Ok(None), |file| control::read(&file, self.log))
    }

    /// Whether the control file, if there is one, is sound.
    pub(crate) fn is_control_whole(&self, disk: &dyn Disk, dir: &Path) -> bool {
        let file = self.control_file(disk, dir).ok().flatten();
        file.is_none_or(|file| control::is_whole(&file).unwrap_or(false))
    }

    /// The process that owns the log now, and keeps other writers out.
    pub(crate) fn owner(&self, disk: &dyn Disk, dir: &Path) -> Result<Option<u32>> {
        let Some(file) = self.control_file(disk, dir)? else { return Ok(None) };
        if file.lock_holder()?.is_none() {
            return Ok(None);
        }
        let now = control::read(&file, self.log)?.filter(|now| self.is_of_now(now) && !now.shared);
        Ok(now.map(|now| now.pid))
    }

    fn control_file(&self, disk: &dyn Disk, dir: &Path) -> Result<Option<Arc<File>>> {
        let mut held = self.control.lock().unwrap_or_else(PoisonError::into_inner);
        if held.is_none() {
            *held = File::open_existing(disk, &ControlFile::path(dir), Open::Read)?.map(Arc::new);
        }
        Ok(held.clone())
    }

    /// Whether a control file was written in this run of the machine.
    pub(crate) fn is_of_now(&self, control: &Control) -> bool {
        control.boot == self.boot && self.boot != [0; 16]
    }
}
