//! What a change of the metadata image means for the partitions hosted here: open, configure,
//! remove.

use std::sync::Arc;

use millstream_metadata::Topic;
use millstream_metadata::partition::FIRST_LEADER_EPOCH;
use millstream_protocol::api::topic::TopicConfig;
use millstream_protocol::{ErrorCode, LeaderEpoch, PartitionIndex, TopicPartition, WireError};
use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};

use crate::data_dir::DataDir;
use crate::errors;
use crate::partition::{LogStatus, Partition, Shared, Visible};
use crate::registry::Registry;
use crate::storage::LogStore;
use crate::writer::{Writer, WriterCommand};

/// Logs opened at the same time when a broker starts.
const MAX_PARALLEL_OPENS: usize = 8;

/// Opens and removes partitions as topics come and go.
pub(crate) struct Topics {
    data_dir: Arc<DataDir>,
    store: Arc<LogStore>,
    writer: Writer,
    partitions: Arc<Registry>,
}

/// A partition to be opened.
struct Opening {
    id: TopicPartition,
    topic: Arc<str>,
    config: TopicConfig,
    leader_epoch: LeaderEpoch,
}

impl Topics {
    pub(crate) fn new(
        data_dir: Arc<DataDir>,
        store: Arc<LogStore>,
        writer: Writer,
        partitions: Arc<Registry>,
    ) -> Self {
        Self {
            data_dir,
            store,
            writer,
            partitions,
        }
    }

    pub(crate) fn broker_id(&self) -> u32 {
        self.data_dir.identity().broker_id
    }

    /// Opens one partition of the broker's own, which no image lists.
    pub(crate) async fn open_internal(
        &self,
        id: TopicPartition,
        topic: &str,
        config: TopicConfig,
    ) -> Result<Partition, WireError> {
        let leader_epoch = FIRST_LEADER_EPOCH;
        open(
            &self.store,
            &self.writer,
            &self.partitions,
            Opening {
                id,
                topic: topic.into(),
                config,
                leader_epoch,
            },
        )
        .await
    }

    /// Opens the partitions of `topic` that are led here, from number `first` on.
    pub(crate) async fn open(&self, topic: &Topic, first: PartitionIndex) -> Result<(), WireError> {
        self.open_all(std::slice::from_ref(topic), first).await
    }

    /// Opens the partitions of all `topics` that are led here, several at a time.
    pub(crate) async fn open_all(
        &self,
        topics: &[Topic],
        first: PartitionIndex,
    ) -> Result<(), WireError> {
        let mut openings = topics
            .iter()
            .flat_map(|topic| self.openings(topic, first))
            .collect::<Vec<_>>()
            .into_iter();
        let mut running = tokio::task::JoinSet::new();
        loop {
            while running.len() < MAX_PARALLEL_OPENS
                && let Some(opening) = openings.next()
            {
                let (store, writer) = (Arc::clone(&self.store), self.writer.clone());
                let partitions = Arc::clone(&self.partitions);
                running.spawn(async move { open(&store, &writer, &partitions, opening).await });
            }
            match running.join_next().await {
                None => return Ok(()),
                Some(Ok(opened)) => {
                    opened?;
                }
                Some(Err(error)) => {
                    return Err(WireError::new(ErrorCode::Internal, error.to_string()));
                }
            }
        }
    }

    fn openings(&self, topic: &Topic, first: PartitionIndex) -> Vec<Opening> {
        let name: Arc<str> = topic.name.as_str().into();
        let placed = (0..).zip(&topic.partitions).skip(first as usize);
        placed
            .filter(|(_, partition)| partition.leader == self.broker_id())
            .map(|(number, partition)| Opening {
                id: TopicPartition {
                    topic_id: topic.topic_id,
                    partition: number,
                },
                topic: Arc::clone(&name),
                config: topic.config.clone(),
                leader_epoch: partition.leader_epoch,
            })
            .collect()
    }

