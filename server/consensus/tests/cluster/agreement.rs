//! What nodes agree on while all goes well.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use millstream_consensus::{Limits, ProposeError, ReadError, Role};
use millstream_metadata::{Command, CommandError, Record};

use crate::harness::{CLUSTER, Cluster, status, topic, topic_name, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_node_agrees_with_itself() {
    let cluster = Cluster::formed(&[1]).await;
    cluster.propose(topic(1)).await.expect("a topic");
    let image = cluster.agree().await;
    assert_eq!(image.cluster_id(), Some(CLUSTER));
    assert!(image.topic(&topic_name(1)).is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_says_who_leads() {
    let cluster = Cluster::formed(&[1, 2, 3]).await;
    let leader = cluster.leader().await.status().node_id;
    for node in cluster.nodes() {
        if node.status().node_id == leader {
            continue;
        }
        status(&node, |status| status.leader == Some(leader)).await;
        let told = node.propose(topic(1)).await;
        assert!(
            matches!(told, Err(ProposeError::NotLeader { leader: Some(it) }) if it == leader),
            "{told:?}"
        );
        // It does not say by itself that something is refused.
        let formed = Command::FormCluster {
            cluster_id: CLUSTER,
        };
        let told = node.propose(formed).await;
        assert!(matches!(told, Err(ProposeError::NotLeader { .. })));
        let told = node.linearizable_read().await;
        let expected = ReadError::NotLeader {
            leader: Some(leader),
        };
        assert_eq!(told.expect_err("a follower"), expected);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_comes_as_what_it_is() {
    let cluster = Cluster::formed(&[1]).await;
    let leader = cluster.leader().await;
    assert!(matches!(
        leader.propose(topic(1)).await,
        Ok(Some(Record::TopicCreated { .. }))
    ));
    let refused = leader.propose(topic(1)).await;
    assert!(
        matches!(
            refused,
            Err(ProposeError::Rejected(CommandError::CreateTopic(_)))
        ),
        "{refused:?}"
    );
    let image = leader.image();
    let known = image.broker(1).expect("it has registered");
    let fence = Command::FenceBroker {
        broker_id: 1,
        start: known.start(),
    };
    assert!(matches!(leader.propose(fence.clone()).await, Ok(Some(_))));
    assert!(matches!(leader.propose(fence).await, Ok(None)));
}

/// Nobody gets what another has got, however many ask at once and of whomever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proposals_at_once_are_all_validated_against_what_came_before() {
    let cluster = Arc::new(Cluster::formed(&[1, 2, 3]).await);
    let asked = (0..30).map(|_| async {
        let record = cluster
            .propose(Command::AllocateProducerIds { count: 10 })
            .await;
        match record {
            Some(Record::ProducerIdsAllocated { first, count: 10 }) => first,
            other => panic!("{other:?}"),
        }
    });
    let mut firsts = within("all answers", join_all(asked)).await;
    firsts.sort_unstable();
    assert!(firsts.windows(2).all(|two| two[0] + 10 <= two[1]));
    let image = cluster.agree().await;
    assert!(firsts.iter().all(|first| *first < image.next_producer_id()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_nodes_agree_while_three_are_there() {
    let deadline = Duration::from_secs(2);
    let mut cluster = Cluster::with(&[1, 2, 3, 4, 5], Limits::default(), deadline).await;
    cluster.form(&[1, 2, 3, 4, 5]).await;
    cluster.kill(1, 1).await;
    let leader = cluster.leader().await.status().node_id;
    let other = [2, 3, 4, 5].into_iter().find(|it| *it != leader);
    cluster.kill(other.expect("a follower"), 2).await;
    cluster.propose(topic(1)).await.expect("a topic");
    let leader = cluster.leader().await;
    let leader_id = leader.status().node_id;
    let up: Vec<_> = cluster
        .nodes()
        .iter()
        .map(|it| it.status().node_id)
        .collect();
    drop(leader);
    for node_id in up.into_iter().filter(|it| *it != leader_id) {
        cluster.kill(node_id, 3).await;
    }
    let alone = cluster.node(leader_id);
    let told = alone.propose(topic(2)).await;
    assert!(
        matches!(
            told,
            Err(ProposeError::NoQuorum | ProposeError::NotLeader { .. })
        ),
        "{told:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_status_says_who_is_what() {
    let cluster = Cluster::formed(&[1, 2, 3]).await;
    cluster.agree().await;
    let leader = cluster.leader().await;
    let all_behind = |behind: Option<u64>| behind == Some(0);
    let known = status(&leader, |status| {
        status.behind.len() == 2 && status.behind.values().copied().all(all_behind)
    })
    .await;
    assert_eq!(
        (known.role, known.leader),
        (Role::Leader, Some(known.node_id))
    );
    assert_eq!((known.voters, known.learners), (vec![1, 2, 3], vec![]));
    assert_eq!(known.last_log_index, known.applied_index);
    assert!(known.term > 0 && known.stopped.is_none());
}
