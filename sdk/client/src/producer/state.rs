//! What all partitions of one producer share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use millstream_protocol::PartitionIndex;
use millstream_protocol::batch::Compression;
use parking_lot::Mutex;

use super::budget::Budget;
use super::buffers::BatchBuffers;
use crate::error::Error;

/// How batches are filled and when they are sent.
#[derive(Clone, Debug)]
pub(super) struct BatchSettings {
    pub(super) linger: Duration,
    pub(super) batch_bytes: usize,
    pub(super) compression: Compression,
    pub(super) delivery_timeout: Duration,
}

/// The state shared by a producer's partitions.
#[derive(Debug)]
pub(super) struct ProducerState {
    pub(super) topic: Arc<str>,
    pub(super) batches: BatchSettings,
    pub(super) budget: Budget,
    pub(super) buffers: BatchBuffers,
    /// The largest batch the topic takes, bytes. Follows the topic's settings.
    max_batch_bytes: AtomicUsize,
    /// The partition whose turn it is to take records without a key.
    turn: AtomicU32,
    partitions: AtomicU32,
    acknowledged_records: AtomicU64,
    first_failure: Mutex<Option<Error>>,
}

impl ProducerState {
    pub(super) fn new(
        topic: Arc<str>,
        batches: BatchSettings,
        in_flight_bytes: usize,
        max_batch_bytes: usize,
        partitions: u32,
    ) -> Arc<Self> {
        Arc::new(Self {
            buffers: BatchBuffers::new(in_flight_bytes),
            topic,
            batches,
            budget: Budget::new(in_flight_bytes),
            max_batch_bytes: AtomicUsize::new(max_batch_bytes),
            turn: AtomicU32::new(0),
            partitions: AtomicU32::new(partitions),
            acknowledged_records: AtomicU64::new(0),
            first_failure: Mutex::new(None),
        })
    }

    /// How many records are stored.
    pub(super) fn acknowledged_records(&self) -> u64 {
        self.acknowledged_records.load(Ordering::Relaxed)
    }

    /// So many more are.
    pub(super) fn acknowledge(&self, records: u32) {
        let records = u64::from(records);
        self.acknowledged_records
            .fetch_add(records, Ordering::Relaxed);
    }

    pub(super) fn max_batch_bytes(&self) -> usize {
        self.max_batch_bytes.load(Ordering::Relaxed)
    }

    pub(super) fn set_max_batch_bytes(&self, bytes: usize) {
        self.max_batch_bytes.store(bytes, Ordering::Relaxed);
    }

    /// The partition whose turn it is.
    pub(super) fn turn(&self) -> PartitionIndex {
        self.turn.load(Ordering::Relaxed)
    }

    /// A batch of `partition` is closed: if it was this one's turn, it is the next one's now.
    pub(super) fn end_turn(&self, partition: PartitionIndex) {
        let next = (partition + 1) % self.partitions.load(Ordering::Relaxed).max(1);
        // Failure means that it was another partition's turn: nothing to do.
        let _ = self
            .turn
            .compare_exchange(partition, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    pub(super) fn set_partitions(&self, partitions: u32) {
        self.partitions.store(partitions, Ordering::Relaxed);
    }

    /// Remembers the first batch that failed, for [`Producer::flush`](super::Producer::flush).
    pub(super) fn note_failure(&self, error: &Error) {
        self.first_failure
            .lock()
            .get_or_insert_with(|| error.clone());
    }

    pub(super) fn take_failure(&self) -> Option<Error> {
        self.first_failure.lock().take()
    }
}
