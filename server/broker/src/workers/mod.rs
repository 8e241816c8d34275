//! Deployments: WebAssembly components that work on the records of topics, next to the log.

mod artefacts;
mod dead_letter;
mod deployment;
mod input;
mod journal;
mod logs;
mod mirror;
mod progress;
mod retry;
mod settle;
mod spell;
mod state;
mod turn;
mod worker;

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use millstream_metadata::{
    Actor, Command, Deployment, DeploymentId, Limits, OnExisting, Plugin as PluginRecord,
};
use millstream_protocol::api::plugin::{DeploymentDescription, DeploymentSpec, FailureAction};
use millstream_protocol::api::topic::{CreateTopic, Durability, TopicConfig};
use millstream_protocol::{ErrorCode, PartitionIndex, TopicId, TopicPartition, WireError};
use millstream_runtime::{EmptyState, Plugin, Runtime, RuntimeConfig, digest};
use millstream_state::{StateConfig, States, Store};
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::clock;
use crate::config::BrokerConfig;
use crate::controller::Controller;
use crate::data_dir::DataDir;
use crate::errors;
use crate::groups::Groups;
use crate::partition::Partition;
use crate::registry::Registry;
use artefacts::Artefacts;
use deployment::{RunningDeployment, Shared};
pub(crate) use logs::DeploymentLogs;
use logs::WorkerLog;
use turn::Output;

/// Every deployment on this broker.
pub(crate) struct Deployments {
    artefacts: Arc<Artefacts>,
    /// Made with the first deployment: a broker without plugins does not pay for an engine.
    runtime: OnceLock<Arc<Runtime>>,
    running: Mutex<BTreeMap<String, RunningDeployment>>,
    slots: Arc<Semaphore>,
    states: Arc<States>,
    loads: Arc<Semaphore>,
    controller: Arc<Controller>,
    groups: Arc<Groups>,
    partitions: Arc<Registry>,
    /// Held while deployments come and go.
    change: tokio::sync::Mutex<()>,
}

impl Deployments {
    /// Starts every deployment of the image. One whose component is lost or no longer fits is
    /// reported and left out; it starts nothing else late.
    pub(crate) async fn load(
        config: &BrokerConfig,
        data_dir: &DataDir,
        controller: Arc<Controller>,
        groups: Arc<Groups>,
        partitions: Arc<Registry>,
    ) -> Arc<Self> {
        let state_config = StateConfig {
            overlay_bytes: config.state_overlay_bytes,
            ..StateConfig::default()
        };
        let states = States::new(data_dir.state(), state_config);
        let deployments = Arc::new(Self {
            artefacts: Arc::new(Artefacts::new(data_dir.artefacts())),
            runtime: OnceLock::new(),
            running: Mutex::default(),
            slots: Arc::new(Semaphore::new(config.worker_threads.max(1))),
            states,
            loads: Arc::new(Semaphore::new(config.worker_threads.max(1))),
            controller,
            groups,
            partitions,
            change: tokio::sync::Mutex::default(),
        });
        deployments.forget_lost_states();
        let known: Vec<Deployment> = deployments
            .controller
            .image()
            .deployments()
            .cloned()
            .collect();
        if !known.is_empty() {
            // Compiling takes its time: the broker is ready before its workers are.
            let deployments = Arc::clone(&deployments);
            tokio::spawn(async move {
                let _changing = deployments.change.lock().await;
                for deployment in known {
                    let name = deployment.spec.name.clone();
                    if let Err(error) = deployments.restart(deployment).await {
                        tracing::error!(deployment = name, %error, "deployment not started");
                    }
                }
            });
        }
        deployments
    }

