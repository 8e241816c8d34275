//! One value or more of everything that travels, the variants of an enum in their order.

use millstream_protocol::api::cluster::{
    BrokerAddress, DescribeBrokers, DescribeBrokersResponse, IssueTicket, IssuedTicket,
};
use millstream_protocol::api::fetch::{
    Fetch, FetchOpened, FetchResponse, Fetched, FetchedPartition, OpenFetch,
};
use millstream_protocol::api::group::{
    AssignedPartition, CommitOffsets, CoordinatorMessage, DeleteGroup, DescribeGroup, FetchOffsets,
    FetchOffsetsResponse, GroupDescription, GroupPartition, GroupState, ListGroups,
    ListGroupsResponse, ListedGroup, MemberDescription, MemberKind, MemberMessage, NamedPartition,
    OpenGroup, ResetGroup, ResetGroupResponse,
};
use millstream_protocol::api::hello::{DescribeBroker, Hello};
use millstream_protocol::api::lifecycle::{Activity, ResumeDeployment};
use millstream_protocol::api::offsets::{
    DeleteRecords, DeleteRecordsResponse, ListOffsets, ListOffsetsResponse, ListedOffset, Position,
};
use millstream_protocol::api::peer::{
    CallPeer, OpenHostedMember, OpenOutputs, OpenReplication, OpenedReplication, OutputBatch,
    OutputsOpened, PeerCalled, PeerService,
};
use millstream_protocol::api::plugin::{
    DeployPlugin, DescribeDeployment, Follow, ListDeployments, ListDeploymentsResponse, LogLevel,
    MissingTopics, OnExisting, OpenPluginLogs, RemoveDeployment, RetryDeadLetters,
    RetryDeadLettersResponse, WorkerState,
};
use millstream_protocol::api::produce::{
    InitProducer, OpenProduce, ProduceAck, ProduceBatch, ProduceOpened, ProducerIdentity,
};
use millstream_protocol::api::secret::{
    ListSecrets, ListSecretsResponse, RemoveSecret, SecretDescription, SecretValue, SetSecret,
};
use millstream_protocol::api::state::{
    OpenState, StateEntrySize, StateFrame, StateOrigin, StateQuery,
};
use millstream_protocol::api::topic::{
    AlterTopic, Cleanup, CreateTopic, DeleteTopic, DescribeTopics, DescribeTopicsResponse,
    Durability, TopicDetail, TopicSelection,
};
use millstream_protocol::api::{Request, RequestFrame};
use millstream_protocol::{ErrorCode, TopicPartition, WireError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;

use crate::cluster;
use crate::lifecycle;
use crate::samples::{
    broker, cluster_id, commit, config, deployment, fetch_partition, hello_response, introduction,
    log_line, spec, text, topic, topic_id,
};

/// Whether bytes are one certain value's.
type ReadsBack = Box<dyn Fn(&[u8]) -> bool>;

/// A value with a name, encoded.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) bytes: Vec<u8>,
    /// Whether bytes are this value's.
    pub(crate) reads_back: ReadsBack,
}

