//! What can go wrong.

use std::path::{Path, PathBuf};

/// A file cannot be used. The state can be had again from the journal: open the store anew.
#[derive(Clone, Debug, thiserror::Error)]
#[error("cannot {doing} {}: {reason}", path.display())]
pub struct StateError {
    /// What was being done.
    pub doing: &'static str,
    /// The file.
    pub path: PathBuf,
    /// What the store or the operating system says.
    pub reason: String,
    pub(crate) is_damage: bool,
}

impl StateError {
    pub(crate) fn io(doing: &'static str, path: &Path, error: &std::io::Error) -> Self {
        Self {
            doing,
            path: path.to_owned(),
            reason: error.to_string(),
            is_damage: false,
        }
    }

    pub(crate) fn damaged(doing: &'static str, path: &Path, reason: impl Into<String>) -> Self {
        Self {
            doing,
            path: path.to_owned(),
            reason: reason.into(),
            is_damage: true,
        }
    }

    pub(crate) fn redb(doing: &'static str, path: &Path, error: redb::Error) -> Self {
        let is_damage = match &error {
            redb::Error::Io(error) => error.kind() == std::io::ErrorKind::InvalidData,
            redb::Error::PreviousIo | redb::Error::DatabaseAlreadyOpen => false,
            _ => true,
        };
        Self {
            doing,
            path: path.to_owned(),
            reason: error.to_string(),
            is_damage,
        }
    }
}

/// With the changes of a call, the state would be larger than its worker's may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the state would take more than {limit} bytes")]
pub struct StateFull {
    /// The limit, bytes.
    pub limit: u64,
}
