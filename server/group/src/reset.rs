//! Reset: a group's offsets anew, also while it is live.

use std::collections::{BTreeMap, BTreeSet};

use millstream_protocol::api::group::{
    AssignedPartition, CoordinatorMessage, NamedPartition, OffsetCommit, RESET_METADATA,
    ResetGroupResponse,
};
use millstream_protocol::{Offset, PartitionIndex, TimestampMs, TopicId};

use crate::commit::check_partition;
use crate::coordinator::Coordinator;
use crate::effect::{Outcome, Turn};
use crate::error::{ResetError, UnknownGroup, UnknownTopic};
use crate::group::Group;
use crate::limits::PARTITIONS_PER_MESSAGE;
use crate::member::MemberHandle;
use crate::slot::{Commits, Hold};
use crate::topics::Topics;

/// A request to reset a group. The shell has resolved the position to offsets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reset {
    /// Which group.
    pub group: String,
    /// The topic's name.
    pub topic: String,
    /// The topic in which the offsets were resolved.
    pub topic_id: TopicId,
    /// The next offset to read, per partition. Partitions that are not named stay as they are.
    pub offsets: BTreeMap<PartitionIndex, Offset>,
}

impl Coordinator {
    /// Resets a group, with members or without: the offsets are committed under a new generation,
    /// and owners are sent `Seek`. Beside each is [`RESET_METADATA`] until another one is committed.
    ///
    /// A commit that a member made before it saw the `Seek` carries an older generation and is
    /// refused. The `Seek`s of one reset come in several messages beyond
    /// [`PARTITIONS_PER_MESSAGE`], of which only the last has the new generation: who has seen
    /// that generation has seen them all.
    pub fn reset(
        &mut self,
        reset: Reset,
        now_ms: TimestampMs,
    ) -> Outcome<Result<ResetGroupResponse, ResetError>> {
        let mut turn = Turn::at(now_ms);
        if let Err(error) = check_reset(&reset, &self.topics) {
            return turn.answer(Err(error));
        }
        let response = match self.groups.get_mut(&reset.group) {
            Some(group) => Ok(group.reset(&reset, &mut turn)),
            None => Err(UnknownGroup { group: reset.group }.into()),
        };
        turn.answer(response)
    }
}

fn check_reset(reset: &Reset, topics: &Topics) -> Result<(), ResetError> {
    let Reset {
        topic,
        topic_id,
        offsets,
        ..
    } = reset;
    let known = topics
        .get(topic)
        .filter(|known| known.topic_id == *topic_id);
    let known = known.ok_or_else(|| UnknownTopic {
        topic: topic.clone(),
    })?;
    if offsets.is_empty() {
        return Err(ResetError::NoPartitions {
            topic: topic.clone(),
        });
    }
    for &partition in offsets.keys() {
        check_partition(known, partition)?;
    }
    Ok(())
}

impl Group {
    fn reset(&mut self, reset: &Reset, turn: &mut Turn) -> ResetGroupResponse {
        let Reset {
            topic,
            topic_id,
            offsets,
            ..
        } = reset;
        self.next_generation(turn);
        let generation = self.durable.generation();
        let mut seeks: BTreeMap<MemberHandle, Vec<AssignedPartition>> = BTreeMap::new();
        let mut waiting = BTreeSet::new();
        let mut response = ResetGroupResponse {
            generation,
            offsets: Vec::with_capacity(offsets.len()),
        };
        for (&partition, &offset) in offsets {
            let named = NamedPartition {
                topic: topic.clone(),
                partition,
            };
            self.commit_start(&named, *topic_id, offset, RESET_METADATA, turn);
            response.offsets.push(OffsetCommit {
                topic: topic.clone(),
                partition,
                offset,
                metadata: RESET_METADATA.to_owned(),
            });
            let Some(slot) = self.slots.get_mut(&named) else {
                continue;
            };
            match &mut slot.hold {
                Hold::Owned { member, since, .. } => {
                    *since = generation;
                    let seek = AssignedPartition {
                        topic: topic.clone(),
                        topic_id: *topic_id,
                        partition,
                        offset,
                    };
                    seeks.entry(*member).or_default().push(seek);
                }
                // Its owner is on the way out and is told nothing; the next one starts at the offset.
                Hold::Revoking { commits, .. } => *commits = Commits::Refused,
                Hold::Free | Hold::Resolving { .. } => {
                    waiting.insert(named);
                }
            }
        }
        for (member, partitions) in seeks {
            let mut rest = partitions.as_slice();
            while !rest.is_empty() {
                let (now, later) = rest.split_at(rest.len().min(PARTITIONS_PER_MESSAGE));
                let generation = if later.is_empty() {
                    generation
                } else {
                    generation.saturating_sub(1)
                };
                turn.send(
                    member,
                    CoordinatorMessage::Seek {
                        generation,
                        partitions: now.to_vec(),
                    },
                );
                rest = later;
            }
        }
        self.settle_these(&waiting, turn);
        response
    }
}
