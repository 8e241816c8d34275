//! The shell around the metadata core: one command at a time is validated, written to the metadata
//! log, applied to the image, and followed by what it means for the partitions here.

use std::ops::Range;
use std::sync::Arc;

use bytes::BytesMut;
use millstream_metadata::topic::Topic;
use millstream_metadata::{Actor, Command, FeatureRange, Image, Limits, Record, Registration};
use millstream_protocol::api::topic::CreateTopic;
use millstream_protocol::batch::{BatchBuilder, Compression};
use millstream_protocol::limits::MAX_BATCH_BYTES;
use millstream_protocol::{ErrorCode, ProducerId, WireError};
use parking_lot::RwLock;
use tokio::sync::Mutex;

use crate::StartError;
use crate::clock;
use crate::data_dir::DataDir;
use crate::errors;
use crate::internal::{
    self, ARTEFACTS_PARTITION, ARTEFACTS_TOPIC, GROUPS_PARTITION, GROUPS_TOPIC, METADATA_PARTITION,
    METADATA_TOPIC,
};
use crate::partition::Partition;
use crate::topics::Topics;

/// Producer ids taken from the metadata log at once.
const PRODUCER_IDS_PER_BLOCK: u32 = 1_000;

/// The cluster's metadata as this broker knows and changes it.
pub(crate) struct Controller {
    image: RwLock<Arc<Image>>,
    /// Held from a command's validation to the end of what follows from it.
    write: Mutex<Partition>,
    topics: Topics,
    producer_ids: Mutex<Range<ProducerId>>,
    limits: Limits,
}

impl Controller {
    /// Reads the metadata log back and opens every partition led here, each in a new epoch: an
    /// epoch is never resumed after a restart.
    pub(crate) async fn load(
        topics: Topics,
        data_dir: &DataDir,
        address: String,
        limits: Limits,
    ) -> Result<Arc<Self>, StartError> {
        let identity = data_dir.identity();
        let failed = |error: WireError| StartError::Load {
            what: "the metadata".to_owned(),
            reason: error.message,
        };
        let opened = topics
            .open_internal(
                METADATA_PARTITION,
                METADATA_TOPIC,
                internal::metadata_config(),
            )
            .await;
        let log = opened.map_err(failed)?;
        let image = read_image(&log).map_err(failed)?;
        if image
            .cluster_id()
            .is_some_and(|cluster_id| cluster_id != identity.cluster_id)
        {
            return Err(failed(WireError::new(
                ErrorCode::Internal,
                "it belongs to another cluster",
            )));
        }
        let controller = Self {
            image: RwLock::new(Arc::new(image)),
            write: Mutex::new(log),
            topics,
            producer_ids: Mutex::new(0..0),
            limits,
        };
        controller
            .register(data_dir, address)
            .await
            .map_err(failed)?;
        let all: Vec<Topic> = controller.image().topics().cloned().collect();
        let opened = controller.topics.open_all(&all, 0).await;
        opened.map_err(|error| StartError::Load {
            what: "a partition".to_owned(),
            reason: error.message,
        })?;
        let image = controller.image();
        controller.topics.remove_strangers(|folder| {
            folder == METADATA_PARTITION.topic_id.to_string()
                || image
                    .topics()
                    .any(|topic| topic.topic_id.to_string() == folder)
        });
        controller.ensure_internal_topics().await.map_err(failed)?;
        Ok(Arc::new(controller))
    }

    /// The image as of the last command.
    pub(crate) fn image(&self) -> Arc<Image> {
        Arc::clone(&self.image.read())
    }

    /// A topic by its name.
    pub(crate) fn topic(&self, name: &str) -> Result<Topic, WireError> {
        self.image()
            .topic(name)
            .cloned()
            .ok_or_else(|| errors::unknown_topic(name))
    }

    /// The topics as the group coordinator wants to know them.
    pub(crate) fn group_topics(&self) -> Vec<millstream_group::Topic> {
        self.image().topics().map(group_topic).collect()
    }

    /// A producer id that nobody has had.
    pub(crate) async fn next_producer_id(&self) -> Result<ProducerId, WireError> {
        let mut ids = self.producer_ids.lock().await;
        if let Some(id) = ids.next() {
            return Ok(id);
        }
        let record = self
            .execute(Command::AllocateProducerIds {
                count: PRODUCER_IDS_PER_BLOCK,
            })
            .await?;
        if let Some(Record::ProducerIdsAllocated { first, count }) = record {
            *ids = first..first + u64::from(count);
        }
        ids.next()
            .ok_or_else(|| WireError::new(ErrorCode::Internal, "no producer ids were allocated"))
    }

    /// Refuses a command that would be refused now, and gives the image that it was looked at in.
    pub(crate) fn check(&self, command: &Command) -> Result<Arc<Image>, WireError> {
        let image = self.image();
        match image.validate(command, &self.limits) {
            Ok(_) => Ok(image),
            Err(error) => Err(error.to_wire()),
        }
    }

    /// The image as it would be with these commands. Each must be valid behind those before it.
    pub(crate) fn foresee(&self, commands: &[Command]) -> Result<Image, WireError> {
        let mut image = Image::clone(&self.image());
        for command in commands {
            let record = image.validate(command, &self.limits);
            if let Some(record) = record.map_err(|error| error.to_wire())? {
                image.apply(&record);
            }
        }
        Ok(image)
    }

