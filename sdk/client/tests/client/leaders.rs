//! Partitions that different brokers lead, and leaders that change.

use std::time::Duration;

use millstream::{Client, Consumer, Error, ErrorCode, Position, ProduceRecord, Producer};
use millstream_protocol::api::Request;
use millstream_protocol::api::fetch::OpenFetch;

use crate::broker::{Cluster, PATIENCE, State};

/// Looks for better ways all the time.
fn eager(cluster: &Cluster) -> millstream::ClientBuilder {
    let builder = cluster.client_builder();
    builder.cluster_refresh(Duration::from_millis(10))
}

async fn client(cluster: &Cluster) -> Client {
    cluster.client_builder().connect().await.unwrap()
}

/// Small batches, so that several are in flight.
async fn producer(client: &Client) -> Producer {
    let producer = client.producer("orders").batch_bytes(2_000);
    producer.build().await.unwrap()
}

/// Everything in these partitions, from the first record on.
async fn consumer(client: &Client, partitions: std::ops::Range<u32>) -> Consumer {
    let all = partitions.map(|number| ("orders", number, Position::Earliest));
    client.consumer().assign(all).build().await.unwrap()
}

/// Sends numbers to one partition and waits until all are stored: in order, and once.
async fn send(producer: &Producer, partition: u32, numbers: std::ops::Range<u64>) {
    let mut deliveries = Vec::new();
    for number in numbers.clone() {
        let value = format!("{number:0100}");
        let record = ProduceRecord::new(value).partition(partition);
        deliveries.push(producer.send(record).await.unwrap());
    }
    for (number, delivery) in numbers.zip(deliveries) {
        let stored = tokio::time::timeout(PATIENCE, delivery).await;
        let stored = stored.expect("the delivery is settled").unwrap();
        assert_eq!(stored.offset, number);
    }
}

/// The partition has these numbers, in order, and no other.
fn assert_has(cluster: &Cluster, partition: usize, numbers: std::ops::Range<u64>) {
    let expected: Vec<_> = numbers.map(|number| format!("{number:0100}")).collect();
    assert_eq!(
        cluster.broker(1).partition("orders", partition).values(),
        expected
    );
}

/// Reads one partition's next records, which have these offsets.
async fn read(consumer: &mut Consumer, offsets: std::ops::Range<u64>) {
    for offset in offsets {
        let record = tokio::time::timeout(PATIENCE, consumer.next()).await;
        let record = record.expect("a record comes").unwrap();
        assert_eq!(record.offset, offset);
    }
}

fn is_produce(request: &Request) -> bool {
    matches!(request, Request::OpenProduce(_))
}

/// Waits until a produce stream is opened at a broker once more than so often.
async fn produced_at(cluster: &Cluster, broker: u32, before: usize) {
    let what = format!("a produce stream comes to broker {broker}");
    let opened = |state: &mut State| {
        let asked = state.asked(is_produce);
        let count = asked.iter().filter(|at| **at == broker).count();
        (count > before).then_some(())
    };
    cluster.broker(1).until(&what, opened).await;
}

/// Waits until the one fetch stream there is goes to a broker.
async fn fetched_at(cluster: &Cluster, broker: u32) {
    let what = format!("it is fetched from broker {broker}");
    let is_there = |state: &mut State| (state.fetched_at == [broker]).then_some(());
    cluster.broker(1).until(&what, is_there).await;
}

#[tokio::test]
async fn everything_goes_to_the_leaders_themselves() {
    let cluster = Cluster::start(3).await;
    cluster.create_topic("orders", &[1, 2, 3]);
    let client = client(&cluster).await;
    let producer = producer(&client).await;
    for partition in 0..3 {
        send(&producer, partition, 0..10).await;
    }
    let mut consumer = consumer(&client, 0..3).await;
    for _ in 0..30 {
        consumer.next().await.unwrap();
    }
    let state = cluster.broker(1).state();
    let mut produced = 0;
    for (at, request) in &state.requests {
        match request {
            Request::OpenProduce(open) => {
                produced += 1;
                assert_eq!(*at, open.partition + 1);
            }
            Request::OpenFetch(open) => {
                assert!(open.partitions.iter().all(|it| it.partition + 1 == *at));
            }
            Request::ListOffsets(asked) => {
                assert!(
                    asked
                        .positions
                        .iter()
                        .all(|(partition, _)| partition + 1 == *at)
                );
            }
            Request::Hello(_) => {}
            _ => assert_eq!(*at, 1, "{request:?}"),
        }
    }
    assert_eq!(produced, 3);
    assert_eq!(state.hello_count, 3, "one connection to each");
}

