//! Consuming as a member of a group. The test plays the coordinator.

use std::time::Duration;

use futures_util::FutureExt;
use millstream::{
    ConsumedRecord, Consumer, ConsumerBuilder, Error, ErrorCode, OffsetCommit, Position,
};
use millstream_protocol::api::Request;
use millstream_protocol::api::group::{CoordinatorMessage, MemberMessage};

use crate::broker::{Broker, PATIENCE, error, named};

const GROUP: &str = "billing";
/// A pause that no test waits out.
const FOR_EVER: Duration = Duration::from_secs(3600);

/// A broker with `orders`, two partitions of ten records each, one a batch.
async fn broker_with_orders() -> Broker {
    let broker = Broker::start().await;
    broker.create_topic("orders", 2);
    for partition in 0..2 {
        for number in 0..10 {
            broker.append("orders", partition, [format!("{number}")]);
        }
    }
    broker
}

async fn builder(broker: &Broker) -> ConsumerBuilder {
    broker
        .client()
        .await
        .consumer()
        .group(GROUP)
        .member_name("alice")
        .topics(["orders"])
        .start(Position::Earliest)
}

/// A member that owns partition 0.
async fn member(broker: &Broker, builder: ConsumerBuilder) -> Consumer {
    let consumer = builder.build().await.unwrap();
    broker.assign(GROUP, 0, 1, &[("orders", 0)]);
    consumer
}

async fn next(consumer: &mut Consumer) -> ConsumedRecord {
    tokio::time::timeout(PATIENCE, consumer.next())
        .await
        .expect("a record comes")
        .unwrap()
}

async fn take(consumer: &mut Consumer, count: usize) -> Vec<u64> {
    let mut offsets = Vec::new();
    for _ in 0..count {
        offsets.push(next(consumer).await.offset);
    }
    offsets
}

/// What the member says of commits and releases, in order.
fn said(broker: &Broker, number: usize) -> Vec<String> {
    let state = broker.state();
    let said = state.groups[GROUP].members[number]
        .said
        .iter()
        .map(|message| match message {
            MemberMessage::Commit {
                generation,
                offsets,
            } => {
                let offsets: Vec<_> = offsets
                    .iter()
                    .map(|commit| (commit.partition, commit.offset))
                    .collect();
                format!("commit {generation} {offsets:?}")
            }
            MemberMessage::Released {
                generation,
                partitions,
            } => {
                let partitions: Vec<_> = partitions
                    .iter()
                    .map(|partition| partition.partition)
                    .collect();
                format!("released {generation} {partitions:?}")
            }
            MemberMessage::Leave => "leave".to_owned(),
        });
    said.collect()
}

async fn released(broker: &Broker) {
    let is_release =
        |message: &MemberMessage| matches!(message, MemberMessage::Released { .. }).then_some(());
    broker
        .said(GROUP, 0, "the partitions are released", is_release)
        .await;
}

#[tokio::test]
async fn a_member_joins_under_its_name_and_reads_what_it_is_given() {
    let broker = broker_with_orders().await;
    let mut consumer = builder(&broker).await.build().await.unwrap();
    let open = broker.state().groups[GROUP].members[0].open.clone();
    assert_eq!(
        (open.member_name.as_str(), open.topics, open.start),
        ("alice", vec!["orders".to_owned()], Position::Earliest)
    );
    assert_eq!(consumer.group(), Some(GROUP));

    // It stands by.
    broker.assign(GROUP, 0, 1, &[]);
    assert!(consumer.next().now_or_never().is_none());
    assert_eq!(consumer.assignment(), []);

    broker.assign(GROUP, 0, 2, &[("orders", 1)]);
    assert_eq!(next(&mut consumer).await.partition, 1);
    broker.assign(GROUP, 0, 3, &[("orders", 0)]);
    take(&mut consumer, 19).await;
    assert_eq!(
        consumer.assignment(),
        [named("orders", 0), named("orders", 1)]
    );
}

#[tokio::test]
async fn what_the_application_has_come_back_from_is_committed_by_itself() {
    let broker = broker_with_orders().await;
    let mut consumer = member(
        &broker,
        builder(&broker).await.auto_commit(Duration::from_millis(5)),
    )
    .await;
    take(&mut consumer, 3).await;
    broker.committed(GROUP, "orders", 0, 2).await;
    // The third is being worked on; asking for the fourth says that it is done.
    take(&mut consumer, 1).await;
    broker.committed(GROUP, "orders", 0, 3).await;
    let commits = said(&broker, 0);
    assert!(
        commits.contains(&"commit 1 [(0, 2)]".to_owned())
            || commits.contains(&"commit 1 [(0, 1)]".to_owned())
    );
    assert!(
        !commits.iter().any(|said| said.contains("(0, 4)")),
        "{commits:?}"
    );
}

