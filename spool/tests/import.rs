//! Import and export: what goes in, what happens when it is broken off, and what comes out again.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::sync::{Arc, Mutex};

use jlog::io::sim::{SimDisk, Times};
use spool::mailbox::{EmlFolder, Maildir, MboxWriter, Source};
use spool::{
    ExportOptions, ExportTarget, Ids, ImportEvent, ImportOptions, ImportProgress, ImportReport, Message,
    MessageId, QueueKey, Scope, Spool, SpoolError, SpoolHooks, SpoolOptions, Timestamp,
};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

fn now(seconds: u32) -> Timestamp {
    Timestamp::new(1_700_000_000 + seconds, 0)
}

fn options() -> SpoolOptions {
    SpoolOptions::new().background(false).segment_size(64 << 10).reserve(0).large_message_threshold(3000)
}

fn queue(domain: &str) -> QueueKey {
    QueueKey { domain: domain.to_owned(), ..QueueKey::default() }
}

fn body_of(message: &Message) -> Vec<u8> {
    let mut bytes = Vec::new();
    message.body().unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

/// Bodies and all else, by the message's number.
type Contents = BTreeMap<Vec<u8>, (Vec<u8>, String)>;

/// All that is to come along, by the number that each message carries.
fn contents(spool: &Spool) -> Contents {
    let mut all = BTreeMap::new();
    for listed in spool.entries().unwrap() {
        let message = spool.get(listed.id).unwrap();
        let resource = message.resource("side").unwrap();
        let told = format!(
            "{:?} {:?} {} {} {} {:?} {:?} {}",
            message.envelope(),
            message.queue(),
            message.attempts(),
            message.next_attempt(),
            message.priority(),
            message.last_reply(),
            resource,
            message.is_held(),
        );
        let number = message.context_get(Scope::Message, "n").unwrap();
        let twice = all.insert(number, (body_of(&message), told));
        assert!(twice.is_none(), "message {} is there twice", message.id());
    }
    all
}

/// Messages of every kind: small, large, with a resource, held, tried; and some that share a body.
fn fill(spool: &Spool, messages: u32) -> Vec<MessageId> {
    let mut ids = Vec::new();
    for n in 0..messages {
        let size = if n % 5 == 4 { 7000 } else { 50 };
        let message = Message::from_bytes(spool.new_id(now(n)), vec![b'a' + (n % 20) as u8; size]);
        message.set_mail_from(b"MAIL FROM:<a@sender.example> SIZE=77\r\n").unwrap();
        message.set_recipient(Some("b@one.example".parse().unwrap()));
        message.set_queue(queue("one.example"));
        message.set_priority(n as u8);
        message.context_set(Scope::Message, "n", n.to_string()).unwrap();
        if n % 4 == 1 {
            message.put_resource("side", vec![n as u8; 30]).unwrap();
        }
        let mut batch = vec![message];
        if n % 6 == 2 {
            let other = batch[0].share(spool.new_id(now(n))).unwrap();
            other.context_set(Scope::Message, "n", format!("{n}b")).unwrap();
            batch.push(other);
        }
        spool.accept_batch(&batch, now(n)).unwrap();
        if n % 3 == 1 {
            spool.retry(&batch[0], b"451 later\r\n", &spool::RetryPolicy::default(), 0, now(n)).unwrap();
        }
        if n == 3 {
            spool.hold(batch[0].id(), now(n)).unwrap();
        }
        ids.extend(batch.iter().map(Message::id));
    }
    ids
}

fn import(spool: &Spool, source: &Path, options: &ImportOptions) -> ImportReport {
    spool.import_spool(source, options, now(900), &mut |_| {}).unwrap()
}

/// The old id, the name, and the new id or what is wrong.
type Event = (Option<MessageId>, String, Result<MessageId, String>);

#[derive(Debug, Default)]
struct Told(Mutex<Vec<Event>>);

impl SpoolHooks for Told {
    fn on_import(&self, event: &ImportEvent<'_>) {
        let result = event.result.map_err(ToString::to_string);
        self.0.lock().unwrap().push((event.from, event.name.to_owned(), result));
    }

    fn on_recipient(&self, message: &Message) -> Result<(), String> {
        let refused = message.context_get(Scope::Message, "n").unwrap() == b"refused";
        if refused { Err("not this one".to_owned()) } else { Ok(()) }
    }
}

#[test]
fn a_spools_messages_come_with_all_they_have_and_leave_their_source() {
    for concurrency in [0, 1, 4] {
        let dir = tempfile::tempdir().unwrap();
        let (ours, theirs) = (dir.path().join("ours"), dir.path().join("theirs"));
        let source = options().open(&theirs).unwrap();
        let ids = fill(&source, 300);
        let wanted = contents(&source);
        assert!(matches!(
            options().open(&ours).unwrap().import_spool(&theirs, &ImportOptions::new(), now(0), &mut |_| {}),
            Err(SpoolError::Locked { .. })
        ));
        source.close().unwrap();

        let told = Arc::new(Told::default());
        let spool = options().hook(Arc::clone(&told) as Arc<dyn SpoolHooks>).open(&ours).unwrap();
        let mut seen = Vec::new();
        let report = spool
            .import_spool(&theirs, &ImportOptions::new().concurrency(concurrency), now(900), &mut |p| {
                seen.push(p);
            })
            .unwrap();
        let total = ids.len() as u64;
        let whole = ImportProgress { done: total, total: Some(total), ..ImportProgress::default() };
        assert_eq!((report.progress, report.accepted, report.renamed), (whole, total, 0));
        assert!(report.source_removed && seen.last() == Some(&whole));
        let told = told.0.lock().unwrap();
        assert_eq!(told.len(), ids.len());
        assert!(told.iter().all(|(from, _, new)| *from == new.clone().ok()));
        assert_eq!(contents(&spool), wanted);
        assert!(ids.iter().all(|id| spool.contains(*id).unwrap()));
        drop(spool);
        assert!(options().open(&theirs).unwrap().is_empty().unwrap());
        let spool = options().open(&ours).unwrap();
        assert!(spool.wait_recovered().unwrap().findings.is_empty());
        assert_eq!(contents(&spool), wanted);
    }
}

#[test]
fn a_body_that_was_shared_is_written_once_across_batches_too() {
    let dir = tempfile::tempdir().unwrap();
    let theirs = dir.path().join("theirs");
    let source = options().large_message_threshold(1 << 20).open(&theirs).unwrap();
    let first = Message::from_bytes(source.new_id(now(0)), vec![b'x'; 40_000]);
    let mut batch = vec![first];
    for _ in 1..300 {
        batch.push(batch[0].share(source.new_id(now(0))).unwrap());
    }
    source.accept_batch(&batch, now(0)).unwrap();
    drop(batch);
    source.close().unwrap();
    for threshold in [1 << 20, 10_000] {
        let options = || options().large_message_threshold(threshold);
        let spool = options().open(dir.path().join(threshold.to_string())).unwrap();
        let kept = ImportOptions::new().remove_source(false).concurrency(3);
        assert_eq!(import(&spool, &theirs, &kept).progress.done, 300);
        assert!(spool.stats().disk_bytes < 110_000, "{}", spool.stats().disk_bytes);
        drop(spool);
        let spool = options().open(dir.path().join(threshold.to_string())).unwrap();
        assert!(spool.entries().unwrap().all(|l| body_of(&spool.get(l.id).unwrap()) == [b'x'; 40_000]));
    }
}

#[test]
fn an_id_that_is_taken_is_replaced_and_one_that_is_free_is_kept_unless_new_ones_are_wanted() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, theirs) = (dir.path().join("ours"), dir.path().join("theirs"));
    let source = options().open(&theirs).unwrap();
    let ids = fill(&source, 3);
    let wanted = contents(&source);
    source.close().unwrap();
    let spool = options().open(&ours).unwrap();
    let other = Message::from_bytes(ids[1], *b"another one");
    other.context_set(Scope::Message, "n", "other").unwrap();
    spool.accept(&other, now(0)).unwrap();
    let one = spool.import_message(&theirs, ids[0], &ImportOptions::new(), now(9)).unwrap();
    assert_eq!((one.old, one.new), (ids[0], ids[0]));
    let two = spool.import_message(&theirs, ids[1], &ImportOptions::new(), now(9)).unwrap();
    assert!(two.new != ids[1] && spool.contains(two.new).unwrap());
    let again = spool.import_message(&theirs, ids[1], &ImportOptions::new(), now(9));
    assert!(matches!(again, Err(SpoolError::NotFound(_))));
    let report = import(&spool, &theirs, &ImportOptions::new().ids(Ids::AlwaysNew));
    assert_eq!((report.progress.done, report.renamed), (2, 2));
    assert!(!spool.contains(ids[2]).unwrap());
    let mut all = contents(&spool);
    assert_eq!(all.remove(&b"other"[..]).unwrap().0, b"another one");
    assert_eq!(all, wanted);
}

