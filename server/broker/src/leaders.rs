//! Partitions wherever they are led: how far they reach, what lies where, and who leads them.

use std::sync::Arc;

use bytes::Bytes;
use millstream_protocol::api::offsets::Position;
use millstream_protocol::batch::RecordBatch;
use millstream_protocol::{ErrorCode, Offset, ProducerId, TimestampMs, TopicPartition, WireError};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::cluster::Cluster;
use crate::config::ASK_LIMIT;
use crate::controller::Controller;
use crate::errors;
use crate::groups::resolve_within;
use crate::partition::{Partition, Standing};
use crate::registry::Registry;
use crate::workers::peers::WorkersRequest;

/// What there is of a partition, below its high watermark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Extent {
    pub(crate) start: Offset,
    pub(crate) end: Offset,
    /// The leader's compaction may have taken tombstones below.
    pub(crate) tombstones_gone_until: Offset,
}

/// What was read of a partition: whole batches.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Piece {
    pub(crate) batches: Vec<Bytes>,
    /// The offset to read from next.
    pub(crate) next_offset: Offset,
}

/// What one piece has, bytes, unless a single batch is larger.
const PIECE_BYTES: u32 = 1 << 20;

/// The way to the leaders of partitions, this broker or others.
pub(crate) struct Leaders {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) controller: Arc<Controller>,
    pub(crate) partitions: Arc<Registry>,
}

impl Leaders {
    /// The broker that leads a partition; none where its topic was deleted.
    pub(crate) fn of(&self, id: TopicPartition) -> Option<u32> {
        let image = self.controller.image();
        image.partition(id).map(|it| it.leader)
    }

    /// What there is of a partition.
    pub(crate) async fn extent(&self, of: TopicPartition) -> Result<Extent, WireError> {
        match self.led_here(of)? {
            Ok(led) => Ok(extent(&led)),
            Err(leader) => self.ask(leader, WorkersRequest::Extent(of)).await,
        }
    }

    /// The offset of a position, moved into the partition where it lies outside.
    pub(crate) async fn resolve(
        &self,
        of: TopicPartition,
        position: Position,
    ) -> Result<Offset, WireError> {
        match self.led_here(of)? {
            Ok(led) => Ok(resolve_within(&led, position).await),
            Err(leader) => {
                let request = WorkersRequest::Resolve(of, position);
                self.ask(leader, request).await
            }
        }
    }

    /// The timestamp of the record at an offset, or of the next one.
    pub(crate) async fn time_at(
        &self,
        of: TopicPartition,
        offset: Offset,
    ) -> Result<Option<TimestampMs>, WireError> {
        match self.led_here(of)? {
            Ok(led) => time_at(&led, offset).await,
            Err(leader) => {
                let request = WorkersRequest::TimeAt(of, offset);
                self.ask(leader, request).await
            }
        }
    }

    /// Whole batches from the one that contains an offset on.
    pub(crate) async fn read(
        &self,
        of: TopicPartition,
        offset: Offset,
        max_bytes: u32,
    ) -> Result<Piece, WireError> {
        match self.led_here(of)? {
            Ok(led) => piece(&led, offset, max_bytes).await,
            Err(leader) => {
                let request = WorkersRequest::Read {
                    partition: of,
                    offset,
                    max_bytes,
                };
                self.ask(leader, request).await
            }
        }
    }

    /// The last sequence that a partition's log has of a worker's producer, if any.
    pub(crate) async fn last_sequence(
        &self,
        of: TopicPartition,
        producer_id: ProducerId,
    ) -> Result<Option<u32>, WireError> {
        match self.led_here(of)? {
            Ok(led) => led.last_sequence(producer_id).await,
            Err(leader) => {
                let request = WorkersRequest::LastSequence {
                    partition: of,
                    producer_id,
                };
                self.ask(leader, request).await
            }
        }
    }

    /// The partition, or who leads it if that is another broker.
    fn led_here(&self, of: TopicPartition) -> Result<Result<Partition, u32>, WireError> {
        let leader = self.of(of).ok_or_else(|| errors::partition_gone(of))?;
        if leader != self.cluster.me() {
            return Ok(Err(leader));
        }
        led(&self.partitions, of).map(Ok)
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        leader: u32,
        request: WorkersRequest,
    ) -> Result<T, WireError> {
        self.cluster.ask_workers(leader, &request, ASK_LIMIT).await
    }
}

/// A partition that can be read here, because this broker leads it or nobody else has it.
pub(crate) fn led(partitions: &Registry, id: TopicPartition) -> Result<Partition, WireError> {
    let kept = partitions.get(id);
    let led = kept.filter(|it| it.visible().standing != Standing::Following);
    led.ok_or_else(|| {
        WireError::new(
            ErrorCode::NotLeader,
            format!("partition {id} is not led here"),
        )
    })
}

/// What there is of a partition that is led here.
pub(crate) fn extent(partition: &Partition) -> Extent {
    let visible = partition.visible();
    Extent {
        start: visible.log_start_offset,
        end: visible.high_watermark,
        tombstones_gone_until: partition.status().tombstones_gone_until,
    }
}

/// A piece of a partition that is led here.
pub(crate) async fn piece(
    partition: &Partition,
    offset: Offset,
    max_bytes: u32,
) -> Result<Piece, WireError> {
    let max_bytes = max_bytes.min(PIECE_BYTES) as usize;
    let read = partition.reader().read(offset, max_bytes).await?;
    Ok(Piece {
        batches: read.batches,
        next_offset: read.next_offset,
    })
}

/// The timestamp of the record at an offset, or of the next one.
pub(crate) async fn time_at(
    partition: &Partition,
    offset: Offset,
) -> Result<Option<TimestampMs>, WireError> {
    let reader = partition.reader();
    let mut from = offset;
    loop {
        let read = reader.read(from, 1).await?;
        for bytes in read.batches {
            let batch = RecordBatch::parse(bytes).map_err(errors::from_batch)?;
            if batch.header().control {
                continue;
            }
            let records = batch.records().map_err(errors::from_batch)?;
            for record in records.iter() {
                let record = record.map_err(errors::from_batch)?;
                if record.offset >= offset {
                    return Ok(Some(record.timestamp_ms));
                }
            }
        }
        if read.next_offset <= from {
            return Ok(None);
        }
        from = read.next_offset;
    }
}
