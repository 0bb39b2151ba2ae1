//! libjlog 2.6.0, and its tools.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use jlog::inspect::{buffered, inspect};
use jlog::io::sim::{Op, SimDisk};
use jlog::repair::{self, Options};
use jlog::{
    Compression, CreateOptions, ErrorKind, GapKind, Log, OnDamage, RecordId, SegmentId, Start, Subscriber,
    WriterOptions,
};
use jlog_tests::{
    MAGIC, SIM_LOG, Scratch, at, case, in_order, open_sim, plain_record, read_all, read_unread, snapshot,
};

fn s() -> Subscriber {
    Subscriber::new("s").unwrap()
}

fn classic(segment_size: u32) -> (Scratch, Log) {
    let scratch = Scratch::new();
    let log = Log::create_with(scratch.path(), &CreateOptions::classic().segment_size(segment_size)).unwrap();
    log.add_subscriber(&s(), Start::Begin).unwrap();
    (scratch, log)
}

fn fill(log: &Log, range: std::ops::Range<u32>) {
    let writer = log.writer().unwrap();
    for n in range {
        writer.append(format!("{n:0100}").as_bytes(), at(n)).unwrap();
    }
    writer.close().unwrap();
}

/// Two writers on one pre_commit buffer: 16,035 messages of 16,000, duplicates among them and others lost, and every
/// write returned 0 (E11, E70).
#[test]
fn two_writers_never_share_a_buffer() {
    let (_scratch, log) = classic(1 << 20);
    let first = log.writer_with(&WriterOptions::new().buffer(4096)).unwrap();
    first.append(b"one", at(1)).unwrap();
    for other in [
        WriterOptions::new().buffer(4096),
        WriterOptions::new().buffer(100),
        WriterOptions::new().exclusive(true),
    ] {
        assert_eq!(log.writer_with(&other).unwrap_err().kind(), ErrorKind::Busy);
    }
    first.append(b"two", at(2)).unwrap();
    first.close().unwrap();
    let second = log.writer_with(&WriterOptions::new().buffer(4096)).unwrap();
    second.append(b"three", at(3)).unwrap();
    second.close().unwrap();
    assert_eq!(read_all(&log).payloads(), [&b"one"[..], b"two", b"three"]);
}

/// A log of the other byte order: opening a reader wrote magic and safety level over the metastore, and reading deleted
/// every segment, for ever looking for the next one (E5).
#[test]
fn a_log_of_the_other_byte_order_is_read_and_not_destroyed() {
    let scratch = case("be-segments").copy();
    let (metastore, all) = (scratch.read("metastore"), case("be-segments").intact());
    let log = scratch.open();
    let mut reader = log.reader(&Subscriber::new("t2").unwrap()).unwrap();
    assert_eq!(read_unread(&mut reader).len(), all.len());
    assert_eq!(scratch.read("metastore"), metastore);
    // Another subscriber is still in segment 1: with it everything from there on stays.
    reader.commit().unwrap();
    assert_eq!(log.segments().unwrap(), [1, 2, 3].map(SegmentId));
    assert_eq!(scratch.read("metastore"), metastore);
}

/// Logs of 1.x, and those that 2.0 to 2.5.2 went on with: magic 0. 2.6.0 takes every record of them for corrupt, empties
/// and deletes the finished segments, and cannot read the last one (E6, E6b).
#[test]
fn logs_of_the_old_generation_are_read_whole_and_stay_what_they_are() {
    for name in ["old12", "old16-magic0"] {
        let scratch = case(name).copy();
        let before = snapshot(&scratch.path());
        let log = scratch.open();
        let records = read_unread(&mut log.reader(&s()).unwrap());
        let written = &case(name).records_written;
        assert_eq!(records.len(), written.len(), "{name}");
        assert!(records.iter().zip(written).all(|(seen, written)| written.is(seen.time, &seen.payload)));
        assert_eq!(snapshot(&scratch.path()), before, "{name}");
    }
}

