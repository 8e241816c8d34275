//! What recovery and reads find broken.

use millstream_protocol::Offset;

/// Something that was durable is missing, or is not what was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}, from offset {offset}")]
pub struct Damage {
    /// The first offset concerned, as far as can be told.
    pub offset: Offset,
    /// What is wrong, naming the file: a lower-case fragment.
    pub what: String,
}
