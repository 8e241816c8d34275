//! What the cases are about: no two fields alike, so that two that change places are seen.

use millstream_protocol::api::fetch::FetchPartition;
use millstream_protocol::api::grants::{Grants, HttpHost, HttpScheme};
use millstream_protocol::api::group::OffsetCommit;
use millstream_protocol::api::hello::{BrokerDescription, HelloResponse};
use millstream_protocol::api::lifecycle::{Activity, RevisionChange};
use millstream_protocol::api::offsets::Position;
use millstream_protocol::api::peer::{Introduction, Lineage, RegisteredStart};
use millstream_protocol::api::plugin::{
    DeliveryGuarantee, DeploymentDescription, DeploymentSpec, FailureAction, FailurePolicy,
    HoldBack, LogLevel, OutputSpec, PluginLogLine, TableDescription, TableSpec, TableState,
    WorkerDescription, WorkerLimits, WorkerState,
};
use millstream_protocol::api::topic::{
    Cleanup, Durability, PartitionDescription, PartitionLog, TopicConfig, TopicDescription,
};
use millstream_protocol::{FIRST_WORKER_PRODUCER_ID, TopicId};
use uuid::Uuid;

use crate::lifecycle;

pub(crate) fn text(text: &str) -> String {
    text.to_owned()
}

pub(crate) fn topic_id() -> TopicId {
    TopicId(Uuid::from_u128(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff))
}

pub(crate) fn cluster_id() -> Uuid {
    Uuid::from_u128(0xffee_ddcc_bbaa_9988_7766_5544_3322_1100)
}

pub(crate) fn introduction() -> Introduction {
    Introduction {
        cluster_id: cluster_id(),
        broker_id: 300,
        directory_id: topic_id().0,
        incarnation: 7,
        lineage: Lineage {
            unnoted: [2, 3, 4, 5, 6, 7, 8].map(Uuid::from_u128),
            run: Uuid::from_u128(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10),
            registered: Some(RegisteredStart {
                incarnation: 6,
                run: Uuid::from_u128(0x1112_1314_1516_1718_191a_1b1c_1d1e_1f20),
            }),
        },
    }
}

/// No two fields alike, so that two that change places are seen.
pub(crate) fn config() -> TopicConfig {
    TopicConfig {
        durability: Durability::Relaxed,
        cleanup: Cleanup::Compact,
        retention_ms: Some(604_800_000),
        retention_bytes: None,
        segment_bytes: 1 << 29,
        segment_ms: 3_600_000,
        max_batch_bytes: 1 << 20,
        tombstone_retention_ms: 86_400_000,
        replication_factor: 3,
    }
}

pub(crate) fn fetch_partition() -> FetchPartition {
    FetchPartition {
        topic: text("orders"),
        topic_id: Some(topic_id()),
        partition: 3,
        offset: 1_000,
    }
}

pub(crate) fn commit() -> OffsetCommit {
    OffsetCommit {
        topic: text("orders"),
        partition: 3,
        offset: 1_000,
        metadata: text("m"),
    }
}

pub(crate) fn spec() -> DeploymentSpec {
    DeploymentSpec {
        name: text("filter"),
        inputs: vec![text("orders")],
        outputs: vec![OutputSpec {
            name: text("large"),
            topic: text("large-orders"),
        }],
        config: vec![(text("limit"), text("1000"))],
        start: Position::Earliest,
        limits: WorkerLimits {
            memory_bytes: 64 << 20,
            deadline_ms: 1_000,
            outputs_per_record: 2_000,
            log_lines_per_second: 100,
            state_bytes: 4 << 30,
        },
        delivery: DeliveryGuarantee::ExactlyOnce,
        on_failure: FailurePolicy {
            attempts: 5,
            first_back_off_ms: 100,
            longest_back_off_ms: 10_000,
            holds_back: HoldBack::Key,
            finally: FailureAction::DeadLetter {
                topic: text("bad-orders"),
            },
        },
        grants: Grants {
            real_clocks: true,
            real_randomness: false,
            secrets: vec![text("api-key")],
            http: vec![HttpHost {
                scheme: HttpScheme::Http,
                host: text("enricher"),
                port: 8080,
            }],
        },
        tables: vec![TableSpec {
            name: text("places"),
            topic: text("places-topic"),
        }],
    }
}

pub(crate) fn hello_response() -> HelloResponse {
    HelloResponse {
        version: 1,
        cluster_id: cluster_id(),
        broker_id: 2,
        software: text("millstream/0.1.0"),
        principal: text("app"),
        max_batch_bytes: 8 << 20,
        fetch_streams: 256,
    }
}

pub(crate) fn broker() -> BrokerDescription {
    BrokerDescription {
        cluster_id: cluster_id(),
        broker_id: 2,
        software: text("millstream/0.1.0"),
        uptime_ms: 3,
        connections: 4,
        topics: 5,
        partitions: 6,
        workers: 7,
        resident_bytes: 8,
    }
}

pub(crate) fn topic() -> TopicDescription {
    let partition = PartitionDescription {
        partition: 0,
        leader: 1,
        leader_epoch: 2,
        replicas: vec![1, 300],
        untrusted: vec![300],
        offline: vec![1],
        joining: vec![300],
        leaving: vec![1],
        log: Some(PartitionLog {
            log_start_offset: 3,
            high_watermark: 4,
            log_end_offset: 6,
            flushed_offset: 5,
            size_bytes: 700,
            damage: Some(text("bad checksum")),
        }),
    };
    TopicDescription {
        name: text("orders"),
        topic_id: topic_id(),
        config: config(),
        partitions: vec![partition],
    }
}

pub(crate) fn deployment() -> DeploymentDescription {
    let worker = WorkerDescription {
        topic: text("orders"),
        partition: 3,
        state: WorkerState::Running,
        committed_offset: 1_000,
        lag: 2,
        records_in: 30,
        records_out: 40,
        failures: 5,
        dead_letters: 6,
        skipped: 7,
        parked: 8,
        memory_bytes: 1 << 20,
        timers: 9,
        broker_id: 1,
        records_per_second: 9,
        calls: 10,
        latency: Some(lifecycle::latency()),
        retries: 11,
        started_at_ms: 1_700_000_000_001,
        producer_id: Some(FIRST_WORKER_PRODUCER_ID | 12),
    };
    DeploymentDescription {
        spec: spec(),
        revision: 2,
        digest: text("e3b0c442"),
        component_bytes: 12_345,
        deployed_at_ms: 1_700_000_000_000,
        imports: vec![text("wasi:logging/logging")],
        workers: vec![worker],
        activity: Activity::Paused,
        latency: Some(lifecycle::latency()),
        deployed_by: text("operator"),
        change: RevisionChange::Upgraded,
        shadow_of: None,
        config_unasked: vec![text("limti")],
        tables: vec![TableDescription {
            name: text("places"),
            topic: text("places-topic"),
            state: TableState::TooLarge {
                reason: text("too large"),
            },
            bytes: 300,
            lag: 1,
            records_read: 2,
            records_ignored: 3,
        }],
    }
}

pub(crate) fn log_line() -> PluginLogLine {
    PluginLogLine {
        at_ms: 1_700_000_000_000,
        level: LogLevel::Warn,
        topic: text("orders"),
        partition: 3,
        context: text("stdout"),
        message: text("slow"),
    }
}
