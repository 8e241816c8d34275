//! Tables: what is joined is what the table had, through kills, and files that are lost or damaged.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use bytes::Bytes;
use millstream::{
    Admin, Cleanup, Client, ConsumedRecord, DeliveryGuarantee, DeploymentSpec, ErrorCode,
    OutputSpec, ProduceRecord, TableDescription, TableSpec, TableState, TopicConfig, WorkerState,
};
use millstream_e2e::artifacts::{enrich, millstream, workspace};
use millstream_e2e::broker::Broker;
use millstream_e2e::command::{run, run_with_input};
use millstream_e2e::history::History;
use millstream_e2e::patience::until;
use serde_json::Value;

const EVENTS: &str = "events";
const JOINED: &str = "joined";
const PLACES: &str = "places";
const NAME: &str = "enrich";
const PARTITIONS: u32 = 2;
const TABLE_PARTITIONS: u32 = 3;

/// Of changes in memory, bytes: so little that files are written all the time.
const OVERLAY: &str = "256";

/// A key that is deleted, and can be told from all else that a disk has.
const GONE: &str = "a-key-that-is-gone";

/// Keys of the table.
const KEYS: u64 = 40;

fn component() -> Bytes {
    fs::read(enrich()).expect("the component").into()
}

/// Joins by the records' keys.
fn spec() -> DeploymentSpec {
    DeploymentSpec {
        inputs: vec![EVENTS.to_owned()],
        outputs: vec![OutputSpec {
            name: "enriched".to_owned(),
            topic: JOINED.to_owned(),
        }],
        tables: vec![table("reference", PLACES)],
        ..DeploymentSpec::new(NAME)
    }
}

fn table(name: &str, topic: &str) -> TableSpec {
    TableSpec {
        name: name.to_owned(),
        topic: topic.to_owned(),
    }
}

async fn start(options: &[&str]) -> (Broker, Client, Admin) {
    let broker = Broker::start_with(options.iter().copied());
    let client = broker.quick_client().await;
    let admin = client.admin();
    for topic in [EVENTS, JOINED] {
        let created = admin.create_topic(topic).partitions(PARTITIONS);
        created.await.unwrap();
    }
    let places = admin.create_topic(PLACES).partitions(TABLE_PARTITIONS);
    places.cleanup(Cleanup::Compact).await.unwrap();
    (broker, client, admin)
}

/// Sets the values of keys in the table, or takes keys away.
async fn put(client: &Client, entries: impl IntoIterator<Item = (String, Option<Value>)>) {
    let producer = client.producer(PLACES).build().await.unwrap();
    for (key, value) in entries {
        let record = match value {
            Some(value) => ProduceRecord::new(value.to_string()).key(key),
            None => ProduceRecord::tombstone(key),
        };
        producer.send(record).await.unwrap();
    }
    producer.close().await.unwrap();
}

/// What a key has in a version of the table.
fn place(key: &str, version: u64) -> Value {
    serde_json::json!({ "of": key, "version": version })
}

/// All keys in a version.
fn places(version: u64) -> impl Iterator<Item = (String, Option<Value>)> {
    (0..KEYS).map(move |number| {
        let key = format!("k{number}");
        let value = place(&key, version);
        (key, Some(value))
    })
}

/// Produces an event for each key, with a number that tells it from all others.
async fn produce(client: &Client, keys: impl IntoIterator<Item = String>, round: &str) {
    let producer = client.producer(EVENTS).build().await.unwrap();
    for key in keys {
        let event = format!("{{\"event\":\"{key}/{round}\"}}");
        producer
            .send(ProduceRecord::new(event).key(key))
            .await
            .unwrap();
    }
    producer.close().await.unwrap();
}

fn keys() -> impl Iterator<Item = String> {
    (0..KEYS).map(|number| format!("k{number}"))
}

async fn described(admin: &Admin) -> Option<TableDescription> {
    let described = admin.describe_plugin(NAME).await.ok()?;
    described.tables.into_iter().next()
}

