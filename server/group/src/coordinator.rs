//! The entry points: one method per request.

use std::collections::BTreeMap;

use millstream_planted::planted;
use millstream_protocol::api::group::{Generation, MemberKind, NamedPartition, OffsetCommit};
use millstream_protocol::limits::MAX_NAME_BYTES;
use millstream_protocol::{TimestampMs, TopicId};

use crate::effect::{Outcome, ResolvedStart, Turn};
use crate::error::{
    DeleteGroupError, GroupNotEmpty, InvalidName, JoinError, OverLimit, UnknownGroup,
    UnknownMember, UnknownTopic,
};
use crate::group::Group;
use crate::limits::Limits;
use crate::member::{Join, Member, MemberHandle};
use crate::record::Record;
use crate::topics::{Topic, Topics};

/// The coordinator of the groups in one partition of the offsets topic. See the [crate] for the
/// contract with the shell.
pub struct Coordinator {
    pub(crate) limits: Limits,
    pub(crate) topics: Topics,
    pub(crate) groups: BTreeMap<String, Group>,
    /// The group of every member.
    pub(crate) members: BTreeMap<MemberHandle, String>,
}

impl Coordinator {
    /// A coordinator without groups, which knows these topics. The shell replays the log into it
    /// before the first request.
    pub fn new(limits: Limits, topics: impl IntoIterator<Item = Topic>) -> Self {
        let mut known = Topics::default();
        for topic in topics {
            known.insert(topic);
        }
        Self {
            limits,
            topics: known,
            groups: BTreeMap::new(),
            members: BTreeMap::new(),
        }
    }

    /// Takes in a record from the log. Called by the shell on load alone: in live traffic every
    /// method has replayed what it returns.
    pub fn replay(&mut self, record: &Record) {
        let name = record.group();
        if planted!(ForgetGenerations) && matches!(record, Record::Group { .. }) {
            return;
        }
        let group = self
            .groups
            .entry(name.to_owned())
            .or_insert_with(|| Group::new(name));
        group.durable.replay(record);
        self.reap(record.group());
    }

    /// The durable state as records: replayed into a new coordinator they make it again.
    pub fn snapshot(&self) -> Vec<Record> {
        self.groups
            .values()
            .flat_map(|group| group.durable.records(&group.name))
            .collect()
    }

    /// A member joins. It is sent `Joined` and then what it owns: nothing yet (no `Assign`) while
    /// its partitions are on their way to it, or an empty `Assign` if it stands by.
    pub fn join(&mut self, join: Join) -> Outcome<Result<(), JoinError>> {
        let mut turn = Turn::timeless();
        if let Err(error) = self.check_join(&join) {
            return turn.answer(Err(error));
        }
        let name = join.group.clone();
        let handle = join.member;
        self.members.insert(handle, name.clone());
        let group = self
            .groups
            .entry(name)
            .or_insert_with_key(|name| Group::new(name));
        group.add_member(handle, Member::new(join), &self.topics, &mut turn);
        turn.answer(Ok(()))
    }

    /// A member has left, or its stream or connection has ended: its partitions go to others at
    /// once. A member that is not there is gone already, and nothing happens.
    pub fn leave(&mut self, member: MemberHandle) -> Outcome<()> {
        let mut turn = Turn::timeless();
        if let Some(name) = self.members.remove(&member) {
            if let Some(group) = self.groups.get_mut(&name) {
                group.remove_member(member, &self.topics, &mut turn);
            }
            self.reap(&name);
        }
        turn.answer(())
    }

    /// A member works no longer on revoked partitions: they go to their next owner. What it does
    /// not hold, or was not asked for by `generation`, is passed over: a repeated release must not
    /// take away what came back to the member meanwhile.
    pub fn released(
        &mut self,
        member: MemberHandle,
        generation: Generation,
        partitions: &[NamedPartition],
    ) -> Outcome<Result<(), UnknownMember>> {
        let mut turn = Turn::timeless();
        let Some(group) = self.group_of(member) else {
            return turn.answer(Err(UnknownMember { member }));
        };
        group.release(member, generation, partitions, &mut turn);
        turn.answer(Ok(()))
    }

