//! Appending: to every kind of log that libjlog writes, in its own layout, behind whatever a crash has left.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use jlog::inspect::{buffered, inspect};
use jlog::{
    Compression, CreateOptions, ErrorKind, GapKind, Log, MAX_MESSAGE, Order, RecordId, Recovery, Safety,
    SegmentId, WriterOptions,
};
use jlog_tests::{
    Case, MAGIC, Scratch, at, case, cases, compressed_record, get, in_order, on_sim, open_sim, plain_record,
    put, read_all, sim_files,
};

const NEW: [&[u8]; 4] = [b"one", b"", b"a third message", &[0x18, 0x73, 0x3a, 0x66, 0, 1, 2, 3]];

/// The bytes that a record must have in a log like this one.
fn hand_built(log: &Log, n: u32, message: &[u8]) -> Vec<u8> {
    let (order, magic) = (log.order(), log.metastore().unwrap().magic);
    match log.compression() {
        Compression::None => plain_record(order, magic, at(n), message),
        Compression::Null => compressed_record(order, magic, at(n), message.len(), message),
        Compression::Lz4 => {
            // One sequence of literals, which is what LZ4 makes of less than 13 bytes: their number, then they.
            let mut block = vec![(message.len().min(15) as u8) << 4];
            if message.len() >= 15 {
                block.push((message.len() - 15) as u8);
            }
            block.extend_from_slice(message);
            compressed_record(order, magic, at(n), message.len(), &block)
        }
    }
}

/// The segments of a log, one behind the other.
fn segments(scratch: &Scratch) -> Vec<(String, Vec<u8>)> {
    let segments = scratch.open().segments().unwrap();
    segments.iter().map(|id| (id.to_string(), scratch.read(&id.to_string()))).collect()
}

fn sound() -> impl Iterator<Item = &'static Case> {
    cases().iter().filter(|case| case.is_sound())
}

#[test]
fn what_is_appended_to_a_log_of_libjlog_has_libjlogs_layout_and_changes_nothing_before_it() {
    for case in sound() {
        let scratch = case.copy();
        let before = segments(&scratch);
        let log = scratch.open();
        let writer = log.writer().unwrap();
        for (n, message) in (1..).zip(NEW) {
            writer.append(message, at(n)).unwrap();
        }
        writer.close().unwrap();

        let mut expected: Vec<u8> = before.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
        if let Some(pre_commit) = &case.pre_commit {
            expected.extend_from_slice(
                &fs::read(case.dir().join("pre_commit")).unwrap()[4..][..pre_commit.pointer as usize],
            );
        }
        for (n, message) in (1..).zip(NEW) {
            expected.extend(hand_built(&log, n, message));
        }
        let after = segments(&scratch);
        let bytes: Vec<u8> = after.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
        assert!(bytes == expected, "{}: the segments hold other bytes", case.name);
        for ((name, old), (same, new)) in before.iter().zip(&after) {
            assert!(name == same && new.starts_with(old), "{}: segment {name} has changed", case.name);
        }
    }
}

#[test]
fn old_and_new_records_are_read_back_in_order() {
    for case in sound() {
        let scratch = case.copy();
        let buffered = buffered(&scratch.open()).unwrap();
        let writer = scratch.open().writer().unwrap();
        let ids: Vec<_> = (1..).zip(NEW).map(|(n, message)| writer.append(message, at(n)).unwrap()).collect();
        let mut nothing_but = Recovery::default();
        nothing_but.flushed = buffered.len() as u32;
        assert_eq!(writer.recovery(), nothing_but, "{}", case.name);
        writer.close().unwrap();

        let seen = read_all(&scratch.open());
        assert_eq!(seen.gaps, [], "{}", case.name);
        let old = case.records_written.len();
        for (written, record) in case.records_written.iter().zip(&seen.records) {
            assert!(written.is(record.time, &record.payload), "{}", case.name);
        }
        let flushed: Vec<_> = seen.records[old..].iter().map(|r| (r.time, r.payload.clone())).collect();
        let mut expected: Vec<_> = buffered.into_iter().map(|b| (b.time, b.payload)).collect();
        expected.extend((1..).zip(NEW).map(|(n, message)| (at(n), message.to_vec())));
        assert_eq!(flushed, expected, "{}", case.name);
        let last: Vec<_> = seen.records[seen.records.len() - NEW.len()..].iter().map(|r| r.id).collect();
        assert_eq!(last, ids, "{}: the ids that appending returned", case.name);
    }
}