#[test]
fn a_spool_that_is_only_looked_at_imports_nothing_and_stays_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, theirs) = (dir.path().join("ours"), dir.path().join("theirs"));
    fill(&options().open(&theirs).unwrap(), 2);
    drop(options().open(&ours).unwrap());
    let spool = options().open_read_only(&ours).unwrap();
    let refused = spool.import_spool(&theirs, &ImportOptions::new(), now(0), &mut |_| {});
    assert!(matches!(refused, Err(SpoolError::ReadOnly)), "{refused:?}");
    let source = Source::Eml(dir.path().to_path_buf());
    let refused = spool.import_mailbox(&source, &ImportOptions::new(), now(0), &mut |_| {});
    assert!(matches!(refused, Err(SpoolError::ReadOnly)), "{refused:?}");
    assert!(!ours.join("imports").exists());
}

#[test]
fn a_message_that_is_refused_stays_where_it_is_and_the_others_go_in() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, theirs) = (dir.path().join("ours"), dir.path().join("theirs"));
    let source = options().open(&theirs).unwrap();
    let ids = fill(&source, 10);
    let refused = source.get(ids[4]).unwrap();
    refused.context_set(Scope::Message, "n", "refused").unwrap();
    source.update(&refused, now(1)).unwrap();
    drop(refused);
    let mut wanted = contents(&source);
    source.close().unwrap();
    let told = Arc::new(Told::default());
    let spool = options().hook(Arc::clone(&told) as Arc<dyn SpoolHooks>).open(&ours).unwrap();
    for run in 0..2 {
        let report = import(&spool, &theirs, &ImportOptions::new());
        assert_eq!(report.progress.done, if run == 0 { ids.len() as u64 - 1 } else { 0 });
        assert_eq!((report.progress.failed, report.source_removed), (1, false));
        assert!(
            report.failures[0].reason.contains("not this one")
                && report.failures[0].name == ids[4].to_string()
        );
    }
    assert_eq!(told.0.lock().unwrap().iter().filter(|told| told.2.is_err()).count(), 2);
    let left = contents(&options().open(&theirs).unwrap());
    assert_eq!(left.keys().collect::<Vec<_>>(), [b"refused"]);
    wanted.remove(&b"refused"[..]);
    assert_eq!(contents(&spool), wanted);
}

