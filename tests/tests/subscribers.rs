//! Subscribers: where they start, what they have read, and what may be deleted because of it.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::path::PathBuf;

use jlog::{
    Compression, CreateOptions, Error, ErrorKind, Interval, Log, OnDamage, Order, Pending, RecordId,
    SegmentId, Start, Subscriber,
};
use jlog_tests::{Follower, Scratch, at, case, in_order, read_all, read_unread, snapshot};

fn name(name: impl AsRef<[u8]>) -> Subscriber {
    Subscriber::new(name).unwrap()
}

/// A log with segments 0 to 4 of four records each but for the last, which has two: message n says so.
fn eighteen_records() -> (Scratch, Log) {
    let scratch = Scratch::new();
    let log = Log::create_with(scratch.path(), &CreateOptions::classic().segment_size(100)).unwrap();
    let writer = log.writer().unwrap();
    for n in 0..18 {
        writer.append(format!("message {n:02}").as_bytes(), at(n)).unwrap();
    }
    writer.close().unwrap();
    assert_eq!(segments(&log), [0, 1, 2, 3, 4]);
    (scratch, log)
}

fn segments(log: &Log) -> Vec<u32> {
    log.segments().unwrap().into_iter().map(|id| id.0).collect()
}

fn unread(log: &Log, subscriber: &Subscriber) -> Vec<RecordId> {
    read_unread(&mut log.reader(subscriber).unwrap()).into_iter().map(|record| record.id).collect()
}

fn id(segment: u32, marker: u32) -> RecordId {
    RecordId::new(segment, marker)
}

fn ids(segments: Vec<SegmentId>) -> Vec<u32> {
    segments.into_iter().map(|id| id.0).collect()
}

fn kind<T: std::fmt::Debug>(outcome: jlog::Result<T>) -> ErrorKind {
    outcome.unwrap_err().kind()
}

#[test]
fn a_subscriber_starts_where_it_was_told_to() {
    let (_scratch, log) = eighteen_records();
    for (who, start, first) in [
        ("begin", Start::Begin, Some(id(0, 1))),
        ("end", Start::End, None),
        ("after", Start::After(id(1, 3)), Some(id(1, 4))),
        ("after the last of a segment", Start::After(id(1, 4)), Some(id(2, 1))),
        ("before a segment", Start::After(id(3, 0)), Some(id(3, 1))),
        ("after the last", Start::After(id(4, 2)), None),
        ("copy", Start::CopyOf(name("after")), Some(id(1, 4))),
    ] {
        log.add_subscriber(&name(who), start).unwrap();
        assert_eq!(unread(&log, &name(who)).first().copied(), first, "{who}");
    }
    log.writer().unwrap().append(b"one more", at(18)).unwrap();
    for who in ["end", "after the last"] {
        assert_eq!(unread(&log, &name(who)), [id(4, 3)], "{who}");
    }
}

#[test]
fn in_an_empty_log_begin_and_end_are_the_same() {
    let scratch = Scratch::new();
    let log = Log::create_with(scratch.path(), &CreateOptions::classic()).unwrap();
    log.add_subscriber(&name("begin"), Start::Begin).unwrap();
    log.add_subscriber(&name("end"), Start::End).unwrap();
    assert_eq!(unread(&log, &name("begin")), []);
    log.writer().unwrap().append(b"first", at(1)).unwrap();
    for who in ["begin", "end"] {
        assert_eq!(unread(&log, &name(who)), [id(0, 1)], "{who}");
    }
}

#[test]
fn a_start_that_is_not_in_the_log_is_refused_and_adds_nobody() {
    let (scratch, log) = eighteen_records();
    let before = scratch.files();
    for place in [id(0, 5), id(4, 3), id(5, 0), id(5, 1), id(u32::MAX, 1), id(2, u32::MAX)] {
        assert_eq!(kind(log.add_subscriber(&name("s"), Start::After(place))), ErrorKind::Invalid, "{place}");
    }
    let copy = Start::CopyOf(name("nobody"));
    assert_eq!(kind(log.add_subscriber(&name("s"), copy)), ErrorKind::UnknownSubscriber);
    assert!(scratch.files() == before);
}

