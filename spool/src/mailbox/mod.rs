//! Mailbox formats that mail comes from and goes to: mbox, Maildir, folders of `.eml` files.
//!
//! Streams in, streams out: nothing here knows the spool. A message is never in memory as a whole; the names of one
//! directory are, because they are handed out in order. Bodies are bytes and stay as they are, line ends included.

mod eml;
mod maildir;
mod mbox;

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

pub use eml::{EmlFolder, EmlMessages};
pub(crate) use maildir::unique_of;
pub use maildir::{Delivered, Maildir, MaildirMessage, MaildirMessages};
pub use mbox::{MboxMessage, MboxReader, MboxWriter, write_message};

/// A result of this module.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong with a mailbox, and where.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// What is there is no mailbox of the kind that was asked for. Correct the path, or the offset.
    NotAMailbox {
        /// The file or directory, where there is one.
        path: Option<PathBuf>,
        /// The byte where the mailbox, or its next message, should begin.
        offset: u64,
        /// What should have been there.
        wanted: &'static str,
    },
    /// The caller asked for something that cannot be written. Correct the argument.
    Invalid {
        /// The argument, and what is wrong with it.
        what: &'static str,
    },
    /// The file system, or the stream that a message comes from, failed.
    Io {
        /// What was being done.
        doing: &'static str,
        /// The file, where there is one.
        path: Option<PathBuf>,
        /// The byte in the file, where it is known.
        offset: Option<u64>,
        /// The failure as it was reported.
        source: io::Error,
    },
    /// An earlier failure on this handle left the end of the file unknown. Open the mailbox again.
    Poisoned {
        /// The file.
        path: PathBuf,
    },
}

impl Error {
    fn io(doing: &'static str, path: &Path, source: io::Error) -> Error {
        Error::Io { doing, path: Some(path.to_path_buf()), offset: None, source }
    }

    fn not_a_mailbox(path: &Path, wanted: &'static str) -> Error {
        Error::NotAMailbox { path: Some(path.to_path_buf()), offset: 0, wanted }
    }

