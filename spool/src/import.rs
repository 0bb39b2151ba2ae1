//! Import: messages of another spool, of an mbox, a Maildir or a folder of `.eml` files are taken into this one.
//!
//! - `journal`: what is noted of an import, so that it may be broken off anywhere and started again
//! - `spools`: from another spool; `mailboxes`: from mail files; `addresses`: who gets a mail file's message
//!
//! Batch by batch: the messages are read and copied (by several threads, if so told), the journal is told what they
//! will be called, they are accepted with one sync, and then the source is told, or the journal.
//!
//! ```text
//!   begin ──► accept ──► remove at the source, durably ──► clear the journal
//!                  └───► done, if the source is to stay as it is
//! ```

mod addresses;
mod journal;
mod mailboxes;
mod spools;

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use jlog::Timestamp;
use journal::{Journal, Known, Name};

use crate::envelope::Address;
use crate::error::{Result, SpoolError};
use crate::hooks::ImportEvent;
use crate::id::MessageId;
use crate::index::QueueKey;
use crate::message::Message;
use crate::options::Durability;
use crate::spool::Spool;

/// So many messages of a source go in at a time: with the default threshold of large ones, 16 MiB of memory.
const BATCH: usize = 128;
/// So many failures a report tells of one by one.
const FAILURES: usize = 100;

/// Which ids the messages of another spool get (Momentum's `set_always_regenerate_message_ids`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Ids {
    /// Their own, but new ones where a message of this spool has them already. The default.
    #[default]
    KeepUnlessTaken,
    /// New ones. Their time is the import's: so much later they expire.
    AlwaysNew,
}

/// How messages are imported. The fields are set by methods of their names.
#[derive(Debug, Clone, Default)]
pub struct ImportOptions {
    ids: Ids,
    concurrency: usize,
    remove_source: Option<bool>,
    queue: Option<QueueKey>,
    recipients: Vec<Address>,
    trace_header: Option<String>,
    afresh: bool,
}

impl ImportOptions {
    /// The defaults.
    pub fn new() -> ImportOptions {
        ImportOptions::default()
    }

    /// Which ids the messages of another spool get. Those of mail files always get new ones.
    pub fn ids(mut self, ids: Ids) -> ImportOptions {
        self.ids = ids;
        self
    }

    /// How many threads read and copy; they end with the import. 1, for which 0 stands too: no thread is started. An mbox is
    /// one file and is always read by one.
    pub fn concurrency(mut self, threads: usize) -> ImportOptions {
        self.concurrency = threads;
        self
    }

    /// Whether a message is removed at its source as soon as it is durable here. A spool's are unless this says no, as
    /// Momentum does; those of mail files are not unless it says yes. An mbox is removed as a whole, at the end, and only
    /// if all of it went in.
    pub fn remove_source(mut self, remove: bool) -> ImportOptions {
        self.remove_source = Some(remove);
        self
    }

    /// The queue of all messages. Else those of another spool keep theirs, and those of mail files are put into that of
    /// their recipient's domain.
    pub fn queue(mut self, queue: QueueKey) -> ImportOptions {
        self.queue = Some(queue);
        self
    }

    /// Who gets the messages of mail files. Else their headers say: `Delivered-To` or `X-Original-To`, where there is one,
    /// or `To`, `Cc` and `Bcc`. Each recipient gets a message of its own; they share the body.
    pub fn recipients(mut self, recipients: impl IntoIterator<Item = Address>) -> ImportOptions {
        self.recipients = recipients.into_iter().collect();
        self
    }

    /// Puts a line `X-Spool-Import: ` and this text in front of each message of a mail file. Nothing is added unless this is
    /// called (Momentum's `suppress_trace_headers` is the default here): an import is no relay.
    pub fn trace_header(mut self, text: impl Into<String>) -> ImportOptions {
        self.trace_header = Some(text.into());
        self
    }

    /// Forgets what was imported from this source before: all of it is imported again.
    pub fn afresh(mut self, afresh: bool) -> ImportOptions {
        self.afresh = afresh;
        self
    }
}

