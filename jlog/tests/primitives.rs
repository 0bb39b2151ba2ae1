//! The file primitives: what `jlog::io::File` promises, over a simulated disk with faults and over the real one.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "clippy.toml allows them in tests, but not in what tests share"
)]

use std::fs;
use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use jlog::ErrorKind;
use jlog::io::sim::{LARGEST_FILE, Op, SimDisk, Times};
use jlog::io::{Disk, File, Open, OsDisk, PathKind};
use nix::libc;
use proptest::prelude::*;

const A: &str = "/a";

/// A simulated disk with an open file `/a` that holds these bytes, synced, as is its name.
fn sim_with(bytes: &[u8]) -> (SimDisk, File) {
    let disk = SimDisk::new(7);
    let file = File::open(&disk, Path::new(A), Open::Create(0o644)).unwrap();
    file.pwrite(bytes, 0).unwrap();
    file.sync().unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    (disk, file)
}

fn open_a(disk: &SimDisk) -> File {
    File::open(disk, Path::new(A), Open::ReadWrite).unwrap()
}

fn contents(file: &File) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(file.size().unwrap()).unwrap()];
    file.pread(&mut bytes, 0).unwrap();
    bytes
}

fn slices(pieces: &[Vec<u8>]) -> Vec<IoSlice<'_>> {
    pieces.iter().map(|piece| IoSlice::new(piece)).collect()
}

/// Bytes that betray a wrong order and a wrong place.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251) as u8).collect()
}

/// Runs a claim on both disks: the path names a file that is not there yet, in a directory that is.
fn on_both_disks(claim: impl Fn(&dyn Disk, &Path)) {
    claim(&SimDisk::new(3), Path::new("/f"));
    let dir = tempfile::tempdir().unwrap();
    claim(&OsDisk, &dir.path().join("f"));
}

// Whole transfers.

#[test]
fn what_was_written_is_read_back() {
    on_both_disks(|disk, path| {
        let file = File::open(disk, path, Open::CreateNew(0o600)).unwrap();
        file.pwrite(b"hello", 3).unwrap();
        file.pwritev(&mut slices(&[b"wor".to_vec(), vec![], b"ld".to_vec()]), 8).unwrap();
        assert_eq!(file.size().unwrap(), 13);
        assert_eq!(contents(&file), b"\0\0\0helloworld");
        file.truncate(5).unwrap();
        file.truncate(7).unwrap();
        assert_eq!(contents(&file), b"\0\0\0he\0\0");
        file.close().unwrap();
    });
}

#[test]
fn a_short_write_is_continued_where_it_stopped() {
    let (disk, file) = sim_with(b"");
    disk.short_transfers(true);
    let bytes = pattern(10_000);
    file.pwrite(&bytes, 0).unwrap();

    let writes: Vec<_> =
        disk.trace().into_iter().filter(|t| t.op == Op::Pwrite && t.len != Some(0)).collect();
    assert!(writes.len() > 1, "the disk took everything at once: nothing was tested");
    // Each call asks for all that is left, from where the one before stopped.
    for call in &writes {
        assert_eq!(call.offset.unwrap() + call.len.unwrap(), 10_000);
    }
    assert_eq!(contents(&file), bytes);
}

#[test]
fn a_short_read_is_continued_where_it_stopped() {
    let bytes = pattern(10_000);
    let (disk, file) = sim_with(&bytes);
    disk.short_transfers(true);
    assert_eq!(contents(&file), bytes);
    assert!(disk.calls(Op::Pread) > 1, "the disk gave everything at once: nothing was tested");
}

#[test]
fn a_short_gathered_write_is_continued_inside_a_piece() {
    let (disk, file) = sim_with(b"");
    disk.short_transfers(true);
    let pieces: Vec<Vec<u8>> = pattern(5_000).chunks(37).map(<[u8]>::to_vec).collect();
    file.pwritev(&mut slices(&pieces), 11).unwrap();
    assert!(disk.calls(Op::Pwritev) > 1);
    assert_eq!(contents(&file)[11..], pieces.concat());
}

#[test]
fn an_interrupted_call_is_made_again() {
    let disk = SimDisk::new(1);
    disk.interrupt_every(Some(2));
    disk.short_transfers(true);
    let bytes = pattern(3_000);
    // Twice each, so that one of the two meets the interruption whatever the count is.
    for _ in 0..2 {
        let file = File::open(&disk, Path::new(A), Open::Create(0o644)).unwrap();
        file.truncate(0).unwrap();
        file.pwrite(&bytes, 0).unwrap();
        file.pwritev(&mut slices(&[bytes.clone(), bytes.clone()]), 3_000).unwrap();
        file.sync().unwrap();
        drop(file.lock().unwrap());
        drop(file.try_lock().unwrap().unwrap());
        assert_eq!(contents(&file), bytes.repeat(3));
    }
}