    /// Refuses or starts a deployment, or puts it in the place of the one that has its name.
    pub(crate) async fn deploy(
        &self,
        spec: DeploymentSpec,
        component: Bytes,
        on_existing: OnExisting,
    ) -> Result<DeploymentDescription, WireError> {
        let _changing = self.change.lock().await;
        // What can be refused without compiling is refused first.
        let image = self.controller.image();
        image
            .check_spec(&spec, &Limits::default())
            .map_err(errors::from_spec)?;
        let name = spec.name.clone();
        let existing = image.deployment(&name);
        if let Some(existing) = existing {
            let same = || existing.plugin.digest == digest(&component);
            match on_existing {
                OnExisting::Refuse => return Err(errors::deployment_exists(&name)),
                OnExisting::Replace if existing.spec == spec && same() => {
                    return self.describe(&name);
                }
                OnExisting::Replace => {}
            }
        }
        let plugin = self.compile(component.clone()).await?;
        let plugin = self.try_start(&spec, plugin).await?;
        self.ensure_dead_letters(&spec).await?;
        let deployment_id = existing.map_or_else(
            || DeploymentId(Uuid::new_v4()),
            |existing| existing.deployment_id,
        );
        let shared = self.shared(deployment_id, spec.clone(), plugin)?;

        let (digest, component_bytes) = (shared.plugin.digest().to_owned(), component.len() as u64);
        let (artefacts, stored) = (Arc::clone(&self.artefacts), digest.clone());
        let storing = tokio::task::spawn_blocking(move || artefacts.store(&stored, &component));
        storing
            .await
            .map_err(errors::from_join)?
            .map_err(|e| WireError::new(ErrorCode::StorageFailed, e.to_string()))?;
        let command = Command::PutDeployment {
            deployment_id,
            spec,
            plugin: PluginRecord {
                digest,
                component_bytes,
                imports: shared.plugin.imports().to_vec(),
            },
            deployed_at_ms: clock::now_ms(),
            on_existing,
        };
        self.controller.execute(command).await?;
        // Two versions never work on the same partition: the next one finds in the journal what
        // this one has come to.
        let before = self.running.lock().remove(&name);
        if let Some(before) = before {
            before.stop().await;
        }
        self.running
            .lock()
            .insert(name.clone(), RunningDeployment::start(shared));
        if let Some(existing) = existing {
            self.forget_artefact(&existing.plugin.digest);
        }
        self.describe(&name)
    }

    /// Stops a deployment's workers and forgets it. Its group and offsets stay.
    pub(crate) async fn remove(&self, name: &str) -> Result<(), WireError> {
        let _changing = self.change.lock().await;
        let Some(deployment) = self.controller.image().deployment(name).cloned() else {
            return Err(errors::unknown_deployment(name));
        };
        self.controller
            .execute(Command::RemoveDeployment {
                name: name.to_owned(),
            })
            .await?;
        let running = self.running.lock().remove(name);
        if let Some(running) = running {
            running.stop().await;
        }
        self.remove_journals(deployment.deployment_id).await?;
        self.forget_artefact(&deployment.plugin.digest);
        Ok(())
    }

    /// Has workers that stand still in front of a record try it again.
    pub(crate) async fn resume(&self, name: &str) -> Result<DeploymentDescription, WireError> {
        let _changing = self.change.lock().await;
        if let Some(running) = self.running.lock().get(name) {
            running.resume();
        }
        self.describe(name)
    }

    /// Removes an artefact that no deployment uses any more.
    fn forget_artefact(&self, digest: &str) {
        let image = self.controller.image();
        if !image.deployments().any(|it| it.plugin.digest == digest) {
            self.artefacts.remove(digest);
        }
    }

    pub(crate) fn list(&self) -> Vec<DeploymentDescription> {
        self.controller
            .image()
            .deployments()
            .map(|deployment| self.description(deployment))
            .collect()
    }