    /// The file or directory that the error is about.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Error::NotAMailbox { path, .. } | Error::Io { path, .. } => path.as_deref(),
            Error::Poisoned { path } => Some(path),
            Error::Invalid { .. } => None,
        }
    }

    /// The byte in that file, where it is known.
    pub fn offset(&self) -> Option<u64> {
        match self {
            Error::NotAMailbox { offset, .. } => Some(*offset),
            Error::Io { offset, .. } => *offset,
            Error::Poisoned { .. } | Error::Invalid { .. } => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(path) = self.path() {
            write!(f, "{}: ", path.display())?;
        }
        match self {
            Error::NotAMailbox { offset, wanted, .. } => write!(f, "at byte {offset}: this is not {wanted}"),
            Error::Invalid { what } => f.write_str(what),
            Error::Io { doing, offset: Some(offset), source, .. } => {
                write!(f, "cannot {doing} at byte {offset}: {source}")
            }
            Error::Io { doing, source, .. } => write!(f, "cannot {doing}: {source}"),
            Error::Poisoned { .. } => f.write_str("an earlier write or sync failed; open the mailbox again"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// A mailbox to read, of a kind that its looks tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// An mbox file: [`MboxReader::open`].
    Mbox(PathBuf),
    /// A Maildir: [`Maildir::open`].
    Maildir(PathBuf),
    /// A folder of `.eml` files, or one such file: [`EmlFolder::open`].
    Eml(PathBuf),
}

impl Source {
    /// Says what lies at `path`.
    ///
    /// A directory with `cur`, `new` and `tmp` is a Maildir; any other directory with an `.eml` file directly in it is
    /// an eml folder. A file that begins as an mbox does, or is empty, is an mbox whatever its name; any other file
    /// called `.eml` is a message. Only the beginning of a file is read.
    ///
    /// # Errors
    ///
    /// [`Error::NotAMailbox`] for anything else, an empty directory among it; [`Error::Io`] if `path` cannot be read.
    pub fn detect(path: impl AsRef<Path>) -> Result<Source> {
        let path = path.as_ref();
        let kind = fs::metadata(path).map_err(|e| Error::io("look at a mailbox", path, e))?;

        if kind.is_dir() {
            if maildir::is_maildir(path) {
                return Ok(Source::Maildir(path.to_path_buf()));
            }
            if EmlFolder::open(path)?.messages(false)?.next().is_some() {
                return Ok(Source::Eml(path.to_path_buf()));
            }
            return Err(Error::not_a_mailbox(path, "a Maildir or a folder of .eml files"));
        }
        if !kind.is_file() {
            return Err(Error::not_a_mailbox(path, "a file or a directory"));
        }

        let named_eml = path.file_name().is_some_and(eml::is_eml_name);
        if named_eml && kind.len() == 0 {
            return Ok(Source::Eml(path.to_path_buf()));
        }
        match MboxReader::open(path)?.next_message() {
            Ok(_) => Ok(Source::Mbox(path.to_path_buf())),
            Err(Error::NotAMailbox { .. }) if named_eml => Ok(Source::Eml(path.to_path_buf())),
            Err(Error::NotAMailbox { .. }) => Err(Error::not_a_mailbox(path, "an mbox or an .eml file")),
            Err(error) => Err(error),
        }
    }

    /// The path that was detected.
    pub fn path(&self) -> &Path {
        match self {
            Source::Mbox(path) | Source::Maildir(path) | Source::Eml(path) => path,
        }
    }
}

/// How much of a message is in memory while it passes through.
const CHUNK: usize = 64 << 10;

/// Long enough for any identifier; with escapes, suffix and flags still a file name (255 bytes) in every file system.
const LONGEST_NAME: usize = 200;

/// Files left over by crashes under one name. More than this is not crashes.
const LEFTOVERS: u32 = 1000;

/// Makes a file name out of any text, a different one for each: what is not plainly harmless becomes `%` and two
/// hexadecimal digits. A first dot does too, because a name that begins with one is hidden.
fn file_name(text: &str) -> Result<String> {
    let mut name = String::with_capacity(text.len());
    for (i, byte) in text.bytes().enumerate() {
        let harmless = byte.is_ascii_alphanumeric() || b"-_=+@".contains(&byte) || (byte == b'.' && i > 0);
        match harmless {
            true => name.push(char::from(byte)),
            false => name.push_str(&format!("%{byte:02X}")),
        }
        if name.len() > LONGEST_NAME {
            return Err(Error::Invalid { what: "the name is too long for a file" });
        }
    }
    if name.is_empty() {
        return Err(Error::Invalid { what: "the name is empty" });
    }
    Ok(name)
}

/// Opens a message file: a regular file, and no other one by way of a link.
fn open_message(path: &Path) -> Result<File> {
    let failed = |e| Error::io("open a message", path, e);
    let named = fs::symlink_metadata(path).map_err(failed)?;
    if !named.is_file() {
        return Err(Error::not_a_mailbox(path, "a regular file"));
    }
    let file = File::open(path).map_err(failed)?;
    let opened = file.metadata().map_err(failed)?;
    if (named.dev(), named.ino()) != (opened.dev(), opened.ino()) {
        return Err(Error::not_a_mailbox(path, "the file that it was a moment ago"));
    }
    Ok(file)
}

/// Puts `body` at `dest`, whole or not at all: a new file beside it or in `tmp_dir`, synced, renamed, and the rename
/// synced. A file that is at `dest` already is replaced.
fn put(tmp_dir: &Path, tmp_name: &str, dest: &Path, body: &mut dyn Read) -> Result<()> {
    let (tmp, mut file) = new_file(tmp_dir, tmp_name)?;
    let put = copy(body, &mut file, &tmp)
        .and_then(|()| file.sync_all().map_err(|e| Error::io("sync a message", &tmp, e)))
        .and_then(|()| fs::rename(&tmp, dest).map_err(|e| Error::io("rename a message", dest, e)));
    if put.is_err() {
        // The first failure is the one to report; a file left in tmp harms nobody.
        let _ = fs::remove_file(&tmp);
        return put;
    }
    sync_dir(dest.parent().unwrap_or(tmp_dir))
}

/// Creates a file that was not there: `name`, or that with a number where a crash, or somebody at work, left one.
fn new_file(dir: &Path, name: &str) -> Result<(PathBuf, File)> {
    let mut path = dir.join(name);
    let mut leftovers = 0;
    loop {
        match OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(file) => return Ok((path, file)),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && leftovers < LEFTOVERS => {
                leftovers += 1;
                path = dir.join(format!("{name}.{leftovers}"));
            }
            Err(e) => return Err(Error::io("create a file", &path, e)),
        }
    }
}

fn copy(body: &mut dyn Read, file: &mut File, path: &Path) -> Result<()> {
    let mut chunk = vec![0; CHUNK];
    loop {
        let n = read_some(body, &mut chunk)?;
        if n == 0 {
            return Ok(());
        }
        file.write_all(&chunk[..n]).map_err(|e| Error::io("write a message", path, e))?;
    }
}

/// Reads from the stream of a caller; 0 at its end.
fn read_some(body: &mut dyn Read, chunk: &mut [u8]) -> Result<usize> {
    loop {
        match body.read(chunk) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(source) => {
                return Err(Error::Io { doing: "read the message", path: None, offset: None, source });
            }
            Ok(n) => return Ok(n),
        }
    }
}

/// Makes a directory, closed to other users, unless there is one; its name is on disk either way.
fn make_dir(path: &Path) -> Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(Error::io("make a directory", path, e)),
        _ => sync_dir(path.parent().unwrap_or(path)),
    }
}

