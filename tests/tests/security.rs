//! Directories that somebody else has prepared: links, FIFOs and devices in the place of files, names of any bytes,
//! lengths that nobody could mean; and processes that are forked, or have a umask.
//!
//! Where a process of its own is needed it is this test binary, started again with the one test [`another_process`].

#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use jlog::inspect::{FindingKind, inspect};
use jlog::repair::{self, Options};
use jlog::{
    Compression, CreateOptions, Durability, ErrorKind, Format, Log, OnDamage, RecordId, Start, Subscriber,
    WriterOptions,
};
use jlog_tests::{Scratch, at, copy_dir, read_all, snapshot};
use nix::sys::stat::Mode;
use nix::unistd::{alarm, daemon, mkfifo};
use spool::mailbox::Source;
use spool::{Durability as SpoolDurability, ImportOptions, Message, Spool, SpoolOptions, Timestamp};

const STAMP: &str = "2026-01-01T00-00-00Z";

fn subscriber(name: impl AsRef<[u8]>) -> Subscriber {
    Subscriber::new(name).unwrap()
}

fn message(n: u32) -> Vec<u8> {
    let mut message = format!("{n}:").into_bytes();
    message.resize(60, b'a' + (n % 26) as u8);
    message
}

/// A log of several segments with an index for each, and one subscriber in the middle.
fn build(path: &Path, format: Format) {
    let log = Log::create_with(path, &CreateOptions::new().format(format).segment_size(600)).unwrap();
    log.add_subscriber(&subscriber("s"), Start::Begin).unwrap();
    let options = WriterOptions::new();
    let options = if format == Format::Classic { options.buffer(1 << 16) } else { options };
    let writer = log.writer_with(&options).unwrap();
    for n in 0..24 {
        writer.append(&message(n), at(n)).unwrap();
    }
    writer.close().unwrap();
    for segment in log.segments().unwrap() {
        let _ = log.build_index(segment);
    }
    let mut reader = log.reader(&subscriber("s")).unwrap();
    for _ in 0..9 {
        reader.next_record().unwrap().unwrap();
    }
}

/// All that can be done to a log, one thing after the other, whatever comes of each. Returns what was read of it.
fn do_everything(path: &Path) -> BTreeSet<Vec<u8>> {
    let mut read = BTreeSet::new();
    let _ = repair::history(path);
    let Ok(log) = Log::open(path) else {
        let _ = repair::undo(path);
        return read;
    };
    let _ = (log.last_id(), log.first_id(), log.size(), log.owner(), log.cleanable(), log.subscribers());
    let _ = (inspect(&log), log.lag(&subscriber("s")), log.cursor_from(at(12)));
    for segment in log.segments().unwrap_or_default() {
        let _ = (log.index_details(segment), log.build_index(segment));
    }
    if let Ok(mut cursor) = log.cursor() {
        cursor.on_damage(OnDamage::Skip);
        while let Ok(Some(record)) = cursor.next_record() {
            read.insert(record.payload.to_vec());
        }
    }
    if let Ok(mut reader) = log.reader(&subscriber("s")) {
        reader.on_damage(OnDamage::Quarantine);
        while let Ok(Some(record)) = reader.next_record() {
            read.insert(record.payload.to_vec());
        }
        let _ = reader.commit();
    }
    if let Ok(writer) = log.writer() {
        for n in 100..110 {
            let _ = writer.append(&message(n), at(n));
        }
        let _ = (writer.make_ahead(), writer.close());
    }
    let _ = (log.add_subscriber(&subscriber("new"), Start::End), log.remove_subscriber(&subscriber("s")));
    let _ = (log.set_checkpoint(&subscriber("new"), RecordId::new(0, 1)), log.clean());
    let _ = (log.set_segment_size(700), log.set_durability(Durability::Process));
    if let Ok(seen) = inspect(&log)
        && let Ok(plan) = repair::plan(&log, &seen, &Options::default())
    {
        let _ = repair::apply(&log, &plan, STAMP);
    }
    let _ = repair::undo(path);
    if let Ok(log) = Log::open(path) {
        for segment in log.segments().unwrap_or_default() {
            let _ = log.reclaim(segment);
        }
    }
    read
}

