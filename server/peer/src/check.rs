//! Whether a frame of a peer holds together: its spans, and the batches that came with them.

use bytes::BytesMut;
use millstream_protocol::batch::{BatchError, BatchHeader, verify_crc};
use millstream_protocol::{ErrorCode, LeaderEpoch, Offset, TopicPartition, WireError};
use millstream_replication::{Message, Span};

use crate::inbox::ReceivedBatch;
use crate::limits::{MAX_BATCHES_PER_FRAME, MAX_MESSAGES_PER_FRAME};
use crate::wire::{Part, ReplicationFrame};

/// What is wrong with a frame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameFault {
    /// More messages than a frame may have.
    #[error("there are more than {MAX_MESSAGES_PER_FRAME} messages")]
    TooManyMessages,
    /// More batches than a frame may have.
    #[error("there are more than {MAX_BATCHES_PER_FRAME} batches")]
    TooManyBatches,
    /// There are bytes behind the entries.
    #[error("{bytes} bytes belong to no message")]
    Stray {
        /// How many.
        bytes: usize,
    },
    /// A message's span contradicts itself or its message's epoch.
    #[error(
        "the span of {partition} from {from} to {until} with {runs} runs does not hold together"
    )]
    Span {
        /// The partition.
        partition: TopicPartition,
        /// Where the span begins.
        from: Offset,
        /// Where it ends.
        until: Offset,
        /// How many epochs it has.
        runs: usize,
    },
    /// The batches of a span are not what it says.
    #[error("the entries of {partition}: {fault}")]
    Entries {
        /// The partition.
        partition: TopicPartition,
        /// What is wrong with them.
        fault: EntriesFault,
    },
}

/// What is wrong with the batches of a span.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntriesFault {
    /// One cannot be read.
    #[error("the batch behind {behind}: {source}")]
    Batch {
        /// Where the one before it ends.
        behind: Offset,
        /// What is wrong with it.
        source: BatchError,
    },
    /// One does not lie where the span, or the batch before it, has room for it.
    #[error("a batch from {from} to {until} does not lie behind {behind} in its span")]
    Place {
        /// Its first offset.
        from: Offset,
        /// The offset behind its last.
        until: Offset,
        /// Where the batch before it ends.
        behind: Offset,
    },
    /// One is of another epoch than the span says.
    #[error("the batch at {from} is of epoch {found} instead of {expected}")]
    Epoch {
        /// Its first offset.
        from: Offset,
        /// Its epoch.
        found: LeaderEpoch,
        /// The span's.
        expected: LeaderEpoch,
    },
    /// There are too few.
    #[error("the batches end at {found} instead of {until}")]
    End {
        /// Where they end.
        found: Offset,
        /// Where the span ends.
        until: Offset,
    },
}

impl FrameFault {
    /// What the peer is told.
    pub fn to_wire(&self) -> WireError {
        let code = match self {
            Self::Entries {
                fault: EntriesFault::Batch { .. },
                ..
            } => ErrorCode::CorruptBatch,
            Self::Entries { .. }
            | Self::Span { .. }
            | Self::Stray { .. }
            | Self::TooManyMessages
            | Self::TooManyBatches => ErrorCode::MalformedFrame,
        };
        WireError::new(code, self.to_string())
    }
}

/// Refuses a frame by the number of its messages, before anything is done for them.
pub(crate) fn check_count(frame: &ReplicationFrame) -> Result<(), FrameFault> {
    match frame.parts.len() {
        count if count > MAX_MESSAGES_PER_FRAME => Err(FrameFault::TooManyMessages),
        _ => Ok(()),
    }
}

