//! Directories that are not what the node expects.

use std::path::Path;
use std::sync::Arc;

use millstream_consensus::{Config, Consensus, StartError};
use millstream_log::delete_dir;
use millstream_log::storage::{MemoryStorage, Storage};
use uuid::Uuid;

use crate::harness::{CLUSTER, Cluster, topic};

/// What happens to a disk.
type Change = fn(&MemoryStorage);

/// What a node that has taken part leaves behind.
async fn used() -> (Cluster, MemoryStorage) {
    let mut cluster = Cluster::formed(&[1]).await;
    cluster.propose(topic(1)).await.expect("a topic");
    cluster.kill(1, 1).await;
    let disk = cluster.disks[&1].clone();
    (cluster, disk)
}

async fn refusal(cluster: &Cluster, config: Config) -> StartError {
    let started = Consensus::start(config, cluster.net.way(1)).await;
    started.map(|_| ()).expect_err("a refusal")
}

#[tokio::test]
async fn a_directory_of_another_is_refused_by_name() {
    let (cluster, _) = used().await;
    let other = Uuid::from_u128(0xff);
    let config = Config {
        cluster_id: other,
        ..cluster.config(1)
    };
    let error = refusal(&cluster, config).await;
    assert_eq!(
        error,
        StartError::OtherCluster {
            dir: "/metadata".into(),
            found: CLUSTER,
            expected: other
        }
    );
    assert!(error.to_string().contains("name another directory"));
    let config = Config {
        node_id: 2,
        ..cluster.config(1)
    };
    let error = refusal(&cluster, config).await;
    assert!(matches!(
        error,
        StartError::OtherNode {
            found: 1,
            expected: 2,
            ..
        }
    ));
    assert!(error.to_string().contains("belongs to node 1, not to 2"));
}

#[tokio::test]
async fn a_node_that_has_forgotten_something_does_not_start() {
    let (mut cluster, disk) = used().await;
    let lost = |change: Change| {
        let disk = disk.kill();
        change(&disk);
        disk
    };
    let changes: [(Change, &str); 4] = [
        (
            |disk| disk.remove(Path::new("/metadata/state")).expect("a file"),
            "`state` is missing",
        ),
        (
            |disk| delete_dir(disk, Path::new("/metadata/log")).expect("a directory"),
            "log is missing",
        ),
        (
            |disk| {
                for byte in [30, 4096 + 30] {
                    assert!(disk.flip_bit(Path::new("/metadata/state"), byte, 0));
                }
            },
            "neither of its slots is sound",
        ),
        (
            |disk| {
                let name = disk.list(Path::new("/metadata/log")).expect("names");
                let segment = name.iter().find(|it| it.ends_with(".log"));
                let segment = segment.expect("a segment");
                let path = Path::new("/metadata/log").join(segment);
                let length = disk.content(&path).expect("a segment").len() as u64;
                assert!(disk.flip_bit(&path, length - 3, 0));
            },
            "which was committed",
        ),
    ];
    for (change, expected) in changes {
        cluster.disks.insert(1, lost(change));
        let error = refusal(&cluster, cluster.config(1)).await;
        assert!(matches!(error, StartError::Damaged { .. }), "{error:?}");
        let said = error.to_string();
        assert!(said.contains(expected), "{said}");
        assert!(said.contains("may have forgotten"), "{said}");
    }
}

#[tokio::test]
async fn the_storage_is_named_when_it_fails() {
    let cluster = Cluster::start(&[]).await;
    let disk = MemoryStorage::new();
    let config = Config::new(CLUSTER, 1, Arc::new(disk), "/no/such", 1);
    let error = refusal(&cluster, config).await;
    assert!(matches!(error, StartError::Storage(_)), "{error:?}");
    assert!(error.to_string().contains("/no/such"));
}

#[tokio::test]
async fn a_node_whose_disk_went_back_is_brought_up_to_date_again() {
    let mut cluster = Cluster::formed(&[1, 2, 3]).await;
    cluster.propose(topic(1)).await.expect("a topic");
    cluster.agree().await;
    let leader = cluster.leader().await.status().node_id;
    let follower = if leader == 1 { 2 } else { 1 };
    let before = cluster.disks[&follower].kill();
    for number in 2..20 {
        cluster.propose(topic(number)).await.expect("a topic");
    }
    cluster.agree().await;

    // Somebody has put back what was there earlier.
    cluster.kill(follower, 1).await;
    cluster.disks.insert(follower, before);
    cluster.restart(follower).await;
    cluster.propose(topic(20)).await.expect("a topic");
    let image = cluster.agree().await;
    assert_eq!(image.topics().count(), 20);
    assert_eq!(cluster.nodes().len(), 3);
}
