//! Producing to a broker that is not well.

use std::time::Duration;

use millstream::limits::MAX_BATCHES_IN_FLIGHT;
use millstream::{Error, ErrorCode, ProduceRecord, Producer};
use millstream_protocol::api::Request;
use millstream_protocol::batch::BatchHeader;

use crate::broker::{Broker, PATIENCE, error};

async fn producer(broker: &Broker) -> Producer {
    broker.create_topic("orders", 1);
    // Small batches, so that several are in flight.
    broker
        .client()
        .await
        .producer("orders")
        .batch_bytes(2_000)
        .build()
        .await
        .unwrap()
}

/// Sends records numbered from `first` and gives their deliveries' outcomes once all are settled.
async fn send_numbers(
    producer: &Producer,
    numbers: std::ops::Range<u32>,
) -> Vec<Result<u64, Error>> {
    let mut deliveries = Vec::new();
    for number in numbers {
        deliveries.push(
            producer
                .send(ProduceRecord::new(format!("{number:0100}")))
                .await
                .unwrap(),
        );
    }
    let mut outcomes = Vec::new();
    for delivery in deliveries {
        let outcome = tokio::time::timeout(PATIENCE, delivery)
            .await
            .expect("the delivery is settled");
        outcomes.push(outcome.map(|stored| stored.offset));
    }
    outcomes
}

fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|number| format!("{number:0100}")).collect()
}

#[tokio::test]
async fn lost_acknowledgements_lose_and_double_nothing() {
    let broker = Broker::start().await;
    let producer = producer(&broker).await;
    broker.faults(|faults| faults.die_after_appends = Some(7));
    let outcomes = send_numbers(&producer, 0..600).await;
    let stored: Vec<_> = outcomes.into_iter().map(Result::unwrap).collect();
    assert_eq!(stored, (0..600).collect::<Vec<_>>());
    let partition = broker.partition("orders", 0);
    assert_eq!(partition.values(), numbers(0..600));
    assert!(
        partition.duplicates > 0,
        "no batch was sent twice: nothing was tested"
    );
}

#[tokio::test]
async fn a_connection_that_dies_at_any_moment_loses_and_doubles_nothing() {
    let broker = Broker::start().await;
    let producer = producer(&broker).await;
    let sending = tokio::spawn(async move { send_numbers(&producer, 0..5000).await });
    let mut seen = 0;
    while !sending.is_finished() && seen < 4500 {
        seen = broker
            .until("more is stored", |state| {
                let end = state.topics["orders"].partitions[0].end_offset;
                (end >= (seen + 300).min(5000)).then_some(end)
            })
            .await;
        broker.kill_connections();
    }
    let outcomes = sending.await.unwrap();
    assert!(outcomes.iter().all(Result::is_ok));
    assert_eq!(broker.partition("orders", 0).values(), numbers(0..5000));
    assert!(
        broker.state().hello_count > 3,
        "the connection was hardly lost"
    );
}

#[tokio::test]
async fn a_broker_that_is_down_for_a_while_gets_everything_in_order() {
    let broker = Broker::start().await;
    let producer = producer(&broker).await;
    send_numbers(&producer, 0..100).await;
    broker.stop();
    let sending = tokio::spawn(async move { send_numbers(&producer, 100..300).await });
    tokio::task::yield_now().await;
    broker.come_back();
    assert!(sending.await.unwrap().iter().all(Result::is_ok));
    assert_eq!(broker.partition("orders", 0).values(), numbers(0..300));
}

#[tokio::test]
async fn refusals_that_may_pass_are_overcome() {
    let broker = Broker::start().await;
    let producer = producer(&broker).await;
    broker.faults(|faults| {
        let busy = [
            ErrorCode::NotReady,
            ErrorCode::StorageFull,
            ErrorCode::NotLeader,
        ];
        faults
            .refuse_batches
            .extend(busy.map(|code| error(code, "not now")));
        faults
            .refuse_produce
            .extend(busy.map(|code| error(code, "not now")));
    });
    assert!(
        send_numbers(&producer, 0..200)
            .await
            .iter()
            .all(Result::is_ok)
    );
    assert_eq!(broker.partition("orders", 0).values(), numbers(0..200));
}