#[test]
fn the_metastore_keeps_its_length_its_order_and_all_but_the_active_segment() {
    for case in sound() {
        let scratch = case.copy();
        let before = scratch.read("metastore");
        let log = scratch.open();
        let writer = log.writer().unwrap();
        for n in 0..40 {
            writer.append(&[b'x'; 200], at(n)).unwrap();
        }
        let active = log.active_segment().unwrap();
        writer.close().unwrap();
        let after = scratch.read("metastore");
        assert_eq!(after[..4], in_order(case.order(), &[active.0]), "{}", case.name);
        assert_eq!(after[4..], before[4..], "{}", case.name);
        assert_eq!(scratch.open().order(), case.order(), "{}", case.name);
    }
}

#[test]
fn a_log_stays_sound_while_it_is_written() {
    for case in sound() {
        let scratch = case.copy();
        let writer = scratch.open().writer().unwrap();
        for n in 0..100 {
            writer.append(&vec![b'x'; n as usize * 7], at(n)).unwrap();
        }
        writer.close().unwrap();
        let seen = inspect(&scratch.open()).unwrap();
        assert_eq!(
            seen.problems().collect::<Vec<_>>(),
            Vec::<&jlog::inspect::Finding>::new(),
            "{}",
            case.name
        );
        let buffered = case.pre_commit.as_ref().map_or(0, |pre_commit| pre_commit.records.len());
        assert_eq!(seen.messages, (case.records_written.len() + buffered + 100) as u64);
    }
}

fn new_log(options: &CreateOptions) -> (Scratch, Log) {
    let scratch = Scratch::new();
    let log = Log::create_with(scratch.path(), options).unwrap();
    (scratch, log)
}

#[test]
fn a_new_log_is_what_libjlog_would_make() {
    for order in Order::both() {
        let options = CreateOptions::classic().order(order).segment_size(1000).safety(Safety::Safe);
        let (scratch, log) = new_log(&options);
        assert_eq!(scratch.files().keys().collect::<Vec<_>>(), [&PathBuf::from("metastore")]);
        assert_eq!(scratch.read("metastore"), in_order(order, &[0, 1000, 2, MAGIC]));
        assert_eq!(log.order(), order);
        log.writer().unwrap().append(b"hello", at(1)).unwrap();
        assert_eq!(scratch.read("00000000"), plain_record(order, MAGIC, at(1), b"hello"));
    }
}

#[test]
fn a_log_that_libjlog_made_empty_is_written_like_a_new_one() {
    for name in ["empty", "empty-opened", "empty-nosub"] {
        let scratch = case(name).copy();
        let id = scratch.open().writer().unwrap().append(b"first", at(1)).unwrap();
        assert_eq!(id, RecordId::new(0, 1));
        assert_eq!(scratch.read("00000000"), plain_record(Order::Little, MAGIC, at(1), b"first"));
    }
}

#[test]
fn files_are_made_with_the_permissions_asked_for() {
    let (scratch, log) = new_log(&CreateOptions::classic().mode(0o600));
    log.writer_with(&WriterOptions::new().buffer(100)).unwrap().append(b"x", at(1)).unwrap();
    log.add_subscriber(&jlog::Subscriber::new("s").unwrap(), jlog::Start::Begin).unwrap();
    let mode = |name: &str| fs::metadata(scratch.file(name)).unwrap().permissions().mode() & 0o7777;
    for name in ["metastore", "00000000", "pre_commit", "cp.73"] {
        assert_eq!(mode(name), 0o600, "{name}");
    }
    assert_eq!(mode(""), 0o700);
}

