//! `millstream plugin new`: a plugin to begin with.

mod sdk;
mod template;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use serde::Serialize;

use self::sdk::Sdk;
use crate::cli::Context;
use crate::errors::{Exit, Problem};
use crate::output::View;

/// A crate's name, bytes: what registries take. A deployment's may be longer.
const MAX_CRATE_NAME_BYTES: usize = 64;

/// Names that a crate cannot have: Rust's keywords, crates that every crate knows, folders of cargo's,
/// and the crate that a plugin depends on. With `_` for `-`.
const RESERVED_NAMES: &[&str] = &[
    "Self",
    "abstract",
    "alloc",
    "as",
    "async",
    "await",
    "become",
    "box",
    "break",
    "build",
    "const",
    "continue",
    "core",
    "crate",
    "deps",
    "do",
    "dyn",
    "else",
    "enum",
    "examples",
    "extern",
    "false",
    "final",
    "fn",
    "for",
    "gen",
    "if",
    "impl",
    "in",
    "incremental",
    "let",
    "loop",
    "macro",
    "match",
    "millstream_plugin",
    "mod",
    "move",
    "mut",
    "override",
    "priv",
    "proc_macro",
    "pub",
    "ref",
    "return",
    "self",
    "static",
    "std",
    "struct",
    "super",
    "test",
    "trait",
    "true",
    "try",
    "type",
    "typeof",
    "unsafe",
    "unsized",
    "use",
    "virtual",
    "where",
    "while",
    "yield",
];

#[derive(Args, Debug)]
pub(crate) struct NewArgs {
    /// The plugin's name, which becomes its folder's and its deployment's: letters, digits, `-` and
    /// `_`, the first a letter
    name: String,

    /// The language; they all begin with the same plugin
    #[arg(long, visible_alias = "lang", value_enum, default_value_t)]
    language: Language,

    /// In Rust, the folder of the crate `millstream-plugin`, or of Millstream's sources [default: the
    /// sources that the working directory is in]. The other languages have their SDK from this program
    #[arg(long, value_name = "PATH")]
    sdk: Option<PathBuf>,
}

/// What there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Language {
    /// A crate that depends on `millstream-plugin`
    #[default]
    Rust,
    /// A class in plugin.py
    Python,
    /// A class in plugin.js
    #[value(name = "javascript")]
    JavaScript,
    /// Two functions in plugin.c
    C,
}

impl Language {
    /// What is in the folder, but for what all languages share.
    fn files(self) -> &'static [template::File] {
        match self {
            Self::Rust => template::RUST,
            Self::Python => template::PYTHON,
            Self::JavaScript => template::JAVASCRIPT,
            Self::C => template::C,
        }
    }

    /// How the handler is tested without a host, in the folder of a plugin of this name.
    fn test(self, name: &str) -> Option<String> {
        match self {
            Self::Rust => Some("cargo test".to_owned()),
            Self::Python => Some(format!(
                "PYTHONPATH=target/python/{}/sdk python3 -m unittest",
                name.replace('_', "-")
            )),
            Self::JavaScript => Some("node --test".to_owned()),
            Self::C => None,
        }
    }
}

/// A plugin that was made.
#[derive(Debug, Serialize)]
pub(super) struct Made {
    /// The plugin's name, and its deployment's.
    name: String,
    folder: PathBuf,
    /// What is in it, seen from the folder.
    files: Vec<&'static str>,
}

impl View for Made {
    fn text(&self) -> String {
        format!("{}\n", self.folder.display())
    }
}

/// Makes the plugin below the working directory, and says what to do with it.
pub(super) fn run(args: &NewArgs, context: &Context) -> anyhow::Result<Made> {
    let here = std::env::current_dir().context("the working directory is gone")?;
    let made = make(args, &here)?;
    let test = args.language.test(&made.name);
    context.output.say(format_args!(
        "made the plugin {name}; next:\n  \
         cd {name}\n  \
         millstream plugin run -f deployment.toml --records {records} --key-field {key} --expect {expected}\n\
         {test}  \
         millstream plugin deploy -f deployment.toml",
        name = made.name,
        records = template::RECORDS,
        key = template::KEY_FIELD,
        expected = template::EXPECTED,
        test = test.map_or_else(String::new, |test| format!("  {test}\n")),
    ));
    Ok(made)
}

/// Makes the plugin below `here`.
fn make(args: &NewArgs, here: &Path) -> anyhow::Result<Made> {
    check_name(&args.name)?;
    let sdk = match args.language {
        Language::Rust => Some(Sdk::find(&args.name, args.sdk.as_deref(), here)?),
        _ if args.sdk.is_some() => {
            return Err(Problem::usage("--sdk is for plugins in Rust")
                .advise("leave it out: the other languages have their SDK from this program")
                .into());
        }
        _ => None,
    };
    let dependency = sdk.as_ref().map(Sdk::dependency).transpose()?;
    let dependency = dependency.unwrap_or_default();
    let files = [args.language.files(), template::SHARED].concat();
    // A path that was typed is shown as it was.
    let folder = PathBuf::from(&args.name);
    write(&here.join(&folder), &args.name, &dependency, &files)?;
    Ok(Made {
        name: args.name.clone(),
        folder,
        files: files.iter().map(|file| file.path).collect(),
    })
}

