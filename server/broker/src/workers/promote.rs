//! Promotion: a shadow takes the place of its live deployment, at the same offsets.
//!
//! Both are run to one offset in every partition, the further of the two, and stop there with
//! nothing left to try again. So every input record has had its outputs from the one or will have
//! them from the other. Then one metadata command puts the shadow in the live one's place: whatever
//! happens before it leaves both as they were, whatever happens after it finds the shadow promoted.

use std::collections::BTreeMap;
use std::time::Duration;

use millstream_metadata::{Command, Deployment};
use millstream_protocol::api::group::NamedPartition;
use millstream_protocol::api::lifecycle::Activity;
use millstream_protocol::api::plugin::DeploymentDescription;
use millstream_protocol::api::replay::PromoteDeployment;
use millstream_protocol::{ErrorCode, Offset, TopicPartition, WireError};
use tokio::time::Instant;

use super::Deployments;
use super::change::short;
use super::steer::{Positions, Steer};
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
            self.check_whole(live, promoted).await?;
        }
        let swapped = async {
            self.come_near(live, promoted).await?;
            let barrier = self.meet(live, promoted).await?;
            // The journals that are taken over stand at the barrier, and so must the group.
            self.check_group(&name, &barrier).await?;
            self.controller.execute(command).await
        };
        if let Err(error) = swapped.await {
            for name in [&name, &shadow] {
                self.end_of_steering(name).await;
            }
            return Err(error);
        }
        self.settled().await;
        if let Err(error) = self.forget_journals().await {
            tracing::warn!(%error, "journals of the deployment before remain");
        }
        self.forget_artefacts().await;
        self.forget_shadow(&promoted.spec).await;
        self.describe(&name).await
    }

    /// Refuses a shadow that remembers a part of history only, where the live one remembers all of it.
    async fn check_whole(&self, live: &Deployment, shadow: &Deployment) -> Result<(), WireError> {
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
            for (partition, range) in partitions.into_iter().zip(&input.partitions) {
                if range.from > self.leaders.extent(partition).await?.start {
                    return Err(errors::invalid(format!(
                        "{} began at offset {} of {}-{}: what its plugin remembers is of that part of history, and \
                         would replace all that {} remembers; replay from the beginning, or promote it with \
                         `--partial-state`",
                        shadow.spec.name,
                        range.from,
                        input.topic,
                        partition.partition,
                        live.spec.name
                    )));
                }
            }
        }
        Ok(())
    }

    /// Lets the shadow run on, until it is near the live deployment.
    async fn come_near(&self, live: &Deployment, shadow: &Deployment) -> Result<(), WireError> {
        self.steer(&shadow.spec.name, Steer::Bind(None)).await?;
        let deadline = Instant::now() + CATCH_UP_LIMIT;
        loop {
            let there = self.positions(live).await?;
            let here = self.positions(shadow).await?;
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
        let there = self.steer(&live.spec.name, Steer::Hold).await?;
        let here = self.steer(&shadow.spec.name, Steer::Hold).await?;
        self.check_complete(live, &there)?;
        self.check_complete(shadow, &here)?;
        let mut barrier = Barrier::new();
        for (at, (offset, _)) in there.iter().chain(&here) {
            let furthest = barrier.entry(at.clone()).or_default();
            *furthest = (*offset).max(*furthest);
        }
        for (deployment, positions) in [(live, &there), (shadow, &here)] {
            let name = &deployment.spec.name;
            let bounds = Some(self.bounds_at(&barrier));
            self.steer(name, Steer::Bind(bounds)).await?;
            if arrived(&barrier, positions) {
                continue;
            }
            if deployment.activity == Activity::Paused {
                let why = format!("deployment {name} is paused and has records to work on first");
                return Err(errors::invalid(why));
            }
            self.steer(name, Steer::LetGo).await?;
        }
        let deadline = Instant::now() + MEETING_LIMIT;
        loop {
            let there = self.positions(live).await?;
            let here = self.positions(shadow).await?;
            if arrived(&barrier, &there) && arrived(&barrier, &here) {
                // Their group knows it, once they stand still.
                for deployment in [live, shadow] {
                    self.steer(&deployment.spec.name, Steer::Hold).await?;
                }
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

    /// Refuses while a group is not at the barrier: what takes its deployment's place goes on from there.
    async fn check_group(&self, group: &str, barrier: &Barrier) -> Result<(), WireError> {
        let committed = self.group.offsets(group.to_owned()).await?;
        for (at, offset) in barrier {
            let known = committed.offsets.iter().any(|it| {
                it.topic == at.topic && it.partition == at.partition && it.offset == *offset
            });
            if !known && *offset > 0 {
                return Err(WireError::new(
                    ErrorCode::NotAtRest,
                    format!(
                        "the group {group} does not know yet that {}-{} is done up to {offset}: try again",
                        at.topic, at.partition
                    ),
                ));
            }
        }
        Ok(())
    }

    fn bounds_at(&self, barrier: &Barrier) -> Vec<(TopicPartition, Offset)> {
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
        barrier.iter().filter_map(bound).collect()
    }
}

/// Whether workers are at the barrier, with nothing left to try again.
fn arrived(barrier: &Barrier, positions: &Positions) -> bool {
    barrier.iter().all(|(at, offset)| {
        let at = positions.get(at);
        at.is_some_and(|(here, settled)| here >= offset && *settled)
    })
}
