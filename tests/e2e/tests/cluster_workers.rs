//! Workers in a cluster of three brokers: each is beside its input's leader, and whichever broker is killed,
//! another one goes on with its journal and its state.

use std::collections::BTreeSet;

use bytes::Bytes;
use millstream::{
    Admin, Client, DeliveryGuarantee, DeploymentDescription, DeploymentSpec, OutputSpec, Position,
    ProduceRecord, StateItem, TableSpec, WorkerDescription, WorkerState,
};
use millstream_e2e::artifacts::enrich;
use millstream_e2e::cluster::Cluster;
use millstream_e2e::history::History;
use millstream_e2e::load::{Load, Number};
use millstream_e2e::patience::{until, within};
use millstream_e2e::random::Random;
use millstream_e2e::storm::{
    INPUT, INPUT_PARTITIONS, NAME, OUTPUT, TOPICS, at_rest, component, outcome, spec,
};
use serde_json::{Value, json};

const BROKERS: usize = 3;
const PRODUCERS: usize = 3;

/// Brokers killed under load, and acknowledgements between two of them.
const KILLS: usize = 6;
const STEADY_KILLS: usize = 3;
const ACKED_BETWEEN_KILLS: std::ops::Range<u64> = 100..400;
const SEED: u64 = 0x5eed_0004;

