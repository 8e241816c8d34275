//! One partition in a consumer's hands, from one starting point on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use millstream_protocol::api::group::{NamedPartition, OffsetCommit};
use millstream_protocol::{Offset, PartitionIndex, TopicId};

use tokio::time::Instant;

use super::source::Nearness;
use crate::brokers::BrokerId;
use crate::leaders::{LedPartition, TopicLeaders};

/// Tells claims apart, also of the same partition: an assignment that is taken away, a seek or a
/// reset end one claim, and what still comes for it is recognised as stale. Never 0.
pub(super) type ClaimId = u64;

/// A claim, and how far the application has come with it.
///
/// `committed <= returned <= handed`, each the next offset to read.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) id: ClaimId,
    pub(super) topic: Arc<str>,
    pub(super) topic_id: TopicId,
    pub(super) partition: PartitionIndex,
    leaders: Arc<TopicLeaders>,
    near: Option<Arc<Nearness>>,
    /// Behind the last record handed out.
    handed: AtomicU64,
    /// Behind the last record that the application has come back from, by asking for the next.
    returned: AtomicU64,
    /// Behind what is known to be committed.
    committed: AtomicU64,
}

impl Claim {
    pub(super) fn new(
        id: ClaimId,
        target: &ClaimTarget,
        leaders: Arc<TopicLeaders>,
        near: Option<Arc<Nearness>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            id,
            topic: Arc::clone(&target.topic),
            topic_id: target.topic_id,
            partition: target.partition,
            leaders,
            near,
            handed: AtomicU64::new(target.start),
            returned: AtomicU64::new(target.start),
            committed: AtomicU64::new(target.start),
        })
    }

    pub(super) fn led(&self) -> LedPartition {
        LedPartition {
            leaders: Arc::clone(&self.leaders),
            partition: self.partition,
            near: self.near.clone(),
        }
    }

    /// The broker to read its partition from, as far as is known.
    pub(super) fn goal(&self) -> Option<BrokerId> {
        self.led().goal()
    }

    /// Whether that does not lead it.
    pub(super) fn is_off_leader(&self) -> bool {
        self.goal() != self.leaders.belief(self.partition).leader
    }

    /// The replica that was read does not do.
    pub(super) fn avoid_replica(&self) {
        if let Some(near) = &self.near {
            near.avoid(&self.topic, self.partition);
        }
    }

    /// Until when the leader is read in place of a replica, if it is.
    pub(super) fn avoided_until(&self) -> Option<Instant> {
        let near = self.near.as_ref()?;
        near.avoided_until(&self.topic, self.partition)
    }

    pub(super) fn handed(&self) -> Offset {
        self.handed.load(Ordering::Acquire)
    }

    pub(super) fn returned(&self) -> Offset {
        self.returned.load(Ordering::Acquire)
    }

    /// Records below `offset` are in the application's hands.
    pub(super) fn hand_out_to(&self, offset: Offset) {
        self.handed.store(offset, Ordering::Release);
    }

    /// There is nothing for the application below `offset` any more.
    pub(super) fn skip_to(&self, offset: Offset) {
        self.handed.fetch_max(offset, Ordering::AcqRel);
        self.take_back();
    }

    /// The application has come back from everything that was handed out.
    pub(super) fn take_back(&self) {
        self.returned
            .store(self.handed.load(Ordering::Relaxed), Ordering::Release);
    }

    pub(super) fn set_committed(&self, offset: Offset) {
        self.committed.fetch_max(offset, Ordering::AcqRel);
    }

    /// What is to be committed of what the application has come back from, if anything is.
    pub(super) fn uncommitted(&self) -> Option<Offset> {
        let returned = self.returned();
        (returned > self.committed.load(Ordering::Acquire)).then_some(returned)
    }

    pub(super) fn commit(&self, offset: Offset) -> OffsetCommit {
        OffsetCommit {
            topic: self.topic.to_string(),
            partition: self.partition,
            offset,
            metadata: String::new(),
        }
    }

    pub(super) fn name(&self) -> NamedPartition {
        NamedPartition {
            topic: self.topic.to_string(),
            partition: self.partition,
        }
    }
}

/// What to claim.
#[derive(Clone, Debug)]
pub(super) struct ClaimTarget {
    pub(super) topic: Arc<str>,
    pub(super) topic_id: TopicId,
    pub(super) partition: PartitionIndex,
    /// The first offset wanted.
    pub(super) start: Offset,
}
