//! Brokers that fall silent without a word: some are gone, some are only slow.

use std::time::{Duration, Instant};

use millstream::{Client, Position, ProduceRecord, Producer};
use millstream_protocol::api::Request;

use crate::broker::{Cluster, PATIENCE, Wire, named};

/// Less than the idle timeout of a connection, which is what noticed such a broker otherwise.
const NOTICED_WITHIN: Duration = Duration::from_secs(6);

/// Brokers, and the ways to them that clients are told of.
async fn wired(brokers: u32) -> (Cluster, Vec<Wire>) {
    let cluster = Cluster::start(brokers).await;
    let mut wires = Vec::new();
    for number in 1..=brokers {
        let wire = Wire::to(&cluster.broker(number).address()).await;
        cluster.list_at(number, &wire.address());
        wires.push(wire);
    }
    (cluster, wires)
}

/// A client that is given the way to the first broker alone.
async fn client(cluster: &Cluster, wires: &[Wire]) -> Client {
    let identity = cluster.broker(1).issued().identity().unwrap();
    let builder = Client::builder().identity(identity);
    let builder = builder.server_name("localhost").address(wires[0].address());
    builder.connect().await.unwrap()
}

async fn send(producer: &Producer, offsets: std::ops::Range<u64>) {
    for offset in offsets {
        let delivery = producer.send(ProduceRecord::new(offset.to_string())).await;
        let stored = tokio::time::timeout(PATIENCE, delivery.unwrap()).await;
        let stored = stored.expect("the delivery is settled").unwrap();
        assert_eq!(stored.offset, offset);
    }
}

async fn read(consumer: &mut millstream::Consumer, offsets: std::ops::Range<u64>) {
    for offset in offsets {
        let record = tokio::time::timeout(PATIENCE, consumer.next()).await;
        let record = record.expect("a record comes").unwrap();
        assert_eq!(record.offset, offset);
    }
}

fn is_listing(request: &Request) -> bool {
    matches!(request, Request::DescribeBrokers(_))
}

#[tokio::test]
async fn a_silent_leader_is_left_when_others_say_that_it_is_gone() {
    let (cluster, wires) = wired(3).await;
    cluster.create_topic("orders", &[2]);
    let client = client(&cluster, &wires).await;
    let producer = client.producer("orders").build().await.unwrap();
    let all = [("orders", 0, Position::Earliest)];
    let mut consumer = client.consumer().assign(all).build().await.unwrap();
    send(&producer, 0..10).await;
    read(&mut consumer, 0..10).await;

    let began = Instant::now();
    wires[1].cut();
    cluster.gone(2);
    cluster.lead("orders", 0, 3);
    send(&producer, 10..20).await;
    read(&mut consumer, 10..20).await;
    assert!(began.elapsed() < NOTICED_WITHIN, "{:?}", began.elapsed());
    let values: Vec<_> = (0..20).map(|offset: u64| offset.to_string()).collect();
    assert_eq!(cluster.broker(1).partition("orders", 0).values(), values);
}

#[tokio::test]
async fn everything_goes_on_when_the_only_broker_that_was_named_falls_silent_as_well() {
    let (cluster, wires) = wired(3).await;
    cluster.create_topic("orders", &[1]);
    let client = client(&cluster, &wires).await;
    let producer = client.producer("orders").build().await.unwrap();
    let consumer = client.consumer().group("billing").topics(["orders"]);
    let consumer = consumer.start(Position::Earliest);
    let mut consumer = consumer.build().await.unwrap();
    let first = cluster.broker(1);
    first.member("billing", 0).await;
    first.assign("billing", 0, 2, &[("orders", 0)]);
    send(&producer, 0..10).await;
    read(&mut consumer, 0..10).await;
    consumer.commit().await.unwrap();

    let began = Instant::now();
    wires[0].cut();
    cluster.gone(1);
    cluster.lead("orders", 0, 2);
    first.member("billing", 1).await;
    first.assign("billing", 1, 3, &[("orders", 0)]);
    send(&producer, 10..20).await;
    read(&mut consumer, 10..20).await;
    assert!(began.elapsed() < NOTICED_WITHIN, "{:?}", began.elapsed());
    assert_eq!(consumer.assignment(), [named("orders", 0)]);
    let admin = client.admin();
    let answered = tokio::time::timeout(PATIENCE, admin.describe_broker()).await;
    assert_ne!(answered.unwrap().unwrap().broker_id, 1);
}

#[tokio::test]
async fn a_leader_that_is_silent_for_a_while_and_there_keeps_its_connection() {
    let (cluster, wires) = wired(3).await;
    cluster.create_topic("orders", &[2]);
    let client = client(&cluster, &wires).await;
    let producer = client.producer("orders").build().await.unwrap();
    send(&producer, 0..10).await;
    let asked = |number: u32| {
        let state = cluster.broker(1).state();
        let asked = state.asked(is_listing);
        asked.into_iter().filter(|at| *at == number).count()
    };
    let is_known_at = asked(1);
    let is_connect = |request: &Request| matches!(request, Request::OpenProduce(_));
    let streams = cluster.broker(1).state().count(is_connect);

    wires[1].cut();
    let sending = tokio::spawn(async move {
        send(&producer, 10..100).await;
        producer
    });
    let was_asked = |state: &mut crate::broker::State| {
        let asked = state.asked(is_listing).into_iter();
        (asked.filter(|at| *at == 1).count() > is_known_at + 5).then_some(())
    };
    cluster
        .broker(1)
        .until("the others are asked", was_asked)
        .await;
    wires[1].mend();
    sending.await.unwrap();

    let state = cluster.broker(1).state();
    assert_eq!(state.count(is_connect), streams, "it kept its stream");
    drop(state);
    let partition = cluster.broker(1).partition("orders", 0);
    assert_eq!(partition.duplicates, 0);
    assert_eq!(partition.values().len(), 100);
}

#[tokio::test]
async fn a_leader_that_is_cut_off_from_the_others_is_left_although_it_is_heard() {
    let (cluster, wires) = wired(3).await;
    cluster.create_topic("orders", &[2]);
    let client = client(&cluster, &wires).await;
    let producer = client.producer("orders").build().await.unwrap();
    send(&producer, 0..10).await;

    // It takes what it is sent, and cannot have it kept.
    cluster.broker(1).faults(|faults| faults.deaf_at = Some(2));
    cluster.lead("orders", 0, 3);
    let began = Instant::now();
    send(&producer, 10..20).await;
    assert!(began.elapsed() < NOTICED_WITHIN, "{:?}", began.elapsed());
}