/// What can lie where a file is looked for.
const THINGS: [&str; 6] = ["link", "dangling link", "link to a device", "fifo", "directory", "socket"];

/// Puts it there; a link leads to what was there, moved to `outside`.
fn put(thing: &str, path: &Path, outside: &Path) {
    let target = outside.join(path.file_name().unwrap());
    if path.exists() {
        fs::rename(path, &target).unwrap();
    } else {
        fs::write(&target, b"").unwrap();
    }
    match thing {
        "link" => symlink(&target, path).unwrap(),
        "dangling link" => symlink(outside.join("not there"), path).unwrap(),
        "link to a device" => symlink("/dev/zero", path).unwrap(),
        "fifo" => mkfifo(path, Mode::S_IRWXU).unwrap(),
        "directory" => fs::create_dir(path).unwrap(),
        "socket" => drop(UnixListener::bind(path).unwrap()),
        _ => panic!("{thing}?"),
    }
}

#[test]
fn what_lies_in_a_files_place_is_neither_followed_nor_waited_for_nor_written() {
    // A hang ends the process.
    alarm::set(500);
    for format in [Format::Checksummed, Format::Classic] {
        let sound = Scratch::new();
        build(&sound.path(), format);
        let mut names: Vec<String> =
            jlog_tests::names(&sound.path()).into_iter().map(|name| name.into_string().unwrap()).collect();
        let last = names.iter().filter(|name| name.len() == 8).max().unwrap().clone();
        let next = format!("{:08x}", u32::from_str_radix(&last, 16).unwrap() + 1);
        // What is not there yet, and is made: the next segment, another subscriber.
        names.extend([next.clone(), format!("{next}.idx"), "cp.6e6577".to_owned(), "pre_commit".to_owned()]);
        for name in &names {
            let inside = fs::read(sound.file(name)).unwrap_or_default();
            for thing in THINGS {
                let (scratch, outside) = (Scratch::new(), tempfile::tempdir().unwrap());
                copy_dir(&sound.path(), &scratch.path());
                put(thing, &scratch.file(name), outside.path());
                let before = snapshot(outside.path());

                let read = do_everything(&scratch.path());
                let what = format!("{format}: a {thing} as {name}");
                assert_eq!(snapshot(outside.path()), before, "{what}: something outside has changed");
                assert!(!outside.path().join("not there").exists(), "{what}: a file was made outside");
                for n in 0..24 {
                    let held = inside.windows(60).any(|window| window == message(n));
                    let is_segment = name.len() == 8;
                    assert!(
                        !(is_segment && held && read.contains(&message(n))),
                        "{what}: {n} was read through it"
                    );
                }
            }
        }
    }
    alarm::cancel();
}

#[test]
fn what_is_no_file_in_a_files_place_is_an_error_or_a_finding() {
    alarm::set(500);
    for format in [Format::Checksummed, Format::Classic] {
        let sound = Scratch::new();
        build(&sound.path(), format);
        for name in ["00000000", "00000001", "metastore", "cp.73"] {
            for thing in THINGS {
                let (scratch, outside) = (Scratch::new(), tempfile::tempdir().unwrap());
                copy_dir(&sound.path(), &scratch.path());
                put(thing, &scratch.file(name), outside.path());
                let seen = Log::open(scratch.path()).and_then(|log| inspect(&log));
                assert!(!seen.is_ok_and(|seen| seen.is_sound()), "{format}: a {thing} as {name} is sound");
            }
        }
    }
    alarm::cancel();
}

/// A classic log with a torn end: a writer keeps the torn bytes in `.repair/torn`.
fn torn() -> Scratch {
    let scratch = jlog_tests::case("torn-payload-current").copy();
    assert!(!scratch.has(".repair"));
    scratch
}

