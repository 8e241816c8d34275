//! The bytes of records and snapshots. A change here is a change of the format: what was written
//! before must still be read.

use millstream_metadata::limits::MAX_RECORD_BYTES;
use millstream_metadata::partition::AcceptedLoss;
use millstream_metadata::{
    Appointment, Broker, BrokerState, CodecError, Deployment, DeploymentId, DirectoryNumber,
    FeatureRange, Image, JoinToken, Partition, Plugin, Reassignment, Record, RegisteredReplica,
    Replica, Shadow, TokenHash, Topic,
};
use millstream_protocol::api::grants::{Grants, HttpHost, HttpScheme};
use millstream_protocol::api::lifecycle::{Activity, RevisionChange};
use millstream_protocol::api::offsets::Position;
use millstream_protocol::api::plugin::{
    DeliveryGuarantee, DeploymentSpec, FailureAction, FailurePolicy, HoldBack, OutputSpec,
    TableSpec, WorkerLimits,
};
use millstream_protocol::api::replay::{ComparedOutput, Replay, ReplayedRange, ReplayedTopic};
use millstream_protocol::api::topic::{Cleanup, Durability, TopicConfig};
use millstream_protocol::{TopicId, TopicPartition};
use proptest::prelude::*;
use uuid::Uuid;

pub(crate) const ID: Uuid = Uuid::from_u128(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10);
pub(crate) const ID_HEX: &str = "100102030405060708090a0b0c0d0e0f10";

fn broker() -> Broker {
    Broker {
        broker_id: 300,
        directory_id: ID,
        incarnation: 400,
        run: Uuid::from_u128(0x1112_1314_1516_1718_191a_1b1c_1d1e_1f20),
        address: "b:1".into(),
        rack: Some("r".into()),
        features: FeatureRange { min: 1, max: 2 },
        state: BrokerState::Fenced,
    }
}

fn partition() -> Partition {
    Partition {
        leader: 1,
        leader_directory: DirectoryNumber(500),
        leader_epoch: 2,
        version: 600,
        replicas: vec![replica(1, 500), replica(3, 4)],
        next: vec![replica(3, 4)],
        accepted_loss: Some(AcceptedLoss {
            by: "me".into(),
            at_ms: -1,
            leader_epoch: 2,
        }),
    }
}

fn replica(broker_id: u32, directory: u64) -> Replica {
    Replica {
        trusted: broker_id == 1,
        ..Replica::new(broker_id, DirectoryNumber(directory))
    }
}

pub(crate) fn token() -> JoinToken {
    JoinToken {
        hash: TokenHash([0xab; 32]),
        broker_id: 300,
        issued_at_ms: 1,
        expires_at_ms: 300,
        issued_by: "me".into(),
    }
}

pub(crate) fn config() -> TopicConfig {
    TopicConfig {
        durability: Durability::Relaxed,
        cleanup: Cleanup::Compact,
        retention_ms: Some(300),
        retention_bytes: None,
        segment_bytes: 65_536,
        segment_ms: 1_000,
        max_batch_bytes: 1_024,
        tombstone_retention_ms: 5,
        replication_factor: 3,
    }
}

fn topic() -> Topic {
    Topic {
        topic_id: TopicId(ID),
        name: "in".into(),
        config: config(),
        partitions: vec![partition()],
    }
}

pub(crate) fn replay() -> Replay {
    Replay {
        of: "l".into(),
        inputs: vec![ReplayedTopic {
            topic: "in".into(),
            partitions: vec![ReplayedRange {
                from: 5,
                until: 300,
            }],
        }],
        outputs: vec![ComparedOutput {
            output: "o".into(),
            live: "out".into(),
            shadow: "s".into(),
            live_ends: vec![10],
        }],
        since_ms: Some(-1),
        before_ms: None,
    }
}

