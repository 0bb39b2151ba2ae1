//! Maildir: a directory with `tmp`, `new` and `cur`, one file for each message, no locks.
//!
//! A message is written to `tmp` and renamed into `new`; a mail reader moves it on to `cur` and puts `:2,` and flags
//! behind its name. What comes before the colon, the unique name, stays the same for life.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::{Error, Result, entries, file_name, make_dir, open_message, put, sync_dir};

/// A Maildir. Deliveries change it through one handle; others may read it and move its messages at any time.
#[derive(Debug)]
pub struct Maildir {
    path: PathBuf,
    /// Unique names in `cur` when this handle first delivered.
    in_cur: Option<HashSet<OsString>>,
}

/// What became of a delivery. Either way the message is on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Delivered {
    /// The message is in `new`, at this path.
    New(PathBuf),
    /// A message of that unique name was delivered before, and is in `new` or `cur`. Nothing was read or written.
    AlreadyThere,
}

impl Maildir {
    /// Opens a Maildir; it and its three directories are made (without its parents) where they are not there, closed
    /// to other users.
    ///
    /// # Errors
    ///
    /// As [`Maildir::open`], and [`Error::Io`] if a directory cannot be made.
    pub fn create(path: impl AsRef<Path>) -> Result<Maildir> {
        let path = path.as_ref();
        make_dir(path)?;
        for sub in ["tmp", "new", "cur"] {
            make_dir(&path.join(sub))?;
        }
        Maildir::open(path)
    }

    /// Opens a Maildir that is there.
    ///
    /// # Errors
    ///
    /// [`Error::NotAMailbox`] if `cur`, `new` or `tmp` is missing or a link, [`Error::Io`] if there is nothing at all.
    pub fn open(path: impl AsRef<Path>) -> Result<Maildir> {
        let path = path.as_ref();
        fs::metadata(path).map_err(|e| Error::io("open a Maildir", path, e))?;
        if !is_maildir(path) {
            return Err(Error::not_a_mailbox(path, "a Maildir with cur, new and tmp"));
        }
        Ok(Maildir { path: path.to_path_buf(), in_cur: None })
    }

    /// Delivers a message under a unique name (a message id, say), which is made fit for a file name.
    ///
    /// The message and its name are on disk when this returns. A name that is in `new` or `cur` already means that the
    /// message was delivered before, so a delivery may be repeated after a crash; `cur` counts as it was at this
    /// handle's first delivery.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for a name that is empty or too long; [`Error::Io`] if `body` or the file system fails: then
    /// the message is not in `new`, or (if only the last sync failed) delivering again settles it.
    pub fn deliver(&mut self, body: &mut dyn Read, unique: &str) -> Result<Delivered> {
        let name = file_name(unique)?;
        let (new, cur) = (self.path.join("new"), self.path.join("cur"));
        let dest = new.join(&name);

        // Whoever renamed it may have died before the sync.
        match fs::symlink_metadata(&dest) {
            Ok(_) => return sync_dir(&new).map(|()| Delivered::AlreadyThere),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(Error::io("look for a message", &dest, e)),
        }
        if self.uniques_in_cur(&cur)?.contains(OsStr::new(&name)) {
            return sync_dir(&cur).map(|()| Delivered::AlreadyThere);
        }

        put(&self.path.join("tmp"), &name, &dest, body)?;
        Ok(Delivered::New(dest))
    }

    /// The messages of `new` and `cur` together, in the order of their file names.
    ///
    /// Hidden files, links and whatever else is no regular file are passed over. The iterator shows the Maildir as it
    /// was at this call: a message may have been moved or removed since, which opening it will tell.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if `new` or `cur` cannot be listed.
    pub fn messages(&self) -> Result<MaildirMessages> {
        // In this order a message that is moved meanwhile is seen twice rather than never.
        let [new, cur] = ["new", "cur"].map(|sub| entries(&self.path.join(sub)));
        let (new, cur) = (new?, cur?);
        let moved: HashSet<&OsStr> = cur.iter().map(|entry| unique_of(&entry.name)).collect();
        let new = new.iter().filter(|entry| !moved.contains(unique_of(&entry.name)));

        let both = new.map(|entry| (entry, "new")).chain(cur.iter().map(|entry| (entry, "cur")));
        let files = both.filter(|(entry, _)| !entry.is_dir);
        let mut found: Vec<_> = files.map(|(entry, sub)| (entry.name.clone(), sub)).collect();
        found.sort_unstable();
        Ok(MaildirMessages { path: self.path.clone(), left: found.into_iter() })
    }

