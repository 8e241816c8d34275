//! What was acknowledged is there after `kill -9`, at whatever moment.

use std::time::Duration;

use millstream::{Client, Position};
use millstream_e2e::broker::Broker;
use millstream_e2e::history::{History, Verdict};
use millstream_e2e::load::Load;
use millstream_e2e::patience::within;
use millstream_e2e::random::Random;
use tokio::sync::watch;
use tokio::task::JoinHandle;

const TOPIC: &str = "orders";
const PARTITIONS: u32 = 3;
const PRODUCERS: u32 = 4;

/// Kills while producers are being served.
const KILLS_UNDER_LOAD: u32 = 22;

/// Every so many of these, the broker is killed while it starts as well.
const STARTS_KILLED_EVERY: u32 = 4;

/// Acknowledgements between two kills: each time another number of these.
const ACKED_BETWEEN_KILLS: std::ops::Range<u64> = 40..1_000;

/// Changes the moments. A failure comes back, as far as the machine's own timing lets it.
const SEED: u64 = 0x5eed_0001;

/// A start of a debug build takes longer than this: it is killed before it is ready, or just after.
const START_KILLED_WITHIN_MS: u64 = 150;

/// Somebody who reads along, through every crash.
struct Follower {
    stop: watch::Sender<bool>,
    task: JoinHandle<History>,
}

impl Follower {
    async fn start(client: Client) -> Self {
        let (stop, mut stopped) = watch::channel(false);
        let builder = client.consumer().topics([TOPIC]).start(Position::Earliest);
        let mut consumer = builder.build().await.expect("a consumer");
        let task = tokio::spawn(async move {
            let mut seen = History::default();
            loop {
                tokio::select! {
                    record = consumer.next() => seen.add(record.expect("a record")),
                    _ = stopped.wait_for(|stopped| *stopped) => return seen,
                }
            }
        });
        Self { stop, task }
    }

    async fn finish(self) -> History {
        self.stop.send_replace(true);
        within("the follower", self.task)
            .await
            .expect("a follower without a failure")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_acknowledged_record_is_there_once_after_twenty_kills_under_load() {
    let mut random = Random::seeded(SEED);
    let mut broker = Broker::start();
    let admin = broker.quick_client().await.admin();
    // Durability is the default: an acknowledgement means that an fdatasync covered it.
    admin
        .create_topic(TOPIC)
        .partitions(PARTITIONS)
        .await
        .unwrap();
    let follower = Follower::start(broker.quick_client().await).await;
    let mut load = Load::start(&broker, TOPIC, PRODUCERS).await;

    let mut kills = 0;
    let mut least_acked_between = u64::MAX;
    for round in 0..KILLS_UNDER_LOAD {
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
    let seen = follower.finish().await;

    // What the last process knows without its predecessors: the disk.
    broker.kill();
    broker.restart();
    let client = broker.client().await;
    let history = History::read(&client, TOPIC).await;
    let verdict = history.judge(&acked);
    let Verdict {
        acked,
        losses,
        duplicates,
        misplaced,
        disordered,
    } = verdict;
    println!(
        "kills {}, acked {acked}, duplicates {duplicates}, losses {losses}, misplaced {misplaced}, \
         out of order {disordered}, read along {}",
        kills + 1,
        seen.len(),
    );
    assert!(verdict.is_clean(), "{verdict:?}");
    assert_eq!(
        history.len(),
        acked,
        "there are records that nobody has sent"
    );
    assert!(
        seen.is_part_of(&history),
        "a crash took back what a consumer had seen"
    );
    assert!(
        kills >= 20 && least_acked_between >= ACKED_BETWEEN_KILLS.start && seen.len() * 2 > acked,
        "the run exercised too little: {kills} kills, {least_acked_between} acked between two, \
         {} of {acked} read along",
        seen.len()
    );
}
