//! The simulated disk's own promises: what its power cuts leave, profile by profile, and how it is looked at meanwhile.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "clippy.toml allows them in tests, but not in what tests share"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use jlog::io::sim::{CrashStates, Limits, MadeOf, Op, Profile, SECTOR, SimDisk, Times};
use jlog::io::{Disk, File, Open, OsDisk, PathKind};
use nix::libc;
use proptest::prelude::*;

const A: &str = "/a";
const B: &str = "/b";

const PROFILES: [Profile; 6] = [
    Profile::Posix,
    Profile::Ext4Ordered,
    Profile::ZeroTail,
    Profile::GarbageTail,
    Profile::PsowOff,
    Profile::Lying,
];

fn root() -> &'static Path {
    Path::new("/")
}

fn open(disk: &SimDisk, path: &str) -> File {
    File::open(disk, Path::new(path), Open::Create(0o644)).unwrap()
}

/// A disk with a durable file `/a` that holds these bytes. It has its profile from then on.
fn disk_with(bytes: &[u8], profile: Profile) -> (SimDisk, File) {
    let disk = SimDisk::new(7);
    let file = open(&disk, A);
    file.pwrite(bytes, 0).unwrap();
    file.sync().unwrap();
    disk.sync_dir(root()).unwrap();
    disk.profile(profile);
    (disk, file)
}

fn contents(file: &File) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(file.size().unwrap()).unwrap()];
    file.pread(&mut bytes, 0).unwrap();
    bytes
}

fn read(disk: &SimDisk, path: &str) -> Option<Vec<u8>> {
    File::open_existing(disk, Path::new(path), Open::Read).unwrap().map(|file| contents(&file))
}

/// All that can be seen of a disk: every path, and the bytes of the files.
type Seen = BTreeMap<String, Option<Vec<u8>>>;

fn seen(disk: &SimDisk) -> Seen {
    let mut seen = Seen::new();
    let mut dirs = vec![String::new()];
    while let Some(dir) = dirs.pop() {
        for name in disk.names(Path::new(&format!("{dir}/"))).unwrap() {
            let path = format!("{dir}/{}", name.to_str().unwrap());
            if disk.info(Path::new(&path), false).unwrap().kind == PathKind::Directory {
                dirs.push(path.clone());
                seen.insert(path, None);
            } else {
                let bytes = read(disk, &path);
                seen.insert(path, bytes);
            }
        }
    }
    seen
}

/// Every image of a power cut, of which there must be few.
fn all(disk: &SimDisk) -> CrashStates {
    let states = disk.crash_states(Limits { exhaustive_atoms: 16, ..Limits::default() }, 1);
    assert!(states.is_exhaustive(), "{states:?}");
    states
}

/// A sample of them.
fn some(disk: &SimDisk, samples: u64) -> CrashStates {
    disk.crash_states(Limits { exhaustive_atoms: 0, samples, ..Limits::default() }, 1)
}

fn set(images: impl Iterator<Item = SimDisk>) -> BTreeSet<Seen> {
    images.map(|image| seen(&image)).collect()
}

/// What the images show of a file.
fn outcomes(images: impl Iterator<Item = SimDisk>, path: &str) -> BTreeSet<Option<Vec<u8>>> {
    images.map(|image| read(&image, path)).collect()
}

/// The byte that fills a range; `None` if it is garbage.
fn fill(bytes: &[u8], range: Range<usize>) -> Option<u8> {
    let part = &bytes[range];
    part.iter().all(|byte| *byte == part[0]).then_some(part[0])
}

// The tiny case: a durable file of two sectors of ones. Twos are written over a part of both, three bytes of threes
// behind the end, and a name is made. Nothing of it is synced.

fn tiny(profile: Profile) -> SimDisk {
    let (disk, file) = disk_with(&[1; 1024], profile);
    file.pwrite(&[2; 700], 300).unwrap();
    file.pwrite(&[3; 3], 1024).unwrap();
    drop(open(&disk, B));
    disk
}

/// The images of the tiny case, where each sector may be one of these bytes and the end one of these.
fn tiny_images(sector: &[u8], ends: &[&[u8]]) -> BTreeSet<Seen> {
    let mut images = BTreeSet::new();
    for first in sector {
        for second in sector {
            for end in ends {
                let bytes = [&[1; 300][..], &[*first; 212], &[*second; 488], &[1; 24], end].concat();
                let without = Seen::from([(A.to_string(), Some(bytes))]);
                let mut with = without.clone();
                with.insert(B.to_string(), Some(Vec::new()));
                images.extend([without, with]);
            }
        }
    }
    images
}