#[test]
fn another_message_that_took_the_id_meanwhile_is_not_mistaken_for_the_one_that_was_to_come() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, theirs) = (dir.path().join("ours"), dir.path().join("theirs"));
    let source = options().open(&theirs).unwrap();
    let message = Message::from_bytes(source.new_id(now(0)), *b"the one");
    message.context_set(Scope::Message, "n", "refused").unwrap();
    source.accept(&message, now(0)).unwrap();
    let id = message.id();
    drop(message);
    source.close().unwrap();
    let kept = ImportOptions::new().remove_source(false);
    let spool = options().hook(Arc::new(Told::default())).open(&ours).unwrap();
    assert_eq!(import(&spool, &theirs, &kept).progress.failed, 1);
    drop(spool);

    let spool = options().open(&ours).unwrap();
    spool.accept(&Message::from_bytes(id, *b"another"), now(1)).unwrap();
    let report = import(&spool, &theirs, &ImportOptions::new());
    assert_eq!((report.progress.done, report.renamed), (1, 1));
    assert_eq!(spool.len().unwrap(), 2);
}

#[test]
fn a_source_that_is_kept_is_imported_once_until_it_is_wanted_afresh() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, theirs) = (dir.path().join("ours"), dir.path().join("theirs"));
    let source = options().open(&theirs).unwrap();
    let ids = fill(&source, 5);
    source.close().unwrap();
    let spool = options().open(&ours).unwrap();
    let kept = ImportOptions::new().remove_source(false);
    assert_eq!(import(&spool, &theirs, &kept).progress.done, ids.len() as u64);
    let first = ids[0];
    spool.remove(first).unwrap();
    let again = import(&spool, &theirs, &kept).progress;
    assert_eq!((again.done, again.skipped), (0, ids.len() as u64));
    let afresh = import(&spool, &theirs, &kept.clone().afresh(true));
    assert_eq!((afresh.progress.done, afresh.renamed), (ids.len() as u64, ids.len() as u64 - 1));
    let removed = import(&spool, &theirs, &ImportOptions::new());
    assert_eq!((removed.progress.done, removed.source_removed), (0, true));
    assert!(options().open(&theirs).unwrap().is_empty().unwrap());
    let nothing = spool.import_spool(dir.path().join("x"), &kept, now(0), &mut |_| {});
    assert!(matches!(nothing, Err(SpoolError::NotASpool { .. })), "{nothing:?}");
    assert!(!dir.path().join("x").exists());
}

