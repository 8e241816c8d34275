//! Deployments.

use millstream_metadata::error::{CommandError, DeployError};
use millstream_metadata::{Actor, Command, DeploymentId, OnExisting, Plugin, Record, SpecError};
use millstream_protocol::api::grants::Grants;
use millstream_protocol::api::lifecycle::{Activity, RevisionChange};
use millstream_protocol::api::plugin::{
    DeliveryGuarantee, DeploymentSpec, FailureAction, FailurePolicy, OutputSpec, TableSpec,
    WorkerLimits,
};
use millstream_protocol::api::topic::{AlterTopic, Cleanup, CreateTopic, TopicConfig};
use millstream_protocol::{ErrorCode, TopicId};
use uuid::Uuid;

use super::cluster::{Cluster, create, plugin, put, spec};

const ID: DeploymentId = DeploymentId(Uuid::from_u128(0xFFFF));

fn with_plugin(spec: DeploymentSpec, plugin: Plugin, on_existing: OnExisting) -> Command {
    Command::PutDeployment {
        deployment_id: ID,
        spec,
        plugin,
        deployed_at_ms: 2,
        on_existing,
        by: "another".into(),
        change: RevisionChange::Upgraded,
        replay: None,
    }
}

#[test]
fn a_deployment_is_found_by_name() {
    let mut cluster = Cluster::with_topics(&["in", "out"]);
    let wanted = spec("alert", &["in"], &["out"]);
    cluster.run(put(ID, wanted.clone()));
    let deployment = cluster.image.deployment("alert").unwrap();
    assert_eq!((deployment.deployment_id, deployment.revision), (ID, 1));
    assert_eq!((&deployment.spec, &deployment.plugin), (&wanted, &plugin()));
    assert!(deployment.uses("in") && deployment.uses("out") && !deployment.uses("alert"));
    cluster.run(Command::RemoveDeployment {
        name: "alert".into(),
    });
    assert_eq!(cluster.image.deployments().count(), 0);
}

#[test]
fn a_replacement_keeps_the_identity_and_counts_up() {
    let mut cluster = Cluster::with_topics(&["in", "out"]);
    let first = cluster.deploy(spec("alert", &["in"], &["out"]));
    let Record::DeploymentPut {
        deployment: first, ..
    } = first
    else {
        panic!("{first:?}")
    };
    let again = put(ID, spec("alert", &["in"], &[]));
    cluster.refused(
        again,
        ErrorCode::DeploymentExists,
        "a deployment is named alert already",
    );

    let digest = "f".repeat(64);
    let plugin = Plugin {
        digest: digest.clone(),
        ..plugin()
    };
    cluster.run(with_plugin(
        spec("alert", &["out"], &["in"]),
        plugin,
        OnExisting::Replace,
    ));
    let second = cluster.image.deployment("alert").unwrap();
    assert_eq!(
        (second.deployment_id, second.revision),
        (first.deployment_id, 2)
    );
    assert_eq!((&second.plugin.digest, second.deployed_at_ms), (&digest, 2));
    assert_eq!(second.spec.inputs, ["out"]);
}

#[test]
fn replacing_what_is_not_there_deploys_it() {
    let mut cluster = Cluster::with_topics(&["in"]);
    cluster.run(with_plugin(
        spec("alert", &["in"], &[]),
        plugin(),
        OnExisting::Replace,
    ));
    let deployment = cluster.image.deployment("alert").unwrap();
    assert_eq!((deployment.deployment_id, deployment.revision), (ID, 1));
}

#[test]
fn a_deployment_made_again_is_another() {
    let mut cluster = Cluster::with_topics(&["in"]);
    cluster.run(put(ID, spec("alert", &["in"], &[])));
    let says = format!("a deployment has the identity {ID} already");
    cluster.refused(
        put(ID, spec("other", &["in"], &[])),
        ErrorCode::InvalidRequest,
        &says,
    );
    cluster.run(Command::RemoveDeployment {
        name: "alert".into(),
    });
    cluster.deploy(spec("alert", &["in"], &[]));
    let deployment = cluster.image.deployment("alert").unwrap();
    assert!(deployment.deployment_id != ID && deployment.revision == 1);
    let remove = Command::RemoveDeployment {
        name: "other".into(),
    };
    cluster.refused(
        remove,
        ErrorCode::UnknownDeployment,
        "no deployment is named other",
    );
}

