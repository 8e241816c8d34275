//! Deployments that would feed themselves.

use millstream_metadata::{Command, DeploymentId, OnExisting};
use millstream_protocol::ErrorCode;
use millstream_protocol::api::lifecycle::RevisionChange;
use uuid::Uuid;

use super::cluster::{Cluster, plugin, put, spec};

const ID: DeploymentId = DeploymentId(Uuid::from_u128(0xFFFF));

fn looped(cluster: &Cluster, inputs: &[&str], outputs: &[&str], path: &str) {
    let says = format!("records would go round in a loop: {path}");
    cluster.refused(
        put(ID, spec("new", inputs, outputs)),
        ErrorCode::InvalidRequest,
        &says,
    );
}

#[test]
fn an_output_is_not_an_input() {
    let cluster = Cluster::with_topics(&["a", "b"]);
    looped(&cluster, &["a"], &["a"], "a -> new -> a");
    looped(&cluster, &["a", "b"], &["b"], "b -> new -> b");
}

#[test]
fn nor_through_other_deployments() {
    let mut cluster = Cluster::with_topics(&["a", "b", "c", "d", "x"]);
    cluster.deploy(spec("one", &["a"], &["x", "b"]));
    cluster.deploy(spec("two", &["b"], &["c"]));
    cluster.deploy(spec("three", &["c", "a"], &["d"]));
    looped(&cluster, &["d"], &["a"], "d -> new -> a -> three -> d");
    looped(
        &cluster,
        &["d"],
        &["b"],
        "d -> new -> b -> two -> c -> three -> d",
    );
    looped(&cluster, &["x"], &["a"], "x -> new -> a -> one -> x");
    cluster.deploy(spec("new", &["x"], &["d"]));
}

#[test]
fn what_is_replaced_does_not_count() {
    let mut cluster = Cluster::with_topics(&["a", "b"]);
    cluster.deploy(spec("new", &["a"], &["b"]));
    cluster.run(Command::PutDeployment {
        deployment_id: ID,
        spec: spec("new", &["b"], &["a"]),
        plugin: plugin(),
        deployed_at_ms: 0,
        on_existing: OnExisting::Replace,
        by: "operator".into(),
        change: RevisionChange::Upgraded,
        replay: None,
    });
    let says = "records would go round in a loop: a -> other -> b -> new -> a";
    let other = put(ID, spec("other", &["a"], &["b"]));
    cluster.refused(other, ErrorCode::InvalidRequest, says);
}

#[test]
fn two_ways_to_one_topic_are_no_loop() {
    let mut cluster = Cluster::with_topics(&["a", "b", "c", "d"]);
    cluster.deploy(spec("one", &["a"], &["b", "c"]));
    cluster.deploy(spec("two", &["b", "c"], &["d"]));
    cluster.deploy(spec("three", &["a"], &["d"]));
}