pub(crate) fn sync_dir(dir: &Path) -> Result<()> {
    // The parent of a bare file name is "".
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    File::open(dir).and_then(|d| d.sync_all()).map_err(|e| Error::io("sync a directory", dir, e))
}

/// What a directory holds, in name order, without hidden files and without links.
fn entries(dir: &Path) -> Result<Vec<Entry>> {
    let failed = |e| Error::io("list a directory", dir, e);
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        if name.as_encoded_bytes().starts_with(b".") {
            continue;
        }
        // The type of the entry itself: a link is neither file nor directory.
        let kind = entry.file_type().map_err(failed)?;
        if kind.is_file() || kind.is_dir() {
            found.push(Entry { name, is_dir: kind.is_dir() });
        }
    }
    found.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

#[derive(Debug)]
struct Entry {
    name: std::ffi::OsString,
    is_dir: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(dir: &Path, name: &str, bytes: &[u8]) -> PathBuf {
        let path = dir.join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    #[test]
    fn each_kind_of_mailbox_is_told_by_its_looks() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = tmp.path();

        let mbox = file(dir, "inbox", b"From a@example.com Thu Jan  1 00:00:00 1970\nA: b\n\n");
        assert_eq!(Source::detect(&mbox).unwrap(), Source::Mbox(mbox));
        let late = file(dir, "late", b"\r\n\nFrom a@example.com Thu Jan  1 00:00:00 1970\nA: b\n\n");
        assert_eq!(Source::detect(&late).unwrap(), Source::Mbox(late));
        let empty = file(dir, "empty", b"");
        assert_eq!(Source::detect(&empty).unwrap(), Source::Mbox(empty));

        let eml = file(dir, "one.EML", b"Subject: x\n\n");
        assert_eq!(Source::detect(&eml).unwrap(), Source::Eml(eml));
        let disguised = file(dir, "two.eml", b"From a@example.com Thu Jan  1 00:00:00 1970\nA: b\n\n");
        assert_eq!(Source::detect(&disguised).unwrap(), Source::Mbox(disguised));
        let nothing = file(dir, "nothing.eml", b"");
        assert_eq!(Source::detect(&nothing).unwrap(), Source::Eml(nothing));
        assert_eq!(Source::detect(dir).unwrap(), Source::Eml(dir.to_path_buf()));

        let maildir = dir.join("maildir");
        Maildir::create(&maildir).unwrap();
        assert_eq!(Source::detect(&maildir).unwrap(), Source::Maildir(maildir));
    }

    #[test]
    fn what_is_no_mailbox_is_not_guessed_at() {
        let tmp = tempfile::tempdir().unwrap();
        let other = file(tmp.path(), "notes.txt", b"Dear diary,\n");
        let error = Source::detect(&other).unwrap_err();
        assert!(matches!(error, Error::NotAMailbox { .. }), "{error}");
        assert_eq!(error.path(), Some(other.as_path()));

        let dir = tmp.path().join("dir");
        fs::create_dir(&dir).unwrap();
        assert!(matches!(Source::detect(&dir), Err(Error::NotAMailbox { .. })));
        fs::create_dir(dir.join("cur")).unwrap();
        fs::create_dir(dir.join("new")).unwrap();
        assert!(matches!(Source::detect(&dir), Err(Error::NotAMailbox { .. })), "no tmp");
        assert!(matches!(Source::detect(dir.join("absent")), Err(Error::Io { .. })));
    }

    #[test]
    fn different_texts_are_different_file_names() {
        let texts = ["a", "A", "a/b", "a%2Fb", "a:b", ".a", "..", "a.b", "ä", "a b", "a\0b", "%", "\n"];
        let mut names: Vec<String> = texts.iter().map(|t| file_name(t).unwrap()).collect();
        for name in &names {
            assert!(!name.starts_with('.') && !name.contains(['/', ':', '\0', ' ', '\n']), "{name}");
        }
        names.sort();
        names.dedup();
        assert_eq!(names.len(), texts.len());

        assert_eq!(file_name("63c0ab12-1234-5678@mx1").unwrap(), "63c0ab12-1234-5678@mx1");
        assert!(matches!(file_name(""), Err(Error::Invalid { .. })));
        assert!(file_name(&"x".repeat(LONGEST_NAME)).is_ok());
        assert!(matches!(file_name(&"x".repeat(LONGEST_NAME + 1)), Err(Error::Invalid { .. })));
    }
}
