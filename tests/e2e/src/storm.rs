//! The drill plugin under a storm, on a cluster: records that are rejected, trap, or are to be retried, and timers.
//! Each record counts once, whoever runs the workers ([`Outcome::reckon`]).

use bytes::Bytes;
use millstream::{
    Admin, Client, DeliveryGuarantee, DeploymentSpec, FailurePolicy, OutputSpec, WorkerDescription,
};

use crate::artifacts::drill;
use crate::history::History;
use crate::patience::until;
use crate::reckoning::Outcome;

/// The topic that the plugin reads.
pub const INPUT: &str = "in";

/// Its partitions.
pub const INPUT_PARTITIONS: usize = 4;

/// Where it writes what it gets.
pub const OUTPUT: &str = "out";

/// Where its timers write.
pub const FIRED: &str = "fired";

/// The deployment.
pub const NAME: &str = "drill";

/// Where what it gives up goes.
pub const DEAD_LETTERS: &str = "drill.dead-letters";

/// The topics that it reads and writes, and their partitions.
pub const TOPICS: [(&str, usize); 4] = [
    (INPUT, INPUT_PARTITIONS),
    (OUTPUT, 2),
    (FIRED, 2),
    (DEAD_LETTERS, 1),
];

/// The plugin.
pub fn component() -> Bytes {
    std::fs::read(drill()).expect("the component").into()
}

/// A deployment of it, with these of its settings on.
pub fn spec(delivery: DeliveryGuarantee, config: &[&str]) -> DeploymentSpec {
    let on = |name: &&str| ((*name).to_owned(), "on".to_owned());
    let output = |name: &str| OutputSpec {
        name: name.to_owned(),
        topic: name.to_owned(),
    };
    DeploymentSpec {
        delivery,
        inputs: vec![INPUT.to_owned()],
        outputs: vec![output(OUTPUT), output(FIRED)],
        config: config.iter().map(on).collect(),
        on_failure: FailurePolicy {
            attempts: 20,
            first_back_off_ms: 1,
            longest_back_off_ms: 10,
            ..FailurePolicy::default_for(NAME)
        },
        ..DeploymentSpec::new(NAME)
    }
}

/// Waits until every partition has a worker, and none has anything left to do.
pub async fn at_rest(admin: &Admin) {
    let done =
        |worker: &WorkerDescription| worker.lag == 0 && worker.parked == 0 && worker.timers == 0;
    until("workers that have done everything", async || {
        let described = admin.describe_plugin(NAME).await.ok()?;
        let all = described.workers.len() == INPUT_PARTITIONS;
        (all && described.workers.iter().all(done)).then_some(())
    })
    .await;
}

/// All that the workers have written.
pub async fn outcome(client: &Client) -> Outcome {
    Outcome {
        outputs: History::read_to_the_end(client, OUTPUT).await,
        letters: History::read_to_the_end(client, DEAD_LETTERS).await,
        fired: History::read_to_the_end(client, FIRED).await,
    }
}
