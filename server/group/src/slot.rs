//! One partition within a group: who shall own it, and who does.

use millstream_planted::planted;
use millstream_protocol::api::group::Generation;
use millstream_protocol::api::offsets::Position;
use millstream_protocol::{Offset, TopicId};

use crate::member::MemberHandle;

/// Who shall own a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// Nobody, while no member is where the partition is led.
    pub(crate) member: Option<MemberHandle>,
    /// The topic that has the partition's name now.
    pub(crate) topic_id: TopicId,
    /// Where the group starts in a partition without a committed offset.
    pub(crate) start: Position,
}

impl Target {
    fn is(&self, member: MemberHandle, topic_id: TopicId) -> bool {
        (self.member, self.topic_id) == (Some(member), topic_id)
    }
}

/// Who has a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hold {
    /// Nobody.
    Free,
    /// Nobody, until the shell knows the offset of `position`.
    Resolving {
        topic_id: TopicId,
        position: Position,
    },
    /// `member`, whose commits count from generation `since`.
    Owned {
        member: MemberHandle,
        topic_id: TopicId,
        since: Generation,
    },
    /// `member` still, which was asked in generation `asked` to release it.
    Revoking {
        member: MemberHandle,
        topic_id: TopicId,
        asked: Generation,
        commits: Commits,
    },
}

/// Whether the commits of a member that is to release a partition are still taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Commits {
    /// Yes, from this generation on: it commits what it finishes.
    Since(Generation),
    /// No: the partition was reset meanwhile, of which it is not told.
    Refused,
}

/// A partition of a group, under its topic's *name*: a topic that is deleted and created again is
/// handed over like any other move, so that a late commit to the old one cannot reach the new one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slot {
    pub(crate) target: Option<Target>,
    pub(crate) hold: Hold,
}

/// What follows from settling a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing.
    Stay,
    /// It is of no more concern.
    Drop,
    /// Its owner is asked to release it.
    Revoke { member: MemberHandle },
    /// It goes to its target.
    Assign {
        member: MemberHandle,
        topic_id: TopicId,
        offset: Offset,
    },
    /// Its start is asked for.
    Resolve { target: Target },
}

impl Slot {
    /// A slot that nobody has.
    pub(crate) fn free() -> Self {
        Self {
            target: None,
            hold: Hold::Free,
        }
    }

    /// Who has the partition now, of which topic.
    pub(crate) fn owner(&self) -> Option<(MemberHandle, TopicId)> {
        match self.hold {
            Hold::Owned {
                member, topic_id, ..
            }
            | Hold::Revoking {
                member, topic_id, ..
            } => Some((member, topic_id)),
            Hold::Free | Hold::Resolving { .. } => None,
        }
    }

    /// Whether this member shall own the partition.
    pub(crate) fn is_meant_for(&self, member: MemberHandle) -> bool {
        self.target
            .is_some_and(|target| target.member == Some(member))
    }

    /// The generation from which its owner's commits are taken, if they are.
    pub(crate) fn commits_since(&self) -> Option<Generation> {
        match self.hold {
            Hold::Owned { since, .. }
            | Hold::Revoking {
                commits: Commits::Since(since),
                ..
            } => Some(since),
            Hold::Free
            | Hold::Resolving { .. }
            | Hold::Revoking {
                commits: Commits::Refused,
                ..
            } => None,
        }
    }

    /// Whether who shall own it does, or nobody shall and nobody does.
    pub(crate) fn is_settled(&self) -> bool {
        match self.hold {
            Hold::Owned {
                member, topic_id, ..
            } => self
                .target
                .is_some_and(|target| target.is(member, topic_id)),
            Hold::Free => self.target.is_some_and(|target| target.member.is_none()),
            Hold::Resolving { .. } | Hold::Revoking { .. } => false,
        }
    }

    /// Brings the slot one step nearer to its target, in `generation`. `committed` is the group's
    /// offset in the target's partition.
    pub(crate) fn settle(&mut self, generation: Generation, committed: Option<Offset>) -> Step {
        match (self.hold, self.target) {
            (Hold::Revoking { .. }, _) => Step::Stay,
            (Hold::Owned { .. }, _) if self.is_settled() => Step::Stay,
            (
                Hold::Owned {
                    member,
                    topic_id,
                    since,
                },
                _,
            ) => {
                if let (true, Some(target)) = (planted!(AssignBeforeRelease), self.target) {
                    return self.give(target, generation, committed);
                }
                let (asked, commits) = (generation, Commits::Since(since));
                self.hold = Hold::Revoking {
                    member,
                    topic_id,
                    asked,
                    commits,
                };
                Step::Revoke { member }
            }
            (Hold::Free | Hold::Resolving { .. }, None) => Step::Drop,
            (Hold::Free | Hold::Resolving { .. }, Some(target)) => {
                self.give(target, generation, committed)
            }
        }
    }

    fn give(&mut self, target: Target, generation: Generation, committed: Option<Offset>) -> Step {
        let Target {
            member,
            topic_id,
            start: position,
        } = target;
        if let Some(offset) = committed {
            let Some(member) = member else {
                self.hold = Hold::Free;
                return Step::Stay;
            };
            self.hold = Hold::Owned {
                member,
                topic_id,
                since: generation,
            };
            return Step::Assign {
                member,
                topic_id,
                offset,
            };
        }
        // A start that is being found out stays asked for, whoever the target is by now.
        if matches!(self.hold, Hold::Resolving { topic_id: asked, .. } if asked == topic_id) {
            return Step::Stay;
        }
        self.hold = Hold::Resolving { topic_id, position };
        Step::Resolve { target }
    }
}
