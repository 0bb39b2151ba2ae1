//! Whoever changes a log as root does it as the user that the log belongs to.
//!
//! Files that root makes in another user's log lock that user's processes out of it; and root must not follow what
//! another user may have planted in a directory of theirs.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::unistd::{Gid, Uid, geteuid, getgroups, setegid, seteuid, setgroups};

use crate::exit::Failure;

/// Root again when dropped.
pub(crate) struct Acting {
    groups: Vec<Gid>,
}

/// From here on, for as long as the answer lives, files are opened and made as the owner of this directory; `None`
/// where that is so anyway.
pub(crate) fn act_for(log: &Path) -> Result<Option<Acting>, Failure> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    // What is not there, or is no log, the engine will say in better words.
    let Ok(owner) = std::fs::metadata(log) else { return Ok(None) };
    if owner.uid() == 0 {
        return Ok(None);
    }
    let failed = |errno: nix::Error| Failure::io("act as its owner", log, &errno.into());
    let acting = Acting { groups: getgroups().map_err(failed)? };
    setgroups(&[]).map_err(failed)?;
    setegid(Gid::from_raw(owner.gid())).map_err(failed)?;
    seteuid(Uid::from_raw(owner.uid())).map_err(failed)?;
    Ok(Some(acting))
}

impl Drop for Acting {
    fn drop(&mut self) {
        // The user first: only root may change the rest. A process that cannot become root again goes on as the owner.
        let _ = seteuid(Uid::from_raw(0));
        let _ = setegid(Gid::from_raw(0));
        let _ = setgroups(&self.groups);
    }
}
