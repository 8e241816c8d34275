//! One deployment on this broker: a member of the group of its name, with a worker at every
//! partition that the group gives it.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use millstream_metadata::names::journal_topic;
use millstream_metadata::{Actor, Command, DeploymentId};
use millstream_protocol::api::group::{
    AssignedPartition, CoordinatorMessage, NamedPartition, OffsetCommit,
};
use millstream_protocol::api::lifecycle::Activity;
use millstream_protocol::api::metrics::WorkerMetrics;
use millstream_protocol::api::plugin::{
    DeploymentSpec, LogLevel, PluginLogLine, WorkerDescription, WorkerState,
};
use millstream_protocol::api::topic::{AlterTopic, CreateTopic, Durability};
use millstream_protocol::{ErrorCode, Offset, PartitionIndex, TopicId, TopicPartition, WireError};
use millstream_runtime::{
    GuestMetrics, Plugin, StateReader, Table, Waits, WorkerGrants, WorkerSetup,
};
use millstream_state::{States, Store};
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use uuid::Uuid;

use crate::controller::Controller;
use crate::errors;
use crate::groups::MemberMessages;
use crate::groups::office::GroupOffice;
use crate::leaders::Leaders;
use crate::partition::Partition;
use crate::registry::Registry;
use crate::secrets::Secrets;
use crate::workers::journal;
use crate::workers::latency::Latencies;
use crate::workers::logs::{DeploymentLogs, WorkerLog};
use crate::workers::outlets::Target;
use crate::workers::seat::{Applicant, Seat};
use crate::workers::share::Share;
use crate::workers::tables::DeploymentTables;
use crate::workers::threads::GuestThreads;
use crate::workers::turn::Output;
use crate::workers::worker::{RunningWorker, Start, WorkerCommand};

/// How long a partition may take to be opened whose worker is to run here.
const KEPT_WITHIN: Duration = Duration::from_secs(5);

/// How long a deployment waits before it joins its group again.
const REJOIN_AFTER: Duration = Duration::from_millis(500);

/// What a deployment and its workers share.
pub(crate) struct Shared {
    pub(crate) deployment_id: DeploymentId,
    pub(crate) revision: u32,
    pub(crate) spec: DeploymentSpec,
    pub(crate) plugin: Plugin,
    pub(crate) outputs: Vec<Output>,
    /// Where dead letters go, if they go anywhere.
    pub(crate) dead_letters: Vec<Target>,
    pub(crate) leaders: Arc<Leaders>,
    pub(crate) logs: Arc<DeploymentLogs>,
    /// Where turns run.
    pub(crate) threads: Arc<GuestThreads>,
    /// What its turns may take of the processors.
    pub(crate) share: Share,
    /// What all workers' guests remember.
    pub(crate) states: Arc<States>,
    /// Workers that may read their journals back at the same time: it takes memory.
    pub(crate) loads: Arc<Semaphore>,
    pub(crate) group: Arc<GroupOffice>,
    pub(crate) partitions: Arc<Registry>,
    pub(crate) secrets: Arc<Secrets>,
    /// What its guests may look up in.
    pub(crate) tables: DeploymentTables,
    pub(crate) controller: Arc<Controller>,
    pub(crate) seat: Mutex<Option<Arc<Seat>>>,
    /// The newest generation that the group has told.
    pub(crate) generation: AtomicU32,
    /// What the metadata last wanted of its workers.
    pub(crate) activity: Mutex<Activity>,
    /// Whether its workers stand still between two turns.
    pub(crate) hold: watch::Sender<bool>,
    /// Until when somebody else steers them, if anybody does: what the image wants is not looked at.
    pub(crate) steered_until: Mutex<Option<Instant>>,
    /// Told when the replica that a worker reads is given up, and may be made anew.
    pub(crate) left: Notify,
    /// How far its workers go.
    pub(crate) bounds: watch::Sender<Arc<Bounds>>,
}

/// How far workers go.
#[derive(Debug, Default)]
pub(crate) enum Bounds {
    /// On and on.
    #[default]
    None,
    /// Up to these offsets of their input partitions. Where none is named, nothing is handled: the partition was
    /// added after they were noted.
    At(HashMap<TopicPartition, Offset>),
}

impl Bounds {
    /// Where the worker at an input partition stops.
    pub(crate) fn of(&self, input: TopicPartition) -> Option<Offset> {
        match self {
            Self::None => None,
            Self::At(offsets) => Some(offsets.get(&input).copied().unwrap_or(0)),
        }
    }
}

impl Shared {
    /// Writes a line of the broker's own into the log of the worker at a partition.
    pub(crate) fn log(&self, input: &Partition, level: LogLevel, message: String) {
        self.logs.write(|at_ms| PluginLogLine {
            at_ms,
            level,
            topic: input.topic().to_string(),
            partition: input.id().partition,
            context: "millstream".to_owned(),
            message,
        });
    }

