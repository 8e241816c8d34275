//! Which version of a plugin has written a worker's state.

use serde::{Deserialize, Serialize};

/// The version of a plugin whose state this is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateWriter {
    /// The digest of its component.
    pub digest: String,
    /// Another one that is taking the state over, and has not come to the end of it.
    pub heir: Option<Heir>,
}

/// A version of a plugin that has rewritten a part of the state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heir {
    /// The digest of its component.
    pub digest: String,
    /// Where it goes on, in its own words.
    pub cursor: Vec<u8>,
}

impl StateWriter {
    /// A state of one version.
    pub fn new(digest: impl Into<String>) -> Self {
        Self {
            digest: digest.into(),
            heir: None,
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        // Into memory, and of known lengths: it cannot fail.
        postcard::to_allocvec(self).unwrap_or_default()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        postcard::from_bytes(bytes).ok()
    }
}
