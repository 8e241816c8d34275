//! Whether a frame of a peer holds together: its span, and the batches that came with it.

use bytes::BytesMut;
use millstream_protocol::batch::{BatchError, BatchHeader, verify_crc};
use millstream_protocol::{ErrorCode, LeaderEpoch, Offset, WireError};
use millstream_replication::{Message, Span};

use crate::inbox::ReceivedBatch;
use crate::limits::MAX_BATCHES_PER_FRAME;

/// What is wrong with a frame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameFault {
    /// The span contradicts itself or its message's epoch.
    #[error("the span from {from} to {until} with {runs} runs does not hold together")]
    Span {
        /// Where it begins.
        from: Offset,
        /// Where it ends.
        until: Offset,
        /// How many epochs it has.
        runs: usize,
    },
    /// There are bytes behind a message that has no entries.
    #[error("{bytes} bytes came with a message that has no entries")]
    Stray {
        /// How many.
        bytes: usize,
    },
    /// More batches than a frame may have.
    #[error("there are more than {MAX_BATCHES_PER_FRAME} batches")]
    TooManyBatches,
    /// A batch cannot be read.
    #[error("batch {index}: {source}")]
    Batch {
        /// Which one, counted from 0.
        index: usize,
        /// What is wrong with it.
        source: BatchError,
    },
    /// A batch does not lie where the span, or the batch before it, has room for it.
    #[error("batch {index} from {from} to {until} does not lie behind {behind} in its span")]
    Place {
        /// Which one, counted from 0.
        index: usize,
        /// Its first offset.
        from: Offset,
        /// The offset behind its last.
        until: Offset,
        /// Where the batch before it ends.
        behind: Offset,
    },
    /// A batch is of another epoch than the span says.
    #[error("batch {index} at {from} is of epoch {found} instead of {expected}")]
    Epoch {
        /// Which one, counted from 0.
        index: usize,
        /// Its first offset.
        from: Offset,
        /// Its epoch.
        found: LeaderEpoch,
        /// The span's.
        expected: LeaderEpoch,
    },
    /// The batches end somewhere else than the span.
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
            Self::Batch { .. } => ErrorCode::CorruptBatch,
            Self::Span { .. }
            | Self::Stray { .. }
            | Self::TooManyBatches
            | Self::Place { .. }
            | Self::Epoch { .. }
            | Self::End { .. } => ErrorCode::MalformedFrame,
        };
        WireError::new(code, self.to_string())
    }
}

/// Takes a message's batches out of what came with it, and checks all of it.
pub(crate) fn batches_of(
    message: &Message,
    payload: BytesMut,
) -> Result<Vec<ReceivedBatch>, FrameFault> {
    let (span, newest) = match message {
        Message::Append { epoch, span, .. } => (span, *epoch),
        // What is fetched is older than the epoch for which it is.
        Message::Fetched { epoch, span } => (span, epoch.saturating_sub(1)),
        _ if payload.is_empty() => return Ok(Vec::new()),
        _ => {
            let bytes = payload.len();
            return Err(FrameFault::Stray { bytes });
        }
    };
    if !span.is_sound(newest) {
        return Err(FrameFault::Span {
            from: span.prev.offset,
            until: span.until,
            runs: span.runs.len(),
        });
    }
    split(span, payload)
}

fn split(span: &Span, mut payload: BytesMut) -> Result<Vec<ReceivedBatch>, FrameFault> {
    let mut batches = Vec::new();
    let mut behind = span.prev.offset;
    while !payload.is_empty() {
        let index = batches.len();
        if index == MAX_BATCHES_PER_FRAME {
            return Err(FrameFault::TooManyBatches);
        }
        let batch = next(&mut payload).map_err(|source| FrameFault::Batch { index, source })?;
        check_place(span, behind, index, &batch.header)?;
        behind = batch.header.next_offset();
        batches.push(batch);
    }
    if behind != span.until {
        return Err(FrameFault::End {
            found: behind,
            until: span.until,
        });
    }
    Ok(batches)
}

fn next(payload: &mut BytesMut) -> Result<ReceivedBatch, BatchError> {
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
fn check_place(
    span: &Span,
    behind: Offset,
    index: usize,
    header: &BatchHeader,
) -> Result<(), FrameFault> {
    let (from, until) = (header.base_offset, header.next_offset());
    let later = span.runs.partition_point(|run| run.start <= from);
    let room = span.runs.get(later).map_or(span.until, |run| run.start);
    let run = span.runs[..later].last();
    let Some(run) = run.filter(|_| from >= behind && until <= room) else {
        return Err(FrameFault::Place {
            index,
            from,
            until,
            behind,
        });
    };
    if run.epoch != header.leader_epoch {
        return Err(FrameFault::Epoch {
            index,
            from,
            found: header.leader_epoch,
            expected: run.epoch,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