#[test]
fn all_images_of_a_tiny_case_are_those_one_can_list_by_hand() {
    // The end is lost, is there, or is zeros because the size is there and the data is not.
    let posix = tiny_images(&[0, 1, 2], &[b"", &[3; 3], &[0; 3]]);
    let zero_tail = tiny_images(&[1, 2], &[b"", &[3; 3], &[0; 3]]);
    let ext4 = tiny_images(&[1, 2], &[b"", &[3; 3]]);
    assert_eq!((posix.len(), zero_tail.len(), ext4.len()), (54, 24, 16));

    for (profile, expected) in
        [(Profile::Posix, posix), (Profile::ZeroTail, zero_tail), (Profile::Ext4Ordered, ext4)]
    {
        let disk = tiny(profile);
        let states = all(&disk);
        assert_eq!(states.atoms(), 5, "two old sectors, a new one, the size, and the name");
        assert_eq!(set(all(&disk)), expected, "{profile:?}");
        assert_eq!(states.count(), expected.len(), "{profile:?}: each image once");
        assert_eq!(set(some(&disk, 2000)), expected, "{profile:?}: a large sample has them all");
        let torn: BTreeSet<_> = (0..2000).map(|seed| seen(&disk.torn_power_cut(seed))).collect();
        assert_eq!(torn, expected, "{profile:?}");
        assert!(expected.contains(&seen(&disk.power_cut())));
    }
}

#[test]
fn a_sector_may_be_left_as_it_was_after_any_of_its_writes() {
    for profile in [Profile::Ext4Ordered, Profile::ZeroTail] {
        let (disk, file) = disk_with(&[1; 4], profile);
        for (byte, at) in [(2, 0), (3, 1), (4, 0)] {
            file.pwrite(&[byte; 2], at).unwrap();
        }
        let expected = [[1, 1, 1, 1], [2, 2, 1, 1], [2, 3, 3, 1], [4, 4, 3, 1]];
        assert_eq!(outcomes(all(&disk), A), expected.map(|bytes| Some(bytes.to_vec())).into());
    }
}

#[test]
fn a_disk_with_nothing_unsynced_has_one_image() {
    for profile in PROFILES {
        let (disk, file) = disk_with(&[1; 2000], profile);
        file.pwrite(&[2; 3000], 100).unwrap();
        drop(open(&disk, B));
        for image in some(&disk, 50) {
            assert_eq!((all(&image).atoms(), all(&image).combinations()), (0, Some(1)));
            assert_eq!(set(all(&image)), [seen(&image)].into(), "{profile:?}");
            assert_eq!(set(some(&image, 9)), [seen(&image)].into(), "{profile:?}");
        }
    }
}

#[test]
fn too_many_atoms_or_images_are_sampled_and_the_sample_begins_with_the_extremes() {
    let (disk, file) = disk_with(&[1; 11 * SECTOR], Profile::Posix);
    file.pwrite(&[2; 11 * SECTOR], 0).unwrap();
    let states = disk.crash_states(Limits::default(), 1);
    assert_eq!((states.atoms(), states.combinations(), states.is_exhaustive()), (11, Some(177_147), false));
    let images: Vec<_> = states.map(|image| read(&image, A).unwrap()).collect();
    assert_eq!(images.len(), 64);
    assert_eq!((&images[0], &images[1]), (&vec![1; 11 * SECTOR], &vec![2; 11 * SECTOR]));

    let few = Limits { exhaustive_atoms: 11, exhaustive_images: 177_146, samples: 3 };
    assert_eq!(disk.crash_states(few, 1).count(), 3);
    let enough = Limits { exhaustive_images: 177_147, ..few };
    assert_eq!(disk.crash_states(enough, 1).count(), 177_147);
}

#[test]
fn the_same_seed_makes_the_same_images_and_another_one_others() {
    let disk = tiny(Profile::GarbageTail);
    let images = |seed| -> Vec<Seen> {
        let limits = Limits { exhaustive_atoms: 0, ..Limits::default() };
        disk.crash_states(limits, seed).map(|image| seen(&image)).collect()
    };
    assert_eq!(images(1), images(1));
    assert_ne!(images(1), images(2));
}

#[test]
fn an_image_is_a_disk_of_its_own() {
    let (disk, file) = disk_with(&[1; 100], Profile::ZeroTail);
    disk.limit(Some(150));
    disk.fail_at(0, libc::EIO, Times::Sticky);
    let images: Vec<_> = all(&disk).collect();
    disk.heal();
    file.pwrite(&[9; 100], 0).unwrap();
    let [image] = &images[..] else { panic!("{} images", images.len()) };

    assert_eq!((image.operations(), image.trace()), (0, Vec::new()));
    let copy = open(image, A);
    assert_eq!(contents(&copy), [1; 100], "it shares nothing with the disk that goes on");
    copy.pwrite(&[2; 50], 50).unwrap();
    assert_eq!(contents(&file), [9; 100]);
    assert_eq!(image.free_space(root()).unwrap(), 50, "the capacity is the same");
    let there = all(image).flat_map(|image| read(&image, A)).collect::<BTreeSet<_>>();
    assert_eq!(there, [vec![1; 100], [[1; 50], [2; 50]].concat()].into(), "the profile is the same");
}

#[test]
fn a_file_that_was_removed_for_good_has_no_atoms() {
    let (disk, file) = disk_with(&[1; 1024], Profile::Posix);
    file.pwrite(&[2; 1024], 0).unwrap();
    disk.remove(Path::new(A)).unwrap();
    assert_eq!(all(&disk).atoms(), 3, "the removal may be lost");
    assert_eq!(all(&disk).count(), 9 + 1, "without the name, nobody sees the sectors");
    disk.sync_dir(root()).unwrap();
    assert_eq!(all(&disk).atoms(), 0);
    file.pwrite(&[3; 1024], 0).unwrap();
    assert_eq!((all(&disk).atoms(), set(all(&disk))), (0, [Seen::new()].into()));
}

