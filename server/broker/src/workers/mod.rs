//! Deployments: WebAssembly components that work on the records of topics, next to the log.

mod artefacts;
mod change;
mod dead_letter;
mod deployment;
mod describe;
mod failure_log;
mod follow;
mod input;
mod journal;
mod latency;
mod lifecycle;
mod logs;
mod mirror;
mod outlets;
pub(crate) mod peers;
mod priority;
mod progress;
mod promote;
mod replay;
mod retry;
mod seat;
mod settle;
mod share;
mod spell;
mod state;
mod steer;
mod sweep;
mod tables;
mod threads;
mod turn;
mod turnstile;
mod waits;
mod worker;

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use millstream_log::storage::has_room;
use millstream_metadata::{BrokerId, Deployment};
use millstream_protocol::api::lifecycle::Activity;
use millstream_protocol::api::plugin::{DeploymentSpec, FailureAction};
use millstream_protocol::{ErrorCode, PartitionIndex, TopicPartition, WireError};
use millstream_runtime::{
    EmptyState, HOST_CONTEXT, OwnThread, Plugin, Runtime, RuntimeConfig, Table,
};
use millstream_state::{StateConfig, States, Store};
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinHandle;

use crate::cluster::Cluster;
use crate::config::BrokerConfig;
use crate::controller::Controller;
use crate::data_dir::DataDir;
use crate::errors;
use crate::groups::office::GroupOffice;
use crate::leaders::Leaders;
use crate::registry::Registry;
use crate::secrets::Secrets;
use artefacts::Artefacts;
use deployment::{Bounds, RunningDeployment, Shared, Surroundings};
pub(crate) use logs::DeploymentLogs;
use logs::WorkerLog;
use outlets::Target;
use tables::Tables;
use threads::GuestThreads;
use turn::Output;

/// Lines of the host's own that are told with why a component does not start.
const MAX_REMARKS: usize = 3;

/// Every deployment on this broker.
pub(crate) struct Deployments {
    artefacts: Artefacts,
    engine: RuntimeConfig,
    /// Made with the first deployment: a broker without plugins does not pay for an engine.
    runtime: OnceLock<Arc<Runtime>>,
    running: Mutex<BTreeMap<String, RunningDeployment>>,
    /// Up to which entry of the metadata's log they are as the image has them, as far as they can be.
    followed: watch::Sender<Option<u64>>,
    /// Why those are not at work that are not.
    failures: Mutex<BTreeMap<String, WireError>>,
    /// Has them looked at once more.
    again: Notify,
    /// What has them follow the image.
    following: Mutex<Option<JoinHandle<()>>>,
    threads: Arc<GuestThreads>,
    states: Arc<States>,
    tables: Tables,
    loads: Arc<Semaphore>,
    controller: Arc<Controller>,
    cluster: Arc<Cluster>,
    group: Arc<GroupOffice>,
    leaders: Arc<Leaders>,
    partitions: Arc<Registry>,
    /// This broker, which owns the workers here.
    broker_id: BrokerId,
    secrets: Arc<Secrets>,
    /// Held while deployments come and go.
    change: tokio::sync::Mutex<()>,
}

/// What [`Deployments::load`] puts together.
pub(crate) struct DeploymentsSetup {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) controller: Arc<Controller>,
    pub(crate) group_office: Arc<GroupOffice>,
    pub(crate) leaders: Arc<Leaders>,
    pub(crate) partitions: Arc<Registry>,
    pub(crate) secrets: Arc<Secrets>,
}

impl Deployments {
    /// Has every deployment of the image started, and the workers here be as the image has them from now
    /// on. One whose component is lost or no longer fits is reported and left out; it starts nothing else
    /// late.
    pub(crate) fn load(
        config: &BrokerConfig,
        data_dir: &DataDir,
        setup: DeploymentsSetup,
    ) -> Arc<Self> {
        let DeploymentsSetup {
            cluster,
            controller,
            group_office,
            leaders,
            partitions,
            secrets,
        } = setup;
        let state_config = StateConfig {
            overlay_bytes: config.state_overlay_bytes,
            ..StateConfig::default()
        };
        let states = States::new(data_dir.state(), state_config, has_room);
        let tables = Tables::new(tables::Setting {
            states: states.beside(data_dir.tables()),
            limit_bytes: config.table_bytes,
            reads: Semaphore::new(config.worker_threads.max(1)),
            leaders: Arc::clone(&leaders),
        });
        tables.forget_lost();
        let deployments = Arc::new(Self {
            artefacts: Artefacts::new(Arc::clone(&partitions)),
            engine: RuntimeConfig {
                compiler: config.compiler.clone(),
                cache_dir: Some(data_dir.compiled()),
                begin_io_thread: priority::lower_this_thread,
                ..RuntimeConfig::default()
            },
            runtime: OnceLock::new(),
            running: Mutex::default(),
            followed: watch::Sender::new(None),
            failures: Mutex::default(),
            again: Notify::new(),
            following: Mutex::default(),
            threads: Arc::new(GuestThreads::new(config.worker_threads)),
            states,
            tables,
            loads: Arc::new(Semaphore::new(config.worker_threads.max(1))),
            group: group_office,
            leaders,
            controller,
            cluster,
            partitions,
            broker_id: data_dir.identity().broker_id,
            secrets,
            change: tokio::sync::Mutex::default(),
        });
        deployments.forget_lost_states();
        // Compiling takes its time: the broker is ready before its workers are.
        let following = tokio::spawn(Arc::clone(&deployments).follow());
        *deployments.following.lock() = Some(following);
        deployments
    }

