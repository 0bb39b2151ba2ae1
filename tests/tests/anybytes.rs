//! Any bytes in any file of a log: no panic, an end in bounded time, and nothing delivered that is not there.
//!
//! The inputs are random and the same each time; `PROPTEST_CASES` asks for more of them.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::Path;
use std::sync::Arc;

use jlog::inspect::{buffered, inspect};
use jlog::io::Disk;
use jlog::io::sim::SimDisk;
use jlog::{ErrorKind, Format, Log, Order, Tail};
use jlog_tests::looking::{assert_there, look_everywhere};
use jlog_tests::{
    MAGIC, Passed, SIM_LOG, Seen, at, case, get, in_order, on_sim, open_sim, plain_record, put, read_all,
    read_within, sim_files,
};
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::RngSeed;

fn config(cases: u32) -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").map_or(cases, |more| more.parse().unwrap());
    ProptestConfig {
        cases,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(42),
        ..ProptestConfig::default()
    }
}

/// Something that happens to the bytes of a file.
#[derive(Debug, Clone)]
enum Mishap {
    Replace(Vec<u8>),
    Flip(Vec<(Index, u8)>),
    Cut(Index),
    Append(Vec<u8>),
    /// A part of the file is there once more.
    Repeat(Index, Index, Index),
    /// A part of it is gone, and what is behind it moves up.
    Drop(Index, Index),
    Zero(Index, Index),
    Overwrite(Index, Vec<u8>),
    /// A number that means something to a reader, at a place where it may be looked for.
    Word(Index, u32),
    Remove,
}

fn mishaps() -> impl Strategy<Value = Mishap> {
    let words = prop_oneof![
        Just(0),
        Just(1),
        Just(u32::MAX),
        Just(MAGIC),
        Just(MAGIC.swap_bytes()),
        Just(0x1510_6a01),
        0..5000_u32
    ];
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..300).prop_map(Mishap::Replace),
        prop::collection::vec((any::<Index>(), 0..8_u8), 1..6).prop_map(Mishap::Flip),
        any::<Index>().prop_map(Mishap::Cut),
        prop::collection::vec(any::<u8>(), 1..100).prop_map(Mishap::Append),
        any::<(Index, Index, Index)>().prop_map(|(from, to, at)| Mishap::Repeat(from, to, at)),
        any::<(Index, Index)>().prop_map(|(from, to)| Mishap::Drop(from, to)),
        any::<(Index, Index)>().prop_map(|(from, to)| Mishap::Zero(from, to)),
        (any::<Index>(), prop::collection::vec(any::<u8>(), 1..80))
            .prop_map(|(at, bytes)| Mishap::Overwrite(at, bytes)),
        (any::<Index>(), words).prop_map(|(at, word)| Mishap::Word(at, word)),
        Just(Mishap::Remove),
    ]
}

impl Mishap {
    fn befall(&self, mut bytes: Vec<u8>, order: Order) -> Option<Vec<u8>> {
        let len = bytes.len();
        let place = |index: &Index| index.index(len + 1);
        let range = |a: &Index, b: &Index| place(a).min(place(b))..place(a).max(place(b));
        match self {
            Mishap::Replace(other) => bytes.clone_from(other),
            Mishap::Flip(bits) if len > 0 => {
                bits.iter().for_each(|(at, bit)| bytes[at.index(len)] ^= 1 << bit);
            }
            Mishap::Flip(_) => {}
            Mishap::Cut(to) => bytes.truncate(place(to)),
            Mishap::Append(more) => bytes.extend(more),
            Mishap::Repeat(from, to, at) => {
                let part = bytes[range(from, to)].to_vec();
                bytes.splice(place(at)..place(at), part);
            }
            Mishap::Drop(from, to) => {
                bytes.drain(range(from, to));
            }
            Mishap::Zero(from, to) => bytes[range(from, to)].fill(0),
            Mishap::Overwrite(at, other) => overwrite(&mut bytes, place(at), other),
            Mishap::Word(at, word) => overwrite(&mut bytes, place(at) / 4 * 4, &in_order(order, &[*word])),
            Mishap::Remove => return None,
        }
        Some(bytes)
    }
}

