//! Reading: what the disk has of a message, wherever reclaim has moved it meanwhile.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use jlog::{ErrorKind, SegmentId};

use super::Store;
use crate::body::Body;
use crate::books::{Books, CORRUPT, NOWHERE, Spot};
use crate::context::Context;
use crate::error::{Result, SpoolError};
use crate::hooks::{LoadOutcome, ask};
use crate::id::MessageId;
use crate::index::Slot;
use crate::message::{Dirty, Message, State};
use crate::options::OnCorrupt;
use crate::quarantine;
use crate::record::{Accept, BodyPlace, Home, Meta, ResourceRecord, Standing, Update, kind};

/// What a message's records say of it.
pub(crate) struct Fetched {
    pub(crate) standing: Standing,
    pub(crate) meta: Meta,
    pub(crate) body: Body,
}

impl Store {
    /// Reads the record of a message that `find` points out, wherever it has been moved to meanwhile. `None` where there
    /// is none.
    pub(crate) fn read_of<T>(
        &self,
        id: MessageId,
        find: impl Fn(&Books, Slot) -> Option<(Spot, usize)>,
        decode: impl Fn(u8, &[u8]) -> Option<T>,
    ) -> Result<Option<T>> {
        let mut payload = Vec::new();
        loop {
            let (spot, home, expected) = {
                let books = self.books();
                let slot = books.find(id.to_u64()).ok_or(SpoolError::NotFound(id))?;
                let Some((spot, expected)) = find(&books, slot) else { return Ok(None) };
                let Some(home) = books.home(spot) else { return Ok(None) };
                (spot, home, expected)
            };
            let what = match self.read_record(home, spot, expected, &mut payload) {
                Ok(kind) => match decode(kind, &payload) {
                    Some(decoded) => return Ok(Some(decoded)),
                    None => format!("{}: byte {}: this is no record of it", self.place(home), spot.offset()),
                },
                Err(error) if matches!(error.kind(), ErrorKind::NoSuchRecord | ErrorKind::Damaged) => {
                    error.to_string()
                }
                Err(error) => return Err(error.into()),
            };
            let still = {
                let books = self.books();
                let slot = books.find(id.to_u64()).ok_or(SpoolError::NotFound(id))?;
                find(&books, slot).is_some_and(|(now, _)| now == spot)
            };
            // Reclaim may have moved it after it was looked up.
            if still {
                return Err(self.corrupt(id, home, spot, what));
            }
        }
    }

    fn place(&self, home: Home) -> String {
        self.log(home.log).path().join(SegmentId(home.segment).to_string()).display().to_string()
    }

    /// A record of a message is damaged: it is set aside as the policy says, and the error tells of it.
    fn corrupt(&self, id: MessageId, home: Home, spot: Spot, detail: String) -> SpoolError {
        self.counts.corrupt.fetch_add(1, Ordering::Relaxed);
        let policy = self.options.on_corrupt;
        let mut quarantined = None;
        if policy != OnCorrupt::Leave && !self.is_read_only() {
            let span = {
                let books = self.books();
                let slot = books.find(id.to_u64());
                slot.map_or(0, |slot| books.lengths(slot).0 as u64 + 64)
            };
            let path = self.log(home.log).path().join(SegmentId(home.segment).to_string());
            let kept = quarantine::keep(&*self.disk, &self.dir, id, &path, spot.offset(), span, &detail);
            quarantined = kept.ok();
            let mut books = self.books();
            if let Some(slot) = books.find(id.to_u64()) {
                books.set_flag(slot, CORRUPT, true);
                books.index.idle(slot);
            }
        }
        let error = SpoolError::Corrupt { id, quarantined, detail };
        if policy == OnCorrupt::Remove && !self.is_read_only() {
            // Not now: whoever reads it may have its turn.
            self.condemned.lock().unwrap_or_else(PoisonError::into_inner).push(id);
            self.keeper.ring();
        }
        for hook in &self.options.hooks {
            hook.on_corrupt(id, &error);
        }
        error
    }

    /// Removes the damaged messages that are to be removed. Those that cannot be stay, marked.
    pub(crate) fn remove_condemned(&self) {
        let condemned = std::mem::take(&mut *self.condemned.lock().unwrap_or_else(PoisonError::into_inner));
        if !condemned.is_empty() {
            let _ = self.remove(&condemned);
        }
    }

    /// The message of this id, the same for all who ask.
    pub(crate) fn get(&self, id: MessageId) -> Result<Message> {
        self.wait_loaded()?;
        if let Some(message) = self.handle(id)
            && self.books().find(id.to_u64()).is_some()
        {
            return Ok(message);
        }
        let (message, new) = match self.get_new(id) {
            Ok(had) => had,
            Err(error) => {
                self.remove_condemned();
                let outcome = LoadOutcome::Failed(id, &error);
                // What failed is what is told, whatever a hook says of it.
                let _ = ask("after_load", &self.options.hooks, |hook| hook.after_load(&outcome));
                return Err(error);
            }
        };
        if new {
            let outcome = LoadOutcome::Loaded(&message);
            ask("after_load", &self.options.hooks, |hook| hook.after_load(&outcome))?;
            self.counts.loaded.fetch_add(1, Ordering::Relaxed);
        }
        self.touch(&message);
        Ok(message)
    }

    /// The message's handle: the one that somebody has, or a new one. Nobody changes the message meanwhile, so that what the
    /// new one shows is what the disk has.
    fn get_new(&self, id: MessageId) -> Result<(Message, bool)> {
        let _turn = self.take_turn(id);
        if self.books().find(id.to_u64()).is_none() {
            return Err(SpoolError::NotFound(id));
        }
        if let Some(message) = self.handle(id) {
            return Ok((message, false));
        }
        let fetched = self.fetch(id)?;
        let message = Message::from_state(
            id,
            State {
                envelope: fetched.meta.envelope,
                contexts: Some(fetched.meta.contexts),
                standing: fetched.standing,
                body: fetched.body,
                resources: Default::default(),
                dirty: Dirty::default(),
                stored: true,
            },
        );
        self.adopt(&message);
        Ok((message, true))
    }

