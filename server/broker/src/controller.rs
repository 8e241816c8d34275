//! The cluster's metadata as this broker knows and changes it: commands go to the metadata quorum, and
//! what it decides is followed by what it means for the replicas here.

use std::ops::Range;
use std::sync::Arc;

use millstream_metadata::topic::Topic;
use millstream_metadata::{Actor, Command, Image, Limits, Partition, Record, Registration};
use millstream_protocol::api::topic::CreateTopic;
use millstream_protocol::{ErrorCode, ProducerId, TopicPartition, WireError};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::sync::{Mutex, watch};
use tokio::time::timeout;

use crate::StartError;
use crate::background::Background;
use crate::cluster::Cluster;
use crate::cluster::heart::Heart;
use crate::cluster::office::Office;
use crate::cluster::quorum::{Quorum, is_worth_waiting};
use crate::config::ACTIVATION_PATIENCE;
use crate::data_dir::{DataDir, Origin};
use crate::errors;
use crate::follower::{Ears, Follower};
use crate::internal::{self, ARTEFACTS_PARTITION, ARTEFACTS_TOPIC, GROUPS_PARTITION, GROUPS_TOPIC};
use crate::partition::Standing;
use crate::registry::Registry;
use crate::replicas::ReplicaEvent;
use crate::replicas::actor::Fault;
use crate::replicas::hosting::Hosting;

/// Producer ids taken from the metadata at once.
const PRODUCER_IDS_PER_BLOCK: u32 = 1_000;

/// The cluster's metadata as this broker knows and changes it.
pub(crate) struct Controller {
    pub(crate) quorum: Arc<Quorum>,
    /// Up to which entry of the metadata's log the replicas here are as the image has them.
    followed: watch::Receiver<Option<u64>>,
    partitions: Arc<Registry>,
    broker_id: u32,
    producer_ids: Mutex<Range<ProducerId>>,
    limits: Limits,
}

/// What [`Controller::load`] puts together.
pub(crate) struct ControllerSetup {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) quorum: Arc<Quorum>,
    pub(crate) office: Arc<Office>,
    pub(crate) hosting: Hosting,
    pub(crate) partitions: Arc<Registry>,
    /// What replicas come to.
    pub(crate) events: UnboundedReceiver<ReplicaEvent>,
    /// Where a failure goes that the broker must not survive.
    pub(crate) faults: UnboundedSender<Fault>,
    /// What this broker says of itself.
    pub(crate) registration: Registration,
    pub(crate) limits: Limits,
}

