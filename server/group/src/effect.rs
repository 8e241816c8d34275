//! What the shell has to do after a request.

use millstream_protocol::api::group::CoordinatorMessage;
use millstream_protocol::api::offsets::Position;
use millstream_protocol::{Offset, PartitionIndex, TimestampMs, TopicId};

use crate::durable::Durable;
use crate::member::MemberHandle;
use crate::record::Record;

/// What a request led to. See the [crate] for when the shell acts on which part.
#[derive(Clone, Debug, PartialEq)]
#[must_use = "the records must be appended and the effects performed"]
pub struct Outcome<T> {
    /// To be appended to the log, in this order. The coordinator has replayed them already.
    pub records: Vec<Record>,
    /// To be performed in this order, once the records are durable.
    pub effects: Vec<Effect>,
    /// The answer to who asked, delivered after the effects. An outcome whose response is an error
    /// has neither records nor effects.
    pub response: T,
}

/// One thing that the shell does for the coordinator.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Send `message` on the stream of `member`; nothing happens if that stream has ended.
    Send {
        /// The stream's handle, as it was given on [`crate::Coordinator::join`].
        member: MemberHandle,
        /// What to send.
        message: CoordinatorMessage,
    },
    /// Find out the offset of each position, and hand them to
    /// [`crate::Coordinator::starts_resolved`]. The partitions wait, unassigned, until then: the
    /// shell asks again while a partition cannot answer, and may answer for some first. A topic
    /// that is deleted meanwhile needs no answer.
    ResolveStarts {
        /// The group.
        group: String,
        /// The partitions without a committed offset.
        starts: Vec<StartWanted>,
    },
}

/// A partition without a committed offset, and where its owner wants to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartWanted {
    /// The topic's name.
    pub topic: String,
    /// The topic's identity.
    pub topic_id: TopicId,
    /// The partition.
    pub partition: PartitionIndex,
    /// Where to start. An offset outside the log is for the shell to clamp.
    pub position: Position,
}

impl StartWanted {
    /// The answer: the position is at `offset`.
    pub fn at(self, offset: Offset) -> ResolvedStart {
        ResolvedStart {
            wanted: self,
            offset,
        }
    }
}

/// The answer to one [`StartWanted`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedStart {
    /// What was asked.
    pub wanted: StartWanted,
    /// The next offset to read.
    pub offset: Offset,
}

/// The making of an [`Outcome`]: what one request writes and causes.
pub(crate) struct Turn {
    records: Vec<Record>,
    effects: Vec<Effect>,
    now_ms: TimestampMs,
}

impl Turn {
    /// A turn in which nothing is written that carries the time.
    pub(crate) fn timeless() -> Self {
        Self::at(0)
    }

    /// A turn at `now_ms`.
    pub(crate) fn at(now_ms: TimestampMs) -> Self {
        Self {
            records: Vec::new(),
            effects: Vec::new(),
            now_ms,
        }
    }

    /// The time of the request.
    pub(crate) fn now_ms(&self) -> TimestampMs {
        self.now_ms
    }

    /// Writes a record of the group whose durable state is `durable`: the only way, beside
    /// loading, by which that state changes.
    pub(crate) fn write(&mut self, durable: &mut Durable, record: Record) {
        durable.replay(&record);
        self.records.push(record);
    }

    /// Sends `message` to `member`.
    pub(crate) fn send(&mut self, member: MemberHandle, message: CoordinatorMessage) {
        self.effects.push(Effect::Send { member, message });
    }

    /// Asks for the starts of partitions, if there are any.
    pub(crate) fn resolve(&mut self, group: &str, starts: Vec<StartWanted>) {
        if !starts.is_empty() {
            self.effects.push(Effect::ResolveStarts {
                group: group.to_owned(),
                starts,
            });
        }
    }

    /// The outcome of this turn.
    pub(crate) fn answer<T>(self, response: T) -> Outcome<T> {
        Outcome {
            records: self.records,
            effects: self.effects,
            response,
        }
    }
}