/// Reading a message through a writer's context pointed its later writes at the segment that was read: two messages went
/// into a finished segment and were never seen (E4).
#[test]
fn reading_an_old_segment_moves_no_writer() {
    let (_scratch, log) = classic(300);
    fill(&log, 0..7);
    let writer = log.writer().unwrap();
    log.set_segment_size(4096).unwrap();
    let mut reader = log.reader(&s()).unwrap();
    reader.read(RecordId::new(0, 1)).unwrap();
    let id = writer.append(b"late", at(9)).unwrap();
    assert_eq!(id.segment, log.active_segment().unwrap());
    assert_eq!(read_all(&log).payloads().last().unwrap(), b"late");
}

/// A writer that still had a finished segment open wrote into it when another process had raised the segment size: the
/// message stood behind the end of what readers read (E69).
#[test]
fn a_writer_with_an_old_segment_open_goes_on_in_the_active_one() {
    let (_scratch, log) = classic(300);
    let old = log.writer().unwrap();
    old.append(&[b'a'; 100], at(1)).unwrap();
    fill(&log, 2..6);
    let mut reader = log.reader(&s()).unwrap();
    read_unread(&mut reader);
    log.set_segment_size(1 << 20).unwrap();
    old.append(b"late", at(9)).unwrap();
    assert_eq!(read_unread(&mut reader)[0].payload, b"late");
    assert_eq!(read_all(&log).records.len(), 6);
}

/// A repair of a sound log with no subscribers deleted every segment, the active one too; with none or two it called the
/// sound checkpoints damaged (E9).
#[test]
fn a_repair_of_a_sound_log_changes_nothing_whoever_subscribes() {
    for subscribers in 0..3 {
        let scratch = Scratch::new();
        let log = Log::create_with(scratch.path(), &CreateOptions::classic().segment_size(300)).unwrap();
        for n in 0..subscribers {
            log.add_subscriber(&Subscriber::new(format!("{n}")).unwrap(), Start::Begin).unwrap();
        }
        fill(&log, 0..7);
        let plan = repair::plan(&log, &inspect(&log).unwrap(), &Options::default()).unwrap();
        assert!(plan.is_empty(), "{subscribers} subscribers: {:?}", plan.steps);
        assert_eq!(read_all(&log).records.len(), 7);
    }
}

/// A compressed log whose metastore was lost, or that was not opened before: the repair looked for the plain magic, found
/// no record, and emptied every segment (E9c, E9d).
#[test]
fn a_compressed_log_without_its_metastore_is_mended_and_loses_nothing() {
    let scratch = case("lz4").copy();
    fs::remove_file(scratch.file("metastore")).unwrap();
    let log = scratch.open();
    let plan = repair::plan(&log, &inspect(&log).unwrap(), &Options::default()).unwrap();
    repair::apply(&log, &plan, "now").unwrap();
    let log = scratch.open();
    assert_eq!(log.compression(), Compression::Lz4);
    assert!(log.metastore_problem().is_none());
    assert_eq!(read_all(&log).records.len(), case("lz4").records_written.len());
    assert_eq!(log.checkpoint(&s()).unwrap(), RecordId::new(0, 0));
}

/// A checkpoint below the oldest segment was moved to the end of the oldest one: nine unread messages were skipped (E9e).
#[test]
fn a_checkpoint_below_the_oldest_segment_skips_nothing_in_a_repair() {
    let scratch = case("missing-first").copy();
    let unread = |log: &Log| read_unread(&mut log.reader(&s()).unwrap()).len();
    let before = unread(&scratch.open());
    let log = scratch.open();
    let plan = repair::plan(&log, &inspect(&log).unwrap(), &Options::default()).unwrap();
    let _ = repair::apply(&log, &plan, "now").unwrap();
    assert_eq!((before, unread(&scratch.open())), (12, 12));
}

/// A checkpoint of another length than 8 was written anew from memory that nobody had set (E9f): whatever stood there.
#[test]
fn a_checkpoint_of_another_length_is_mended_to_a_place_that_was_there() {
    for bytes in [&b""[..], b"\x01", &[1; 7]] {
        let scratch = case("segments-closed").copy();
        scratch.write("cp.73", bytes);
        let log = scratch.open();
        let plan = repair::plan(&log, &inspect(&log).unwrap(), &Options::default()).unwrap();
        repair::apply(&log, &plan, "now").unwrap();
        assert_eq!(scratch.open().checkpoint(&s()).unwrap(), RecordId::new(0, 0), "{bytes:?}");
    }
}

