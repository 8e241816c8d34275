//! Numbered records from several idempotent producers, for as long as a test wants.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use millstream::{Client, ConsumedRecord, Delivery, Offset, PartitionIndex, ProduceRecord};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::interval;

use crate::broker::Broker;
use crate::patience::within;

/// Records of one producer that wait for their acknowledgement.
const WINDOW: usize = 32;

/// Which record it is: the value of a record that this load has sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Number {
    /// Which producer.
    pub producer: u32,
    /// Which of its records.
    pub index: u64,
}

impl Number {
    /// Reads a record's number.
    pub fn of(record: &ConsumedRecord) -> Self {
        Self::of_value(record.value.as_deref().unwrap_or_default())
    }

    /// The same of its value. What a test has written behind the number and another `/` is left out.
    pub fn of_value(value: &[u8]) -> Self {
        let text = std::str::from_utf8(value).expect("a number");
        let mut parts = text.split('/');
        let (producer, index) = parts.next().zip(parts.next()).expect("a number");
        Self {
            producer: producer.parse().expect("a producer"),
            index: index.parse().expect("an index"),
        }
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.producer, self.index)
    }
}

/// A record that was acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acked {
    /// Which record.
    pub number: Number,
    /// Where it is.
    pub partition: PartitionIndex,
    /// At which offset.
    pub offset: Offset,
}

/// Producers at work, each on a connection of its own, over all partitions of a topic in turn.
#[derive(Debug)]
pub struct Load {
    stop: watch::Sender<bool>,
    acked: watch::Receiver<u64>,
    producers: JoinSet<Vec<Acked>>,
}

impl Load {
    /// Starts this many producers.
    pub async fn start(broker: &Broker, topic: &str, producers: u32) -> Self {
        let mut clients = Vec::new();
        for _ in 0..producers {
            clients.push(broker.quick_client().await);
        }
        Self::of(clients, topic)
    }

    /// Starts one producer with each of these clients.
    pub fn of(clients: Vec<Client>, topic: &str) -> Self {
        Self::paced(clients, topic, None)
    }

    /// The same. Each sends a record every so often: a load beside which others have room.
    pub fn paced(clients: Vec<Client>, topic: &str, every: Option<Duration>) -> Self {
        let (stop, stopped) = watch::channel(false);
        let (count, acked) = watch::channel(0);
        let mut tasks = JoinSet::new();
        for (producer, client) in (0..).zip(clients) {
            let task = Task {
                producer,
                in_flight: VecDeque::with_capacity(WINDOW),
                acked: Vec::new(),
                count: count.clone(),
                every,
            };
            tasks.spawn(task.run(client, topic.to_owned(), stopped.clone()));
        }
        Self {
            stop,
            acked,
            producers: tasks,
        }
    }

    /// Records acknowledged so far.
    pub fn acked(&self) -> u64 {
        *self.acked.borrow()
    }

    /// Waits until so many more records are acknowledged.
    pub async fn advance(&mut self, records: u64) {
        let goal = self.acked() + records;
        within(
            "more acknowledgements",
            self.acked.wait_for(|acked| *acked >= goal),
        )
        .await
        .expect("producers that run");
    }

    /// Sends no more, and waits until everything sent is acknowledged.
    pub async fn finish(mut self) -> Vec<Acked> {
        self.stop.send_replace(true);
        let mut acked = Vec::new();
        while let Some(done) = within("the last acknowledgements", self.producers.join_next()).await
        {
            acked.extend(done.expect("a producer without a failure"));
        }
        acked
    }
}

struct Task {
    producer: u32,
    in_flight: VecDeque<(Number, Delivery)>,
    acked: Vec<Acked>,
    count: watch::Sender<u64>,
    /// How often it sends; `None`: as fast as it can.
    every: Option<Duration>,
}

impl Task {
    async fn run(
        mut self,
        client: Client,
        topic: String,
        stopped: watch::Receiver<bool>,
    ) -> Vec<Acked> {
        let producer = client.producer(&topic).build().await.expect("a producer");
        let mut ticks = self.every.map(interval);
        let mut index = 0;
        while !*stopped.borrow() {
            if let Some(ticks) = &mut ticks {
                ticks.tick().await;
            }
            let number = Number {
                producer: self.producer,
                index,
            };
            let partition = (index % u64::from(producer.partitions())) as PartitionIndex;
            let record = ProduceRecord::new(number.to_string()).partition(partition);
            let delivery = producer.send(record).await.expect("a record that is taken");
            self.in_flight.push_back((number, delivery));
            if self.in_flight.len() >= WINDOW {
                self.take_oldest().await;
            }
            index += 1;
        }
        while !self.in_flight.is_empty() {
            self.take_oldest().await;
        }
        producer.close().await.expect("everything stored");
        client.close();
        self.acked
    }

    async fn take_oldest(&mut self) {
        let Some((number, delivery)) = self.in_flight.pop_front() else {
            return;
        };
        let stored = delivery.await;
        let stored =
            stored.unwrap_or_else(|error| panic!("record {number} was not stored: {error}"));
        self.acked.push(Acked {
            number,
            partition: stored.partition,
            offset: stored.offset,
        });
        self.count.send_modify(|count| *count += 1);
    }
}
