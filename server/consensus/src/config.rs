//! What a node is told about itself.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use millstream_log::storage::Storage;
use millstream_protocol::TimestampMs;
use uuid::Uuid;

use crate::limits::Limits;
use crate::timing::DEADLINE;

/// A node's number, which it keeps for life: a broker's, widened.
pub type NodeId = u64;

/// What a node is started with.
#[derive(Clone, Debug)]
pub struct Config {
    /// The cluster's identity. Bound to the directory, and part of every message.
    pub cluster_id: Uuid,
    /// This node's number. Bound to the directory.
    pub node_id: NodeId,
    /// Where its files are.
    pub storage: Arc<dyn Storage>,
    /// Its own directory, which is made if there is none, in one that exists.
    pub dir: PathBuf,
    /// What it goes beyond for nobody.
    pub limits: Limits,
    /// How long a proposal, a read or a change of members may take.
    pub deadline: Duration,
    /// A number that others cannot guess. The log's salt, and where in its window the node waits for
    /// a leader, come of it.
    pub seed: u64,
    /// The time of day, milliseconds since the Unix epoch: entries are stamped with it.
    pub clock: fn() -> TimestampMs,
}

impl Config {
    /// A node with the default limits and deadline, and the system's clock.
    pub fn new(
        cluster_id: Uuid,
        node_id: NodeId,
        storage: Arc<dyn Storage>,
        dir: impl Into<PathBuf>,
        seed: u64,
    ) -> Self {
        Self {
            cluster_id,
            node_id,
            storage,
            dir: dir.into(),
            limits: Limits::default(),
            deadline: DEADLINE,
            seed,
            clock: system_clock,
        }
    }
}

fn system_clock() -> TimestampMs {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        TimestampMs::try_from(since.as_millis()).unwrap_or(TimestampMs::MAX)
    })
}
