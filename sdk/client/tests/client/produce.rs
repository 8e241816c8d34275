//! Producing to a broker that is well.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::FutureExt;
use millstream::{Compression, Error, Partitioner, ProduceRecord, TrySendError, limits};
use millstream_protocol::batch::{BatchHeader, RecordBatch};

use crate::broker::{Broker, PATIENCE, offsets};

/// A linger that no test waits out.
const FOR_EVER: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn records_get_their_offsets_in_order() {
    let broker = Broker::start().await;
    broker.create_topic("orders", 1);
    let producer = broker
        .client()
        .await
        .producer("orders")
        .build()
        .await
        .unwrap();
    let mut deliveries = Vec::new();
    for number in 0..1000 {
        deliveries.push(
            producer
                .send(ProduceRecord::new(format!("{number}")))
                .await
                .unwrap(),
        );
    }
    let mut stored = Vec::new();
    for delivery in deliveries {
        stored.push(delivery.await.unwrap().offset);
    }
    assert_eq!(stored, offsets(1000));
    let expected: Vec<_> = (0..1000).map(|number| number.to_string()).collect();
    assert_eq!(broker.partition("orders", 0).values(), expected);
}

#[tokio::test]
async fn a_record_arrives_as_it_was_made() {
    let broker = Broker::start().await;
    broker.create_topic("orders", 2);
    let producer = broker
        .client()
        .await
        .producer("orders")
        .build()
        .await
        .unwrap();
    let record = ProduceRecord::new("value")
        .key("key")
        .header("trace", "1")
        .timestamp_ms(77)
        .partition(1);
    let stored = producer.send(record).await.unwrap().await.unwrap();
    assert_eq!(
        (stored.partition, stored.offset, stored.timestamp_ms),
        (1, 0, 77)
    );
    producer
        .send(ProduceRecord::tombstone("key").partition(1))
        .await
        .unwrap()
        .await
        .unwrap();

    let batches = broker.partition("orders", 1).batches.clone();
    let records: Vec<_> = batches
        .into_iter()
        .flat_map(|batch| {
            RecordBatch::parse(batch)
                .unwrap()
                .records()
                .unwrap()
                .into_owned()
        })
        .map(|record| record.unwrap().1)
        .collect();
    assert_eq!(records[0].key.as_deref(), Some(&b"key"[..]));
    assert_eq!(records[0].value.as_deref(), Some(&b"value"[..]));
    assert_eq!(records[0].headers[0].name, "trace");
    assert_eq!(records[0].timestamp_ms, 77);
    assert_eq!(
        (records[1].key.as_deref(), &records[1].value),
        (Some(&b"key"[..]), &None)
    );
}

#[tokio::test]
async fn a_lingering_batch_takes_all_there_is() {
    let broker = Broker::start().await;
    broker.create_topic("orders", 1);
    let producer = broker
        .client()
        .await
        .producer("orders")
        .linger(FOR_EVER)
        .build()
        .await
        .unwrap();
    for number in 0..100 {
        producer
            .send(ProduceRecord::new(format!("{number}")))
            .await
            .unwrap();
    }
    assert!(broker.partition("orders", 0).batches.is_empty());
    producer.flush().await.unwrap();
    assert_eq!(broker.partition("orders", 0).batches.len(), 1);
    assert_eq!(broker.partition("orders", 0).end_offset, 100);
}

#[tokio::test]
async fn a_linger_ends() {
    let broker = Broker::start().await;
    broker.create_topic("orders", 1);
    let producer = broker
        .client()
        .await
        .producer("orders")
        .linger(Duration::from_millis(20))
        .build()
        .await
        .unwrap();
    let delivery = producer.send(ProduceRecord::new("patient")).await.unwrap();
    assert_eq!(delivery.await.unwrap().offset, 0);
}

#[tokio::test]
async fn a_full_batch_does_not_linger() {
    let broker = Broker::start().await;
    broker.create_topic("orders", 1);
    let producer = broker
        .client()
        .await
        .producer("orders")
        .linger(FOR_EVER)
        .batch_bytes(10_000)
        .build()
        .await
        .unwrap();
    // Eight fit into a batch; the ninth closes it.
    let mut first = None;
    for _ in 0..9 {
        let delivery = producer.send(ProduceRecord::new(&[7; 1100])).await.unwrap();
        first.get_or_insert(delivery);
    }
    assert_eq!(first.unwrap().await.unwrap().offset, 0);
    assert_eq!(broker.partition("orders", 0).end_offset, 8);
}

