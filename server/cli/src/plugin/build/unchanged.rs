//! Whether a plugin in Python or JavaScript has to be built at all.
//!
//! Its component holds the memory of an interpreter that has loaded it, which is another one each time: the
//! same plugin, built twice, would be another version of itself. So what was built is kept, and known by
//! everything that it was made from.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use millstream_runtime::digest;

use super::kit::Source;
use super::language::Folder;
use super::workshop::Workshop;

/// Folders that hold nothing of a plugin, wherever they are.
const NOT_ITS: [&str; 2] = ["target", "__pycache__"];

/// The SDK as it is laid out for a build, in a plugin's folder.
const LAID_OUT: &str = "millstream-plugin";

/// Says how a plugin is deployed, and nothing of what it is.
const DEPLOYMENT: &str = "deployment.toml";

/// What is written and kept for people and tests, at the top of a plugin's folder: a change of it makes no other
/// component.
fn is_beside(name: &str) -> bool {
    name == DEPLOYMENT
        || name == "samples"
        || name.ends_with(".md")
        || name.ends_with(".test.js")
        || name.starts_with("test_") && name.ends_with(".py")
}

/// What a component is made from, as one number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Inputs(String);

impl Inputs {
    /// Of a plugin's folder, and of what this program brings along.
    pub(super) fn of(folder: &Folder, kit: &[&[Source]], recipe: &str) -> io::Result<Self> {
        let mut all = Vec::new();
        let mut note = |name: &str, bytes: &[u8]| {
            all.extend_from_slice(name.as_bytes());
            all.push(0);
            all.extend_from_slice(digest(bytes).as_bytes());
        };
        note("recipe", recipe.as_bytes());
        for source in kit.iter().copied().flatten() {
            note(source.path, source.text.as_bytes());
        }
        for path in files(&folder.path)? {
            let name = path.strip_prefix(&folder.path).unwrap_or(&path);
            let top = name.components().next();
            if top.is_some_and(|top| is_beside(&top.as_os_str().to_string_lossy())) {
                continue;
            }
            note(&name.to_string_lossy(), &fs::read(&path)?);
        }
        Ok(Self(digest(&all)))
    }

    /// Whether the component that lies there was made from these, and is as it was then.
    pub(super) fn are_those_of(&self, workshop: &Workshop) -> bool {
        let component = workshop.component();
        let (Ok(noted), Ok(bytes)) = (fs::read_to_string(beside(&component)), fs::read(&component))
        else {
            return false;
        };
        noted == self.note(&bytes)
    }

    /// Notes that the component was made from these.
    pub(super) fn keep(&self, workshop: &Workshop) -> io::Result<()> {
        let component = workshop.component();
        let bytes = fs::read(&component)?;
        fs::write(beside(&component), self.note(&bytes))
    }

    fn note(&self, component: &[u8]) -> String {
        format!("{} {}\n", self.0, digest(component))
    }
}

/// Where it is noted.
fn beside(component: &Path) -> PathBuf {
    component.with_extension("inputs")
}

/// The files that may be a part of a plugin, in their order.
fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let path = entry.path();
        if name.starts_with('.') {
            continue;
        } else if entry.file_type()?.is_dir() {
            if !NOT_ITS.contains(&&*name) && name != LAID_OUT {
                files.extend(self::files(&path)?);
            }
        } else if path.is_file() {
            files.push(path);
        }
    }
    files.sort_unstable();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::build::language::Language;

    #[test]
    fn what_a_plugin_is_made_from_tells_whether_it_is_built() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder {
            path: root.path().to_owned(),
            name: "plugin".to_owned(),
            language: Language::Python,
        };
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let workshop = Workshop::open(&folder, None).unwrap();
        let kit = [Source {
            path: "sdk.py",
            text: "1",
        }];
        let inputs = |recipe: &str| Inputs::of(&folder, &[&kit], recipe).unwrap();
        write("plugin.py", "a");
        write("inner/module.py", "b");
        assert!(!inputs("x").are_those_of(&workshop), "nothing is built");
        write("target/python/plugin.wasm", "component");
        inputs("x").keep(&workshop).unwrap();
        assert!(inputs("x").are_those_of(&workshop));
        // How it is deployed, and what a build leaves, make no difference.
        write("deployment.toml", "name = \"x\"");
        write("README.md", "a");
        write("samples/records.ndjson", "{}");
        write("test_plugin.py", "e");
        write("__pycache__/plugin.pyc", "c");
        write("node_modules/millstream-plugin/entry.js", "d");
        assert!(inputs("x").are_those_of(&workshop));
        assert!(!inputs("y").are_those_of(&workshop), "other tools");
        write("inner/module.py", "c");
        assert!(!inputs("x").are_those_of(&workshop), "another module");
        write("inner/module.py", "b");
        write("target/python/plugin.wasm", "damaged");
        assert!(!inputs("x").are_those_of(&workshop), "another component");
    }
}
