//! Promotion: a shadow takes the place of its live deployment, at the same offsets.
//!
//! Both are run to one offset in every partition, the further of the two, and stop there with
//! nothing left to try again. So every input record has had its outputs from the one or will have
//! them from the other. Then one metadata command puts the shadow in the live one's place: whatever
//! happens before it leaves both as they were, whatever happens after it finds the shadow promoted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use millstream_metadata::{Command, Deployment};
use millstream_protocol::api::group::{NamedPartition, OffsetCommit};
use millstream_protocol::api::lifecycle::Activity;
use millstream_protocol::api::plugin::DeploymentDescription;
use millstream_protocol::api::replay::{PromoteDeployment, promoted_spec};
use millstream_protocol::{ErrorCode, Offset, TopicPartition, WireError};
use tokio::time::Instant;

use super::Deployments;
use super::change::short;
use super::deployment::{Bounds, RunningDeployment, Shared};
use crate::clock;
use crate::errors;

/// How long a shadow may take to come near its live deployment, which works on meanwhile.
const CATCH_UP_LIMIT: Duration = Duration::from_secs(30);

/// A shadow is near when it is so many records behind, over all partitions.
const NEAR: u64 = 10_000;

/// How long both may take from there to the same offsets.
const MEETING_LIMIT: Duration = Duration::from_secs(10);

/// How often it is looked at how far they are.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// What a plugin imports that remembers things from one call to the next.
const REMEMBERED: [&str; 2] = ["millstream:plugin/state", "millstream:plugin/timers"];

/// Where two deployments meet.
type Barrier = BTreeMap<NamedPartition, Offset>;

impl Deployments {
    /// Puts a shadow in the place of its live deployment.
    pub(crate) async fn promote(
        &self,
        request: PromoteDeployment,
        by: &str,
    ) -> Result<DeploymentDescription, WireError> {
        let _changing = self.change.lock().await;
        let PromoteDeployment {
            name,
            shadow,
            partial_state,
        } = request;
        let command = Command::Promote {
            name: name.clone(),
            shadow: shadow.clone(),
            at_ms: clock::now_ms(),
            by: short(by),
        };
        let image = self.controller.check(&command)?;
        let known = |name: &str| {
            let deployment = image.deployment(name);
            deployment.ok_or_else(|| errors::unknown_deployment(name))
        };
        let (live, promoted) = (known(&name)?, known(&shadow)?);
        if !partial_state {
            self.check_whole(live, promoted)?;
        }
        let met = async {
            self.come_near(live, promoted).await?;
            let barrier = self.meet(live, promoted).await?;
            Ok((barrier, self.next_shared(live, promoted)?))
        };
        let (barrier, next) = match met.await {
            Ok(met) => met,
            Err(error) => {
                self.part(live, promoted);
                return Err(error);
            }
        };
        let (live_shared, shadow_shared) = (self.halt(&name).await, self.halt(&shadow).await);
        let swapped = async {
            // The journals that are taken over stand at the barrier, and so must the group.
            self.commit_for(&name, commits(&barrier)).await?;
            self.controller.execute(command).await
        };
        if let Err(error) = swapped.await {
            for (name, shared) in [(&name, live_shared), (&shadow, shadow_shared)] {
                if let Some(shared) = shared {
                    self.set_running(name, RunningDeployment::start(shared));
                }
            }
            self.part(live, promoted);
            return Err(error);
        }
        self.set_running(&name, RunningDeployment::start(next));
        if let Err(error) = self.forget_journals().await {
            tracing::warn!(%error, "journals of the deployment before remain");
        }
        self.forget_artefacts().await;
        self.forget_tables().await;
        self.forget_shadow(&promoted.spec).await;
        self.describe(&name)
    }

