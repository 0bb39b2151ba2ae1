//! The inputs to begin with: made of the golden logs, of both formats, and of what the models write.
//!
//! `cargo run -p jlog-tests --bin fuzz-seeds` writes them to `fuzz/corpus/`. What fuzzing has found lies beside them, named by
//! its hash.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use jlog::RecordId;
use spool::{Context, Envelope, MessageId};

use super::base::{CLASSIC_BASES, Files, bases, pack};
use super::spools;
use crate::crash::Dice;

/// The longest input that is kept, in bytes.
const LONGEST: usize = 6000;

/// A seed of a target: its name, and its bytes.
pub type Seed = (&'static str, String, Vec<u8>);

/// Where the inputs of a target are kept.
pub fn corpus(target: &str) -> PathBuf {
    kept().join("corpus").join(target)
}

/// Where the inputs of a target are kept that once failed.
pub fn regressions(target: &str) -> PathBuf {
    kept().join("regressions").join(target)
}

fn kept() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz")
}

/// All seeds.
pub fn all() -> Vec<Seed> {
    let mut seeds = Seeds::default();
    for (format, logs) in [("classic", "golden"), ("checked", "golden-checked")] {
        let logs = Path::new(env!("CARGO_MANIFEST_DIR")).join(logs);
        for dir in crate::names(&logs) {
            let dir = logs.join(dir);
            if dir.is_dir() {
                seeds.of_log(format, &dir);
            }
        }
    }
    for (n, base) in bases().iter().enumerate() {
        for (target, name) in [
            ("index", "00000000.idx"),
            ("checkpoint", "cp.73"),
            ("metastore", "metastore"),
            ("segment", "00000000"),
        ] {
            let how = if target == "segment" { 0 } else { n as u8 };
            seeds.add(target, format!("base-{n}"), [&[how], &base.files[name][..]].concat());
        }
        seeds.add("inspect", format!("base-{n}"), pack(n >= CLASSIC_BASES, &base.files));
        seeds.add("repair", format!("base-{n}"), pack(false, &base.files));
        if n >= CLASSIC_BASES {
            seeds.add("repair", format!("base-{n}-sealed"), pack(true, &base.files));
        }
    }
    seeds.of_messages();
    for (n, records) in spools::seeds().into_iter().enumerate() {
        seeds.add("spool_records", format!("kind-{n}"), records);
    }
    seeds.of_names();
    // What these make of any bytes is a history.
    let structured = ["directory", "checked", "operations", "crash", "spool_history", "spool_recovery"];
    for target in structured {
        for n in 0..4 {
            let mut dice = Dice(n);
            let bytes = (0..24 + 30 * n).map(|_| dice.below(256) as u8).collect();
            seeds.add(target, format!("dice-{n}"), bytes);
        }
    }
    seeds.seeds
}

#[derive(Default)]
struct Seeds {
    seeds: Vec<Seed>,
    known: BTreeSet<(&'static str, Vec<u8>)>,
}

impl Seeds {
    fn add(&mut self, target: &'static str, name: String, bytes: Vec<u8>) {
        if bytes.len() <= LONGEST && self.known.insert((target, bytes.clone())) {
            self.seeds.push((target, name, bytes));
        }
    }

    /// A golden log: its files, each for the target of its kind, and all of it, if it is small.
    fn of_log(&mut self, format: &str, dir: &Path) {
        let log = dir.file_name().unwrap().to_str().unwrap();
        let checked = format == "checked";
        let mut files = Files::new();
        for file in crate::names(dir) {
            let bytes = fs::read(dir.join(&file)).unwrap();
            let file = file.into_string().unwrap();
            let (target, how) = match &file[..] {
                "metastore" => ("metastore", 3),
                "pre_commit" => ("pre_commit", 0),
                "00000000.idx" => ("index", 3),
                "cp.73" => ("checkpoint", 3),
                "00000000" => ("segment", 0),
                _ => ("", 0),
            };
            let how = if checked { how } else { u8::from(log.starts_with("be-")) };
            let is_segment = target == "segment";
            // What is special about most logs lies in one of their segments, and is in `repair` as well.
            if !target.is_empty() && (!is_segment || bytes.len() < 1200) {
                let how = if is_segment { 0 } else { how };
                self.add(target, format!("{format}-{log}-{file}"), [&[how], &bytes[..]].concat());
            }
            files.insert(file, bytes);
        }
        let input = pack(false, &files);
        if input.len() < 3600 {
            self.add("repair", format!("{format}-{log}"), input.clone());
            if checked {
                self.add("inspect", format!("{format}-{log}"), input);
            }
        }
    }

    fn of_messages(&mut self) {
        let blocks: [(&str, u32, &[u8]); 6] = [
            ("empty", 0, &[0]),
            ("literals", 5, b"\x50hello"),
            ("match", 24, b"\x1fa\x01\x00\x00\x50-----"),
            ("long-match", 300, &[0x1f, b'a', 1, 0, 255, 20, 0x50, b'-', b'-', b'-', b'-', b'-']),
            ("promises", u32::MAX, &[0xff, 0xff, 0xff]),
            ("before-the-beginning", 20, b"\x1fa\x02\x00\x00\x50-----"),
        ];
        for (name, len, block) in blocks {
            self.add("blocks", name.to_owned(), [&len.to_le_bytes(), block].concat());
        }
    }

    fn of_names(&mut self) {
        let names: BTreeMap<&str, Vec<u8>> = [
            ("record-id", RecordId::new(10, 47).to_string().into_bytes()),
            ("segment", b"0000000a".to_vec()),
            ("checkpoint", b"cp.67726fc39f65".to_vec()),
            ("metastore", b"metastore".to_vec()),
            ("longest", vec![b'x'; 126]),
        ]
        .into();
        for (name, bytes) in names {
            self.add("names", name.to_owned(), bytes);
        }
        let id = MessageId::from_u64(0x0123_4567_89ab_cdef);
        let mut envelope = Envelope::new();
        envelope.set_mail_from_line(b"MAIL FROM:<\"a b\"@example.com> SIZE=17\r\n").unwrap();
        envelope.set_rcpt_to_line(b"RCPT TO:<c@[192.0.2.1]>\r\n").unwrap();
        let mut context = Context::new();
        context.insert("key", b"value");
        context.insert("other", b"");
        let (mut as_bytes, mut context_bytes) = (Vec::new(), Vec::new());
        envelope.encode(&mut as_bytes);
        context.serialize(&mut context_bytes);
        let mail: [(&str, Vec<u8>); 8] = [
            ("id", id.to_string().into_bytes()),
            ("window", id.window().to_string().into_bytes()),
            ("thread", id.thread_id("node", "out").to_string().into_bytes()),
            ("address", b"\"a\\\"b\"@example.com".to_vec()),
            ("line", b"MAIL FROM:<@relay:a@b.example> BODY=8BITMIME\r\n".to_vec()),
            ("rcpt", b"RCPT TO:<postmaster>\r\n".to_vec()),
            ("envelope", as_bytes),
            ("context", context_bytes),
        ];
        for (name, bytes) in mail {
            self.add("mail_names", name.to_owned(), bytes);
        }
    }
}
