//! Workers in a cluster of three brokers: each is beside its input's leader, and whichever broker is killed,
//! another one goes on with its journal and its state.

use std::collections::BTreeSet;

use bytes::Bytes;
use millstream::{
    Admin, DeliveryGuarantee, DeploymentDescription, DeploymentSpec, FailurePolicy, OutputSpec,
    WorkerDescription,
};
use millstream_e2e::artifacts::drill;
use millstream_e2e::cluster::Cluster;
use millstream_e2e::history::History;
use millstream_e2e::load::Load;
use millstream_e2e::patience::until;
use millstream_e2e::random::Random;
use millstream_e2e::reckoning::Outcome;
use serde_json::json;

const INPUT: &str = "in";
const OUTPUT: &str = "out";
const FIRED: &str = "fired";
const NAME: &str = "drill";
const DEAD_LETTERS: &str = "drill.dead-letters";
const BROKERS: usize = 3;
const INPUT_PARTITIONS: usize = 4;
const PRODUCERS: usize = 3;

/// Brokers killed under load, and acknowledgements between two of them.
const KILLS: usize = 6;
const STEADY_KILLS: usize = 3;
const ACKED_BETWEEN_KILLS: std::ops::Range<u64> = 100..400;
const SEED: u64 = 0x5eed_0004;

fn component() -> Bytes {
    std::fs::read(drill()).expect("the component").into()
}

fn storm(delivery: DeliveryGuarantee, config: &[&str]) -> DeploymentSpec {
    let on = |name: &&str| ((*name).to_owned(), "on".to_owned());
    let output = |name: &str| OutputSpec {
        name: name.to_owned(),
        topic: name.to_owned(),
    };
    DeploymentSpec {
        delivery,
        inputs: vec![INPUT.to_owned()],
        outputs: vec![output(OUTPUT), output(FIRED)],
        config: config.iter().map(on).collect(),
        on_failure: FailurePolicy {
            attempts: 20,
            first_back_off_ms: 1,
            longest_back_off_ms: 10,
            ..FailurePolicy::default_for(NAME)
        },
        ..DeploymentSpec::new(NAME)
    }
}

/// A cluster with the topics that the plugin reads and writes, each with a replica on every broker.
fn cluster() -> Cluster {
    let cluster = Cluster::of(BROKERS);
    cluster.until_well(1, BROKERS);
    for (topic, partitions) in [
        (INPUT, INPUT_PARTITIONS),
        (OUTPUT, 2),
        (FIRED, 2),
        (DEAD_LETTERS, 1),
    ] {
        let partitions = partitions.to_string();
        let create = ["topic", "create", topic, "--partitions", &partitions];
        let create = create.into_iter().chain(["--replication-factor", "3"]);
        cluster.run(create).success();
    }
    cluster
}

/// Waits until every partition has a worker, and none has anything left to do.
async fn at_rest(admin: &Admin) {
    let done =
        |worker: &WorkerDescription| worker.lag == 0 && worker.parked == 0 && worker.timers == 0;
    until("workers that have done everything", async || {
        let described = admin.describe_plugin(NAME).await.ok()?;
        let all = described.workers.len() == INPUT_PARTITIONS;
        (all && described.workers.iter().all(done)).then_some(())
    })
    .await;
}

/// Waits until every partition has a worker.
async fn everywhere(admin: &Admin) -> DeploymentDescription {
    until("a worker at every partition", async || {
        let described = admin.describe_plugin(NAME).await.ok()?;
        (described.workers.len() == INPUT_PARTITIONS).then_some(described)
    })
    .await
}

/// Kills brokers in turn, and has leaders and workers move back when they return.
async fn count_through_kills(delivery: DeliveryGuarantee, config: &[&str], kills: usize) {
    let mut random = Random::seeded(SEED);
    let mut cluster = cluster();
    let client = cluster.client(1).await;
    let admin = client.admin();
    let deployed = admin.deploy_plugin(component(), storm(delivery, config));
    deployed.await.unwrap();
    let mut clients = Vec::new();
    for number in 1..=PRODUCERS {
        clients.push(cluster.client(number).await);
    }
    let mut load = Load::of(clients, INPUT);
    let mut worked = BTreeSet::new();
    for round in 0..kills {
        load.advance(random.between(ACKED_BETWEEN_KILLS)).await;
        let doomed = 1 + round % BROKERS;
        cluster.member(doomed).kill();
        load.advance(random.between(ACKED_BETWEEN_KILLS)).await;
        cluster.member(doomed).start();
        let from = 1 + (round + 1) % BROKERS;
        cluster.until(from, "all replicas in step again", |status| {
            status["problems"] == json!([])
        });
        let address = cluster.address(from);
        let rebalance = ["cluster", "rebalance", "--address", &address];
        cluster.run(rebalance).success();
        let described = everywhere(&admin).await;
        worked.extend(described.workers.iter().map(|it| it.broker_id));
    }
    let acked = load.finish().await;
    at_rest(&admin).await;
    assert!(worked.len() > 1, "workers were on {worked:?} only");
    let come = Outcome {
        outputs: History::read_to_the_end(&client, OUTPUT).await,
        letters: History::read_to_the_end(&client, DEAD_LETTERS).await,
        fired: History::read_to_the_end(&client, FIRED).await,
    };
    println!("kills {kills}, {}", come.reckon(&acked));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_record_counts_once_through_kills_of_three_brokers() {
    count_through_kills(DeliveryGuarantee::ExactlyOnce, &["storm", "timers"], KILLS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_record_of_a_deterministic_plugin_counts_once_through_kills_of_three_brokers() {
    let config = ["storm", "timers", "steady"];
    count_through_kills(DeliveryGuarantee::Deterministic, &config, STEADY_KILLS).await;
}
