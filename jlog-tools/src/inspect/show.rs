//! `show`: one message, and where it lies.

use std::io::Write;
use std::path::PathBuf;

use jlog::{Format, Log, Record, RecordId};
use serde::Serialize;

use super::{Look, ShowArgs};
use crate::console::Console;
use crate::exit::{Exit, Failure, Outcome};
use crate::gap;
use crate::measure::things;
use crate::message::{Json, Message, hex};
use crate::options::one_log;
use crate::place::before;
use crate::report::SCHEMA;

#[derive(Serialize)]
struct Report<'a> {
    schema: &'static str,
    log: String,
    #[serde(flatten)]
    message: Json<'a>,
    segment: String,
    from: u64,
    to: u64,
}

/// ID and LOG may be given either way round.
pub(super) fn run(look: &mut Look<'_>, before_name: Option<PathBuf>, args: &ShowArgs) -> Outcome {
    let (id, behind) = match (args.id.parse::<RecordId>(), &args.at.log) {
        (Ok(id), behind) => (id, behind.clone()),
        (Err(not_an_id), None) => return Err(Failure::Usage(not_an_id.to_string())),
        (Err(not_an_id), Some(second)) => match second.to_str().and_then(|text| text.parse().ok()) {
            Some(id) => (id, Some(PathBuf::from(&args.id))),
            None => return Err(Failure::Usage(not_an_id.to_string())),
        },
    };
    let log = look.open(&one_log(before_name, behind)?)?;
    let (console, json) = (&mut *look.console, look.json);
    find(console, &log, id, |console, record| {
        if json {
            return console.json(&Report {
                schema: SCHEMA,
                log: log.path().to_string_lossy().into_owned(),
                message: Message::from(record).json(),
                segment: id.segment.to_string(),
                from: record.offset,
                to: record.offset + record.stored_len,
            });
        }
        print(console, log.format(), record)
    })
}

/// Looks for a message from its place on; damage on the way to it is reported.
fn find(
    console: &mut Console,
    log: &Log,
    id: RecordId,
    print: impl FnOnce(&mut Console, &Record<'_>) -> Result<(), Failure>,
) -> Outcome {
    let mut cursor = log.cursor_after(before(id));
    let mut exit = Exit::Fine;
    loop {
        match cursor.next_record() {
            Ok(Some(record)) if record.id == id => {
                print(console, &record)?;
                return Ok(exit);
            }
            Ok(_) if exit == Exit::Problem => {
                console.say(format!("message {id} cannot be read"));
                return Ok(exit);
            }
            Ok(_) => return Err(Failure::Other(no_message(log, id))),
            Err(error) => match error.gap_met().cloned() {
                Some(gap) => {
                    gap::say(console, &gap);
                    exit = Exit::Problem;
                    cursor.skip_gap();
                }
                None if id > log.last_id()? => return Err(Failure::Other(no_message(log, id))),
                None => return Err(error.into()),
            },
        }
    }
}

fn no_message(log: &Log, id: RecordId) -> String {
    format!("{}: the log holds no message {id}", log.path().display())
}

fn print(console: &mut Console, format: Format, record: &Record<'_>) -> Result<(), Failure> {
    let time = console.clock.micro(record.time);
    let (from, to) = (record.offset, record.offset + record.stored_len);
    writeln!(console, "message   {}", record.id)?;
    writeln!(console, "time      {time}")?;
    writeln!(console, "length    {}", things(record.payload.len() as u64, "byte"))?;
    writeln!(console, "stored    file {} bytes {from}..{to}, header and all", record.id.segment)?;
    let checksum = match format {
        Format::Classic => "none: the classic format has none",
        Format::Checksummed => "holds: of the header, of the message, and of its place",
    };
    writeln!(console, "checksum  {checksum}")?;
    if record.doubtful {
        writeln!(console, "doubtful  what stands behind it is damaged, so nothing proves its length")?;
    }
    hex(record.payload, console)?;
    writeln!(console)?;
    Ok(())
}
