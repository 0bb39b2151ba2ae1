//! The screens in `docs/tools.md` are played again, and must come out the same.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::common::*;

/// Copies of all golden logs, side by side, and the programs on the path.
fn stage() -> tempfile::TempDir {
    let stage = tempfile::tempdir().unwrap();
    for case in manifest() {
        let name = case["name"].as_str().unwrap();
        copy(&golden_dir().join(name), &stage.path().join(name));
    }
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
    String::from_utf8(output.stdout).unwrap()
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
