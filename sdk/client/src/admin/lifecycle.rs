//! The life of a deployment: pause, resume, history, roll-back, and what it measures.

use millstream_protocol::ErrorCode;
use millstream_protocol::api::lifecycle::{
    ListRevisions, PauseDeployment, ResumeDeployment, RevisionChange, RevisionDescription,
    RollBackDeployment,
};
use millstream_protocol::api::metrics::{CallLatency, DescribePluginMetrics, WorkerMetrics};
use millstream_protocol::api::plugin::DeploymentDescription;

use super::Admin;
use crate::client::EarlierAttempt;
use crate::error::{Error, Result};
use crate::limits::DEPLOY_TIMEOUT;

/// What the workers of a deployment have measured since they started.
#[derive(Clone, Debug, PartialEq)]
pub struct PluginMetrics {
    /// The workers, by input topic and partition.
    pub workers: Vec<WorkerMetrics>,
    /// How long calls of the guest took, over all workers; none before the first.
    pub latency: Option<CallLatency>,
}

impl Admin {
    /// Has a deployment's workers stand still between two turns, until it is
    /// [resumed](Self::resume_plugin): also after a restart of the broker, and in the versions that
    /// it is upgraded to. Returns when all of them do.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::UnknownDeployment`].
    pub async fn pause_plugin(&self, name: impl Into<String>) -> Result<DeploymentDescription> {
        self.client
            .call(PauseDeployment { name: name.into() })
            .await
    }

    /// Has a deployment that was paused go on, and workers that stand still in front of a record try
    /// it again.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::UnknownDeployment`].
    pub async fn resume_plugin(&self, name: impl Into<String>) -> Result<DeploymentDescription> {
        self.client
            .call(ResumeDeployment { name: name.into() })
            .await
    }

    /// The revisions of a deployment that are kept, the oldest first; the last one is at work.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::UnknownDeployment`].
    pub async fn plugin_history(
        &self,
        name: impl Into<String>,
    ) -> Result<Vec<RevisionDescription>> {
        let request = ListRevisions { name: name.into() };
        Ok(self.client.call(request).await?.revisions)
    }

    /// Puts an earlier revision of a deployment back in its place, component and settings, between
    /// two turns of its workers: as a new revision. Without a number it is the one before the one at
    /// work. How far the deployment is, and what it remembers, stay.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::UnknownDeployment`], [`ErrorCode::InvalidRequest`] when there is no such
    /// revision, and those of [`Admin::deploy_plugin`].
    pub async fn roll_back_plugin(
        &self,
        name: impl Into<String>,
        to: Option<u32>,
    ) -> Result<DeploymentDescription> {
        let name = name.into();
        let history = self.plugin_history(name.clone()).await?;
        let [earlier @ .., current] = history.as_slice() else {
            return Err(Error::invalid(format!("deployment {name} has no revision")));
        };
        let before = earlier.last().map(|revision| revision.revision);
        let Some(to) = to.or(before) else {
            return Err(Error::invalid(format!(
                "deployment {name} keeps no revision before {}",
                current.revision
            )));
        };
        // Which revision is at work says that a repetition does not undo its first attempt.
        let request = RollBackDeployment {
            name: name.clone(),
            to,
            from: current.revision,
        };
        let (outcome, lost) = self.client.call_with(request, None, DEPLOY_TIMEOUT).await;
        match outcome {
            Err(error)
                if lost == EarlierAttempt::Lost
                    && error.code() == Some(ErrorCode::InvalidRequest) =>
            {
                let deployed = self.describe_plugin(name).await?;
                let ours = deployed.revision == current.revision + 1
                    && deployed.change == RevisionChange::RolledBack { to };
                if ours { Ok(deployed) } else { Err(error) }
            }
            outcome => outcome,
        }
    }

    /// What the workers of a deployment have measured since they started: the host around each call,
    /// and the guest within.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::UnknownDeployment`].
    pub async fn plugin_metrics(&self, name: impl Into<String>) -> Result<PluginMetrics> {
        let name = name.into();
        let mut workers: Vec<WorkerMetrics> = Vec::new();
        loop {
            let last = workers.last();
            let request = DescribePluginMetrics {
                name: name.clone(),
                after: last.map(|worker| (worker.topic.clone(), worker.partition)),
            };
            let response = self.client.call(request).await?;
            let is_last = !response.more || response.workers.is_empty();
            workers.extend(response.workers);
            if is_last {
                return Ok(PluginMetrics {
                    workers,
                    latency: response.latency,
                });
            }
        }
    }
}