/// Two spools on a simulated disk, one of them full.
fn simulated(messages: u32) -> (SimDisk, Contents) {
    let disk = SimDisk::new(3);
    disk.keep_trace(false);
    let source = options().open_on(Arc::new(disk.clone()), "/theirs").unwrap();
    fill(&source, messages);
    // Two of them have ids that are taken.
    let wanted = contents(&source);
    let ids: Vec<_> = source.entries().unwrap().map(|listed| listed.id).take(2).collect();
    source.close().unwrap();
    let spool = options().open_on(Arc::new(disk.clone()), "/ours").unwrap();
    for id in ids {
        let taken = Message::from_bytes(id, *b"taken");
        taken.context_set(Scope::Message, "n", format!("taken {id}")).unwrap();
        spool.accept(&taken, now(0)).unwrap();
    }
    spool.close().unwrap();
    (disk, wanted)
}

fn import_on(disk: &SimDisk, options_: &ImportOptions) -> Result<ImportReport, SpoolError> {
    let spool = options().open_on(Arc::new(disk.clone()), "/ours")?;
    spool.import_spool("/theirs", options_, now(900), &mut |_| {})
}

/// All of the source, once, and nothing else but what was here.
fn check(disk: &SimDisk, wanted: &Contents, source_is_empty: bool, what: &str) {
    let spool = options().open_on(Arc::new(disk.clone()), "/ours").unwrap();
    let mut all = contents(&spool);
    let before = all.len();
    all.retain(|n, _| !n.starts_with(b"taken"));
    assert_eq!(before - all.len(), 2, "{what}");
    assert_eq!(all.keys().collect::<Vec<_>>(), wanted.keys().collect::<Vec<_>>(), "{what}");
    assert_eq!(&all, wanted, "{what}");
    let source = options().open_on(Arc::new(disk.clone()), "/theirs").unwrap();
    assert_eq!(source.is_empty().unwrap(), source_is_empty, "{what}");
}

fn ways() -> [(ImportOptions, bool); 3] {
    [
        (ImportOptions::new(), true),
        (ImportOptions::new().ids(Ids::AlwaysNew), true),
        (ImportOptions::new().remove_source(false), false),
    ]
}

