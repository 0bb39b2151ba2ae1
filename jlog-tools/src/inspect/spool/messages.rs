//! `messages`: the messages of a spool by their ids, a line each.

use std::io::Write;
use std::path::{Path, PathBuf};

use ::spool::{Address, Listed, ListedState, MessageId, Spool, SpoolError};
use clap::{Args, ValueEnum};
use serde::Serialize;

use super::{SCHEMA, cell, due, now, open, queue_name, say_gone, seconds, state_name, time};
use crate::console::{Console, Tone, printable_json};
use crate::exit::{Exit, Failure, Outcome};
use crate::inspect::Look;
use crate::inspect::summary::{align_right, borderless, rows};
use crate::interrupt;
use crate::measure::count;
use crate::place;

pub(in crate::inspect) const EXAMPLES: &str = "\
Examples:
  jlog-inspect messages /var/spool/mail
  jlog-inspect messages /var/spool/mail --domain example.com --older 2h --min-attempts 3
  jlog-inspect messages /var/spool/mail --sender '<>' --json | jq -r .id
  jlog-inspect messages /var/spool/mail -n 100 --after 00/00-00001-8C6E4296

Ordered by id, which is by age. Sender and recipient are read from the disk, message by message;
--brief leaves them out. Which messages are active only the spool's owner knows: beside it, those
that it has handed out count as delayed.";

/// So many lines make up a table: what follows has columns of its own widths.
const PAGE: usize = 1000;
/// The letters of an address, and of a queue, there is room for.
const NAME: usize = 40;

#[derive(Debug, Default, Args)]
pub(in crate::inspect) struct Filters {
    /// The spool [default: the current directory]
    #[arg(value_name = "SPOOL")]
    pub(in crate::inspect) spool: Option<PathBuf>,
    #[command(flatten)]
    which: Which,
    /// Only those behind this one
    #[arg(long, value_name = "ID")]
    after: Option<MessageId>,
    /// At most so many
    #[arg(short = 'n', long, value_name = "N")]
    count: Option<u64>,
    /// Without sender and recipient, which are read from the disk
    #[arg(long, conflicts_with_all = ["sender", "recipient"])]
    brief: bool,
}