/// The result of decompressing was not looked at: a damaged LZ4 message was delivered with whatever the buffer held (E15).
#[test]
fn a_message_that_does_not_decompress_is_a_gap_and_not_a_message() {
    let seen = read_all(&case("lz4-payload-bad").copy().open());
    assert_eq!((seen.records.len(), seen.gaps.len()), (28, 2));
    assert!(seen.gaps.iter().all(|gap| gap.kind == GapKind::Undecodable && gap.lost == Some(1)));
}

/// `read_message` looked at no magic: an index entry that led into a message of zeros gave an empty message of the year
/// 1970, and success (E57).
#[test]
fn an_index_entry_into_a_message_invents_no_message() {
    let (scratch, log) = classic(1 << 20);
    let writer = log.writer().unwrap();
    for n in 0..3 {
        writer.append(&[0; 200], at(n)).unwrap();
    }
    writer.close().unwrap();
    let entry = |at: u64| match log.order() {
        jlog::Order::Little => at.to_le_bytes(),
        jlog::Order::Big => at.to_be_bytes(),
    };
    scratch.write("00000000.idx", &[entry(0), entry(216 + 40), entry(432)].concat());
    let mut reader = log.reader(&s()).unwrap();
    for n in 0..3 {
        let record = reader.read(RecordId::new(0, n + 1)).unwrap();
        assert_eq!((record.time, record.payload), (at(n), &[0; 200][..]));
    }
}

/// The pointer of the pre_commit buffer was believed: 65 KiB of the next writer's memory were written into the log (E10c).
#[test]
fn a_pointer_beyond_the_buffer_writes_nothing_that_is_not_in_it() {
    let scratch = case("precommit-beyond").copy();
    let log = scratch.open();
    let whole = buffered(&log).unwrap().len();
    assert!(whole > 0);
    let writer = log.writer().unwrap();
    assert_eq!(writer.recovery().flushed as usize, whole);
    writer.close().unwrap();
    let seen = read_all(&log);
    assert_eq!((seen.records.len(), seen.gaps.len()), (whole, 0));
    assert!(scratch.read("00000000").len() < 1004);
}

/// Pre_commit files of one, two, three bytes were used beyond their end (E10d).
#[test]
fn a_buffer_too_short_for_its_pointer_is_none() {
    for len in 0..6 {
        let (scratch, log) = classic(1 << 20);
        scratch.write("pre_commit", &vec![0; len]);
        let writer = log.writer().unwrap();
        writer.append(b"one", at(1)).unwrap();
        writer.close().unwrap();
        assert_eq!(read_all(&log).payloads(), [b"one"], "{len} bytes");
    }
}

/// A segment size of 0 under an open writer (`jlogctl alter -s abc` sets it) made one segment after the other, for ever (E8).
#[test]
fn a_segment_size_of_zero_makes_no_segments_for_ever() {
    let (scratch, log) = classic(1 << 20);
    let writer = log.writer().unwrap();
    writer.append(b"one", at(1)).unwrap();
    assert_eq!(log.set_segment_size(0).unwrap_err().kind(), ErrorKind::Invalid);
    // Another process does it.
    scratch.write("metastore", &in_order(log.order(), &[0, 0, 1, MAGIC]));
    for n in 0..5 {
        let _ = writer.append(b"more", at(n));
    }
    drop(writer);
    let segments = log.segments().unwrap();
    assert!(segments.len() <= 8, "{segments:?}");
    scratch.write("metastore", &in_order(log.order(), &[segments[segments.len() - 1].0, 300, 1, MAGIC]));
    assert_eq!(read_all(&log).payloads()[0], b"one");
}

/// A file cut by another process under a reader that had it mapped ended the reader: SIGBUS (E45).
#[test]
fn a_segment_that_is_cut_under_a_reader_is_an_answer_and_no_signal() {
    let (scratch, log) = classic(1 << 20);
    fill(&log, 0..3000);
    let mut reader = log.reader(&s()).unwrap();
    reader.on_damage(OnDamage::Skip);
    for _ in 0..10 {
        reader.next_record().unwrap().unwrap();
    }
    fs::File::options().write(true).open(scratch.file("00000000")).unwrap().set_len(116 * 20 + 7).unwrap();
    let mut more = 0;
    while let Ok(Some(_)) = reader.next_record() {
        more += 1;
    }
    // What had been read ahead is true; what is gone is not made up.
    assert!((10..2990).contains(&more), "{more}");
}

