//! A record that could not be handled.

use std::error::Error;
use std::fmt;
use std::time::Duration;

/// Why a record, or the whole call, could not be handled.
///
/// The operator `?` turns any [`Error`] into a reject: what cannot be read now cannot be read
/// later. Say [`retry`](Self::retry) where that is not so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub(crate) kind: Kind,
    pub(crate) reason: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Reject,
    Retry { after_ms: u32 },
    Abort,
}

/// The latest that a record can be retried: a day from now.
const MAX_RETRY_MS: u32 = 86_400_000;

impl Failure {
    /// The record is bad and will always be. It goes where the deployment sends what cannot be
    /// handled; what the handler emitted for it is withdrawn.
    pub fn reject(reason: impl fmt::Display) -> Self {
        Self {
            kind: Kind::Reject,
            reason: reason.to_string(),
        }
    }

    /// The record cannot be handled now, but perhaps later: not before `after` has passed, at most a
    /// day. What the handler emitted for it is withdrawn.
    pub fn retry(after: Duration, reason: impl fmt::Display) -> Self {
        let after_ms = u32::try_from(after.as_millis())
            .unwrap_or(MAX_RETRY_MS)
            .min(MAX_RETRY_MS);
        Self {
            kind: Kind::Retry { after_ms },
            reason: reason.to_string(),
        }
    }

    /// The worker cannot go on, whatever the record. Nothing of the call counts; a new instance
    /// handles the same records again later.
    pub fn abort(reason: impl fmt::Display) -> Self {
        Self {
            kind: Kind::Abort,
            reason: reason.to_string(),
        }
    }

    /// The reason.
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

impl<E: Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::reject(error)
    }
}
