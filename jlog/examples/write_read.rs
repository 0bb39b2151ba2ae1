//! Writes a record, reads it back as a subscriber, and commits: the example of README.md, in a temporary directory.

use jlog::{Log, Start, Subscriber, Timestamp};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let place = tempfile::tempdir()?;
    let log = Log::create(place.path().join("events"))?;
    let billing = Subscriber::new("billing")?;
    log.add_subscriber(&billing, Start::Begin)?;

    let writer = log.writer()?;
    writer.append(b"order 17 paid", Timestamp::from(std::time::SystemTime::now()))?; // on disk from here on

    let mut reader = log.reader(&billing)?;
    while let Some(record) = reader.next_record()? {
        println!("{} {}", record.id, String::from_utf8_lossy(record.payload));
    }
    reader.commit()?; // the next reader of this name goes on from here
    Ok(())
}
