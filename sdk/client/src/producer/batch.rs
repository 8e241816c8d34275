//! A batch on its way from the application to its acknowledgement.

use std::sync::Arc;

use bytes::Bytes;
use millstream_protocol::batch::{BatchBuilder, BatchError, ProducerStamp, RecordBatch};
use millstream_protocol::limits::MAX_BATCH_BYTES;
use millstream_protocol::{Offset, PartitionIndex};
use tokio::time::Instant;

use super::delivery::BatchCompletion;
use super::state::ProducerState;
use crate::error::{Error, Result};

/// What a batch holds until it is settled: its records' deliveries and its share of the bound on
/// buffered bytes. A ticket that is dropped fails the deliveries, so that nobody waits for ever.
#[derive(Debug)]
pub(super) struct Ticket {
    state: Arc<ProducerState>,
    pub(super) completion: Arc<BatchCompletion>,
    pub(super) opened_at: Instant,
    reserved_bytes: usize,
}

impl Ticket {
    fn new(state: &Arc<ProducerState>, partition: PartitionIndex) -> Self {
        Self {
            state: Arc::clone(state),
            completion: BatchCompletion::new(partition),
            opened_at: Instant::now(),
            reserved_bytes: 0,
        }
    }

    /// Gives back what is reserved above `bytes`.
    fn shrink_to(&mut self, bytes: usize) {
        let excess = self.reserved_bytes.saturating_sub(bytes);
        self.reserved_bytes -= excess;
        self.state.budget.release(excess);
    }

    fn settle(&mut self, outcome: Result<Offset>) {
        self.shrink_to(0);
        if let Err(error) = &outcome {
            self.state.note_failure(error);
        }
        self.completion.complete(outcome);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.shrink_to(0);
        if !self.completion.is_settled() {
            self.completion
                .complete(Err(Error::Closed { what: "producer" }));
        }
    }
}

/// A batch that has no place in the producer's sequence yet.
#[derive(Debug)]
pub(super) struct PendingBatch {
    pub(super) builder: BatchBuilder,
    pub(super) ticket: Ticket,
}

impl PendingBatch {
    pub(super) fn open(state: &Arc<ProducerState>, partition: PartitionIndex) -> Self {
        Self {
            builder: BatchBuilder::with_buffer(
                state.buffers.take(),
                state.batches.compression,
                state.max_batch_bytes(),
            ),
            ticket: Ticket::new(state, partition),
        }
    }

    pub(super) fn reserved_bytes(&self) -> usize {
        self.ticket.reserved_bytes
    }

    /// Takes over `bytes` that the caller has reserved.
    pub(super) fn hold(&mut self, bytes: usize) {
        self.ticket.reserved_bytes += bytes;
    }

    /// Gives back what was reserved for records that will not come any more.
    pub(super) fn seal(&mut self) {
        self.ticket.shrink_to(self.builder.encoded_bytes());
    }

    pub(super) fn fail(mut self, error: &Error) {
        self.ticket.settle(Err(error.clone()));
    }

    /// Encodes the batch with its place in the producer's sequence.
    pub(super) fn stamp(self, stamp: ProducerStamp) -> Result<SentBatch> {
        let Self {
            builder,
            mut ticket,
        } = self;
        let records = builder.record_count();
        match builder.finish(Some(stamp)) {
            Ok(bytes) => {
                ticket.shrink_to(bytes.len());
                Ok(SentBatch {
                    bytes,
                    records,
                    streams: 0,
                    ticket,
                })
            }
            Err(error) => {
                let error = Error::invalid(error.to_string());
                ticket.settle(Err(error.clone()));
                Err(error)
            }
        }
    }
}

/// A batch with its place in the producer's sequence.
#[derive(Debug)]
pub(super) struct SentBatch {
    pub(super) bytes: Bytes,
    pub(super) records: u32,
    /// On how many streams it has been sent.
    pub(super) streams: u32,
    pub(super) ticket: Ticket,
}

impl SentBatch {
    pub(super) fn acknowledge(mut self, base_offset: Offset) {
        self.ticket.settle(Ok(base_offset));
        self.ticket.state.buffers.give_back(self.bytes);
    }

    pub(super) fn fail(mut self, error: &Error) {
        self.ticket.settle(Err(error.clone()));
    }

    /// Gives the batch a place in another producer's sequence, under which it has not been sent
    /// yet. Only for a batch that is known not to be stored.
    pub(super) fn restamp(&mut self, stamp: ProducerStamp) -> Result<(), BatchError> {
        self.bytes = restamped(self.bytes.clone(), stamp)?;
        self.streams = 0;
        Ok(())
    }
}

/// The same records under another stamp. The stamp lies under the checksum, so the batch is
/// encoded anew; this happens only when a producer loses its identity.
fn restamped(bytes: Bytes, stamp: ProducerStamp) -> Result<Bytes, BatchError> {
    let batch = RecordBatch::parse(bytes)?;
    let mut builder = BatchBuilder::new(batch.header().compression, MAX_BATCH_BYTES);
    for record in batch.records()?.into_owned() {
        let (_, record) = record?;
        builder
            .append(
                record.timestamp_ms,
                record.key.as_deref(),
                record.value.as_deref(),
                &record.headers,
            )
            .map_err(|_| BatchError::TooLarge {
                limit: MAX_BATCH_BYTES,
            })?;
    }
    builder.finish(Some(stamp))
}
