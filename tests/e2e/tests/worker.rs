//! Workers: each record counts once, whatever crashes, and a bad one holds up nobody but its key.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use millstream::{
    Admin, Client, ConsumedRecord, DeliveryGuarantee, DeploymentDescription, DeploymentSpec,
    ErrorCode, FailureAction, FailurePolicy, HoldBack, OutputSpec, Position, ProduceRecord,
    WorkerDescription, WorkerState,
};
use millstream_e2e::artifacts::drill;
use millstream_e2e::broker::Broker;
use millstream_e2e::command::run;
use millstream_e2e::history::History;
use millstream_e2e::load::Load;
use millstream_e2e::patience::until;
use millstream_e2e::random::Random;
use millstream_e2e::reckoning::{Outcome, origin, text};

const INPUT: &str = "in";
const OUTPUT: &str = "out";
const NAME: &str = "drill";
const FIRED: &str = "fired";
const DEAD_LETTERS: &str = "drill.dead-letters";

/// Kills under load, and acknowledgements between two of them.
const KILLS: u32 = 50;
const STEADY_KILLS: u32 = 25;
const ACKED_BETWEEN_KILLS: std::ops::Range<u64> = 40..400;

/// Of changes in memory: so little that the state goes into its file with almost every commit.
const STATE_OVERLAY: &str = "128";

/// Every so many of these, the broker is killed while it starts as well.
const STARTS_KILLED_EVERY: u32 = 5;
const START_KILLED_WITHIN_MS: u64 = 150;

const PARTITIONS: u32 = 3;
const PRODUCERS: u32 = 3;
const SEED: u64 = 0x5eed_0003;

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
        on_failure: FailurePolicy {
            first_back_off_ms: 1,
            longest_back_off_ms: 10,
            ..FailurePolicy::default_for(NAME)
        },
        ..DeploymentSpec::new(NAME)
    }
}

async fn start(partitions: u32) -> (Broker, Client, Admin) {
    let broker = Broker::start_with(["--state-overlay", STATE_OVERLAY]);
    let client = broker.quick_client().await;
    let admin = client.admin();
    let input = admin.create_topic(INPUT).partitions(partitions);
    input.await.unwrap();
    admin.create_topic(OUTPUT).partitions(2).await.unwrap();
    (broker, client, admin)
}

/// Produces one after the other to the only partition.
async fn produce(client: &Client, records: &[(&str, &str)]) {
    let producer = client.producer(INPUT).build().await.unwrap();
    for (key, value) in records {
        let mut record = ProduceRecord::new(*value);
        if !key.is_empty() {
            record = record.key(*key);
        }
        producer.send(record).await.unwrap();
    }
    producer.close().await.unwrap();
}

/// Waits until a deployment has read everything and has nothing left to try again.
async fn worked_off(admin: &Admin) -> DeploymentDescription {
    until("the worker to be done", async || {
        let described = admin.describe_plugin(NAME).await.ok()?;
        let done = |worker: &WorkerDescription| worker.lag == 0 && worker.parked == 0;
        (!described.workers.is_empty() && described.workers.iter().all(done)).then_some(described)
    })
    .await
}

/// Waits until a deployment that has worked everything off has no timer left.
async fn no_timer_waits(admin: &Admin) {
    until("the timers to have fired", async || {
        let described = admin.describe_plugin(NAME).await.ok()?;
        let timers = described.workers.iter().map(|it| it.timers + it.parked);
        (!described.workers.is_empty() && timers.sum::<u64>() == 0).then_some(())
    })
    .await;
}

/// Outputs for what is handled, and for timers.
fn outputs_with_fired() -> Vec<OutputSpec> {
    let output = |name: &str| OutputSpec {
        name: name.to_owned(),
        topic: name.to_owned(),
    };
    vec![output(OUTPUT), output(FIRED)]
}