#[test]
fn what_is_in_a_directory_that_was_lost_is_lost() {
    let disk = SimDisk::new(1);
    disk.create_dir(Path::new("/d"), 0o755).unwrap();
    open(&disk, "/d/f").pwrite(b"x", 0).unwrap();
    let images = set(all(&disk));
    let dir = ("/d".to_string(), None);
    let file = |bytes: &[u8]| ("/d/f".to_string(), Some(bytes.to_vec()));
    let expected = [
        Seen::new(),
        Seen::from([dir.clone()]),
        Seen::from([dir.clone(), file(b"")]),
        Seen::from([dir.clone(), file(b"x")]),
        Seen::from([dir, file(b"\0")]),
    ];
    assert_eq!(images, expected.into());
}

// The profiles.

#[test]
fn on_posix_the_sync_of_a_file_does_not_keep_its_name() {
    for profile in PROFILES {
        let disk = SimDisk::new(1);
        disk.profile(profile);
        let file = open(&disk, A);
        file.pwrite(b"bytes", 0).unwrap();
        file.sync().unwrap();
        let kept = profile == Profile::Ext4Ordered;
        assert_eq!(read(&disk.power_cut(), A).is_some(), kept, "{profile:?}");
        assert_eq!(outcomes(some(&disk, 50), A).contains(&None), !kept, "{profile:?}");
    }
}

#[test]
fn on_ext4_names_are_kept_in_order_and_up_to_the_file_that_was_synced() {
    let disk = SimDisk::new(1);
    disk.profile(Profile::Ext4Ordered);
    let files: Vec<_> = ["/1", "/2", "/3", "/4"].map(|path| open(&disk, path)).into();
    let counts = |disk: &SimDisk| -> BTreeSet<Vec<String>> {
        all(disk).map(|image| seen(&image).into_keys().collect()).collect()
    };
    let up_to = |range: Range<usize>| -> BTreeSet<Vec<String>> {
        range.map(|n| (1..=n).map(|i| format!("/{i}")).collect()).collect()
    };
    assert_eq!(counts(&disk), up_to(0..5));
    files[1].sync().unwrap();
    assert_eq!(counts(&disk), up_to(2..5), "the first came before the second");

    disk.profile(Profile::Posix);
    assert_eq!(counts(&disk).len(), 4, "each of the two on its own");
}

#[test]
fn on_ext4_a_file_is_never_longer_than_its_data() {
    let (disk, file) = disk_with(&[1; 700], Profile::Ext4Ordered);
    for start in [700, 1400, 2100] {
        file.pwrite(&[2; 700], start).unwrap();
    }
    file.pwrite(&[3; 5], 2000).unwrap();
    let lengths = outcomes(all(&disk), A).into_iter().map(|bytes| {
        let bytes = bytes.unwrap();
        assert!(bytes[..700].iter().all(|byte| *byte == 1));
        assert!(bytes[700..].iter().all(|byte| [2, 3].contains(byte)), "old or zero data behind the old end");
        bytes.len()
    });
    assert_eq!(lengths.collect::<BTreeSet<_>>(), [700, 1400, 2100, 2800].into());
    assert!(some(&disk, 500).all(|image| image.made_of().sizes_ahead == 0));
}

#[test]
fn on_ext4_a_file_that_was_cut_and_grew_again_shows_nothing_of_what_was_cut() {
    let (disk, file) = disk_with(&[1; 600], Profile::Ext4Ordered);
    file.truncate(0).unwrap();
    file.pwrite(&[2; 550], 0).unwrap();
    for bytes in outcomes(all(&disk), A).into_iter().flatten() {
        match bytes.len() {
            550 => assert!(bytes.iter().all(|byte| *byte == 2), "{bytes:?}"),
            len => assert!([0, 600].contains(&len)),
        }
    }
}

#[test]
fn a_zero_tail_leaves_overwritten_sectors_alone() {
    let (disk, file) = disk_with(&[1; 1024], Profile::ZeroTail);
    file.pwrite(&[2; 1024 + 600], 0).unwrap();
    let mut tails = BTreeSet::new();
    for bytes in outcomes(all(&disk), A).into_iter().flatten() {
        assert!(bytes[..1024].iter().all(|byte| [1, 2].contains(byte)));
        tails.insert(
            [1024..1536, 1536..1624].map(|tail| bytes.get(tail).and_then(|tail| fill(tail, 0..tail.len()))),
        );
    }
    let tail = |first, second| [Some(first), Some(second)];
    assert_eq!(tails, [[None, None], tail(0, 0), tail(0, 2), tail(2, 0), tail(2, 2)].into());
}

#[test]
fn garbage_lies_only_where_something_was_written() {
    let (disk, file) = disk_with(&[1; 1024], Profile::GarbageTail);
    file.pwrite(&[2; 700], 300).unwrap();
    file.pwrite(&[3; 700], 1024).unwrap();
    let mut garbage = [0; 4];
    for image in some(&disk, 2000) {
        let bytes = read(&image, A).unwrap();
        assert_eq!((fill(&bytes, 0..300), fill(&bytes, 1000..1024)), (Some(1), Some(1)), "synced bytes");
        for (n, range) in [300..512, 512..1000, 1024..1536, 1536..1724].into_iter().enumerate() {
            let allowed = if n < 2 { [1, 2] } else { [0, 3] };
            match bytes.get(range.clone()).map(|_| fill(&bytes, range)) {
                Some(Some(byte)) => assert!(allowed.contains(&byte) || byte == 1, "{byte}"),
                Some(None) => garbage[n] += 1,
                None => {}
            }
        }
    }
    assert!(garbage.iter().all(|count| *count > 20), "{garbage:?}");
}

