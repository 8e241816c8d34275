//! Between the brokers of a cluster: replication streams, and calls whose content their services define.
//!
//! ```text
//! broker that opens                     broker that accepts
//! OpenReplication                   ->
//!                                   <-  Ok(OpenedReplication)
//! messages + payload: whole batches ->      (of any partitions, one frame after the other)
//! messages                          ->
//!                                   <-  Err(…)               (only if what came cannot be read)
//! ```
//!
//! A broker may have several such streams to another one, and answers on streams of its own. What a
//! message looks like is the brokers' own affair, as is what a call carries: clients take no part in
//! either, and only a broker's certificate opens them.
//!
//! ```text
//! broker with workers                   broker that leads what they write to
//! OpenOutputs                       ->
//!                                   <-  Ok(OutputsOpened)
//! OutputBatch + payload: one batch  ->      (of any partitions, one behind the other)
//!                                   <-  Ok(ProduceAck)       in the order of the batches
//! ```
//!
//! A broker's workers take part in their group by [`OpenHostedMember`]: from then on the stream is that of
//! a member, as [`group`](crate::api::group) has it.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::api::offsets::Position;
use crate::ids::TopicPartition;

/// Who calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Introduction {
    /// The cluster that it belongs to.
    pub cluster_id: Uuid,
    /// Its number in the cluster.
    pub broker_id: u32,
    /// Its data directory.
    pub directory_id: Uuid,
    /// Which of its starts this is: a later one is greater.
    pub incarnation: u64,
    /// Which starts its data directory knows to be its own.
    pub lineage: Lineage,
}

/// Starts of a data directory besides the last whose numbers it keeps while it does not know whether they were registered.
pub const UNNOTED_STARTS: usize = 7;

/// Which starts a data directory knows to be its own. One that was copied, and of which the original has been started
/// again since, does not know all that are registered for its number: whatever it has may be of long ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lineage {
    /// Drawn at random by this start; or by the last one for which there was a place among those kept.
    pub run: Uuid,
    /// What other starts since `registered` have drawn, which may have been registered without the directory's noting
    /// it; nil where there was none.
    pub unnoted: [Uuid; UNNOTED_STARTS],
    /// The last start that the directory has noted to be registered.
    pub registered: Option<RegisteredStart>,
}

/// A start that was registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisteredStart {
    /// Which one it was.
    pub incarnation: u64,
    /// What was drawn for it.
    pub run: Uuid,
}

impl Lineage {
    /// That of a directory on which no start was registered yet.
    pub fn new(run: Uuid) -> Self {
        Self {
            run,
            unnoted: [Uuid::nil(); UNNOTED_STARTS],
            registered: None,
        }
    }

    /// Whether a start that is registered for this directory may be one of its own. Nothing speaks against one that is
    /// earlier than what the directory has noted: whoever knows of it has not heard of the later ones yet.
    pub fn may_have(&self, known: RegisteredStart) -> bool {
        let is_unnoted = !known.run.is_nil() && self.unnoted.contains(&known.run);
        known.run == self.run
            || is_unnoted
            || self
                .registered
                .is_some_and(|last| known.incarnation < last.incarnation || known == last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_knows_its_own_starts() {
        let start = |incarnation, run| RegisteredStart {
            incarnation,
            run: Uuid::from_u128(run),
        };
        let mut fifth = Lineage {
            registered: Some(start(3, 13)),
            ..Lineage::new(Uuid::from_u128(15))
        };
        fifth.unnoted[0] = Uuid::from_u128(14);
        for (known, expected) in [
            // What it has noted, what it is itself, and what has been registered without its noting it.
            (start(3, 13), true),
            (start(4, 14), true),
            (start(5, 15), true),
            // Who knows only that is behind.
            (start(2, 12), true),
            // Another copy's.
            (start(3, 99), false),
            (start(4, 99), false),
            (start(9, 99), false),
            (start(4, 0), false),
        ] {
            assert_eq!(fifth.may_have(known), expected, "{known:?}");
        }
        let first = Lineage::new(Uuid::from_u128(11));
        assert!(first.may_have(start(1, 11)));
        assert!(!first.may_have(start(1, 99)));
    }
}

/// Opens a stream of replicas' messages, from this broker to that one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenReplication {
    /// Who will speak.
    pub introduction: Introduction,
}

/// The stream is open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenedReplication {}

/// Calls a service of a broker; the payload is the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallPeer {
    /// Who calls.
    pub introduction: Introduction,
    /// What of the broker is called.
    pub service: PeerService,
}

/// What of a broker another one calls. Grows only at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum PeerService {
    /// Its part of the metadata quorum.
    Consensus,
    /// Everything else that brokers of a cluster ask of each other.
    Cluster,
    /// Its part of the deployments, whose workers are on all brokers.
    Workers,
}

/// The answer to [`CallPeer`]; the payload is the service's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerCalled {}

/// Opens a stream on which a worker writes to partitions that the asked broker leads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenOutputs {
    /// Whose worker it is.
    pub introduction: Introduction,
}

/// The stream is open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputsOpened {}

/// One batch of a worker's outputs; the payload is the batch. It is answered by a
/// [`ProduceAck`](crate::api::produce::ProduceAck), or by an error, which ends the stream: nothing behind it
/// is appended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputBatch {
    /// Where it goes.
    pub partition: TopicPartition,
}

/// Joins a group for the workers of a deployment that a broker hosts: opens a member's stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenHostedMember {
    /// The broker that hosts them.
    pub introduction: Introduction,
    /// The group, which has the deployment's name.
    pub group: String,
    /// The member's name, for listings.
    pub member_name: String,
    /// The deployment's principal.
    pub principal: String,
    /// The topics that it consumes, by name.
    pub topics: Vec<String>,
    /// Where to start in a partition without a committed offset.
    pub start: Position,
}
