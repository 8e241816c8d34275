//! The life of a deployment between its start and its end: pause, resume, and what it measures.

use millstream_metadata::Command;
use millstream_protocol::WireError;
use millstream_protocol::api::group::NamedPartition;
use millstream_protocol::api::lifecycle::Activity;
use millstream_protocol::api::metrics::{
    DescribePluginMetrics, DescribePluginMetricsResponse, WorkerMetrics,
};
use millstream_protocol::api::plugin::DeploymentDescription;
use millstream_protocol::limits::WORKERS_PER_LISTING;

use serde::{Deserialize, Serialize};

use super::Deployments;
use super::peers::WorkersRequest;
use crate::config::ASK_LIMIT;
use crate::errors;
use crate::workers::latency::Latencies;

/// What the workers of a deployment on one broker have measured.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Measured {
    workers: Vec<WorkerMetrics>,
    latencies: Latencies,
}

impl Deployments {
    /// Has a deployment's workers stand still, now and after a restart. Returns when they do.
    pub(crate) async fn pause(&self, name: &str) -> Result<DeploymentDescription, WireError> {
        let _changing = self.change.lock().await;
        self.set_activity(name, Activity::Paused).await?;
        self.settled().await;
        self.describe(name).await
    }

    /// Has a deployment that was paused go on, and workers that stand still in front of a record try
    /// it again.
    pub(crate) async fn resume(&self, name: &str) -> Result<DeploymentDescription, WireError> {
        let _changing = self.change.lock().await;
        self.set_activity(name, Activity::Active).await?;
        self.settled().await;
        self.ensure_running(name).await?;
        self.resume_own(name);
        let request = WorkersRequest::Resume {
            name: name.to_owned(),
        };
        self.ask_others::<()>(&request, ASK_LIMIT).await;
        self.describe(name).await
    }

    /// Has workers on this broker go on that stand still in front of a record.
    pub(crate) fn resume_own(&self, name: &str) {
        if let Some(running) = self.running.lock().get(name) {
            running.let_go();
            running.resume();
        }
    }

    async fn set_activity(&self, name: &str, activity: Activity) -> Result<(), WireError> {
        let name = name.to_owned();
        let command = Command::SetActivity { name, activity };
        self.controller.execute(command).await.map(drop)
    }

    /// A part of what a deployment's workers have measured.
    pub(crate) async fn metrics(
        &self,
        request: DescribePluginMetrics,
    ) -> Result<DescribePluginMetricsResponse, WireError> {
        if !self.exists(&request.name) {
            return Err(errors::unknown_deployment(&request.name));
        }
        let mut measured = self.own_metrics(&request);
        let asked = WorkersRequest::Metrics(request);
        for (_, others) in self.ask_others::<Measured>(&asked, ASK_LIMIT).await {
            // Who does not answer has no say.
            if let Ok(others) = others {
                measured.workers.extend(others.workers);
                measured.latencies.merge(&others.latencies);
            }
        }
        let Measured {
            mut workers,
            latencies,
        } = measured;
        workers.sort_by(|one, other| {
            (&one.topic, one.partition).cmp(&(&other.topic, other.partition))
        });
        // One more than is told says whether there is more.
        let more = workers.len() > WORKERS_PER_LISTING;
        workers.truncate(WORKERS_PER_LISTING);
        Ok(DescribePluginMetricsResponse {
            workers,
            more,
            latency: latencies.figures(),
        })
    }

    /// The same of the workers on this broker: one more than fits.
    pub(crate) fn own_metrics(&self, request: &DescribePluginMetrics) -> Measured {
        let after = request.after.clone();
        let after = after.map(|(topic, partition)| NamedPartition { topic, partition });
        let running = self.running.lock();
        let Some(running) = running.get(&request.name) else {
            return Measured::default();
        };
        Measured {
            workers: running.metrics(after, WORKERS_PER_LISTING + 1),
            latencies: running.latencies(),
        }
    }
}