    /// A member commits offsets of partitions that it owns: all of them or none. The answer is a
    /// `Committed` to the member, in order.
    ///
    /// `generation` is the newest one that the member has seen on its stream when it commits. It
    /// is what tells a commit made before a reset from one made after it.
    pub fn commit(
        &mut self,
        member: MemberHandle,
        generation: Generation,
        offsets: Vec<OffsetCommit>,
        now_ms: TimestampMs,
    ) -> Outcome<Result<(), UnknownMember>> {
        let mut turn = Turn::at(now_ms);
        let Some(name) = self.members.get(&member) else {
            return turn.answer(Err(UnknownMember { member }));
        };
        if let Some(group) = self.groups.get_mut(name) {
            group.commit(member, generation, offsets, &self.topics, &mut turn);
        }
        turn.answer(Ok(()))
    }

    /// The shell knows the offsets of starts that [`crate::Effect::ResolveStarts`] asked for. Each
    /// is committed, and its partition assigned. An answer that no partition waits for any more is
    /// passed over.
    pub fn starts_resolved(
        &mut self,
        group: &str,
        starts: Vec<ResolvedStart>,
        now_ms: TimestampMs,
    ) -> Outcome<()> {
        let mut turn = Turn::at(now_ms);
        if let Some(group) = self.groups.get_mut(group) {
            group.start(starts, &mut turn);
        }
        turn.answer(())
    }

    /// A topic was created, has more partitions, or other leaders. If the topic of that name had
    /// another identity, that one is deleted.
    ///
    /// What other brokers lead goes from workers on the old ones to workers on the new ones; the
    /// rest stays where it is, and the cost is that of what has changed.
    ///
    /// Partitions that are added while a group consumes the topic are read from their beginning:
    /// with `Latest` a group would miss what is produced before it hears of them.
    pub fn topic_updated(&mut self, topic: Topic, now_ms: TimestampMs) -> Outcome<()> {
        let mut turn = Turn::at(now_ms);
        let before = self.topics.get(&topic.name).cloned();
        if let Some(replaced) = before
            .as_ref()
            .filter(|before| before.topic_id != topic.topic_id)
        {
            self.delete_topic(replaced.topic_id, &mut turn);
        }
        let before = before.filter(|before| before.topic_id == topic.topic_id);
        self.topics.insert(topic.clone());
        match before {
            Some(before) if before.partitions == topic.partitions => {
                let moved = topic.led_otherwise(&before);
                for group in self.groups.values_mut().filter(|_| !moved.is_empty()) {
                    group.follow_leaders(&topic, &moved, &mut turn);
                }
            }
            before => {
                let born = before.map_or(0, |before| before.partitions);
                for group in self.groups.values_mut() {
                    group.topic_grew(&topic, born, &self.topics, &mut turn);
                }
            }
        }
        turn.answer(())
    }

    /// A topic was deleted: the groups' offsets in it are forgotten, its owners asked to release.
    pub fn topic_deleted(&mut self, topic_id: TopicId) -> Outcome<()> {
        let mut turn = Turn::timeless();
        self.delete_topic(topic_id, &mut turn);
        turn.answer(())
    }

    /// Forgets offsets in topics that are not known, such as those that were deleted while the
    /// coordinator was not loaded. To be called after loading, and only when the topics given to
    /// [`Coordinator::new`] were the cluster's at that moment: from a stale list it would forget
    /// the offsets of a new topic.
    pub fn forget_unknown_topics(&mut self) -> Outcome<()> {
        let mut turn = Turn::timeless();
        for group in self.groups.values_mut() {
            let unknown: Vec<_> = group
                .durable
                .offsets()
                .filter(|(partition, committed)| {
                    !self.topics.is_current(&committed.topic, partition.topic_id)
                })
                .map(|(partition, _)| partition)
                .collect();
            group.forget(&unknown, &mut turn);
        }
        self.reap_all();
        turn.answer(())
    }