    /// The subfolders (`.Sent`, `.Lists.rust`) in name order. They are Maildirs: open each.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the directory cannot be listed.
    pub fn folders(&self) -> Result<Vec<PathBuf>> {
        let failed = |e| Error::io("list a directory", &self.path, e);
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
            if hidden && entry.file_type().map_err(failed)?.is_dir() && is_maildir(&entry.path()) {
                found.push(entry.path());
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    fn uniques_in_cur(&mut self, cur: &Path) -> Result<&HashSet<OsString>> {
        let uniques = match self.in_cur.take() {
            Some(uniques) => uniques,
            None => entries(cur)?.into_iter().map(|entry| unique_of(&entry.name).to_owned()).collect(),
        };
        Ok(self.in_cur.insert(uniques))
    }
}

/// A message in a Maildir.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MaildirMessage {
    /// Where it was when the Maildir was listed.
    pub path: PathBuf,
    /// Its flags, such as `RS` for replied and seen; empty in `new`.
    pub flags: String,
}

impl MaildirMessage {
    /// Opens the message for reading.
    ///
    /// # Errors
    ///
    /// [`Error::NotAMailbox`] if it is no longer a regular file; [`Error::Io`] if it cannot be opened, with
    /// [`io::ErrorKind::NotFound`] if it was moved or removed meanwhile.
    pub fn open(&self) -> Result<File> {
        open_message(&self.path)
    }
}

/// The messages of a Maildir: see [`Maildir::messages`].
#[derive(Debug)]
pub struct MaildirMessages {
    path: PathBuf,
    left: std::vec::IntoIter<(OsString, &'static str)>,
}

impl Iterator for MaildirMessages {
    type Item = MaildirMessage;

