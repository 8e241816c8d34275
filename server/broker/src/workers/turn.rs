//! One turn of a worker: read what is visible, call the guest once, gather its outputs. Runs on a
//! thread that may block.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use millstream_protocol::batch::{self, AppendError, BatchBuilder, Compression, RecordBatch};
use millstream_protocol::partitioner::Partitioner;
use millstream_protocol::{Offset, PartitionIndex, WireError};
use millstream_runtime::{CallError, Emit, Instance, Outcome};

use crate::errors;
use crate::partition::{Partition, PartitionReader};

/// Bytes of input that one call of a guest works on, unless a single batch is larger.
pub(crate) const TURN_BYTES: usize = 1 << 20;

/// A declared output and the partitions of its topic.
pub(crate) struct Output {
    pub(crate) name: String,
    pub(crate) partitions: Vec<Partition>,
}

/// What a turn came to.
pub(crate) struct Turn {
    /// Batches to append before the offset is committed.
    pub(crate) outputs: Vec<(Partition, BytesMut)>,
    /// The next input offset.
    pub(crate) next_offset: Offset,
    pub(crate) records_in: u64,
    pub(crate) records_out: u64,
    /// Records that the guest refused for good, with its reasons.
    pub(crate) rejects: Vec<(Offset, String)>,
    /// The guest wants to see the record at `next_offset` again.
    pub(crate) retry: Option<Retry>,
}

/// A record that is to be handled again.
pub(crate) struct Retry {
    pub(crate) after_ms: u32,
    pub(crate) reason: String,
}

/// Why a turn failed. Nothing of it counts.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TurnError {
    /// The input cannot be read.
    #[error("{0}")]
    Input(#[from] WireError),
    /// The guest failed somewhere within these records.
    #[error("offsets {from} to {to}: {error}")]
    Call {
        from: Offset,
        to: Offset,
        error: CallError,
    },
    /// What the guest emitted cannot be produced.
    #[error("output of offset {offset}: {reason}")]
    Output { offset: Offset, reason: String },
}

/// The input of one call: whole batches, uncompressed, from the first offset wanted on.
struct Input {
    batches: Vec<RecordBatch>,
    next_offset: Offset,
}

impl Input {
    fn read(reader: &PartitionReader, offset: Offset) -> Result<Self, WireError> {
        let read = reader.read_blocking(offset, TURN_BYTES)?;
        let mut batches = Vec::with_capacity(read.batches.len());
        for bytes in read.batches {
            let batch = RecordBatch::parse(bytes).map_err(errors::from_batch)?;
            if batch.header().control {
                continue;
            }
            let batch = batch.uncompressed().map_err(errors::from_batch)?;
            if batch.header().base_offset >= offset {
                batches.push(batch);
            } else if let Some(rest) = rest_of(&batch, offset)? {
                batches.push(rest);
            }
        }
        Ok(Self {
            batches,
            next_offset: read.next_offset,
        })
    }

    fn records(&self) -> u64 {
        self.batches
            .iter()
            .map(|batch| u64::from(batch.header().record_count))
            .sum()
    }

    /// The batches in one piece. A single one, the common case of a busy topic, is not copied.
    fn bytes(&self) -> Bytes {
        match self.batches.as_slice() {
            [one] => one.bytes().clone(),
            many => {
                let mut all =
                    BytesMut::with_capacity(many.iter().map(|batch| batch.bytes().len()).sum());
                for batch in many {
                    all.extend_from_slice(batch.bytes());
                }
                all.freeze()
            }
        }
    }

    /// The offset of the record of this index in the call.
    fn offset_of(&self, mut index: u32) -> Result<Offset, WireError> {
        for batch in &self.batches {
            let header = batch.header();
            if index >= header.record_count {
                index -= header.record_count;
                continue;
            }
            // A compacted batch has gaps: its records are asked for their offsets.
            let records = batch.records().map_err(errors::from_batch)?;
            let record = records.iter().nth(index as usize);
            if let Some(record) = record {
                return Ok(record.map_err(errors::from_batch)?.offset);
            }
        }
        Ok(self.next_offset)
    }
}

