//! Which language a plugin is in.

use std::path::{Path, PathBuf};

use anyhow::anyhow;

use crate::errors::{Exit, Problem};

/// A language that plugins are built from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Language {
    Rust,
    Python,
    JavaScript,
    C,
}

impl Language {
    const ALL: [Self; 4] = [Self::Rust, Self::Python, Self::JavaScript, Self::C];

    /// The file that begins a plugin in this language.
    pub(crate) fn marker(self) -> &'static str {
        match self {
            Self::Rust => "Cargo.toml",
            Self::Python => "plugin.py",
            Self::JavaScript => "plugin.js",
            Self::C => "plugin.c",
        }
    }

    /// What it is called where a folder or file is named after it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::Python => "python",
            Self::JavaScript => "javascript",
            Self::C => "c",
        }
    }
}

/// A plugin's folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Folder {
    /// Absolute, without links.
    pub(super) path: PathBuf,
    /// Its own name, as a deployment could have it.
    pub(super) name: String,
    pub(super) language: Language,
}

impl Folder {
    /// The folder at `path`, or that of the file there, if the file begins a plugin.
    pub(super) fn find(path: &Path) -> anyhow::Result<Self> {
        let is_marker = Language::ALL.iter().any(|language| {
            path.file_name()
                .is_some_and(|name| name == language.marker())
        });
        let folder = match (is_marker, path.parent()) {
            (true, Some(parent)) if parent.as_os_str().is_empty() => Path::new("."),
            (true, Some(parent)) => parent,
            _ => path,
        };
        let absolute = folder.canonicalize().map_err(|error| {
            let problem = match error.kind() {
                std::io::ErrorKind::NotFound => Problem::new(
                    Exit::NotFound,
                    format!("there is no folder {}", folder.display()),
                )
                .advise("name the plugin's folder: `millstream plugin build <FOLDER>`"),
                _ => Problem::new(Exit::Failure, format!("cannot read {}", folder.display())),
            };
            anyhow!(error).context(problem)
        })?;
        let language = language_of(&absolute, folder)?;
        let name = absolute.file_name().unwrap_or_default();
        Ok(Self {
            name: name.to_string_lossy().replace('_', "-"),
            path: absolute,
            language,
        })
    }
}

/// The one language whose marker is in the folder, which was typed as `shown`.
fn language_of(folder: &Path, shown: &Path) -> Result<Language, Problem> {
    let mut found = Language::ALL
        .into_iter()
        .filter(|language| folder.join(language.marker()).is_file());
    match (found.next(), found.next()) {
        (Some(language), None) => Ok(language),
        (Some(one), Some(other)) => Err(Problem::usage(format!(
            "{} has both {} and {}",
            shown.display(),
            one.marker(),
            other.marker()
        ))
        .advise("keep one plugin in a folder")),
        (None, _) => Err(Problem::new(
            Exit::NotFound,
            format!(
                "{} is no plugin: it has no Cargo.toml, plugin.py, plugin.js or plugin.c",
                shown.display()
            ),
        )
        .advise("name the plugin's folder: `millstream plugin build <FOLDER>`")),
    }
}

/// Whether a path names something to build, and no component.
pub(crate) fn is_source(path: &Path) -> bool {
    let named = |language: &Language| {
        path.file_name()
            .is_some_and(|name| name == language.marker())
    };
    path.is_dir() || Language::ALL.iter().any(named)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_file_that_begins_a_plugin_tells_its_language() {
        let root = tempfile::tempdir().unwrap();
        for language in Language::ALL {
            let path = root.path().join(format!("my_{}", language.name()));
            fs::create_dir(&path).unwrap();
            fs::write(path.join(language.marker()), "").unwrap();
            let expect = Folder {
                path: path.canonicalize().unwrap(),
                name: format!("my-{}", language.name()),
                language,
            };
            assert_eq!(Folder::find(&path).unwrap(), expect);
            assert_eq!(Folder::find(&path.join(language.marker())).unwrap(), expect);
            assert!(is_source(&path) && is_source(&path.join(language.marker())));
        }
        assert!(!is_source(Path::new("x.wasm")));
    }

    #[test]
    fn what_is_no_plugin_is_named() {
        let root = tempfile::tempdir().unwrap();
        let check = |path: &Path| {
            let error = Folder::find(path).unwrap_err().to_string();
            error.replace(&*root.path().to_string_lossy(), "/w")
        };
        insta::assert_snapshot!(check(root.path()), @"/w is no plugin: it has no Cargo.toml, plugin.py, plugin.js or plugin.c");
        insta::assert_snapshot!(check(&root.path().join("x")), @"there is no folder /w/x");
        fs::write(root.path().join("plugin.py"), "").unwrap();
        fs::write(root.path().join("plugin.c"), "").unwrap();
        insta::assert_snapshot!(check(root.path()), @"/w has both plugin.py and plugin.c");
    }
}
