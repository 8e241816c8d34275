//! The shape of the tree: its top level, and files that stay readable.

mod workspace;

use std::collections::BTreeSet;
use std::fs;

use workspace::{crates, root};

const TOP_LEVEL: &[&str] = &[
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "Makefile",
    "README.md",
    "plugins",
    "sdk",
    "server",
    "tests",
    "wit",
];

/// Made by builds and runs, never committed.
const BUILT: &[&str] = &["target"];

/// A longer file holds two subjects.
const MAX_LINES: usize = 900;

#[test]
fn the_top_level_is_the_house_of_the_design() {
    let found: BTreeSet<String> = fs::read_dir(root())
        .expect("a readable root")
        .map(|entry| {
            entry
                .expect("a readable entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .filter(|name| !name.starts_with('.') && !BUILT.contains(&name.as_str()))
        .collect();
    let expected: BTreeSet<String> = TOP_LEVEL.iter().map(|&name| name.to_owned()).collect();
    assert_eq!(found, expected);
}

#[test]
fn no_source_file_grows_two_subjects() {
    for member in crates() {
        for source in member.sources() {
            let lines = source.lines().count();
            assert!(
                lines <= MAX_LINES,
                "{} has {lines} lines: split it",
                source.path.display()
            );
        }
    }
}

#[test]
fn every_crate_says_what_it_is() {
    for member in crates() {
        let first = member
            .sources()
            .into_iter()
            .find(|s| s.path.ends_with("src/lib.rs") || s.path.ends_with("src/main.rs"));
        let source = first.expect("a lib.rs or main.rs");
        let opening = source
            .lines()
            .next()
            .map(|(_, line)| line.to_owned())
            .unwrap_or_default();
        assert!(
            opening.starts_with("//!"),
            "{} does not open with its purpose",
            source.path.display()
        );
    }
}
