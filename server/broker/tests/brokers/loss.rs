//! A partition that goes on without what is lost, because somebody says so.

use std::path::Path;

use millstream::{Client, PartitionDescription, PartitionIndex, Position, ProduceRecord};

use crate::harness::{Cluster, until};
use crate::{all_have, consume, create_topic, read};

async fn describe(client: &Client, partition: PartitionIndex) -> Option<PartitionDescription> {
    let topic = client.admin().describe_topic("orders").await.ok()?;
    topic.partitions.into_iter().nth(partition as usize)
}

async fn produce_to(client: &Client, partition: PartitionIndex, values: u32) {
    let producer = client.producer("orders").build().await.unwrap();
    for value in 0..values {
        let record = ProduceRecord::new(value.to_string()).partition(partition);
        producer.send(record).await.unwrap();
    }
    producer.close().await.unwrap();
}

/// How far a partition is known to be.
fn end(partition: &PartitionDescription) -> Option<u64> {
    partition.log.as_ref().map(|it| it.high_watermark)
}

/// Of two replicas one is gone for good, and the other has lost its records: it does not count by itself. It
/// counts once the loss is accepted, and its disk says so.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_has_lost_its_records_goes_on_once_the_loss_is_accepted() {
    let mut cluster = Cluster::start(3).await;
    let client = cluster.client(0).await;
    let create = client.admin().create_topic("orders").partitions(3);
    let topic = create.replication_factor(2).await.unwrap();
    let mut partitions = topic.partitions.iter();
    let chosen = partitions.find(|it| !it.replicas.contains(&1));
    let number = chosen.expect("two replicas among three brokers").partition;
    produce_to(&client, number, 10).await;

    cluster.nodes[2].stop().await;
    cluster.nodes[1].stop().await;
    let folder = cluster.nodes[1].data_dir().join("topics");
    let folder = folder.join(topic.topic_id.to_string());
    std::fs::remove_dir_all(folder.join(number.to_string())).unwrap();
    cluster.restart(1).await;
    until("broker 2 begins anew, and does not count", async || {
        let partition = describe(&client, number).await?;
        (partition.untrusted == [2] && partition.offline == [3]).then_some(())
    })
    .await;

    let admin = client.admin();
    let foreseen = until("what there is to be lost is told", async || {
        let foreseen = admin.foresee_loss("orders", number, 2).await.ok()?;
        let told = foreseen.replicas.iter().any(|it| it.told.is_some());
        told.then_some(foreseen)
    })
    .await;
    let known = foreseen.replicas.iter().map(|it| {
        let end = it.told.as_ref().map(|it| it.log_end_offset);
        (it.broker_id, it.live, it.trusted, end)
    });
    let mut known: Vec<_> = known.collect();
    known.sort();
    assert_eq!(known, [(2, true, false, Some(0)), (3, false, true, None)]);
    let unknown = admin.foresee_loss("orders", number, 3).await.unwrap_err();
    assert!(unknown.to_string().contains("is gone"), "{unknown}");

    admin.accept_loss("orders", number, 2).await.unwrap();
    produce_to(&client, number, 3).await;
    let partition = describe(&client, number).await.unwrap();
    assert_eq!((partition.replicas, partition.untrusted), (vec![2], vec![]));

    // What the other one had is gone, also for itself.
    let topic_id = topic.topic_id;
    cluster.restart(2).await;
    let third = cluster.client(2).await;
    until("broker 3 keeps its replica no more", async || {
        let kept = third.admin().describe_replicas().await.ok()?.replicas?;
        let is_it = |it: &millstream::cluster::ReplicaDescription| {
            (it.partition.topic_id, it.partition.partition) == (topic_id, number)
        };
        (!kept.iter().any(is_it)).then_some(())
    })
    .await;

    // It is trusted on its disk: after a start it leads by itself.
    cluster.nodes[1].stop().await;
    cluster.restart(1).await;
    until("broker 2 leads what it has", async || {
        let partition = describe(&client, number).await?;
        (end(&partition) == Some(3)).then_some(())
    })
    .await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_whose_promises_were_emptied_counts_no_more() {
    goes_on_without_promises(|file| std::fs::write(file, [])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_whose_promises_were_removed_counts_no_more() {
    goes_on_without_promises(|file| std::fs::remove_file(file)).await;
}

/// What replicas have promised is gone, and their logs are not. They are not taken for new ones, which would count with
/// nothing: what others have acknowledged with them stays.
async fn goes_on_without_promises(forget: fn(&Path) -> std::io::Result<()>) {
    let mut cluster = Cluster::start(3).await;
    cluster.all_vote().await;
    let client = cluster.client(1).await;
    create_topic(&cluster, 1).await;
    let create = client.admin().create_topic("singles").partitions(3);
    create.replication_factor(1).await.unwrap();
    let singles = client.producer("singles").build().await.unwrap();
    for number in 0..30 {
        let record = ProduceRecord::new(number.to_string()).partition(number % 3);
        singles.send(record).await.unwrap().await.unwrap();
    }
    produce_to(&client, 0, 10).await;
    all_have(&cluster, 10).await;
    // These are on brokers 2 and 3 alone.
    cluster.nodes[0].stop().await;
    produce_to(&client, 0, 10).await;
    cluster.nodes[2].stop().await;
    let promises = cluster.nodes[2].data_dir().join("replicas");
    forget(&promises).unwrap();
    cluster.nodes[1].stop().await;
    cluster.restart_two(0, 2).await;
    let first = cluster.client(0).await;
    until("broker 3 does not count, and nobody leads", async || {
        let partition = describe(&first, 0).await?;
        (partition.untrusted == [3] && partition.log.is_none()).then_some(())
    })
    .await;

    cluster.restart(1).await;
    assert_eq!(consume(&first, 20).await.len(), 20);
    until("broker 3 counts again", async || {
        let partition = describe(&first, 0).await?;
        partition.untrusted.is_empty().then_some(())
    })
    .await;
    // Nobody else has what it alone keeps.
    let all = (0..3).map(|number| ("singles", number, Position::Earliest));
    let mut consumer = first.consumer().assign(all).build().await.unwrap();
    assert_eq!(read(&mut consumer, 30).await.len(), 30);
    cluster.stop().await;
}