/// A cluster with the topics that the plugin reads and writes, each with a replica on every broker.
fn cluster() -> Cluster {
    let cluster = Cluster::of(BROKERS);
    cluster.until_well(1, BROKERS);
    for (topic, partitions) in TOPICS {
        let partitions = partitions.to_string();
        let create = ["topic", "create", topic, "--partitions", &partitions];
        let create = create.into_iter().chain(["--replication-factor", "3"]);
        cluster.run(create).success();
    }
    cluster
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
    let deployed = admin.deploy_plugin(component(), spec(delivery, config));
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
    let come = outcome(&client).await;
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

/// What the plugin does without a storm: it emits what it gets, and counts.
fn calm() -> DeploymentSpec {
    DeploymentSpec {
        outputs: vec![OutputSpec {
            name: OUTPUT.to_owned(),
            topic: OUTPUT.to_owned(),
        }],
        ..spec(DeliveryGuarantee::ExactlyOnce, &[])
    }
}

/// Produces so many records to each partition.
async fn produce(client: &Client, producer_number: u32, records: u64) {
    let producer = client.producer(INPUT).build().await.unwrap();
    for index in 0..records {
        for partition in 0..INPUT_PARTITIONS as u32 {
            let number = Number {
                producer: producer_number,
                index: index * INPUT_PARTITIONS as u64 + u64::from(partition),
            };
            let record = ProduceRecord::new(number.to_string()).partition(partition);
            producer.send(record).await.unwrap();
        }
    }
    within("acknowledgements", producer.close()).await.unwrap();
}

/// The partitions whose workers' state is told.
async fn states(admin: &Admin) -> BTreeSet<u32> {
    let mut told = BTreeSet::new();
    let mut state = admin.plugin_state(NAME).prefix("").await.unwrap();
    while let Some(item) = state.next().await.unwrap() {
        if let StateItem::Worker(of) = item {
            assert!(told.insert(of.partition), "{of:?} is told twice");
        }
    }
    told
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_broker_changes_a_deployment_and_tells_of_all_its_workers() {
    let mut cluster = cluster();
    let mut clients = Vec::new();
    for number in 1..=BROKERS {
        clients.push(cluster.client(number).await);
    }
    let admins: Vec<Admin> = clients.iter().map(Client::admin).collect();
    admins[1].set_secret("api-key", "hunter2").await.unwrap();
    admins[2].deploy_plugin(component(), calm()).await.unwrap();
    let all: BTreeSet<u32> = (0..INPUT_PARTITIONS as u32).collect();
    until("workers on several brokers", async || {
        cluster.run(["cluster", "rebalance"]).success();
        let described = everywhere(&admins[0]).await;
        let on: BTreeSet<u32> = described.workers.iter().map(|it| it.broker_id).collect();
        (on.len() > 1).then_some(())
    })
    .await;
    produce(&clients[0], 0, 20).await;
    for admin in &admins {
        at_rest(admin).await;
        assert_eq!(states(admin).await, all);
        let metrics = admin.plugin_metrics(NAME).await.unwrap();
        assert_eq!(metrics.workers.len(), INPUT_PARTITIONS);
        assert_eq!(admin.list_plugins().await.unwrap().len(), 1);
        let secrets = admin.list_secrets().await.unwrap();
        assert_eq!(secrets.len(), 1, "{secrets:?}");
        let group = admin.describe_group(NAME).await.unwrap();
        let lags = group.partitions.iter().map(|it| it.lag);
        assert!(lags.clone().all(|lag| lag == 0), "{:?}", group.partitions);
        assert!(group.members.len() >= 2, "{:?}", group.members);
    }

    // Held on all brokers, whichever is asked.
    let paused = admins[1].pause_plugin(NAME).await.unwrap();
    let held = |worker: &WorkerDescription| worker.state == WorkerState::Held;
    assert!(paused.workers.iter().all(held), "{:?}", paused.workers);
    produce(&clients[1], 1, 10).await;
    let still = admins[2].describe_plugin(NAME).await.unwrap();
    assert!(
        still.workers.iter().all(|it| held(it) && it.lag == 10),
        "{:?}",
        still.workers
    );
    admins[0].resume_plugin(NAME).await.unwrap();
    at_rest(&admins[0]).await;

    let upgraded = DeploymentSpec {
        config: [("unused".to_owned(), "on".to_owned())].into(),
        ..calm()
    };
    let upgraded = admins[0]
        .upgrade_plugin(component(), upgraded)
        .await
        .unwrap();
    assert_eq!(upgraded.revision, 2);
    produce(&clients[2], 2, 5).await;
    at_rest(&admins[1]).await;

    // A shadow over the history, on all brokers, and in the place of the live one.
    admins[2].replay_plugin(NAME).await.unwrap();
    until("the replay to be done", async || {
        let progress = admins[0].replay_progress("drill.shadow").await.ok()?;
        progress.is_done().then_some(())
    })
    .await;
    let diff = admins[1].diff_plugin("drill.shadow", 10).await.unwrap();
    // The plugin says how many records its instance has seen, which is not of the records.
    for output in &diff.outputs {
        let missing = output.only_live + output.only_shadow;
        assert_eq!(
            (missing, output.equal + output.changed),
            (0, 140),
            "{output:?}"
        );
    }
    let promoted = admins[1].promote_plugin(NAME, "drill.shadow");
    promoted.await.unwrap();
    produce(&clients[0], 3, 5).await;
    at_rest(&admins[2]).await;
    let outputs = History::read_to_the_end(&clients[0], OUTPUT).await;
    assert_eq!(outputs.len(), INPUT_PARTITIONS * 40);

    // Back to where they began, by any broker; what was handled is handled again.
    let reset = admins[2].reset_group(NAME, INPUT, [], Position::Earliest);
    reset.await.unwrap();
    until("everything handled once more", async || {
        let outputs = admins[0].plugin_metrics(NAME).await.ok()?;
        let records: u64 = outputs.workers.iter().map(|it| it.records_in).sum();
        (records >= 40 * INPUT_PARTITIONS as u64).then_some(())
    })
    .await;

    // One that was away hears of what was changed.
    cluster.member(3).kill();
    admins[0].set_secret("api-key", "hunter3").await.unwrap();
    admins[0].remove_plugin(NAME).await.unwrap();
    cluster.member(3).start();
    until("a broker that knows what was changed", async || {
        let topics = admins[2].list_topics().await.ok()?;
        let journals = topics.iter().any(|it| it.name.starts_with("__journal"));
        let plugins = admins[2].list_plugins().await.ok()?;
        (plugins.is_empty() && !journals).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_is_looked_up_in_on_brokers_that_keep_no_replica_of_it() {
    const EVENTS: &str = "events";
    const PLACES: &str = "places";
    const JOINED: &str = "joined";
    const KEYS: u64 = 24;
    let cluster = Cluster::of(BROKERS);
    cluster.until_well(1, BROKERS);
    let create = |args: &str| {
        let create = ["topic", "create"].into_iter();
        cluster.run(create.chain(args.split(' '))).success();
    };
    create("events --partitions 6");
    create("places --partitions 2 --cleanup compact");
    create("joined");
    let client = cluster.client(2).await;
    let admin = client.admin();
    let places = client.producer(PLACES).build().await.unwrap();
    for key in 0..KEYS {
        let place = json!({ "of": key }).to_string();
        let record = ProduceRecord::new(place).key(key.to_string());
        places.send(record).await.unwrap();
    }
    within("a table", places.close()).await.unwrap();
    let spec = DeploymentSpec {
        inputs: vec![EVENTS.to_owned()],
        outputs: vec![OutputSpec {
            name: "enriched".to_owned(),
            topic: JOINED.to_owned(),
        }],
        tables: vec![TableSpec {
            name: "reference".to_owned(),
            topic: PLACES.to_owned(),
        }],
        ..DeploymentSpec::new("enrich")
    };
    let component = Bytes::from(std::fs::read(enrich()).unwrap());
    admin.deploy_plugin(component, spec).await.unwrap();
    let on = until("a worker at every partition", async || {
        let described = admin.describe_plugin("enrich").await.ok()?;
        let on: BTreeSet<u32> = described.workers.iter().map(|it| it.broker_id).collect();
        (described.workers.len() == 6).then_some(on)
    })
    .await;
    let described = admin.describe_topic(PLACES).await.unwrap();
    let kept: BTreeSet<u32> = described.partitions.iter().map(|it| it.leader).collect();
    assert!(
        on.difference(&kept).next().is_some() || kept.len() > 1,
        "on {on:?}, kept on {kept:?}"
    );

    let events = client.producer(EVENTS).build().await.unwrap();
    for key in 0..KEYS {
        let record = ProduceRecord::new(format!("{{\"event\":{key}}}"));
        events.send(record.key(key.to_string())).await.unwrap();
    }
    within("the events", events.close()).await.unwrap();
    let consumer = client.consumer().topics([JOINED]);
    let mut consumer = consumer.start(Position::Earliest).build().await.unwrap();
    let mut joined = BTreeSet::new();
    for _ in 0..KEYS {
        let record = within("an output", consumer.next()).await.unwrap();
        let value: Value = serde_json::from_slice(record.value.as_deref().unwrap()).unwrap();
        assert_eq!(value["reference"]["of"], value["event"], "{value}");
        joined.insert(value["event"].as_u64().unwrap());
    }
    assert_eq!(joined.len() as u64, KEYS);
}
