//! Export: messages of the spool are written to an mbox, a Maildir or a folder of `.eml` files.

use std::io::{self, Read};
use std::path::PathBuf;

use crate::envelope::EnvelopeEnd;
use crate::error::{Result, SpoolError};
use crate::id::MessageId;
use crate::import::ImportFailure;
use crate::mailbox::{Delivered, EmlFolder, Error, Maildir, MboxWriter};
use crate::message::Message;
use crate::spool::{Listed, Spool};

/// So many messages are synced, in an mbox, and removed together.
const BATCH: usize = 128;
/// So many failures a report tells of one by one.
const FAILURES: usize = 100;

/// Where messages are written. What is not there is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExportTarget {
    /// An mbox: they are appended.
    Mbox(PathBuf),
    /// A Maildir: each is delivered under its id and a checksum of its body. Two spools may have given an id twice.
    Maildir(PathBuf),
    /// A folder: each is a file of such a name and `.eml`.
    Eml(PathBuf),
}

/// How messages are exported. The fields are set by methods of their names.
#[derive(Debug, Clone, Copy, Default)]
pub struct ExportOptions {
    remove: bool,
    envelope_headers: bool,
}

impl ExportOptions {
    /// The defaults.
    pub fn new() -> ExportOptions {
        ExportOptions::default()
    }

    /// Whether a message is removed from the spool once it is on the disk at its target. Off.
    pub fn remove(mut self, remove: bool) -> ExportOptions {
        self.remove = remove;
        self
    }

    /// Whether `Return-Path` and `Delivered-To` are put in front of each message, as agents do that deliver to a Maildir.
    /// Off: what is exported is what was accepted, byte for byte. Without them only an mbox tells the sender, in its
    /// `From ` line, and nothing tells the recipient.
    pub fn envelope_headers(mut self, on: bool) -> ExportOptions {
        self.envelope_headers = on;
        self
    }
}

/// How far an export is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ExportProgress {
    /// Messages that are at the target.
    pub done: u64,
    /// Those of them that had been there before.
    pub skipped: u64,
    /// Those that could not be read.
    pub failed: u64,
    /// All that were picked.
    pub total: u64,
}

/// What an export has done.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ExportReport {
    /// How many messages were picked, written, there already, and failed.
    pub progress: ExportProgress,
    /// Those that were removed from the spool.
    pub removed: u64,
    /// Of the failures, the first hundred.
    pub failures: Vec<ImportFailure>,
}

enum Writer {
    Mbox(MboxWriter),
    Maildir(Maildir),
    Eml(EmlFolder),
}

impl Spool {
    /// Writes those messages that `which` picks, in the order of their ids, each as it was accepted: verbatim. They are on
    /// the disk at the target when this returns, and before any is removed here.
    ///
    /// Repeated after a crash, a Maildir and a folder hold each message once; an mbox may hold some twice. A message that
    /// cannot be read stays, is reported, and the others are written.
    ///
    /// # Errors
    /// [`Mailbox`](SpoolError::Mailbox) where the target cannot be written; those of removing.
    pub fn export(
        &self,
        to: &ExportTarget,
        which: impl FnMut(&Listed) -> bool,
        options: &ExportOptions,
        progress: &mut dyn FnMut(ExportProgress),
    ) -> Result<ExportReport> {
        let mut which = which;
        let mut ids: Vec<MessageId> =
            self.entries()?.filter(|listed| which(listed)).map(|listed| listed.id).collect();
        ids.sort_unstable();
        let mut writer = match to {
            ExportTarget::Mbox(path) => Writer::Mbox(MboxWriter::open(path)?),
            ExportTarget::Maildir(path) => Writer::Maildir(Maildir::create(path)?),
            ExportTarget::Eml(path) => Writer::Eml(EmlFolder::create(path)?),
        };
        let mut report = ExportReport::default();
        report.progress.total = ids.len() as u64;
        for ids in ids.chunks(BATCH) {
            let mut written = Vec::with_capacity(ids.len());
            for id in ids {
                match self.export_one(&mut writer, *id, options) {
                    Ok(new) => {
                        report.progress.done += 1;
                        report.progress.skipped += u64::from(!new);
                        written.push(*id);
                    }
                    // Removed meanwhile by whoever delivered it.
                    Err(SpoolError::NotFound(_)) => report.progress.total -= 1,
                    Err(error @ SpoolError::Mailbox(_)) => return Err(error),
                    Err(error) => {
                        report.progress.failed += 1;
                        if report.failures.len() < FAILURES {
                            let failure = ImportFailure { name: id.to_string(), reason: error.to_string() };
                            report.failures.push(failure);
                        }
                    }
                }
            }
            if let Writer::Mbox(mbox) = &mut writer {
                mbox.sync()?;
            }
            if options.remove {
                report.removed += self.remove_all(&written)? as u64;
            }
            progress(report.progress);
        }
        if options.remove {
            self.sync()?;
        }
        Ok(report)
    }