#[test]
fn a_subscriber_is_added_once_and_keeps_its_place() {
    let (_scratch, log) = eighteen_records();
    log.add_subscriber(&name("s"), Start::After(id(1, 2))).unwrap();
    for start in [Start::Begin, Start::End, Start::CopyOf(name("s"))] {
        assert_eq!(kind(log.add_subscriber(&name("s"), start)), ErrorKind::SubscriberExists);
    }
    assert_eq!(log.checkpoint(&name("s")).unwrap(), id(1, 2));
}

#[test]
fn a_checkpoint_lies_in_libjlogs_file_in_the_order_of_the_log() {
    for order in Order::both() {
        let scratch = Scratch::new();
        let log = Log::create_with(scratch.path(), &CreateOptions::classic().order(order)).unwrap();
        let writer = log.writer().unwrap();
        for n in 0..300 {
            writer.append(b"x", at(n)).unwrap();
        }
        log.add_subscriber(&name("other"), Start::After(id(0, 258))).unwrap();
        assert_eq!(scratch.read("cp.6f74686572"), in_order(order, &[0, 258]));
        log.set_checkpoint(&name("other"), id(0, 259)).unwrap();
        assert_eq!(scratch.read("cp.6f74686572"), in_order(order, &[0, 259]));
    }
}

#[test]
fn the_names_that_libjlog_knows_are_listed_reached_and_removed() {
    let scratch = case("names").copy();
    let log = scratch.open();
    let followers = &case("names").subscribers;
    let mut expected: Vec<_> = followers.iter().map(Follower::name).collect();
    expected.sort();
    assert_eq!(log.subscribers().unwrap(), expected);
    for follower in followers {
        let subscriber = follower.name();
        assert_eq!(unread(&log, &subscriber).len(), 5, "{subscriber}");
        log.set_checkpoint(&subscriber, id(0, 3)).unwrap();
        assert_eq!(unread(&log, &subscriber), [id(0, 4), id(0, 5)], "{subscriber}");
        assert!(log.remove_subscriber(&subscriber).unwrap());
        assert!(!scratch.has(&follower.file));
    }
    assert_eq!(log.subscribers().unwrap(), []);
}

#[test]
fn names_may_be_of_any_bytes_up_to_126_of_them() {
    let (scratch, log) = eighteen_records();
    let names: [&[u8]; 6] = [&[b'n'; 126], b"\xff\xfe", b"a/b\0\n", "größe".as_bytes(), b"..", b" "];
    for bytes in names {
        log.add_subscriber(&name(bytes), Start::Begin).unwrap();
        assert_eq!(unread(&log, &name(bytes)).len(), 18);
    }
    let mut expected = names.map(name).to_vec();
    expected.sort();
    assert_eq!(log.subscribers().unwrap(), expected);
    let files = fs::read_dir(scratch.path()).unwrap().count();
    assert_eq!(files, 1 + 5 + names.len(), "and each has one file, in the log's directory");
    for bytes in [&[b'n'; 127][..], b""] {
        assert_eq!(kind(Subscriber::new(bytes)), ErrorKind::Invalid, "{} bytes", bytes.len());
    }
    assert_eq!(kind(Subscriber::existing([b'n'; 127])), ErrorKind::Invalid);
}

#[test]
fn whoever_is_not_there_is_unknown_and_nothing_is_made() {
    let (scratch, log) = eighteen_records();
    let before = scratch.files();
    let nobody = name("nobody");
    assert_eq!(kind(log.reader(&nobody)), ErrorKind::UnknownSubscriber);
    assert_eq!(kind(log.checkpoint(&nobody)), ErrorKind::UnknownSubscriber);
    assert_eq!(kind(log.set_checkpoint(&nobody, id(0, 1))), ErrorKind::UnknownSubscriber);
    assert!(!log.remove_subscriber(&nobody).unwrap());
    assert!(scratch.files() == before);
}