    /// The journal of the worker at an input partition, made when it is not there. It is as
    /// durable as what it keeps in step: the input and the outputs.
    pub(crate) async fn journal_of(&self, input: &Partition) -> Result<Partition, WireError> {
        let TopicPartition {
            topic_id,
            partition,
        } = input.id();
        let name = journal_topic(self.deployment_id, topic_id);
        let image = self.controller.image();
        let Some(input_topic) = image.topic_by_id(topic_id) else {
            return Err(errors::partition_gone(input.id()));
        };
        let partitions = input_topic.partitions.len() as u32;
        let outputs = self.spec.outputs.iter();
        let mut all = outputs
            .filter_map(|output| image.topic(&output.topic))
            .chain([input_topic]);
        let sync = all.any(|topic| topic.config.durability == Durability::Sync);
        let durability = if sync {
            Durability::Sync
        } else {
            Durability::Relaxed
        };
        match image.topic(&name) {
            None => {
                let topic = CreateTopic {
                    name: name.clone(),
                    partitions,
                    config: journal::topic_config(durability),
                };
                let create = Command::CreateTopic {
                    topic_id: TopicId(Uuid::new_v4()),
                    topic,
                    actor: Actor::Broker,
                };
                match self.controller.execute(create).await {
                    // The worker of another partition was first.
                    Err(error) if error.code == ErrorCode::TopicExists => {}
                    created => {
                        created?;
                    }
                }
            }
            Some(topic)
                if topic.partitions.len() as u32 >= partitions
                    && topic.config.durability == durability => {}
            Some(topic) => {
                let change = AlterTopic {
                    name: name.clone(),
                    partitions: Some(partitions.max(topic.partitions.len() as u32)),
                    durability: Some(durability),
                    ..AlterTopic::default()
                };
                let actor = Actor::Broker;
                self.controller
                    .execute(Command::AlterTopic { change, actor })
                    .await?;
            }
        }
        let image = self.controller.image();
        let journal = image.topic(&name).and_then(|topic| {
            self.partitions.get(TopicPartition {
                topic_id: topic.topic_id,
                partition,
            })
        });
        journal.ok_or_else(|| {
            WireError::new(ErrorCode::NotReady, format!("topic {name} is not open yet"))
        })
    }

    /// The offset that the deployment's group was reset to in an input, where no worker has gone yet.
    pub(crate) async fn reset_to(&self, input: &Partition) -> Result<Option<Offset>, WireError> {
        self.group.reset_to(&self.spec.name, input.id()).await
    }

    /// Commits a worker's offset as the member that this deployment is.
    pub(crate) async fn commit(&self, commit: OffsetCommit) -> Result<(), WireError> {
        let seat = self.seat.lock().clone();
        let seat = seat.ok_or_else(|| {
            WireError::new(
                ErrorCode::UnknownMember,
                "the deployment is not in its group",
            )
        })?;
        let generation = self.generation.load(Ordering::Acquire);
        seat.commit(generation, commit).await
    }
}

/// What an instance at a partition finds around it.
pub(crate) struct Surroundings {
    pub(crate) log: WorkerLog,
    pub(crate) state: Arc<dyn StateReader>,
    pub(crate) metrics: Arc<GuestMetrics>,
    pub(crate) tables: Vec<Table>,
    pub(crate) secrets: Arc<Secrets>,
    pub(crate) waits: Arc<dyn Waits>,
}

/// What an instance at a partition is started with.
pub(crate) fn setup(spec: &DeploymentSpec, surroundings: Surroundings) -> WorkerSetup {
    let Surroundings {
        log,
        state,
        metrics,
        tables,
        secrets,
        waits,
    } = surroundings;
    let outputs = spec.outputs.iter();
    WorkerSetup {
        deployment: spec.name.clone(),
        topic: log.topic.clone(),
        partition: log.partition,
        outputs: outputs.map(|output| output.name.clone()).collect(),
        config: spec.config.clone(),
        limits: spec.limits.clone(),
        logs: Arc::new(log),
        grants: WorkerGrants {
            grants: spec.grants.clone(),
            secrets: Some(secrets),
        },
        state,
        metrics,
        tables,
        waits,
    }
}

/// The workers of a deployment, by partition.
type Workers = Arc<Mutex<BTreeMap<NamedPartition, RunningWorker>>>;