/// The first words of what was emitted: the inputs' values.
async fn emitted(client: &Client) -> Vec<String> {
    let history = History::read(client, OUTPUT).await;
    let value = |record: &ConsumedRecord| text(record.value.as_ref());
    let first = |value: String| value.split(' ').next().unwrap_or_default().to_owned();
    history.records().map(value).map(first).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_record_counts_once_through_fifty_kills() {
    count_through_kills(DeliveryGuarantee::ExactlyOnce, &["storm", "timers"], KILLS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_record_of_a_deterministic_plugin_counts_once_through_kills() {
    let config = ["storm", "timers", "steady"];
    count_through_kills(DeliveryGuarantee::Deterministic, &config, STEADY_KILLS).await;
}

/// Kills the broker under load, and holds what has come out against what went in.
async fn count_through_kills(delivery: DeliveryGuarantee, config: &[&str], rounds: u32) {
    let mut random = Random::seeded(SEED);
    let (mut broker, client, admin) = start(PARTITIONS).await;
    let fired = admin.create_topic(FIRED).partitions(2);
    fired.await.unwrap();
    let on = |name: &&str| ((*name).to_owned(), "on".to_owned());
    let storm = DeploymentSpec {
        delivery,
        outputs: outputs_with_fired(),
        config: config.iter().map(on).collect(),
        on_failure: FailurePolicy {
            attempts: 20,
            ..spec().on_failure
        },
        ..spec()
    };
    admin.deploy_plugin(component(), storm).await.unwrap();
    let mut load = Load::start(&broker, INPUT, PRODUCERS).await;
    let mut kills = 0;
    for round in 0..rounds {
        load.advance(random.between(ACKED_BETWEEN_KILLS)).await;
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
    worked_off(&admin).await;
    no_timer_waits(&admin).await;

    let come = Outcome {
        outputs: History::read(&client, OUTPUT).await,
        letters: History::read(&client, DEAD_LETTERS).await,
        fired: History::read(&client, FIRED).await,
    };
    println!("kills {kills}, {}", come.reckon(&acked));
}

#[tokio::test]
async fn a_plugin_that_is_not_deterministic_is_found_out() {
    let (broker, client, admin) = start(1).await;
    let declared = DeploymentSpec {
        delivery: DeliveryGuarantee::Deterministic,
        ..spec()
    };
    admin.deploy_plugin(component(), declared).await.unwrap();
    // What it emits tells how many records the instance has seen: a fresh one has seen fewer.
    produce(&client, &[("a", "first")]).await;
    worked_off(&admin).await;
    produce(&client, &[("a", "second")]).await;
    let reason = until("the worker to stand still", async || {
        let described = admin.describe_plugin(NAME).await.ok()?;
        match &described.workers.first()?.state {
            WorkerState::Paused { reason } => Some(reason.clone()),
            _ => None,
        }
    })
    .await;
    assert!(reason.contains("is not deterministic"), "{reason}");
    assert_eq!(emitted(&client).await, ["first"]);
    drop(broker);
}

#[tokio::test]
async fn timers_fire_by_their_clocks_and_outlive_the_broker() {
    let (mut broker, client, admin) = start(1).await;
    admin.create_topic(FIRED).await.unwrap();
    let timed = DeploymentSpec {
        outputs: outputs_with_fired(),
        ..spec()
    };
    admin.deploy_plugin(component(), timed).await.unwrap();
    let producer = client.producer(INPUT).build().await.unwrap();
    // Retention takes what is old.
    let base_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let base_ms = base_ms.as_millis() as i64 - 10_000;
    let send = async |key: &str, value: &str, after_ms: i64| {
        let record = ProduceRecord::new(value).key(key);
        producer
            .send(record.timestamp_ms(base_ms + after_ms))
            .await
            .unwrap();
    };
    let fired = async || {
        let history = History::read(&client, FIRED).await;
        let value = |record: &ConsumedRecord| {
            let value = text(record.value.as_ref());
            (record.timestamp_ms - base_ms, value)
        };
        history.records().map(value).collect::<Vec<_>>()
    };
    // By the records' clock: not before one has reached it, whatever the wall says.
    send("a", "!timer record 100", 1_000).await;
    send("moved", "!timer record 10", 1_000).await;
    send("moved", "!timer record 5000", 1_050).await;
    send("gone", "!timer record 10", 1_040).await;
    send("gone", "!cancel record", 1_045).await;
    // By the wall, long ago for it: at once.
    send("w", "!timer wall 0", 1_060).await;
    until("the wall", async || {
        (fired().await.len() == 1).then_some(())
    })
    .await;
    broker.kill();
    broker.restart();
    let described = worked_off(&admin).await;
    assert_eq!(described.workers[0].timers, 2);
    send("b", "on", 1_100).await;
    until("the records", async || {
        (fired().await.len() == 2).then_some(())
    })
    .await;
    let at = |at_ms, text: &str| (at_ms, text.to_owned());
    assert_eq!(fired().await, [at(1_060, "w 1 0"), at(1_100, "a 2 0")]);

    // One that fails is tried again, becomes a dead letter, and can be handed back.
    send("trap", "!timer record 1", 1_100).await;
    send("reject", "!timer record 2", 1_100).await;
    send("c", "on", 1_200).await;
    let letters = until("the dead letters", async || {
        let letters = History::read(&client, DEAD_LETTERS).await;
        (letters.len() == 2).then_some(letters)
    })
    .await;
    for letter in letters.records() {
        let key = text(letter.key.as_ref());
        let attempts = if key == "trap" { "5" } else { "1" };
        assert_eq!(origin(letter, "attempts"), attempts, "{key}");
        let at_ms = if key == "trap" { 1_101 } else { 1_102 };
        let told = format!("record-time {}", base_ms + at_ms);
        assert_eq!(origin(letter, "timer"), told);
        assert_eq!(letter.timestamp_ms, base_ms + at_ms);
    }
    let retry = ["plugin", "dlq", "retry", NAME, "--output", "json"];
    assert_eq!(
        run(&mut broker.command(retry)).success().json()["letters"],
        2
    );
    until("them to fail again", async || {
        let letters = History::read(&client, DEAD_LETTERS).await;
        (letters.len() == 2).then_some(())
    })
    .await;
    let described = worked_off(&admin).await;
    assert_eq!(described.workers[0].timers, 1, "the one that was moved");
    assert_eq!(described.workers[0].state, WorkerState::Running);
}

#[tokio::test]
async fn a_bad_record_becomes_a_dead_letter_and_holds_up_nobody() {
    let (broker, client, admin) = start(1).await;
    admin.deploy_plugin(component(), spec()).await.unwrap();
    let mut records: Vec<(String, String)> = (0..200)
        .map(|number| (format!("key-{number}"), format!("record-{number}")))
        .collect();
    for (at, value) in [(50, "!trap"), (100, "!reject no good"), (150, "!retry 3")] {
        records.insert(at, ("bad".to_owned(), value.to_owned()));
    }
    let borrowed: Vec<_> = records
        .iter()
        .map(|(k, v)| (k.as_str(), v.as_str()))
        .collect();
    produce(&client, &borrowed).await;
    let described = worked_off(&admin).await;
    let worker = &described.workers[0];
    assert_eq!(
        (&worker.state, worker.dead_letters),
        (&WorkerState::Running, 2)
    );

    let found = emitted(&client).await;
    assert_eq!(found.len(), 201, "all others, and the one that was retried");
    let letters = History::read(&client, DEAD_LETTERS).await;
    let mut letters: Vec<_> = letters.records().collect();
    letters.sort_by_key(|letter| origin(letter, "offset"));
    let [rejected, trapped] = letters[..] else {
        panic!("{letters:?}");
    };
    assert_eq!(text(rejected.value.as_ref()), "!reject no good");
    assert_eq!(text(rejected.key.as_ref()), "bad");
    let facts = |letter, names: [&str; 6]| names.map(|name| origin(letter, name));
    let names = [
        "deployment",
        "topic",
        "partition",
        "offset",
        "attempts",
        "plugin",
    ];
    let digest = described.digest.as_str();
    assert_eq!(
        facts(rejected, names),
        [NAME, INPUT, "0", "100", "1", digest]
    );
    assert_eq!(origin(rejected, "reason"), "no good");
    assert_eq!(facts(trapped, names), [NAME, INPUT, "0", "50", "5", digest]);
    // What was said, and where; not which thread it was, nor how to have Rust's backtrace.
    let reason = origin(trapped, "reason");
    assert!(reason.starts_with("trapped: panicked at "), "{reason}");
    assert!(reason.ends_with(" as asked"), "{reason}");

    // As a person sees them.
    let dlq = |command: &str| {
        let args = ["plugin", "dlq", command, NAME, "--output", "json"];
        run(&mut broker.command(args)).success().json()
    };
    let listed = dlq("list");
    assert_eq!(listed["there"], 2);
    assert_eq!(listed["letters"][0]["from_topic"], INPUT);
    assert_eq!(listed["letters"][0]["key"], "bad");
    assert_eq!(dlq("drop")["letters"], 2);
    assert_eq!(dlq("list")["there"], 0);
}

#[tokio::test]
async fn a_record_that_is_retried_holds_back_its_key_alone() {
    let (_broker, client, admin) = start(1).await;
    let patient = DeploymentSpec {
        on_failure: FailurePolicy {
            attempts: 1_000_000,
            first_back_off_ms: 5,
            ..spec().on_failure
        },
        ..spec()
    };
    admin.deploy_plugin(component(), patient).await.unwrap();
    let records = [
        ("a", "!trap"),
        ("a", "behind"),
        ("b", "beside"),
        ("", "without"),
        ("a", "behind-too"),
    ];
    produce(&client, &records).await;
    until(
        "it and those behind it to wait, and the others to be handled",
        async || {
            let described = admin.describe_plugin(NAME).await.ok()?;
            let worker = described.workers.first()?;
            (worker.records_out == 2 && worker.parked == 3).then_some(())
        },
    )
    .await;
    let mut found = emitted(&client).await;
    found.sort();
    assert_eq!(found, ["beside", "without"]);
}

#[tokio::test]
async fn what_waits_behind_a_bad_record_comes_in_order_after_it() {
    let (mut broker, client, admin) = start(1).await;
    let slow = DeploymentSpec {
        on_failure: FailurePolicy {
            attempts: 4,
            first_back_off_ms: 100,
            longest_back_off_ms: 100,
            ..spec().on_failure
        },
        ..spec()
    };
    admin.deploy_plugin(component(), slow).await.unwrap();
    let records = [
        ("a", "!trap"),
        ("a", "1"),
        ("a", "2"),
        ("b", "x"),
        ("a", "3"),
    ];
    produce(&client, &records).await;
    until("the other key", async || {
        emitted(&client)
            .await
            .contains(&"x".to_owned())
            .then_some(())
    })
    .await;
    // What waits is in the journal.
    broker.kill();
    broker.restart();
    worked_off(&admin).await;
    let found = emitted(&client).await;
    let of_a: Vec<_> = found.iter().filter(|it| *it != "x").collect();
    assert_eq!(of_a, ["1", "2", "3"]);
    assert_eq!(found.len(), 4);
    assert_eq!(History::read(&client, DEAD_LETTERS).await.len(), 1);
}

#[tokio::test]
async fn a_policy_may_skip_block_or_pause() {
    let (_broker, client, admin) = start(1).await;
    let with = |holds_back, finally| DeploymentSpec {
        on_failure: FailurePolicy {
            attempts: 2,
            holds_back,
            finally,
            ..spec().on_failure
        },
        ..spec()
    };
    let skip = with(HoldBack::Partition, FailureAction::Skip);
    admin.deploy_plugin(component(), skip).await.unwrap();
    produce(&client, &[("a", "1"), ("b", "!trap"), ("c", "2")]).await;
    let described = worked_off(&admin).await;
    assert_eq!(described.workers[0].skipped, 1);
    assert_eq!(emitted(&client).await, ["1", "2"]);

    admin.remove_plugin(NAME).await.unwrap();
    let pause = with(HoldBack::Key, FailureAction::Pause);
    admin.deploy_plugin(component(), pause).await.unwrap();
    produce(&client, &[("a", "!trap")]).await;
    let reason = until("the worker to pause", async || {
        let described = admin.describe_plugin(NAME).await.ok()?;
        match &described.workers.first()?.state {
            WorkerState::Paused { reason } => Some(reason.clone()),
            _ => None,
        }
    })
    .await;
    assert!(reason.contains("offset 3, attempt 2"), "{reason}");

    // It is tried once more, and found as bad as before.
    admin.resume_plugin(NAME).await.unwrap();
    until("the worker to pause again", async || {
        let described = admin.describe_plugin(NAME).await.ok()?;
        match &described.workers.first()?.state {
            WorkerState::Paused { reason } => reason.contains("attempt 3").then_some(()),
            _ => None,
        }
    })
    .await;
}

#[tokio::test]
async fn dead_letters_are_handed_back() {
    let (_broker, client, admin) = start(1).await;
    let strict = DeploymentSpec {
        on_failure: FailurePolicy {
            attempts: 1,
            ..spec().on_failure
        },
        ..spec()
    };
    admin.deploy_plugin(component(), strict).await.unwrap();
    let header = ProduceRecord::new("!retry 3")
        .key("k")
        .header("own", "kept");
    let producer = client.producer(INPUT).build().await.unwrap();
    producer.send(header).await.unwrap();
    producer.close().await.unwrap();
    let letters = async |expected: u64| {
        until("dead letters", async || {
            let worker = admin.describe_plugin(NAME).await.ok()?;
            let counted = worker.workers.first()?.dead_letters == expected;
            // It is counted before it has arrived.
            let arrived = History::read(&client, DEAD_LETTERS).await.len() == 1;
            (counted && arrived).then_some(())
        })
        .await;
    };
    letters(1).await;
    // The second time this instance sees it is one too few.
    assert_eq!(admin.retry_dead_letters(NAME).await.unwrap(), 1);
    letters(2).await;
    assert!(emitted(&client).await.is_empty());
    let letter = History::read(&client, DEAD_LETTERS).await;
    let letter = letter.records().next().unwrap();
    let names: Vec<_> = letter.headers.iter().map(|it| it.name.clone()).collect();
    assert_eq!(names.len(), 8, "its own header, and one origin: {names:?}");
    assert_eq!(origin(letter, "attempts"), "1");
    assert_eq!(admin.retry_dead_letters(NAME).await.unwrap(), 1);
    worked_off(&admin).await;
    until("its output", async || {
        (emitted(&client).await.len() == 1).then_some(())
    })
    .await;
    assert_eq!(admin.retry_dead_letters(NAME).await.unwrap(), 0);

    // What is no letter is not taken for one.
    let stranger = client.producer(DEAD_LETTERS).build().await.unwrap();
    stranger
        .send(ProduceRecord::new("no letter"))
        .await
        .unwrap();
    stranger.close().await.unwrap();
    let error = admin.retry_dead_letters(NAME).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::InvalidRequest), "{error}");

    // While nobody is there to take it, it stays, and that is told at once.
    admin.pause_plugin(NAME).await.unwrap();
    let error = admin.retry_dead_letters(NAME).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::InvalidRequest), "{error}");
    assert!(error.to_string().contains("plugin resume drill"), "{error}");
}

