//! A plugin at work: records of one topic through WebAssembly into another.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use millstream::{
    Admin, Client, DeploymentDescription, DeploymentSpec, OutputSpec, ProduceRecord, WorkerState,
};

use super::consume::count;
use super::quakes::{MIN_MAGNITUDE, quake, strong};

/// How often a worker's progress is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Produces `records` earthquakes.
pub(in crate::bench) async fn fill(
    client: &Client,
    topic: &str,
    records: u64,
) -> millstream::Result<()> {
    let producer = client.producer(topic).build().await?;
    for index in 0..records {
        producer.send(ProduceRecord::new(quake(index))).await?;
    }
    producer.close().await
}

/// Deploys the component from the start of `input`, waits until its workers have no lag, checks
/// what they emitted and removes it; the records handled in a second.
///
/// Workers start before the deployment is confirmed: what they had handled when they were first
/// looked at does not count.
pub(in crate::bench) async fn run(
    client: &Client,
    name: &str,
    component: &Path,
    (input, output): (&str, &str),
    records: u64,
) -> anyhow::Result<f64> {
    let admin = client.admin();
    let component =
        std::fs::read(component).with_context(|| format!("cannot read {}", component.display()))?;
    let spec = DeploymentSpec {
        inputs: vec![input.to_owned()],
        outputs: vec![OutputSpec {
            name: "alerts".to_owned(),
            topic: output.to_owned(),
        }],
        config: vec![("min-mag".to_owned(), MIN_MAGNITUDE.to_owned())],
        ..DeploymentSpec::new(name)
    };
    let deployed = admin.deploy_plugin(component, spec).await?;
    let rate = until_handled(&admin, &deployed, records).await;
    let found = count(&admin, output).await;
    let removed = admin.remove_plugin(name).await;
    // What failed first says why.
    let (rate, found) = (rate?, found?);
    removed?;
    let expected = strong(records);
    anyhow::ensure!(
        found == expected,
        "{found} records came out of the worker, not {expected}"
    );
    Ok(rate)
}

/// The records handled in a second until all are.
async fn until_handled(
    admin: &Admin,
    deployed: &DeploymentDescription,
    records: u64,
) -> anyhow::Result<f64> {
    let begun = Instant::now();
    let first = handled(deployed)?;
    anyhow::ensure!(
        first < records,
        "{records} records are too few: all were handled at once"
    );
    loop {
        let last = handled(&admin.describe_plugin(deployed.spec.name.as_str()).await?)?;
        if last >= records {
            return Ok((last - first) as f64 / begun.elapsed().as_secs_f64());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// What all workers of a deployment have handled together: what is committed, so that the outputs
/// are in the log. A worker that fails ends the run.
fn handled(deployment: &DeploymentDescription) -> anyhow::Result<u64> {
    for worker in &deployment.workers {
        match &worker.state {
            WorkerState::Running => {}
            WorkerState::Held => bail!("the deployment was paused"),
            WorkerState::BackingOff { reason, .. } | WorkerState::Paused { reason } => {
                bail!(
                    "the worker failed at offset {}: {reason}",
                    worker.committed_offset
                )
            }
        }
        anyhow::ensure!(
            worker.failures == 0,
            "the worker failed {} times",
            worker.failures
        );
    }
    Ok(deployment
        .workers
        .iter()
        .map(|worker| worker.committed_offset)
        .sum())
}