#[tokio::test]
async fn a_refused_batch_fails_alone() {
    let broker = Broker::start().await;
    let producer = producer(&broker).await;
    broker.faults(|faults| {
        faults
            .refuse_batches
            .push_back(error(ErrorCode::InvalidRequest, "records need a key"))
    });
    let outcomes = send_numbers(&producer, 0..200).await;
    let failed: Vec<_> = outcomes
        .iter()
        .filter_map(|outcome| outcome.as_ref().err())
        .collect();
    assert!(
        failed
            .iter()
            .all(|error| error.code() == Some(ErrorCode::InvalidRequest))
    );
    assert!(
        !failed.is_empty() && failed.len() <= 20,
        "{} failed",
        failed.len()
    );
    // Those behind it were stored, in order, under a new identity.
    let stored = broker.partition("orders", 0).values();
    assert_eq!(stored, numbers(failed.len() as u32..200));
    let flushed = producer.flush().await;
    assert_eq!(
        flushed.unwrap_err().code(),
        Some(ErrorCode::InvalidRequest),
        "also told by the flush"
    );
    producer.flush().await.expect("but told once");
}

#[tokio::test]
async fn refusals_in_a_row_fail_one_batch_each() {
    let broker = Broker::start().await;
    let producer = producer(&broker).await;
    let refusals = (0..3).map(|_| error(ErrorCode::InvalidRequest, "records need a key"));
    broker.faults(|faults| faults.refuse_batches.extend(refusals));
    let outcomes = send_numbers(&producer, 0..200).await;
    let failed = outcomes.iter().filter(|outcome| outcome.is_err()).count();
    assert!((3..=60).contains(&failed), "{failed} failed");
    assert_eq!(
        broker.partition("orders", 0).values(),
        numbers(failed as u32..200)
    );
}

#[tokio::test]
async fn a_forgotten_producer_takes_a_new_identity() {
    let broker = Broker::start().await;
    let producer = producer(&broker).await;
    assert!(
        send_numbers(&producer, 0..100)
            .await
            .iter()
            .all(Result::is_ok)
    );
    broker.partition("orders", 0).producers.clear();
    assert!(
        send_numbers(&producer, 100..300)
            .await
            .iter()
            .all(Result::is_ok)
    );
    let partition = broker.partition("orders", 0);
    assert_eq!(partition.values(), numbers(0..300));
    let last = BatchHeader::parse(partition.batches.last().unwrap()).unwrap();
    assert_eq!(last.producer.unwrap().producer_id, 2);
}

#[tokio::test]
async fn a_gap_in_the_sequence_fails_one_batch_and_starts_anew() {
    let broker = Broker::start().await;
    let producer = producer(&broker).await;
    assert!(
        send_numbers(&producer, 0..10)
            .await
            .iter()
            .all(Result::is_ok)
    );
    // The broker has lost what it acknowledged.
    let mut partition = broker.partition("orders", 0);
    partition
        .producers
        .values_mut()
        .for_each(|batches| batches.back_mut().unwrap().1 -= 1);
    drop(partition);
    let outcomes = send_numbers(&producer, 10..11).await;
    assert_eq!(
        outcomes[0].as_ref().unwrap_err().code(),
        Some(ErrorCode::OutOfOrderSequence)
    );
    assert!(
        send_numbers(&producer, 11..20)
            .await
            .iter()
            .all(Result::is_ok)
    );
}

