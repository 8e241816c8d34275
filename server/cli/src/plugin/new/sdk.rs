//! Where a new crate takes `millstream-plugin` from.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::errors::{Exit, Problem};

/// The crate that a plugin depends on.
const CRATE: &str = "millstream-plugin";

/// Where it is in Millstream's sources.
const IN_SOURCES: &str = "sdk/plugin";

/// The SDK's folder, seen from the new crate's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sdk(PathBuf);

#[derive(Deserialize)]
struct Manifest {
    package: Option<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
}

impl Sdk {
    /// The one given, or else that of the sources that `here` is in, for a crate of this name that is to
    /// be made in `here`.
    pub(super) fn find(name: &str, given: Option<&Path>, here: &Path) -> Result<Self, Problem> {
        let Some(given) = given else {
            let mut around = here.ancestors().zip(1..);
            let (_, up) = around
                .find(|(folder, _)| is_sdk(&folder.join(IN_SOURCES)))
                .ok_or_else(|| no_sources(name))?;
            let mut path: PathBuf = (0..up).map(|_| "..").collect();
            path.push(IN_SOURCES);
            return Ok(Self(path));
        };
        let candidates = [given.to_owned(), given.join(IN_SOURCES)];
        let found = candidates
            .into_iter()
            .find(|folder| is_sdk(&here.join(folder)));
        // Joined to an absolute path, it is that path.
        found
            .map(|folder| Self(Path::new("..").join(folder)))
            .ok_or_else(|| not_found(given))
    }

    /// What stands behind `millstream-plugin =` in a Cargo.toml.
    pub(super) fn dependency(&self) -> Result<String, Problem> {
        let path = self.0.to_str().ok_or_else(|| {
            Problem::usage(format!("{} is not UTF-8", self.0.display()))
                .advise("a Cargo.toml cannot name it: take a path that is")
        })?;
        Ok(format!("{{ path = {} }}", toml::Value::from(path)))
    }
}

/// That the SDK is not around the folder, and no registry has it.
fn no_sources(name: &str) -> Problem {
    Problem::new(
        Exit::NotFound,
        "no sources of Millstream are around this folder, and a plugin in Rust depends on the SDK in them",
    )
    .advise(format!(
        "`millstream plugin new {name} --sdk PATH` names the folder of the sources; the other languages (`--language`) need none"
    ))
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
        "`--sdk PATH` names the folder of Millstream's sources, or `{IN_SOURCES}` in it"
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
        let error = Sdk::find("lone", None, root).unwrap_err();
        assert!(
            error
                .advice()
                .unwrap()
                .contains("plugin new lone --sdk PATH")
        );
        fs::create_dir_all(root.join(IN_SOURCES)).unwrap();
        fs::create_dir_all(root.join("plugins/more")).unwrap();
        let manifest = format!("[package]\nname = \"{CRATE}\"\n");
        fs::write(root.join(IN_SOURCES).join("Cargo.toml"), manifest).unwrap();

        let check = |given: Option<&str>, here: &Path, expect: &Path| {
            let found = Sdk::find("p", given.map(Path::new), here).unwrap();
            assert_eq!(found, Sdk(expect.to_owned()));
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
        let error = Sdk::find("p", Some(Path::new("nowhere")), root).unwrap_err();
        insta::assert_snapshot!(error, @"nowhere is not the folder of the crate millstream-plugin");
    }

    #[test]
    fn a_dependency_is_written_as_cargo_reads_it() {
        let sdk = Sdk(PathBuf::from("../a \"b\"/sdk"));
        assert_eq!(sdk.dependency().unwrap(), r#"{ path = '../a "b"/sdk' }"#);
    }
}
