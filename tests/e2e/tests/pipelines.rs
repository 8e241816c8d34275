//! Pipelines of example plugins, through a crash: what comes out is what a plain recomputation says.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use millstream::{Admin, Client, ConsumedRecord, DeploymentSpec, OutputSpec};
use millstream_e2e::artifacts::{dedupe, quake_alert, quake_stats};
use millstream_e2e::broker::Broker;
use millstream_e2e::command::run;
use millstream_e2e::deployment::{has_records, worked_off};
use millstream_e2e::history::History;
use millstream_e2e::quakes::{self, ALERTS};
use serde::Deserialize;

const INPUT: &str = "earthquakes";
const STATS: &str = "quake-stats";
const LATE: &str = "quake-stats-late";
const PARTITIONS: u32 = 4;
const HOUR_MS: i64 = 3_600_000;

/// An event, or an alert of one.
#[derive(Debug, Deserialize)]
struct Event {
    id: String,
    time: i64,
    net: String,
    mag: f64,
}

/// What is said of a network in a window.
#[derive(Clone, Debug, PartialEq, Deserialize)]
struct Stats {
    net: String,
    from: i64,
    to: i64,
    count: u64,
    mean_mag: f64,
    max_mag: f64,
}

fn value<'r, T: Deserialize<'r>>(record: &'r ConsumedRecord) -> T {
    let value = record.value.as_deref().expect("a value");
    serde_json::from_slice(value).expect("JSON as expected")
}

/// What the records of a topic give: the figures of windows that are over, and how many records were
/// late. Each partition has its own time.
fn recompute(input: &History, window_ms: i64) -> (Vec<Stats>, usize) {
    let mut newest = BTreeMap::new();
    let mut windows: BTreeMap<(u32, i64, String), Vec<f64>> = BTreeMap::new();
    let mut late = 0;
    for record in input.records() {
        let event: Event = value(record);
        assert_eq!(record.timestamp_ms, event.time, "{event:?}");
        let from = event.time.div_euclid(window_ms) * window_ms;
        let newest = newest.entry(record.partition).or_insert(i64::MIN);
        if *newest >= from + window_ms {
            late += 1;
        } else {
            let window = windows.entry((record.partition, from, event.net));
            window.or_default().push(event.mag);
        }
        *newest = event.time.max(*newest);
    }
    let over = windows
        .into_iter()
        .filter(|((partition, from, _), _)| newest[partition] >= from + window_ms);
    let stats = over.map(|((_, from, net), mags)| Stats {
        net,
        from,
        to: from + window_ms,
        count: mags.len() as u64,
        mean_mag: (mags.iter().sum::<f64>() / mags.len() as f64 * 1e3).round() / 1e3,
        max_mag: mags.iter().copied().fold(f64::MIN, f64::max),
    });
    (sorted(stats.collect()), late)
}

fn sorted(mut stats: Vec<Stats>) -> Vec<Stats> {
    stats.sort_by(|one, other| (one.from, &one.net).cmp(&(other.from, &other.net)));
    stats
}

async fn stats(client: &Client) -> Vec<Stats> {
    let results = History::read(client, STATS).await;
    let stats = results.records().map(|record| {
        let stats: Stats = value(record);
        assert_eq!(record.key.as_deref(), Some(stats.net.as_bytes()));
        assert_eq!(record.timestamp_ms, stats.to - 1);
        stats
    });
    sorted(stats.collect())
}

/// A broker with these topics: the earthquakes are years old, and no retention is to take them.
async fn start(topics: &[&str]) -> (Broker, Client) {
    let broker = Broker::start();
    let client = broker.quick_client().await;
    for topic in topics {
        let created = client
            .admin()
            .create_topic(*topic)
            .partitions(PARTITIONS)
            .retention(None);
        created.await.expect("a topic");
    }
    (broker, client)
}

async fn deploy(
    admin: &Admin,
    component: &Path,
    (name, input): (&str, &str),
    outputs: &[(&str, &str)],
    config: &[(&str, &str)],
) {
    let output = |(name, topic): &(&str, &str)| OutputSpec {
        name: (*name).to_owned(),
        topic: (*topic).to_owned(),
    };
    let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let spec = DeploymentSpec {
        inputs: vec![input.to_owned()],
        outputs: outputs.iter().map(output).collect(),
        config: config.iter().map(pair).collect(),
        ..DeploymentSpec::new(name)
    };
    let component = fs::read(component).expect("the component");
    let deployed = admin.deploy_plugin(Bytes::from(component), spec).await;
    deployed.expect("a deployment");
}