/// A deployment that runs.
pub(crate) struct RunningDeployment {
    pub(crate) shared: Arc<Shared>,
    workers: Workers,
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

impl RunningDeployment {
    pub(crate) fn start(shared: impl Into<Arc<Shared>>) -> Self {
        let shared = shared.into();
        let workers = Workers::default();
        let (stop, stopped) = watch::channel(false);
        let member = Member {
            shared: Arc::clone(&shared),
            workers: Arc::clone(&workers),
            stopped,
        };
        Self {
            shared,
            workers,
            stop,
            task: tokio::spawn(member.run()),
        }
    }

    /// Has it stop its workers after their turns, and leave the group.
    pub(crate) fn begin_stop(&self) {
        // The task may have ended by itself.
        let _ = self.stop.send(true);
    }

    /// The same, and waits until it has.
    pub(crate) async fn stop(self) {
        self.begin_stop();
        if let Err(error) = self.task.await {
            tracing::error!(%error, "a deployment's task failed");
        }
    }

    pub(crate) fn workers(&self, broker_id: u32) -> Vec<WorkerDescription> {
        let workers = self.workers.lock();
        workers.values().map(|it| it.describe(broker_id)).collect()
    }

    /// Keys of the configuration that no worker's guest has asked for; none before one was called.
    pub(crate) fn config_unasked(&self) -> Option<Vec<String>> {
        let config = &self.shared.spec.config;
        let workers = self.workers.lock();
        let called = workers.values().filter(|it| it.progress().was_called());
        let unasked = called.map(|worker| worker.progress().guest().unasked(config));
        let by_all = unasked.reduce(|all, next| {
            let both = all.into_iter().filter(|key| next.contains(key));
            both.collect()
        });
        by_all.map(|keys| keys.into_iter().map(str::to_owned).collect())
    }

    /// How long calls took, over all workers.
    pub(crate) fn latencies(&self) -> Latencies {
        let mut all = Latencies::default();
        for worker in self.workers.lock().values() {
            worker.progress().merge_latencies(&mut all);
        }
        all
    }

    /// What its workers have measured: at most `limit`, those behind `after`.
    pub(crate) fn metrics(
        &self,
        after: Option<NamedPartition>,
        limit: usize,
    ) -> Vec<WorkerMetrics> {
        let workers = self.workers.lock();
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let listed = workers.range((from, Bound::Unbounded)).take(limit);
        listed.map(|(_, worker)| worker.metrics()).collect()
    }

    /// Has its workers stand still between two turns, and waits until they do.
    pub(crate) fn hold(&self) -> impl Future<Output = ()> + use<> {
        self.shared.hold.send_replace(true);
        // One that starts from here on takes no turn.
        let workers = self.workers.lock();
        let resting: Vec<_> = workers.values().map(RunningWorker::resting).collect();
        async move {
            for mut worker in resting {
                // One that has ended rests for ever.
                let _ = worker.wait_for(|rests| *rests).await;
            }
        }
    }

    /// How far its workers are, by partition, and whether nothing of what lies before waits to be
    /// tried again.
    pub(crate) fn positions(&self) -> BTreeMap<NamedPartition, (Offset, bool)> {
        let workers = self.workers.lock();
        let position = |(at, worker): (&NamedPartition, &RunningWorker)| {
            (at.clone(), worker.progress().position(&worker.input))
        };
        workers.iter().map(position).collect()
    }

    /// Has its workers stop there and nowhere else.
    pub(crate) fn bound(&self, bounds: Arc<Bounds>) {
        self.shared.bounds.send_replace(bounds);
    }

    /// Has workers that were held go on.
    pub(crate) fn let_go(&self) {
        self.shared.hold.send_replace(false);
        for worker in self.workers.lock().values() {
            worker.leaves(|state| *state == WorkerState::Held);
        }
    }

    /// What the guests of its workers remember, by partition; `None` for one that is being read back.
    pub(crate) fn stores(&self) -> Vec<(NamedPartition, Option<Arc<Store>>)> {
        let workers = self.workers.lock();
        let stores = workers
            .iter()
            .map(|(at, worker)| (at.clone(), worker.store()));
        stores.collect()
    }

    /// The way to the worker at a partition.
    pub(crate) fn worker(
        &self,
        topic: &str,
        partition: PartitionIndex,
    ) -> Option<mpsc::Sender<WorkerCommand>> {
        let at = NamedPartition {
            topic: topic.to_owned(),
            partition,
        };
        self.workers.lock().get(&at).map(RunningWorker::commands)
    }

    /// Has every worker that stands still go on.
    pub(crate) fn resume(&self) {
        for worker in self.workers.lock().values() {
            // One that works has nothing to resume, and a full queue wakes it as well.
            let _ = worker.commands().try_send(WorkerCommand::Resume);
            worker.leaves(|state| matches!(state, WorkerState::Paused { .. }));
        }
    }