    /// Gives open partitions their topic's settings.
    pub(crate) fn configure(&self, topic: &Topic) {
        for number in 0..topic.partitions.len() as u32 {
            let partition = TopicPartition {
                topic_id: topic.topic_id,
                partition: number,
            };
            let config = Box::new(topic.config.clone());
            // A writer that has stopped has told its fault.
            let _ = self
                .writer
                .send(WriterCommand::Configure { partition, config });
        }
    }

    /// Closes and deletes a topic's partitions.
    pub(crate) async fn remove(&self, topic: &Topic) {
        for number in 0..topic.partitions.len() as u32 {
            let partition = TopicPartition {
                topic_id: topic.topic_id,
                partition: number,
            };
            if self.partitions.remove(partition).is_none() {
                continue;
            }
            let (done, removed) = oneshot::channel();
            if self
                .writer
                .send(WriterCommand::Remove { partition, done })
                .is_ok()
            {
                let _ = removed.await;
            }
        }
        remove_folder(&self.data_dir.topic(topic.topic_id));
    }

    /// Deletes what topics left behind that no image lists: their deletion was cut short.
    pub(crate) fn remove_strangers(&self, known: impl Fn(&str) -> bool) {
        let Ok(entries) = std::fs::read_dir(self.data_dir.topics()) else {
            return;
        };
        for entry in entries.flatten() {
            if !known(&entry.file_name().to_string_lossy()) {
                tracing::info!(folder = %entry.path().display(), "removing what a deleted topic left behind");
                remove_folder(&entry.path());
            }
        }
    }
}

fn remove_folder(folder: &std::path::Path) {
    if let Err(error) = std::fs::remove_dir_all(folder)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(folder = %folder.display(), %error, "files of a deleted topic remain");
    }
}

/// Opens one log and hands it to the writer.
async fn open(
    store: &Arc<LogStore>,
    writer: &Writer,
    partitions: &Registry,
    opening: Opening,
) -> Result<Partition, WireError> {
    let Opening {
        id,
        topic,
        config,
        leader_epoch,
    } = opening;
    let (store, log_config) = (Arc::clone(store), config.clone());
    let opened = tokio::task::spawn_blocking(move || store.open(id, &log_config)).await;
    let opened = opened.map_err(|error| WireError::new(ErrorCode::Internal, error.to_string()))?;
    let (log, recovery) = opened.map_err(|error| {
        WireError::new(
            ErrorCode::StorageFailed,
            format!("cannot open {topic}-{}: {error}", id.partition),
        )
    })?;
    for damage in &recovery.damage {
        tracing::error!(partition = %format!("{topic}-{}", id.partition), %damage, "damaged: it takes no writes");
    }
    // A new topic's partitions are opened in the first epoch; every start takes another one.
    if recovery.created && leader_epoch > FIRST_LEADER_EPOCH {
        tracing::error!(partition = %format!("{topic}-{}", id.partition), "its files are gone: it begins anew, without its records");
    }
    if recovery.cut_bytes > 0 {
        tracing::warn!(
            partition = %format!("{topic}-{}", id.partition),
            bytes = recovery.cut_bytes,
            "cut a tail that was not whole: the last writes before the broker was killed"
        );
    }
    let visible = Visible {
        high_watermark: 0,
        log_start_offset: log.log_start_offset(),
        closed: false,
    };
    let partition = Partition {
        shared: Arc::new(Shared {
            id,
            topic,
            leader_epoch,
            reader: log.reader(),
            visible: watch::channel(visible).0,
            status: Mutex::new(LogStatus::default()),
            config: Mutex::new(config),
            writer: writer.clone(),
        }),
    };
    let (done, adopted) = oneshot::channel();
    let command = WriterCommand::Adopt {
        log: Box::new(log),
        partition: partition.clone(),
        done,
    };
    writer.send(command).map_err(|_| errors::shutting_down())?;
    adopted.await.map_err(|_| errors::shutting_down())?;
    partitions.insert(partition.clone());
    Ok(partition)
}
