//! `Message`: what is held between "accepted" and "delivered", as a handle that may be shared and cloned.
//!
//! ```text
//!   new, builder ──► resident ──accept──► resident, stored ──release──► on disk ──(asked for)──► resident, stored
//! ```
//!
//! What a handle shows of a stored message is read from the disk when it is asked for and not in memory. What is changed
//! is in memory alone until [`Spool::update`](crate::Spool::update) writes it.

use std::any::{Any, TypeId};
use std::collections::{BTreeMap, HashMap};
use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use crate::body::{Body, BodyReader};
use crate::context::Context;
use crate::envelope::{Address, AddressError, Envelope};
use crate::error::{Result, SpoolError};
use crate::id::MessageId;
use crate::index::QueueKey;
use crate::mime::{Parts, headers};
use crate::record::Standing;
use crate::render::{RenderOptions, render, rendered_len};
use crate::store::Store;

/// Which of a message's two contexts (`ECMESS_CTX_CONN`, `ECMESS_CTX_MESS`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// What is known of the connection the message came by.
    Connection = 0,
    /// What is known of the message itself.
    Message = 1,
}

/// What a resource of a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ResourceState {
    /// There is none of that name.
    None,
    /// It is in memory, and will be written with the next update.
    Memory,
    /// It is on the disk, and not in memory.
    Swapped,
    /// It was removed, and the disk will be told with the next update.
    Deleted,
}

/// Parts of a message: see [`Message::load`].
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Loaded {
    /// The fields of its header, in order; empty unless asked for.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The tree of its parts.
    #[cfg(feature = "mime")]
    pub structure: Option<crate::mime::Part>,
    /// All of its bytes.
    pub body: Option<Arc<[u8]>>,
}

/// A message. Clones are the same message; [`share`](Message::share) and [`deep_copy`](Message::deep_copy) make others.
#[derive(Clone)]
pub struct Message {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) id: MessageId,
    pub(crate) state: Mutex<State>,
    /// The spool it is stored in, once it is.
    pub(crate) store: OnceLock<Weak<Store>>,
    extensions: Mutex<HashMap<TypeId, Box<dyn Any + Send>>>,
    remove_on_drop: AtomicBool,
}

/// What is known of a message in memory.
#[derive(Debug, Clone)]
pub(crate) struct State {
    pub(crate) envelope: Envelope,
    /// `None`: they are on the disk alone.
    pub(crate) contexts: Option<[Context; 2]>,
    pub(crate) standing: Standing,
    pub(crate) body: Body,
    pub(crate) resources: BTreeMap<String, Held>,
    /// What is not on the disk as it is here.
    pub(crate) dirty: Dirty,
    /// The spool has a record of it.
    pub(crate) stored: bool,
}

/// What was changed since it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Dirty {
    /// Envelope or contexts.
    pub(crate) meta: bool,
    /// Attempts, the next one, queue, priority, last reply.
    pub(crate) standing: bool,
    /// Of that, when its next turn is.
    pub(crate) next: bool,
}

/// A resource that is, or is not any more, in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Held {
    Dirty(Arc<[u8]>),
    Deleted,
}

impl Message {
    /// An empty message of this id: see [`Spool::new_id`](crate::Spool::new_id).
    pub fn new(id: MessageId) -> Message {
        Message::with_body(id, Body::Memory(Arc::from([])))
    }

    /// A message with this body.
    pub fn from_bytes(id: MessageId, body: impl Into<Arc<[u8]>>) -> Message {
        Message::with_body(id, Body::Memory(body.into()))
    }

    pub(crate) fn with_body(id: MessageId, body: Body) -> Message {
        Message::from_state(
            id,
            State {
                envelope: Envelope::default(),
                contexts: Some(Default::default()),
                standing: Standing::default(),
                body,
                resources: BTreeMap::new(),
                dirty: Dirty { meta: true, standing: true, next: true },
                stored: false,
            },
        )
    }

