//! Plugins: deployed, at work, killed with the broker, refused, removed.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use millstream::{
    Admin, Client, DeploymentSpec, ErrorCode, MemberKind, OutputSpec, ProduceRecord, WorkerState,
};
use millstream_e2e::artifacts::quake_alert;
use millstream_e2e::broker::Broker;
use millstream_e2e::command::run;
use millstream_e2e::history::History;
use millstream_e2e::patience::until;
use millstream_e2e::quakes::{ALERTS, EVENTS, Quake, STRONG, events, strong_ids};

const INPUT: &str = "earthquakes";
const OUTPUT: &str = "alerts";
const NAME: &str = "quake-alert";

/// Input partitions: as many workers.
const PARTITIONS: u32 = 4;

fn component() -> Bytes {
    std::fs::read(quake_alert()).expect("the component").into()
}

fn spec() -> DeploymentSpec {
    DeploymentSpec {
        inputs: vec![INPUT.to_owned()],
        outputs: vec![OutputSpec {
            name: "alerts".to_owned(),
            topic: OUTPUT.to_owned(),
        }],
        ..DeploymentSpec::new(NAME)
    }
}

/// A broker with both topics.
async fn start() -> (Broker, Client, Admin) {
    let broker = Broker::start();
    let client = broker.quick_client().await;
    let admin = client.admin();
    admin
        .create_topic(INPUT)
        .partitions(PARTITIONS)
        .await
        .unwrap();
    admin.create_topic(OUTPUT).partitions(2).await.unwrap();
    (broker, client, admin)
}

async fn produce(client: &Client, events: &[Quake]) {
    let producer = client.producer(INPUT).build().await.unwrap();
    for event in events {
        producer
            .send(ProduceRecord::new(&event.line).key(&event.id))
            .await
            .unwrap();
    }
    producer.close().await.unwrap();
}

/// Waits until the workers have read everything.
async fn worked_off(admin: &Admin) {
    until("workers without lag", async || {
        // A broker that was just started may not have come to its workers yet.
        let group = admin.describe_group(NAME).await.ok()?;
        let lags = group.partitions.iter().map(|partition| partition.lag);
        (lags.len() == PARTITIONS as usize && lags.sum::<u64>() == 0).then_some(())
    })
    .await;
}

/// How often each event's alert is there. Every one is checked on its own.
async fn alerts(client: &Client) -> BTreeMap<String, usize> {
    let mut alerts = BTreeMap::new();
    for record in History::read(client, OUTPUT).await.records() {
        let alert: Quake = serde_json::from_slice(record.value.as_deref().unwrap()).unwrap();
        assert!(alert.mag.unwrap() >= STRONG, "{alert:?} is weak");
        assert_eq!(
            record.key.as_deref(),
            Some(alert.net.as_bytes()),
            "{alert:?} has another key"
        );
        *alerts.entry(alert.id).or_default() += 1;
    }
    alerts
}

#[tokio::test]
async fn a_week_of_earthquakes_gives_its_alerts() {
    let (_broker, client, admin) = start().await;
    let deployed = admin.deploy_plugin(component(), spec()).await.unwrap();
    assert_eq!(
        (deployed.spec, deployed.component_bytes),
        (spec(), component().len() as u64)
    );
    assert!(
        deployed
            .imports
            .iter()
            .any(|import| import.starts_with("wasi:logging/logging"))
    );
    let events = events();
    produce(&client, &events).await;
    worked_off(&admin).await;

    let alerts = alerts(&client).await;
    assert_eq!(
        alerts.keys().cloned().collect::<BTreeSet<_>>(),
        strong_ids(&events)
    );
    assert!(
        alerts.values().all(|times| *times == 1),
        "without a crash there are no duplicates"
    );

    // The workers are members of a group like any other.
    let group = admin.describe_group(NAME).await.unwrap();
    assert_eq!(group.members.len(), 1);
    assert_eq!(group.members[0].kind, MemberKind::Worker);
    assert_eq!(group.members[0].owned.len(), PARTITIONS as usize);
    let described = admin.describe_plugin(NAME).await.unwrap();
    assert_eq!(described.workers.len(), PARTITIONS as usize);
    for worker in &described.workers {
        assert_eq!(
            (&worker.state, worker.lag, worker.failures),
            (&WorkerState::Running, 0, 0)
        );
        assert!(worker.memory_bytes > 0);
    }
    let sum = |figure: fn(&millstream::WorkerDescription) -> u64| -> u64 {
        described.workers.iter().map(figure).sum()
    };
    assert_eq!(sum(|worker| worker.records_in), EVENTS as u64);
    assert_eq!(sum(|worker| worker.records_out), ALERTS as u64);
    assert_eq!(admin.list_plugins().await.unwrap().len(), 1);
}