/// The same refusal by the command and by the check before compilation.
fn refused(cluster: &Cluster, spec: DeploymentSpec, code: ErrorCode, says: &str) {
    let early = cluster
        .image
        .check_spec(&spec, &cluster.limits)
        .unwrap_err();
    let error = cluster.refused(put(ID, spec), code, says);
    assert_eq!(early.code(), code);
    assert_eq!(error, CommandError::Deploy(DeployError::Spec(early)));
}

#[test]
fn names_inputs_and_outputs_are_checked() {
    let cluster = Cluster::with_topics(&["in", "out"]);
    let good = || spec("alert", &["in"], &["out"]);
    let invalid = |spec, says| refused(&cluster, spec, ErrorCode::InvalidRequest, says);
    invalid(spec("", &["in"], &[]), "the deployment's name is empty");
    invalid(
        spec("__x", &["in"], &[]),
        "deployment __x is the broker's own: names that begin with __ are reserved",
    );
    invalid(spec("alert", &[], &[]), "deployment alert has no input");
    invalid(
        spec("alert", &["in", "in"], &[]),
        "the input \"in\" is given twice",
    );
    invalid(
        spec("alert", &["in"], &["out", "out"]),
        "the output \"to-out\" is given twice",
    );
    invalid(
        spec("alert", &["__offsets"], &[]),
        "topic __offsets is the broker's own: names that begin with __ are reserved",
    );
    invalid(
        spec("alert", &["in"], &["__offsets"]),
        "topic __offsets is the broker's own: names that begin with __ are reserved",
    );
    let unnamed = OutputSpec {
        name: String::new(),
        topic: "out".into(),
    };
    invalid(
        DeploymentSpec {
            outputs: vec![unnamed],
            ..good()
        },
        "the output's name is empty",
    );
    invalid(
        DeploymentSpec {
            inputs: vec!["in".into(); 65],
            ..good()
        },
        "more than 64 inputs of a deployment",
    );
    let output = good().outputs.remove(0);
    invalid(
        DeploymentSpec {
            outputs: vec![output; 65],
            ..good()
        },
        "more than 64 outputs of a deployment",
    );
    let unknown = |spec| {
        refused(
            &cluster,
            spec,
            ErrorCode::UnknownTopic,
            "no topic is named nowhere",
        )
    };
    unknown(spec("alert", &["nowhere"], &[]));
    unknown(spec("alert", &["in"], &["nowhere"]));

    let twice = ["a", "b"].map(|name| OutputSpec {
        name: name.into(),
        topic: "out".into(),
    });
    let spec = DeploymentSpec {
        outputs: twice.into(),
        ..good()
    };
    assert_eq!(
        cluster.image.check_spec(&spec, &cluster.limits),
        Ok(()),
        "two ways to one topic"
    );
}

#[test]
fn the_configuration_is_bounded() {
    let cluster = Cluster::with_topics(&["in"]);
    let with = |config| DeploymentSpec {
        config,
        ..spec("alert", &["in"], &[])
    };
    let invalid = |config, says| refused(&cluster, with(config), ErrorCode::InvalidRequest, says);
    let entry = |key: &str, bytes: usize| (key.to_owned(), "v".repeat(bytes));
    invalid(
        vec![entry("k", 1), entry("k", 2)],
        "the configuration key \"k\" is given twice",
    );
    invalid(
        vec![entry("k", 65_536)],
        "more than 65536 bytes of configuration",
    );
    invalid(
        vec![entry("k", 1); 1_001],
        "more than 1000 configuration entries",
    );
    let largest = with(vec![entry("k", 65_535)]);
    assert_eq!(cluster.image.check_spec(&largest, &cluster.limits), Ok(()));
}

