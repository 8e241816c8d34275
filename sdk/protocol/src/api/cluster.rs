//! The cluster itself: its brokers and letting new ones in, how it stands, what becomes of them.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{LeaderEpoch, Offset, PartitionIndex, TimestampMs, TopicPartition};

/// Asks for a ticket with which one new broker is let in, once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssueTicket {
    /// How long it is good for, milliseconds.
    pub valid_ms: u64,
}

/// What a new broker is let in with.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssuedTicket {
    /// The cluster's identity.
    pub cluster_id: Uuid,
    /// The number that the new broker is to have.
    pub broker_id: u32,
    /// The token. Whoever has it can become a broker of the cluster, if a certificate of its authority says
    /// that it is one.
    pub token: String,
    /// From when on it lets nobody in.
    pub expires_at_ms: TimestampMs,
    /// The brokers that the new one may turn to: their numbers, and where they are, `host:port`.
    pub brokers: Vec<(u32, String)>,
}

impl std::fmt::Debug for IssuedTicket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IssuedTicket")
            .field("cluster_id", &self.cluster_id)
            .field("broker_id", &self.broker_id)
            .field("expires_at_ms", &self.expires_at_ms)
            .field("brokers", &self.brokers)
            .finish_non_exhaustive()
    }
}

/// Asks which brokers the cluster has: a client that has reached one can then turn to the others as well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DescribeBrokers {}

/// The answer to [`DescribeBrokers`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DescribeBrokersResponse {
    /// The brokers that are registered, running or not, in order of their numbers. At most
    /// [`BROKERS_PER_LISTING`](crate::limits::BROKERS_PER_LISTING).
    pub brokers: Vec<BrokerAddress>,
}

/// A broker, and where it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokerAddress {
    /// Its number.
    pub broker_id: u32,
    /// Where it says that it is reached, `host:port`. Its certificate is issued for this host.
    pub address: String,
    /// Whether it is there, as far as the broker knows that says this. One that is not leads nothing until it
    /// is there again: who waits for its answer waits in vain.
    pub is_live: bool,
}

/// Asks how the cluster stands. Whoever looks after it answers, if it can be reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DescribeCluster {}

/// How the cluster stands. What nobody has told is `None`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterDescription {
    /// The cluster's identity; `None` if nothing was decided yet.
    pub cluster_id: Option<Uuid>,
    /// The kinds of metadata that all brokers understand.
    pub feature_level: u16,
    /// The broker that says all this.
    pub told_by: u32,
    /// The broker that looks after the cluster, which is the one that says this. `None` if there is none, or
    /// it cannot be reached: then this is what was decided last, as far as the one knows that says it, and
    /// who has gone since is not seen.
    pub controller: Option<u32>,
    /// The metadata quorum.
    pub quorum: QuorumDescription,
    /// The brokers, by number.
    pub brokers: Vec<ClusterBroker>,
    /// How many partitions there are.
    pub partitions: u64,
    /// Those that take no records.
    pub offline: Listed<OfflinePartition>,
    /// Those of which a replica is missing, or has not got all that it should.
    pub under_replicated: Listed<UnderReplicated>,
    /// Those that are getting other replicas.
    pub changing: Listed<ChangingPartition>,
}

/// Things of which only the first are named.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed<T> {
    /// How many there are.
    pub count: u64,
    /// The first of them, at most [`PARTITIONS_PER_STATUS`](crate::limits::PARTITIONS_PER_STATUS).
    pub first: Vec<T>,
}

/// The metadata quorum, as a node of it sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuorumDescription {
    /// Its term: rises with every election.
    pub term: u64,
    /// Who leads it.
    pub leader: Option<u32>,
    /// Who takes part, by number.
    pub members: Vec<QuorumMember>,
    /// How long ago a majority has last answered the leader, milliseconds.
    pub majority_silent_ms: Option<u64>,
}

/// A broker that takes part in the metadata quorum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuorumMember {
    /// Its number.
    pub broker_id: u32,
    /// Whether it votes. Who does not hears everything, and may vote later.
    pub votes: bool,
    /// How many entries it lacks, as far as the leader knows.
    pub behind: Option<u64>,
}

/// Whether a broker is there, and what it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BrokerState {
    /// It is there, and takes replicas and leaderships.
    Live,
    /// It is not there: it leads nothing until it is there again.
    Gone,
    /// It is there, and is being emptied.
    Draining,
    /// It is not there, and is to be emptied.
    GoneDraining,
}

/// One broker of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterBroker {
    /// Its number.
    pub broker_id: u32,
    /// Where clients and other brokers reach it, `host:port`.
    pub address: String,
    /// What it shares its fate with.
    pub rack: Option<String>,
    /// The identity of its data directory.
    pub directory_id: Uuid,
    /// How often it was started on it.
    pub incarnation: u64,
    /// Whether it is there, and what it takes.
    pub state: BrokerState,
    /// How long nothing was heard of it, milliseconds.
    pub silent_ms: Option<u64>,
    /// Partitions of which it is the leader.
    pub leads: u32,
    /// How many of them it leads by now, as it says.
    pub active: Option<u32>,
    /// Replicas that it has, those included that it is to get or to give away.
    pub keeps: u32,
    /// If it is being emptied: how many of these have nowhere to go.
    pub stuck: u32,
    /// What it has told of itself when it was asked for this answer.
    pub report: Option<BrokerReport>,
}

/// What a broker tells of itself for [`DescribeCluster`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokerReport {
    /// Its software and the version of it.
    pub software: String,
    /// Milliseconds since it was ready.
    pub uptime_ms: u64,
    /// The disk that its data directory is on.
    pub disk: Option<DiskSpace>,
    /// Records that the replica lacks which is furthest behind its leader, of those of which both have told
    /// where they are.
    pub largest_lag: Option<u64>,
}

