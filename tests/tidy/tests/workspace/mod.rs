//! The workspace as the rules see it: crates, their dependencies and their sources.

#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// The repository's root.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .expect("the workspace's root")
}

#[derive(Deserialize)]
struct Manifest {
    package: Option<Package>,
    workspace: Option<Workspace>,
    #[serde(default)]
    dependencies: toml::Table,
}

#[derive(Deserialize)]
struct Package {
    name: String,
}

#[derive(Deserialize)]
struct Workspace {
    #[serde(default)]
    members: Vec<String>,
}

/// One member crate.
pub(crate) struct Crate {
    pub(crate) name: String,
    /// What it imports outside of tests.
    pub(crate) dependencies: BTreeSet<String>,
    folder: PathBuf,
}

/// One source file.
pub(crate) struct Source {
    pub(crate) path: PathBuf,
    text: String,
}

fn manifest(folder: &Path) -> Manifest {
    let path = folder.join("Cargo.toml");
    let text = fs::read_to_string(&path).expect("a manifest in every member's folder");
    toml::from_str(&text).expect("a manifest that cargo has read")
}

/// The members of the workspace.
pub(crate) fn crates() -> Vec<Crate> {
    let root = root();
    let members = manifest(&root).workspace.expect("a workspace").members;
    assert!(
        members.len() > 10,
        "the workspace lost its members: {members:?}"
    );
    members
        .into_iter()
        .map(|member| {
            let folder = root.join(member);
            let manifest = manifest(&folder);
            Crate {
                name: manifest.package.expect("a package").name,
                dependencies: manifest.dependencies.keys().cloned().collect(),
                folder,
            }
        })
        .collect()
}

impl Crate {
    /// Its sources under `src`.
    pub(crate) fn sources(&self) -> Vec<Source> {
        let mut found = Vec::new();
        collect(&self.folder.join("src"), &mut found);
        assert!(!found.is_empty(), "{} has no sources", self.name);
        found
    }
}

fn collect(folder: &Path, found: &mut Vec<Source>) {
    for entry in fs::read_dir(folder).expect("a readable folder") {
        let path = entry.expect("a readable entry").path();
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("a readable source");
            found.push(Source { path, text });
        }
    }
}

impl Source {
    /// Every line with its number.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text
            .lines()
            .enumerate()
            .map(|(index, line)| (index + 1, line))
    }

    /// The lines that are neither comments nor within the file's tests (a `tests.rs`, a file under
    /// `tests`, or what follows `#[cfg(test)]`).
    pub(crate) fn production_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let only_tests = self.path.ends_with("tests.rs")
            || self.path.components().any(|c| c.as_os_str() == "tests");
        self.lines()
            .take_while(move |(_, line)| {
                !only_tests && !line.trim_start().starts_with("#[cfg(test)]")
            })
            .filter(|(_, line)| !line.trim_start().starts_with("//"))
    }
}
