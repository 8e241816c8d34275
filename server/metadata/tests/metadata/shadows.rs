//! Shadows, and their promotion.

use millstream_metadata::{Command, DeploymentId, OnExisting, Record};
use millstream_protocol::ErrorCode;
use millstream_protocol::api::lifecycle::{Activity, RevisionChange};
use millstream_protocol::api::plugin::{DeploymentSpec, FailureAction};
use millstream_protocol::api::replay::{
    Replay, ReplayedRange, ReplayedTopic, promoted_spec, shadow_spec,
};
use millstream_protocol::limits::MAX_REPLAYED_PARTITIONS;
use uuid::Uuid;

use super::cluster::{Cluster, plugin, put, spec};

const LIVE: DeploymentId = DeploymentId(Uuid::from_u128(0xAAAA));
const SHADOW: DeploymentId = DeploymentId(Uuid::from_u128(0xBBBB));

fn target() -> DeploymentSpec {
    DeploymentSpec {
        config: Vec::new(),
        ..spec("alert", &["in"], &["out"])
    }
}

fn replay(partitions: usize) -> Replay {
    Replay {
        of: "alert".into(),
        inputs: vec![ReplayedTopic {
            topic: "in".into(),
            partitions: vec![ReplayedRange { from: 0, until: 9 }; partitions],
        }],
        outputs: Vec::new(),
        since_ms: None,
        before_ms: None,
    }
}

fn shadow(replay: Replay) -> Command {
    Command::PutDeployment {
        deployment_id: SHADOW,
        spec: shadow_spec(&target(), "alert.shadow"),
        plugin: plugin(),
        deployed_at_ms: 2,
        on_existing: OnExisting::Refuse,
        by: "operator".into(),
        change: RevisionChange::Deployed,
        replay: Some(Box::new(replay)),
    }
}

fn promote(shadow: &str) -> Command {
    Command::Promote {
        name: "alert".into(),
        shadow: shadow.into(),
        at_ms: 3,
        by: "operator".into(),
    }
}

/// A live deployment, paused in its second revision, and the topics of its shadow.
fn cluster() -> Cluster {
    let mut cluster = Cluster::with_topics(&["in", "out", "out.alert.shadow"]);
    cluster.run(put(LIVE, spec("alert", &["in"], &["out"])));
    cluster
}

#[test]
fn a_shadow_does_the_same_elsewhere_and_back() {
    let shadow = shadow_spec(&target(), "alert.shadow");
    assert_eq!(shadow.name, "alert.shadow");
    assert_eq!(shadow.inputs, target().inputs);
    assert_eq!(shadow.outputs[0].topic, "out.alert.shadow");
    assert_eq!(
        shadow.on_failure.finally,
        FailureAction::DeadLetter {
            topic: "alert.dead-letters.alert.shadow".into()
        }
    );
    assert_eq!(promoted_spec(&shadow, "alert"), target());
}

#[test]
fn a_promotion_puts_the_shadow_in_the_place_of_its_deployment() {
    let mut cluster = cluster();
    cluster.run(Command::SetActivity {
        name: "alert".into(),
        activity: Activity::Paused,
    });
    cluster.run(shadow(replay(3)));
    let live = cluster.image.deployment("alert").unwrap();
    let shadows: Vec<_> = cluster.image.shadows(live).collect();
    assert_eq!(shadows[0].deployment_id, SHADOW);
    let record = cluster.run(promote("alert.shadow"));
    assert!(matches!(record, Record::ShadowPromoted { .. }));
    let promoted = cluster.image.deployment("alert").unwrap();
    assert_eq!(promoted.deployment_id, SHADOW);
    assert_eq!((promoted.revision, &promoted.spec), (2, &target()));
    assert_eq!(promoted.activity, Activity::Paused);
    assert_eq!(promoted.shadow, None);
    let names: Vec<_> = cluster
        .image
        .deployments()
        .map(|it| &it.spec.name)
        .collect();
    assert_eq!(names, ["alert"]);
    assert_eq!(cluster.image.history("alert")[0].deployment_id, LIVE);
}

#[test]
fn only_a_shadow_of_this_deployment_is_promoted() {
    let mut cluster = cluster();
    let unknown = "no deployment is named alert.shadow";
    cluster.refused(
        promote("alert.shadow"),
        ErrorCode::UnknownDeployment,
        unknown,
    );
    let other = "deployment alert is no shadow of alert";
    cluster.refused(promote("alert"), ErrorCode::InvalidRequest, other);
    cluster.run(shadow(replay(3)));
    // Deployed anew, it is another.
    cluster.run(Command::RemoveDeployment {
        name: "alert".into(),
    });
    let anew = DeploymentId(Uuid::from_u128(0xCCCC));
    cluster.run(put(anew, spec("alert", &["in"], &["out"])));
    let stranger = "alert.shadow is a shadow of what alert was before: `plugin remove alert.shadow`, then \
                    `plugin replay alert` makes one of what it is now";
    cluster.refused(promote("alert.shadow"), ErrorCode::InvalidRequest, stranger);
}

#[test]
fn the_partitions_of_a_replay_are_bounded() {
    let cluster = cluster();
    let too_many = shadow(replay(MAX_REPLAYED_PARTITIONS + 1));
    let says = "more than 4096 partitions of a replay";
    cluster.refused(too_many, ErrorCode::InvalidRequest, says);
    let orphan = shadow(Replay {
        of: "nobody".into(),
        ..replay(1)
    });
    cluster.refused(
        orphan,
        ErrorCode::UnknownDeployment,
        "no deployment is named nobody",
    );
}