#[tokio::test]
async fn every_alert_is_there_once_after_kills_in_mid_stream() {
    let (mut broker, client, admin) = start().await;
    admin.deploy_plugin(component(), spec()).await.unwrap();
    let events = events();
    // A kill while the workers have some of the events behind them and some before.
    let mut kills = 0;
    for part in events.chunks(EVENTS / 4) {
        produce(&client, part).await;
        until("a worker that has read something", async || {
            let described = admin.describe_plugin(NAME).await.ok()?;
            described
                .workers
                .iter()
                .any(|worker| worker.records_in > 0)
                .then_some(())
        })
        .await;
        broker.kill();
        kills += 1;
        broker.restart();
    }
    worked_off(&admin).await;
    let alerts = alerts(&client).await;
    let repeated: usize = alerts.values().map(|times| times - 1).sum();
    println!(
        "kills {kills}, alerts {}, repeated {repeated}",
        alerts.len()
    );
    assert_eq!(repeated, 0);
    assert_eq!(
        alerts.into_keys().collect::<BTreeSet<_>>(),
        strong_ids(&events)
    );
    assert!(kills >= 4);
}

#[tokio::test]
async fn a_component_that_does_not_fit_is_refused_by_name_and_changes_nothing() {
    let (_broker, client, admin) = start().await;
    let lifecycle = "millstream:plugin/lifecycle@0.1.0";
    let cases: [(&str, Vec<u8>, &str); 6] = [
        (
            "no WebAssembly",
            b"#!/bin/sh".to_vec(),
            "not a WebAssembly component",
        ),
        (
            "a core module",
            wat::parse_str("(module)").unwrap(),
            "a core WebAssembly module",
        ),
        (
            "nothing exported",
            wat::parse_str("(component)").unwrap(),
            "the component lacks the export `millstream:plugin/lifecycle@0.1.0`",
        ),
        (
            "another standard imported",
            wat::parse_str("(component (import \"wasi:keyvalue/store@0.2.6\" (instance)))")
                .unwrap(),
            "the component imports `wasi:keyvalue/store@0.2.6`, which is not granted",
        ),
        (
            "a later version imported",
            wat::parse_str("(component (import \"wasi:clocks/wall-clock@0.3.0\" (instance)))")
                .unwrap(),
            "the component imports `wasi:clocks/wall-clock@0.3.0`, but this broker serves",
        ),
        (
            "an export without its function",
            wat::parse_str(format!(
                "(component (instance $i) (export \"{lifecycle}\" (instance $i)))"
            ))
            .unwrap(),
            "the component exports `millstream:plugin/lifecycle@0.1.0`, which lacks the function `init`",
        ),
    ];
    for (what, bytes, message) in cases {
        let refused = admin.deploy_plugin(bytes, spec()).await.unwrap_err();
        assert_eq!(
            refused.code(),
            Some(ErrorCode::ComponentRefused),
            "{what}: {refused}"
        );
        assert!(refused.to_string().contains(message), "{what}: {refused}");
    }
    // What its own `init` does not like is refused, too, with its words.
    let odd = DeploymentSpec {
        config: vec![("min-mag".to_owned(), "strong".to_owned())],
        ..spec()
    };
    let refused = admin.deploy_plugin(component(), odd).await.unwrap_err();
    assert_eq!(
        refused.code(),
        Some(ErrorCode::SettingsRefused),
        "{refused}"
    );
    assert!(
        refused.to_string().contains("min-mag must be a number"),
        "{refused}"
    );
    let lost = DeploymentSpec {
        inputs: vec!["nowhere".to_owned()],
        ..spec()
    };
    let refused = admin.deploy_plugin(component(), lost).await.unwrap_err();
    assert_eq!(refused.code(), Some(ErrorCode::UnknownTopic), "{refused}");

    assert!(admin.list_plugins().await.unwrap().is_empty());
    let group = admin.describe_group(NAME).await.unwrap_err();
    assert_eq!(group.code(), Some(ErrorCode::UnknownGroup));
    produce(&client, &events()[..1]).await;
    assert!(History::read(&client, OUTPUT).await.is_empty());
}