#[test]
fn each_call_that_can_be_interrupted_is_made_again() {
    let eintr = |disk: &SimDisk, op| disk.fail_next(op, libc::EINTR, Times::Once);
    let (disk, file) = sim_with(b"x");
    eintr(&disk, Op::Open);
    drop(open_a(&disk));
    eintr(&disk, Op::Pread);
    file.pread(&mut [0], 0).unwrap();
    eintr(&disk, Op::Pwrite);
    file.pwrite(b"y", 0).unwrap();
    eintr(&disk, Op::Pwritev);
    file.pwritev(&mut [IoSlice::new(b"z")], 0).unwrap();
    eintr(&disk, Op::Truncate);
    file.truncate(2).unwrap();
    eintr(&disk, Op::Sync);
    file.sync().unwrap();
    eintr(&disk, Op::Lock);
    drop(file.lock().unwrap());
    assert_eq!(contents(&file), b"z\0");
    assert_eq!(contents(&open_a(&disk.power_cut())), b"z\0", "the sync made again was a sync");
}

#[test]
fn more_pieces_than_one_call_takes_are_all_written() {
    for count in [1023, 1024, 1025, 2048, 2049, 5000] {
        on_both_disks(|disk, path| {
            let pieces: Vec<Vec<u8>> = (0..count).map(|i: u32| i.to_le_bytes()[..2].to_vec()).collect();
            let file = File::open(disk, path, Open::Create(0o600)).unwrap();
            file.pwritev(&mut slices(&pieces), 1).unwrap();
            assert_eq!(contents(&file)[1..], pieces.concat(), "{count} pieces");
        });
    }
}

#[test]
fn more_pieces_than_one_call_takes_survive_short_writes() {
    let disk = SimDisk::new(5);
    disk.short_transfers(true);
    disk.interrupt_every(Some(3));
    let pieces: Vec<Vec<u8>> = (0..3000).map(|i| pattern(i % 4)).collect();
    let file = File::open(&disk, Path::new(A), Open::Create(0o600)).unwrap();
    file.pwritev(&mut slices(&pieces), 0).unwrap();
    assert_eq!(contents(&file), pieces.concat());
}

#[test]
fn empty_pieces_are_no_reason_to_stop() {
    on_both_disks(|disk, path| {
        let file = File::open(disk, path, Open::Create(0o600)).unwrap();
        // Alone, first, in between, last, and a whole call's worth of them.
        file.pwritev(&mut [], 0).unwrap();
        file.pwritev(&mut slices(&[vec![], vec![]]), 0).unwrap();
        file.pwrite(b"", 0).unwrap();
        assert_eq!(file.size().unwrap(), 0);

        let mut pieces = vec![vec![]; 2000];
        pieces.push(b"a".to_vec());
        pieces.extend(vec![vec![]; 2000]);
        pieces.push(b"b".to_vec());
        pieces.push(vec![]);
        file.pwritev(&mut slices(&pieces), 0).unwrap();
        assert_eq!(contents(&file), b"ab");
    });
}

// What is not there.

#[test]
fn reading_past_the_end_is_damage_that_names_the_file_and_the_byte() {
    on_both_disks(|disk, path| {
        let file = File::open(disk, path, Open::Create(0o600)).unwrap();
        file.pwrite(b"0123456789", 0).unwrap();

        file.pread(&mut [0; 4], 6).unwrap();
        let error = file.pread(&mut [0; 5], 6).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Damaged);
        assert_eq!(error.path(), Some(path));
        assert_eq!(error.offset(), Some(10), "where the file ends");
        assert!(error.to_string().contains("10"), "{error}");

        assert_eq!(file.pread(&mut [0; 1], 10).unwrap_err().kind(), ErrorKind::Damaged);
        file.pread(&mut [], 10).unwrap();
        assert_eq!(file.pread_up_to(&mut [0; 5], 6).unwrap(), 4);
        assert_eq!(file.pread_up_to(&mut [0; 5], 999).unwrap(), 0);
    });
}

