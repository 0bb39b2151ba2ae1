//! What was removed does not come back, whatever reclaim was at.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::path::Path;

use spool::{Message, MessageId, Spool, SpoolOptions, Timestamp};

const HOUR: u32 = 3600;

fn options() -> SpoolOptions {
    SpoolOptions::new().background(false).segment_size(4 << 20).reclaim_below(0.95).reserve(0)
}

/// So many messages of 10 kB, accepted in this hour.
fn accepted(spool: &Spool, hour: u32, count: usize) -> Vec<MessageId> {
    let now = Timestamp::new(1_700_000_400 + hour * HOUR, 0);
    let accept = |_| {
        let message = Message::from_bytes(spool.new_id(now), vec![b'x'; 10_000]);
        spool.accept(&message, now).unwrap();
        message.id()
    };
    (0..count).map(accept).collect()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

fn held(spool: &Spool) -> Vec<MessageId> {
    let mut held: Vec<MessageId> = spool.entries().unwrap().map(|listed| listed.id).collect();
    held.sort_unstable();
    held
}

fn segment_of(spool: &Spool, id: MessageId) -> String {
    let path = spool.location(id).unwrap().unwrap().path;
    path.strip_prefix(spool.path()).unwrap().to_string_lossy().into_owned()
}

/// A removal says where the message's record was: here among the survivors. It has to be kept as long as the segment that
/// this was copied from is there, though the copy's is not.
#[test]
fn what_was_removed_from_a_half_moved_segment_stays_gone() {
    let dir = tempfile::tempdir().unwrap();
    let spool = options().open(dir.path().join("spool")).unwrap();
    let (first, second) = (accepted(&spool, 0, 390), accepted(&spool, 1, 390));
    spool.remove_all(&[&first[..160], &second[..160]].concat()).unwrap();
    let filler = accepted(&spool, 2, 300);

    // The first segment fills the survivors' to one half, the second one begins another of theirs.
    let lies_in = |id: MessageId, segment: &str| segment_of(&spool, id) == segment;
    let rounds = (0..900).find(|_| spool.maintain(1).is_ok() && lies_in(first[389], "survivors/00000000"));
    assert!(rounds.is_some(), "{:?}", spool.stats());
    let begun = || second[160..].iter().any(|id| lies_in(*id, "survivors/00000001"));
    let rounds = (0..900).find(|_| spool.maintain(1).is_ok() && begun());
    assert!(rounds.is_some(), "{:?}", spool.stats());
    assert_eq!(segment_of(&spool, second[389]), "arrivals/00000001", "it is half moved");
    let moved: Vec<MessageId> =
        held(&spool).into_iter().filter(|id| segment_of(&spool, *id) == "survivors/00000000").collect();
    assert!(moved.iter().any(|id| second.contains(id)));
    // What holds these removals holds nothing else that is needed.
    spool.remove_all(&[moved, filler].concat()).unwrap();
    accepted(&spool, 4, 1).iter().for_each(|id| spool.remove(*id).unwrap());
    accepted(&spool, 5, 1);
    for _ in 0..3 {
        spool.maintain(0).unwrap();
    }

    spool.sync().unwrap();
    let killed = dir.path().join("killed");
    copy(spool.path(), &killed);
    let again = options().open(&killed).unwrap();
    assert_eq!(again.len().unwrap(), spool.len().unwrap(), "{:?}", spool.stats());
    assert_eq!(held(&again), held(&spool));

    // Who reads it in knows it, too.
    again.maintain(0).unwrap();
    let twice = dir.path().join("killed-twice");
    copy(again.path(), &twice);
    assert_eq!(options().open(&twice).unwrap().len().unwrap(), spool.len().unwrap());
    for _ in 0..20 {
        again.maintain(1 << 20).unwrap();
    }
    drop(again);
    assert_eq!(held(&options().open(&killed).unwrap()), held(&spool));
}
