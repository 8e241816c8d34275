//! Offsets by position or time, and the deletion of records below an offset.

use serde::{Deserialize, Serialize};

use crate::error::WireError;
use crate::ids::{Offset, PartitionIndex, TimestampMs};

/// A place in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Position {
    /// The first record still there.
    Earliest,
    /// Behind the last visible record.
    Latest,
    /// This offset.
    Offset(Offset),
    /// The first record whose timestamp is at or after this.
    Time(TimestampMs),
}

/// Asks where positions are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListOffsets {
    /// The topic's name.
    pub topic: String,
    /// Pairs of partition and position. At most
    /// [`MAX_ITEMS_PER_REQUEST`](crate::limits::MAX_ITEMS_PER_REQUEST).
    pub positions: Vec<(PartitionIndex, Position)>,
}

/// The answer to [`ListOffsets`], in the order asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListOffsetsResponse {
    /// One answer per question.
    pub offsets: Vec<Result<ListedOffset, WireError>>,
}

/// Where a position is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedOffset {
    /// The partition.
    pub partition: PartitionIndex,
    /// The offset: for a time past the last record, the high watermark.
    pub offset: Offset,
    /// The first offset still there.
    pub log_start_offset: Offset,
    /// Records below are visible.
    pub high_watermark: Offset,
}

/// Forgets the records below an offset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteRecords {
    /// The topic's name.
    pub topic: String,
    /// The partition.
    pub partition: PartitionIndex,
    /// Records below go; at most the high watermark.
    pub before_offset: Offset,
}

/// The answer to [`DeleteRecords`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteRecordsResponse {
    /// The first offset still there.
    pub log_start_offset: Offset,
}
