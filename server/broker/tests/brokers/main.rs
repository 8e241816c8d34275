//! Several brokers in one process, over real connections.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what a test does not expect ends it"
)]

mod deletion;
mod gather;
mod harness;
mod loss;
mod online;
mod replicas;

use std::time::Instant;

use harness::{Cluster, PATIENCE, until};
use millstream::{Client, Consumer, Position, ProduceRecord};
use tokio::time::timeout;

/// Makes a topic with as many replicas as there are brokers.
async fn create_topic(cluster: &Cluster, partitions: u32) {
    let client = cluster.client(0).await;
    let admin = client.admin();
    let replicas = cluster.nodes.len() as u8;
    let create = admin.create_topic("orders").partitions(partitions);
    create.replication_factor(replicas).await.unwrap();
}

/// Waits until every broker has so many records of the topic, as visible ones.
async fn all_have(cluster: &Cluster, records: u64) {
    for index in cluster.running() {
        let client = cluster.client(index).await;
        until("all records are on every broker", async || {
            let topic = client.admin().describe_topic("orders").await.ok()?;
            let kept = client.admin().describe_replicas().await.ok()?.replicas?;
            let kept = kept
                .iter()
                .filter(|it| it.partition.topic_id == topic.topic_id);
            let visible = kept.map(|it| it.high_watermark);
            (visible.sum::<u64>() >= records).then_some(())
        })
        .await;
    }
}

async fn produce(client: &Client, values: impl Iterator<Item = String>) {
    let producer = client.producer("orders").build().await.unwrap();
    for value in values {
        producer.send(ProduceRecord::new(value)).await.unwrap();
    }
    producer.close().await.unwrap();
}

