//! Where damaged records are set aside: `quarantine/`, the bytes as they were found and the reason beside them.

use std::path::{Path, PathBuf};

use jlog::io::{Disk, File, Open};

use crate::error::{Result, SpoolError};
use crate::id::MessageId;

/// The directory's name.
pub(crate) const DIR: &str = "quarantine";
/// Of one record so many bytes are kept at most.
const MOST: u64 = 64 << 20;

/// Keeps a copy of a damaged record, once, and returns where. On disk when it returns.
pub(crate) fn keep(
    disk: &dyn Disk,
    dir: &Path,
    id: MessageId,
    segment: &Path,
    offset: u64,
    span: u64,
    reason: &str,
) -> Result<PathBuf> {
    let dir = dir.join(DIR);
    match disk.create_dir(&dir, 0o700) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(SpoolError::io("make the quarantine", &dir, error));
        }
        _ => {}
    }
    let number = segment.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let log = segment.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned();
    let name = format!("{}-{log}-{number}-{offset}", id.spool_name().as_ref().replace('/', ""));
    let kept = dir.join(format!("{name}.bin"));
    if disk.info(&kept, false).is_ok() {
        return Ok(kept);
    }
    let mut bytes = Vec::new();
    if let Some(file) = File::open_existing(disk, segment, Open::Read)? {
        let there = file.size()?.saturating_sub(offset).min(span).min(MOST);
        bytes.resize(usize::try_from(there).unwrap_or(0), 0);
        let got = file.pread_up_to(&mut bytes, offset)?;
        bytes.truncate(got);
    }
    let text = format!("message: {id}\nfile: {}\noffset: {offset}\nreason: {reason}\n", segment.display());
    for (path, bytes) in [(dir.join(format!("{name}.txt")), text.as_bytes()), (kept.clone(), &bytes)] {
        let file = File::open(disk, &path, Open::Create(0o600))?;
        file.truncate(0)?;
        file.pwrite(bytes, 0)?;
        file.sync()?;
    }
    disk.sync_dir(&dir).map_err(|error| SpoolError::io("sync the quarantine", &dir, error))?;
    Ok(kept)
}
