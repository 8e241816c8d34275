//! The replicas that this broker keeps: the shell around each one's core, and which there are.
//!
//! - [`actor`]: a partition's log and replica on the writer's thread; `steps`: doing what the core says
//! - [`deletions`]: deleting records by request
//! - `entries`: a log's entries on their way to other replicas
//! - [`state`]: what is on the disk about a replica besides its log
//! - [`wishes`]: what they want of the metadata quorum
//! - [`hosting`]: opening, beginning and removing replicas as the cluster's image has them

pub(crate) mod actor;
pub(crate) mod deletions;
mod entries;
pub(crate) mod hosting;
pub(crate) mod state;
mod steps;
pub(crate) mod wishes;

use millstream_metadata::beat::Leads;
use millstream_protocol::{LeaderEpoch, Offset, TopicPartition};
use millstream_replication::{BrokerId, DirectoryId};

/// What a replica has come to that others are to hear of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReplicaEvent {
    /// It leads from here on, or (`None`) leads no more.
    Leads {
        partition: TopicPartition,
        leads: Option<Leads>,
    },
    /// It leads and has everything: the change of the replicas may be made final.
    Complete {
        partition: TopicPartition,
        epoch: LeaderEpoch,
        version: u64,
    },
    /// It is trusted again, and its disk says so.
    Trusted { partition: TopicPartition },
    /// Its log is to begin at an offset, and it does not know what its leader's knows of its producers
    /// there.
    Lacks {
        partition: TopicPartition,
        leader: BrokerId,
        at: Offset,
    },
    /// Its log is damaged: it takes part no more.
    Damaged {
        partition: TopicPartition,
        directory: DirectoryId,
    },
}
