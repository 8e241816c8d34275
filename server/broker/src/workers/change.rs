//! How a deployment comes, changes and goes.

use bytes::Bytes;
use millstream_metadata::limits::MAX_PRINCIPAL_BYTES;
use millstream_metadata::{
    Actor, Command, Deployment, DeploymentId, Limits, OnExisting, Plugin as PluginRecord,
};
use millstream_protocol::api::lifecycle::{
    Activity, ListRevisionsResponse, RevisionChange, RevisionDescription, RollBackDeployment,
};
use millstream_protocol::api::plugin::{DeploymentDescription, DeploymentSpec, FailureAction};
use millstream_protocol::api::replay::Replay;
use millstream_protocol::api::topic::{CreateTopic, Durability, TopicConfig};
use millstream_protocol::{TopicId, WireError};
use millstream_runtime::{Plugin, digest};
use uuid::Uuid;

use super::Deployments;
use crate::clock;
use crate::errors;
use crate::workers::deployment::RunningDeployment;

/// A revision that is to be put in place.
pub(super) struct Revision {
    pub(super) spec: DeploymentSpec,
    pub(super) plugin: Plugin,
    /// The component, if it may not be stored yet.
    pub(super) component: Option<Bytes>,
    pub(super) on_existing: OnExisting,
    pub(super) by: String,
    pub(super) change: RevisionChange,
    /// What it replays, if it is a shadow.
    pub(super) replay: Option<Replay>,
}

impl Deployments {
    /// Refuses or starts a deployment, or puts it in the place of the one that has its name.
    pub(crate) async fn deploy(
        &self,
        spec: DeploymentSpec,
        component: Bytes,
        on_existing: OnExisting,
        by: &str,
    ) -> Result<DeploymentDescription, WireError> {
        let _changing = self.change.lock().await;
        // What can be refused without compiling is refused first.
        self.check_spec(&spec)?;
        let image = self.controller.image();
        let existing = image.deployment(&spec.name);
        let same = |existing: &Deployment| {
            existing.spec == spec && existing.plugin.digest == digest(&component)
        };
        match (existing, on_existing) {
            (Some(_), OnExisting::Refuse) => return Err(errors::deployment_exists(&spec.name)),
            (Some(existing), OnExisting::Replace) if same(existing) => {
                self.ensure_running(existing).await?;
                return self.describe(&spec.name);
            }
            (Some(existing), OnExisting::Upgrade) if same(existing) => {
                return Err(errors::invalid(format!(
                    "deployment {} is at work with this component and these settings already",
                    spec.name
                )));
            }
            (Some(existing), _) if existing.shadow.is_some() => {
                return Err(errors::invalid(format!(
                    "deployment {} is a shadow: remove it and replay anew",
                    spec.name
                )));
            }
            (None, OnExisting::Upgrade) => return Err(errors::unknown_deployment(&spec.name)),
            (Some(_), OnExisting::Replace | OnExisting::Upgrade)
            | (None, OnExisting::Refuse | OnExisting::Replace) => {}
        }
        let change = match existing {
            Some(_) => RevisionChange::Upgraded,
            None => RevisionChange::Deployed,
        };
        let plugin = self.compile(component.clone()).await?;
        self.put(Revision {
            spec,
            plugin,
            component: Some(component),
            on_existing,
            by: short(by),
            change,
            replay: None,
        })
        .await
    }

    /// Puts an earlier revision back in its place.
    pub(crate) async fn roll_back(
        &self,
        request: RollBackDeployment,
        by: &str,
    ) -> Result<DeploymentDescription, WireError> {
        let _changing = self.change.lock().await;
        let RollBackDeployment { name, to, from } = request;
        let image = self.controller.image();
        let current = image
            .deployment(&name)
            .ok_or_else(|| errors::unknown_deployment(&name))?;
        if current.revision != from {
            return Err(errors::invalid(format!(
                "deployment {name} is at revision {}, not {from}: look at its history again",
                current.revision
            )));
        }
        let history = image.history(&name);
        let Some(earlier) = history.iter().find(|it| it.revision == to) else {
            let kept: Vec<_> = history.iter().map(|it| it.revision.to_string()).collect();
            let kept = match kept.as_slice() {
                [] => "no earlier one".to_owned(),
                kept => kept.join(", "),
            };
            return Err(errors::invalid(format!(
                "deployment {name} has no earlier revision {to}: it keeps {kept}"
            )));
        };
        self.check_spec(&earlier.spec)?;
        self.put(Revision {
            spec: earlier.spec.clone(),
            plugin: self.compiled(&earlier.plugin.digest).await?,
            component: None,
            on_existing: OnExisting::Replace,
            by: short(by),
            change: RevisionChange::RolledBack { to },
            replay: None,
        })
        .await
    }

