//! A plugin at work: records of one topic through WebAssembly into another.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use millstream::{
    Admin, Client, DeploymentDescription, DeploymentSpec, OutputSpec, Position, ProduceRecord,
    WorkerLimits,
};

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
        producer.send(ProduceRecord::new(&quake(index))).await?;
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
        name: name.to_owned(),
        inputs: vec![input.to_owned()],
        outputs: vec![OutputSpec {
            name: "alerts".to_owned(),
            topic: output.to_owned(),
        }],
        config: vec![("min-mag".to_owned(), MIN_MAGNITUDE.to_owned())],
        start: Position::Earliest,
        limits: WorkerLimits::default(),
    };
    let first = Progress::of(&admin.deploy_plugin(component, spec).await?);
    let begun = Instant::now();
    let (last, elapsed) = loop {
        let progress = Progress::of(&admin.describe_plugin(name).await?);
        anyhow::ensure!(
            progress.failures == 0,
            "a worker failed {} times",
            progress.failures
        );
        if progress.handled >= records {
            break (progress, begun.elapsed());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    };
    anyhow::ensure!(
        first.handled < records,
        "{records} records are too few: all were handled at once"
    );
    verify(&admin, output, strong(records)).await?;
    admin.remove_plugin(name).await?;
    Ok((last.handled - first.handled) as f64 / elapsed.as_secs_f64())
}

/// How far all workers of a deployment are together.
struct Progress {
    handled: u64,
    failures: u64,
}

impl Progress {
    fn of(deployment: &DeploymentDescription) -> Self {
        let sum = |count: fn(&millstream::WorkerDescription) -> u64| {
            deployment.workers.iter().map(count).sum()
        };
        // Handled is what is committed: outputs are in the log by then.
        Self {
            handled: sum(|worker| worker.committed_offset),
            failures: sum(|worker| worker.failures),
        }
    }
}

async fn verify(admin: &Admin, output: &str, expected: u64) -> anyhow::Result<()> {
    let topic = admin.describe_topic(output).await?;
    let found: u64 = topic
        .partitions
        .iter()
        .map(|partition| partition.high_watermark)
        .sum();
    anyhow::ensure!(
        found == expected,
        "{found} records came out of the worker, not {expected}"
    );
    Ok(())
}