#[test]
fn a_reader_of_a_removed_subscriber_cannot_commit_and_brings_it_not_back() {
    let (scratch, log) = eighteen_records();
    log.add_subscriber(&name("s"), Start::Begin).unwrap();
    let mut reader = log.reader(&name("s")).unwrap();
    reader.next_record().unwrap();
    log.remove_subscriber(&name("s")).unwrap();
    assert_eq!(kind(reader.commit()), ErrorKind::UnknownSubscriber);
    assert!(!scratch.has("cp.73"));
}

// Reading moves nothing; a checkpoint moves when it is told to.

#[test]
fn what_was_read_and_not_committed_is_read_again() {
    let (scratch, log) = eighteen_records();
    log.add_subscriber(&name("s"), Start::Begin).unwrap();
    let before = snapshot(&scratch.path());
    assert_eq!(unread(&log, &name("s")).len(), 18);
    assert!(snapshot(&scratch.path()) == before, "reading past four segments moved no checkpoint");
    assert_eq!(unread(&log, &name("s")).len(), 18);

    let mut reader = log.reader(&name("s")).unwrap();
    for _ in 0..6 {
        reader.next_record().unwrap().unwrap();
    }
    reader.commit().unwrap();
    assert_eq!(unread(&log, &name("s"))[0], id(1, 3));
    assert_eq!(unread(&log, &name("s")).len(), 12);
}

#[test]
fn a_reader_does_not_commit_what_it_has_not_delivered() {
    let (_scratch, log) = eighteen_records();
    log.add_subscriber(&name("s"), Start::Begin).unwrap();
    let mut reader = log.reader(&name("s")).unwrap();
    assert_eq!(reader.commit().unwrap(), [], "nothing was read yet");
    reader.next_record().unwrap();
    for beyond in [id(0, 2), id(1, 0), id(9, 9)] {
        assert_eq!(kind(reader.checkpoint(beyond)), ErrorKind::Invalid, "{beyond}");
    }
    assert_eq!(log.checkpoint(&name("s")).unwrap(), id(0, 0));
    reader.checkpoint(id(0, 1)).unwrap();
    assert_eq!(log.checkpoint(&name("s")).unwrap(), id(0, 1));
}

#[test]
fn a_checkpoint_moves_back_as_well_and_deletes_nothing_then() {
    let (_scratch, log) = eighteen_records();
    log.add_subscriber(&name("s"), Start::Begin).unwrap();
    log.add_subscriber(&name("keeps all"), Start::Begin).unwrap();
    log.set_checkpoint(&name("s"), id(3, 2)).unwrap();
    assert_eq!(log.set_checkpoint(&name("s"), id(1, 1)).unwrap(), []);
    assert_eq!(unread(&log, &name("s"))[0], id(1, 2));
}

#[test]
fn a_place_beyond_the_end_is_refused_and_loses_nothing() {
    let (scratch, log) = eighteen_records();
    log.add_subscriber(&name("s"), Start::Begin).unwrap();
    let before = scratch.files();
    for place in [id(4, 3), id(0, 5), id(5, 0), id(5, 1), id(1000, 0), id(u32::MAX, u32::MAX)] {
        assert_eq!(kind(log.set_checkpoint(&name("s"), place)), ErrorKind::Invalid, "{place}");
    }
    assert!(scratch.files() == before);
}

#[test]
fn a_checkpoint_found_beyond_the_end_is_an_error_until_it_is_set_anew() {
    for place in [[4, 3], [4, 1000], [5, 0], [9, 1]] {
        let (scratch, log) = eighteen_records();
        log.add_subscriber(&name("s"), Start::Begin).unwrap();
        scratch.write("cp.73", &in_order(log.order(), &place));
        let before = scratch.files();
        let mut reader = log.reader(&name("s")).unwrap();
        reader.on_damage(OnDamage::Skip);
        assert_eq!(reader.next_record().map(|_| ()).unwrap_err().kind(), ErrorKind::Damaged, "{place:?}");
        drop(reader);
        assert!(scratch.files() == before, "{place:?}");
        log.set_checkpoint(&name("s"), id(4, 1)).unwrap();
        assert_eq!(unread(&log, &name("s")), [id(4, 2)]);
    }
}

