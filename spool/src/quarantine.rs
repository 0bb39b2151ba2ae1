//! Where damaged records are set aside: `quarantine/`, the bytes as they were found and the reason beside them.

use std::path::{Path, PathBuf};

use jlog::io::{Disk, File, Open, OsDisk};

use crate::error::{Result, SpoolError};
use crate::id::MessageId;
use crate::open::make_dir;

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
    make_dir(disk, &dir, 0o700)?;
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

/// A damaged record that was set aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantined {
    /// Whose it was; `None` where what stands beside it does not say.
    pub message: Option<MessageId>,
    /// The file with its bytes.
    pub path: PathBuf,
    /// How many there are.
    pub bytes: u64,
    /// Why it was set aside, and from where.
    pub reason: String,
}

/// What stands beside a record is read so far.
const TEXT: usize = 64 << 10;

/// The damaged records that a spool has set aside, by their files' names. It need not be open, and may be.
///
/// # Errors
/// Those of reading the directory and its files.
pub fn quarantined(spool: impl AsRef<Path>) -> Result<Vec<Quarantined>> {
    let (disk, dir) = (OsDisk, spool.as_ref().join(DIR));
    let mut names = match disk.names(&dir) {
        Ok(names) => names,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(SpoolError::io("look into the quarantine", &dir, error)),
    };
    names.sort();
    let mut all = Vec::new();
    for path in names.iter().map(|name| dir.join(name)).filter(|p| p.extension().is_some_and(|e| e == "bin"))
    {
        // Somebody may tidy up meanwhile.
        let Some(file) = File::open_existing(&disk, &path, Open::Read)? else { continue };
        let mut text = vec![0; TEXT];
        let beside = File::open_existing(&disk, &path.with_extension("txt"), Open::Read)?;
        let got = beside.map_or(Ok(0), |file| file.pread_up_to(&mut text, 0))?;
        let text = String::from_utf8_lossy(&text[..got]).into_owned();
        let message = text.lines().find_map(|line| line.strip_prefix("message: "));
        let reason = text.split_once("reason: ").map_or("", |(_, reason)| reason.trim_end());
        all.push(Quarantined {
            message: message.and_then(|id| id.parse().ok()),
            bytes: file.size()?,
            reason: reason.to_owned(),
            path,
        });
    }
    Ok(all)
}