impl Controller {
    /// Registers this start of the broker, and has every partition that it leads led in a new epoch:
    /// an epoch is never resumed after a restart. Returns once those that need nobody else are led; or,
    /// if the cluster does not answer one of its brokers, once what is known to be committed here can be
    /// read. It registers then when the cluster is there.
    pub(crate) async fn load(
        setup: ControllerSetup,
        data_dir: &Arc<DataDir>,
        background: &Background,
    ) -> Result<Arc<Self>, StartError> {
        let ControllerSetup {
            cluster,
            quorum,
            office,
            hosting,
            partitions,
            events,
            faults,
            registration,
            limits,
        } = setup;
        let failed = |error: WireError| StartError::Load {
            what: "the metadata".to_owned(),
            reason: error.message,
        };
        let (following, followed) = watch::channel(None);
        let controller = Arc::new(Self {
            quorum: Arc::clone(&quorum),
            followed,
            partitions,
            broker_id: data_dir.identity().broker_id,
            producer_ids: Mutex::new(0..0),
            limits,
        });
        let image = controller.image();
        let known = image.broker(controller.broker_id);
        // One that is alone waits for itself.
        let is_known = known.is_some_and(|it| it.directory_id == registration.directory_id)
            && !controller.is_alone();
        let registered = match is_known {
            true => controller.register(data_dir, &registration).await,
            false => controller
                .register_patiently(data_dir, &registration)
                .await
                .map(|()| true),
        };
        let is_registered = registered.map_err(not_let_in)?;
        let heart = Heart::new(
            registration.clone(),
            Arc::clone(&quorum),
            office,
            &cluster,
            hosting.store(),
        );
        let heart = Arc::new(heart);
        let start = Start {
            controller: Arc::clone(&controller),
            registration: (!is_registered).then_some(registration),
            data_dir: Arc::clone(data_dir),
            heart: Arc::clone(&heart),
        };
        background.spawn("the heart", start.live(faults.clone()));
        let (ears, news) = Ears::new(events, heart, cluster.links().cloned(), hosting.writer());
        background.spawn("who hears the replicas", ears.run());
        let follower = Follower {
            cluster,
            quorum,
            hosting,
            news,
            following,
        };
        background.spawn("who follows the cluster", follower.run(faults));
        controller.followed_now().await.map_err(failed)?;
        if !is_registered {
            tracing::warn!(
                "the cluster does not answer: what is known to be committed here can be read, and nothing is \
                 written before it does"
            );
            return Ok(controller);
        }
        controller.ensure_internal_topics().await.map_err(failed)?;
        let image = controller.image();
        let alone = image
            .partitions()
            .filter(|(_, it)| it.members().count() == 1);
        let alone: Vec<TopicPartition> = alone.map(|(id, _)| id).collect();
        controller.led(&alone).await;
        Ok(controller)
    }

    /// The image as this broker knows it.
    pub(crate) fn image(&self) -> Arc<Image> {
        self.quorum.applied().image
    }

    /// Whether this is the cluster's only broker.
    pub(crate) fn is_alone(&self) -> bool {
        self.image().brokers().count() == 1
    }

