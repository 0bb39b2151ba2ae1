//! From mail files: an mbox, a Maildir, a folder of `.eml` files. The envelope is made of what stands in front of a message
//! and in its header; the message itself is taken byte for byte.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use jlog::Timestamp;

use super::addresses::addresses;
use super::journal::{Identity, Journal, Name};
use super::spools::path_of;
use super::{BATCH, Import, ImportOptions, ImportProgress, ImportReport, Item, Remove, costs_one, each};
use crate::body::PIECE;
use crate::envelope::Address;
use crate::error::{Result, SpoolError};
use crate::index::QueueKey;
use crate::mailbox::{self, EmlFolder, Maildir, MboxReader, Source};
use crate::message::Message;
use crate::mime::headers;
use crate::record::LogNo;
use crate::spool::Spool;

/// So much of an mbox's beginning tells it from another one.
const MBOX_HEAD: u64 = 1024;

/// A message in a file of its own.
struct MailFile {
    path: PathBuf,
    name: Name,
}

impl Spool {
    /// Takes over the messages of a mailbox, each with a new id. The sender is that of an mbox's `From ` line or of
    /// `Return-Path`, else the null sender; for the recipients see [`ImportOptions::recipients`]. A message without one is
    /// reported and passed over.
    ///
    /// What was imported is noted in the spool, under the mailbox's path: by the byte of an mbox where a message begins, by a
    /// Maildir's unique name, by an `.eml` file's name, size and time. So an import that was broken off is gone on with, and
    /// one that is repeated takes what is new. The notes are in memory meanwhile, some hundred bytes a message. Nobody may write
    /// to an mbox while it is imported.
    ///
    /// # Errors
    /// As [`Spool::import_spool`]; [`Mailbox`](SpoolError::Mailbox) for a mailbox that cannot be read.
    pub fn import_mailbox(
        &self,
        source: &Source,
        options: &ImportOptions,
        now: Timestamp,
        progress: &mut dyn FnMut(ImportProgress),
    ) -> Result<ImportReport> {
        if options
            .trace_header
            .as_ref()
            .is_some_and(|text| text.contains(char::is_control) || text.len() > 900)
        {
            let what =
                "a trace header is one line of at most 900 bytes, without control characters".to_owned();
            return Err(SpoolError::Invalid(what));
        }
        self.store.writer(LogNo::Arrivals)?;
        let _alone = self.store.importing.lock().unwrap_or_else(PoisonError::into_inner);
        match source {
            Source::Mbox(path) => self.import_mbox(path, options, now, progress),
            Source::Maildir(path) => {
                let name = |message: &mailbox::MaildirMessage| {
                    let name = message.path.file_name().unwrap_or_default();
                    Name::from(mailbox::unique_of(name).as_bytes())
                };
                let messages = Maildir::open(path)?.messages()?;
                let files = messages.map(|message| MailFile { name: name(&message), path: message.path });
                self.import_files("maildir:", path, files.collect(), options, now, progress)
            }
            Source::Eml(path) => {
                let found: std::result::Result<Vec<PathBuf>, _> =
                    EmlFolder::open(path)?.messages(true)?.collect();
                let files =
                    found?.into_iter().map(|file| MailFile { name: eml_name(path, &file), path: file });
                self.import_files("eml:", path, files.collect(), options, now, progress)
            }
        }
    }