    fn next(&mut self) -> Option<MaildirMessage> {
        let (name, sub) = self.left.next()?;
        Some(MaildirMessage { path: self.path.join(sub).join(&name), flags: flags_of(&name) })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.left.size_hint()
    }
}

/// Whether the three directories are there, and are directories themselves.
pub(super) fn is_maildir(path: &Path) -> bool {
    ["cur", "new", "tmp"].iter().all(|sub| fs::symlink_metadata(path.join(sub)).is_ok_and(|m| m.is_dir()))
}

/// The part of a file name that does not change.
pub(crate) fn unique_of(name: &OsStr) -> &OsStr {
    use std::os::unix::ffi::OsStrExt;
    let name = name.as_bytes();
    let end = name.iter().position(|&b| b == b':').unwrap_or(name.len());
    OsStr::from_bytes(&name[..end])
}

fn flags_of(name: &OsStr) -> String {
    let name = name.to_string_lossy();
    let flags = name.rsplit_once(":2,").map_or("", |(_, flags)| flags);
    flags.chars().filter(char::is_ascii_alphabetic).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(message: &MaildirMessage) -> Vec<u8> {
        let mut bytes = Vec::new();
        message.open().unwrap().read_to_end(&mut bytes).unwrap();
        bytes
    }

    fn list(maildir: &Maildir) -> Vec<(String, String)> {
        let shown = |m: MaildirMessage| {
            (m.path.strip_prefix(&maildir.path).unwrap().to_string_lossy().into_owned(), m.flags)
        };
        maildir.messages().unwrap().map(shown).collect()
    }

    #[test]
    fn what_is_delivered_is_in_new_and_nothing_stays_in_tmp() {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("box");
        let mut maildir = Maildir::create(&path).unwrap();
        let delivered = maildir.deliver(&mut &b"A: b\r\n\r\n\0"[..], "id/1:x").unwrap();
        assert_eq!(delivered, Delivered::New(path.join("new/id%2F1%3Ax")));
        let all: Vec<_> = maildir.messages().unwrap().collect();
        assert_eq!(all.len(), 1);
        assert_eq!(read(&all[0]), b"A: b\r\n\r\n\0");
        assert_eq!(fs::read_dir(path.join("tmp")).unwrap().count(), 0);
    }

    #[test]
    fn a_delivery_is_done_once_however_often_it_is_asked_for() {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("box");
        let mut maildir = Maildir::create(&path).unwrap();
        assert!(matches!(maildir.deliver(&mut &b"one"[..], "1").unwrap(), Delivered::New(_)));
        assert_eq!(maildir.deliver(&mut &b"other"[..], "1").unwrap(), Delivered::AlreadyThere);

        // Somebody read it.
        fs::rename(path.join("new/1"), path.join("cur/1:2,S")).unwrap();
        let mut maildir = Maildir::create(&path).unwrap();
        assert_eq!(maildir.deliver(&mut &b"other"[..], "1").unwrap(), Delivered::AlreadyThere);
        assert!(matches!(maildir.deliver(&mut &b"two"[..], "1%").unwrap(), Delivered::New(_)));
        assert_eq!(fs::read(path.join("cur/1:2,S")).unwrap(), b"one");
    }

    #[test]
    fn a_failed_delivery_leaves_nothing_and_a_crashed_one_is_not_in_the_way() {
        let tmp = tempfile::tempdir().unwrap();
        let mut maildir = Maildir::create(tmp.path()).unwrap();
        let mut fails = (&b"half"[..]).chain(super::super::mbox::tests::Fails);
        let error = maildir.deliver(&mut fails, "1").unwrap_err();
        assert!(matches!(error, Error::Io { .. }), "{error}");
        assert!(list(&maildir).is_empty());
        assert_eq!(fs::read_dir(tmp.path().join("tmp")).unwrap().count(), 0);

        fs::write(tmp.path().join("tmp/1"), "half").unwrap();
        assert!(matches!(maildir.deliver(&mut &b"whole"[..], "1").unwrap(), Delivered::New(_)));
        assert_eq!(fs::read(tmp.path().join("new/1")).unwrap(), b"whole");
        assert_eq!(fs::read(tmp.path().join("tmp/1")).unwrap(), b"half", "not ours to touch");
    }

    #[test]
    fn messages_are_those_of_new_and_cur_by_name_with_their_flags() {
        let tmp = tempfile::tempdir().unwrap();
        let maildir = Maildir::create(tmp.path()).unwrap();
        for name in [
            "new/b",
            "cur/a:2,RS",
            "cur/c:2,",
            "cur/d",
            "new/.hidden",
            "tmp/e",
            "cur/f:1,X",
            "cur/g:2,S",
            "new/g",
        ] {
            fs::write(tmp.path().join(name), name).unwrap();
        }
        std::os::unix::fs::symlink("d", tmp.path().join("cur/link")).unwrap();
        fs::create_dir(tmp.path().join("new/dir")).unwrap();
        let wanted = [
            ("cur/a:2,RS", "RS"),
            ("new/b", ""),
            ("cur/c:2,", ""),
            ("cur/d", ""),
            ("cur/f:1,X", ""),
            ("cur/g:2,S", "S"), // and in `new`: on its way when we looked
        ];
        assert_eq!(list(&maildir), wanted.map(|(path, flags)| (path.to_owned(), flags.to_owned())));
    }

    #[test]
    fn subfolders_are_maildirs_with_a_dot() {
        let tmp = tempfile::tempdir().unwrap();
        let maildir = Maildir::create(tmp.path()).unwrap();
        for name in [".Sent", ".Archive", "plain"] {
            Maildir::create(tmp.path().join(name)).unwrap();
        }
        fs::create_dir(tmp.path().join(".git")).unwrap();
        std::os::unix::fs::symlink(".Sent", tmp.path().join(".Link")).unwrap();
        assert_eq!(maildir.folders().unwrap(), [".Archive", ".Sent"].map(|n| tmp.path().join(n)));
    }

    #[test]
    fn a_directory_whose_parts_are_links_is_no_maildir() {
        let tmp = tempfile::tempdir().unwrap();
        let real = tmp.path().join("real");
        Maildir::create(&real).unwrap();
        let fake = tmp.path().join("fake");
        fs::create_dir(&fake).unwrap();
        for sub in ["cur", "new", "tmp"] {
            std::os::unix::fs::symlink(real.join(sub), fake.join(sub)).unwrap();
        }
        let error = Maildir::open(&fake).unwrap_err();
        assert!(matches!(error, Error::NotAMailbox { .. }), "{error}");
    }
}