#[test]
fn garbage_is_random_or_what_another_file_has_or_had() {
    let (disk, file) = disk_with(&[], Profile::GarbageTail);
    let old = open(&disk, B);
    old.pwrite(&[7; 2 * SECTOR], 0).unwrap();
    old.sync().unwrap();
    disk.sync_dir(root()).unwrap();
    disk.remove(Path::new(B)).unwrap();
    disk.sync_dir(root()).unwrap();

    file.pwrite(&[2; SECTOR], 0).unwrap();
    let found = outcomes(some(&disk, 500), A);
    let recycled = Some(vec![7; SECTOR]);
    assert!(found.contains(&recycled), "nothing of the file that was removed");
    assert!(
        found.iter().flatten().any(|bytes| bytes.iter().collect::<BTreeSet<_>>().len() > 100),
        "no noise"
    );
}

#[test]
fn without_powersafe_overwrite_a_sector_may_lose_the_synced_bytes_in_it_and_no_other() {
    let (disk, file) = disk_with(&[1; 3 * SECTOR], Profile::PsowOff);
    file.pwrite(&[2; 10], SECTOR as u64 + 100).unwrap();
    let mut lost = 0;
    for image in some(&disk, 300) {
        let bytes = read(&image, A).unwrap();
        assert_eq!(bytes.len(), 3 * SECTOR);
        assert_eq!((fill(&bytes, 0..SECTOR), fill(&bytes, 2 * SECTOR..3 * SECTOR)), (Some(1), Some(1)));
        let garbage = image.made_of().garbage_sectors == 1;
        let beside = fill(&bytes, SECTOR..SECTOR + 100) == Some(1);
        assert!(garbage || beside, "synced bytes were lost without garbage");
        lost += u32::from(!beside);
        if !garbage {
            assert!([0, 1, 2].map(Some).contains(&fill(&bytes, SECTOR + 100..SECTOR + 110)));
        }
    }
    assert!(lost > 10, "{lost}");
}

#[test]
fn no_other_profile_touches_a_synced_byte_beside_a_write() {
    for profile in PROFILES.into_iter().filter(|profile| *profile != Profile::PsowOff) {
        let (disk, file) = disk_with(&[1; SECTOR], profile);
        file.pwrite(&[2; 10], 100).unwrap();
        for image in some(&disk, 300) {
            let bytes = read(&image, A).unwrap();
            let beside = (fill(&bytes, 0..100), fill(&bytes, 110..SECTOR));
            assert_eq!(beside, (Some(1), Some(1)), "{profile:?}");
        }
    }
}

#[test]
fn a_lying_disk_keeps_nothing_whatever_was_synced() {
    let (disk, file) = disk_with(b"before", Profile::Lying);
    file.pwrite(b"after!", 0).unwrap();
    file.sync().unwrap();
    let map = file.map_rdwr().unwrap();
    map.write(0, b"A").unwrap();
    map.sync().unwrap();
    disk.rename(Path::new(A), Path::new(B)).unwrap();
    disk.sync_dir(root()).unwrap();
    assert_eq!(seen(&disk.power_cut()), Seen::from([(A.to_string(), Some(b"before".to_vec()))]));
    assert!(set(all(&disk)).contains(&seen(&disk)), "or, with luck, everything");

    disk.profile(Profile::Posix);
    file.sync().unwrap();
    assert_eq!(read(&disk.power_cut(), A).unwrap(), b"After!", "an honest sync keeps what was lied about");
}

// What is in memory only.

#[test]
fn dropping_the_cache_after_a_failed_sync_shows_the_old_bytes() {
    let (disk, file) = disk_with(b"old bytes", Profile::Posix);
    file.pwrite(b"new", 0).unwrap();
    file.pwrite(b" and more", 9).unwrap();
    disk.fail_next(Op::Sync, libc::EIO, Times::Once);
    file.sync().unwrap_err();
    assert_eq!(read(&disk, A).unwrap(), b"new bytes and more", "memory shows what the disk did not get");

    let fresh = open(&disk, A);
    fresh.drop_cache().unwrap();
    assert_eq!(contents(&fresh), b"old bytes");
    assert_eq!(contents(&file), b"old bytes", "every handle sees it");
    assert_eq!(read(&disk.power_cut(), A).unwrap(), b"old bytes");
}

#[test]
fn dropping_the_cache_keeps_what_is_still_to_be_written() {
    let (disk, file) = disk_with(b"12345", Profile::Posix);
    file.pwrite(b"lost", 0).unwrap();
    disk.fail_next(Op::Sync, libc::EIO, Times::Once);
    file.sync().unwrap_err();
    let raw = disk.open(Path::new(A), Open::ReadWrite).unwrap();
    raw.pwrite(b"Z", 3).unwrap();
    raw.drop_cache().unwrap();
    assert_eq!(read(&disk, A).unwrap(), b"123Z5");
    raw.sync().unwrap();
    assert_eq!(read(&disk.power_cut(), A).unwrap(), b"123Z5");
    assert_eq!(disk.calls(Op::DropCache), 1);

    disk.fail_next(Op::DropCache, libc::EIO, Times::Once);
    assert_eq!(open(&disk, A).drop_cache().unwrap_err().os_error(), Some(libc::EIO));
}