    fn import_files(
        &self,
        kind: &str,
        path: &Path,
        files: Vec<MailFile>,
        options: &ImportOptions,
        now: Timestamp,
        tell: &mut dyn FnMut(ImportProgress),
    ) -> Result<ImportReport> {
        let source = [kind.as_bytes(), path_of(path).as_os_str().as_bytes()].concat();
        let identity = Identity { source, head: (0, 0) };
        let (journal, known) = Journal::open(&self.store, &identity, options.afresh)?;
        let paths: HashMap<Name, PathBuf> =
            files.iter().map(|file| (file.name.clone(), file.path.clone())).collect();
        let remove = |names: &[Name]| remove_files(names.iter().filter_map(|name| paths.get(name)));
        let remove: &Remove<'_> = &remove;
        let remove = options.remove_source.unwrap_or(false).then_some(remove);
        let report = ImportReport::default();
        let mut import = Import { spool: self, now, journal, remove, report, last: Vec::new(), tell };

        import.report.progress.total = Some(files.len() as u64);
        let done = import.settle(known, |_| None, |_, _| Ok(true))?;
        let files = import.skip(&done, files, |file| file.name.clone())?;
        for files in files.chunks(BATCH) {
            let mut batch = Vec::with_capacity(files.len());
            let read = each(options.concurrency, files, |file| {
                let opened = open_regular(&file.path)?;
                self.read_message(opened, None, options, now)
            });
            for (file, read) in files.iter().zip(read) {
                match read {
                    Ok(messages) => batch.push(Item { name: file.name.clone(), old: None, messages }),
                    Err(error) if costs_one(&error) => import.fail(&file.name, None, &error),
                    Err(error) => return Err(error),
                }
            }
            import.take(batch)?;
        }
        import.finish()
    }

    fn import_mbox(
        &self,
        path: &Path,
        options: &ImportOptions,
        now: Timestamp,
        tell: &mut dyn FnMut(ImportProgress),
    ) -> Result<ImportReport> {
        let failed = |error| SpoolError::io("read an mbox", path, error);
        let mut file = File::open(path).map_err(failed)?;
        let source = [b"mbox:", path_of(path).as_os_str().as_bytes()].concat();
        let mut head = None;
        if let Some((len, crc)) = Journal::head(&self.store, &source)?
            && head_of(&mut file, len.min(MBOX_HEAD)).map_err(failed)? == (len, crc)
        {
            head = Some((len, crc));
        }
        let head = match head {
            Some(head) => head,
            None => head_of(&mut file, MBOX_HEAD).map_err(failed)?,
        };
        let (journal, known) = Journal::open(&self.store, &Identity { source, head }, options.afresh)?;
        let report = ImportReport::default();
        let mut import = Import { spool: self, now, journal, remove: None, report, last: Vec::new(), tell };
        let done = import.settle(known, |_| None, |_, _| Ok(true))?;

        let length = file.metadata().map_err(failed)?.len();
        let mut mbox = MboxReader::open(path)?;
        let mut batch = Vec::new();
        while let Some(message) = mbox.next_message()? {
            let name = Name::from(message.offset().to_string().as_bytes());
            if done.contains_key(&name) {
                import.report.progress.skipped += 1;
                continue;
            }
            let sender = message.sender().to_owned();
            match self.read_message(message, Some(&sender), options, now) {
                Ok(messages) => batch.push(Item { name, old: None, messages }),
                Err(error) if costs_one(&error) => import.fail(&name, None, &error),
                Err(error) => return Err(error),
            }
            if batch.len() == BATCH {
                import.take(std::mem::take(&mut batch))?;
            }
        }
        import.take(batch)?;
        let length_now = || fs::metadata(path).map(|found| found.len()).map_err(failed);
        if options.remove_source.unwrap_or(false)
            && import.report.progress.failed == 0
            && length_now()? == length
        {
            remove_files([&path.to_path_buf()])?;
            import.journal.remove()?;
            import.report.source_removed = true;
        }
        Ok(import.report)
    }