#[tokio::test]
async fn a_deployments_group_takes_no_client() {
    let (broker, client, admin) = start().await;
    admin.deploy_plugin(component(), spec()).await.unwrap();
    let joining = client
        .consumer()
        .group(NAME)
        .topics([INPUT])
        .build()
        .await
        .unwrap_err();
    assert_eq!(
        joining.code(),
        Some(ErrorCode::GroupOwnedByDeployment),
        "{joining}"
    );
    let deleting = admin.delete_group(NAME).await.unwrap_err();
    assert_eq!(
        deleting.code(),
        Some(ErrorCode::GroupOwnedByDeployment),
        "{deleting}"
    );
    let joined = run(&mut broker.command(["consume", INPUT, "--group", NAME])).exited(5);
    assert!(
        joined
            .stderr
            .contains("belongs to the deployment quake-alert"),
        "{joined:#?}"
    );
    assert!(joined.stderr.contains("try: "), "{joined:#?}");
    // Nor does a topic go that it reads or writes.
    for topic in [INPUT, OUTPUT] {
        let refused = admin.delete_topic(topic).await.unwrap_err();
        assert!(refused.to_string().contains(NAME), "{refused}");
    }
    let again = admin.deploy_plugin(component(), spec()).await.unwrap_err();
    assert_eq!(again.code(), Some(ErrorCode::DeploymentExists), "{again}");
}

#[tokio::test]
async fn a_removed_plugin_stops_and_a_new_one_goes_on_at_its_offsets() {
    let (_broker, client, admin) = start().await;
    let events = events();
    let (before, after) = events.split_at(1_000);
    admin.deploy_plugin(component(), spec()).await.unwrap();
    produce(&client, before).await;
    worked_off(&admin).await;
    let first = alerts(&client).await;

    admin.remove_plugin(NAME).await.unwrap();
    assert!(admin.list_plugins().await.unwrap().is_empty());
    let gone = admin.describe_plugin(NAME).await.unwrap_err();
    assert_eq!(gone.code(), Some(ErrorCode::UnknownDeployment));
    let gone = admin.remove_plugin(NAME).await.unwrap_err();
    assert_eq!(gone.code(), Some(ErrorCode::UnknownDeployment));
    produce(&client, after).await;
    assert_eq!(
        alerts(&client).await,
        first,
        "it went on after it was removed"
    );

    admin.deploy_plugin(component(), spec()).await.unwrap();
    worked_off(&admin).await;
    let all = alerts(&client).await;
    assert_eq!(
        all.keys().cloned().collect::<BTreeSet<_>>(),
        strong_ids(&events)
    );
    assert!(
        all.values().all(|times| *times == 1),
        "it began anew in place of going on"
    );
}

#[tokio::test]
async fn a_plugins_logs_are_there() {
    let (broker, client, admin) = start().await;
    let spec = DeploymentSpec {
        config: vec![("min-mag".to_owned(), "6".to_owned())],
        ..spec()
    };
    admin.deploy_plugin(component(), spec).await.unwrap();
    let producer = client.producer(INPUT).build().await.unwrap();
    producer
        .send(ProduceRecord::new("no JSON").partition(2))
        .await
        .unwrap();
    producer
        .send(ProduceRecord::new(r#"{"id":1}"#).partition(2))
        .await
        .unwrap();
    producer.close().await.unwrap();

    let mut logs = admin.plugin_logs(NAME).follow().await.unwrap();
    let (mut greeted, mut rejected) = (false, false);
    until("what the workers log", async || {
        let line = logs.next().await.expect("a log that goes on").unwrap();
        greeted |= line.message.contains("alerts from magnitude 6");
        // A record that the plugin rejects is named with its place and the plugin's reason.
        rejected |= line.partition == 2 && line.message.contains("offset 0");
        (greeted && rejected).then_some(())
    })
    .await;
    let shown = run(&mut broker.command(["plugin", "logs", NAME, "--output", "json"])).success();
    let lines: Vec<serde_json::Value> = shown
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(
        lines
            .iter()
            .any(|line| line["message"].as_str().unwrap().contains("magnitude 6"))
    );
    assert!(
        lines
            .iter()
            .all(|line| line["topic"] == INPUT && line["level"].is_string())
    );
    let unknown = run(&mut broker.command(["plugin", "logs", "nobody"])).exited(4);
    assert!(unknown.stderr.contains("try: "), "{unknown:#?}");
}
