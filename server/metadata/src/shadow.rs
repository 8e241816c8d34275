//! Shadows: deployments that replay history beside a live one, to be compared with it and perhaps
//! to take its place.

use millstream_protocol::TimestampMs;
use millstream_protocol::api::lifecycle::RevisionChange;
use millstream_protocol::api::replay::{Replay, promoted_spec};
use millstream_protocol::limits::MAX_REPLAYED_PARTITIONS;
use serde::{Deserialize, Serialize};

use crate::deployment::{Deployment, DeploymentId, check_principal};
use crate::error::{OverLimit, PromoteError, UnknownDeployment};
use crate::image::Image;
use crate::limits::Limits;
use crate::record::Record;

/// What makes a deployment a shadow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shadow {
    /// The identity of the live deployment: one that is deployed anew is another.
    pub of_id: DeploymentId,
    /// What it replays.
    pub replay: Replay,
}

impl Shadow {
    pub(crate) fn check(&self) -> Result<(), OverLimit> {
        let inputs = self.replay.inputs.iter().map(|it| it.partitions.len());
        let outputs = self.replay.outputs.iter().map(|it| it.live_ends.len());
        if inputs.sum::<usize>().max(outputs.sum()) > MAX_REPLAYED_PARTITIONS {
            return Err(OverLimit {
                what: "partitions of a replay",
                limit: MAX_REPLAYED_PARTITIONS,
            });
        }
        Ok(())
    }
}

impl Image {
    /// The shadows of a deployment.
    pub fn shadows(&self, of: &Deployment) -> impl Iterator<Item = &Deployment> {
        let of_id = of.deployment_id;
        let is_shadow =
            move |it: &&Deployment| it.shadow.as_ref().is_some_and(|it| it.of_id == of_id);
        self.deployments().filter(is_shadow)
    }

    /// A replay with the identity of its live deployment.
    pub(crate) fn shadow(
        &self,
        replay: Option<&Replay>,
    ) -> Result<Option<Shadow>, UnknownDeployment> {
        let shadow = |replay: &Replay| {
            Ok(Shadow {
                of_id: self.known(&replay.of)?.deployment_id,
                replay: replay.clone(),
            })
        };
        replay.map(shadow).transpose()
    }

    pub(crate) fn validate_promote(
        &self,
        (name, shadow): (&str, &str),
        at_ms: TimestampMs,
        by: &str,
        limits: &Limits,
    ) -> Result<Record, PromoteError> {
        let (live, promoted) = (self.known(name)?, self.known(shadow)?);
        if !self.shadows(live).any(|it| it.spec.name == shadow) {
            let (deployment, shadow) = (name.to_owned(), shadow.to_owned());
            let of_name = promoted.shadow.as_ref().map(|it| it.replay.of.as_str());
            return Err(if of_name == Some(name) {
                PromoteError::EarlierShadow { deployment, shadow }
            } else {
                PromoteError::NoShadow { deployment, shadow }
            });
        }
        check_principal(by)?;
        let spec = promoted_spec(&promoted.spec, name);
        self.check_spec(&spec, limits)?;
        let deployment = Deployment {
            deployment_id: promoted.deployment_id,
            revision: live.revision.saturating_add(1),
            spec,
            plugin: promoted.plugin.clone(),
            deployed_at_ms: at_ms,
            activity: live.activity,
            deployed_by: by.to_owned(),
            change: RevisionChange::Promoted {
                shadow: shadow.to_owned(),
            },
            shadow: None,
        };
        Ok(Record::ShadowPromoted {
            deployment,
            shadow: shadow.to_owned(),
            history: u32::try_from(limits.history).unwrap_or(u32::MAX),
        })
    }
}