#[tokio::test]
async fn a_leader_that_moves_is_followed_without_loss_or_repetition() {
    let cluster = Cluster::start(3).await;
    cluster.create_topic("orders", &[2]);
    let client = client(&cluster).await;
    let producer = producer(&client).await;
    let mut consumer = consumer(&client, 0..1).await;
    let sending = tokio::spawn(async move { send(&producer, 0, 0..4_000).await });
    let mut stored = 0;
    for leader in [3, 1, 2].into_iter().cycle() {
        let more = cluster.broker(1).until("more is stored", |state| {
            let end = state.topics["orders"].partitions[0].end_offset;
            (end >= (stored + 300).min(4_000)).then_some(end)
        });
        stored = more.await;
        if stored >= 3_700 {
            break;
        }
        cluster.lead("orders", 0, leader);
    }
    sending.await.unwrap();
    assert_has(&cluster, 0, 0..4_000);
    read(&mut consumer, 0..4_000).await;
    let opened = cluster.broker(1).state().asked(is_produce);
    assert!(opened.len() > 6, "it hardly moved: {opened:?}");
    assert!((1..=3).all(|broker| opened.contains(&broker)));
}

#[tokio::test]
async fn a_leader_that_dies_is_replaced_and_nobody_is_told() {
    let cluster = Cluster::start(3).await;
    cluster.create_topic("orders", &[2]);
    let client = client(&cluster).await;
    let producer = producer(&client).await;
    let mut consumer = consumer(&client, 0..1).await;
    send(&producer, 0, 0..10).await;
    read(&mut consumer, 0..10).await;
    cluster.broker(2).stop();
    let sending = tokio::spawn(async move { send(&producer, 0, 10..500).await });
    // There is no other leader yet: the broker in between cannot pass it on.
    produced_at(&cluster, 1, 1).await;
    cluster.lead("orders", 0, 3);
    sending.await.unwrap();
    assert_has(&cluster, 0, 0..500);
    read(&mut consumer, 10..500).await;
    assert_eq!(cluster.broker(1).state().asked(is_produce).last(), Some(&3));
    fetched_at(&cluster, 3).await;
}

#[tokio::test]
async fn the_leader_and_the_broker_of_the_client_may_die_together() {
    let cluster = Cluster::start(3).await;
    cluster.create_topic("orders", &[1]);
    let client = client(&cluster).await;
    let producer = producer(&client).await;
    let mut consumer = consumer(&client, 0..1).await;
    send(&producer, 0, 0..10).await;
    read(&mut consumer, 0..10).await;
    cluster.broker(1).stop();
    cluster.lead("orders", 0, 3);
    send(&producer, 0, 10..100).await;
    assert_has(&cluster, 0, 0..100);
    read(&mut consumer, 10..100).await;
}

#[tokio::test]
async fn a_leader_that_cannot_be_reached_is_served_through_another_broker() {
    let (_socket, silent) = super::cluster::silent();
    for address in ["nowhere.invalid:1", &silent, "refused"] {
        let cluster = Cluster::start(3).await;
        cluster.create_topic("orders", &[2]);
        match address {
            "refused" => cluster.hide(2),
            _ => cluster.list_at(2, address),
        }
        let client = client(&cluster).await;
        let producer = producer(&client).await;
        let mut consumer = consumer(&client, 0..1).await;
        send(&producer, 0, 0..100).await;
        read(&mut consumer, 0..100).await;
        assert_eq!(cluster.broker(1).state().asked(is_produce), [1]);
        fetched_at(&cluster, 1).await;
        cluster.lead("orders", 0, 3);
        send(&producer, 0, 100..200).await;
        read(&mut consumer, 100..200).await;
        assert_eq!(cluster.broker(1).state().asked(is_produce).last(), Some(&3));
    }
}