/// The disk that a data directory is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskSpace {
    /// What the logs of the broker take, bytes.
    pub used_bytes: u64,
    /// What is free, bytes.
    pub free_bytes: u64,
    /// How large it is, bytes.
    pub total_bytes: u64,
}

/// A partition that takes no records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfflinePartition {
    /// Its topic's name.
    pub topic: String,
    /// Its number.
    pub partition: PartitionIndex,
    /// Who is its leader, or was the last one.
    pub leader: u32,
    /// In which epoch.
    pub leader_epoch: LeaderEpoch,
    /// Why.
    pub reason: OfflineReason,
}

/// Why a partition takes no records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OfflineReason {
    /// Its leader is not there, or has lost what it led with.
    NoLeader,
    /// It has a leader, but too few of its replicas are there and whole.
    NoMajority,
    /// Its leader is there, and has not said that it leads.
    NotLeading {
        /// How long that could have been, milliseconds.
        for_ms: u64,
        /// How many leaders have not got so far.
        attempts: u32,
    },
}

/// A partition of which a replica is missing, or has not got all that it should.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnderReplicated {
    /// Its topic's name.
    pub topic: String,
    /// Its number.
    pub partition: PartitionIndex,
    /// The brokers whose replicas are missing.
    pub missing: Vec<u32>,
}

/// A partition that is getting other replicas.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangingPartition {
    /// Its topic's name.
    pub topic: String,
    /// Its number.
    pub partition: PartitionIndex,
    /// The brokers that have kept it so far.
    pub from: Vec<u32>,
    /// Those that are to.
    pub to: Vec<u32>,
}

/// Asks one broker for its replicas and for what it is: nobody else answers for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DescribeReplicas {
    /// Which replicas.
    pub replicas: ReplicaSelection,
}

/// Which replicas of a broker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReplicaSelection {
    /// All, if there are no more than [`REPLICAS_PER_LISTING`](crate::limits::REPLICAS_PER_LISTING).
    All,
    /// Those of these partitions that it keeps; no more than
    /// [`REPLICAS_PER_LISTING`](crate::limits::REPLICAS_PER_LISTING).
    Of(Vec<TopicPartition>),
}

/// The answer to [`DescribeReplicas`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DescribeReplicasResponse {
    /// Who answers.
    pub broker_id: u32,
    /// Its software and the version of it.
    pub software: String,
    /// Milliseconds since it was ready.
    pub uptime_ms: u64,
    /// The disk that its data directory is on.
    pub disk: Option<DiskSpace>,
    /// The replicas; `None` if all were asked for and there are too many.
    pub replicas: Option<Vec<ReplicaDescription>>,
}

/// One replica, as the broker that keeps it knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaDescription {
    /// The partition.
    pub partition: TopicPartition,
    /// The epoch in which it leads, if it does.
    pub leading: Option<LeaderEpoch>,
    /// The first offset still there.
    pub log_start_offset: Offset,
    /// Records below are known to it to be committed.
    pub high_watermark: Offset,
    /// The next offset to be written.
    pub log_end_offset: Offset,
    /// Records below are on stable storage.
    pub flushed_offset: Offset,
    /// Bytes on disk.
    pub size_bytes: u64,
    /// The first damage that was found in it, if any, shortened.
    pub damage: Option<String>,
}

/// Has a broker emptied: what it leads and keeps goes to others. It takes nothing more until
/// [`UndrainBroker`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainBroker {
    /// Its number.
    pub broker_id: u32,
}

/// The answer to [`DrainBroker`]: what there is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Draining {
    /// Replicas that it has.
    pub keeps: u32,
    /// How many of these have nowhere to go.
    pub stuck: u32,
}

/// Has a broker stay that was to be emptied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UndrainBroker {
    /// Its number.
    pub broker_id: u32,
}

/// Removes a broker that keeps nothing: it is no broker of the cluster any more, and its process stops.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoveBroker {
    /// Its number.
    pub broker_id: u32,
}

/// Begins the next step to an even load. There are more if changes are under way afterwards, or are yet to
/// come: it is asked for again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RebalanceCluster {}

/// The answer to [`RebalanceCluster`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rebalancing {
    /// Leaderships that go back to preferred leaders by this step.
    pub leaders: u32,
    /// Partitions that begin to get other replicas, or another preferred leader, by it.
    pub moves: u32,
    /// Partitions that are getting other replicas now.
    pub under_way: u32,
    /// Partitions that are to do so later, as far as can be seen now.
    pub ahead: u32,
}

/// Has a partition go on with one replica alone, as it is, because the others are lost. What only they had is
/// gone for good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcceptLoss {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: PartitionIndex,
    /// The broker with the replica.
    pub broker_id: u32,
    /// Only tells what there is to be lost.
    pub dry_run: bool,
}

/// The answer to [`AcceptLoss`]: what was known of the partition's replicas before anything was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LossDescription {
    /// Who was its leader.
    pub leader: u32,
    /// In which epoch.
    pub leader_epoch: LeaderEpoch,
    /// Its replicas, those included that it was to get or to give away.
    pub replicas: Vec<LossReplica>,
}

/// A replica of a partition of which something is lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LossReplica {
    /// The broker that keeps it.
    pub broker_id: u32,
    /// Whether that is there.
    pub live: bool,
    /// Whether all that it has ever acknowledged is there, as far as the cluster knows.
    pub trusted: bool,
    /// What the broker says of it; `None` if it does not say, or has not begun with it.
    pub told: Option<ReplicaDescription>,
}
