//! `summary`: the log on one screen.

use std::io::Write;
use std::path::Path;

use comfy_table::{CellAlignment, Table, presets};
use jlog::inspect::{FindingKind, Inspection, SubscriberReport};
use jlog::{Compression, Format};

use super::{Look, verdict};
use crate::console::{Console, Tone, name, printable};
use crate::exit::{Exit, Failure, Outcome};
use crate::measure::{count, lasting, things};
use crate::report;
use crate::standing::{Standing, retention_line};

/// The cells of a bar that shows how far a subscriber is behind.
const BAR: u64 = 20;
/// The letters of a subscriber's name there is room for.
const NAME: usize = 40;

pub(super) fn run(look: &mut Look<'_>, path: &Path) -> Outcome {
    let (seen, standing) = look.survey(path)?;
    if look.json {
        look.console.json(&report::Whole::of(&seen, &standing))?;
    } else if !look.console.quiet || verdict(&seen) != Exit::Fine {
        print(look.console, &seen, &standing)?;
    }
    Ok(verdict(&seen))
}

/// Prints the summary of an inspection.
pub(crate) fn print(console: &mut Console, seen: &Inspection, standing: &Standing) -> Result<(), Failure> {
    let path = printable(&seen.path.to_string_lossy());
    writeln!(console, "{}   {}", console.paint(Tone::Strong, path), layout(seen))?;
    let lines = [
        ("data", data(console, seen)),
        ("messages", messages(console, seen)),
        ("buffered", buffered(console, seen)),
        ("time range", time_range(console, seen)),
        ("safety", safety(seen)),
        ("identity", seen.identity.map(|identity| identity.to_string())),
        ("durability", durability(seen, standing)),
        ("retention", retention_line(&standing.retention, console.units)),
        ("owner", standing.owner.as_ref().map(|owner| printable(&owner.to_string()))),
        ("subscribers", (!seen.lone_segment).then(|| count(seen.subscribers.len() as u64))),
    ];
    for (label, line) in lines {
        if let Some(line) = line {
            writeln!(console, "  {label:<12} {line}")?;
        }
    }
    for line in followers(console, &seen.subscribers) {
        writeln!(console, "    {line}")?;
    }
    writeln!(console, "  {:<12} {}", "health", health(console, seen))?;

    let notes: Vec<_> = seen.findings.iter().filter(|finding| !finding.is_problem()).collect();
    if !notes.is_empty() {
        let dash = console.glyph("—", "-");
        writeln!(
            console,
            "  {:<12} {} {dash} see `jlog-inspect check`",
            "notes",
            things(notes.len() as u64, "remark")
        )?;
    }
    Ok(())
}

fn layout(seen: &Inspection) -> String {
    if seen.format == Format::Checksummed {
        return checksummed_layout(seen);
    }
    let generation = if seen.metastore.magic == 0 { "jlog 1" } else { "jlog 2" };
    let order = report::byte_order(seen.order);
    let compression = match seen.compression {
        Compression::None => "not compressed",
        Compression::Null => "compressible, stored plain",
        Compression::Lz4 => "lz4 compressed",
    };
    let file = if seen.lone_segment {
        "one segment file by itself".to_owned()
    } else if metastore_is_wrong(seen) {
        "metastore not to be believed".to_owned()
    } else {
        format!("{}-byte metastore", seen.metastore.len)
    };
    format!("{generation} format, {order} endian, {compression}, {file}")
}

fn checksummed_layout(seen: &Inspection) -> String {
    let compression = match seen.compression {
        Compression::None | Compression::Null => "not compressed",
        Compression::Lz4 => "lz4 compressed",
    };
    let file = if seen.lone_segment {
        ", one segment file by itself"
    } else if metastore_is_wrong(seen) {
        ", metastore damaged"
    } else {
        ""
    };
    format!("checksummed format, {compression}{file}")
}

fn metastore_is_wrong(seen: &Inspection) -> bool {
    seen.findings.iter().any(|finding| finding.kind == FindingKind::Metastore)
}

fn data(console: &Console, seen: &Inspection) -> Option<String> {
    let size = console.units.size(seen.bytes);
    if seen.lone_segment {
        return Some(size);
    }
    let all = seen.segments.len() as u64;
    let sealed = seen.segments.iter().filter(|segment| segment.sealed).count() as u64;
    let limit = console.units.size(u64::from(seen.metastore.unit_limit));
    let kinds = format!("({} sealed, {} active)", count(sealed), all - sealed);
    let room: u64 = seen.segments.iter().map(|segment| segment.file_bytes).sum();
    let room = (room > seen.bytes).then(|| format!(", files of {}", console.units.size(room)));
    let room = room.unwrap_or_default();
    Some(format!("{size} in {} of {limit} {kinds}{room}", things(all, "segment")))
}

fn messages(console: &Console, seen: &Inspection) -> Option<String> {
    let average = seen.bytes.checked_div(seen.messages);
    let average = average.map(|bytes| format!("   {} on average", console.units.size(bytes)));
    Some(format!("{}{}", count(seen.messages), average.unwrap_or_default()))
}

