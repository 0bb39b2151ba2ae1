//! `map`: a picture of the segments, a row each.

use std::io::Write;
use std::path::Path;

use jlog::SegmentId;
use jlog::inspect::{Finding, FindingKind, Inspection, SegmentReport};
use serde::Serialize;

use super::{Look, verdict};
use crate::console::{Console, Tone, name, printable};
use crate::exit::{Failure, Outcome};
use crate::measure::{count, things};
use crate::report::Heading;

/// The cells of the longest row.
const WIDTH: u64 = 64;
/// The letters of a subscriber's name there is room for.
const NAME: usize = 24;
/// Rows that look alike are folded where there are more.
const FOLD: usize = 3;

/// What a stretch of a segment is. Where several are, the later one is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Cell {
    /// No subscriber wants it any more.
    Read,
    /// A subscriber has yet to read it.
    Wanted,
    /// Damage that a repair has mended: a note of what is lost.
    Noted,
    Torn,
    Damaged,
}

impl Cell {
    fn letter(self) -> char {
        match self {
            Cell::Read => 'R',
            Cell::Wanted => 'W',
            Cell::Noted => 'N',
            Cell::Torn => 'T',
            Cell::Damaged => 'X',
        }
    }
}

#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    heading: Heading,
    /// The bytes that a letter of `cells` stands for.
    cell_bytes: u64,
    segments: Vec<Row>,
}

/// A row: R read by all, W wanted by a subscriber, N a repair's note of what is lost, T torn end, X damaged.
#[derive(Serialize)]
struct Row {
    segment: String,
    bytes: u64,
    messages: u64,
    cells: String,
    bad: usize,
}

pub(super) fn run(look: &mut Look<'_>, path: &Path) -> Outcome {
    let seen = look.inspect(path)?;
    if look.json {
        let cell = cell_size(&seen);
        let segments = seen.segments.iter().map(|segment| Row {
            segment: segment.id.to_string(),
            bytes: segment.bytes,
            messages: segment.messages,
            cells: cells(&seen, segment, cell).into_iter().map(Cell::letter).collect(),
            bad: bad(&seen, segment.id).count(),
        });
        let report = Report { heading: Heading::of(&seen), cell_bytes: cell, segments: segments.collect() };
        look.console.json(&report)?;
    } else {
        print(look.console, &seen)?;
    }
    Ok(verdict(&seen))
}

/// Prints the map of an inspection.
pub(crate) fn print(console: &mut Console, seen: &Inspection) -> Result<(), Failure> {
    let cell = cell_size(seen);
    let path = console.paint(Tone::Strong, printable(&seen.path.to_string_lossy()));
    let size = console.units.size(cell);
    writeln!(console, "{path}  1 cell = {size} ; row = one segment")?;

    let mut missing = missing(seen).peekable();
    let mut run: Vec<&SegmentReport> = Vec::new();
    let mut alike = None;
    for segment in &seen.segments {
        while let Some(gap) = missing.next_if(|found| found.segment < Some(segment.id)) {
            fold(console, seen, cell, &mut run)?;
            print_missing(console, gap)?;
        }
        let look = likeness(seen, segment, cell);
        if look.is_none() || look != alike {
            fold(console, seen, cell, &mut run)?;
        }
        alike = look;
        run.push(segment);
    }
    fold(console, seen, cell, &mut run)?;
    for gap in missing {
        print_missing(console, gap)?;
    }
    legend(console, seen)
}

/// The smallest power of two, from 64 bytes, that brings the largest segment into a row.
fn cell_size(seen: &Inspection) -> u64 {
    let largest = seen.segments.iter().map(|segment| segment.bytes).max().unwrap_or(0);
    largest.div_ceil(WIDTH).next_power_of_two().max(64)
}

/// Damage, torn ends and the like of a segment that is there.
fn bad(seen: &Inspection, id: SegmentId) -> impl Iterator<Item = &Finding> {
    let kinds = [FindingKind::Damage, FindingKind::Torn, FindingKind::Missing];
    seen.findings.iter().filter(move |found| found.segment == Some(id) && kinds.contains(&found.kind))
}

/// What repairs have noted in a segment.
fn noted(seen: &Inspection, id: SegmentId) -> impl Iterator<Item = &Finding> {
    seen.findings.iter().filter(move |found| found.segment == Some(id) && found.kind == FindingKind::Repaired)
}

/// Missing segments, in order; one that is there and empty has a row of its own.
fn missing(seen: &Inspection) -> impl Iterator<Item = &Finding> {
    let there = |found: &Finding| seen.segments.iter().any(|segment| Some(segment.id) == found.segment);
    seen.findings.iter().filter(move |found| found.kind == FindingKind::Missing && !there(found))
}

fn print_missing(console: &mut Console, found: &Finding) -> Result<(), Failure> {
    let line = format!("{} {}", printable(&found.file), printable(&found.detail));
    let line = console.paint(Tone::Lost, line);
    writeln!(console, "{line}")?;
    Ok(())
}