    pub(crate) fn from_state(id: MessageId, state: State) -> Message {
        let inner = Inner {
            id,
            state: Mutex::new(state),
            store: OnceLock::new(),
            extensions: Mutex::default(),
            remove_on_drop: AtomicBool::new(false),
        };
        Message { inner: Arc::new(inner) }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn store(&self) -> Result<Arc<Store>> {
        let store = self.inner.store.get().and_then(Weak::upgrade);
        store.ok_or_else(|| SpoolError::Invalid(format!("the spool of message {} was closed", self.id())))
    }

    /// Its id, for its whole life.
    pub fn id(&self) -> MessageId {
        self.inner.id
    }

    /// When it was made, in seconds since 1970.
    pub fn created(&self) -> u32 {
        self.inner.id.created()
    }

    // The envelope

    /// A copy of its envelope.
    pub fn envelope(&self) -> Envelope {
        self.state().envelope.clone()
    }

    /// Changes its envelope.
    pub fn set_envelope(&self, change: impl FnOnce(&mut Envelope)) {
        let mut state = self.state();
        change(&mut state.envelope);
        state.dirty.meta = true;
    }

    /// Sets the sender; `None` is the null sender, `<>`.
    pub fn set_sender(&self, sender: Option<Address>) {
        self.set_envelope(|envelope| envelope.set_sender(sender));
    }

    /// Sets the recipient.
    pub fn set_recipient(&self, recipient: Option<Address>) {
        self.set_envelope(|envelope| envelope.set_recipient(recipient));
    }

    /// Sets the sender from the protocol's line, which is kept as it is.
    ///
    /// # Errors
    /// What of the line is not understood; nothing is changed then.
    pub fn set_mail_from(&self, line: &[u8]) -> std::result::Result<(), AddressError> {
        let mut state = self.state();
        state.envelope.set_mail_from_line(line)?;
        state.dirty.meta = true;
        Ok(())
    }

    /// Sets the recipient from the protocol's line, which is kept as it is.
    ///
    /// # Errors
    /// What of the line is not understood; nothing is changed then.
    pub fn set_rcpt_to(&self, line: &[u8]) -> std::result::Result<(), AddressError> {
        let mut state = self.state();
        state.envelope.set_rcpt_to_line(line)?;
        state.dirty.meta = true;
        Ok(())
    }

    // How it stands

    /// The queue it is in, or will be put in.
    pub fn queue(&self) -> QueueKey {
        QueueKey::clone(&self.state().standing.queue)
    }

    /// Says which queue it belongs to. Of a stored message: from the next [`update`](crate::Spool::update) on.
    pub fn set_queue(&self, queue: QueueKey) {
        self.change_standing(|standing| standing.queue = Arc::new(queue));
    }

    /// Its priority: of messages that are due at the same second the higher goes first.
    pub fn priority(&self) -> u8 {
        self.state().standing.priority
    }

    /// Sets its priority, from the next update on.
    pub fn set_priority(&self, priority: u8) {
        self.change_standing(|standing| standing.priority = priority);
    }

    /// How often its delivery was tried.
    pub fn attempts(&self) -> u32 {
        self.state().standing.attempts
    }

    /// When its next turn comes, in seconds since 1970; 0, before it is accepted: at once.
    pub fn next_attempt(&self) -> u32 {
        self.state().standing.next_attempt
    }

    /// Says when its next turn comes, from the next update on. See [`Spool::retry`](crate::Spool::retry) for what follows a
    /// failed attempt.
    pub fn set_next_attempt(&self, at: u32) {
        self.change_standing(|standing| standing.next_attempt = at);
    }

    /// The last reply to an attempt, as it came; empty if there was none.
    pub fn last_reply(&self) -> Vec<u8> {
        self.state().standing.reply.clone()
    }

    /// Notes the last reply: of one above 4 KiB, so much.
    pub fn set_last_reply(&self, reply: &[u8]) {
        let reply = &reply[..reply.len().min(MAX_REPLY)];
        self.change_standing(|standing| standing.reply = reply.to_vec());
    }

    /// Whether it is kept out of the schedule.
    pub fn is_held(&self) -> bool {
        self.state().standing.held
    }

    pub(crate) fn set_held(&self, held: bool) {
        self.change_standing(|standing| standing.held = held);
    }

    /// Notes an attempt, its reply, and when the next one is.
    pub(crate) fn attempted(&self, attempts: u32, reply: &[u8], next: Option<u32>) {
        let reply = &reply[..reply.len().min(MAX_REPLY)];
        self.change_standing(|standing| {
            standing.attempts = attempts;
            standing.reply = reply.to_vec();
            standing.next_attempt = next.unwrap_or(standing.next_attempt);
        });
    }

    fn change_standing(&self, change: impl FnOnce(&mut Standing)) {
        let mut state = self.state();
        let before = state.standing.clone();
        change(&mut state.standing);
        state.dirty.standing |= state.standing != before;
        state.dirty.next |= state.standing.next_attempt != before.next_attempt;
    }

    // Contexts

    /// Works on one of its contexts, which is read from the disk if it is not in memory.
    ///
    /// # Errors
    /// Those of reading it.
    pub fn context<T>(&self, scope: Scope, work: impl FnOnce(&mut Context) -> T) -> Result<T> {
        let mut state = self.state();
        if state.contexts.is_none() {
            state.contexts = Some(self.store()?.read_contexts(self.id())?);
        }
        let contexts = state.contexts.as_mut().expect("they were just read");
        let context = &mut contexts[scope as usize];
        let version = context.version();
        let done = work(context);
        let changed = context.version() != version;
        state.dirty.meta |= changed;
        Ok(done)
    }

    /// A value; empty where there is none (`ec_message_context_get`).
    ///
    /// # Errors
    /// As [`Message::context`].
    pub fn context_get(&self, scope: Scope, key: &str) -> Result<Vec<u8>> {
        self.context(scope, |context| context.get(key).unwrap_or_default().to_vec())
    }

    /// Stores a pair; false if it was there as it is (`ec_message_context_set`).
    ///
    /// # Errors
    /// As [`Message::context`].
    pub fn context_set(&self, scope: Scope, key: &str, value: impl AsRef<[u8]>) -> Result<bool> {
        self.context(scope, |context| context.insert(key, value))
    }

    /// Drops both contexts from memory: they are read again when they are asked for. False, and nothing is dropped, if
    /// the disk does not have them as they are.
    pub fn release_contexts(&self) -> bool {
        let mut state = self.state();
        let safe = state.stored && !state.dirty.meta;
        if safe {
            state.contexts = None;
        }
        safe
    }

    /// Whether both contexts are in memory.
    pub fn has_contexts(&self) -> bool {
        self.state().contexts.is_some()
    }

    /// Reads from the disk what was released (`ec_message_refetch_meta`).
    ///
    /// # Errors
    /// Those of reading it.
    pub fn refetch(&self) -> Result<()> {
        self.context(Scope::Message, |_| ())
    }

    // The body

    /// The bytes of its body.
    pub fn size(&self) -> u64 {
        self.state().body.size()
    }

    /// Whether its body is never whole in memory: it has reached the
    /// [threshold](crate::SpoolOptions::large_message_threshold).
    pub fn is_large(&self) -> bool {
        matches!(self.state().body, Body::Pieces(_))
    }

    /// Whether its body is in memory.
    pub fn is_resident(&self) -> bool {
        matches!(self.state().body, Body::Memory(_))
    }

    /// The body, if it is in memory.
    pub fn as_slice(&self) -> Option<Arc<[u8]>> {
        match &self.state().body {
            Body::Memory(bytes) => Some(Arc::clone(bytes)),
            _ => None,
        }
    }

    /// The body, to be read: from memory, or from the disk. One that is not large is in memory from then on.
    ///
    /// # Errors
    /// Those of reading it.
    pub fn body(&self) -> Result<BodyReader> {
        if let Body::Pieces(pieces) = &self.state().body {
            return Ok(BodyReader::of_pieces(Arc::clone(pieces)));
        }
        self.prefetch().map(BodyReader::of_bytes)
    }

    /// Reads the body of a message that is not large into memory.
    ///
    /// # Errors
    /// Those of reading it; [`TooLarge`](SpoolError::TooLarge) for a large one.
    pub fn prefetch(&self) -> Result<Arc<[u8]>> {
        let mut state = self.state();
        let bytes = match &state.body {
            Body::Memory(bytes) => return Ok(Arc::clone(bytes)),
            Body::Pieces(pieces) => {
                let what = "a large message, to be held in memory,";
                return Err(SpoolError::TooLarge { what, size: pieces.size, limit: pieces.limit });
            }
            Body::OnDisk { .. } => self.store()?.read_body(self.id())?,
        };
        state.body = Body::Memory(Arc::clone(&bytes));
        drop(state);
        if let Ok(store) = self.store() {
            store.touch(self);
        }
        Ok(bytes)
    }

    /// Reads what is asked for of the message, and nothing else (`ec_message_swap_in`): of a large one, for its header, at
    /// most the first MiB.
    ///
    /// # Errors
    /// Those of reading the body; [`TooLarge`](SpoolError::TooLarge) for the structure or the body of a large one.
    pub fn load(&self, parts: Parts) -> Result<Loaded> {
        let mut loaded = Loaded::default();
        let whole = parts.contains(Parts::BODY) || parts.contains(Parts::STRUCTURE);
        if parts.contains(Parts::HEADERS) {
            let mut head = Vec::new();
            let bytes = if self.is_large() && !whole {
                let read = self.body()?.take(MAX_HEADER).read_to_end(&mut head);
                read.map_err(|error| self.unreadable("read its header", error))?;
                &head[..]
            } else {
                &self.prefetch()?
            };
            let fields = headers(bytes).map(|(name, value)| (name.to_owned(), value.into_owned()));
            loaded.headers = fields.collect();
        }
        #[cfg(feature = "mime")]
        if parts.contains(Parts::STRUCTURE) {
            loaded.structure = Some(crate::mime::structure(&self.prefetch()?));
        }
        if parts.contains(Parts::BODY) {
            loaded.body = Some(self.prefetch()?);
        }
        Ok(loaded)
    }

    /// Drops the body from memory. False, and nothing is dropped, if the disk does not have it.
    pub fn release_body(&self) -> bool {
        let released = self.release(false);
        if released && let Ok(store) = self.store() {
            store.forget_resident(self.id());
        }
        released
    }

    /// Drops the body from memory, and the contexts where they are on the disk as they are.
    pub(crate) fn release(&self, contexts: bool) -> bool {
        let mut state = self.state();
        if !state.stored {
            return false;
        }
        if let Body::Memory(bytes) = &state.body {
            state.body = Body::OnDisk { size: bytes.len() as u64 };
        }
        if contexts && !state.dirty.meta {
            state.contexts = None;
        }
        true
    }

    /// A file with the body, whatever its size: for those who want to map it (`ec_message_get_body_fd_for_mmap`). It has
    /// no name, and its space is given back when it is closed.
    ///
    /// # Errors
    /// Those of reading the body, and of writing to the directory for temporary files.
    pub fn body_file(&self) -> Result<std::fs::File> {
        crate::body::to_file(&mut self.body()?)
    }

    /// Writes the message, rendered: how many bytes that were.
    ///
    /// # Errors
    /// Those of reading the body, and of writing.
    pub fn render(&self, output: &mut dyn Write, options: &RenderOptions) -> Result<u64> {
        let mut body = self.body()?;
        render(&mut body, output, options).map_err(|error| self.unreadable("render it", error))
    }

    /// How many bytes [`Message::render`] would write.
    ///
    /// # Errors
    /// Those of reading the body.
    pub fn rendered_len(&self, options: &RenderOptions) -> Result<u64> {
        let mut body = self.body()?;
        rendered_len(&mut body, options).map_err(|error| self.unreadable("render it", error))
    }

    fn unreadable(&self, doing: &'static str, error: std::io::Error) -> SpoolError {
        SpoolError::io(doing, std::path::Path::new(self.id().spool_name().as_ref()), error)
    }

    // Other messages from this one

    /// Another message with the same body and its own envelope, contexts and place in the queue, as this one's are now: one
    /// body for many recipients (`ec_message_cowref`). Accepted together, they are stored with one body.
    ///
    /// # Errors
    /// Those of reading what is not in memory.
    pub fn share(&self, id: MessageId) -> Result<Message> {
        let mut state = self.whole()?;
        state.stored = false;
        state.dirty = Dirty { meta: true, standing: true, next: true };
        state.resources.clear();
        Ok(Message::from_state(id, state))
    }

    /// All that is known of it, as it is at one moment: what is not in memory is read, and does not stay there.
    fn whole(&self) -> Result<State> {
        let state = self.state();
        let mut whole = state.clone();
        if whole.contexts.is_none() {
            whole.contexts = Some(self.store()?.read_contexts(self.id())?);
        }
        if let Body::OnDisk { .. } = whole.body {
            whole.body = Body::Memory(self.store()?.read_body(self.id())?);
        }
        Ok(whole)
    }

    /// Another message with everything of its own (`ec_message_copy`). A large body is shared all the same: it cannot
    /// change.
    ///
    /// # Errors
    /// Those of reading what is not in memory.
    pub fn deep_copy(&self, id: MessageId) -> Result<Message> {
        let copy = self.share(id)?;
        copy.detach();
        for name in self.resources()? {
            if let Some(bytes) = self.resource(&name)? {
                copy.put_resource(&name, bytes)?;
            }
        }
        Ok(copy)
    }

    /// Stops sharing the body with others (`ec_message_separate`): accepted after this, it is stored by itself.
    pub fn detach(&self) {
        let mut state = self.state();
        if let Body::Memory(bytes) = &state.body {
            state.body = Body::Memory(Arc::from(&bytes[..]));
        }
    }

    /// Gives a message that is not stored yet another body.
    ///
    /// # Errors
    /// [`Invalid`](SpoolError::Invalid) for a stored one: accept a copy in its place.
    pub fn set_body(&self, body: impl Into<Arc<[u8]>>) -> Result<()> {
        let mut state = self.state();
        if state.stored || self.inner.store.get().is_some() {
            let what =
                format!("message {} is stored: accept a copy with the new body in its place", self.id());
            return Err(SpoolError::Invalid(what));
        }
        state.body = Body::Memory(body.into());
        Ok(())
    }

    /// The message as it is now, not to change any more.
    ///
    /// # Errors
    /// Those of reading what is not in memory.
    pub fn snapshot(&self) -> Result<MessageSnapshot> {
        let State { envelope, contexts, standing, body, .. } = self.whole()?;
        let body = match body {
            Body::Memory(bytes) => BodyReader::of_bytes(bytes),
            Body::Pieces(pieces) => BodyReader::of_pieces(pieces),
            Body::OnDisk { .. } => return Err(SpoolError::NotFound(self.id())),
        };
        Ok(MessageSnapshot {
            id: self.id(),
            envelope,
            contexts: contexts.unwrap_or_default(),
            queue: Arc::unwrap_or_clone(standing.queue),
            attempts: standing.attempts,
            next_attempt: standing.next_attempt,
            body,
        })
    }

    // Resources

    /// Stores a side stream under a name; the next update writes it.
    ///
    /// # Errors
    /// [`TooLarge`](SpoolError::TooLarge) above 64 MiB, and for a name above 255 bytes.
    pub fn put_resource(&self, name: &str, bytes: impl Into<Arc<[u8]>>) -> Result<()> {
        let bytes = bytes.into();
        for (what, size, limit) in [
            ("a resource", bytes.len() as u64, MAX_RESOURCE),
            ("the name of a resource", name.len() as u64, 255),
        ] {
            if size > limit {
                return Err(SpoolError::TooLarge { what, size, limit });
            }
        }
        self.state().resources.insert(name.to_owned(), Held::Dirty(bytes));
        Ok(())
    }

    /// The bytes of a resource, from memory or from the disk; `None` if there is none.
    ///
    /// # Errors
    /// Those of reading it.
    pub fn resource(&self, name: &str) -> Result<Option<Arc<[u8]>>> {
        match self.state().resources.get(name) {
            Some(Held::Dirty(bytes)) => return Ok(Some(Arc::clone(bytes))),
            Some(Held::Deleted) => return Ok(None),
            None => {}
        }
        match self.inner.store.get() {
            Some(_) => self.store()?.read_resource(self.id(), name),
            None => Ok(None),
        }
    }

    /// What a resource is.
    pub fn resource_state(&self, name: &str) -> ResourceState {
        match self.state().resources.get(name) {
            Some(Held::Dirty(_)) => return ResourceState::Memory,
            Some(Held::Deleted) => return ResourceState::Deleted,
            None => {}
        }
        let stored = self.store().is_ok_and(|store| store.has_resource(self.id(), name));
        if stored { ResourceState::Swapped } else { ResourceState::None }
    }

    /// Removes a resource, with the next update.
    pub fn remove_resource(&self, name: &str) {
        let mut state = self.state();
        if state.stored {
            state.resources.insert(name.to_owned(), Held::Deleted);
        } else {
            state.resources.remove(name);
        }
    }

    /// The names of its resources, in order.
    ///
    /// # Errors
    /// None; kept for those to come.
    pub fn resources(&self) -> Result<Vec<String>> {
        let stored = self.store().map(|store| store.resource_names(self.id())).unwrap_or_default();
        let state = self.state();
        let mut names: Vec<String> = stored;
        names.retain(|name| !matches!(state.resources.get(name), Some(Held::Deleted)));
        let held = state.resources.iter().filter(|(_, held)| matches!(held, Held::Dirty(_)));
        names.extend(held.map(|(name, _)| name.clone()));
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    // What is in memory alone

    /// Keeps a value with the message, one of each type, as long as a handle of it lives (`ec_message_blobject_store`). It
    /// is never written, and never released. The value of that type that was there before is returned.
    pub fn set_extension<T: Any + Send>(&self, value: T) -> Option<T> {
        let before = self.extensions().insert(TypeId::of::<T>(), Box::new(value));
        before.and_then(|before| before.downcast().ok()).map(|before| *before)
    }

    /// A copy of the value of that type.
    pub fn extension<T: Any + Send + Clone>(&self) -> Option<T> {
        self.extensions().get(&TypeId::of::<T>())?.downcast_ref().cloned()
    }

    /// Takes the value of that type away.
    pub fn remove_extension<T: Any + Send>(&self) -> Option<T> {
        let value = self.extensions().remove(&TypeId::of::<T>())?;
        value.downcast().ok().map(|value| *value)
    }

    fn extensions(&self) -> MutexGuard<'_, HashMap<TypeId, Box<dyn Any + Send>>> {
        self.inner.extensions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes the message from the spool when the last handle of it is dropped (`ec_message_unlink_on_free`): after it was
    /// delivered, or failed. An error of that removal is nobody's to see: use [`Spool::remove`](crate::Spool::remove) to see it.
    pub fn remove_on_drop(&self, remove: bool) {
        self.inner.remove_on_drop.store(remove, Ordering::Release);
        if remove && let Ok(store) = self.store() {
            // The spool itself keeps no handle of it any more.
            store.forget_resident(self.id());
            store.forget_unwritten(self.id());
        }
    }

    pub(crate) fn goes_with_its_handles(&self) -> bool {
        self.inner.remove_on_drop.load(Ordering::Acquire)
    }
}

/// The bytes of a reply that are kept.
const MAX_REPLY: usize = 4096;
/// The bytes of a large message among which its header is looked for.
const MAX_HEADER: u64 = 1 << 20;

/// The bytes of a resource at most.
pub(crate) const MAX_RESOURCE: u64 = 64 << 20;

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Message({})", self.id())
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let Some(store) = self.store.get().and_then(Weak::upgrade) else { return };
        store.forget_handle(self.id);
        if self.remove_on_drop.load(Ordering::Acquire) {
            // As Momentum's: whoever wants to know calls remove.
            let _ = store.remove(&[self.id]);
        }
    }
}

/// A message as it was at one moment (`ec_message_snapshot`): for work that goes on while the message changes.
#[derive(Debug)]
pub struct MessageSnapshot {
    /// Its id.
    pub id: MessageId,
    /// Its envelope.
    pub envelope: Envelope,
    /// The connection's context, and its own.
    pub contexts: [Context; 2],
    /// Its queue.
    pub queue: QueueKey,
    /// How often its delivery had been tried.
    pub attempts: u32,
    /// When its turn would come.
    pub next_attempt: u32,
    /// Its body. It stays readable when the message is removed, if it was in memory or large.
    pub body: BodyReader,
}

impl MessageSnapshot {
    /// Reads the whole body: for messages that are not large.
    ///
    /// # Errors
    /// Those of reading it.
    pub fn read_body(&mut self) -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.body.read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}
