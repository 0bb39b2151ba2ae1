//! `segments`: a line for every segment.

use std::io::Write;
use std::path::Path;

use jlog::Format;
use jlog::inspect::SegmentReport;
use serde::Serialize;

use super::summary::{align_right, borderless, rows};
use super::{Look, verdict};
use crate::console::{Console, Tone};
use crate::exit::Outcome;
use crate::measure::count;
use crate::report::{self, Heading};

/// The column that only some logs need.
const FILE: usize = 2;

#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    heading: Heading,
    segments: Vec<report::Segment>,
}

pub(super) fn run(look: &mut Look<'_>, path: &Path) -> Outcome {
    let seen = look.inspect(path)?;
    let console = &mut *look.console;
    if look.json {
        console.json(&Report { heading: Heading::of(&seen), segments: report::segments(&seen) })?;
        return Ok(verdict(&seen));
    }
    let shown: Vec<_> = seen.segments.iter().filter(|segment| !console.quiet || !segment.sound).collect();
    let mut table = borderless();
    // A checksummed segment is made with room for what will be written: its file is larger than what is in use of it.
    let roomy = seen.format == Format::Checksummed;
    let columns = ["segment", "size", "file", "messages", "from", "to", "index", "wanted by", "state"];
    let with_file = |column: &usize| roomy || *column != FILE;
    table.set_header((0..columns.len()).filter(with_file).map(|column| columns[column]));
    for segment in &shown {
        let cells = cells(console, segment);
        table.add_row((0..cells.len()).filter(with_file).map(|column| &cells[column]));
    }
    align_right(&mut table, if roomy { &[1, 2, 3, 7] } else { &[1, 2, 6] });
    for (row, line) in rows(&table).into_iter().enumerate() {
        let tone = match row.checked_sub(1).and_then(|row| shown.get(row)) {
            None => Tone::Strong,
            Some(segment) if !segment.sound => Tone::Lost,
            Some(segment) if segment.pending == 0 => Tone::Dim,
            Some(_) => Tone::Healthy,
        };
        let line = console.paint(tone, line);
        writeln!(console, "{line}")?;
    }
    Ok(verdict(&seen))
}

fn cells(console: &Console, segment: &SegmentReport) -> [String; 9] {
    let (from, to) = match segment.times {
        Some((from, to)) => (console.clock.second(from), console.clock.second(to)),
        None => (String::new(), String::new()),
    };
    let place = if segment.sealed { "sealed" } else { "active" };
    let state = match segment.sound {
        true if segment.reclaimed > 0 => "reclaimed".to_owned(),
        true => place.to_owned(),
        false => format!("{place}, damaged"),
    };
    [
        segment.id.to_string(),
        console.units.size(segment.bytes),
        console.units.size(segment.file_bytes),
        count(segment.messages),
        from,
        to,
        segment.index.state.to_string(),
        segment.pending.to_string(),
        state,
    ]
}
