//! The latency of single records at a constant rate.

use std::time::Instant;

use anyhow::Context;
use bytes::{BufMut, BytesMut};
use millstream::{Client, Delivery, ProduceRecord, Producer};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::consume::from_start;
use crate::bench::payload::Payload;
use crate::bench::schedule::Schedule;
use crate::bench::stats::{LatencyFigures, LatencyRecorder};

/// Every record begins with its place in the schedule.
pub(super) const INDEX_BYTES: usize = 8;

/// From the time that a record is due until its acknowledgement.
pub(in crate::bench) async fn acknowledged(
    client: &Client,
    payload: &Payload,
    topic: &str,
    schedule: Schedule,
    record_bytes: usize,
) -> anyhow::Result<LatencyFigures> {
    let producer = client.producer(topic).build().await?;
    let mut latencies = LatencyRecorder::new()?;
    let mut paced = Paced::start(producer, payload, schedule, record_bytes);
    while let Some((index, delivery)) = paced.deliveries.recv().await {
        delivery.await?;
        if schedule.counts(index) {
            latencies.record(paced.start.elapsed().saturating_sub(schedule.due(index)));
        }
    }
    paced.thread.await??;
    Ok(latencies.figures())
}

/// From the time that a record is due in one topic until another client's consumer has it from the
/// other, which may be the same.
pub(in crate::bench) async fn end_to_end(
    producing: &Client,
    consuming: &Client,
    payload: &Payload,
    (input, output): (&str, &str),
    schedule: Schedule,
    record_bytes: usize,
) -> anyhow::Result<LatencyFigures> {
    let mut consumer = from_start(consuming, output).await?;
    let producer = producing.producer(input).build().await?;
    let mut latencies = LatencyRecorder::new()?;
    let paced = Paced::start(producer, payload, schedule, record_bytes);
    let mut consumed = 0;
    while consumed < schedule.total() {
        let batch = consumer.next_batch().await?;
        let now = paced.start.elapsed();
        for record in batch.iter() {
            let index =
                index_of(record.value.unwrap_or_default()).context("a record without its index")?;
            if schedule.counts(index) {
                latencies.record(now.saturating_sub(schedule.due(index)));
            }
            consumed += 1;
        }
    }
    paced.thread.await??;
    Ok(latencies.figures())
}

/// Records that are sent by a schedule, from a thread of its own.
struct Paced {
    start: Instant,
    thread: JoinHandle<anyhow::Result<()>>,
    /// Every record's delivery, with its place in the schedule.
    deliveries: mpsc::UnboundedReceiver<(u64, Delivery)>,
}

impl Paced {
    fn start(
        producer: Producer,
        payload: &Payload,
        schedule: Schedule,
        record_bytes: usize,
    ) -> Self {
        let (sent, deliveries) = mpsc::unbounded_channel();
        let (payload, handle, start) = (payload.clone(), Handle::current(), Instant::now());
        let thread = tokio::task::spawn_blocking(move || {
            let mut value = BytesMut::with_capacity(record_bytes);
            schedule.pace(start, |index| -> millstream::Result<()> {
                value.clear();
                value.put_u64(index);
                value.put(payload.slice(
                    index * record_bytes as u64,
                    record_bytes.saturating_sub(INDEX_BYTES),
                ));
                let delivery = handle.block_on(producer.send(ProduceRecord::new(&value[..])))?;
                // Nobody waits for deliveries when the consumer's side is measured.
                let _ = sent.send((index, delivery));
                Ok(())
            })?;
            Ok(handle.block_on(producer.close())?)
        });
        Self {
            start,
            thread,
            deliveries,
        }
    }
}

pub(super) fn index_of(value: &[u8]) -> Option<u64> {
    value
        .first_chunk::<INDEX_BYTES>()
        .map(|index| u64::from_be_bytes(*index))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_tells_its_place() {
        let mut value = BytesMut::new();
        value.put_u64(70_000);
        value.put_slice(b"payload");
        assert_eq!(index_of(&value), Some(70_000));
        assert_eq!(index_of(b"short"), None);
    }
}
