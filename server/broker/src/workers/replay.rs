//! Replay: a shadow of a deployment is started over history.

use std::collections::HashMap;

use bytes::Bytes;
use millstream_metadata::{Actor, Command, Deployment, OnExisting};
use millstream_protocol::api::group::{CommitOffsets, NamedPartition, OffsetCommit};
use millstream_protocol::api::lifecycle::RevisionChange;
use millstream_protocol::api::offsets::Position;
use millstream_protocol::api::plugin::{DeploymentDescription, DeploymentSpec, MissingTopics};
use millstream_protocol::api::replay::{
    ComparedOutput, Replay, ReplayDeployment, ReplayedRange, ReplayedTopic, shadow_spec,
    shadow_topic,
};
use millstream_protocol::api::topic::CreateTopic;
use millstream_protocol::{ErrorCode, Offset, TimestampMs, TopicId, TopicPartition, WireError};
use uuid::Uuid;

use super::Deployments;
use super::change::{Revision, short};
use super::deployment::Bounds;
use super::steer::Steer;
use crate::errors;

/// Where a live deployment stands between two turns: how far it is, and what it has written.
struct Cut {
    next: Vec<(NamedPartition, Offset)>,
    outputs: Vec<ComparedOutput>,
}

impl Deployments {
    /// Starts a shadow of a deployment.
    pub(crate) async fn replay(
        &self,
        request: ReplayDeployment,
        component: Bytes,
        by: &str,
    ) -> Result<DeploymentDescription, WireError> {
        let _changing = self.change.lock().await;
        let image = self.controller.image();
        let ReplayDeployment { name, shadow, .. } = &request;
        let live = image
            .deployment(name)
            .ok_or_else(|| errors::unknown_deployment(name))?;
        if image.deployment(shadow).is_some() {
            return Err(errors::deployment_exists(shadow));
        }
        let target = target(live, request.spec.as_ref())?;
        self.check_spec(&target, MissingTopics::Refuse)?;
        let spec = shadow_spec(&target, shadow);
        let (component, stored) = if component.is_empty() {
            (self.component(&live.plugin.digest).await?, true)
        } else {
            (component, false)
        };
        let plugin = self.compile(component.clone()).await?;
        let plugin = self.try_start(&spec, plugin).await?;
        let cut = self.cut(name, &target, shadow).await?;
        let replay = self.range(&request, cut).await?;
        self.check_shadow_topics(&replay)?;
        let started = async {
            self.make_shadow_topics(&replay).await?;
            self.start_group_at(shadow, &replay).await?;
            self.put(Revision {
                spec: spec.clone(),
                plugin,
                component: (!stored).then_some(component),
                on_existing: OnExisting::Refuse,
                missing_topics: MissingTopics::Refuse,
                by: short(by),
                change: RevisionChange::Deployed,
                replay: Some(replay),
            })
            .await
        };
        let started = started.await;
        if started.is_err() && self.controller.image().deployment(shadow).is_none() {
            self.forget_shadow(&spec).await;
        }
        started
    }

    /// What a shadow replays.
    pub(crate) fn describe_replay(&self, shadow: &str) -> Result<Replay, WireError> {
        let image = self.controller.image();
        let deployment = image
            .deployment(shadow)
            .ok_or_else(|| errors::unknown_deployment(shadow))?;
        let shadow = deployment.shadow.as_ref().ok_or_else(|| {
            errors::invalid(format!("deployment {shadow} is not a shadow of another"))
        })?;
        Ok(shadow.replay.clone())
    }

    /// Where the workers of a deployment stop, if it replays something.
    pub(super) fn bounds(&self, replay: Option<&Replay>) -> Bounds {
        let Some(replay) = replay else {
            return Bounds::None;
        };
        let image = self.controller.image();
        let mut bounds = HashMap::new();
        for input in &replay.inputs {
            let Some(topic) = image.topic(&input.topic) else {
                continue;
            };
            for (partition, range) in (0..).zip(&input.partitions) {
                let topic_id = topic.topic_id;
                let id = TopicPartition {
                    topic_id,
                    partition,
                };
                bounds.insert(id, range.until);
            }
        }
        Bounds::At(bounds)
    }

