//! Which world a plugin in Python, JavaScript or C is of: whether it is called by timers.
//!
//! A component has what its world has. One without timers that exported a handler of them all the same
//! would be called with those that a version before it has set, instead of leaving them to one after it.
//! So what decides is whether the file that begins the plugin names the function for timers. What is built
//! then does not believe it: a plugin that has no such function, or has it from elsewhere, is not built.

use std::fs;

use anyhow::Context;

use super::language::{Folder, Language};

/// A world of `wit/`, of those that the SDKs are for: their handlers take flat batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum World {
    /// Records alone.
    Plain,
    /// Timers as well.
    Timers,
}

impl World {
    /// That of the plugin in the folder.
    pub(super) fn of(folder: &Folder) -> anyhow::Result<Self> {
        let path = folder.path.join(folder.language.marker());
        let source = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(if names(&source, timer_function(folder.language)) {
            Self::Timers
        } else {
            Self::Plain
        })
    }

    /// What it is called in `wit/`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Plain => "plugin",
            Self::Timers => "timer-plugin",
        }
    }
}

/// What the function for timers is called.
fn timer_function(language: Language) -> &'static str {
    match language {
        Language::JavaScript => "onTimer",
        Language::Python | Language::C | Language::Rust => "on_timer",
    }
}

/// Whether the identifier stands in the source, and not as a part of another.
fn names(source: &[u8], identifier: &str) -> bool {
    let belongs =
        |byte: &u8| byte.is_ascii_alphanumeric() || b"_$".contains(byte) || !byte.is_ascii();
    source
        .split(|byte| !belongs(byte))
        .any(|word| word == identifier.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_that_names_the_function_for_timers_has_them() {
        let root = tempfile::tempdir().unwrap();
        let world = |language: Language, source: &str| {
            let path = root.path().join(language.name());
            fs::create_dir_all(&path).unwrap();
            fs::write(path.join(language.marker()), source).unwrap();
            World::of(&Folder::find(&path).unwrap()).unwrap()
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
            assert_eq!(world(language, with), World::Timers);
            assert_eq!(world(language, without), World::Plain);
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
            assert!(!names(source.as_bytes(), "on_timer"), "{source}");
        }
        for source in ["on_timer", "(on_timer)", "\non_timer\n", "a.on_timer = b"] {
            assert!(names(source.as_bytes(), "on_timer"), "{source}");
        }
    }
}
