//! The spool's records, as bytes: what the logs below hold. `docs/spool.md` draws them.
//!
//! Every record begins with a version. Which record it is says its kind, a number in the log's own header; that its
//! bytes are the ones that were written is the log's promise, and nothing here is checked against flipped bits. All
//! lengths are compared with what is there all the same: the bytes may be anybody's.

use std::sync::Arc;

use jlog::Kind;

use crate::context::Context;
use crate::envelope::Envelope;
use crate::index::QueueKey;
use crate::wire::{Taken, put_behind_length, put_sized, put_u32, put_u64};

/// What kinds of records there are.
pub(crate) mod kind {
    /// A message: how it stands, its metadata, and its body or where that is.
    pub(crate) const ACCEPT: u8 = 16;
    /// A piece of a body that is large, or that several messages share.
    pub(crate) const CHUNK: u8 = 17;
    /// The metadata of a message anew, and how it stands.
    pub(crate) const META: u8 = 18;
    /// How a message stands: attempts, the next one, the queue, the last reply.
    pub(crate) const STANDING: u8 = 19;
    /// A resource of a message, or that it is gone.
    pub(crate) const RESOURCE: u8 = 20;
    /// Messages that are gone.
    pub(crate) const REMOVE: u8 = 21;
}

/// The kind as the log wants it.
pub(crate) fn log_kind(number: u8) -> Kind {
    Kind::application(number).expect("the spool's kinds are an application's")
}

/// The version of the records that this crate writes.
pub(crate) const VERSION: u8 = 1;

/// Which of a spool's logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum LogNo {
    /// Where all that is new is written.
    Arrivals = 0,
    /// Where reclaim puts what is left of a segment.
    Survivors = 1,
}

impl LogNo {
    pub(crate) const ALL: [LogNo; 2] = [LogNo::Arrivals, LogNo::Survivors];

    pub(crate) fn from_number(number: u32) -> Option<LogNo> {
        LogNo::ALL.get(usize::try_from(number).ok()?).copied()
    }
}

/// A segment of a spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Home {
    pub(crate) log: LogNo,
    pub(crate) segment: u32,
}

impl Home {
    fn encode(self, out: &mut Vec<u8>) {
        put_u32(out, self.log as u32);
        put_u32(out, self.segment);
    }

    fn decode(taken: &mut Taken<'_>) -> Option<Home> {
        let log = LogNo::from_number(taken.u32()?)?;
        Some(Home { log, segment: taken.u32()? })
    }
}

/// How a message stands in its queue.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Standing {
    pub(crate) next_attempt: u32,
    pub(crate) attempts: u32,
    pub(crate) priority: u8,
    /// It is kept out of the schedule.
    pub(crate) held: bool,
    /// Shared: handles, books and residents name the same.
    pub(crate) queue: Arc<QueueKey>,
    /// The last reply to an attempt, as it came.
    pub(crate) reply: Vec<u8>,
}

/// Beside the priority.
const HELD: u32 = 0x100;

impl Standing {
    fn encode(&self, out: &mut Vec<u8>) {
        put_behind_length(out, |out| {
            put_u32(out, self.next_attempt);
            put_u32(out, self.attempts);
            put_u32(out, u32::from(self.priority) | if self.held { HELD } else { 0 });
            for text in [&self.queue.domain, &self.queue.binding, &self.queue.group] {
                put_sized(out, text.as_bytes());
            }
            put_sized(out, &self.reply);
        });
    }

    fn decode(taken: &mut Taken<'_>) -> Option<Standing> {
        let mut taken = Taken(taken.sized()?);
        let (next_attempt, attempts) = (taken.u32()?, taken.u32()?);
        let word = taken.u32()?;
        let (priority, held) = (u8::try_from(word & !HELD).ok()?, word & HELD != 0);
        let mut text = || taken.text().map(str::to_owned);
        let queue = Arc::new(QueueKey { domain: text()?, binding: text()?, group: text()? });
        let reply = taken.sized()?.to_vec();
        Some(Standing { next_attempt, attempts, priority, held, queue, reply })
    }
}

/// What is known of a message beside its body and its place in the queue.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Meta {
    pub(crate) envelope: Envelope,
    /// The connection's, and the message's own.
    pub(crate) contexts: [Context; 2],
}

impl Meta {
    pub(crate) fn encode(envelope: &Envelope, contexts: [&Context; 2], out: &mut Vec<u8>) {
        put_behind_length(out, |out| envelope.encode(out));
        for context in contexts {
            put_behind_length(out, |out| context.serialize(out));
        }
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Meta> {
        let mut taken = Taken(bytes);
        let envelope = Envelope::decode(taken.sized()?).ok()?;
        let mut context = || Context::unserialize(taken.sized()?).ok();
        Some(Meta { envelope, contexts: [context()?, context()?] })
    }
}

/// Where a message's body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyPlace {
    /// In its own record.
    Inline,
    /// In pieces: the number of the body.
    Pieces(u64),
}

/// A record of kind [`kind::ACCEPT`], without the body that may follow.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Accept<'a> {
    pub(crate) id: u64,
    pub(crate) change: u64,
    pub(crate) standing: Standing,
    /// As [`Meta::encode`] wrote it.
    pub(crate) meta: &'a [u8],
    pub(crate) place: BodyPlace,
    /// The bytes of the whole body.
    pub(crate) size: u64,
    /// The body, where it is inline.
    pub(crate) body: &'a [u8],
}

fn begin(out: &mut Vec<u8>, flags: u8) {
    out.extend_from_slice(&[VERSION, flags, 0, 0]);
}

/// The flags of a record of a version that is known.
fn begun(taken: &mut Taken<'_>) -> Option<u8> {
    let head = taken.bytes(4)?;
    (head[0] == VERSION).then_some(head[1])
}

