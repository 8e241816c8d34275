//! Consuming as fast as it goes.

use std::time::Instant;

use millstream::{Admin, Client, Consumer, PartitionDescription, Position};

use super::produce;
use crate::bench::payload::Payload;

/// Consumes the topic from its start, without a group; the seconds until `records` have come.
///
/// # Errors
///
/// A record that is not of the size expected, or more records than were produced.
pub(in crate::bench) async fn consume(
    client: &Client,
    topic: &str,
    record_bytes: usize,
    records: u64,
) -> anyhow::Result<f64> {
    let begun = Instant::now();
    let mut consumer = from_start(client, topic).await?;
    receive(&mut consumer, record_bytes, records).await?;
    Ok(begun.elapsed().as_secs_f64())
}

/// Produces and consumes the same records at the same time; the seconds from the first record sent
/// until the last has come.
pub(in crate::bench) async fn end_to_end(
    producing: &Client,
    consuming: &Client,
    payload: &Payload,
    topic: &str,
    record_bytes: usize,
    records: u64,
) -> anyhow::Result<f64> {
    let mut consumer = from_start(consuming, topic).await?;
    let producer = producing.producer(topic).build().await?;
    let (payload, begun) = (payload.clone(), Instant::now());
    let produced = tokio::spawn(async move {
        produce::send(&producer, &payload, record_bytes, records).await?;
        producer.close().await
    });
    receive(&mut consumer, record_bytes, records).await?;
    let elapsed = begun.elapsed();
    produced.await??;
    Ok(elapsed.as_secs_f64())
}

/// The records of a topic that are visible.
pub(in crate::bench) async fn count(admin: &Admin, topic: &str) -> millstream::Result<u64> {
    let partitions = admin.describe_topic(topic).await?.partitions;
    let records = |partition: &PartitionDescription| Ok(partition.known_log()?.visible_offsets());
    partitions.iter().map(records).sum()
}

/// A consumer of all partitions of a topic, from their start.
pub(super) async fn from_start(client: &Client, topic: &str) -> millstream::Result<Consumer> {
    client
        .consumer()
        .topics([topic])
        .start(Position::Earliest)
        .build()
        .await
}

/// Takes batches until `records` have come, and looks at every value.
async fn receive(consumer: &mut Consumer, record_bytes: usize, records: u64) -> anyhow::Result<()> {
    let (mut count, mut bytes) = (0, 0);
    while count < records {
        let batch = consumer.next_batch().await?;
        for record in batch.iter() {
            bytes += record.value.map_or(0, <[u8]>::len) as u64;
            count += 1;
        }
    }
    anyhow::ensure!(count == records, "{count} records came, not {records}");
    anyhow::ensure!(
        bytes == records * record_bytes as u64,
        "{bytes} bytes came in {records} records"
    );
    Ok(())
}
