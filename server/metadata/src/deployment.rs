//! Deployments: plugins by name, with their inputs and outputs.

use std::collections::BTreeSet;
use std::fmt;

use millstream_protocol::TimestampMs;
use millstream_protocol::api::lifecycle::{Activity, RevisionChange};
use millstream_protocol::api::plugin::{
    DeliveryGuarantee, DeploymentSpec, FailureAction, FailurePolicy, OnExisting, TableSpec,
    WorkerLimits,
};
use millstream_protocol::api::topic::Cleanup;
use millstream_protocol::limits::{MAX_COMPONENT_BYTES, MAX_DEPLOYMENT_CONFIG_BYTES};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::command::Actor;
use crate::error::{
    DeployError, DeploymentExists, InvalidPlugin, OutOfRange, OverLimit, SpecError,
    UnknownDeployment, UnknownTopic,
};
use crate::image::Image;
use crate::limits::{
    Limits, MAX_ATTEMPTS, MAX_BACK_OFF_MS, MAX_CONFIG_ENTRIES, MAX_GRANTED_HOSTS,
    MAX_GRANTED_SECRETS, MAX_IMPORTS, MAX_INPUTS, MAX_OUTPUTS, MAX_PRINCIPAL_BYTES, MAX_TABLES,
    MIN_WORKER_MEMORY_BYTES, WorkerBudget,
};
use crate::loops::find_loop;
use crate::names::{check_name, check_name_for};
use crate::record::Record;
use crate::shadow::Shadow;

/// The identity of a deployment through all its versions. What its workers write carries it, so a
/// deployment that is removed and deployed again under the same name has another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DeploymentId(pub Uuid);

impl fmt::Display for DeploymentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A component.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plugin {
    /// Its SHA-256, 64 lower-case hexadecimal digits.
    pub digest: String,
    /// Its size, bytes.
    pub component_bytes: u64,
    /// What it imports, by interface name.
    pub imports: Vec<String>,
}

/// A plugin at work under a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployment {
    /// Its identity.
    pub deployment_id: DeploymentId,
    /// Counts what was deployed under this identity, from 1.
    pub revision: u32,
    /// Its name and what it is to do.
    pub spec: DeploymentSpec,
    /// The component.
    pub plugin: Plugin,
    /// When this revision was deployed.
    pub deployed_at_ms: TimestampMs,
    /// Whether its workers are meant to work.
    pub activity: Activity,
    /// Who put this revision in place.
    pub deployed_by: String,
    /// How this revision came about.
    pub change: RevisionChange,
    /// What it replays, if it is a shadow.
    pub shadow: Option<Shadow>,
}

impl Deployment {
    /// Whether the topic of this name is one of its inputs, outputs or tables, or takes its dead letters.
    pub fn uses(&self, topic: &str) -> bool {
        let inputs = self.spec.inputs.iter().map(String::as_str);
        inputs
            .chain(self.spec.written_topics())
            .any(|used| used == topic)
            || self.looks_up(topic)
    }

    /// Whether the topic of this name is one of its tables.
    pub fn looks_up(&self, topic: &str) -> bool {
        self.spec.tables.iter().any(|table| table.topic == topic)
    }
}

impl Deployment {
    /// Whether it is the same component with the same settings.
    pub fn does_as(&self, other: &Self) -> bool {
        self.spec == other.spec && self.plugin.digest == other.plugin.digest
    }
}

/// Refuses a deployment that could run nowhere: what is known without its topics.
pub fn check_alone(spec: &DeploymentSpec, limits: &Limits) -> Result<(), SpecError> {
    check_name_for(Actor::User, "deployment", &spec.name)?;
    check_inputs(spec)?;
    check_outputs(spec)?;
    check_config(spec)?;
    check_failure_policy(&spec.on_failure)?;
    check_worker_limits(&spec.limits, &limits.worker)?;
    check_grants(spec)?;
    check_tables(spec)
}

impl Image {
    /// Refuses a deployment that could not run here: what is known before its component is
    /// compiled.
    pub fn check_spec(&self, spec: &DeploymentSpec, limits: &Limits) -> Result<(), SpecError> {
        check_alone(spec, limits)?;
        self.check_read(spec)?;
        let outputs = spec.outputs.iter();
        outputs
            .map(|output| &output.topic)
            .try_for_each(|topic| self.check_usable(topic))?;
        self.check_dead_letters(spec)?;
        self.check_looked_up(spec)?;
        match find_loop(self, spec) {
            Some(path) => Err(SpecError::Loop { path }),
            None => Ok(()),
        }
    }