    /// Deletes a group without members, and its offsets.
    pub fn delete_group(&mut self, name: &str) -> Outcome<Result<(), DeleteGroupError>> {
        let mut turn = Turn::timeless();
        let Some(group) = self.groups.get_mut(name) else {
            return turn.answer(Err(UnknownGroup {
                group: name.to_owned(),
            }
            .into()));
        };
        if let Err(error) = group.check_empty() {
            return turn.answer(Err(error.into()));
        }
        let partitions: Vec<_> = group
            .durable
            .offsets()
            .map(|(partition, _)| partition)
            .collect();
        group.forget(&partitions, &mut turn);
        // Last: while it is not durable, a part of the group is still there to be deleted again.
        turn.write(
            &mut group.durable,
            Record::Group {
                group: name.to_owned(),
                generation: None,
            },
        );
        self.reap(name);
        turn.answer(Ok(()))
    }

    fn delete_topic(&mut self, topic_id: TopicId, turn: &mut Turn) {
        let Some(topic) = self.topics.remove(topic_id) else {
            return;
        };
        for group in self.groups.values_mut() {
            group.topic_deleted(&topic, &self.topics, turn);
        }
        self.reap_all();
    }

    fn group_of(&mut self, member: MemberHandle) -> Option<&mut Group> {
        self.groups.get_mut(self.members.get(&member)?)
    }

    /// Forgets the group of this name if there is nothing to know about it.
    pub(crate) fn reap(&mut self, name: &str) {
        if self.groups.get(name).is_some_and(Group::is_nothing) {
            self.groups.remove(name);
        }
    }

    fn reap_all(&mut self) {
        self.groups.retain(|_, group| !group.is_nothing());
    }

    /// Refuses one more group than there may be.
    pub(crate) fn check_room_for(&self, group: &str) -> Result<(), OverLimit> {
        if !self.groups.contains_key(group) && self.groups.len() >= self.limits.groups {
            return Err(OverLimit {
                what: "groups",
                limit: self.limits.groups,
            });
        }
        Ok(())
    }

    fn check_join(&self, join: &Join) -> Result<(), JoinError> {
        check_name("group's", &join.group)?;
        check_name("member's", &join.member_name)?;
        if self.members.contains_key(&join.member) {
            return Err(JoinError::JoinedBefore {
                member: join.member,
            });
        }
        if join.topics.is_empty() {
            return Err(JoinError::NoTopics);
        }
        if join.topics.len() > self.limits.topics_per_member {
            return Err(OverLimit {
                what: "topics of one member",
                limit: self.limits.topics_per_member,
            }
            .into());
        }
        if let Some(topic) = join
            .topics
            .iter()
            .find(|topic| self.topics.get(topic).is_none())
        {
            return Err(UnknownTopic {
                topic: topic.clone(),
            }
            .into());
        }
        self.check_room_for(&join.group)?;
        let Some(group) = self.groups.get(&join.group) else {
            return Ok(());
        };
        if group.members.len() >= self.limits.members_per_group {
            return Err(OverLimit {
                what: "members of one group",
                limit: self.limits.members_per_group,
            }
            .into());
        }
        // Members of one kind: a worker's progress is its deployment's, which a client would fork.
        match group.members.values().next().map(|member| member.kind) {
            Some(MemberKind::Worker) if join.kind == MemberKind::Client => {
                Err(JoinError::OwnedByDeployment {
                    group: join.group.clone(),
                })
            }
            Some(MemberKind::Client) if join.kind == MemberKind::Worker => {
                Err(JoinError::HeldByClients {
                    group: join.group.clone(),
                })
            }
            _ => Ok(()),
        }
    }
}

impl Group {
    /// Whether nothing is to be known about it: no member, no offset, no generation.
    fn is_nothing(&self) -> bool {
        self.members.is_empty() && self.durable.is_empty()
    }

    /// Refuses what needs a group without members.
    pub(crate) fn check_empty(&self) -> Result<(), GroupNotEmpty> {
        match self.members.len() {
            0 => Ok(()),
            members => Err(GroupNotEmpty {
                group: self.name.clone(),
                members,
            }),
        }
    }
}

/// Refuses a name that is empty, too long or unfit for a listing.
pub(crate) fn check_name(what: &'static str, name: &str) -> Result<(), InvalidName> {
    let reason = if name.is_empty() {
        "is empty"
    } else if name.len() > MAX_NAME_BYTES {
        "is too long"
    } else if name.chars().any(char::is_control) {
        "has control characters"
    } else {
        return Ok(());
    };
    Err(InvalidName { what, reason })
}
