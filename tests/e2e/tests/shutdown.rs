//! Ctrl-C and SIGTERM: what is under way is finished, and the program ends with success.

use std::collections::BTreeSet;

use millstream::{Consumer, Position};
use millstream_e2e::broker::Broker;
use millstream_e2e::history::History;
use millstream_e2e::load::Load;
use millstream_e2e::patience::within;
use rustix::process::Signal;

const TOPIC: &str = "orders";

/// Acknowledgements before and after the stop.
const ACKED: u64 = 500;

/// Places of records that a group was given, some perhaps more than once.
type Places = BTreeSet<(u32, u64)>;

async fn take(member: &mut Consumer, records: usize, places: &mut Places) {
    while places.len() < records {
        let record = within("a record", member.next()).await.expect("a record");
        places.insert((record.partition, record.offset));
    }
}

async fn stops_cleanly_under_load(signal: Signal) {
    let mut broker = Broker::start();
    let client = broker.quick_client().await;
    client
        .admin()
        .create_topic(TOPIC)
        .partitions(3)
        .await
        .unwrap();
    let group = client.consumer().group("readers").topics([TOPIC]);
    let mut member = group.start(Position::Earliest).build().await.unwrap();
    let mut load = Load::start(&broker, TOPIC, 3).await;
    load.advance(ACKED).await;
    let mut places = Places::new();
    take(&mut member, 100, &mut places).await;

    // With produce, fetch and group streams open, none of which ends by itself.
    broker.signal(signal);
    let status = broker.wait();
    let log = broker.log();
    assert_eq!(status.code(), Some(0), "{status}; the log:\n{log}");
    assert!(
        log.contains("stopping: what is under way is being finished"),
        "{log}"
    );
    assert!(
        !log.contains("they are cut"),
        "somebody had to be cut off:\n{log}"
    );

    // Everybody goes on where they were, and nothing of it all is missing or there twice.
    broker.restart();
    load.advance(ACKED).await;
    let acked = load.finish().await;
    let history = History::read(&client, TOPIC).await;
    let verdict = history.judge(&acked);
    assert!(
        verdict.is_clean() && history.len() == acked.len(),
        "{verdict:?}"
    );
    take(&mut member, history.len(), &mut places).await;
    let all: Places = history
        .records()
        .map(|record| (record.partition, record.offset))
        .collect();
    assert_eq!(places, all);
    assert!(
        !broker.log().contains("torn tail"),
        "a clean stop leaves nothing to recover"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ctrl_c_finishes_what_is_under_way_and_exits_with_success() {
    stops_cleanly_under_load(Signal::INT).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_finishes_what_is_under_way_and_exits_with_success() {
    stops_cleanly_under_load(Signal::TERM).await;
}
