//! A cluster that loses a broker, seen by a client.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bytes::{BufMut, BytesMut};
use millstream::cluster::ReplicaDescription;
use millstream::{Admin, Client, Delivery, Offset, ProduceRecord, Producer, TopicDescription};
use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval};

use super::consume::from_start;
use super::latency::{INDEX_BYTES, index_of};
use crate::bench::payload::Payload;

/// From one record to the next.
const RECORD_EVERY: Duration = Duration::from_millis(1);

/// Records that are acknowledged before a process is killed.
const RECORDS_BEFORE: u64 = 300;

/// How long it may take until records are acknowledged again.
const FAIL_OVER_LIMIT: Duration = Duration::from_secs(60);

/// How often brokers are asked what they lead.
const LEADERS_LOOK: Duration = Duration::from_millis(10);

/// How often a replica is asked how far it is.
const CATCH_UP_LOOK: Duration = Duration::from_millis(2);

/// How long a replica may take to have everything.
const CATCH_UP_LIMIT: Duration = Duration::from_secs(120);

/// How often it is looked whether everything was read: not every offset holds a record.
const READ_LOOK: Duration = Duration::from_millis(10);

/// Where records go.
pub(in crate::bench) struct Target {
    pub(in crate::bench) topic: String,
    pub(in crate::bench) partition: u32,
    pub(in crate::bench) record_bytes: usize,
}

/// Produces to one partition, kills a process of the run's own that it has not waited for, and goes on until
/// a record is acknowledged that was sent after that. The seconds from the kill to then.
///
/// # Errors
///
/// A record that was lost or is there twice: leadership that moves at that price is worth nothing.
pub(in crate::bench) async fn fail_over(
    client: &Client,
    payload: &Payload,
    target: Target,
    process: u32,
) -> anyhow::Result<f64> {
    let producer = client.producer(&target.topic).build().await?;
    let (stop, stopped) = watch::channel(false);
    let (sent, mut deliveries) = mpsc::unbounded_channel();
    let value = payload.slice(0, target.record_bytes.saturating_sub(INDEX_BYTES));
    let value = value.to_vec();
    let sending = tokio::spawn(send(producer, value, target.partition, sent, stopped));
    for index in 0..RECORDS_BEFORE {
        let (_, delivery) = deliveries.recv().await.context("records are sent")?;
        delivery
            .await
            .with_context(|| format!("record {index} was not stored"))?;
    }
    let killed_at = Instant::now();
    kill(process)?;
    let first = async {
        loop {
            let (sent_at, delivery) = deliveries.recv().await.context("records are sent")?;
            delivery.await?;
            if sent_at > killed_at {
                return anyhow::Ok(killed_at.elapsed());
            }
        }
    };
    let first = tokio::time::timeout(FAIL_OVER_LIMIT, first);
    let outage = first
        .await
        .context("no record is acknowledged after a leader was killed")??;
    stop.send_replace(true);
    let records = sending.await??;
    while let Some((_, delivery)) = deliveries.recv().await {
        delivery.await?;
    }
    verify(client, &target.topic, records).await?;
    Ok(outage.as_secs_f64())
}

/// Sends records until it is told to stop; how many.
async fn send(
    producer: Producer,
    rest: Vec<u8>,
    partition: u32,
    sent: mpsc::UnboundedSender<(Instant, Delivery)>,
    stopped: watch::Receiver<bool>,
) -> anyhow::Result<u64> {
    let mut due = interval(RECORD_EVERY);
    due.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut value = BytesMut::new();
    let mut index = 0;
    while !*stopped.borrow() {
        due.tick().await;
        value.clear();
        value.put_u64(index);
        value.put_slice(&rest);
        let at = Instant::now();
        let record = ProduceRecord::new(&value[..]).partition(partition);
        let delivery = producer.send(record).await?;
        // Whoever takes them has failed, and says why.
        let _ = sent.send((at, delivery));
        index += 1;
    }
    producer.close().await?;
    Ok(index)
}

