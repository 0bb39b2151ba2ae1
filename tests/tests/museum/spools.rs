//! Other spools.

use jlog_tests::Scratch;
use spool::{Message, MessageId, Spool, SpoolOptions, Timestamp};

fn options() -> SpoolOptions {
    SpoolOptions::new().background(false).segment_size(64 << 10).reserve(0)
}

fn now(n: u32) -> Timestamp {
    Timestamp::new(1_700_000_000 + n, 0)
}

fn mail(n: u32) -> Vec<u8> {
    format!("Subject: {n}\r\n\r\n{}\r\n", "the same words again and again ".repeat(300)).into_bytes()
}

fn accept(spool: &Spool, n: u32) -> MessageId {
    let message = Message::from_bytes(spool.new_id(now(n)), mail(n));
    message.set_recipient(Some("b@example.com".parse().unwrap()));
    spool.accept(&message, now(n)).unwrap();
    message.id()
}

fn body(spool: &Spool, id: MessageId) -> Vec<u8> {
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut spool.get(id).unwrap().body().unwrap(), &mut bytes).unwrap();
    bytes
}

/// Momentum sent compressed bytes as mail where `compress_spool` was switched off with mail queued; in OpenSMTPD (#194)
/// switching marked everything corrupt.
#[test]
fn compression_may_be_switched_with_mail_in_the_spool() {
    let scratch = Scratch::new();
    let mut ids = Vec::new();
    for (round, compress) in [true, false, true, false].into_iter().enumerate() {
        let spool = options().compress(compress).open(scratch.path()).unwrap();
        for n in 0..5 {
            let n = round as u32 * 5 + n;
            ids.push((n, accept(&spool, n)));
        }
        for (n, id) in &ids {
            assert_eq!(body(&spool, *id), mail(*n), "round {round}");
        }
        spool.close().unwrap();
    }
}

/// Haraka's queue loader (#2591) removed the temporary file of a transaction that was going on: it took what it did not
/// know for rubbish.
#[test]
fn files_that_are_not_the_spools_are_left_alone() {
    let scratch = Scratch::new();
    let spool = options().open(scratch.path()).unwrap();
    let id = accept(&spool, 1);
    spool.close().unwrap();
    let strangers =
        ["notes", ".hidden", "arrivals/notes", "summaries/notes", "summaries/a1", "survivors/x.tmp"];
    for name in strangers {
        std::fs::write(scratch.file(name), b"theirs").unwrap();
    }
    for _ in 0..3 {
        let spool = options().open(scratch.path()).unwrap();
        spool.maintain(u64::MAX).unwrap();
        assert_eq!(body(&spool, id), mail(1));
        spool.close().unwrap();
    }
    for name in strangers {
        assert_eq!(std::fs::read(scratch.file(name)).unwrap(), b"theirs", "{name}");
    }
}

/// KumoMTA removes at start-up what it cannot read ("TODO: log this better"), OpenSMTPD (#160, #194, #196, #373) stopped at
/// it.
#[test]
fn what_cannot_be_read_is_neither_removed_nor_in_the_way() {
    let scratch = Scratch::new();
    let spool = options().compress(false).open(scratch.path()).unwrap();
    let ids: Vec<_> = (0..6).map(|n| accept(&spool, n)).collect();
    spool.close().unwrap();
    let segment = scratch.file("arrivals").join("00000000");
    let mut bytes = std::fs::read(&segment).unwrap();
    let at = bytes.windows(12).position(|window| window == b"Subject: 3\r\n").unwrap() + 500;
    bytes[at] ^= 1;
    std::fs::write(&segment, &bytes).unwrap();
    for round in 0..2 {
        let spool = options().open(scratch.path()).unwrap();
        for (n, id) in ids.iter().enumerate().filter(|(n, _)| *n != 3) {
            assert_eq!(body(&spool, *id), mail(n as u32), "round {round}");
        }
        let handed_out = spool.get(ids[3]).is_ok_and(|message| {
            message
                .body()
                .is_ok_and(|mut body| std::io::Read::read_to_end(&mut body, &mut Vec::new()).is_ok())
        });
        assert!(!handed_out, "round {round}: a damaged message was handed out");
        spool.close().unwrap();
        assert_eq!(
            std::fs::read(&segment).unwrap()[at],
            bytes[at],
            "round {round}: the damaged bytes are gone"
        );
    }
}
