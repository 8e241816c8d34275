//! The client of Millstream: produce, consume and look after a cluster over QUIC.
//!
//! A [`Client`] is connected to any broker of the cluster, and to those that lead what it uses. From it
//! come [`Producer`]s, [`Consumer`]s and the [`Admin`]. Partitions, leaders, batches, acknowledgements
//! and reconnects are this crate's business, not the application's.
//!
//! It does not store anything: what is not acknowledged is gone with the process. It does not pick
//! an identity: it shows the one of the profile, or the one it is given. It does not run plugins; see
//! the crate `millstream-plugin` for writing one.
//!
//! ```no_run
//! use millstream::{Client, Position, ProduceRecord};
//!
//! # async fn example() -> millstream::Result<()> {
//! let client = Client::discover().await?;
//! client.admin().create_topic("orders").partitions(4).await?;
//!
//! let producer = client.producer("orders").build().await?;
//! producer.send(ProduceRecord::new("two of the blue ones").key("customer-7")).await?;
//! producer.flush().await?;
//!
//! let mut consumer =
//!     client.consumer().group("billing").topics(["orders"]).start(Position::Earliest).build().await?;
//! loop {
//!     let record = consumer.next().await?;
//!     println!("{}-{} {}: {:?}", record.topic, record.partition, record.offset, record.value);
//! }
//! # }
//! ```
//!
//! # How a client finds brokers
//!
//! One address is enough, as long as its broker runs when the client connects first. The broker that it
//! reaches tells it of all others, then and every half a minute. When its connection dies, it turns to
//! another broker: first to the addresses that it was given, in their order, then to the others, and to
//! the next one beside those that are silent. Give it several addresses where the first broker may be
//! down when a client starts. A broker that is killed does not say so: when nothing was heard of one for a
//! while, the others are asked whether it is gone.
//!
//! What belongs to a partition (produce streams, fetch streams, offsets) goes to the partition's leader
//! over a connection of its own. Where that cannot be made (the address that the brokers know each other
//! by need not be reachable from where the client is) it goes through the broker that the client is
//! connected to, which passes it on, and moves to the leader once that can be reached. A leader that
//! moves or dies is an error for nobody within the delivery timeout of a producer; a consumer waits for
//! the next leader. Groups and everything else go through the broker that the client is connected to.
//!
//! Every broker's certificate must be issued for the host of its address, or all of them for one name:
//! see [`ClientBuilder::server_name`].
//!
//! # Layout
//!
//! - [`Client`]: requests and their repetition
//! - `brokers`, `dialer`, `link`, `links`: the brokers that are known, and the connections to them
//! - `leaders`, `route`: who leads a partition, and a stream's way there
//! - `silence`: whether a broker of which nothing is heard is gone
//! - [`Producer`]: batches, idempotence, back-pressure (`producer`)
//! - [`Consumer`]: fetch streams, group membership, commits (`consumer`)
//! - [`Admin`]: topics, offsets, groups, plugins (`admin`)
//! - [`PluginDiff`]: how a shadow's outputs differ from the live ones (`diff`)
//! - [`Error`]: what can go wrong, and whether to try again
//! - [`limits`]: every bound and default by name

mod admin;
mod backoff;
mod brokers;
mod changes;
mod client;
mod consumer;
mod dialer;
mod diff;
mod error;
mod leaders;
pub mod limits;
mod link;
mod links;
mod producer;
mod quota;
mod route;
mod silence;
mod stream;

pub use admin::{
    Admin, AlterTopicBuilder, CreateTopicBuilder, PluginLogs, PluginLogsBuilder, PluginMetrics,
    PluginState, PluginStateBuilder, PromoteBuilder, ReplayBuilder, ReplayProgress, StateItem,
};
pub use client::{Client, ClientBuilder};
pub use consumer::{
    ConsumedBatch, ConsumedRecord, Consumer, ConsumerBuilder, OutOfRange, ReadFrom,
};
pub use diff::{Difference, OutputDiff, PluginDiff};
pub use error::{Error, Result, StreamError};
pub use producer::{
    Delivery, Partitioner, Payload, ProduceRecord, Producer, ProducerBuilder, RecordMetadata,
    TrySendError,
};

/// What is said of a cluster.
pub mod cluster {
    pub use millstream_protocol::api::cluster::{
        BrokerReport, BrokerState, ChangingPartition, ClusterBroker, ClusterDescription,
        DescribeReplicasResponse, DiskSpace, Draining, IssueTicket, IssuedTicket, Listed,
        LossDescription, LossReplica, OfflinePartition, OfflineReason, QuorumDescription,
        QuorumMember, Rebalancing, ReplicaDescription, UnderReplicated,
    };
}

pub use millstream_protocol::api::grants::{Grants, HttpHost, HttpHostError, HttpScheme};
pub use millstream_protocol::api::group::{
    GroupDescription, GroupPartition, GroupState, ListedGroup, MemberDescription, MemberKind,
    NamedPartition, OffsetCommit, ResetGroupResponse,
};
pub use millstream_protocol::api::hello::{BrokerDescription, HelloResponse};
pub use millstream_protocol::api::lifecycle::{Activity, RevisionChange, RevisionDescription};
pub use millstream_protocol::api::metrics::{CallLatency, GuestMetric, MetricValue, WorkerMetrics};
pub use millstream_protocol::api::offsets::{ListedOffset, Position};
pub use millstream_protocol::api::plugin::{
    DeliveryGuarantee, DeployPlugin, DeploymentDescription, DeploymentSpec, FailureAction,
    FailurePolicy, HoldBack, LogLevel, MissingTopics, OnExisting, OutputSpec, PluginLogLine,
    TableDescription, TableSpec, TableState, WorkerDescription, WorkerLimits, WorkerState,
};
pub use millstream_protocol::api::replay::{
    ComparedOutput, Replay, ReplayedRange, ReplayedTopic, default_shadow,
};
pub use millstream_protocol::api::secret::{SecretDescription, SecretValue};
pub use millstream_protocol::api::state::StateOrigin;
pub use millstream_protocol::api::topic::{
    Cleanup, Durability, PartitionDescription, PartitionLog, TopicConfig, TopicDescription,
    TopicSelection,
};
pub use millstream_protocol::batch::{
    BatchError, Compression, Header, HeaderIter, HeaderView, RecordView,
};
pub use millstream_protocol::{
    Advice, ErrorCode, Offset, PartitionIndex, TimestampMs, TopicId, WireError,
};
pub use millstream_transport::profile::ProfileError;
pub use millstream_transport::{Identity, Profile, TransportConfig};