fn check_name(name: &str) -> Result<(), Problem> {
    let refused = |why: &str| {
        Problem::usage(format!("`{name}` is no name for a plugin: {why}"))
            .advise("take letters, digits, `-` and `_`, for example `quake-alert`")
    };
    if name.len() > MAX_CRATE_NAME_BYTES {
        return Err(refused(&format!(
            "it has {} bytes, more than {MAX_CRATE_NAME_BYTES}",
            name.len()
        )));
    }
    if !name.starts_with(|first: char| first.is_ascii_alphabetic()) {
        return Err(refused("it does not begin with a letter"));
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if let Some(other) = name.chars().find(|c| !allowed(*c)) {
        return Err(refused(&format!("it has a {other:?}")));
    }
    if RESERVED_NAMES.contains(&name.replace('-', "_").as_str()) {
        return Err(refused("no crate can have it"));
    }
    Ok(())
}

/// Writes the files into a folder that is new, or empty.
fn write(
    folder: &Path,
    name: &str,
    dependency: &str,
    files: &[template::File],
) -> anyhow::Result<()> {
    match fs::read_dir(folder).map(|mut entries| entries.next().is_none()) {
        Ok(true) => {}
        Ok(false) => return Err(occupied(folder, "is not empty").into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            return Err(occupied(folder, "is a file").into());
        }
        Err(error) => {
            return Err(error).with_context(|| format!("cannot read {}", folder.display()));
        }
    }
    for file in files {
        let path = folder.join(file.path);
        let parent = path.parent().unwrap_or(folder);
        fs::create_dir_all(parent)
            .and_then(|()| fs::write(&path, file.filled(name, dependency)))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn occupied(folder: &Path, why: &str) -> Problem {
    Problem::new(Exit::Refused, format!("{} {why}", folder.display()))
        .advise("take another name, or move away what is there")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The crate's folder.
    const SDK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../sdk/plugin");

    fn args(name: &str) -> NewArgs {
        NewArgs {
            name: name.to_owned(),
            language: Language::Rust,
            sdk: Some(SDK.into()),
        }
    }

    #[test]
    fn a_plugin_in_each_language_is_made_with_all_its_files() {
        for language in Language::value_variants() {
            let here = tempfile::tempdir().unwrap();
            let args = NewArgs {
                language: *language,
                sdk: (*language == Language::Rust).then(|| SDK.into()),
                ..args("my-plugin")
            };
            let made = make(&args, here.path()).unwrap();
            let folder = here.path().join("my-plugin");
            for file in &made.files {
                let text = fs::read_to_string(folder.join(file)).unwrap();
                for placeholder in template::PLACEHOLDERS {
                    assert!(!text.contains(placeholder), "{file} has {placeholder}");
                }
            }
            assert!(crate::plugin::build::is_source(&folder));
            let deployment = folder.join("deployment.toml");
            let declared = crate::plugin::manifest::read(&deployment).unwrap();
            assert_eq!(declared.spec("x").unwrap().name, "my-plugin");
            assert_eq!(declared.path().unwrap(), folder);
        }
    }

    #[test]
    fn only_a_crate_takes_an_sdk() {
        let here = tempfile::tempdir().unwrap();
        let args = NewArgs {
            language: Language::Python,
            sdk: Some("sdk/plugin".into()),
            ..args("p")
        };
        let error = make(&args, here.path()).unwrap_err();
        insta::assert_snapshot!(error, @"--sdk is for plugins in Rust");
        assert!(!here.path().join("p").exists());
    }

    #[test]
    fn a_crate_depends_on_the_sdk() {
        let here = tempfile::tempdir().unwrap();
        // An empty folder is as good as none.
        fs::create_dir(here.path().join("my-plugin")).unwrap();
        let made = make(&args("my-plugin"), here.path()).unwrap();
        assert_eq!(made.text(), "my-plugin\n");
        let folder = here.path().join("my-plugin");
        let cargo = fs::read_to_string(folder.join("Cargo.toml")).unwrap();
        let cargo: toml::Table = toml::from_str(&cargo).unwrap();
        assert_eq!(cargo["package"]["name"].as_str(), Some("my-plugin"));
        assert_eq!(
            cargo["dependencies"]["millstream-plugin"]["path"].as_str(),
            Some(SDK)
        );
    }

    #[test]
    fn what_is_there_stays() {
        let here = tempfile::tempdir().unwrap();
        make(&args("p"), here.path()).unwrap();
        fs::write(here.path().join("file"), "").unwrap();
        let check = |name: &str| {
            let error = make(&args(name), here.path()).unwrap_err().to_string();
            error.replace(&*here.path().to_string_lossy(), "")
        };
        insta::assert_snapshot!(check("p"), @"/p is not empty");
        insta::assert_snapshot!(check("file"), @"/file is a file");
    }

    #[test]
    fn names_are_those_of_crates_and_deployments() {
        for name in ["a", "quake-alert", "Quake_2"] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        let refused = |name: &str| check_name(name).unwrap_err().to_string();
        insta::assert_snapshot!(refused(""), @"`` is no name for a plugin: it does not begin with a letter");
        insta::assert_snapshot!(refused("1st"), @"`1st` is no name for a plugin: it does not begin with a letter");
        insta::assert_snapshot!(refused("a b"), @"`a b` is no name for a plugin: it has a ' '");
        insta::assert_snapshot!(refused("../a"), @"`../a` is no name for a plugin: it does not begin with a letter");
        insta::assert_snapshot!(refused("fn"), @"`fn` is no name for a plugin: no crate can have it");
        insta::assert_snapshot!(refused("millstream-plugin"), @"`millstream-plugin` is no name for a plugin: no crate can have it");
        assert!(check_name(&"a".repeat(MAX_CRATE_NAME_BYTES)).is_ok());
        assert!(check_name(&"a".repeat(MAX_CRATE_NAME_BYTES + 1)).is_err());
    }
}
