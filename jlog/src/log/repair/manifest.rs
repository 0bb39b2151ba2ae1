//! What is written down of a repair: what a person reads, and what undo needs.

use std::path::Path;

use super::{Digest, RepairPlan, Step};
use crate::error::{Error, Result};

pub(super) const MANIFEST: &str = "manifest";
/// A repair that was taken back has a file of this name beside its manifest.
pub(super) const UNDONE: &str = "undone";
/// A manifest is read up to this length.
pub(super) const MOST_MANIFEST: u64 = 64 << 20;

/// What a manifest says of a file: what it was, and what it became. `None`: it was not there.
#[derive(Debug, PartialEq)]
pub(super) struct Entry {
    pub(super) file: String,
    pub(super) old: Option<Digest>,
    pub(super) new: Option<Digest>,
}

/// The record of a repair: what a person reads, and what undo needs.
pub(super) struct Manifest {
    comments: Vec<String>,
    pub(super) entries: Vec<Entry>,
}

impl Manifest {
    pub(super) fn new(plan: &RepairPlan) -> Manifest {
        let comment = |step: &Step| {
            let lost = match step.lost {
                Some(0) => String::new(),
                Some(1) => ", 1 message lost".to_owned(),
                Some(lost) => format!(", {lost} messages lost"),
                None => ", messages lost: not known".to_owned(),
            };
            format!("# {} bytes {}..{}: {}: {}{lost}", step.file, step.from, step.to, step.what, step.deed)
        };
        Manifest { comments: plan.steps.iter().map(comment).collect(), entries: Vec::new() }
    }

    pub(super) fn encode(&self) -> String {
        let digest =
            |digest: Option<Digest>| digest.map_or("-".to_owned(), |(len, crc)| format!("{len} {crc:08x}"));
        let mut text = String::from("jlog-repair 1\n");
        for comment in &self.comments {
            // One line each, whatever a subscriber is called.
            text.push_str(&comment.replace('\n', " "));
            text.push('\n');
        }
        for entry in &self.entries {
            text.push_str(&format!("file\t{}\t{}\t{}\n", entry.file, digest(entry.old), digest(entry.new)));
        }
        text
    }

    pub(super) fn decode(lines: &[String], path: &Path) -> Result<Manifest> {
        let digest = |text: &str| match text.split_once(' ') {
            None if text == "-" => Some(None),
            None => None,
            Some((len, crc)) => Some(Some((len.parse().ok()?, u32::from_str_radix(crc, 16).ok()?))),
        };
        let mut manifest = Manifest { comments: Vec::new(), entries: Vec::new() };
        for (n, line) in lines.iter().enumerate() {
            if line.starts_with('#') || (n == 0 && line == "jlog-repair 1") {
                continue;
            }
            let fields: Vec<_> = line.split('\t').collect();
            let entry = match fields[..] {
                // A name that leads out of the log's directory is none of ours.
                ["file", file, old, new] if !file.contains('/') && !file.starts_with('.') => {
                    digest(old).zip(digest(new)).map(|(old, new)| Entry { file: file.to_owned(), old, new })
                }
                _ => None,
            };
            let bad = || {
                Error::damaged(
                    "read the manifest of a repair",
                    path,
                    0,
                    format!("line {} makes no sense", n + 1),
                )
            };
            manifest.entries.push(entry.ok_or_else(bad)?);
        }
        Ok(manifest)
    }
}
