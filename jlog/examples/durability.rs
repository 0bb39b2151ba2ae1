//! The levels of durability, the watermark, a batch, and a reader that follows: in a temporary directory.

use std::time::Duration;

use jlog::{Durability, Log, Timestamp, WriterOptions};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let place = tempfile::tempdir()?;
    let log = Log::create(place.path().join("events"))?;
    let now = || Timestamp::from(std::time::SystemTime::now());

    // This writer owns the log. Unless a record says otherwise it is on the disk when append returns; threads that
    // append at the same time share syncs.
    let writer = log.writer()?;
    std::thread::scope(|scope| {
        for sender in 0..4 {
            let writer = &writer;
            scope.spawn(move || writer.append(format!("from sender {sender}").as_bytes(), now()));
        }
    });
    println!("4 records, {} syncs", log.counts().syncs);

    // All of a batch is seen, or nothing, after a power cut too.
    writer.append_batch([(&b"debit"[..], now()), (&b"credit"[..], now())])?;

    // This one is acknowledged at once, and asked after later.
    let id = writer.append_as(b"not urgent", now(), Durability::Process)?;
    writer.on_durable(id, |outcome| println!("on the disk now: {}", outcome.is_ok()));
    println!("the watermark is {}, the record is {id}", writer.durable_id());
    writer.wait_durable(id)?;
    writer.close()?;

    // A writer that syncs ten times a second; and a reader that waits for what it writes.
    let tenth = Durability::Interval(Duration::from_millis(100));
    let writer = log.writer_with(&WriterOptions::new().durability(tenth))?;
    let mut cursor = log.cursor_after(log.last_id()?);
    std::thread::scope(|scope| {
        scope.spawn(|| writer.append(b"soon", now()));
        if cursor.wait(Duration::from_secs(10))?
            && let Some(record) = cursor.next_record()?
        {
            println!("{} {}", record.id, String::from_utf8_lossy(record.payload));
        }
        jlog::Result::Ok(())
    })?;
    Ok(writer.close()?)
}
