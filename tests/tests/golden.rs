//! Logs that libjlog wrote, sound and damaged, in both byte orders: all that is intact is delivered, what is damaged
//! is located, and looking changes nothing.

#![allow(clippy::unwrap_used, clippy::panic)]

use jlog::inspect::{Finding, FindingKind, buffered, inspect};
use jlog::{GapKind, IndexState, Log, Marker, RecordId, SegmentId};
use jlog_tests::{Case, Seen, Written, case, cases, read_all, read_unread, snapshot};

use FindingKind::{Checkpoint, Damage, Index, Metastore, Missing, PreCommit, Stray, Torn};

fn open(case: &Case) -> Log {
    Log::open(case.dir()).unwrap_or_else(|error| panic!("{}: {error}", case.name))
}

/// Records that are delivered, not doubtful, and yet not what libjlog wrote: why nothing can tell.
const UNDETECTABLE: &[(&str, u32, u32, &str)] =
    &[("garbage-payload-only", 1, 2, "only the message was overwritten, and the format has no checksum")];

/// What was delivered that is none of the records written: everything else must be there, in order, byte for byte.
fn extras<'a>(case: &Case, wanted: &[Written], seen: &'a [Seen]) -> Vec<&'a Seen> {
    let mut extras = Vec::new();
    let mut wanted = wanted.iter().peekable();
    for record in seen {
        match wanted.next_if(|written| written.is(record.time, &record.payload)) {
            Some(_) => {}
            None => extras.push(record),
        }
    }
    if let Some(lost) = wanted.next() {
        panic!("{}: not delivered, or not in its place: {lost:?}", case.name);
    }
    extras
}

#[test]
fn there_are_85_golden_logs_of_both_byte_orders_and_both_generations() {
    assert_eq!(cases().len(), 85);
    assert_eq!(cases().iter().filter(|case| case.order() == jlog::Order::Big).count(), 6);
    assert_eq!(cases().iter().filter(|case| case.kind == "old").count(), 2);
    let records: usize = cases().iter().map(|case| case.intact().len()).sum();
    assert!(records > 2500, "{records} intact records");
}

#[test]
fn every_intact_record_is_delivered_byte_for_byte_and_in_order() {
    for case in cases() {
        extras(case, &case.intact(), &read_all(&open(case)).records);
    }
}

#[test]
fn nothing_is_delivered_that_was_never_written_unless_it_is_called_doubtful() {
    for case in cases() {
        let passed = read_all(&open(case));
        for extra in extras(case, &case.intact(), &passed.records) {
            let known = UNDETECTABLE
                .iter()
                .any(|(name, log, marker, _)| *name == case.name && RecordId::new(*log, *marker) == extra.id);
            // It is at least the place of a record that was written, and carries its time.
            let place = case
                .not_intact()
                .iter()
                .any(|written| written.id() == extra.id && written.time() == extra.time);
            assert!(place && (known || extra.doubtful), "{}: {extra:?}", case.name);
        }
    }
}

#[test]
fn only_records_that_were_damaged_or_stand_before_damage_are_doubtful() {
    for case in cases() {
        let passed = read_all(&open(case));
        for record in passed.records.iter().filter(|record| record.doubtful) {
            let told = passed
                .gaps
                .iter()
                .any(|gap| gap.doubtful == Some(record.id) && gap.from == record.offset + record.stored_len);
            assert!(told, "{}: {record:?} is doubtful for no reason", case.name);
        }
    }
}

#[test]
fn sound_logs_have_no_gaps_and_the_ids_that_libjlog_gave() {
    for case in cases().iter().filter(|case| case.is_sound()) {
        let passed = read_all(&open(case));
        let ids: Vec<_> =
            passed.records.iter().map(|record| (record.id, record.offset, record.stored_len)).collect();
        let expected: Vec<_> = case
            .intact()
            .iter()
            .map(|written| (written.id(), written.offset.unwrap(), written.disk_len.unwrap()))
            .collect();
        assert_eq!(ids, expected, "{}", case.name);
        assert_eq!((passed.gaps, passed.tail), (vec![], jlog::Tail::Clean), "{}", case.name);
    }
}

#[test]
fn records_behind_damage_keep_the_ids_that_libjlog_gave() {
    for case in cases().iter().filter(|case| !case.is_sound()) {
        let seen = read_all(&open(case)).records;
        let written = case.intact().into_iter().filter(Written::has_id);
        for written in written {
            let record = seen.iter().find(|record| written.is(record.time, &record.payload)).unwrap();
            assert_eq!(record.id, written.id(), "{}", case.name);
        }
    }
}