#[test]
fn compressed_logs_hold_compressed_records() {
    for (compression, magic) in [(Compression::Null, 0x1510_6a00), (Compression::Lz4, 0x1510_6a01)] {
        for order in Order::both() {
            let (scratch, log) = new_log(&CreateOptions::classic().compression(compression).order(order));
            assert_eq!(scratch.read("metastore")[12..], in_order(order, &[magic]));
            let writer = log.writer().unwrap();
            let long = vec![b'z'; 40_000];
            for (n, message) in [&b"abc"[..], b"", &long].into_iter().enumerate() {
                writer.append(message, at(n as u32)).unwrap();
            }
            writer.close().unwrap();

            let bytes = scratch.read("00000000");
            let mut expected = hand_built(&log, 0, b"abc");
            expected.extend(hand_built(&log, 1, b""));
            assert_eq!(bytes[..expected.len()], expected);
            if compression == Compression::Lz4 {
                assert!(bytes.len() < 1000, "40,000 times the same byte take {} bytes", bytes.len());
            }
            assert_eq!(read_all(&log).payloads(), [b"abc", &b""[..], &long]);
        }
    }
}

#[test]
fn the_record_that_reaches_the_limit_finishes_its_segment() {
    // Records of 16 + 84 bytes: the tenth ends exactly at 1000.
    let (scratch, log) = new_log(&CreateOptions::classic().segment_size(1000));
    let writer = log.writer().unwrap();
    for n in 1..=9 {
        assert_eq!(writer.append(&[b'x'; 84], at(n)).unwrap(), RecordId::new(0, n));
    }
    assert_eq!((log.active_segment().unwrap(), scratch.has("00000001")), (SegmentId(0), false));
    assert_eq!(writer.append(&[b'x'; 84], at(10)).unwrap(), RecordId::new(0, 10));
    assert_eq!((scratch.read("00000000").len(), log.active_segment().unwrap()), (1000, SegmentId(1)));
    assert_eq!(scratch.read("00000001"), b"", "the next segment is made in the same step");
    assert_eq!(writer.append(b"next", at(11)).unwrap(), RecordId::new(1, 1));
}

#[test]
fn one_byte_below_the_limit_a_segment_goes_on() {
    let (scratch, log) = new_log(&CreateOptions::classic().segment_size(1000));
    let writer = log.writer().unwrap();
    writer.append(&[b'x'; 983], at(1)).unwrap();
    assert_eq!((scratch.read("00000000").len(), log.active_segment().unwrap()), (999, SegmentId(0)));
    assert_eq!(writer.append(b"", at(2)).unwrap(), RecordId::new(0, 2));
    assert_eq!(writer.append(b"", at(3)).unwrap(), RecordId::new(1, 1));
}

#[test]
fn a_record_larger_than_a_segment_is_kept_whole_and_finishes_it() {
    let (_scratch, log) = new_log(&CreateOptions::classic().segment_size(500));
    let large = vec![7; 100_000];
    let messages: [&[u8]; 4] = [b"before", &large, b"after", &large];
    let writer = log.writer().unwrap();
    let ids: Vec<_> = messages.iter().map(|message| writer.append(message, at(1)).unwrap()).collect();
    assert_eq!(ids, [RecordId::new(0, 1), RecordId::new(0, 2), RecordId::new(1, 1), RecordId::new(1, 2)]);
    assert_eq!(read_all(&log).payloads(), messages);
}