#[test]
fn nothing_is_kept_through_a_link_in_the_place_of_the_directory_for_it() {
    for place in [".repair", ".repair/torn"] {
        let (scratch, outside) = (torn(), tempfile::tempdir().unwrap());
        fs::create_dir_all(scratch.file(place).parent().unwrap()).unwrap();
        symlink(outside.path(), scratch.file(place)).unwrap();
        let before = scratch.files();
        let error = scratch.open().writer().unwrap_err();
        assert!(error.to_string().contains(place), "{error}");
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        assert_eq!(jlog_tests::names(outside.path()).len(), 0, "{place}: bytes were kept outside");
        assert_eq!(scratch.files(), before, "{place}: something was cut and not kept");
    }
    // The same of a reader's quarantine, and of a repair.
    let (scratch, outside) = (jlog_tests::case("garbage-middle-closed").copy(), tempfile::tempdir().unwrap());
    symlink(outside.path(), scratch.file(".repair")).unwrap();
    let log = scratch.open();
    let plan = repair::plan(&log, &inspect(&log).unwrap(), &Options::default()).unwrap();
    assert_eq!(repair::apply(&log, &plan, STAMP).unwrap_err().kind(), ErrorKind::Invalid);
    let mut cursor = log.cursor().unwrap();
    cursor.on_damage(OnDamage::Quarantine);
    let mut outcomes = std::iter::from_fn(|| cursor.next_record().map(|record| record.map(drop)).transpose());
    assert_eq!(outcomes.find_map(Result::err).unwrap().kind(), ErrorKind::Invalid);
    assert_eq!(jlog_tests::names(outside.path()).len(), 0);
}

#[test]
fn no_repair_of_another_log_is_taken_back_through_a_link() {
    let (theirs, ours) = (jlog_tests::case("garbage-middle-closed").copy(), Scratch::new());
    let log = theirs.open();
    let plan = repair::plan(&log, &inspect(&log).unwrap(), &Options::default()).unwrap();
    drop(repair::apply(&log, &plan, STAMP).unwrap());
    copy_dir_of_files(&theirs.path(), &ours.path());
    let before = snapshot(&theirs.path());
    symlink(theirs.file(".repair"), ours.file(".repair")).unwrap();
    assert_eq!(repair::undo(ours.path()).unwrap_err().kind(), ErrorKind::Invalid);
    fs::remove_file(ours.file(".repair")).unwrap();
    fs::create_dir(ours.file(".repair")).unwrap();
    symlink(theirs.file(".repair").join(STAMP), ours.file(".repair").join(STAMP)).unwrap();
    assert!(repair::undo(ours.path()).unwrap().is_none(), "a linked repair is none of this log");
    assert!(repair::history(ours.path()).unwrap().is_empty());
    assert_eq!(snapshot(&theirs.path()), before);
}

fn copy_dir_of_files(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap).filter(|entry| entry.path().is_file()) {
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// A manifest is a file like any other: what it names is in the log, or it is not believed.
#[test]
fn a_manifest_leads_to_no_file_outside_the_log() {
    for name in ["../outside", "/etc/hostname", "..", ".repair", "a/../../outside"] {
        let scratch = jlog_tests::case("few").copy();
        let outside = scratch.path().parent().unwrap().join("outside");
        fs::write(&outside, b"theirs").unwrap();
        let dir = scratch.file(".repair").join(STAMP);
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("manifest"), format!("jlog-repair 1\nfile\t{name}\t0 00000000\t6 8a3f4f2b\n"))
            .unwrap();
        let error = repair::undo(scratch.path()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Damaged, "{name}: {error}");
        assert_eq!(fs::read(&outside).unwrap(), b"theirs");
    }
}

