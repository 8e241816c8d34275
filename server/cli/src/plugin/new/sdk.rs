//! Where a new crate takes `millstream-plugin` from.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::errors::{Exit, Problem};

/// The crate that a plugin depends on.
const CRATE: &str = "millstream-plugin";

/// Where it is in Millstream's sources.
const IN_SOURCES: &str = "sdk/plugin";

/// The release to take where there are no sources: the one that this program was made with.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Where the SDK is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sdk {
    /// In this folder, seen from the new crate's.
    Path(PathBuf),
    /// In a registry.
    Release,
}

#[derive(Deserialize)]
struct Manifest {
    package: Option<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
}

impl Sdk {
    /// The one given; else that of the sources that `here` is in; else a release. The new crate's
    /// folder is to be in `here`.
    pub(super) fn find(given: Option<&Path>, here: &Path) -> Result<Self, Problem> {
        let Some(given) = given else {
            let found = here
                .ancestors()
                .zip(1..)
                .find(|(folder, _)| is_sdk(&folder.join(IN_SOURCES)));
            return Ok(match found {
                Some((_, up)) => {
                    let mut path: PathBuf = (0..up).map(|_| "..").collect();
                    path.push(IN_SOURCES);
                    Self::Path(path)
                }
                None => Self::Release,
            });
        };
        let candidates = [given.to_owned(), given.join(IN_SOURCES)];
        let found = candidates
            .into_iter()
            .find(|folder| is_sdk(&here.join(folder)));
        // Joined to an absolute path, it is that path.
        found
            .map(|folder| Self::Path(Path::new("..").join(folder)))
            .ok_or_else(|| not_found(given))
    }

    /// What stands behind `millstream-plugin =` in a Cargo.toml.
    pub(super) fn dependency(&self) -> Result<String, Problem> {
        let quoted = |text: &str| toml::Value::from(text).to_string();
        match self {
            Self::Release => Ok(quoted(VERSION)),
            Self::Path(path) => path
                .to_str()
                .map(|path| format!("{{ path = {} }}", quoted(path)))
                .ok_or_else(|| {
                    Problem::usage(format!("{} is not UTF-8", path.display()))
                        .advise("a Cargo.toml cannot name it: take a path that is")
                }),
        }
    }
}

/// What is said where no sources were found, and a registry may not have the release.
pub(super) fn remark_on_release(name: &str) -> String {
    format!(
        "no sources of Millstream are around this folder: it depends on release {VERSION} of {CRATE}. To \
         have the SDK of sources that are elsewhere, remove the folder and make it by\n  \
         millstream plugin new {name} --sdk PATH"
    )
}

fn is_sdk(folder: &Path) -> bool {
    let manifest = std::fs::read_to_string(folder.join("Cargo.toml"));
    manifest
        .ok()
        .and_then(|text| toml::from_str::<Manifest>(&text).ok()?.package)
        .is_some_and(|package| package.name == CRATE)
}

fn not_found(given: &Path) -> Problem {
    Problem::new(
        Exit::NotFound,
        format!("{} is not the folder of the crate {CRATE}", given.display()),
    )
    .advise(format!(
        "name `{IN_SOURCES}` in Millstream's sources, or leave `--sdk` out to take release {VERSION}"
    ))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn sources_are_found_from_below_or_where_they_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        assert_eq!(Sdk::find(None, root).unwrap(), Sdk::Release);
        fs::create_dir_all(root.join(IN_SOURCES)).unwrap();
        fs::create_dir_all(root.join("plugins/more")).unwrap();
        let manifest = format!("[package]\nname = \"{CRATE}\"\n");
        fs::write(root.join(IN_SOURCES).join("Cargo.toml"), manifest).unwrap();

        let check = |given: Option<&str>, here: &Path, expect: &Path| {
            let found = Sdk::find(given.map(Path::new), here).unwrap();
            assert_eq!(found, Sdk::Path(expect.to_owned()));
        };
        check(None, root, Path::new("../sdk/plugin"));
        check(
            None,
            &root.join("plugins/more"),
            Path::new("../../../sdk/plugin"),
        );
        check(Some("sdk/plugin"), root, Path::new("../sdk/plugin"));
        check(
            Some(".."),
            &root.join("plugins"),
            Path::new("../../sdk/plugin"),
        );
        let absolute = root.join(IN_SOURCES);
        check(absolute.to_str(), Path::new("/"), &absolute);
        let error = Sdk::find(Some(Path::new("nowhere")), root).unwrap_err();
        insta::assert_snapshot!(error, @"nowhere is not the folder of the crate millstream-plugin");
    }

    #[test]
    fn a_dependency_is_written_as_cargo_reads_it() {
        let sdk = Sdk::Path(PathBuf::from("../a \"b\"/sdk"));
        assert_eq!(sdk.dependency().unwrap(), r#"{ path = '../a "b"/sdk' }"#);
        let version = format!("{VERSION:?}");
        assert_eq!(Sdk::Release.dependency().unwrap(), version);
    }
}
