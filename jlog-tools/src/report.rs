//! An inspection in JSON: the schema that other programs build on. It only ever grows.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use jlog::inspect::{Finding, Inspection, SegmentReport, SubscriberReport};
use jlog::{Compression, Format, Order, Subscriber};
use serde::Serialize;

use crate::holder::Holder;
use crate::measure::rfc3339;
use crate::standing::{RetentionReport, Standing};

/// The name of the schema of everything that `jlog-inspect --json` prints.
pub(crate) const SCHEMA: &str = "jlog-inspect/1";

/// What every object begins with.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Heading {
    pub(crate) schema: &'static str,
    pub(crate) log: String,
    pub(crate) format: &'static str,
    pub(crate) byte_order: &'static str,
    pub(crate) compression: &'static str,
    pub(crate) status: &'static str,
}

impl Heading {
    pub(crate) fn of(seen: &Inspection) -> Heading {
        Heading {
            schema: SCHEMA,
            log: seen.path.to_string_lossy().into_owned(),
            format: format(seen.format),
            byte_order: byte_order(seen.order),
            compression: compression(seen.compression),
            status: status(seen.is_sound()),
        }
    }
}

/// All of an inspection.
#[derive(Debug, Serialize)]
pub(crate) struct Whole {
    #[serde(flatten)]
    pub(crate) heading: Heading,
    /// Of a checksummed log.
    pub(crate) identity: Option<String>,
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
    pub(crate) file_bytes: u64,
    pub(crate) time_from: Option<String>,
    pub(crate) time_to: Option<String>,
    pub(crate) lone_segment: bool,
    pub(crate) segment_size: Option<u32>,
    /// Of a classic log.
    pub(crate) safety: Option<String>,
    pub(crate) durability: Option<String>,
    pub(crate) durable: Option<String>,
    pub(crate) retention: Option<RetentionReport>,
    pub(crate) owner: Option<Owner>,
    pub(crate) active_segment: Option<String>,
    pub(crate) pre_commit: Option<PreCommit>,
    pub(crate) segments: Vec<Segment>,
    pub(crate) subscribers: Vec<Follower>,
    pub(crate) problems: Vec<Problem>,
    pub(crate) notes: Vec<Problem>,
}

/// Who has the log to write to it alone. Its name is `null` where the system does not tell.
#[derive(Debug, Serialize)]
pub(crate) struct Owner {
    pub(crate) pid: u32,
    pub(crate) name: Option<String>,
}

#[derive(Debug, Serialize)]
pub(crate) struct PreCommit {
    pub(crate) capacity: u64,
    pub(crate) messages: u32,
    pub(crate) bytes: u64,
}

#[derive(Debug, Serialize)]
pub(crate) struct Segment {
    pub(crate) segment: String,
    pub(crate) bytes: u64,
    pub(crate) file_bytes: u64,
    pub(crate) messages: u64,
    #[serde(skip_serializing_if = "is_none")]
    pub(crate) reclaimed: u64,
    pub(crate) sealed: bool,
    pub(crate) index: String,
    pub(crate) status: &'static str,
    pub(crate) time_from: Option<String>,
    pub(crate) time_to: Option<String>,
    pub(crate) pending: usize,
}

fn is_none(count: &u64) -> bool {
    *count == 0
}

/// A subscriber.
#[derive(Debug, Serialize)]
pub(crate) struct Follower {
    #[serde(flatten)]
    pub(crate) name: Name,
    pub(crate) checkpoint: Option<String>,
    pub(crate) behind_messages: u64,
    pub(crate) behind_bytes: u64,
    pub(crate) behind_seconds: f64,
}

/// The name of a subscriber; in base64 where it is not UTF-8.
#[derive(Debug, Serialize)]
pub(crate) struct Name {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name_b64: Option<String>,
}

/// A finding.
#[derive(Debug, Serialize)]
pub(crate) struct Problem {
    pub(crate) kind: String,
    pub(crate) segment: Option<String>,
    pub(crate) file: String,
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) after: Option<String>,
    pub(crate) lost_messages: Option<u64>,
    pub(crate) doubtful: Option<String>,
    pub(crate) detail: String,
}

