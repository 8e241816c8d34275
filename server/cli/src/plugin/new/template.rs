//! The files of a new plugin, compiled into the program.

/// What is filled in.
pub(super) const PLACEHOLDERS: [&str; 3] = ["__NAME__", "__SDK__", "__RUST_VERSION__"];

/// The Rust that this release of the SDK needs.
const RUST_VERSION: &str = env!("CARGO_PKG_RUST_VERSION");

/// The sample, what comes of it, and the field that its keys are in.
pub(super) const RECORDS: &str = "samples/records.ndjson";
pub(super) const EXPECTED: &str = "samples/expected.tsv";
pub(super) const KEY_FIELD: &str = "sensor";

/// One file.
#[derive(Clone, Copy, Debug)]
pub(super) struct File {
    /// Seen from the plugin's folder.
    pub(super) path: &'static str,
    text: &'static str,
}

impl File {
    /// Its text for a plugin of this name; a crate depends on the SDK like this.
    pub(super) fn filled(&self, name: &str, sdk: &str) -> String {
        let [at_name, at_sdk, at_rust_version] = PLACEHOLDERS;
        self.text
            .replace(at_name, name)
            .replace(at_rust_version, RUST_VERSION)
            .replace(at_sdk, sdk)
    }
}

macro_rules! file {
    ($path:expr, $template:literal) => {
        File {
            path: $path,
            text: include_str!(concat!("../../../templates/", $template)),
        }
    };
}

/// A crate in Rust.
pub(super) const RUST: &[File] = &[
    file!("Cargo.toml", "rust/Cargo.toml.in"),
    file!(".gitignore", "rust/gitignore.in"),
    file!("README.md", "rust/README.md.in"),
    file!("src/lib.rs", "rust/src/lib.rs"),
];

/// A module in Python.
pub(super) const PYTHON: &[File] = &[
    file!(".gitignore", "python/gitignore.in"),
    file!("README.md", "python/README.md.in"),
    file!("plugin.py", "python/plugin.py"),
    file!("test_plugin.py", "python/test_plugin.py"),
];

/// A module in JavaScript.
pub(super) const JAVASCRIPT: &[File] = &[
    file!("package.json", "javascript/package.json.in"),
    file!(".gitignore", "javascript/gitignore.in"),
    file!("README.md", "javascript/README.md.in"),
    file!("plugin.js", "javascript/plugin.js"),
    file!("plugin.test.js", "javascript/plugin.test.js"),
];

/// A file in C.
pub(super) const C: &[File] = &[
    file!(".gitignore", "c/gitignore.in"),
    file!("README.md", "c/README.md.in"),
    file!("plugin.c", "c/plugin.c"),
];

/// What is the same in every language: they all do the same.
pub(super) const SHARED: &[File] = &[
    file!("deployment.toml", "shared/deployment.toml.in"),
    file!(RECORDS, "shared/samples/records.ndjson"),
    file!(EXPECTED, "shared/samples/expected.tsv"),
];
