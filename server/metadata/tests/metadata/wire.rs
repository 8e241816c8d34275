//! The bytes of what brokers tell each other. A change here is a change of the protocol between
//! releases.

use millstream_metadata::limits::{MAX_ANSWER_BYTES, MAX_COMMAND_BYTES};
use millstream_metadata::{
    Actor, Answer, CodecError, Command, DirectoryNumber, FeatureRange, Join, Nomination,
    OnExisting, Registration, Start,
};
use millstream_protocol::api::lifecycle::{Activity, RevisionChange};
use millstream_protocol::api::peer::{Lineage, UNNOTED_STARTS};
use millstream_protocol::api::topic::{AlterTopic, CreateTopic};
use millstream_protocol::{ErrorCode, TopicId, TopicPartition, WireError};
use proptest::prelude::*;

use super::format::{
    CONFIG_HEX, ID, ID_HEX, TOKEN_HEX, all as records, bytes, config, deployment, hex, replay,
    token,
};

const PARTITION: TopicPartition = TopicPartition {
    topic_id: TopicId(ID),
    partition: 300,
};

// the deployment's specification, from its inputs on; digest, size and imports of its component
const SPEC_HEX: &str = "0102696e_01016f036f7574_01016b0176_0301_0102030405_01_050607_02_000171_01000101730101016850_010174057461626c65";
const PLUGIN_HEX: &str = "026162_ac02_010169";
const REPLAY_HEX: &str = "016c_01_02696e_01_05ac02_01_016f_036f7574_0173_010a_0101_00";

fn registration() -> Registration {
    Registration {
        broker_id: 300,
        directory_id: ID,
        incarnation: 400,
        lineage: Lineage::new(ID),
        address: "b:1".into(),
        rack: Some("r".into()),
        features: FeatureRange { min: 1, max: 2 },
        join: Some(Join {
            token: token().hash,
            now_ms: 1,
        }),
    }
}

fn about_brokers() -> Vec<(Command, String)> {
    let broker_id = 300;
    let start = Start {
        directory_id: ID,
        incarnation: 400,
    };
    vec![
        (
            Command::FormCluster { cluster_id: ID },
            format!("00_{ID_HEX}"),
        ),
        (
            Command::RegisterBroker {
                registration: registration(),
            },
            format!(
                "01_ac02_{ID_HEX}_9003_{ID_HEX}_{}_00_03623a31_010172_0102_01{}_02",
                format!("10{}", "00".repeat(16)).repeat(UNNOTED_STARTS),
                "ab".repeat(32)
            ),
        ),
        (
            Command::FenceBroker { broker_id, start },
            format!("02_ac02_{ID_HEX}_9003"),
        ),
        (Command::DrainBroker { broker_id }, "03_ac02".into()),
        (Command::UndrainBroker { broker_id }, "04_ac02".into()),
        (Command::RemoveBroker { broker_id }, "05_ac02".into()),
        (
            Command::IssueJoinToken { token: token() },
            format!("06_{TOKEN_HEX}"),
        ),
    ]
}

fn about_topics() -> Vec<(Command, String)> {
    let change = AlterTopic {
        name: "in".into(),
        partitions: Some(300),
        ..AlterTopic::default()
    };
    vec![
        (
            Command::CreateTopic {
                topic_id: TopicId(ID),
                topic: CreateTopic {
                    name: "in".into(),
                    partitions: 300,
                    config: config(),
                },
                actor: Actor::Broker,
            },
            format!("07_{ID_HEX}_02696e_ac02_{CONFIG_HEX}_01"),
        ),
        (
            Command::AlterTopic {
                change,
                actor: Actor::User,
            },
            "08_02696e_01ac02_0000000000000000_00".into(),
        ),
        (
            Command::DeleteTopic {
                topic: "in".into(),
                actor: Actor::User,
            },
            "09_02696e_00".into(),
        ),
    ]
}

fn about_partitions() -> Vec<(Command, String)> {
    let broker_id = 300;
    let nomination = Nomination {
        partition: PARTITION,
        leader: 1,
        after: 300,
    };
    vec![
        (
            Command::AppointLeaders {
                nominations: vec![nomination],
            },
            format!("0a_01_{ID_HEX}_ac02_01_ac02"),
        ),
        (
            Command::RegisterReplicas {
                broker_id,
                partitions: vec![PARTITION],
            },
            format!("0b_ac02_01_{ID_HEX}_ac02"),
        ),
        (
            Command::TrustReplicas {
                broker_id,
                replicas: vec![(PARTITION, DirectoryNumber(500))],
            },
            format!("0c_ac02_01_{ID_HEX}_ac02_f403"),
        ),
        (
            Command::ReassignPartitions {
                reassignments: vec![(PARTITION, vec![3, 300])],
            },
            format!("0d_01_{ID_HEX}_ac02_0203ac02"),
        ),
        (
            Command::FinaliseReassignment {
                partition: PARTITION,
                epoch: 300,
                version: 600,
            },
            format!("0e_{ID_HEX}_ac02_ac02_d804"),
        ),
        (
            Command::AcceptLoss {
                partition: PARTITION,
                broker_id,
                by: "me".into(),
                at_ms: -1,
            },
            format!("0f_{ID_HEX}_ac02_ac02_026d65_01"),
        ),
        (
            Command::AllocateProducerIds { count: 300 },
            "10_ac02".into(),
        ),
    ]
}

