//! Records that somebody has had deleted.

use millstream::{Client, ErrorCode, Position};

use crate::harness::{Cluster, until};
use crate::{all_have, consume, create_topic, produce};

/// Where the partition begins, as its leader says.
async fn start(client: &Client) -> Option<u64> {
    let admin = client.admin();
    let listed = admin.offset("orders", 0, Position::Earliest).await.ok()?;
    assert_eq!(listed.offset, listed.log_start_offset);
    Some(listed.offset)
}

/// Whoever leads next begins where records were deleted up to, as do those that were away.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_deleted_stays_so_whoever_leads() {
    let mut cluster = Cluster::start(3).await;
    cluster.all_vote().await;
    create_topic(&cluster, 1).await;
    let client = cluster.client(0).await;
    produce(&client, (0..100).map(|it| it.to_string())).await;
    all_have(&cluster, 100).await;
    cluster.nodes[2].stop().await;
    let begins = client.admin().delete_records("orders", 0, 70).await;
    assert_eq!(begins.unwrap(), 70);
    cluster.restart(2).await;
    for index in 0..3 {
        // Not a step too many: two of three have to be there.
        cluster.nodes[index].stop().await;
        let other = (index + 1) % 3;
        let client = cluster.client(other).await;
        let begins = until("somebody leads", async || start(&client).await).await;
        assert_eq!(begins, 70, "without broker {}", index + 1);
        let values = consume(&client, 30).await;
        assert_eq!(values.first().map(String::as_str), Some("70"));
        cluster.restart(index).await;
    }
    // All of them have let go of it.
    for index in 0..3 {
        let client = cluster.client(index).await;
        until("it is gone everywhere", async || {
            let kept = client.admin().describe_replicas().await.ok()?.replicas?;
            let topic = client.admin().describe_topic("orders").await.ok()?;
            let mut kept = kept.iter();
            let kept = kept.find(|it| it.partition.topic_id == topic.topic_id)?;
            (kept.log_start_offset == 70).then_some(())
        })
        .await;
    }
    cluster.stop().await;
}

/// Without a majority nobody is told that something is deleted.
#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_without_a_majority_is_not_acknowledged() {
    let mut cluster = Cluster::start(3).await;
    cluster.all_vote().await;
    create_topic(&cluster, 1).await;
    let client = cluster.client(0).await;
    produce(&client, (0..10).map(|it| it.to_string())).await;
    all_have(&cluster, 10).await;
    let topic = client.admin().describe_topic("orders").await.unwrap();
    let leader = topic.partitions[0].leader as usize - 1;
    let impatient = cluster.client_builder(leader);
    let impatient = impatient.request_timeout(std::time::Duration::from_secs(20));
    let client = impatient.connect().await.unwrap();
    for index in (0..3).filter(|index| *index != leader) {
        cluster.nodes[index].stop().await;
    }
    let refused = client.admin().delete_records("orders", 0, 5).await;
    let code = refused.unwrap_err().code();
    let expected = [
        ErrorCode::NotEnoughReplicas,
        ErrorCode::NotReady,
        ErrorCode::NotLeader,
    ];
    assert!(
        code.is_some_and(|code| expected.contains(&code)),
        "{code:?}"
    );
    cluster.stop().await;
}
