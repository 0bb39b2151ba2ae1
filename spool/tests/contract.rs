//! What the spool has in place of calls of Momentum's that its ordinary work does not need.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::Write;

use spool::{Message, Parts, Spool, SpoolError, SpoolOptions, Timestamp};

const NOW: Timestamp = Timestamp { seconds: 1_700_000_000, micros: 0 };

fn opened(dir: &tempfile::TempDir) -> Spool {
    let options = SpoolOptions::new().background(false).segment_size(1 << 20).reserve(0);
    options.large_message_threshold(100_000).open(dir.path().join("spool")).unwrap()
}

fn accepted(spool: &Spool, body: &[u8]) -> Message {
    let message = Message::from_bytes(spool.new_id(NOW), body);
    spool.accept(&message, NOW).unwrap();
    message
}

#[test]
fn a_message_that_was_taken_is_handed_out_to_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let spool = opened(&dir);
    let id = accepted(&spool, b"x").id();
    spool.reschedule(id, NOW.seconds + 60).unwrap();
    assert!(spool.take(id).unwrap());
    assert!(!spool.take(id).unwrap());
    assert_eq!(spool.due(Timestamp::new(NOW.seconds + 60, 0), 9).unwrap(), []);
    spool.put_back(id).unwrap();
    assert_eq!(spool.due(Timestamp::new(NOW.seconds + 60, 0), 9).unwrap(), [id]);
    spool.hold(id, NOW).unwrap();
    assert!(!spool.take(id).unwrap());
    spool.remove(id).unwrap();
    assert!(matches!(spool.take(id), Err(SpoolError::NotFound(_))));
}

#[test]
fn a_message_lies_where_its_location_says() {
    let dir = tempfile::tempdir().unwrap();
    let spool = opened(&dir);
    accepted(&spool, b"another one");
    let message = accepted(&spool, b"a body that is to be found");
    let location = spool.location(message.id()).unwrap().unwrap();
    assert!(location.path.starts_with(spool.path().join("arrivals")), "{location:?}");
    let file = std::fs::read(&location.path).unwrap();
    let body = b"a body that is to be found";
    let found = file.windows(body.len()).position(|bytes| bytes == body).unwrap() as u64;
    assert!((24..300).contains(&(found - location.offset)), "{found} and {location:?}");
    let other = spool.new_id(NOW);
    assert!(matches!(spool.location(other), Err(SpoolError::NotFound(id)) if id == other));
}

#[test]
fn of_a_large_message_the_header_alone_is_loaded() {
    let dir = tempfile::tempdir().unwrap();
    let spool = opened(&dir);
    let mut builder = spool.builder(NOW, 0);
    builder.write_all(b"Subject: large\r\nX: 1\r\n\r\nY: 2\r\n").unwrap();
    builder.write_all(&vec![b'z'; 3 << 20]).unwrap();
    let message = builder.finish().unwrap();
    spool.accept(&message, NOW).unwrap();
    let loaded = message.load(Parts::HEADERS).unwrap();
    let fields: Vec<_> = loaded.headers.iter().map(|(name, value)| (&name[..], &value[..])).collect();
    assert_eq!(fields, [("Subject", &b"large"[..]), ("X", b"1")]);
    assert!(loaded.body.is_none());
    assert!(matches!(message.load(Parts::BODY), Err(SpoolError::TooLarge { .. })));
    let small = accepted(&spool, b"Subject: small\r\n\r\ntext\r\n");
    assert!(small.release_body());
    let loaded = small.load(Parts::HEADERS | Parts::BODY).unwrap();
    assert_eq!(loaded.headers, [("Subject".to_owned(), b"small".to_vec())]);
    assert_eq!(loaded.body.as_deref(), Some(&b"Subject: small\r\n\r\ntext\r\n"[..]));
    assert!(small.load(Parts::NONE).unwrap().headers.is_empty());
}

#[test]
fn a_message_that_goes_out_of_memory_takes_its_changes_to_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let options = SpoolOptions::new().background(false).reserve(0).max_resident_messages(1);
    let spool = options.open(dir.path().join("spool")).unwrap();
    let message = accepted(&spool, b"x");
    message.put_resource("dsn", *b"of the first").unwrap();
    let id = message.id();
    drop(message);
    accepted(&spool, b"y");
    assert_eq!(spool.get(id).unwrap().resource("dsn").unwrap().as_deref(), Some(&b"of the first"[..]));
}
