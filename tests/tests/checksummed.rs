//! The checksummed format: appending, reading, opening again, on a real disk.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use jlog::{
    Compression, CreateOptions, Durability, ErrorKind, Format, Log, OnDamage, RecordId, Start, Subscriber,
    Timestamp, WriterOptions, inspect,
};
use jlog_tests::Scratch;

fn time(n: u64) -> Timestamp {
    Timestamp::new(1_700_000_000 + n as u32, 0)
}

fn message(n: u64) -> Vec<u8> {
    format!("message {n} {}", "x".repeat((n % 300) as usize)).into_bytes()
}

fn all(log: &Log) -> Vec<Vec<u8>> {
    let mut cursor = log.cursor().unwrap();
    let mut found = Vec::new();
    while let Some(record) = cursor.next_record().unwrap() {
        found.push(record.payload.to_vec());
    }
    found
}

#[test]
fn what_is_appended_is_read_in_order_across_segments_and_openings() {
    for compression in [Compression::None, Compression::Lz4] {
        for durability in [Durability::Sync, Durability::Process] {
            let scratch = Scratch::new();
            let options =
                CreateOptions::new().segment_size(4096).compression(compression).durability(durability);
            let log = Log::create_with(scratch.path(), &options).unwrap();
            assert_eq!(log.format(), Format::Checksummed);
            let mut wanted = Vec::new();
            for round in 0..5 {
                let writer = Log::open(scratch.path()).unwrap().writer().unwrap();
                assert_eq!(writer.recovery(), Default::default(), "round {round}");
                for n in 0..40 {
                    let bytes = message(round * 40 + n);
                    writer.append(&bytes, time(n)).unwrap();
                    wanted.push(bytes);
                }
                assert_eq!(all(&log), wanted, "beside the writer");
                if round % 2 == 0 {
                    writer.close().unwrap();
                }
            }
            assert_eq!(all(&Log::open(scratch.path()).unwrap()), wanted);
            let seen = inspect::inspect(&log).unwrap();
            assert_eq!(seen.problems().collect::<Vec<_>>(), Vec::<&inspect::Finding>::new());
            assert_eq!(seen.messages, 200);
            assert!(seen.segments.len() > 1);
        }
    }
}

#[test]
fn a_record_is_seen_once_it_is_on_the_disk_and_before_on_request_alone() {
    let scratch = Scratch::new();
    let log = Log::create(scratch.path()).unwrap();
    let writer = log.writer().unwrap();
    writer.append_as(b"not yet", time(1), Durability::Process).unwrap();
    assert_eq!(all(&log), Vec::<Vec<u8>>::new());
    let mut cursor = log.cursor().unwrap();
    cursor.see_unsynced(true);
    assert_eq!(cursor.next_record().unwrap().unwrap().payload, b"not yet");
    writer.append(b"now", time(2)).unwrap();
    assert_eq!(all(&log), [&b"not yet"[..], b"now"]);
    assert_eq!(writer.durable_id(), RecordId::new(0, 2));
    assert_eq!(log.durable_id().unwrap(), Some(RecordId::new(0, 2)));
}

#[test]
fn a_second_owner_is_told_who_the_first_is() {
    let scratch = Scratch::new();
    let log = Log::create(scratch.path()).unwrap();
    assert_eq!(log.owner().unwrap(), None);
    let writer = log.writer().unwrap();
    assert_eq!(log.owner().unwrap(), Some(std::process::id()));
    let error = log.writer().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy);
    assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
    drop(writer);
    assert_eq!(log.owner().unwrap(), None);
    log.writer().unwrap();
}

#[test]
fn writers_that_share_a_log_take_turns_and_number_their_records_together() {
    let scratch = Scratch::new();
    let log = Log::create_with(scratch.path(), &CreateOptions::new().segment_size(2000)).unwrap();
    let shared = WriterOptions::new().exclusive(false);
    let writers = [log.writer_with(&shared).unwrap(), log.writer_with(&shared).unwrap()];
    let mut ids = Vec::new();
    for n in 0..60 {
        ids.push(writers[n % 2].append(&message(n as u64), time(0)).unwrap());
    }
    assert!(ids.is_sorted());
    assert_eq!(all(&log).len(), 60);
    assert_eq!(all(&log)[17], message(17));
}

#[test]
fn threads_that_append_at_once_share_syncs_and_all_are_durable() {
    let scratch = Scratch::new();
    let log = Log::create(scratch.path()).unwrap();
    let writer = log.writer().unwrap();
    std::thread::scope(|scope| {
        for thread in 0..8u64 {
            let writer = &writer;
            scope.spawn(move || {
                for n in 0..50 {
                    let id = writer.append(&message(thread * 50 + n), time(n)).unwrap();
                    assert!(writer.durable_id() >= id);
                }
            });
        }
    });
    assert_eq!(all(&log).len(), 400);
    assert!(log.counts().syncs < 400, "{:?}", log.counts());
}

#[test]
fn a_subscriber_keeps_what_it_has_not_read_and_nothing_else_stays() {
    let scratch = Scratch::new();
    let log = Log::create_with(scratch.path(), &CreateOptions::new().segment_size(1000)).unwrap();
    let subscriber = Subscriber::new("s").unwrap();
    log.add_subscriber(&subscriber, Start::Begin).unwrap();
    let writer = log.writer().unwrap();
    for n in 0..50 {
        writer.append(&message(n), time(n)).unwrap();
    }
    let mut reader = log.reader(&subscriber).unwrap();
    for n in 0..50 {
        assert_eq!(reader.next_record().unwrap().unwrap().payload, message(n));
        reader.commit().unwrap();
    }
    assert_eq!(reader.next_record().unwrap(), None);
    assert_eq!(log.segments().unwrap().len(), 1);
    // One that was removed is used again.
    for n in 50..100 {
        writer.append(&message(n), time(n)).unwrap();
    }
    for n in 50..100 {
        assert_eq!(reader.next_record().unwrap().unwrap().payload, message(n));
    }
    writer.close().unwrap();
    let seen = inspect::inspect(&log).unwrap();
    assert_eq!(seen.problems().collect::<Vec<_>>(), Vec::<&inspect::Finding>::new());
}

#[test]
fn a_flipped_bit_in_a_message_costs_that_message_alone() {
    let scratch = Scratch::new();
    let log = Log::create(scratch.path()).unwrap();
    let writer = log.writer().unwrap();
    for n in 0..10 {
        writer.append(&message(n), time(n)).unwrap();
    }
    writer.close().unwrap();
    let path = scratch.path().join("00000000");
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(9).position(|part| part == b"message 4").unwrap();
    bytes[at + 3] ^= 4;
    std::fs::write(&path, bytes).unwrap();

    let log = Log::open(scratch.path()).unwrap();
    let mut cursor = log.cursor().unwrap();
    cursor.on_damage(OnDamage::Stop);
    for n in 0..4 {
        assert_eq!(cursor.next_record().unwrap().unwrap().payload, message(n));
    }
    let error = cursor.next_record().unwrap_err();
    let gap = error.gap_met().unwrap();
    assert_eq!((gap.lost, gap.after), (Some(1), Some(RecordId::new(0, 4))));
    cursor.skip_gap();
    for n in 5..10 {
        let record = cursor.next_record().unwrap().unwrap();
        assert_eq!((record.payload, record.id), (&message(n)[..], RecordId::new(0, n as u32 + 1)));
    }
}