#[test]
fn an_import_cut_off_by_the_loss_of_power_at_any_moment_is_gone_on_with() {
    for (way, removes) in ways() {
        let (disk, wanted) = simulated(7);
        let images = Arc::new(Mutex::new(Vec::new()));
        let keep = Arc::clone(&images);
        let mut seed = 0;
        disk.observe(move |disk, _| {
            seed += 1;
            keep.lock().unwrap().extend([disk.power_cut(), disk.torn_power_cut(seed)]);
        });
        import_on(&disk, &way).unwrap();
        disk.unobserve();
        check(&disk, &wanted, removes, "not cut off");
        let images = std::mem::take(&mut *images.lock().unwrap());
        assert!(images.len() > 40, "{}", images.len());
        for (n, image) in images.iter().enumerate() {
            import_on(image, &way).unwrap_or_else(|error| panic!("image {n}, {way:?}: {error}"));
            check(image, &wanted, removes, &format!("image {n}, {way:?}"));
        }
    }
}

#[test]
fn an_import_of_several_batches_is_gone_on_with_after_the_loss_of_power() {
    let (disk, wanted) = simulated(150);
    let images = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&images);
    let mut count = 0;
    disk.observe(move |disk, _| {
        count += 1;
        if count % 9 == 0 {
            keep.lock().unwrap().push(disk.torn_power_cut(count));
        }
    });
    let way = ImportOptions::new().concurrency(3);
    import_on(&disk, &way).unwrap();
    disk.unobserve();
    let images = std::mem::take(&mut *images.lock().unwrap());
    for (n, image) in images.iter().enumerate() {
        import_on(image, &way).unwrap();
        check(image, &wanted, true, &format!("image {n}"));
    }
}

#[test]
fn an_import_that_fails_at_any_call_of_the_disk_is_gone_on_with() {
    for (way, removes) in ways() {
        for (errno, step) in [(EIO, 1), (ENOSPC, 3)] {
            let (all, wanted) = simulated(4);
            let mut n = 0;
            loop {
                let disk = all.power_cut();
                disk.fail_at(disk.operations() + n, errno, Times::Sticky);
                let first = import_on(&disk, &way);
                disk.heal();
                let what = format!("operation {n}, error {errno}, {way:?}");
                import_on(&disk, &way).unwrap_or_else(|error| panic!("{what}: {error}"));
                check(&disk, &wanted, removes, &what);
                n += step;
                if first.is_ok() {
                    break;
                }
            }
            assert!(n > 30, "{n}");
        }
    }
}

#[test]
fn a_full_disk_stops_an_import_and_costs_nothing() {
    let (disk, wanted) = simulated(60);
    // What is there, and little more.
    let mut stopped = 0;
    for room in [200_000, 230_000, 260_000] {
        disk.limit(Some(room));
        match import_on(&disk, &ImportOptions::new()) {
            Err(SpoolError::Full { .. }) => stopped += 1,
            other => drop(other.unwrap()),
        }
    }
    disk.limit(None);
    assert!(stopped > 0);
    import_on(&disk, &ImportOptions::new()).unwrap();
    check(&disk, &wanted, true, "after a full disk");
}

// Mail files

fn mail(n: u32) -> Vec<u8> {
    let filler = "text that goes on\n".repeat(if n % 50 == 7 { 400 } else { n as usize % 7 });
    format!(
        "From: x@y.example\nTo: Rcpt <r{n}@d{}.example>\nSubject: {n}\n\nFrom here\n>From {n}\n{filler}",
        n % 3
    )
    .into_bytes()
}

fn subjects(spool: &Spool) -> BTreeMap<Vec<u8>, u32> {
    let mut found = BTreeMap::new();
    for listed in spool.entries().unwrap() {
        *found.entry(body_of(&spool.get(listed.id).unwrap())).or_default() += 1;
    }
    found
}

fn all_mails(count: u32) -> BTreeMap<Vec<u8>, u32> {
    (0..count).map(|n| (mail(n), 1)).collect()
}