#[test]
fn a_batch_is_the_same_as_its_records_one_by_one() {
    let messages: Vec<Vec<u8>> = (0..300).map(|n| vec![n as u8; n * 3 % 200]).collect();
    for compression in [Compression::None, Compression::Null, Compression::Lz4] {
        let options = CreateOptions::classic().segment_size(1000).compression(compression);
        let (one, log) = new_log(&options);
        let writer = log.writer().unwrap();
        let mut last = None;
        for (n, message) in messages.iter().enumerate() {
            last = Some(writer.append(message, at(n as u32)).unwrap());
        }
        writer.close().unwrap();

        let (batch, log) = new_log(&options);
        let writer = log.writer().unwrap();
        let records = messages.iter().enumerate().map(|(n, message)| (&message[..], at(n as u32)));
        assert_eq!(writer.append_batch(records).unwrap(), last);
        assert_eq!(writer.append_batch([]).unwrap(), None);
        writer.close().unwrap();
        assert!(one.files() == batch.files(), "{compression}");
    }
}

#[test]
fn a_message_above_the_limit_is_refused_and_nothing_of_it_stays() {
    let (scratch, log) = new_log(&CreateOptions::classic());
    let writer = log.writer().unwrap();
    // Never touched, and so never really there.
    let message = vec![0; MAX_MESSAGE + 1];
    assert_eq!(writer.append(&message, at(1)).unwrap_err().kind(), ErrorKind::TooLarge);
    assert_eq!(scratch.read("00000000"), b"");
    assert_eq!(writer.append(b"small", at(2)).unwrap(), RecordId::new(0, 1));
}

#[test]
fn after_the_last_segment_there_is_none() {
    let (scratch, log) = new_log(&CreateOptions::classic().segment_size(100));
    scratch.write("metastore", &in_order(log.order(), &[u32::MAX, 100, 1, MAGIC]));
    let writer = scratch.open().writer().unwrap();
    assert_eq!(writer.append(&[b'x'; 200], at(1)).unwrap(), RecordId::new(u32::MAX, 1));
    assert_eq!(writer.append(b"no more", at(2)).unwrap_err().kind(), ErrorKind::TooLarge);
    drop(writer);
    assert_eq!(scratch.read("metastore"), in_order(log.order(), &[u32::MAX, 100, 1, MAGIC]));
    assert!(!scratch.has("00000000"), "the numbers do not begin again");
    assert_eq!(read_all(&scratch.open()).payloads(), [&[b'x'; 200]]);
}

#[test]
fn a_running_writer_follows_a_new_segment_size() {
    let (_scratch, log) = new_log(&CreateOptions::classic());
    let writer = log.writer().unwrap();
    writer.append(&[0; 500], at(1)).unwrap();
    log.set_segment_size(300).unwrap();
    assert_eq!(writer.append(b"", at(2)).unwrap(), RecordId::new(1, 1));
    assert_eq!(log.set_segment_size(0).unwrap_err().kind(), ErrorKind::Invalid);
    log.set_safety(Safety::Safe).unwrap();
    let meta = log.metastore().unwrap();
    assert_eq!((meta.unit_limit, meta.safety), (300, Safety::Safe));
}

#[test]
fn a_second_exclusive_writer_is_told_that_there_is_one() {
    let (_scratch, log) = new_log(&CreateOptions::classic().segment_size(100));
    let options = WriterOptions::new().exclusive(true);
    let writer = log.writer_with(&options).unwrap();
    for n in 0..5 {
        writer.append(&[0; 60], at(n)).unwrap();
        assert_eq!(log.writer_with(&options).unwrap_err().kind(), ErrorKind::Busy, "after {n} records");
    }
    drop(writer);
    assert_eq!(log.writer_with(&options).unwrap().append(b"", at(5)).unwrap(), RecordId::new(2, 2));
}

// The pre_commit buffer.

