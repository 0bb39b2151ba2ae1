//! The commands on spools: what is held, message by message, beside its owner, and damaged.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::SystemTime;

use serde_json::Value;
use spool::{Message, MessageId, QueueKey, RetryPolicy, Scope, Spool, SpoolOptions, Timestamp};

use crate::common::*;

fn now() -> Timestamp {
    Timestamp::from(SystemTime::now())
}

fn ago(seconds: u32) -> Timestamp {
    Timestamp::new(now().seconds - seconds, 0)
}

fn open(path: &str) -> Spool {
    SpoolOptions::new().background(false).segment_size(64 << 10).reserve(0).open(path).unwrap()
}

/// A message that came so many seconds ago.
fn accept(spool: &Spool, from: Option<&str>, to: &str, body: &[u8], age: u32) -> MessageId {
    let message = Message::from_bytes(spool.new_id(ago(age)), body.to_vec());
    message.set_sender(from.map(|from| from.parse().unwrap()));
    message.set_recipient(Some(to.parse().unwrap()));
    message.set_queue(queue(to.split_once('@').unwrap().1));
    message.context_set(Scope::Connection, "ip", "192.0.2.7").unwrap();
    message.context_set(Scope::Message, "raw", b"\xff\x00").unwrap();
    spool.accept(&message, ago(age)).unwrap();
    message.id()
}

fn queue(domain: &str) -> QueueKey {
    QueueKey { domain: domain.to_owned(), ..QueueKey::default() }
}

fn mail(n: usize) -> Vec<u8> {
    format!("Subject: number {n}\r\n\r\n{}\r\n", "a line of text ".repeat(40)).into_bytes()
}

/// A spool of five messages, closed: two to one.example (one of them tried once), two to two.example (one held), one
/// without a sender to three.example.
fn five(scratch: &Scratch) -> Vec<MessageId> {
    let spool = open(&scratch.log);
    let ids = vec![
        accept(&spool, Some("anna@sender.example"), "b@one.example", &mail(0), 7300),
        accept(&spool, Some("carl@sender.example"), "c@one.example", &mail(1), 600),
        accept(&spool, Some("anna@sender.example"), "d@two.example", &mail(2), 90),
        accept(&spool, Some("anna@sender.example"), "e@two.example", &mail(3), 60),
        accept(&spool, None, "f@three.example", &mail(4), 30),
    ];
    let message = spool.get(ids[0]).unwrap();
    spool.retry(&message, b"451 later\r\n", &RetryPolicy::default(), 0, now()).unwrap();
    spool.hold(ids[3], now()).unwrap();
    drop(message);
    spool.close().unwrap();
    ids
}