fn take(spool: &Spool, source: &Source, options: &ImportOptions) -> ImportReport {
    spool.import_mailbox(source, options, now(5), &mut |_| {}).unwrap()
}

fn write_mbox(path: &Path, mails: std::ops::Range<u32>) {
    let mut mbox = MboxWriter::open(path).unwrap();
    for n in mails {
        mbox.append("s@sender.example", 1_700_000_000 + n, &mut &mail(n)[..]).unwrap();
    }
    mbox.sync().unwrap();
}

#[test]
fn an_mbox_of_a_thousand_goes_in_once_and_what_is_added_later_too() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("inbox");
    write_mbox(&path, 0..1000);
    let spool = options().open(dir.path().join("spool")).unwrap();
    let source = Source::detect(&path).unwrap();
    let report = take(&spool, &source, &ImportOptions::new());
    assert_eq!((report.progress.done, report.accepted, report.progress.failed), (1000, 1000, 0));
    assert!(subjects(&spool) == all_mails(1000));
    let one = spool.list(&queue("d1.example"), None, 1).unwrap();
    let one = spool.get(one[0].id).unwrap();
    assert_eq!(one.envelope().sender().unwrap().to_string(), "s@sender.example");
    assert_eq!(one.envelope().recipient().unwrap().to_string(), "r1@d1.example");

    write_mbox(&path, 1000..1010);
    let again = take(&spool, &source, &ImportOptions::new()).progress;
    assert_eq!((again.done, again.skipped), (10, 1000));
    assert!(subjects(&spool) == all_mails(1010));

    // Another file by that name.
    std::fs::remove_file(&path).unwrap();
    write_mbox(&path, 2000..2020);
    let other = take(&spool, &source, &ImportOptions::new().remove_source(true));
    assert_eq!((other.progress.done, other.source_removed, path.exists()), (20, true, false));
}

#[test]
fn a_maildir_and_a_folder_go_in_by_any_number_of_threads_and_leave_if_told() {
    for concurrency in [1, 4] {
        let dir = tempfile::tempdir().unwrap();
        let mut maildir = Maildir::create(dir.path().join("maildir")).unwrap();
        let folder = EmlFolder::create(dir.path().join("folder")).unwrap();
        for n in 0..300 {
            let _ = maildir.deliver(&mut &mail(n)[..], &format!("unique-{n}")).unwrap();
            folder.write(&format!("{n}"), &mut &mail(n)[..]).unwrap();
        }
        let sources = [Source::Maildir(dir.path().join("maildir")), Source::Eml(dir.path().join("folder"))];
        for source in sources {
            let name = format!("spool-{}", source.path().file_name().unwrap().to_string_lossy());
            let spool = options().open(dir.path().join(name)).unwrap();
            let kept = ImportOptions::new().concurrency(concurrency);
            let report = take(&spool, &source, &kept);
            assert_eq!((report.progress.done, report.progress.total), (300, Some(300)));
            assert!(subjects(&spool) == all_mails(300));
            assert_eq!(take(&spool, &source, &kept).progress.skipped, 300);
            let removed = take(&spool, &source, &kept.clone().remove_source(true));
            assert_eq!((removed.progress.done, removed.source_removed), (0, true));
            assert!(subjects(&spool) == all_mails(300));
        }
        assert_eq!(maildir.messages().unwrap().count(), 0);
        assert_eq!(folder.messages(true).unwrap().count(), 0);
    }
}