#[tokio::test]
async fn batches_keep_their_size_and_larger_records_go_alone() {
    let broker = Broker::start().await;
    broker.create_topic("orders", 1);
    let producer = broker
        .client()
        .await
        .producer("orders")
        .batch_bytes(10_000)
        .build()
        .await
        .unwrap();
    for number in 0..500 {
        producer
            .send(ProduceRecord::new(vec![1; 1 + number]))
            .await
            .unwrap();
    }
    producer
        .send(ProduceRecord::new(vec![2; 100_000]))
        .await
        .unwrap();
    producer
        .send(ProduceRecord::new("small again"))
        .await
        .unwrap();
    producer.flush().await.unwrap();
    let batches = broker.partition("orders", 0).batches.clone();
    let large: Vec<_> = batches
        .iter()
        .filter(|batch| batch.len() > 10_000)
        .collect();
    assert_eq!(large.len(), 1);
    assert_eq!(BatchHeader::parse(large[0]).unwrap().record_count, 1);
    assert_eq!(broker.partition("orders", 0).end_offset, 502);
}

#[tokio::test]
async fn a_record_beyond_the_topics_limit_is_refused_here() {
    let broker = Broker::start().await;
    broker.create_topic("orders", 1);
    broker
        .state()
        .topics
        .get_mut("orders")
        .unwrap()
        .config
        .max_batch_bytes = 5_000;
    let producer = broker
        .client()
        .await
        .producer("orders")
        .build()
        .await
        .unwrap();
    let refused = producer
        .send(ProduceRecord::new(vec![0; 6_000]))
        .await
        .unwrap_err();
    assert!(
        matches!(refused, Error::RecordTooLarge { limit: 5_000, .. }),
        "{refused:?}"
    );
    assert_eq!(
        producer.buffered_bytes(),
        0,
        "what is refused holds nothing"
    );
    producer
        .send(ProduceRecord::new(vec![0; 4_000]))
        .await
        .unwrap()
        .await
        .unwrap();
}

#[tokio::test]
async fn keys_stay_together_and_the_rest_goes_round() {
    let broker = Broker::start().await;
    broker.create_topic("orders", 4);
    let producer = broker
        .client()
        .await
        .producer("orders")
        .linger(FOR_EVER)
        .build()
        .await
        .unwrap();
    let mut partitions = BTreeSet::new();
    for _ in 0..5 {
        partitions.insert(
            producer
                .send(ProduceRecord::new("v").key("customer-7"))
                .await
                .unwrap()
                .partition(),
        );
    }
    assert_eq!(partitions.len(), 1);

    let mut turns = Vec::new();
    for _ in 0..4 {
        // Both go into one batch, which the flush closes.
        let first = producer
            .send(ProduceRecord::new("v"))
            .await
            .unwrap()
            .partition();
        assert_eq!(
            producer
                .send(ProduceRecord::new("v"))
                .await
                .unwrap()
                .partition(),
            first
        );
        producer.flush().await.unwrap();
        turns.push(first);
    }
    assert_eq!(turns.iter().collect::<BTreeSet<_>>().len(), 4, "{turns:?}");
}

