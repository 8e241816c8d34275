//! Commits: of a member for what it owns, and from outside for a group without members.

use millstream_protocol::TimestampMs;
use millstream_protocol::api::group::{
    CommitOffsets, CoordinatorMessage, Generation, NamedPartition, OffsetCommit,
};
use millstream_protocol::limits::{MAX_COMMIT_METADATA_BYTES, MAX_ITEMS_PER_REQUEST};

use crate::coordinator::{Coordinator, check_name};
use crate::effect::{Outcome, Turn};
use crate::error::{
    Coded, CommitError, CommitOffsetsError, OffsetsError, OverLimit, UnknownPartition, UnknownTopic,
};
use crate::group::Group;
use crate::member::MemberHandle;
use crate::record::CommittedOffset;
use crate::slot::Slot;
use crate::topics::{Topic, Topics};

impl Coordinator {
    /// Commits offsets for a group from outside: all of them or none. Makes the group if there is
    /// none. Refused while it has members.
    pub fn commit_offsets(
        &mut self,
        request: CommitOffsets,
        now_ms: TimestampMs,
    ) -> Outcome<Result<(), CommitOffsetsError>> {
        let mut turn = Turn::at(now_ms);
        let response = self.commit_from_outside(request, &mut turn);
        turn.answer(response)
    }

    fn commit_from_outside(
        &mut self,
        request: CommitOffsets,
        turn: &mut Turn,
    ) -> Result<(), CommitOffsetsError> {
        let CommitOffsets {
            group: name,
            offsets,
        } = request;
        check_name("group's", &name)?;
        self.check_room_for(&name)?;
        if let Some(group) = self.groups.get(&name) {
            group.check_empty()?;
        }
        check_offsets(&offsets, &self.topics)?;
        let group = self
            .groups
            .entry(name.clone())
            .or_insert_with_key(|name| Group::new(name));
        group.write_offsets(offsets, &self.topics, turn);
        self.reap(&name);
        Ok(())
    }
}

impl Group {
    /// A member's commit. The answer, good or bad, is a message to it.
    pub(crate) fn commit(
        &mut self,
        member: MemberHandle,
        generation: Generation,
        offsets: Vec<OffsetCommit>,
        topics: &Topics,
        turn: &mut Turn,
    ) {
        let result = self.check_commit(member, generation, &offsets, topics);
        if result.is_ok() {
            self.write_offsets(offsets, topics, turn);
        }
        turn.send(
            member,
            CoordinatorMessage::Committed(result.map_err(|error| error.to_wire())),
        );
    }

    fn check_commit(
        &self,
        member: MemberHandle,
        generation: Generation,
        offsets: &[OffsetCommit],
        topics: &Topics,
    ) -> Result<(), CommitError> {
        check_offsets(offsets, topics)?;
        for OffsetCommit {
            topic, partition, ..
        } in offsets
        {
            let named = NamedPartition {
                topic: topic.clone(),
                partition: *partition,
            };
            // What it holds may be a partition of a deleted topic whose name another one has now.
            let slot = self.slots.get(&named).filter(|slot| {
                slot.owner()
                    .is_some_and(|(owner, id)| owner == member && topics.is_current(topic, id))
            });
            let since = slot.and_then(Slot::commits_since);
            let NamedPartition { topic, partition } = named;
            match since {
                None => return Err(CommitError::NotOwned { topic, partition }),
                Some(since) if generation < since => {
                    return Err(CommitError::Stale {
                        topic,
                        partition,
                        generation,
                        since,
                    });
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// Commits offsets that have been checked.
    fn write_offsets(&mut self, offsets: Vec<OffsetCommit>, topics: &Topics, turn: &mut Turn) {
        let committed_at_ms = turn.now_ms();
        for OffsetCommit {
            topic,
            partition,
            offset,
            metadata,
        } in offsets
        {
            let Some(topic_id) = topics.get(&topic).map(|topic| topic.topic_id) else {
                continue;
            };
            let committed = CommittedOffset {
                topic,
                offset,
                metadata,
                committed_at_ms,
            };
            self.commit_offset(topic_id, partition, committed, turn);
        }
    }
}

fn check_offsets(offsets: &[OffsetCommit], topics: &Topics) -> Result<(), OffsetsError> {
    if offsets.len() > MAX_ITEMS_PER_REQUEST {
        return Err(OverLimit {
            what: "offsets in one commit",
            limit: MAX_ITEMS_PER_REQUEST,
        }
        .into());
    }
    for OffsetCommit {
        topic,
        partition,
        metadata,
        ..
    } in offsets
    {
        if metadata.len() > MAX_COMMIT_METADATA_BYTES {
            let what = "bytes of metadata with one offset";
            return Err(OverLimit {
                what,
                limit: MAX_COMMIT_METADATA_BYTES,
            }
            .into());
        }
        let known = topics.get(topic).ok_or_else(|| UnknownTopic {
            topic: topic.clone(),
        })?;
        check_partition(known, *partition)?;
    }
    Ok(())
}

/// Refuses a partition that the topic does not have.
pub(crate) fn check_partition(topic: &Topic, partition: u32) -> Result<(), UnknownPartition> {
    if partition < topic.partitions {
        return Ok(());
    }
    Err(UnknownPartition {
        topic: topic.name.clone(),
        partition,
    })
}