    fn check_read(&self, spec: &DeploymentSpec) -> Result<(), SpecError> {
        spec.inputs
            .iter()
            .try_for_each(|topic| self.check_usable(topic))?;
        let compacted = |topic: &&String| {
            let cleanup = self.topic(topic).map(|topic| topic.config.cleanup);
            cleanup == Some(Cleanup::Compact)
        };
        match spec.inputs.iter().find(compacted) {
            Some(topic) if spec.delivery == DeliveryGuarantee::Deterministic => {
                Err(SpecError::CompactedInput {
                    topic: topic.clone(),
                })
            }
            _ => Ok(()),
        }
    }

    fn check_dead_letters(&self, spec: &DeploymentSpec) -> Result<(), SpecError> {
        let FailureAction::DeadLetter { topic } = &spec.on_failure.finally else {
            return Ok(());
        };
        let takes = |it: &&Deployment| match &it.spec.on_failure.finally {
            FailureAction::DeadLetter { topic: theirs } => theirs == topic,
            FailureAction::Skip | FailureAction::Pause => false,
        };
        // A shadow has topics of its own, until it takes over those of its deployment.
        let is_shadow = |it: &Deployment| {
            let shadow = it.shadow.as_ref();
            shadow.is_some_and(|shadow| shadow.replay.of == spec.name)
        };
        let others = self.deployments();
        let mut others = others.filter(|it| it.spec.name != spec.name && !is_shadow(it));
        match others.find(takes) {
            Some(other) => Err(SpecError::SharedDeadLetters {
                topic: topic.clone(),
                deployment: other.spec.name.clone(),
            }),
            None => Ok(()),
        }
    }

    fn check_looked_up(&self, spec: &DeploymentSpec) -> Result<(), SpecError> {
        for TableSpec { name, topic } in &spec.tables {
            self.check_usable(topic)?;
            let cleanup = self.topic(topic).map(|topic| topic.config.cleanup);
            if cleanup != Some(Cleanup::Compact) {
                let (table, topic) = (name.clone(), topic.clone());
                return Err(SpecError::TableNotCompacted { table, topic });
            }
        }
        Ok(())
    }

    fn check_usable(&self, topic: &str) -> Result<(), SpecError> {
        self.topic(topic).map(|_| ()).ok_or_else(|| {
            UnknownTopic {
                topic: topic.to_owned(),
            }
            .into()
        })
    }

    pub(crate) fn validate_put_deployment(
        &self,
        mut deployment: Deployment,
        on_existing: OnExisting,
        limits: &Limits,
    ) -> Result<Option<Record>, DeployError> {
        let name = &deployment.spec.name;
        match (self.deployment(name), on_existing) {
            (Some(_), OnExisting::Refuse) => {
                return Err(DeploymentExists {
                    deployment: name.clone(),
                }
                .into());
            }
            (Some(existing), OnExisting::Upgrade) if deployment.does_as(existing) => {
                return Err(DeployError::Unchanged {
                    deployment: name.clone(),
                });
            }
            (Some(existing), OnExisting::Replace | OnExisting::Upgrade) => {
                deployment.deployment_id = existing.deployment_id;
                deployment.revision = existing.revision.saturating_add(1);
                deployment.activity = existing.activity;
                deployment.shadow.clone_from(&existing.shadow);
            }
            (None, OnExisting::Upgrade) => {
                return Err(UnknownDeployment {
                    deployment: name.clone(),
                }
                .into());
            }
            (None, _) => self.check_new(&deployment, limits)?,
        }
        self.check_spec(&deployment.spec, limits)?;
        check_plugin(&deployment.plugin)?;
        if let Some(shadow) = &deployment.shadow {
            shadow.check()?;
        }
        check_principal(&deployment.deployed_by)?;
        let history = u32::try_from(limits.history).unwrap_or(u32::MAX);
        Ok(Some(Record::DeploymentPut {
            deployment,
            history,
        }))
    }