/// Two readers of one process and a finished segment of no bytes: the second one waited for ever for the first one's
/// lock of its index (E24).
#[test]
fn two_readers_in_one_process_pass_an_empty_finished_segment() {
    let (scratch, log) = classic(300);
    fill(&log, 0..7);
    log.add_subscriber(&Subscriber::new("t").unwrap(), Start::Begin).unwrap();
    scratch.write("00000001", b"");
    let readers = [s(), Subscriber::new("t").unwrap()].map(|name| log.reader(&name).unwrap());
    for mut reader in readers {
        assert_eq!(read_unread(&mut reader).len(), 4);
    }
}

/// A metastore far ahead of the segments: `read_interval` asked for four thousand million numbers, one by one (E5); a
/// checkpoint 10,000 segments ahead cost 110,068 system calls (E17).
#[test]
fn numbers_far_ahead_are_not_walked_one_by_one() {
    let disk = SimDisk::new(1);
    let log =
        Log::create_on(Arc::new(disk.clone()), SIM_LOG, &CreateOptions::classic().segment_size(300)).unwrap();
    log.add_subscriber(&s(), Start::Begin).unwrap();
    fill(&log, 0..7);
    jlog_tests::put(&disk, "metastore", &in_order(log.order(), &[0xffff_fff0, 300, 1, MAGIC]));
    let calls = || [Op::Open, Op::Pread].iter().map(|op| disk.calls(*op)).sum::<u64>();
    let before = calls();
    let log = open_sim(&disk);
    let mut reader = log.reader(&s()).unwrap();
    assert_eq!(read_unread(&mut reader).len(), 7);
    let _ = log.set_checkpoint(&s(), RecordId::new(0xffff_0000, 0));
    let _ = (log.clean(), inspect(&log).unwrap());
    assert!(calls() - before < 500, "{} calls", calls() - before);
}

/// A zero behind the entries of the active segment's index: nothing new was announced until the segment was finished, and
/// then the rest of it was skipped (E55).
#[test]
fn a_zero_at_the_end_of_an_index_hides_no_later_record() {
    let scratch = case("idx-zero-last-current").copy();
    let log = scratch.open();
    let mut reader = log.reader(&s()).unwrap();
    let before = read_unread(&mut reader).len();
    log.writer().unwrap().append(b"late", at(1)).unwrap();
    assert_eq!(read_unread(&mut reader).last().unwrap().payload, b"late");
    assert_eq!(before, 30);
}

/// Trailing bytes in the index of the active segment: `read_interval` failed for ever, and no tool helped (E41).
#[test]
fn an_index_of_an_odd_length_stops_nobody() {
    let (scratch, log) = classic(1 << 20);
    fill(&log, 0..7);
    scratch.write("00000000.idx", &[7; 20]);
    assert_eq!(read_unread(&mut log.reader(&s()).unwrap()).len(), 7);
    log.build_index(SegmentId(0)).unwrap();
    assert_eq!(scratch.read("00000000.idx").len() % 8, 0);
}

/// The repair made 18 messages of a payload that holds header magics, and dropped the good one behind them (R4).
#[test]
fn a_repair_makes_no_messages_of_a_payload() {
    let scratch = case("embedded-magic").copy();
    let intact = case("embedded-magic").intact();
    let log = scratch.open();
    let plan = repair::plan(&log, &inspect(&log).unwrap(), &Options::default()).unwrap();
    repair::apply(&log, &plan, "now").unwrap();
    let records = read_all(&scratch.open()).records;
    let known = &case("embedded-magic").records_written;
    for record in &records {
        assert!(known.iter().any(|written| written.is(record.time, &record.payload)), "{:?}", record.id);
    }
    for written in &intact {
        assert!(records.iter().any(|record| written.is(record.time, &record.payload)));
    }
}

/// `read_interval` moved the checkpoint and deleted segments, though its caller had confirmed nothing (quirk 24).
#[test]
fn reading_deletes_nothing_before_a_commit() {
    let (scratch, log) = classic(300);
    fill(&log, 0..9);
    let before = snapshot(&scratch.path());
    let mut reader = log.reader(&s()).unwrap();
    assert_eq!(reader.interval().unwrap().unwrap().count, 3);
    assert_eq!(read_unread(&mut reader).len(), 9);
    assert!(reader.interval().unwrap().is_none());
    drop(reader);
    assert_eq!(snapshot(&scratch.path()), before);
}