fn lines(args: &[&str]) -> Vec<Value> {
    let run = run(INSPECT, args);
    assert!([0, 4].contains(&run.code), "{args:?}: {}", run.err);
    run.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn ids_of(args: &[&str]) -> Vec<String> {
    lines(args).iter().map(|line| line["id"].as_str().unwrap().to_owned()).collect()
}

fn names(ids: &[MessageId]) -> Vec<String> {
    ids.iter().map(ToString::to_string).collect()
}

/// Flips a bit in the middle of these bytes of a record, on the disk.
fn damage(log: &str, body: &[u8]) {
    for entry in fs::read_dir(Path::new(log).join("arrivals")).unwrap() {
        let path = entry.unwrap().path();
        let bytes = fs::read(&path).unwrap();
        let Some(at) = bytes.windows(body.len()).position(|window| window == body) else { continue };
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        let at = at + body.len() / 2;
        file.write_all_at(&[bytes[at] ^ 1], at as u64).unwrap();
        return;
    }
    panic!("it is not there");
}

#[test]
fn a_spool_is_told_from_a_log_and_its_summary_counts_what_it_holds() {
    let scratch = Scratch::empty();
    let ids = five(&scratch);
    let looked = run(INSPECT, &["--json", &scratch.log]);
    assert_eq!(looked.code, 0, "{}{}", looked.out, looked.err);
    let seen = looked.json();
    assert_eq!(seen["schema"], "spool-inspect/1");
    assert_eq!(seen["status"], "sound");
    assert_eq!((&seen["messages"], &seen["queues"], &seen["held"]), (&5.into(), &3.into(), &1.into()));
    assert_eq!(seen["oldest"], ids[0].to_string());
    assert_eq!(seen["owner"], Value::Null);
    assert_eq!(seen["findings"], Value::Array(vec![]));

    let screen = run(INSPECT, &[&scratch.log]).out;
    for part in
        ["spool", "messages     5 ", "queues       3", "held         1", "2 hours", "health       sound"]
    {
        assert!(screen.contains(part), "{part:?} is not in\n{screen}");
    }
}

#[test]
fn messages_are_listed_by_age_with_all_columns() {
    let scratch = Scratch::empty();
    let ids = five(&scratch);
    assert_eq!(ids_of(&["messages", &scratch.log, "--json"]), names(&ids));
    let screen = run(INSPECT, &["list", &scratch.log]);
    assert_eq!(screen.code, 0, "{}", screen.err);
    let lines = screen.lines();
    for column in ["id", "age", "size", "sender", "recipient", "attempts", "next", "queue", "state"] {
        assert!(lines[0].contains(column), "{}", lines[0]);
    }
    let first = lines[1];
    for cell in
        [&ids[0].to_string(), "2 hours", "623 B", "anna@sender.example", "b@one.example", "  1  ", "in 2"]
    {
        assert!(first.contains(cell), "{cell:?} is not in {first:?}");
    }
    assert!(lines[4].contains("held"), "{}", lines[4]);
    assert!(lines[5].contains("<>"), "{}", lines[5]);
    assert_eq!(lines.len(), 6);
    let brief = run(INSPECT, &["messages", &scratch.log, "--brief"]).out;
    assert!(!brief.contains("sender") && brief.contains(&ids[0].to_string()), "{brief}");
}

#[test]
fn each_filter_leaves_what_it_says() {
    let scratch = Scratch::empty();
    let ids = five(&scratch);
    let listed = |filters: &[&str]| ids_of(&[&["messages", "--json", &scratch.log], filters].concat());
    let cases: [(&[&str], &[usize]); 15] = [
        (&["--queue", "one.example"], &[0, 1]),
        (&["--queue", "one.example@"], &[0, 1]),
        (&["--domain", "TWO.example"], &[2, 3]),
        (&["--sender", "ANNA@"], &[0, 2, 3]),
        (&["--sender", "<>"], &[4]),
        (&["--recipient", "c@one"], &[1]),
        (&["--older", "5m"], &[0, 1]),
        (&["--younger", "5m"], &[2, 3, 4]),
        (&["--older", "45s", "--younger", "5m"], &[2, 3]),
        (&["--min-attempts", "1"], &[0]),
        (&["--due"], &[1, 2, 4]),
        (&["--state", "held"], &[3]),
        (&["--state", "delayed", "--domain", "two.example"], &[2]),
        (&["-n", "2"], &[0, 1]),
        (&["--queue", "nobody.example"], &[]),
    ];
    for (filters, left) in cases {
        let left: Vec<MessageId> = left.iter().map(|n| ids[*n]).collect();
        assert_eq!(listed(filters), names(&left), "{filters:?}");
    }
    assert_eq!(listed(&["--after", &ids[2].to_string()]), names(&ids[3..]));
}

#[test]
fn queues_are_counted_by_state_and_by_age() {
    let scratch = Scratch::empty();
    five(&scratch);
    let seen = run(INSPECT, &["queues", "--json", &scratch.log]).json();
    assert_eq!(seen["schema"], "spool-inspect/1");
    let queues = seen["queues"].as_array().unwrap();
    let of = |name: &str| queues.iter().find(|queue| queue["queue"] == name).unwrap();
    assert_eq!(of("one.example")["messages"], 2);
    assert_eq!(of("two.example")["held"], 1);
    assert_eq!(of("two.example")["delayed"], 1);
    assert_eq!(of("one.example")["bytes"], 2 * mail(0).len());
    assert_eq!(of("one.example")["ages"], serde_json::json!([0, 0, 1, 0, 0, 1, 0, 0, 0, 0]));
    let matrix = run(INSPECT, &["queues", "--ages", &scratch.log]).out;
    assert!(matrix.contains("<320m") && matrix.contains("TOTAL"), "{matrix}");
}

#[test]
fn one_message_is_shown_with_all_that_is_kept_of_it_and_verbatim() {
    let scratch = Scratch::empty();
    let ids = five(&scratch);
    let id = ids[0].to_string();
    for args in [["show", &id, &scratch.log], ["show", &scratch.log, &id]] {
        let shown = run(INSPECT, &args);
        assert_eq!(shown.code, 0, "{}", shown.err);
        for part in
            ["anna@sender.example", "451 later", "ip = 192.0.2.7", "raw = \\xff\\x00", "Subject: number 0"]
        {
            assert!(shown.out.contains(part), "{part:?} is not in\n{}", shown.out);
        }
    }
    let seen = run(INSPECT, &["show", &id, &scratch.log, "--json", "--body"]).json();
    assert_eq!(seen["connection_context"]["ip"], "192.0.2.7");
    assert_eq!(seen["message_context"]["raw"]["b64"], "/wA=");
    assert_eq!(seen["headers"][0], serde_json::json!(["Subject", "number 0"]));
    assert_eq!(seen["body"].as_str().unwrap().as_bytes(), mail(0));
    assert_eq!(seen["attempts"], 1);
    assert_eq!(run(INSPECT, &["show", &id, &scratch.log, "--body"]).bytes, mail(0));
    assert!(!run(INSPECT, &["show", &id, &scratch.log, "--meta"]).out.contains("Subject"));
    assert!(
        run(INSPECT, &["show", &id, &scratch.log, "--xml"])
            .out
            .contains("<pair><key>ip</key><value>192.0.2.7")
    );

    let other = run(INSPECT, &["show", "00/00-00001-00000000", &scratch.log]);
    assert_eq!(other.code, 8);
    assert!(other.err.contains("no message 00/00-00001-00000000"), "{}", other.err);
    assert_eq!(run(INSPECT, &["show", "0000001a:00000003", &scratch.log]).code, 16);
}

#[test]
fn nothing_in_a_message_drives_the_terminal() {
    let scratch = Scratch::empty();
    let spool = open(&scratch.log);
    let body = "Subject: \x1b[2Jhello \u{202e}\r\n\r\nx\r\n";
    let id = accept(&spool, Some("\"a b\u{202e}\"@sender.example"), "b@one.example", body.as_bytes(), 1);
    let message = spool.get(id).unwrap();
    message.context_set(Scope::Message, "k\x1b", "v\x1b]0;x\x07").unwrap();
    message.set_queue(queue("evil\x1b[31m"));
    spool.retry(&message, b"4 \x1b[1m\r\n", &RetryPolicy::default(), 0, now()).unwrap();
    spool.update_all(&message, now()).unwrap();
    drop(message);
    spool.close().unwrap();
    for args in
        [&["messages"][..], &["queues"], &["queues", "--ages"], &["show", &id.to_string()], &["check"], &[]]
    {
        let run = run(INSPECT, &[args, &[&scratch.log]].concat());
        assert_eq!(run.code, 0, "{args:?}: {}", run.err);
        assert!(!run.out.contains(['\x1b', '\u{202e}', '\x07']), "{args:?}: {:?}", run.out);
    }
}

#[test]
fn a_damaged_body_is_found_by_check_and_named() {
    let scratch = Scratch::empty();
    let ids = five(&scratch);
    let sound = run(INSPECT, &["check", &scratch.log]);
    assert_eq!(sound.code, 0, "{}", sound.out);
    assert!(sound.out.contains("5 messages read whole"), "{}", sound.out);

    damage(&scratch.log, &mail(2));
    let checked = run(INSPECT, &["check", &scratch.log]);
    assert_eq!(checked.code, 4, "{}", checked.out);
    assert!(checked.out.contains("arrivals DAMAGE"), "{}", checked.out);
    let seen = run(INSPECT, &["check", "--json", &scratch.log]).json();
    assert_eq!(seen["status"], "damaged");
    assert_eq!(seen["whole_messages"], 4);
    let named: Vec<_> =
        seen["damaged"].as_array().unwrap().iter().chain(seen["findings"].as_array().unwrap()).collect();
    let _ = (named, ids);
}

#[test]
fn the_commands_work_beside_the_owner_and_change_nothing() {
    let scratch = Scratch::empty();
    let ids = five(&scratch);
    let spool = open(&scratch.log);
    let fresh = accept(&spool, Some("anna@sender.example"), "g@four.example", &mail(9), 1);
    spool.remove(ids[1]).unwrap();
    spool.sync().unwrap();

    let seen = run(INSPECT, &["--json", &scratch.log]).json();
    assert_eq!(seen["owner"]["pid"], std::process::id());
    assert_eq!(seen["messages"], 5);
    let before = [files(&format!("{}/arrivals", scratch.log)), files(&scratch.log)];
    let listed = ids_of(&["messages", "--json", &scratch.log]);
    assert!(listed.contains(&fresh.to_string()) && !listed.contains(&ids[1].to_string()), "{listed:?}");
    assert_eq!(run(INSPECT, &["check", &scratch.log]).code, 0);
    assert_eq!(run(INSPECT, &["queues", &scratch.log]).code, 0);
    assert_eq!(run(INSPECT, &["show", &fresh.to_string(), &scratch.log, "--body"]).bytes, mail(9));
    assert_eq!([files(&format!("{}/arrivals", scratch.log)), files(&scratch.log)], before);
    spool.remove_durable(fresh).unwrap();
    assert_eq!(run(INSPECT, &["show", &fresh.to_string(), &scratch.log]).code, 8);
}

#[test]
fn what_was_set_aside_is_listed_with_its_reason() {
    let scratch = Scratch::empty();
    let ids = five(&scratch);
    assert_eq!(run(INSPECT, &["quarantine", &scratch.log]).code, 0);
    damage(&scratch.log, &mail(2));
    let spool = open(&scratch.log);
    let failed = spool.get(ids[2]);
    drop((failed, spool));
    let kept = run(INSPECT, &["quarantine", "--json", &scratch.log]);
    assert_eq!(kept.code, 4);
    let record = &kept.json()["records"][0];
    assert_eq!(record["message"], ids[2].to_string());
    assert!(record["reason"].as_str().unwrap().contains("checksum"), "{record}");
    assert!(run(INSPECT, &["quarantine", &scratch.log]).out.contains("checksum"));
}

#[test]
fn a_log_is_no_spool_and_the_other_way_round() {
    let log = Scratch::with(&["a"]);
    for command in ["messages", "queues", "quarantine"] {
        let run = run(INSPECT, &[command, &log.log]);
        assert_eq!(run.code, 16, "{}", run.err);
        assert!(run.err.contains("is no spool"), "{}", run.err);
    }
    let scratch = Scratch::empty();
    five(&scratch);
    let run = run(INSPECT, &["dump", &scratch.log]);
    assert_eq!(run.code, 16);
    assert!(run.err.contains("/arrivals"), "{}", run.err);
}

#[test]
fn a_repair_keeps_every_message_whose_records_are_sound_and_names_the_lost_one() {
    let scratch = Scratch::empty();
    let ids = five(&scratch);
    damage(&scratch.log, &mail(2));

    let plan = run(REPAIR, &["-n", &scratch.log]);
    assert_eq!(plan.code, 4, "{}{}", plan.out, plan.err);
    assert!(plan.out.contains("note that 1 message is lost here"), "{}", plan.out);
    let preened = run(REPAIR, &["-p", &scratch.log]);
    assert_eq!(preened.code, 4, "{}", preened.out);
    assert_eq!(
        ids_of(&["messages", "--json", &scratch.log]),
        names(&ids),
        "nothing is given up without being asked"
    );

    let repaired = run(REPAIR, &["-y", &scratch.log]);
    assert_eq!(repaired.code, 1, "{}{}", repaired.out, repaired.err);
    assert!(repaired.out.contains(&format!("lost     {}", ids[2])), "{}", repaired.out);
    assert!(repaired.out.contains("4 messages whole, 1 lost, 0 damaged"), "{}", repaired.out);
    let left: Vec<MessageId> = ids.iter().copied().filter(|id| *id != ids[2]).collect();
    assert_eq!(ids_of(&["messages", "--json", &scratch.log]), names(&left));
    assert_eq!(run(INSPECT, &["check", &scratch.log]).code, 0);
    assert_eq!(run(INSPECT, &[&scratch.log]).code, 0);
    let again = run(REPAIR, &["-y", &scratch.log]);
    assert_eq!(again.code, 0, "{}", again.out);

    // It is a spool to work with.
    let spool = open(&scratch.log);
    for (id, n) in left.iter().zip([0, 1, 3, 4]) {
        let mut body = Vec::new();
        spool.get(*id).unwrap().render(&mut body, &verbatim()).unwrap();
        assert_eq!(body, mail(n));
    }
    let fresh = accept(&spool, None, "b@one.example", &mail(7), 0);
    drop(spool);
    assert!(ids_of(&["messages", "--json", &scratch.log]).contains(&fresh.to_string()));
}

fn verbatim() -> spool::RenderOptions {
    spool::RenderOptions { headers_only: false, form: spool::Form::Verbatim }
}

#[test]
fn a_repair_of_a_spool_can_be_taken_back() {
    let scratch = Scratch::empty();
    five(&scratch);
    damage(&scratch.log, &mail(2));
    let before = files(&format!("{}/arrivals", scratch.log));
    assert_eq!(run(REPAIR, &["-y", &scratch.log]).code, 1);
    assert!(run(REPAIR, &["history", &scratch.log]).out.contains("Z\n"));
    let undone = run(REPAIR, &["undo", &scratch.log]);
    assert_eq!(undone.code, 0, "{}", undone.err);
    assert_eq!(files(&format!("{}/arrivals", scratch.log))["00000000"], before["00000000"]);
    assert_eq!(run(INSPECT, &["check", &scratch.log]).code, 4);
    assert_eq!(run(REPAIR, &["undo", &scratch.log]).code, 8);
    assert_eq!(run(REPAIR, &["-y", "-q", &scratch.log]).code, 1);
}

#[test]
fn a_spool_without_its_file_is_looked_at_and_made_whole() {
    let scratch = Scratch::empty();
    let ids = five(&scratch);
    fs::remove_file(Path::new(&scratch.log).join("spool")).unwrap();
    assert!(Spool::open(&scratch.log).is_err());
    let looked = run(INSPECT, &[&scratch.log]);
    assert_eq!(looked.code, 4);
    assert!(looked.out.contains("file `spool` is missing or damaged"), "{}", looked.out);
    assert_eq!(ids_of(&["messages", "--json", &scratch.log]), names(&ids));

    let plan = run(REPAIR, &["-n", "--json", &scratch.log]);
    assert_eq!(plan.code, 4);
    let planned: Value = serde_json::from_str(plan.lines().last().unwrap()).unwrap();
    assert_eq!(planned["schema"], "spool-repair/1");
    assert_eq!((&planned["applied"], planned["steps"].as_array().unwrap().len()), (&false.into(), 1));
    assert!(!Path::new(&scratch.log).join("spool").exists());
    let repaired = run(REPAIR, &["-p", &scratch.log]);
    assert_eq!(repaired.code, 1, "{}{}", repaired.out, repaired.err);
    assert!(repaired.out.contains("5 messages whole, 0 lost"), "{}", repaired.out);
    assert_eq!(run(INSPECT, &["check", &scratch.log]).code, 0);
    assert_eq!(open(&scratch.log).len().unwrap(), 5);
}

#[test]
fn a_spool_that_has_an_owner_is_not_repaired() {
    let scratch = Scratch::empty();
    five(&scratch);
    damage(&scratch.log, &mail(2));
    let spool = open(&scratch.log);
    let run = run(REPAIR, &["-y", &scratch.log]);
    assert_eq!(run.code, 8);
    assert!(run.err.contains(&format!("process {}", std::process::id())), "{}", run.err);
    drop(spool);
}

/// Whatever its owner does meanwhile, a sound spool is found to be sound.
#[test]
fn messages_that_come_move_and_go_are_no_problem() {
    use std::sync::atomic::{AtomicBool, Ordering};

    let scratch = Scratch::empty();
    five(&scratch);
    let spool = open(&scratch.log);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut held = std::collections::VecDeque::new();
            for n in 0.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                held.push_back(accept(&spool, None, "b@busy.example", &mail(n), 0));
                if n % 20 == 0 {
                    spool
                        .retry(&spool.get(held[0]).unwrap(), b"4\r\n", &RetryPolicy::default(), 0, now())
                        .unwrap();
                }
                if held.len() > 100 {
                    let gone: Vec<MessageId> = held.drain(..80).collect();
                    spool.remove_all(&gone).unwrap();
                    while spool.maintain(1 << 20).unwrap().more {}
                }
            }
        });
        let runs: Vec<Run> = (0..12)
            .map(|n| run(INSPECT, &[["check", "messages", "summary", "queues"][n % 4], &scratch.log]))
            .collect();
        stop.store(true, Ordering::Relaxed);
        for run in runs {
            assert_eq!(run.code, 0, "{}{}", run.out, run.err);
        }
    });
}

