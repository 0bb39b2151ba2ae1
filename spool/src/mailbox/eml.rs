//! Folders of `.eml` files: one message in each, as it travelled.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use super::{Entry, Error, Result, entries, file_name, make_dir, open_message, put};

const SUFFIX: &str = ".eml";

/// A folder of `.eml` files. One single `.eml` file can be read as a folder that holds just it.
#[derive(Debug, Clone)]
pub struct EmlFolder {
    path: PathBuf,
    single: bool,
}

impl EmlFolder {
    /// Opens a folder, or one file. What is in it is not looked at.
    ///
    /// # Errors
    ///
    /// [`Error::NotAMailbox`] if `path` is neither; [`Error::Io`] if it cannot be looked at.
    pub fn open(path: impl AsRef<Path>) -> Result<EmlFolder> {
        let path = path.as_ref();
        let kind = fs::metadata(path).map_err(|e| Error::io("open a folder", path, e))?;
        if !kind.is_dir() && !kind.is_file() {
            return Err(Error::not_a_mailbox(path, "a folder or a file"));
        }
        Ok(EmlFolder { path: path.to_path_buf(), single: kind.is_file() })
    }

    /// Opens a folder, which is made (without its parents) if it is not there.
    ///
    /// # Errors
    ///
    /// [`Error::NotAMailbox`] if `path` is something else; [`Error::Io`] if the folder cannot be made.
    pub fn create(path: impl AsRef<Path>) -> Result<EmlFolder> {
        make_dir(path.as_ref())?;
        let folder = EmlFolder::open(path)?;
        if folder.single {
            return Err(Error::not_a_mailbox(&folder.path, "a folder"));
        }
        Ok(folder)
    }

    /// The paths of the messages in name order; with `recursive` those in folders below too, at their folder's place.
    ///
    /// A message is a regular file whose name ends in `.eml`, in whatever case. Hidden files and links are passed over.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the folder cannot be listed; one below that cannot is an error of the iterator, which then
    /// goes on behind it.
    pub fn messages(&self, recursive: bool) -> Result<EmlMessages> {
        if self.single {
            return Ok(EmlMessages { single: Some(self.path.clone()), open: Vec::new(), recursive });
        }
        let top = Level::list(self.path.clone())?;
        Ok(EmlMessages { single: None, open: vec![top], recursive })
    }

    /// Opens one of the messages for reading.
    ///
    /// # Errors
    ///
    /// [`Error::NotAMailbox`] if it is no longer a regular file, [`Error::Io`] if it cannot be opened.
    pub fn open_message(&self, path: &Path) -> Result<File> {
        match self.single {
            // Named by the caller, who may name a link.
            true => File::open(path).map_err(|e| Error::io("open a message", path, e)),
            false => open_message(path),
        }
    }

    /// Writes a message and answers its path. `name` is made fit for a file name and gets `.eml` unless it has it.
    ///
    /// The message is on disk, under its name and whole, when this returns; after a crash it is there whole or not at
    /// all. One that had the name before is replaced.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for a name that is empty or too long; [`Error::Io`] if `body` or the file system fails,
    /// which leaves what had the name before (unless only the sync of the folder failed: then write again).
    pub fn write(&self, name: &str, body: &mut dyn Read) -> Result<PathBuf> {
        let mut name = file_name(name)?;
        if !is_eml_name(OsStr::new(&name)) {
            name.push_str(SUFFIX);
        }
        let dest = self.path.join(&name);
        put(&self.path, &format!(".{name}.tmp"), &dest, body)?;
        Ok(dest)
    }
}

/// The messages of a folder: see [`EmlFolder::messages`].
#[derive(Debug)]
pub struct EmlMessages {
    single: Option<PathBuf>,
    /// The folders on the way down to where we are. Links are not followed, so there is an end to it.
    open: Vec<Level>,
    recursive: bool,
}

#[derive(Debug)]
struct Level {
    dir: PathBuf,
    left: std::vec::IntoIter<Entry>,
}

impl Level {
    fn list(dir: PathBuf) -> Result<Level> {
        let left = entries(&dir)?.into_iter();
        Ok(Level { dir, left })
    }
}

impl Iterator for EmlMessages {
    type Item = Result<PathBuf>;