    /// The revisions of a deployment that are kept, the one at work the last.
    pub(crate) fn revisions(&self, name: &str) -> Result<ListRevisionsResponse, WireError> {
        let image = self.controller.image();
        let current = image
            .deployment(name)
            .ok_or_else(|| errors::unknown_deployment(name))?;
        let mut before: Option<&Deployment> = None;
        let described = image.history(name).iter().chain([current]).map(|it| {
            let differs_in = before.map(|before| it.differs_in(before));
            before = Some(it);
            RevisionDescription {
                revision: it.revision,
                digest: it.plugin.digest.clone(),
                component_bytes: it.plugin.component_bytes,
                at_ms: it.deployed_at_ms,
                by: it.deployed_by.clone(),
                change: it.change.clone(),
                differs_in: differs_in
                    .unwrap_or_default()
                    .into_iter()
                    .map(str::to_owned)
                    .collect(),
            }
        });
        Ok(ListRevisionsResponse {
            revisions: described.collect(),
        })
    }

    /// Refuses a deployment that could not run here: what is known before its component is compiled.
    pub(super) fn check_spec(&self, spec: &DeploymentSpec) -> Result<(), WireError> {
        self.controller
            .image()
            .check_spec(spec, &Limits::default())
            .map_err(errors::from_spec)?;
        self.secrets.check(&spec.grants.secrets)
    }

    /// Puts a revision in place: first or next under its name.
    pub(super) async fn put(&self, revision: Revision) -> Result<DeploymentDescription, WireError> {
        let Revision {
            spec,
            plugin,
            component,
            on_existing,
            by,
            change,
            replay,
        } = revision;
        let plugin = self.try_start(&spec, plugin).await?;
        if let Some(component) = component {
            self.artefacts.store(plugin.digest(), &component).await?;
        }
        self.ensure_dead_letters(&spec).await?;
        let image = self.controller.image();
        let existing = image.deployment(&spec.name);
        let deployment_id = existing.map_or_else(
            || DeploymentId(Uuid::new_v4()),
            |existing| existing.deployment_id,
        );
        let activity = existing.map_or(Activity::Active, |existing| existing.activity);
        let name = spec.name.clone();
        let bounds = self.bounds(replay.as_ref());
        let shared = self.shared(deployment_id, spec.clone(), plugin, activity, bounds)?;
        let command = Command::PutDeployment {
            deployment_id,
            spec,
            plugin: PluginRecord {
                digest: shared.plugin.digest().to_owned(),
                component_bytes: shared.plugin.component_bytes() as u64,
                imports: shared.plugin.imports().to_vec(),
            },
            deployed_at_ms: clock::now_ms(),
            on_existing,
            by,
            change,
            replay: replay.map(Box::new),
        };
        if let Err(error) = self.controller.execute(command).await {
            // Its tables have been opened.
            drop(shared);
            self.forget_tables().await;
            return Err(error);
        }
        // Two versions never work on the same partition: the next one finds in the journal what
        // this one has come to.
        let before = self.running.lock().remove(&name);
        if let Some(before) = before {
            before.stop().await;
        }
        self.running
            .lock()
            .insert(name.clone(), RunningDeployment::start(shared));
        self.forget_artefacts().await;
        self.forget_tables().await;
        self.describe(&name)
    }

    /// Stops a deployment's workers and forgets it. Its group and offsets stay; those of a shadow go
    /// with it, and what it wrote.
    pub(crate) async fn remove(&self, name: &str) -> Result<(), WireError> {
        let _changing = self.change.lock().await;
        let name = name.to_owned();
        let image = self.controller.image();
        let command = Command::RemoveDeployment { name: name.clone() };
        self.controller.execute(command).await?;
        let running = self.running.lock().remove(&name);
        if let Some(running) = running {
            running.stop().await;
        }
        self.forget_tables().await;
        self.forget_journals().await?;
        self.forget_artefacts().await;
        if let Some(shadow) = image.deployment(&name).filter(|it| it.shadow.is_some()) {
            self.forget_shadow(&shadow.spec).await;
        }
        Ok(())
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
}

/// A principal's name as a history keeps it.
pub(super) fn short(principal: &str) -> String {
    principal[..principal.floor_char_boundary(MAX_PRINCIPAL_BYTES)].to_owned()
}
