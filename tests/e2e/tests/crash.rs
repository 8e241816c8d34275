//! What was acknowledged is there after `kill -9`, at whatever moment.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use millstream::{
    Admin, Client, Durability, OffsetCommit, Position, TopicDescription, TopicSelection,
};
use millstream_e2e::broker::Broker;
use millstream_e2e::history::History;
use millstream_e2e::load::Load;
use millstream_e2e::patience::within;
use millstream_e2e::random::Random;
use tokio::sync::watch;
use tokio::task::JoinHandle;

const TOPIC: &str = "orders";
const PARTITIONS: u32 = 3;
const PRODUCERS: u32 = 4;

/// Every so many of these, the broker is killed while it starts as well.
const STARTS_KILLED_EVERY: u32 = 4;

/// Acknowledgements between two kills: each time another number of these.
const ACKED_BETWEEN_KILLS: std::ops::Range<u64> = 40..1_000;

/// Changes the moments. A failure comes back, as far as the machine's own timing lets it.
const SEED: u64 = 0x5eed_0001;

/// A start of a debug build takes longer than this: it is killed before it is ready, or just after.
const START_KILLED_WITHIN_MS: u64 = 150;

/// Topics that are there at the same time before the oldest is deleted.
const KEPT_TOPICS: u64 = 3;

/// Somebody who reads along, through every crash.
struct Follower {
    /// How many records there are, once that is known.
    goal: watch::Sender<usize>,
    task: JoinHandle<History>,
}

impl Follower {
    async fn start(client: Client) -> Self {
        let (goal, mut goals) = watch::channel(usize::MAX);
        let builder = client.consumer().topics([TOPIC]).start(Position::Earliest);
        let mut consumer = builder.build().await.expect("a consumer");
        let task = tokio::spawn(async move {
            let mut seen = History::default();
            while seen.len() < *goals.borrow() {
                tokio::select! {
                    record = consumer.next() => seen.add(record.expect("a record")),
                    _ = goals.changed() => {}
                }
            }
            seen
        });
        Self { goal, task }
    }

    /// Waits until it has seen as many records as there are.
    async fn finish(self, records: usize) -> History {
        self.goal.send_replace(records);
        within("the follower", self.task)
            .await
            .expect("a follower without a failure")
    }
}