/// Which messages of a spool are meant.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Which messages")]
pub(crate) struct Which {
    /// Only of this queue: domain, domain@binding or domain@binding/group
    #[arg(long, value_name = "QUEUE")]
    queue: Option<String>,
    /// Only of queues of this domain
    #[arg(long, value_name = "DOMAIN")]
    domain: Option<String>,
    /// Only from senders with this text in their address; <> for those without one
    #[arg(long, value_name = "TEXT")]
    sender: Option<String>,
    /// Only to recipients with this text in their address
    #[arg(long, value_name = "TEXT")]
    recipient: Option<String>,
    /// Only older ones (90s, 15m, "1 day")
    #[arg(long, value_name = "DURATION", value_parser = place::parse_duration)]
    older: Option<u64>,
    /// Only younger ones
    #[arg(long, value_name = "DURATION", value_parser = place::parse_duration)]
    younger: Option<u64>,
    /// Only those that were tried so often
    #[arg(long, value_name = "N")]
    min_attempts: Option<u8>,
    /// Only those whose turn has come
    #[arg(long)]
    due: bool,
    /// Only those in this state
    #[arg(long, value_name = "STATE")]
    state: Option<StateName>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum StateName {
    Delayed,
    Active,
    Held,
    Corrupt,
    Idle,
}

impl StateName {
    fn state(self) -> ListedState {
        match self {
            StateName::Delayed => ListedState::Delayed,
            StateName::Active => ListedState::Active,
            StateName::Held => ListedState::Held,
            StateName::Corrupt => ListedState::Corrupt,
            StateName::Idle => ListedState::Idle,
        }
    }
}

#[derive(Serialize)]
struct Line {
    schema: &'static str,
    id: String,
    created: String,
    age_seconds: u32,
    size: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    sender: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recipient: Option<String>,
    attempts: u8,
    next_attempt: String,
    priority: u8,
    queue: String,
    domain: String,
    binding: String,
    group: String,
    state: &'static str,
    /// Why its metadata could not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

/// Who sent a message and who is to get it.
pub(crate) type Ends = (Option<Address>, Option<Address>);

pub(in crate::inspect) fn run(look: &mut Look<'_>, path: &Path, filters: &Filters) -> Outcome {
    let mut spool = open(path)?;
    let now = now();
    // Ids alone: of a million messages that is little.
    let mut ids: Vec<MessageId> = spool
        .entries()?
        .filter(|listed| {
            filters.which.take(listed, now) && filters.after.is_none_or(|after| listed.id > after)
        })
        .map(|listed| listed.id)
        .collect();
    ids.sort_unstable();

    let mut exit = Exit::Fine;
    let mut page = Vec::new();
    let mut left = filters.count.unwrap_or(u64::MAX);
    for id in ids {
        interrupt::check()?;
        if left == 0 {
            break;
        }
        let Ok(listed) = spool.entry(id) else { continue };
        let ends = if filters.brief { Ok(None) } else { ends(&mut spool, path, id)? };
        let line = match ends {
            Ok(None) if !filters.brief => {
                say_gone(look.console, id);
                continue;
            }
            Ok(ends) => {
                if !filters.which.take_ends(ends.as_ref()) {
                    continue;
                }
                line(&listed, ends, None, now)
            }
            Err(problem) => {
                exit = Exit::Problem;
                line(&listed, None, Some(problem), now)
            }
        };
        left -= 1;
        if look.json {
            // A line each, on a terminal too.
            writeln!(look.console, "{}", printable_json(serde_json::to_string(&line)?))?;
            continue;
        }
        page.push((line, listed));
        if page.len() == PAGE {
            print(look.console, &page, filters.brief, now)?;
            page.clear();
        }
    }
    if !look.json {
        print(look.console, &page, filters.brief, now)?;
    }
    Ok(exit)
}

/// Prints all messages of a spool.
pub(crate) fn print_all(console: &mut Console, path: &Path) -> Outcome {
    let mut look = Look { console, json: false, endian: crate::options::Endian::Auto };
    run(&mut look, path, &Filters::default())
}

/// The ends of a message; none if it was removed meanwhile. What cannot be read is looked at once more: its owner may
/// have moved it.
fn ends(spool: &mut Spool, path: &Path, id: MessageId) -> Result<Result<Option<Ends>, String>, Failure> {
    let read = |spool: &Spool| {
        let envelope = spool.get(id)?.envelope();
        Ok((envelope.sender().cloned(), envelope.recipient().cloned()))
    };
    match read(spool) {
        Ok(ends) => return Ok(Ok(Some(ends))),
        Err(SpoolError::NotFound(_)) => return Ok(Ok(None)),
        Err(_) => *spool = open(path)?,
    }
    match read(spool) {
        Ok(ends) => Ok(Ok(Some(ends))),
        Err(SpoolError::NotFound(_)) => Ok(Ok(None)),
        Err(error) => Ok(Err(error.to_string())),
    }
}

impl Which {
    /// Whether a message is wanted, as far as that is known without reading it.
    pub(crate) fn take(&self, listed: &Listed, now: u32) -> bool {
        let queue = &listed.queue;
        let age = u64::from(now.saturating_sub(listed.id.created())) * 1_000_000;
        let named = |name: &String| *name == queue_name(queue) || *name == queue.to_string();
        self.queue.as_ref().is_none_or(named)
            && self.domain.as_ref().is_none_or(|domain| domain.eq_ignore_ascii_case(&queue.domain))
            && self.older.is_none_or(|older| age >= older)
            && self.younger.is_none_or(|younger| age < younger)
            && self.min_attempts.is_none_or(|least| listed.attempts >= least)
            && (!self.due || listed.state == ListedState::Delayed && listed.next_attempt <= now)
            && self.state.is_none_or(|state| listed.state == state.state())
    }