/// Each of the records is there once.
async fn verify(client: &Client, topic: &str, records: u64) -> anyhow::Result<()> {
    let described = client.admin().describe_topic(topic).await?;
    let mut consumer = from_start(client, topic).await?;
    let mut seen = vec![0_u32; usize::try_from(records)?];
    let mut looks = interval(READ_LOOK);
    for partition in described.partitions {
        let known = partition.known_log().map_err(millstream::Error::from)?;
        let end = known.high_watermark;
        let position = |consumer: &millstream::Consumer| {
            consumer
                .position(topic, partition.partition)
                .unwrap_or_default()
        };
        while position(&consumer) < end {
            tokio::select! {
                batch = consumer.next_batch() => {
                    for record in batch?.iter() {
                        let index = index_of(record.value.unwrap_or_default());
                        let index = index.and_then(|index| usize::try_from(index).ok());
                        let count = index.and_then(|index| seen.get_mut(index));
                        *count.context("a record that was not sent")? += 1;
                    }
                }
                _ = looks.tick() => {}
            }
        }
    }
    let lost = seen.iter().filter(|count| **count == 0).count();
    let twice = seen.iter().filter(|count| **count > 1).count();
    ensure!(
        (lost, twice) == (0, 0),
        "of {records} records {lost} are lost and {twice} are there more than once"
    );
    Ok(())
}

/// Ends a process as a crash would.
fn kill(process: u32) -> anyhow::Result<()> {
    let pid = i32::try_from(process).ok().and_then(Pid::from_raw);
    let pid = pid.context("a process without a number")?;
    kill_process(pid, Signal::KILL).context("cannot kill a broker")
}

/// Kills a process of the run's own that it has not waited for; the seconds until the brokers that are asked
/// lead all partitions of a topic.
pub(in crate::bench) async fn elect(
    brokers: &[Admin],
    topic: &str,
    process: u32,
) -> anyhow::Result<f64> {
    let any = brokers.first().context("brokers that are asked")?;
    let described = any.describe_topic(topic).await?;
    let mut looks = interval(LEADERS_LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let killed_at = Instant::now();
    kill(process)?;
    loop {
        looks.tick().await;
        let mut led = 0;
        for broker in brokers {
            let replicas = replicas_of(broker, &described).await?;
            led += replicas.iter().filter(|it| it.leading.is_some()).count();
        }
        // Two may take themselves for the leader of one, of which the older cannot commit any more; but of
        // those that are asked, all have led before.
        if led >= described.partitions.len() {
            return Ok(killed_at.elapsed().as_secs_f64());
        }
        ensure!(
            killed_at.elapsed() < FAIL_OVER_LIMIT,
            "{led} of {} partitions are led",
            described.partitions.len()
        );
    }
}

/// Waits until a broker's replica of a topic of one partition has everything; the bytes of a second, from the
/// first that are seen on, millions.
pub(in crate::bench) async fn catch_up(
    cluster: &Admin,
    broker: &Admin,
    topic: &str,
) -> anyhow::Result<f64> {
    let described = cluster.describe_topic(topic).await?;
    let partition = described.partitions.first().context("a partition")?;
    let known = partition.known_log().map_err(millstream::Error::from)?;
    let end = known.log_end_offset;
    let begun = Instant::now();
    let mut looks = interval(CATCH_UP_LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut first: Option<(Instant, u64, Offset)> = None;
    loop {
        looks.tick().await;
        let replicas = replicas_of(broker, &described).await?;
        let now = Instant::now();
        if let Some(replica) = replicas.first().filter(|it| it.log_end_offset > 0) {
            let (since, bytes, offset) =
                *first.get_or_insert((now, replica.size_bytes, replica.log_end_offset));
            if replica.log_end_offset >= end {
                ensure!(
                    offset < end / 2,
                    "half of the log had been copied before it was looked at: it is too short"
                );
                let copied = (replica.size_bytes - bytes) as f64;
                return Ok(copied / 1e6 / (now - since).as_secs_f64());
            }
        }
        ensure!(begun.elapsed() < CATCH_UP_LIMIT, "it does not catch up");
    }
}

/// What a broker keeps of a topic.
async fn replicas_of(
    broker: &Admin,
    topic: &TopicDescription,
) -> anyhow::Result<Vec<ReplicaDescription>> {
    let told = broker.describe_replicas().await?;
    let mut replicas = told.replicas.context("too many replicas to be told of")?;
    replicas.retain(|it| it.partition.topic_id == topic.topic_id);
    Ok(replicas)
}
