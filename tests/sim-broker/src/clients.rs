//! Clients at work: whoever makes the cluster, producers of numbered records, a reader of everything, a group, and an
//! operator who has replicas move.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use millstream::{Client, Delivery, Offset, Position, ProduceRecord, Producer, TransportConfig};
use millstream_broker::cluster::ticket::Ticket;
use millstream_protocol::TopicId;
use millstream_protocol::api::cluster::{BrokerState, IssueTicket};
use millstream_transport::identity::IssuedIdentity;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::entropy::{below, between};
use crate::ledger::{Ledger, Number};
use crate::place::{Place, transport};
use crate::run::now_ms;
use crate::trace::Trace;

/// The topic of a run.
pub(crate) const TOPIC: &str = "readings";

/// Its partitions.
pub(crate) const PARTITIONS: u32 = 3;

const REPLICAS: u8 = 3;

/// Producers.
const PRODUCERS: u32 = 2;

/// How often each sends to each partition, and how many records.
const EVERY: Duration = Duration::from_millis(50);
const RECORDS_EACH_TIME: usize = 2;

/// Records of one producer in one partition that wait for their acknowledgement.
const WINDOW: usize = 100;

/// Between two decisions of the operator.
const OPERATES_MS: (u64, u64) = (1_000, 6_000);

/// How often it is looked how the cluster stands.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Where a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// The cluster is being made.
    Begins,
    /// Clients are at work, and faults may happen.
    Works,
    /// Nothing more is sent, and nothing more happens: what was sent is to be acknowledged and read.
    Ends,
}

/// What all clients of a run share.
#[derive(Clone)]
pub(crate) struct Work {
    pub(crate) places: Arc<Vec<Arc<Place>>>,
    pub(crate) identity: Arc<IssuedIdentity>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) trace: Arc<Trace>,
    pub(crate) phase: watch::Sender<Phase>,
    /// The brokers that lead the partitions, as somebody was told lately.
    pub(crate) leaders: watch::Sender<Vec<u32>>,
    /// Once there is a topic.
    pub(crate) topic_id: watch::Sender<Option<TopicId>>,
    /// The brokers that keep each partition, as somebody was told lately.
    pub(crate) replicas: watch::Sender<Vec<Vec<u32>>>,
}

type Outcome<T> = Result<T, Box<dyn Error>>;

impl Work {
    /// A client that turns to one of the brokers first.
    async fn client(&self, first: usize) -> Outcome<Client> {
        let count = self.places.len();
        let places = (0..count).map(|index| &self.places[(first + index) % count]);
        let client = Client::builder()
            .addresses(places.map(|place| place.address.to_string()))
            .identity(self.identity.identity()?)
            .transport(transport(TransportConfig::client()));
        Ok(client.connect().await?)
    }

    /// Makes the cluster and the topic, has clients at work until the phase ends, and waits until everything
    /// that was sent is acknowledged and read.
    pub(crate) async fn run(self) -> turmoil::Result {
        let observer = self.make_cluster().await?;
        let mut producers = JoinSet::new();
        for number in 0..PRODUCERS {
            let client = self.client(number as usize).await?;
            let producer = Arc::new(client.producer(TOPIC).build().await?);
            for partition in 0..PARTITIONS {
                let task = Task {
                    work: self.clone(),
                    producer: Arc::clone(&producer),
                    number: number * PARTITIONS + partition,
                    partition,
                    in_flight: VecDeque::new(),
                };
                producers.spawn(task.run());
            }
        }
        let mut readers = JoinSet::new();
        readers.spawn(read(self.clone(), self.client(0).await?));
        for member in 0..2 {
            readers.spawn(take_part(self.clone(), self.client(member).await?));
        }
        let watching = tokio::spawn(watch_leaders(self.clone(), observer.clone()));
        let operating = tokio::spawn(operate(self.clone(), observer.clone()));
        self.phase.send_replace(Phase::Works);
        while let Some(ended) = producers.join_next().await {
            ended?;
        }
        self.trace.event(format_args!("everything is acknowledged"));
        while !self.all_read() {
            sleep(LOOK_EVERY).await;
        }
        self.trace.event(format_args!("everything is read"));
        operating.await?;
        self.until_well(&observer).await;
        while !self.is_everywhere().await? {
            sleep(LOOK_EVERY).await;
        }
        watching.abort();
        self.trace.event(format_args!("everything is everywhere"));
        Ok(())
    }