#[test]
fn names_of_any_bytes_and_length_are_strays_that_nobody_touches() {
    let strays: Vec<Vec<u8>> = vec![
        vec![b'x'; 255],
        vec![0xff; 255],
        b"\xc3\x28".to_vec(),
        b"cp.\xff".to_vec(),
        [&b"cp."[..], &[b'a'; 252]].concat(),
        b"cp.7G".to_vec(),
        b"0000000g".to_vec(),
        b"00000000 ".to_vec(),
        b" 0000000".to_vec(),
        b"0000000A".to_vec(),
        b"+0000001".to_vec(),
        b"000000001".to_vec(),
        b"00000000.idx.idx".to_vec(),
        b"metastore\n".to_vec(),
        b"\x1b]0;title\x07".to_vec(),
        b"...".to_vec(),
        b"-rf".to_vec(),
    ];
    for format in [Format::Checksummed, Format::Classic] {
        let scratch = Scratch::new();
        build(&scratch.path(), format);
        let records = read_all(&scratch.open()).records;
        for name in &strays {
            fs::write(scratch.path().join(OsStr::from_bytes(name)), b"not ours").unwrap();
        }
        let log = scratch.open();
        assert_eq!(read_all(&log).records, records, "{format}");
        let seen = inspect(&log).unwrap();
        // What is called as no subscriber's file is, and yet begins so, may have been a checkpoint.
        let others = seen.findings.iter().filter(|finding| finding.kind != FindingKind::Checkpoint);
        assert_eq!(others.filter(|finding| finding.is_problem()).count(), 0, "{format}: {:?}", seen.findings);
        drop(log);
        do_everything(&scratch.path());
        for name in &strays {
            let bytes = fs::read(scratch.path().join(OsStr::from_bytes(name)));
            assert_eq!(bytes.unwrap(), b"not ours", "{format}: {:?}", OsStr::from_bytes(name));
        }
    }
}

#[test]
fn a_subscribers_name_leads_nowhere_but_into_the_log() {
    let names: [&[u8]; 9] =
        [b"../../outside", b"/etc/passwd", b"..", b".", b"a/b", b"\0", b"\n", b"..\0/", b"~root"];
    for format in [Format::Checksummed, Format::Classic] {
        let scratch = Scratch::new();
        build(&scratch.path(), format);
        let parent = scratch.path().parent().unwrap().to_owned();
        for name in names {
            let log = scratch.open();
            log.add_subscriber(&subscriber(name), Start::Begin).unwrap();
            let mut reader = log.reader(&subscriber(name)).unwrap();
            reader.next_record().unwrap().unwrap();
            reader.commit().unwrap();
            assert!(log.subscribers().unwrap().contains(&subscriber(name)), "{name:?}");
        }
        assert_eq!(jlog_tests::names(&parent), ["log"], "something was made beside the log");
        for (path, lying) in snapshot(&scratch.path()) {
            assert!(lying.bytes.is_some() || path.as_os_str().is_empty(), "{path:?} is a directory");
        }
        for name in names {
            assert!(scratch.open().remove_subscriber(&subscriber(name)).unwrap());
        }
        assert_eq!(scratch.open().subscribers().unwrap(), [subscriber("s")]);
    }
}

// Spools.

fn options() -> SpoolOptions {
    SpoolOptions::new().background(false).segment_size(64 << 10).reserve(1 << 16)
}

fn build_spool(path: &Path) {
    let spool = options().open(path).unwrap();
    for n in 0..40 {
        let now = Timestamp::new(1_700_000_000 + n, 0);
        let id = spool.new_id(now);
        let message =
            Message::from_bytes(id, format!("Subject: {n}\r\n\r\n{}\r\n", "x".repeat(5000)).into_bytes());
        message.set_recipient(Some("b@example.com".parse().unwrap()));
        spool.accept(&message, now).unwrap();
        if n % 2 == 0 {
            spool.remove(id).unwrap();
        }
    }
    spool.close().unwrap();
}