#[test]
fn dropping_the_cache_of_a_healthy_file_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let claim = |disk: &dyn Disk, path: &Path| {
        let file = File::open(disk, path, Open::Create(0o600)).unwrap();
        file.pwrite(&[5; 10_000], 0).unwrap();
        file.drop_cache().unwrap();
        assert_eq!(contents(&file), [5; 10_000]);
    };
    claim(&SimDisk::new(1), Path::new(A));
    claim(&OsDisk, &dir.path().join("a"));
}

#[test]
fn where_sizes_run_ahead_a_failed_sync_leaves_the_size_and_zeros() {
    for profile in PROFILES {
        let (disk, file) = disk_with(b"old", profile);
        file.pwrite(b"new", 3).unwrap();
        disk.fail_next(Op::Sync, libc::EIO, Times::Once);
        file.sync().unwrap_err();
        let fresh = open(&disk, A);
        fresh.drop_cache().unwrap();
        let stays = [Profile::ZeroTail, Profile::GarbageTail].contains(&profile);
        let left: &[u8] = if stays { b"old\0\0\0" } else { b"old" };
        assert_eq!(contents(&fresh), left, "{profile:?}");
        assert_eq!(
            read(&disk.power_cut(), A).unwrap(),
            left,
            "{profile:?}: the sync that dropping begins with"
        );
    }
}

#[test]
fn a_misdirected_write_is_seen_where_it_belongs_until_the_cache_is_dropped() {
    let (disk, file) = disk_with(b"aaaaaa", Profile::Posix);
    let other = open(&disk, B);
    other.pwrite(b"bbbbbb", 0).unwrap();
    other.close().unwrap();
    disk.sync_dir(root()).unwrap();

    disk.misdirect_next(Path::new(B), 2).unwrap();
    file.pwrite(b"XY", 0).unwrap();
    file.pwrite(b"Z", 5).unwrap();
    file.sync().unwrap();
    assert_eq!(read(&disk, A).unwrap(), b"XYaaaZ");
    assert_eq!(read(&disk, B).unwrap(), b"bbbbbb");
    let cut = disk.power_cut();
    assert_eq!((read(&cut, A).unwrap(), read(&cut, B).unwrap()), (b"aaaaaZ".to_vec(), b"bbXYbb".to_vec()));
    for path in [A, B] {
        open(&disk, path).drop_cache().unwrap();
    }
    assert_eq!(seen(&disk), seen(&cut));
}

#[test]
fn a_write_misdirected_behind_the_end_is_lost_and_its_size_is_not() {
    let (disk, file) = disk_with(b"old", Profile::Posix);
    disk.misdirect_next(Path::new(A), 1 << 20).unwrap();
    file.pwrite(b"lost", 3).unwrap();
    assert_eq!(contents(&file), b"oldlost");
    file.drop_cache().unwrap();
    assert_eq!(contents(&file), b"old\0\0\0\0");
    assert_eq!(disk.misdirect_next(Path::new("/none"), 0).unwrap_err().raw_os_error(), Some(libc::ENOENT));
    disk.misdirect_next(Path::new(A), 0).unwrap();
    disk.heal();
    file.pwrite(b"good", 3).unwrap();
    file.drop_cache().unwrap();
    assert_eq!(contents(&file), b"oldgood");
}

// Looking at every crash point.

/// One operation that changes the disk, and what it is.
type Scripted = (Op, fn(&SimDisk));

/// All kinds of them.
fn script() -> Vec<Scripted> {
    vec![
        (Op::CreateDir, |disk| disk.create_dir(Path::new("/d"), 0o755).unwrap()),
        (Op::SyncDir, |disk| disk.sync_dir(root()).unwrap()),
        (Op::Open, |disk| drop(open(disk, "/d/f"))),
        (Op::Pwrite, |disk| open(disk, "/d/f").pwrite(b"one", 0).unwrap()),
        (Op::Sync, |disk| open(disk, "/d/f").sync().unwrap()),
        (Op::SyncDir, |disk| disk.sync_dir(Path::new("/d")).unwrap()),
        (Op::Pwritev, |disk| open(disk, "/d/f").pwritev(&mut [std::io::IoSlice::new(b"two")], 2).unwrap()),
        (Op::Truncate, |disk| open(disk, "/d/f").truncate(4).unwrap()),
        (Op::MapWrite, |disk| open(disk, "/d/f").map_rdwr().unwrap().write(1, b"x").unwrap()),
        (Op::MapSync, |disk| open(disk, "/d/f").map_rdwr().unwrap().sync().unwrap()),
        (Op::Rename, |disk| disk.rename(Path::new("/d/f"), Path::new("/g")).unwrap()),
        (Op::Remove, |disk| disk.remove(Path::new("/g")).unwrap()),
        (Op::RemoveDir, |disk| disk.remove_dir(Path::new("/d")).unwrap()),
        (Op::SyncDir, |disk| disk.sync_dir(root()).unwrap()),
    ]
}