#[test]
fn what_a_dead_writer_left_in_the_buffer_comes_before_what_is_appended() {
    for case in cases().iter().filter(|case| case.is_sound() && case.pre_commit.is_some()) {
        for options in
            [WriterOptions::new(), WriterOptions::new().buffer(5000), WriterOptions::new().buffer(1000)]
        {
            let scratch = case.copy();
            let log = scratch.open();
            let left = buffered(&log).unwrap();
            let writer = log.writer_with(&options).unwrap();
            assert_eq!(writer.recovery().flushed, left.len() as u32, "{}", case.name);
            writer.append(b"new", at(1)).unwrap();
            writer.close().unwrap();

            let seen = read_all(&log);
            let messages: Vec<_> = seen.payloads()[case.records_written.len()..].to_vec();
            let mut expected: Vec<_> = left.iter().map(|buffered| &buffered.payload[..]).collect();
            expected.push(b"new");
            assert_eq!(messages, expected, "{}", case.name);
            assert_eq!(
                scratch.read("pre_commit")[..4],
                [0; 4],
                "{}: nothing is left in the buffer",
                case.name
            );
        }
    }
}

#[test]
fn a_cut_record_in_the_buffer_is_kept_aside_and_the_whole_ones_are_flushed() {
    for (name, whole, from, bytes) in [("precommit-torn", 2, 236, 16), ("precommit-beyond", 3, 352, 0)] {
        let scratch = case(name).copy();
        let buffer = scratch.read("pre_commit");
        let writer = scratch.open().writer().unwrap();
        let recovery = writer.recovery();
        assert_eq!(recovery.flushed, whole, "{name}");
        writer.append(b"new", at(1)).unwrap();
        writer.close().unwrap();

        let seen = read_all(&scratch.open());
        assert_eq!(seen.records.len(), whole as usize + 1, "{name}");
        for (written, record) in
            case(name).pre_commit.as_ref().unwrap().records.iter().zip(&seen.records).take(whole as usize)
        {
            assert!(written.is(record.time, &record.payload), "{name}");
        }
        // Zeros are cut, and not worth keeping.
        assert_eq!(scratch.file(&format!(".repair/torn/pre_commit-{from}")).exists(), bytes > 0, "{name}");
        if bytes > 0 {
            assert_eq!(scratch.read(&format!(".repair/torn/pre_commit-{from}")), buffer[from..from + bytes]);
            assert_eq!(recovery.pre_commit_torn, Some(bytes as u64));
        }
    }
}

#[test]
fn buffered_records_are_seen_after_a_flush_and_not_before() {
    let (scratch, log) = new_log(&CreateOptions::classic());
    let writer = log.writer_with(&WriterOptions::new().buffer(1000)).unwrap();
    let id = writer.append(b"gathered", at(1)).unwrap();
    assert_eq!(read_all(&log).records, []);
    let waiting = buffered(&log).unwrap();
    assert_eq!(
        waiting.iter().map(|b| (b.time, &b.payload[..])).collect::<Vec<_>>(),
        [(at(1), &b"gathered"[..])]
    );
    let record = plain_record(log.order(), MAGIC, at(1), b"gathered");
    let used = record.len() as u32;
    assert_eq!(
        scratch.read("pre_commit")[..4 + record.len()],
        [in_order(log.order(), &[used]), record].concat()
    );

    writer.flush().unwrap();
    let seen = read_all(&log).records;
    assert_eq!((seen[0].id, &seen[0].payload[..]), (id, &b"gathered"[..]));
    assert_eq!(buffered(&log).unwrap(), []);
}

#[test]
fn dropping_a_buffered_writer_flushes() {
    let (_scratch, log) = new_log(&CreateOptions::classic());
    log.writer_with(&WriterOptions::new().buffer(1000)).unwrap().append(b"gathered", at(1)).unwrap();
    assert_eq!(read_all(&log).payloads(), [b"gathered"]);
}

