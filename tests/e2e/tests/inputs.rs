//! What comes in is bounded in memory and time, whatever a producer makes of it, and each of its
//! records is the one that it says.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use bytes::Bytes;
use millstream::{
    Admin, Cleanup, Client, Compression, ConsumedRecord, DeliveryGuarantee, DeploymentSpec,
    FailureAction, FailurePolicy, OutputSpec, Position, ProduceRecord, TopicConfig,
    WorkerDescription, WorkerState,
};
use millstream_e2e::artifacts::{drill, quake_alert};
use millstream_e2e::broker::Broker;
use millstream_e2e::command::run;
use millstream_e2e::history::History;
use millstream_e2e::memory::MemoryWatch;
use millstream_e2e::patience::{until, within};
use millstream_e2e::quakes::{self, Quake};

const INPUT: &str = "in";
const OUTPUT: &str = "out";
const NAME: &str = "drill";
const DEAD_LETTERS: &str = "drill.dead-letters";

const MIB: u64 = 1 << 20;

/// As large as batches and segments can be here.
const LARGE_BATCH_BYTES: u32 = 8 << 20;

/// What a broker may take at most for records that fail, or wait, with an input of a megabyte.
const MAX_GROWTH_BYTES: u64 = 300 * MIB;

/// The same for an input that is small on the disk alone: several commits of the largest size under
/// way, and far less than all of it.
const MAX_INFLATED_BYTES: u64 = 400 * MIB;

/// So long that a batch is sent when it is full, or flushed.
const LINGER: Duration = Duration::from_secs(60);

/// How long records may take that fail together, in a build that is not optimised.
const MAX_TIME_OF_FAILURES: Duration = Duration::from_secs(60);

fn component() -> Bytes {
    std::fs::read(drill()).expect("the component").into()
}

fn spec() -> DeploymentSpec {
    DeploymentSpec {
        inputs: vec![INPUT.to_owned()],
        outputs: vec![OutputSpec {
            name: OUTPUT.to_owned(),
            topic: OUTPUT.to_owned(),
        }],
        on_failure: FailurePolicy {
            first_back_off_ms: 1,
            longest_back_off_ms: 10,
            ..FailurePolicy::default_for(NAME)
        },
        ..DeploymentSpec::new(NAME)
    }
}

async fn start(config: TopicConfig) -> (Broker, Client, Admin) {
    let broker = Broker::start();
    let client = broker.quick_client().await;
    let admin = client.admin();
    for topic in [INPUT, OUTPUT] {
        let created = admin.create_topic(topic).config(config.clone());
        created.await.unwrap();
    }
    (broker, client, admin)
}

fn large_batches() -> TopicConfig {
    TopicConfig {
        max_batch_bytes: LARGE_BATCH_BYTES,
        ..TopicConfig::default()
    }
}

/// Produces records in batches that are as large as they can be.
async fn produce<'a>(
    client: &Client,
    (topic, compression): (&str, Compression),
    records: impl IntoIterator<Item = ProduceRecord<'a>>,
) {
    let batch_bytes = LARGE_BATCH_BYTES as usize;
    produce_in(client, topic, compression, batch_bytes, records).await;
}

async fn produce_in<'a>(
    client: &Client,
    topic: &str,
    compression: Compression,
    batch_bytes: usize,
    records: impl IntoIterator<Item = ProduceRecord<'a>>,
) {
    let builder = client.producer(topic).linger(LINGER);
    let builder = builder.batch_bytes(batch_bytes);
    let producer = builder.compression(compression).build().await.unwrap();
    for record in records {
        producer.send(record).await.unwrap();
    }
    producer.close().await.unwrap();
}

/// Waits until a deployment has read everything and has nothing left to try again.
async fn worked_off(admin: &Admin) {
    until("the worker to be done", async || {
        let described = admin.describe_plugin(NAME).await.ok()?;
        let done = |worker: &WorkerDescription| worker.lag == 0 && worker.parked == 0;
        (!described.workers.is_empty() && described.workers.iter().all(done)).then_some(())
    })
    .await;
}

async fn records(admin: &Admin, topic: &str) -> u64 {
    let described = admin.describe_topic(topic).await.unwrap();
    let partitions = described.partitions.iter();
    partitions
        .map(|it| it.known_log().unwrap().visible_offsets())
        .sum()
}