/// Letters of a worker that is there, beside those of one that is not: some are handed back, none is
/// deleted.
#[tokio::test]
async fn a_dead_letter_is_handed_back_once_though_it_stays() {
    const OTHER: &str = "other-input";
    /// Enough for an answer, and for asking again a few times.
    const ONE_ANSWER: Duration = Duration::from_millis(500);
    let (mut broker, client, admin) = start(1).await;
    admin.create_topic(OTHER).await.unwrap();
    let both = |storm: &[&str]| DeploymentSpec {
        inputs: vec![INPUT.to_owned(), OTHER.to_owned()],
        config: storm
            .iter()
            .map(|name| ((*name).to_owned(), String::new()))
            .collect(),
        on_failure: FailurePolicy {
            attempts: 1,
            ..spec().on_failure
        },
        ..spec()
    };
    let one = || DeploymentSpec {
        inputs: vec![INPUT.to_owned()],
        ..both(&[])
    };
    admin
        .deploy_plugin(component(), both(&["storm"]))
        .await
        .unwrap();
    // By their index, these are rejected for as long as there is a storm.
    for (topic, value) in [(INPUT, "1/13"), (INPUT, "2/110"), (OTHER, "3/13")] {
        let producer = client.producer(topic).build().await.unwrap();
        producer.send(ProduceRecord::new(value)).await.unwrap();
        producer.close().await.unwrap();
    }
    until("dead letters", async || {
        (History::read(&client, DEAD_LETTERS).await.len() == 3).then_some(())
    })
    .await;

    admin.upgrade_plugin(component(), one()).await.unwrap();
    let refused = async |broker: &Broker| {
        let admin = broker.impatient_client(ONE_ANSWER).await.admin();
        until("an answer", async || {
            let error = admin.retry_dead_letters(NAME).await.unwrap_err();
            // Until it is up, it has no worker at all.
            error.to_string().contains(OTHER).then_some(error)
        })
        .await
    };
    let error = refused(&broker).await;
    assert_eq!(error.code(), Some(ErrorCode::NotReady), "{error}");
    until("what was handed back", async || {
        (emitted(&client).await.len() >= 2).then_some(())
    })
    .await;
    assert_eq!(History::read(&client, DEAD_LETTERS).await.len(), 3);
    refused(&broker).await;
    broker.kill();
    broker.restart();
    refused(&broker).await;
    let client = broker.quick_client().await;
    let admin = client.admin();

    admin.upgrade_plugin(component(), both(&[])).await.unwrap();
    let retried = until("workers", async || {
        admin.retry_dead_letters(NAME).await.ok()
    })
    .await;
    assert_eq!(retried, 3);
    until("all outputs", async || {
        (emitted(&client).await.len() >= 3).then_some(())
    })
    .await;
    worked_off(&admin).await;
    let mut values = emitted(&client).await;
    values.sort();
    assert_eq!(values, ["1/13", "2/110", "3/13"]);
}

