//! `queues`: what each queue of a spool holds, and how old it is.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use ::spool::QueueKey;
use serde::Serialize;

use super::{SCHEMA, cell, due, now, open, queue_name, seconds, time};
use crate::console::{Console, Tone};
use crate::exit::{Exit, Failure, Outcome};
use crate::inspect::Look;
use crate::inspect::summary::{align_right, borderless, rows};
use crate::measure::count;
use crate::options::Endian;

pub(in crate::inspect) const EXAMPLES: &str = "\
Examples:
  jlog-inspect queues /var/spool/mail
  jlog-inspect queues --ages /var/spool/mail      messages by queue and age, in doubling minutes";

/// The ages that the columns of the matrix end at, in minutes; the last one has no end.
const MINUTES: [u32; 9] = [5, 10, 20, 40, 80, 160, 320, 640, 1280];
/// The letters of a queue's name there is room for.
const NAME: usize = 40;

#[derive(Serialize)]
struct Report {
    schema: &'static str,
    spool: String,
    /// Where the columns of `ages` end, in minutes.
    age_minutes: [u32; 9],
    queues: Vec<Row>,
}

/// What one queue holds.
#[derive(Default, Serialize)]
struct Row {
    queue: String,
    domain: String,
    binding: String,
    group: String,
    messages: u64,
    delayed: u64,
    active: u64,
    held: u64,
    bytes: u64,
    oldest_created: Option<String>,
    next_due: Option<String>,
    ages: [u64; 10],
    #[serde(skip)]
    oldest: Option<u32>,
    #[serde(skip)]
    next: Option<u32>,
}

pub(in crate::inspect) fn run(look: &mut Look<'_>, path: &Path, ages: bool) -> Outcome {
    let spool = open(path)?;
    let now = now();
    let mut seen: BTreeMap<QueueKey, Row> = BTreeMap::new();
    for info in spool.queues()? {
        let row = Row {
            queue: queue_name(&info.key),
            domain: info.key.domain.clone(),
            binding: info.key.binding.clone(),
            group: info.key.group.clone(),
            messages: info.messages,
            delayed: info.delayed,
            active: info.active,
            bytes: info.bytes,
            next_due: info.next_due.map(time),
            next: info.next_due,
            ..Row::default()
        };
        seen.insert(info.key, row);
    }
    for listed in spool.entries()? {
        let Some(row) = seen.get_mut(&listed.queue) else { continue };
        let created = listed.id.created();
        row.oldest = Some(row.oldest.map_or(created, |oldest| oldest.min(created)));
        row.held += u64::from(listed.state == ::spool::ListedState::Held);
        row.ages[column(now.saturating_sub(created))] += 1;
    }
    let mut queues: Vec<Row> = seen.into_values().collect();
    // The fullest first: it is what one looks for.
    queues.sort_by(|a, b| b.messages.cmp(&a.messages).then_with(|| a.queue.cmp(&b.queue)));
    for row in &mut queues {
        row.oldest_created = row.oldest.map(time);
    }

    if look.json {
        let spool = path.to_string_lossy().into_owned();
        look.console.json(&Report { schema: SCHEMA, spool, age_minutes: MINUTES, queues })?;
        return Ok(Exit::Fine);
    }
    if ages {
        print_ages(look, &queues)?;
    } else {
        print(look, &queues, now)?;
    }
    Ok(Exit::Fine)
}

/// Prints the queues of a spool.
pub(crate) fn print_all(console: &mut Console, path: &Path) -> Outcome {
    let mut look = Look { console, json: false, endian: Endian::Auto };
    run(&mut look, path, false)
}

fn column(age: u32) -> usize {
    MINUTES.iter().position(|minutes| age < minutes * 60).unwrap_or(MINUTES.len())
}

fn print(look: &mut Look<'_>, queues: &[Row], now: u32) -> Result<(), Failure> {
    let mut table = borderless();
    table.set_header(["queue", "messages", "delayed", "active", "held", "size", "oldest", "next"]);
    for row in queues {
        table.add_row([
            cell(row.queue.as_bytes(), NAME),
            count(row.messages),
            count(row.delayed),
            count(row.active),
            count(row.held),
            look.console.units.size(row.bytes),
            row.oldest.map_or_else(String::new, |oldest| seconds(now.saturating_sub(oldest))),
            row.next.map_or_else(String::new, |at| due(at, now)),
        ]);
    }
    align_right(&mut table, &[1, 2, 3, 4, 5]);
    show(look, &table)
}

fn print_ages(look: &mut Look<'_>, queues: &[Row]) -> Result<(), Failure> {
    let mut table = borderless();
    let mut header = vec!["queue".to_owned(), "messages".to_owned()];
    header.extend(MINUTES.iter().map(|minutes| format!("<{minutes}m")));
    header.push(format!("{}m+", MINUTES[MINUTES.len() - 1]));
    table.set_header(header);
    let mut total = Row { queue: "TOTAL".to_owned(), ..Row::default() };
    for row in queues {
        total.messages += row.messages;
        total.ages.iter_mut().zip(row.ages).for_each(|(sum, n)| *sum += n);
    }
    for row in std::iter::once(&total).chain(queues) {
        let mut cells = vec![cell(row.queue.as_bytes(), NAME), count(row.messages)];
        cells.extend(row.ages.iter().map(|n| count(*n)));
        table.add_row(cells);
    }
    align_right(&mut table, &(1..MINUTES.len() + 3).collect::<Vec<_>>());
    show(look, &table)
}

fn show(look: &mut Look<'_>, table: &comfy_table::Table) -> Result<(), Failure> {
    for (n, line) in rows(table).into_iter().enumerate() {
        let line = if n == 0 { look.console.paint(Tone::Strong, line) } else { line };
        writeln!(look.console, "{line}")?;
    }
    Ok(())
}