/// The offsets of a topic of one partition that are left.
async fn offsets(client: &Client, topic: &str) -> Vec<u64> {
    let described = client.admin().describe_topic(topic).await.unwrap();
    let end = described.partitions[0].known_log().unwrap().high_watermark;
    let consumer = client.consumer().topics([topic]).start(Position::Earliest);
    let mut consumer = consumer.build().await.unwrap();
    let mut offsets = Vec::new();
    while offsets.last().is_none_or(|last| last + 1 < end) {
        let record = within("a record", consumer.next()).await.unwrap();
        offsets.push(record.offset);
    }
    offsets
}

async fn has_records(admin: &Admin, topic: &str, number: u64) {
    until("all records of a topic", async || {
        (records(admin, topic).await >= number).then_some(())
    })
    .await;
}

fn words(record: &ConsumedRecord, number: usize) -> String {
    let value = String::from_utf8(record.value.clone().unwrap().to_vec()).unwrap();
    let words: Vec<&str> = value.split(' ').take(number).collect();
    words.join(" ")
}

/// What the workers have logged.
fn logged(broker: &Broker) -> Vec<String> {
    let logs = ["plugin", "logs", NAME, "--tail", "1000", "--output", "json"];
    let shown = run(&mut broker.command(logs)).success();
    let line = |line: &str| -> serde_json::Value { serde_json::from_str(line).unwrap() };
    let lines = shown.stdout.lines().map(line);
    lines
        .map(|line| line["message"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn what_is_small_only_when_it_is_compressed_is_handled_in_parts() {
    const RECORDS: u64 = 150;
    let (mut broker, client, admin) = start(large_batches()).await;
    let value = format!("x/{}", "x".repeat(3_900_000));
    let compressed = (INPUT, Compression::Zstd);
    let all = (0..RECORDS).map(|_| ProduceRecord::new(&value));
    produce(&client, compressed, all).await;
    let memory = MemoryWatch::start(broker.process_id());
    admin.deploy_plugin(component(), spec()).await.unwrap();
    worked_off(&admin).await;
    has_records(&admin, OUTPUT, RECORDS).await;
    let grown = memory.grown_bytes();
    println!("{} MiB more", grown / MIB);
    assert!(grown < MAX_INFLATED_BYTES, "{} MiB more", grown / MIB);
}

#[tokio::test]
async fn a_backlog_comes_out_once_and_in_order_through_bad_records_and_a_kill() {
    backlog(16, &[5, 11], None).await;
}

#[tokio::test]
async fn a_backlog_of_large_records_comes_out_once_and_in_order_through_the_same() {
    // Calls with few records are quick, so that turns have several, and are made one after the other.
    backlog(3, &[0, 1], Some(8 << 10)).await;
}

/// So many rounds of earthquakes, and bad records behind some of the rounds: in large batches, or each record
/// with a name of so many letters more, in batches of which a call takes several.
async fn backlog(rounds: usize, bad: &[usize], letters: Option<usize>) {
    let (mut broker, client, admin) = start(TopicConfig::default()).await;
    let events = quakes::events();
    let mut lines = Vec::new();
    let mut expected = Vec::new();
    let (begin, batch_bytes) = match letters {
        None => ("{".to_owned(), LARGE_BATCH_BYTES as usize),
        Some(letters) => (format!("{{\"{}\":0,", "x".repeat(letters)), 512 << 10),
    };
    for round in 0..rounds {
        for event in &events {
            let id = format!("{round}-{}", event.id);
            let line = event.line.replacen(&event.id, &id, 1);
            lines.push(line.replacen('{', &begin, 1));
            expected.extend(event.is_strong().then_some(id));
        }
        if bad.contains(&round) {
            lines.push("no earthquake".to_owned());
        }
    }
    let all = lines.iter().map(ProduceRecord::new);
    produce_in(&client, INPUT, Compression::None, batch_bytes, all).await;
    let alerts = DeploymentSpec {
        outputs: vec![OutputSpec {
            name: "alerts".to_owned(),
            topic: OUTPUT.to_owned(),
        }],
        ..spec()
    };
    let component = std::fs::read(quake_alert()).expect("the component");
    admin.deploy_plugin(component, alerts).await.unwrap();
    has_records(&admin, OUTPUT, 1).await;
    broker.kill();
    broker.restart();
    let client = broker.quick_client().await;
    let admin = client.admin();
    worked_off(&admin).await;
    has_records(&admin, OUTPUT, expected.len() as u64).await;
    let history = History::read(&client, OUTPUT).await;
    let id = |record: &ConsumedRecord| -> String {
        let alert: Quake = serde_json::from_slice(record.value.as_deref().unwrap()).unwrap();
        alert.id
    };
    let ids: Vec<String> = history.records().map(id).collect();
    assert!(ids == expected, "{} ids, not {}", ids.len(), expected.len());
    assert_eq!(records(&admin, DEAD_LETTERS).await, bad.len() as u64);
}

#[tokio::test]
async fn a_slow_plugin_with_a_backlog_keeps_its_deadline() {
    // Together they take longer than that; a first call of some does not.
    const RECORDS: u32 = 10_000;
    let (_broker, client, admin) = start(TopicConfig::default()).await;
    let all = (0..RECORDS).map(|_| ProduceRecord::new("!work 800000"));
    produce(&client, (INPUT, Compression::None), all).await;
    admin.deploy_plugin(component(), spec()).await.unwrap();
    worked_off(&admin).await;
    let described = admin.describe_plugin(NAME).await.unwrap();
    let worker = &described.workers[0];
    assert_eq!(
        (worker.failures, worker.records_in),
        (0, u64::from(RECORDS))
    );
}

#[tokio::test]
async fn many_records_that_fail_together_cost_what_they_are() {
    const RECORDS: u64 = 15_000;
    let (mut broker, client, admin) = start(TopicConfig::default()).await;
    let all = (0..RECORDS).map(|_| ProduceRecord::new("!reject x"));
    produce(&client, (INPUT, Compression::None), all).await;
    let (memory, began) = (MemoryWatch::start(broker.process_id()), Instant::now());
    admin.deploy_plugin(component(), spec()).await.unwrap();
    worked_off(&admin).await;
    has_records(&admin, DEAD_LETTERS, RECORDS).await;
    let (grown, took) = (memory.grown_bytes(), began.elapsed());
    println!("{} MiB more, {took:?}", grown / MIB);
    assert!(grown < MAX_GROWTH_BYTES, "{} MiB more", grown / MIB);
    assert!(took < MAX_TIME_OF_FAILURES, "{took:?}");
    assert_eq!(records(&admin, DEAD_LETTERS).await, RECORDS);
    let of_commits = logged(&broker).into_iter();
    let of_commits = of_commits.filter(|line| line.contains("more than"));
    assert_eq!(of_commits.count(), 0, "a commit was too large at first");
}

#[tokio::test]
async fn many_records_behind_one_that_is_retried_cost_what_they_are() {
    const BEHIND: u64 = 6_000;
    let (mut broker, client, admin) = start(TopicConfig::default()).await;
    let first = ProduceRecord::new("!retry 2").key("k");
    let behind = (0..BEHIND).map(|_| ProduceRecord::new("aaaaaaaaa").key("k"));
    let all = std::iter::once(first).chain(behind);
    produce(&client, (INPUT, Compression::None), all).await;
    let (memory, began) = (MemoryWatch::start(broker.process_id()), Instant::now());
    admin.deploy_plugin(component(), spec()).await.unwrap();
    worked_off(&admin).await;
    let took = began.elapsed();
    has_records(&admin, OUTPUT, 1 + BEHIND).await;
    let grown = memory.grown_bytes();
    println!("{} MiB more, {took:?}", grown / MIB);
    assert!(grown < MAX_GROWTH_BYTES, "{} MiB more", grown / MIB);
    // In order, and each of them once.
    let history = History::read(&client, OUTPUT).await;
    let counts: Vec<String> = history.records().map(|it| words(it, 2)).skip(1).collect();
    let expected: Vec<String> = (1..=BEHIND)
        .map(|count| format!("aaaaaaaaa {count}"))
        .collect();
    assert!(counts == expected, "disorder, or a wrong number");
}

#[tokio::test]
async fn a_large_batch_of_dead_letters_is_handed_back() {
    const LETTERS: u64 = 10_500;
    let (_broker, client, admin) = start(TopicConfig::default()).await;
    admin.deploy_plugin(component(), spec()).await.unwrap();
    let offsets: Vec<String> = (0..LETTERS).map(|offset| offset.to_string()).collect();
    let letter = |offset: &String| {
        let header = |name: &str| format!("millstream.dead-letter.{name}");
        ProduceRecord::new("again")
            .header(header("deployment"), NAME)
            .header(header("topic"), INPUT)
            .header(header("partition"), "0")
            .header(header("offset"), offset.clone())
    };
    let compressed = (DEAD_LETTERS, Compression::Zstd);
    produce(&client, compressed, offsets.iter().map(letter)).await;
    let retried = admin.retry_dead_letters(NAME).await.unwrap();
    assert_eq!(retried, LETTERS);
    worked_off(&admin).await;
    has_records(&admin, OUTPUT, LETTERS).await;
    assert_eq!(records(&admin, OUTPUT).await, LETTERS);
    assert_eq!(records(&admin, DEAD_LETTERS).await, 0);
}

#[tokio::test]
async fn no_other_record_is_handled_in_the_place_of_one_that_is_gone() {
    let segments = TopicConfig {
        cleanup: Cleanup::Compact,
        segment_bytes: 4 << 20,
        max_batch_bytes: 4 << 20,
        ..TopicConfig::default()
    };
    let (mut broker, client, admin) = start(segments).await;
    let pausing = DeploymentSpec {
        on_failure: FailurePolicy {
            attempts: 1,
            finally: FailureAction::Pause,
            ..spec().on_failure
        },
        ..spec()
    };
    admin.deploy_plugin(component(), pausing).await.unwrap();
    let large = format!("!trap {}", "x".repeat(1_500_000));
    let send = async |records: &[(&str, &str)]| {
        for (key, value) in records {
            let record = ProduceRecord::new(*value).key(*key);
            produce(&client, (INPUT, Compression::None), [record]).await;
        }
    };
    send(&[("k", &large)]).await;
    until("the worker to pause", async || {
        let described = admin.describe_plugin(NAME).await.ok()?;
        matches!(described.workers.first()?.state, WorkerState::Paused { .. }).then_some(())
    })
    .await;
    send(&[("j", "hello"), ("m", "world"), ("k", "new")]).await;
    let filler = format!("f/{}", "f".repeat(1_000_000));
    for _ in 0..8 {
        send(&[("filler", &filler), ("other", &filler)]).await;
    }
    until("compaction", async || {
        let described = admin.describe_topic(INPUT).await.ok()?;
        (described.partitions[0].known_log().ok()?.size_bytes < 9 << 20).then_some(())
    })
    .await;
    // What is compacted away is not read from memory either.
    broker.kill();
    broker.restart();
    let client = broker.quick_client().await;
    let admin = client.admin();
    until("the worker to be there", async || {
        admin.resume_plugin(NAME).await.ok()
    })
    .await;
    worked_off(&admin).await;
    let mut counted = String::new();
    for record in History::read(&client, OUTPUT).await.records() {
        let words = words(record, 2);
        if !words.starts_with('f') {
            write!(counted, "{words}, ").unwrap();
        }
    }
    assert_eq!(counted, "hello 1, world 1, new 1, ");
    let told = logged(&broker);
    let gone = "offset 0, attempt 2: the record is gone from its topic: skipped";
    assert!(told.iter().any(|line| line == gone), "{told:#?}");
}

#[tokio::test]
async fn the_log_names_the_records_of_the_call_that_failed() {
    let (broker, client, admin) = start(TopicConfig::default()).await;
    let value = |number| if number == 3 { "!trap" } else { "fine" };
    let all = (0..8).map(|number| ProduceRecord::new(value(number)));
    produce(&client, (INPUT, Compression::None), all).await;
    let twice = DeploymentSpec {
        on_failure: FailurePolicy {
            attempts: 2,
            ..spec().on_failure
        },
        ..spec()
    };
    admin.deploy_plugin(component(), twice).await.unwrap();
    worked_off(&admin).await;
    let told = logged(&broker);
    let failures = told.iter().filter(|line| line.starts_with("offset"));
    let place = |line: &String| line.split(':').next().unwrap_or_default().to_owned();
    let places: Vec<String> = failures.map(place).collect();
    let expected = [
        "offsets 0 to 7",
        "offsets 0 to 3",
        "offsets 2 to 5",
        "offsets 2 to 3",
        "offsets 3 to 4",
        "offset 3, attempt 1",
        "offset 3, attempt 2",
        "offset 3, attempt 2",
    ];
    assert_eq!(places, expected, "{told:#?}");
}

#[tokio::test]
async fn what_does_not_fit_into_the_state_of_a_deterministic_plugin_is_not_lost() {
    let (_broker, client, admin) = start(TopicConfig::default()).await;
    let mut little = DeploymentSpec {
        delivery: DeliveryGuarantee::Deterministic,
        config: vec![("steady".to_owned(), "yes".to_owned())],
        ..spec()
    };
    little.limits.state_bytes = 1_500;
    let values = ["x", "y", "z"].map(|letter| letter.repeat(1_000));
    let all = values.iter().map(ProduceRecord::new);
    produce(&client, (INPUT, Compression::None), all).await;
    admin.deploy_plugin(component(), little).await.unwrap();
    worked_off(&admin).await;
    has_records(&admin, OUTPUT, 1).await;
    has_records(&admin, DEAD_LETTERS, 2).await;
    assert_eq!(records(&admin, OUTPUT).await, 1);
}

#[tokio::test]
async fn what_does_not_fit_into_the_state_behind_a_gap_is_not_lost() {
    let segments = TopicConfig {
        cleanup: Cleanup::Compact,
        segment_bytes: 1 << 20,
        max_batch_bytes: 1 << 20,
        ..TopicConfig::default()
    };
    let (mut broker, client, _) = start(segments).await;
    let padded = |name: &str, bytes: usize| format!("{name}/{}", "p".repeat(bytes));
    let send = async |records: &[(&str, String)]| {
        let records = records
            .iter()
            .map(|(key, value)| ProduceRecord::new(value).key(*key));
        produce(&client, (INPUT, Compression::None), records).await;
    };
    // The second of a batch gives way to the one behind it, whose count is under a name that is too long.
    let first = ("a", padded("first", 400_000));
    send(&[first, ("b", padded("gone", 1))]).await;
    send(&[("b", padded(&"n".repeat(1_000), 900_000))]).await;
    let fillers = ["c", "d", "e", "f", "g", "h"];
    for key in fillers {
        send(&[(key, padded("more", 700_000))]).await;
    }
    // The segments are closed, and what is compacted away is not read from memory either.
    broker.kill();
    broker.restart();
    let client = broker.quick_client().await;
    let admin = client.admin();
    let offsets = until("compaction", async || {
        let offsets = offsets(&client, INPUT).await;
        (!offsets.contains(&1)).then_some(offsets)
    })
    .await;
    assert!(offsets.starts_with(&[0, 2]), "{offsets:?}");
    for (behind_the_gap, from) in [(0, Position::Earliest), (1, Position::Offset(1))] {
        let mut little = DeploymentSpec {
            start: from,
            ..spec()
        };
        little.limits.state_bytes = 500;
        let (outputs, letters) = (records(&admin, OUTPUT).await, behind_the_gap);
        admin.deploy_plugin(component(), little).await.unwrap();
        worked_off(&admin).await;
        // All but the one, which becomes a dead letter.
        let handled = offsets.len() as u64 - 1 - behind_the_gap;
        has_records(&admin, OUTPUT, outputs + handled).await;
        has_records(&admin, DEAD_LETTERS, letters + 1).await;
        assert_eq!(records(&admin, OUTPUT).await, outputs + handled);
        admin.remove_plugin(NAME).await.unwrap();
        // Another one of the name would go on where this one was.
        admin.delete_group(NAME).await.unwrap();
    }
}

#[tokio::test]
async fn a_record_that_fails_beside_a_state_that_is_full_is_not_lost() {
    let (broker, client, admin) = start(TopicConfig::default()).await;
    let mut little = spec();
    little.limits.state_bytes = 4_000;
    let keys = ["a", "b", "c"];
    let all = keys.map(|key| ProduceRecord::new("!swell 8000").key(key));
    produce(&client, (INPUT, Compression::None), all).await;
    admin.deploy_plugin(component(), little).await.unwrap();
    worked_off(&admin).await;
    has_records(&admin, DEAD_LETTERS, keys.len() as u64).await;
    let told = logged(&broker);
    let place = |line: &&String| line.starts_with("offset 1, attempt 1: ");
    assert!(told.iter().any(|line| place(&line)), "{told:#?}");
}