/// The table, as soon as it has all that its topic has.
async fn caught_up(admin: &Admin) -> TableDescription {
    until("the table to have its topic", async || {
        let table = described(admin).await?;
        (table.state == TableState::Following && table.lag == 0).then_some(table)
    })
    .await
}

async fn worked_off(admin: &Admin) {
    until("the workers to be done", async || {
        let described = admin.describe_plugin(NAME).await.ok()?;
        let all = described.workers.len() == PARTITIONS as usize;
        let done = described
            .workers
            .iter()
            .all(|it| it.lag == 0 && it.parked == 0);
        (all && done).then_some(())
    })
    .await;
}

/// An output: which event it is of, and what the table had.
fn joined(record: &ConsumedRecord) -> (String, Option<Value>) {
    let value = record.value.as_deref().expect("a value");
    let value: Value = serde_json::from_slice(value).expect("JSON");
    let event = value["event"].as_str().expect("an event").to_owned();
    (event, value.get("reference").cloned())
}

/// What came of each event: exactly one output.
async fn outputs(client: &Client) -> BTreeMap<String, Option<Value>> {
    let history = History::read(client, JOINED).await;
    let mut outputs = BTreeMap::new();
    for record in history.records() {
        let (event, reference) = joined(record);
        assert_eq!(outputs.insert(event.clone(), reference), None, "{event}");
    }
    outputs
}

/// Whether the bytes of a text are in a file of a log.
fn is_in_a_log(broker: &Broker, text: &str) -> bool {
    let topics = fs::read_dir(broker.broker_dir().join("topics")).expect("the folder");
    let folders = |folder: fs::DirEntry| fs::read_dir(folder.path()).expect("a folder");
    let partitions = topics.flat_map(|topic| folders(topic.unwrap()));
    let mut files = partitions.flat_map(|partition| folders(partition.unwrap()));
    files.any(|file| {
        // One that compaction has just put another in the place of may have had it.
        fs::read(file.unwrap().path()).map_or(true, |content| {
            let mut parts = content.windows(text.len());
            parts.any(|part| part == text.as_bytes())
        })
    })
}

