//! The workers of a deployment, wherever they are, steered for a while: held, bound, and asked how far they
//! are.
//!
//! Who steers says so to every broker. Should it go before it has ended that, each lets its workers go on
//! by itself after [`STEER_LIMIT`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use millstream_metadata::Deployment;
use millstream_protocol::api::group::NamedPartition;
use millstream_protocol::{ErrorCode, Offset, TopicPartition, WireError};
use serde::{Deserialize, Serialize};

use super::Deployments;
use super::follow::not_running;
use super::peers::{SETTLE_LIMIT, WorkersRequest};
use crate::internal::ARTEFACTS_PARTITION;
use crate::workers::deployment::Bounds;

/// How long workers stay as they are steered without a further word.
pub(crate) const STEER_LIMIT: Duration = Duration::from_secs(60);

/// How the workers of a deployment are steered. Whatever it is, they are asked how far they are.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Steer {
    /// As before.
    AsBefore,
    /// They stand still between two turns, and do before it is answered.
    Hold,
    /// They go on.
    LetGo,
    /// They go up to these offsets and no further; none: on and on.
    Bind(Option<Vec<(TopicPartition, Offset)>>),
    /// It is over, and they go on as the metadata wants it.
    End,
}

/// How far workers are, by partition, and whether nothing of what lies before waits to be tried again.
pub(crate) type Positions = BTreeMap<NamedPartition, (Offset, bool)>;

impl Deployments {
    /// Steers the workers on this broker.
    pub(crate) async fn steer_own(&self, name: &str, steer: Steer) -> Result<Positions, WireError> {
        let holding = {
            let running = self.running.lock();
            let running = running.get(name).ok_or_else(|| not_running(name))?;
            if !matches!(steer, Steer::AsBefore) {
                let until = Instant::now() + STEER_LIMIT;
                *running.shared.steered_until.lock() = Some(until);
            }
            match steer {
                Steer::AsBefore => None,
                Steer::Hold => Some(running.hold()),
                Steer::LetGo => {
                    running.let_go();
                    None
                }
                Steer::Bind(bounds) => {
                    running.bound(Arc::new(match bounds {
                        None => Bounds::None,
                        Some(bounds) => Bounds::At(bounds.into_iter().collect()),
                    }));
                    None
                }
                Steer::End => {
                    *running.shared.steered_until.lock() = Some(Instant::now());
                    None
                }
            }
        };
        // Has it looked after that, in time and when it is over.
        self.again.notify_one();
        if let Some(holding) = holding {
            holding.await;
        }
        let running = self.running.lock();
        let running = running.get(name).ok_or_else(|| not_running(name))?;
        Ok(running.positions())
    }

    /// Steers all workers of a deployment, on every broker.
    ///
    /// # Errors
    ///
    /// A broker that is there does not answer, or does not have the deployment at work.
    pub(super) async fn steer(&self, name: &str, steer: Steer) -> Result<Positions, WireError> {
        let request = WorkersRequest::Steer {
            name: name.to_owned(),
            steer: steer.clone(),
        };
        let (here, others) = tokio::join!(
            self.steer_own(name, steer),
            self.ask_others::<Positions>(&request, SETTLE_LIMIT),
        );
        let mut all = here?;
        for (_, positions) in others {
            all.extend(positions?);
        }
        Ok(all)
    }

    /// How far the workers of a deployment are.
    pub(super) async fn positions(&self, deployment: &Deployment) -> Result<Positions, WireError> {
        self.steer(&deployment.spec.name, Steer::AsBefore).await
    }

    /// Has the workers of a deployment go on as the metadata wants it.
    pub(super) async fn end_of_steering(&self, name: &str) {
        if let Err(error) = self.steer(name, Steer::End).await {
            tracing::warn!(deployment = name, %error, "some workers go on only in a while");
        }
    }

    /// Refuses when a partition has no worker, as while a group is on the move.
    pub(super) fn check_complete(
        &self,
        deployment: &Deployment,
        positions: &Positions,
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

    /// Whether changes of deployments are made here: with the components' log.
    pub(super) fn is_office(&self) -> bool {
        self.leaders.of(ARTEFACTS_PARTITION) == Some(self.broker_id)
    }
}
