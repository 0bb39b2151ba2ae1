//! From another spool: ids, metadata, standing and resources come along, and bodies that were shared stay shared.

use std::collections::HashMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use jlog::Timestamp;
use jlog::io::{File, Open};

use super::journal::{Identity, Journal, Name};
use super::{
    BATCH, Ids, Import, ImportOptions, ImportProgress, ImportReport, Imported, Item, Remove, costs_one, each,
};
use crate::body::{Body, BodyReader, PIECE, Pieces};
use crate::error::{Result, SpoolError};
use crate::id::MessageId;
use crate::message::{Dirty, Held, Message, State};
use crate::options::{OnCorrupt, SpoolOptions};
use crate::record::LogNo;
use crate::reserve;
use crate::settings::Settings;
use crate::spool::Spool;

impl Spool {
    /// Takes over all messages of another spool, which belongs to this process meanwhile.
    ///
    /// A message is removed there as soon as it is durable here. If the import is broken off, by whatever, import again: none
    /// is lost and none comes twice, if no message was delivered before that. (The one exception otherwise: a message that
    /// was accepted here, delivered and removed in the moment before its copy was removed there.) Two imports into one spool
    /// wait for each other. A message that cannot be read, or that this spool refuses, stays there and is reported.
    ///
    /// # Errors
    /// Those that concern more than one message: [`Full`](SpoolError::Full), [`Locked`](SpoolError::Locked),
    /// [`NotASpool`](SpoolError::NotASpool), and a disk that fails. What was imported by then is.
    pub fn import_spool(
        &self,
        source: impl AsRef<Path>,
        options: &ImportOptions,
        now: Timestamp,
        progress: &mut dyn FnMut(ImportProgress),
    ) -> Result<ImportReport> {
        Ok(self.import_picked(source.as_ref(), None, options, now, progress)?.0)
    }

    /// Takes over one message of another spool: see [`Spool::import_spool`]. Several are faster together.
    ///
    /// # Errors
    /// [`NotFound`](SpoolError::NotFound) if it is not there, among those of `import_spool`; `Invalid` with what is wrong if
    /// this message cannot be imported.
    pub fn import_message(
        &self,
        source: impl AsRef<Path>,
        id: MessageId,
        options: &ImportOptions,
        now: Timestamp,
    ) -> Result<Imported> {
        let (report, imported) = self.import_picked(source.as_ref(), Some(id), options, now, &mut |_| {})?;
        match (imported, report.failures.into_iter().next()) {
            (Some(imported), _) => Ok(imported),
            (None, Some(failure)) => Err(SpoolError::Invalid(format!("message {id}: {}", failure.reason))),
            (None, None) => Err(SpoolError::NotFound(id)),
        }
    }