/// Whatever can be done to a spool.
fn use_spool(path: &Path) {
    let now = Timestamp::new(1_700_001_000, 0);
    let _ = spool::quarantined(path);
    let _ = options().open_read_only(path);
    if let Ok(spool) = options().durability(SpoolDurability::Process).open(path) {
        for listed in spool.entries().into_iter().flatten().take(100) {
            let _ = spool.get(listed.id).and_then(|message| message.body().map(drop));
        }
        let message = Message::from_bytes(spool.new_id(now), *b"Subject: new\r\n\r\nnew\r\n");
        message.set_recipient(Some("b@example.com".parse().unwrap()));
        let _ = spool.accept(&message, now);
        let _ = spool.maintain(1 << 20);
        let _ = spool.close();
    }
    if let Ok(plan) = spool::repair::plan(path) {
        let _ = spool::repair::apply(&plan);
    }
}

#[test]
fn nothing_of_a_spool_is_written_or_removed_through_a_link() {
    alarm::set(500);
    let sound = Scratch::new();
    build_spool(&sound.path());
    let mut names: Vec<PathBuf> =
        snapshot(&sound.path()).into_iter().filter_map(|(path, lying)| lying.bytes.map(|_| path)).collect();
    names.push("reserve".into());
    for name in &names {
        for thing in THINGS {
            let (scratch, outside) = (Scratch::new(), tempfile::tempdir().unwrap());
            copy_tree(&sound.path(), &scratch.path());
            put(thing, &scratch.path().join(name), outside.path());
            let before = snapshot(outside.path());
            use_spool(&scratch.path());
            let what = format!("a {thing} as {}", name.display());
            assert_eq!(snapshot(outside.path()), before, "{what}: something outside has changed");
            assert!(!outside.path().join("not there").exists(), "{what}: a file was made outside");
        }
    }
    for dir in ["summaries", "quarantine", "imports"] {
        let (scratch, outside) = (Scratch::new(), tempfile::tempdir().unwrap());
        copy_tree(&sound.path(), &scratch.path());
        let _ = fs::rename(scratch.file(dir), outside.path().join("moved"));
        let target = outside.path().join("target");
        fs::create_dir(&target).unwrap();
        // What looks like a stale summary, and is somebody's file.
        fs::write(target.join("a00000077"), b"theirs").unwrap();
        symlink(&target, scratch.file(dir)).unwrap();
        // A damaged message, which would be set aside.
        let segment = scratch.file("arrivals").join("00000000");
        let bytes = fs::read(&segment).unwrap();
        let at = bytes.windows(200).rposition(|window| window == [b'x'; 200]).unwrap();
        fs::File::options().write(true).open(&segment).unwrap().write_all_at(b"y", at as u64).unwrap();
        let before = snapshot(outside.path());
        use_spool(&scratch.path());
        if dir == "imports"
            && let Ok(spool) = options().open(scratch.path())
        {
            let mbox = scratch.path().parent().unwrap().join("mbox");
            fs::write(&mbox, b"From a@example.com Thu Jan  1 00:00:00 2026\nTo: b@example.com\n\nx\n")
                .unwrap();
            let options = ImportOptions::new().recipients(["b@example.com".parse().unwrap()]);
            let now = Timestamp::new(1_700_001_000, 0);
            let source = Source::detect(&mbox).unwrap();
            assert!(spool.import_mailbox(&source, &options, now, &mut |_| ()).is_err());
        }
        assert_eq!(snapshot(outside.path()), before, "{dir}: something outside has changed");
    }
    alarm::cancel();
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let (path, to) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() { copy_tree(&path, &to) } else { _ = fs::copy(path, to).unwrap() }
    }
}

// Other processes.

const PART: &str = "JLOG_TEST_PART";
const PLACE: &str = "JLOG_TEST_LOG";

