//! Messages that are not what they should be.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use millstream_consensus::limits::MAX_RPC_BYTES;
use millstream_consensus::{Call, Config, Consensus, NodeId, PeerError, Peers, Role};
use millstream_log::storage::MemoryStorage;
use uuid::Uuid;

use crate::harness::{CLUSTER, Cluster, topic, within};

/// Keeps what a node says to others, and delivers nothing.
#[derive(Debug, Default)]
struct Kept(Mutex<Vec<Bytes>>);

impl Peers for Kept {
    fn call(&self, _to: NodeId, request: Bytes, _timeout: Duration) -> Call<'_> {
        self.0.lock().expect("no panic").push(request);
        let reason = "nothing is delivered".to_owned();
        Box::pin(async { Err(PeerError::Lost { reason }) })
    }
}

/// What a node of a cluster says to node 1.
async fn request(cluster_id: Uuid, node_id: NodeId) -> Bytes {
    let peers = Arc::new(Kept::default());
    let disk = Arc::new(MemoryStorage::new());
    let config = Config::new(cluster_id, node_id, disk, "/metadata", 1);
    let way: Arc<dyn Peers> = Arc::clone(&peers) as _;
    let node = Consensus::start(config, way).await.expect("a node");
    let voters = [1, node_id, 8].into();
    node.initialize(voters).await.expect("a cluster");
    within("a message", async {
        loop {
            if let Some(request) = peers.0.lock().expect("no panic").first() {
                return request.clone();
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_a_peers_word_changes_nothing() {
    let cluster = Cluster::formed(&[1]).await;
    let node = cluster.leader().await;
    let term = node.status().term;
    let of_another_cluster = request(Uuid::from_u128(9), 7).await;
    let of_seven = request(CLUSTER, 7).await;
    let mut cut = of_seven.clone();
    cut.truncate(of_seven.len() - 1);
    let refused = [
        // No reason, but that it cannot be read.
        (7, Bytes::new(), 0),
        (7, Bytes::from_static(b"\x01nonsense"), 0),
        (7, Bytes::from_static(b"\x02"), 0),
        (7, cut, 0),
        (7, Bytes::from(vec![1; MAX_RPC_BYTES + 1]), 0),
        (7, of_another_cluster, 1),
        (3, of_seven.clone(), 2),
    ];
    for (from, request, reason) in refused {
        let answer = node.handle(from, request).await;
        // The version, a refusal, and which.
        assert_eq!(answer, Bytes::from(vec![1, 4, reason]));
    }
    assert_eq!(node.status().term, term);
    assert_eq!(node.status().role, Role::Leader);
    node.propose(topic(1)).await.expect("a topic");
    // It is heard in its own name.
    let answer = node.handle(7, of_seven).await;
    assert_eq!(answer[..2], [1, 0]);
}
