//! What a consumer asks of the task that commits for it.

use std::sync::Arc;

use millstream_protocol::Offset;
use millstream_protocol::api::group::OffsetCommit;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::claim::Claim;
use crate::error::{Error, Result};

/// What is to be committed.
#[derive(Debug)]
pub(super) enum Offsets {
    /// Positions of claims. Those of claims that have ended meanwhile are left out.
    Claims(Vec<(Arc<Claim>, Offset)>),
    /// Offsets that the application names itself.
    Named(Vec<OffsetCommit>),
}

/// A consumer's request to its membership or committer.
#[derive(Debug)]
pub(super) enum Command {
    /// Commits.
    Commit {
        /// What.
        offsets: Offsets,
        /// Where the outcome goes.
        reply: oneshot::Sender<Result<()>>,
    },
    /// Commits what is to be committed by itself, and ends.
    Leave {
        /// Told when it is done.
        reply: oneshot::Sender<Result<()>>,
    },
}

/// One request's part of a commit.
#[derive(Debug)]
pub(super) struct CommitPart {
    pub(super) offsets: Vec<OffsetCommit>,
    /// What is committed when this part is.
    pub(super) positions: Vec<(Arc<Claim>, Offset)>,
}

impl CommitPart {
    pub(super) fn committed(&self) {
        self.positions
            .iter()
            .for_each(|(claim, offset)| claim.set_committed(*offset));
    }
}

impl Offsets {
    /// In parts that fit into one request each.
    pub(super) fn into_parts(self, part: usize) -> Vec<CommitPart> {
        match self {
            Self::Claims(positions) => positions
                .chunks(part)
                .map(|positions| CommitPart {
                    offsets: positions
                        .iter()
                        .map(|(claim, offset)| claim.commit(*offset))
                        .collect(),
                    positions: positions.to_vec(),
                })
                .collect(),
            Self::Named(offsets) => offsets
                .chunks(part)
                .map(|offsets| CommitPart {
                    offsets: offsets.to_vec(),
                    positions: Vec::new(),
                })
                .collect(),
        }
    }

    /// What the application has come back from in these claims and is not committed.
    pub(super) fn returned(claims: &[Arc<Claim>]) -> Self {
        let uncommitted = |claim: &Arc<Claim>| {
            claim
                .uncommitted()
                .map(|offset| (Arc::clone(claim), offset))
        };
        Self::Claims(claims.iter().filter_map(uncommitted).collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Claims(positions) => positions.is_empty(),
            Self::Named(offsets) => offsets.is_empty(),
        }
    }
}

/// Tells the one who waits for a commit when its last part is settled, that is, dropped.
#[derive(Debug)]
pub(super) struct Settlement {
    reply: Option<oneshot::Sender<Result<()>>>,
    /// The first failure of a part.
    failure: Mutex<Option<Error>>,
}

impl Settlement {
    pub(super) fn new(reply: Option<oneshot::Sender<Result<()>>>) -> Arc<Self> {
        Arc::new(Self {
            reply,
            failure: Mutex::new(None),
        })
    }

    pub(super) fn fail(&self, error: Error) {
        self.failure.lock().get_or_insert(error);
    }
}

impl Drop for Settlement {
    fn drop(&mut self) {
        if let Some(reply) = self.reply.take() {
            // Nobody waits any more: nothing to tell.
            let _ = reply.send(self.failure.get_mut().take().map_or(Ok(()), Err));
        }
    }
}
