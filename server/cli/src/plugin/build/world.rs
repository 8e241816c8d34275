//! Which world a plugin in Python, JavaScript or C is of.
//!
//! A component has what its world has. One without timers that exported a handler of them all the same
//! would be called with those that a version before it has set, instead of leaving them to one after it;
//! and one that imported secrets, tables or requests without using them would be refused by deployments
//! that have none. So what decides is the file that begins the plugin: whether it names the function for
//! timers, and which modules of the SDK it imports. What is built then does not believe it: a plugin that
//! has no such function, or has it or a module from elsewhere, is not built.

use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

use anyhow::Context;

use super::kit;
use super::language::{Folder, Language};
use super::workshop::Workshop;

/// What a plugin may have besides what all have. A world of `wit/` is named after each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// It is called by timers.
    Timers,
    /// It reads secrets.
    Secrets,
    /// It looks up in tables.
    Tables,
    /// It sends requests.
    Http,
}

impl Part {
    const ALL: [Self; 4] = [Self::Timers, Self::Secrets, Self::Tables, Self::Http];

    /// The world of `wit/` that brings it.
    fn world(self) -> &'static str {
        match self {
            Self::Timers => "timer-plugin",
            Self::Secrets => "secret-reader",
            Self::Tables => "table-reader",
            Self::Http => "http-client",
        }
    }

    /// What its module is called in the SDKs.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Timers => "timers",
            Self::Secrets => "secrets",
            Self::Tables => "tables",
            Self::Http => "http",
        }
    }

    /// Whether a plugin that begins with this source has it.
    fn is_in(self, source: &str, language: Language) -> bool {
        match (self, language) {
            (Self::Timers, Language::JavaScript) => names(source, "onTimer"),
            (Self::Timers, _) => names(source, "on_timer"),
            (_, Language::Python) => imports_in_python(source, self.name()),
            (_, Language::JavaScript) => imports_in_javascript(source, self.name()),
            // A compiled module imports the functions that it calls, whatever its world has.
            (_, Language::C | Language::Rust) => true,
        }
    }
}

/// The world of one plugin, whose handlers take flat batches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct World {
    parts: Vec<Part>,
}

impl World {
    /// What it is called.
    pub(super) const NAME: &str = "built-plugin";

    /// That of the plugin in the folder.
    pub(super) fn of(folder: &Folder) -> anyhow::Result<Self> {
        let path = folder.path.join(folder.language.marker());
        let source = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let source = String::from_utf8_lossy(&source);
        let has = |part: &Part| part.is_in(&source, folder.language);
        let parts: Vec<Part> = Part::ALL.into_iter().filter(has).collect();
        Ok(Self::with(&parts))
    }

    /// That of a plugin which has this.
    pub(super) fn with(parts: &[Part]) -> Self {
        let parts = parts.to_vec();
        Self { parts }
    }

    /// Whether the plugin has this.
    pub(super) fn has(&self, part: Part) -> bool {
        self.parts.contains(&part)
    }

    /// What the plugin imports from the SDK besides what all do.
    pub(super) fn imported(&self) -> impl Iterator<Item = Part> {
        let parts = self.parts.iter().copied();
        parts.filter(|part| *part != Part::Timers)
    }

    /// Lays out `wit/` with this world in it.
    pub(super) fn lay_out(&self, workshop: &Workshop) -> anyhow::Result<PathBuf> {
        let wit = workshop.laid_out("wit", kit::WIT)?;
        let path = wit.join("built-plugin.wit");
        fs::write(&path, self.text())
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(wit)
    }

    fn text(&self) -> String {
        let mut text = format!(
            "package millstream:plugin@0.1.0;\n\nworld {} {{\n    include plugin;\n",
            Self::NAME
        );
        for part in &self.parts {
            // Writing to a string does not fail.
            let _ = writeln!(text, "    include {};", part.world());
        }
        text + "}\n"
    }
}

/// What may be a character of an identifier.
fn belongs(character: char) -> bool {
    character.is_ascii_alphanumeric() || "_$".contains(character) || !character.is_ascii()
}

/// Whether the identifier stands in the source, and not as a part of another.
fn names(source: &str, identifier: &str) -> bool {
    source
        .split(|character| !belongs(character))
        .any(|word| word == identifier)
}

/// Whether the source imports `millstream-plugin/MODULE`.
fn imports_in_javascript(source: &str, module: &str) -> bool {
    ['"', '\'']
        .iter()
        .any(|quote| source.contains(&format!("{quote}millstream-plugin/{module}{quote}")))
}

