//! How a deployment comes, changes and goes.

use bytes::Bytes;
use millstream_metadata::deployment::check_alone;
use millstream_metadata::limits::MAX_PRINCIPAL_BYTES;
use millstream_metadata::{
    Actor, Command, Deployment, DeploymentId, Limits, OnExisting, Plugin as PluginRecord,
};
use millstream_protocol::api::lifecycle::{
    ListRevisionsResponse, RevisionChange, RevisionDescription, RollBackDeployment,
};
use millstream_protocol::api::plugin::{
    DeployPlugin, DeploymentDescription, DeploymentSpec, FailureAction, MissingTopics,
};
use millstream_protocol::api::replay::Replay;
use millstream_protocol::api::topic::{Cleanup, CreateTopic, Durability, TopicConfig};
use millstream_protocol::{ErrorCode, TopicId, WireError};
use millstream_runtime::{Plugin, digest};
use uuid::Uuid;

use super::Deployments;
use crate::clock;
use crate::errors;

/// A revision that is to be put in place.
pub(super) struct Revision {
    pub(super) spec: DeploymentSpec,
    pub(super) plugin: Plugin,
    /// The component, if it may not be stored yet.
    pub(super) component: Option<Bytes>,
    pub(super) on_existing: OnExisting,
    pub(super) missing_topics: MissingTopics,
    pub(super) by: String,
    pub(super) change: RevisionChange,
    /// What it replays, if it is a shadow.
    pub(super) replay: Option<Replay>,
}

