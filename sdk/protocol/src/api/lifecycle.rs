//! The life of a deployment: pause, resume, history and roll-back.

use serde::{Deserialize, Serialize};

use crate::ids::TimestampMs;

/// Has a deployment's workers stand still between two turns, also after a restart, until it is
/// resumed. Answered when all of them do; the answer is the deployment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PauseDeployment {
    /// Which deployment.
    pub name: String,
}

/// Has a deployment that was paused go on, and workers that stand still in front of a record try it
/// again. The answer is the deployment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResumeDeployment {
    /// Which deployment.
    pub name: String,
}

/// Whether a deployment's workers are meant to work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Activity {
    /// They are.
    #[default]
    Active,
    /// A person has paused it.
    Paused,
}

/// Asks for the revisions of a deployment that are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListRevisions {
    /// Which deployment.
    pub name: String,
}

/// The answer to [`ListRevisions`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListRevisionsResponse {
    /// The revisions, the oldest first; the last one is at work.
    pub revisions: Vec<RevisionDescription>,
}

/// One revision of a deployment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevisionDescription {
    /// Its number.
    pub revision: u32,
    /// The component's SHA-256, hexadecimal.
    pub digest: String,
    /// The component's size, bytes.
    pub component_bytes: u64,
    /// When it was put in place.
    pub at_ms: TimestampMs,
    /// By whom.
    pub by: String,
    /// How it came about.
    pub change: RevisionChange,
    /// In which of its settings it differs from the one before it, as far as that one is kept.
    pub differs_in: Vec<String>,
}

/// How a revision came about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RevisionChange {
    /// It is the first.
    Deployed,
    /// It took the place of the one before it.
    Upgraded,
    /// An earlier one was put back.
    RolledBack {
        /// Which.
        to: u32,
    },
    /// A shadow was promoted.
    Promoted {
        /// Its name.
        shadow: String,
    },
}

/// Puts an earlier revision of a deployment back in its place, between two turns of its workers: as
/// a new revision. The answer is the deployment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RollBackDeployment {
    /// Which deployment.
    pub name: String,
    /// The revision that is put back.
    pub to: u32,
    /// The revision that is at work. If another one is, nothing is done.
    pub from: u32,
}
