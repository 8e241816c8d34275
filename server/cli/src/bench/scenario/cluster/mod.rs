//! Three brokers that keep the same partitions, beside one broker.
//!
//! - [`trio`]: the three, as processes
//! - [`load`]: what replication costs, a follower that stalls, one that catches up
//! - [`failures`]: many partitions, and brokers that are killed

pub(super) mod failures;
pub(super) mod load;
mod trio;

/// Bytes of a record.
const RECORD_BYTES: usize = 1024;