    pub(crate) fn exists(&self, name: &str) -> bool {
        self.controller.image().deployment(name).is_some()
    }

    pub(crate) fn logs(&self, name: &str) -> Result<Arc<DeploymentLogs>, WireError> {
        if let Some(running) = self.running.lock().get(name) {
            return Ok(Arc::clone(&running.shared.logs));
        }
        if self.exists(name) {
            return Err(WireError::new(
                ErrorCode::NotReady,
                format!("deployment {name} is not running yet"),
            ));
        }
        Err(errors::unknown_deployment(name))
    }

    /// What the guests of a deployment's workers remember, of those that are `wanted`.
    pub(crate) fn stores(
        &self,
        name: &str,
        wanted: impl Fn(&str, PartitionIndex) -> bool,
    ) -> Result<Vec<(String, PartitionIndex, Arc<Store>)>, WireError> {
        let stores = self.running.lock().get(name).map(RunningDeployment::stores);
        if stores.is_none() && !self.exists(name) {
            return Err(errors::unknown_deployment(name));
        }
        let stores = stores.unwrap_or_default();
        let has_workers = !stores.is_empty();
        let stores = stores
            .into_iter()
            .filter(|(at, _)| wanted(&at.topic, at.partition));
        let stores = stores.map(|(at, store)| match store {
            Some(store) => Ok((at.topic, at.partition, store)),
            None => Err(errors::not_ready(format!(
                "the worker of {name} at {}-{} does not have its state yet",
                at.topic, at.partition
            ))),
        });
        let stores: Vec<_> = stores.collect::<Result<_, _>>()?;
        if stores.is_empty() {
            return Err(if has_workers {
                errors::invalid(format!(
                    "deployment {name} has no worker at that topic or partition: `plugin describe {name}` \
                     lists those that it has"
                ))
            } else {
                errors::not_ready(format!("deployment {name} has no workers now"))
            });
        }
        Ok(stores)
    }

    pub(crate) fn worker_count(&self) -> usize {
        self.running
            .lock()
            .values()
            .map(RunningDeployment::worker_count)
            .sum()
    }

    /// Stops every worker after its turn.
    pub(crate) async fn stop(&self) {
        let following = self.following.lock().take();
        if let Some(following) = following {
            following.abort();
            // It has ended, or was ended.
            let _ = following.await;
        }
        let running = std::mem::take(&mut *self.running.lock());
        // None goes on while another one ends.
        running.values().for_each(RunningDeployment::begin_stop);
        for (_, deployment) in running {
            deployment.stop().await;
        }
        self.tables.stop().await;
    }

    /// What the workers of a deployment share, with its component compiled.
    async fn prepare(&self, deployment: &Deployment) -> Result<Shared, WireError> {
        let plugin = self.compiled(&deployment.plugin.digest).await?;
        let replay = deployment.shadow.as_ref().map(|shadow| &shadow.replay);
        self.shared(deployment, plugin, self.bounds(replay))
    }

    async fn compile(&self, component: Bytes) -> Result<Plugin, WireError> {
        self.with_runtime(move |runtime| runtime.compile(&component))
            .await?
            .map_err(|error| errors::from_refused(&error))
    }

    /// The plugin of an artefact, from the cache if that has it.
    async fn compiled(&self, digest: &str) -> Result<Plugin, WireError> {
        let wanted = digest.to_owned();
        let kept = self.with_runtime(move |runtime| runtime.kept(&wanted));
        match kept.await? {
            Some(kept) => kept.map_err(|error| errors::from_refused(&error)),
            None => self.compile(self.component(digest).await?).await,
        }
    }