#[tokio::test]
async fn a_retried_record_leaves_no_trace_in_the_state() {
    let (_broker, client, admin) = start(1).await;
    admin.deploy_plugin(component(), spec()).await.unwrap();
    // All in one call: what is counted beside the bad record counts once.
    produce(
        &client,
        &[
            ("k", "x/1"),
            ("was", "!remember"),
            ("k", "x/2"),
            ("k", "x/3"),
        ],
    )
    .await;
    worked_off(&admin).await;
    produce(&client, &[("k", "x/4")]).await;
    worked_off(&admin).await;
    let history = History::read(&client, OUTPUT).await;
    let counts: Vec<String> = history
        .records()
        .map(|record| {
            text(record.value.as_ref())
                .split(' ')
                .nth(1)
                .unwrap()
                .to_owned()
        })
        .collect();
    assert_eq!(counts, ["1", "2", "3", "4"]);
    assert_eq!(History::read(&client, DEAD_LETTERS).await.len(), 1);
}

#[tokio::test]
async fn an_upgrade_goes_on_where_the_version_before_it_was() {
    let (mut broker, client, admin) = start(1).await;
    let patient = DeploymentSpec {
        on_failure: FailurePolicy {
            attempts: 1_000_000,
            ..spec().on_failure
        },
        ..spec()
    };
    let first = admin
        .deploy_plugin(component(), patient.clone())
        .await
        .unwrap();
    produce(
        &client,
        &[("a", "x/1"), ("b", "!trap"), ("b", "behind"), ("a", "x/2")],
    )
    .await;
    until("two outputs", async || {
        (emitted(&client).await.len() == 2).then_some(())
    })
    .await;
    // The same again changes nothing.
    let same = admin
        .replace_plugin(component(), patient.clone())
        .await
        .unwrap();
    assert_eq!((first.revision, same.revision), (1, 1));
    let refused = DeploymentSpec {
        outputs: Vec::new(),
        ..patient.clone()
    };
    let error = admin
        .upgrade_plugin(component(), refused)
        .await
        .unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::SettingsRefused), "{error}");
    let impatient = DeploymentSpec {
        on_failure: FailurePolicy {
            attempts: 1,
            ..patient.on_failure
        },
        ..patient
    };
    let upgraded = admin.upgrade_plugin(component(), impatient).await.unwrap();
    assert_eq!(upgraded.revision, 2);
    produce(&client, &[("a", "x/3")]).await;
    worked_off(&admin).await;
    broker.kill();
    broker.restart();
    produce(&client, &[("a", "x/4")]).await;
    until("all outputs", async || {
        (emitted(&client).await.len() == 5).then_some(())
    })
    .await;
    let history = History::read(&client, OUTPUT).await;
    let mut values: Vec<_> = history
        .records()
        .map(|record| text(record.value.as_ref()))
        .map(|value| value.split(' ').take(2).collect::<Vec<_>>().join(" "))
        .collect();
    values.sort();
    assert_eq!(values, ["behind 1", "x/1 1", "x/2 2", "x/3 3", "x/4 4"]);
    assert_eq!(History::read(&client, DEAD_LETTERS).await.len(), 1);
    assert_eq!(admin.describe_plugin(NAME).await.unwrap().revision, 2);
}