#[test]
fn a_message_with_many_recipients_is_many_messages_and_one_body_and_one_without_any_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let folder = EmlFolder::create(dir.path().join("folder")).unwrap();
    let text = "Return-Path: <bounce@s.example>\r\nTo: a@x.example, \"B, b\" <b@y.example>\r\nCc: a@x.example,\r\n\
                c@x.example\r\nBcc: d@z.example\r\n\r\n";
    let body = [text.as_bytes(), &[b'q'; 2000]].concat();
    folder.write("many", &mut &body[..]).unwrap();
    folder.write("none", &mut &b"Subject: x\r\n\r\nhello\r\n"[..]).unwrap();
    let delivered = b"Delivered-To: list@x.example\nTo: a@x.example\n\nhello\n";
    folder.write("over", &mut &delivered[..]).unwrap();
    let spool = options().open(dir.path().join("spool")).unwrap();
    let source = Source::Eml(dir.path().join("folder"));
    let report = take(&spool, &source, &ImportOptions::new());
    assert_eq!((report.progress.done, report.accepted, report.progress.failed), (2, 4, 1));
    assert!(report.failures[0].name.starts_with("none.eml "), "{:?}", report.failures);
    assert!(spool.stats().disk_bytes < 2 * body.len() as u64);
    let recipients = |spool: &Spool| {
        let mut found: Vec<String> = Vec::new();
        for listed in spool.entries().unwrap() {
            let envelope = spool.get(listed.id).unwrap().envelope();
            let sender = envelope.sender().map(ToString::to_string).unwrap_or_default();
            found.push(format!("{sender}>{}:{}", envelope.recipient().unwrap(), listed.queue.domain));
        }
        found.sort_unstable();
        found
    };
    assert_eq!(
        recipients(&spool),
        [
            ">list@x.example:x.example",
            "bounce@s.example>a@x.example:x.example",
            "bounce@s.example>b@y.example:y.example",
            "bounce@s.example>d@z.example:z.example",
        ]
    );
    let given = ImportOptions::new()
        .afresh(true)
        .recipients(["only@w.example".parse().unwrap()])
        .queue(queue("smarthost"))
        .trace_header("from a folder");
    let other = options().open(dir.path().join("other")).unwrap();
    assert_eq!(take(&other, &source, &given).progress.done, 3);
    let bodies = subjects(&other);
    let traced = [&b"X-Spool-Import: from a folder\r\n"[..], &body].concat();
    assert!(bodies.contains_key(&traced));
    assert!(bodies.contains_key(&[&b"X-Spool-Import: from a folder\n"[..], delivered].concat()));
    assert_eq!(other.queue(&queue("smarthost")).unwrap().unwrap().messages, 3);
    let broken = ImportOptions::new().trace_header("a\r\nb");
    assert!(other.import_mailbox(&source, &broken, now(0), &mut |_| {}).is_err());
}

/// Refuses to go on after so many messages, as a process that is killed does.
#[derive(Debug)]
struct Killer(Mutex<u32>);

impl SpoolHooks for Killer {
    fn on_recipient(&self, _: &Message) -> Result<(), String> {
        self.tick();
        Ok(())
    }

    fn on_import(&self, _: &ImportEvent<'_>) {
        self.tick();
    }
}

impl Killer {
    fn tick(&self) {
        let left = self.0.lock().unwrap().checked_sub(1);
        match left {
            Some(left) => *self.0.lock().unwrap() = left,
            None => std::panic::resume_unwind(Box::new("killed")),
        }
    }
}

#[test]
fn an_import_of_mail_files_that_is_killed_is_gone_on_with() {
    for removes in [false, true] {
        for kind in 0..2 {
            for moment in (0..600).step_by(59) {
                let dir = tempfile::tempdir().unwrap();
                let source = if kind == 0 {
                    write_mbox(&dir.path().join("inbox"), 0..300);
                    Source::Mbox(dir.path().join("inbox"))
                } else {
                    let mut maildir = Maildir::create(dir.path().join("maildir")).unwrap();
                    for n in 0..300 {
                        let _ = maildir.deliver(&mut &mail(n)[..], &n.to_string()).unwrap();
                    }
                    Source::Maildir(dir.path().join("maildir"))
                };
                let path = dir.path().join("spool");
                let import = ImportOptions::new().remove_source(removes);
                let spool = options()
                    .durability(spool::Durability::Process)
                    .hook(Arc::new(Killer(Mutex::new(moment))))
                    .open(&path)
                    .unwrap();
                let killed =
                    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| take(&spool, &source, &import)));
                assert!(killed.is_err(), "moment {moment}");
                drop(spool);
                let spool = options().open(&path).unwrap();
                let report = take(&spool, &source, &import);
                assert!(subjects(&spool) == all_mails(300), "moment {moment}");
                assert_eq!(report.source_removed, removes);
            }
        }
    }
}