    /// Holds a live deployment between two turns and notes where it stands.
    async fn cut(
        &self,
        name: &str,
        target: &DeploymentSpec,
        shadow: &str,
    ) -> Result<Cut, WireError> {
        let held = self.steer(name, Steer::Hold).await;
        let ends = match &held {
            Ok(_) => self.ends_of_outputs(target, shadow).await,
            Err(error) => Err(error.clone()),
        };
        self.end_of_steering(name).await;
        let positions = held?.into_iter();
        Ok(Cut {
            next: positions.map(|(at, (offset, _))| (at, offset)).collect(),
            outputs: ends?,
        })
    }

    /// Where the outputs of a live deployment end.
    async fn ends_of_outputs(
        &self,
        target: &DeploymentSpec,
        shadow: &str,
    ) -> Result<Vec<ComparedOutput>, WireError> {
        let mut outputs = Vec::new();
        for output in &target.outputs {
            let mut live_ends = Vec::new();
            for partition in self.partitions_of(&output.topic)? {
                live_ends.push(self.leaders.extent(partition).await?.end);
            }
            outputs.push(ComparedOutput {
                output: output.name.clone(),
                live: output.topic.clone(),
                shadow: shadow_topic(&output.topic, shadow),
                live_ends,
            });
        }
        Ok(outputs)
    }

    /// What is to be replayed.
    async fn range(&self, request: &ReplayDeployment, cut: Cut) -> Result<Replay, WireError> {
        let mut replay = Replay {
            of: request.name.clone(),
            inputs: Vec::new(),
            outputs: cut.outputs,
            since_ms: None,
            before_ms: None,
        };
        let image = self.controller.image();
        let live = image
            .deployment(&request.name)
            .ok_or_else(|| errors::unknown_deployment(&request.name))?;
        let (mut since, mut before) = (Some(TimestampMs::MAX), None::<TimestampMs>);
        for topic in &live.spec.inputs {
            let mut ranges = Vec::new();
            for partition in self.partitions_of(topic)? {
                let number = partition.partition;
                let at = |(it, _): &&(NamedPartition, Offset)| {
                    it.topic == *topic && it.partition == number
                };
                let Some((_, live_next)) = cut.next.iter().find(at) else {
                    let why = format!("{} has no worker at {topic}-{number}", live.spec.name);
                    return Err(WireError::new(ErrorCode::NotReady, why));
                };
                let until = match request.until {
                    Some(position) => self.leaders.resolve(partition, position).await?,
                    None => *live_next,
                };
                let until = until.min(*live_next);
                let from = self
                    .leaders
                    .resolve(partition, request.from)
                    .await?
                    .min(until);
                ranges.push(ReplayedRange { from, until });
                let start = self.leaders.extent(partition).await?.start;
                // One that is replayed from its start has nothing before.
                since = match since {
                    Some(since) if from > start => Some(
                        since.min(
                            self.leaders
                                .time_at(partition, from)
                                .await?
                                .unwrap_or(since),
                        ),
                    ),
                    _ if from == until => since,
                    _ => None,
                };
                if until < *live_next
                    && let Some(first) = self.leaders.time_at(partition, until).await?
                {
                    before = Some(before.map_or(first, |before| before.max(first)));
                }
            }
            replay.inputs.push(ReplayedTopic {
                topic: topic.clone(),
                partitions: ranges,
            });
        }
        replay.since_ms = match request.from {
            // A time is the same in all partitions.
            Position::Time(time_ms) if since.is_some() => Some(time_ms),
            _ => since.filter(|since| *since != TimestampMs::MAX),
        };
        replay.before_ms = match request.until {
            Some(Position::Time(time_ms)) if before.is_some() => Some(time_ms),
            _ => before,
        };
        Ok(replay)
    }