#[test]
fn what_is_deterministic_reads_no_compacted_topic() {
    let mut cluster = Cluster::with_topics(&["out"]);
    let compacted = CreateTopic {
        name: "in".into(),
        partitions: 1,
        config: TopicConfig {
            cleanup: Cleanup::Compact,
            ..TopicConfig::default()
        },
    };
    cluster.run(create(TopicId(Uuid::from_u128(77)), compacted));
    let with = |delivery| DeploymentSpec {
        delivery,
        ..spec("alert", &["in"], &["out"])
    };
    let check = |delivery| cluster.image.check_spec(&with(delivery), &cluster.limits);
    assert_eq!(check(DeliveryGuarantee::ExactlyOnce), Ok(()));
    let refused = check(DeliveryGuarantee::Deterministic).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "a deterministic deployment cannot read in, which is compacted: its batches change"
    );
}

#[test]
fn what_a_deterministic_deployment_reads_and_writes_stays_as_it_is() {
    let mut cluster = Cluster::with_topics(&["in", "out"]);
    let deterministic = DeploymentSpec {
        delivery: DeliveryGuarantee::Deterministic,
        ..spec("alert", &["in"], &["out"])
    };
    cluster.deploy(deterministic);
    let alter = |name: &str, change: AlterTopic| Command::AlterTopic {
        change: AlterTopic {
            name: name.to_owned(),
            ..change
        },
        actor: Actor::User,
    };
    let compacted = AlterTopic {
        cleanup: Some(Cleanup::Compact),
        ..AlterTopic::default()
    };
    let larger = AlterTopic {
        partitions: Some(7),
        ..AlterTopic::default()
    };
    let refused = |command: Command, why: &str| {
        let error = cluster.image.validate(&command, &cluster.limits);
        let error = error.unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    };
    let what = "an input of the deterministic deployment alert";
    refused(alter("in", compacted.clone()), what);
    let what = "an output of the deterministic deployment alert";
    refused(alter("out", larger.clone()), what);
    cluster.run(alter("in", larger));
    cluster.run(alter("out", compacted));
}

#[test]
fn dead_letters_of_two_deployments_have_topics_of_their_own() {
    let mut cluster = Cluster::with_topics(&["in", "out"]);
    let with = |name: &str, topic: &str| DeploymentSpec {
        on_failure: FailurePolicy {
            finally: FailureAction::DeadLetter {
                topic: topic.to_owned(),
            },
            ..FailurePolicy::default_for(name)
        },
        ..spec(name, &["in"], &["out"])
    };
    cluster.deploy(with("one", "letters"));
    let check = |spec: &DeploymentSpec| cluster.image.check_spec(spec, &cluster.limits);
    assert_eq!(check(&with("one", "letters")), Ok(()));
    assert_eq!(check(&with("two", "others")), Ok(()));
    assert_eq!(
        check(&with("two", "letters")).unwrap_err().to_string(),
        "topic letters takes the dead letters of the deployment one: each has a topic of its own"
    );
}

#[test]
fn grants_are_bounded_and_none_is_for_what_is_deterministic() {
    let cluster = Cluster::with_topics(&["in"]);
    let with = |grants, delivery| DeploymentSpec {
        grants,
        delivery,
        ..spec("alert", &["in"], &[])
    };
    let secrets = |names: Vec<String>| Grants {
        secrets: names,
        ..Grants::default()
    };
    let exactly_once = DeliveryGuarantee::ExactlyOnce;
    let named = |count| (0..count).map(|name| format!("s{name}")).collect();
    let most = with(secrets(named(64)), exactly_once);
    assert_eq!(cluster.image.check_spec(&most, &cluster.limits), Ok(()));
    for (names, says) in [
        (named(65), "more than 64 granted secrets"),
        (vec!["a".to_owned(); 2], "the secret \"a\" is given twice"),
        (vec!["a/b".to_owned()], "a/b"),
    ] {
        let spec = with(secrets(names), exactly_once);
        let refused = cluster.image.check_spec(&spec, &cluster.limits);
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains(says), "{refused}");
    }

    let hosts = |names: Vec<String>| Grants {
        http: names.iter().map(|name| name.parse().unwrap()).collect(),
        ..Grants::default()
    };
    let named = |count| (0..count).map(|name| format!("h{name}.test")).collect();
    let most = with(hosts(named(16)), exactly_once);
    assert_eq!(cluster.image.check_spec(&most, &cluster.limits), Ok(()));
    let mut unchecked = hosts(vec!["a.test".to_owned()]);
    unchecked.http[0].host = "*.test".to_owned();
    for (grants, says) in [
        (hosts(named(17)), "more than 16 granted hosts"),
        (
            hosts(vec!["a.test".to_owned(); 2]),
            "the granted host \"https://a.test\" is given twice",
        ),
        (unchecked, "without wildcards"),
    ] {
        let spec = with(grants, exactly_once);
        let refused = cluster.image.check_spec(&spec, &cluster.limits);
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains(says), "{refused}");
    }

    let deterministic = DeliveryGuarantee::Deterministic;
    let none = with(Grants::default(), deterministic);
    assert_eq!(cluster.image.check_spec(&none, &cluster.limits), Ok(()));
    let clocks = Grants {
        real_clocks: true,
        ..Grants::default()
    };
    let randomness = Grants {
        real_randomness: true,
        ..Grants::default()
    };
    for (grants, grant) in [
        (clocks, "clocks"),
        (randomness, "randomness"),
        (secrets(vec!["a".to_owned()]), "secret=a"),
        (hosts(vec!["a.test".to_owned()]), "http=https://a.test"),
    ] {
        refused(
            &cluster,
            with(grants, deterministic),
            ErrorCode::InvalidRequest,
            &format!(
                "a deterministic deployment cannot be granted {grant}: its outputs could differ"
            ),
        );
    }
}