#[tokio::test]
async fn a_leader_that_can_be_reached_again_is_turned_to() {
    let cluster = Cluster::start(2).await;
    cluster.create_topic("orders", &[2]);
    cluster.hide(2);
    let client = eager(&cluster).connect().await.unwrap();
    let producer = producer(&client).await;
    let mut consumer = consumer(&client, 0..1).await;
    send(&producer, 0, 0..100).await;
    read(&mut consumer, 0..100).await;
    let sending = tokio::spawn(async move {
        send(&producer, 0, 100..2_000).await;
        producer
    });
    cluster.show(2);
    fetched_at(&cluster, 2).await;
    let producer = sending.await.unwrap();
    send(&producer, 0, 2_000..2_100).await;
    produced_at(&cluster, 2, 0).await;
    send(&producer, 0, 2_100..2_200).await;
    assert_has(&cluster, 0, 0..2_200);
    read(&mut consumer, 100..2_200).await;
}

#[tokio::test]
async fn a_new_leader_is_turned_to_although_the_old_one_does_not_say_so() {
    let cluster = Cluster::start(3).await;
    cluster.create_topic("orders", &[2]);
    let only = |faults: &mut crate::broker::Faults| faults.fetch_from_followers = true;
    cluster.broker(1).faults(only);
    let client = eager(&cluster).connect().await.unwrap();
    let producer = producer(&client).await;
    let mut consumer = consumer(&client, 0..1).await;
    send(&producer, 0, 0..10).await;
    read(&mut consumer, 0..10).await;
    fetched_at(&cluster, 2).await;
    // What it is sent from now on is neither stored nor refused.
    cluster.broker(1).faults(|faults| faults.deaf = true);
    let sending = tokio::spawn(async move { send(&producer, 0, 10..100).await });
    cluster.lead("orders", 0, 3);
    fetched_at(&cluster, 3).await;
    produced_at(&cluster, 3, 0).await;
    cluster.broker(1).faults(|faults| faults.deaf = false);
    sending.await.unwrap();
    assert_has(&cluster, 0, 0..100);
    read(&mut consumer, 10..100).await;
}

#[tokio::test]
async fn a_leader_that_has_not_heard_of_a_topic_yet_is_given_time() {
    let cluster = Cluster::start(2).await;
    cluster.create_topic("orders", &[2]);
    let client = client(&cluster).await;
    let producer = producer(&client).await;
    cluster.unaware(2);
    let sending = tokio::spawn(async move { send(&producer, 0, 0..10).await });
    let reading = tokio::spawn(async move {
        let mut consumer = consumer(&client, 0..1).await;
        read(&mut consumer, 0..10).await;
        client
    });
    produced_at(&cluster, 2, 1).await;
    let is_listing = |request: &Request| matches!(request, Request::ListOffsets(_));
    let asked = |state: &mut State| (state.count(is_listing) > 1).then_some(());
    cluster
        .broker(1)
        .until("offsets are asked for again", asked)
        .await;
    cluster.aware(2);
    sending.await.unwrap();
    let client = reading.await.unwrap();

    // The same of a consumer that knows where to begin.
    cluster.unaware(2);
    let group = client.consumer().group("billing").topics(["orders"]);
    let mut consumer = group.build().await.unwrap();
    let first = cluster.broker(1);
    first.member("billing", 0).await;
    let before = first.state().count(is_listing);
    first.assign("billing", 0, 2, &[("orders", 0)]);
    // What it is refused, it asks about.
    let asked = |state: &mut State| (state.count(is_listing) > before + 1).then_some(());
    first.until("offsets are asked for again", asked).await;
    cluster.aware(2);
    read(&mut consumer, 0..10).await;

    // A topic that is gone is gone.
    cluster.unaware(2);
    let gone = client.admin().offset("others", 0, Position::Earliest).await;
    assert_eq!(gone.unwrap_err().code(), Some(ErrorCode::UnknownTopic));
    let gone = client.admin().offset("orders", 7, Position::Earliest).await;
    assert_eq!(gone.unwrap_err().code(), Some(ErrorCode::UnknownPartition));
}