    /// Whether it asks for all there are.
    pub(crate) fn is_any(&self) -> bool {
        let Which { queue, domain, sender, recipient, older, younger, min_attempts, due, state } = self;
        [queue, domain, sender, recipient].iter().all(|text| text.is_none())
            && older.or(*younger).is_none()
            && min_attempts.is_none()
            && !due
            && state.is_none()
    }

    /// Whether metadata has to be read to know.
    pub(crate) fn reads(&self) -> bool {
        self.sender.is_some() || self.recipient.is_some()
    }

    /// Whether its sender and recipient are wanted.
    pub(crate) fn take_ends(&self, ends: Option<&Ends>) -> bool {
        let Some((sender, recipient)) = ends else { return true };
        has(self.sender.as_deref(), sender.as_ref()) && has(self.recipient.as_deref(), recipient.as_ref())
    }
}

/// Whether an address has a text in it, in upper or lower case.
fn has(text: Option<&str>, address: Option<&Address>) -> bool {
    match (text, address) {
        (None, _) => true,
        (Some("<>"), address) => address.is_none(),
        (Some(_), None) => false,
        (Some(text), Some(address)) => {
            address.to_string().to_ascii_lowercase().contains(&text.to_ascii_lowercase())
        }
    }
}

/// An address as it is printed; the null sender can be seen.
pub(super) fn address(address: Option<&Address>) -> String {
    address.map_or_else(|| "<>".to_owned(), Address::to_string)
}

fn line(listed: &Listed, ends: Option<Ends>, problem: Option<String>, now: u32) -> Line {
    let (sender, recipient) = match &ends {
        Some((sender, recipient)) => (Some(address(sender.as_ref())), Some(address(recipient.as_ref()))),
        None => (None, None),
    };
    let state = if problem.is_some() { ListedState::Corrupt } else { listed.state };
    Line {
        schema: SCHEMA,
        id: listed.id.to_string(),
        created: time(listed.id.created()),
        age_seconds: now.saturating_sub(listed.id.created()),
        size: listed.size,
        sender,
        recipient,
        attempts: listed.attempts,
        next_attempt: time(listed.next_attempt),
        priority: listed.priority,
        queue: queue_name(&listed.queue),
        domain: listed.queue.domain.clone(),
        binding: listed.queue.binding.clone(),
        group: listed.queue.group.clone(),
        state: state_name(state),
        problem,
    }
}

fn print(console: &mut Console, page: &[(Line, Listed)], brief: bool, now: u32) -> Result<(), Failure> {
    const ENDS: [usize; 2] = [3, 4];
    let wanted = |column: &usize| !brief || !ENDS.contains(column);
    let columns = ["id", "age", "size", "sender", "recipient", "attempts", "next", "queue", "state"];
    if page.is_empty() {
        return Ok(());
    }
    let mut table = borderless();
    table.set_header((0..columns.len()).filter(wanted).map(|n| columns[n]));
    for (line, listed) in page {
        let end =
            |end: &Option<String>| end.as_ref().map_or("?".to_owned(), |end| cell(end.as_bytes(), NAME));
        let waits = listed.state == ListedState::Delayed;
        let cells = [
            line.id.clone(),
            seconds(line.age_seconds),
            console.units.size(u64::from(line.size)),
            end(&line.sender),
            end(&line.recipient),
            count(u64::from(line.attempts)),
            if waits { due(listed.next_attempt, now) } else { String::new() },
            cell(line.queue.as_bytes(), NAME),
            line.state.to_owned(),
        ];
        table.add_row((0..columns.len()).filter(wanted).map(|n| &cells[n]));
    }
    align_right(&mut table, if brief { &[2, 3] } else { &[2, 5] });
    for (n, text) in rows(&table).into_iter().enumerate() {
        let tone = match n.checked_sub(1).and_then(|n| page.get(n)) {
            None => Tone::Strong,
            Some((line, _)) if line.state == "corrupt" => Tone::Lost,
            Some((line, _)) if line.state == "held" => Tone::Dim,
            Some(_) => Tone::Healthy,
        };
        let text = if tone == Tone::Healthy { text } else { console.paint(tone, text) };
        writeln!(console, "{text}")?;
    }
    Ok(())
}
