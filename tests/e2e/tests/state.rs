//! What workers remember: through kills, with files that are lost or damaged, and for a person.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bytes::Bytes;
use millstream::{
    Admin, Client, DeploymentSpec, ErrorCode, OutputSpec, Position, ProduceRecord, StateItem,
    WorkerDescription, WorkerLimits,
};
use millstream_e2e::artifacts::drill;
use millstream_e2e::broker::Broker;
use millstream_e2e::command::run;
use millstream_e2e::history::History;
use millstream_e2e::load::Load;
use millstream_e2e::patience::until;
use serde_json::Value;

const INPUT: &str = "in";
const OUTPUT: &str = "out";
const NAME: &str = "drill";
const PARTITIONS: u32 = 2;

/// Of changes in memory, bytes: so little that files are written all the time.
const OVERLAY: &str = "2KiB";

/// Keys of the state.
const KEYS: usize = 300;

fn component() -> Bytes {
    std::fs::read(drill()).expect("the component").into()
}

fn spec() -> DeploymentSpec {
    DeploymentSpec {
        inputs: vec![INPUT.to_owned()],
        outputs: vec![OutputSpec {
            name: "out".to_owned(),
            topic: OUTPUT.to_owned(),
        }],
        start: Position::Earliest,
        ..DeploymentSpec::new(NAME)
    }
}

async fn start() -> (Broker, Client, Admin) {
    let broker = Broker::start_with(["--state-overlay", OVERLAY]);
    let client = broker.quick_client().await;
    let admin = client.admin();
    let input = admin.create_topic(INPUT).partitions(PARTITIONS);
    input.await.unwrap();
    admin.create_topic(OUTPUT).await.unwrap();
    (broker, client, admin)
}

/// Produces `<key>/<round>` for every key: each key is counted once more.
async fn produce(client: &Client, round: usize) {
    let producer = client.producer(INPUT).build().await.unwrap();
    for key in 0..KEYS {
        let record = ProduceRecord::new(format!("k{key}/{round}"));
        let record = record.partition(key as u32 % PARTITIONS);
        producer.send(record).await.unwrap();
    }
    producer.close().await.unwrap();
}

async fn worked_off(admin: &Admin) {
    until("the workers to be done", async || {
        let described = admin.describe_plugin(NAME).await.ok()?;
        let done = |worker: &WorkerDescription| worker.lag == 0 && worker.parked == 0;
        let all = described.workers.len() == PARTITIONS as usize;
        (all && described.workers.iter().all(done)).then_some(())
    })
    .await;
}

/// Of each partition how far the state goes, and its counts.
type State = BTreeMap<u32, (u64, BTreeMap<String, u64>)>;

/// The state, as soon as all workers have theirs.
async fn state(admin: &Admin) -> State {
    let all = |state: &State| state.len() == PARTITIONS as usize;
    until("the workers to have their state", async || {
        read_state(admin).await.ok().filter(all)
    })
    .await
}

async fn read_state(admin: &Admin) -> millstream::Result<State> {
    let mut state = State::new();
    let mut reading = admin.plugin_state(NAME).await?;
    let mut partition = None;
    while let Some(item) = reading.next().await? {
        match item {
            StateItem::Worker(of) => {
                partition = Some(of.partition);
                state.insert(of.partition, (of.offset, BTreeMap::new()));
            }
            StateItem::Entry { key, value } => {
                let of = state.get_mut(&partition.expect("a worker")).unwrap();
                let key = String::from_utf8(key.to_vec()).unwrap();
                let count = u64::from_be_bytes(value.as_ref().try_into().unwrap());
                assert_eq!(of.1.insert(key, count), None);
            }
        }
    }
    Ok(state)
}

/// What the input has led to, up to where each state stands for.
async fn expected(client: &Client, state: &State) -> State {
    let mut expected: State = state
        .iter()
        .map(|(partition, (offset, _))| (*partition, (*offset, BTreeMap::new())))
        .collect();
    let input = History::read(client, INPUT).await;
    for record in input.records() {
        let (offset, counts) = expected.get_mut(&record.partition).expect("a worker");
        if record.offset < *offset {
            let value = String::from_utf8(record.value.clone().unwrap().to_vec()).unwrap();
            let key = value.split('/').next().unwrap().to_owned();
            *counts.entry(key).or_default() += 1;
        }
    }
    expected
}

