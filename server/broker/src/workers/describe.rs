//! What is told of deployments.

use millstream_metadata::Deployment;
use millstream_protocol::api::plugin::{
    DeploymentDescription, ListDeploymentsResponse, WorkerDescription, WorkerState,
};
use millstream_protocol::limits::{DEPLOYMENT_BYTES_PER_LISTING, REASON_BYTES_PER_DEPLOYMENT};
use millstream_protocol::{ErrorCode, WireError};

use super::Deployments;
use crate::errors;
use crate::workers::deployment::RunningDeployment;

impl Deployments {
    /// The deployments behind `after`, in name order: at least one, and further ones as long as they fit
    /// into one response.
    pub(crate) fn list(&self, after: Option<&str>) -> Result<ListDeploymentsResponse, WireError> {
        let image = self.controller.image();
        let (mut deployments, mut bytes) = (Vec::new(), 0);
        for deployment in image.deployments() {
            if after.is_some_and(|after| deployment.spec.name.as_str() <= after) {
                continue;
            }
            let description = self.description(deployment);
            bytes += encoded_bytes(&description)?;
            if bytes > DEPLOYMENT_BYTES_PER_LISTING && !deployments.is_empty() {
                let more = true;
                return Ok(ListDeploymentsResponse { deployments, more });
            }
            deployments.push(description);
        }
        let more = false;
        Ok(ListDeploymentsResponse { deployments, more })
    }

    pub(crate) fn describe(&self, name: &str) -> Result<DeploymentDescription, WireError> {
        let image = self.controller.image();
        let deployment = image
            .deployment(name)
            .ok_or_else(|| errors::unknown_deployment(name))?;
        Ok(self.description(deployment))
    }

    pub(super) fn description(&self, deployment: &Deployment) -> DeploymentDescription {
        let running = self.running.lock();
        let running = running.get(&deployment.spec.name);
        DeploymentDescription {
            spec: deployment.spec.clone(),
            revision: deployment.revision,
            digest: deployment.plugin.digest.clone(),
            component_bytes: deployment.plugin.component_bytes,
            deployed_at_ms: deployment.deployed_at_ms,
            imports: deployment.plugin.imports.clone(),
            workers: with_short_reasons(
                running
                    .map(|running| running.workers(self.broker_id))
                    .unwrap_or_default(),
            ),
            activity: deployment.activity,
            latency: running.and_then(|running| running.latencies().figures()),
            deployed_by: deployment.deployed_by.clone(),
            change: deployment.change.clone(),
            shadow_of: deployment.shadow.as_ref().map(|it| it.replay.of.clone()),
            tables: running
                .map(|running| running.shared.tables.describe())
                .unwrap_or_default(),
            config_unasked: running
                .map(RunningDeployment::config_unasked)
                .unwrap_or_default(),
        }
    }
}

/// Cuts the reasons of workers that fail, so that all of them together fit into a description.
fn with_short_reasons(mut workers: Vec<WorkerDescription>) -> Vec<WorkerDescription> {
    let share = REASON_BYTES_PER_DEPLOYMENT / workers.len().max(1);
    for worker in &mut workers {
        if let WorkerState::BackingOff { reason, .. } | WorkerState::Paused { reason } =
            &mut worker.state
            && reason.len() > share
        {
            reason.truncate(reason.floor_char_boundary(share));
            reason.push('…');
        }
    }
    workers
}

fn encoded_bytes(description: &DeploymentDescription) -> Result<usize, WireError> {
    let bytes = postcard::experimental::serialized_size(description);
    bytes.map_err(|error| WireError::new(ErrorCode::Internal, error.to_string()))
}

#[cfg(test)]
mod tests {
    use millstream_protocol::limits::MAX_BODY_BYTES;

    use super::*;

    fn failing(workers: usize) -> Vec<WorkerDescription> {
        let worker = WorkerDescription {
            topic: "t".repeat(20),
            partition: 0,
            state: WorkerState::Paused {
                reason: "é".repeat(2_048),
            },
            committed_offset: 0,
            lag: 0,
            records_in: 0,
            records_out: 0,
            failures: 0,
            dead_letters: 0,
            skipped: 0,
            parked: 0,
            memory_bytes: 0,
            timers: 0,
            broker_id: 1,
            records_per_second: 0,
            calls: 0,
            latency: None,
            retries: 0,
            started_at_ms: 0,
            producer_id: None,
        };
        vec![worker; workers]
    }

    #[test]
    fn why_workers_fail_fits_into_a_description() {
        assert_eq!(with_short_reasons(failing(32)), failing(32));
        for workers in [33, 1_000, 5_000] {
            let cut = with_short_reasons(failing(workers));
            let bytes = postcard::experimental::serialized_size(&cut).unwrap();
            assert!(bytes < MAX_BODY_BYTES, "{workers}: {bytes}");
            let WorkerState::Paused { reason } = &cut[0].state else {
                panic!("{:?}", cut[0]);
            };
            assert!(
                reason.starts_with("éé") && reason.ends_with("é…"),
                "{reason}"
            );
        }
    }
}
