//! The APIs: one module each, with its request, its response and what they mean.
//!
//! A stream opens with one [`RequestFrame`]. For a *unary* request the broker answers with one
//! frame, `Result<Response, WireError>`, and closes its side. The *streaming* requests
//! ([`Request::OpenProduce`], [`Request::OpenFetch`], [`Request::OpenGroup`] and other `Open…`) are
//! answered by an `Opened…` frame, after which both sides go on as the module describes.
//!
//! Every enum here grows only at the end: postcard does not describe itself.

pub mod cluster;
pub mod fetch;
pub mod grants;
pub mod group;
pub mod hello;
pub mod lifecycle;
pub mod metrics;
pub mod offsets;
pub mod peer;
pub mod plugin;
pub mod produce;
pub mod replay;
pub mod secret;
pub mod state;
pub mod topic;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The protocol's version spoken by this crate.
pub const PROTOCOL_VERSION: u16 = 1;

/// The ALPN protocol id of every connection.
pub const ALPN: &[u8] = b"millstream/1";

/// The UDP port a broker listens on unless told otherwise.
pub const DEFAULT_PORT: u16 = 9092;

/// The first frame on every stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestFrame {
    /// How many brokers have passed this request on. A client sends 0; a broker that forwards adds
    /// one, and refuses beyond [`MAX_HOPS`].
    pub hops: u8,
    /// What is asked.
    pub request: Request,
}

impl RequestFrame {
    /// A client's request.
    pub fn from_client(request: Request) -> Self {
        Self { hops: 0, request }
    }
}

/// How often a request is forwarded before it is refused: once to the leader, once more when the
/// leader has just moved.
pub const MAX_HOPS: u8 = 2;

/// Everything that can be asked. Grows only at the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// The version handshake: first on every connection.
    Hello(hello::Hello),
    /// What the broker is and how it is.
    DescribeBroker(hello::DescribeBroker),
    /// Topics, their ids, partitions and leaders.
    DescribeTopics(topic::DescribeTopics),
    /// Makes a topic.
    CreateTopic(topic::CreateTopic),
    /// Changes a topic's settings or adds partitions.
    AlterTopic(topic::AlterTopic),
    /// Deletes a topic and its records.
    DeleteTopic(topic::DeleteTopic),
    /// Offsets by position or time.
    ListOffsets(offsets::ListOffsets),
    /// Forgets the records below an offset.
    DeleteRecords(offsets::DeleteRecords),
    /// A new producer id.
    InitProducer(produce::InitProducer),
    /// Streaming: produce to one partition.
    OpenProduce(produce::OpenProduce),
    /// One fetch, waiting at the broker for data (long polling).
    Fetch(fetch::Fetch),
    /// Streaming: fetch from one or more partitions.
    OpenFetch(fetch::OpenFetch),
    /// Streaming: one member of a consumer group.
    OpenGroup(group::OpenGroup),
    /// The groups' names and states.
    ListGroups(group::ListGroups),
    /// Members, assignments, committed offsets and lag of one group.
    DescribeGroup(group::DescribeGroup),
    /// Commits offsets for a group without being a member (manual assignment).
    CommitOffsets(group::CommitOffsets),
    /// A group's committed offsets.
    FetchOffsets(group::FetchOffsets),
    /// Sets a live group's offsets anew.
    ResetGroup(group::ResetGroup),
    /// Deletes an empty group and its offsets.
    DeleteGroup(group::DeleteGroup),
    /// Deploys a plugin; the payload is the component.
    DeployPlugin(plugin::DeployPlugin),
    /// The deployments.
    ListDeployments(plugin::ListDeployments),
    /// One deployment with its workers.
    DescribeDeployment(plugin::DescribeDeployment),
    /// Stops a deployment's workers and forgets it.
    RemoveDeployment(plugin::RemoveDeployment),
    /// Streaming: what a deployment's workers have logged.
    OpenPluginLogs(plugin::OpenPluginLogs),
    /// Has workers that stand still try again.
    ResumeDeployment(lifecycle::ResumeDeployment),
    /// Hands dead letters back to the workers that they came from.
    RetryDeadLetters(plugin::RetryDeadLetters),
    /// Streaming: what a deployment's workers remember.
    OpenState(state::OpenState),
    /// Has a deployment's workers stand still.
    PauseDeployment(lifecycle::PauseDeployment),
    /// What a deployment's workers have measured.
    DescribePluginMetrics(metrics::DescribePluginMetrics),
    /// The revisions of a deployment.
    ListRevisions(lifecycle::ListRevisions),
    /// Puts an earlier revision of a deployment back.
    RollBackDeployment(lifecycle::RollBackDeployment),
    /// Starts a shadow of a deployment; the payload is its component, if it has another one.
    ReplayDeployment(replay::ReplayDeployment),
    /// What a shadow replays.
    DescribeReplay(replay::DescribeReplay),
    /// Puts a shadow in the place of its live deployment.
    PromoteDeployment(replay::PromoteDeployment),
    /// Keeps a secret.
    SetSecret(secret::SetSecret),
    /// The secrets' names.
    ListSecrets(secret::ListSecrets),
    /// Forgets a secret.
    RemoveSecret(secret::RemoveSecret),
    /// Streaming, between brokers: what replicas say to each other.
    OpenReplication(peer::OpenReplication),
    /// Between brokers: the payload is a request that one of their services understands.
    CallPeer(peer::CallPeer),
    /// Asks for a ticket that lets a new broker in.
    IssueTicket(cluster::IssueTicket),
    /// The cluster's brokers, and where they are.
    DescribeBrokers(cluster::DescribeBrokers),
    /// How the cluster stands.
    DescribeCluster(cluster::DescribeCluster),
    /// The replicas that the broker keeps which is asked.
    DescribeReplicas(cluster::DescribeReplicas),
    /// Has a broker emptied.
    DrainBroker(cluster::DrainBroker),
    /// Has a broker stay that was to be emptied.
    UndrainBroker(cluster::UndrainBroker),
    /// Removes a broker that keeps nothing.
    RemoveBroker(cluster::RemoveBroker),
    /// Begins the next step to an even load.
    RebalanceCluster(cluster::RebalanceCluster),
    /// Has a partition go on without what is lost.
    AcceptLoss(cluster::AcceptLoss),
    /// Streaming: the same as [`Request::OpenFetch`], of replicas of the broker that is asked, whether it
    /// leads or not.
    OpenReplicaFetch(fetch::OpenFetch),
    /// Streaming, between brokers: what workers write.
    OpenOutputs(peer::OpenOutputs),
    /// Streaming, between brokers: a deployment's workers as a member of their group.
    OpenHostedMember(peer::OpenHostedMember),
}

