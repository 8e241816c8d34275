//! Nodes that come and go.

use std::collections::BTreeSet;
use std::time::Duration;

use millstream_consensus::{InitializeError, Limits, MembersError, ReadError, Role, Status};

use crate::harness::{Cluster, deployment, status, topic, topic_name};

/// Snapshots early, and no entries behind them.
fn snapshots() -> Limits {
    Limits {
        snapshot_every_entries: 10,
        kept_entries: 0,
        ..Limits::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_node_gets_a_snapshot_and_a_vote() {
    let mut cluster = Cluster::with(&[1], snapshots(), Duration::from_secs(5)).await;
    cluster.form(&[1]).await;
    for number in 0..30 {
        cluster.propose(topic(number)).await.expect("a topic");
    }
    let leader = cluster.leader().await;
    status(&leader, |status| status.snapshot_index.is_some()).await;
    for node_id in [2, 3] {
        let told = leader.change_voters([1, 2, 3].into()).await;
        assert!(
            matches!(told, Err(MembersError::NotReady { .. })),
            "{told:?}"
        );
        cluster.add_disk(node_id);
        cluster.restart(node_id).await;
        leader.add_learner(node_id).await.expect("a learner");
        leader.add_learner(node_id).await.expect("nothing to do");
        let learner = cluster.node(node_id);
        let known = status(&learner, |status| status.snapshot_index.is_some()).await;
        assert_eq!(known.role, Role::Learner);
    }
    let told = leader.change_voters([2].into()).await;
    assert_eq!(told, Err(MembersError::OnlyVoter { node_id: 1 }));
    let image = cluster.agree().await;
    assert!(image.topic(&topic_name(29)).is_some());
    status(&leader, |status| {
        status.behind.values().all(|it| *it == Some(0))
    })
    .await;
    leader
        .change_voters([1, 2, 3].into())
        .await
        .expect("more voters");
    drop(leader);
    cluster.kill(1, 1).await;
    cluster.propose(topic(30)).await.expect("a topic");
    // It comes back behind the others' snapshots.
    for number in 31..60 {
        cluster.propose(topic(number)).await.expect("a topic");
    }
    cluster.restart(1).await;
    let image = cluster.agree().await;
    assert!(image.topic(&topic_name(59)).is_some());
    assert_eq!(cluster.leader().await.status().voters, [1, 2, 3]);
}

/// What is longer than a message goes in several: as entries, and as a snapshot.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn much_comes_in_pieces() {
    for limits in [Limits::default(), snapshots()] {
        let mut cluster = Cluster::with(&[1], limits, Duration::from_secs(5)).await;
        cluster.form(&[1]).await;
        cluster.propose(topic(0)).await.expect("a topic");
        for number in 0..40 {
            let deployed = cluster.propose(deployment(number, 60_000)).await;
            deployed.expect("a deployment");
        }
        let leader = cluster.leader().await;
        let early = limits == snapshots();
        status(&leader, |it| it.snapshot_index.is_some() == early).await;
        cluster.add_disk(2);
        cluster.restart(2).await;
        leader.add_learner(2).await.expect("a learner");
        assert_eq!(cluster.agree().await.deployments().count(), 40);
        let learner = cluster.node(2);
        status(&learner, |it| it.snapshot_index.is_some() == early).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn voters_go_and_the_rest_agrees() {
    let mut cluster = Cluster::formed(&[1, 2, 3]).await;
    let leader = cluster.leader().await;
    let stays = leader.status().node_id;
    let told = leader.change_voters([1, 2].into()).await;
    assert_eq!(told, Err(MembersError::VoterCount { count: 2 }));
    let follower = [1, 2, 3].into_iter().find(|it| *it != stays);
    let follower = follower.expect("a follower");
    let told = cluster.node(follower).add_learner(9).await;
    let expected = ReadError::NotLeader {
        leader: Some(stays),
    };
    assert_eq!(told, Err(expected.into()));
    let told = leader.remove_learner(follower).await;
    assert_eq!(told, Err(MembersError::IsVoter { node_id: follower }));

    leader
        .change_voters([stays].into())
        .await
        .expect("fewer voters");
    drop(leader);
    for gone in [1, 2, 3].into_iter().filter(|it| *it != stays) {
        cluster.kill(gone, gone).await;
    }
    cluster.propose(topic(1)).await.expect("a topic");
    let leader = cluster.leader().await;
    leader.add_learner(9).await.expect("a learner");
    assert_eq!(leader.status().learners, [9]);
    leader.remove_learner(9).await.expect("no learner");
    assert!(leader.status().learners.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_loses_its_vote_makes_way() {
    let cluster = Cluster::start(&[1, 2, 3, 4]).await;
    cluster.form(&[1, 2, 3]).await;
    let old = cluster.leader().await;
    let old_id = old.status().node_id;
    old.add_learner(4).await.expect("a learner");
    let behind = |status: &Status| status.behind.get(&4).copied().flatten();
    status(&old, |status| behind(status) == Some(0)).await;
    let voters: BTreeSet<_> = (1..5).filter(|it| *it != old_id).collect();
    old.change_voters(voters.clone()).await.expect("a change");
    status(&old, |status| status.role != Role::Leader).await;
    cluster.propose(topic(1)).await.expect("a topic");
    let new = cluster.leader().await.status();
    assert_ne!(new.node_id, old_id);
    assert_eq!(new.voters, voters.into_iter().collect::<Vec<_>>());
    assert!(!new.learners.contains(&old_id));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_is_made_once_and_of_an_odd_number() {
    let cluster = Cluster::start(&[1]).await;
    let node = cluster.node(1);
    let told = node.initialize([1, 2].into()).await;
    assert_eq!(told, Err(InitializeError::VoterCount { count: 2 }));
    let told = node.initialize([2].into()).await;
    assert_eq!(told, Err(InitializeError::NotAVoter { node_id: 1 }));
    cluster.form(&[1]).await;
    let told = node.initialize([1].into()).await;
    assert_eq!(told, Err(InitializeError::Initialized));
}