fn about_deployments() -> Vec<(Command, String)> {
    let deployment = deployment();
    vec![
        (
            Command::PutDeployment {
                deployment_id: deployment.deployment_id,
                spec: deployment.spec,
                plugin: deployment.plugin,
                deployed_at_ms: 1,
                on_existing: OnExisting::Replace,
                by: "me".into(),
                change: RevisionChange::RolledBack { to: 1 },
                replay: Some(Box::new(replay())),
            },
            format!("11_{ID_HEX}_0164_{SPEC_HEX}_{PLUGIN_HEX}_02_01_026d65_0201_01_{REPLAY_HEX}"),
        ),
        (
            Command::RemoveDeployment { name: "d".into() },
            "12_0164".into(),
        ),
        (
            Command::Promote {
                name: "d".into(),
                shadow: "s".into(),
                at_ms: -1,
                by: "me".into(),
            },
            "13_0164_0173_01_026d65".into(),
        ),
        (
            Command::SetActivity {
                name: "d".into(),
                activity: Activity::Paused,
            },
            "14_0164_01".into(),
        ),
    ]
}

#[test]
fn golden_commands() {
    let kinds = [
        about_brokers(),
        about_topics(),
        about_partitions(),
        about_deployments(),
    ];
    for (kind, (command, body)) in kinds.into_iter().flatten().enumerate() {
        let expected = bytes(&format!("01_{body}"));
        assert_eq!(usize::from(expected[1]), kind, "none is left out");
        assert_eq!(
            hex(&command.encode().unwrap()),
            hex(&expected),
            "{command:?}"
        );
        assert_eq!(Command::decode(&expected), Ok(command));
    }
    // There is none behind the last of these.
    assert!(matches!(
        Command::decode(b"\x01\x15"),
        Err(CodecError::Malformed { .. })
    ));
}

#[test]
fn golden_answers() {
    for (record, body) in records() {
        let answer = Answer {
            outcome: Ok(Some(record)),
            revision: 300,
        };
        let expected = bytes(&format!("01_00_01_{body}_ac02"));
        assert_eq!(hex(&answer.encode().unwrap()), hex(&expected), "{answer:?}");
        assert_eq!(Answer::decode(&expected), Ok(answer));
    }
    let nothing = Answer {
        outcome: Ok(None),
        revision: 0,
    };
    assert_eq!(hex(&nothing.encode().unwrap()), "01000000");
    let refused = Answer {
        outcome: Err(WireError::new(ErrorCode::UnknownTopic, "no t")),
        revision: 1,
    };
    let expected = bytes("01_01_06_046e6f2074_01");
    assert_eq!(hex(&refused.encode().unwrap()), hex(&expected));
    assert_eq!(Answer::decode(&expected), Ok(refused));
}

#[test]
fn what_is_not_understood_is_refused() {
    let version = |bytes: &[u8], version| {
        let of = |what| CodecError::Version { what, version };
        assert_eq!(Command::decode(bytes), Err(of("command")));
        assert_eq!(Answer::decode(bytes), Err(of("answer")));
    };
    version(b"", None);
    version(b"\x02\x04\x01", Some(2));
    for malformed in [b"\x01".as_slice(), b"\x01\x03", b"\x01\x03\x01\x00"] {
        assert!(
            matches!(
                Command::decode(malformed),
                Err(CodecError::Malformed { .. })
            ),
            "{malformed:?}"
        );
    }
    let too_long = |what, limit: usize| CodecError::TooLong {
        what,
        bytes: limit + 1,
        limit,
    };
    assert_eq!(
        Command::decode(&vec![1; MAX_COMMAND_BYTES + 1]),
        Err(too_long("command", MAX_COMMAND_BYTES))
    );
    assert_eq!(
        Answer::decode(&vec![1; MAX_ANSWER_BYTES + 1]),
        Err(too_long("answer", MAX_ANSWER_BYTES))
    );
    let name = "x".repeat(MAX_COMMAND_BYTES);
    assert!(matches!(
        Command::RemoveDeployment { name }.encode(),
        Err(CodecError::TooLong {
            what: "command",
            ..
        })
    ));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_bytes_are_read_or_refused(body in prop::collection::vec(any::<u8>(), 0..300), kind in 0u8..22) {
        if let Ok(command) = Command::decode(&[&[1, kind], body.as_slice()].concat()) {
            prop_assert_eq!(Command::decode(&command.encode().unwrap()), Ok(command));
        }
        if let Ok(answer) = Answer::decode(&[&[1, kind % 2], body.as_slice()].concat()) {
            prop_assert_eq!(Answer::decode(&answer.encode().unwrap()), Ok(answer));
        }
    }
}