    pub(crate) fn worker_count(&self) -> usize {
        self.workers.lock().len()
    }
}

/// The deployment's task.
struct Member {
    shared: Arc<Shared>,
    workers: Workers,
    stopped: watch::Receiver<bool>,
}

impl Member {
    async fn run(mut self) {
        while !*self.stopped.borrow() {
            if let Err(error) = self.take_part().await {
                tracing::warn!(deployment = self.shared.spec.name, %error, "joining the group again");
                tokio::select! {
                    () = tokio::time::sleep(REJOIN_AFTER) => {}
                    _ = self.stopped.wait_for(|stopped| *stopped) => {}
                }
            }
        }
    }

    /// One membership, from joining to its end.
    async fn take_part(&mut self) -> Result<(), WireError> {
        let spec = &self.shared.spec;
        let applicant = Applicant {
            group: spec.name.clone(),
            topics: spec.inputs.clone(),
            start: spec.start,
        };
        let (seat, messages) = Seat::take(&self.shared.group, applicant).await?;
        let seat = Arc::new(seat);
        *self.shared.seat.lock() = Some(Arc::clone(&seat));
        let ended = self.follow(&seat, messages).await;
        // Workers commit before the membership ends, and no later.
        self.stop_workers(self.owned()).await;
        *self.shared.seat.lock() = None;
        seat.leave().await;
        ended
    }

    async fn follow(&mut self, seat: &Seat, mut messages: MemberMessages) -> Result<(), WireError> {
        loop {
            let message = tokio::select! {
                message = messages.recv() => message,
                _ = self.stopped.wait_for(|stopped| *stopped) => return Ok(()),
                () = self.shared.left.notified() => {
                    return Err(errors::not_ready("a partition has come back as another one"));
                }
            };
            match message {
                None => {
                    return Err(WireError::new(
                        ErrorCode::UnknownMember,
                        "the membership has ended",
                    ));
                }
                Some(CoordinatorMessage::Joined { generation, .. }) => self.saw(generation),
                Some(CoordinatorMessage::Assign {
                    generation,
                    partitions,
                }) => {
                    self.saw(generation);
                    self.start_workers(partitions, Start::Journal).await?;
                }
                Some(CoordinatorMessage::Seek {
                    generation,
                    partitions,
                }) => {
                    self.stop_workers(partitions.iter().map(named).collect())
                        .await;
                    self.saw(generation);
                    self.start_workers(partitions, Start::Reset).await?;
                }
                Some(CoordinatorMessage::Revoke {
                    generation,
                    partitions,
                }) => {
                    self.stop_workers(partitions.clone()).await;
                    self.saw(generation);
                    seat.released(generation, partitions).await?;
                }
                Some(CoordinatorMessage::Committed(Ok(()))) => {}
                // A commit from before a reset or a revocation: its worker has been told to stop.
                Some(CoordinatorMessage::Committed(Err(error))) => {
                    tracing::debug!(deployment = self.shared.spec.name, %error, "a commit was refused");
                }
            }
        }
    }

    fn saw(&self, generation: u32) {
        self.shared
            .generation
            .fetch_max(generation, Ordering::AcqRel);
    }

    fn owned(&self) -> Vec<NamedPartition> {
        self.workers.lock().keys().cloned().collect()
    }

    async fn start_workers(
        &self,
        partitions: Vec<AssignedPartition>,
        start: fn(Offset) -> Start,
    ) -> Result<(), WireError> {
        for assigned in partitions {
            let id = TopicPartition {
                topic_id: assigned.topic_id,
                partition: assigned.partition,
            };
            let kept = tokio::time::timeout(KEPT_WITHIN, self.shared.partitions.kept(id));
            let Ok(input) = kept.await else {
                // A topic that was deleted meanwhile has nothing to work on.
                if self.shared.controller.image().partition(id).is_none() {
                    continue;
                }
                return Err(errors::not_ready(format!(
                    "partition {}-{} is not here yet",
                    assigned.topic, assigned.partition
                )));
            };
            let worker =
                RunningWorker::start(Arc::clone(&self.shared), input, start(assigned.offset));
            self.workers.lock().insert(named(&assigned), worker);
        }
        Ok(())
    }

    async fn stop_workers(&self, partitions: Vec<NamedPartition>) {
        // All of them end their turns at the same time.
        {
            let workers = self.workers.lock();
            let stopping = partitions.iter().filter_map(|it| workers.get(it));
            stopping.for_each(RunningWorker::begin_stop);
        }
        for partition in partitions {
            let worker = self.workers.lock().remove(&partition);
            if let Some(worker) = worker {
                worker.stop().await;
            }
        }
    }
}

fn named(assigned: &AssignedPartition) -> NamedPartition {
    NamedPartition {
        topic: assigned.topic.clone(),
        partition: assigned.partition,
    }
}