#[test]
fn the_observer_sees_every_crash_point_and_no_other() {
    let alone = SimDisk::new(1);
    let expected: Vec<_> = script()
        .into_iter()
        .map(|(op, step)| {
            let before = set(all(&alone));
            step(&alone);
            (op, before)
        })
        .collect();

    let disk = SimDisk::new(1);
    let points = Arc::new(Mutex::new(Vec::new()));
    let found = Arc::clone(&points);
    disk.observe(move |disk, traced| found.lock().unwrap().push((traced.op, set(all(disk)))));
    for (_, step) in script() {
        step(&disk);
        // Looking changes nothing.
        drop((seen(&disk), disk.free_space(root()).unwrap()));
    }
    let points = std::mem::take(&mut *points.lock().unwrap());
    let ops = |points: &[(Op, BTreeSet<Seen>)]| points.iter().map(|(op, _)| *op).collect::<Vec<_>>();
    assert_eq!(ops(&points), ops(&expected));
    assert!(points == expected);
}

#[test]
fn the_observer_sees_an_operation_that_is_going_to_fail() {
    let (disk, file) = disk_with(b"old", Profile::ZeroTail);
    let points = Arc::new(Mutex::new(Vec::new()));
    let found = Arc::clone(&points);
    disk.observe(move |disk, traced| {
        found.lock().unwrap().push((traced.clone(), outcomes(all(disk), A).len()));
    });
    file.pwrite(b"new", 0).unwrap();
    disk.fail_next(Op::Sync, libc::EIO, Times::Once);
    file.sync().unwrap_err();
    disk.unobserve();
    open(&disk, A).pwrite(b"!", 0).unwrap();

    let points = points.lock().unwrap();
    let told: Vec<_> = points.iter().map(|(traced, images)| (traced.op, traced.offset, *images)).collect();
    assert_eq!(told, [(Op::Pwrite, Some(0), 1), (Op::Sync, None, 2)]);
    assert!(points.iter().all(|(traced, _)| &*traced.path == Path::new(A)));
}

#[test]
fn what_the_observer_does_is_not_observed() {
    let (disk, file) = disk_with(b"", Profile::Posix);
    let count = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&count);
    disk.observe(move |disk, _| {
        *counted.lock().unwrap() += 1;
        let log = open(disk, B);
        log.pwrite(b"seen", log.size().unwrap()).unwrap();
        log.sync().unwrap();
    });
    file.pwrite(b"1", 0).unwrap();
    file.pwrite(b"2", 1).unwrap();
    assert_eq!((*count.lock().unwrap(), read(&disk, B).unwrap()), (2, b"seenseen".to_vec()));
    assert_eq!(contents(&file), b"12");
}

#[test]
fn an_observer_may_replace_itself() {
    let (disk, file) = disk_with(b"", Profile::Posix);
    let log = Arc::new(Mutex::new(Vec::new()));
    let (first, second) = (Arc::clone(&log), Arc::clone(&log));
    let mut second = Some(second);
    // An open file of the disk in the closure: dropping it needs the disk.
    let held = open(&disk, A);
    disk.observe(move |disk, _| {
        let _held = &held;
        first.lock().unwrap().push("first");
        let second = second.take().unwrap();
        disk.observe(move |disk, _| {
            second.lock().unwrap().push("second");
            disk.unobserve();
        });
    });
    for _ in 0..3 {
        file.pwrite(b"x", 0).unwrap();
    }
    assert_eq!(*log.lock().unwrap(), ["first", "second"]);
}

#[test]
fn between_two_observations_lies_one_change_however_many_threads_there_are() {
    let disk = SimDisk::new(1);
    let files: Vec<_> = (0..4).map(|n| open(&disk, &format!("/{n}"))).collect();
    let sizes = Arc::new(Mutex::new(Vec::new()));
    let found = Arc::clone(&sizes);
    disk.observe(move |disk, _| {
        let total: u64 = (0..4).map(|n| disk.info(Path::new(&format!("/{n}")), false).unwrap().len).sum();
        found.lock().unwrap().push(total);
    });
    std::thread::scope(|scope| {
        for file in &files {
            scope.spawn(move || (0..200).for_each(|n| file.pwrite(b"x", n).unwrap()));
        }
    });
    assert_eq!(*sizes.lock().unwrap(), (0..800).collect::<Vec<_>>());
}

#[test]
fn a_trace_that_is_not_kept_still_counts() {
    let (disk, file) = disk_with(b"x", Profile::Posix);
    let (operations, traced) = (disk.operations(), disk.trace().len() as u64);
    assert_eq!(operations, traced);
    disk.keep_trace(false);
    disk.fail_at(operations + 1, libc::EIO, Times::Once);
    file.size().unwrap();
    file.size().unwrap_err();
    assert_eq!((disk.operations(), disk.trace()), (operations + 2, Vec::new()));
    let image = disk.power_cut();
    open(&image, A).size().unwrap();
    assert_eq!((image.operations(), image.trace().len(), image.calls(Op::Size)), (2, 0, 1));
    disk.keep_trace(true);
    file.size().unwrap();
    assert_eq!(disk.trace().len(), 1);
}

// What an image is made of.