#[tokio::test]
async fn a_deleted_topic_fails_what_is_sent() {
    let broker = Broker::start().await;
    let producer = producer(&broker).await;
    assert!(
        send_numbers(&producer, 0..10)
            .await
            .iter()
            .all(Result::is_ok)
    );
    broker.state().topics.clear();
    let outcomes = send_numbers(&producer, 10..20).await;
    assert!(
        outcomes
            .iter()
            .all(|outcome| outcome.as_ref().unwrap_err().code() == Some(ErrorCode::UnknownTopic))
    );
    // Another topic of the same name is not the one the producer was made for.
    broker.create_topic("orders", 1);
    let outcomes = send_numbers(&producer, 20..21).await;
    assert_eq!(
        outcomes[0].as_ref().unwrap_err().code(),
        Some(ErrorCode::UnknownTopic)
    );
}

#[tokio::test]
async fn what_is_not_acknowledged_in_time_fails() {
    let broker = Broker::start().await;
    broker.create_topic("orders", 1);
    broker.faults(|faults| faults.silent = true);
    let client = broker.client().await;
    let producer = client
        .producer("orders")
        .delivery_timeout(Duration::from_millis(100))
        .build()
        .await
        .unwrap();
    let outcomes = send_numbers(&producer, 0..10).await;
    assert!(
        outcomes
            .iter()
            .all(|outcome| matches!(outcome, Err(Error::Timeout { .. }))),
        "{outcomes:?}"
    );
    assert_eq!(producer.buffered_bytes(), 0);
    assert_eq!(producer.acknowledged_records(), 0);

    // What comes later goes on under a new identity: nobody knows how far the old one came.
    broker.faults(|faults| faults.silent = false);
    assert!(
        send_numbers(&producer, 10..20)
            .await
            .iter()
            .all(Result::is_ok)
    );
    assert_eq!(producer.acknowledged_records(), 10);
    let last = broker
        .partition("orders", 0)
        .batches
        .last()
        .cloned()
        .unwrap();
    assert_eq!(
        BatchHeader::parse(&last)
            .unwrap()
            .producer
            .unwrap()
            .producer_id,
        2
    );
}

#[tokio::test]
async fn what_cannot_be_sent_in_time_fails() {
    let broker = Broker::start().await;
    broker.create_topic("orders", 1);
    let client = broker.client().await;
    let producer = client
        .producer("orders")
        .delivery_timeout(Duration::from_millis(100))
        .build()
        .await
        .unwrap();
    broker.stop();
    let outcomes = send_numbers(&producer, 0..10).await;
    assert!(
        outcomes
            .iter()
            .all(|outcome| matches!(outcome, Err(Error::Timeout { .. }))),
        "{outcomes:?}"
    );
}

#[tokio::test]
async fn a_closed_client_fails_its_producers() {
    let broker = Broker::start().await;
    broker.create_topic("orders", 1);
    let client = broker.client().await;
    let producer = client.producer("orders").build().await.unwrap();
    client.close();
    let outcomes = send_numbers(&producer, 0..3).await;
    assert!(
        outcomes
            .iter()
            .all(|outcome| matches!(outcome, Err(Error::Closed { what: "client" }))),
        "{outcomes:?}"
    );
}

#[tokio::test]
async fn so_many_batches_are_in_flight_and_no_more() {
    let broker = Broker::start().await;
    let producer = producer(&broker).await;
    broker.faults(|faults| faults.silent = true);
    for number in 0..500 {
        producer
            .send(ProduceRecord::new(format!("{number:0100}")))
            .await
            .unwrap();
    }
    broker
        .until("the first batches have come", |state| {
            (state.faults.appends == MAX_BATCHES_IN_FLIGHT as u64).then_some(())
        })
        .await;
    // A round trip behind them: nothing more was on its way.
    broker
        .client()
        .await
        .admin()
        .describe_broker()
        .await
        .unwrap();
    assert_eq!(broker.state().faults.appends, MAX_BATCHES_IN_FLIGHT as u64);
    broker.faults(|faults| faults.silent = false);
    broker.kill_connections();
    producer.flush().await.unwrap();
    assert_eq!(broker.partition("orders", 0).values(), numbers(0..500));
    assert_eq!(
        broker
            .state()
            .count(|request| matches!(request, Request::InitProducer(_))),
        1
    );
}