#[test]
fn a_record_larger_than_the_buffer_does_not_overwrite_what_is_in_it() {
    // libjlog writes it at the offset from before the flush, over the records just flushed.
    for order in Order::both() {
        let (_scratch, log) = new_log(&CreateOptions::classic().order(order));
        let writer = log.writer_with(&WriterOptions::new().buffer(200)).unwrap();
        let large = vec![b'L'; 1000];
        let messages: Vec<&[u8]> =
            vec![b"1", b"2", &large, b"3", &large, &large, b"4", &[b'f'; 184], b"5", &[b'g'; 185]];
        let ids: Vec<_> =
            (0..).zip(&messages).map(|(n, message)| writer.append(message, at(n)).unwrap()).collect();
        writer.close().unwrap();
        let seen = read_all(&log);
        assert_eq!(seen.payloads(), messages);
        assert_eq!(seen.records.iter().map(|record| record.id).collect::<Vec<_>>(), ids);
    }
}

#[test]
fn a_buffer_may_grow_a_segment_beyond_its_limit_and_loses_nothing() {
    let (_scratch, log) = new_log(&CreateOptions::classic().segment_size(1000));
    let writer = log.writer_with(&WriterOptions::new().buffer(500)).unwrap();
    let ids: Vec<_> = (0..40).map(|n| writer.append(&[n as u8; 100], at(n)).unwrap()).collect();
    writer.close().unwrap();
    let seen = read_all(&log);
    assert_eq!(seen.records.iter().map(|record| record.id).collect::<Vec<_>>(), ids);
    assert!((0..40).zip(seen.payloads()).all(|(n, payload)| payload == [n as u8; 100]));
}

// What a crash has left.

#[test]
fn a_torn_end_is_cut_and_its_exact_bytes_are_kept() {
    for name in ["torn-header-current", "torn-payload-current", "be-torn-current", "junk-end-current"] {
        let scratch = case(name).copy();
        let before = scratch.read("00000003");
        let end = if name == "junk-end-current" { 348 } else { 232 };
        let writer = scratch.open().writer().unwrap();
        let last = RecordId::new(3, end as u32 / 116);
        assert_eq!(writer.recovery().torn, Some((last, (before.len() - end) as u64)), "{name}");
        assert_eq!(writer.append(b"new", at(1)).unwrap(), RecordId::new(3, last.marker.0 + 1));
        drop(writer);

        assert_eq!(scratch.read(&format!(".repair/torn/00000003-{end}")), before[end..], "{name}");
        let record = plain_record(case(name).order(), MAGIC, at(1), b"new");
        assert_eq!(scratch.read("00000003"), [&before[..end], &record].concat(), "{name}");
        assert!(inspect(&scratch.open()).unwrap().problems().next().is_none(), "{name}");
    }
}

#[test]
fn zeros_at_the_end_are_cut_and_not_kept() {
    let scratch = case("zero-tail-current").copy();
    let before = scratch.read("00000003");
    let writer = scratch.open().writer().unwrap();
    assert_eq!(writer.recovery().torn, Some((RecordId::new(3, 3), 4096)));
    writer.append(b"new", at(1)).unwrap();
    assert!(!scratch.has(".repair"));
    let record = plain_record(Order::Little, MAGIC, at(1), b"new");
    assert_eq!(scratch.read("00000003"), [&before[..348], &record].concat());
}

#[test]
fn behind_damage_in_the_active_segment_writing_goes_on_and_changes_nothing_before() {
    // Not in the next segment: a libjlog writer that has this one open would go on filling it, unseen.
    // As long as the others: in a log of equal records that is evidence for which length is wrong.
    let new = vec![b'n'; 100];
    for name in ["garbage-middle-current", "mlen-small-current", "torn-then-append"] {
        let scratch = case(name).copy();
        let before = scratch.read("00000003");
        let readable = read_all(&scratch.open()).records;
        let writer = scratch.open().writer().unwrap();
        assert_eq!(writer.recovery().damaged, Some(SegmentId(3)), "{name}");
        let id = writer.append(&new, at(1)).unwrap();
        drop(writer);

        let record = plain_record(Order::Little, MAGIC, at(1), &new);
        assert_eq!(scratch.read("00000003"), [before, record].concat(), "{name}");
        let after = read_all(&scratch.open()).records;
        for record in &readable {
            assert!(
                after.iter().any(|other| (other.id, &other.payload) == (record.id, &record.payload)),
                "{name}"
            );
        }
        let last = after.last().unwrap();
        assert_eq!((last.id, &last.payload), (id, &new), "{name}");
    }
}

