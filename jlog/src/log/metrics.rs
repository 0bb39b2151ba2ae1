//! What a log has done in this process, counted.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

/// The counters behind [`Counts`].
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    appended_records: AtomicU64,
    appended_bytes: AtomicU64,
    commits: AtomicU64,
    syncs: AtomicU64,
    rotations: AtomicU64,
    delivered_records: AtomicU64,
    delivered_bytes: AtomicU64,
    gaps: AtomicU64,
    removed_segments: AtomicU64,
}

/// What all handles of one [`Log`](crate::Log) have done in this process since it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Counts {
    /// Records appended.
    pub appended_records: u64,
    /// The bytes of their messages.
    pub appended_bytes: u64,
    /// Appends: a batch is one.
    pub commits: u64,
    /// Syncs of segments that records waited for.
    pub syncs: u64,
    /// Segments finished.
    pub rotations: u64,
    /// Records handed to readers.
    pub delivered_records: u64,
    /// The bytes of their messages.
    pub delivered_bytes: u64,
    /// Gaps that readers met.
    pub gaps: u64,
    /// Segments removed because nobody wanted them any more, or by a policy.
    pub removed_segments: u64,
}

impl Metrics {
    pub(crate) fn appended(&self, records: u64, bytes: u64) {
        self.appended_records.fetch_add(records, Ordering::Relaxed);
        self.appended_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.commits.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn synced(&self, n: u64) {
        self.syncs.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn rotated(&self) {
        self.rotations.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn delivered(&self, records: u64, bytes: u64) {
        self.delivered_records.fetch_add(records, Ordering::Relaxed);
        self.delivered_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn gap(&self) {
        self.gaps.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn removed(&self, segments: u64) {
        self.removed_segments.fetch_add(segments, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> Counts {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            appended_records: of(&self.appended_records),
            appended_bytes: of(&self.appended_bytes),
            commits: of(&self.commits),
            syncs: of(&self.syncs),
            rotations: of(&self.rotations),
            delivered_records: of(&self.delivered_records),
            delivered_bytes: of(&self.delivered_bytes),
            gaps: of(&self.gaps),
            removed_segments: of(&self.removed_segments),
        }
    }
}

impl Counts {
    /// Each counter's name, what it counts, and its value.
    fn rows(&self) -> [(&'static str, &'static str, u64); 9] {
        [
            ("appended_records", "Records appended", self.appended_records),
            ("appended_bytes", "Bytes of messages appended", self.appended_bytes),
            ("commits", "Appends; a batch is one", self.commits),
            ("syncs", "Syncs that records waited for", self.syncs),
            ("rotations", "Segments finished", self.rotations),
            ("delivered_records", "Records handed to readers", self.delivered_records),
            ("delivered_bytes", "Bytes of messages handed to readers", self.delivered_bytes),
            ("gaps", "Gaps that readers met", self.gaps),
            ("removed_segments", "Segments removed", self.removed_segments),
        ]
    }

    /// The counters in Prometheus' text format, each with the label `log`.
    pub fn prometheus(&self, log: &str) -> String {
        let mut text = String::new();
        let label = log.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        for (name, help, value) in self.rows() {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "# HELP jlog_{name}_total {help}.\n# TYPE jlog_{name}_total counter");
            let _ = writeln!(text, "jlog_{name}_total{{log=\"{label}\"}} {value}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_has_a_line_for_each_counter_and_its_label_is_escaped() {
        let metrics = Metrics::default();
        metrics.appended(3, 30);
        let text = metrics.read().prometheus("a\"b");
        assert!(text.contains("jlog_appended_records_total{log=\"a\\\"b\"} 3\n"), "{text}");
        assert_eq!(text.lines().count(), 27);
    }
}