/// Closing a reader synced the segment it had open (quirk 26).
#[test]
fn a_reader_syncs_no_segment() {
    let disk = SimDisk::new(1);
    let log = Log::create_on(Arc::new(disk.clone()), SIM_LOG, &CreateOptions::classic()).unwrap();
    log.add_subscriber(&s(), Start::Begin).unwrap();
    log.writer().unwrap().append(b"one", at(1)).unwrap();
    let before = disk.calls(Op::Sync);
    let mut reader = log.reader(&s()).unwrap();
    reader.next_record().unwrap().unwrap();
    drop(reader);
    assert_eq!(disk.calls(Op::Sync), before);
}

/// Which compression was in use belonged to the process: of two logs open at once, the LZ4 one got plain bytes under an
/// LZ4 header, and its reader garbage (E71).
#[test]
fn two_logs_of_different_compression_in_one_process_keep_theirs() {
    let kinds = [Compression::Lz4, Compression::Null, Compression::None];
    let logs = kinds.map(|kind| {
        let scratch = Scratch::new();
        let log = Log::create_with(scratch.path(), &CreateOptions::classic().compression(kind)).unwrap();
        (scratch, log)
    });
    let writers: Vec<_> = logs.iter().map(|(_, log)| log.writer().unwrap()).collect();
    for n in 0..5 {
        for writer in &writers {
            writer.append(&[b'x'; 500], at(n)).unwrap();
        }
    }
    drop(writers);
    for ((scratch, _), kind) in logs.iter().zip(kinds) {
        let log = scratch.open();
        assert_eq!(log.compression(), kind);
        assert_eq!(read_all(&log).payloads(), [&[b'x'; 500][..]; 5]);
        assert_eq!(scratch.read("00000000").len() < 500, kind == Compression::Lz4);
    }
}

/// `add_subscriber` at the end kept the metastore open each time (quirk 32).
#[test]
fn adding_subscribers_leaves_no_file_open() {
    let (scratch, log) = classic(300);
    fill(&log, 0..9);
    let open = || {
        let links = fs::read_dir("/proc/self/fd").unwrap().flatten();
        links
            .filter_map(|fd| fs::read_link(fd.path()).ok())
            .filter(|to| to.starts_with(scratch.path()))
            .count()
    };
    let before = open();
    for n in 0..50 {
        log.add_subscriber(&Subscriber::new(format!("{n}")).unwrap(), Start::End).unwrap();
    }
    assert_eq!(open(), before);
}

/// A record torn by kill -9 and records appended behind it: the reader was stuck with FILE_CORRUPT until the segment was
/// finished, and then a repair took the record before it as well (E3).
#[test]
fn records_behind_a_torn_one_are_delivered_and_so_is_the_one_before_it() {
    let (scratch, log) = classic(1 << 20);
    fill(&log, 0..3);
    let mut bytes = scratch.read("00000000");
    let whole = bytes.len();
    bytes.extend(&plain_record(log.order(), MAGIC, at(9), &[b'x'; 100])[..60]);
    // As libjlog does: behind whatever is there.
    for n in 3..6 {
        bytes.extend(plain_record(log.order(), MAGIC, at(n), format!("{n:0100}").as_bytes()));
    }
    scratch.write("00000000", &bytes);
    let numbers: BTreeSet<_> = read_all(&log).records.iter().map(|record| record.time).collect();
    assert_eq!(numbers, (0..6).map(at).collect());
    assert!(whole < bytes.len());
}

/// An emptied directory (`rm -rf log/*`) gave META_OPEN from writer and reader, and no hint why (omniti-labs/jlog#5).
#[test]
fn an_emptied_directory_is_named_and_told_what_it_is_not() {
    let (scratch, _) = classic(300);
    for name in jlog_tests::names(&scratch.path()) {
        fs::remove_file(Path::new(&scratch.path()).join(name)).unwrap();
    }
    let error = Log::open(scratch.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotALog);
    assert!(error.to_string().contains(scratch.path().to_str().unwrap()), "{error}");
    assert!(Log::create(scratch.path()).is_err() || Log::open(scratch.path()).is_ok());
}
