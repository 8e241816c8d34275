//! Producing as fast as it goes.

use std::time::Instant;

use millstream::{Client, ProduceRecord, Producer};

use crate::bench::payload::Payload;

/// Produces `records` of one size, with the defaults of a producer; the seconds until the last is
/// acknowledged.
pub(in crate::bench) async fn produce(
    client: &Client,
    payload: &Payload,
    topic: &str,
    record_bytes: usize,
    records: u64,
) -> millstream::Result<f64> {
    let producer = client.producer(topic).build().await?;
    let begun = Instant::now();
    send(&producer, payload, record_bytes, records).await?;
    let elapsed = begun.elapsed();
    producer.close().await?;
    Ok(elapsed.as_secs_f64())
}

/// Sends the records and waits for the acknowledgement of the last.
pub(super) async fn send(
    producer: &Producer,
    payload: &Payload,
    record_bytes: usize,
    records: u64,
) -> millstream::Result<()> {
    for index in 0..records {
        let value = payload.slice(index * record_bytes as u64, record_bytes);
        // A failure is told by the flush.
        producer.send(ProduceRecord::new(value)).await?;
    }
    producer.flush().await
}