#[tokio::test]
async fn a_refusal_of_the_broker_in_between_is_overcome_in_time() {
    let cluster = Cluster::start(3).await;
    cluster.create_topic("orders", &[2]);
    cluster.hide(2);
    cluster
        .broker(1)
        .faults(|faults| faults.no_forwarding = true);
    let client = client(&cluster).await;
    let patient = producer(&client).await;
    let impatient = client.producer("orders");
    let impatient = impatient.delivery_timeout(Duration::from_millis(100));
    let impatient = impatient.build().await.unwrap();
    let record = impatient
        .send(ProduceRecord::new("too late"))
        .await
        .unwrap();
    let late = tokio::time::timeout(PATIENCE, record).await.unwrap();
    assert_eq!(late.unwrap_err().code(), Some(ErrorCode::NotLeader));

    let sending = tokio::spawn(async move { send(&patient, 0, 0..100).await });
    produced_at(&cluster, 1, 3).await;
    cluster.lead("orders", 0, 1);
    sending.await.unwrap();
    assert_has(&cluster, 0, 0..100);
}

/// All open fetch streams are of partitions with one leader, at that leader, and there are as few as may
/// be: as many as the broker has said, and one more for each leader.
fn are_by_leader(state: &mut State) -> Option<()> {
    let leaders = |open: &OpenFetch| {
        let partitions = &state.topics["orders"].partitions;
        let leaders = open.partitions.iter();
        let mut leaders: Vec<u32> = leaders
            .map(|it| partitions[it.partition as usize].leader)
            .collect();
        leaders.dedup();
        leaders
    };
    let mut open = state.open_fetches.iter().zip(&state.fetched_at);
    let fits = open.all(|(open, at)| leaders(open) == [*at]);
    let partitions = state.open_fetches.iter().map(|open| open.partitions.len());
    let is_whole = partitions.sum::<usize>() == state.topics["orders"].partitions.len();
    let streams = state.open_fetches.len();
    (fits && is_whole && streams <= state.fetch_streams as usize + 3).then_some(())
}

#[tokio::test]
async fn shared_streams_are_of_one_leader_each() {
    let cluster = Cluster::start(3).await;
    cluster.create_topic("orders", &[1, 2, 3, 1, 2, 3, 1, 2, 3]);
    let first = cluster.broker(1);
    first.state().fetch_streams = 2;
    for partition in 0..9 {
        first.append("orders", partition, ["a", "b"]);
    }
    let client = client(&cluster).await;
    // One that looks its partitions up, and one that is told of them by its group.
    for group in [None, Some("billing")] {
        let mut consumer = match group {
            None => consumer(&client, 0..9).await,
            Some(group) => {
                let consumer = client.consumer().group(group).topics(["orders"]);
                let consumer = consumer.build().await.unwrap();
                first.member(group, 0).await;
                let all: Vec<_> = (0..9).map(|partition| ("orders", partition)).collect();
                first.assign(group, 0, 2, &all);
                consumer
            }
        };
        first
            .until("streams are of one leader each", are_by_leader)
            .await;
        for _ in 0..18 {
            consumer.next().await.unwrap();
        }
        let moved = [2, 3, 1][usize::from(group.is_some())];
        cluster.lead("orders", 0, moved);
        first.append("orders", 0, ["c"]);
        let end = first.partition("orders", 0).end_offset;
        let record = consumer.next().await.unwrap();
        assert_eq!((record.partition, record.offset), (0, end - 1));
        first.until("they are again", are_by_leader).await;
        drop(consumer);
        first
            .until("nothing is fetched", |state| {
                state.open_fetches.is_empty().then_some(())
            })
            .await;
        // As it was, for the next one.
        cluster.lead("orders", 0, 1);
        for partition in 0..9 {
            let mut partition = first.partition("orders", partition);
            partition.batches.truncate(1);
            partition.end_offset = 2;
        }
    }
}

#[tokio::test]
async fn a_client_that_is_closed_is_closed_to_all_brokers() {
    let cluster = Cluster::start(2).await;
    cluster.create_topic("orders", &[2]);
    let client = client(&cluster).await;
    let producer = producer(&client).await;
    send(&producer, 0, 0..10).await;
    client.close();
    let record = ProduceRecord::new("too late");
    let refused = producer.send(record).await.unwrap().await.unwrap_err();
    assert!(
        matches!(refused, Error::Closed { what: "client" }),
        "{refused:?}"
    );
}