#[test]
fn messages_are_held_released_requeued_exported_and_removed() {
    let scratch = Scratch::empty();
    let ids = five(&scratch);
    let state = |state: &str| ids_of(&["messages", "--json", "--state", state, &scratch.log]);
    let done = |args: &[&str]| {
        let run = run(JLOG, &[&["spool"], args].concat());
        assert_eq!(run.code, 0, "{args:?}: {}", run.err);
        run
    };
    let first = ids[0].to_string();
    done(&["hold", &scratch.log, &first, &ids[1].to_string()]);
    assert_eq!(state("held"), names(&[ids[0], ids[1], ids[3]]));
    done(&["release", &scratch.log, "--all"]);
    assert_eq!(state("held"), names(&[]));

    assert!(!ids_of(&["messages", "--json", "--due", &scratch.log]).contains(&first));
    done(&["requeue", &scratch.log, &first]);
    assert_eq!(ids_of(&["messages", "--json", "--due", &scratch.log]).len(), 5);
    done(&["requeue", &scratch.log, "--domain", "two.example", "--in", "1h"]);
    assert_eq!(ids_of(&["messages", "--json", "--due", &scratch.log]).len(), 3);

    let (maildir, mbox) = (scratch.path("maildir"), scratch.path("mbox"));
    done(&["export", &scratch.log, "--all", "--maildir", &maildir]);
    let delivered = files(&format!("{maildir}/new"));
    assert_eq!(delivered.values().filter(|bytes| **bytes == mail(0)).count(), 1);
    assert_eq!(delivered.len(), 5);
    done(&["export", &scratch.log, "--queue", "one.example", "--mbox", &mbox]);
    assert!(fs::read_to_string(&mbox).unwrap().starts_with("From anna@sender.example "));

    let other = scratch.path("other");
    done(&["import", &other, &mbox, "--recipient", "b@one.example"]);
    done(&["import", &other, &scratch.log]);
    assert_eq!(lines(&["messages", "--json", &other]).len(), 2 + 5);
    let again = done(&["import", &other, &scratch.log]);
    assert!(again.err.contains("imported: 0 messages for 0 recipients, 5 before"), "{}", again.err);
    assert_eq!(run(INSPECT, &["check", &other]).code, 0);

    let planned = done(&["remove", "-n", &scratch.log, "--sender", "anna@"]);
    assert_eq!(planned.lines(), names(&[ids[0], ids[2], ids[3]]));
    assert_eq!(ids_of(&["messages", "--json", &scratch.log]), names(&ids));
    done(&["purge", &scratch.log, "--sender", "anna@"]);
    assert_eq!(ids_of(&["messages", "--json", &scratch.log]), names(&[ids[1], ids[4]]));

    let gone = run(JLOG, &["spool", "remove", &scratch.log, &first]);
    assert_eq!(gone.code, 4);
    assert!(gone.err.contains(&first), "{}", gone.err);
    assert_eq!(run(JLOG, &["spool", "remove", &scratch.log]).code, 16, "which ones is to be said");
    assert_eq!(run(JLOG, &["spool", "remove", &scratch.path("none"), "--all"]).code, 8);
    assert!(!Path::new(&scratch.path("none")).exists());

    let spool = open(&scratch.log);
    let refused = run(JLOG, &["spool", "remove", &scratch.log, "--all"]);
    assert_eq!(refused.code, 8);
    assert!(refused.err.contains(&format!("pid {}", std::process::id())), "{}", refused.err);
    assert_eq!(spool.len().unwrap(), 2);
}