fn buffered(console: &Console, seen: &Inspection) -> Option<String> {
    let pre_commit = &seen.pre_commit;
    let capacity = pre_commit.capacity.filter(|capacity| *capacity > 0 || pre_commit.messages > 0)?;
    Some(format!(
        "{}, {} in a pre_commit buffer of {}",
        things(u64::from(pre_commit.messages), "message"),
        console.units.size(pre_commit.bytes),
        console.units.size(capacity)
    ))
}

fn time_range(console: &Console, seen: &Inspection) -> Option<String> {
    let (from, to) = seen.times()?;
    let range = format!("{} .. {}", console.clock.second(from), console.clock.second(to));
    let micros = to.as_micros() - from.as_micros();
    // A rate over less than a second says little.
    if micros < 1_000_000 {
        return Some(range);
    }
    let rate = seen.messages as f64 / (micros as f64 / 1e6);
    Some(format!("{range}   {}   {rate:.1} msg/s", lasting(micros)))
}

fn safety(seen: &Inspection) -> Option<String> {
    let line = format!("{}   active segment {}", seen.metastore.safety, seen.metastore.active);
    (!seen.lone_segment && seen.format == Format::Classic).then_some(line)
}

/// A lone segment says nothing of it, and a classic log's safety says it.
fn durability(seen: &Inspection, standing: &Standing) -> Option<String> {
    let durability = standing.durability.filter(|_| seen.format == Format::Checksummed)?;
    let durable = standing.durable.map(|id| format!("   on the disk up to {id}")).unwrap_or_default();
    Some(format!("{durability}   active segment {}{durable}", seen.active))
}

fn followers(console: &Console, all: &[SubscriberReport]) -> Vec<String> {
    let furthest = all.iter().map(|subscriber| subscriber.behind_messages).max().unwrap_or(0);
    let mut table = borderless();
    for subscriber in all {
        let checkpoint = subscriber.checkpoint.map_or_else(|| "(unreadable)".to_owned(), |id| id.to_string());
        table.add_row([
            name(&subscriber.name, NAME),
            checkpoint,
            format!("{} behind", count(subscriber.behind_messages)),
            console.units.size(subscriber.behind_bytes),
            lasting(subscriber.behind_micros),
            bar(console, subscriber.behind_messages, furthest),
        ]);
    }
    align_right(&mut table, &[2, 3]);
    rows(&table)
}

/// Something beyond zero is always to be seen.
fn bar(console: &Console, part: u64, whole: u64) -> String {
    let full = part.saturating_mul(BAR).div_ceil(whole.max(1)).min(BAR);
    let (cell, rest) = (console.glyph("█", "#"), console.glyph("░", "."));
    format!("{}{}", cell.repeat(full as usize), rest.repeat((BAR - full) as usize))
}

/// How the log is, in one line, and what to do about it.
pub(crate) fn health(console: &Console, seen: &Inspection) -> String {
    let all: Vec<_> = seen.problems().collect();
    let dash = console.glyph("—", "-");
    if all.is_empty() {
        return console.paint(Tone::Healthy, "sound");
    }
    let of = |kind: FindingKind| all.iter().filter(|found| found.kind == kind).count() as u64;
    let bytes: u64 =
        all.iter().filter(|found| found.kind == FindingKind::Damage).map(|found| found.to - found.from).sum();

    let kinds = [
        (FindingKind::Damage, "damaged place", "damaged places"),
        (FindingKind::Missing, "missing or empty segment", "missing or empty segments"),
        (FindingKind::Torn, "torn end", "torn ends"),
        (FindingKind::Index, "wrong index", "wrong indexes"),
        (FindingKind::Checkpoint, "wrong checkpoint", "wrong checkpoints"),
        (FindingKind::Metastore, "wrong metastore", "wrong metastores"),
        (FindingKind::PreCommit, "wrong pre_commit buffer", "wrong pre_commit buffers"),
    ];
    let parts = kinds.iter().filter_map(|(kind, one, many)| match of(*kind) {
        0 => None,
        n if *kind == FindingKind::Damage => {
            Some(format!("{}, {}", things(n, one), console.units.size(bytes)))
        }
        1 => Some(format!("1 {one}")),
        n => Some(format!("{} {many}", count(n))),
    });
    let what = parts.collect::<Vec<_>>().join("; ");
    if seen.is_sound() {
        let line = console.paint(Tone::Mendable, what);
        return format!("{line} {dash} the next writer cuts it off and keeps it aside");
    }
    let lost = of(FindingKind::Damage) + of(FindingKind::Missing) > 0;
    let line = console.paint(if lost { Tone::Lost } else { Tone::Mendable }, what);
    format!("{line} {dash} see `jlog-inspect check`, mend with `jlog-repair`")
}

/// A table of columns without lines around them.
pub(crate) fn borderless() -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table
}

pub(crate) fn align_right(table: &mut Table, columns: &[usize]) {
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    for index in columns {
        if let Some(column) = table.column_mut(*index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}

pub(crate) fn rows(table: &Table) -> Vec<String> {
    if table.is_empty() && table.header().is_none() {
        return Vec::new();
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect()
}
