//! A plugin at work: records of one topic through WebAssembly into another.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use millstream::{
    Admin, Client, DeploymentDescription, DeploymentSpec, OutputSpec, ProduceRecord, WorkerState,
};

use super::consume::count;
use super::quakes::{QUAKE_BYTES, quake};
use crate::bench::task::Deployment;

/// How often a worker's progress is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// What a record takes in a batch beside its value, bytes.
const RECORD_OVERHEAD_BYTES: usize = 9;

/// Produces `records` earthquakes.
pub(in crate::bench) async fn fill(
    client: &Client,
    topic: &str,
    records: u64,
    batch_records: Option<usize>,
) -> millstream::Result<()> {
    let mut builder = client.producer(topic);
    if let Some(records) = batch_records {
        builder = builder.batch_bytes(records * (QUAKE_BYTES + RECORD_OVERHEAD_BYTES));
    }
    let producer = builder.build().await?;
    for index in 0..records {
        producer.send(ProduceRecord::new(quake(index))).await?;
    }
    producer.close().await
}

/// Produces a record to every partition.
pub(in crate::bench) async fn touch(
    client: &Client,
    topic: &str,
    partitions: u32,
) -> millstream::Result<()> {
    let producer = client.producer(topic).build().await?;
    for partition in 0..partitions {
        let record = ProduceRecord::new(quake(partition.into())).partition(partition);
        producer.send(record).await?;
    }
    producer.close().await
}

/// Deploys a plugin from the start of its input; and the seconds until that was confirmed.
pub(in crate::bench) async fn deploy(
    admin: &Admin,
    deployment: &Deployment,
) -> anyhow::Result<(DeploymentDescription, f64)> {
    let path = &deployment.component;
    let component =
        std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let config = deployment.work.config().iter();
    let spec = DeploymentSpec {
        inputs: vec![deployment.input.clone()],
        outputs: vec![OutputSpec {
            name: deployment.work.output().to_owned(),
            topic: deployment.output.clone(),
        }],
        config: config
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect(),
        delivery: deployment.delivery,
        ..DeploymentSpec::new(&deployment.name)
    };
    let begun = Instant::now();
    let deployed = admin.deploy_plugin(component, spec).await?;
    Ok((deployed, begun.elapsed().as_secs_f64()))
}

/// Deploys the plugin, waits until its workers have no lag, checks what they emitted and removes it;
/// the records handled in a second.
///
/// Workers start before the deployment is confirmed: what they had handled when they were first
/// looked at does not count.
pub(in crate::bench) async fn run(
    client: &Client,
    deployment: &Deployment,
    records: u64,
) -> anyhow::Result<f64> {
    let admin = client.admin();
    let (deployed, _) = deploy(&admin, deployment).await?;
    let rate = until_handled(&admin, &deployed, records).await;
    let found = count(&admin, &deployment.output).await;
    let removed = admin.remove_plugin(deployment.name.as_str()).await;
    // What failed first says why.
    let (rate, found) = (rate?, found?);
    removed?;
    let expected = deployment.work.outputs(records);
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
    let last = await_handled(admin, &deployed.spec.name, records).await?;
    Ok((last - first) as f64 / begun.elapsed().as_secs_f64())
}

/// Waits until so many records are handled; how many are.
pub(in crate::bench) async fn await_handled(
    admin: &Admin,
    name: &str,
    records: u64,
) -> anyhow::Result<u64> {
    loop {
        let handled = handled(&admin.describe_plugin(name).await?)?;
        if handled >= records {
            return Ok(handled);
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
            WorkerState::Finished => bail!("the deployment has come to the end of a replay"),
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