pub(crate) fn deployment() -> Deployment {
    Deployment {
        deployment_id: DeploymentId(ID),
        revision: 2,
        spec: DeploymentSpec {
            name: "d".into(),
            inputs: vec!["in".into()],
            outputs: vec![OutputSpec {
                name: "o".into(),
                topic: "out".into(),
            }],
            config: vec![("k".into(), "v".into())],
            start: Position::Time(-1),
            limits: WorkerLimits {
                memory_bytes: 1,
                deadline_ms: 2,
                outputs_per_record: 3,
                log_lines_per_second: 4,
                state_bytes: 5,
            },
            delivery: DeliveryGuarantee::AtLeastOnce,
            on_failure: FailurePolicy {
                attempts: 5,
                first_back_off_ms: 6,
                longest_back_off_ms: 7,
                holds_back: HoldBack::Partition,
                finally: FailureAction::DeadLetter { topic: "q".into() },
            },
            grants: Grants {
                real_clocks: true,
                real_randomness: false,
                secrets: vec!["s".into()],
                http: vec![HttpHost {
                    scheme: HttpScheme::Http,
                    host: "h".into(),
                    port: 80,
                }],
            },
            tables: vec![TableSpec {
                name: "t".into(),
                topic: "table".into(),
            }],
        },
        plugin: Plugin {
            digest: "ab".into(),
            component_bytes: 300,
            imports: vec!["i".into()],
        },
        deployed_at_ms: 1,
        activity: Activity::Paused,
        deployed_by: "me".into(),
        change: RevisionChange::RolledBack { to: 1 },
        shadow: Some(Shadow {
            of_id: DeploymentId(ID),
            replay: replay(),
        }),
    }
}

// durability, cleanup, retention_ms, retention_bytes, segment_bytes, segment_ms, max_batch_bytes,
// tombstone_retention_ms, replication_factor
pub(crate) const CONFIG_HEX: &str = "01_01_01ac02_00_808004_e807_8008_05_03";
// number, directory, incarnation, run, address, rack, features, state
const BROKER_HEX: &str = "ac02_100102030405060708090a0b0c0d0e0f10_9003_101112131415161718191a1b1c1d1e1f20_03623a31_010172_0102_01";
// count; leader, its directory, epoch, version, replicas, next, accepted loss
const PARTITIONS_HEX: &str = "01_01_f403_02_d804_02_01f40301_030400_01_030400_01_026d65_01_02";
// hash, number, issued, expires, by
pub(crate) const TOKEN_HEX: &str =
    "abababababababababababababababababababababababababababababababab_ac02_02_d804_026d65";
// id, revision; name, inputs, outputs, config, start, limits, delivery, failure policy, grants, tables; digest, size, imports; time, activity; by,
// change, shadow
const DEPLOYMENT_HEX: &str = "02_0164_0102696e_01016f036f7574_01016b0176_0301_0102030405_01_050607_02_000171_01000101730101016850_010174057461626c65_026162_ac02_010169_02_01_026d65_0201_01_100102030405060708090a0b0c0d0e0f10_016c_01_02696e_01_05ac02_01_016f_036f7574_0173_010a_0101_00";