/// Plays a part in a process of its own, and says what it has printed between `@` and `;`.
fn play(part: &str, place: &Path, umask: &str) -> Vec<String> {
    let command = format!("umask {umask}; exec \"$0\" --exact another_process --nocapture --test-threads=1");
    let output = Command::new("sh")
        .args(["-c", &command])
        .arg(std::env::current_exe().unwrap())
        .env(PART, part)
        .env(PLACE, place)
        // Thousands of logs are made there, and none of them has to outlive a power cut.
        .env("TMPDIR", if Path::new("/dev/shm").is_dir() { "/dev/shm".into() } else { std::env::temp_dir() })
        .output()
        .unwrap();
    let Output { status, stdout, stderr } = output;
    let text = String::from_utf8_lossy(&stdout).into_owned();
    assert!(status.success(), "{part}: {status}: {text}{}", String::from_utf8_lossy(&stderr));
    let told = text.lines().filter_map(|line| line.split_once('@')?.1.strip_suffix(';'));
    told.map(str::to_owned).collect()
}

#[test]
fn another_process() {
    let Ok(part) = std::env::var(PART) else { return };
    let place = PathBuf::from(std::env::var_os(PLACE).unwrap());
    match &part[..] {
        "make" => make_all(&place),
        "lengths" => believe_no_length(&place),
        "sparse" => believe_no_size(&place),
        "a large buffer" => drop(std::hint::black_box(vec![1u8; 200 << 20])),
        "fork" => fork(&place),
        _ => panic!("{part}?"),
    }
    if part == "lengths" || part == "sparse" || part == "a large buffer" {
        println!("@{};", most_memory());
    }
}

/// Makes files of every kind there is.
fn make_all(place: &Path) {
    for format in [Format::Checksummed, Format::Classic] {
        let path = place.join(format!("{format}"));
        build(&path, format);
        let log = Log::open(&path).unwrap();
        // Something torn, and something damaged.
        let first = path.join("00000000");
        fs::File::options().write(true).open(first).unwrap().write_all_at(&[7; 20], 300).unwrap();
        let last = path.join(log.segments().unwrap().last().unwrap().to_string());
        let end = fs::metadata(&last).unwrap().len();
        fs::File::options().write(true).open(&last).unwrap().write_all_at(&[7; 20], end).unwrap();
        let mut cursor = log.cursor().unwrap();
        cursor.on_damage(OnDamage::Quarantine);
        while cursor.next_record().unwrap().is_some() {}
        log.writer().unwrap().close().unwrap();
        let plan = repair::plan(&log, &inspect(&log).unwrap(), &Options::default()).unwrap();
        drop(repair::apply(&log, &plan, STAMP).unwrap());
    }
    build_spool(&place.join("spool"));
}

#[test]
fn files_are_made_as_open_as_was_asked_for_and_no_more_than_the_umask_allows() {
    for (umask, most) in [("000", 0o640), ("022", 0o640), ("077", 0o600), ("027", 0o640)] {
        let place = tempfile::tempdir().unwrap();
        play("make", place.path(), umask);
        let mut kinds = BTreeMap::<&str, u32>::new();
        for (path, lying) in snapshot(place.path()) {
            if path.components().count() < 2 {
                continue;
            }
            let mode = fs::metadata(place.path().join(&path)).unwrap().permissions().mode() & 0o7777;
            let kept = path.components().any(|part| part.as_os_str() == ".repair");
            let (kind, wanted) = match (kept, lying.bytes.is_some()) {
                // What a repair puts in a file's place is staged beside what it keeps.
                (true, true) => ("kept file", 0o600),
                (true, false) => ("kept directory", 0o700),
                (false, true) => ("file", most),
                // As libjlog makes them: whatever the umask.
                (false, false) => ("directory", 0o750),
            };
            *kinds.entry(kind).or_default() += 1;
            assert_eq!(mode, wanted, "umask {umask}: {}: {mode:o}, not {wanted:o}", path.display());
        }
        assert_eq!(kinds.len(), 4, "{kinds:?}");
    }
}

/// The most memory that this process has asked for so far, used or not, in bytes.
fn most_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmPeak:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// More than a process of these that does nothing takes, and less than anything that believes a length does.
const ENOUGH: u64 = 96 << 20;