#[test]
fn the_byte_order_is_told_from_the_log_alone() {
    for case in cases() {
        assert_eq!(open(case).order(), case.order(), "{}", case.name);
    }
}

#[test]
fn what_a_dead_writer_left_in_the_buffer_is_found_there() {
    let mut logs = 0;
    for case in cases() {
        let Some(pre_commit) = &case.pre_commit else {
            assert_eq!(buffered(&open(case)).unwrap(), [], "{}", case.name);
            continue;
        };
        let found = buffered(&open(case)).unwrap();
        // In these two the pointer was changed: one record is cut short by it, none is lost when it says too much.
        let whole = if case.name == "precommit-torn" { 2 } else { pre_commit.records.len() };
        assert_eq!(found.len(), whole, "{}", case.name);
        for (found, written) in found.iter().zip(&pre_commit.records) {
            assert!(written.is(found.time, &found.payload), "{}: {found:?}", case.name);
        }
        logs += 1;
    }
    assert_eq!(logs, 8);
}

#[test]
fn every_subscriber_gets_exactly_what_is_behind_its_checkpoint() {
    for case in cases().iter().filter(|case| case.is_sound()) {
        let log = open(case);
        for follower in &case.subscribers {
            let checkpoint = follower.checkpoint().unwrap();
            assert_eq!(log.checkpoint(&follower.name()).unwrap(), checkpoint);
            let unread = read_unread(&mut log.reader(&follower.name()).unwrap());
            let expected: Vec<_> =
                case.intact().into_iter().filter(|written| written.id() > checkpoint).collect();
            assert_eq!(unread.len(), expected.len(), "{} {}", case.name, follower.file);
            assert!(extras(case, &expected, &unread).is_empty());
        }
    }
}

/// Every call that looks, and none that changes.
fn look(case: &Case) {
    let log = open(case);
    let passed = read_all(&log);
    for record in &passed.records {
        let mut cursor = log.cursor_after(record.id);
        cursor.on_damage(jlog::OnDamage::Skip);
        cursor.next_record().unwrap();
    }
    let _ = (log.metastore(), log.metastore_problem(), log.first_id(), log.last_id(), log.active_segment());
    let _ = (log.size(), log.cleanable(), log.compression());
    for segment in log.segments().unwrap() {
        log.pending_readers(segment).unwrap();
        log.index_details(segment).unwrap();
        let lone = Log::open_segment(
            std::sync::Arc::new(jlog::io::OsDisk),
            case.dir().join(segment.to_string()),
            Some(case.order()),
        );
        if let Ok(lone) = lone {
            read_all(&lone);
            inspect(&lone).unwrap();
        }
    }
    for subscriber in log.subscribers().unwrap() {
        let Ok(mut reader) = log.reader(&subscriber) else { continue };
        let _ = (reader.interval(), reader.next_record().map(drop));
        for record in &passed.records {
            let _ = reader.read(record.id).map(drop);
        }
        let last = passed.records.last().map_or(RecordId::default(), |record| record.id);
        let _ = reader.read_bulk(RecordId::new(last.segment.0, 1), last, |_| Ok(()));
    }
    buffered(&log).unwrap();
    inspect(&log).unwrap();
}

#[test]
fn looking_at_a_log_changes_nothing_in_it() {
    for case in cases() {
        let before = snapshot(&case.dir());
        look(case);
        let after = snapshot(&case.dir());
        assert!(before == after, "{} is not as it was", case.name);
    }
}

#[test]
fn what_a_metastore_says_is_what_libjlog_wrote() {
    for case in cases().iter().filter(|case| case.is_sound()) {
        let meta = open(case).metastore().unwrap();
        let written = case.metastore.as_ref().unwrap();
        assert_eq!(Some(meta.active.0), written.storage_log, "{}", case.name);
        assert_eq!(Some(meta.unit_limit), written.unit_limit, "{}", case.name);
        assert_eq!(Some(meta.safety as u32), written.safety, "{}", case.name);
        assert_eq!(meta.magic, written.hdr_magic.unwrap_or(0), "{}", case.name);
        assert_eq!(meta.len, written.size, "{}", case.name);
    }
}