    /// Imports all messages of a spool, or one, and tells that one's ids.
    fn import_picked(
        &self,
        path: &Path,
        one: Option<MessageId>,
        options: &ImportOptions,
        now: Timestamp,
        tell: &mut dyn FnMut(ImportProgress),
    ) -> Result<(ImportReport, Option<Imported>)> {
        self.store.writer(LogNo::Arrivals)?;
        let _alone = self.store.importing.lock().unwrap_or_else(PoisonError::into_inner);
        let source = open_source(self, path)?;
        let key = [b"spool:", path_of(path).as_os_str().as_encoded_bytes()].concat();
        let identity = Identity { source: key, head: (0, 0) };
        let (journal, known) = Journal::open(&self.store, &identity, options.afresh)?;
        let remove = |names: &[Name]| {
            let ids: Vec<MessageId> = names.iter().filter_map(id_of).collect();
            source.remove_all(&ids)?;
            source.sync()?;
            // The space is wanted for what comes next. That the source cannot give it back is the source's concern.
            let _ = source.maintain(PIECE as u64);
            Ok(())
        };
        let remove: &Remove<'_> = &remove;
        let remove = options.remove_source.unwrap_or(true).then_some(remove);
        let (report, last) = (ImportReport::default(), Vec::new());
        let mut import = Import { spool: self, now, journal, remove, report, last, tell };

        let done = import.settle(known, id_of, |name, id| {
            // Under its own id it may be another message that came by another way.
            Ok(id_of(name) != Some(id) || same_body(&source, self, id).unwrap_or(false))
        })?;
        let all = together(&source)?;
        import.report.progress.total = Some(all.len() as u64);
        let mut picked = import.skip(&done, all, |id| name_of(*id))?;
        if let Some(one) = one {
            picked.retain(|id| *id == one);
            import.last =
                done.get(&name_of(one)).map(|new| Imported { old: one, new: *new }).into_iter().collect();
        }
        let copier = Copier { source: &source, spool: self, ids: options.ids, now, bodies: Mutex::default() };
        for ids in picked.chunks(BATCH) {
            let last = ids.last().and_then(|id| source.store.books().body_of(id.to_u64()));
            let mut batch = Vec::with_capacity(ids.len());
            let copied = each(options.concurrency, ids, |id| copier.copy(*id, options));
            for (id, copied) in ids.iter().zip(copied) {
                match copied {
                    Ok(message) => {
                        batch.push(Item { name: name_of(*id), old: Some(*id), messages: vec![message] });
                    }
                    Err(error) if costs_one(&error) => import.fail(&name_of(*id), Some(*id), &error),
                    Err(error) => return Err(error),
                }
            }
            import.take(batch)?;
            copier.forget_bodies(last);
        }
        let imported = import.last.last().copied();
        // Where one was picked, others are to come.
        let report = if one.is_none() { import.finish()? } else { import.report };
        source.close()?;
        Ok((report, imported.filter(|_| one.is_some())))
    }
}

fn name_of(id: MessageId) -> Name {
    id.to_string().into_bytes().into_boxed_slice()
}

fn id_of(name: &Name) -> Option<MessageId> {
    std::str::from_utf8(name).ok()?.parse().ok()
}

/// The path by which a source is known from one import to the next.
pub(super) fn path_of(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_path_buf())
}

/// Opens a spool to take its messages: nothing is made, and nothing changed but what is removed.
fn open_source(spool: &Spool, path: &Path) -> Result<Spool> {
    let disk = &spool.store.disk;
    if Settings::read(&**disk, path)?.is_none() {
        let why = "it has no file `spool` that can be read".to_owned();
        return Err(SpoolError::NotASpool { path: path.to_path_buf(), why });
    }
    let reserve = File::open_existing(&**disk, &path.join(reserve::NAME), Open::Read)?;
    let reserve = reserve.map_or(Ok(0), |file| file.size())?;
    SpoolOptions::new()
        .background(false)
        .reserve(reserve)
        .on_corrupt(OnCorrupt::Leave)
        .large_message_threshold(spool.options().large_message_threshold)
        .max_message_size(u64::MAX)
        .max_resident_messages(1)
        .keep_contexts(true)
        .open_on(Arc::clone(disk), path)
}

/// The messages of a spool in the order of their ids, but for those that share a body: they follow the first of them.
fn together(source: &Spool) -> Result<Vec<MessageId>> {
    let mut ids: Vec<MessageId> = source.entries()?.map(|listed| listed.id).collect();
    ids.sort_unstable();
    let books = source.store.books();
    let mut firsts: HashMap<u64, MessageId> = HashMap::new();
    let mut keyed: Vec<(MessageId, MessageId)> = Vec::with_capacity(ids.len());
    for id in ids {
        let first = books.body_of(id.to_u64()).map_or(id, |body| *firsts.entry(body).or_insert(id));
        keyed.push((first, id));
    }
    keyed.sort_unstable();
    Ok(keyed.into_iter().map(|(_, id)| id).collect())
}