fn files(broker: &Broker) -> Vec<PathBuf> {
    let topics = fs::read_dir(broker.broker_dir().join("tables")).expect("the folder");
    let topics = topics.flat_map(|topic| fs::read_dir(topic.unwrap().path()).unwrap());
    topics.map(|file| file.unwrap().path()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_join_follows_the_table() {
    let (_broker, client, admin) = start(&[]).await;
    put(&client, places(0)).await;
    produce(&client, keys(), "a").await;
    // What was there before the workers is in the table when the first record is handled.
    admin.deploy_plugin(component(), spec()).await.unwrap();
    worked_off(&admin).await;
    let mut model: BTreeMap<String, Value> =
        keys().map(|key| (key.clone(), place(&key, 0))).collect();
    let mut expected = BTreeMap::new();
    let expect = |expected: &mut BTreeMap<_, _>, model: &BTreeMap<String, Value>, round: &str| {
        for key in keys() {
            expected.insert(format!("{key}/{round}"), model.get(&key).cloned());
        }
    };
    expect(&mut expected, &model, "a");
    assert_eq!(outputs(&client).await, expected);

    // A value that changes, keys that go, and one that comes back.
    let later = [
        ("k1".to_owned(), Some(place("k1", 1))),
        ("k2".to_owned(), None),
        ("k3".to_owned(), None),
        ("k3".to_owned(), Some(place("k3", 2))),
        // Nobody finds it.
        ("k".repeat(1_025), Some(place("", 0))),
    ];
    for (key, value) in later.clone().into_iter().take(4) {
        match value {
            Some(value) => model.insert(key, value),
            None => model.remove(&key),
        };
    }
    put(&client, later).await;
    let table = caught_up(&admin).await;
    assert_eq!(table.records_read, KEYS + 5);
    assert_eq!(table.records_ignored, 1);
    produce(&client, keys(), "b").await;
    worked_off(&admin).await;
    expect(&mut expected, &model, "b");
    assert_eq!(outputs(&client).await, expected);

    // A partition that is added, and a key that lies where no hash puts it.
    let more = admin.alter_topic(PLACES).partitions(TABLE_PARTITIONS + 2);
    more.await.unwrap();
    let producer = client.producer(PLACES).build().await.unwrap();
    let odd = ProduceRecord::new(place("k2", 3).to_string()).key("k2");
    producer
        .send(odd.partition(TABLE_PARTITIONS + 1))
        .await
        .unwrap();
    producer.close().await.unwrap();
    model.insert("k2".to_owned(), place("k2", 3));
    until("the partition that was added", async || {
        (described(&admin).await?.records_read == KEYS + 6).then_some(())
    })
    .await;
    produce(&client, keys(), "c").await;
    worked_off(&admin).await;
    expect(&mut expected, &model, "c");
    assert_eq!(outputs(&client).await, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn through_kills_every_event_has_one_output_with_what_the_table_had() {
    let (mut broker, client, admin) = start(&["--state-overlay", OVERLAY]).await;
    put(&client, places(0)).await;
    admin.deploy_plugin(component(), spec()).await.unwrap();
    const KILLS: u64 = 4;
    for round in 0..KILLS {
        let (events, table) = (client.clone(), client.clone());
        // Both move on while the broker dies: producers go on with the next one.
        let events = tokio::spawn(async move {
            for part in 0..5 {
                produce(&events, keys(), &format!("{round}.{part}")).await;
            }
        });
        let table = tokio::spawn(async move {
            for version in 1..=5 {
                put(&table, places(5 * round + version)).await;
            }
        });
        until("some of it to be handled", async || {
            let described = admin.describe_plugin(NAME).await.ok()?;
            let records_in: u64 = described.workers.iter().map(|it| it.records_in).sum();
            (records_in > 0 && described.tables.first()?.records_read > 0).then_some(())
        })
        .await;
        broker.kill();
        broker.restart();
        events.await.unwrap();
        table.await.unwrap();
    }
    worked_off(&admin).await;
    let last = caught_up(&admin).await;
    assert!(last.bytes > 0);

    let outputs = outputs(&client).await;
    assert_eq!(outputs.len() as u64, KILLS * 5 * KEYS);
    // Whenever it was, the table had a value, and never an older one than for an event before.
    let history = History::read(&client, JOINED).await;
    let mut versions: BTreeMap<String, u64> = BTreeMap::new();
    for record in history.records() {
        let (event, reference) = joined(record);
        let key = event.split('/').next().unwrap().to_owned();
        let reference = reference.unwrap_or_else(|| panic!("{event} was not joined"));
        assert_eq!(reference["of"], key.as_str());
        let version = reference["version"].as_u64().unwrap();
        assert!(version <= 5 * KILLS, "{event}: {version}");
        // A key is in one partition of the events, and so are its outputs.
        let before = versions.entry(key).or_default();
        assert!(*before <= version, "{event}: {version} after {before}");
        *before = version;
    }
    // In the end it is the last.
    produce(&client, keys(), "end").await;
    worked_off(&admin).await;
    let outputs = self::outputs(&client).await;
    for key in keys() {
        let expected = Some(place(&key, 5 * KILLS));
        assert_eq!(outputs[&format!("{key}/end")], expected);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_is_gone_on_with_made_again_and_removed() {
    let (mut broker, client, admin) = start(&["--state-overlay", OVERLAY]).await;
    const VERSIONS: u64 = 10;
    for version in 0..VERSIONS {
        put(&client, places(version)).await;
    }
    admin.deploy_plugin(component(), spec()).await.unwrap();
    // Another deployment has the same table.
    let second = DeploymentSpec {
        tables: vec![table("reference", PLACES), table("again", PLACES)],
        outputs: spec().outputs,
        inputs: spec().inputs,
        ..DeploymentSpec::new("second")
    };
    admin.deploy_plugin(component(), second).await.unwrap();
    let all = VERSIONS * KEYS;
    let first = caught_up(&admin).await;
    assert_eq!(first.records_read, all);
    until("the files", async || {
        (files(&broker).len() == TABLE_PARTITIONS as usize).then_some(())
    })
    .await;

    // It goes on where the files end.
    broker.kill();
    broker.restart();
    let table = caught_up(&admin).await;
    assert!(table.records_read < all / 2, "{table:?}");
    let shared = admin.describe_plugin("second").await.unwrap().tables;
    let shared: Vec<_> = shared
        .iter()
        .map(|it| (it.name.as_str(), it.records_read))
        .collect();
    assert_eq!(
        shared,
        [
            ("reference", table.records_read),
            ("again", table.records_read)
        ]
    );

    // What is damaged is read anew, and what is lost as well.
    for damage in ["cut", "lost"] {
        broker.kill();
        for file in files(&broker) {
            let bytes = fs::read(&file).unwrap();
            match damage {
                "cut" => fs::write(&file, &bytes[..bytes.len() / 2]).unwrap(),
                _ => fs::remove_file(&file).unwrap(),
            }
        }
        broker.restart();
        let table = caught_up(&admin).await;
        assert_eq!(table.records_read, all, "{damage}");
        produce(&client, keys(), damage).await;
        // Two deployments write there.
        let of_round = until("the outputs of both", async || {
            let history = History::read(&client, JOINED).await;
            let of_round = history
                .records()
                .map(joined)
                .filter(|(event, _)| event.ends_with(damage));
            let of_round: Vec<_> = of_round.collect();
            (of_round.len() as u64 >= 2 * KEYS).then_some(of_round)
        })
        .await;
        assert_eq!(of_round.len() as u64, 2 * KEYS);
        for (event, reference) in of_round {
            let key = event.split('/').next().unwrap();
            assert_eq!(reference, Some(place(key, VERSIONS - 1)), "{event}");
        }
        until("the files", async || {
            (files(&broker).len() == TABLE_PARTITIONS as usize).then_some(())
        })
        .await;
    }
    assert!(
        broker
            .log()
            .contains("the whole log that it was made from is read instead")
    );

    // Somebody deletes the oldest records: what was made of them goes.
    let start = admin.delete_records(PLACES, 0, u64::MAX).await;
    assert!(start.is_err(), "there is no such offset");
    let end = admin.describe_topic(PLACES).await.unwrap().partitions[0]
        .known_log()
        .unwrap()
        .high_watermark;
    admin.delete_records(PLACES, 0, end).await.unwrap();
    until("the table without them", async || {
        let table = described(&admin).await?;
        let whole = table.state == TableState::Following && table.lag == 0;
        (whole && table.bytes < first.bytes && table.records_read < all).then_some(())
    })
    .await;

    // The files stay as long as somebody has the table.
    admin.remove_plugin(NAME).await.unwrap();
    assert_ne!(files(&broker), Vec::<PathBuf>::new());
    // And go with the revision that has it no more.
    let refused = admin.delete_topic(PLACES).await.unwrap_err();
    assert_eq!(refused.code(), Some(ErrorCode::TopicInUse));
    admin.remove_plugin("second").await.unwrap();
    assert_eq!(files(&broker), Vec::<PathBuf>::new());
    admin.delete_topic(PLACES).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_missed_a_deletion_is_not_used() {
    let (mut broker, client, admin) = start(&["--state-overlay", OVERLAY]).await;
    let config = TopicConfig {
        cleanup: Cleanup::Compact,
        segment_bytes: 64 << 10,
        segment_ms: 1_000,
        max_batch_bytes: 32 << 10,
        tombstone_retention_ms: 0,
        ..TopicConfig::default()
    };
    admin.create_topic("quick").config(config).await.unwrap();
    let quick = DeploymentSpec {
        tables: vec![table("reference", "quick")],
        ..spec()
    };
    admin.deploy_plugin(component(), quick).await.unwrap();
    let producer = client.producer("quick").build().await.unwrap();
    for key in keys() {
        let value = place(&key, 0).to_string();
        producer
            .send(ProduceRecord::new(value).key(key))
            .await
            .unwrap();
    }
    let gone = ProduceRecord::new(place(GONE, 0).to_string()).key(GONE);
    producer.send(gone).await.unwrap();
    producer.flush().await.unwrap();
    // What is read back at a start is in the file before it is shown.
    broker.kill();
    broker.restart();
    caught_up(&admin).await;
    broker.kill();
    let file = files(&broker).remove(0);
    let old = fs::read(&file).unwrap();
    broker.restart();

    producer.send(ProduceRecord::tombstone(GONE)).await.unwrap();
    producer.flush().await.unwrap();
    assert!(is_in_a_log(&broker, GONE));
    until("the deletion to be compacted away", async || {
        // Only segments that are full are compacted.
        for _ in 0..4 {
            let mut filler = place("k2", 1);
            filler["filler"] = "f".repeat(20 << 10).into();
            let filler = ProduceRecord::new(filler.to_string()).key("k2");
            producer.send(filler).await.unwrap();
            producer.flush().await.unwrap();
        }
        (!is_in_a_log(&broker, GONE)).then_some(())
    })
    .await;
    caught_up(&admin).await;
    broker.kill();
    fs::write(&file, old).unwrap();
    broker.restart();
    caught_up(&admin).await;
    let says = "deletions that it does not hold were compacted away";
    assert!(broker.log().contains(says));
    let events = keys().chain([GONE.to_owned()]);
    produce(&client, events, "a").await;
    worked_off(&admin).await;
    let outputs = outputs(&client).await;
    assert_eq!(outputs[&format!("{GONE}/a")], None);
    assert_eq!(outputs["k2/a"].as_ref().unwrap()["version"], 1);
    assert_eq!(outputs["k3/a"], Some(place("k3", 0)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_a_table_is_refused() {
    let (broker, _client, admin) = start(&[]).await;
    let refused = async |spec: DeploymentSpec| {
        let refused = admin.deploy_plugin(component(), spec).await.unwrap_err();
        (refused.code(), refused.to_string())
    };
    let check = async |spec: DeploymentSpec, code: ErrorCode, says: &str| {
        let (found, message) = refused(spec).await;
        assert_eq!(found, Some(code), "{message}");
        assert!(message.contains(says), "{message}");
    };
    let with = |tables: Vec<TableSpec>| DeploymentSpec { tables, ..spec() };
    let none = with(Vec::new());
    let says = "imports `millstream:plugin/tables@0.1.0`, but the deployment names no table";
    check(none, ErrorCode::SettingsRefused, says).await;
    let other = with(vec![table("other", PLACES)]);
    let says = "the deployment has no table `reference` (it has `other`)";
    check(other, ErrorCode::SettingsRefused, says).await;
    admin.create_topic("ordinary").await.unwrap();
    let stream = with(vec![table("reference", "ordinary")]);
    let says = "which is not compacted";
    check(stream, ErrorCode::InvalidRequest, says).await;
    let own_input = with(vec![table("reference", EVENTS)]);
    let says = "which the deployment reads as an input: one topic cannot be both";
    check(own_input, ErrorCode::InvalidRequest, says).await;
    let deterministic = DeploymentSpec {
        delivery: DeliveryGuarantee::Deterministic,
        ..spec()
    };
    let says = "a deterministic deployment cannot have the table reference";
    check(deterministic, ErrorCode::InvalidRequest, says).await;
    let unknown = with(vec![table("reference", "nothing")]);
    check(
        unknown,
        ErrorCode::UnknownTopic,
        "no topic is named nothing",
    )
    .await;
    // What was refused has left nothing open.
    assert_eq!(files(&broker), Vec::<PathBuf>::new());

    admin.deploy_plugin(component(), spec()).await.unwrap();
    let deleted = admin.delete_topic(PLACES).await.unwrap_err();
    assert_eq!(deleted.code(), Some(ErrorCode::TopicInUse));
    let altered = admin.alter_topic(PLACES).cleanup(Cleanup::Delete).await;
    let altered = altered.unwrap_err();
    assert_eq!(altered.code(), Some(ErrorCode::TopicInUse));
    assert!(
        altered.to_string().contains("it stays compacted"),
        "{altered}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_is_too_large_pauses_its_workers_until_it_is_not() {
    let (broker, client, admin) =
        start(&["--state-overlay", OVERLAY, "--table-bytes", "8KiB"]).await;
    put(&client, places(0)).await;
    admin.deploy_plugin(component(), spec()).await.unwrap();
    caught_up(&admin).await;
    // The same keys again and again take no more room.
    for version in 1..20 {
        put(&client, places(version)).await;
    }
    let table = caught_up(&admin).await;
    assert_eq!(table.records_read, 20 * KEYS);

    let more = |value: fn(&str) -> Option<Value>| {
        (0..200).map(move |number| {
            let key = format!("more{number}");
            let value = value(&key);
            (key, value)
        })
    };
    put(&client, more(|key| Some(place(key, 0)))).await;
    let table = until("the table to be given up", async || {
        let table = described(&admin).await?;
        matches!(table.state, TableState::TooLarge { .. }).then_some(table)
    })
    .await;
    assert_eq!(files(&broker), Vec::<PathBuf>::new());
    let TableState::TooLarge { reason } = table.state else {
        panic!("{table:?}");
    };
    let says = "the table of topic places takes more than the 8192 bytes that one may";
    assert!(reason.starts_with(says), "{reason}");
    produce(&client, keys(), "a").await;
    until("the workers to be paused", async || {
        let described = admin.describe_plugin(NAME).await.ok()?;
        let paused = |state: &WorkerState| match state {
            WorkerState::Paused { reason } => reason.starts_with(says),
            _ => false,
        };
        let paused = described.workers.iter().filter(|it| paused(&it.state));
        (paused.count() == PARTITIONS as usize).then_some(())
    })
    .await;

    put(&client, more(|_| None)).await;
    admin.resume_plugin(NAME).await.unwrap();
    worked_off(&admin).await;
    let expected = keys().map(|key| (format!("{key}/a"), Some(place(&key, 19))));
    assert_eq!(outputs(&client).await, expected.collect());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_names_tables_and_shows_them() {
    let (broker, client, admin) = start(&[]).await;
    put(&client, places(0)).await;
    let file = broker.folder().join("deployment.toml");
    let declare = |tables: &str| {
        let component = enrich().display();
        let text = format!(
            "name = \"{NAME}\"\ncomponent = {:?}\ninputs = [\"{EVENTS}\"]\ncreate-topics = true\n\
             [outputs]\nenriched = \"{JOINED}\"\n[tables]\n{tables}",
            component.to_string()
        );
        fs::write(&file, text).unwrap();
    };
    let deploy = |option: &[&str]| {
        let mut command = broker.command(["plugin", "deploy", "--output", "json", "-f"]);
        command.arg(&file).args(option);
        run(&mut command)
    };
    declare(&format!("reference = \"{PLACES}\"\n"));
    assert_eq!(deploy(&[]).success().json()["revision"], 1);
    let again = deploy(&[]).success();
    assert_eq!(again.json()["revision"], 1);
    assert!(again.stderr.contains("nothing changed"), "{}", again.stderr);

    caught_up(&admin).await;
    let mut describe = broker.command(["plugin", "describe", NAME, "--output", "json"]);
    let described = run(&mut describe).success().json();
    let table = &described["tables"][0];
    assert_eq!(
        (&table["name"], &table["topic"]),
        (&"reference".into(), &PLACES.into())
    );
    assert_eq!(
        (&table["state"], &table["records_read"]),
        (&"following".into(), &KEYS.into())
    );

    // A key is taken away by a line without a value.
    let mut take_away = broker.command(["produce", PLACES, "--key", "k0", "--tombstone-empty"]);
    run_with_input(&mut take_away, "\n").success();
    until("the tombstone to be read", async || {
        let described = run(&mut describe).success().json();
        (described["tables"][0]["records_read"] == KEYS + 1).then_some(())
    })
    .await;
    produce(&client, ["k0".to_owned(), "k1".to_owned()], "after").await;
    worked_off(&admin).await;
    let outputs = outputs(&client).await;
    let found: Vec<_> = outputs
        .iter()
        .map(|(id, place)| (id.as_str(), place.is_some()))
        .collect();
    assert_eq!(found, [("k0/after", false), ("k1/after", true)]);

    // One more, of a topic that is not there yet; and back.
    declare(&format!(
        "reference = \"{PLACES}\"\nother = \"other-places\"\n"
    ));
    let differs = deploy(&[]);
    assert!(
        differs
            .stderr
            .contains("it differs in tables other: unset → other-places"),
        "{}",
        differs.stderr
    );
    assert_eq!(deploy(&["--replace"]).success().json()["revision"], 2);
    let made = admin.describe_topic("other-places").await.unwrap();
    assert_eq!(made.config.cleanup, Cleanup::Compact);
    let history = admin.plugin_history(NAME).await.unwrap();
    assert_eq!(history[1].differs_in, ["tables"]);
    let back = admin.roll_back_plugin(NAME, Some(1)).await.unwrap();
    assert_eq!(back.spec.tables, spec().tables);

    // As options.
    let mut options = broker.command(["plugin", "deploy", "--name", "by-options"]);
    options
        .arg(enrich())
        .args(["--input", EVENTS, "--output-topic"]);
    options.arg(format!("enriched={JOINED}"));
    options.args(["--table", "reference=places", "--output", "json"]);
    let deployed = run(&mut options).success().json();
    assert_eq!(deployed["tables"][0]["topic"], PLACES);
}

#[test]
fn a_run_without_a_broker_has_its_tables_from_files() {
    let folder = workspace().join("plugins/enrich");
    let command = |tables: &[&str]| {
        let mut command = Command::new(millstream());
        command.args(["plugin", "run"]).arg(enrich());
        command.args(["--output-name", "enriched", "--key-field", "id"]);
        command.args(["--config", "field=net", "--config", "as=network"]);
        command.args([
            "--config",
            "take=name, country",
            "--timestamp-field",
            "time",
            "--records",
        ]);
        command
            .arg(folder.join("samples/events.ndjson"))
            .args(tables);
        command
            .arg("--expect")
            .arg(folder.join("samples/expected.tsv"));
        run(&mut command)
    };
    let networks = workspace().join("tests/fixtures/networks.ndjson");
    let networks = format!("reference={}", networks.display());
    let as_expected = command(&["--table", &networks, "--table-key", "reference=net"]);
    as_expected.success();
    let refused = command(&[]);
    assert!(
        refused.stderr.contains("names no table"),
        "{}",
        refused.stderr
    );
    assert!(
        refused.stderr.contains("`--table TABLE=FILE` gives"),
        "{}",
        refused.stderr
    );
    let no_key = command(&["--table", &networks]);
    assert!(
        no_key.stderr.contains("no entry of the table reference")
            && no_key.stderr.contains("`--table-key reference=id`"),
        "{}",
        no_key.stderr
    );
    // A deployment file names the table, and nothing fills it.
    let deployment = tempfile::tempdir().unwrap();
    let file = deployment.path().join("deployment.toml");
    let text = format!(
        "name = \"{NAME}\"\ncomponent = {:?}\ninputs = [\"{EVENTS}\"]\n[outputs]\nenriched = \"{JOINED}\"\n\
         [tables]\nreference = \"{PLACES}\"\n",
        enrich().display().to_string()
    );
    fs::write(&file, text).unwrap();
    let mut declared = Command::new(millstream());
    declared.args(["plugin", "run", "--key-field", "id", "--records"]);
    declared
        .arg(folder.join("samples/events.ndjson"))
        .arg("-f")
        .arg(&file);
    let empty = run(&mut declared).success();
    let remark = "the table reference is empty here: `--table reference=FILE`";
    assert_eq!(empty.stderr.matches(remark).count(), 1, "{}", empty.stderr);
    let unknown = command(&["--table", &networks, "--table-key", "places=net"]);
    assert!(
        unknown.stderr.contains("has no table places"),
        "{}",
        unknown.stderr
    );
}