    /// Whether all replicas of each partition end where the others do, and are those that are known.
    async fn is_everywhere(&self) -> Outcome<bool> {
        let topic_id = *self.topic_id.borrow();
        let mut kept: BTreeMap<u32, BTreeMap<u32, Offset>> = BTreeMap::new();
        for index in 0..self.places.len() {
            let client = self.client(index).await?;
            let told = client.admin().describe_replicas().await?;
            client.close();
            if told.broker_id as usize != index + 1 {
                return Ok(false);
            }
            let replicas = told.replicas.into_iter().flatten();
            let ours = replicas.filter(|it| Some(it.partition.topic_id) == topic_id);
            for replica in ours {
                let of_partition = kept.entry(replica.partition.partition).or_default();
                of_partition.insert(told.broker_id, replica.log_end_offset);
            }
        }
        let known = self.replicas.borrow().clone();
        let is_whole = |partition: u32| {
            let (kept, known) = (kept.get(&partition)?, known.get(partition as usize)?);
            let are_known = kept.keys().eq(&BTreeSet::from_iter(known.iter().copied()));
            let ends: BTreeSet<Offset> = kept.values().copied().collect();
            (are_known && ends.len() == 1 && kept.len() == usize::from(REPLICAS)).then_some(())
        };
        Ok((0..PARTITIONS).all(|partition| is_whole(partition).is_some()))
    }

    /// Waits until all brokers are there and nothing is missing or moving anywhere. What the operator has asked for
    /// may be carried out a second time, and later than what was asked for next: it is asked for again.
    async fn until_well(&self, client: &Client) {
        let is_well = async || {
            let status = client.admin().describe_cluster().await.ok()?;
            for broker in &status.brokers {
                if broker.state == BrokerState::Draining {
                    undrain(self, client, broker.broker_id).await;
                }
            }
            let mut brokers = status.brokers.iter();
            let votes = status.quorum.members.iter().filter(|it| it.votes).count();
            let troubled =
                status.offline.count + status.under_replicated.count + status.changing.count;
            (status.brokers.len() == self.places.len()
                && votes == usize::from(REPLICAS)
                && brokers.all(|it| it.state == BrokerState::Live)
                && status.controller.is_some()
                && troubled == 0)
                .then_some(())
        };
        while is_well().await.is_none() {
            sleep(LOOK_EVERY).await;
        }
    }

    async fn make_cluster(&self) -> Outcome<Client> {
        let client = self.client(0).await?;
        for place in self.places.iter().skip(1) {
            let admin = client.admin();
            let issued = admin.issue_ticket(IssueTicket { valid_ms: 60_000 });
            place.ticket.send_replace(Some(Ticket::from(issued.await?)));
        }
        self.until_well(&client).await;
        let create = client.admin().create_topic(TOPIC);
        let create = create.partitions(PARTITIONS).replication_factor(REPLICAS);
        let topic = create.await?;
        self.topic_id.send_replace(Some(topic.topic_id));
        self.until_well(&client).await;
        self.trace.event(format_args!("the cluster is made"));
        Ok(client)
    }

    fn all_read(&self) -> bool {
        self.ledger.with(|told| {
            let sent: u64 = told.sent.values().sum();
            told.read.len() as u64 >= sent && told.delivered.len() as u64 >= sent
        })
    }
}

/// Has one broker after the other emptied, and filled again.
async fn operate(work: Work, client: Client) {
    let mut phase = work.phase.subscribe();
    let mut drained = None;
    while *phase.borrow() < Phase::Ends {
        let pause = sleep(between(OPERATES_MS));
        let ended = async {
            // Whoever tells the phase outlives this.
            let _ = phase.wait_for(|phase| *phase == Phase::Ends).await;
        };
        tokio::select! {
            biased;
            () = ended => {}
            () = pause => match drained.take() {
                None => {
                    let broker = 1 + below(work.places.len() as u64) as u32;
                    work.trace.event(format_args!("broker-{broker} is to be emptied"));
                    // Who is not told of the outcome goes on as if it had come about.
                    let _ = client.admin().drain_broker(broker).await;
                    drained = Some(broker);
                }
                Some(broker) => undrain(&work, &client, broker).await,
            },
        }
    }
    for broker in 1..=work.places.len() {
        undrain(&work, &client, broker as u32).await;
    }
}

/// Has a broker stay, whether it was to be emptied or not.
async fn undrain(work: &Work, client: &Client, broker: u32) {
    work.trace.event(format_args!("broker-{broker} stays"));
    while client.admin().undrain_broker(broker).await.is_err() {
        sleep(LOOK_EVERY).await;
    }
}

