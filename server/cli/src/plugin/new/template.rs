//! The files of a new crate, compiled into the program.

/// What is filled in.
pub(super) const PLACEHOLDERS: [&str; 3] = ["__NAME__", "__SDK__", "__RUST_VERSION__"];

/// The Rust that this release of the SDK needs.
const RUST_VERSION: &str = env!("CARGO_PKG_RUST_VERSION");

/// The sample, what comes of it, and the field that its keys are in.
pub(super) const RECORDS: &str = "samples/records.ndjson";
pub(super) const EXPECTED: &str = "samples/expected.tsv";
pub(super) const KEY_FIELD: &str = "sensor";

/// One file.
#[derive(Debug)]
pub(super) struct File {
    /// Seen from the crate's folder.
    pub(super) path: &'static str,
    text: &'static str,
}

impl File {
    /// Its text for a crate of this name, which depends on the SDK like this.
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
            text: include_str!(concat!("../../../templates/rust/", $template)),
        }
    };
}

/// A crate in Rust.
pub(super) const RUST: &[File] = &[
    file!("Cargo.toml", "Cargo.toml.in"),
    file!(".gitignore", "gitignore.in"),
    file!("README.md", "README.md.in"),
    file!("deployment.toml", "deployment.toml.in"),
    file!("src/lib.rs", "src/lib.rs"),
    file!(RECORDS, "samples/records.ndjson"),
    file!(EXPECTED, "samples/expected.tsv"),
];
