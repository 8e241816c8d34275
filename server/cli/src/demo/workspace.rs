//! Where the example plugin and its input are.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context;

use crate::errors::{Exit, Problem};
use crate::output::Output;
use crate::plugin::build::{TARGET, TargetState, target_missing, target_state};

const PLUGIN: &str = "plugins/quake-alert";
const INPUT: &str = "tests/fixtures/earthquakes.ndjson";

/// A checkout of Millstream's sources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Workspace(PathBuf);

impl Workspace {
    /// The one given, or the one that the working directory is in.
    pub(super) fn find(given: Option<PathBuf>) -> anyhow::Result<Self> {
        match given {
            Some(given) => {
                let root = std::path::absolute(&given)
                    .with_context(|| format!("cannot find {}", given.display()))?;
                Ok(Self::at(&root).ok_or_else(|| not_found(&given))?)
            }
            None => {
                let here = std::env::current_dir().context("the working directory is gone")?;
                Ok(here
                    .ancestors()
                    .find_map(Self::at)
                    .ok_or_else(|| not_found(&here))?)
            }
        }
    }

    fn at(root: &Path) -> Option<Self> {
        let complete = root.join(PLUGIN).join("Cargo.toml").is_file() && root.join(INPUT).is_file();
        complete.then(|| Self(root.to_owned()))
    }

    pub(super) fn plugin(&self) -> PathBuf {
        self.0.join(PLUGIN)
    }

    pub(super) fn input(&self) -> PathBuf {
        self.0.join(INPUT)
    }

    /// Where the plugin is built: beside the workspace's own build, unless cargo is told otherwise.
    pub(super) fn target_dir(&self) -> Option<PathBuf> {
        target_dir(&self.0, std::env::var_os("CARGO_TARGET_DIR").as_deref())
    }
}

fn target_dir(root: &Path, configured: Option<&OsStr>) -> Option<PathBuf> {
    match configured {
        Some(configured) if !configured.is_empty() => None,
        _ => Some(root.join("target/plugins")),
    }
}

fn not_found(place: &Path) -> Problem {
    Problem::new(
        Exit::NotFound,
        format!(
            "{} is not in a checkout of Millstream's sources",
            place.display()
        ),
    )
    .advise(format!(
        "run it in the checkout, or name that with `--workspace`: {PLUGIN} and {INPUT} are needed"
    ))
}

/// Makes sure that the toolchain can build components, by rustup if need be.
pub(super) fn ensure_target(folder: &Path, output: Output) -> anyhow::Result<()> {
    let state = target_state(folder)?;
    if state == TargetState::Usable {
        return Ok(());
    }
    if state == TargetState::Addable {
        output.say(format_args!(
            "   installing the Rust target {TARGET}: rustup target add {TARGET}"
        ));
        let mut rustup = Command::new("rustup");
        rustup
            .current_dir(folder)
            .args(["target", "add", TARGET])
            .stdin(Stdio::null());
        if rustup.status().is_ok_and(|status| status.success()) {
            return Ok(());
        }
    }
    Err(target_missing(state).into())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_checkout_is_found_from_below() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        assert_eq!(Workspace::at(root), None);
        fs::create_dir_all(root.join(PLUGIN)).unwrap();
        fs::create_dir_all(root.join("tests/fixtures")).unwrap();
        fs::write(root.join(PLUGIN).join("Cargo.toml"), "").unwrap();
        fs::write(root.join(INPUT), "").unwrap();
        let workspace = Workspace::find(Some(root.to_owned())).unwrap();
        assert_eq!(workspace, Workspace(root.to_owned()));
        assert_eq!(
            root.join("tests").ancestors().find_map(Workspace::at),
            Some(workspace)
        );
    }

    #[test]
    fn another_folder_is_named() {
        insta::assert_snapshot!(Workspace::find(Some("/nonexistent".into())).unwrap_err(), @"/nonexistent is not in a checkout of Millstream's sources");
    }

    #[test]
    fn cargos_own_setting_goes_first() {
        let root = Path::new("/w");
        assert_eq!(target_dir(root, None), Some("/w/target/plugins".into()));
        assert_eq!(
            target_dir(root, Some(OsStr::new(""))),
            Some("/w/target/plugins".into())
        );
        assert_eq!(target_dir(root, Some(OsStr::new("/t"))), None);
    }
}