    fn check_new(&self, deployment: &Deployment, limits: &Limits) -> Result<(), DeployError> {
        if self.deployments().count() >= limits.deployments {
            return Err(OverLimit {
                what: "deployments",
                limit: limits.deployments,
            }
            .into());
        }
        let deployment_id = deployment.deployment_id;
        if self
            .deployments()
            .any(|other| other.deployment_id == deployment_id)
        {
            return Err(DeployError::IdInUse { deployment_id });
        }
        Ok(())
    }

    pub(crate) fn validate_remove_deployment(
        &self,
        name: &str,
    ) -> Result<Option<Record>, UnknownDeployment> {
        self.known(name)?;
        let name = name.to_owned();
        Ok(Some(Record::DeploymentRemoved { name }))
    }

    pub(crate) fn validate_activity(
        &self,
        name: &str,
        activity: Activity,
    ) -> Result<Option<Record>, UnknownDeployment> {
        let changes = self.known(name)?.activity != activity;
        let name = name.to_owned();
        Ok(changes.then_some(Record::ActivitySet { name, activity }))
    }

    pub(crate) fn known(&self, name: &str) -> Result<&Deployment, UnknownDeployment> {
        self.deployment(name).ok_or_else(|| UnknownDeployment {
            deployment: name.to_owned(),
        })
    }
}

fn check_inputs(spec: &DeploymentSpec) -> Result<(), SpecError> {
    if spec.inputs.is_empty() {
        return Err(SpecError::NoInputs {
            deployment: spec.name.clone(),
        });
    }
    if spec.inputs.len() > MAX_INPUTS {
        return Err(OverLimit {
            what: "inputs of a deployment",
            limit: MAX_INPUTS,
        }
        .into());
    }
    check_unique("input", spec.inputs.iter())?;
    let mut topics = spec.inputs.iter();
    Ok(topics.try_for_each(|topic| check_name_for(Actor::User, "topic", topic))?)
}

fn check_outputs(spec: &DeploymentSpec) -> Result<(), SpecError> {
    if spec.outputs.len() > MAX_OUTPUTS {
        return Err(OverLimit {
            what: "outputs of a deployment",
            limit: MAX_OUTPUTS,
        }
        .into());
    }
    check_unique("output", spec.outputs.iter().map(|output| &output.name))?;
    for output in &spec.outputs {
        check_name("output", &output.name)?;
        check_name_for(Actor::User, "topic", &output.topic)?;
    }
    Ok(())
}

fn check_tables(spec: &DeploymentSpec) -> Result<(), SpecError> {
    if spec.tables.len() > MAX_TABLES {
        return Err(OverLimit {
            what: "tables of a deployment",
            limit: MAX_TABLES,
        }
        .into());
    }
    check_unique("table", spec.tables.iter().map(|table| &table.name))?;
    for TableSpec { name, topic } in &spec.tables {
        check_name("table", name)?;
        check_name_for(Actor::User, "topic", topic)?;
        let (table, topic) = (name.clone(), topic.clone());
        if spec.delivery == DeliveryGuarantee::Deterministic {
            return Err(SpecError::TableMoves { table });
        } else if spec.inputs.contains(&topic) {
            let what = "reads as an input";
            return Err(SpecError::TableInUse { table, topic, what });
        } else if spec.written_topics().any(|written| written == topic) {
            let what = "writes";
            return Err(SpecError::TableInUse { table, topic, what });
        }
    }
    Ok(())
}

fn check_unique<'a>(
    what: &'static str,
    names: impl Iterator<Item = &'a String>,
) -> Result<(), SpecError> {
    let mut seen = BTreeSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(SpecError::Repeated {
                what,
                name: name.clone(),
            });
        }
    }
    Ok(())
}

fn check_config(spec: &DeploymentSpec) -> Result<(), SpecError> {
    if spec.config.len() > MAX_CONFIG_ENTRIES {
        return Err(OverLimit {
            what: "configuration entries",
            limit: MAX_CONFIG_ENTRIES,
        }
        .into());
    }
    let bytes: usize = spec
        .config
        .iter()
        .map(|(key, value)| key.len() + value.len())
        .sum();
    if bytes > MAX_DEPLOYMENT_CONFIG_BYTES {
        let what = "bytes of configuration";
        return Err(OverLimit {
            what,
            limit: MAX_DEPLOYMENT_CONFIG_BYTES,
        }
        .into());
    }
    check_unique("configuration key", spec.config.iter().map(|(key, _)| key))
}