#[test]
fn damage_in_sealed_segments_does_not_keep_a_writer_from_writing() {
    for case in cases().iter().filter(|case| case.kind == "damaged" && !case.name.ends_with("-current")) {
        let scratch = case.copy();
        let before = read_all(&scratch.open()).records;
        let left = buffered(&scratch.open()).unwrap().len();
        scratch.open().writer().unwrap().append(b"new", at(1)).unwrap();
        let after = read_all(&scratch.open()).records;
        assert_eq!(after[..before.len()], before, "{}", case.name);
        assert_eq!(after.len(), before.len() + left + 1, "{}", case.name);
        assert_eq!(after.last().unwrap().payload, b"new", "{}", case.name);
    }
}

#[test]
fn a_metastore_that_is_behind_is_moved_on_to_the_last_segment() {
    let scratch = case("meta-behind").copy();
    let before = scratch.read("metastore");
    let writer = scratch.open().writer().unwrap();
    assert_eq!(writer.recovery().metastore_behind, Some(SegmentId(1)));
    assert_eq!(writer.append(b"new", at(1)).unwrap(), RecordId::new(3, 4));
    assert_eq!(scratch.read("metastore"), [&in_order(Order::Little, &[3]), &before[4..]].concat());
    assert_eq!(read_all(&scratch.open()).records.len(), 31);
}

#[test]
fn a_metastore_that_is_ahead_costs_no_record() {
    let scratch = case("meta-ahead").copy();
    let id = scratch.open().writer().unwrap().append(b"new", at(1)).unwrap();
    let seen = read_all(&scratch.open());
    assert_eq!((seen.records.len(), seen.records[30].id), (31, id));
    assert!(seen.gaps.iter().all(|gap| gap.kind == GapKind::Missing), "{:?}", seen.gaps);
}

#[test]
fn behind_a_damaged_metastore_nothing_is_written_and_nothing_changed() {
    for name in ["meta12-newmagic", "meta-missing", "meta-trunc8", "meta-empty", "meta-long", "meta-badmagic"]
    {
        let scratch = case(name).copy();
        let before = jlog_tests::snapshot(&scratch.path());
        let log = scratch.open();
        for options in
            [WriterOptions::new(), WriterOptions::new().exclusive(true), WriterOptions::new().buffer(100)]
        {
            let error = log.writer_with(&options).unwrap_err();
            assert_eq!(
                (error.kind(), error.path()),
                (ErrorKind::Damaged, Some(&*scratch.file("metastore"))),
                "{name}"
            );
        }
        assert_eq!(log.set_segment_size(5000).unwrap_err().kind(), ErrorKind::Damaged);
        assert_eq!(log.clean().unwrap_err().kind(), ErrorKind::Damaged);
        assert!(jlog_tests::snapshot(&scratch.path()) == before, "{name}");
    }
}