/// The records of a batch from `offset` on.
fn rest_of(batch: &RecordBatch, offset: Offset) -> Result<Option<RecordBatch>, WireError> {
    let rest =
        batch::retain(batch, |record| record.offset >= offset).map_err(errors::from_batch)?;
    rest.map(|bytes| RecordBatch::parse(bytes).map_err(errors::from_batch))
        .transpose()
}

/// Runs one turn from `offset` on.
pub(crate) fn run(
    instance: &mut Instance,
    input: &PartitionReader,
    input_partition: PartitionIndex,
    offset: Offset,
    outputs: &[Output],
) -> Result<Turn, TurnError> {
    let read = Input::read(input, offset)?;
    let mut turn = Turn {
        outputs: Vec::new(),
        next_offset: read.next_offset,
        records_in: read.records(),
        records_out: 0,
        rejects: Vec::new(),
        retry: None,
    };
    if read.batches.is_empty() {
        return Ok(turn);
    }
    let outcomes = instance
        .handle(&read.bytes())
        .map_err(|error| TurnError::Call {
            from: offset,
            to: read.next_offset.saturating_sub(1),
            error,
        })?;
    let mut gathered = Gathered {
        outputs,
        input_partition,
        open: BTreeMap::new(),
        full: Vec::new(),
    };
    for outcome in outcomes.iter() {
        match outcome {
            Outcome::Emit(emit) => {
                gathered
                    .add(&emit)
                    .map_err(|reason| match read.offset_of(emit.input) {
                        Ok(offset) => TurnError::Output { offset, reason },
                        Err(error) => TurnError::Input(error),
                    })?;
                turn.records_out += 1;
            }
            Outcome::Reject { input, reason } => turn
                .rejects
                .push((read.offset_of(input)?, reason.to_owned())),
            Outcome::Retry {
                input,
                after_ms,
                reason,
            } => {
                // Order holds: what comes behind the record waits with it.
                turn.next_offset = read.offset_of(input)?;
                turn.records_in = u64::from(input);
                turn.retry = Some(Retry {
                    after_ms,
                    reason: reason.to_owned(),
                });
                break;
            }
        }
    }
    turn.outputs = gathered.finish()?;
    Ok(turn)
}

/// Outputs on their way into batches, one open batch per output partition.
struct Gathered<'a> {
    outputs: &'a [Output],
    input_partition: u32,
    open: BTreeMap<(usize, usize), BatchBuilder>,
    full: Vec<(Partition, BytesMut)>,
}

impl Gathered<'_> {
    fn add(&mut self, emit: &Emit<'_>) -> Result<(), String> {
        let output = self
            .outputs
            .get(emit.output)
            .ok_or_else(|| format!("no output has index {}", emit.output))?;
        let count = u32::try_from(output.partitions.len())
            .ok()
            .and_then(std::num::NonZeroU32::new);
        let count = count.ok_or_else(|| format!("output {} has no partition", output.name))?;
        // Without a key an output stays beside its input.
        let number = emit.key.map_or(self.input_partition % count, |key| {
            Partitioner::KeyHash.partition_for_key(key, count)
        }) as usize;
        let partition = &output.partitions[number];
        let headers = emit.to_headers();
        let new = || {
            BatchBuilder::new(
                Compression::None,
                partition.config().max_batch_bytes as usize,
            )
        };
        let builder = self.open.entry((emit.output, number)).or_insert_with(new);
        match builder.append(emit.timestamp_ms, emit.key, emit.value, &headers) {
            Ok(_) => return Ok(()),
            Err(AppendError::Full) => {}
            Err(error) => return Err(error.to_string()),
        }
        let full = std::mem::replace(builder, new());
        self.full.push((partition.clone(), finish(full)?));
        builder
            .append(emit.timestamp_ms, emit.key, emit.value, &headers)
            .map(|_| ())
            .map_err(|e| e.to_string())
    }

    fn finish(mut self) -> Result<Vec<(Partition, BytesMut)>, WireError> {
        for ((output, number), builder) in self.open {
            let batch = builder.finish(None).map_err(errors::from_batch)?;
            self.full.push((
                self.outputs[output].partitions[number].clone(),
                BytesMut::from(batch),
            ));
        }
        Ok(self.full)
    }
}

fn finish(builder: BatchBuilder) -> Result<BytesMut, String> {
    builder
        .finish(None)
        .map(BytesMut::from)
        .map_err(|error| error.to_string())
}
