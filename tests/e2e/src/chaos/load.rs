//! Clients at work all the while: producers of numbered records to every partition, somebody who reads
//! everything, and a group.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use millstream::{
    Client, ConsumedRecord, Delivery, PartitionIndex, Position, ProduceRecord, Producer,
};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval};

use super::ledger::Ledger;
use crate::history::History;
use crate::load::{Acked, Number};
use crate::patience::within;

/// Records of one producer in one partition that wait for their acknowledgement.
const WINDOW: usize = 200;

/// How often each of them sends, and how many records: a steady load, so that what a fault costs is seen.
const EVERY: Duration = Duration::from_millis(20);
const RECORDS_EACH_TIME: usize = 2;

/// Makes records as large as usual ones, bytes.
const PADDING: usize = 80;

/// A record's value: its number, when it was sent, and padding.
fn value(number: Number, since: Duration) -> String {
    format!("{number}/{}/{:PADDING$}", since.as_micros(), "")
}

/// When a record was sent, since the run began.
fn sent(record: &ConsumedRecord) -> Duration {
    let text = std::str::from_utf8(record.value.as_deref().unwrap_or_default());
    let micros = text
        .ok()
        .and_then(|text| text.split('/').nth(2)?.parse().ok());
    Duration::from_micros(micros.expect("when it was sent"))
}

/// The clients of one run.
pub(super) struct Load {
    stop: watch::Sender<bool>,
    producers: JoinSet<u64>,
    /// How many records there are, once that is known.
    goal: watch::Sender<usize>,
    reader: JoinHandle<History>,
    member: JoinHandle<()>,
}

/// What all of them know.
#[derive(Clone)]
pub(super) struct Work {
    pub(super) topic: &'static str,
    pub(super) partitions: u32,
    pub(super) ledger: Arc<Ledger>,
    /// When the run began.
    pub(super) began: Instant,
}

impl Load {
    /// Starts a producer, of all partitions, with each of these clients, and readers.
    pub(super) async fn start(work: &Work, clients: Vec<Client>, readers: [Client; 2]) -> Self {
        let (stop, stopped) = watch::channel(false);
        let mut producers = JoinSet::new();
        for (index, client) in clients.into_iter().enumerate() {
            let producer = client.producer(work.topic).build().await;
            let producer = Arc::new(producer.expect("a producer"));
            for partition in 0..work.partitions {
                let task = Task {
                    work: work.clone(),
                    producer: Arc::clone(&producer),
                    number: index as u32 * work.partitions + partition,
                    partition,
                    in_flight: VecDeque::new(),
                };
                producers.spawn(task.run(stopped.clone()));
            }
        }
        let (goal, goals) = watch::channel(usize::MAX);
        let [reader, member] = readers;
        Self {
            stop,
            producers,
            goal,
            reader: tokio::spawn(read(work.clone(), reader, goals)),
            member: tokio::spawn(take_part(work.clone(), member)),
        }
    }

    /// Sends no more, and waits until everything sent is acknowledged and read. Gives what was read along the
    /// way.
    pub(super) async fn finish(mut self) -> History {
        self.stop.send_replace(true);
        let mut records = 0;
        while let Some(sent) =
            within("everything is acknowledged", self.producers.join_next()).await
        {
            records += sent.expect("a producer without a failure");
        }
        self.goal.send_replace(records as usize);
        self.member.abort();
        let read = within("everything is read", self.reader).await;
        read.expect("a reader without a failure")
    }

    /// Whether somebody has failed already.
    pub(super) fn has_ended(&self) -> bool {
        self.reader.is_finished() || self.member.is_finished()
    }
}

struct Task {
    work: Work,
    producer: Arc<Producer>,
    number: u32,
    partition: PartitionIndex,
    in_flight: VecDeque<(Number, Instant, Delivery)>,
}

impl Task {
    /// Gives how many records it has sent.
    async fn run(mut self, mut stopped: watch::Receiver<bool>) -> u64 {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut index = 0;
        while !*stopped.borrow_and_update() {
            tokio::select! {
                _ = ticks.tick(), if self.in_flight.len() < WINDOW => {
                    for _ in 0..RECORDS_EACH_TIME {
                        self.send(index).await;
                        index += 1;
                    }
                }
                () = self.take_oldest(), if !self.in_flight.is_empty() => {}
                _ = stopped.changed() => {}
            }
        }
        while !self.in_flight.is_empty() {
            self.take_oldest().await;
        }
        index
    }

    async fn send(&mut self, index: u64) {
        let number = Number {
            producer: self.number,
            index,
        };
        let sent = Instant::now();
        let value = value(number, sent - self.work.began);
        let record = ProduceRecord::new(value).partition(self.partition);
        let delivery = self.producer.send(record).await;
        let delivery = delivery.expect("a record that is taken");
        self.in_flight.push_back((number, sent, delivery));
    }

    /// Waits for the acknowledgement of the oldest record. Cancel-safe.
    async fn take_oldest(&mut self) {
        let Some((number, sent, delivery)) = self.in_flight.front_mut() else {
            return;
        };
        let stored = delivery.await;
        let stored =
            stored.unwrap_or_else(|error| panic!("record {number} was not stored: {error}"));
        let acked = Acked {
            number: *number,
            partition: stored.partition,
            offset: stored.offset,
        };
        self.work.ledger.acked(acked, *sent);
        self.in_flight.pop_front();
    }
}

/// Reads everything, from the first record on, until there is nothing more.
async fn read(work: Work, client: Client, mut goal: watch::Receiver<usize>) -> History {
    let all = 0..work.partitions;
    let all = all.map(|partition| (work.topic, partition, Position::Earliest));
    let consumer = client.consumer().assign(all).build().await;
    let mut consumer = consumer.expect("a consumer");
    let mut seen = History::default();
    let mut next = vec![0; work.partitions as usize];
    while seen.len() < *goal.borrow_and_update() {
        tokio::select! {
            record = consumer.next() => {
                let record = record.expect("a record");
                let next = &mut next[record.partition as usize];
                assert!(record.offset >= *next, "offset {} comes after {next}", record.offset);
                *next = record.offset + 1;
                work.ledger.read(record.partition, work.began + sent(&record));
                seen.add(record);
            }
            _ = goal.changed() => {}
        }
    }
    seen
}

/// Reads as the only member of a group, which commits.
async fn take_part(work: Work, client: Client) {
    let consumer = client.consumer().group("chaos").topics([work.topic]);
    let consumer = consumer.start(Position::Earliest).build().await;
    let mut consumer = consumer.expect("a place in the group");
    loop {
        consumer.next().await.expect("a record");
    }
}
