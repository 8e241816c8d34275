//! Deployments: WebAssembly components that work on the records of topics, next to the log.

mod artefacts;
mod change;
mod dead_letter;
mod deployment;
mod describe;
mod failure_log;
mod input;
mod journal;
mod latency;
mod lifecycle;
mod logs;
mod mirror;
mod priority;
mod progress;
mod promote;
mod replay;
mod retry;
mod settle;
mod share;
mod spell;
mod state;
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
use std::time::Duration;

use bytes::Bytes;
use millstream_metadata::{BrokerId, Deployment, DeploymentId};
use millstream_protocol::api::lifecycle::Activity;
use millstream_protocol::api::plugin::{DeploymentSpec, FailureAction};
use millstream_protocol::{ErrorCode, PartitionIndex, TopicPartition, WireError};
use millstream_runtime::{
    EmptyState, HOST_CONTEXT, OwnThread, Plugin, Runtime, RuntimeConfig, Table,
};
use millstream_state::{StateConfig, States, Store};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use crate::StartError;
use crate::config::BrokerConfig;
use crate::controller::Controller;
use crate::data_dir::DataDir;
use crate::errors;
use crate::groups::Groups;
use crate::internal::ARTEFACTS_PARTITION;
use crate::partition::Partition;
use crate::registry::Registry;
use crate::secrets::Secrets;
use artefacts::Artefacts;
use deployment::{Bounds, RunningDeployment, Shared, Surroundings};
pub(crate) use logs::DeploymentLogs;
use logs::WorkerLog;
use tables::Tables;
use threads::GuestThreads;
use turn::Output;

/// How long deployments that did not start wait before they are tried again, at first; it doubles.
const FIRST_START_BACK_OFF: Duration = Duration::from_secs(1);

/// The longest wait.
const LONGEST_START_BACK_OFF: Duration = Duration::from_secs(60);

/// Lines of the host's own that are told with why a component does not start.
const MAX_REMARKS: usize = 3;

/// Every deployment on this broker.
pub(crate) struct Deployments {
    artefacts: Artefacts,
    engine: RuntimeConfig,
    /// Made with the first deployment: a broker without plugins does not pay for an engine.
    runtime: OnceLock<Arc<Runtime>>,
    running: Mutex<BTreeMap<String, RunningDeployment>>,
    /// What starts them after a restart of the broker.
    starting: Mutex<Option<JoinHandle<()>>>,
    threads: Arc<GuestThreads>,
    states: Arc<States>,
    tables: Tables,
    loads: Arc<Semaphore>,
    controller: Arc<Controller>,
    groups: Arc<Groups>,
    partitions: Arc<Registry>,
    /// This broker, which owns the workers here.
    broker_id: BrokerId,
    secrets: Arc<Secrets>,
    /// Held while deployments come and go.
    change: tokio::sync::Mutex<()>,
}

impl Deployments {
    /// Starts every deployment of the image. One whose component is lost or no longer fits is
    /// reported and left out; it starts nothing else late.
    pub(crate) fn load(
        config: &BrokerConfig,
        data_dir: &DataDir,
        controller: Arc<Controller>,
        groups: Arc<Groups>,
        partitions: Arc<Registry>,
        secrets: Arc<Secrets>,
    ) -> Result<Arc<Self>, StartError> {
        let artefacts = partitions
            .get(ARTEFACTS_PARTITION)
            .ok_or_else(|| StartError::Load {
                what: "the components".to_owned(),
                reason: "their log is not open".to_owned(),
            })?;
        let state_config = StateConfig {
            overlay_bytes: config.state_overlay_bytes,
            ..StateConfig::default()
        };
        let states = States::new(data_dir.state(), state_config);
        let tables = Tables::new(tables::Setting {
            states: states.beside(data_dir.tables()),
            limit_bytes: config.table_bytes,
            reads: Semaphore::new(config.worker_threads.max(1)),
            controller: Arc::clone(&controller),
            partitions: Arc::clone(&partitions),
        });
        tables.forget_lost();
        let deployments = Arc::new(Self {
            artefacts: Artefacts::new(artefacts),
            engine: RuntimeConfig {
                compiler: config.compiler.clone(),
                cache_dir: Some(data_dir.compiled()),
                begin_io_thread: priority::lower_this_thread,
                ..RuntimeConfig::default()
            },
            runtime: OnceLock::new(),
            running: Mutex::default(),
            starting: Mutex::default(),
            threads: Arc::new(GuestThreads::new(config.worker_threads)),
            states,
            tables,
            loads: Arc::new(Semaphore::new(config.worker_threads.max(1))),
            controller,
            groups,
            partitions,
            broker_id: data_dir.identity().broker_id,
            secrets,
            change: tokio::sync::Mutex::default(),
        });
        deployments.forget_lost_states();
        // Compiling takes its time: the broker is ready before its workers are.
        let starting = Arc::clone(&deployments);
        let starting = tokio::spawn(async move { starting.start_all().await });
        *deployments.starting.lock() = Some(starting);
        Ok(deployments)
    }

