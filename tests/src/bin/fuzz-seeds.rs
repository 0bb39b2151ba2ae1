//! Writes the seeds of the fuzz targets to `fuzz/corpus/`: see `jlog_tests::fuzzing::seeds`.

#![allow(clippy::unwrap_used, reason = "a tool of the tests")]

use std::fs;

use jlog_tests::fuzzing::seeds;

fn main() {
    let all = seeds::all();
    let mut size = 0;
    for (target, name, bytes) in &all {
        let dir = seeds::corpus(target);
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(name), bytes).unwrap();
        size += bytes.len();
    }
    println!("{} seeds, {size} bytes", all.len());
}
