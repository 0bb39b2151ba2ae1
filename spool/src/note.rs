//! `Note`: what is to be known of one record without reading it again: what summaries are made of.

use std::sync::Arc;

use jlog::Kind;

use crate::index::QueueKey;
use crate::record::{Accept, BodyPlace, Chunk, Home, Remove, ResourceRecord, Update, VERSION, kind, version};

/// One record, or one message of a record of removals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Note {
    /// Where the record begins in its segment's file.
    pub(crate) offset: u64,
    /// The bytes it takes there.
    pub(crate) span: u32,
    pub(crate) what: What,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What {
    Accept { id: u64, change: u64, place: BodyPlace, size: u64, standing: Stands },
    Chunk { body: u64, at: u64, len: u32 },
    Meta { id: u64, change: u64, base: Home, standing: Stands },
    Standing { id: u64, change: u64, base: Home, standing: Stands },
    Resource { id: u64, change: u64, base: Option<Home>, name: String, gone: bool },
    Remove { id: u64, change: u64, home: Home },
}

/// How a message stands, but for the last reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stands {
    pub(crate) next_attempt: u32,
    pub(crate) attempts: u32,
    pub(crate) priority: u8,
    pub(crate) held: bool,
    /// Shared: a summary names each queue once.
    pub(crate) queue: Arc<QueueKey>,
}

impl From<crate::record::Standing> for Stands {
    fn from(standing: crate::record::Standing) -> Stands {
        let crate::record::Standing { next_attempt, attempts, priority, held, queue, reply: _ } = standing;
        Stands { next_attempt, attempts, priority, held, queue }
    }
}

/// No spool comes to so many changes. A greater number is nonsense, and behind the greatest there would be none for what comes.
const MOST_CHANGES: u64 = 1 << 63;

impl Note {
    /// Whether a spool can have written it.
    pub(crate) fn is_possible(&self) -> bool {
        let body = match self.what {
            What::Accept { place: BodyPlace::Pieces(body), .. } => body,
            _ => 0,
        };
        self.change().max(body) < MOST_CHANGES
    }

    /// The change number of a message's record; of a piece of a body, the body's.
    pub(crate) fn change(&self) -> u64 {
        match self.what {
            What::Accept { change, .. }
            | What::Meta { change, .. }
            | What::Standing { change, .. }
            | What::Resource { change, .. }
            | What::Remove { change, .. } => change,
            What::Chunk { body, .. } => body,
        }
    }
}

/// Why there is no note of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoNote {
    /// It is of a newer version of the spool.
    Newer(u8),
    /// It is none of the spool's records.
    Unknown,
}

/// The notes of a record: one, but for records of removals.
pub(crate) fn of_record(record: Kind, payload: &[u8], offset: u64, span: u32) -> Result<Vec<Note>, NoNote> {
    match version(payload) {
        Some(VERSION) => {}
        Some(newer) if newer > VERSION => return Err(NoNote::Newer(newer)),
        _ => return Err(NoNote::Unknown),
    }
    let one = |what| vec![Note { offset, span, what }];
    let notes = match record.number() {
        kind::ACCEPT => Accept::decode(payload).map(|accept| {
            let Accept { id, change, place, size, standing, .. } = accept;
            one(What::Accept { id, change, place, size, standing: standing.into() })
        }),
        kind::CHUNK => Chunk::decode(payload).and_then(|chunk| {
            let len = u32::try_from(chunk.bytes.len()).ok()?;
            Some(one(What::Chunk { body: chunk.body, at: chunk.at, len }))
        }),
        number @ (kind::META | kind::STANDING) => Update::decode(number, payload).map(|update| {
            let Update { id, change, base, standing, meta } = update;
            let standing = standing.into();
            one(match meta {
                Some(_) => What::Meta { id, change, base, standing },
                None => What::Standing { id, change, base, standing },
            })
        }),
        kind::RESOURCE => ResourceRecord::decode(payload).map(|resource| {
            let ResourceRecord { id, change, base, name, bytes } = resource;
            one(What::Resource { id, change, base, name: name.to_owned(), gone: bytes.is_none() })
        }),
        kind::REMOVE => Remove::decode(payload).map(|remove| {
            let change = remove.change;
            let note = |(id, home)| Note { offset, span, what: What::Remove { id, change, home } };
            remove.gone.into_iter().map(note).collect()
        }),
        _ => None,
    };
    notes.filter(|notes| notes.iter().all(Note::is_possible)).ok_or(NoNote::Unknown)
}
