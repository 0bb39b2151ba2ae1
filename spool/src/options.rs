//! `SpoolOptions`: how a spool is opened, and what it keeps to.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jlog::io::{Disk, OsDisk};

use crate::context::ContextFilter;
use crate::error::Result;
use crate::hooks::SpoolHooks;
use crate::spool::Spool;

/// What holds of a message when [`Spool::accept`] has returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Durability {
    /// It is on the disk: it survives the loss of power. Senders that come at the same time share syncs. The default.
    #[default]
    Power,
    /// It is in the kernel: it survives the death of the process, and not that of the machine.
    Process,
    /// **Dangerous.** It is in memory alone, and is written when so many attempts have failed, or when memory is short:
    /// whatever ends the process before that loses mail its senders believe accepted.
    Deferred {
        /// After how many failed attempts it is written.
        after_attempts: u32,
    },
}

impl Durability {
    /// What it is for the log, where others are waited for so long before a sync.
    pub(crate) fn in_log(self, company: Duration) -> jlog::Durability {
        match self {
            Durability::Power if company.is_zero() => jlog::Durability::Sync,
            Durability::Power => jlog::Durability::Group(company),
            Durability::Process | Durability::Deferred { .. } => jlog::Durability::Process,
        }
    }
}

/// What happens to a message of which a record is found damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum OnCorrupt {
    /// The damaged bytes are copied to `quarantine/` with the reason beside them; the message stays in the spool, marked and
    /// out of the schedule, until somebody removes it. The default.
    #[default]
    Quarantine,
    /// As `Quarantine`, and then the message is removed.
    Remove,
    /// Nothing: whoever asks for the message gets the error.
    Leave,
}

/// How a spool is opened. The fields are set by methods of their names.
#[derive(Debug, Clone)]
pub struct SpoolOptions {
    pub(crate) durability: Durability,
    pub(crate) commit_delay: Duration,
    pub(crate) segment_size: u32,
    pub(crate) compress: bool,
    pub(crate) mode: u32,
    pub(crate) large_message_threshold: u64,
    pub(crate) max_message_size: u64,
    pub(crate) max_metadata_size: u64,
    pub(crate) max_messages: Option<u64>,
    pub(crate) max_bytes: Option<u64>,
    pub(crate) min_free: u64,
    pub(crate) reserve: u64,
    pub(crate) max_resident_messages: usize,
    pub(crate) max_resident_bytes: u64,
    pub(crate) max_resident_per_queue: Option<usize>,
    pub(crate) keep_contexts: bool,
    pub(crate) context_filter: [ContextFilter; 2],
    pub(crate) on_corrupt: OnCorrupt,
    pub(crate) max_retention: Option<Duration>,
    pub(crate) max_undurable_removes: (u32, Duration),
    pub(crate) reclaim_below: f64,
    pub(crate) background: bool,
    pub(crate) hooks: Vec<Arc<dyn SpoolHooks>>,
}

impl Default for SpoolOptions {
    fn default() -> SpoolOptions {
        SpoolOptions {
            durability: Durability::Power,
            commit_delay: Duration::ZERO,
            segment_size: 64 << 20,
            compress: false,
            mode: 0o640,
            large_message_threshold: 131_072,
            max_message_size: 1 << 30,
            max_metadata_size: 4 << 20,
            max_messages: None,
            max_bytes: None,
            min_free: 0,
            reserve: 8 << 20,
            max_resident_messages: 32_768,
            max_resident_bytes: 256 << 20,
            max_resident_per_queue: Some(250),
            keep_contexts: false,
            context_filter: [ContextFilter::default(), ContextFilter::default()],
            on_corrupt: OnCorrupt::Quarantine,
            max_retention: None,
            max_undurable_removes: (1000, Duration::from_millis(10)),
            reclaim_below: 0.5,
            background: true,
            hooks: Vec::new(),
        }
    }
}

impl SpoolOptions {
    /// The defaults: durable before it is acknowledged, segments of 64 MiB, mode 0640.
    pub fn new() -> SpoolOptions {
        SpoolOptions::default()
    }

    /// What an acknowledgement promises. Momentum's `force_fsync` is `Power`, and is off there unless asked for.
    pub fn durability(mut self, durability: Durability) -> SpoolOptions {
        self.durability = durability;
        self
    }

    /// Before a sync, waits so long for other senders to share it. The default is zero: whoever comes during a sync shares
    /// the next.
    pub fn commit_delay(mut self, delay: Duration) -> SpoolOptions {
        self.commit_delay = delay;
        self
    }

    /// The bytes of a segment of a spool that is made: what is given back to the disk at once. 64 MiB; at least 4 KiB, which
    /// is for tests.
    pub fn segment_size(mut self, bytes: u32) -> SpoolOptions {
        self.segment_size = bytes.max(4 << 10);
        self
    }

    /// Whether records of a spool that is made are compressed (LZ4), each where that makes it shorter. Off. A spool may hold
    /// both, and reading needs no setting.
    pub fn compress(mut self, on: bool) -> SpoolOptions {
        self.compress = on;
        self
    }

    /// The permission bits of files (less the umask); directories get an x for every r. 0640 (Momentum's `spool_mode`).
    pub fn mode(mut self, mode: u32) -> SpoolOptions {
        self.mode = mode & 0o666;
        self
    }