#[test]
fn a_lost_piece_of_a_shared_body_costs_those_that_share_it_and_is_left_to_be_decided_on() {
    let scratch = Scratch::empty();
    let ids = five(&scratch);
    let spool = open(&scratch.log);
    let first = Message::from_bytes(spool.new_id(ago(5)), mail(7));
    first.set_queue(queue("one.example"));
    let second = first.share(spool.new_id(ago(5))).unwrap();
    let shared = [first.id(), second.id()];
    spool.accept_batch(&[first, second], ago(5)).unwrap();
    spool.close().unwrap();
    damage(&scratch.log, &mail(7));

    for _ in 0..2 {
        let seen = run(INSPECT, &["check", "--json", &scratch.log]).json();
        assert_eq!(seen["whole_messages"], 5);
        let damaged: Vec<_> =
            seen["damaged"].as_array().unwrap().iter().map(|one| one["id"].clone()).collect();
        assert_eq!(damaged, names(&shared));
        // Their envelopes can be read: they stay until somebody decides.
        let repaired = run(REPAIR, &["-y", &scratch.log]);
        assert_eq!(repaired.code, 4, "{}", repaired.out);
        assert!(repaired.out.contains("5 messages whole, 0 lost, 2 damaged"), "{}", repaired.out);
    }
    let corrupt = ["messages", "--json", "--state", "corrupt", &scratch.log];
    assert_eq!(ids_of(&corrupt), names(&shared));
    let removed = run(JLOG, &["spool", "remove", &scratch.log, "--state", "corrupt"]);
    assert_eq!(removed.code, 0, "{}", removed.err);
    assert_eq!(run(INSPECT, &["check", &scratch.log]).code, 0);
    assert_eq!(ids_of(&["messages", "--json", &scratch.log]), names(&ids));
}

#[test]
fn a_message_whose_newest_record_is_lost_goes_on_as_the_one_before_says() {
    let scratch = Scratch::empty();
    let ids = five(&scratch);
    damage(&scratch.log, b"451 later");
    let listed = run(INSPECT, &["check", &scratch.log]);
    assert_eq!(listed.code, 4, "{}", listed.out);
    let repaired = run(REPAIR, &["-y", &scratch.log]);
    assert!(repaired.out.contains("5 messages whole, 0 lost, 0 damaged"), "{}", repaired.out);
    assert_eq!(repaired.code, 1);
    assert_eq!(lines(&["messages", "--json", &scratch.log])[0]["attempts"], 0);
    assert_eq!(ids_of(&["messages", "--json", &scratch.log]), names(&ids));
}