pub(crate) fn all() -> Vec<(Record, String)> {
    let at = TopicPartition {
        topic_id: TopicId(ID),
        partition: 300,
    };
    let appointment = Appointment {
        partition: at,
        leader: 1,
        directory: DirectoryNumber(500),
        leader_epoch: 300,
    };
    let appointment_hex = format!("{ID_HEX}_ac02_01_f403_ac02");
    vec![
        (
            Record::ClusterFormed {
                cluster_id: ID,
                feature_level: 1,
            },
            format!("00_{ID_HEX}_01"),
        ),
        (
            Record::BrokerRegistered {
                broker: broker(),
                renewed: Some(DirectoryNumber(500)),
                redeemed: Some(token().hash),
            },
            format!("01_{BROKER_HEX}_01f403_01{}", "ab".repeat(32)),
        ),
        (
            Record::BrokerStateSet {
                broker_id: 300,
                state: BrokerState::FencedDraining,
            },
            "02_ac02_03".into(),
        ),
        (
            Record::TopicCreated { topic: topic() },
            format!("03_{ID_HEX}_02696e_{CONFIG_HEX}_{PARTITIONS_HEX}"),
        ),
        (
            Record::TopicAltered {
                topic_id: TopicId(ID),
                config: config(),
                added: vec![partition()],
            },
            format!("04_{ID_HEX}_{CONFIG_HEX}_{PARTITIONS_HEX}"),
        ),
        (
            Record::TopicDeleted {
                topic_id: TopicId(ID),
            },
            format!("05_{ID_HEX}"),
        ),
        (
            Record::LeadersAppointed {
                appointments: vec![appointment],
            },
            format!("06_01_{appointment_hex}"),
        ),
        (
            Record::ProducerIdsAllocated {
                first: 1000,
                count: 300,
            },
            "07_e807_ac02".into(),
        ),
        (
            Record::DeploymentPut {
                deployment: deployment(),
                history: 10,
            },
            format!("08_{ID_HEX}_{DEPLOYMENT_HEX}_0a"),
        ),
        (
            Record::DeploymentRemoved { name: "d".into() },
            "09_0164".into(),
        ),
        (
            Record::ActivitySet {
                name: "d".into(),
                activity: Activity::Paused,
            },
            "0a_0164_01".into(),
        ),
        (
            Record::ShadowPromoted {
                deployment: deployment(),
                shadow: "s".into(),
                history: 10,
            },
            format!("0b_{ID_HEX}_{DEPLOYMENT_HEX}_0173_0a"),
        ),
        (Record::BrokerRemoved { broker_id: 301 }, "0c_ad02".into()),
        (
            Record::ReplicasRegistered {
                broker_id: 300,
                replicas: vec![RegisteredReplica {
                    partition: at,
                    directory: DirectoryNumber(500),
                    leader_epoch: 300,
                }],
            },
            format!("0d_ac02_01_{ID_HEX}_ac02_f403_ac02"),
        ),
        (
            Record::ReplicasTrusted {
                broker_id: 300,
                replicas: vec![(at, DirectoryNumber(500))],
            },
            format!("0e_ac02_01_{ID_HEX}_ac02_f403"),
        ),
        (
            Record::PartitionsReassigned {
                reassignments: vec![Reassignment {
                    partition: at,
                    next: vec![replica(1, 500), replica(3, 4)],
                }],
            },
            format!("0f_01_{ID_HEX}_ac02_02_01f40301_030400"),
        ),
        (
            Record::ReassignmentFinished {
                partition: at,
                appointment: Some(appointment),
            },
            format!("10_{ID_HEX}_ac02_01_{appointment_hex}"),
        ),
        (
            Record::LossAccepted {
                appointment,
                by: "me".into(),
                at_ms: -1,
            },
            format!("11_{appointment_hex}_026d65_01"),
        ),
        (
            Record::JoinTokenIssued { token: token() },
            format!("12_{TOKEN_HEX}"),
        ),
    ]
}

pub(crate) fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<char> = hex.chars().filter(|c| *c != '_').collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap())
        .collect()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn golden_records() {
    for (record, body) in all() {
        let expected = bytes(&format!("01_{body}"));
        assert_eq!(hex(&record.encode().unwrap()), hex(&expected), "{record:?}");
        assert_eq!(Record::decode(&expected), Ok(record));
    }
}

#[test]
fn golden_snapshot() {
    let mut image = Image::default();
    for (record, _) in all() {
        // What removes things again would leave nothing to see.
        if !matches!(
            record,
            Record::TopicDeleted { .. }
                | Record::DeploymentRemoved { .. }
                | Record::ShadowPromoted { .. }
                | Record::TopicAltered { .. }
        ) {
            image.apply(&record);
        }
    }
    image.apply(&Record::DeploymentPut {
        deployment: Deployment {
            revision: 3,
            ..deployment()
        },
        history: 10,
    });
    let third = DEPLOYMENT_HEX.replacen("02", "03", 1);
    // Fenced and draining in the end. next producer id: 1300, next directory number: 501
    let broker = BROKER_HEX.replace("_0102_01", "_0102_03");
    let expected = format!(
        "01_01{ID_HEX}01_01{broker}_01{ID_HEX}02696e{CONFIG_HEX}{PARTITIONS_HEX}\
         _01{ID_HEX}{third}_940a_01_0164_01{ID_HEX}{DEPLOYMENT_HEX}_f503_01{TOKEN_HEX}"
    );
    assert_eq!(hex(&image.encode().unwrap()), hex(&bytes(&expected)));
    assert_eq!(Image::decode(&bytes(&expected)), Ok(image));
    assert_eq!(
        hex(&Image::default().encode().unwrap()),
        "010000000000000100"
    );
}

