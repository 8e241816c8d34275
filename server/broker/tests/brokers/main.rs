//! Three brokers in one process, over real connections.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what a test does not expect ends it"
)]

mod harness;

use harness::{Cluster, until};
use millstream::ProduceRecord;

#[tokio::test(flavor = "multi_thread")]
async fn three_brokers_agree_on_topics_and_replicate_them() {
    let cluster = Cluster::start(3).await;
    let client = cluster.client(0).await;
    let admin = client.admin();
    admin
        .create_topic("orders")
        .partitions(3)
        .replication_factor(3)
        .await
        .unwrap();
    for index in 0..3 {
        let client = cluster.client(index).await;
        until("the topic is known everywhere", async || {
            let topic = client.admin().describe_topic("orders").await.ok()?;
            (topic.partitions.len() == 3).then_some(())
        })
        .await;
        let producer = client.producer("orders").build().await.unwrap();
        for number in 0..100 {
            let value = format!("{index}-{number}");
            let record = ProduceRecord::new(value);
            producer.send(record).await.unwrap();
        }
        producer.close().await.unwrap();
    }
    for index in 0..3 {
        let client = cluster.client(index).await;
        until("all records are on every broker", async || {
            let topic = client.admin().describe_topic("orders").await.ok()?;
            let records: u64 = topic.partitions.iter().map(|it| it.high_watermark).sum();
            (records == 300).then_some(())
        })
        .await;
    }
}
