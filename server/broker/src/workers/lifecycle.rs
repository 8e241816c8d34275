//! The life of a deployment between its start and its end: pause, resume, and what it measures.

use millstream_metadata::Command;
use millstream_protocol::WireError;
use millstream_protocol::api::group::NamedPartition;
use millstream_protocol::api::lifecycle::Activity;
use millstream_protocol::api::metrics::{DescribePluginMetrics, DescribePluginMetricsResponse};
use millstream_protocol::api::plugin::DeploymentDescription;
use millstream_protocol::limits::WORKERS_PER_LISTING;

use super::Deployments;
use crate::errors;

impl Deployments {
    /// Has a deployment's workers stand still, now and after a restart. Returns when they do.
    pub(crate) async fn pause(&self, name: &str) -> Result<DeploymentDescription, WireError> {
        let _changing = self.change.lock().await;
        self.set_activity(name, Activity::Paused).await?;
        let holding = self.running.lock().get(name).map(|running| running.hold());
        if let Some(holding) = holding {
            holding.await;
        }
        self.describe(name)
    }

    /// Has a deployment that was paused go on, and workers that stand still in front of a record try
    /// it again.
    pub(crate) async fn resume(&self, name: &str) -> Result<DeploymentDescription, WireError> {
        let _changing = self.change.lock().await;
        self.set_activity(name, Activity::Active).await?;
        if let Some(deployment) = self.controller.image().deployment(name) {
            self.ensure_running(deployment).await?;
        }
        if let Some(running) = self.running.lock().get(name) {
            running.let_go();
            running.resume();
        }
        self.describe(name)
    }

    async fn set_activity(&self, name: &str, activity: Activity) -> Result<(), WireError> {
        let name = name.to_owned();
        let command = Command::SetActivity { name, activity };
        self.controller.execute(command).await.map(drop)
    }

    /// A part of what a deployment's workers have measured.
    pub(crate) fn metrics(
        &self,
        request: DescribePluginMetrics,
    ) -> Result<DescribePluginMetricsResponse, WireError> {
        let DescribePluginMetrics { name, after } = request;
        if !self.exists(&name) {
            return Err(errors::unknown_deployment(&name));
        }
        let after = after.map(|(topic, partition)| NamedPartition { topic, partition });
        let running = self.running.lock();
        let Some(running) = running.get(&name) else {
            return Ok(DescribePluginMetricsResponse {
                workers: Vec::new(),
                more: false,
                latency: None,
            });
        };
        // One more than is told says whether there is more.
        let mut workers = running.metrics(after, WORKERS_PER_LISTING + 1);
        let more = workers.len() > WORKERS_PER_LISTING;
        workers.truncate(WORKERS_PER_LISTING);
        Ok(DescribePluginMetricsResponse {
            workers,
            more,
            latency: running.latencies().figures(),
        })
    }
}