    /// Reads one message and makes one for each of its recipients, with one body for all.
    fn read_message(
        &self,
        mut input: impl Read,
        sender: Option<&str>,
        options: &ImportOptions,
        now: Timestamp,
    ) -> Result<Vec<Message>> {
        let mut builder = self.builder(now, 0);
        let mut chunk = vec![0; 64 << 10];
        let (mut head, mut first) = (Vec::new(), true);
        loop {
            let got = read_some(&mut input, &mut chunk)?;
            let bytes = &chunk[..got];
            if first && let Some(text) = &options.trace_header {
                let line_end = bytes.iter().position(|byte| *byte == b'\n');
                let crlf = line_end.is_some_and(|at| at > 0 && bytes[at - 1] == b'\r');
                let end = if crlf { "\r\n" } else { "\n" };
                builder.push(format!("X-Spool-Import: {text}{end}").as_bytes())?;
            }
            first = false;
            if got == 0 {
                break;
            }
            // A header is rarely a tenth of this.
            head.extend_from_slice(&bytes[..got.min(PIECE - head.len())]);
            builder.push(bytes)?;
        }
        let first = builder.finish()?;

        let sender = match sender {
            Some(sender) => sender.parse().ok(),
            None => field(&head, &["return-path"]).into_iter().next(),
        };
        let recipients = match &options.recipients[..] {
            [] => recipients_of(&head),
            given => given.to_vec(),
        };
        if recipients.is_empty() {
            return Err(SpoolError::Invalid("nobody is named who is to get it".to_owned()));
        }
        let mut messages = vec![first];
        for _ in 1..recipients.len() {
            messages.push(messages[0].share(self.new_id(now))?);
        }
        for (message, recipient) in messages.iter().zip(recipients) {
            let domain = recipient.domain().to_ascii_lowercase();
            let queue = || QueueKey { domain, ..QueueKey::default() };
            message.set_queue(options.queue.clone().unwrap_or_else(queue));
            message.set_sender(sender.clone());
            message.set_recipient(Some(recipient));
        }
        Ok(messages)
    }
}

fn recipients_of(head: &[u8]) -> Vec<Address> {
    for names in [&["delivered-to"][..], &["x-original-to"], &["to", "cc", "bcc"]] {
        let found = field(head, names);
        if !found.is_empty() {
            return found;
        }
    }
    Vec::new()
}

/// The addresses in the fields of these names, each once, in their order.
fn field(head: &[u8], names: &[&str]) -> Vec<Address> {
    let mut found = Vec::new();
    for (name, value) in headers(head) {
        if !names.iter().any(|wanted| wanted.eq_ignore_ascii_case(name)) {
            continue;
        }
        for address in addresses(&value) {
            if !found.contains(&address) {
                found.push(address);
            }
        }
    }
    found
}

/// A failure to read costs a message, not the import.
fn read_some(input: &mut impl Read, chunk: &mut [u8]) -> Result<usize> {
    loop {
        match input.read(chunk) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(SpoolError::Invalid(format!("it cannot be read: {error}"))),
            Ok(got) => return Ok(got),
        }
    }
}

/// What an `.eml` file is called in the journal: with other contents it is another message.
fn eml_name(folder: &Path, file: &Path) -> Name {
    let relative = file.strip_prefix(folder).unwrap_or(file);
    let mut name = relative.as_os_str().as_bytes().to_vec();
    if let Ok(found) = fs::symlink_metadata(file) {
        name.extend_from_slice(
            format!(" {} {}.{:09}", found.len(), found.mtime(), found.mtime_nsec()).as_bytes(),
        );
    }
    name.into_boxed_slice()
}

fn open_regular(path: &Path) -> Result<File> {
    let failed = |error| SpoolError::Invalid(format!("{}: it cannot be opened: {error}", path.display()));
    // Before it is opened: a pipe would be waited for.
    if !fs::metadata(path).map_err(failed)?.is_file() {
        return Err(SpoolError::Invalid(format!("{}: it is no file any more", path.display())));
    }
    File::open(path).map_err(failed)
}

/// Removes files, durably. Those that have gone are gone.
fn remove_files<'a>(paths: impl IntoIterator<Item = &'a PathBuf>) -> Result<()> {
    let mut dirs = BTreeSet::new();
    for path in paths {
        match fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(SpoolError::io("remove an imported message", path, error));
            }
            _ => dirs.insert(path.parent().unwrap_or(path)),
        };
    }
    dirs.into_iter().try_for_each(|dir| Ok(mailbox::sync_dir(dir)?))
}

/// The length and the checksum of the first bytes of a file, at most so many.
fn head_of(file: &mut File, most: u64) -> std::io::Result<(u64, u32)> {
    use std::io::Seek;
    file.rewind()?;
    let mut head = Vec::new();
    file.take(most).read_to_end(&mut head)?;
    Ok((head.len() as u64, crc32fast::hash(&head)))
}