/// What playing a part takes beyond a process that plays none.
fn memory(part: &str, place: &Path) -> u64 {
    let nothing = Scratch::new();
    let told = |part: &str, place: &Path| play(part, place, "022").last().unwrap().parse::<u64>().unwrap();
    let idle = told("lengths", &nothing.path());
    told(part, place).saturating_sub(idle)
}

#[test]
fn a_buffer_of_200_mib_would_be_noticed() {
    assert!(memory("a large buffer", Path::new("/nothing")) > ENOUGH);
}

/// A log or a spool, a file of it, and what to do with the whole.
type Target = (PathBuf, PathBuf, fn(&Path));

/// The files of logs of both formats and of a spool.
fn files_and_uses(place: &Path) -> Vec<Target> {
    let use_log: fn(&Path) = |path| drop(do_everything(path));
    let mut all = Vec::new();
    let spools: fn(&Path) = use_spool;
    for (name, uses) in [("checksummed", use_log), ("classic", use_log), ("lz4", use_log), ("spool", spools)]
    {
        let root = place.join(name);
        if root.exists() {
            // Of segments, indexes and summaries the first of a directory stands for all.
            let mut kinds = BTreeSet::new();
            for (file, lying) in snapshot(&root) {
                let name: String = file.to_string_lossy().chars().filter(|c| !c.is_ascii_digit()).collect();
                if lying.bytes.is_some() && kinds.insert(name) {
                    all.push((root.clone(), file, uses));
                }
            }
        }
    }
    all
}

/// Numbers at every place where a file may have one.
fn believe_no_length(place: &Path) {
    alarm::set(500);
    for (root, file, uses) in files_and_uses(place) {
        let bytes = fs::read(root.join(&file)).unwrap();
        // Each kind of number stands in the first records; the rest of a file is more of the same.
        for at in (0..bytes.len().min(260)).step_by(4) {
            for word in [u32::MAX, 0x0fff_fff0] {
                let scratch = Scratch::new();
                copy_tree(&root, &scratch.path());
                let file = fs::File::options().write(true).open(scratch.path().join(&file)).unwrap();
                file.write_all_at(&word.to_le_bytes(), at as u64).unwrap();
                uses(&scratch.path());
            }
        }
    }
}

/// Files that say they are large, and take no space.
fn believe_no_size(place: &Path) {
    alarm::set(500);
    for (root, file, uses) in files_and_uses(place) {
        let scratch = Scratch::new();
        copy_tree(&root, &scratch.path());
        // A segment is read, zeros and all, which takes its time.
        let is_segment = file.file_name().is_some_and(|name| name == "00000000");
        let file = fs::File::options().write(true).open(scratch.path().join(&file)).unwrap();
        file.set_len(if is_segment { 110 << 20 } else { 300 << 20 }).unwrap();
        uses(&scratch.path());
    }
}

fn place_of_all() -> tempfile::TempDir {
    let place = tempfile::tempdir().unwrap();
    for format in [Format::Checksummed, Format::Classic] {
        build(&place.path().join(format!("{format}")), format);
    }
    let compressed = CreateOptions::classic().compression(Compression::Lz4);
    let writer = Log::create_with(place.path().join("lz4"), &compressed).unwrap().writer().unwrap();
    for n in 0..8 {
        writer.append(&message(n), at(n)).unwrap();
    }
    writer.close().unwrap();
    build_spool(&place.path().join("spool"));
    place
}

#[test]
fn no_number_in_any_file_costs_memory() {
    let place = place_of_all();
    let taken = memory("lengths", place.path());
    assert!(taken < ENOUGH, "{} MiB were taken", taken >> 20);
}

#[test]
fn no_size_of_any_file_costs_memory() {
    let place = place_of_all();
    let taken = memory("sparse", place.path());
    assert!(taken < ENOUGH, "{} MiB were taken", taken >> 20);
}

// Forks.

fn tell(what: &str) {
    println!("@{what};");
}