fn overwrite(bytes: &mut [u8], at: usize, other: &[u8]) {
    let len = other.len().min(bytes.len() - at);
    bytes[at..at + len].copy_from_slice(&other[..len]);
}

/// Logs of every kind, none of them large.
const LOGS: [&str; 14] = [
    "few-indexed",
    "few-long",
    "segments-closed",
    "be-few",
    "be-segments",
    "lz4",
    "be-lz4",
    "null-compression",
    "precommit-partial",
    "precommit-lz4",
    "old12",
    "old16-magic0",
    "torn-then-append",
    "zero-length",
];

proptest! {
    #![proptest_config(config(400))]

    #[test]
    fn whatever_befalls_the_files_of_a_log_it_can_be_looked_at(
        which in 0..LOGS.len(),
        befallen in prop::collection::vec((any::<Index>(), mishaps()), 1..4),
        write: bool,
    ) {
        let disk = on_sim(case(LOGS[which]), 1);
        let mut names: Vec<_> = sim_files(&disk).into_keys().collect();
        // What readers and writers look at most is hit most.
        names.extend(names.clone().into_iter().filter(|name| !name.starts_with("cp.")));
        for (index, mishap) in &befallen {
            let name = index.get(&names);
            let Some(bytes) = get(&disk, name) else { continue };
            match mishap.befall(bytes, case(LOGS[which]).order()) {
                Some(bytes) => put(&disk, name, &bytes),
                None => disk.remove(&Path::new(SIM_LOG).join(name)).unwrap(),
            }
        }

        let before = sim_files(&disk);
        let bytes: usize = before.values().map(Vec::len).sum();
        let start = disk.operations();
        let log = match Log::open_on(Arc::new(disk.clone()), SIM_LOG) {
            Ok(log) => log,
            Err(error) => {
                prop_assert!(matches!(error.kind(), ErrorKind::NotALog | ErrorKind::Damaged), "{}", error);
                return Ok(());
            }
        };
        let seen = match inspect(&log) {
            Ok(seen) => seen,
            Err(error) => {
                prop_assert_eq!(error.kind(), ErrorKind::Damaged);
                return Ok(());
            }
        };
        let mut cursor = log.cursor().unwrap();
        let passed = read_within(&mut cursor, bytes + 100);
        assert_there(&log, &before, &passed.records);
        prop_assert_eq!(passed.records.len() as u64, seen.messages);
        look_everywhere(&log, &passed);
        prop_assert!(sim_files(&disk) == before, "looking has changed something");
        let operations = disk.operations() - start;
        prop_assert!(operations < 5000 + 200 * (bytes as u64 / 16), "{} operations for {} bytes", operations, bytes);

        let waiting = buffered(&log).map_or(0, |waiting| waiting.len());
        if write && let Ok(writer) = log.writer() {
            let id = writer.append(b"behind it all", at(1)).unwrap();
            drop(writer);
            let after = read_all(&log).records;
            let last = after.last().unwrap();
            prop_assert_eq!((last.id, &last.payload[..]), (id, &b"behind it all"[..]));
            // A damaged segment that is finished may give more than it gave before, and never less.
            let mut ahead = after.iter();
            for record in passed.records.iter().filter(|record| !record.doubtful) {
                let same = |other: &Seen| (other.offset, other.time, &other.payload) == (record.offset, record.time, &record.payload);
                prop_assert!(ahead.any(same), "writing has cost {:?}", record);
            }
            prop_assert!(after.len() > passed.records.len() + waiting);
        }
    }
}

/// A log of one sealed segment with these messages, and an empty active one.
fn sealed_log(order: Order, messages: &[Vec<u8>]) -> (SimDisk, Vec<Vec<u8>>) {
    let disk = SimDisk::new(1);
    disk.create_dir(Path::new(SIM_LOG), 0o750).unwrap();
    put(&disk, "metastore", &in_order(order, &[1, 1000, 1, MAGIC]));
    let records: Vec<_> =
        (0..).zip(messages).map(|(n, message)| plain_record(order, MAGIC, at(n), message)).collect();
    put(&disk, "00000000", &records.concat());
    put(&disk, "00000001", b"");
    (disk, records)
}

fn orders() -> impl Strategy<Value = Order> {
    prop_oneof![Just(Order::Little), Just(Order::Big)]
}

