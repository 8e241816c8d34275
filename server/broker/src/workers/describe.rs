//! What is told of deployments.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use millstream_metadata::Deployment;
use millstream_protocol::api::plugin::{
    DeploymentDescription, ListDeploymentsResponse, TableDescription, TableState,
    WorkerDescription, WorkerState,
};
use millstream_protocol::limits::{DEPLOYMENT_BYTES_PER_LISTING, REASON_BYTES_PER_DEPLOYMENT};
use millstream_protocol::{ErrorCode, WireError};

use serde::{Deserialize, Serialize};

use super::Deployments;
use super::peers::WorkersRequest;
use crate::config::ASK_LIMIT;
use crate::errors;
use crate::workers::latency::Latencies;

/// Deployments that other brokers are asked about at once.
const DEPLOYMENTS_ASKED_AT_ONCE: usize = 100;

impl Deployments {
    /// The deployments behind `after`, in name order: at least one, and further ones as long as they fit
    /// into one response.
    pub(crate) async fn list(
        &self,
        after: Option<&str>,
    ) -> Result<ListDeploymentsResponse, WireError> {
        let image = self.controller.image();
        let behind = |it: &&Deployment| after.is_none_or(|after| it.spec.name.as_str() > after);
        let listed: Vec<&Deployment> = image.deployments().filter(behind).collect();
        let (mut deployments, mut bytes) = (Vec::new(), 0);
        let asked = listed.chunks(DEPLOYMENTS_ASKED_AT_ONCE);
        for some in asked {
            let names = some.iter().map(|it| it.spec.name.clone()).collect();
            let mut parts = self.all_parts(names).await;
            for deployment in some {
                let told = parts.remove(&deployment.spec.name).unwrap_or_default();
                let description = description(deployment, told);
                bytes += encoded_bytes(&description)?;
                if bytes > DEPLOYMENT_BYTES_PER_LISTING && !deployments.is_empty() {
                    let more = true;
                    return Ok(ListDeploymentsResponse { deployments, more });
                }
                deployments.push(description);
            }
        }
        let more = false;
        Ok(ListDeploymentsResponse { deployments, more })
    }

    pub(crate) async fn describe(&self, name: &str) -> Result<DeploymentDescription, WireError> {
        let image = self.controller.image();
        let deployment = image
            .deployment(name)
            .ok_or_else(|| errors::unknown_deployment(name))?;
        let mut parts = self.all_parts(vec![name.to_owned()]).await;
        let told = parts.remove(name).unwrap_or_default();
        Ok(description(deployment, told))
    }

    /// What this broker has to tell of these deployments.
    pub(crate) fn parts(&self, names: &[String]) -> Vec<(String, Part)> {
        let running = self.running.lock();
        let part = |name: &String| {
            let running = running.get(name)?;
            let part = Part {
                workers: running.workers(self.broker_id),
                latencies: running.latencies(),
                tables: running.shared.tables.describe(),
                config_unasked: running.config_unasked(),
            };
            Some((name.clone(), part))
        };
        names.iter().filter_map(part).collect()
    }

    /// The same of all brokers, put together by deployment.
    async fn all_parts(&self, names: Vec<String>) -> BTreeMap<String, Part> {
        let mut all: BTreeMap<_, _> = self.parts(&names).into_iter().collect();
        let request = WorkersRequest::Describe { names };
        let others = self.ask_others::<Vec<(String, Part)>>(&request, ASK_LIMIT);
        // Who does not answer has no say: its workers are missing.
        let others = others.await.into_iter().filter_map(|(_, parts)| parts.ok());
        for (name, part) in others.flatten() {
            match all.entry(name) {
                Entry::Vacant(vacant) => drop(vacant.insert(part)),
                Entry::Occupied(mut known) => known.get_mut().merge(part),
            }
        }
        all
    }
}

/// What one broker has to tell of a deployment, or several together.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Part {
    workers: Vec<WorkerDescription>,
    latencies: Latencies,
    tables: Vec<TableDescription>,
    /// Keys of the configuration that no guest has asked for; none if no guest was called.
    config_unasked: Option<Vec<String>>,
}

impl Part {
    fn merge(&mut self, other: Self) {
        self.workers.extend(other.workers);
        self.latencies.merge(&other.latencies);
        if self.tables.is_empty() {
            self.tables = other.tables;
        } else {
            for (table, other) in self.tables.iter_mut().zip(other.tables) {
                // Each broker has the whole table: what is told is that of whoever is furthest behind.
                let is_worse = |it: &TableDescription| (it.state != TableState::Following, it.lag);
                if is_worse(&other) > is_worse(table) {
                    *table = other;
                }
            }
        }
        self.config_unasked = match (self.config_unasked.take(), other.config_unasked) {
            (Some(mine), Some(others)) => {
                Some(mine.into_iter().filter(|it| others.contains(it)).collect())
            }
            (mine, others) => mine.or(others),
        };
    }
}

fn description(deployment: &Deployment, told: Part) -> DeploymentDescription {
    let Part {
        mut workers,
        latencies,
        tables,
        config_unasked,
    } = told;
    workers.sort_by(|one, other| (&one.topic, one.partition).cmp(&(&other.topic, other.partition)));
    DeploymentDescription {
        spec: deployment.spec.clone(),
        revision: deployment.revision,
        digest: deployment.plugin.digest.clone(),
        component_bytes: deployment.plugin.component_bytes,
        deployed_at_ms: deployment.deployed_at_ms,
        imports: deployment.plugin.imports.clone(),
        workers: with_short_reasons(workers),
        activity: deployment.activity,
        latency: latencies.figures(),
        deployed_by: deployment.deployed_by.clone(),
        change: deployment.change.clone(),
        shadow_of: deployment.shadow.as_ref().map(|it| it.replay.of.clone()),
        tables,
        config_unasked: config_unasked.unwrap_or_default(),
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
