//! Ctrl-C and SIGTERM: what is under way is finished, and the program ends with success.

use millstream_e2e::broker::Broker;
use millstream_e2e::history::History;
use millstream_e2e::load::Load;
use rustix::process::Signal;

const TOPIC: &str = "orders";

/// Acknowledgements before and after the stop.
const ACKED: u64 = 500;

async fn stops_cleanly_under_load(signal: Signal) {
    let mut broker = Broker::start();
    let admin = broker.quick_client().await.admin();
    admin.create_topic(TOPIC).partitions(3).await.unwrap();
    let mut load = Load::start(&broker, TOPIC, 3).await;
    load.advance(ACKED).await;
    broker.signal(signal);
    let status = broker.wait();
    assert_eq!(
        status.code(),
        Some(0),
        "{status}; the log:\n{}",
        broker.log()
    );
    assert!(
        broker
            .log()
            .contains("stopping: what is under way is being finished")
    );

    // The producers go on where they were, and nothing of it all is missing or there twice.
    broker.restart();
    load.advance(ACKED).await;
    let acked = load.finish().await;
    let history = History::read(&broker.client().await, TOPIC).await;
    let verdict = history.judge(&acked);
    assert!(verdict.is_clean(), "{verdict:?}");
    assert_eq!(history.len(), acked.len());
    assert!(
        !broker.log().contains("cut a torn tail"),
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