#[test]
fn an_image_tells_what_it_is_made_of() {
    let disk = tiny(Profile::PsowOff);
    assert_eq!(disk.made_of(), MadeOf::default());
    let mut sum = [0; 6];
    for image in some(&disk, 400) {
        let MadeOf { torn_sectors, zero_sectors, garbage_sectors, lost_names, sizes_behind, sizes_ahead } =
            image.made_of();
        let (bytes, has_b) = (read(&image, A).unwrap(), read(&image, B).is_some());
        assert_eq!(lost_names, u32::from(!has_b));
        assert_eq!(sizes_behind, u32::from(bytes.len() == 1024));
        assert_eq!(sizes_ahead, u32::from(bytes.len() > 1024 && bytes[1024..] != [3; 3]));
        let as_written = u32::from(fill(&bytes, 300..512) == Some(2))
            + u32::from(fill(&bytes, 512..1000) == Some(2))
            + u32::from(bytes.len() > 1024 && bytes[1024..] == [3; 3]);
        let sectors = 2 + u32::from(bytes.len() > 1024);
        // Recycled garbage may by chance be what was written.
        assert!(torn_sectors + zero_sectors + garbage_sectors >= sectors - as_written);
        assert!(torn_sectors + zero_sectors <= sectors - as_written);
        let these = [torn_sectors, zero_sectors, garbage_sectors, lost_names, sizes_behind, sizes_ahead];
        sum = std::array::from_fn(|n| sum[n] + these[n]);
    }
    assert!(sum.iter().all(|count| *count > 0), "{sum:?}");
    let best = some(&disk, 2).nth(1).unwrap();
    assert_eq!((best.made_of(), seen(&best)), (MadeOf::default(), seen(&disk)));
}

// Boots, random bytes, watches.

#[test]
fn a_power_cut_is_another_boot() {
    let (disk, _file) = disk_with(b"x", Profile::Posix);
    let boot = disk.boot().unwrap();
    assert_eq!(disk.boot().unwrap(), boot);
    disk.sync_dir(root()).unwrap();
    assert_eq!((disk.boot().unwrap(), disk.calls(Op::Boot)), (boot, 3));
    let mut boots = BTreeSet::from([boot]);
    let mut image = disk.clone();
    for _ in 0..100 {
        image = image.power_cut();
        assert!(boots.insert(image.boot().unwrap()));
    }
    assert_eq!(
        disk.torn_power_cut(1).boot().unwrap(),
        disk.power_cut().boot().unwrap(),
        "the same next boot"
    );
    assert_ne!(SimDisk::new(8).boot().unwrap(), boot, "another machine");

    disk.fail_next(Op::Boot, libc::EACCES, Times::Once);
    assert_eq!(disk.boot().unwrap_err().raw_os_error(), Some(libc::EACCES));
}

#[test]
fn random_bytes_are_new_each_time_also_after_a_power_cut_and_the_seed_decides_them() {
    let draw = |disk: &SimDisk| -> Vec<[u8; 16]> { (0..50).map(|_| disk.random().unwrap()).collect() };
    let disk = SimDisk::new(1);
    let mut all = draw(&disk);
    assert_eq!(all, draw(&SimDisk::new(1)));
    assert_ne!(all, draw(&SimDisk::new(2)));
    let cut = disk.power_cut();
    all.extend(draw(&cut));
    all.extend(draw(&cut.torn_power_cut(9)));
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 150);
}

#[test]
fn a_watch_tells_of_changes_since_it_began_or_was_last_asked() {
    let dir = tempfile::tempdir().unwrap();
    let claim = |disk: &dyn Disk, root: &Path| {
        let at = |name: &str| root.join(name);
        let file = File::open(disk, &at("f"), Open::Create(0o600)).unwrap();
        file.pwrite(b"before", 0).unwrap();
        disk.create_dir(&at("d"), 0o700).unwrap();
        // The real one may have no watch left for this user.
        let Some(watch) = disk.watch(root).unwrap() else { return };
        let told = || watch.wait(Duration::ZERO).unwrap();
        assert!(!told(), "that was before");

        file.pwrite(b"1", 0).unwrap();
        file.pwrite(b"2", 0).unwrap();
        assert!(told());
        assert!(!told(), "one answer for both");
        file.truncate(3).unwrap();
        assert!(told());
        let other = File::open(disk, &at("g"), Open::Create(0o600)).unwrap();
        assert!(told(), "made");
        disk.rename(&at("g"), &at("h")).unwrap();
        assert!(told(), "renamed");
        other.pwrite(b"x", 0).unwrap();
        assert!(told(), "written under its new name");
        disk.rename(&at("h"), &at("d/h")).unwrap();
        assert!(told(), "moved away");
        disk.rename(&at("d/h"), &at("h")).unwrap();
        assert!(told(), "moved in");
        disk.remove(&at("h")).unwrap();
        assert!(told(), "removed");

        drop(File::open(disk, &at("d/inside"), Open::Create(0o600)).unwrap());
        let map = file.map_rdwr().unwrap();
        map.write(0, b"!").unwrap();
        map.sync().unwrap();
        file.sync().unwrap();
        contents(&file);
        drop(File::open(disk, &at("f"), Open::Create(0o600)).unwrap());
        assert!(!told(), "another directory, a mapping, a sync, a read, an opening");
    };
    claim(&SimDisk::new(1), root());
    claim(&OsDisk, dir.path());
}

