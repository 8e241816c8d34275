//! A member, and the request by which it joins.

use std::collections::BTreeSet;
use std::fmt;

use millstream_protocol::api::group::{MemberDescription, MemberKind, NamedPartition};
use millstream_protocol::api::offsets::Position;

/// The shell's handle of a member's stream: unique among the streams of a broker for as long as it
/// runs, and greater than those of streams that were there before. Where the shell seeds it from a clock or a counter that survives a restart, member ids
/// are unique for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MemberHandle(pub u64);

impl fmt::Display for MemberHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A request to join a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Join {
    /// The group's name. A group is made by its first member.
    pub group: String,
    /// The stream of the member-to-be.
    pub member: MemberHandle,
    /// The member's name for itself. Two members may have the same.
    pub member_name: String,
    /// The principal of its connection; for a worker, the deployment's.
    pub principal: String,
    /// Client or worker. A group has members of one kind.
    pub kind: MemberKind,
    /// The number of the broker on which a worker runs: it gets what that broker leads, and nothing
    /// else. A client has none.
    pub home: Option<u32>,
    /// The topics it consumes, by name. Repeated names count once.
    pub topics: Vec<String>,
    /// Where to start in a partition without a committed offset.
    pub start: Position,
}

/// One member of a group.
pub(crate) struct Member {
    pub(crate) member_id: String,
    pub(crate) member_name: String,
    pub(crate) principal: String,
    pub(crate) kind: MemberKind,
    pub(crate) home: Option<u32>,
    pub(crate) topics: BTreeSet<String>,
    pub(crate) start: Position,
}

impl Member {
    /// The member that `join` asks for.
    pub(crate) fn new(join: Join) -> Self {
        Self {
            member_id: format!("{}-{}", join.member_name, join.member),
            member_name: join.member_name,
            principal: join.principal,
            home: join.home.filter(|_| join.kind == MemberKind::Worker),
            kind: join.kind,
            topics: join.topics.into_iter().collect(),
            start: join.start,
        }
    }

    /// The member for a listing.
    pub(crate) fn describe(&self, owned: Vec<NamedPartition>) -> MemberDescription {
        MemberDescription {
            member_id: self.member_id.clone(),
            member_name: self.member_name.clone(),
            principal: self.principal.clone(),
            kind: self.kind,
            owned,
        }
    }
}
