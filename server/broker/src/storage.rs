//! Opening logs on the data directory's disk.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use millstream_log::storage::Storage;
use millstream_log::{
    Cleanup, Log, LogConfig, LogIdentity, LogSetup, OpenError, Recovery, StateFile, StorageFailure,
    TailBudget, delete_dir,
};
use millstream_protocol::TopicPartition;
use millstream_protocol::api::topic::{self, TopicConfig};
use uuid::Uuid;

use crate::clock;
use crate::data_dir::DataDir;

/// Why a partition's log could not be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenLogError {
    /// Its topic's folder cannot be made.
    #[error("cannot make {}: {source}", path.display())]
    Folder { path: PathBuf, source: io::Error },
    /// The log itself.
    #[error(transparent)]
    Log(#[from] OpenError),
    /// A new log cannot be made durable, or an old one not be removed.
    #[error(transparent)]
    Storage(#[from] StorageFailure),
}

/// What all logs of a broker share.
pub(crate) struct LogStore {
    data_dir: Arc<DataDir>,
    storage: Arc<dyn Storage>,
    tail_budget: Arc<TailBudget>,
}

impl LogStore {
    pub(crate) fn new(
        data_dir: Arc<DataDir>,
        storage: Arc<dyn Storage>,
        tail_cache_bytes: usize,
    ) -> Self {
        Self {
            data_dir,
            storage,
            tail_budget: TailBudget::new(tail_cache_bytes),
        }
    }

    /// Opens or makes one partition's log. Blocks on the disk.
    pub(crate) fn open(
        &self,
        id: TopicPartition,
        config: &TopicConfig,
    ) -> Result<(Log, Recovery), OpenLogError> {
        self.ensure_topic_folder(id)?;
        let setup = LogSetup {
            storage: Arc::clone(&self.storage),
            dir: self.data_dir.partition(id),
            identity: LogIdentity {
                topic_id: id.topic_id,
                partition: id.partition,
            },
            config: log_config(config),
            tail_budget: Arc::clone(&self.tail_budget),
            // Random: no producer can guess it.
            salt: Uuid::new_v4().as_u64_pair().0,
        };
        Ok(Log::create_or_open(setup, clock::now_ms())?)
    }

    /// Makes an empty log, durably, in the place of whatever is there. Blocks on the disk.
    pub(crate) fn make(
        &self,
        id: TopicPartition,
        config: &TopicConfig,
    ) -> Result<(), OpenLogError> {
        self.remove(id)?;
        let (log, _) = self.open(id, config)?;
        Ok(log.close()?)
    }

    /// Removes a log that nobody has open, if there is one. Blocks on the disk.
    pub(crate) fn remove(&self, id: TopicPartition) -> Result<(), OpenLogError> {
        Ok(delete_dir(&*self.storage, &self.data_dir.partition(id))?)
    }

    /// Whether there is anything of a log. Blocks on the disk.
    pub(crate) fn has_files(&self, id: TopicPartition) -> io::Result<bool> {
        match self.storage.list(&self.data_dir.partition(id)) {
            Ok(files) => Ok(!files.is_empty()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// What is known of replicas besides their logs. The file is there from the directory's first start
    /// on.
    pub(crate) fn states(&self) -> Result<(StateFile, bool), OpenError> {
        StateFile::open(Arc::clone(&self.storage), self.data_dir.replicas())
    }

    /// Whether what is known of replicas is there.
    pub(crate) fn has_states(&self) -> io::Result<bool> {
        match self.storage.open(&self.data_dir.replicas()) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The names of the topics' folders.
    pub(crate) fn topic_folders(&self) -> io::Result<Vec<String>> {
        self.storage.list(&self.data_dir.topics())
    }

    /// Removes a topic's folder with all that is in it, if there is one: nobody has its logs open. Blocks on the
    /// disk.
    pub(crate) fn remove_folder(&self, name: &str) -> Result<(), StorageFailure> {
        let folder = self.data_dir.topics().join(name);
        // What cannot be listed is told by who removes it.
        let logs = self.storage.list(&folder).unwrap_or_default();
        for log in logs {
            delete_dir(&*self.storage, &folder.join(log))?;
        }
        delete_dir(&*self.storage, &folder)
    }

    /// The storage that all of it is on.
    pub(crate) fn storage(&self) -> Arc<dyn Storage> {
        Arc::clone(&self.storage)
    }

    /// Whether no log takes further records, for want of room.
    pub(crate) fn is_full(&self) -> bool {
        self.storage.is_scarce(&self.data_dir.topics())
    }

    /// Makes the topic's folder, durably: what is acknowledged in it must not vanish with it.
    fn ensure_topic_folder(&self, id: TopicPartition) -> Result<(), OpenLogError> {
        let folder = self.data_dir.topic(id.topic_id);
        let made = match self.storage.create_dir(&folder) {
            Ok(()) => self.storage.sync_dir(&self.data_dir.topics()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error),
        };
        made.map_err(|source| OpenLogError::Folder {
            path: folder,
            source,
        })
    }
}

/// A log's settings from its topic's.
pub(crate) fn log_config(config: &TopicConfig) -> LogConfig {
    LogConfig {
        segment_bytes: config.segment_bytes,
        segment_ms: config.segment_ms,
        max_batch_bytes: config.max_batch_bytes as usize,
        cleanup: match config.cleanup {
            topic::Cleanup::Delete => Cleanup::Delete,
            topic::Cleanup::Compact => Cleanup::Compact,
        },
        retention_ms: config.retention_ms,
        retention_bytes: config.retention_bytes,
        tombstone_retention_ms: config.tombstone_retention_ms,
        leaves_room: true,
        ..LogConfig::default()
    }
}