fn files(broker: &Broker) -> Vec<PathBuf> {
    let Ok(topics) = std::fs::read_dir(broker.broker_dir().join("state")) else {
        return Vec::new();
    };
    let topics = topics.flat_map(|topic| std::fs::read_dir(topic.unwrap().path()).unwrap());
    topics.map(|file| file.unwrap().path()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_is_what_its_input_has_led_to() {
    let (mut broker, client, admin) = start().await;
    admin.deploy_plugin(component(), spec()).await.unwrap();
    for round in 0..4 {
        produce(&client, round).await;
        worked_off(&admin).await;
        // They are written beside the work.
        until("the files", async || {
            (files(&broker).len() == PARTITIONS as usize).then_some(())
        })
        .await;
        broker.kill();
        match round {
            // A file that is lost or damaged is made again.
            1 => std::fs::remove_file(&files(&broker)[0]).unwrap(),
            2 => {
                for file in files(&broker) {
                    let bytes = std::fs::read(&file).unwrap();
                    std::fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
                }
            }
            _ => {}
        }
        broker.restart();
        worked_off(&admin).await;
        let is = state(&admin).await;
        assert_eq!(is, expected(&client, &is).await);
        let counted: u64 = is.values().flat_map(|(_, counts)| counts.values()).sum();
        assert_eq!(counted, ((round + 1) * KEYS) as u64);
    }
    assert!(
        broker
            .log()
            .contains("the whole log that it was made from is read instead")
    );

    // Another version finds it, another deployment of the name does not.
    let slower = WorkerLimits {
        deadline_ms: 2_000,
        ..spec().limits
    };
    let other = DeploymentSpec {
        limits: slower,
        ..spec()
    };
    admin.upgrade_plugin(component(), other).await.unwrap();
    produce(&client, 4).await;
    worked_off(&admin).await;
    let is = state(&admin).await;
    assert_eq!(is, expected(&client, &is).await);
    admin.remove_plugin(NAME).await.unwrap();
    assert_eq!(files(&broker), Vec::<PathBuf>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_under_load_is_of_one_moment() {
    let (broker, client, admin) = start().await;
    admin.deploy_plugin(component(), spec()).await.unwrap();
    let mut load = Load::start(&broker, INPUT, 2).await;
    let mut exports = Vec::new();
    for _ in 0..5 {
        load.advance(100).await;
        exports.push(state(&admin).await);
    }
    load.finish().await;
    for export in exports {
        assert_eq!(export, expected(&client, &export).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_that_is_full_takes_no_more_and_says_so() {
    let (_broker, client, admin) = start().await;
    let small = DeploymentSpec {
        limits: WorkerLimits {
            state_bytes: 4_000,
            ..WorkerLimits::default()
        },
        ..spec()
    };
    let mut small = small;
    small.on_failure.attempts = 1;
    admin.deploy_plugin(component(), small).await.unwrap();
    produce(&client, 0).await;
    worked_off(&admin).await;
    let is = state(&admin).await;
    for (_, counts) in is.values() {
        let bytes: usize = counts.keys().map(|key| 64 + key.len() + 8).sum();
        assert!((3_900..=4_000).contains(&bytes), "{bytes}");
    }
    let held: usize = is.values().map(|(_, counts)| counts.len()).sum();
    let letters = History::read(&client, "drill.dead-letters").await;
    assert_eq!(letters.len(), KEYS - held);
    let reason = letters.records().next().unwrap().headers.iter();
    let reasons: Vec<_> = reason
        .filter(|header| header.name == b"millstream.dead-letter.reason".as_slice())
        .map(|header| String::from_utf8_lossy(header.value.as_deref().unwrap()).into_owned())
        .collect();
    assert_eq!(reasons, ["the state would take more than 4000 bytes"]);
    // What is there may still change.
    produce(&client, 1).await;
    worked_off(&admin).await;
    let counted: u64 = state(&admin)
        .await
        .values()
        .flat_map(|it| it.1.values())
        .sum();
    assert!(counted > held as u64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_looks_at_a_state() {
    let (broker, client, admin) = start().await;
    let unknown = admin.plugin_state("nobody").await.unwrap().next().await;
    assert_eq!(
        unknown.unwrap_err().code(),
        Some(ErrorCode::UnknownDeployment)
    );
    admin.deploy_plugin(component(), spec()).await.unwrap();
    produce(&client, 0).await;
    worked_off(&admin).await;

    let mut get = broker.command(["plugin", "state", "get", NAME, "k7", "--output", "json"]);
    let found = run(&mut get).success().json();
    let entry = &found["entries"][0];
    assert_eq!(
        (&entry["key"], &entry["value"]),
        (&"k7".into(), &Value::Null)
    );
    assert_eq!(entry["value_hex"], "0000000000000001");
    let mut hex = broker.command(["plugin", "state", "get", NAME, "hex:6b37"]);
    assert!(run(&mut hex).success().stdout.contains("k7"));
    let mut missing = broker.command(["plugin", "state", "get", NAME, "k7000"]);
    let missing = run(&mut missing);
    assert_ne!(missing.code(), Some(0));
    assert!(
        missing
            .stderr
            .contains("no worker of drill remembers that key")
    );

    let scan = [
        "plugin", "state", "scan", NAME, "--prefix", "k1", "--limit", "12",
    ];
    let mut scan = broker.command(scan.iter().chain(&["--output", "json"]));
    let scanned = run(&mut scan).success().json();
    let keys: Vec<_> = scanned["entries"].as_array().unwrap().iter().collect();
    assert_eq!(keys.len(), 12);
    assert!(
        keys.iter()
            .all(|it| it["key"].as_str().unwrap().starts_with("k1"))
    );

    let file = broker.folder().join("state.ndjson");
    let mut export = broker.command(["plugin", "state", "export", NAME, "--file"]);
    export.arg(&file).args(["--output", "json"]);
    let exported = run(&mut export).success().json();
    assert_eq!(exported["workers"], PARTITIONS);
    assert_eq!(exported["entries"], KEYS);
    let lines = std::fs::read_to_string(&file).unwrap();
    let lines: Vec<Value> = lines
        .lines()
        .map(|it| serde_json::from_str(it).unwrap())
        .collect();
    let (origins, entries): (Vec<_>, Vec<_>) =
        lines.iter().partition(|it| it.get("topic").is_some());
    assert_eq!((origins.len(), entries.len()), (PARTITIONS as usize, KEYS));
    let done: u64 = origins
        .iter()
        .map(|it| it["offset"].as_u64().unwrap())
        .sum();
    assert_eq!(done, KEYS as u64);
}
