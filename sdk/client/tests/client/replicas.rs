//! Consumers that read a replica which is close.

use std::time::Duration;

use millstream::{Consumer, ErrorCode, Position, ReadFrom};
use millstream_protocol::WireError;
use millstream_protocol::api::Request;

use crate::broker::{Cluster, PATIENCE, State};

/// Broker 1 leads, all have replicas, and 2 and 3 are in rack `b`.
async fn start() -> Cluster {
    let cluster = Cluster::start(3).await;
    cluster.create_topic("orders", &[1, 1]);
    let first = cluster.broker(1);
    for partition in 0..2 {
        first.append("orders", partition, ["a", "b"]);
    }
    let mut state = first.state();
    state.replicas = vec![1, 2, 3];
    state.racks = [(1, "a"), (2, "b"), (3, "b")]
        .map(|(broker, rack)| (broker, rack.to_owned()))
        .into();
    drop(state);
    cluster
}

async fn consumer(cluster: &Cluster, rack: Option<&str>) -> Consumer {
    let builder = cluster.client_builder();
    let builder = builder.cluster_refresh(Duration::from_millis(10));
    let client = builder.connect().await.unwrap();
    let all = (0..2).map(|number| ("orders", number, Position::Earliest));
    let builder = client.consumer().assign(all).read_from(ReadFrom::Closest);
    let builder = match rack {
        None => builder,
        Some(rack) => builder.rack(rack),
    };
    builder.build().await.unwrap()
}

/// Waits until the streams go to these brokers, one to each.
async fn fetched_at(cluster: &Cluster, brokers: &[u32]) {
    let what = format!("it is fetched from {brokers:?}");
    let are_there = |state: &mut State| {
        let mut fetched = state.fetched_at.clone();
        fetched.sort_unstable();
        (fetched == brokers).then_some(())
    };
    cluster.broker(1).until(&what, are_there).await;
}

async fn read(consumer: &mut Consumer, records: usize) {
    for _ in 0..records {
        let record = tokio::time::timeout(PATIENCE, consumer.next()).await;
        record.expect("a record comes").unwrap();
    }
}

#[tokio::test]
async fn the_replicas_of_the_own_rack_are_read_and_the_leader_without_them() {
    let cluster = start().await;
    let mut consumer = consumer(&cluster, Some("b")).await;
    read(&mut consumer, 4).await;
    fetched_at(&cluster, &[2, 3]).await;
    cluster.broker(2).stop();
    cluster.broker(3).stop();
    cluster.broker(1).append("orders", 0, ["c"]);
    read(&mut consumer, 1).await;
    fetched_at(&cluster, &[1, 1]).await;
}

#[tokio::test]
async fn a_replica_that_counts_no_more_is_not_read_any_more() {
    let cluster = start().await;
    let mut consumer = consumer(&cluster, Some("b")).await;
    read(&mut consumer, 4).await;
    fetched_at(&cluster, &[2, 3]).await;
    cluster.broker(1).state().untrusted = vec![2];
    fetched_at(&cluster, &[3, 3]).await;
    cluster.broker(1).state().untrusted = vec![2, 3];
    fetched_at(&cluster, &[1, 1]).await;
    cluster.broker(1).state().untrusted = Vec::new();
    fetched_at(&cluster, &[2, 3]).await;
    cluster.broker(1).append("orders", 1, ["c"]);
    read(&mut consumer, 1).await;
}

#[tokio::test]
async fn a_replica_that_refuses_is_avoided() {
    let cluster = start().await;
    let refused = WireError::new(ErrorCode::NotReady, "it lacks that");
    cluster.broker(1).faults(|faults| {
        faults.refuse_fetch.push_back(refused);
    });
    let mut consumer = consumer(&cluster, Some("b")).await;
    read(&mut consumer, 4).await;
    let asked = |request: &Request| matches!(request, Request::OpenReplicaFetch(_));
    let asked = cluster.broker(1).state().asked(asked).len();
    assert_eq!(asked, 2, "each replica once");
    let at_leader = |state: &mut State| state.fetched_at.contains(&1).then_some(());
    cluster.broker(1).until("one is read", at_leader).await;
}

#[tokio::test]
async fn without_a_rack_the_broker_is_read_that_is_connected_to() {
    for (home, expected) in [(2, [2, 2]), (1, [1, 1])] {
        let cluster = start().await;
        let builder = cluster.broker(home).client_builder();
        let client = builder.connect().await.unwrap();
        let all = (0..2).map(|number| ("orders", number, Position::Earliest));
        let consumer = client.consumer().assign(all).read_from(ReadFrom::Closest);
        let mut consumer = consumer.build().await.unwrap();
        read(&mut consumer, 4).await;
        fetched_at(&cluster, &expected).await;
    }
}

#[tokio::test]
async fn a_rack_is_of_no_use_to_who_reads_leaders() {
    let cluster = start().await;
    let client = cluster.client_builder().connect().await.unwrap();
    let builder = client.consumer().topics(["orders"]).rack("b");
    let refused = builder.build().await.unwrap_err().to_string();
    assert!(refused.contains("rack"), "{refused}");
}