// Intervals and random access.

#[test]
fn an_interval_is_the_rest_of_one_segment() {
    let (_scratch, log) = eighteen_records();
    log.add_subscriber(&name("s"), Start::After(id(1, 2))).unwrap();
    let mut reader = log.reader(&name("s")).unwrap();
    let mut seen = Vec::new();
    while let Some(Interval { first, last, count }) = reader.interval().unwrap() {
        assert_eq!(first.segment, last.segment);
        assert_eq!(count, last.marker.0 - first.marker.0 + 1);
        seen.push((first, last));
        for _ in 0..count {
            reader.next_record().unwrap().unwrap();
        }
    }
    assert_eq!(
        seen,
        [(id(1, 3), id(1, 4)), (id(2, 1), id(2, 4)), (id(3, 1), id(3, 4)), (id(4, 1), id(4, 2))]
    );
    assert_eq!(log.checkpoint(&name("s")).unwrap(), id(1, 2), "asking moves nothing");
    log.writer().unwrap().append(b"one more", at(18)).unwrap();
    assert_eq!(reader.interval().unwrap(), Some(Interval { first: id(4, 3), last: id(4, 3), count: 1 }));
}

#[test]
fn records_are_read_by_id_forward_backward_and_across_segments() {
    for compression in [Compression::None, Compression::Null, Compression::Lz4] {
        let scratch = Scratch::new();
        let options = CreateOptions::classic().segment_size(100).compression(compression);
        let log = Log::create_with(scratch.path(), &options).unwrap();
        let writer = log.writer().unwrap();
        let ids: Vec<_> = (0..18).map(|n| writer.append(format!("{n}").as_bytes(), at(n)).unwrap()).collect();
        log.add_subscriber(&name("s"), Start::End).unwrap();
        let mut reader = log.reader(&name("s")).unwrap();
        let forward = 0..18;
        let backward = (0..18).rev();
        let jumping = (0..18).map(|n| n * 7 % 18);
        let again = [3, 3, 4, 4, 3, 17, 0];
        for n in forward.chain(backward).chain(jumping).chain(again) {
            let record = reader.read(ids[n]).unwrap();
            assert_eq!(
                (record.id, record.payload, record.time),
                (ids[n], format!("{n}").as_bytes(), at(n as u32))
            );
        }
        assert!(reader.next_record().unwrap().is_none(), "reading by id moves nobody");
    }
}

#[test]
fn an_id_that_is_not_there_is_no_record_and_stops_nothing() {
    let (_scratch, log) = eighteen_records();
    log.add_subscriber(&name("s"), Start::Begin).unwrap();
    let mut reader = log.reader(&name("s")).unwrap();
    let absent = [id(0, 0), id(0, 5), id(4, 3), id(5, 1), id(u32::MAX, 1), id(2, u32::MAX), id(4, 0)];
    for place in absent {
        assert_eq!(reader.read(place).map(|_| ()).unwrap_err().kind(), ErrorKind::NoSuchRecord, "{place}");
        assert_eq!(reader.read(id(2, 2)).unwrap().payload, b"message 09", "after {place}");
    }
}

#[test]
fn a_damaged_record_is_not_read_by_its_id_and_its_neighbours_are() {
    let log = Log::open(case("magic-middle").dir()).unwrap();
    let mut reader = log.reader(&name("s")).unwrap();
    assert_eq!(reader.read(id(1, 5)).map(|_| ()).unwrap_err().kind(), ErrorKind::Damaged);
    for marker in [4, 6, 9, 1] {
        let written = case("magic-middle").records_written.iter().find(|w| w.id() == id(1, marker)).unwrap();
        let record = reader.read(id(1, marker)).unwrap();
        assert!(written.is(record.time, record.payload), "{marker}");
    }
    let log = Log::open(case("lz4-payload-bad").dir()).unwrap();
    let mut reader = log.reader(&name("s")).unwrap();
    assert_eq!(reader.read(id(0, 5)).map(|_| ()).unwrap_err().kind(), ErrorKind::Damaged);
    assert_eq!(reader.read(id(0, 6)).unwrap().id, id(0, 6));
}