    /// A topic by its name.
    pub(crate) fn topic(&self, name: &str) -> Result<Topic, WireError> {
        self.image()
            .topic(name)
            .cloned()
            .ok_or_else(|| errors::unknown_topic(name))
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

    /// Has the cluster carry out a command, and returns once what follows from it for the replicas
    /// here is done. Returns the record, or none when nothing was to change.
    pub(crate) async fn execute(&self, command: Command) -> Result<Option<Record>, WireError> {
        let record = self.quorum.propose(command).await?;
        self.followed_now().await?;
        if let Some(Record::TopicCreated { topic }) = &record {
            self.led(&partitions_of(topic)).await;
        }
        if let Some(Record::TopicAltered { topic_id, .. }) = &record
            && let Some(topic) = self.image().topic_by_id(*topic_id)
        {
            self.led(&partitions_of(topic)).await;
        }
        Ok(record)
    }

    /// Ends this broker's part in the metadata quorum.
    pub(crate) async fn close(&self) {
        self.quorum.close().await;
    }

    /// Waits until the replicas here are as the image is now.
    async fn followed_now(&self) -> Result<(), WireError> {
        let applied = self.quorum.applied().index;
        let mut followed = self.followed.clone();
        let reached = followed.wait_for(|followed| *followed >= applied).await;
        reached.map(drop).map_err(|_| errors::shutting_down())
    }

    /// Waits for a while until this broker leads those of the partitions that it is to lead, so that
    /// whoever has asked can use them at once.
    async fn led(&self, partitions: &[TopicPartition]) {
        let all = async {
            for id in partitions {
                let image = self.image();
                let is_mine = |id| {
                    image
                        .partition(id)
                        .is_some_and(|it| it.leader == self.broker_id)
                };
                if let Some(partition) = self.partitions.get(*id).filter(|_| is_mine(*id)) {
                    let mut visible = partition.watch();
                    let serves = visible
                        .wait_for(|it| it.standing != Standing::Following || it.closed.is_some());
                    // A partition that is gone is not waited for.
                    let _ = serves.await;
                }
            }
        };
        if timeout(ACTIVATION_PATIENCE, all).await.is_err() {
            tracing::warn!("partitions that this broker is to lead are not led yet");
        }
    }

    /// Tells the cluster of this start, before anything takes part that is here. `false` if the cluster is
    /// not there: it is asked for a while.
    async fn register(
        &self,
        data_dir: &Arc<DataDir>,
        registration: &Registration,
    ) -> Result<bool, WireError> {
        let cluster_id = data_dir.identity().cluster_id;
        if data_dir.identity().origin == Origin::Founder && self.image().cluster_id().is_none() {
            let form = Command::FormCluster { cluster_id };
            self.quorum.propose_patiently(form).await?;
        }
        // What it leads, it leads in a new epoch from here on.
        let registration = registration.clone();
        let register = Command::RegisterBroker { registration };
        match self.quorum.propose(register).await {
            Ok(_) => {
                let noted = Arc::clone(data_dir);
                let noted = millstream_offload::run(move || noted.note_registered()).await;
                // A copy of the directory would not be known for one before the next start, no more.
                match noted {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => {
                        tracing::warn!(%error, "it is not noted that this start is registered")
                    }
                    Err(error) => {
                        tracing::warn!(%error, "it is not noted that this start is registered")
                    }
                }
                Ok(true)
            }
            Err(error) if is_worth_waiting(&error) => {
                tracing::warn!(%error, "waiting for the cluster");
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// The same, for as long as it takes.
    async fn register_patiently(
        &self,
        data_dir: &Arc<DataDir>,
        registration: &Registration,
    ) -> Result<(), WireError> {
        while !self.register(data_dir, registration).await? {}
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
            let created = self
                .execute(Command::CreateTopic {
                    topic_id,
                    topic,
                    actor,
                })
                .await;
            match created {
                // Another broker was quicker.
                Err(error) if error.code == ErrorCode::TopicExists => {}
                created => drop(created?),
            }
        }
        Ok(())
    }
}

/// The cluster refuses to register this start of the broker, or something fails on the way there.
fn not_let_in(error: WireError) -> StartError {
    let reason = error.message;
    match error.code {
        ErrorCode::InvalidRequest | ErrorCode::NotAuthorized => StartError::Refused { reason },
        _ => StartError::Load {
            what: "the metadata".to_owned(),
            reason,
        },
    }
}

/// The topics as the group coordinator wants to know them.
pub(crate) fn group_topics(image: &Image) -> Vec<millstream_group::Topic> {
    image.topics().map(|it| group_topic(image, it)).collect()
}

fn group_topic(image: &Image, topic: &Topic) -> millstream_group::Topic {
    let leader = |placed: &Partition| image.has_leader(placed).then_some(placed.leader);
    millstream_group::Topic {
        name: topic.name.clone(),
        topic_id: topic.topic_id,
        partitions: topic.partitions.len() as u32,
        leaders: topic.partitions.iter().map(leader).collect(),
    }
}

fn partitions_of(topic: &Topic) -> Vec<TopicPartition> {
    (0..topic.partitions.len() as u32)
        .map(|number| topic.at(number))
        .collect()
}

/// What a start of the broker does for the cluster.
struct Start {
    controller: Arc<Controller>,
    /// If it is not registered yet.
    registration: Option<Registration>,
    data_dir: Arc<DataDir>,
    heart: Arc<Heart>,
}

impl Start {
    /// Registers, if that has to be done yet, and beats for as long as this process is the broker that it
    /// takes itself for.
    async fn live(self, faults: UnboundedSender<Fault>) {
        let registered = match &self.registration {
            None => Ok(()),
            Some(registration) => {
                let controller = &self.controller;
                controller
                    .register_patiently(&self.data_dir, registration)
                    .await
            }
        };
        let reason = match registered {
            Ok(()) => self.heart.beat().await.to_string(),
            Err(error) => not_let_in(error).to_string(),
        };
        // The broker may be stopping for an earlier fault already.
        let _ = faults.send(Fault::Superseded(reason));
    }
}
