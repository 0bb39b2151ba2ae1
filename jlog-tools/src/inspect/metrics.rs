//! `metrics`: numbers about a log, as Prometheus reads them.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use jlog::inspect::{FindingKind, Inspection, SubscriberReport};

use super::{Look, verdict};
use crate::exit::{Failure, Outcome};
use crate::standing::Standing;

pub(super) const EXAMPLES: &str = "\
Examples:
  jlog-inspect metrics /var/spool/events
  jlog-inspect metrics /var/spool/events --textfile /var/lib/node_exporter/jlog.prom

The whole log is read for it. With --textfile, the file is replaced in one step.";

/// A number without labels of its own, and what is to be said of it.
type Gauge = (&'static str, &'static str, f64);

/// A number that each subscriber has.
type Column = (&'static str, &'static str, fn(&SubscriberReport) -> f64);

pub(super) fn run(look: &mut Look<'_>, path: &Path, textfile: Option<&Path>) -> Outcome {
    let (seen, standing) = look.survey(path)?;
    let text = prometheus(&seen, &standing);
    match textfile {
        Some(file) => replace(file, &text)?,
        None => look.console.write_all(text.as_bytes())?,
    }
    Ok(verdict(&seen))
}

fn prometheus(seen: &Inspection, standing: &Standing) -> String {
    let log = label(&seen.path.to_string_lossy());
    let mut text = String::new();
    for (name, help, value) in gauges(seen, standing) {
        heading(&mut text, name, help);
        let _ = writeln!(text, "jlog_{name}{{log=\"{log}\"}} {value}");
    }
    heading(&mut text, "problems", "Problems found, by kind.");
    for kind in KINDS {
        let found = seen.problems().filter(|found| found.kind == kind).count();
        let _ = writeln!(text, "jlog_problems{{log=\"{log}\",kind=\"{kind}\"}} {found}");
    }
    let columns: [Column; 3] = [
        ("messages", "Messages a subscriber has not read.", |sub| sub.behind_messages as f64),
        ("bytes", "Bytes that these take in the segments.", |sub| sub.behind_bytes as f64),
        ("seconds", "From the first message a subscriber has not read to the newest.", |sub| {
            sub.behind_micros as f64 / 1e6
        }),
    ];
    for (what, help, value) in columns {
        heading(&mut text, &format!("subscriber_behind_{what}"), help);
        for sub in &seen.subscribers {
            let (name, value) = (label(&sub.name.to_string()), value(sub));
            let _ = writeln!(
                text,
                "jlog_subscriber_behind_{what}{{log=\"{log}\",subscriber=\"{name}\"}} {value}"
            );
        }
    }
    text
}

/// The kinds of findings that are problems.
const KINDS: [FindingKind; 7] = [
    FindingKind::Metastore,
    FindingKind::Missing,
    FindingKind::Damage,
    FindingKind::Torn,
    FindingKind::Index,
    FindingKind::Checkpoint,
    FindingKind::PreCommit,
];

fn gauges(seen: &Inspection, standing: &Standing) -> Vec<Gauge> {
    let files: u64 = seen.segments.iter().map(|segment| segment.file_bytes).sum();
    let noted = seen.findings.iter().filter(|found| found.kind == FindingKind::Repaired);
    let lost: u64 = noted.filter_map(|found| found.lost).sum();
    let mut gauges = vec![
        ("sound", "1 unless the log is damaged; a torn end alone is no damage.", flag(seen.is_sound())),
        ("messages", "Messages that can be read.", seen.messages as f64),
        ("bytes", "Bytes of the segments that are in use.", seen.bytes as f64),
        ("file_bytes", "Bytes of the segments' files.", files as f64),
        ("segments", "Segments.", seen.segments.len() as f64),
        ("active_segment", "The number of the segment that is written to.", f64::from(seen.active.0)),
        ("noted_lost_messages", "Messages that repairs have noted as lost.", lost as f64),
        ("owned", "1 while a process has the log to write to it alone.", flag(standing.owner.is_some())),
    ];
    if let Some((_, newest)) = seen.times() {
        let seconds = newest.as_micros() as f64 / 1e6;
        gauges.push(("newest_message_timestamp_seconds", "The latest time of a message.", seconds));
    }
    if let Some(quota) = standing.retention.quota {
        gauges.push(("quota_bytes", "The most bytes the log may have.", quota as f64));
    }
    gauges
}

fn flag(is: bool) -> f64 {
    f64::from(u8::from(is))
}

fn heading(text: &mut String, name: &str, help: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "# HELP jlog_{name} {help}\n# TYPE jlog_{name} gauge");
}

/// The value of a label, with what would end it escaped.
fn label(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Whoever reads the file finds the old text or the new one, whole.
fn replace(file: &Path, text: &str) -> Result<(), Failure> {
    let mut name = file.as_os_str().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let new = PathBuf::from(name);
    // What lies there is left of a process that died with this number, or a link that somebody has put there.
    let _ = fs::remove_file(&new);
    let written = File::create_new(&new)
        .and_then(|mut out| out.write_all(text.as_bytes()))
        .and_then(|()| fs::rename(&new, file));
    written.map_err(|error| {
        let _ = fs::remove_file(&new);
        Failure::io("write the metrics", file, &error)
    })
}