/// Whether the source imports the module from `millstream_plugin`, or something from the module.
fn imports_in_python(source: &str, module: &str) -> bool {
    const PACKAGE: &str = "millstream_plugin";
    let lines: Vec<&str> = source
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default())
        .collect();
    let source = lines.join("\n").replace("\\\n", " ");
    source.match_indices(PACKAGE).any(|(at, _)| {
        let (before, after) = (&source[..at], &source[at + PACKAGE.len()..]);
        if before.ends_with(belongs) || after.starts_with(belongs) {
            return false;
        }
        let after = after.trim_start_matches([' ', '\t']);
        if let Some(inner) = after.strip_prefix('.') {
            return inner.split(|it| !belongs(it)).next() == Some(module);
        }
        let Some(listed) = after.strip_prefix("import") else {
            return false;
        };
        let listed = listed.trim_start_matches([' ', '\t']);
        let listed = match listed.strip_prefix('(') {
            Some(within) => within.split(')').next(),
            None => listed.split(['\n', ';']).next(),
        };
        let mut listed = listed.unwrap_or_default().split(',');
        listed.any(|name| name.split_whitespace().next() == Some(module))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_that_names_the_function_for_timers_has_them() {
        let root = tempfile::tempdir().unwrap();
        let has_timers = |language: Language, source: &str| {
            let path = root.path().join(language.name());
            fs::create_dir_all(&path).unwrap();
            fs::write(path.join(language.marker()), source).unwrap();
            let world = World::of(&Folder::find(&path).unwrap()).unwrap();
            world.has(Part::Timers)
        };
        for (language, with, without) in [
            (
                Language::Python,
                "    def on_timer(self, timer, out):",
                "onTimer",
            ),
            (Language::JavaScript, "  onTimer(timer, out) {", "on_timer"),
            (
                Language::C,
                "ms_result on_timer(const ms_timer *timer)",
                "onTimer",
            ),
        ] {
            assert!(has_timers(language, with));
            assert!(!has_timers(language, without));
        }
    }

    #[test]
    fn a_part_of_another_name_is_none() {
        for source in [
            "",
            "on_timers",
            "_on_timer",
            "on_timer2",
            "ön_timer",
            "xon_timer()",
            "on timer",
        ] {
            assert!(!names(source, "on_timer"), "{source}");
        }
        for source in ["on_timer", "(on_timer)", "\non_timer\n", "a.on_timer = b"] {
            assert!(names(source, "on_timer"), "{source}");
        }
    }

    #[test]
    fn what_a_plugin_in_python_imports_is_found() {
        for source in [
            "from millstream_plugin import tables",
            "from millstream_plugin import Reject, tables as t, state",
            "from millstream_plugin import (\n    Reject,  # a record, that is bad\n    tables,\n)",
            "from millstream_plugin import Reject, \\\n    tables",
            "from millstream_plugin.tables import Table",
            "import json, millstream_plugin.tables as t",
            "def f():\n    from millstream_plugin import tables; tables.names()",
        ] {
            assert!(imports_in_python(source, "tables"), "{source}");
        }
        for source in [
            "",
            "from millstream_plugin import Reject\ntables = {}",
            "from millstream_plugin import (Reject, state)\ntables, x = 1, 2",
            "# from millstream_plugin import tables",
            "from millstream_plugin import x as tables, tables2",
            "from my_millstream_plugin import tables",
            "from millstream_plugins import tables",
            "from millstream_plugin.tables2 import Table",
            "import millstream_plugin, tables",
            "from other import tables",
        ] {
            assert!(!imports_in_python(source, "tables"), "{source}");
        }
    }

    #[test]
    fn what_a_plugin_in_javascript_imports_is_found() {
        for source in [
            "import { Table } from \"millstream-plugin/tables\";",
            "import {\n  Table,\n} from 'millstream-plugin/tables'",
        ] {
            assert!(imports_in_javascript(source, "tables"), "{source}");
        }
        for source in [
            "import { state } from \"millstream-plugin\"; const tables = {};",
            "import x from \"millstream-plugin/tables2\"",
            "import x from \"my-millstream-plugin/tables\"",
        ] {
            assert!(!imports_in_javascript(source, "tables"), "{source}");
        }
    }

    #[test]
    fn a_world_is_put_together() {
        let all = World::with(&Part::ALL);
        insta::assert_snapshot!(all.text(), @r"
        package millstream:plugin@0.1.0;

        world built-plugin {
            include plugin;
            include timer-plugin;
            include secret-reader;
            include table-reader;
            include http-client;
        }
        ");
        assert_eq!(
            all.imported().collect::<Vec<_>>(),
            [Part::Secrets, Part::Tables, Part::Http]
        );
    }
}