    /// Validates a command, makes it durable, applies it, and does what follows from it. Returns
    /// the record, or none when nothing was to change.
    pub(crate) async fn execute(&self, command: Command) -> Result<Option<Record>, WireError> {
        let log = self.write.lock().await;
        let before = self.image();
        let record = before
            .validate(&command, &self.limits)
            .map_err(|error| error.to_wire())?;
        let Some(record) = record else {
            return Ok(None);
        };
        append(&log, &record).await?;
        let mut image = Image::clone(&before);
        image.apply(&record);
        let image = Arc::new(image);
        *self.image.write() = Arc::clone(&image);
        self.follow(&record, &before, &image).await?;
        Ok(Some(record))
    }

    /// What a record means for the partitions here.
    async fn follow(
        &self,
        record: &Record,
        before: &Image,
        after: &Image,
    ) -> Result<(), WireError> {
        match record {
            Record::TopicCreated { topic } => self.topics.open(topic, 0).await,
            Record::TopicAltered { topic_id, .. } => {
                let Some(topic) = after.topic_by_id(*topic_id) else {
                    return Ok(());
                };
                self.topics.configure(topic);
                let first = before
                    .topic_by_id(*topic_id)
                    .map_or(0, |topic| topic.partitions.len());
                self.topics.open(topic, first as u32).await
            }
            Record::TopicDeleted { topic_id } => {
                if let Some(topic) = before.topic_by_id(*topic_id) {
                    self.topics.remove(topic).await;
                }
                Ok(())
            }
            // A single broker has all replicas and does not change them.
            Record::ReplicasRegistered { .. }
            | Record::ReplicasTrusted { .. }
            | Record::PartitionsReassigned { .. }
            | Record::ReassignmentFinished { .. }
            | Record::LossAccepted { .. } => Ok(()),
            // Leaders are appointed before their partitions are opened; the others concern no log.
            Record::LeadersAppointed { .. }
            | Record::ClusterFormed { .. }
            | Record::BrokerRegistered { .. }
            | Record::BrokerStateSet { .. }
            | Record::BrokerRemoved { .. }
            | Record::JoinTokenIssued { .. }
            | Record::ProducerIdsAllocated { .. }
            | Record::DeploymentPut { .. }
            | Record::DeploymentRemoved { .. }
            | Record::ActivitySet { .. }
            | Record::ShadowPromoted { .. } => Ok(()),
        }
    }

    async fn register(&self, data_dir: &DataDir, address: String) -> Result<(), WireError> {
        let identity = data_dir.identity();
        if self.image().cluster_id().is_none() {
            self.execute(Command::FormCluster {
                cluster_id: identity.cluster_id,
            })
            .await?;
        }
        let broker_id = identity.broker_id;
        let registration = Registration {
            broker_id,
            directory_id: identity.directory_id,
            incarnation: data_dir.incarnation(),
            address,
            rack: None,
            features: FeatureRange::CURRENT,
            join: None,
        };
        // What it leads, it leads in a new epoch from here on.
        self.execute(Command::RegisterBroker { registration })
            .await?;
        Ok(())
    }

    async fn ensure_internal_topics(&self) -> Result<(), WireError> {
        let groups = (GROUPS_TOPIC, GROUPS_PARTITION, internal::groups_config());
        let artefacts = (
            ARTEFACTS_TOPIC,
            ARTEFACTS_PARTITION,
            internal::artefacts_config(),
        );
        for (name, partition, config) in [groups, artefacts] {
            if self.image().topic(name).is_some() {
                continue;
            }
            let topic = CreateTopic {
                name: name.to_owned(),
                partitions: 1,
                config,
            };
            let topic_id = partition.topic_id;
            let actor = Actor::Broker;
            self.execute(Command::CreateTopic {
                topic_id,
                topic,
                actor,
            })
            .await?;
        }
        Ok(())
    }
}

/// A topic as the group coordinator wants to know it.
pub(crate) fn group_topic(topic: &Topic) -> millstream_group::Topic {
    millstream_group::Topic {
        name: topic.name.clone(),
        topic_id: topic.topic_id,
        partitions: topic.partitions.len() as u32,
    }
}

async fn append(log: &Partition, record: &Record) -> Result<(), WireError> {
    let encoded = record
        .encode()
        .map_err(|error| WireError::new(ErrorCode::Internal, error.to_string()))?;
    let mut builder = BatchBuilder::new(Compression::None, MAX_BATCH_BYTES);
    builder
        .append(clock::now_ms(), None, Some(&encoded), &[])
        .map_err(|error| WireError::new(ErrorCode::RecordTooLarge, error.to_string()))?;
    let batch = builder.finish(None).map_err(errors::from_batch)?;
    log.append_and_wait(BytesMut::from(batch)).await.map(|_| ())
}

fn read_image(log: &Partition) -> Result<Image, WireError> {
    let mut image = Image::default();
    internal::replay(log, |_, value| {
        let record = Record::decode(value.unwrap_or_default())
            .map_err(|error| WireError::new(ErrorCode::Internal, error.to_string()))?;
        image.apply(&record);
        Ok::<_, WireError>(())
    })?;
    Ok(image)
}
