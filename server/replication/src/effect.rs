//! What a replica is told, and what it wants to be done.

use std::collections::BTreeMap;

use millstream_protocol::{LeaderEpoch, Offset};

use crate::BrokerId;
use crate::durable::{DirectoryId, Durable};
use crate::message::Message;
use crate::set::ReplicaSet;
use crate::view::Position;

/// What the metadata quorum has decided of a partition.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Appointment {
    /// Rises with every change of the partition.
    pub version: u64,
    /// The newest epoch.
    pub epoch: LeaderEpoch,
    /// Who is to lead in it.
    pub leader: BrokerId,
    /// The partition's replicas.
    pub replicas: ReplicaSet,
    /// The newest directory of each. One that answers with an older one does not know yet that it is
    /// to begin anew: what it has does not count. A leader whose own is another one does not lead.
    pub directories: BTreeMap<BrokerId, DirectoryId>,
    /// When an entry counts as being there.
    pub durability: Durability,
    /// The directory with which the partition goes on by an operator's word, whatever it lacks: the
    /// replica that is in it counts from here on.
    pub accepted: Option<DirectoryId>,
}

impl Appointment {
    /// Whether what a replica says counts, as far as its directory goes.
    pub(crate) fn knows(&self, broker: BrokerId, directory: DirectoryId) -> bool {
        let newest = self.directories.get(&broker);
        newest.is_none_or(|newest| *newest <= directory)
    }
}

/// When an entry counts as being on a replica.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Durability {
    /// Once it is on the disk.
    #[default]
    Sync,
    /// Once it is written: it may be lost with the machine's power.
    Relaxed,
}

/// What has happened.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// The metadata quorum has decided something. Followers are told as well, after a start too: no
    /// epoch is promised that is not known. Older decisions than the last are ignored.
    Appointed(Appointment),
    /// A peer has sent something. For a message with a span, its entries are at hand.
    Received {
        /// The peer, known by its certificate.
        from: BrokerId,
        /// What it has sent.
        message: Message,
    },
    /// What was to be persisted is on the disk.
    Persisted(Durable),
    /// The log ends here now: told once, after all effects of a step by which something was written
    /// or begun anew, and after a leader's append.
    Written {
        /// The next offset.
        end: Offset,
    },
    /// The disk has no room for [`Effect::Restart`]: the log is as it was, and nothing was written behind it.
    /// Told in place of [`Self::Written`].
    NotRestarted,
    /// The log is on the disk up to here.
    Flushed {
        /// Exclusive.
        offset: Offset,
    },
    /// The log begins here now: what was before has outlived its retention.
    Retained {
        /// The first offset still there. Never above the high watermark.
        start: Offset,
    },
    /// Somebody wants the records below an offset to be gone: a leader's replicas delete them. That is
    /// done once [`Replica::deleted`](crate::Replica::deleted) says so.
    Delete {
        /// Exclusive; what is not committed stays.
        below: Offset,
    },
    /// What is known to be committed is to outlive a restart: told now and then, and before a stop.
    Remember,
    /// There is a link to a peer again: what was sent before may be lost.
    Linked {
        /// The peer.
        peer: BrokerId,
    },
    /// Time has passed: see [`Replica::deadline`](crate::Replica::deadline).
    Tick,
}

/// What is to be done, in this order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Store this, sync it, and tell [`Input::Persisted`]. A later one replaces an earlier one.
    Persist(Durable),
    /// Cut the log's end off, durably, before anything else is written.
    Truncate {
        /// The new end: a border between entries.
        to: Offset,
    },
    /// Throw the whole log away, durably, and begin one at this position.
    Restart {
        /// Where.
        at: Position,
    },
    /// Write those entries of the span just received that begin at this offset or behind it.
    Write {
        /// The log's end.
        from: Offset,
    },
    /// Append the control batch that begins an epoch: one entry. An epoch that begins with an empty
    /// log has none: [`Self::Activated`] comes without it.
    WriteEpochStart {
        /// The epoch.
        epoch: LeaderEpoch,
    },
    /// Send this. A span's entries go with it; the shell may [cut](crate::Span::cut) it shorter
    /// and send the rest behind it, or not at all if a newer message makes it needless.
    Send {
        /// To whom.
        to: BrokerId,
        /// What.
        message: Message,
    },
    /// It leads now: clients may be served.
    Activated {
        /// Its epoch.
        epoch: LeaderEpoch,
    },
    /// It leads no longer. What waits for the high watermark is not known to be committed.
    Deposed {
        /// The epoch in which it led or was to lead.
        epoch: LeaderEpoch,
        /// Why.
        reason: Deposition,
    },
    /// Tell the metadata quorum that the new replicas have everything: the change may be made
    /// final. It holds if the partition is still in this epoch and version.
    Finalise {
        /// The leader's epoch.
        epoch: LeaderEpoch,
        /// The version of the appointment that names the new replicas.
        version: u64,
    },
    /// A peer broke the protocol: its message was ignored.
    Refused {
        /// Who.
        from: BrokerId,
        /// What was wrong with it.
        reason: &'static str,
    },
}

/// Why a replica leads no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Deposition {
    /// A newer epoch was promised.
    Promised(LeaderEpoch),
    /// Metadata has appointed in a newer epoch.
    Appointed(LeaderEpoch),
    /// The start of the epoch, or an entry that it lacked, could not be written.
    NotWritten,
}