    pub(crate) fn describe(&self, name: &str) -> Result<DeploymentDescription, WireError> {
        let image = self.controller.image();
        let deployment = image
            .deployment(name)
            .ok_or_else(|| errors::unknown_deployment(name))?;
        Ok(self.description(deployment))
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
        let stores = stores.unwrap_or_default().into_iter();
        let stores = stores.filter(|(at, _)| wanted(&at.topic, at.partition));
        let stores = stores.map(|(at, store)| match store {
            Some(store) => Ok((at.topic, at.partition, store)),
            None => Err(not_ready(format!(
                "the worker of {name} at {}-{} does not have its state yet",
                at.topic, at.partition
            ))),
        });
        let stores: Vec<_> = stores.collect::<Result<_, _>>()?;
        if stores.is_empty() {
            return Err(not_ready(format!(
                "deployment {name} has no such worker now"
            )));
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
        let running = std::mem::take(&mut *self.running.lock());
        for (_, deployment) in running {
            deployment.stop().await;
        }
    }

    async fn restart(&self, deployment: Deployment) -> Result<(), WireError> {
        let (artefacts, digest) = (
            Arc::clone(&self.artefacts),
            deployment.plugin.digest.clone(),
        );
        let loading = tokio::task::spawn_blocking(move || artefacts.load(&digest));
        let component = loading
            .await
            .map_err(errors::from_join)?
            .map_err(|error| WireError::new(ErrorCode::StorageFailed, error.to_string()))?;
        let plugin = self.compile(component.into()).await?;
        let name = deployment.spec.name.clone();
        let shared = self.shared(deployment.deployment_id, deployment.spec, plugin)?;
        self.running
            .lock()
            .insert(name, RunningDeployment::start(shared));
        Ok(())
    }

    async fn compile(&self, component: Bytes) -> Result<Plugin, WireError> {
        let runtime = match self.runtime.get() {
            Some(runtime) => Arc::clone(runtime),
            None => {
                let made = Runtime::new(RuntimeConfig::default())
                    .map_err(|error| WireError::new(ErrorCode::Internal, error.to_string()))?;
                Arc::clone(self.runtime.get_or_init(|| Arc::new(made)))
            }
        };
        let compiling = tokio::task::spawn_blocking(move || runtime.compile(&component));
        compiling
            .await
            .map_err(errors::from_join)?
            .map_err(|error| errors::from_refused(&error))
    }

    /// Starts an instance once, so that a component whose `init` fails is refused, not deployed.
    async fn try_start(&self, spec: &DeploymentSpec, plugin: Plugin) -> Result<Plugin, WireError> {
        let log = WorkerLog {
            logs: DeploymentLogs::new(),
            topic: spec.inputs.first().cloned().unwrap_or_default(),
            partition: 0,
        };
        let setup = deployment::setup(spec, log, Arc::new(EmptyState));
        let starting = tokio::task::spawn_blocking(move || {
            let started = plugin.start(setup).map(drop);
            (plugin, started)
        });
        let (plugin, started) = starting.await.map_err(errors::from_join)?;
        started.map_err(|error| {
            WireError::new(
                ErrorCode::ComponentRefused,
                format!("the component does not start: {error}"),
            )
        })?;
        Ok(plugin)
    }

    /// Makes a deployment's dead-letter topic, if it has one and it is not there. What is in it
    /// waits for a person.
    async fn ensure_dead_letters(&self, spec: &DeploymentSpec) -> Result<(), WireError> {
        let FailureAction::DeadLetter { topic } = &spec.on_failure.finally else {
            return Ok(());
        };
        if self.controller.image().topic(topic).is_some() {
            return Ok(());
        }
        let topic = CreateTopic {
            name: topic.clone(),
            partitions: 1,
            config: TopicConfig {
                durability: Durability::Sync,
                retention_ms: None,
                ..TopicConfig::default()
            },
        };
        let create = Command::CreateTopic {
            topic_id: TopicId(Uuid::new_v4()),
            topic,
            actor: Actor::User,
        };
        self.controller.execute(create).await.map(drop)
    }

    /// Removes the state of deployments that went while it could not be removed.
    fn forget_lost_states(&self) {
        let image = self.controller.image();
        let known = |topic_id| image.topic_by_id(topic_id).is_some();
        if let Err(error) = self.states.retain(known) {
            tracing::warn!(%error, "the state of removed deployments remains on disk");
        }
    }

    async fn remove_journals(&self, deployment_id: DeploymentId) -> Result<(), WireError> {
        let image = self.controller.image();
        let journals = image
            .topics()
            .filter(|topic| journal::belongs_to(&topic.name, deployment_id));
        for topic in journals {
            let delete = Command::DeleteTopic {
                topic: topic.name.clone(),
                actor: Actor::Broker,
            };
            self.controller.execute(delete).await?;
            if let Err(error) = self.states.remove(topic.topic_id) {
                tracing::warn!(%error, "the state of a removed deployment remains on disk");
            }
        }
        Ok(())
    }

    fn shared(
        &self,
        deployment_id: DeploymentId,
        spec: DeploymentSpec,
        plugin: Plugin,
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
            spec,
            plugin,
            outputs,
            dead_letters,
            logs,
            slots: Arc::clone(&self.slots),
            states: Arc::clone(&self.states),
            loads: Arc::clone(&self.loads),
            groups: Arc::clone(&self.groups),
            partitions: Arc::clone(&self.partitions),
            controller: Arc::clone(&self.controller),
            membership: Mutex::default(),
            generation: AtomicU32::new(0),
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

    fn description(&self, deployment: &Deployment) -> DeploymentDescription {
        let running = self.running.lock();
        DeploymentDescription {
            spec: deployment.spec.clone(),
            revision: deployment.revision,
            digest: deployment.plugin.digest.clone(),
            component_bytes: deployment.plugin.component_bytes,
            deployed_at_ms: deployment.deployed_at_ms,
            imports: deployment.plugin.imports.clone(),
            workers: running
                .get(&deployment.spec.name)
                .map(RunningDeployment::workers)
                .unwrap_or_default(),
        }
    }
}

fn not_ready(message: String) -> WireError {
    WireError::new(ErrorCode::NotReady, message)
}