/// Messages of any length and content, empty ones and long ones among them.
fn messages(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Vec<u8>>> {
    let message = prop_oneof![
        6 => prop::collection::vec(any::<u8>(), 1..200),
        1 => Just(Vec::new()),
        1 => prop::collection::vec(prop_oneof![Just(b' '), b'a'..=b'z'], 20..300),
    ];
    prop::collection::vec(message, count)
}

proptest! {
    #![proptest_config(config(300))]

    #[test]
    fn records_that_an_overwrite_has_not_touched_are_delivered(
        order in orders(),
        messages in messages(1..30),
        at_byte: Index,
        other in prop::collection::vec(any::<u8>(), 8..400),
    ) {
        let (disk, records) = sealed_log(order, &messages);
        let mut bytes = records.concat();
        let from = at_byte.index(bytes.len());
        let to = (from + other.len()).min(bytes.len());
        overwrite(&mut bytes, from, &other);
        put(&disk, "00000000", &bytes);

        let seen = read_all(&open_sim(&disk));
        let mut end = 0;
        for (n, record) in (0..).zip(&records) {
            let start = end;
            end += record.len();
            let touched = start < to && from < end;
            let found = seen.records.iter().any(|seen| seen.time == at(n) && seen.payload == messages[n as usize]);
            prop_assert!(found || touched, "record {} at {} is gone, {}..{} was overwritten: {:?}", n, start, from, to, seen.gaps);
        }
    }

    #[test]
    fn a_log_inside_a_message_never_surfaces_while_the_walk_leads_past_it(
        order in orders(),
        before in messages(1..6),
        inner in messages(1..12),
        behind in messages(1..6),
        damaged: Index,
    ) {
        // A segment in the payload of one record; the header of another record is destroyed.
        let payload: Vec<u8> = inner.iter().flat_map(|message| plain_record(order, MAGIC, at(999), message)).collect();
        let carrier = before.len();
        let mut messages = before;
        messages.push(payload);
        messages.extend(behind);
        let (disk, mut records) = sealed_log(order, &messages);

        let log = open_sim(&disk);
        let seen = read_all(&log);
        prop_assert_eq!(seen.payloads(), messages.iter().map(|message| &message[..]).collect::<Vec<_>>());

        let victim = (carrier + 1 + damaged.index(records.len() - 1)) % records.len();
        records[victim][..16].fill(0xee);
        put(&disk, "00000000", &records.concat());
        for seen in read_all(&log).records {
            prop_assert!(messages.contains(&seen.payload) && seen.time != at(999), "{:?}", seen);
        }
    }

    #[test]
    fn a_torn_record_that_carries_records_is_torn_and_nothing_of_it_is_believed(
        order in orders(),
        before in messages(1..4),
        inner in messages(2..12),
        cut: Index,
    ) {
        let inside: Vec<_> = inner.iter().map(|message| plain_record(order, MAGIC, at(999), message)).collect();
        let carrier = plain_record(order, MAGIC, at(500), &inside.concat());
        let cut = 1 + cut.index(carrier.len() - 1);
        // Cut exactly behind an inner record it looks like a torn record with others appended to it.
        let mut end = 16;
        prop_assume!(!inside.iter().any(|record| { end += record.len(); end == cut }));

        let (disk, records) = sealed_log(order, &before);
        put(&disk, "metastore", &in_order(order, &[0, 100_000, 1, MAGIC]));
        disk.remove(&Path::new(SIM_LOG).join("00000001")).unwrap();
        let sound = records.concat();
        put(&disk, "00000000", &[&sound, &carrier[..cut]].concat());

        let log = open_sim(&disk);
        let seen = read_all(&log);
        prop_assert_eq!(seen.payloads(), before.iter().map(|message| &message[..]).collect::<Vec<_>>());
        prop_assert_eq!((seen.gaps.len(), seen.tail), (0, Tail::Torn { from: sound.len() as u64 }));
        log.writer().unwrap().append(b"next", at(1)).unwrap();
        prop_assert_eq!(get(&disk, "00000000").unwrap(), [sound, plain_record(order, MAGIC, at(1), b"next")].concat());
    }
}

/// Nothing but text, as it stands in a message or in another file.
const TEXT: &[u8] = b"Received: from a.example by b.example; Sun, 13 Sep 2020 12:26:40 +0000. Hello, world.";

#[test]
fn text_over_a_header_does_not_cost_the_record_before_it() {
    let messages: Vec<_> =
        (0..6).map(|n| format!("{n} {}", "the quick brown fox. ".repeat(5)).into_bytes()).collect();
    let (disk, mut records) = sealed_log(Order::Little, &messages);
    records[3][..64].copy_from_slice(&TEXT[..64]);
    put(&disk, "00000000", &records.concat());
    let seen = read_all(&open_sim(&disk)).records;
    for n in [0, 1, 2, 4, 5] {
        assert!(seen.iter().any(|record| record.payload == messages[n]), "message {n} is whole, and gone");
    }
}

#[test]
fn text_behind_the_last_record_does_not_cost_that_record() {
    let messages: Vec<_> =
        (0..3).map(|n| format!("{n} {}", "the quick brown fox. ".repeat(5)).into_bytes()).collect();
    for active in [0, 1] {
        let (disk, records) = sealed_log(Order::Little, &messages);
        put(&disk, "metastore", &in_order(Order::Little, &[active, 100_000, 1, MAGIC]));
        if active == 0 {
            disk.remove(&Path::new(SIM_LOG).join("00000001")).unwrap();
        }
        put(&disk, "00000000", &[&records.concat(), TEXT].concat());
        let log = open_sim(&disk);
        assert_eq!(read_all(&log).payloads(), messages, "active segment {active}");
        log.writer().unwrap().append(b"next", at(9)).unwrap();
        assert_eq!(
            read_all(&log).payloads()[..3],
            messages,
            "active segment {active}, after a writer was there"
        );
    }
}

#[test]
fn a_record_is_not_given_up_because_the_one_behind_the_damage_is_as_long_as_two() {
    let sizes = [100, 68, 184, 100, 68, 184, 100, 68, 184];
    let messages: Vec<_> = (1..).zip(sizes).map(|(n, len)| vec![n; len]).collect();
    let (disk, mut records) = sealed_log(Order::Little, &messages);
    records[4][..16].fill(0xee);
    put(&disk, "00000000", &records.concat());
    let mut expected = messages.clone();
    expected.remove(4);
    assert_eq!(read_all(&open_sim(&disk)).payloads(), expected);
}

#[test]
fn an_index_that_is_not_of_this_segment_hides_no_record() {
    // It was made of other records, and one of its entries happens to hit one of these.
    let messages: Vec<_> = (1..7).map(|n| vec![n; 40 + usize::from(n)]).collect();
    let (disk, mut records) = sealed_log(Order::Little, &messages);
    let hit: usize = records[..4].iter().map(Vec::len).sum();
    let index: Vec<_> =
        [0, 30, hit, hit + 5, 0].iter().flat_map(|offset| (*offset as u64).to_le_bytes()).collect();
    put(&disk, "00000000.idx", &index);
    records[0][..16].fill(0xee);
    put(&disk, "00000000", &records.concat());
    assert_eq!(read_all(&open_sim(&disk)).payloads(), messages[1..]);
}

#[test]
fn a_header_that_leads_nowhere_is_not_believed() {
    // The message of a record whose own header is gone holds headers that no record follows.
    for order in Order::both() {
        for len in [0, 1, 7, 100, 200] {
            let fake = [in_order(order, &[MAGIC, 1, 2, len]), vec![0xaa; 23]].concat();
            let messages =
                vec![vec![1; 50], [fake.clone(), fake.clone(), fake].concat(), vec![2; 300], vec![3; 10]];
            let (disk, mut records) = sealed_log(order, &messages);
            records[1][..16].fill(0xee);
            put(&disk, "00000000", &records.concat());
            let seen = read_all(&open_sim(&disk));
            assert_eq!(seen.payloads(), [&messages[0], &messages[2], &messages[3]], "{order}, length {len}");
        }
    }
}

#[test]
fn what_was_appended_behind_a_torn_record_is_delivered_wherever_that_was_torn() {
    // libjlog does not look how a segment ends before it appends.
    for order in Order::both() {
        for active in [0, 1] {
            for appended in 1..=3 {
                let messages: Vec<_> = (0..3 + appended).map(|n| vec![n + 200; 60 + n as usize]).collect();
                let (disk, records) = sealed_log(order, &messages);
                put(&disk, "metastore", &in_order(order, &[active, 100_000, 1, MAGIC]));
                if active == 0 {
                    disk.remove(&Path::new(SIM_LOG).join("00000001")).unwrap();
                }
                for cut in 1..records[2].len() {
                    let mut bytes = [&records[0], &records[1], &records[2][..cut]].concat();
                    let torn = bytes.len() - cut..bytes.len();
                    bytes.extend(records[3..].concat());
                    put(&disk, "00000000", &bytes);

                    let seen = read_all(&open_sim(&disk));
                    let what = format!("{order}, active segment {active}, {appended} behind {cut} bytes");
                    let mut expected = messages.clone();
                    expected.remove(2);
                    assert_eq!(seen.payloads(), expected, "{what}");
                    assert_eq!(seen.gaps.len(), 1, "{what}");
                    assert_eq!(seen.gaps[0].from as usize..seen.gaps[0].to as usize, torn, "{what}");
                }
            }
        }
    }
}

#[test]
fn a_checkpoint_behind_damage_of_unknown_extent_is_told_of_and_not_just_believed() {
    let messages: Vec<_> = (0..8).map(|n| vec![n + 200; 40 + 7 * n as usize]).collect();
    let (disk, mut records) = sealed_log(Order::Little, &messages);
    // Two records are gone, and nothing says that it is not one: what was the seventh now looks like the sixth.
    records[2].fill(0xee);
    records[3].fill(0xee);
    put(&disk, "00000000", &records.concat());
    put(&disk, "cp.73", &in_order(Order::Little, &[0, 6]));

    let log = open_sim(&disk);
    let mut reader = log.reader(&jlog::Subscriber::new("s").unwrap()).unwrap();
    let error = reader.next_record().unwrap_err();
    assert_eq!(error.gap_met().map(|gap| gap.lost), Some(None), "{error}");
    reader.skip_gap().unwrap();
    assert_eq!(reader.next_record().unwrap().unwrap().payload, &messages[7][..]);
    drop(reader);

    let plan = jlog::repair::plan(&log, &inspect(&log).unwrap(), &jlog::repair::Options::default()).unwrap();
    jlog::repair::apply(&log, &plan, "now").unwrap();
    let mut reader = open_sim(&disk).reader(&jlog::Subscriber::new("s").unwrap()).unwrap();
    let next = reader.next_record().unwrap().unwrap().payload.to_vec();
    assert!(
        messages[..7].contains(&next),
        "after a repair it is moved to where nothing unread can be skipped"
    );
}

#[test]
fn records_between_two_damages_of_the_active_segment_are_delivered_under_the_ids_they_keep() {
    let messages: Vec<_> = (0..7).map(|n| vec![n + 200; 40 + 7 * n as usize]).collect();
    let (disk, mut records) = sealed_log(Order::Little, &messages);
    records[1][12..16].fill(0x7f);
    records[4][..16].fill(0xee);
    put(&disk, "metastore", &in_order(Order::Little, &[0, 100_000, 1, MAGIC]));
    put(&disk, "00000000", &records.concat());
    disk.remove(&Path::new(SIM_LOG).join("00000001")).unwrap();

    let active = read_all(&open_sim(&disk));
    for n in [0, 2, 3, 5, 6] {
        assert!(active.payloads().contains(&&messages[n][..]), "message {n} is whole, and gone");
    }
    // Once the segment is finished, nothing about what is in it changes.
    put(&disk, "metastore", &in_order(Order::Little, &[1, 100_000, 1, MAGIC]));
    put(&disk, "00000001", b"");
    let sealed = read_all(&open_sim(&disk));
    let ids = |seen: &Passed| {
        seen.records.iter().map(|record| (record.id, record.payload.clone())).collect::<Vec<_>>()
    };
    assert_eq!(ids(&active), ids(&sealed));
}

#[test]
fn a_log_at_its_last_segment_can_be_looked_at_and_mended() {
    let disk = SimDisk::new(1);
    disk.create_dir(Path::new(SIM_LOG), 0o750).unwrap();
    put(&disk, "metastore", &in_order(Order::Little, &[u32::MAX, 1000, 1, MAGIC]));
    put(&disk, "ffffffff", &[&plain_record(Order::Little, MAGIC, at(1), b"the last")[..], b"junk"].concat());
    let log = open_sim(&disk);
    let plan = jlog::repair::plan(&log, &inspect(&log).unwrap(), &jlog::repair::Options::default()).unwrap();
    jlog::repair::apply(&log, &plan, "now").unwrap();
    assert_eq!(read_all(&open_sim(&disk)).payloads(), [b"the last"]);
    let writer = open_sim(&disk).writer().unwrap();
    writer.append(&[b'x'; 1000], at(2)).unwrap();
    assert_eq!(writer.append(b"one too many", at(3)).unwrap_err().kind(), ErrorKind::TooLarge);
}

/// A damaged index, or a file that was put back into the wrong directory, and the sound log was taken for a checksummed one that
/// has lost its metastore: nothing of it was read, and a repair would have made it one.
#[test]
fn a_classic_log_does_not_become_a_checksummed_one_by_a_file_that_looks_like_one_of_theirs() {
    let theirs = |name: &str| {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden-checked/segments");
        std::fs::read(dir.join(name)).unwrap()
    };
    let magic = || b"jlogsg\x02\x0a".to_vec();
    for (name, bytes) in [
        ("00000000.idx", magic()),
        ("00000000.idx", theirs("00000002.idx")),
        ("00000009.idx", theirs("00000002.idx")),
        ("cp.74", theirs("cp.73")),
        ("control", theirs("control")),
    ] {
        for log in ["few-indexed", "be-segments", "lz4"] {
            let disk = on_sim(case(log), 1);
            let before = read_all(&open_sim(&disk));
            put(&disk, name, &bytes);
            let opened = open_sim(&disk);
            assert_eq!(opened.format(), Format::Classic, "{log} with {name}");
            assert_eq!(opened.metastore_problem(), None, "{log} with {name}");
            assert_eq!(read_all(&opened).records, before.records, "{log} with {name}");
        }
    }
    // A segment of theirs is one of this log's that is damaged.
    let disk = on_sim(case("be-segments"), 1);
    put(&disk, "00000001", &theirs("00000002"));
    let opened = open_sim(&disk);
    assert_eq!(opened.format(), Format::Classic);
    assert!(!read_all(&opened).records.is_empty());
}

/// Records of libjlog 1.x carry no magic, and what one of their messages held looked more like records than they did: the log was
/// read as if its metastore were wrong, and a second repair cut away what the first one had kept.
#[test]
fn a_log_whose_records_carry_no_magic_is_not_read_as_what_its_messages_hold() {
    for order in Order::both() {
        for inner in Order::both() {
            let inside: Vec<_> = (0..3).map(|n| plain_record(inner, MAGIC, at(n), &[b'x'; 40])).collect();
            let messages = [b"before".to_vec(), inside.concat(), b"behind".to_vec()];
            let records: Vec<_> =
                messages.iter().map(|message| plain_record(order, 0, at(9), message)).collect();
            let disk = SimDisk::new(1);
            disk.create_dir(Path::new(SIM_LOG), 0o750).unwrap();
            put(&disk, "metastore", &in_order(order, &[0, 100_000, 1, 0]));
            put(&disk, "00000000", &records.concat());
            let log = open_sim(&disk);
            assert_eq!(log.metastore_problem(), None, "{order}, {inner} in the message");
            assert_eq!(read_all(&log).payloads(), messages, "{order}, {inner} in the message");
        }
    }
}

/// A cursor from the oldest record on began in a segment that nobody had reached yet, and said that this was beyond the log's end.
#[test]
fn a_log_of_which_an_empty_segment_made_ahead_is_left_is_read_to_its_end() {
    for order in Order::both() {
        let disk = SimDisk::new(1);
        disk.create_dir(Path::new(SIM_LOG), 0o750).unwrap();
        put(&disk, "metastore", &in_order(order, &[2, 100_000, 1, MAGIC]));
        put(&disk, "00000003", b"");
        let log = open_sim(&disk);
        let passed = read_all(&log);
        assert_eq!(
            (passed.records.len() as u64, passed.tail),
            (inspect(&log).unwrap().messages, Tail::Clean)
        );
    }
}
