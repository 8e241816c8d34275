//! What every handler may use: the parts of the broker, and the way from a topic's name to its
//! partition.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use millstream_metadata::topic::Topic;
use millstream_protocol::{ErrorCode, PartitionIndex, TopicId, TopicPartition, WireError};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::cluster::Cluster;
use crate::controller::Controller;
use crate::data_dir::DataDir;
use crate::errors;
use crate::groups::Groups;
use crate::groups::office::GroupOffice;
use crate::leaders::Leaders;
use crate::partition::{Partition, ReplicaState, Standing};
use crate::registry::Registry;
use crate::secrets::Secrets;
use crate::workers::Deployments;

/// What is there from the moment on in which a broker listens: other brokers need its answers before it
/// has loaded what clients ask for.
pub(crate) struct Front {
    pub(crate) data_dir: Arc<DataDir>,
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) connections: ConnectionCount,
    context: OnceLock<Arc<Context>>,
}

impl Front {
    pub(crate) fn new(data_dir: Arc<DataDir>, cluster: Arc<Cluster>) -> Self {
        Self {
            data_dir,
            cluster,
            connections: ConnectionCount::default(),
            context: OnceLock::new(),
        }
    }

    /// The broker has loaded everything.
    pub(crate) fn open(&self, context: Arc<Context>) {
        // It starts once.
        let _ = self.context.set(context);
    }

    /// What clients ask for.
    pub(crate) fn context(&self) -> Result<&Arc<Context>, WireError> {
        self.context
            .get()
            .ok_or_else(|| WireError::new(ErrorCode::NotReady, "the broker is starting"))
    }
}

/// Of whom a reader takes what is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadFrom {
    /// Of who leads the partition; or of who is to lead it, below what it knows to be committed.
    Leader,
    /// Of any replica that counts.
    Counting,
    /// Of whoever knows of something, because the leader cannot be asked.
    Anybody,
}

/// The parts of a running broker.
pub(crate) struct Context {
    pub(crate) data_dir: Arc<DataDir>,
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) started: Instant,
    pub(crate) connections: ConnectionCount,
    pub(crate) partitions: Arc<Registry>,
    pub(crate) controller: Arc<Controller>,
    pub(crate) groups: Arc<Groups>,
    pub(crate) group_office: Arc<GroupOffice>,
    pub(crate) leaders: Arc<Leaders>,
    pub(crate) deployments: Arc<Deployments>,
    pub(crate) secrets: Arc<Secrets>,
    /// Components that may be received at once.
    pub(crate) uploads: Semaphore,
    /// Readers of workers' state that are served at once.
    pub(crate) state_readers: Semaphore,
    /// Bytes of produced batches that may wait for their acknowledgement.
    pub(crate) staged_bytes: Arc<Semaphore>,
}

impl Context {
    /// This broker's number.
    pub(crate) fn me(&self) -> u32 {
        self.data_dir.identity().broker_id
    }

    /// A topic by its name.
    pub(crate) fn topic(&self, name: &str) -> Result<Topic, WireError> {
        self.controller.topic(name)
    }

    /// A partition led here. With `topic_id`, another topic of the same name is refused as unknown.
    ///
    /// This is the one place that decides where a partition's requests are served: a partition led
    /// by another broker is answered for by `NotLeader`.
    pub(crate) fn partition(
        &self,
        topic: &str,
        topic_id: Option<TopicId>,
        partition: PartitionIndex,
    ) -> Result<Partition, WireError> {
        let image = self.controller.image();
        let found = image
            .topic(topic)
            .ok_or_else(|| errors::unknown_topic(topic))?;
        if topic_id.is_some_and(|asked| asked != found.topic_id) {
            return Err(WireError::new(
                ErrorCode::UnknownTopic,
                format!("topic {topic} was deleted and made again: it has another id now"),
            ));
        }
        let Some(placed) = found.partitions.get(partition as usize) else {
            return Err(errors::unknown_partition(
                topic,
                partition,
                found.partitions.len(),
            ));
        };
        if placed.leader != self.data_dir.identity().broker_id {
            return Err(WireError::new(
                ErrorCode::NotLeader,
                format!(
                    "partition {topic}-{partition} is led by broker {}",
                    placed.leader
                ),
            ));
        }
        let id = TopicPartition {
            topic_id: found.topic_id,
            partition,
        };
        let hosted = self.partitions.get(id);
        let serves = hosted.filter(|it| it.visible().standing != Standing::Following);
        serves.ok_or_else(|| {
            WireError::new(
                ErrorCode::NotReady,
                format!("partition {topic}-{partition} has no leader yet"),
            )
        })
    }

    /// A partition of which this broker can show what is committed, as far as it knows. Whether it leads,
    /// its standing says: others know neither where the partition ends nor where it begins.
    pub(crate) fn readable(
        &self,
        topic: &str,
        topic_id: Option<TopicId>,
        partition: PartitionIndex,
        from: ReadFrom,
    ) -> Result<Partition, WireError> {
        let refusal = match self.partition(topic, topic_id, partition) {
            Err(refusal) if refusal.code == ErrorCode::NotReady => refusal,
            Err(refusal) if refusal.code == ErrorCode::NotLeader && from != ReadFrom::Leader => {
                refusal
            }
            decided => return decided,
        };
        let image = self.controller.image();
        let id = image.topic(topic).map(|found| found.at(partition));
        let here = id.and_then(|id| self.partitions.get(id));
        let shows = here.filter(|it| match it.visible().replica {
            ReplicaState::Trusted => true,
            ReplicaState::Untrusted => from != ReadFrom::Counting,
            ReplicaState::Damaged => false,
        });
        shows.ok_or(refusal)
    }

    /// A partition that clients may write to: not one of the broker's own.
    pub(crate) fn writable_partition(
        &self,
        topic: &str,
        topic_id: Option<TopicId>,
        partition: PartitionIndex,
    ) -> Result<Partition, WireError> {
        if topic.starts_with("__") {
            return Err(WireError::new(
                ErrorCode::NotAuthorized,
                format!("topic {topic} is the broker's own: clients may read it, not change it"),
            ));
        }
        self.partition(topic, topic_id, partition)
    }
}

/// How many connections are open.
#[derive(Clone, Default)]
pub(crate) struct ConnectionCount(Arc<AtomicU32>);

/// Counts one connection for as long as it lives.
pub(crate) struct CountedConnection(Arc<AtomicU32>);

impl ConnectionCount {
    pub(crate) fn count(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn add(&self) -> CountedConnection {
        self.0.fetch_add(1, Ordering::Relaxed);
        CountedConnection(Arc::clone(&self.0))
    }
}

impl Drop for CountedConnection {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