/// A request that is answered by exactly one frame.
pub trait Unary: Into<Request> {
    /// The body of the answer.
    type Response: Serialize + DeserializeOwned + Send + 'static;
}

macro_rules! unary {
    ($($variant:ident($request:ty) -> $response:ty;)*) => {$(
        impl From<$request> for Request {
            fn from(request: $request) -> Self {
                Self::$variant(request)
            }
        }

        impl Unary for $request {
            type Response = $response;
        }
    )*};
}

unary! {
    Hello(hello::Hello) -> hello::HelloResponse;
    DescribeBroker(hello::DescribeBroker) -> hello::BrokerDescription;
    DescribeTopics(topic::DescribeTopics) -> topic::DescribeTopicsResponse;
    CreateTopic(topic::CreateTopic) -> topic::TopicDescription;
    AlterTopic(topic::AlterTopic) -> topic::TopicDescription;
    DeleteTopic(topic::DeleteTopic) -> ();
    ListOffsets(offsets::ListOffsets) -> offsets::ListOffsetsResponse;
    DeleteRecords(offsets::DeleteRecords) -> offsets::DeleteRecordsResponse;
    InitProducer(produce::InitProducer) -> produce::ProducerIdentity;
    Fetch(fetch::Fetch) -> fetch::FetchResponse;
    ListGroups(group::ListGroups) -> group::ListGroupsResponse;
    DescribeGroup(group::DescribeGroup) -> group::GroupDescription;
    CommitOffsets(group::CommitOffsets) -> ();
    FetchOffsets(group::FetchOffsets) -> group::FetchOffsetsResponse;
    ResetGroup(group::ResetGroup) -> group::ResetGroupResponse;
    DeleteGroup(group::DeleteGroup) -> ();
    DeployPlugin(plugin::DeployPlugin) -> plugin::DeploymentDescription;
    ListDeployments(plugin::ListDeployments) -> plugin::ListDeploymentsResponse;
    DescribeDeployment(plugin::DescribeDeployment) -> plugin::DeploymentDescription;
    RemoveDeployment(plugin::RemoveDeployment) -> ();
    ResumeDeployment(lifecycle::ResumeDeployment) -> plugin::DeploymentDescription;
    RetryDeadLetters(plugin::RetryDeadLetters) -> plugin::RetryDeadLettersResponse;
    PauseDeployment(lifecycle::PauseDeployment) -> plugin::DeploymentDescription;
    DescribePluginMetrics(metrics::DescribePluginMetrics) -> metrics::DescribePluginMetricsResponse;
    ListRevisions(lifecycle::ListRevisions) -> lifecycle::ListRevisionsResponse;
    RollBackDeployment(lifecycle::RollBackDeployment) -> plugin::DeploymentDescription;
    ReplayDeployment(replay::ReplayDeployment) -> plugin::DeploymentDescription;
    DescribeReplay(replay::DescribeReplay) -> replay::Replay;
    PromoteDeployment(replay::PromoteDeployment) -> plugin::DeploymentDescription;
    SetSecret(secret::SetSecret) -> ();
    ListSecrets(secret::ListSecrets) -> secret::ListSecretsResponse;
    RemoveSecret(secret::RemoveSecret) -> ();
    IssueTicket(cluster::IssueTicket) -> cluster::IssuedTicket;
    DescribeBrokers(cluster::DescribeBrokers) -> cluster::DescribeBrokersResponse;
    DescribeCluster(cluster::DescribeCluster) -> cluster::ClusterDescription;
    DescribeReplicas(cluster::DescribeReplicas) -> cluster::DescribeReplicasResponse;
    DrainBroker(cluster::DrainBroker) -> cluster::Draining;
    UndrainBroker(cluster::UndrainBroker) -> ();
    RemoveBroker(cluster::RemoveBroker) -> ();
    RebalanceCluster(cluster::RebalanceCluster) -> cluster::Rebalancing;
    AcceptLoss(cluster::AcceptLoss) -> cluster::LossDescription;
    CallPeer(peer::CallPeer) -> peer::PeerCalled;
}
