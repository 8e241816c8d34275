//! An idempotent producer at a steady rate, and what was acknowledged to it.

use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use millstream::{Client, Delivery, Offset, PartitionIndex, ProduceRecord, Producer};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

/// Records a second.
pub(super) const PER_SECOND: u64 = 1_000;

/// How long nothing at all may be acknowledged.
const STANDSTILL: Duration = Duration::from_secs(60);

/// A record that was acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Acknowledged {
    /// Which record: its value.
    pub(super) number: u64,
    /// Where it is said to be.
    pub(super) partition: PartitionIndex,
    pub(super) offset: Offset,
}

/// How far a partition is.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    acknowledged: u64,
    /// The last record that was acknowledged: when it was sent, and when that was.
    last: Option<(Instant, Instant)>,
}

/// The load. It goes on until it is [finished](Self::finish), or dropped.
#[derive(Debug)]
pub(super) struct Load {
    stop: watch::Sender<bool>,
    sending: JoinHandle<anyhow::Result<()>>,
    partitions: Vec<Lane>,
}

/// The records of one partition: another one that stands still does not hold up what is seen of it.
#[derive(Debug)]
struct Lane {
    progress: watch::Receiver<Progress>,
    taking: JoinHandle<anyhow::Result<Vec<Acknowledged>>>,
}

/// A record that waits for its acknowledgement.
struct Sent {
    number: u64,
    at: Instant,
    delivery: Delivery,
}

impl Load {
    /// Starts to send to all partitions of a topic in turn.
    pub(super) async fn start(client: &Client, topic: &str) -> anyhow::Result<Self> {
        let producer = client.producer(topic).build().await?;
        let (stop, stopped) = watch::channel(false);
        let (mut lanes, mut partitions) = (Vec::new(), Vec::new());
        for _ in 0..producer.partitions() {
            let (sent, taken) = mpsc::unbounded_channel();
            let (tell, progress) = watch::channel(Progress::default());
            lanes.push(sent);
            let taking = tokio::spawn(take(taken, tell));
            partitions.push(Lane { progress, taking });
        }
        let sending = tokio::spawn(send(producer, lanes, stopped));
        Ok(Self {
            stop,
            sending,
            partitions,
        })
    }

    /// Records acknowledged so far.
    pub(super) fn acknowledged(&self) -> u64 {
        let lanes = self.partitions.iter();
        lanes.map(|it| it.progress.borrow().acknowledged).sum()
    }

    /// Waits until so many are.
    pub(super) async fn until_acknowledged(&mut self, records: u64) -> anyhow::Result<()> {
        while self.acknowledged() < records {
            let news = self.partitions.iter_mut().map(|it| {
                let changed = it.progress.changed();
                Box::pin(changed)
            });
            let news = futures_util::future::select_all(news);
            let (told, ..) = tokio::time::timeout(STANDSTILL, news)
                .await
                .context("no record is acknowledged any more")?;
            if told.is_err() {
                return Err(self.failure().await);
            }
        }
        Ok(())
    }

    /// Waits until a record that was sent after a moment is acknowledged in each of these partitions.
    /// Returns when the last of them was.
    pub(super) async fn until_written_after(
        &mut self,
        moment: Instant,
        partitions: &[PartitionIndex],
    ) -> anyhow::Result<Instant> {
        let mut written_at = moment;
        for partition in partitions {
            let lane = &mut self.partitions[*partition as usize];
            let first = first_after(&mut lane.progress, moment).await;
            match first {
                Some(at) => written_at = written_at.max(at),
                None => return Err(self.failure().await),
            }
        }
        Ok(written_at)
    }

    /// Why the load has ended by itself.
    async fn failure(&mut self) -> anyhow::Error {
        for lane in &mut self.partitions {
            if let Ok(Err(error)) = (&mut lane.taking).await {
                return error;
            }
        }
        anyhow!("the producer has stopped by itself")
    }

    /// Sends no more, and waits until everything that was sent is acknowledged.
    pub(super) async fn finish(self) -> anyhow::Result<Vec<Acknowledged>> {
        self.stop.send_replace(true);
        self.sending.await??;
        let mut acknowledged = Vec::new();
        for lane in self.partitions {
            acknowledged.extend(lane.taking.await??);
        }
        Ok(acknowledged)
    }
}

/// When the first record was acknowledged that was sent after a moment. `None`: nobody tells any more.
///
/// Acknowledgements of a partition come in the order in which its records were sent, so that the first such
/// record to be seen here is not far behind the very first one.
async fn first_after(progress: &mut watch::Receiver<Progress>, moment: Instant) -> Option<Instant> {
    let is_after = |it: &Progress| it.last.is_some_and(|(sent, _)| sent > moment);
    let found = progress.wait_for(is_after).await.ok()?;
    found.last.map(|(_, acknowledged)| acknowledged)
}

async fn send(
    producer: Producer,
    lanes: Vec<mpsc::UnboundedSender<Sent>>,
    stopped: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let mut due = interval(Duration::from_secs(1) / PER_SECOND as u32);
    // What was late is sent all the same.
    due.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut number = 0;
    while !*stopped.borrow() {
        due.tick().await;
        let partition = number % lanes.len() as u64;
        let record = ProduceRecord::new(number.to_string()).partition(partition as PartitionIndex);
        let at = Instant::now();
        let delivery = producer.send(record).await?;
        let sent = Sent {
            number,
            at,
            delivery,
        };
        if lanes[partition as usize].send(sent).is_err() {
            // It has failed, and says why.
            return Ok(());
        }
        number += 1;
    }
    drop(lanes);
    Ok(producer.close().await?)
}

async fn take(
    mut sent: mpsc::UnboundedReceiver<Sent>,
    tell: watch::Sender<Progress>,
) -> anyhow::Result<Vec<Acknowledged>> {
    let mut acknowledged = Vec::new();
    while let Some(Sent {
        number,
        at,
        delivery,
    }) = sent.recv().await
    {
        let stored = delivery.await;
        let stored = stored.with_context(|| format!("record {number} was not stored"))?;
        acknowledged.push(Acknowledged {
            number,
            partition: stored.partition,
            offset: stored.offset,
        });
        tell.send_modify(|progress| {
            progress.acknowledged += 1;
            progress.last = Some((at, Instant::now()));
        });
    }
    Ok(acknowledged)
}