    /// Writes one message; false if it had been there before.
    fn export_one(&self, writer: &mut Writer, id: MessageId, options: &ExportOptions) -> Result<bool> {
        let message = self.get(id)?;
        let mut body = message.body()?;
        let mut front = Vec::new();
        if options.envelope_headers {
            front = envelope_headers(&message, &mut body).map_err(|error| unreadable(id, &error))?;
        }
        let mut read = Watched { body: (&front[..]).chain(body), failed: None };
        let sender = message.envelope().complete(EnvelopeEnd::Sender);
        let name = match writer {
            Writer::Mbox(_) => String::new(),
            Writer::Maildir(_) | Writer::Eml(_) => {
                file_name(id, &message).map_err(|error| unreadable(id, &error))?
            }
        };
        let written = match writer {
            Writer::Mbox(mbox) => mbox.append(&sender, message.created(), &mut read).map(|_| true),
            Writer::Maildir(maildir) => {
                maildir.deliver(&mut read, &name).map(|delivered| delivered != Delivered::AlreadyThere)
            }
            Writer::Eml(folder) => folder.write(&name, &mut read).map(|_| true),
        };
        match (written, read.failed) {
            (Ok(new), _) => Ok(new),
            (Err(Error::Poisoned { path }), _) => Err(Error::Poisoned { path }.into()),
            (Err(_), Some(why)) => Err(SpoolError::Invalid(why)),
            (Err(error), None) => Err(error.into()),
        }
    }
}

/// Notes that it was the message that could not be read, and not the target that could not be written.
struct Watched<R> {
    body: R,
    failed: Option<String>,
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.body.read(buffer).inspect_err(|error| {
            if error.kind() != io::ErrorKind::Interrupted {
                self.failed = Some(format!("its body cannot be read: {error}"));
            }
        })
    }
}

/// Where it would go once more: what is there under this name is this message.
fn file_name(id: MessageId, message: &Message) -> io::Result<String> {
    let mut body = message.body().map_err(io::Error::other)?;
    let (mut crc, mut chunk) = (crc32fast::Hasher::new(), vec![0; 64 << 10]);
    loop {
        match body.read(&mut chunk)? {
            0 => return Ok(format!("{}.{:08x}", id.to_string().replace('/', "-"), crc.finalize())),
            got => crc.update(&chunk[..got]),
        }
    }
}

/// `Return-Path` and `Delivered-To`, with line ends as the message has them.
fn envelope_headers(message: &Message, body: &mut crate::body::BodyReader) -> io::Result<Vec<u8>> {
    let mut start = Vec::new();
    body.take(1000).read_to_end(&mut start)?;
    io::Seek::rewind(body)?;
    let line = start.iter().position(|byte| *byte == b'\n');
    let end = if line.is_some_and(|at| at > 0 && start[at - 1] == b'\r') { "\r\n" } else { "\n" };
    let envelope = message.envelope();
    let mut lines = format!("Return-Path: <{}>{end}", envelope.complete(EnvelopeEnd::Sender));
    if let Some(recipient) = envelope.recipient() {
        lines.push_str(&format!("Delivered-To: {recipient}{end}"));
    }
    Ok(lines.into_bytes())
}

fn unreadable(id: MessageId, error: &io::Error) -> SpoolError {
    SpoolError::Invalid(format!("the body of message {id} cannot be read: {error}"))
}