/// Kills and restarts the broker this often under load, and compares what is there in the end with
/// what was acknowledged and seen. Gives the number of kills.
async fn survives(durability: Durability, kills_under_load: u32) -> u32 {
    let mut random = Random::seeded(SEED);
    let mut broker = Broker::start();
    let admin = broker.quick_client().await.admin();
    let topic = admin.create_topic(TOPIC).partitions(PARTITIONS);
    topic.durability(durability).await.unwrap();
    let follower = Follower::start(broker.quick_client().await).await;
    let mut load = Load::start(&broker, TOPIC, PRODUCERS).await;

    let mut kills = 0;
    let mut least_acked_between = u64::MAX;
    for round in 0..kills_under_load {
        let before = load.acked();
        load.advance(random.between(ACKED_BETWEEN_KILLS)).await;
        least_acked_between = least_acked_between.min(load.acked() - before);
        broker.kill();
        kills += 1;
        if round % STARTS_KILLED_EVERY == 0 {
            let moment = Duration::from_millis(random.between(0..START_KILLED_WITHIN_MS));
            broker.restart_and_kill_after(moment);
            kills += 1;
        }
        broker.restart();
    }
    let acked = load.finish().await;

    // What the last process knows without its predecessors: the disk.
    broker.kill();
    broker.restart();
    kills += 1;
    let history = History::read(&broker.client().await, TOPIC).await;
    let verdict = history.judge(&acked);
    println!(
        "{durability:?}: kills {kills}, acked between two at least {least_acked_between}, {verdict:?}"
    );
    assert!(verdict.is_clean(), "{verdict:?}");
    assert_eq!(
        history.len(),
        verdict.acked,
        "there are records that nobody has sent"
    );
    let seen = follower.finish(history.len()).await;
    let same = seen == history;
    assert!(same, "a crash took back what a consumer had seen");
    let least = ACKED_BETWEEN_KILLS.start;
    assert!(least_acked_between >= least, "the run exercised too little");
    kills
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_acknowledged_record_is_there_once_after_twenty_kills_under_load() {
    let kills = survives(Durability::Sync, 22).await;
    assert!(kills >= 20, "only {kills} kills");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relaxed_topic_survives_the_death_of_the_process_too() {
    let kills = survives(Durability::Relaxed, 6).await;
    assert!(kills >= 6, "only {kills} kills");
}

/// Makes topics, commits a group's offset and deletes older topics, over and over, until told to
/// stop. Gives how many rounds were acknowledged.
async fn administer(admin: Admin, begun: watch::Sender<u64>, stop: watch::Receiver<bool>) -> u64 {
    let begin = || begun.send_modify(|requests| *requests += 1);
    let mut round = 0;
    while !*stop.borrow() {
        begin();
        let made = admin.create_topic(format!("t-{round}")).partitions(2).await;
        made.unwrap_or_else(|error| panic!("topic {round} was not made: {error}"));
        let commit = OffsetCommit {
            topic: TOPIC.to_owned(),
            partition: 0,
            offset: round,
            metadata: format!("round {round}"),
        };
        begin();
        let committed = admin.commit_group_offsets("clerk", vec![commit]).await;
        committed.unwrap_or_else(|error| panic!("offset {round} was not committed: {error}"));
        if let Some(old) = round.checked_sub(KEPT_TOPICS) {
            begin();
            let deleted = admin.delete_topic(format!("t-{old}")).await;
            deleted.unwrap_or_else(|error| panic!("topic {old} was not deleted: {error}"));
        }
        round += 1;
    }
    round
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_and_offsets_are_what_was_acknowledged_after_kills() {
    const KILLS: u32 = 8;
    let mut random = Random::seeded(SEED);
    let mut broker = Broker::start();
    let client = broker.quick_client().await;
    client.admin().create_topic(TOPIC).await.unwrap();
    let (count, mut counted) = watch::channel(0);
    let (stop, stopped) = watch::channel(false);
    let clerk = tokio::spawn(administer(client.admin(), count, stopped));
    for _ in 0..KILLS {
        // In the midst of any request of a round.
        let goal = *counted.borrow() + random.between(3..24);
        within("more requests", counted.wait_for(|count| *count >= goal))
            .await
            .expect("a clerk at work");
        broker.kill();
        broker.restart();
    }
    stop.send_replace(true);
    let rounds = within("the clerk", clerk)
        .await
        .expect("a clerk without a failure");
    broker.kill();
    broker.restart();

    let admin = broker.client().await.admin();
    let names = |topics: Vec<TopicDescription>| -> BTreeSet<String> {
        topics.into_iter().map(|topic| topic.name).collect()
    };
    let kept = rounds.saturating_sub(KEPT_TOPICS)..rounds;
    let mut expected: BTreeSet<String> = kept.map(|round| format!("t-{round}")).collect();
    expected.insert(TOPIC.to_owned());
    assert_eq!(names(admin.list_topics().await.unwrap()), expected);
    let offsets = admin.group_offsets("clerk").await.unwrap();
    assert_eq!((offsets.len(), offsets[0].offset), (1, rounds - 1));
    // Of what was deleted, nothing lies around.
    let all = admin
        .select_topics(TopicSelection::AllWithInternal)
        .await
        .unwrap();
    let known: BTreeSet<String> = all.iter().map(|topic| topic.topic_id.to_string()).collect();
    let folders = std::fs::read_dir(broker.broker_dir().join("topics")).unwrap();
    let unknown: Vec<_> = folders
        .map(|folder| folder.unwrap().file_name().into_string().unwrap())
        .filter(|folder| !known.contains(folder))
        .collect();
    println!(
        "{rounds} rounds, {} kills, folders that no topic lists: {unknown:?}",
        KILLS + 1
    );
    assert!(
        unknown.len() <= 1,
        "only the metadata's own log is in no listing: {unknown:?}"
    );
}

/// A client that hears nothing gives a connection up after this.
const MAX_IDLE: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_client_of_a_broker_that_was_killed_goes_on_when_it_is_back() {
    let mut broker = Broker::start();
    let admin = broker.client().await.admin();
    admin.create_topic("orders").await.unwrap();
    for _ in 0..3 {
        broker.kill();
        broker.restart();
        let began = Instant::now();
        assert_eq!(admin.list_topics().await.unwrap().len(), 1);
        assert!(began.elapsed() < MAX_IDLE / 2, "{:?}", began.elapsed());
    }
}
