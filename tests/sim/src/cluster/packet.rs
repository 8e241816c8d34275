//! What travels over the simulated network.

use bytes::Bytes;
use millstream_protocol::api::group::{CoordinatorMessage, MemberMessage};
use millstream_protocol::{LeaderEpoch, Offset, TopicPartition};
use millstream_replication::{Appointment, BrokerId, DirectoryId, Message};

use super::stream::Segment;

/// Who sends and receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Node {
    /// The metadata quorum.
    Metadata,
    Broker(BrokerId),
    Producer(u32),
    Consumer(u32),
    Member(u32),
}

#[derive(Clone, Debug)]
pub(crate) enum Packet {
    /// Between replicas.
    Replica {
        at: TopicPartition,
        message: Message,
        beside: Beside,
    },
    /// A broker is alive.
    Beat(Beat),
    /// What the metadata quorum has decided, and which directories the replicas have.
    Decided(Decision),
    /// A broker's directory is another one.
    Register {
        at: TopicPartition,
        /// The directory that it had; `None` if it knows of none.
        instead_of: Option<DirectoryId>,
    },
    /// Of this start and disk.
    Registered((u64, u64), TopicPartition, Assigned),
    Finalise {
        at: TopicPartition,
        epoch: LeaderEpoch,
        version: u64,
    },
    Produce {
        at: TopicPartition,
        request: u64,
        batch: Bytes,
    },
    Produced {
        request: u64,
        result: Result<Offset, Refusal>,
    },
    Read {
        at: TopicPartition,
        request: u64,
        offset: Offset,
    },
    /// The log begins here now.
    Begins { request: u64, start: Offset },
    /// What is visible from there on; nothing if nothing is.
    Records {
        request: u64,
        batches: Vec<Bytes>,
        next_offset: Offset,
    },
    /// What a member of a group says on a stream of its own to the coordinator.
    Heard {
        stream: u64,
        /// With whom the stream is, if that is known.
        session: Option<Session>,
        segment: Segment<MemberMessage>,
    },
    /// What it is told.
    Told {
        stream: u64,
        session: Session,
        segment: Segment<CoordinatorMessage>,
    },
    /// The stream is over, and perhaps this one coordinates the groups.
    HungUp {
        stream: u64,
        leader: Option<BrokerId>,
    },
}

/// A coordinator, from when it has read the groups' log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Session {
    /// The epoch in which the groups' log is led.
    pub(crate) epoch: LeaderEpoch,
    /// No other one has this.
    pub(crate) number: u64,
}

/// What travels beside a message of the core.
#[derive(Clone, Debug, Default)]
pub(crate) struct Beside {
    /// The batches of its span.
    pub(crate) batches: Vec<Bytes>,
    /// What was known of producers where the span begins, if the sender's log begins there.
    pub(crate) producers: Option<Bytes>,
}

/// Why a batch was not appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It does not lead. Perhaps this one does.
    NotLeader(Option<BrokerId>),
    /// Try again.
    Busy,
}

#[derive(Clone, Debug)]
pub(crate) struct Beat {
    /// Which start of the process this is.
    pub(crate) boot: u64,
    /// A later one of this start has a greater one.
    pub(crate) number: u64,
    /// The identity of its disk.
    pub(crate) disk: u64,
    /// How it stands with each partition.
    pub(crate) standings: Vec<Standing>,
}

/// How a broker stands with a partition.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing {
    pub(crate) at: TopicPartition,
    /// The epoch in which it leads.
    pub(crate) leads: Option<LeaderEpoch>,
    /// The version that it knows.
    pub(crate) version: u64,
    /// The directory that is trusted, if it is.
    pub(crate) trusted: Option<DirectoryId>,
}

#[derive(Clone, Debug)]
pub(crate) struct Decision {
    pub(crate) at: TopicPartition,
    /// The start and the disk with which the receiver is registered. A broker acts on nothing that
    /// was decided before it has registered: it may be about what was on another disk.
    pub(crate) registered: (u64, u64),
    pub(crate) appointment: Appointment,
    /// The receiver's directory, and what it is to promise if it begins with it; `None`
    /// if it is no replica.
    pub(crate) assigned: Option<Assigned>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Assigned {
    pub(crate) directory: DirectoryId,
    pub(crate) epoch: LeaderEpoch,
    /// It takes the place of a directory that was lost.
    pub(crate) replaces: bool,
}