#[test]
fn records_behind_several_lost_ones_are_read_by_their_ids_whatever_was_asked_before() {
    // Messages 4 and 5 of segment 1 are lost, and the index knows that they are two.
    let scratch = case("segments-closed").copy();
    let mut bytes = scratch.read("00000001");
    bytes[3 * 216..5 * 216].fill(0xee);
    scratch.write("00000001", &bytes);
    let log = scratch.open();
    for order in
        [[3, 4, 5, 6], [3, 5, 4, 6], [4, 5, 6, 7], [5, 4, 7, 6], [3, 5, 6, 4], [6, 5, 6, 7], [5, 6, 5, 6]]
    {
        let mut reader = log.reader(&name("s")).unwrap();
        for marker in order {
            let outcome = reader.read(id(1, marker)).map(|record| record.id);
            match marker {
                4 | 5 => assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Damaged, "{order:?}"),
                _ => assert_eq!(outcome.unwrap(), id(1, marker), "{order:?}"),
            }
        }
    }
}

#[test]
fn a_bulk_read_gives_all_of_a_range_and_no_more() {
    let (_scratch, log) = eighteen_records();
    log.add_subscriber(&name("s"), Start::End).unwrap();
    let mut reader = log.reader(&name("s")).unwrap();
    let mut seen = Vec::new();
    let count = reader.read_bulk(id(1, 2), id(1, 4), |record| {
        seen.push((record.id, record.payload.to_vec()));
        Ok(())
    });
    assert_eq!(count.unwrap(), 3);
    let expected = [(2, "message 05"), (3, "message 06"), (4, "message 07")];
    assert_eq!(seen, expected.map(|(marker, text)| (id(1, marker), text.into())));

    assert_eq!(reader.read_bulk(id(4, 1), id(4, 9), |_| Ok(())).unwrap(), 2, "the segment has two");
    let mut calls = 0;
    let stopped = reader.read_bulk(id(0, 1), id(0, 4), |_| {
        calls += 1;
        Err::<(), Error>(Subscriber::new("").unwrap_err())
    });
    assert_eq!((kind(stopped), calls), (ErrorKind::Invalid, 1), "an error of the caller's ends it");
}

// Pruning.

#[test]
fn pending_readers_are_those_whose_checkpoint_is_not_beyond_the_segment() {
    let (_scratch, log) = eighteen_records();
    let pending = |segment| {
        let Pending { readers, earliest } = log.pending_readers(SegmentId(segment)).unwrap();
        (readers, earliest.map(|id| id.0))
    };
    assert_eq!(pending(0), (0, None));
    log.add_subscriber(&name("slow"), Start::After(id(1, 4))).unwrap();
    log.add_subscriber(&name("fast"), Start::After(id(3, 0))).unwrap();
    assert_eq!([0, 1, 2, 3, 4].map(pending), [0, 1, 1, 2, 2].map(|readers| (readers, Some(1))));
}

#[test]
fn what_nobody_wants_any_more_is_removed_with_its_index_and_nothing_else() {
    let (scratch, log) = eighteen_records();
    for segment in log.segments().unwrap() {
        log.build_index(segment).unwrap();
    }
    log.add_subscriber(&name("slow"), Start::Begin).unwrap();
    log.add_subscriber(&name("fast"), Start::Begin).unwrap();
    assert_eq!(ids(log.set_checkpoint(&name("fast"), id(4, 1)).unwrap()), [0; 0], "slow wants them all");
    assert_eq!(ids(log.set_checkpoint(&name("slow"), id(2, 1)).unwrap()), [0, 1]);
    assert_eq!(segments(&log), [2, 3, 4]);
    assert_eq!(unread(&log, &name("slow"))[0], id(2, 2));
    let mut expected: Vec<PathBuf> =
        ["00000002", "00000002.idx", "00000003", "00000003.idx", "00000004"].map(PathBuf::from).to_vec();
    expected.extend(["00000004.idx", "cp.66617374", "cp.736c6f77", "metastore"].map(PathBuf::from));
    assert_eq!(scratch.files().into_keys().collect::<Vec<_>>(), expected);
    assert_eq!(log.first_id().unwrap(), id(2, 0));
}