    fn next(&mut self) -> Option<Result<PathBuf>> {
        if let Some(path) = self.single.take() {
            return Some(Ok(path));
        }
        while let Some(level) = self.open.last_mut() {
            let Some(entry) = level.left.next() else {
                self.open.pop();
                continue;
            };
            let path = level.dir.join(&entry.name);
            if !entry.is_dir && is_eml_name(&entry.name) {
                return Some(Ok(path));
            }
            if entry.is_dir && self.recursive {
                match Level::list(path) {
                    Ok(below) => self.open.push(below),
                    Err(error) => return Some(Err(error)),
                }
            }
        }
        None
    }
}

pub(super) fn is_eml_name(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    name.len() >= SUFFIX.len() && name[name.len() - SUFFIX.len()..].eq_ignore_ascii_case(SUFFIX.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &EmlFolder, recursive: bool) -> Vec<String> {
        let relative = |path: Result<PathBuf>| {
            path.unwrap().strip_prefix(&folder.path).unwrap().to_string_lossy().into_owned()
        };
        folder.messages(recursive).unwrap().map(relative).collect()
    }

    #[test]
    fn messages_come_in_name_order_with_the_folders_below_on_request() {
        let tmp = tempfile::tempdir().unwrap();
        fs::create_dir_all(tmp.path().join("b/deep")).unwrap();
        for name in
            ["c.eml", "a.EML", "b/2.eml", "b/1.eml", "b/deep/x.eml", "notes.txt", ".hidden.eml", ".eml"]
        {
            fs::write(tmp.path().join(name), name).unwrap();
        }
        let folder = EmlFolder::open(tmp.path()).unwrap();
        assert_eq!(names(&folder, false), ["a.EML", "c.eml"]);
        assert_eq!(names(&folder, true), ["a.EML", "b/1.eml", "b/2.eml", "b/deep/x.eml", "c.eml"]);
    }

    #[test]
    fn links_are_not_followed() {
        let tmp = tempfile::tempdir().unwrap();
        fs::write(tmp.path().join("secret"), "secret").unwrap();
        let inside = tmp.path().join("in");
        let folder = EmlFolder::create(&inside).unwrap();
        std::os::unix::fs::symlink("../secret", inside.join("a.eml")).unwrap();
        std::os::unix::fs::symlink("..", inside.join("loop")).unwrap();
        assert!(names(&folder, true).is_empty());
        let error = folder.open_message(&inside.join("a.eml")).unwrap_err();
        assert!(matches!(error, Error::NotAMailbox { .. }), "{error}");
    }

    #[test]
    fn a_single_file_is_a_folder_of_one() {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("one.eml");
        fs::write(&path, "Subject: x\n\n").unwrap();
        let folder = EmlFolder::open(&path).unwrap();
        let found: Vec<PathBuf> = folder.messages(true).unwrap().map(Result::unwrap).collect();
        assert_eq!(found, std::slice::from_ref(&path));
        assert!(folder.open_message(&path).is_ok());
        assert!(matches!(EmlFolder::create(&path), Err(Error::NotAMailbox { .. })), "no folder to write to");
    }

    #[test]
    fn what_is_written_is_read_and_a_failed_write_changes_nothing() {
        let tmp = tempfile::tempdir().unwrap();
        let folder = EmlFolder::open(tmp.path()).unwrap();
        let path = folder.write("../a b", &mut &b"one\0\r\n"[..]).unwrap();
        assert_eq!(path, tmp.path().join("%2E.%2Fa%20b.eml"));
        assert_eq!(fs::read(&path).unwrap(), b"one\0\r\n");

        // A crash left the temporary file of an earlier attempt.
        fs::write(tmp.path().join(".%2E.%2Fa%20b.eml.tmp"), "half").unwrap();
        let mut fails = (&b"two"[..]).chain(super::super::mbox::tests::Fails);
        assert!(matches!(folder.write("../a b", &mut fails), Err(Error::Io { .. })));
        assert_eq!(fs::read(&path).unwrap(), b"one\0\r\n");
        assert_eq!(folder.write("../a b", &mut &b"two"[..]).unwrap(), path);
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(tmp.path()).unwrap().count(), 2, "the message and the crash's leftover");
    }
}
