//! The cluster itself.

use millstream_protocol::api::cluster::{
    AcceptLoss, BrokerReport, BrokerState, ChangingPartition, ClusterBroker, ClusterDescription,
    DescribeCluster, DescribeReplicas, DescribeReplicasResponse, DiskSpace, DrainBroker, Draining,
    Listed, LossDescription, LossReplica, OfflinePartition, OfflineReason, QuorumDescription,
    QuorumMember, RebalanceCluster, Rebalancing, RemoveBroker, ReplicaDescription,
    ReplicaSelection, UnderReplicated, UndrainBroker,
};
use millstream_protocol::api::fetch::OpenFetch;
use millstream_protocol::api::{Request, RequestFrame};
use millstream_protocol::{TopicPartition, WireError};

use crate::cases::{Case, case, request};
use crate::samples::{cluster_id, fetch_partition, text, topic_id};

pub(crate) fn requests() -> Vec<Case> {
    let broker_id = 300;
    vec![
        request("request/describe-cluster", DescribeCluster {}),
        request(
            "request/describe-replicas",
            DescribeReplicas {
                replicas: ReplicaSelection::Of(vec![partition()]),
            },
        ),
        request("request/drain-broker", DrainBroker { broker_id }),
        request("request/undrain-broker", UndrainBroker { broker_id }),
        request("request/remove-broker", RemoveBroker { broker_id }),
        request("request/rebalance-cluster", RebalanceCluster {}),
        request(
            "request/accept-loss",
            AcceptLoss {
                topic: text("orders"),
                partition: 3,
                broker_id,
                dry_run: true,
            },
        ),
        case(
            "request/open-replica-fetch",
            RequestFrame::from_client(Request::OpenReplicaFetch(OpenFetch {
                partitions: vec![fetch_partition()],
                max_bytes: 1 << 20,
            })),
        ),
    ]
}

pub(crate) fn responses() -> Vec<Case> {
    vec![
        case("response/describe-cluster", Ok::<_, WireError>(cluster())),
        case(
            "response/describe-replicas",
            Ok::<_, WireError>(DescribeReplicasResponse {
                broker_id: 2,
                software: text("millstream/0.1.0"),
                uptime_ms: 3,
                disk: Some(disk()),
                replicas: Some(vec![replica()]),
            }),
        ),
        case(
            "response/drain-broker",
            Ok::<_, WireError>(Draining {
                keeps: 300,
                stuck: 2,
            }),
        ),
        case(
            "response/rebalance-cluster",
            Ok::<_, WireError>(Rebalancing {
                leaders: 1,
                moves: 2,
                under_way: 300,
                ahead: 4,
            }),
        ),
        case(
            "response/accept-loss",
            Ok::<_, WireError>(LossDescription {
                leader: 1,
                leader_epoch: 300,
                replicas: vec![LossReplica {
                    broker_id: 2,
                    live: true,
                    trusted: false,
                    told: Some(replica()),
                }],
            }),
        ),
    ]
}

pub(crate) fn choices() -> Vec<Case> {
    let not_leading = OfflineReason::NotLeading {
        for_ms: 300,
        attempts: 2,
    };
    vec![
        case("broker-state/live", BrokerState::Live),
        case("broker-state/gone", BrokerState::Gone),
        case("broker-state/draining", BrokerState::Draining),
        case("broker-state/gone-draining", BrokerState::GoneDraining),
        case("offline-reason/no-leader", OfflineReason::NoLeader),
        case("offline-reason/no-majority", OfflineReason::NoMajority),
        case("offline-reason/not-leading", not_leading),
        case("replica-selection/all", ReplicaSelection::All),
        case(
            "replica-selection/of",
            ReplicaSelection::Of(vec![partition()]),
        ),
    ]
}

fn partition() -> TopicPartition {
    TopicPartition {
        topic_id: topic_id(),
        partition: 3,
    }
}

fn disk() -> DiskSpace {
    DiskSpace {
        used_bytes: 1,
        free_bytes: 300,
        total_bytes: 400,
    }
}

fn replica() -> ReplicaDescription {
    ReplicaDescription {
        partition: partition(),
        leading: Some(7),
        log_start_offset: 1,
        high_watermark: 2,
        log_end_offset: 4,
        flushed_offset: 3,
        size_bytes: 500,
        damage: Some(text("bad checksum")),
    }
}

fn listed<T>(first: T) -> Listed<T> {
    Listed {
        count: 300,
        first: vec![first],
    }
}

fn cluster() -> ClusterDescription {
    ClusterDescription {
        cluster_id: Some(cluster_id()),
        feature_level: 1,
        told_by: 2,
        controller: Some(2),
        quorum: QuorumDescription {
            term: 3,
            leader: Some(2),
            members: vec![QuorumMember {
                broker_id: 2,
                votes: true,
                behind: Some(4),
            }],
            majority_silent_ms: Some(5),
        },
        brokers: vec![ClusterBroker {
            broker_id: 2,
            address: text("two:9092"),
            rack: Some(text("a")),
            directory_id: cluster_id(),
            incarnation: 6,
            state: BrokerState::Draining,
            silent_ms: Some(7),
            leads: 8,
            active: Some(9),
            keeps: 10,
            stuck: 11,
            report: Some(BrokerReport {
                software: text("millstream/0.1.0"),
                uptime_ms: 12,
                disk: Some(disk()),
                largest_lag: Some(13),
            }),
        }],
        partitions: 14,
        offline: listed(OfflinePartition {
            topic: text("orders"),
            partition: 3,
            leader: 2,
            leader_epoch: 15,
            reason: OfflineReason::NoMajority,
        }),
        under_replicated: listed(UnderReplicated {
            topic: text("orders"),
            partition: 3,
            missing: vec![1, 2],
        }),
        changing: listed(ChangingPartition {
            topic: text("orders"),
            partition: 3,
            from: vec![1, 2],
            to: vec![2, 3],
        }),
    }
}