#[test]
fn the_last_record_of_a_segment_still_keeps_the_segment() {
    let (_scratch, log) = eighteen_records();
    log.add_subscriber(&name("s"), Start::Begin).unwrap();
    assert_eq!(ids(log.set_checkpoint(&name("s"), id(1, 4)).unwrap()), [0]);
    assert_eq!(segments(&log), [1, 2, 3, 4]);
}

#[test]
fn committing_prunes_and_the_active_segment_always_stays() {
    let (_scratch, log) = eighteen_records();
    log.add_subscriber(&name("s"), Start::Begin).unwrap();
    let mut reader = log.reader(&name("s")).unwrap();
    while reader.next_record().unwrap().is_some() {}
    assert_eq!(ids(reader.commit().unwrap()), [0, 1, 2, 3]);
    assert_eq!(segments(&log), [4]);
    assert_eq!(ids(log.clean().unwrap()), [0; 0]);
    log.writer().unwrap().append(b"one more", at(18)).unwrap();
    assert_eq!(reader.next_record().unwrap().unwrap().id, id(4, 3));
}

#[test]
fn cleaning_says_before_what_it_removes() {
    let (_scratch, log) = eighteen_records();
    log.add_subscriber(&name("s"), Start::After(id(3, 1))).unwrap();
    assert_eq!(ids(log.cleanable().unwrap()), [0, 1, 2]);
    assert_eq!(segments(&log).len(), 5, "saying so removes nothing");
    assert_eq!(ids(log.clean().unwrap()), [0, 1, 2]);
    assert_eq!(segments(&log), [3, 4]);
    assert_eq!((log.cleanable().unwrap(), log.clean().unwrap()), (vec![], vec![]));
}

#[test]
fn without_subscribers_nothing_is_deleted() {
    let (_scratch, log) = eighteen_records();
    assert_eq!((log.cleanable().unwrap(), log.clean().unwrap()), (vec![], vec![]));
    log.add_subscriber(&name("s"), Start::End).unwrap();
    log.remove_subscriber(&name("s")).unwrap();
    assert_eq!((log.cleanable().unwrap(), log.clean().unwrap()), (vec![], vec![]));
    assert_eq!(read_all(&log).records.len(), 18);
}

#[test]
fn a_checkpoint_that_cannot_be_read_keeps_everything() {
    for (file, bytes) in
        [("cp.7a", &b""[..]), ("cp.7a", &[0; 7]), ("cp.7", &[]), ("cp.7Z", &[1; 3]), ("cp.", &[])]
    {
        let (scratch, log) = eighteen_records();
        log.add_subscriber(&name("s"), Start::Begin).unwrap();
        scratch.write(file, bytes);
        assert_eq!(ids(log.set_checkpoint(&name("s"), id(4, 1)).unwrap()), [0; 0], "{file}");
        assert_eq!((log.cleanable().unwrap(), log.clean().unwrap()), (vec![], vec![]), "{file}");
        assert_eq!(segments(&log), [0, 1, 2, 3, 4]);
    }
}

