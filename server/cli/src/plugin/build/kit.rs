//! What this program brings along to build with: the same files that are in Millstream's sources.

/// A file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Source {
    /// Seen from the folder that it is written to.
    pub(super) path: &'static str,
    pub(super) text: &'static str,
}

/// The files of a folder in the sources.
macro_rules! sources {
    ($folder:literal: $($path:literal),* $(,)?) => {
        &[$(Source {
            path: $path,
            text: include_str!(concat!("../../../../../", $folder, "/", $path)),
        }),*]
    };
}

/// The package `millstream:plugin`, and what it imports.
pub(super) const WIT: &[Source] = sources!(
    "wit":
    "batch-handler.wit",
    "deps/wasi-config/store.wit",
    "deps/wasi-http/http.wit",
    "deps/wasi-io/io.wit",
    "deps/wasi-logging/logging.wit",
    "deps/wasi-messaging/messaging.wit",
    "lifecycle.wit",
    "metrics.wit",
    "record-handler.wit",
    "record-timer-handler.wit",
    "secrets.wit",
    "state-migration.wit",
    "state.wit",
    "tables.wit",
    "timer-handler.wit",
    "timers.wit",
    "world.wit",
);

/// What a plugin in Python imports.
pub(super) const PYTHON_SDK: &[Source] = sources!(
    "sdk/python":
    "millstream_plugin/__init__.py",
    "millstream_plugin/component.py",
    "millstream_plugin/context.py",
    "millstream_plugin/failures.py",
    "millstream_plugin/guest_http.py",
    "millstream_plugin/host.py",
    "millstream_plugin/http.py",
    "millstream_plugin/log.py",
    "millstream_plugin/metrics.py",
    "millstream_plugin/outputs.py",
    "millstream_plugin/process.py",
    "millstream_plugin/py.typed",
    "millstream_plugin/records.py",
    "millstream_plugin/secrets.py",
    "millstream_plugin/state.py",
    "millstream_plugin/tables.py",
    "millstream_plugin/testing.py",
    "millstream_plugin/timer_component.py",
    "millstream_plugin/timers.py",
);

/// What a plugin in JavaScript imports.
pub(super) const JAVASCRIPT_SDK: &[Source] = sources!(
    "sdk/javascript":
    "component.js",
    "context.js",
    "failures.js",
    "guest-http.js",
    "guest-secrets.js",
    "guest-tables.js",
    "guest.js",
    "host.js",
    "http.d.ts",
    "http.js",
    "imported.js",
    "index.d.ts",
    "index.js",
    "outputs.js",
    "package.json",
    "process.js",
    "records.js",
    "secrets.d.ts",
    "secrets.js",
    "tables.d.ts",
    "tables.js",
    "testing.d.ts",
    "testing.js",
    "text.js",
    "timer-component.js",
);

/// What a plugin in C is compiled with.
pub(super) const C_SDK: &[Source] = sources!(
    "sdk/c":
    "guest.c",
    "guest_http.c",
    "host.c",
    "http.c",
    "internal.h",
    "json.c",
    "memory.c",
    "millstream.h",
    "outcomes.c",
    "records.c",
);

/// What turns Python into a component: a requirements file of pip.
pub(super) const PYTHON_REQUIREMENTS: &str =
    include_str!("../../../toolchains/python/requirements.txt");

/// What turns JavaScript into a component, as npm has locked it.
pub(super) const JAVASCRIPT_LOCK: &str =
    include_str!("../../../toolchains/javascript/package-lock.json");

/// The folder that npm fills.
pub(super) const JAVASCRIPT_TOOLCHAIN: &[Source] = sources!(
    "server/cli/toolchains/javascript":
    "package.json",
    "package-lock.json",
);

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::*;

    /// The files below a folder with one of these extensions, but for tests.
    fn find(root: &Path, folder: &Path, extensions: &[&str], found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                if !["tests", "__pycache__"].contains(&name.as_str()) {
                    find(root, &path, extensions, found);
                }
            } else if extensions.iter().any(|extension| name.ends_with(extension)) {
                let path = path.strip_prefix(root).unwrap();
                found.insert(path.to_string_lossy().into_owned());
            }
        }
    }

    #[test]
    fn everything_is_brought_along() {
        let check = |sources: &[Source], folder: &str, extensions: &[&str]| {
            let root = Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("../..")
                .join(folder);
            let mut expect = BTreeSet::new();
            find(&root, &root, extensions, &mut expect);
            let brought: BTreeSet<_> = sources
                .iter()
                .map(|source| source.path.to_owned())
                .collect();
            assert_eq!(brought, expect, "{folder}");
        };
        check(WIT, "wit", &[".wit"]);
        check(PYTHON_SDK, "sdk/python", &[".py", ".typed"]);
        check(JAVASCRIPT_SDK, "sdk/javascript", &[".js", ".json", ".ts"]);
        check(C_SDK, "sdk/c", &[".c", ".h"]);
    }
}