/// Takes a frame's batches out of what came with it, and checks all of it.
pub(crate) fn with_batches(
    frame: ReplicationFrame,
    mut payload: BytesMut,
) -> Result<Vec<(Part, Vec<ReceivedBatch>)>, FrameFault> {
    check_count(&frame)?;
    let whole = payload.len();
    let mut parts = Vec::with_capacity(frame.parts.len());
    let mut count = 0;
    for part in frame.parts {
        let before = payload.len();
        let mut batches = take_batches(&part, &mut payload, MAX_BATCHES_PER_FRAME - count)?;
        let bytes = before - payload.len();
        if bytes < whole / 2 {
            move_out(&mut batches, bytes);
        }
        count += batches.len();
        parts.push((part, batches));
    }
    match payload.len() {
        0 => Ok(parts),
        bytes => Err(FrameFault::Stray { bytes }),
    }
}

/// Gives a message's batches a buffer of their own: who keeps some of a few bytes does not keep
/// all that came with them.
fn move_out(batches: &mut [ReceivedBatch], bytes: usize) {
    let mut buffer = BytesMut::with_capacity(bytes);
    for batch in batches {
        buffer.extend_from_slice(&batch.bytes);
        batch.bytes = buffer.split();
    }
}

fn take_batches(
    part: &Part,
    payload: &mut BytesMut,
    most: usize,
) -> Result<Vec<ReceivedBatch>, FrameFault> {
    let partition = part.partition;
    let (span, newest) = match &part.message {
        Message::Append { epoch, span, .. } => (span, *epoch),
        // What is fetched is older than the epoch for which it is.
        Message::Fetched { epoch, span } => (span, epoch.saturating_sub(1)),
        Message::Seal { .. }
        | Message::Sealed { .. }
        | Message::Fetch { .. }
        | Message::Parted { .. }
        | Message::Ack(_)
        | Message::Mismatch { .. }
        | Message::Trust { .. } => return Ok(Vec::new()),
    };
    if !span.is_sound(newest) {
        return Err(FrameFault::Span {
            partition,
            from: span.prev.offset,
            until: span.until,
            runs: span.runs.len(),
        });
    }
    let mut batches = Vec::new();
    let mut behind = span.prev.offset;
    while behind < span.until {
        if batches.len() == most {
            return Err(FrameFault::TooManyBatches);
        }
        let batch = next(span, behind, payload)
            .map_err(|fault| FrameFault::Entries { partition, fault })?;
        behind = batch.header.next_offset();
        batches.push(batch);
    }
    Ok(batches)
}

/// The next batch of a span of which there is everything up to `behind`.
fn next(
    span: &Span,
    behind: Offset,
    payload: &mut BytesMut,
) -> Result<ReceivedBatch, EntriesFault> {
    if payload.is_empty() {
        return Err(EntriesFault::End {
            found: behind,
            until: span.until,
        });
    }
    let batch = split_off(payload).map_err(|source| EntriesFault::Batch { behind, source })?;
    check_place(span, behind, &batch.header)?;
    Ok(batch)
}

fn split_off(payload: &mut BytesMut) -> Result<ReceivedBatch, BatchError> {
    let header = BatchHeader::parse(payload)?;
    let (expected, actual) = (header.batch_bytes, payload.len());
    if expected > actual {
        return Err(BatchError::Length { expected, actual });
    }
    let bytes = payload.split_to(expected);
    verify_crc(&bytes)?;
    Ok(ReceivedBatch { bytes, header })
}

/// A batch lies behind the one before it, within one run of its span, and is of that epoch.
fn check_place(span: &Span, behind: Offset, header: &BatchHeader) -> Result<(), EntriesFault> {
    let (from, until) = (header.base_offset, header.next_offset());
    let later = span.runs.partition_point(|run| run.start <= from);
    let room = span.runs.get(later).map_or(span.until, |run| run.start);
    let run = span.runs[..later].last();
    let Some(run) = run.filter(|_| from >= behind && until <= room) else {
        return Err(EntriesFault::Place {
            from,
            until,
            behind,
        });
    };
    if run.epoch != header.leader_epoch {
        return Err(EntriesFault::Epoch {
            from,
            found: header.leader_epoch,
            expected: run.epoch,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
