//! Who may import what. A new crate or dependency is entered here, or the test names it.

mod workspace;

use std::collections::BTreeSet;

use workspace::{Crate, crates};

/// Our crates, each with those of ours that it may import.
const LAYERS: &[(&str, &[&str])] = &[
    // L0
    ("millstream-protocol", &[]),
    ("millstream-plugin", &["millstream-plugin-macros"]),
    ("millstream-plugin-macros", &[]),
    ("millstream-offload", &[]),
    ("millstream-planted", &[]),
    ("millstream-port", &[]),
    // L1
    ("millstream-transport", &["millstream-protocol"]),
    (
        "millstream-log",
        &["millstream-planted", "millstream-protocol"],
    ),
    (
        "millstream-group",
        &["millstream-planted", "millstream-protocol"],
    ),
    ("millstream-metadata", &["millstream-protocol"]),
    (
        "millstream-replication",
        &["millstream-planted", "millstream-protocol"],
    ),
    (
        "millstream-worker",
        &["millstream-planted", "millstream-protocol"],
    ),
    ("millstream-http", &["millstream-protocol"]),
    // L2
    (
        "millstream",
        &["millstream-protocol", "millstream-transport"],
    ),
    (
        "millstream-runtime",
        &["millstream-http", "millstream-protocol"],
    ),
    ("millstream-state", &["millstream-protocol"]),
    (
        "millstream-consensus",
        &[
            "millstream-log",
            "millstream-metadata",
            "millstream-offload",
            "millstream-protocol",
        ],
    ),
    (
        "millstream-peer",
        &[
            "millstream-offload",
            "millstream-protocol",
            "millstream-replication",
            "millstream-transport",
        ],
    ),
    // L3
    (
        "millstream-broker",
        &[
            // Its tests are clients.
            "millstream",
            "millstream-consensus",
            "millstream-group",
            "millstream-log",
            "millstream-metadata",
            "millstream-offload",
            "millstream-peer",
            "millstream-protocol",
            "millstream-replication",
            "millstream-runtime",
            "millstream-state",
            "millstream-transport",
            "millstream-worker",
        ],
    ),
    // L4
    (
        "millstream-cli",
        &[
            "millstream",
            "millstream-broker",
            "millstream-metadata",
            "millstream-plugin",
            "millstream-port",
            "millstream-protocol",
            "millstream-runtime",
            "millstream-transport",
            "millstream-worker",
        ],
    ),
    ("millstream-tidy", &[]),
    (
        "millstream-e2e",
        &[
            "millstream",
            "millstream-port",
            "millstream-protocol",
            "millstream-transport",
        ],
    ),
    ("millstream-fuzz", &[]),
    (
        "millstream-sim",
        &[
            "millstream-group",
            "millstream-log",
            "millstream-metadata",
            "millstream-protocol",
            "millstream-replication",
            "millstream-worker",
        ],
    ),
    (
        "millstream-sim-broker",
        &[
            "millstream",
            "millstream-broker",
            "millstream-log",
            "millstream-protocol",
            "millstream-transport",
        ],
    ),
    ("millstream-hostile", &["millstream-protocol"]),
];

/// Dependencies that one crate alone may import.
const ONE_IMPORTER: &[(&str, &str)] = &[
    ("quinn", "millstream-transport"),
    ("quinn-proto", "millstream-transport"),
    ("rustls", "millstream-transport"),
    ("aws-lc-rs", "millstream-transport"),
    ("rcgen", "millstream-transport"),
    ("wasmtime", "millstream-runtime"),
    ("wasmtime-wasi", "millstream-runtime"),
    ("wasmtime-wasi-http", "millstream-runtime"),
    // TLS over TCP, to servers that are none of ours: with the transport's provider, and nothing else
    // of it.
    ("tokio-rustls", "millstream-http"),
    ("rustls-native-certs", "millstream-http"),
    ("hyper", "millstream-http"),
    ("hyper-util", "millstream-http"),
    ("memmap2", "millstream-log"),
    ("openraft", "millstream-consensus"),
    ("redb", "millstream-state"),
];

/// Cores: no executor, no network, no clock, no randomness, not even each other.
const PURE: &[&str] = &[
    "millstream-log",
    "millstream-group",
    "millstream-metadata",
    "millstream-protocol",
    "millstream-replication",
    "millstream-worker",
];

