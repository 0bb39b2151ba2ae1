//! The catalogue names tests that are there.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The tests of a source file: the functions behind `#[test]`, or inside of `proptest!`.
fn tests_of(text: &str) -> BTreeSet<String> {
    let mut tests = BTreeSet::new();
    let mut marked = false;
    for line in text.lines().map(str::trim) {
        marked |= line == "#[test]";
        if let Some(name) = line.strip_prefix("fn ").filter(|_| marked) {
            tests.insert(name.split(['(', '<']).next().unwrap().to_owned());
            marked = false;
        }
    }
    tests
}

/// The rows of the catalogue: its cells.
fn rows(page: &str) -> Vec<Vec<String>> {
    let rows = page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| what happened"));
    rows.map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()).collect()
}

#[test]
fn every_exhibit_of_the_catalogue_names_a_test_that_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let page = fs::read_to_string(root.join("docs/museum.md")).unwrap();
    let rows = rows(&page);
    assert!(rows.len() > 60, "{} rows", rows.len());
    let mut named = BTreeSet::new();
    for row in &rows {
        assert_eq!(row.len(), 3, "{row:?}");
        let mut cited = 0;
        for test in row[2].split(", ") {
            let test = test.trim_matches('`');
            let (file, name) = test.split_once("::").unwrap_or_else(|| panic!("{row:?} names no test"));
            let text = fs::read_to_string(root.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
            assert!(tests_of(&text).contains(name), "{file} has no test {name}");
            named.insert(test.to_owned());
            cited += 1;
        }
        assert!(cited > 0, "{row:?}");
    }
    // And the other way round: nothing stands in the museum that the catalogue does not know.
    for module in ["libjlog", "logs", "spools"] {
        let file = format!("tests/tests/museum/{module}.rs");
        for test in tests_of(&fs::read_to_string(root.join(&file)).unwrap()) {
            assert!(named.contains(&format!("{file}::{test}")), "{test} is not in the catalogue");
        }
    }
}
