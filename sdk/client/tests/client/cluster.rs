//! Several brokers, of which some are not well.

use std::time::Duration;

use millstream::{Client, Error, Position, ProduceRecord, TransportConfig};
use millstream_protocol::api::Request;

use crate::broker::{Cluster, PATIENCE, named};

/// An address at which nobody answers, for as long as the socket lives.
pub(crate) fn silent() -> (std::net::UdpSocket, String) {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap().to_string();
    (socket, address)
}

/// The broker that the client is connected to.
async fn connected_to(client: &Client) -> u32 {
    client.admin().describe_broker().await.unwrap().broker_id
}

#[tokio::test]
async fn one_address_is_enough_and_its_broker_may_die() {
    let cluster = Cluster::start(3).await;
    let client = cluster.client_builder().connect().await.unwrap();
    assert_eq!(connected_to(&client).await, 1);
    cluster.broker(1).stop();
    let second = connected_to(&client).await;
    assert_ne!(second, 1);
    cluster.broker(second).stop();
    assert_eq!(connected_to(&client).await, 5 - second);
    // The user's address comes first.
    cluster.broker(1).come_back();
    cluster.broker(5 - second).stop();
    assert_eq!(connected_to(&client).await, 1);
}

#[tokio::test]
async fn addresses_are_tried_in_order_and_silence_is_not_waited_for() {
    let cluster = Cluster::start(2).await;
    let (_socket, silent) = silent();
    let builder = || Client::builder().identity(cluster.broker(1).issued().identity().unwrap());
    let addresses = [cluster.broker(2).address(), cluster.broker(1).address()];
    let client = builder()
        .server_name("localhost")
        .addresses(addresses.clone());
    assert_eq!(connected_to(&client.connect().await.unwrap()).await, 2);
    cluster.broker(2).stop();
    let client = builder().server_name("localhost").addresses(addresses);
    assert_eq!(connected_to(&client.connect().await.unwrap()).await, 1);
    let patient = TransportConfig {
        connect_timeout: 3 * PATIENCE,
        max_idle_timeout: 3 * PATIENCE,
        ..TransportConfig::client()
    };
    let client = builder()
        .server_name("localhost")
        .transport(patient)
        .connect_timeout(3 * PATIENCE)
        .address(silent)
        .address(cluster.broker(1).address());
    let connected = tokio::time::timeout(PATIENCE, client.connect()).await;
    assert_eq!(connected_to(&connected.unwrap().unwrap()).await, 1);
}

#[tokio::test]
async fn a_broker_that_still_starts_is_taken_only_if_no_other_is_ready() {
    let cluster = Cluster::start(2).await;
    let client = cluster.client_builder().connect().await.unwrap();
    cluster.broker(1).state().starting.insert(1);
    cluster.broker(1).kill_connections();
    assert_eq!(connected_to(&client).await, 2);
    cluster.broker(2).stop();
    assert_eq!(connected_to(&client).await, 1);
}

#[tokio::test]
async fn brokers_that_come_later_are_heard_of() {
    let cluster = Cluster::start(2).await;
    let second = cluster.broker(2).address();
    let is_listing = |request: &Request| matches!(request, Request::DescribeBrokers(_));
    cluster.broker(1).state().listed.truncate(1);
    let client = cluster.client_builder();
    let client = client.cluster_refresh(Duration::from_millis(10));
    let client = client.connect().await.unwrap();
    cluster.list_at(2, &second);
    let asked = cluster.broker(1).state().count(is_listing);
    // The first of these may have been answered before the broker was listed.
    cluster
        .broker(1)
        .until("the list is asked for again", |state| {
            (state.count(is_listing) > asked + 2).then_some(())
        })
        .await;
    cluster.broker(1).stop();
    assert_eq!(connected_to(&client).await, 2);
}

#[tokio::test]
async fn whoever_is_not_the_broker_that_is_meant_is_left_alone() {
    let cluster = Cluster::start(2).await;
    let second = cluster.broker(2).address();
    cluster.list_at(2, "nowhere.invalid:1");
    cluster.list_at(3, &second);
    let client = cluster.client_builder();
    let client = client.request_timeout(Duration::from_secs(1));
    let client = client.connect().await.unwrap();
    cluster.broker(1).stop();
    let failed = client.admin().describe_broker().await.unwrap_err();
    assert!(
        matches!(failed, Error::Connect(_) | Error::Timeout { .. }),
        "{failed:?}"
    );
    // It was asked who it is, and nothing else.
    let asked = cluster.broker(2).state();
    assert!(
        asked
            .asked(|it| !matches!(it, Request::Hello(_)))
            .iter()
            .all(|at| *at == 1)
    );
    assert!(
        asked
            .asked(|it| matches!(it, Request::Hello(_)))
            .contains(&2)
    );
}

#[tokio::test]
async fn producers_consumers_and_members_go_on_at_another_broker() {
    let cluster = Cluster::start(2).await;
    cluster.create_topic("orders", &[2]);
    let client = cluster.client_builder().connect().await.unwrap();
    let producer = client.producer("orders").build().await.unwrap();
    let consumer = client.consumer().group("billing").topics(["orders"]);
    let consumer = consumer.start(Position::Earliest).member_name("me");
    let mut consumer = consumer.build().await.unwrap();
    let first = cluster.broker(1);
    first.member("billing", 0).await;
    first.assign("billing", 0, 2, &[("orders", 0)]);
    for number in 0..10 {
        if number == 5 {
            consumer.commit().await.unwrap();
            first.stop();
            first.member("billing", 1).await;
            first.assign("billing", 1, 3, &[("orders", 0)]);
        }
        let stored = producer.send(ProduceRecord::new(number.to_string())).await;
        let stored = tokio::time::timeout(PATIENCE, stored.unwrap()).await;
        assert_eq!(stored.unwrap().unwrap().offset, number);
        let record = tokio::time::timeout(PATIENCE, consumer.next()).await;
        assert_eq!(record.unwrap().unwrap().offset, number);
    }
    assert_eq!(consumer.assignment(), [named("orders", 0)]);
}
