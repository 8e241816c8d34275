//! The bounds that a coordinator keeps.

use millstream_protocol::limits::{MAX_BODY_BYTES, MAX_NAME_BYTES};

/// Groups of one coordinator, those without members included.
pub const DEFAULT_GROUPS: usize = 10_000;

/// Members of one group.
pub const DEFAULT_MEMBERS_PER_GROUP: usize = 1_000;

/// Topics that one member subscribes to.
pub const DEFAULT_TOPICS_PER_MEMBER: usize = 256;

/// Partitions in one message to a member; what is more comes in further messages.
pub const PARTITIONS_PER_MESSAGE: usize = 1_000;

/// The most that one partition takes in a message: its topic's name with its length, the topic's
/// id, the partition and an offset.
const PARTITION_BYTES: usize = (MAX_NAME_BYTES + 2) + 17 + 5 + 10;

const _: () = assert!(PARTITIONS_PER_MESSAGE * PARTITION_BYTES + 64 <= MAX_BODY_BYTES);

/// What a coordinator refuses to go beyond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Groups, those without members included. Default [`DEFAULT_GROUPS`].
    pub groups: usize,
    /// Members of one group. Default [`DEFAULT_MEMBERS_PER_GROUP`].
    pub members_per_group: usize,
    /// Topics that one member subscribes to. Default [`DEFAULT_TOPICS_PER_MEMBER`].
    pub topics_per_member: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            groups: DEFAULT_GROUPS,
            members_per_group: DEFAULT_MEMBERS_PER_GROUP,
            topics_per_member: DEFAULT_TOPICS_PER_MEMBER,
        }
    }
}