#[test]
fn what_cannot_be_read_is_refused() {
    let version = |bytes: &[u8], version| {
        assert_eq!(
            Record::decode(bytes),
            Err(CodecError::Version {
                what: "record",
                version
            })
        );
        assert_eq!(
            Image::decode(bytes),
            Err(CodecError::Version {
                what: "snapshot",
                version
            })
        );
    };
    version(b"", None);
    version(b"\x02\x02\x01", Some(2));
    for malformed in [
        b"\x01".as_slice(),
        b"\x01\x13",
        b"\x01\x02",
        b"\x01\x02\x01\x00\x00",
    ] {
        assert!(
            matches!(Record::decode(malformed), Err(CodecError::Malformed { .. })),
            "{malformed:?}"
        );
    }
    let (what, bytes, limit) = ("record", MAX_RECORD_BYTES + 1, MAX_RECORD_BYTES);
    assert_eq!(
        Record::decode(&vec![1; bytes]),
        Err(CodecError::TooLong { what, bytes, limit })
    );
    let too_long = Record::DeploymentRemoved {
        name: "x".repeat(MAX_RECORD_BYTES),
    };
    assert!(matches!(
        too_long.encode(),
        Err(CodecError::TooLong { what: "record", .. })
    ));
}

#[test]
fn what_stands_in_a_snapshot_twice_is_refused() {
    let brokers = format!("01_00_02_{BROKER_HEX}_{BROKER_HEX}_00_00_00_00_01_00");
    let topic = format!("{ID_HEX}02696e{CONFIG_HEX}{PARTITIONS_HEX}");
    let renamed = format!("{ID_HEX}02696f{CONFIG_HEX}{PARTITIONS_HEX}");
    let deployment = format!("{ID_HEX}{DEPLOYMENT_HEX}");
    for (snapshot, part, name) in [
        (brokers, "broker", "300".to_owned()),
        (
            format!("01_00_00_02{topic}{topic}_00_00_00_01_00"),
            "topic",
            "in".to_owned(),
        ),
        (
            format!("01_00_00_02{topic}{renamed}_00_00_00_01_00"),
            "topic",
            ID.to_string(),
        ),
        (
            format!("01_00_00_00_02{deployment}{deployment}_00_00_01_00"),
            "deployment",
            "d".to_owned(),
        ),
        (
            "01_00_00_00_00_00_02_016400_016400_01_00".to_owned(),
            "history of deployment",
            "d".to_owned(),
        ),
        (
            format!("01_00_00_00_00_00_00_01_02{TOKEN_HEX}{TOKEN_HEX}"),
            "join token",
            "TokenHash(abababab…)".to_owned(),
        ),
    ] {
        let what = "snapshot";
        assert_eq!(
            Image::decode(&bytes(&snapshot)),
            Err(CodecError::Repeated { what, part, name })
        );
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(body in prop::collection::vec(any::<u8>(), 0..200), kind in 0u8..20) {
        let record = [&[1, kind], body.as_slice()].concat();
        let mut image = Image::default();
        if let Ok(record) = Record::decode(&record) {
            prop_assert_eq!(Record::decode(&record.encode().unwrap()), Ok(record.clone()));
            image.apply(&record);
        }
        if let Ok(image) = Image::decode(&[&[1], body.as_slice()].concat()) {
            prop_assert_eq!(Image::decode(&image.encode().unwrap()), Ok(image));
        }
    }
}