#[test]
fn a_missing_file_is_not_found_and_an_existing_one_not_made_again() {
    on_both_disks(|disk, path| {
        for how in [Open::Read, Open::ReadWrite] {
            assert_eq!(File::open(disk, path, how).unwrap_err().kind(), ErrorKind::NotFound);
            assert!(File::open_existing(disk, path, how).unwrap().is_none());
        }
        drop(File::open(disk, path, Open::CreateNew(0o640)).unwrap());
        assert_eq!(
            File::open(disk, path, Open::CreateNew(0o640)).unwrap_err().kind(),
            ErrorKind::AlreadyExists
        );
        assert!(File::open_existing(disk, path, Open::Read).unwrap().is_some());
        drop(File::open(disk, path, Open::Create(0o640)).unwrap());

        let below_a_file = path.join("x");
        assert_eq!(
            File::open(disk, &below_a_file, Open::Create(0o640)).unwrap_err().kind(),
            ErrorKind::NotALog
        );
    });
}

#[test]
fn a_file_opened_to_read_is_not_written() {
    on_both_disks(|disk, path| {
        File::open(disk, path, Open::Create(0o600)).unwrap().pwrite(b"x", 0).unwrap();
        let error = |f: &dyn Fn(&File) -> jlog::Result<()>| {
            f(&File::open(disk, path, Open::Read).unwrap()).unwrap_err();
        };
        error(&|file| file.pwrite(b"y", 0));
        error(&|file| file.pwritev(&mut [IoSlice::new(b"y")], 0));
        error(&|file| file.truncate(0));
        error(&|file| file.lock().map(drop));
        error(&|file| file.map_rdwr().map(drop));
        assert_eq!(contents(&File::open(disk, path, Open::Read).unwrap()), b"x");
    });
}

// A full device.

#[test]
fn a_full_device_leaves_the_handle_usable() {
    let (disk, file) = sim_with(b"good");
    disk.limit(Some(100));
    let error = file.pwrite(&[1; 200], 4).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSpace);
    assert_eq!(error.offset(), Some(100), "where the space ended");
    assert_eq!(file.size().unwrap(), 100, "the half that was taken is there until it is cut");

    file.truncate(4).unwrap();
    assert_eq!(
        file.pwritev(&mut [IoSlice::new(&[2; 90]), IoSlice::new(&[3; 90])], 4).unwrap_err().kind(),
        ErrorKind::NoSpace
    );
    file.truncate(4).unwrap();
    file.pwrite(&[4; 96], 4).unwrap();
    file.sync().unwrap();
    assert_eq!(contents(&file)[..4], *b"good");
}

#[test]
fn writing_goes_on_when_space_returns() {
    let (disk, file) = sim_with(b"good");
    let other = Path::new("/other");
    let full = || file.pwrite(&[1; 50], 4).unwrap_err().kind() == ErrorKind::NoSpace;
    let again = || file.truncate(4).and_then(|()| file.pwrite(&[1; 50], 4)).and_then(|()| file.truncate(4));

    // A file is removed. Its bytes are free when nobody has it open any more.
    let open = File::open(&disk, other, Open::Create(0o600)).unwrap();
    open.pwrite(&[0; 90], 0).unwrap();
    disk.limit(Some(100));
    assert!(full());
    disk.remove(other).unwrap();
    assert!(full());
    drop(open);
    again().unwrap();

    // A file is cut.
    let open = File::open(&disk, other, Open::Create(0o600)).unwrap();
    open.pwrite(&[0; 90], 0).unwrap();
    assert!(full());
    open.truncate(10).unwrap();
    again().unwrap();

    // The device grows.
    open.truncate(90).unwrap();
    assert!(full());
    disk.limit(Some(200));
    again().unwrap();
    assert_eq!(disk.free_space(Path::new("/")).unwrap(), 106);
}

#[test]
fn overwriting_needs_no_space() {
    let (disk, file) = sim_with(&[1; 100]);
    disk.limit(Some(100));
    file.pwrite(&[2; 100], 0).unwrap();
    assert_eq!(file.pwrite(&[3; 2], 99).unwrap_err().kind(), ErrorKind::NoSpace);
    assert_eq!(file.size().unwrap(), 100);
}

#[test]
fn a_file_that_may_not_grow_so_far_is_no_broken_handle() {
    let (_disk, file) = sim_with(b"x");
    assert_eq!(file.pwrite(b"y", LARGEST_FILE).unwrap_err().kind(), ErrorKind::NoSpace);
    file.pwrite(b"z", 0).unwrap();
}

// The latch.