#[tokio::test]
async fn batches_too_are_committed_once_they_are_done() {
    let broker = broker_with_orders().await;
    let mut consumer = member(
        &broker,
        builder(&broker).await.auto_commit(Duration::from_millis(5)),
    )
    .await;
    assert_eq!(consumer.next_batch().await.unwrap().next_offset(), 1);
    assert_eq!(consumer.next_batch().await.unwrap().next_offset(), 2);
    broker.committed(GROUP, "orders", 0, 1).await;
}

#[tokio::test]
async fn a_commit_covers_everything_handed_out() {
    let broker = broker_with_orders().await;
    let mut consumer = member(&broker, builder(&broker).await.manual_commit()).await;
    take(&mut consumer, 3).await;
    consumer.commit().await.unwrap();
    assert_eq!(broker.state().groups[GROUP].committed("orders", 0), Some(3));
    let metadata = "checkpoint 9".to_owned();
    consumer
        .commit_offsets([OffsetCommit {
            topic: "orders".to_owned(),
            partition: 0,
            offset: 1,
            metadata,
        }])
        .await
        .unwrap();
    assert_eq!(broker.state().groups[GROUP].committed("orders", 0), Some(1));
    assert_eq!(said(&broker, 0), ["commit 1 [(0, 3)]", "commit 1 [(0, 1)]"]);
}

#[tokio::test]
async fn a_refused_commit_is_told() {
    let broker = broker_with_orders().await;
    let mut consumer = member(&broker, builder(&broker).await.manual_commit()).await;
    take(&mut consumer, 1).await;
    let refuse = |refused| {
        broker.state().groups.get_mut(GROUP).unwrap().refuse_commits = refused;
    };
    refuse(Some(error(ErrorCode::NotAuthorized, "not yours")));
    assert_eq!(
        consumer.commit().await.unwrap_err().code(),
        Some(ErrorCode::NotAuthorized)
    );
    refuse(None);
    consumer.commit().await.unwrap();
}

