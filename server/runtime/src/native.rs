//! Machine code, loaded. One of the two modules of the workspace with unsafe code.
//!
//! # Why this is sound
//!
//! Loading an artefact maps bytes as code that will be run, so they must be what the compiler of
//! such an engine has written:
//!
//! - An artefact comes from the compiler (within this process, or from its child by a pipe that
//!   nobody else holds), or from the [cache](crate::cache), which keeps nothing else.
//! - The cache reads only from a folder that belongs to this user and that nobody else may write to
//!   or even enter, from files of which the same is true, and hands out only bytes with the checksum
//!   under which they were kept. The check is made of the very bytes that are loaded, not of a file
//!   that may change afterwards.
//! - The engine itself refuses an artefact that another version or configuration has written.
//!
//! Out of scope: another process of the same user, which can write into this one as well.

#![allow(unsafe_code)]

use wasmtime::Engine;
use wasmtime::component::Component;

/// What the compiler has written, and nobody else.
pub(crate) struct Artefact(Vec<u8>);

impl Artefact {
    /// Trusts these bytes. Called where the compiler's output arrives, and where the cache has checked
    /// that they are what it was given; nowhere else.
    pub(crate) fn trusted(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Loads it.
    ///
    /// # Errors
    ///
    /// It was made for an engine of another version or configuration.
    pub(crate) fn load(&self, engine: &Engine) -> wasmtime::Result<Component> {
        // SAFETY: by the rules at the top of this module the bytes are what the compiler has written.
        unsafe { Component::deserialize(engine, &self.0) }
    }
}