#[test]
fn a_checkpoint_beyond_the_active_segment_keeps_everything() {
    for place in [[5, 0], [5, 1], [1000, 7]] {
        let (scratch, log) = eighteen_records();
        log.add_subscriber(&name("s"), Start::Begin).unwrap();
        scratch.write("cp.7a", &in_order(log.order(), &place));
        assert_eq!(
            log.pending_readers(SegmentId(0)).unwrap(),
            Pending { readers: 2, earliest: Some(SegmentId(0)) }
        );
        assert_eq!(ids(log.set_checkpoint(&name("s"), id(4, 1)).unwrap()), [0; 0], "{place:?}");
        assert_eq!((log.cleanable().unwrap(), log.clean().unwrap()), (vec![], vec![]), "{place:?}");
        assert_eq!(segments(&log), [0, 1, 2, 3, 4]);
    }
}

#[test]
fn a_checkpoint_under_a_name_that_nobody_has_keeps_what_it_names() {
    let (scratch, log) = eighteen_records();
    log.add_subscriber(&name("s"), Start::Begin).unwrap();
    scratch.write("cp.odd", &in_order(log.order(), &[2, 1]));
    assert_eq!(ids(log.set_checkpoint(&name("s"), id(4, 1)).unwrap()), [0, 1]);
    assert_eq!(segments(&log), [2, 3, 4]);
}

#[test]
fn a_checkpoint_set_anew_after_it_was_unreadable_deletes_nothing_by_itself() {
    let (scratch, log) = eighteen_records();
    scratch.write("cp.73", b"");
    assert_eq!(kind(log.reader(&name("s"))), ErrorKind::Damaged);
    assert_eq!(ids(log.set_checkpoint(&name("s"), id(4, 0)).unwrap()), [0; 0]);
    assert_eq!(segments(&log), [0, 1, 2, 3, 4]);
    assert_eq!(unread(&log, &name("s")), [id(4, 1), id(4, 2)]);
}

#[test]
fn a_reader_goes_on_in_a_segment_that_was_removed_under_it() {
    let (_scratch, log) = eighteen_records();
    log.add_subscriber(&name("s"), Start::Begin).unwrap();
    let mut reader = log.reader(&name("s")).unwrap();
    reader.next_record().unwrap();
    log.set_checkpoint(&name("s"), id(1, 0)).unwrap();
    assert_eq!(segments(&log), [1, 2, 3, 4]);
    let mut seen = 1;
    while let Some(record) = reader.next_record().unwrap() {
        assert_eq!(record.payload, format!("message {seen:02}").as_bytes());
        seen += 1;
    }
    assert_eq!(seen, 18);
}

#[test]
fn the_golden_log_with_two_subscribers_is_pruned_up_to_the_slower_one() {
    let scratch = case("two-subs").copy();
    let log = scratch.open();
    assert_eq!(ids(log.clean().unwrap()), [0; 0]);
    log.set_checkpoint(&name("fast"), id(6, 1)).unwrap();
    assert_eq!(segments(&log), [2, 3, 4, 5, 6]);
    assert_eq!(ids(log.set_checkpoint(&name("slow"), id(4, 2)).unwrap()), [2, 3]);
    assert!(log.remove_subscriber(&name("slow")).unwrap());
    assert_eq!(segments(&log), [4, 5, 6], "removing a subscriber deletes nothing");
    assert_eq!(ids(log.clean().unwrap()), [4, 5]);
}

#[test]
fn an_index_is_made_as_libjlog_makes_it() {
    for name in ["segments-closed", "few-indexed", "zero-length", "lz4", "be-segments", "be-few", "be-lz4"] {
        let scratch = case(name).copy();
        let log = scratch.open();
        for segment in log.segments().unwrap() {
            let file = format!("{segment}.idx");
            let Ok(libjlogs) = fs::read(scratch.file(&file)) else { continue };
            if log.index_details(segment).unwrap().state != jlog::IndexState::Complete {
                continue;
            }
            fs::remove_file(scratch.file(&file)).unwrap();
            log.build_index(segment).unwrap();
            assert_eq!(scratch.read(&file), libjlogs, "{name} {file}");
        }
    }
    let damaged = case("magic-middle").copy();
    assert_eq!(kind(damaged.open().build_index(SegmentId(1))), ErrorKind::Damaged);
    assert!(!damaged.has("00000001.idx"), "an index over damage would hide it");
}