/// The kind of finding, the file, and the bytes in it.
type Wrong = (FindingKind, &'static str, u64, u64);

/// What is wrong with each log that is not sound. Records take 116 bytes there, so that nine fill a segment.
const WRONG: &[(&str, &[Wrong])] = &[
    ("meta12-newmagic", &[(Metastore, "metastore", 0, 12)]),
    ("meta-missing", &[(Metastore, "metastore", 0, 0)]),
    ("meta-trunc8", &[(Metastore, "metastore", 0, 8)]),
    ("meta-empty", &[(Metastore, "metastore", 0, 0)]),
    ("meta-long", &[(Metastore, "metastore", 0, 20)]),
    ("meta-badmagic", &[(Metastore, "metastore", 0, 16)]),
    ("meta-behind", &[(Metastore, "metastore", 0, 16)]),
    // Either the number is wrong, or the segment that it names is gone: both are said.
    ("meta-ahead", &[(Metastore, "metastore", 0, 16), (Missing, "00000006", 0, 0)]),
    ("torn-header-current", &[(Torn, "00000003", 232, 242)]),
    ("torn-payload-current", &[(Torn, "00000003", 232, 292)]),
    ("torn-header-closed", &[(Damage, "00000001", 928, 935)]),
    ("torn-payload-closed", &[(Damage, "00000001", 928, 1027)]),
    // Cut to 60 bytes, then three records behind it.
    ("torn-then-append", &[(Damage, "00000003", 232, 292)]),
    // From the last bytes of message 4 into message 5: the header of 5 is gone.
    ("garbage-middle-closed", &[(Damage, "00000001", 464, 580)]),
    // From the last bytes of message 1 into message 2: the header of 2 is gone.
    ("garbage-middle-current", &[(Damage, "00000003", 116, 232)]),
    // No checksum, no finding.
    ("garbage-payload-only", &[]),
    ("mlen-huge-closed", &[(Damage, "00000001", 348, 464)]),
    ("mlen-plus-one", &[(Damage, "00000001", 348, 464)]),
    // What the length leaves over reads on from the message, so the length is wrong: nothing of it is believed.
    ("mlen-small-current", &[(Damage, "00000003", 116, 232)]),
    ("mlen-zero", &[(Damage, "00000001", 0, 116)]),
    // The two blocks that do not decompress.
    ("lz4-payload-bad", &[(Damage, "00000000", 0, 0), (Damage, "00000000", 0, 0)]),
    ("magic-first", &[(Damage, "00000001", 0, 116)]),
    ("magic-middle", &[(Damage, "00000001", 464, 580)]),
    ("magic-last", &[(Damage, "00000001", 928, 1044)]),
    ("junk-end-closed", &[(Damage, "00000001", 1044, 1048)]),
    ("junk-end-current", &[(Torn, "00000003", 348, 352)]),
    ("zero-tail-current", &[(Torn, "00000003", 348, 4444)]),
    // Zeros from inside message 8 on: its header still stands, that of message 9 does not.
    ("zero-tail-closed", &[(Damage, "00000001", 928, 1044)]),
    ("all-zero-segment", &[(Damage, "00000001", 0, 1044)]),
    ("idx-partial-current", &[(Index, "00000003.idx", 0, 28)]),
    ("idx-partial-closed", &[(Index, "00000001.idx", 0, 84)]),
    ("idx-past-end-current", &[(Index, "00000003.idx", 0, 32)]),
    ("idx-past-end-closed", &[(Index, "00000001.idx", 0, 80)]),
    ("idx-zero-middle-closed", &[(Index, "00000001.idx", 0, 80)]),
    ("idx-zero-last-current", &[(Index, "00000003.idx", 0, 32)]),
    // The segment ends with a whole record: only the index knows that there were more.
    ("idx-longer-current", &[(Index, "00000003.idx", 0, 24)]),
    ("idx-wrong-offset", &[(Index, "00000001.idx", 0, 80)]),
    // Right as far as they go, or not there: readers extend them.
    ("idx-short-closed", &[]),
    ("idx-empty-closed", &[]),
    ("idx-one-entry", &[(Index, "00000001.idx", 0, 8)]),
    ("idx-extra-zero-closed", &[(Index, "00000001.idx", 0, 88)]),
    ("idx-shifted", &[(Index, "00000003.idx", 0, 24)]),
    ("cp-past-marker", &[(Checkpoint, "cp.73", 0, 8)]),
    ("cp-past-log", &[(Checkpoint, "cp.73", 0, 8)]),
    ("cp-empty", &[(Checkpoint, "cp.73", 0, 0)]),
    ("cp-long", &[(Checkpoint, "cp.73", 0, 12)]),
    // The last record of a sealed segment is a place like any other.
    ("cp-on-close-marker", &[]),
    ("missing-middle", &[(Missing, "00000001", 0, 0)]),
    // Segments from 0 on may have been pruned: only the checkpoint that still wants them tells.
    ("missing-first", &[(Checkpoint, "cp.73", 0, 8)]),
    ("missing-current", &[(Missing, "00000003", 0, 0)]),
    ("zero-middle", &[(Missing, "00000001", 0, 0)]),
    ("stray-files", &[]),
    // Records of 116 bytes behind the four of the pointer, which counts the header of the third and no more.
    ("precommit-torn", &[(PreCommit, "pre_commit", 236, 252)]),
    // Three records, then zeros up to the end of the buffer.
    ("precommit-beyond", &[(PreCommit, "pre_commit", 352, 1004)]),
    ("precommit-tiny", &[(PreCommit, "pre_commit", 0, 3)]),
    // The whole message, whatever headers it holds.
    ("embedded-magic", &[(Damage, "00000000", 348, 664)]),
    ("be-torn-current", &[(Torn, "00000003", 232, 292)]),
    ("be-garbage-closed", &[(Damage, "00000001", 464, 580)]),
];

fn place(finding: &Finding) -> (FindingKind, String, u64, u64) {
    (finding.kind, finding.file.clone(), finding.from, finding.to)
}

#[test]
fn damage_is_located_to_the_byte() {
    for (name, wrong) in WRONG {
        let case = case(name);
        let mut wrong: Vec<_> =
            wrong.iter().map(|(kind, file, from, to)| (*kind, file.to_string(), *from, *to)).collect();
        if *name == "lz4-payload-bad" {
            for (expected, lost) in wrong.iter_mut().zip(case.not_intact()) {
                let (from, len) = (lost.offset.unwrap(), lost.disk_len.unwrap());
                (expected.2, expected.3) = (from, from + len);
            }
        }
        let seen = inspect(&open(case)).unwrap();
        let found: Vec<_> = seen.problems().map(place).collect();
        assert_eq!(found, wrong, "{name}: {:#?}", seen.findings);
    }
}

#[test]
fn each_log_that_is_not_sound_is_in_the_table() {
    let table: Vec<_> = WRONG.iter().map(|(name, _)| *name).collect();
    let damaged: Vec<_> = cases().iter().filter(|case| !case.is_sound()).map(|case| &case.name[..]).collect();
    assert_eq!(table, damaged);
}

#[test]
fn sound_logs_have_no_findings() {
    for case in cases().iter().filter(|case| case.is_sound()) {
        let seen = inspect(&open(case)).unwrap();
        assert_eq!(seen.problems().collect::<Vec<_>>(), Vec::<&Finding>::new(), "{}", case.name);
        assert_eq!(seen.messages, case.records_written.len() as u64, "{}", case.name);
        assert!(seen.is_sound());
        assert_eq!((seen.order, seen.subscribers.len()), (case.order(), case.subscribers.len()));
    }
}

#[test]
fn a_torn_end_is_not_called_damage() {
    for (name, wrong) in WRONG {
        let damaged = wrong.iter().any(|(kind, ..)| *kind != Torn);
        assert_eq!(inspect(&open(case(name))).unwrap().is_sound(), !damaged, "{name}");
    }
}

#[test]
fn strays_are_named_and_no_problem() {
    let seen = inspect(&open(case("stray-files"))).unwrap();
    let strays: Vec<_> = seen.findings.iter().map(|finding| (finding.kind, &finding.file[..])).collect();
    let expected = ["00000007.idx", "0000ABCD", "README", "fallback"].map(|name| (Stray, name));
    assert_eq!(strays, expected);
    assert!(seen.is_sound());
}

#[test]
fn what_the_cursor_skips_and_what_inspection_finds_are_the_same_bytes() {
    for case in cases() {
        let log = open(case);
        let gaps = read_all(&log).gaps;
        let seen = inspect(&log).unwrap();
        let found: Vec<_> = seen
            .findings
            .iter()
            .filter(|finding| finding.kind == Damage)
            .map(|finding| {
                (finding.segment.unwrap(), finding.from, finding.to, finding.lost, finding.doubtful)
            })
            .collect();
        let met: Vec<_> = gaps
            .iter()
            .filter(|gap| matches!(gap.kind, GapKind::Damage | GapKind::Undecodable))
            .map(|gap| (gap.segment, gap.from, gap.to, gap.lost, gap.doubtful))
            .collect();
        assert_eq!(met, found, "{}", case.name);
    }
}

#[test]
fn the_number_of_lost_records_is_right_where_it_is_told() {
    for case in cases() {
        for gap in read_all(&open(case)).gaps {
            let Some(told) = gap.lost else { continue };
            let began = case.records_written.iter().filter(|written| {
                written.id().segment == gap.segment && (gap.from..gap.to).contains(&written.offset.unwrap())
            });
            assert_eq!(told, began.count() as u64, "{}: {gap}", case.name);
        }
    }
}

#[test]
fn missing_and_empty_segments_are_gaps_that_name_them() {
    let gap = |name: &str| {
        let gaps = read_all(&open(case(name))).gaps;
        assert_eq!(gaps.len(), 1, "{name}: {gaps:?}");
        (gaps[0].kind, gaps[0].segment, gaps[0].through, gaps[0].after)
    };
    let last_before = Some(RecordId::new(0, 9));
    assert_eq!(gap("missing-middle"), (GapKind::Missing, SegmentId(1), SegmentId(1), last_before));
    assert_eq!(gap("zero-middle"), (GapKind::Empty, SegmentId(1), SegmentId(1), last_before));

    let log = open(case("missing-first"));
    let s = jlog::Subscriber::new("s").unwrap();
    let mut reader = log.reader(&s).unwrap();
    let error = reader.next_record().unwrap_err();
    let gap = error.gap_met().unwrap();
    assert_eq!((gap.kind, gap.segment, gap.through), (GapKind::Missing, SegmentId(0), SegmentId(1)));
}

#[test]
fn indexes_are_judged_as_they_are() {
    let state = |name: &str, segment: u32| {
        let details = open(case(name)).index_details(SegmentId(segment)).unwrap();
        (details.entries, details.closed, details.state)
    };
    use IndexState::{Complete, Damaged, Missing, Partial, Stale};
    assert_eq!(state("few", 0), (0, false, Missing));
    assert_eq!(state("few-indexed", 0), (12, false, Complete));
    assert_eq!(state("few-long", 0), (9, false, Partial));
    assert_eq!(state("segments", 0), (31, true, Complete));
    assert_eq!(state("segments", 1), (9, false, Partial));
    assert_eq!(state("segments", 2), (0, false, Missing));
    assert_eq!(state("be-few", 0), (12, false, Complete));
    assert_eq!(state("be-segments", 1), (16, true, Complete));
    assert_eq!(state("idx-short-closed", 1), (4, false, Partial));
    assert_eq!(state("idx-empty-closed", 1), (0, false, Partial));
    assert_eq!(state("idx-partial-closed", 1).2, Damaged);
    assert_eq!(state("idx-past-end-closed", 1).2, Stale);
    assert_eq!(state("idx-zero-middle-closed", 1).2, Damaged);
    assert_eq!(state("idx-zero-last-current", 3).2, Stale);
    assert_eq!(state("idx-longer-current", 3).2, Stale);
    assert_eq!(state("idx-wrong-offset", 1).2, Stale);
    assert_eq!(state("idx-one-entry", 1).2, Damaged);
    assert_eq!(state("idx-extra-zero-closed", 1).2, Stale);
    assert_eq!(state("idx-shifted", 3).2, Stale);
}

#[test]
fn a_checkpoint_beyond_the_end_is_an_error_and_not_the_end_of_the_log() {
    let s = jlog::Subscriber::new("s").unwrap();
    for name in ["cp-past-marker", "cp-past-log"] {
        let log = open(case(name));
        let error = log.reader(&s).unwrap().next_record().map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), jlog::ErrorKind::Damaged, "{name}");
        assert!(error.gap_met().is_none(), "{name}: there is nothing to skip");
    }
    let error = open(case("cp-empty")).reader(&s).unwrap_err();
    assert_eq!(error.kind(), jlog::ErrorKind::Damaged);
    // libjlog reads the first eight bytes of a longer one, and so does this engine.
    assert_eq!(open(case("cp-long")).checkpoint(&s).unwrap(), RecordId::new(1, 4));
}

#[test]
fn a_checkpoint_on_the_last_record_of_a_sealed_segment_goes_on_with_the_next() {
    let log = open(case("cp-on-close-marker"));
    let mut reader = log.reader(&jlog::Subscriber::new("s").unwrap()).unwrap();
    assert_eq!(reader.next_record().unwrap().unwrap().id, RecordId::new(2, 1));
}

#[test]
fn lag_is_counted_in_the_records_that_can_be_read() {
    let seen = inspect(&open(case("two-subs"))).unwrap();
    let lags: Vec<_> = seen
        .subscribers
        .iter()
        .map(|s| (s.name.to_string(), s.checkpoint.unwrap(), s.behind_messages))
        .collect();
    let written = &case("two-subs").records_written;
    let behind = |id: RecordId| written.iter().filter(|record| record.id() > id).count() as u64;
    let (fast, slow) = (RecordId::new(5, 4), RecordId::new(2, 9));
    assert_eq!(lags, [("fast".to_owned(), fast, behind(fast)), ("slow".to_owned(), slow, behind(slow))]);
    assert_eq!(seen.segments[0].last_marker, Marker(31));
}