/// All values of the topic's records, in order of their partitions and offsets.
async fn consume(client: &Client, records: usize) -> Vec<String> {
    let topic = client.admin().describe_topic("orders").await.unwrap();
    let all = topic.partitions.iter();
    let all = all.map(|it| ("orders", it.partition, Position::Earliest));
    let mut consumer = client.consumer().assign(all).build().await.unwrap();
    let mut found = Vec::new();
    while found.len() < records {
        let record = consumer.next().await.unwrap();
        let value = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
        found.push((record.partition, record.offset, value));
    }
    found.sort();
    found.into_iter().map(|(_, _, value)| value).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn three_brokers_agree_on_topics_and_replicate_them() {
    let cluster = Cluster::start(3).await;
    create_topic(&cluster, 3).await;
    for index in 0..3 {
        let client = cluster.client(index).await;
        until("the topic is known everywhere", async || {
            let topic = client.admin().describe_topic("orders").await.ok()?;
            (topic.partitions.len() == 3).then_some(())
        })
        .await;
        produce(&client, (0..100).map(|number| format!("{index}-{number}"))).await;
    }
    all_have(&cluster, 300).await;
    for index in 0..3 {
        let mut values = consume(&cluster.client(index).await, 300).await;
        values.sort();
        values.dedup();
        assert_eq!(values.len(), 300);
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_stops_is_replaced_and_comes_back() {
    let mut cluster = Cluster::start(3).await;
    create_topic(&cluster, 6).await;
    produce(
        &cluster.client(0).await,
        (0..100).map(|it| format!("a{it}")),
    )
    .await;
    cluster.nodes[2].stop().await;
    let began = Instant::now();
    produce(
        &cluster.client(0).await,
        (0..100).map(|it| format!("b{it}")),
    )
    .await;
    println!("written again after {:?}", began.elapsed());
    cluster.restart(2).await;
    produce(
        &cluster.client(2).await,
        (0..100).map(|it| format!("c{it}")),
    )
    .await;
    all_have(&cluster, 300).await;
    let mut values = consume(&cluster.client(1).await, 300).await;
    values.sort();
    values.dedup();
    assert_eq!(values.len(), 300);
    cluster.stop().await;
}

/// Reads so many records.
async fn read(consumer: &mut Consumer, records: usize) -> Vec<(u32, u64, String)> {
    let mut found = Vec::new();
    while found.len() < records {
        let record = timeout(PATIENCE, consumer.next()).await;
        let record = record.expect("a record comes").unwrap();
        let value = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
        found.push((record.partition, record.offset, value));
    }
    found
}

/// Produces and consumes with a client that was told of one broker alone, which stops in between.
async fn outlive(index: usize, consumer: impl AsyncFn(&Client) -> Consumer) {
    let mut cluster = Cluster::start(3).await;
    create_topic(&cluster, 6).await;
    let client = cluster.client(index).await;
    let producer = client.producer("orders").build().await.unwrap();
    let mut consumer = consumer(&client).await;
    let mut found = Vec::new();
    for round in 0..2 {
        if round == 1 {
            cluster.nodes[index].stop().await;
        }
        let began = Instant::now();
        let mut deliveries = Vec::new();
        for number in 0..600 {
            let record = ProduceRecord::new(format!("{round}-{number:03}"));
            let record = record.partition(number % 6);
            deliveries.push(producer.send(record).await.unwrap());
        }
        for delivery in deliveries {
            timeout(PATIENCE, delivery).await.unwrap().unwrap();
        }
        println!("round {round}: written after {:?}", began.elapsed());
        found.extend(read(&mut consumer, 600).await);
        println!("round {round}: read after {:?}", began.elapsed());
        if consumer.group().is_some() {
            consumer.commit().await.unwrap();
        }
    }
    // In order in each partition, and each once.
    found.sort();
    for partition in 0..6 {
        let values = found.iter().filter(|(at, ..)| *at == partition);
        let values: Vec<&str> = values.map(|(.., value)| value.as_str()).collect();
        assert_eq!(values.len(), 200);
        assert!(values.is_sorted(), "{values:?}");
    }
    found.dedup_by(|a, b| a.2 == b.2);
    assert_eq!(found.len(), 1_200);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emptied_disk_is_refused_and_the_others_go_on() {
    let mut cluster = Cluster::start(3).await;
    create_topic(&cluster, 3).await;
    let values = |from: &str| {
        let from = from.to_owned();
        (0..300).map(move |it| format!("{from}{it:0>5000}"))
    };
    produce(&cluster.client(0).await, values("a")).await;
    cluster.nodes[2].stop().await;
    cluster.nodes[2].wipe();
    let refused = cluster.try_restart(2).await.unwrap_err().to_string();
    let reason = "broker 3 is known with another data directory";
    assert!(refused.contains(reason), "{refused}");
    produce(&cluster.client(0).await, values("b")).await;
    all_have(&cluster, 600).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_goes_on_without_the_only_broker_that_it_was_told_of() {
    outlive(0, async |client| {
        let all = (0..6).map(|partition| ("orders", partition, Position::Earliest));
        client.consumer().assign(all).build().await.unwrap()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_goes_on_without_the_only_broker_that_it_was_told_of() {
    outlive(1, async |client| {
        let consumer = client.consumer().group("billing").topics(["orders"]);
        consumer.start(Position::Earliest).build().await.unwrap()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_that_all_stop_find_each_other_again() {
    let mut cluster = Cluster::start(3).await;
    create_topic(&cluster, 3).await;
    produce(
        &cluster.client(0).await,
        (0..100).map(|it| format!("a{it}")),
    )
    .await;
    // Voters that have voted: nobody gets a majority without one of them.
    cluster.all_vote().await;
    for node in &mut cluster.nodes {
        node.stop().await;
    }
    // The founder, which the others could do without, stays away.
    cluster.restart_two(1, 2).await;
    produce(
        &cluster.client(1).await,
        (0..100).map(|it| format!("b{it}")),
    )
    .await;
    all_have(&cluster, 200).await;
    cluster.stop().await;
}