// Export

#[test]
fn what_is_exported_and_imported_again_is_byte_for_byte_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let spool = options().open(dir.path().join("spool")).unwrap();
    write_mbox(&dir.path().join("inbox"), 0..200);
    take(&spool, &Source::Mbox(dir.path().join("inbox")), &ImportOptions::new());
    let targets = [
        (ExportTarget::Mbox(dir.path().join("out")), Source::Mbox(dir.path().join("out"))),
        (ExportTarget::Maildir(dir.path().join("dir")), Source::Maildir(dir.path().join("dir"))),
        (ExportTarget::Eml(dir.path().join("eml")), Source::Eml(dir.path().join("eml"))),
    ];
    for (n, (target, source)) in targets.iter().enumerate() {
        let report = spool.export(target, |_| true, &ExportOptions::new(), &mut |_| {}).unwrap();
        assert_eq!((report.progress.done, report.progress.total, report.removed), (200, 200, 0));
        let other = options().open(dir.path().join(n.to_string())).unwrap();
        take(&other, source, &ImportOptions::new());
        assert!(subjects(&other) == all_mails(200));
    }
    let (maildir, source) = &targets[1];
    let again = spool.export(maildir, |_| true, &ExportOptions::new(), &mut |_| {}).unwrap();
    assert_eq!(again.progress.skipped, 200);
    let remove = ExportOptions::new().remove(true);
    let some =
        spool.export(maildir, |listed| listed.queue == queue("d1.example"), &remove, &mut |_| {}).unwrap();
    assert_eq!((some.removed, spool.len().unwrap()), (67, 133));
    let other = options().open(dir.path().join("after")).unwrap();
    assert_eq!(take(&other, source, &ImportOptions::new()).progress.done, 200);
}

#[test]
fn messages_of_two_spools_with_one_id_are_two_in_a_maildir() {
    let dir = tempfile::tempdir().unwrap();
    let target = ExportTarget::Maildir(dir.path().join("maildir"));
    for name in ["one", "two"] {
        let spool = options().open(dir.path().join(name)).unwrap();
        let id = "00/00-00001-65535F00".parse().unwrap();
        spool.accept(&Message::from_bytes(id, name.as_bytes().to_vec()), now(0)).unwrap();
        let remove = ExportOptions::new().remove(true);
        let report = spool.export(&target, |_| true, &remove, &mut |_| {}).unwrap();
        assert_eq!((report.progress.skipped, report.removed), (0, 1));
    }
    assert_eq!(Maildir::open(dir.path().join("maildir")).unwrap().messages().unwrap().count(), 2);
}

#[test]
fn an_export_tells_the_envelope_where_it_is_asked_to() {
    let dir = tempfile::tempdir().unwrap();
    let spool = options().open(dir.path().join("spool")).unwrap();
    let message = Message::from_bytes(spool.new_id(now(0)), *b"Subject: x\r\n\r\nhello\r\n");
    message.set_sender(Some("a@s.example".parse().unwrap()));
    message.set_recipient(Some("b@r.example".parse().unwrap()));
    spool.accept(&message, now(0)).unwrap();
    let with = ExportOptions::new().envelope_headers(true);
    let target = ExportTarget::Eml(dir.path().join("eml"));
    spool.export(&target, |_| true, &with, &mut |_| {}).unwrap();
    let folder = EmlFolder::open(dir.path().join("eml")).unwrap();
    let path = folder.messages(false).unwrap().next().unwrap().unwrap();
    assert_eq!(
        std::fs::read_to_string(path).unwrap(),
        "Return-Path: <a@s.example>\r\nDelivered-To: b@r.example\r\nSubject: x\r\n\r\nhello\r\n"
    );
}