    /// What the disk has of a message.
    pub(crate) fn fetch(&self, id: MessageId) -> Result<Fetched> {
        let number = id.to_u64();
        let newer = self.read_of(
            id,
            |books, slot| {
                let spot = books.meta(slot);
                (spot.segment != NOWHERE.segment).then(|| (spot, books.lengths(slot).1))
            },
            |kind, bytes| {
                let update = Update::decode(kind, bytes).filter(|update| update.id == number)?;
                Some((Meta::decode(update.meta?)?, update.standing))
            },
        )?;
        let (meta, mut standing, body) = match newer {
            Some((meta, standing)) => (meta, standing, None),
            None => self.fetch_base(id)?,
        };
        if let Some(newest) = self.fetch_standing(id)? {
            standing = newest;
        }
        let body = match body {
            Some(body) => body,
            None => self.body_on_disk(id)?,
        };
        Ok(Fetched { standing, meta, body })
    }

    /// A message's own record: its metadata as it was accepted, and its body if that is inline.
    fn fetch_base(&self, id: MessageId) -> Result<(Meta, Standing, Option<Body>)> {
        let number = id.to_u64();
        let base = self.read_of(
            id,
            |books, slot| Some((books.base(slot), books.lengths(slot).0)),
            |kind, bytes| {
                let accept = Accept::decode(bytes).filter(|a| kind == kind::ACCEPT && a.id == number)?;
                let body = match accept.place {
                    BodyPlace::Inline => Some(Body::Memory(Arc::from(accept.body))),
                    BodyPlace::Pieces(_) => None,
                };
                Some((Meta::decode(accept.meta)?, accept.standing, body))
            },
        )?;
        base.ok_or(SpoolError::NotFound(id))
    }

    fn fetch_standing(&self, id: MessageId) -> Result<Option<Standing>> {
        let number = id.to_u64();
        self.read_of(
            id,
            |books, slot| {
                let spot = books.standing(slot);
                (spot.segment != NOWHERE.segment).then_some((spot, 256))
            },
            |kind, bytes| {
                Update::decode(kind, bytes).filter(|update| update.id == number).map(|update| update.standing)
            },
        )
    }

    /// Where the body of a stored message is.
    fn body_on_disk(&self, id: MessageId) -> Result<Body> {
        let found = {
            let books = self.books();
            let slot = books.find(id.to_u64()).ok_or(SpoolError::NotFound(id))?;
            let body = books.body_of(id.to_u64());
            let size = body.and_then(|body| books.bodies.get(&body)).map(|body| {
                body.pieces.last().map_or(0, |piece| piece.at.saturating_add(u64::from(piece.len)))
            });
            (u64::from(books.index.get(slot).size()), body.zip(size))
        };
        Ok(match found {
            (_, Some((number, size))) if size >= self.options.large_message_threshold => {
                Body::Pieces(self.body_handle(number, size))
            }
            (_, Some((_, size))) => Body::OnDisk { size },
            (size, None) => Body::OnDisk { size },
        })
    }

    pub(crate) fn read_contexts(&self, id: MessageId) -> Result<[Context; 2]> {
        Ok(self.fetch(id)?.meta.contexts)
    }

    /// The body of a message that is not large.
    pub(crate) fn read_body(&self, id: MessageId) -> Result<Arc<[u8]>> {
        let (number, size) = {
            let books = self.books();
            let slot = books.find(id.to_u64()).ok_or(SpoolError::NotFound(id))?;
            (books.body_of(id.to_u64()), u64::from(books.index.get(slot).size()))
        };
        let Some(number) = number else {
            return match self.fetch_base(id)?.2 {
                Some(Body::Memory(bytes)) => Ok(bytes),
                _ => Err(SpoolError::Invalid(format!("message {id} has no body of its own"))),
            };
        };
        let mut whole = Vec::new();
        let mut piece = Vec::new();
        while (whole.len() as u64) < size {
            let at = self.read_piece(number, whole.len() as u64, &mut piece)?;
            if at != whole.len() as u64 || piece.is_empty() {
                return Err(SpoolError::Invalid(format!(
                    "the pieces of the body of message {id} do not follow each other"
                )));
            }
            whole.extend_from_slice(&piece);
        }
        Ok(Arc::from(whole))
    }

    pub(crate) fn has_resource(&self, id: MessageId, name: &str) -> bool {
        self.books()
            .resources
            .get(&id.to_u64())
            .is_some_and(|all| all.iter().any(|one| one.name == name && !one.gone))
    }

    pub(crate) fn resource_names(&self, id: MessageId) -> Vec<String> {
        let books = self.books();
        let all = books.resources.get(&id.to_u64()).map(Vec::as_slice).unwrap_or_default();
        all.iter().filter(|one| !one.gone).map(|one| one.name.clone()).collect()
    }

    pub(crate) fn read_resource(&self, id: MessageId, name: &str) -> Result<Option<Arc<[u8]>>> {
        let number = id.to_u64();
        self.read_of(
            id,
            |books, _| {
                let all = books.resources.get(&number)?;
                all.iter().find(|one| one.name == name && !one.gone).map(|one| (one.spot, one.span as usize))
            },
            |kind, bytes| {
                let record = ResourceRecord::decode(bytes)?;
                let ours = kind == kind::RESOURCE && record.id == number && record.name == name;
                record.bytes.filter(|_| ours).map(Arc::from)
            },
        )
    }
}