/// A cluster with the topics `in` and `out`, and `places`, which is compacted.
fn with_places() -> Cluster {
    let mut cluster = Cluster::with_topics(&["in", "out", "other"]);
    let compacted = CreateTopic {
        name: "places".into(),
        partitions: 1,
        config: TopicConfig {
            cleanup: Cleanup::Compact,
            ..TopicConfig::default()
        },
    };
    cluster.run(create(TopicId(Uuid::from_u128(77)), compacted));
    cluster
}

/// A deployment from `in` to `out`, with these tables.
fn with_tables(tables: &[(&str, &str)]) -> DeploymentSpec {
    let table = |(name, topic): &(&str, &str)| TableSpec {
        name: (*name).to_owned(),
        topic: (*topic).to_owned(),
    };
    DeploymentSpec {
        tables: tables.iter().map(table).collect(),
        ..spec("join", &["in"], &["out"])
    }
}

#[test]
fn a_table_is_made_of_a_compacted_topic_that_the_deployment_neither_reads_nor_writes() {
    let cluster = with_places();
    let one = with_tables(&[("p", "places")]);
    assert_eq!(cluster.image.check_spec(&one, &cluster.limits), Ok(()));
    // One topic may be two tables.
    let named: Vec<_> = (0..9).map(|number| format!("p{number}")).collect();
    let places: Vec<_> = named.iter().map(|name| (name.as_str(), "places")).collect();
    let eight = with_tables(&places[..8]);
    assert_eq!(cluster.image.check_spec(&eight, &cluster.limits), Ok(()));

    let invalid = |spec, says: &str| refused(&cluster, spec, ErrorCode::InvalidRequest, says);
    invalid(with_tables(&places), "more than 8 tables of a deployment");
    invalid(
        with_tables(&[("p", "places"), ("p", "places")]),
        "the table \"p\" is given twice",
    );
    invalid(with_tables(&[("", "places")]), "the table's name is empty");
    invalid(
        with_tables(&[("p", "other")]),
        "the table p cannot be made of topic other, which is not compacted: old records of it are \
         deleted, whatever their keys; `millstream topic alter other --cleanup compact` changes that",
    );
    // Nobody is told to compact what could not be a table then either.
    invalid(
        with_tables(&[("p", "in")]),
        "the table p cannot be made of topic in, which the deployment reads as an input: one topic cannot \
         be both; name another, or keep what is to be looked up in the plugin's state",
    );
    let unknown = with_tables(&[("p", "nothing")]);
    let says = "no topic is named nothing";
    refused(&cluster, unknown, ErrorCode::UnknownTopic, says);
    let read = DeploymentSpec {
        inputs: vec!["places".to_owned()],
        ..one.clone()
    };
    invalid(
        read,
        "the table p cannot be made of topic places, which the deployment reads as an input: one topic \
         cannot be both; name another, or keep what is to be looked up in the plugin's state",
    );
    let mut written = one.clone();
    written.outputs[0].topic = "places".to_owned();
    invalid(
        written,
        "the table p cannot be made of topic places, which the deployment writes: one topic cannot be \
         both; name another, or keep what is to be looked up in the plugin's state",
    );
    let deterministic = DeploymentSpec {
        delivery: DeliveryGuarantee::Deterministic,
        ..one
    };
    invalid(
        deterministic,
        "a deterministic deployment cannot have the table p: it moves on between a crash and the \
         repetition, so outputs could differ; deploy it without `deterministic`",
    );
}