    /// Starts every deployment. What cannot be started now, as when compiling takes too long on a busy machine, is
    /// tried again.
    async fn start_all(&self) {
        let mut back_off = FIRST_START_BACK_OFF;
        let mut is_swept = false;
        loop {
            let changing = self.change.lock().await;
            let mut all = true;
            for deployment in self.controller.image().deployments() {
                if let Err(error) = self.ensure_running(deployment).await {
                    let name = &deployment.spec.name;
                    tracing::error!(deployment = name, %error, "deployment not started: it is tried again");
                    all = false;
                }
            }
            if !is_swept {
                self.sweep().await;
                is_swept = true;
            }
            drop(changing);
            if all {
                return;
            }
            tokio::time::sleep(back_off).await;
            back_off = (2 * back_off).min(LONGEST_START_BACK_OFF);
        }
    }

    /// Starts a deployment that is not at work, as after its component could not be compiled.
    async fn ensure_running(&self, deployment: &Deployment) -> Result<(), WireError> {
        if self.running.lock().contains_key(&deployment.spec.name) {
            return Ok(());
        }
        self.restart(deployment.clone()).await
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
            None => Err(not_ready(format!(
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
                not_ready(format!("deployment {name} has no workers now"))
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
        let starting = self.starting.lock().take();
        if let Some(starting) = starting {
            starting.abort();
            // It has ended, or was ended.
            let _ = starting.await;
        }
        let running = std::mem::take(&mut *self.running.lock());
        // None goes on while another one ends.
        running.values().for_each(RunningDeployment::begin_stop);
        for (_, deployment) in running {
            deployment.stop().await;
        }
        self.tables.stop().await;
    }

    async fn restart(&self, deployment: Deployment) -> Result<(), WireError> {
        let plugin = self.compiled(&deployment.plugin.digest).await?;
        let Deployment {
            deployment_id,
            spec,
            activity,
            shadow,
            ..
        } = deployment;
        let name = spec.name.clone();
        let bounds = self.bounds(shadow.as_ref().map(|shadow| &shadow.replay));
        let shared = self.shared(deployment_id, spec, plugin, activity, bounds)?;
        self.running
            .lock()
            .insert(name, RunningDeployment::start(shared));
        Ok(())
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
            None => self.compile(self.artefacts.load(digest).await?).await,
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
        working.await.map_err(errors::from_join)
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
        let (plugin, started) = starting.await.map_err(errors::from_join)?;
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
        deployment_id: DeploymentId,
        spec: DeploymentSpec,
        plugin: Plugin,
        activity: Activity,
        bounds: Bounds,
    ) -> Result<Shared, WireError> {
        let outputs = spec.outputs.iter().map(|output| {
            Ok(Output {
                name: output.name.clone(),
                partitions: self.partitions_of(&output.topic)?,
            })
        });
        let outputs = outputs.collect::<Result<_, WireError>>()?;
        let dead_letters = match &spec.on_failure.finally {
            FailureAction::DeadLetter { topic } => self.partitions_of(topic)?,
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
            deployment_id,
            plugin,
            outputs,
            dead_letters,
            logs,
            threads: Arc::clone(&self.threads),
            share: GuestThreads::share_of_deployment(),
            states: Arc::clone(&self.states),
            loads: Arc::clone(&self.loads),
            groups: Arc::clone(&self.groups),
            partitions: Arc::clone(&self.partitions),
            tables: self.tables.of(&spec)?,
            spec,
            secrets: Arc::clone(&self.secrets),
            controller: Arc::clone(&self.controller),
            membership: Mutex::default(),
            generation: AtomicU32::new(0),
            hold: watch::Sender::new(activity == Activity::Paused),
            bounds: watch::Sender::new(Arc::new(bounds)),
        })
    }

    fn partitions_of(&self, topic: &str) -> Result<Vec<Partition>, WireError> {
        let image = self.controller.image();
        let known = image
            .topic(topic)
            .ok_or_else(|| errors::unknown_topic(topic))?;
        let ids = (0..known.partitions.len() as u32).map(|partition| TopicPartition {
            topic_id: known.topic_id,
            partition,
        });
        let partitions: Option<Vec<_>> = ids.map(|id| self.partitions.get(id)).collect();
        partitions.ok_or_else(|| {
            WireError::new(
                ErrorCode::NotReady,
                format!("topic {topic} is not open yet"),
            )
        })
    }
}

fn not_ready(message: String) -> WireError {
    WireError::new(ErrorCode::NotReady, message)
}