    /// Refuses a shadow that remembers a part of history only, where the live one remembers all of it.
    fn check_whole(&self, live: &Deployment, shadow: &Deployment) -> Result<(), WireError> {
        let remembers = |it: &Deployment| {
            let mut imports = it.plugin.imports.iter();
            imports.any(|import| REMEMBERED.iter().any(|what| import.starts_with(what)))
        };
        let replay = shadow.shadow.as_ref().map(|shadow| &shadow.replay);
        let inputs = replay.into_iter().flat_map(|replay| &replay.inputs);
        if !(remembers(live) || remembers(shadow)) {
            return Ok(());
        }
        for input in inputs {
            let partitions = self.partitions_of(&input.topic)?;
            for (partition, range) in partitions.iter().zip(&input.partitions) {
                if range.from > partition.visible().log_start_offset {
                    return Err(errors::invalid(format!(
                        "{} began at offset {} of {}: what its plugin remembers is of that part of history, and \
                         would replace all that {} remembers; replay from the beginning, or promote it with \
                         `--partial-state`",
                        shadow.spec.name,
                        range.from,
                        partition.name(),
                        live.spec.name
                    )));
                }
            }
        }
        Ok(())
    }

    /// Lets the shadow run on, until it is near the live deployment.
    async fn come_near(&self, live: &Deployment, shadow: &Deployment) -> Result<(), WireError> {
        self.with_running(&shadow.spec.name, |it| it.bound(Arc::default()))?;
        let deadline = Instant::now() + CATCH_UP_LIMIT;
        loop {
            let (there, here) = (self.positions(live)?, self.positions(shadow)?);
            let behind = there.iter().map(|(at, (offset, _))| {
                let (here, _) = here.get(at).copied().unwrap_or_default();
                offset.saturating_sub(here)
            });
            let behind: u64 = behind.sum();
            // What was paused does not come nearer.
            if behind <= NEAR || shadow.activity == Activity::Paused {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(WireError::new(
                    ErrorCode::NotAtRest,
                    format!(
                        "{} is {behind} records behind {}: try again when it has caught up",
                        shadow.spec.name, live.spec.name
                    ),
                ));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Runs both to the same offsets, where they stop.
    async fn meet(&self, live: &Deployment, shadow: &Deployment) -> Result<Barrier, WireError> {
        for deployment in [live, shadow] {
            self.with_running(&deployment.spec.name, RunningDeployment::hold)?
                .await;
        }
        let (there, here) = (self.positions(live)?, self.positions(shadow)?);
        self.check_complete(live, &there)?;
        self.check_complete(shadow, &here)?;
        let mut barrier = Barrier::new();
        for (at, (offset, _)) in there.iter().chain(&here) {
            let furthest = barrier.entry(at.clone()).or_default();
            *furthest = (*offset).max(*furthest);
        }
        let bounds = Arc::new(self.bounds_at(&barrier));
        for (deployment, positions) in [(live, &there), (shadow, &here)] {
            let name = &deployment.spec.name;
            self.with_running(name, |it| it.bound(Arc::clone(&bounds)))?;
            if arrived(&barrier, positions) {
                continue;
            }
            if deployment.activity == Activity::Paused {
                let why = format!("deployment {name} is paused and has records to work on first");
                return Err(errors::invalid(why));
            }
            self.with_running(name, RunningDeployment::let_go)?;
        }
        let deadline = Instant::now() + MEETING_LIMIT;
        loop {
            let (there, here) = (self.positions(live)?, self.positions(shadow)?);
            if arrived(&barrier, &there) && arrived(&barrier, &here) {
                return Ok(barrier);
            }
            if Instant::now() >= deadline {
                let late = if arrived(&barrier, &there) {
                    shadow
                } else {
                    live
                };
                return Err(WireError::new(
                    ErrorCode::NotAtRest,
                    format!(
                        "{} does not come to rest: records wait to be tried again, or it is slow; \
                         the live deployment goes on, and the shadow has gone on beyond its replay",
                        late.spec.name
                    ),
                ));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Has both go on as before.
    fn part(&self, live: &Deployment, shadow: &Deployment) {
        let replay = shadow.shadow.as_ref().map(|shadow| &shadow.replay);
        let until = Arc::new(self.bounds(replay));
        for (deployment, bounds) in [(live, Arc::default()), (shadow, until)] {
            let gone = self.with_running(&deployment.spec.name, |running| {
                running.bound(bounds);
                if deployment.activity == Activity::Active {
                    running.let_go();
                }
            });
            if let Err(error) = gone {
                tracing::error!(%error, "a deployment does not go on after a promotion that failed");
            }
        }
    }

    /// What the workers of the promoted deployment share.
    fn next_shared(&self, live: &Deployment, shadow: &Deployment) -> Result<Shared, WireError> {
        let name = &live.spec.name;
        let plugin = self.with_running(&shadow.spec.name, |it| it.shared.plugin.clone())?;
        self.shared(
            shadow.deployment_id,
            promoted_spec(&shadow.spec, name),
            plugin,
            live.activity,
            Bounds::None,
        )
    }

    /// Stops a deployment's workers, and keeps what it takes to start them again.
    async fn halt(&self, name: &str) -> Option<Arc<Shared>> {
        let running = self.running.lock().remove(name)?;
        let shared = Arc::clone(&running.shared);
        running.stop().await;
        Some(shared)
    }

    fn set_running(&self, name: &str, running: RunningDeployment) {
        self.running.lock().insert(name.to_owned(), running);
    }

    fn with_running<T>(
        &self,
        name: &str,
        ask: impl FnOnce(&RunningDeployment) -> T,
    ) -> Result<T, WireError> {
        let running = self.running.lock();
        let running = running.get(name).map(ask);
        running.ok_or_else(|| {
            let why = format!("deployment {name} is not running yet");
            WireError::new(ErrorCode::NotReady, why)
        })
    }

    fn positions(
        &self,
        deployment: &Deployment,
    ) -> Result<BTreeMap<NamedPartition, (Offset, bool)>, WireError> {
        self.with_running(&deployment.spec.name, RunningDeployment::positions)
    }

    /// Refuses when a partition has no worker, as while a group is on the move.
    fn check_complete(
        &self,
        deployment: &Deployment,
        positions: &BTreeMap<NamedPartition, (Offset, bool)>,
    ) -> Result<(), WireError> {
        for topic in &deployment.spec.inputs {
            let partitions = self.controller.topic(topic)?.partitions.len() as u32;
            let at = |partition| NamedPartition {
                topic: topic.clone(),
                partition,
            };
            if let Some(missing) = (0..partitions).find(|it| !positions.contains_key(&at(*it))) {
                let name = &deployment.spec.name;
                let why = format!("deployment {name} has no worker at {topic}-{missing} now");
                return Err(WireError::new(ErrorCode::NotReady, why));
            }
        }
        Ok(())
    }

    fn bounds_at(&self, barrier: &Barrier) -> Bounds {
        let image = self.controller.image();
        let bound = |(at, offset): (&NamedPartition, &Offset)| {
            let topic_id = image.topic(&at.topic)?.topic_id;
            let partition = at.partition;
            let id = TopicPartition {
                topic_id,
                partition,
            };
            Some((id, *offset))
        };
        Bounds::At(barrier.iter().filter_map(bound).collect())
    }
}

/// Whether workers are at the barrier, with nothing left to try again.
fn arrived(barrier: &Barrier, positions: &BTreeMap<NamedPartition, (Offset, bool)>) -> bool {
    barrier.iter().all(|(at, offset)| {
        let at = positions.get(at);
        at.is_some_and(|(here, settled)| here >= offset && *settled)
    })
}

fn commits(barrier: &Barrier) -> Vec<OffsetCommit> {
    let commit = |(at, offset): (&NamedPartition, &Offset)| OffsetCommit {
        topic: at.topic.clone(),
        partition: at.partition,
        offset: *offset,
        metadata: String::new(),
    };
    barrier.iter().map(commit).collect()
}
