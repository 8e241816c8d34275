//! Reads both sides of an output: what came of the replayed records.

use std::sync::Arc;

use millstream_protocol::api::Request;
use millstream_protocol::api::fetch::{FetchOpened, FetchPartition, Fetched, OpenFetch};
use millstream_protocol::api::replay::ComparedOutput;
use millstream_protocol::api::topic::TopicDescription;
use millstream_protocol::batch::RecordBatch;
use millstream_protocol::limits::{DEFAULT_FETCH_BYTES, MAX_FETCH_BYTES};
use millstream_protocol::{Offset, PartitionIndex, ProducerId};
use millstream_transport::{FrameReceiver, FrameSender};

use super::window::Window;
use crate::client::Client;
use crate::consumer::ConsumedRecord;
use crate::error::{Error, Result, StreamError};
use crate::leaders::LedPartition;
use crate::route::{Opened, Route};
use crate::stream::receive_with_payload;

/// Whose record it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Live,
    Shadow,
}

impl Side {
    pub(super) fn sign(self) -> i64 {
        match self {
            Self::Live => 1,
            Self::Shadow => -1,
        }
    }
}

/// Reads both sides, a piece of one and a piece of the other, so that what is the same meets soon.
pub(super) async fn read_both(
    client: &Client,
    window: Window,
    output: &ComparedOutput,
    mut each: impl FnMut(Side, Option<ProducerId>, ConsumedRecord) -> Result<()>,
) -> Result<()> {
    let admin = client.admin();
    let live = admin.describe_topic(output.live.clone()).await?;
    let shadow = admin.describe_topic(output.shadow.clone()).await?;
    let partitions = live.partitions.len().max(shadow.partitions.len());
    for number in 0..partitions {
        let range = |topic: &TopicDescription| -> Result<Option<(PartitionIndex, Offset, Offset)>> {
            let Some(at) = topic.partitions.get(number) else {
                return Ok(None);
            };
            let log = at.known_log()?;
            let range = (at.partition, log.log_start_offset, log.high_watermark);
            Ok(Some(range))
        };
        let end = output.live_ends.get(number).copied().unwrap_or_default();
        let live = range(&live)?.map(|(number, from, until)| (number, from, end.min(until)));
        let shadow = range(&shadow)?;
        let mut live = Reading::open(client, &output.live, live).await?;
        let mut shadow = Reading::open(client, &output.shadow, shadow).await?;
        while live.is_some() || shadow.is_some() {
            for (writer, record) in next(&mut live).await? {
                if window.may_have(record.timestamp_ms) {
                    each(Side::Live, writer, record)?;
                }
            }
            for (writer, record) in next(&mut shadow).await? {
                each(Side::Shadow, writer, record)?;
            }
        }
    }
    Ok(())
}

/// The next records of a partition, which is closed behind the last.
async fn next(reading: &mut Option<Reading>) -> Result<Vec<Written>> {
    let Some(open) = reading else {
        return Ok(Vec::new());
    };
    let records = open.next().await?;
    if open.is_done() {
        *reading = None;
    }
    Ok(records)
}

/// A record, and the producer whose batch it lies in, if that has told.
pub(super) type Written = (Option<ProducerId>, ConsumedRecord);

/// A partition that is read up to an offset.
pub(super) struct Reading {
    topic: Arc<str>,
    partition: PartitionIndex,
    offset: Offset,
    end: Offset,
    receiver: FrameReceiver,
    // Dropped, these would end the stream.
    _sender: FrameSender,
    _route: Route,
}

impl Reading {
    /// `None` where nothing is to be read.
    pub(super) async fn open(
        client: &Client,
        topic: &str,
        range: Option<(PartitionIndex, Offset, Offset)>,
    ) -> Result<Option<Self>> {
        let Some((partition, offset, end)) = range.filter(|(_, start, end)| start < end) else {
            return Ok(None);
        };
        let fetched = FetchPartition {
            topic: topic.to_owned(),
            topic_id: None,
            partition,
            offset,
        };
        let request = Request::OpenFetch(OpenFetch {
            partitions: vec![fetched],
            max_bytes: DEFAULT_FETCH_BYTES as u32,
        });
        let led = [LedPartition {
            near: None,
            leaders: client.leaders(topic),
            partition,
        }];
        let opened = client.open_toward::<FetchOpened>(&led, request);
        let Opened {
            sender,
            receiver,
            route,
            ..
        } = opened.await?;
        Ok(Some(Self {
            topic: topic.into(),
            partition,
            offset,
            end,
            receiver,
            _sender: sender,
            _route: route,
        }))
    }

    /// Whether there is nothing more to be read.
    pub(super) fn is_done(&self) -> bool {
        self.offset >= self.end
    }

    pub(super) async fn next(&mut self) -> Result<Vec<Written>> {
        let received = receive_with_payload::<Fetched>(&mut self.receiver, MAX_FETCH_BYTES).await?;
        let (fetched, mut payload) = received.ok_or(Error::ConnectionLost(StreamError::Ended))?;
        let corrupt = |source| Error::Corrupt {
            topic: Arc::clone(&self.topic),
            partition: self.partition,
            offset: self.offset,
            source,
        };
        let mut records = Vec::new();
        while let Some(batch) = RecordBatch::parse_next(&mut payload).map_err(corrupt)? {
            if batch.header().control {
                continue;
            }
            let writer = batch.header().producer.map(|stamp| stamp.producer_id);
            for record in batch.records().map_err(corrupt)?.into_owned() {
                let (offset, record) = record.map_err(corrupt)?;
                if (self.offset..self.end).contains(&offset) {
                    let topic = &self.topic;
                    let record = ConsumedRecord::new(topic, self.partition, offset, record);
                    records.push((writer, record));
                }
            }
        }
        self.offset = fetched.next_offset.max(self.offset);
        Ok(records)
    }
}