#[test]
fn a_topic_stays_and_stays_compacted_while_it_is_a_table() {
    let mut cluster = with_places();
    cluster.deploy(with_tables(&[("p", "places")]));
    let delete = Command::DeleteTopic {
        topic: "places".into(),
        actor: Actor::User,
    };
    let says = "topic places is used by the deployment join";
    cluster.refused(delete.clone(), ErrorCode::TopicInUse, says);
    let alter = |change| Command::AlterTopic {
        change,
        actor: Actor::User,
    };
    let uncompacted = alter(AlterTopic {
        name: "places".into(),
        cleanup: Some(Cleanup::Delete),
        ..AlterTopic::default()
    });
    let says = "topic places is a table of the deployment join: it stays compacted";
    cluster.refused(uncompacted.clone(), ErrorCode::TopicInUse, says);
    cluster.run(alter(AlterTopic {
        name: "places".into(),
        partitions: Some(2),
        ..AlterTopic::default()
    }));
    cluster.run(Command::RemoveDeployment {
        name: "join".into(),
    });
    cluster.run(uncompacted);
    cluster.run(delete);
}

#[test]
fn limits_stay_within_the_budget() {
    let mut cluster = Cluster::with_topics(&["in"]);
    cluster.limits.worker.memory_bytes = 128 << 20;
    let with = |limits| DeploymentSpec {
        limits,
        ..spec("alert", &["in"], &[])
    };
    let limits = WorkerLimits::default;
    for (limits, says) in [
        (
            WorkerLimits {
                memory_bytes: (128 << 20) + 1,
                ..limits()
            },
            "the worker's limit memory (bytes) is 134217729, and must be from 1048576 to 134217728",
        ),
        (
            WorkerLimits {
                memory_bytes: 0,
                ..limits()
            },
            "the worker's limit memory (bytes) is 0, and must be from 1048576 to 134217728",
        ),
        (
            WorkerLimits {
                deadline_ms: 0,
                ..limits()
            },
            "the worker's limit deadline (ms) is 0, and must be from 1 to 60000",
        ),
        (
            WorkerLimits {
                outputs_per_record: 100_001,
                ..limits()
            },
            "the worker's limit outputs-per-record is 100001, and must be from 0 to 100000",
        ),
        (
            WorkerLimits {
                log_lines_per_second: 10_001,
                ..limits()
            },
            "the worker's limit log-lines-per-second is 10001, and must be from 0 to 10000",
        ),
        (
            WorkerLimits {
                state_bytes: (64 << 30) + 1,
                ..limits()
            },
            "the worker's limit state (bytes) is 68719476737, and must be from 0 to 68719476736",
        ),
    ] {
        refused(&cluster, with(limits), ErrorCode::InvalidRequest, says);
    }
    let error = cluster.image.check_spec(
        &with(WorkerLimits {
            deadline_ms: 0,
            ..limits()
        }),
        &cluster.limits,
    );
    assert!(matches!(error, Err(SpecError::OutOfRange(_))));
    cluster.limits.deployments = 0;
    let put = put(ID, spec("alert", &["in"], &[]));
    cluster.refused(put, ErrorCode::InvalidRequest, "more than 0 deployments");
}

#[test]
fn what_is_said_of_the_component_is_checked() {
    let cluster = Cluster::with_topics(&["in"]);
    let digest = "the component is refused: its digest is not 64 lower-case hexadecimal digits";
    let size = "the component is refused: it is empty or larger than a component may be";
    let imports =
        "the component is refused: it imports too many interfaces, or one with too long a name";
    for (plugin, says) in [
        (
            Plugin {
                digest: "0".repeat(63),
                ..plugin()
            },
            digest,
        ),
        (
            Plugin {
                digest: "F".repeat(64),
                ..plugin()
            },
            digest,
        ),
        (
            Plugin {
                component_bytes: 0,
                ..plugin()
            },
            size,
        ),
        (
            Plugin {
                component_bytes: (32 << 20) + 1,
                ..plugin()
            },
            size,
        ),
        (
            Plugin {
                imports: vec!["i".into(); 257],
                ..plugin()
            },
            imports,
        ),
        (
            Plugin {
                imports: vec!["i".repeat(250)],
                ..plugin()
            },
            imports,
        ),
    ] {
        let put = with_plugin(spec("alert", &["in"], &[]), plugin, OnExisting::Refuse);
        cluster.refused(put, ErrorCode::ComponentRefused, says);
    }
}

