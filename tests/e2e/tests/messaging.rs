//! A component that was written for `wasi:messaging`, deployed as it is.

use std::fs;

use millstream::{
    ConsumedRecord, DeploymentSpec, FailurePolicy, OutputSpec, ProduceRecord, WorkerDescription,
};
use millstream_e2e::artifacts::courier;
use millstream_e2e::broker::Broker;
use millstream_e2e::history::History;
use millstream_e2e::patience::until;

const NAME: &str = "courier";

fn value(record: &ConsumedRecord) -> &str {
    let value = record.value.as_deref().unwrap_or_default();
    str::from_utf8(value).expect("text")
}

#[tokio::test]
async fn messages_are_records_and_an_error_is_tried_again() {
    let broker = Broker::start();
    let client = broker.client().await;
    let admin = client.admin();
    for topic in ["in", "out"] {
        admin.create_topic(topic).await.expect("a topic");
    }
    let spec = DeploymentSpec {
        inputs: vec!["in".to_owned()],
        outputs: vec![OutputSpec {
            name: "found".to_owned(),
            topic: "out".to_owned(),
        }],
        on_failure: FailurePolicy {
            attempts: 2,
            first_back_off_ms: 1,
            longest_back_off_ms: 1,
            ..FailurePolicy::default_for(NAME)
        },
        ..DeploymentSpec::new(NAME)
    };
    let component = fs::read(courier()).expect("the component");
    admin
        .deploy_plugin(component, spec)
        .await
        .expect("a deployment");

    let producer = client.producer("in").build().await.expect("a producer");
    for (key, command) in [
        ("a", "twice"),
        ("b", "fail"),
        ("c", "panic"),
        ("d", "forward"),
    ] {
        let record = ProduceRecord::new(command).key(key);
        producer.send(record).await.expect("a record that is taken");
    }
    producer.close().await.expect("everything stored");
    until("nothing left to do", async || {
        let described = admin.describe_plugin(NAME).await.ok()?;
        let done = |worker: &WorkerDescription| {
            worker.lag == 0 && worker.parked == 0 && worker.dead_letters == 2
        };
        (!described.workers.is_empty() && described.workers.iter().all(done)).then_some(())
    })
    .await;

    let found = History::read(&client, "out").await;
    // What it sends before it fails is not sent.
    let mut values: Vec<_> = found.records().map(value).collect();
    values.sort_unstable();
    assert_eq!(values, ["forwarded", "one", "two"]);
    let forwarded = found.records().find(|it| value(it) == "forwarded");
    assert_eq!(
        forwarded.and_then(|record| record.key.as_deref()),
        Some(&b"d"[..])
    );
    let letters = History::read(&client, "courier.dead-letters").await;
    let mut letters: Vec<_> = letters.records().map(value).collect();
    letters.sort_unstable();
    assert_eq!(letters, ["fail", "panic"]);
}