fn check_grants(spec: &DeploymentSpec) -> Result<(), SpecError> {
    let grants = &spec.grants;
    if spec.delivery == DeliveryGuarantee::Deterministic
        && let Some(grant) = grants.words().into_iter().next()
    {
        return Err(SpecError::NotDeterministic { grant });
    }
    if grants.secrets.len() > MAX_GRANTED_SECRETS {
        return Err(OverLimit {
            what: "granted secrets",
            limit: MAX_GRANTED_SECRETS,
        }
        .into());
    }
    check_unique("secret", grants.secrets.iter())?;
    for name in &grants.secrets {
        check_name("secret", name)?;
    }
    if grants.http.len() > MAX_GRANTED_HOSTS {
        return Err(OverLimit {
            what: "granted hosts",
            limit: MAX_GRANTED_HOSTS,
        }
        .into());
    }
    for host in &grants.http {
        host.check()?;
    }
    let hosts: Vec<_> = grants.http.iter().map(ToString::to_string).collect();
    check_unique("granted host", hosts.iter())
}

/// A dead-letter topic need not be there: it is made with the deployment.
fn check_failure_policy(policy: &FailurePolicy) -> Result<(), SpecError> {
    let attempts = (policy.attempts.into(), 1, MAX_ATTEMPTS.into());
    let longest = (policy.longest_back_off_ms.into(), 0, MAX_BACK_OFF_MS.into());
    let first = (policy.first_back_off_ms.into(), 0, longest.0);
    for (what, (given, min, max)) in [
        ("attempts", attempts),
        ("longest-back-off (ms)", longest),
        ("first-back-off (ms)", first),
    ] {
        OutOfRange::check(what, given, min, max)?;
    }
    match &policy.finally {
        FailureAction::DeadLetter { topic } => Ok(check_name_for(Actor::User, "topic", topic)?),
        FailureAction::Skip | FailureAction::Pause => Ok(()),
    }
}

fn check_worker_limits(limits: &WorkerLimits, budget: &WorkerBudget) -> Result<(), OutOfRange> {
    let memory = (
        limits.memory_bytes,
        MIN_WORKER_MEMORY_BYTES,
        budget.memory_bytes,
    );
    let deadline = (limits.deadline_ms.into(), 1, budget.deadline_ms.into());
    let outputs = (
        limits.outputs_per_record.into(),
        0,
        budget.outputs_per_record.into(),
    );
    let lines = (
        limits.log_lines_per_second.into(),
        0,
        budget.log_lines_per_second.into(),
    );
    let state = (limits.state_bytes, 0, budget.state_bytes);
    for (what, (given, min, max)) in [
        ("memory (bytes)", memory),
        ("deadline (ms)", deadline),
        ("outputs-per-record", outputs),
        ("log-lines-per-second", lines),
        ("state (bytes)", state),
    ] {
        OutOfRange::check(what, given, min, max)?;
    }
    Ok(())
}

pub(crate) fn check_principal(by: &str) -> Result<(), OverLimit> {
    if by.len() > MAX_PRINCIPAL_BYTES {
        let (what, limit) = ("bytes of a principal's name", MAX_PRINCIPAL_BYTES);
        return Err(OverLimit { what, limit });
    }
    Ok(())
}

fn check_plugin(plugin: &Plugin) -> Result<(), InvalidPlugin> {
    let is_digest = plugin.digest.len() == 64
        && plugin
            .digest
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if !is_digest {
        return Err(InvalidPlugin {
            reason: "its digest is not 64 lower-case hexadecimal digits",
        });
    }
    if plugin.component_bytes == 0 || plugin.component_bytes > MAX_COMPONENT_BYTES as u64 {
        return Err(InvalidPlugin {
            reason: "it is empty or larger than a component may be",
        });
    }
    let too_long = |import: &String| import.len() > millstream_protocol::limits::MAX_NAME_BYTES;
    if plugin.imports.len() > MAX_IMPORTS || plugin.imports.iter().any(too_long) {
        return Err(InvalidPlugin {
            reason: "it imports too many interfaces, or one with too long a name",
        });
    }
    Ok(())
}