/// Up to which byte of a segment all subscribers have read.
fn read_by_all(seen: &Inspection, segment: &SegmentReport) -> u64 {
    let read = |sub: &jlog::inspect::SubscriberReport| match sub.checkpoint {
        None => 0,
        Some(at) if at.segment > segment.id => segment.bytes,
        Some(at) if at.segment < segment.id => 0,
        Some(_) => sub.offset.unwrap_or(segment.bytes),
    };
    seen.subscribers.iter().map(read).min().unwrap_or(segment.bytes)
}

fn cells(seen: &Inspection, segment: &SegmentReport, size: u64) -> Vec<Cell> {
    let read = read_by_all(seen, segment);
    let mut cells: Vec<Cell> = (0..segment.bytes.div_ceil(size))
        .map(|at| if ((at + 1) * size).min(segment.bytes) <= read { Cell::Read } else { Cell::Wanted })
        .collect();
    for found in bad(seen, segment.id).chain(noted(seen, segment.id)).filter(|found| found.to > found.from) {
        let cell = match found.kind {
            FindingKind::Repaired => Cell::Noted,
            FindingKind::Torn => Cell::Torn,
            _ => Cell::Damaged,
        };
        let (from, to) = (found.from / size, found.to.div_ceil(size));
        for place in cells.iter_mut().take(to as usize).skip(from as usize) {
            *place = cell.max(*place);
        }
    }
    cells
}

/// What makes rows look alike; `None` for one that must be shown.
fn likeness(seen: &Inspection, segment: &SegmentReport, size: u64) -> Option<Cell> {
    if bad(seen, segment.id).chain(noted(seen, segment.id)).next().is_some()
        || followers(seen, segment.id).next().is_some()
        || !segment.sealed
    {
        return None;
    }
    let cells = cells(seen, segment, size);
    let first = *cells.first()?;
    cells.iter().all(|cell| *cell == first).then_some(first)
}

fn followers(seen: &Inspection, id: SegmentId) -> impl Iterator<Item = String> {
    let here = move |at: jlog::RecordId| at.segment == id;
    let followers = seen.subscribers.iter().filter(move |sub| sub.checkpoint.is_some_and(here));
    followers.map(|sub| name(&sub.name, NAME))
}

/// Prints a run of rows that look alike: the first, the last, and how many are between.
fn fold(
    console: &mut Console,
    seen: &Inspection,
    cell: u64,
    run: &mut Vec<&SegmentReport>,
) -> Result<(), Failure> {
    let between = run.len().saturating_sub(2);
    let folds = between > FOLD && !console.verbose;
    for (at, segment) in run.iter().enumerate() {
        if !folds || at == 0 || at == run.len() - 1 {
            row(console, seen, segment, cell)?;
        } else if at == 1 {
            let messages: u64 = run[1..run.len() - 1].iter().map(|segment| segment.messages).sum();
            let dots = console.glyph("…", "...");
            let line = format!(
                "{dots} {} like these, {}",
                things(between as u64, "segment"),
                things(messages, "message")
            );
            let line = console.paint(Tone::Dim, line);
            writeln!(console, "{line}")?;
        }
    }
    run.clear();
    Ok(())
}

fn row(console: &mut Console, seen: &Inspection, segment: &SegmentReport, size: u64) -> Result<(), Failure> {
    let cells = cells(seen, segment, size);
    let mut picture = String::new();
    for alike in cells.chunk_by(|a, b| a == b) {
        let (glyph, tone) = match alike[0] {
            Cell::Read => (console.glyph("░", "."), Tone::Dim),
            Cell::Wanted => (console.glyph("▓", "#"), Tone::Healthy),
            Cell::Noted => ("N", Tone::Dim),
            Cell::Torn => ("T", Tone::Mendable),
            Cell::Damaged => ("X", Tone::Lost),
        };
        picture.push_str(&console.paint(tone, glyph.repeat(alike.len())));
    }
    let room = " ".repeat((WIDTH as usize).saturating_sub(cells.len()));
    let mut line = format!("{} {picture}{room} {:>6}", segment.id, count(segment.messages));
    let bad = bad(seen, segment.id).count();
    if bad > 0 {
        line.push_str(&console.paint(Tone::Lost, format!("  {bad} bad")));
    }
    let mark = console.glyph("◂", "<");
    for name in followers(seen, segment.id) {
        line.push_str(&format!(" {mark}{name}"));
    }
    writeln!(console, "{line}")?;
    Ok(())
}

fn legend(console: &mut Console, seen: &Inspection) -> Result<(), Failure> {
    let (wanted, read, mark) = (console.glyph("▓", "#"), console.glyph("░", "."), console.glyph("◂", "<"));
    let whose = if seen.subscribers.is_empty() { "no subscriber wants it" } else { "read by all" };
    let noted = seen.findings.iter().any(|found| found.kind == FindingKind::Repaired);
    let noted = if noted { "  N lost, as a repair has noted" } else { "" };
    let line = format!(
        "{wanted} wanted by a subscriber  {read} {whose}  X damaged  T torn end{noted}  {mark} checkpoint"
    );
    let line = console.paint(Tone::Dim, line);
    writeln!(console, "{line}")?;
    Ok(())
}
