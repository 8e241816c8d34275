//! What a broker writes into partitions of its own, and reads back.

use bytes::{Bytes, BytesMut};
use millstream_log::{AppendError, AppendOutcome, ProducedBatch};
use millstream_protocol::batch::{BatchHeader, RecordBatch};
use millstream_protocol::{LeaderEpoch, Offset, TopicPartition};
use millstream_replication::Input;

use super::{Broker, NOTHING, READ_BYTES, Trouble, trouble_of};
use crate::cluster::env::Env;

impl Broker {
    /// The epoch in which it leads a partition and shows everything that was committed before.
    pub(super) fn settled_in(&self, at: TopicPartition) -> Option<LeaderEpoch> {
        let replica = &self.partition(at)?.replica;
        replica.leading().filter(|_| replica.is_settled())
    }

    /// Up to where it knows a partition to be committed.
    pub(super) fn visible(&self, at: TopicPartition) -> Offset {
        let partition = self.partition(at);
        partition.map_or(0, |it| it.replica.high_watermark())
    }

    /// Appends a batch while it leads a partition in an epoch, and in no later one. Returns where it begins
    /// and ends, or nothing if there is no room for it. The core is to be told by
    /// [`written`](Self::written).
    pub(super) fn append_in(
        &mut self,
        env: &mut Env,
        at: TopicPartition,
        epoch: LeaderEpoch,
        batch: &[u8],
    ) -> Result<Option<(Offset, Offset)>, Trouble> {
        let now_ms = self.now_ms(env);
        let partition = self.process.as_mut().and_then(|it| it.partition_mut(at));
        let partition = partition.filter(|it| it.replica.leading() == Some(epoch));
        let (Some(partition), Ok(header)) = (partition, BatchHeader::parse(batch)) else {
            return Ok(None);
        };
        let bytes = BytesMut::from(batch);
        let mut outcomes = Vec::with_capacity(1);
        let batches = vec![ProducedBatch { bytes, header }];
        match partition.log.append(batches, epoch, now_ms, &mut outcomes) {
            Ok(()) => {}
            Err(AppendError::Poisoned(_)) => return Err(Trouble::Stop),
            Err(AppendError::Damaged(_)) => return Err(Trouble::Damaged(at)),
            Err(_) => return Ok(None),
        }
        Ok(match outcomes.pop() {
            Some(AppendOutcome::Appended {
                base_offset,
                next_offset,
            }) => Some((base_offset, next_offset)),
            _ => None,
        })
    }

    /// Tells the core of what was appended.
    pub(super) fn written(&mut self, env: &mut Env, at: TopicPartition) -> Result<(), Trouble> {
        let end = self.partition(at).map(|it| it.log.log_end_offset());
        end.map_or(Ok(()), |end| {
            self.step(env, at, Input::Written { end }, &NOTHING)
        })
    }

    /// Reads everything visible of a partition from an offset on, record by record: offset, key and value.
    /// What leaders have written of themselves is passed over.
    pub(crate) fn each_record(
        &self,
        env: &mut Env,
        at: TopicPartition,
        from: Offset,
        each: impl FnMut(&mut Env, Offset, Bytes, Option<Bytes>),
    ) -> Result<(), Trouble> {
        self.each_record_until(env, at, (from, self.visible(at)), READ_BYTES, each)
    }

    /// The same, up to an offset that is visible, and so many bytes at a time.
    pub(super) fn each_record_until(
        &self,
        env: &mut Env,
        at: TopicPartition,
        (from, until): (Offset, Offset),
        bytes: usize,
        mut each: impl FnMut(&mut Env, Offset, Bytes, Option<Bytes>),
    ) -> Result<(), Trouble> {
        let Some(partition) = self.partition(at) else {
            return Ok(());
        };
        let visible = partition.replica.high_watermark();
        let mut offset = from.max(partition.log.log_start_offset());
        while offset < until {
            // A batch may go on behind that.
            let read = partition.log.reader().read(offset, visible, bytes);
            let read = read.map_err(|error| trouble_of(&error, at, env))?;
            for bytes in read.batches {
                let Ok(batch) = RecordBatch::parse(bytes) else {
                    env.oracles.violated(format!("a batch of {at} is none"));
                    continue;
                };
                let Ok(records) = batch.records() else {
                    env.oracles
                        .violated(format!("a batch of {at} cannot be read"));
                    continue;
                };
                let whole = records.iter().filter(|_| !batch.header().control);
                for record in whole
                    .flatten()
                    .filter(|it| (from..until).contains(&it.offset))
                {
                    let key = Bytes::copy_from_slice(record.key.unwrap_or_default());
                    let value = record.value.map(Bytes::copy_from_slice);
                    each(env, record.offset, key, value);
                }
            }
            offset = read.next_offset;
        }
        Ok(())
    }
}
