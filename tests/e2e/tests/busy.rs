//! Plugins that compute without end: what they leave to others, and how they end.

use std::time::Duration;

use bytes::Bytes;
use millstream::{
    Admin, Client, DeploymentDescription, DeploymentSpec, OutputSpec, ProduceRecord, WorkerState,
};
use millstream_e2e::artifacts::drill;
use millstream_e2e::broker::Broker;
use millstream_e2e::patience::until;
use rustix::process::Signal;

const ENDLESS_INPUT: &str = "endless";
const INPUT: &str = "in";
const OUTPUT: &str = "out";

/// Deployments that compute without end, each with a worker at each partition.
const ENDLESS: u32 = 6;
const PARTITIONS: u32 = 2;

/// As long as it may be: among so many, no call ends by itself while a test waits.
const DEADLINE: Duration = Duration::from_secs(60);

/// What they have taken when all have begun: several turns of each.
const COMPUTES: Duration = Duration::from_secs(1);

/// Records that take a neighbour longer than it may compute at the broker's own priority, and longer than the
/// others compute before they stand back.
const ROUNDS: &str = "!work 20000000";
const HARD: usize = 20;

async fn produce(client: &Client, topic: &str, partition: u32, value: &str) {
    let producer = client.producer(topic).build().await.unwrap();
    let record = ProduceRecord::new(value).partition(partition);
    producer.send(record).await.unwrap();
    producer.close().await.unwrap();
}

fn spec(name: &str, input: &str) -> DeploymentSpec {
    let mut spec = DeploymentSpec {
        inputs: vec![input.to_owned()],
        outputs: vec![OutputSpec {
            name: OUTPUT.to_owned(),
            topic: OUTPUT.to_owned(),
        }],
        ..DeploymentSpec::new(name)
    };
    spec.limits.deadline_ms = DEADLINE.as_millis() as u32;
    spec
}

fn component() -> Bytes {
    std::fs::read(drill()).expect("the component").into()
}

fn endless() -> impl Iterator<Item = String> {
    (0..ENDLESS).map(|number| format!("endless-{number}"))
}

/// A broker with deployments that have begun to compute without end.
async fn start() -> (Broker, Client, Admin) {
    let broker = Broker::start();
    let client = broker.quick_client().await;
    let admin = client.admin();
    for topic in [ENDLESS_INPUT, INPUT, OUTPUT] {
        let created = admin.create_topic(topic).partitions(PARTITIONS);
        created.await.unwrap();
    }
    for partition in 0..PARTITIONS {
        produce(&client, ENDLESS_INPUT, partition, "!loop").await;
    }
    for name in endless() {
        let deployed = admin.deploy_plugin(component(), spec(&name, ENDLESS_INPUT));
        deployed.await.unwrap();
    }
    until("all to have workers", async || {
        for name in endless() {
            has_begun(&admin.describe_plugin(&name).await.ok()?).then_some(())?;
        }
        Some(())
    })
    .await;
    let before = broker.processor_time();
    until("them to compute", async || {
        (broker.processor_time() > before + COMPUTES).then_some(())
    })
    .await;
    (broker, client, admin)
}

/// Whether all workers are there, and none is done.
fn has_begun(described: &DeploymentDescription) -> bool {
    described.workers.len() == PARTITIONS as usize && described.workers.iter().all(|it| it.lag == 1)
}

fn is_held(described: &DeploymentDescription) -> bool {
    let mut workers = described.workers.iter();
    workers.all(|it| it.state == WorkerState::Held)
}

#[tokio::test]
async fn a_neighbour_is_done_while_others_compute_without_end() {
    let (_broker, client, admin) = start().await;
    for _ in 0..HARD {
        produce(&client, INPUT, 0, ROUNDS).await;
    }
    let deployed = admin.deploy_plugin(component(), spec("neighbour", INPUT));
    deployed.await.unwrap();
    until("the neighbour to be done", async || {
        let described = admin.describe_plugin("neighbour").await.ok()?;
        let done = described.workers.iter().all(|it| it.lag == 0);
        (described.workers.len() == PARTITIONS as usize && done).then_some(())
    })
    .await;
    for name in endless() {
        let described = admin.describe_plugin(&name).await.unwrap();
        assert!(described.workers.iter().all(|it| it.failures == 0));
    }
}

#[tokio::test]
async fn a_call_that_nobody_waits_for_holds_up_neither_a_change_nor_the_end() {
    let (mut broker, _client, admin) = start().await;
    let [paused, removed, upgraded] = ["endless-0", "endless-1", "endless-2"];
    admin.pause_plugin(paused).await.unwrap();
    let described = admin.describe_plugin(paused).await.unwrap();
    assert!(is_held(&described), "{described:#?}");
    // It was no failure of the record's.
    assert!(
        described
            .workers
            .iter()
            .all(|it| it.failures == 0 && it.lag == 1)
    );
    admin.remove_plugin(removed).await.unwrap();
    let mut other = spec(upgraded, ENDLESS_INPUT);
    other.limits.outputs_per_record = 7;
    admin.upgrade_plugin(component(), other).await.unwrap();
    broker.signal(Signal::TERM);
    until("the broker to end", async || {
        (!broker.is_running()).then_some(())
    })
    .await;
    assert!(broker.wait().success());
    broker.restart();
    let admin = broker.quick_client().await.admin();
    until("what was interrupted to be begun again", async || {
        has_begun(&admin.describe_plugin(upgraded).await.ok()?).then_some(())
    })
    .await;
}
