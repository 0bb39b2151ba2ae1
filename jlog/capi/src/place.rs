//! A log's directory, as far as calls go that libjlog answers without opening the log, and whether or not it is one.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use jlog_core::{ErrorKind, Log, RecordId, Subscriber};

use crate::codes::{self, Coded, Failure, Outcome};
use crate::context::{Context, State};

/// What is at a context's path.
pub(crate) enum Place {
    Log(Log),
    /// A directory without any of a log's files, or nothing, or no directory at all.
    Bare(PathBuf),
}

/// A checkpoint as libjlog writes it: two words in the machine's order.
const CHECKPOINT_LEN: usize = 8;

impl Place {
    /// Looks there; a context that has its log open has looked already.
    pub(crate) fn of(context: &Context, state: &State) -> Outcome<Place> {
        if let Some(log) = &state.log {
            return Ok(Place::Log(log.clone()));
        }
        match Log::open(context.dir()) {
            Ok(log) => Ok(Place::Log(log)),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotALog) => {
                Ok(Place::Bare(context.dir().to_path_buf()))
            }
            Err(error) => Err(error).code(codes::OPEN),
        }
    }

    /// A subscriber's checkpoint. Failing tells nothing, as in libjlog.
    pub(crate) fn checkpoint(&self, name: &[u8]) -> Outcome<RecordId> {
        let subscriber = Subscriber::existing(name).untold()?;
        let dir = match self {
            Place::Log(log) => return log.checkpoint(&subscriber).untold(),
            Place::Bare(dir) => dir,
        };
        let mut bytes = [0; CHECKPOINT_LEN];
        let path = checkpoint_path(dir, name);
        fs::File::open(path).and_then(|mut file| file.read_exact(&mut bytes)).untold()?;
        let word = |at: usize| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        Ok(RecordId::new(word(0), word(4)))
    }

    /// Makes a checkpoint that must not exist, in a directory that is no log yet.
    pub(crate) fn create_bare(dir: &Path, name: &[u8], mode: u32, at: RecordId) -> Outcome<()> {
        let mut options = fs::OpenOptions::new();
        options.write(true).create_new(true).mode(mode);
        let file = options.open(checkpoint_path(dir, name));
        let mut file = file.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => Failure::of_system(codes::SUBSCRIBER_EXISTS, &error),
            _ => Failure::of_system(codes::OPEN, &error),
        })?;
        let mut bytes = [0; CHECKPOINT_LEN];
        bytes[..4].copy_from_slice(&at.segment.0.to_ne_bytes());
        bytes[4..].copy_from_slice(&at.marker.0.to_ne_bytes());
        file.write_all(&bytes).code(codes::CHECKPOINT)
    }
}

/// The file of a checkpoint: the name, two hex digits a byte.
pub(crate) fn checkpoint_path(dir: &Path, name: &[u8]) -> PathBuf {
    let mut file = String::from("cp.");
    for byte in name {
        file.push_str(&format!("{byte:02x}"));
    }
    dir.join(file)
}

pub(crate) fn segment_path(dir: &Path, segment: u32) -> PathBuf {
    dir.join(format!("{segment:08x}"))
}

/// The names in the directory.
pub(crate) fn names(dir: &Path) -> io::Result<Vec<OsString>> {
    fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name())).collect()
}

/// The names of the subscribers, in the directory's order.
pub(crate) fn subscribers(dir: &Path) -> io::Result<Vec<Vec<u8>>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).filter(|_| !byte.is_ascii_uppercase()).unwrap_or(0);
    let decoded = |name: OsString| {
        let digits = name.as_bytes().strip_prefix(b"cp.")?;
        let pair = |pair: &[u8]| u8::try_from(digit(pair[0]) * 16 + digit(pair[1])).unwrap_or_default();
        Some(digits.chunks_exact(2).map(pair).collect())
    };
    Ok(names(dir)?.into_iter().filter_map(decoded).collect())
}

/// The lowest segment that is there: a name of eight hex digits, in either case.
pub(crate) fn first_segment(dir: &Path) -> io::Result<Option<u32>> {
    let number = |name: &OsString| {
        let digits = name.as_bytes();
        let hex = digits.len() == 8 && digits.iter().all(u8::is_ascii_hexdigit);
        let text = std::str::from_utf8(digits).ok().filter(|_| hex)?;
        u32::from_str_radix(text, 16).ok()
    };
    Ok(names(dir)?.iter().filter_map(number).min())
}

/// The bytes that are in a segment's file, or the system's own word on why none are.
pub(crate) fn segment_size(dir: &Path, segment: u32) -> io::Result<u64> {
    fs::symlink_metadata(segment_path(dir, segment)).map(|info| info.len())
}