const IMPURE_CRATES: &[&str] = &[
    "tokio",
    "quinn",
    "openraft",
    "wasmtime",
    "rand",
    "getrandom",
    "fastrand",
    "futures-util",
    "chrono",
    "time",
];

/// The modules with unsafe code, each of which says why it is sound.
const UNSAFE_MODULES: &[&str] = &[
    // Sealed segments, mapped.
    "server/log/src/mmap.rs",
    // Compiled components, loaded.
    "server/runtime/src/native.rs",
    // Randomness that comes of a seed, in the place of the system's.
    "tests/sim-broker/src/entropy.rs",
];

const IMPURE_WORDS: &[&str] = &[
    "SystemTime::now",
    "Instant::now",
    "std::net::",
    "thread::spawn",
    "thread::sleep",
    "Uuid::new_v4",
    "Uuid::now_v7",
    "RandomState::new",
];

#[test]
fn every_crate_imports_only_lower_layers() {
    for member in crates() {
        let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| *name == member.name) else {
            panic!("{} has no layer: enter it in LAYERS", member.name);
        };
        let ours: BTreeSet<_> = member
            .dependencies
            .iter()
            .filter(|d| d.starts_with("millstream"))
            .collect();
        for dependency in ours {
            assert!(
                allowed.contains(&dependency.as_str()),
                "{} may not depend on {dependency}: it is not in a lower layer",
                member.name
            );
        }
    }
}

#[test]
fn each_large_dependency_has_one_importer() {
    for member in crates() {
        for (dependency, importer) in ONE_IMPORTER {
            assert!(
                member.name == *importer || !member.dependencies.contains(*dependency),
                "{} imports {dependency}, which {importer} alone may import",
                member.name
            );
        }
    }
}

#[test]
fn cores_are_pure() {
    let cores: Vec<Crate> = crates()
        .into_iter()
        .filter(|c| PURE.contains(&c.name.as_str()))
        .collect();
    assert_eq!(
        cores.len(),
        PURE.len(),
        "a core is missing from the workspace"
    );
    for core in cores {
        for dependency in IMPURE_CRATES {
            assert!(
                !core.dependencies.contains(*dependency),
                "{} is a core and imports {dependency}",
                core.name
            );
        }
        for source in core.sources() {
            for (number, line) in source.production_lines() {
                for word in IMPURE_WORDS {
                    assert!(
                        !line.contains(word),
                        "{}:{number}: {} is a core: pass in what `{word}` would give",
                        source.path.display(),
                        core.name
                    );
                }
            }
        }
    }
}

#[test]
fn the_log_touches_files_only_through_its_storage() {
    let log = crates()
        .into_iter()
        .find(|c| c.name == "millstream-log")
        .expect("the log crate");
    for source in log.sources() {
        let name = source
            .path
            .file_name()
            .and_then(|n| n.to_str())
            .unwrap_or_default()
            .to_owned();
        let storage =
            source.path.components().any(|c| c.as_os_str() == "storage") || name == "mmap.rs";
        for (number, line) in source.production_lines() {
            assert!(
                storage || !(line.contains("std::fs") || line.contains("File::open")),
                "{}:{number}: files are the Storage's alone",
                source.path.display()
            );
        }
    }
}

#[test]
fn unsafe_code_stands_in_modules_of_its_own() {
    for member in crates() {
        for source in member.sources() {
            if UNSAFE_MODULES.iter().any(|it| source.path.ends_with(it)) {
                continue;
            }
            for (number, line) in source.lines() {
                assert!(
                    !line.contains("allow(unsafe_code)"),
                    "{}:{number}: unsafe code belongs in one of {UNSAFE_MODULES:?}",
                    source.path.display()
                );
            }
        }
    }
}

#[test]
fn quinn_and_wasmtime_are_named_by_their_importers_alone() {
    for member in crates() {
        if [
            "millstream-transport",
            "millstream-http",
            "millstream-runtime",
            "millstream-tidy",
        ]
        .contains(&member.name.as_str())
        {
            continue;
        }
        for source in member.sources() {
            for (number, line) in source.production_lines() {
                for word in ["quinn::", "rustls::", "wasmtime::"] {
                    assert!(
                        !line.contains(word),
                        "{}:{number}: names {word}",
                        source.path.display()
                    );
                }
            }
        }
    }
}