    /// A shadow's topics are its own.
    fn check_shadow_topics(&self, replay: &Replay) -> Result<(), WireError> {
        let image = self.controller.image();
        for output in &replay.outputs {
            if image.topic(&output.shadow).is_some() {
                return Err(WireError::new(
                    ErrorCode::TopicExists,
                    format!(
                        "topic {} is there already, left by an earlier replay: delete it first",
                        output.shadow
                    ),
                ));
            }
        }
        Ok(())
    }

    /// Makes the topics that a shadow writes: as those of the live deployment are.
    async fn make_shadow_topics(&self, replay: &Replay) -> Result<(), WireError> {
        let image = self.controller.image();
        for output in &replay.outputs {
            let live = image
                .topic(&output.live)
                .ok_or_else(|| errors::unknown_topic(&output.live))?;
            let create = Command::CreateTopic {
                topic_id: TopicId(Uuid::new_v4()),
                topic: CreateTopic {
                    name: output.shadow.clone(),
                    partitions: live.partitions.len() as u32,
                    config: live.config.clone(),
                },
                actor: Actor::User,
            };
            // Two outputs may share a topic.
            match self.controller.execute(create).await {
                Err(error) if error.code == ErrorCode::TopicExists => continue,
                created => created?,
            };
        }
        self.group.followed().await;
        Ok(())
    }

    /// Has the shadow's group begin where the replay does.
    async fn start_group_at(&self, shadow: &str, replay: &Replay) -> Result<(), WireError> {
        let offsets = replay.inputs.iter().flat_map(|input| {
            let ranges = (0..).zip(&input.partitions);
            ranges.map(|(partition, range)| OffsetCommit {
                topic: input.topic.clone(),
                partition,
                offset: range.from,
                metadata: String::new(),
            })
        });
        self.commit_for(shadow, offsets.collect()).await
    }

    /// Commits offsets of a deployment's group that has no member.
    pub(super) async fn commit_for(
        &self,
        group: &str,
        offsets: Vec<OffsetCommit>,
    ) -> Result<(), WireError> {
        let group = group.to_owned();
        let request = CommitOffsets { group, offsets };
        self.group.commit_offsets(request).await
    }

    /// Deletes what a shadow that is gone has written, and its group. What remains is told.
    pub(super) async fn forget_shadow(&self, spec: &DeploymentSpec) {
        for name in spec.written_topics() {
            self.delete_topic(name).await;
        }
        let deleted = self.group.delete(spec.name.clone()).await;
        // A shadow that never worked has none.
        if let Err(error) = deleted {
            tracing::warn!(group = spec.name, %error, "a shadow's group remains");
        }
    }
}

/// What a deployment is to be when its shadow is promoted.
fn target(live: &Deployment, wanted: Option<&DeploymentSpec>) -> Result<DeploymentSpec, WireError> {
    let name = &live.spec.name;
    if live.shadow.is_some() {
        return Err(errors::invalid(format!(
            "deployment {name} is a shadow itself"
        )));
    }
    let target = wanted.unwrap_or(&live.spec).clone();
    if !target.grants.http.is_empty() {
        return Err(errors::invalid(format!(
            "a replay of {name} would send its requests once more, for every record of its history: replay \
             a version that is granted no `http` and sends none, or try one by `plugin run`"
        )));
    }
    if target.name != *name {
        return Err(errors::invalid(format!(
            "a replay of {name} cannot become the deployment {}",
            target.name
        )));
    }
    let sorted = |spec: &DeploymentSpec| {
        let mut inputs = spec.inputs.clone();
        inputs.sort_unstable();
        inputs
    };
    if sorted(&target) != sorted(&live.spec) {
        return Err(errors::invalid(format!(
            "a replay of {name} reads what it reads: {}",
            live.spec.inputs.join(", ")
        )));
    }
    Ok(target)
}