/// Opens writers and a spool, becomes a daemon as programs do (fork, and the parent ends), and tries to go on with them.
fn fork(place: &Path) {
    let mut writers = Vec::new();
    for (n, format) in [Format::Checksummed, Format::Classic].into_iter().enumerate() {
        let log = Log::create_with(place.join(format!("{n}")), &CreateOptions::new().format(format)).unwrap();
        let options = WriterOptions::new();
        let options = if n == 1 {
            options.buffer(4096)
        } else {
            options.durability(Durability::Interval(std::time::Duration::from_secs(3600)))
        };
        let writer = log.writer_with(&options).unwrap();
        writer.append(b"before", at(0)).unwrap();
        if n == 0 {
            writer.sync().unwrap();
        }
        writers.push((log, writer));
    }
    // With its threads.
    let spool = Spool::open(place.join("spool")).unwrap();
    let now = Timestamp::new(1_700_000_000, 0);
    let mail = |spool: &Spool| {
        let message = Message::from_bytes(spool.new_id(now), *b"Subject: x\r\n\r\nx\r\n");
        message.set_recipient(Some("b@example.com".parse().unwrap()));
        message
    };
    let accepted = mail(&spool);
    spool.accept(&accepted, now).unwrap();

    // From here on in another process, which has this thread alone.
    daemon(true, true).unwrap();
    alarm::set(60);
    for (log, writer) in writers {
        for outcome in [
            writer.append(b"in the fork", at(1)).map(drop),
            writer.append_batch([(&b"in the fork"[..], at(1))]).map(drop),
            writer.flush(),
            writer.sync(),
            writer.wait_durable(RecordId::new(0, 1)),
        ] {
            tell(&format!("{:?}", outcome.map_err(|error| error.kind())));
        }
        drop(writer);
        // Once the one that was forked has ended, its locks are gone.
        let writer = loop {
            match log.writer() {
                Err(error) if error.kind() == ErrorKind::Busy => std::thread::yield_now(),
                outcome => break outcome.unwrap(),
            }
        };
        writer.append(b"of its own", at(2)).unwrap();
        writer.close().unwrap();
        let payloads: Vec<_> =
            read_all(&log).payloads().iter().map(|p| String::from_utf8_lossy(p).into_owned()).collect();
        tell(&payloads.join(","));
    }
    tell(&format!("{}", spool.accept(&mail(&spool), now).is_err()));
    drop(accepted);
    drop(spool);
    tell("end");
    std::process::exit(0);
}

/// A forked process shares its parent's locks, and knows the end of the log as its parent knew it: two that write so
/// write over each other's records.
#[test]
fn a_writer_is_of_no_use_in_a_fork_and_harms_nothing_there() {
    let place = tempfile::tempdir().unwrap();
    let refused = ["Err(Poisoned)"; 5];
    let told = play("fork", place.path(), "022");
    let (checked, rest) = told.split_at(6);
    assert_eq!(checked[..5], refused);
    assert_eq!(checked[5], "before,of its own");
    let (classic, rest) = rest.split_at(6);
    assert_eq!(classic[..5], refused);
    // What was buffered is flushed once: by who opens the buffer next.
    assert_eq!(classic[5], "before,of its own");
    assert_eq!(rest, ["true", "end"]);

    // The fork has ended, and nothing that it inherited is locked any more.
    let spool = Spool::open(place.path().join("spool")).unwrap();
    spool.wait_recovered().unwrap();
    assert_eq!(spool.len().unwrap(), 1);
}

#[test]
fn the_things_in_the_way_are_what_they_are_called() {
    let dir = tempfile::tempdir().unwrap();
    for (n, thing) in THINGS.iter().enumerate() {
        let path = dir.path().join(format!("{n}"));
        put(thing, &path, tempfile::tempdir().unwrap().path());
        let kind = fs::symlink_metadata(&path).unwrap().file_type();
        let is = match *thing {
            "fifo" => kind.is_fifo(),
            "directory" => kind.is_dir(),
            "socket" => kind.is_socket(),
            _ => kind.is_symlink(),
        };
        assert!(is, "{thing}");
    }
}