/// Whether two spools have the same body under an id.
fn same_body(one: &Spool, other: &Spool, id: MessageId) -> Result<bool> {
    let (mut one, mut other) = (one.get(id)?.body()?, other.get(id)?.body()?);
    if one.size() != other.size() {
        return Ok(false);
    }
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    loop {
        for (body, bytes) in [(&mut one, &mut ours), (&mut other, &mut theirs)] {
            bytes.clear();
            body.take(PIECE as u64).read_to_end(bytes).map_err(|error| unreadable(id, &error))?;
        }
        if ours != theirs || ours.is_empty() {
            return Ok(ours == theirs);
        }
    }
}

fn unreadable(id: MessageId, error: &std::io::Error) -> SpoolError {
    SpoolError::Invalid(format!("the body of message {id} cannot be read: {error}"))
}

/// A body in pieces, once it is copied.
type Copied = Option<Arc<Pieces>>;

/// Makes messages of this spool from those of another.
struct Copier<'a> {
    source: &'a Spool,
    spool: &'a Spool,
    ids: Ids,
    now: Timestamp,
    /// Bodies in pieces that were copied, by their numbers at the source. Whoever comes first copies, the others wait.
    bodies: Mutex<HashMap<u64, Arc<Mutex<Copied>>>>,
}

impl Copier<'_> {
    fn copy(&self, id: MessageId, options: &ImportOptions) -> Result<Message> {
        let theirs = self.source.get(id)?;
        let (size, limit) = (theirs.size(), self.spool.options().max_message_size);
        if size > limit {
            return Err(SpoolError::TooLarge { what: "a message", size, limit });
        }
        let in_pieces = self.source.store.books().body_of(id.to_u64());
        let body = match in_pieces {
            Some(number) => Body::Pieces(self.body(number, &theirs)?),
            None => Body::Memory(theirs.prefetch()?),
        };
        let mut resources = std::collections::BTreeMap::new();
        for name in theirs.resources()? {
            if let Some(bytes) = theirs.resource(&name)? {
                resources.insert(name, Held::Dirty(bytes));
            }
        }
        theirs.refetch()?;
        let State { envelope, contexts, mut standing, .. } = theirs.state().clone();
        if let Some(queue) = &options.queue {
            standing.queue = Arc::new(queue.clone());
        }
        let dirty = Dirty { meta: true, standing: true, next: true };
        let state = State { envelope, contexts, standing, body, resources, dirty, stored: false };
        Ok(Message::from_state(self.new_id(id)?, state))
    }

    /// The id a message will have here.
    fn new_id(&self, old: MessageId) -> Result<MessageId> {
        if self.ids == Ids::AlwaysNew {
            return Ok(self.spool.new_id(self.now));
        }
        let ours = &self.spool.store.ids;
        if old.pid == ours.incarnation() {
            ours.observe(old);
        }
        Ok(if self.spool.contains(old)? { self.spool.new_id(self.now) } else { old })
    }

    /// A body in pieces, copied once for all messages that have it.
    fn body(&self, number: u64, theirs: &Message) -> Result<Arc<Pieces>> {
        let place = {
            let mut bodies = self.bodies.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(bodies.entry(number).or_default())
        };
        let mut place = place.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pieces) = &*place {
            return Ok(Arc::clone(pieces));
        }
        let store = &self.spool.store;
        let pieces = store.new_body();
        let mut body: BodyReader = theirs.body()?;
        let (mut at, mut piece) = (0, Vec::new());
        loop {
            piece.clear();
            let read = (&mut body).take(PIECE as u64).read_to_end(&mut piece);
            if read.map_err(|error| unreadable(theirs.id(), &error))? == 0 {
                break;
            }
            store.write_piece(pieces.number, at, &piece, self.now)?;
            at += piece.len() as u64;
        }
        Ok(Arc::clone(place.insert(store.sized_body(pieces, at))))
    }

    /// Keeps of the bodies only the one that the next batch may begin with.
    fn forget_bodies(&self, last: Option<u64>) {
        let mut bodies = self.bodies.lock().unwrap_or_else(PoisonError::into_inner);
        bodies.retain(|number, _| Some(*number) == last);
    }
}