    /// Does what takes its time with the engine, on a thread that may block.
    async fn with_runtime<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Runtime) -> T + Send + 'static,
    ) -> Result<T, WireError> {
        let runtime = match self.runtime.get() {
            Some(runtime) => Arc::clone(runtime),
            None => {
                let made = Runtime::new(self.engine.clone())
                    .map_err(|error| WireError::new(ErrorCode::Internal, error.to_string()))?;
                Arc::clone(self.runtime.get_or_init(|| Arc::new(made)))
            }
        };
        let working = tokio::task::spawn_blocking(move || work(&runtime));
        working.await.map_err(errors::unfinished)
    }

    /// Starts an instance once, so that a component whose `init` fails, or that needs what it is not
    /// granted, is refused, not deployed.
    async fn try_start(&self, spec: &DeploymentSpec, plugin: Plugin) -> Result<Plugin, WireError> {
        plugin
            .check_grants(&spec.grants, spec.tables.len())
            .map_err(|error| errors::from_refused(&error))?;
        let logs = DeploymentLogs::new();
        let log = WorkerLog {
            logs: Arc::clone(&logs),
            topic: spec.inputs.first().cloned().unwrap_or_default(),
            partition: 0,
        };
        let tables = spec.tables.iter().map(|table| Table::empty(&table.name));
        let surroundings = Surroundings {
            log,
            state: Arc::new(EmptyState),
            metrics: Arc::default(),
            tables: tables.collect(),
            secrets: Arc::clone(&self.secrets),
            waits: Arc::new(OwnThread),
        };
        let setup = deployment::setup(spec, surroundings);
        let starting = tokio::task::spawn_blocking(move || {
            let started = plugin.start(setup).map(drop);
            (plugin, started)
        });
        let (plugin, started) = starting.await.map_err(errors::unfinished)?;
        started.map_err(|error| {
            let mut refused = errors::from_start(&error);
            // What the host itself has to say of it is nowhere else.
            let (lines, _) = logs.follow(usize::MAX);
            let of_host = lines.iter().filter(|line| line.context == HOST_CONTEXT);
            for line in of_host.take(MAX_REMARKS) {
                refused.message += &format!("; {}", line.message);
            }
            refused
        })?;
        Ok(plugin)
    }

    fn shared(
        &self,
        deployment: &Deployment,
        plugin: Plugin,
        bounds: Bounds,
    ) -> Result<Shared, WireError> {
        let spec = deployment.spec.clone();
        let outputs = spec.outputs.iter().map(|output| {
            Ok(Output {
                name: output.name.clone(),
                partitions: self.targets_of(&output.topic)?,
            })
        });
        let outputs = outputs.collect::<Result<_, WireError>>()?;
        let dead_letters = match &spec.on_failure.finally {
            FailureAction::DeadLetter { topic } => self.targets_of(topic)?,
            FailureAction::Skip | FailureAction::Pause => Vec::new(),
        };
        // The lines of a version that is replaced stay readable.
        let running = self.running.lock();
        let logs = running
            .get(&spec.name)
            .map(|it| Arc::clone(&it.shared.logs));
        let logs = logs.unwrap_or_else(DeploymentLogs::new);
        drop(running);
        Ok(Shared {
            deployment_id: deployment.deployment_id,
            revision: deployment.revision,
            plugin,
            outputs,
            dead_letters,
            leaders: Arc::clone(&self.leaders),
            logs,
            threads: Arc::clone(&self.threads),
            share: GuestThreads::share_of_deployment(),
            states: Arc::clone(&self.states),
            loads: Arc::clone(&self.loads),
            group: Arc::clone(&self.group),
            partitions: Arc::clone(&self.partitions),
            tables: self.tables.of(&spec)?,
            spec,
            secrets: Arc::clone(&self.secrets),
            controller: Arc::clone(&self.controller),
            seat: Mutex::default(),
            generation: AtomicU32::new(0),
            activity: Mutex::new(deployment.activity),
            hold: watch::Sender::new(deployment.activity == Activity::Paused),
            steered_until: Mutex::default(),
            left: Notify::new(),
            bounds: watch::Sender::new(Arc::new(bounds)),
        })
    }

    /// The partitions of a topic.
    fn partitions_of(&self, topic: &str) -> Result<Vec<TopicPartition>, WireError> {
        let known = self.controller.topic(topic)?;
        let numbers = 0..known.partitions.len() as u32;
        Ok(numbers.map(|number| known.at(number)).collect())
    }

    /// The same, as workers write to them.
    fn targets_of(&self, topic: &str) -> Result<Vec<Target>, WireError> {
        let targets = self.partitions_of(topic)?.into_iter();
        Ok(targets
            .map(|id| Target::new(id, Arc::clone(&self.controller)))
            .collect())
    }
}