impl Whole {
    pub(crate) fn of(seen: &Inspection, standing: &Standing) -> Whole {
        let times = seen.times();
        let whole = !seen.lone_segment;
        let classic = seen.format == Format::Classic;
        Whole {
            heading: Heading::of(seen),
            identity: seen.identity.map(|identity| identity.to_string()),
            messages: seen.messages,
            bytes: seen.bytes,
            file_bytes: seen.segments.iter().map(|segment| segment.file_bytes).sum(),
            time_from: times.map(|(from, _)| rfc3339(from)),
            time_to: times.map(|(_, to)| rfc3339(to)),
            lone_segment: seen.lone_segment,
            segment_size: whole.then_some(seen.metastore.unit_limit),
            safety: (whole && classic).then(|| seen.metastore.safety.to_string()),
            durability: standing.durability.map(|durability| durability.to_string()),
            durable: standing.durable.map(|id| id.to_string()),
            retention: (whole && !classic).then(|| RetentionReport::of(&standing.retention)),
            owner: standing.owner.as_ref().map(Owner::of),
            active_segment: whole.then(|| seen.metastore.active.to_string()),
            pre_commit: seen.pre_commit.capacity.map(|capacity| PreCommit {
                capacity,
                messages: seen.pre_commit.messages,
                bytes: seen.pre_commit.bytes,
            }),
            segments: segments(seen),
            subscribers: followers(seen),
            problems: problems(seen),
            notes: seen.findings.iter().filter(|finding| !finding.is_problem()).map(Problem::of).collect(),
        }
    }
}

impl Owner {
    pub(crate) fn of(holder: &Holder) -> Owner {
        Owner { pid: holder.pid, name: (!holder.name.is_empty()).then(|| holder.name.clone()) }
    }
}

pub(crate) fn segments(seen: &Inspection) -> Vec<Segment> {
    seen.segments.iter().map(Segment::of).collect()
}

pub(crate) fn followers(seen: &Inspection) -> Vec<Follower> {
    seen.subscribers.iter().map(Follower::of).collect()
}

pub(crate) fn problems(seen: &Inspection) -> Vec<Problem> {
    seen.problems().map(Problem::of).collect()
}

impl Segment {
    fn of(segment: &SegmentReport) -> Segment {
        Segment {
            segment: segment.id.to_string(),
            bytes: segment.bytes,
            file_bytes: segment.file_bytes,
            messages: segment.messages,
            reclaimed: segment.reclaimed,
            sealed: segment.sealed,
            index: segment.index.state.to_string(),
            status: status(segment.sound),
            time_from: segment.times.map(|(from, _)| rfc3339(from)),
            time_to: segment.times.map(|(_, to)| rfc3339(to)),
            pending: segment.pending,
        }
    }
}

impl Follower {
    pub(crate) fn of(subscriber: &SubscriberReport) -> Follower {
        Follower {
            name: Name::of(&subscriber.name),
            checkpoint: subscriber.checkpoint.map(|id| id.to_string()),
            behind_messages: subscriber.behind_messages,
            behind_bytes: subscriber.behind_bytes,
            behind_seconds: subscriber.behind_micros as f64 / 1e6,
        }
    }
}

impl Name {
    pub(crate) fn of(name: &Subscriber) -> Name {
        let text = std::str::from_utf8(name.as_bytes()).ok();
        Name {
            name: text.map(str::to_owned),
            name_b64: text.is_none().then(|| BASE64.encode(name.as_bytes())),
        }
    }
}

impl Problem {
    pub(crate) fn of(finding: &Finding) -> Problem {
        Problem {
            kind: finding.kind.to_string(),
            segment: finding.segment.map(|id| id.to_string()),
            file: finding.file.clone(),
            from: finding.from,
            to: finding.to,
            after: finding.after.map(|id| id.to_string()),
            lost_messages: finding.lost,
            doubtful: finding.doubtful.map(|id| id.to_string()),
            detail: finding.detail.clone(),
        }
    }
}

pub(crate) fn status(sound: bool) -> &'static str {
    if sound { "sound" } else { "damaged" }
}

pub(crate) fn format(format: Format) -> &'static str {
    match format {
        Format::Classic => "classic",
        Format::Checksummed => "checksummed",
    }
}

pub(crate) fn byte_order(order: Order) -> &'static str {
    match order {
        Order::Little => "little",
        Order::Big => "big",
    }
}

pub(crate) fn compression(compression: Compression) -> &'static str {
    match compression {
        Compression::None => "none",
        Compression::Null => "null",
        Compression::Lz4 => "lz4",
    }
}