/// How far an import is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ImportProgress {
    /// Messages of the source that are in this spool, durably.
    pub done: u64,
    /// Those that had been imported before.
    pub skipped: u64,
    /// Those that could not be.
    pub failed: u64,
    /// All there are; `None` for an mbox, which is not counted beforehand.
    pub total: Option<u64>,
}

/// What an import has done.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ImportReport {
    /// How many messages of the source went in, were there already, and failed.
    pub progress: ImportProgress,
    /// Messages accepted: more than went in, where they had several recipients.
    pub accepted: u64,
    /// Those that had to get another id than they had.
    pub renamed: u64,
    /// Of the failures, the first hundred.
    pub failures: Vec<ImportFailure>,
    /// Whether the source was removed as it was asked for. Messages that failed stay where they are.
    pub source_removed: bool,
}

/// A message that could not be imported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportFailure {
    /// What it is called at its source: an id, a path, or the byte of an mbox where it begins.
    pub name: String,
    /// What is wrong.
    pub reason: String,
}

/// A message that was imported from another spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Imported {
    /// Its id there.
    pub old: MessageId,
    /// Its id here.
    pub new: MessageId,
}

/// A message of a source, ready to be accepted.
struct Item {
    name: Name,
    /// Its id at the source.
    old: Option<MessageId>,
    /// One for each recipient; there is one at least.
    messages: Vec<Message>,
}

impl Item {
    fn new_id(&self) -> MessageId {
        self.messages.first().expect("an item has a message").id()
    }
}

/// Removes messages at their source, durably.
type Remove<'a> = dyn Fn(&[Name]) -> Result<()> + 'a;

/// An import at work. Takes the batches and tells everybody.
struct Import<'a> {
    spool: &'a Spool,
    now: Timestamp,
    journal: Journal<'a>,
    /// `None`: they stay.
    remove: Option<&'a Remove<'a>>,
    report: ImportReport,
    /// The ids of those that went in last.
    last: Vec<Imported>,
    tell: &'a mut dyn FnMut(ImportProgress),
}