/// Keeps in mind who leads.
async fn watch_leaders(work: Work, client: Client) {
    loop {
        if let Ok(topic) = client.admin().describe_topic(TOPIC).await {
            let leaders: Vec<u32> = topic.partitions.iter().map(|it| it.leader).collect();
            let changed = work.leaders.send_if_modified(|known| {
                let changed = *known != leaders;
                known.clone_from(&leaders);
                changed
            });
            if changed {
                work.trace.event(format_args!("leaders are {leaders:?}"));
            }
            let replicas = topic.partitions.into_iter().map(|it| it.replicas);
            let replicas: Vec<Vec<u32>> = replicas.collect();
            let before = work.replicas.send_replace(replicas.clone());
            if before != replicas {
                work.trace.event(format_args!("replicas are {replicas:?}"));
                let moved = before
                    .iter()
                    .zip(&replicas)
                    .filter(|(it, other)| it != other);
                let moved = moved.count() as u64;
                work.ledger.with(|told| told.moves += moved);
            }
        }
        sleep(LOOK_EVERY).await;
    }
}

/// One producer's records for one partition.
struct Task {
    work: Work,
    producer: Arc<Producer>,
    number: u32,
    partition: u32,
    in_flight: VecDeque<(Number, Instant, Delivery)>,
}

impl Task {
    async fn run(mut self) {
        let mut phase = self.work.phase.subscribe();
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut index = 0;
        while *phase.borrow_and_update() < Phase::Ends {
            tokio::select! {
                biased;
                _ = phase.changed() => {}
                () = self.take_oldest(), if !self.in_flight.is_empty() => {}
                _ = ticks.tick(), if self.in_flight.len() < WINDOW => {
                    for _ in 0..RECORDS_EACH_TIME {
                        self.send(index).await;
                        index += 1;
                    }
                }
            }
        }
        while !self.in_flight.is_empty() {
            self.take_oldest().await;
        }
    }

    async fn send(&mut self, index: u64) {
        let number = Number {
            producer: self.number,
            index,
        };
        let record = ProduceRecord::new(number.to_string()).partition(self.partition);
        // By the simulation's clock, not by the system's.
        let record = record.timestamp_ms(now_ms());
        self.work
            .ledger
            .with(|told| told.sent.insert(self.number, index + 1));
        match self.producer.send(record).await {
            Ok(delivery) => self.in_flight.push_back((number, Instant::now(), delivery)),
            Err(error) => {
                let what = format!("record {number} is not taken: {error}");
                self.work.ledger.wrong(&self.work.trace, what);
            }
        }
    }

    /// Waits for the acknowledgement of the oldest record. Cancel-safe.
    async fn take_oldest(&mut self) {
        let Some((number, sent, delivery)) = self.in_flight.front_mut() else {
            return;
        };
        let (stored, number, took) = (delivery.await, *number, sent.elapsed());
        self.in_flight.pop_front();
        let Work { ledger, trace, .. } = &self.work;
        match stored {
            Ok(stored) => {
                let place = (stored.partition, stored.offset);
                trace.event(format_args!("{number} is acknowledged at {place:?}"));
                ledger.with(|told| {
                    told.acked.insert(number, place);
                    told.longest = told.longest.max(took);
                });
            }
            Err(error) => ledger.wrong(trace, format!("record {number} is not stored: {error}")),
        }
    }
}

/// Reads everything, from the first record on.
async fn read(work: Work, client: Client) {
    let all = (0..PARTITIONS).map(|partition| (TOPIC, partition, Position::Earliest));
    let consumer = client.consumer().assign(all).build().await;
    let mut consumer = consumer.expect("a consumer");
    let mut next = vec![0; PARTITIONS as usize];
    loop {
        match consumer.next().await {
            Ok(record) => {
                let number = Number::of(record.value.as_deref().unwrap_or_default());
                let place = (record.partition, record.offset);
                work.trace
                    .event(format_args!("{number} is read at {place:?}"));
                let next = &mut next[record.partition as usize];
                if record.offset < *next {
                    let what = format!("{place:?} is read behind {next}");
                    work.ledger.wrong(&work.trace, what);
                }
                *next = record.offset + 1;
                work.ledger.with(|told| told.read.insert(place, number));
            }
            Err(error) => {
                let what = format!("the reader has failed: {error}");
                work.ledger.wrong(&work.trace, what);
                return;
            }
        }
    }
}

/// Reads as a member of a group, which commits.
async fn take_part(work: Work, client: Client) {
    let consumer = client.consumer().group("watchers").topics([TOPIC]);
    let consumer = consumer.start(Position::Earliest).build().await;
    let mut consumer = consumer.expect("a place in the group");
    loop {
        match consumer.next().await {
            Ok(record) => {
                let number = Number::of(record.value.as_deref().unwrap_or_default());
                work.ledger.with(|told| told.delivered.insert(number));
            }
            Err(error) => {
                let what = format!("a member of the group has failed: {error}");
                work.ledger.wrong(&work.trace, what);
                return;
            }
        }
    }
}