#[tokio::test]
async fn a_removed_deployment_leaves_no_journal() {
    let (broker, client, admin) = start(PARTITIONS).await;
    let topics = || {
        let folder = broker.broker_dir().join("topics");
        std::fs::read_dir(folder).expect("the topics").count()
    };
    let before = topics();
    admin.deploy_plugin(component(), spec()).await.unwrap();
    produce(&client, &[("a", "1"), ("b", "2")]).await;
    worked_off(&admin).await;
    assert_eq!(topics(), before + 2, "dead letters, and journals");
    let listed = run(&mut broker.command(["topic", "list", "--output", "json"]));
    assert!(!listed.success().stdout.contains("__journal"));
    admin.remove_plugin(NAME).await.unwrap();
    until("the journals to be gone", async || {
        (topics() == before + 1).then_some(())
    })
    .await;
}

/// Records that fail together are each there in the end, although what is done about one of them
/// makes the call without it fail as well.
#[tokio::test]
async fn of_records_that_fail_in_one_call_none_is_lost() {
    for together in [["!remember", "!cold"], ["!reject no good", "!big"]] {
        let (_broker, client, admin) = start(1).await;
        // Both are there before anybody reads: they come in one call.
        produce(&client, &[("a", together[0]), ("b", together[1])]).await;
        admin.deploy_plugin(component(), spec()).await.unwrap();
        let described = worked_off(&admin).await;
        assert_eq!(described.workers[0].dead_letters, 2, "{together:?}");
        let letters = History::read(&client, DEAD_LETTERS).await;
        let mut offsets: Vec<_> = letters.records().map(|it| origin(it, "offset")).collect();
        offsets.sort();
        assert_eq!(offsets, ["0", "1"], "{together:?}");
    }
}

#[tokio::test]
async fn at_least_once_is_there_by_name_and_a_reset_starts_over() {
    let (_broker, client, admin) = start(1).await;
    let direct = DeploymentSpec {
        delivery: DeliveryGuarantee::AtLeastOnce,
        ..spec()
    };
    admin.deploy_plugin(component(), direct).await.unwrap();
    produce(&client, &[("a", "1"), ("a", "2"), ("a", "!reject x")]).await;
    worked_off(&admin).await;
    assert_eq!(emitted(&client).await, ["1", "2"]);
    admin
        .reset_group(NAME, INPUT, [0], Position::Offset(1))
        .await
        .unwrap();
    until("the second record again", async || {
        (emitted(&client).await == ["1", "2", "2"]).then_some(())
    })
    .await;
}