#[tokio::test]
async fn a_partitioner_out_of_bounds_is_refused() {
    let broker = Broker::start().await;
    broker.create_topic("orders", 2);
    let wild = Partitioner::custom(|_, partitions| partitions);
    let producer = broker
        .client()
        .await
        .producer("orders")
        .partitioner(wild)
        .build()
        .await
        .unwrap();
    let refused = producer.send(ProduceRecord::new("v")).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "topic orders has no partition 2: it has 2"
    );
    assert_eq!(
        producer
            .send(ProduceRecord::new("v").partition(1))
            .await
            .unwrap()
            .partition(),
        1
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_are_compressed() {
    let broker = Broker::start().await;
    broker.create_topic("orders", 1);
    for compression in [Compression::Lz4, Compression::Zstd] {
        let producer = broker
            .client()
            .await
            .producer("orders")
            .compression(compression)
            .linger(FOR_EVER)
            .build()
            .await
            .unwrap();
        for _ in 0..2000 {
            producer
                .send(ProduceRecord::new(
                    "the same words over and over again, as logs do",
                ))
                .await
                .unwrap();
        }
        producer.close().await.unwrap();
        let partition = broker.partition("orders", 0);
        let last = partition.batches.last().unwrap();
        assert_eq!(BatchHeader::parse(last).unwrap().compression, compression);
        assert!(last.len() < 20_000, "{} bytes", last.len());
    }
    assert_eq!(broker.partition("orders", 0).values().len(), 4000);
    let read_only = broker
        .client()
        .await
        .producer("orders")
        .compression(Compression::Gzip)
        .build()
        .await;
    assert!(matches!(read_only, Err(Error::InvalidArgument(_))));
}

#[tokio::test]
async fn a_deaf_broker_holds_the_sender_back_within_the_bound() {
    const BOUND: usize = 256 * 1024;
    let broker = Broker::start().await;
    broker.create_topic("orders", 3);
    broker.faults(|faults| faults.deaf = true);
    let producer = broker
        .client()
        .await
        .producer("orders")
        .max_in_flight_bytes(BOUND)
        .batch_bytes(10_000)
        .build()
        .await
        .unwrap();
    let mut accepted = 0;
    let full = loop {
        match producer.try_send(&ProduceRecord::new(&[1; 1000])) {
            Ok(_) => accepted += 1,
            Err(error) => break error,
        }
        assert!(producer.buffered_bytes() <= BOUND);
    };
    assert!(matches!(full, TrySendError::Full));
    // What the steps of the reservation leave unused in the open batches.
    assert!(
        accepted * 1000 > BOUND / 2 && accepted * 1000 < BOUND,
        "{accepted}"
    );

    let mut waiting = Box::pin(producer.send(ProduceRecord::new(&[2; 1000])));
    assert!((&mut waiting).now_or_never().is_none(), "there is no room");
    broker.faults(|faults| faults.deaf = false);
    tokio::time::timeout(PATIENCE, waiting)
        .await
        .unwrap()
        .unwrap()
        .await
        .unwrap();
    producer.flush().await.unwrap();
    assert_eq!(producer.buffered_bytes(), 0, "everything is given back");
    let stored: u64 = (0..3)
        .map(|partition| broker.partition("orders", partition).end_offset)
        .sum();
    assert_eq!(stored, accepted as u64 + 1);
}

#[tokio::test]
async fn what_lingers_makes_room_for_those_who_wait() {
    let broker = Broker::start().await;
    broker.create_topic("orders", 8);
    let producer = broker
        .client()
        .await
        .producer("orders")
        .linger(FOR_EVER)
        .max_in_flight_bytes(limits::MIN_IN_FLIGHT_BYTES)
        .build()
        .await
        .unwrap();
    for number in 0..400_u32 {
        let record = ProduceRecord::new(&[0; 1000]).partition(number % 8);
        tokio::time::timeout(PATIENCE, producer.send(record))
            .await
            .unwrap()
            .unwrap();
    }
    producer.close().await.unwrap();
    let stored: u64 = (0..8)
        .map(|partition| broker.partition("orders", partition).end_offset)
        .sum();
    assert_eq!(stored, 400);
}

#[tokio::test]
async fn a_send_that_is_abandoned_sends_nothing() {
    let broker = Broker::start().await;
    broker.create_topic("orders", 1);
    broker.faults(|faults| faults.deaf = true);
    let client = broker.client().await;
    let producer = client
        .producer("orders")
        .max_in_flight_bytes(limits::MIN_IN_FLIGHT_BYTES)
        .build()
        .await
        .unwrap();
    while producer.try_send(&ProduceRecord::new(&[1; 1000])).is_ok() {}
    {
        let mut abandoned = Box::pin(producer.send(ProduceRecord::new("abandoned".repeat(100))));
        assert!((&mut abandoned).now_or_never().is_none());
    }
    broker.faults(|faults| faults.deaf = false);
    producer.flush().await.unwrap();
    assert_eq!(producer.buffered_bytes(), 0);
    assert!(
        !broker
            .partition("orders", 0)
            .values()
            .iter()
            .any(|value| value.contains("abandoned"))
    );
}

#[tokio::test]
async fn a_closed_producer_has_sent_everything_and_takes_nothing() {
    let broker = Broker::start().await;
    broker.create_topic("orders", 2);
    let producer = broker
        .client()
        .await
        .producer("orders")
        .linger(FOR_EVER)
        .build()
        .await
        .unwrap();
    let other = producer.clone();
    for _ in 0..10 {
        producer
            .send(ProduceRecord::new("v").partition(1))
            .await
            .unwrap();
    }
    producer.close().await.unwrap();
    assert_eq!(broker.partition("orders", 1).end_offset, 10);
    assert!(matches!(
        other.send(ProduceRecord::new("late")).await,
        Err(Error::Closed { what: "producer" })
    ));
    broker
        .until("the stream is closed", |state| {
            (state.produce_streams == 0).then_some(())
        })
        .await;
}

#[tokio::test]
async fn a_dropped_producer_still_sends_what_it_has() {
    let broker = Broker::start().await;
    broker.create_topic("orders", 1);
    let producer = broker
        .client()
        .await
        .producer("orders")
        .linger(FOR_EVER)
        .build()
        .await
        .unwrap();
    producer.send(ProduceRecord::new("v")).await.unwrap();
    drop(producer);
    broker
        .until("the record is there", |state| {
            (state.topics["orders"].partitions[0].end_offset == 1).then_some(())
        })
        .await;
}

#[tokio::test]
async fn more_partitions_than_streams_take_turns() {
    let broker = Broker::start().await;
    let partitions = limits::PRODUCE_STREAMS_PER_CONNECTION as u32 + 50;
    broker.create_topic("wide", partitions);
    let producer = broker
        .client()
        .await
        .producer("wide")
        .build()
        .await
        .unwrap();
    for round in 0..2 {
        for partition in 0..partitions {
            producer
                .send(ProduceRecord::new(format!("{round}")).partition(partition))
                .await
                .unwrap();
        }
    }
    tokio::time::timeout(PATIENCE, producer.flush())
        .await
        .unwrap()
        .unwrap();
    let state = broker.state();
    assert!(
        state.topics["wide"]
            .partitions
            .iter()
            .all(|partition| partition.end_offset == 2)
    );
    assert!(state.max_produce_streams <= limits::PRODUCE_STREAMS_PER_CONNECTION);
}

#[tokio::test]
async fn new_partitions_are_found() {
    let broker = Broker::start().await;
    broker.create_topic("orders", 1);
    let client = broker.client().await;
    let producer = client
        .producer("orders")
        .topic_refresh(Duration::from_millis(5))
        .build()
        .await
        .unwrap();
    assert!(
        producer
            .send(ProduceRecord::new("v").partition(2))
            .await
            .is_err()
    );
    client
        .admin()
        .alter_topic("orders")
        .partitions(3)
        .await
        .unwrap();
    let sent = async {
        loop {
            match producer.send(ProduceRecord::new("v").partition(2)).await {
                Ok(delivery) => break delivery.await.unwrap(),
                Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    assert_eq!(
        tokio::time::timeout(PATIENCE, sent)
            .await
            .unwrap()
            .partition,
        2
    );
    assert_eq!(producer.partitions(), 3);
}

#[tokio::test]
async fn settings_that_make_no_sense_are_refused() {
    let broker = Broker::start().await;
    broker.create_topic("orders", 1);
    let client = broker.client().await;
    let wrong = [
        client.producer("orders").batch_bytes(0),
        client.producer("orders").max_in_flight_bytes(1),
        client.producer("orders").delivery_timeout(Duration::ZERO),
    ];
    for builder in wrong {
        assert!(matches!(
            builder.build().await,
            Err(Error::InvalidArgument(_))
        ));
    }
}

#[tokio::test]
async fn a_batch_fills_while_another_is_on_its_way() {
    let broker = Broker::start().await;
    broker.create_topic("orders", 1);
    broker.faults(|faults| faults.deaf = true);
    let producer = broker
        .client()
        .await
        .producer("orders")
        .build()
        .await
        .unwrap();
    producer.send(ProduceRecord::new("first")).await.unwrap();
    broker
        .until("the stream is open", |state| {
            (state.produce_streams == 1).then_some(())
        })
        .await;
    for number in 0..200 {
        producer
            .send(ProduceRecord::new(format!("{number}")))
            .await
            .unwrap();
        tokio::task::yield_now().await;
    }
    broker.faults(|faults| faults.deaf = false);
    producer.flush().await.unwrap();
    let partition = broker.partition("orders", 0);
    assert_eq!(partition.end_offset, 201);
    // The first record, and all that came while it was on its way.
    assert!(
        partition.batches.len() <= 2,
        "{} batches",
        partition.batches.len()
    );
}
