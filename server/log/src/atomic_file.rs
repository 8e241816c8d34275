//! Small files that are replaced as a whole: written beside, then renamed over the old one.

use std::io::IoSlice;

use crate::error::{Attempt, StorageFailure};
use crate::files::Files;
use crate::format::names;

/// Replaces a file so that after a crash either the old or the new content is there; durable when
/// this returns.
pub(crate) fn replace(files: &Files, name: &str, content: &[u8]) -> Result<(), StorageFailure> {
    write(files, name, content, Durability::Synced)?;
    files.sync_dir()
}

/// Replaces a file in the same way, but for its name: that is durable once the directory is synced.
pub(crate) fn replace_unnamed(
    files: &Files,
    name: &str,
    content: &[u8],
) -> Result<(), StorageFailure> {
    write(files, name, content, Durability::Synced)
}

/// Replaces a file whose loss or destruction by a crash does not matter.
pub(crate) fn write_cache(files: &Files, name: &str, content: &[u8]) -> Result<(), StorageFailure> {
    write(files, name, content, Durability::Cached)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Durability {
    Synced,
    Cached,
}

fn write(
    files: &Files,
    name: &str,
    content: &[u8],
    durability: Durability,
) -> Result<(), StorageFailure> {
    let unfinished = files.path(&names::unfinished(name));
    let file = files.create(&unfinished)?;
    let written = file.write_vectored_at(&mut [IoSlice::new(content)], 0);
    if let Err(failure) = written.attempt("write", &unfinished) {
        // Gives back the space it takes; if that fails too, the next attempt replaces it.
        let _ = files.remove(&unfinished);
        return Err(failure);
    }
    if durability == Durability::Synced {
        file.sync_data().attempt("sync", &unfinished)?;
    }
    let renamed = files.storage.rename(&unfinished, &files.path(name));
    renamed.attempt("rename", &unfinished)
}