    /// From so many bytes on a body is never whole in memory: it is written while it is built and read in pieces.
    /// 131,072; at most 4 MiB.
    pub fn large_message_threshold(mut self, bytes: u64) -> SpoolOptions {
        self.large_message_threshold = bytes.min(4 << 20);
        self
    }

    /// The largest body that is taken, in bytes. 1 GiB.
    pub fn max_message_size(mut self, bytes: u64) -> SpoolOptions {
        self.max_message_size = bytes;
        self
    }

    /// How many bytes the envelope and the contexts of a message take at most, as they are written. 4 MiB.
    pub fn max_metadata_size(mut self, bytes: u64) -> SpoolOptions {
        self.max_metadata_size = bytes;
        self
    }

    /// How many messages are held at most; one more is refused with `Full`. Not limited.
    pub fn max_messages(mut self, messages: u64) -> SpoolOptions {
        self.max_messages = Some(messages);
        self
    }

    /// How many bytes of bodies are held at most. Not limited.
    pub fn max_bytes(mut self, bytes: u64) -> SpoolOptions {
        self.max_bytes = Some(bytes);
        self
    }

    /// How many bytes have to stay free on the file system: below that nothing is accepted. 0. Asked after every MiB.
    pub fn min_free(mut self, bytes: u64) -> SpoolOptions {
        self.min_free = bytes;
        self
    }

    /// How many bytes are kept in a file of their own, for removals and updates on a disk that is full. 8 MiB.
    pub fn reserve(mut self, bytes: u64) -> SpoolOptions {
        self.reserve = bytes;
        self
    }

    /// How many messages stay in memory, body and all (Momentum: 32768); those used longest ago are released first.
    pub fn max_resident_messages(mut self, messages: usize) -> SpoolOptions {
        self.max_resident_messages = messages;
        self
    }

    /// How many bytes of bodies stay in memory. 256 MiB.
    pub fn max_resident_bytes(mut self, bytes: u64) -> SpoolOptions {
        self.max_resident_bytes = bytes;
        self
    }

    /// How many messages of one queue stay in memory (Momentum's `max_resident_active_queue`: 250); `None`: no limit.
    pub fn max_resident_per_queue(mut self, messages: Option<usize>) -> SpoolOptions {
        self.max_resident_per_queue = messages;
        self
    }

    /// Whether contexts stay in memory when a body goes (`keep_message_dicts_in_memory`). Off. Only as long as somebody
    /// holds the message.
    pub fn keep_contexts(mut self, keep: bool) -> SpoolOptions {
        self.keep_contexts = keep;
        self
    }

    /// What of the connection's and the message's context is left out when it is written
    /// (`exclude_vctx_conn`, `exclude_vctx_mess`).
    pub fn context_filter(mut self, connection: ContextFilter, message: ContextFilter) -> SpoolOptions {
        self.context_filter = [connection, message];
        self
    }

    /// What happens to a message of which a record is damaged.
    pub fn on_corrupt(mut self, policy: OnCorrupt) -> SpoolOptions {
        self.on_corrupt = policy;
        self
    }

    /// How long messages stay at most, as a hint: segments that will be empty soon by themselves are not rewritten.
    pub fn max_retention(mut self, retention: Option<Duration>) -> SpoolOptions {
        self.max_retention = retention;
        self
    }

    /// How many removals may be not on the disk yet, and for how long: what a power cut may bring back. 1000, and 10 ms
    /// (the time is kept by the spool's thread). Zero removals: each is synced.
    pub fn max_undurable_removes(mut self, removes: u32, age: Duration) -> SpoolOptions {
        self.max_undurable_removes = (removes, age);
        self
    }

    /// A finished segment of which less than this share is needed is emptied and given back. 0.5.
    pub fn reclaim_below(mut self, share: f64) -> SpoolOptions {
        self.reclaim_below = share.clamp(0.0, 0.95);
        self
    }

    /// Whether threads of the spool's own read it in after [`open`](SpoolOptions::open) and keep it (`spool-load`,
    /// `spool-keep`). On. Without them opening returns when all is read, and [`Spool::maintain`] is yours to call.
    pub fn background(mut self, on: bool) -> SpoolOptions {
        self.background = on;
        self
    }

    /// Adds a hook behind those that are there.
    pub fn hook(mut self, hook: Arc<dyn SpoolHooks>) -> SpoolOptions {
        self.hooks.push(hook);
        self
    }

    /// Opens the spool, and makes it where there is none. See [`Spool::open`].
    pub fn open(self, path: impl AsRef<Path>) -> Result<Spool> {
        self.open_on(Arc::new(OsDisk), path)
    }

    /// As [`SpoolOptions::open`], on a disk of the caller's.
    pub fn open_on(self, disk: Arc<dyn Disk>, path: impl AsRef<Path>) -> Result<Spool> {
        Spool::open_with(disk, path.as_ref(), self, false)
    }

    /// Opens the spool to look at it: beside its owner, without a lock, without a change.
    pub fn open_read_only(self, path: impl AsRef<Path>) -> Result<Spool> {
        self.open_read_only_on(Arc::new(OsDisk), path)
    }

    /// As [`SpoolOptions::open_read_only`], on a disk of the caller's.
    pub fn open_read_only_on(self, disk: Arc<dyn Disk>, path: impl AsRef<Path>) -> Result<Spool> {
        Spool::open_with(disk, path.as_ref(), self, true)
    }
}