impl Deployments {
    /// Refuses or starts a deployment, or puts it in the place of the one that has its name.
    pub(crate) async fn deploy(
        &self,
        request: DeployPlugin,
        component: Bytes,
        by: &str,
    ) -> Result<DeploymentDescription, WireError> {
        let _changing = self.change.lock().await;
        let DeployPlugin {
            spec,
            on_existing,
            missing_topics,
        } = request;
        // What can be refused without compiling is refused first.
        self.check_spec(&spec, missing_topics)?;
        let image = self.controller.image();
        let existing = image.deployment(&spec.name);
        let same = |existing: &Deployment| {
            existing.spec == spec && existing.plugin.digest == digest(&component)
        };
        match (existing, on_existing) {
            (Some(_), OnExisting::Refuse) => return Err(errors::deployment_exists(&spec.name)),
            (Some(existing), OnExisting::Replace) if same(existing) => {
                self.ensure_running(&spec.name).await?;
                return self.describe(&spec.name).await;
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
            missing_topics,
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
        self.check_spec(&earlier.spec, MissingTopics::Refuse)?;
        self.put(Revision {
            spec: earlier.spec.clone(),
            plugin: self.compiled(&earlier.plugin.digest).await?,
            component: None,
            on_existing: OnExisting::Replace,
            missing_topics: MissingTopics::Refuse,
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
    pub(super) fn check_spec(
        &self,
        spec: &DeploymentSpec,
        missing: MissingTopics,
    ) -> Result<(), WireError> {
        check_alone(spec, &Limits::default()).map_err(errors::from_spec)?;
        let made = self.topics_to_make(spec, missing);
        self.controller
            .foresee(&made)?
            .check_spec(spec, &Limits::default())
            .map_err(errors::from_spec)?;
        self.secrets.check(&spec.grants.secrets)
    }

    /// Puts a revision in place: first or next under its name. One that is refused leaves nothing behind.
    pub(super) async fn put(&self, revision: Revision) -> Result<DeploymentDescription, WireError> {
        let Revision {
            spec,
            plugin,
            component,
            on_existing,
            missing_topics,
            by,
            change,
            replay,
        } = revision;
        let plugin = self.try_start(&spec, plugin).await?;
        let image = self.controller.image();
        let existing = image.deployment(&spec.name);
        let deployment_id = existing.map_or_else(
            || DeploymentId(Uuid::new_v4()),
            |existing| existing.deployment_id,
        );
        let command = Command::PutDeployment {
            deployment_id,
            spec: spec.clone(),
            plugin: PluginRecord {
                digest: plugin.digest().to_owned(),
                component_bytes: plugin.component_bytes() as u64,
                imports: plugin.imports().to_vec(),
            },
            deployed_at_ms: clock::now_ms(),
            on_existing,
            by,
            change,
            replay: replay.map(Box::new),
        };
        let topics = self.topics_to_make(&spec, missing_topics);
        let mut commands = topics.clone();
        commands.push(command.clone());
        self.controller.foresee(&commands)?;
        let mut made = Vec::new();
        let placed = async {
            if let Some(component) = component {
                self.artefacts.store(plugin.digest(), &component).await?;
            }
            for topic in topics {
                self.make_topic(topic, &mut made).await?;
            }
            self.controller.execute(command).await
        };
        if let Err(error) = placed.await {
            for topic in &made {
                self.delete_topic(topic).await;
            }
            self.forget_artefacts().await;
            return Err(error);
        }
        self.settled().await;
        self.forget_artefacts().await;
        self.describe(&spec.name).await
    }

    /// Stops a deployment's workers and forgets it. Its group and offsets stay; those of a shadow go
    /// with it, and what it wrote.
    pub(crate) async fn remove(&self, name: &str) -> Result<(), WireError> {
        let _changing = self.change.lock().await;
        let name = name.to_owned();
        let image = self.controller.image();
        let command = Command::RemoveDeployment { name: name.clone() };
        self.controller.execute(command).await?;
        self.settled().await;
        self.forget_journals().await?;
        self.forget_artefacts().await;
        if let Some(shadow) = image.deployment(&name).filter(|it| it.shadow.is_some()) {
            self.forget_shadow(&shadow.spec).await;
        }
        Ok(())
    }

    /// What makes the topics that a deployment lacks: its dead-letter topic, in which what there is waits for
    /// a person, and all others if they are to be made.
    fn topics_to_make(&self, spec: &DeploymentSpec, missing: MissingTopics) -> Vec<Command> {
        let image = self.controller.image();
        let mut topics: Vec<CreateTopic> = Vec::new();
        let mut add = |name: &str, partitions, config| {
            let planned = topics.iter().any(|topic| topic.name == name);
            if !planned && image.topic(name).is_none() {
                topics.push(CreateTopic {
                    name: name.to_owned(),
                    partitions,
                    config,
                });
            }
        };
        if let FailureAction::DeadLetter { topic } = &spec.on_failure.finally {
            let config = TopicConfig {
                durability: Durability::Sync,
                retention_ms: None,
                ..TopicConfig::default()
            };
            add(topic, 1, config);
        }
        if let MissingTopics::Make { partitions } = missing {
            let outputs = spec.outputs.iter().map(|output| &output.topic);
            for topic in spec.inputs.iter().chain(outputs) {
                add(topic, partitions, TopicConfig::default());
            }
            for table in &spec.tables {
                let config = TopicConfig {
                    cleanup: Cleanup::Compact,
                    ..TopicConfig::default()
                };
                add(&table.topic, partitions, config);
            }
        }
        let create = |topic| Command::CreateTopic {
            topic_id: TopicId(Uuid::new_v4()),
            topic,
            actor: Actor::User,
        };
        topics.into_iter().map(create).collect()
    }

    /// Makes a topic and notes that it was made here. One that somebody else has made meanwhile is as good.
    async fn make_topic(&self, create: Command, made: &mut Vec<String>) -> Result<(), WireError> {
        let Command::CreateTopic { topic, .. } = &create else {
            return Ok(());
        };
        let name = topic.name.clone();
        match self.controller.execute(create).await {
            Err(error) if error.code == ErrorCode::TopicExists => return Ok(()),
            created => created?,
        };
        made.push(name);
        self.group.followed().await;
        Ok(())
    }

    /// Deletes a topic of a deployment that is not there, or no more. If it remains, that is told.
    pub(super) async fn delete_topic(&self, name: &str) {
        if self.controller.image().topic(name).is_none() {
            return;
        }
        let delete = Command::DeleteTopic {
            topic: name.to_owned(),
            actor: Actor::User,
        };
        match self.controller.execute(delete).await {
            Ok(_) => self.group.followed().await,
            Err(error) => {
                tracing::warn!(topic = name, %error, "a topic remains that no deployment needs");
            }
        }
    }
}

/// A principal's name as a history keeps it.
pub(super) fn short(principal: &str) -> String {
    principal[..principal.floor_char_boundary(MAX_PRINCIPAL_BYTES)].to_owned()
}
