//! The workers of a deployment that was put in place: they begin a moment after the broker's answer.

use std::time::Duration;

use millstream::{Admin, DeploymentDescription, WorkerDescription};
use tokio::time::{Instant, sleep};

/// How long a command waits for workers before it shows what there is.
const START_PATIENCE: Duration = Duration::from_secs(2);

/// How often it is looked whether they have begun.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The deployment with its workers, one for each partition of its inputs, if they come in time.
pub(super) async fn started(
    admin: &Admin,
    deployed: DeploymentDescription,
) -> DeploymentDescription {
    until(admin, deployed, |_| true).await.0
}

/// The same with workers that have looked what there is for them, and whether all have.
pub(super) async fn has_looked(
    admin: &Admin,
    deployed: DeploymentDescription,
) -> (DeploymentDescription, bool) {
    until(admin, deployed, |worker| worker.producer_id.is_some()).await
}

/// Waits until all workers are there and are like this, and tells whether they are.
async fn until(
    admin: &Admin,
    deployed: DeploymentDescription,
    wanted: impl Fn(&WorkerDescription) -> bool,
) -> (DeploymentDescription, bool) {
    let deadline = Instant::now() + START_PATIENCE;
    let mut latest = deployed;
    // It is deployed: what cannot be learned about it now is no failure.
    let Some(workers) = partitions(admin, &latest.spec.inputs).await else {
        return (latest, false);
    };
    loop {
        let are = latest.workers.len() >= workers && latest.workers.iter().all(&wanted);
        if are || Instant::now() >= deadline {
            return (latest, are);
        }
        sleep(LOOK_EVERY).await;
        match admin.describe_plugin(&latest.spec.name).await {
            Ok(described) => latest = described,
            Err(_) => return (latest, false),
        }
    }
}

/// The partitions of all these topics.
async fn partitions(admin: &Admin, topics: &[String]) -> Option<usize> {
    let mut partitions = 0;
    for topic in topics {
        partitions += admin.describe_topic(topic).await.ok()?.partitions.len();
    }
    Some(partitions)
}