/// The version a record says it is of.
pub(crate) fn version(payload: &[u8]) -> Option<u8> {
    payload.first().copied()
}

const PIECES: u8 = 1;
const GONE: u8 = 1;

impl<'a> Accept<'a> {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        begin(out, if self.place == BodyPlace::Inline { 0 } else { PIECES });
        put_u64(out, self.id);
        put_u64(out, self.change);
        put_u64(out, self.size);
        put_u64(
            out,
            match self.place {
                BodyPlace::Inline => 0,
                BodyPlace::Pieces(body) => body,
            },
        );
        self.standing.encode(out);
        put_sized(out, self.meta);
        out.extend_from_slice(self.body);
    }

    pub(crate) fn decode(payload: &'a [u8]) -> Option<Accept<'a>> {
        let mut taken = Taken(payload);
        let flags = begun(&mut taken)?;
        let (id, change, size, body) = (taken.u64()?, taken.u64()?, taken.u64()?, taken.u64()?);
        let standing = Standing::decode(&mut taken)?;
        let meta = taken.sized()?;
        let place = if flags & PIECES == 0 { BodyPlace::Inline } else { BodyPlace::Pieces(body) };
        let inline = taken.0;
        let fits = match place {
            BodyPlace::Inline => inline.len() as u64 == size,
            BodyPlace::Pieces(_) => inline.is_empty(),
        };
        fits.then_some(Accept { id, change, standing, meta, place, size, body: inline })
    }
}

/// A record of kind [`kind::CHUNK`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Chunk<'a> {
    pub(crate) body: u64,
    /// Where in the body its bytes belong.
    pub(crate) at: u64,
    pub(crate) bytes: &'a [u8],
}

/// The bytes of a chunk's payload in front of the body's.
pub(crate) const CHUNK_HEAD: usize = 20;

impl<'a> Chunk<'a> {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        begin(out, 0);
        put_u64(out, self.body);
        put_u64(out, self.at);
        out.extend_from_slice(self.bytes);
    }

    pub(crate) fn decode(payload: &'a [u8]) -> Option<Chunk<'a>> {
        let mut taken = Taken(payload);
        begun(&mut taken)?;
        Some(Chunk { body: taken.u64()?, at: taken.u64()?, bytes: taken.0 })
    }
}

/// A record of kind [`kind::META`] or [`kind::STANDING`]: the latter has no metadata.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Update<'a> {
    pub(crate) id: u64,
    pub(crate) change: u64,
    /// Where the message's own record was then.
    pub(crate) base: Home,
    pub(crate) standing: Standing,
    pub(crate) meta: Option<&'a [u8]>,
}

impl<'a> Update<'a> {
    pub(crate) fn kind(&self) -> u8 {
        if self.meta.is_some() { kind::META } else { kind::STANDING }
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        begin(out, 0);
        put_u64(out, self.id);
        put_u64(out, self.change);
        self.base.encode(out);
        self.standing.encode(out);
        if let Some(meta) = self.meta {
            put_sized(out, meta);
        }
    }

    pub(crate) fn decode(kind: u8, payload: &'a [u8]) -> Option<Update<'a>> {
        let mut taken = Taken(payload);
        begun(&mut taken)?;
        let (id, change) = (taken.u64()?, taken.u64()?);
        let base = Home::decode(&mut taken)?;
        let standing = Standing::decode(&mut taken)?;
        let meta = if kind == kind::META { Some(taken.sized()?) } else { None };
        Some(Update { id, change, base, standing, meta })
    }
}

/// A record of kind [`kind::RESOURCE`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ResourceRecord<'a> {
    pub(crate) id: u64,
    pub(crate) change: u64,
    pub(crate) base: Option<Home>,
    pub(crate) name: &'a str,
    /// Its bytes; `None` says that there is no such resource any more.
    pub(crate) bytes: Option<&'a [u8]>,
}

const BASED: u8 = 2;

impl<'a> ResourceRecord<'a> {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let gone = if self.bytes.is_none() { GONE } else { 0 };
        begin(out, gone | if self.base.is_some() { BASED } else { 0 });
        put_u64(out, self.id);
        put_u64(out, self.change);
        self.base.unwrap_or(Home { log: LogNo::Arrivals, segment: 0 }).encode(out);
        put_sized(out, self.name.as_bytes());
        out.extend_from_slice(self.bytes.unwrap_or_default());
    }

    pub(crate) fn decode(payload: &'a [u8]) -> Option<ResourceRecord<'a>> {
        let mut taken = Taken(payload);
        let flags = begun(&mut taken)?;
        let (id, change) = (taken.u64()?, taken.u64()?);
        let base = Some(Home::decode(&mut taken)?).filter(|_| flags & BASED != 0);
        let name = taken.text()?;
        let bytes = (flags & GONE == 0).then_some(taken.0);
        Some(ResourceRecord { id, change, base, name, bytes })
    }
}

/// A record of kind [`kind::REMOVE`]: which messages, and where each one's own record was then.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Remove {
    pub(crate) change: u64,
    pub(crate) gone: Vec<(u64, Home)>,
}

impl Remove {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        begin(out, 0);
        put_u64(out, self.change);
        for (id, home) in &self.gone {
            put_u64(out, *id);
            home.encode(out);
        }
    }

    pub(crate) fn decode(payload: &[u8]) -> Option<Remove> {
        let mut taken = Taken(payload);
        begun(&mut taken)?;
        let change = taken.u64()?;
        let mut gone = Vec::with_capacity(taken.0.len() / 16);
        while !taken.0.is_empty() {
            gone.push((taken.u64()?, Home::decode(&mut taken)?));
        }
        Some(Remove { change, gone })
    }
}
