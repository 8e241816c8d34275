//! Components that mean harm, each with what must happen.
//!
//! A component is a small file in `components/`: its header says what it does, what must happen,
//! and what it is given; what follows is WebAssembly's own text, of the parts in which it differs from
//! a guest that does nothing. This crate reads and assembles them. It runs none: that is its tests'
//! part, against the runtime alone and against a broker.
//!
//! # Layout
//!
//! - here: [`Case`] and the [`corpus`]
//! - `file`: how a file is read
//! - `assemble`: the guest that a file's parts change
//! - `imports`: functions of the host that a guest may be given by name
//! - `tests/runtime.rs`: each against the runtime; keeps the table in `README.md` true
//! - `tests/broker.rs`: all of them against one broker, which goes on, and so do its other plugins
//!
//! # A file
//!
//! ```text
//! ;; Grows its memory until it gets no more, and then traps.
//! ;; must fail: memory limit of 4194304 bytes exceeded
//! ;; limits: memory-bytes 4194304
//! ;; uses: log, secret
//! ;; granted secrets: key
//! ;; tables: things
//! ;; granted hosts: https://a.test
//!
//! ;;; handle
//! (loop $again (br_if $again (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))
//! (unreachable)
//! ```
//!
//! A line `@repeat 1000 (drop (i32.const {n}))` stands for a thousand of them, numbered from 0, and
//! `@(1000 a)` within a line for a thousand times `a`.

#![allow(clippy::panic, reason = "a harness fails the test that uses it")]

mod assemble;
mod file;
mod imports;

use std::fs;
use std::path::{Path, PathBuf};

use millstream_protocol::api::grants::Grants;
use millstream_protocol::api::plugin::WorkerLimits;

/// The value of every secret that a component may be granted.
pub const SECRET: &str = "hunter2-is-no-password";

/// One hostile component.
#[derive(Clone, Debug)]
pub struct Case {
    /// Its file's name, without the ending.
    pub name: String,
    /// What it does.
    pub does: String,
    /// What must happen.
    pub must: Must,
    /// What its worker may have. The deadline is short unless the file says otherwise.
    pub limits: WorkerLimits,
    /// What its deployment is granted.
    pub grants: Grants,
    /// The names of its deployment's tables.
    pub tables: Vec<String>,
    parts: file::Parts,
}

/// What must happen to a hostile component. The text is a part of what is said about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Must {
    /// It is refused, and never run.
    BeRefused(String),
    /// It is not compiled within the limits of a compiler.
    NotCompile,
    /// It does not start: no worker calls it.
    NotStart(String),
    /// Every call fails. Its records are tried again and become dead letters.
    Fail(String),
    /// It does no harm, and its records count as handled. The text is in its log, or is empty.
    GoOn(String),
}

impl Must {
    /// The part of what is said.
    pub fn said(&self) -> &str {
        match self {
            Self::BeRefused(said) | Self::NotStart(said) | Self::Fail(said) | Self::GoOn(said) => {
                said
            }
            Self::NotCompile => "the component does not compile",
        }
    }
}

impl Case {
    /// The component's bytes; some are none.
    pub fn component(&self) -> Vec<u8> {
        assemble::component(&self.name, &self.parts)
    }
}

/// The folder of this crate.
pub fn folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every case, in the order of the names.
pub fn corpus() -> Vec<Case> {
    let entries = fs::read_dir(folder().join("components")).expect("the folder of components");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("a file").path()).collect();
    paths.sort();
    paths.iter().map(|path| file::read(path)).collect()
}
