//! Nodes that die, are parted from each other and come back.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use millstream_consensus::{Limits, NodeId, ProposeError, ReadError, Role, Stopped};
use millstream_metadata::{Command, Record};

use crate::harness::{Cluster, status, topic, topic_name, within};

async fn assert_topics(cluster: &Cluster, acknowledged: &BTreeSet<u64>) {
    let image = cluster.agree().await;
    for number in acknowledged {
        let name = topic_name(*number);
        assert!(image.topic(&name).is_some(), "{name} is lost");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_node_leads_when_the_leader_dies() {
    let mut cluster = Cluster::formed(&[1, 2, 3]).await;
    let mut acknowledged = BTreeSet::new();
    for round in 0..3 {
        cluster.propose(topic(round)).await;
        acknowledged.insert(round);
        let leader = cluster.leader().await.status().node_id;
        let died = Instant::now();
        cluster.kill(leader, round).await;
        let next = cluster.leader().await.status().node_id;
        assert_ne!(next, leader);
        println!(
            "node {next} leads {:?} after the death of {leader}",
            died.elapsed()
        );
        cluster.restart(leader).await;
        assert_topics(&cluster, &acknowledged).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_parted_says_nothing_and_follows_afterwards() {
    let deadline = Duration::from_secs(2);
    let cluster = Cluster::with(&[1, 2, 3], Limits::default(), deadline).await;
    cluster.form(&[1, 2, 3]).await;
    cluster.propose(topic(0)).await.expect("a topic");
    let old = cluster.leader().await;
    let old_id = old.status().node_id;
    cluster.net.isolate(old_id);
    // Neither that a change is made, nor that there is nothing to change.
    let told = old.propose(topic(1)).await;
    assert!(matches!(told, Err(ProposeError::NoQuorum)), "{told:?}");
    let told = old.propose(topic(0)).await;
    assert!(matches!(told, Err(ProposeError::NoQuorum)), "{told:?}");
    let told = old.linearizable_read().await;
    assert_eq!(told.expect_err("no quorum"), ReadError::NoQuorum);

    assert_ne!(cluster.leader().await.status().node_id, old_id);
    cluster.propose(topic(2)).await.expect("a topic");
    cluster.net.heal();
    status(&old, |status| status.role == Role::Follower).await;
    let image = cluster.agree().await;
    assert!(image.topic(&topic_name(2)).is_some());
    // What the old leader had appended alone was never decided.
    assert!(image.topic(&topic_name(1)).is_none());
}

/// A proposal that seemed to fail is decided later: in front of one that was validated without it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_decision_spoils_no_later_one() {
    let deadline = Duration::from_millis(100);
    let cluster = Cluster::with(&[1, 2, 3], Limits::default(), deadline).await;
    cluster.form(&[1, 2, 3]).await;
    let mut late = 0;
    while late < 3 {
        let leader = cluster.leader().await;
        let before = (leader.status().term, cluster.agree().await);
        cluster.net.isolate(leader.status().node_id);
        let ten = Command::AllocateProducerIds { count: 10 };
        let told = leader.propose(ten.clone()).await;
        assert!(matches!(told, Err(ProposeError::NoQuorum)), "{told:?}");
        cluster.net.heal();
        // At once, and so against the image that the first was validated against.
        let given = cluster.propose(ten).await;
        let Some(Record::ProducerIdsAllocated { first, .. }) = given else {
            panic!("{given:?}");
        };
        let image = cluster.agree().await;
        let start = before.1.next_producer_id();
        if leader.status().term == before.0 {
            late += 1;
            assert!(
                first >= start + 10,
                "{first} was given away from {start} on"
            );
        }
        assert!(image.next_producer_id() >= first + 10);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_come_back_with_what_was_acknowledged() {
    let mut cluster = Cluster::formed(&[1, 2, 3]).await;
    for number in 0..20 {
        cluster.propose(topic(number)).await.expect("a topic");
    }
    for node_id in [1, 2, 3] {
        cluster.kill(node_id, node_id).await;
    }
    for node_id in [1, 2, 3] {
        cluster.restart(node_id).await;
    }
    assert_topics(&cluster, &(0..20).collect()).await;
    cluster.propose(topic(20)).await.expect("a topic");
}

/// Whatever happens to a minority, at any moment: what was acknowledged stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_a_series_of_failures() {
    let limits = Limits {
        snapshot_every_entries: 20,
        kept_entries: 5,
        ..Limits::default()
    };
    let deadline = Duration::from_secs(1);
    let mut cluster = Cluster::with(&[1, 2, 3], limits, deadline).await;
    cluster.form(&[1, 2, 3]).await;
    cluster.net.lose_one_of(30);
    let mut acknowledged = BTreeSet::new();
    for round in 0..6u64 {
        let numbers = (round * 10)..(round * 10 + 10);
        let victim: NodeId = 1 + round % 3;
        for number in numbers {
            cluster.propose(topic(number)).await;
            acknowledged.insert(number);
            if number % 10 == 3 && round % 2 == 1 {
                cluster.net.isolate(victim);
            }
            if number % 10 == 3 && round % 2 == 0 {
                cluster.kill(victim, number).await;
            }
            if number % 10 == 8 && round % 2 == 0 {
                cluster.restart(victim).await;
            }
        }
        cluster.net.heal();
    }
    cluster.net.lose_one_of(0);
    assert_topics(&cluster, &acknowledged).await;
    for node in cluster.nodes() {
        assert!(node.status().snapshot_index.is_some());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_storage_fails_stops() {
    let cluster = Cluster::formed(&[1]).await;
    let node = cluster.leader().await;
    cluster.disks[&1].crash_at(0);
    let told = within("an answer", node.propose(topic(1))).await;
    assert!(matches!(told, Err(ProposeError::Stopped(_))), "{told:?}");
    let stopped = node.status_when(|status| status.role == Role::Stopped);
    let stopped = within("the end", stopped).await.expect("a status").stopped;
    let reason = stopped.expect("a reason").to_string();
    assert!(reason.contains("the power is gone"), "{reason}");
    let told = node.linearizable_read().await;
    assert!(matches!(told, Err(ReadError::Stopped(_))), "{told:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_closed_or_dropped_ends() {
    let cluster = Cluster::formed(&[1]).await;
    let node = cluster.leader().await;
    node.close().await;
    let told = node.propose(topic(1)).await;
    let closed = ReadError::Stopped(Stopped::Closed);
    assert!(
        matches!(told, Err(ProposeError::Stopped(Stopped::Closed))),
        "{told:?}"
    );
    assert_eq!(node.linearizable_read().await.expect_err("closed"), closed);
    assert_eq!(node.status().role, Role::Stopped);

    let cluster = Cluster::formed(&[1]).await;
    let mut watch = cluster.leader().await.watch();
    cluster.net.forget(1);
    within("the end", async { while watch.changed().await.is_ok() {} }).await;
}
