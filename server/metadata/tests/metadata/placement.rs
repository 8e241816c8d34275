//! Where new partitions go.

use std::collections::BTreeMap;

use millstream_metadata::placement::place;
use millstream_metadata::{Command, Partition};
use millstream_protocol::ErrorCode;
use millstream_protocol::api::topic::{CreateTopic, TopicConfig};
use proptest::prelude::*;

use super::cluster::{Cluster, at, create, reassign, topic};

/// `brokers` of each partition, in a line.
fn check(cluster: &Cluster, count: u32, factor: u8, expected: &str) {
    let placed = place(&cluster.image, count, factor).unwrap();
    let brokers: Vec<_> = placed.iter().map(Partition::brokers).collect();
    assert_eq!(format!("{brokers:?}"), expected);
}

#[test]
fn replicas_go_to_other_racks_first_and_to_the_least_loaded_second() {
    let cluster = Cluster::with_brokers(3);
    check(
        &cluster,
        4,
        3,
        "[[1, 2, 3], [2, 3, 1], [3, 1, 2], [1, 2, 3]]",
    );
    check(&cluster, 3, 2, "[[1, 2], [3, 1], [2, 3]]");
    let cluster = Cluster::with_racks(&["a", "a", "a", "b"]);
    check(&cluster, 4, 2, "[[1, 4], [2, 4], [3, 4], [4, 1]]");
    let cluster = Cluster::with_racks(&["a", "a", "b", "b", "c", "c"]);
    check(&cluster, 2, 3, "[[1, 3, 5], [2, 4, 6]]");
    check(&cluster, 1, 5, "[[1, 3, 5, 2, 4]]");
}

#[test]
fn what_is_there_counts() {
    let mut cluster = Cluster::with_brokers(4);
    cluster.create_replicated("old", 2, 2);
    check(&cluster, 1, 2, "[[2, 3]]");
    cluster.fence(3);
    check(&cluster, 1, 3, "[[2, 4, 1]]");
    cluster.run(Command::DrainBroker { broker_id: 4 });
    check(&cluster, 1, 2, "[[2, 1]]");
}

#[test]
fn the_least_loaded_goes_before_the_next_in_order() {
    let mut cluster = Cluster::with_brokers(3);
    let partition = at(cluster.create("old", 1), 0);
    // It still leads what it will not keep.
    cluster.run(reassign(partition, &[3]));
    check(&cluster, 1, 2, "[[2, 1]]");
    cluster.run(Command::FinaliseReassignment {
        partition,
        epoch: 1,
        version: 2,
    });
    check(&cluster, 1, 2, "[[1, 2]]");
}

#[test]
fn too_few_brokers_are_told_by_their_number() {
    let mut cluster = Cluster::with_brokers(3);
    let topic = |factor| {
        let config = TopicConfig {
            replication_factor: factor,
            ..TopicConfig::default()
        };
        let topic = CreateTopic {
            config,
            ..topic("orders", 1)
        };
        create(millstream_protocol::TopicId(uuid::Uuid::max()), topic)
    };
    let says = |factor, live, known| {
        format!(
            "a partition with replication factor {factor} has no place: {live} of {known} brokers take \
             replicas now; start more, or ask for fewer replicas"
        )
    };
    // Waiting does not help where there are not as many.
    cluster.refused(topic(5), ErrorCode::InvalidRequest, &says(5, 3, 3));
    cluster.fence(1);
    cluster.refused(topic(3), ErrorCode::NotReady, &says(3, 2, 3));
    cluster.run(Command::DrainBroker { broker_id: 1 });
    cluster.refused(topic(3), ErrorCode::InvalidRequest, &says(3, 2, 2));
    cluster.run(topic(2));
}

/// How many times each occurs.
fn counts<T: Ord>(items: impl IntoIterator<Item = T>) -> BTreeMap<T, usize> {
    let mut counts = BTreeMap::new();
    for item in items {
        *counts.entry(item).or_default() += 1;
    }
    counts
}

/// How many replicas of a partition the fullest racks have, at the best: one more in each rack in
/// turn, as long as it has a broker left.
fn best_spread(racks: &BTreeMap<&str, usize>, factor: usize) -> Vec<usize> {
    let mut spread = vec![0; racks.len()];
    for _ in 0..factor {
        let free = spread.iter().zip(racks.values()).enumerate();
        let free = free.filter(|(_, (used, room))| used < room);
        let (least, _) = free.min_by_key(|(_, (used, _))| **used).unwrap();
        spread[least] += 1;
    }
    spread.retain(|used| *used > 0);
    spread.sort_unstable();
    spread
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..Default::default() })]

    #[test]
    fn a_fresh_cluster_is_filled_evenly(
        racks in prop::collection::vec(prop::sample::select(&["a", "b", "c", "d", "e"][..]), 1..12),
        count in 1u32..80,
        factor in prop::sample::select(&[1u8, 2, 3, 5][..]),
    ) {
        let cluster = Cluster::with_racks(&racks);
        let Ok(placed) = place(&cluster.image, count, factor) else {
            prop_assert!(racks.len() < factor.into());
            return Ok(());
        };
        prop_assert_eq!(placed.len(), count as usize);
        let brokers_in = counts(racks.iter().copied());
        let rack_of = |broker_id: u32| racks[broker_id as usize - 1];
        let mut directories = Vec::new();
        for partition in &placed {
            let brokers = partition.brokers();
            prop_assert_eq!(brokers.len(), usize::from(factor));
            prop_assert_eq!(partition.leader, brokers[0]);
            prop_assert!(counts(&brokers).values().all(|it| *it == 1), "{:?}", brokers);
            let mut spread: Vec<_> = counts(brokers.iter().map(|it| rack_of(*it))).into_values().collect();
            spread.sort_unstable();
            prop_assert_eq!(&spread, &best_spread(&brokers_in, factor.into()), "{:?}", brokers);
            directories.extend(partition.replicas.iter().map(|it| it.directory));
        }
        prop_assert!(directories.is_sorted_by(|a, b| a < b), "no number twice");
        let led = counts(placed.iter().map(|it| it.leader));
        let least = if led.len() < racks.len() { 0 } else { *led.values().min().unwrap() };
        prop_assert!(*led.values().max().unwrap() <= least + 1, "{:?}", led);
        // Where racks do not bind, replicas are even as well.
        if brokers_in.len() == 1 {
            let kept = counts(placed.iter().flat_map(Partition::brokers));
            let least = if kept.len() < racks.len() { 0 } else { *kept.values().min().unwrap() };
            prop_assert!(*kept.values().max().unwrap() <= least + 2, "{:?}", kept);
        }
        prop_assert_eq!(place(&cluster.image, count, factor), Ok(placed), "the same again");
    }
}