#[test]
fn wherever_the_last_records_are_cut_the_whole_ones_stay_and_the_next_is_readable() {
    for name in ["few", "be-few", "lz4", "be-lz4", "null-compression", "old12", "old16-magic0"] {
        let case = case(name);
        let active = case.metastore.as_ref().unwrap().storage_log.unwrap();
        let segment = format!("{active:08x}");
        let whole = fs::read(case.dir().join(&segment)).unwrap();
        let records: Vec<_> = case.records_written.iter().filter(|r| r.id().segment.0 == active).collect();
        let earlier = case.records_written.len() - records.len();
        let end_of = |n: usize| (records[n].offset.unwrap() + records[n].disk_len.unwrap()) as usize;
        let first = records[records.len() - 3].offset.unwrap() as usize;

        let disk = on_sim(case, 1);
        // Of long records not every byte: the ones around the header, and some of the message.
        let near = |cut: usize| records.iter().any(|r| (cut as i64 - r.offset.unwrap() as i64).abs() < 40);
        for cut in
            (first..=whole.len()).filter(|cut| whole.len() - first < 1000 || near(*cut) || cut % 97 == 0)
        {
            put(&disk, &segment, &whole[..cut]);
            let log = open_sim(&disk);
            let kept = (0..records.len()).filter(|n| end_of(*n) <= cut).count();
            let id = log.writer().unwrap().append(b"new", at(cut as u32)).unwrap();
            assert_eq!(id, RecordId::new(active, kept as u32 + 1), "{name} cut at {cut}");

            let seen = read_all(&log);
            assert_eq!((seen.gaps.len(), seen.tail), (0, jlog::Tail::Clean), "{name} cut at {cut}");
            assert_eq!(seen.records.len(), earlier + kept + 1, "{name} cut at {cut}");
            for (written, record) in case.records_written.iter().zip(&seen.records).take(earlier + kept) {
                assert!(written.is(record.time, &record.payload), "{name} cut at {cut}");
            }
            let last = seen.records.last().unwrap();
            assert_eq!((&last.payload[..], last.time), (&b"new"[..], at(cut as u32)), "{name} cut at {cut}");

            let end = kept.checked_sub(1).map_or(0, end_of);
            let torn = &whole[end..cut];
            let kept_aside: Vec<_> =
                sim_files(&disk).into_iter().filter(|(path, _)| path.starts_with(".repair/torn/")).collect();
            let worth_keeping = torn.iter().any(|b| *b != 0);
            assert_eq!(kept_aside.len(), usize::from(worth_keeping), "{name} cut at {cut}");
            for (path, bytes) in kept_aside {
                assert_eq!((&path[..], &bytes[..]), (&*format!(".repair/torn/{segment}-{end}"), torn));
                jlog::io::Disk::remove(&disk, &std::path::Path::new(jlog_tests::SIM_LOG).join(path)).unwrap();
            }
            assert!(get(&disk, &segment).unwrap().starts_with(&whole[..end]));
            if log.active_segment().unwrap().0 > active {
                panic!("{name} cut at {cut}: there was room for one more record");
            }
        }
    }
}

// What cannot be opened or made.

#[test]
fn what_is_no_log_is_refused_and_named() {
    let scratch = Scratch::new();
    let kind = |path: PathBuf| Log::open(path).unwrap_err().kind();
    assert_eq!(kind(scratch.path()), ErrorKind::NotFound);
    fs::write(scratch.path(), b"a file").unwrap();
    let error = Log::open(scratch.path()).unwrap_err();
    assert_eq!((error.kind(), error.path()), (ErrorKind::NotALog, Some(&*scratch.path())));
    assert_eq!(kind(scratch.file("below")), ErrorKind::NotALog);
    fs::remove_file(scratch.path()).unwrap();
    fs::create_dir(scratch.path()).unwrap();
    assert_eq!(kind(scratch.path()), ErrorKind::NotALog);
    scratch.write("README", b"hello");
    assert_eq!(kind(scratch.path()), ErrorKind::NotALog);
}

#[test]
fn a_log_is_made_where_nothing_is_and_nowhere_else() {
    let scratch = Scratch::new();
    let kind = |path: PathBuf| Log::create(path).unwrap_err().kind();
    assert_eq!(kind(scratch.path().join("below")), ErrorKind::NotFound);
    fs::write(scratch.path(), b"a file").unwrap();
    assert_eq!(kind(scratch.path()), ErrorKind::AlreadyExists);
    fs::remove_file(scratch.path()).unwrap();
    let nothing = CreateOptions::classic().segment_size(0);
    assert_eq!(Log::create_with(scratch.path(), &nothing).unwrap_err().kind(), ErrorKind::Invalid);
    assert!(!scratch.path().exists());
    Log::create(scratch.path()).unwrap();
    assert_eq!(kind(scratch.path()), ErrorKind::AlreadyExists);
}
