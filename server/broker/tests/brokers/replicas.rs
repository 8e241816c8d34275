//! Replicas that are read although they do not lead: because they are close, or because nobody leads.

use std::time::Duration;

use millstream::{Client, ErrorCode, Position, ProduceRecord, ReadFrom};
use tokio::time::timeout;

use crate::harness::{Cluster, PATIENCE, rack, until};
use crate::{all_have, consume, create_topic, produce, read};

/// How long a client tries at a broker that is alone.
const PATIENCE_ALONE: Duration = Duration::from_secs(10);

/// How long it is looked that nothing comes which must not.
const NOTHING_FOR: Duration = Duration::from_millis(500);

/// The others are gone: what was committed can be read, and nothing is pretended.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_left_alone_goes_on_to_show_what_is_committed() {
    let mut cluster = Cluster::start(3).await;
    create_topic(&cluster, 3).await;
    cluster.all_vote().await;
    produce(&cluster.client(0).await, (0..300).map(|it| it.to_string())).await;
    all_have(&cluster, 300).await;
    for node in &mut cluster.nodes {
        node.stop().await;
    }
    cluster.restart(1).await;

    let client = cluster.client(1).await;
    let mut values = timeout(PATIENCE, consume(&client, 300)).await.unwrap();
    values.sort();
    values.dedup();
    assert_eq!(values.len(), 300);
    let all = (0..3).map(|number| ("orders", number, Position::Earliest));
    let mut consumer = client.consumer().assign(all).build().await.unwrap();
    assert_eq!(read(&mut consumer, 300).await.len(), 300);
    assert!(timeout(NOTHING_FOR, consumer.next()).await.is_err());

    // Where it ends is not known, and nothing is taken.
    let refused = |code: Option<ErrorCode>| {
        let refusals = [ErrorCode::NotReady, ErrorCode::NotEnoughReplicas];
        assert!(
            code.is_some_and(|code| refusals.contains(&code)),
            "{code:?}"
        );
    };
    let impatient = cluster.client_builder(1).request_timeout(PATIENCE_ALONE);
    let impatient = impatient.connect().await.unwrap();
    let admin = impatient.admin();
    let producing = async {
        let producer = impatient.producer("orders");
        let producer = producer.delivery_timeout(PATIENCE_ALONE).build().await?;
        let record = ProduceRecord::new("too much").partition(0);
        producer.send(record).await?.await
    };
    let (end, produced, deleted) = tokio::join!(
        admin.offset("orders", 0, Position::Latest),
        producing,
        admin.delete_records("orders", 0, 1),
    );
    refused(end.unwrap_err().code());
    refused(produced.unwrap_err().code());
    refused(deleted.unwrap_err().code());

    // With another one it goes on.
    cluster.restart(0).await;
    produce(&client, (300..400).map(|it| it.to_string())).await;
    let mut values = consume(&client, 400).await;
    values.sort();
    values.dedup();
    assert_eq!(values.len(), 400);
    cluster.stop().await;
}

/// Which broker leads the partition.
async fn leader_of(client: &Client) -> usize {
    let topic = client.admin().describe_topic("orders").await.unwrap();
    topic.partitions[0].leader as usize - 1
}

#[tokio::test(flavor = "multi_thread")]
async fn a_close_replica_is_read_and_another_one_when_it_is_gone() {
    let mut cluster = Cluster::start(3).await;
    create_topic(&cluster, 1).await;
    cluster.all_vote().await;
    let client = cluster.client(0).await;
    produce(&client, (0..100).map(|it| it.to_string())).await;
    all_have(&cluster, 100).await;
    let leader = leader_of(&client).await;
    let close = (leader + 1) % 3;
    let connections = async || {
        let client = cluster.client(close).await;
        client.admin().describe_broker().await.unwrap().connections
    };
    let before = connections().await;
    // One that is connected to the leader, and reads in another rack.
    let client = cluster.client(leader).await;
    let consumer = client.consumer().read_from(ReadFrom::Closest);
    let consumer = consumer.rack(rack(close as u32 + 1));
    let all = [("orders", 0, Position::Earliest)];
    let mut consumer = consumer.assign(all).build().await.unwrap();
    let mut found = read(&mut consumer, 100).await;
    until("it is read there", async || {
        (connections().await > before).then_some(())
    })
    .await;

    produce(&client, (100..200).map(|it| it.to_string())).await;
    found.extend(read(&mut consumer, 100).await);
    cluster.nodes[close].stop().await;
    produce(&client, (200..300).map(|it| it.to_string())).await;
    found.extend(read(&mut consumer, 100).await);
    let offsets: Vec<u64> = found.iter().map(|(_, offset, _)| *offset).collect();
    assert!(
        offsets.is_sorted_by(|a, b| a < b),
        "each once, and in order"
    );
    let values = found
        .iter()
        .map(|(.., value)| value.parse::<u32>().unwrap());
    assert!(values.eq(0..300));
    cluster.stop().await;
}

/// What is read at a follower goes on there when the leader is gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_follower_serves_while_nobody_leads() {
    let mut cluster = Cluster::start(3).await;
    create_topic(&cluster, 1).await;
    cluster.all_vote().await;
    let client = cluster.client(0).await;
    produce(&client, (0..100).map(|it| it.to_string())).await;
    all_have(&cluster, 100).await;
    let leader = leader_of(&client).await;
    let close = (leader + 1) % 3;
    let client = cluster.client(close).await;
    // Nobody can lead without a majority.
    cluster.nodes[leader].stop().await;
    cluster.nodes[(leader + 2) % 3].stop().await;
    let consumer = client.consumer().read_from(ReadFrom::Closest);
    let all = [("orders", 0, Position::Offset(40))];
    let mut consumer = until("the start is known", async || {
        let consumer = consumer.clone().assign(all);
        consumer.build().await.ok()
    })
    .await;
    let found = read(&mut consumer, 60).await;
    assert_eq!(found.first().map(|(_, offset, _)| *offset), Some(40));
    cluster.stop().await;
}