/// Every later change is refused, reading is not, and a fresh open works.
fn assert_ended(disk: &SimDisk, file: &File) {
    disk.heal();
    let operations = disk.operations();
    let poisoned = |outcome: jlog::Result<()>| {
        let error = outcome.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Poisoned);
        assert_eq!(error.path(), Some(Path::new(A)));
    };
    poisoned(file.pwrite(b"z", 0));
    poisoned(file.pwritev(&mut [IoSlice::new(b"z")], 0));
    poisoned(file.pwrite(b"", 0));
    poisoned(file.truncate(0));
    poisoned(file.sync());
    poisoned(file.map_rdwr().map(drop));
    assert_eq!(disk.operations(), operations, "a poisoned handle touched the disk");
    file.pread(&mut [0], 0).unwrap();

    let fresh = open_a(disk);
    fresh.pwrite(b"fresh", 0).unwrap();
    fresh.truncate(5).unwrap();
    fresh.close().unwrap();
    assert_eq!(contents(&open_a(&disk.power_cut())), b"fresh");
    poisoned(file.sync());
}

#[test]
fn a_failed_write_ends_the_handle() {
    for errno in [libc::EIO, libc::EROFS, libc::EBADF] {
        let (disk, file) = sim_with(b"good");
        disk.fail_next(Op::Pwrite, errno, Times::Once);
        let error = file.pwrite(b"x", 3).unwrap_err();
        assert_eq!((error.os_error(), error.offset()), (Some(errno), Some(3)));
        assert_ended(&disk, &file);
    }
}

#[test]
fn a_write_that_fails_behind_a_short_one_ends_the_handle() {
    let (disk, file) = sim_with(b"good");
    disk.short_transfers(true);
    disk.fail_call(Op::Pwritev, 1, libc::EIO, Times::Once);
    let error = file.pwritev(&mut [IoSlice::new(&[9; 5000])], 4).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert_eq!(error.offset(), Some(file.size().unwrap()), "the byte that could not be written");
    assert_ended(&disk, &file);
}

#[test]
fn a_failed_sync_ends_the_handle_whatever_its_reason() {
    // A sync that reports a full device lost data: delayed allocation found no room for what write had accepted.
    for errno in [libc::EIO, libc::ENOSPC, libc::EDQUOT] {
        let (disk, file) = sim_with(b"good");
        file.pwrite(b"lost", 0).unwrap();
        disk.fail_next(Op::Sync, errno, Times::Once);
        assert_eq!(file.sync().unwrap_err().os_error(), Some(errno));
        assert_ended(&disk, &file);
    }
}

#[test]
fn a_failed_truncation_ends_the_handle() {
    let (disk, file) = sim_with(b"good");
    disk.fail_next(Op::Truncate, libc::EIO, Times::Once);
    assert_eq!(file.truncate(2).unwrap_err().kind(), ErrorKind::Io);
    assert_ended(&disk, &file);
}

#[test]
fn a_full_device_or_a_failed_read_does_not_end_the_handle() {
    let (disk, file) = sim_with(b"good");
    for errno in [libc::ENOSPC, libc::EDQUOT, libc::EFBIG] {
        disk.fail_next(Op::Pwrite, errno, Times::Once);
        assert_eq!(file.pwrite(b"x", 0).unwrap_err().kind(), ErrorKind::NoSpace);
    }
    disk.fail_next(Op::Pread, libc::EIO, Times::Once);
    let error = file.pread(&mut [0; 2], 1).unwrap_err();
    assert_eq!((error.kind(), error.offset()), (ErrorKind::Io, Some(1)));
    file.pwrite(b"x", 0).unwrap();
    file.sync().unwrap();
}

#[test]
fn a_write_that_writes_nothing_is_an_error_and_not_a_loop() {
    let writes: [fn(&File) -> jlog::Result<()>; 2] =
        [|file| file.pwrite(b"x", 0), |file| file.pwritev(&mut [IoSlice::new(b"x")], 0)];
    for write in writes {
        let (disk, file) = sim_with(b"good");
        disk.empty_writes(true);
        // A loop would end here, at an error that is not the one looked for.
        disk.fail_at(disk.operations() + 10, libc::EIO, Times::Sticky);
        let error = write(&file).unwrap_err();
        assert_eq!((error.kind(), error.os_error()), (ErrorKind::Io, None));
        assert_ended(&disk, &file);
    }
}