pub(crate) fn case<T>(name: &'static str, value: T) -> Case
where
    T: Serialize + DeserializeOwned + PartialEq + Debug + 'static,
{
    Case {
        name,
        bytes: postcard::to_stdvec(&value).unwrap(),
        reads_back: Box::new(move |bytes| {
            millstream_protocol::frame::decode_body::<T>(bytes).is_ok_and(|read| read == value)
        }),
    }
}

pub(crate) fn request(name: &'static str, request: impl Into<Request>) -> Case {
    case(name, RequestFrame::from_client(request.into()))
}

/// Every case, those of one enum in the order of its variants.
pub(crate) fn all() -> Vec<Case> {
    [
        requests(),
        streams(),
        responses(),
        choices(),
        lifecycle::choices(),
        cluster::choices(),
        errors(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

pub(crate) fn hello() -> RequestFrame {
    RequestFrame::from_client(Request::Hello(Hello {
        version_min: 1,
        version_max: 300,
        client_name: text("client"),
        software: text("millstream-rust/0.1.0"),
    }))
}

fn requests() -> Vec<Case> {
    let mut all = vec![
        case("request/hello", hello()),
        request("request/describe-broker", DescribeBroker {}),
    ];
    all.extend(topic_requests());
    all.extend(record_requests());
    all.extend(group_requests());
    all.extend(plugin_requests());
    all
}

fn topic_requests() -> Vec<Case> {
    vec![
        request(
            "request/describe-topics",
            DescribeTopics {
                topics: TopicSelection::Named(vec![text("orders")]),
                after: Some(text("audits")),
                detail: TopicDetail::Logs,
            },
        ),
        request(
            "request/create-topic",
            CreateTopic {
                name: text("orders"),
                partitions: 12,
                config: config(),
            },
        ),
        request(
            "request/alter-topic",
            AlterTopic {
                name: text("orders"),
                partitions: Some(24),
                durability: Some(Durability::Sync),
                cleanup: Some(Cleanup::Delete),
                retention_ms: Some(None),
                retention_bytes: Some(Some(1 << 40)),
                segment_bytes: Some(1 << 20),
                segment_ms: None,
                max_batch_bytes: Some(1 << 16),
                tombstone_retention_ms: Some(5),
            },
        ),
        request(
            "request/delete-topic",
            DeleteTopic {
                name: text("orders"),
            },
        ),
    ]
}

fn record_requests() -> Vec<Case> {
    let mut all = vec![
        request(
            "request/list-offsets",
            ListOffsets {
                topic: text("orders"),
                positions: vec![(0, Position::Earliest), (1, Position::Time(-5))],
            },
        ),
        request(
            "request/delete-records",
            DeleteRecords {
                topic: text("orders"),
                partition: 3,
                before_offset: 1_000,
            },
        ),
        request("request/init-producer", InitProducer {}),
    ];
    all.push(case(
        "request/open-produce",
        RequestFrame {
            hops: 0,
            request: Request::OpenProduce(OpenProduce {
                topic: text("orders"),
                topic_id: Some(topic_id()),
                partition: 3,
            }),
        },
    ));
    all.push(request(
        "request/fetch",
        Fetch {
            partitions: vec![fetch_partition()],
            min_bytes: 1,
            max_bytes: 1 << 20,
            max_wait_ms: 500,
        },
    ));
    let open = OpenFetch {
        partitions: vec![fetch_partition()],
        max_bytes: 1 << 20,
    };
    all.push(case(
        "request/open-fetch",
        RequestFrame::from_client(Request::OpenFetch(open)),
    ));
    all
}

fn group_requests() -> Vec<Case> {
    let open = OpenGroup {
        group: text("billing"),
        member_name: text("billing-1"),
        topics: vec![text("orders"), text("refunds")],
        start: Position::Latest,
    };
    vec![
        case(
            "request/open-group",
            RequestFrame::from_client(Request::OpenGroup(open)),
        ),
        request("request/list-groups", ListGroups { after: None }),
        request(
            "request/describe-group",
            DescribeGroup {
                group: text("billing"),
            },
        ),
        request(
            "request/commit-offsets",
            CommitOffsets {
                group: text("billing"),
                offsets: vec![commit()],
            },
        ),
        request(
            "request/fetch-offsets",
            FetchOffsets {
                group: text("billing"),
            },
        ),
        request(
            "request/reset-group",
            ResetGroup {
                group: text("billing"),
                topic: text("orders"),
                partitions: vec![0, 2],
                to: Position::Offset(7),
            },
        ),
        request(
            "request/delete-group",
            DeleteGroup {
                group: text("billing"),
            },
        ),
    ]
}

fn plugin_requests() -> Vec<Case> {
    let logs = OpenPluginLogs {
        name: text("filter"),
        tail: 100,
        follow: Follow::Yes,
    };
    vec![
        request(
            "request/deploy-plugin",
            DeployPlugin {
                spec: spec(),
                on_existing: OnExisting::Replace,
                missing_topics: MissingTopics::Refuse,
            },
        ),
        request(
            "request/deploy-plugin-with-topics",
            DeployPlugin {
                spec: spec(),
                on_existing: OnExisting::Refuse,
                missing_topics: MissingTopics::Make { partitions: 4 },
            },
        ),
        request(
            "request/list-deployments",
            ListDeployments {
                after: Some(text("filter")),
            },
        ),
        request(
            "request/describe-deployment",
            DescribeDeployment {
                name: text("filter"),
            },
        ),
        request(
            "request/remove-deployment",
            RemoveDeployment {
                name: text("filter"),
            },
        ),
        case(
            "request/open-plugin-logs",
            RequestFrame::from_client(Request::OpenPluginLogs(logs)),
        ),
        request(
            "request/resume-deployment",
            ResumeDeployment {
                name: text("filter"),
            },
        ),
        request(
            "request/retry-dead-letters",
            RetryDeadLetters {
                name: text("filter"),
                partition: 1,
                before: 1_000,
            },
        ),
        case(
            "request/open-state",
            RequestFrame::from_client(Request::OpenState(open_state())),
        ),
    ]
    .into_iter()
    .chain(lifecycle::requests())
    .chain(secret_requests())
    .chain(peer_requests())
    .chain(cluster_requests())
    .chain(cluster::requests())
    .chain(worker_requests())
    .collect()
}

fn secret_requests() -> Vec<Case> {
    vec![
        request(
            "request/set-secret",
            SetSecret {
                name: text("api-key"),
                value: SecretValue(text("hunter2")),
            },
        ),
        request("request/list-secrets", ListSecrets {}),
        request(
            "request/remove-secret",
            RemoveSecret {
                name: text("api-key"),
            },
        ),
    ]
}

fn peer_requests() -> Vec<Case> {
    let open = OpenReplication {
        introduction: introduction(),
    };
    let call = |service| CallPeer {
        introduction: introduction(),
        service,
    };
    vec![
        case(
            "request/open-replication",
            RequestFrame::from_client(Request::OpenReplication(open)),
        ),
        request("request/call-peer", call(PeerService::Consensus)),
        request("request/call-peer-cluster", call(PeerService::Cluster)),
        request("request/call-peer-workers", call(PeerService::Workers)),
    ]
}

fn worker_requests() -> Vec<Case> {
    vec![
        case(
            "request/open-outputs",
            RequestFrame::from_client(Request::OpenOutputs(OpenOutputs {
                introduction: introduction(),
            })),
        ),
        case(
            "request/open-hosted-member",
            RequestFrame::from_client(Request::OpenHostedMember(OpenHostedMember {
                introduction: introduction(),
                group: text("filter"),
                member_name: text("filter-worker"),
                principal: text("deployment/filter"),
                topics: vec![text("orders")],
                start: Position::Earliest,
            })),
        ),
    ]
}

fn cluster_requests() -> Vec<Case> {
    vec![
        request("request/issue-ticket", IssueTicket { valid_ms: 60_000 }),
        request("request/describe-brokers", DescribeBrokers {}),
    ]
}

fn open_state() -> OpenState {
    OpenState {
        name: text("filter"),
        topic: Some(text("orders")),
        partition: Some(3),
        query: StateQuery::Prefix {
            prefix: b"a/".to_vec(),
            limit: 1_000,
        },
    }
}

/// What goes over a stream after its opening.
fn streams() -> Vec<Case> {
    let opened = ProduceOpened {
        topic_id: topic_id(),
        leader_epoch: 2,
        max_batch_bytes: 1 << 20,
    };
    let fetched = Fetched {
        index: 1,
        high_watermark: 1_002,
        log_start_offset: 3,
        next_offset: 1_001,
    };
    let mut all = vec![
        case("produce/opened", opened),
        case("produce/batch", ProduceBatch {}),
        case(
            "produce/ack",
            ProduceAck {
                base_offset: 1_000,
                appended_at_ms: 1_700_000_000_000,
            },
        ),
        case(
            "fetch/opened",
            FetchOpened {
                topic_ids: vec![topic_id()],
            },
        ),
        case("fetch/fetched", fetched),
        case("plugin-log/line", log_line()),
        case("state/key", StateQuery::Key(b"a/1".to_vec())),
        case(
            "state/worker",
            StateFrame::Worker(StateOrigin {
                topic: text("orders"),
                partition: 3,
                offset: 1_000,
            }),
        ),
        case(
            "state/entries",
            StateFrame::Entries(vec![StateEntrySize {
                key_bytes: 3,
                value_bytes: 300,
            }]),
        ),
    ];
    all.extend(group_stream());
    all
}

fn group_stream() -> Vec<Case> {
    let moved = vec![NamedPartition {
        topic: text("orders"),
        partition: 3,
    }];
    let assigned = vec![AssignedPartition {
        topic: text("orders"),
        topic_id: topic_id(),
        partition: 3,
        offset: 1_000,
    }];
    let refused = Err(WireError::new(
        ErrorCode::StaleGeneration,
        "generation 4 is over",
    ));
    let commit = MemberMessage::Commit {
        generation: 4,
        offsets: vec![commit()],
    };
    let released = MemberMessage::Released {
        generation: 4,
        partitions: moved.clone(),
    };
    let joined = CoordinatorMessage::Joined {
        member_id: text("billing-1-a"),
        generation: 4,
    };
    let assign = CoordinatorMessage::Assign {
        generation: 4,
        partitions: assigned.clone(),
    };
    let revoke = CoordinatorMessage::Revoke {
        generation: 5,
        partitions: moved,
    };
    let seek = CoordinatorMessage::Seek {
        generation: 6,
        partitions: assigned,
    };
    vec![
        case("member/commit", commit),
        case("member/released", released),
        case("member/leave", MemberMessage::Leave),
        case("coordinator/joined", joined),
        case("coordinator/assign", assign),
        case("coordinator/revoke", revoke),
        case(
            "coordinator/committed",
            CoordinatorMessage::Committed(Ok(())),
        ),
        case(
            "coordinator/committed-refused",
            CoordinatorMessage::Committed(refused),
        ),
        case("coordinator/seek", seek),
    ]
}

fn responses() -> Vec<Case> {
    let mut all = vec![
        case("response/ok", Ok::<(), WireError>(())),
        case(
            "response/error",
            Err::<(), WireError>(WireError::new(
                ErrorCode::UnknownTopic,
                "no topic \"orders\"",
            )),
        ),
        case("response/hello", hello_response()),
        case("response/describe-broker", broker()),
        case(
            "response/describe-topics",
            DescribeTopicsResponse {
                topics: vec![topic()],
                more: true,
            },
        ),
        case("response/topic", topic()),
        case(
            "response/init-producer",
            ProducerIdentity {
                producer_id: 1_000,
                producer_epoch: 3,
            },
        ),
        case(
            "response/delete-records",
            DeleteRecordsResponse {
                log_start_offset: 1_000,
            },
        ),
    ];
    all.extend(offset_responses());
    all.extend(group_responses());
    all.push(case("response/deployment", deployment()));
    all.push(case(
        "response/list-deployments",
        ListDeploymentsResponse {
            deployments: vec![deployment()],
            more: true,
        },
    ));
    all.push(case(
        "response/retry-dead-letters",
        RetryDeadLettersResponse {
            retried: 7,
            next_offset: 1_000,
        },
    ));
    all.extend(lifecycle::responses());
    all.push(case(
        "response/list-secrets",
        ListSecretsResponse {
            secrets: vec![SecretDescription {
                name: text("api-key"),
                set_at_ms: 1_700_000_000_000,
                deployments: vec![text("filter")],
            }],
        },
    ));
    all.push(case(
        "response/opened-replication",
        Ok::<_, WireError>(OpenedReplication {}),
    ));
    all.push(case(
        "response/outputs-opened",
        Ok::<_, WireError>(OutputsOpened {}),
    ));
    all.push(case(
        "output-batch",
        OutputBatch {
            partition: TopicPartition {
                topic_id: topic_id(),
                partition: 3,
            },
        },
    ));
    all.push(case(
        "response/call-peer",
        Ok::<_, WireError>(PeerCalled {}),
    ));
    all.extend(cluster_responses());
    all.extend(cluster::responses());
    all
}

fn cluster_responses() -> Vec<Case> {
    let brokers = [(1, "one.example:9092"), (300, "[2001:db8::1]:1")];
    let address = |(broker_id, address): (u32, &str)| BrokerAddress {
        broker_id,
        address: text(address),
        is_live: broker_id == 300,
    };
    vec![
        case(
            "response/issue-ticket",
            Ok::<_, WireError>(IssuedTicket {
                cluster_id: cluster_id(),
                broker_id: 300,
                token: text("open sesame"),
                expires_at_ms: 1_700_000_000_000,
                brokers: vec![(2, text("one.example:9092"))],
            }),
        ),
        case(
            "response/describe-brokers",
            Ok::<_, WireError>(DescribeBrokersResponse {
                brokers: brokers.map(address).into(),
            }),
        ),
    ]
}

fn offset_responses() -> Vec<Case> {
    let listed = ListedOffset {
        partition: 1,
        offset: 1_000,
        log_start_offset: 3,
        high_watermark: 1_002,
    };
    let fetched = FetchedPartition {
        payload_bytes: 4_096,
        high_watermark: 1_002,
        log_start_offset: 3,
        next_offset: 1_001,
    };
    let unknown = WireError::new(ErrorCode::UnknownPartition, "no partition 9");
    vec![
        case(
            "response/list-offsets",
            ListOffsetsResponse {
                offsets: vec![Ok(listed), Err(unknown.clone())],
            },
        ),
        case(
            "response/fetch",
            FetchResponse {
                partitions: vec![Ok(fetched), Err(unknown)],
            },
        ),
    ]
}

fn group_responses() -> Vec<Case> {
    let listed = ListedGroup {
        group: text("billing"),
        state: GroupState::Stable,
        members: 2,
        generation: 4,
    };
    let member = MemberDescription {
        member_id: text("billing-1-a"),
        member_name: text("billing-1"),
        principal: text("app"),
        kind: MemberKind::Worker,
        owned: vec![NamedPartition {
            topic: text("orders"),
            partition: 3,
        }],
    };
    let partition = GroupPartition {
        topic: text("orders"),
        partition: 3,
        owner: Some(text("billing-1-a")),
        committed_offset: Some(1_000),
        committed_at_ms: Some(1_700_000_000_000),
        metadata: text("m"),
        high_watermark: 1_002,
        lag: 2,
    };
    let group = GroupDescription {
        group: text("billing"),
        state: GroupState::Rebalancing,
        generation: 4,
        members: vec![member],
        partitions: vec![partition],
    };
    vec![
        case(
            "response/list-groups",
            ListGroupsResponse {
                groups: vec![listed],
                more: false,
            },
        ),
        case("response/describe-group", group),
        case(
            "response/fetch-offsets",
            FetchOffsetsResponse {
                offsets: vec![commit()],
            },
        ),
        case(
            "response/reset-group",
            ResetGroupResponse {
                generation: 5,
                offsets: vec![commit()],
            },
        ),
    ]
}

/// The small enums, every variant.
fn choices() -> Vec<Case> {
    let failing = WorkerState::BackingOff {
        attempts: 3,
        reason: text("trap"),
    };
    vec![
        case("durability/sync", Durability::Sync),
        case("durability/relaxed", Durability::Relaxed),
        case("cleanup/delete", Cleanup::Delete),
        case("cleanup/compact", Cleanup::Compact),
        case("topic-selection/all", TopicSelection::All),
        case(
            "topic-selection/all-with-internal",
            TopicSelection::AllWithInternal,
        ),
        case(
            "topic-selection/named",
            TopicSelection::Named(vec![text("orders")]),
        ),
        case("position/earliest", Position::Earliest),
        case("position/latest", Position::Latest),
        case("position/offset", Position::Offset(300)),
        case("position/time", Position::Time(-1)),
        case("group-state/empty", GroupState::Empty),
        case("group-state/rebalancing", GroupState::Rebalancing),
        case("group-state/stable", GroupState::Stable),
        case("member-kind/client", MemberKind::Client),
        case("member-kind/worker", MemberKind::Worker),
        case("worker-state/running", WorkerState::Running),
        case("worker-state/backing-off", failing),
        case(
            "worker-state/paused",
            WorkerState::Paused {
                reason: text("rejected"),
            },
        ),
        case("worker-state/held", WorkerState::Held),
        case("worker-state/finished", WorkerState::Finished),
        case("activity/active", Activity::Active),
        case("activity/paused", Activity::Paused),
        case("topic-detail/placement", TopicDetail::Placement),
        case("topic-detail/logs", TopicDetail::Logs),
        case("peer-service/consensus", PeerService::Consensus),
        case("peer-service/cluster", PeerService::Cluster),
        case("peer-service/workers", PeerService::Workers),
        case("follow/no", Follow::No),
        case("follow/yes", Follow::Yes),
        case("log-level/trace", LogLevel::Trace),
        case("log-level/debug", LogLevel::Debug),
        case("log-level/info", LogLevel::Info),
        case("log-level/warn", LogLevel::Warn),
        case("log-level/error", LogLevel::Error),
        case("log-level/critical", LogLevel::Critical),
    ]
}

fn errors() -> Vec<Case> {
    use ErrorCode::*;
    vec![
        case("error/malformed-frame", MalformedFrame),
        case("error/frame-too-large", FrameTooLarge),
        case("error/unsupported-version", UnsupportedVersion),
        case("error/handshake-required", HandshakeRequired),
        case("error/not-authorized", NotAuthorized),
        case("error/invalid-request", InvalidRequest),
        case("error/unknown-topic", UnknownTopic),
        case("error/unknown-partition", UnknownPartition),
        case("error/topic-exists", TopicExists),
        case("error/offset-out-of-range", OffsetOutOfRange),
        case("error/record-too-large", RecordTooLarge),
        case("error/corrupt-batch", CorruptBatch),
        case("error/out-of-order-sequence", OutOfOrderSequence),
        case("error/producer-fenced", ProducerFenced),
        case("error/unknown-producer", UnknownProducer),
        case("error/not-leader", NotLeader),
        case("error/not-ready", NotReady),
        case("error/busy", Busy),
        case("error/storage-full", StorageFull),
        case("error/storage-failed", StorageFailed),
        case("error/partition-damaged", PartitionDamaged),
        case("error/unknown-group", UnknownGroup),
        case("error/group-not-empty", GroupNotEmpty),
        case("error/unknown-member", UnknownMember),
        case("error/stale-generation", StaleGeneration),
        case("error/unknown-deployment", UnknownDeployment),
        case("error/component-refused", ComponentRefused),
        case("error/compilation-failed", CompilationFailed),
        case("error/shutting-down", ShuttingDown),
        case("error/timed-out", TimedOut),
        case("error/internal", Internal),
        case("error/deployment-exists", DeploymentExists),
        case("error/group-owned-by-deployment", GroupOwnedByDeployment),
        case("error/topic-in-use", TopicInUse),
        case("error/unknown-secret", UnknownSecret),
        case("error/settings-refused", SettingsRefused),
        case("error/not-at-rest", NotAtRest),
        case("error/secret-in-use", SecretInUse),
        case("error/not-enough-replicas", NotEnoughReplicas),
    ]
}
