//! Consumer groups: the member's stream, and the administration of groups.
//!
//! ```text
//! member                         broker
//! OpenGroup                  ->
//!                            <-  Ok(Joined)
//!                            <-  Ok(Assign)                 what it owns from now on
//! Commit                     ->
//!                            <-  Ok(Committed)
//!                            <-  Ok(Revoke)                 only what moves
//! Released                   ->                             after its last commit
//!                            <-  Ok(Assign)
//! Leave                      ->                             or the connection ends
//! ```
//!
//! The member is alive while its connection is: there is no heartbeat to send and no session
//! time-out to tune. An error on the stream ends the membership; the client joins again.

use serde::{Deserialize, Serialize};

use crate::api::offsets::Position;
use crate::error::WireError;
use crate::ids::{Offset, PartitionIndex, TimestampMs, TopicId};

/// Counts a group's assignments. Never a partition's *leader epoch*.
pub type Generation = u32;

/// Joins a group: opens the member's stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenGroup {
    /// The group's name; it is made by its first member.
    pub group: String,
    /// The member's name for itself, for listings. A member that comes back under the same name
    /// gets its partitions back where it can.
    pub member_name: String,
    /// The topics it consumes, by name.
    pub topics: Vec<String>,
    /// Where to start in a partition without a committed offset.
    pub start: Position,
}

/// A partition by its topic's name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NamedPartition {
    /// The topic's name.
    pub topic: String,
    /// The partition.
    pub partition: PartitionIndex,
}

/// What a member sends on its stream after [`OpenGroup`]. Grows only at the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MemberMessage {
    /// Commits offsets of partitions it owns: all of them or none. Answered in order.
    Commit {
        /// The newest generation that the member has seen on its stream ([`CoordinatorMessage`]):
        /// it tells a commit made before a reset from one made after it.
        generation: Generation,
        /// The offsets.
        offsets: Vec<OffsetCommit>,
    },
    /// It no longer works on these revoked partitions: give them to their next owner.
    Released {
        /// The generation of the [`CoordinatorMessage::Revoke`] that asked for it.
        generation: Generation,
        /// The partitions.
        partitions: Vec<NamedPartition>,
    },
    /// It leaves for good.
    Leave,
}

/// One offset to commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OffsetCommit {
    /// The topic's name.
    pub topic: String,
    /// The partition.
    pub partition: PartitionIndex,
    /// The next offset to read.
    pub offset: Offset,
    /// Anything the consumer wants to keep beside it; at most
    /// [`MAX_COMMIT_METADATA_BYTES`](crate::limits::MAX_COMMIT_METADATA_BYTES). Beside one that the group was
    /// reset to it is [`RESET_METADATA`].
    pub metadata: String,
}

/// What is beside an offset that a group was reset to, until a consumer commits another one.
pub const RESET_METADATA: &str = "reset";

/// What the broker sends on a member's stream. Grows only at the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CoordinatorMessage {
    /// The member is in; the first message on every stream.
    Joined {
        /// The member's id in this group, unique.
        member_id: String,
        /// The group's generation.
        generation: Generation,
    },
    /// The member owns these from now on, in addition to what it owned. Empty: it stands by.
    Assign {
        /// The group's generation.
        generation: Generation,
        /// The partitions, and where to start in each.
        partitions: Vec<AssignedPartition>,
    },
    /// The member must finish with these, commit, and say [`MemberMessage::Released`].
    Revoke {
        /// The group's generation.
        generation: Generation,
        /// The partitions.
        partitions: Vec<NamedPartition>,
    },
    /// The oldest unanswered [`MemberMessage::Commit`] is durable, or what is wrong with it.
    Committed(Result<(), WireError>),
    /// Start again at these offsets (the group was reset); no release is needed.
    Seek {
        /// The group's generation.
        generation: Generation,
        /// The partitions and their new starts.
        partitions: Vec<AssignedPartition>,
    },
}

/// A partition with the offset to start at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssignedPartition {
    /// The topic's name.
    pub topic: String,
    /// The topic's identity.
    pub topic_id: TopicId,
    /// The partition.
    pub partition: PartitionIndex,
    /// The next offset to read.
    pub offset: Offset,
}

/// Asks for all groups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListGroups {
    /// Only the ones behind this name: where an earlier response ended.
    pub after: Option<String>,
}

/// The answer to [`ListGroups`], in name order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListGroupsResponse {
    /// The groups.
    pub groups: Vec<ListedGroup>,
    /// There are more behind the last one.
    pub more: bool,
}

/// What a group is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GroupState {
    /// It has no members; its offsets are kept.
    Empty,
    /// Some partitions are on their way from one member to another.
    Rebalancing,
    /// Every partition has its owner.
    Stable,
}

/// One group, briefly.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedGroup {
    /// Its name.
    pub group: String,
    /// What it is doing.
    pub state: GroupState,
    /// How many members it has.
    pub members: u32,
    /// Its generation.
    pub generation: Generation,
}

/// Asks for one group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DescribeGroup {
    /// Which group.
    pub group: String,
}

/// One group with its members and lag.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupDescription {
    /// Its name.
    pub group: String,
    /// What it is doing.
    pub state: GroupState,
    /// Its generation.
    pub generation: Generation,
    /// Its members.
    pub members: Vec<MemberDescription>,
    /// Every partition it consumes or has an offset for.
    pub partitions: Vec<GroupPartition>,
}

/// What a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MemberKind {
    /// A client on a connection.
    Client,
    /// A hosted WebAssembly worker.
    Worker,
}

/// One member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberDescription {
    /// Its id in this group.
    pub member_id: String,
    /// Its name for itself.
    pub member_name: String,
    /// The principal of its connection; for a worker, the deployment's.
    pub principal: String,
    /// Client or worker.
    pub kind: MemberKind,
    /// What it owns; empty when it stands by.
    pub owned: Vec<NamedPartition>,
}

/// A group's progress in one partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupPartition {
    /// The topic's name.
    pub topic: String,
    /// The partition.
    pub partition: PartitionIndex,
    /// The member that owns it.
    pub owner: Option<String>,
    /// The next offset to read, if one was committed.
    pub committed_offset: Option<Offset>,
    /// When it was committed.
    pub committed_at_ms: Option<TimestampMs>,
    /// Beside the offset.
    pub metadata: String,
    /// Records below are visible.
    pub high_watermark: Offset,
    /// Records still to be read: high watermark less committed offset (or the log's start).
    pub lag: u64,
}

/// Commits offsets for a group without being a member. Refused while the group has members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitOffsets {
    /// Which group.
    pub group: String,
    /// The offsets.
    pub offsets: Vec<OffsetCommit>,
}

/// Asks for a group's committed offsets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FetchOffsets {
    /// Which group.
    pub group: String,
}

/// The answer to [`FetchOffsets`]; empty for a group that has committed nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FetchOffsetsResponse {
    /// The offsets.
    pub offsets: Vec<OffsetCommit>,
}

/// Sets a group's offsets anew, also while it is live: members get a
/// [`CoordinatorMessage::Seek`] under a new generation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResetGroup {
    /// Which group.
    pub group: String,
    /// Which topic.
    pub topic: String,
    /// Which partitions; empty: all.
    pub partitions: Vec<PartitionIndex>,
    /// Where to.
    pub to: Position,
}

/// The answer to [`ResetGroup`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResetGroupResponse {
    /// The group's new generation.
    pub generation: Generation,
    /// The new offsets.
    pub offsets: Vec<OffsetCommit>,
}

/// Deletes a group without members, and its offsets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteGroup {
    /// Which group.
    pub group: String,
}
