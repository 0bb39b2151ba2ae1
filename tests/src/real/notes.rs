//! What a process notes of its work: a line for each thing, in one write, so that a kill leaves whole lines.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;

/// A file of notes that is added to.
pub struct Notes(File);

impl Notes {
    pub fn open(path: &Path) -> Notes {
        Notes(OpenOptions::new().create(true).append(true).open(path).unwrap())
    }

    pub fn note(&self, line: impl std::fmt::Display) {
        (&self.0).write_all(format!("{line}\n").as_bytes()).unwrap();
    }
}

/// What is known of a log, or of a spool, from the notes. Records and messages are numbered in the order of their making.
#[derive(Debug, Default)]
pub struct Known {
    /// `T a b`: about to be written.
    pub tried: BTreeSet<u32>,
    /// `W a b`: acknowledged.
    pub written: BTreeSet<u32>,
    /// `R a b kind`: refused, and why.
    pub refused: BTreeMap<u32, String>,
    /// `S`: the subscriber's adding was acknowledged.
    pub subscribed: bool,
    /// `M n`: about to commit everything up to `n`; the newest last.
    pub committing: Vec<u32>,
    /// `C n`: the commit was acknowledged.
    pub committed: Option<u32>,
    /// `G a b`: about to be given back by a reclaim; of a spool `D n`: about to be removed.
    pub given_back: BTreeSet<u32>,
    /// `X n`: the removal was acknowledged.
    pub removed: BTreeSet<u32>,
    /// `Y`: all removals so far are durable.
    pub gone: BTreeSet<u32>,
    /// `E what kind`: an error was returned.
    pub errors: Vec<String>,
}

impl Known {
    pub fn read(path: &Path) -> Known {
        let mut known = Known::default();
        let text = fs::read_to_string(path).unwrap_or_default();
        for line in text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
            let words: Vec<&str> = line.split(' ').collect();
            let number = |at: usize| words[at].parse::<u32>().unwrap_or_else(|_| panic!("a note: {line}"));
            match words[0] {
                "T" => known.tried.extend(number(1)..=number(2)),
                "W" => known.written.extend(number(1)..=number(2)),
                "R" => known.refused.extend((number(1)..=number(2)).map(|n| (n, words[3].to_owned()))),
                "S" => known.subscribed = true,
                "M" => known.committing.push(number(1)),
                "C" => {
                    known.committed = Some(number(1));
                    known.committing = vec![number(1)];
                }
                "G" => known.given_back.extend(number(1)..=number(2)),
                "D" => drop(known.given_back.insert(number(1))),
                "X" => drop(known.removed.insert(number(1))),
                "Y" => known.gone.clone_from(&known.removed),
                "E" => known.errors.push(words[1..].join(" ")),
                _ => panic!("a note: {line}"),
            }
        }
        known
    }

    /// Up to this one all may be pruned: somebody was about to say that it was read.
    pub fn free(&self) -> Option<u32> {
        self.committing.iter().max().copied()
    }
}
