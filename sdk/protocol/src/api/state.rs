//! What the workers of a deployment remember, for a person.

use serde::{Deserialize, Serialize};

use crate::ids::{Offset, PartitionIndex};

/// Opens a stream of state: for each worker one [`StateFrame::Worker`], and behind it its entries.
/// The state of each worker is that of one moment, however long the reading takes. The broker closes
/// the stream at the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenState {
    /// Which deployment.
    pub name: String,
    /// Of the workers at this topic; `None`: at all.
    pub topic: Option<String>,
    /// Of the workers at this partition; `None`: at all.
    pub partition: Option<PartitionIndex>,
    /// Which entries.
    pub query: StateQuery,
}

/// Which entries of a state are wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StateQuery {
    /// The one with this key.
    Key(Vec<u8>),
    /// Those whose keys begin with these bytes, in the order of the keys' bytes.
    Prefix {
        /// The bytes; none: all entries.
        prefix: Vec<u8>,
        /// At most so many of each worker.
        limit: u64,
    },
}

/// One frame of a stream of state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StateFrame {
    /// The entries that follow are of this worker.
    Worker(StateOrigin),
    /// Entries: the frame's payload holds the key and the value of each, one behind the other. At
    /// most [`MAX_STATE_PAYLOAD_BYTES`](crate::limits::MAX_STATE_PAYLOAD_BYTES).
    Entries(Vec<StateEntrySize>),
}

/// Whose state it is, and of when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateOrigin {
    /// The input topic.
    pub topic: String,
    /// The input partition.
    pub partition: PartitionIndex,
    /// It is what the records of the input below this offset have led to. One that waits to be tried
    /// again has left no trace.
    pub offset: Offset,
}

/// What an entry takes in the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateEntrySize {
    /// The key, bytes.
    pub key_bytes: u32,
    /// The value, bytes.
    pub value_bytes: u32,
}
