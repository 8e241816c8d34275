//! Where a partition of a table is read: from this broker's replica, or from the partition's leader.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use millstream_protocol::{Offset, TopicPartition, WireError};
use millstream_state::JournalExtent;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::sleep;

use crate::leaders::{Extent, Leaders, Piece};
use crate::partition::{Closed, Partition, PartitionReader, ReplicaState, Standing, Visible};
use crate::workers::state::extent_of;

/// How often a leader is asked how far its partition reaches.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// A partition, as a table reads it.
#[derive(Clone)]
pub(super) enum Source {
    /// There is a replica here.
    Here(Partition),
    /// There is none.
    There(Arc<Mirror>),
}

/// Reads a partition in order.
pub(super) enum SourceReader {
    Here(PartitionReader),
    There(Arc<Mirror>),
}

/// What is known of a partition of which there is no replica here.
pub(super) struct Mirror {
    id: TopicPartition,
    topic: String,
    leaders: Arc<Leaders>,
    seen: Arc<Seen>,
    runtime: Handle,
    following: AbortHandle,
}

/// What its leader has told.
struct Seen {
    visible: watch::Sender<Visible>,
    gone_until: AtomicU64,
}

impl Source {
    pub(super) fn id(&self) -> TopicPartition {
        match self {
            Self::Here(partition) => partition.id(),
            Self::There(mirror) => mirror.id,
        }
    }

    pub(super) fn name(&self) -> String {
        match self {
            Self::Here(partition) => partition.name(),
            Self::There(mirror) => format!("{}-{}", mirror.topic, mirror.id.partition),
        }
    }

    pub(super) fn visible(&self) -> Visible {
        match self {
            Self::Here(partition) => partition.visible(),
            Self::There(mirror) => *mirror.seen.visible.borrow(),
        }
    }

    pub(super) fn watch(&self) -> watch::Receiver<Visible> {
        match self {
            Self::Here(partition) => partition.watch(),
            Self::There(mirror) => mirror.seen.visible.subscribe(),
        }
    }

    /// Deletions below may have been compacted away.
    pub(super) fn gone_until(&self) -> Offset {
        match self {
            Self::Here(partition) => partition.status().tombstones_gone_until,
            Self::There(mirror) => mirror.seen.gone_until.load(Ordering::Acquire),
        }
    }

    /// What there is of the log now. Blocks.
    pub(super) fn extent(&self) -> Result<JournalExtent, WireError> {
        match self {
            Self::Here(partition) => Ok(extent_of(partition)),
            Self::There(mirror) => {
                let extent = mirror.runtime.block_on(mirror.leaders.extent(mirror.id))?;
                mirror.seen.note(extent);
                Ok(JournalExtent {
                    start_offset: extent.start,
                    end_offset: extent.end,
                    tombstones_gone_until: extent.tombstones_gone_until,
                })
            }
        }
    }

    pub(super) fn reader(&self) -> SourceReader {
        match self {
            Self::Here(partition) => SourceReader::Here(partition.reader()),
            Self::There(mirror) => SourceReader::There(Arc::clone(mirror)),
        }
    }
}

impl SourceReader {
    /// Whole batches from the one that contains `offset`, visible ones only. Blocks.
    pub(super) fn read_blocking(&self, offset: Offset, max_bytes: u32) -> Result<Piece, WireError> {
        match self {
            Self::Here(reader) => {
                let read = reader.read_blocking(offset, max_bytes as usize)?;
                Ok(Piece {
                    batches: read.batches,
                    next_offset: read.next_offset,
                })
            }
            Self::There(mirror) => {
                let reading = mirror.leaders.read(mirror.id, offset, max_bytes);
                mirror.runtime.block_on(reading)
            }
        }
    }
}

impl Mirror {
    /// Begins to ask the leader of a partition how far it reaches.
    pub(super) fn new(id: TopicPartition, topic: String, leaders: Arc<Leaders>) -> Self {
        let seen = Arc::new(Seen {
            visible: watch::Sender::new(Visible {
                high_watermark: 0,
                log_start_offset: 0,
                standing: Standing::Following,
                replica: ReplicaState::Trusted,
                is_alone: false,
                closed: None,
            }),
            gone_until: AtomicU64::new(0),
        });
        let following = tokio::spawn(follow(id, Arc::clone(&leaders), Arc::clone(&seen)));
        Self {
            id,
            topic,
            leaders,
            seen,
            runtime: Handle::current(),
            following: following.abort_handle(),
        }
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        self.following.abort();
    }
}

async fn follow(id: TopicPartition, leaders: Arc<Leaders>, seen: Arc<Seen>) {
    while leaders.of(id).is_some() {
        match leaders.extent(id).await {
            Ok(extent) => seen.note(extent),
            Err(error) => tracing::debug!(partition = %id, %error, "a table's leader is not heard"),
        }
        sleep(LOOK_EVERY).await;
    }
    seen.visible
        .send_modify(|visible| visible.closed = Some(Closed::Deleted));
}

impl Seen {
    fn note(&self, extent: Extent) {
        // Before what makes somebody look at it.
        self.gone_until
            .store(extent.tombstones_gone_until, Ordering::Release);
        self.visible.send_if_modified(|visible| {
            let next = Visible {
                // A leader that has just begun may not know all that is committed.
                high_watermark: visible.high_watermark.max(extent.end),
                log_start_offset: extent.start,
                ..*visible
            };
            let modified = next != *visible;
            *visible = next;
            modified
        });
    }
}
