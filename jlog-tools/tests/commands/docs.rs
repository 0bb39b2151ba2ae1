//! The screens in `docs/tools.md` are played again, and must come out the same.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::common::*;

/// Copies of all golden logs and of the example's mailbox, side by side.
fn stage() -> tempfile::TempDir {
    let stage = tempfile::tempdir().unwrap();
    for case in manifest() {
        let name = case["name"].as_str().unwrap();
        copy(&golden_dir().join(name), &stage.path().join(name));
    }
    let mbox = Path::new(env!("CARGO_MANIFEST_DIR")).join("../spool/examples/data/example.mbox");
    fs::copy(mbox, stage.path().join("example.mbox")).unwrap();
    stage
}

/// What a line typed at a prompt prints, on both outputs.
fn typed(line: &str, stage: &Path) -> String {
    let programs = Path::new(JLOG).parent().unwrap().to_str().unwrap();
    let path = format!("{programs}:{}", std::env::var("PATH").unwrap());
    let shell = format!("exec 2>&1\n{line}\n");
    let output = Command::new("/bin/sh")
        .args(["-c", &shell])
        .current_dir(stage)
        .env("PATH", path)
        .env("TZ", "UTC")
        .output()
        .unwrap();
    masked(&String::from_utf8(output.stdout).unwrap())
}

/// What is another one in every run, in the place of what it is: a log's identity, and a process.
const IDENTITY: &str = "5f0c1a9e7d3b486290c2e4f6a8b1d357";
const PROCESS: &str = "process 4711 (jlog)";

/// The text with one identity for all, and one process.
fn masked(text: &str) -> String {
    let is_hex = |word: &str| word.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    let mut out = String::new();
    for word in text.split_inclusive(|c: char| !c.is_ascii_alphanumeric()) {
        let end = word.trim_end_matches(|c: char| !c.is_ascii_alphanumeric()).len();
        let identity = end == IDENTITY.len() && is_hex(&word[..end]);
        out.push_str(if identity { IDENTITY } else { &word[..end] });
        out.push_str(&word[end..]);
    }
    let lines = out.split_inclusive('\n').map(|line| match line.split_once("process ") {
        Some((before, rest)) if rest.starts_with(|c: char| c.is_ascii_digit()) => {
            let after = rest.split_once(')').map_or("", |(_, after)| after);
            format!("{before}{PROCESS}{after}")
        }
        _ => line.to_owned(),
    });
    lines.collect()
}

#[test]
fn what_differs_from_run_to_run_is_masked() {
    let identity = "0123456789abcdef0123456789abcdef";
    assert_eq!(
        masked(&format!("  identity     {identity}\n  owner        process 93 (sh)\n\"{identity}\",\n")),
        format!("  identity     {IDENTITY}\n  owner        {PROCESS}\n\"{IDENTITY}\",\n")
    );
    assert_eq!(masked("deadbeef process it\n"), "deadbeef process it\n");
}

/// The page, with what each `$ command` of its console blocks prints now.
fn played(page: &str) -> String {
    let stage = stage();
    let (mut out, mut console) = (String::new(), false);
    for line in page.lines() {
        if line.starts_with("```") {
            console = line == "```console";
        }
        if let Some(command) = line.strip_prefix("$ ").filter(|_| console) {
            out.push_str(&format!("{line}\n{}", typed(command, stage.path())));
        } else if !console || line.starts_with("```") {
            out.push_str(&format!("{line}\n"));
        }
    }
    out
}

/// With `UPDATE_DOCS=1` the page is brought up to date instead.
#[test]
fn the_screens_in_the_manual_are_what_the_commands_print() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/tools.md");
    let page = fs::read_to_string(&path).unwrap();
    let played = played(&page);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &played).unwrap();
    } else {
        assert!(
            played == page,
            "the commands print something else; look at it with UPDATE_DOCS=1 and git diff"
        );
    }
}
