//! `check`: every finding on a line, and what they come to.

use std::io::Write;
use std::path::Path;

use jlog::inspect::{Finding, FindingKind, Inspection};
use jlog::{Format, Marker, RecordId};

use super::{Look, verdict};
use crate::console::{Console, Tone, printable};
use crate::exit::{Failure, Outcome};
use crate::measure::things;
use crate::report;

pub(super) const EXAMPLES: &str = "\
Examples:
  jlog-inspect check /var/spool/events
  jlog-inspect check --json /var/spool/events | jq '.problems[]'
  jlog-inspect check --endian big ./00000005      one segment file by itself

A line begins with DAMAGE (bytes that are no message), TORN (the last message is cut short),
MISSING (a segment), INDEX, CHECKPOINT, METASTORE or PRE_COMMIT; or, where nothing is wrong with
the log itself, with REPAIRED (damage that was mended: what is lost stays lost), CONTROL, STRAY or
OWNER.";

pub(super) fn run(look: &mut Look<'_>, path: &Path) -> Outcome {
    let (seen, standing) = look.survey(path)?;
    if look.json {
        look.console.json(&report::Whole::of(&seen, &standing))?;
    } else {
        print(look.console, &seen)?;
    }
    Ok(verdict(&seen))
}

/// Prints the findings of an inspection, and the closing line.
pub(crate) fn print(console: &mut Console, seen: &Inspection) -> Result<(), Failure> {
    for finding in &seen.findings {
        if finding.is_problem() || !console.quiet {
            print_finding(console, seen, finding)?;
        }
    }
    if console.verbose {
        for segment in seen.segments.iter().filter(|segment| segment.sound) {
            let line = format!(
                "{:<6} {} {}, index {}",
                "OK",
                segment.id,
                things(segment.messages, "message"),
                segment.index.state
            );
            let line = console.paint(Tone::Healthy, line);
            writeln!(console, "{line}")?;
        }
    }
    let foreign = seen.findings.iter().any(|finding| finding.kind == FindingKind::Owner);
    if foreign && !console.quiet {
        let log = seen.path.display();
        console.say(format!(
            "to give all files to the owner of the directory: chown -R --reference={log} {log}"
        ));
    }
    if !console.quiet {
        let line = closing(console, seen);
        writeln!(console, "{line}")?;
    }
    Ok(())
}

/// A finding with its place: `DAMAGE 00000005 bytes 104677..109290 (4.50 KiB): …`.
pub(crate) fn print_finding(
    console: &mut Console,
    seen: &Inspection,
    finding: &Finding,
) -> Result<(), Failure> {
    let (label, tone) = match finding.kind {
        FindingKind::Damage => ("DAMAGE", Tone::Lost),
        FindingKind::Missing => ("MISSING", Tone::Lost),
        FindingKind::Torn => ("TORN", Tone::Mendable),
        FindingKind::Index => ("INDEX", Tone::Mendable),
        FindingKind::Metastore => ("METASTORE", Tone::Mendable),
        FindingKind::Checkpoint => ("CHECKPOINT", Tone::Mendable),
        FindingKind::PreCommit => ("PRE_COMMIT", Tone::Mendable),
        FindingKind::Repaired => ("REPAIRED", Tone::Dim),
        FindingKind::Leftover => ("LEFTOVER", Tone::Dim),
        FindingKind::Control => ("CONTROL", Tone::Dim),
        FindingKind::Stray => ("STRAY", Tone::Dim),
        FindingKind::Owner => ("OWNER", Tone::Dim),
        _ => ("OTHER", Tone::Lost),
    };
    let label = console.paint(tone, format!("{label:<6}"));
    let place = place(console, finding);
    let detail = printable(&finding.detail);
    let lost = match finding.lost {
        Some(lost) => format!("; {} lost{}", things(lost, "message"), which(seen, finding)),
        None if finding.kind == FindingKind::Damage => "; how many messages are lost is not known".to_owned(),
        None => String::new(),
    };
    writeln!(console, "{label} {place}: {detail}{lost}")?;
    Ok(())
}

/// The ids of what is lost, where that is certain: in a checksummed log every message keeps its number, lost or not.
fn which(seen: &Inspection, finding: &Finding) -> String {
    let (Some(segment), Some(lost)) = (finding.segment, finding.lost.filter(|lost| *lost > 0)) else {
        return String::new();
    };
    if seen.format != Format::Checksummed {
        return String::new();
    }
    // Between the last readable message and this place others may be lost.
    let before = seen.findings.iter().take_while(|other| *other != finding);
    let before = before.filter(|other| other.segment == Some(segment) && other.after == finding.after);
    let Some(before) = before.map(|other| other.lost).sum::<Option<u64>>() else { return String::new() };
    let last = finding.after.filter(|after| after.segment == segment).map_or(0, |after| after.marker.0);
    let id = |n: u64| {
        let marker = u32::try_from(u64::from(last) + before + n).unwrap_or(u32::MAX);
        RecordId { segment, marker: Marker(marker) }
    };
    if lost == 1 { format!(": {}", id(1)) } else { format!(": {} to {}", id(1), id(lost)) }
}

fn place(console: &Console, finding: &Finding) -> String {
    let file = printable(&finding.file);
    let bytes = matches!(
        finding.kind,
        FindingKind::Damage | FindingKind::Torn | FindingKind::Repaired | FindingKind::PreCommit
    );
    if !bytes || finding.to <= finding.from {
        return file;
    }
    let size = console.units.size(finding.to - finding.from);
    format!("{file} bytes {}..{} ({size})", finding.from, finding.to)
}

fn closing(console: &Console, seen: &Inspection) -> String {
    let read = format!(
        "{}, {}, {} read",
        things(seen.segments.len() as u64, "segment"),
        things(seen.messages, "message"),
        console.units.size(seen.bytes)
    );
    let problems: Vec<_> = seen.problems().collect();
    if problems.is_empty() {
        return format!("{read}: {}", console.paint(Tone::Healthy, "nothing is wrong"));
    }
    let of = |kinds: &[FindingKind]| {
        let found = problems.iter().filter(|found| kinds.contains(&found.kind));
        found.fold((0, 0), |(n, bytes), found| (n + 1, bytes + (found.to - found.from)))
    };
    let (places, bytes) = of(&[FindingKind::Damage]);
    let (missing, _) = of(&[FindingKind::Missing]);
    let (torn, torn_bytes) = of(&[FindingKind::Torn]);
    let others = problems.len() as u64 - places - missing - torn;

    let mut parts = Vec::new();
    if places > 0 {
        let share = bytes as f64 * 100.0 / seen.bytes.max(1) as f64;
        let (part, whole) = (console.units.size(bytes), console.units.size(seen.bytes));
        parts.push(format!("{}, {part} of {whole} ({share:.2} %)", things(places, "damaged place")));
    }
    if missing > 0 {
        parts.push(format!("{missing} missing or empty"));
    }
    if torn > 0 {
        parts.push(format!("a torn end of {}", console.units.size(torn_bytes)));
    }
    if others > 0 {
        let other = if parts.is_empty() { "problem" } else { "other problem" };
        parts.push(things(others, other));
    }
    let tone = if places + missing > 0 { Tone::Lost } else { Tone::Mendable };
    format!("{read}: {}", console.paint(tone, parts.join("; ")))
}
