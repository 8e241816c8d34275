//! A version of a plugin takes over the state of the one before it: each part once, whatever crashes.

use std::collections::BTreeMap;

use bytes::Bytes;
use millstream::{
    Admin, Client, DeploymentSpec, Durability, OutputSpec, Position, ProduceRecord, StateItem,
    WorkerState,
};
use millstream_e2e::artifacts::drill;
use millstream_e2e::broker::Broker;
use millstream_e2e::command::run;
use millstream_e2e::patience::until;

const INPUT: &str = "in";
const OUTPUT: &str = "out";
const NAME: &str = "drill";

/// Names that are counted: as many calls it takes to rewrite the state.
const NAMES: usize = 4_000;

/// Kills of the broker in the midst of that.
const KILLS: usize = 5;

fn component() -> Bytes {
    std::fs::read(drill()).expect("the component").into()
}

/// Another component that does the same.
fn other_component(name: &[u8; 5]) -> Bytes {
    let mut component = component().to_vec();
    // A custom section: its id, its length, and its name's.
    component.extend([0, 6, 5]);
    component.extend(name);
    component.into()
}

fn spec(migrate: Option<&str>) -> DeploymentSpec {
    let config = migrate.map(|migrate| ("migrate".to_owned(), migrate.to_owned()));
    DeploymentSpec {
        inputs: vec![INPUT.to_owned()],
        outputs: vec![OutputSpec {
            name: "out".to_owned(),
            topic: OUTPUT.to_owned(),
        }],
        start: Position::Earliest,
        config: config.into_iter().collect(),
        ..DeploymentSpec::new(NAME)
    }
}

async fn start() -> (Broker, Client, Admin) {
    let broker = Broker::start();
    let client = broker.quick_client().await;
    let admin = client.admin();
    // Every part of the state is on the disk before the next is taken over.
    let input = admin.create_topic(INPUT).durability(Durability::Sync);
    input.await.unwrap();
    admin.create_topic(OUTPUT).await.unwrap();
    (broker, client, admin)
}

/// Has every name counted once more.
async fn produce(client: &Client, round: usize) {
    let producer = client.producer(INPUT).build().await.unwrap();
    for name in 0..NAMES {
        let record = ProduceRecord::new(format!("n{name}/{round}"));
        producer.send(record).await.unwrap();
    }
    producer.close().await.unwrap();
}

async fn worked_off(admin: &Admin) {
    until("the worker to be done", async || {
        let described = admin.describe_plugin(NAME).await.ok()?;
        let [worker] = &described.workers[..] else {
            return None;
        };
        (worker.lag == 0).then_some(())
    })
    .await;
}

/// What the worker waits for.
async fn waits(admin: &Admin, expect: &str) -> String {
    until("the worker to say what it waits for", async || {
        let described = admin.describe_plugin(NAME).await.ok()?;
        let [worker] = &described.workers[..] else {
            return None;
        };
        match &worker.state {
            WorkerState::BackingOff { reason, .. } if reason.contains(expect) => {
                Some(reason.clone())
            }
            _ => None,
        }
    })
    .await
}

/// What was counted, by name, as soon as the worker has its state.
async fn counts(admin: &Admin) -> BTreeMap<String, u64> {
    until("the worker to have its state", async || {
        read_counts(admin).await.ok()
    })
    .await
}

async fn read_counts(admin: &Admin) -> millstream::Result<BTreeMap<String, u64>> {
    let mut counts = BTreeMap::new();
    let mut reading = admin.plugin_state(NAME).await?;
    while let Some(item) = reading.next().await? {
        if let StateItem::Entry { key, value } = item {
            let name = String::from_utf8(key.to_vec()).unwrap();
            let count = u64::from_be_bytes(value.as_ref().try_into().unwrap());
            counts.insert(name, count);
        }
    }
    Ok(counts)
}

/// How many names have been taken over, as soon as there are more than `before`.
async fn taken_over(admin: &Admin, before: usize) -> usize {
    until("more of the state to be taken over", async || {
        let counts = read_counts(admin).await.ok()?;
        let rewritten = counts.values().filter(|count| **count >= 10).count();
        (rewritten > before).then_some(rewritten)
    })
    .await
}

#[tokio::test]
async fn a_state_is_taken_over_once_through_kills() {
    let (mut broker, client, mut admin) = start().await;
    let first = admin
        .deploy_plugin(component(), spec(None))
        .await
        .unwrap()
        .digest;
    produce(&client, 1).await;
    worked_off(&admin).await;
    let second = other_component(b"other");
    let tenfold = spec(Some("tenfold"));
    let digest = admin
        .upgrade_plugin(second.clone(), tenfold.clone())
        .await
        .unwrap()
        .digest;
    let mut rewritten = 0;
    for _ in 0..KILLS {
        rewritten = taken_over(&admin, rewritten).await;
        broker.kill();
        broker.restart();
        // The one before takes its time to see that the broker was away.
        admin = broker.client().await.admin();
    }
    assert!(rewritten < NAMES, "the last kill came too late");

    // In between, nobody else can go on: neither a third component nor the first.
    admin
        .upgrade_plugin(other_component(b"third"), tenfold.clone())
        .await
        .unwrap();
    let reason = waits(&admin, "upgrade to that one again").await;
    assert!(
        reason.contains(&first) && reason.contains(&digest),
        "{reason}"
    );
    admin.roll_back_plugin(NAME, Some(1)).await.unwrap();
    waits(&admin, "upgrade to that one again").await;
    produce(&client, 2).await;
    assert!(counts(&admin).await.values().all(|it| [1, 10].contains(it)));

    // It goes on where it was, and then handles what came in the meantime.
    admin.upgrade_plugin(second, tenfold).await.unwrap();
    worked_off(&admin).await;
    let counts = counts(&admin).await;
    assert_eq!(counts.len(), NAMES);
    assert!(counts.values().all(|count| *count == 11), "{counts:?}");
    let logs = run(&mut broker.command(["plugin", "logs", NAME])).success();
    let expect = format!("taking over the state of component {first}: done");
    assert_eq!(logs.stdout.matches(&expect).count(), 1, "{}", logs.stdout);
}

#[tokio::test]
async fn what_is_not_taken_over_is_as_it_was_after_a_roll_back() {
    let (_broker, client, admin) = start().await;
    let first = admin.deploy_plugin(component(), spec(None)).await.unwrap();
    produce(&client, 1).await;
    worked_off(&admin).await;
    let refusing = spec(Some("refuse"));
    let other = other_component(b"other");
    admin.upgrade_plugin(other, refusing).await.unwrap();
    let reason = waits(&admin, "is refused").await;
    assert!(reason.contains(&first.digest), "{reason}");
    produce(&client, 2).await;
    admin.roll_back_plugin(NAME, None).await.unwrap();
    worked_off(&admin).await;
    let counts = counts(&admin).await;
    assert!(counts.len() == NAMES && counts.values().all(|count| *count == 2));
}