impl Import<'_> {
    /// What was imported from this source before, and its first ids here: what the journal says is done, and of what was
    /// begun that which is here. `same` says whether a message here is that of the source.
    fn settle(
        &mut self,
        known: Known,
        old: impl Fn(&Name) -> Option<MessageId>,
        same: impl Fn(&Name, MessageId) -> Result<bool>,
    ) -> Result<HashMap<Name, MessageId>> {
        let Known { mut done, begun, .. } = known;
        let mut settled = Vec::new();
        for (name, id) in begun {
            if !done.contains_key(&name) && self.spool.contains(id)? && same(&name, id)? {
                done.insert(name.clone(), id);
                settled.push((name, id));
            }
        }
        if self.remove.is_none() && !settled.is_empty() {
            self.journal.begin(settled.iter().map(|(name, id)| (&**name, *id)))?;
            self.journal.done()?;
        }
        for (name, id) in &settled {
            self.told(name, old(name), Ok(*id));
        }
        Ok(done)
    }

    /// Those of the source's messages that were not imported before. The others are passed over, or removed there.
    fn skip<T>(
        &mut self,
        done: &HashMap<Name, MessageId>,
        all: Vec<T>,
        name: impl Fn(&T) -> Name,
    ) -> Result<Vec<T>> {
        let (gone, left): (Vec<T>, Vec<T>) = all.into_iter().partition(|one| done.contains_key(&name(one)));
        if let Some(remove) = self.remove {
            remove(&gone.iter().map(name).collect::<Vec<Name>>())?;
            self.journal.clear()?;
        }
        self.report.progress.skipped += gone.len() as u64;
        if !gone.is_empty() {
            (self.tell)(self.report.progress);
        }
        Ok(left)
    }

    /// Accepts a batch. If one message of it is refused, the others go in all the same.
    fn take(&mut self, batch: Vec<Item>) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        self.journal.begin(batch.iter().map(|item| (&*item.name, item.new_id())))?;
        let messages: Vec<Message> = batch.iter().flat_map(|item| item.messages.iter().cloned()).collect();
        match self.spool.accept_as(&messages, self.now, Durability::Power) {
            Ok(()) => self.taken(&batch),
            // The first that finds no room, or is refused, has to be found.
            Err(error) if batch.len() > 1 && (costs_one(&error) || error.is_transient()) => {
                drop(messages);
                batch.into_iter().try_for_each(|item| self.take(vec![item]))
            }
            Err(error) if costs_one(&error) => {
                self.fail(&batch[0].name, batch[0].old, &error);
                Ok(())
            }
            Err(error) => {
                self.told(&batch[0].name, batch[0].old, Err(&error));
                Err(error)
            }
        }
    }

    fn taken(&mut self, batch: &[Item]) -> Result<()> {
        self.last =
            batch.iter().filter_map(|item| Some(Imported { old: item.old?, new: item.new_id() })).collect();
        match self.remove {
            Some(remove) => {
                let names: Vec<Name> = batch.iter().map(|item| item.name.clone()).collect();
                remove(&names)?;
                self.journal.clear()?;
            }
            None => self.journal.done()?,
        }
        for item in batch {
            self.report.progress.done += 1;
            self.report.accepted += item.messages.len() as u64;
            self.report.renamed += u64::from(item.old.is_some_and(|old| old != item.new_id()));
            self.told(&item.name, item.old, Ok(item.new_id()));
        }
        (self.tell)(self.report.progress);
        Ok(())
    }

    /// A message could not be imported: it stays where it is, and the import goes on.
    fn fail(&mut self, name: &Name, old: Option<MessageId>, error: &SpoolError) {
        self.report.progress.failed += 1;
        if self.report.failures.len() < FAILURES {
            let name = String::from_utf8_lossy(name).into_owned();
            self.report.failures.push(ImportFailure { name, reason: error.to_string() });
        }
        self.told(name, old, Err(error));
        (self.tell)(self.report.progress);
    }

    fn told(&self, name: &Name, old: Option<MessageId>, result: std::result::Result<MessageId, &SpoolError>) {
        let name = String::from_utf8_lossy(name);
        for hook in &self.spool.options().hooks {
            hook.on_import(&ImportEvent { from: old, name: &name, result });
        }
    }

    /// The end. The journal of a source at which nothing is left is not needed any more.
    fn finish(mut self) -> Result<ImportReport> {
        if self.remove.is_some() {
            self.report.source_removed = self.report.progress.failed == 0;
            self.journal.remove()?;
        }
        Ok(self.report)
    }
}

/// Whether an error is about one message, and others may go in.
fn costs_one(error: &SpoolError) -> bool {
    matches!(
        error,
        SpoolError::Refused { .. }
            | SpoolError::TooLarge { .. }
            | SpoolError::Exists(_)
            | SpoolError::NotFound(_)
            | SpoolError::Corrupt { .. }
            | SpoolError::Invalid(_)
            | SpoolError::Mailbox(_)
    )
}

/// What `work` makes of each, in their order: by so many threads, or by this one.
fn each<T: Sync, R: Send>(threads: usize, all: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let threads = threads.min(all.len());
    if threads <= 1 {
        return all.iter().map(work).collect();
    }
    let next = AtomicUsize::new(0);
    let made = Mutex::new(Vec::with_capacity(all.len()));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let n = next.fetch_add(1, Ordering::Relaxed)
                    && let Some(one) = all.get(n)
                {
                    let result = work(one);
                    made.lock().unwrap_or_else(PoisonError::into_inner).push((n, result));
                }
            });
        }
    });
    let mut made = made.into_inner().unwrap_or_else(PoisonError::into_inner);
    made.sort_unstable_by_key(|(n, _)| *n);
    made.into_iter().map(|(_, result)| result).collect()
}