#[test]
fn a_change_ends_the_wait_of_all_who_watch() {
    let disk = SimDisk::new(1);
    let file = open(&disk, A);
    assert_eq!(disk.watch(Path::new("/none")).unwrap_err().raw_os_error(), Some(libc::ENOENT));
    assert_eq!(disk.watch(Path::new(A)).unwrap_err().raw_os_error(), Some(libc::ENOTDIR));
    let watches: Vec<_> = (0..3).map(|_| disk.watch(root()).unwrap().unwrap()).collect();
    std::thread::scope(|scope| {
        let (done, ended) = mpsc::channel();
        for watch in &watches {
            let done = done.clone();
            scope.spawn(move || done.send(watch.wait(Duration::from_secs(60)).unwrap()).unwrap());
        }
        file.pwrite(b"x", 0).unwrap();
        assert_eq!([(); 3].map(|()| ended.recv().unwrap()), [true; 3]);
    });
    assert!(!watches[0].wait(Duration::from_millis(1)).unwrap());
}

// Against each other.

#[derive(Debug, Clone)]
enum Step {
    Write { file: usize, at: u64, len: usize },
    Truncate { file: usize, size: u64 },
    Sync { file: usize },
    SyncDir,
    Rename { from: usize, to: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..2_usize, 0..1500_u64, 1..700_usize).prop_map(|(file, at, len)| Step::Write { file, at, len }),
        2 => (0..2_usize, 0..1500_u64).prop_map(|(file, size)| Step::Truncate { file, size }),
        3 => (0..2_usize).prop_map(|file| Step::Sync { file }),
        2 => Just(Step::SyncDir),
        1 => (0..2_usize, 2..4_usize).prop_map(|(from, to)| Step::Rename { from, to }),
    ];
    proptest::collection::vec(step, 1..9)
}

fn path(n: usize) -> String {
    format!("/{n}")
}

fn follow(profile: Profile, steps: &[Step]) -> SimDisk {
    let disk = SimDisk::new(1);
    disk.profile(profile);
    let files: Vec<_> = (0..2).map(|n| open(&disk, &path(n))).collect();
    for (n, step) in (1_u8..).zip(steps) {
        match step {
            Step::Write { file, at, len } => files[*file].pwrite(&vec![n; *len], *at).unwrap(),
            Step::Truncate { file, size } => files[*file].truncate(*size).unwrap(),
            Step::Sync { file } => files[*file].sync().unwrap(),
            Step::SyncDir => disk.sync_dir(root()).unwrap(),
            Step::Rename { from, to } => {
                drop(disk.rename(Path::new(&path(*from)), Path::new(&path(*to))));
            }
        }
    }
    disk
}

/// All images, if they are few enough.
fn few(disk: &SimDisk) -> Option<BTreeSet<Seen>> {
    let states = disk.crash_states(Limits { exhaustive_atoms: 12, exhaustive_images: 6000, samples: 0 }, 1);
    states.is_exhaustive().then(|| set(states))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(60) })]

    #[test]
    fn a_stricter_profile_leaves_nothing_that_a_looser_one_does_not(steps in steps()) {
        let disk = |profile| follow(profile, &steps);
        let Some(posix) = few(&disk(Profile::Posix)) else { return Ok(()) };
        for stricter in [Profile::Ext4Ordered, Profile::ZeroTail] {
            let images = few(&disk(stricter));
            prop_assert!(images.is_some_and(|images| images.is_subset(&posix)), "{stricter:?}");
        }
        let few_of = |profile| few(&disk(profile));
        if let Some(lying) = few_of(Profile::Lying) {
            prop_assert!(few_of(Profile::ZeroTail).is_some_and(|images| images.is_subset(&lying)));
        }
        if let Some(garbage) = few_of(Profile::GarbageTail) {
            prop_assert!(few_of(Profile::ZeroTail).is_some_and(|images| images.is_subset(&garbage)));
        }
        if let Some(garbage) = few_of(Profile::PsowOff) {
            prop_assert!(posix.is_subset(&garbage));
        }
    }

    #[test]
    fn every_sample_is_one_of_all_images(steps in steps(), seed: u64) {
        for profile in [Profile::Posix, Profile::Ext4Ordered, Profile::ZeroTail, Profile::Lying] {
            let disk = follow(profile, &steps);
            let Some(all) = few(&disk) else { continue };
            prop_assert!(all.contains(&seen(&disk.power_cut())));
            prop_assert!(all.contains(&seen(&disk)), "{profile:?}: everything survived");
            let limits = Limits { exhaustive_atoms: 0, samples: 40, ..Limits::default() };
            for image in disk.crash_states(limits, seed).chain([disk.torn_power_cut(seed)]) {
                prop_assert!(all.contains(&seen(&image)), "{profile:?}");
            }
        }
    }

    #[test]
    fn what_was_synced_with_its_name_has_one_image(mut steps in steps()) {
        steps.extend([Step::Sync { file: 0 }, Step::Sync { file: 1 }, Step::SyncDir]);
        for profile in PROFILES.into_iter().filter(|profile| *profile != Profile::Lying) {
            let disk = follow(profile, &steps);
            prop_assert_eq!(few(&disk).unwrap(), BTreeSet::from([seen(&disk)]), "{:?}", profile);
        }
    }
}