#[test]
fn a_failed_operation_is_reported_whichever_it_is() {
    let scenario = |disk: &SimDisk| -> jlog::Result<()> {
        let file = File::open(disk, Path::new(A), Open::Create(0o644))?;
        file.pwrite(b"hello", 0)?;
        file.pwritev(&mut [IoSlice::new(b"wor"), IoSlice::new(b"ld")], 5)?;
        let _guard = file.lock()?;
        file.pread(&mut [0; 10], 0)?;
        file.truncate(7)?;
        file.size()?;
        file.sync()
    };
    let healthy = SimDisk::new(1);
    scenario(&healthy).unwrap();
    let unlock = 1;
    for n in 0..healthy.operations() - unlock {
        for times in [Times::Once, Times::Sticky] {
            let disk = SimDisk::new(1);
            disk.fail_at(n, libc::EIO, times);
            let error = scenario(&disk).expect_err("a failed operation was not reported");
            assert_eq!((error.kind(), error.path()), (ErrorKind::Io, Some(Path::new(A))), "operation {n}");
        }
    }
}

// Mappings.

#[test]
fn a_mapping_and_the_file_see_each_other() {
    on_both_disks(|disk, path| {
        let file = File::open(disk, path, Open::Create(0o600)).unwrap();
        file.pwrite(&pattern(100), 0).unwrap();
        let (shown, shared) = (file.map_read().unwrap(), file.map_rdwr().unwrap());
        assert_eq!((shown.len(), shared.len(), shared.is_empty()), (100, 100, false));

        let seen = |map: &jlog::io::Map| {
            let mut bytes = vec![0; 100];
            map.read(0, &mut bytes).unwrap();
            bytes
        };
        file.pwrite(b"pwrite", 10).unwrap();
        assert_eq!(seen(&shown)[10..16], *b"pwrite");
        assert_eq!(seen(&shared)[10..16], *b"pwrite");

        shared.write(90, b"map").unwrap();
        shared.publish(96, *b"word").unwrap();
        assert_eq!(contents(&file)[90..], *b"map\x5d\x5e\x5fword");
        assert_eq!(seen(&shown), contents(&file));
        shared.sync().unwrap();

        // The mapping outlives the handle.
        drop(file);
        shared.write(0, b"after").unwrap();
        assert_eq!(contents(&File::open(disk, path, Open::Read).unwrap())[..5], *b"after");
    });
}

#[test]
fn a_failed_sync_ends_the_mapping() {
    let (disk, file) = sim_with(b"good");
    let map = file.map_rdwr().unwrap();
    map.write(0, b"lost").unwrap();
    disk.fail_next(Op::MapSync, libc::EIO, Times::Once);
    assert_eq!(map.sync().unwrap_err().kind(), ErrorKind::Io);
    // The pages count as clean now: a second sync would succeed and have saved nothing.
    assert_eq!(map.sync().unwrap_err().kind(), ErrorKind::Poisoned);
    assert_eq!(map.write(0, b"more").unwrap_err().kind(), ErrorKind::Poisoned);
    assert_eq!(map.publish(0, *b"more").unwrap_err().kind(), ErrorKind::Poisoned);
    let mut bytes = [0; 4];
    map.read(0, &mut bytes).unwrap();
    assert_eq!(bytes, *b"lost");
}

#[test]
fn a_mapping_has_an_end_and_an_alignment() {
    on_both_disks(|disk, path| {
        let file = File::open(disk, path, Open::Create(0o600)).unwrap();
        file.pwrite(&[0; 16], 0).unwrap();
        let (shown, shared) = (file.map_read().unwrap(), file.map_rdwr().unwrap());

        shared.read(16, &mut []).unwrap();
        shared.read(12, &mut [0; 4]).unwrap();
        shared.read(13, &mut [0; 4]).unwrap_err();
        shared.read(usize::MAX, &mut [0; 4]).unwrap_err();
        shared.write(13, &[1; 4]).unwrap_err();
        shared.publish(2, [1; 4]).unwrap_err();
        shared.publish(16, [1; 4]).unwrap_err();
        shown.write(0, &[1]).unwrap_err();
        shown.publish(0, [1; 4]).unwrap_err();
        assert_eq!(contents(&file), [0; 16]);
    });
}

#[test]
fn an_empty_file_maps_to_nothing() {
    on_both_disks(|disk, path| {
        let file = File::open(disk, path, Open::Create(0o600)).unwrap();
        let map = file.map_rdwr().unwrap();
        map.read(0, &mut []).unwrap();
        assert!(map.read(0, &mut [0]).is_err());
    });
}

// What is no file.

/// The outcome of a claim that must not hang: a hang would be the bug, so the wait has an end.
fn without_hanging<T: Send + 'static>(what: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, result) = mpsc::channel();
    std::thread::spawn(move || drop(done.send(what())));
    result.recv_timeout(Duration::from_secs(60)).expect("it hangs")
}