/// The feed's lines of this range, in a file.
fn part(broker: &Broker, lines: std::ops::Range<usize>) -> PathBuf {
    let events = quakes::events();
    let text: String = events[lines]
        .iter()
        .map(|it| it.line.clone() + "\n")
        .collect();
    let path = broker.folder().join("part.ndjson");
    fs::write(&path, text).expect("a file");
    path
}

/// Produces lines as the plugins' READMEs say.
fn produce(broker: &Broker, lines: std::ops::Range<usize>) {
    let mut command = broker.command(["produce", INPUT]);
    command.arg(part(broker, lines));
    run(command.args(["--key-field", "net", "--timestamp-field", "time"])).success();
}

#[tokio::test]
async fn each_window_of_a_week_is_told_once_through_a_kill() {
    let (mut broker, client) = start(&[INPUT, STATS, LATE]).await;
    let outputs = [("stats", STATS), ("late", LATE)];
    let admin = client.admin();
    deploy(
        &admin,
        quake_stats(),
        (STATS, INPUT),
        &outputs,
        &[("window", "1h")],
    )
    .await;
    produce(&broker, 0..900);
    // It is at work, and some windows are under way.
    has_records(&admin, STATS, 50).await;
    broker.kill();
    broker.restart();
    let client = broker.quick_client().await;
    let admin = client.admin();
    produce(&broker, 900..quakes::EVENTS);
    // What has come once is late when it comes again.
    produce(&broker, 0..100);
    worked_off(&admin, STATS, PARTITIONS).await;

    let (expected, late) = recompute(&History::read(&client, INPUT).await, HOUR_MS);
    assert!(expected.len() > 800, "{} windows", expected.len());
    assert!(late >= 90, "{late} late");
    has_records(&admin, STATS, expected.len()).await;
    has_records(&admin, LATE, late).await;
    assert_eq!(stats(&client).await, expected);
    assert_eq!(History::read(&client, LATE).await.len(), late);
    let described = admin.describe_plugin(STATS).await.expect("a deployment");
    assert!(described.workers.iter().all(|worker| worker.lag == 0));
}

#[tokio::test]
async fn three_deployments_from_one_topic_to_the_next() {
    const WINDOW_MS: i64 = 6 * HOUR_MS;
    let (mut broker, client) = start(&[INPUT, "alerts", "alerts-unique", STATS]).await;
    let admin = client.admin();
    let alerts = [("alerts", "alerts")];
    deploy(&admin, quake_alert(), ("quake-alert", INPUT), &alerts, &[]).await;
    let unique = [("unique", "alerts-unique")];
    // Longer than the feed is, or its first events would be too old to be known again.
    let config = [("window", "30d"), ("field", "id")];
    deploy(&admin, dedupe(), ("dedupe", "alerts"), &unique, &config).await;
    let stats_topic = [("stats", STATS)];
    let input = (STATS, "alerts-unique");
    deploy(
        &admin,
        quake_stats(),
        input,
        &stats_topic,
        &[("window", "6h")],
    )
    .await;

    produce(&broker, 0..1_000);
    has_records(&admin, "alerts-unique", 10).await;
    broker.kill();
    broker.restart();
    let client = broker.quick_client().await;
    let admin = client.admin();
    produce(&broker, 1_000..quakes::EVENTS);
    // The whole feed once more: the second plugin drops what the first finds again.
    produce(&broker, 0..quakes::EVENTS);
    has_records(&admin, "alerts", 2 * ALERTS).await;
    worked_off(&admin, "dedupe", PARTITIONS).await;
    has_records(&admin, "alerts-unique", ALERTS).await;

    let unique = History::read(&client, "alerts-unique").await;
    let mut ids: Vec<_> = unique
        .records()
        .map(|record| value::<Event>(record).id)
        .collect();
    ids.sort();
    assert_eq!(ids, Vec::from_iter(quakes::strong_ids(&quakes::events())));
    let (expected, late) = recompute(&unique, WINDOW_MS);
    assert_eq!(late, 0);
    assert!(expected.len() >= 10, "{} windows", expected.len());
    has_records(&admin, STATS, expected.len()).await;
    assert_eq!(stats(&client).await, expected);
}