#[test]
fn a_pause_outlives_a_replacement_and_ends_with_a_resumption() {
    let mut cluster = Cluster::with_topics(&["in", "out"]);
    cluster.run(put(ID, spec("alert", &["in"], &["out"])));
    let set = |name: &str, activity| Command::SetActivity {
        name: name.into(),
        activity,
    };
    cluster.run(set("alert", Activity::Paused));
    cluster.nothing(set("alert", Activity::Paused));
    cluster.run(with_plugin(
        spec("alert", &["in"], &[]),
        plugin(),
        OnExisting::Replace,
    ));
    let activity = |cluster: &Cluster| cluster.image.deployment("alert").unwrap().activity;
    assert_eq!(activity(&cluster), Activity::Paused);
    cluster.run(set("alert", Activity::Active));
    assert_eq!(activity(&cluster), Activity::Active);
    cluster.refused(
        set("other", Activity::Paused),
        ErrorCode::UnknownDeployment,
        "no deployment is named other",
    );
}

fn component(number: u32) -> Plugin {
    Plugin {
        digest: format!("{number:064x}"),
        ..plugin()
    }
}

#[test]
fn a_history_keeps_the_newest_of_the_earlier_revisions() {
    let mut cluster = Cluster::with_topics(&["in", "out"]);
    cluster.limits.history = 2;
    cluster.run(put(ID, spec("alert", &["in"], &["out"])));
    assert!(cluster.image.history("alert").is_empty());
    for number in 1..=4 {
        let upgraded = spec("alert", &["in"], &[]);
        cluster.run(with_plugin(
            upgraded,
            component(number),
            OnExisting::Upgrade,
        ));
    }
    let history = cluster.image.history("alert");
    let revisions: Vec<_> = history.iter().map(|it| (it.revision, &it.plugin)).collect();
    assert_eq!(revisions, [(3, &component(2)), (4, &component(3))]);
    assert_eq!(history[1].deployed_by, "another");
    let digests = [2, 3, 4].map(component).map(|it| it.digest);
    assert!(cluster.image.artefacts().into_iter().eq(&digests));
    assert_eq!(history[1].differs_in(&history[0]), ["component"]);

    cluster.run(Command::RemoveDeployment {
        name: "alert".into(),
    });
    assert!(cluster.image.history("alert").is_empty());
    assert!(cluster.image.artefacts().is_empty());
}

#[test]
fn an_upgrade_needs_a_deployment_and_something_new() {
    let mut cluster = Cluster::with_topics(&["in", "out"]);
    let upgrade = |inputs, number| {
        with_plugin(
            spec("alert", inputs, &[]),
            component(number),
            OnExisting::Upgrade,
        )
    };
    cluster.refused(
        upgrade(&["in"], 1),
        ErrorCode::UnknownDeployment,
        "no deployment is named alert",
    );
    cluster.run(put(ID, spec("alert", &["in"], &[])));
    cluster.run(upgrade(&["in"], 1));
    cluster.refused(
        upgrade(&["in"], 1),
        ErrorCode::InvalidRequest,
        "deployment alert is at work with this component and these settings already",
    );
    cluster.run(upgrade(&["out"], 1));
    let by = Command::PutDeployment {
        deployment_id: ID,
        spec: spec("alert", &["in"], &[]),
        plugin: plugin(),
        deployed_at_ms: 3,
        on_existing: OnExisting::Replace,
        by: "x".repeat(256),
        change: RevisionChange::Upgraded,
        replay: None,
    };
    assert!(matches!(
        cluster.image.validate(&by, &cluster.limits),
        Err(CommandError::Deploy(DeployError::OverLimit(_)))
    ));
}