#[tokio::test]
async fn a_revoked_partition_is_committed_and_released_when_the_application_comes_back() {
    let broker = broker_with_orders().await;
    let mut consumer = member(
        &broker,
        builder(&broker)
            .await
            .auto_commit(FOR_EVER)
            .release_timeout(FOR_EVER),
    )
    .await;
    assert_eq!(take(&mut consumer, 3).await, [0, 1, 2]);
    broker.revoke(GROUP, 0, 2, &[("orders", 0)]);
    broker.assign(GROUP, 0, 2, &[("orders", 1)]);
    let moved = async {
        while consumer.assignment() != [named("orders", 1)] {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, moved).await.unwrap();
    assert_eq!(
        said(&broker, 0),
        [""; 0],
        "the third record is still being worked on"
    );

    let record = next(&mut consumer).await;
    assert_eq!(
        (record.partition, record.offset),
        (1, 0),
        "nothing more of the revoked one"
    );
    released(&broker).await;
    assert_eq!(said(&broker, 0), ["commit 2 [(0, 3)]", "released 2 [0]"]);
}

#[tokio::test]
async fn an_application_that_waits_has_come_back() {
    let broker = broker_with_orders().await;
    let mut consumer = member(
        &broker,
        builder(&broker)
            .await
            .auto_commit(FOR_EVER)
            .release_timeout(FOR_EVER),
    )
    .await;
    take(&mut consumer, 10).await;
    assert!(consumer.next().now_or_never().is_none());
    broker.revoke(GROUP, 0, 2, &[("orders", 0)]);
    released(&broker).await;
    assert_eq!(said(&broker, 0), ["commit 2 [(0, 10)]", "released 2 [0]"]);
}

#[tokio::test]
async fn an_application_that_does_not_come_back_is_not_waited_for() {
    let broker = broker_with_orders().await;
    let builder = builder(&broker)
        .await
        .auto_commit(FOR_EVER)
        .release_timeout(Duration::from_millis(50));
    let mut consumer = member(&broker, builder).await;
    take(&mut consumer, 3).await;
    broker.revoke(GROUP, 0, 2, &[("orders", 0)]);
    released(&broker).await;
    // The third was never finished: its next owner gets it again.
    assert_eq!(said(&broker, 0), ["commit 2 [(0, 2)]", "released 2 [0]"]);
}

#[tokio::test]
async fn an_application_that_commits_itself_can_do_so_before_the_release() {
    let broker = broker_with_orders().await;
    let mut consumer = member(
        &broker,
        builder(&broker)
            .await
            .manual_commit()
            .release_timeout(FOR_EVER),
    )
    .await;
    take(&mut consumer, 3).await;
    broker.revoke(GROUP, 0, 2, &[("orders", 0)]);
    let revoked = async {
        while !consumer.assignment().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, revoked).await.unwrap();
    consumer.commit().await.unwrap();
    assert!(consumer.next().now_or_never().is_none());
    released(&broker).await;
    consumer.commit().await.unwrap();
    assert_eq!(said(&broker, 0), ["commit 2 [(0, 3)]", "released 2 [0]"]);
}

#[tokio::test]
async fn a_reset_starts_again_elsewhere() {
    let broker = broker_with_orders().await;
    let mut consumer = member(&broker, builder(&broker).await.auto_commit(FOR_EVER)).await;
    assert_eq!(take(&mut consumer, 5).await, [0, 1, 2, 3, 4]);
    let mut partitions = broker.assigned(GROUP, &[("orders", 0)]);
    partitions[0].offset = 2;
    broker.tell(
        GROUP,
        0,
        CoordinatorMessage::Seek {
            generation: 2,
            partitions,
        },
    );
    let seeked = async {
        while consumer.position("orders", 0) != Some(2) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, seeked).await.unwrap();
    assert_eq!(take(&mut consumer, 2).await, [2, 3]);
    consumer.commit().await.unwrap();
    assert_eq!(
        said(&broker, 0),
        ["commit 2 [(0, 4)]"],
        "what was done before the reset is not committed"
    );
}

#[tokio::test]
async fn a_commit_that_crosses_a_reset_is_made_anew_for_what_is_left() {
    let broker = broker_with_orders().await;
    let mut consumer = builder(&broker)
        .await
        .manual_commit()
        .build()
        .await
        .unwrap();
    broker.assign(GROUP, 0, 1, &[("orders", 0), ("orders", 1)]);
    take(&mut consumer, 20).await;
    broker.state().groups.get_mut(GROUP).unwrap().hold_commits = true;
    let commit = consumer.commit();
    tokio::pin!(commit);
    assert!((&mut commit).now_or_never().is_none());
    let is_commit =
        |message: &MemberMessage| matches!(message, MemberMessage::Commit { .. }).then_some(());
    broker
        .said(GROUP, 0, "the commit has come", is_commit)
        .await;
    broker.state().groups.get_mut(GROUP).unwrap().hold_commits = false;

    // Partition 0 is reset; the commit was made before the member could know.
    let mut partitions = broker.assigned(GROUP, &[("orders", 0)]);
    partitions[0].offset = 5;
    broker.tell(
        GROUP,
        0,
        CoordinatorMessage::Seek {
            generation: 2,
            partitions,
        },
    );
    let stale = error(ErrorCode::StaleGeneration, "the group was reset");
    broker.tell(GROUP, 0, CoordinatorMessage::Committed(Err(stale)));
    tokio::time::timeout(PATIENCE, commit)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(said(&broker, 0).last().unwrap(), "commit 2 [(1, 10)]");
}

#[tokio::test]
async fn a_lost_connection_leads_back_to_what_is_committed() {
    let broker = broker_with_orders().await;
    let mut consumer = member(&broker, builder(&broker).await.manual_commit()).await;
    assert_eq!(take(&mut consumer, 3).await, [0, 1, 2]);
    consumer.commit().await.unwrap();
    assert_eq!(take(&mut consumer, 3).await, [3, 4, 5]);
    broker.kill_connections();
    broker.member(GROUP, 1).await;
    assert_eq!(
        broker.state().groups[GROUP].members[1].open.member_name,
        "alice"
    );
    assert!(
        consumer.next().now_or_never().is_none(),
        "nothing is owned, so nothing is handed out"
    );
    broker.assign(GROUP, 1, 2, &[("orders", 0)]);
    assert_eq!(take(&mut consumer, 7).await, [3, 4, 5, 6, 7, 8, 9]);
}

#[tokio::test]
async fn a_commit_that_is_lost_with_the_membership_is_told() {
    let broker = broker_with_orders().await;
    let mut consumer = member(&broker, builder(&broker).await.manual_commit()).await;
    take(&mut consumer, 3).await;
    broker.state().groups.get_mut(GROUP).unwrap().hold_commits = true;
    let commit = consumer.commit();
    tokio::pin!(commit);
    assert!((&mut commit).now_or_never().is_none());
    broker.kill_connections();
    let lost = tokio::time::timeout(PATIENCE, commit).await.unwrap();
    assert!(
        matches!(lost, Err(Error::MembershipLost { .. })),
        "{lost:?}"
    );
    broker.member(GROUP, 1).await;
    consumer
        .commit()
        .await
        .expect("nothing is owned, nothing is to be committed");
}

#[tokio::test]
async fn leaving_commits_everything_and_says_so() {
    let broker = broker_with_orders().await;
    let mut consumer = member(&broker, builder(&broker).await.auto_commit(FOR_EVER)).await;
    take(&mut consumer, 4).await;
    consumer.leave().await.unwrap();
    assert_eq!(said(&broker, 0), ["commit 1 [(0, 4)]", "leave"]);
    broker
        .until("the streams are closed", |state| {
            state.open_fetches.is_empty().then_some(())
        })
        .await;
}

#[tokio::test]
async fn leaving_tells_when_the_last_commit_failed() {
    let broker = broker_with_orders().await;
    let mut consumer = member(&broker, builder(&broker).await.auto_commit(FOR_EVER)).await;
    take(&mut consumer, 4).await;
    let refused = error(ErrorCode::StorageFull, "no room");
    broker.state().groups.get_mut(GROUP).unwrap().refuse_commits = Some(refused);
    assert_eq!(
        consumer.leave().await.unwrap_err().code(),
        Some(ErrorCode::StorageFull)
    );
    assert_eq!(said(&broker, 0).last().unwrap(), "leave");
}

#[tokio::test]
async fn a_dropped_member_leaves_without_its_last_record() {
    let broker = broker_with_orders().await;
    let mut consumer = member(&broker, builder(&broker).await.auto_commit(FOR_EVER)).await;
    take(&mut consumer, 4).await;
    drop(consumer);
    let is_leave = |message: &MemberMessage| (*message == MemberMessage::Leave).then_some(());
    broker.said(GROUP, 0, "it has left", is_leave).await;
    assert_eq!(said(&broker, 0), ["commit 1 [(0, 3)]", "leave"]);
    broker
        .until("the streams are closed", |state| {
            state.open_fetches.is_empty().then_some(())
        })
        .await;
}

#[tokio::test]
async fn a_group_that_is_not_ready_is_asked_again() {
    let broker = broker_with_orders().await;
    broker.faults(|faults| {
        let passing = [
            ErrorCode::NotReady,
            ErrorCode::UnknownMember,
            ErrorCode::StaleGeneration,
        ];
        faults
            .refuse_group
            .extend(passing.map(|code| error(code, "not now")));
    });
    let mut consumer = member(&broker, builder(&broker).await).await;
    assert_eq!(take(&mut consumer, 1).await, [0]);
    assert_eq!(
        broker
            .state()
            .count(|request| matches!(request, Request::OpenGroup(_))),
        4
    );
}

#[tokio::test]
async fn a_group_that_refuses_is_told_at_once_and_for_ever() {
    let broker = broker_with_orders().await;
    let refuse = || {
        let refused = error(ErrorCode::NotAuthorized, "not your group");
        broker.faults(|faults| faults.refuse_group.push_back(refused));
    };
    refuse();
    assert_eq!(
        builder(&broker).await.build().await.unwrap_err().code(),
        Some(ErrorCode::NotAuthorized)
    );

    let mut consumer = member(&broker, builder(&broker).await).await;
    take(&mut consumer, 1).await;
    refuse();
    broker.kill_connections();
    let ended = async {
        loop {
            if let Err(error) = consumer.next().await {
                break error;
            }
        }
    };
    let ended = tokio::time::timeout(PATIENCE, ended).await.unwrap();
    assert_eq!(ended.code(), Some(ErrorCode::NotAuthorized));
    assert_eq!(
        consumer.next().await.unwrap_err().code(),
        Some(ErrorCode::NotAuthorized)
    );
}