#[test]
fn what_is_no_regular_file_is_refused_without_hanging() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    nix::unistd::mkfifo(&at("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    fs::create_dir(at("directory")).unwrap();
    fs::write(at("target"), "x").unwrap();
    std::os::unix::fs::symlink(at("target"), at("symlink")).unwrap();
    std::os::unix::fs::symlink(at("nothing"), at("dangling")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();

    for name in ["fifo", "directory", "symlink", "dangling", "socket"] {
        for how in [Open::Read, Open::ReadWrite, Open::Create(0o600), Open::CreateNew(0o600)] {
            let path: PathBuf = at(name);
            let error = without_hanging(move || File::open(&OsDisk, &path, how).map(drop)).unwrap_err();
            assert_eq!(error.path(), Some(&*at(name)), "{name} {how:?}: {error}");
            let told_apart =
                if how == Open::CreateNew(0o600) { ErrorKind::AlreadyExists } else { ErrorKind::Io };
            assert_eq!(error.kind(), told_apart, "{name} {how:?}: {error}");
        }
    }
    assert!(!at("nothing").exists(), "a file was made behind a dangling link");
    assert_eq!(fs::read(at("target")).unwrap(), b"x");
}

#[test]
fn a_simulated_directory_is_no_file() {
    let disk = SimDisk::new(1);
    disk.create_dir(Path::new("/d"), 0o755).unwrap();
    for path in ["/d", "/"] {
        for how in [Open::Read, Open::ReadWrite, Open::Create(0o600)] {
            File::open(&disk, Path::new(path), how).unwrap_err();
        }
    }
}

// Names.

#[test]
fn names_come_and_go() {
    let dir = tempfile::tempdir().unwrap();
    let claim = |disk: &dyn Disk, root: &Path| {
        let at = |name: &str| root.join(name);
        let touch = |name: &str| drop(File::open(disk, &at(name), Open::CreateNew(0o600)).unwrap());
        let names = |path: &Path| {
            let mut names = disk.names(path).unwrap();
            names.sort();
            names
        };
        disk.create_dir(&at("d"), 0o750).unwrap();
        assert_eq!(disk.create_dir(&at("d"), 0o750).unwrap_err().raw_os_error(), Some(libc::EEXIST));
        touch("d/a");
        touch("d/b");
        let held = File::open(disk, &at("d/a"), Open::ReadWrite).unwrap();
        held.pwrite(b"held", 0).unwrap();
        assert_eq!(names(&at("d")), ["a", "b"]);

        disk.rename(&at("d/a"), &at("d/b")).unwrap();
        assert_eq!(names(&at("d")), ["b"]);
        assert_eq!(disk.info(&at("d/b"), false).unwrap().len, 4);
        assert_eq!(disk.info(&at("d"), false).unwrap().kind, PathKind::Directory);
        assert_eq!(disk.info(&at("d"), false).unwrap().mode, 0o750);

        disk.remove(&at("d/b")).unwrap();
        assert_eq!(contents(&held), b"held", "an open file survives its name");
        let errno = |outcome: std::io::Result<()>| outcome.unwrap_err().raw_os_error();
        assert_eq!(errno(disk.remove(&at("d/b"))), Some(libc::ENOENT));
        assert_eq!(errno(disk.rename(&at("d/b"), &at("d/c"))), Some(libc::ENOENT));
        assert_eq!(errno(disk.rename(&at("d"), &at("d/c"))), Some(libc::EINVAL));
        touch("d/c");
        assert_eq!(errno(disk.remove_dir(&at("d"))), Some(libc::ENOTEMPTY));
        disk.rename(&at("d"), &at("e")).unwrap();
        disk.remove(&at("e/c")).unwrap();
        disk.remove_dir(&at("e")).unwrap();
        assert!(names(root).is_empty());
        disk.sync_dir(root).unwrap();
    };
    claim(&OsDisk, dir.path());
    claim(&SimDisk::new(1), Path::new("/"));
}

#[test]
fn other_openings_of_the_same_file_are_noticed() {
    on_both_disks(|disk, path| {
        let file = File::open(disk, path, Open::Create(0o600)).unwrap();
        // The real disk may be one that cannot tell; it must not say the wrong thing.
        let told = |file: &File, truth: bool| assert_ne!(file.opened_elsewhere().unwrap(), Some(!truth));
        told(&file, false);
        let other = File::open(disk, path, Open::Read).unwrap();
        told(&file, true);
        drop(other);
        told(&file, false);
    });
}

// Against a model.

#[derive(Debug, Clone)]
enum Step {
    Write { at: usize, bytes: Vec<u8> },
    Gather { at: usize, pieces: Vec<Vec<u8>> },
    Truncate { size: usize },
    Read { at: usize, len: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let bytes = || proptest::collection::vec(any::<u8>(), 0..600);
    let step = prop_oneof![
        (0..3000_usize, bytes()).prop_map(|(at, bytes)| Step::Write { at, bytes }),
        (0..3000_usize, proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..30))
            .prop_map(|(at, pieces)| Step::Gather { at, pieces }),
        (0..4000_usize).prop_map(|size| Step::Truncate { size }),
        (0..4000_usize, 0..1000_usize).prop_map(|(at, len)| Step::Read { at, len }),
    ];
    proptest::collection::vec(step, 0..30)
}

fn overwrite(model: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    model.resize(model.len().max(at + bytes.len()), 0);
    model[at..at + bytes.len()].copy_from_slice(bytes);
}

fn follow(file: &File, steps: Vec<Step>) -> Vec<u8> {
    let mut model = Vec::new();
    for step in steps {
        match step {
            Step::Write { at, bytes } => {
                file.pwrite(&bytes, at as u64).unwrap();
                overwrite(&mut model, at, &bytes);
            }
            Step::Gather { at, pieces } => {
                file.pwritev(&mut slices(&pieces), at as u64).unwrap();
                overwrite(&mut model, at, &pieces.concat());
            }
            Step::Truncate { size } => {
                file.truncate(size as u64).unwrap();
                model.resize(size, 0);
            }
            Step::Read { at, len } => {
                let mut bytes = vec![0; len];
                let got = file.pread_up_to(&mut bytes, at as u64).unwrap();
                let start = at.min(model.len());
                assert_eq!(bytes[..got], model[start..(at + len).clamp(start, model.len())]);
            }
        }
        assert_eq!(contents(file), model);
    }
    model
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn any_sequence_of_changes_equals_a_vec(seed: u64, storm in prop::option::of(2..6_u64), steps in steps()) {
        let disk = SimDisk::new(seed);
        disk.short_transfers(true);
        disk.interrupt_every(storm);
        let file = File::open(&disk, Path::new(A), Open::Create(0o644)).unwrap();
        let model = follow(&file, steps);

        file.sync().unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        prop_assert_eq!(contents(&open_a(&disk.power_cut())), &model[..]);
        prop_assert_eq!(contents(&open_a(&disk.torn_power_cut(seed))), &model[..]);
    }

    #[test]
    fn the_simulated_disk_and_the_real_one_agree(seed: u64, steps in steps()) {
        let dir = tempfile::tempdir().unwrap();
        let real = File::open(&OsDisk, &dir.path().join("a"), Open::Create(0o644)).unwrap();
        let simulated = File::open(&SimDisk::new(seed), Path::new(A), Open::Create(0o644)).unwrap();
        prop_assert_eq!(follow(&real, steps.clone()), follow(&simulated, steps));
    }
}

// The simulated disk's own promises: what a power cut leaves.

#[test]
fn only_what_was_synced_survives_the_worst_power_cut() {
    let (disk, file) = sim_with(b"synced");
    file.pwrite(b"UNSYNCED", 3).unwrap();
    assert_eq!(contents(&open_a(&disk.power_cut())), b"synced");
    file.sync().unwrap();
    file.truncate(1).unwrap();
    assert_eq!(contents(&open_a(&disk.power_cut())), b"synUNSYNCED");
    assert_eq!(contents(&file), b"s", "the running disk does not notice");
}

#[test]
fn a_name_is_durable_after_the_sync_of_its_directory() {
    let disk = SimDisk::new(1);
    let (root, dir) = (Path::new("/"), Path::new("/d"));
    let names = |disk: &SimDisk, dir: &Path| disk.power_cut().names(dir).map_err(|e| e.raw_os_error());
    disk.create_dir(dir, 0o755).unwrap();
    let file = File::open(&disk, &dir.join("a"), Open::Create(0o600)).unwrap();
    file.sync().unwrap();
    disk.sync_dir(dir).unwrap();
    assert_eq!(names(&disk, dir), Err(Some(libc::ENOENT)), "the directory's own name is its parent's");
    disk.sync_dir(root).unwrap();
    assert_eq!(names(&disk, dir).unwrap(), ["a"]);

    disk.rename(&dir.join("a"), &dir.join("b")).unwrap();
    assert_eq!(names(&disk, dir).unwrap(), ["a"]);
    disk.sync_dir(dir).unwrap();
    assert_eq!(names(&disk, dir).unwrap(), ["b"]);
    disk.remove(&dir.join("b")).unwrap();
    assert_eq!(names(&disk, dir).unwrap(), ["b"]);
    disk.sync_dir(dir).unwrap();
    assert!(names(&disk, dir).unwrap().is_empty());
}

#[test]
fn a_torn_power_cut_shows_every_outcome_and_no_other() {
    let (disk, file) = sim_with(&[1; 1024]);
    file.pwrite(&[2; 700], 300).unwrap();
    file.pwrite(&[3; 1024], 1024).unwrap();
    drop(File::open(&disk, Path::new("/new"), Open::Create(0o600)).unwrap());

    let (mut sizes, mut first, mut second, mut names) = <(Vec<_>, Vec<_>, Vec<_>, Vec<_>)>::default();
    for seed in 0..500 {
        let cut = disk.torn_power_cut(seed);
        let bytes = contents(&open_a(&cut));
        assert_eq!(
            (&bytes[..300], &bytes[1000..1024]),
            (&[1; 300][..], &[1; 24][..]),
            "seed {seed}: not written to"
        );
        for (outcomes, sector) in [(&mut first, 300..512), (&mut second, 512..1000)] {
            let whole = &bytes[sector];
            assert!(whole.iter().all(|byte| *byte == whole[0]), "seed {seed}: a sector is not one thing");
            outcomes.push(whole[0]);
        }
        assert!(bytes[1024..].iter().all(|byte| [0, 3].contains(byte)), "seed {seed}");
        sizes.push(bytes.len());
        names.push(cut.names(Path::new("/")).unwrap().len());
        // The same seed leaves the same, and a disk that was cut has nothing left to lose.
        assert_eq!(contents(&open_a(&disk.torn_power_cut(seed))), bytes);
        assert_eq!(contents(&open_a(&cut.torn_power_cut(!seed))), bytes);
    }
    let seen = |mut outcomes: Vec<usize>| {
        outcomes.sort_unstable();
        outcomes.dedup();
        outcomes
    };
    assert_eq!(seen(sizes), [1024, 2048]);
    assert_eq!(seen(names), [1, 2]);
    assert!(first.iter().zip(&second).any(|(a, b)| a != b), "the sectors are not independent");
    let seen_bytes = |outcomes: Vec<u8>| seen(outcomes.into_iter().map(usize::from).collect());
    assert_eq!((seen_bytes(first), seen_bytes(second)), (vec![0, 1, 2], vec![0, 1, 2]));
}

#[test]
fn what_a_failed_sync_lost_is_seen_until_the_power_cut_and_never_again() {
    let (disk, file) = sim_with(b"old");
    file.pwrite(b"new", 0).unwrap();
    disk.fail_next(Op::Sync, libc::EIO, Times::Once);
    file.sync().unwrap_err();

    let fresh = open_a(&disk);
    assert_eq!(contents(&fresh), b"new", "the cache shows it");
    fresh.sync().unwrap();
    assert_eq!(
        contents(&open_a(&disk.power_cut())),
        b"old",
        "a sync that succeeds later saves nothing of it"
    );
}

#[test]
fn a_store_into_a_mapping_is_durable_after_its_sync() {
    let (disk, file) = sim_with(b"....");
    let map = file.map_rdwr().unwrap();
    map.write(0, b"ab").unwrap();
    assert_eq!(contents(&open_a(&disk.power_cut())), b"....");
    map.sync().unwrap();
    assert_eq!(contents(&open_a(&disk.power_cut())), b"ab..");
}

#[test]
fn simulated_locks_exclude_and_hand_over() {
    let (disk, file) = sim_with(b"");
    let other = open_a(&disk);
    let guard = file.lock().unwrap();
    assert!(other.try_lock().unwrap().is_none());
    assert_eq!(other.lock_holder().unwrap(), Some(None));
    assert_eq!(file.lock_holder().unwrap(), None, "one's own lock is no conflict");

    let order = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        let (asks, asked) = mpsc::channel();
        let (order, other) = (&order, &other);
        scope.spawn(move || {
            asks.send(()).unwrap();
            let _guard = other.lock().unwrap();
            order.lock().unwrap().push("got");
        });
        asked.recv().unwrap();
        order.lock().unwrap().push("released");
        drop(guard);
    });
    assert_eq!(*order.lock().unwrap(), ["released", "got"]);
    assert!(file.try_lock().unwrap().is_some());

    let guard = other.lock().unwrap();
    std::mem::forget(guard);
    assert!(file.try_lock().unwrap().is_none());
    drop(other);
    assert!(file.try_lock().unwrap().is_some(), "closing releases");
}
