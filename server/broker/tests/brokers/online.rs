//! What is done to a cluster while it works: nobody who produces or consumes sees anything of it.

use millstream::{Client, Position, ProduceRecord};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::harness::{Cluster, until};
use crate::read;

/// Partitions that are written all the while.
const PARTITIONS: u32 = 3;

/// Numbered records for each of the first partitions of a topic, one after the other, until it is to end.
struct Load {
    stop: watch::Sender<bool>,
    producing: JoinSet<(u32, usize)>,
}

impl Load {
    async fn start(client: &Client) -> Self {
        let (stop, stopped) = watch::channel(false);
        let mut producing = JoinSet::new();
        for partition in 0..PARTITIONS {
            let producer = client.producer("orders").build().await.unwrap();
            let stopped = stopped.clone();
            producing.spawn(async move {
                let mut count = 0;
                while !*stopped.borrow() {
                    let record = ProduceRecord::new(format!("{count:06}")).partition(partition);
                    let stored = producer.send(record).await.unwrap().await;
                    stored.expect("a producer that sees nothing of it");
                    count += 1;
                }
                (partition, count)
            });
        }
        Self { stop, producing }
    }

    /// Ends it, and looks whether every record is there once, in order.
    async fn finish(mut self, client: &Client) {
        self.stop.send_replace(true);
        let mut counts = [0; PARTITIONS as usize];
        while let Some(produced) = self.producing.join_next().await {
            let (partition, count) = produced.unwrap();
            counts[partition as usize] = count;
        }
        let all = (0..PARTITIONS).map(|number| ("orders", number, Position::Earliest));
        let mut consumer = client.consumer().assign(all).build().await.unwrap();
        let found = read(&mut consumer, counts.iter().sum()).await;
        for (partition, count) in (0..).zip(counts) {
            let values = found.iter().filter(|(at, ..)| *at == partition);
            let values: Vec<&str> = values.map(|(.., value)| value.as_str()).collect();
            let expected: Vec<String> = (0..count).map(|it| format!("{it:06}")).collect();
            assert_eq!(values, expected);
            assert!(count > 0);
        }
    }
}

/// Waits until all brokers are there and nothing is missing anywhere.
async fn all_well(client: &Client) {
    until("all is well", async || {
        let status = client.admin().describe_cluster().await.ok()?;
        let troubled = status.offline.count + status.under_replicated.count + status.changing.count;
        let mut brokers = status.brokers.iter();
        let live = brokers.all(|it| it.state == millstream::cluster::BrokerState::Live);
        (live && troubled == 0 && status.controller.is_some()).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_is_seen_by_no_producer() {
    let mut cluster = Cluster::start(3).await;
    crate::create_topic(&cluster, PARTITIONS).await;
    cluster.all_vote().await;
    let client = cluster.client(0).await;
    let load = Load::start(&client).await;
    for index in 0..3 {
        cluster.nodes[index].stop().await;
        cluster.restart(index).await;
        all_well(&client).await;
    }
    load.finish(&client).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_move_and_partitions_are_added_while_records_come() {
    let cluster = Cluster::start(4).await;
    let client = cluster.client(0).await;
    let create = client.admin().create_topic("orders").partitions(PARTITIONS);
    create.replication_factor(3).await.unwrap();
    let load = Load::start(&client).await;
    let admin = client.admin();
    let keeps = async |broker: u32| {
        let topic = admin.describe_topic("orders").await.ok()?;
        let mut partitions = topic.partitions.iter();
        Some(partitions.any(|it| it.replicas.contains(&broker)))
    };
    let topic = admin.describe_topic("orders").await.unwrap();
    let drained = topic.partitions[0].leader;
    admin.drain_broker(drained).await.unwrap();
    until("the broker keeps nothing", async || {
        (!keeps(drained).await?).then_some(())
    })
    .await;
    let more = admin.alter_topic("orders").partitions(PARTITIONS + 2).await;
    assert_eq!(more.unwrap().partitions.len(), PARTITIONS as usize + 2);
    admin.undrain_broker(drained).await.unwrap();
    until("it is given its share again", async || {
        admin.rebalance_cluster().await.ok()?;
        keeps(drained).await?.then_some(())
    })
    .await;
    all_well(&client).await;
    load.finish(&client).await;
    cluster.stop().await;
}

/// A partition with five replicas is written without two of them; one has as many as was asked for.
#[tokio::test(flavor = "multi_thread")]
async fn a_partition_has_as_many_replicas_as_asked_for() {
    let mut cluster = Cluster::start(5).await;
    let client = cluster.client(0).await;
    for replicas in [1, 2, 3, 5] {
        let create = client.admin().create_topic(format!("by-{replicas}"));
        let topic = create.replication_factor(replicas).await.unwrap();
        assert_eq!(topic.partitions[0].replicas.len(), usize::from(replicas));
        let producer = client.producer(&topic.name).build().await.unwrap();
        let stored = producer.send(ProduceRecord::new("first")).await.unwrap();
        stored.await.unwrap();
    }
    cluster.all_vote_of(5).await;
    for index in [4, 3] {
        cluster.nodes[index].stop().await;
    }
    let producer = client.producer("by-5").build().await.unwrap();
    let stored = producer.send(ProduceRecord::new("second")).await.unwrap();
    assert_eq!(stored.await.unwrap().partition, 0);
    let mut consumer = client
        .consumer()
        .assign([("by-5", 0, Position::Earliest)])
        .build()
        .await
        .unwrap();
    let found = read(&mut consumer, 2).await;
    let values: Vec<&str> = found.iter().map(|(.., value)| value.as_str()).collect();
    assert_eq!(values, ["first", "second"]);
    cluster.stop().await;
}
