//! Connections, and requests that are answered by one frame.

use std::sync::Arc;

use bytes::Bytes;
use millstream::{ErrorCode, Position, WireError};
use millstream_protocol::api::cluster::{
    BrokerState, ClusterBroker, ClusterDescription, DescribeBrokersResponse, Listed,
    QuorumDescription,
};
use millstream_protocol::api::group::{
    FetchOffsetsResponse, GroupDescription, GroupState, ListGroupsResponse,
};
use millstream_protocol::api::hello::{BrokerDescription, HelloResponse};
use millstream_protocol::api::lifecycle::{Activity, RevisionChange};
use millstream_protocol::api::offsets::{DeleteRecordsResponse, ListOffsetsResponse, ListedOffset};
use millstream_protocol::api::plugin::{
    DeploymentDescription, Follow, ListDeploymentsResponse, LogLevel, OpenPluginLogs, PluginLogLine,
};
use millstream_protocol::api::produce::ProducerIdentity;
use millstream_protocol::api::topic::{DescribeTopics, DescribeTopicsResponse, TopicSelection};
use millstream_protocol::api::{PROTOCOL_VERSION, Request, RequestFrame};
use millstream_protocol::limits::{MAX_BATCH_BYTES, MAX_COMPONENT_BYTES};
use millstream_transport::{CloseCode, Connection, FrameReceiver, FrameSender, Listener};
use serde::Serialize;
use uuid::Uuid;

use super::log::Topic;
use super::{Shared, State, error, fetch, group, produce};

pub(super) async fn accept(listener: Listener, number: u32, shared: Arc<Shared>) {
    while let Some(incoming) = listener.accept().await {
        let refused = |state: &mut State| {
            let lets_nobody_in = [&state.down, &state.hidden];
            lets_nobody_in.iter().any(|they| they.contains(&number))
        };
        if shared.change(refused) {
            // Dropped, it is refused.
            continue;
        }
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let Ok(connection) = incoming.accept().await else {
                return;
            };
            shared.change(|state| state.connections.push((number, connection.clone())));
            let here = Here {
                number,
                connection,
                shared,
            };
            while let Ok((sender, receiver)) = here.connection.accept_stream().await {
                tokio::spawn(serve(here.clone(), sender, receiver));
            }
        });
    }
}

/// Where a stream has come.
#[derive(Clone)]
pub(super) struct Here {
    /// The broker's number.
    pub(super) number: u32,
    pub(super) connection: Connection,
    pub(super) shared: Arc<Shared>,
}

async fn serve(here: Here, sender: FrameSender, mut receiver: FrameReceiver) {
    let Ok(Some(frame)) = receiver.receive::<RequestFrame>(MAX_COMPONENT_BYTES).await else {
        return;
    };
    let request = frame.body.request;
    let arrival = (here.number, request.clone());
    here.shared.change(|state| state.requests.push(arrival));
    match request {
        Request::OpenProduce(open) => produce::serve(here, sender, receiver, open).await,
        Request::OpenFetch(open) => {
            let from = fetch::From::Leader;
            fetch::serve(here, sender, receiver, open, from).await
        }
        Request::OpenReplicaFetch(open) => {
            let from = fetch::From::Replica;
            fetch::serve(here, sender, receiver, open, from).await
        }
        Request::OpenGroup(open) => group::serve(sender, receiver, here.shared, open).await,
        Request::OpenPluginLogs(open) => plugin_logs(sender, &here.shared, open).await,
        request => {
            let reply = Reply {
                connection: here.connection,
                sender,
                lost: false,
            };
            unary(
                reply,
                &here.shared,
                here.number,
                request,
                frame.payload.freeze(),
            )
            .await;
        }
    }
}

/// Where the answer goes.
struct Reply {
    connection: Connection,
    sender: FrameSender,
    /// The connection ends in its place.
    lost: bool,
}

impl Reply {
    async fn send<T: Serialize>(mut self, answer: Result<T, WireError>) {
        if self.lost {
            return self
                .connection
                .close(CloseCode::Dropped, "the answer is lost");
        }
        let _ = self.sender.send(&answer).await;
    }
}

async fn unary(mut reply: Reply, shared: &Shared, at: u32, request: Request, payload: Bytes) {
    match request {
        Request::Hello(_) => return reply.send(shared.change(|state| hello(state, at))).await,
        // A client asks by itself: no fault of a test is meant for it.
        Request::DescribeBrokers(_) => {
            let listed = shared.change(|state| match state.starting.contains(&at) {
                true => Err(error(ErrorCode::NotReady, "the broker is starting")),
                false => Ok(DescribeBrokersResponse {
                    brokers: state.listed.clone(),
                }),
            });
            return reply.send(listed).await;
        }
        _ => {}
    }
    let refused = shared.change(|state| {
        let answers = &mut state.faults.lose_answers;
        reply.lost = *answers > 0;
        *answers = answers.saturating_sub(1);
        state.faults.refuse_unary.pop_front()
    });
    if let Some(refused) = refused {
        return reply.send::<()>(Err(refused)).await;
    }
    match request {
        Request::DescribeCluster(_) => {
            let described = shared.change(|state| describe_cluster(state, at));
            reply.send(Ok(described)).await;
        }
        Request::DescribeBroker(_) => reply.send(Ok(describe_broker(at))).await,
        Request::DescribeTopics(request) => {
            reply
                .send(shared.change(|state| describe_topics(state, request)))
                .await;
        }
        Request::CreateTopic(request) => {
            let created = shared.change(|state| {
                if state.topics.contains_key(&request.name) {
                    return Err(error(ErrorCode::TopicExists, "the topic exists"));
                }
                let topic = Topic::new(request.partitions, request.config);
                let described = topic.describe(&request.name);
                state.topics.insert(request.name, topic);
                Ok(described)
            });
            reply.send(created).await;
        }
        Request::AlterTopic(_) | Request::DeleteTopic(_) => {
            unary_of_topics(reply, shared, request).await
        }
        Request::ListOffsets(request) => {
            let offsets = shared.change(|state| {
                let positions = request.positions.into_iter();
                positions
                    .map(|(partition, position)| {
                        listed(state, at, &request.topic, partition, position)
                    })
                    .collect()
            });
            reply.send(Ok(ListOffsetsResponse { offsets })).await;
        }
        Request::DeleteRecords(request) => {
            let deleted = shared.change(|state| {
                let partition = state.partition(&request.topic, request.partition)?;
                partition.log_start_offset = partition.log_start_offset.max(request.before_offset);
                Ok(DeleteRecordsResponse {
                    log_start_offset: partition.log_start_offset,
                })
            });
            reply.send(deleted).await;
        }
        Request::InitProducer(_) => {
            let producer_id = shared.change(|state| {
                state.next_producer_id += 1;
                state.next_producer_id
            });
            reply
                .send(Ok(ProducerIdentity {
                    producer_id,
                    producer_epoch: 0,
                }))
                .await;
        }
        request => unary_of_groups(reply, shared, request, payload).await,
    }
}

async fn unary_of_topics(reply: Reply, shared: &Shared, request: Request) {
    match request {
        Request::AlterTopic(request) => {
            let altered = shared.change(|state| {
                let topic = state.topic(&request.name)?;
                let partitions = request.partitions.unwrap_or(0) as usize;
                while topic.partitions.len() < partitions {
                    topic.partitions.push(super::Partition::new());
                }
                topic.config.retention_ms =
                    request.retention_ms.unwrap_or(topic.config.retention_ms);
                Ok(topic.describe(&request.name))
            });
            reply.send(altered).await;
        }
        Request::DeleteTopic(request) => {
            let deleted = shared.change(|state| {
                state.topic(&request.name)?;
                state.topics.remove(&request.name);
                Ok(())
            });
            reply.send(deleted).await;
        }
        other => unreachable!("{other:?}"),
    }
}

async fn unary_of_groups(reply: Reply, shared: &Shared, request: Request, payload: Bytes) {
    match request {
        Request::ListGroups(request) => {
            // One at a time, so that every listing has several parts.
            let listed = shared.change(|state| {
                let mut behind = state
                    .groups
                    .iter()
                    .filter(|(name, _)| request.after.as_ref().is_none_or(|after| *name > after));
                ListGroupsResponse {
                    groups: behind
                        .next()
                        .map(|(name, group)| group.listed(name))
                        .into_iter()
                        .collect(),
                    more: behind.next().is_some(),
                }
            });
            reply.send(Ok(listed)).await;
        }
        Request::DescribeGroup(request) => {
            let described = shared.change(|state| {
                let group = state.groups.get(&request.group);
                group.map(|_| GroupDescription {
                    group: request.group.clone(),
                    state: GroupState::Stable,
                    generation: 1,
                    members: Vec::new(),
                    partitions: Vec::new(),
                })
            });
            reply
                .send(described.ok_or_else(|| error(ErrorCode::UnknownGroup, "unknown group")))
                .await;
        }
        Request::CommitOffsets(request) => {
            shared.change(|state| {
                state
                    .groups
                    .entry(request.group)
                    .or_default()
                    .commit(request.offsets)
            });
            reply.send(Ok(())).await;
        }
        Request::FetchOffsets(request) => {
            let offsets = shared.change(|state| {
                state
                    .groups
                    .entry(request.group)
                    .or_default()
                    .offset_commits()
            });
            reply.send(Ok(FetchOffsetsResponse { offsets })).await;
        }
        Request::DeleteGroup(request) => {
            let deleted = shared.change(|state| state.groups.remove(&request.group));
            reply
                .send(
                    deleted
                        .map(|_| ())
                        .ok_or_else(|| error(ErrorCode::UnknownGroup, "unknown group")),
                )
                .await;
        }
        request => unary_of_plugins(reply, shared, request, payload).await,
    }
}

async fn unary_of_plugins(reply: Reply, shared: &Shared, request: Request, payload: Bytes) {
    match request {
        Request::DeployPlugin(request) => {
            let deployed = shared.change(|state| {
                let name = request.spec.name.clone();
                if state.deployments.contains_key(&name) {
                    return Err(error(ErrorCode::DeploymentExists, "the deployment exists"));
                }
                state
                    .deployments
                    .insert(name.clone(), (request.spec, payload));
                deployment(state, &name)
            });
            reply.send(deployed).await;
        }
        Request::ListDeployments(_) => {
            let deployments = shared.change(|state| {
                let names: Vec<_> = state.deployments.keys().cloned().collect();
                names
                    .iter()
                    .map(|name| deployment(state, name).unwrap())
                    .collect()
            });
            reply
                .send(Ok(ListDeploymentsResponse {
                    deployments,
                    more: false,
                }))
                .await;
        }
        Request::DescribeDeployment(request) => {
            reply
                .send(shared.change(|state| deployment(state, &request.name)))
                .await;
        }
        Request::RemoveDeployment(request) => {
            let removed = shared.change(|state| {
                deployment(state, &request.name).map(|_| state.deployments.remove(&request.name))
            });
            reply.send(removed.map(|_| ())).await;
        }
        other => {
            reply
                .send::<()>(Err(error(
                    ErrorCode::InvalidRequest,
                    &format!("not played: {other:?}"),
                )))
                .await
        }
    }
}

fn hello(state: &mut State, at: u32) -> Result<HelloResponse, WireError> {
    state.hello_count += 1;
    match &state.faults.refuse_hello {
        Some(refused) => Err(refused.clone()),
        None => Ok(HelloResponse {
            version: PROTOCOL_VERSION,
            cluster_id: Uuid::nil(),
            broker_id: at,
            software: "fake/0".to_owned(),
            principal: "tester".to_owned(),
            max_batch_bytes: MAX_BATCH_BYTES as u32,
            fetch_streams: state.fetch_streams,
        }),
    }
}

fn describe_broker(at: u32) -> BrokerDescription {
    BrokerDescription {
        cluster_id: Uuid::nil(),
        broker_id: at,
        software: "fake/0".to_owned(),
        uptime_ms: 1,
        connections: 1,
        topics: 0,
        partitions: 0,
        workers: 0,
        resident_bytes: 0,
    }
}

fn describe_cluster(state: &State, told_by: u32) -> ClusterDescription {
    fn nothing<T>() -> Listed<T> {
        let (count, first) = (0, Vec::new());
        Listed { count, first }
    }
    let brokers = state.listed.iter().map(|listed| ClusterBroker {
        broker_id: listed.broker_id,
        address: listed.address.clone(),
        rack: state.racks.get(&listed.broker_id).cloned(),
        directory_id: Default::default(),
        incarnation: 1,
        state: BrokerState::Live,
        silent_ms: Some(0),
        leads: 0,
        active: None,
        keeps: 0,
        stuck: 0,
        report: None,
    });
    ClusterDescription {
        cluster_id: None,
        feature_level: 1,
        told_by,
        controller: None,
        quorum: QuorumDescription {
            term: 1,
            leader: None,
            members: Vec::new(),
            majority_silent_ms: None,
        },
        brokers: brokers.collect(),
        partitions: 0,
        offline: nothing(),
        under_replicated: nothing(),
        changing: nothing(),
    }
}

fn describe_topics(
    state: &mut State,
    request: DescribeTopics,
) -> Result<DescribeTopicsResponse, WireError> {
    let mut names: Vec<_> = match request.topics {
        TopicSelection::Named(names) => names,
        TopicSelection::All | TopicSelection::AllWithInternal => {
            state.topics.keys().cloned().collect()
        }
    };
    names.sort();
    names.retain(|name| request.after.as_ref().is_none_or(|after| name > after));
    // Two at a time, so that a longer listing has several parts.
    let topics: Result<_, _> = names
        .iter()
        .take(2)
        .map(|name| {
            let mut described = state.topic(name)?.describe(name);
            for partition in &mut described.partitions {
                if !state.replicas.is_empty() {
                    partition.replicas.clone_from(&state.replicas);
                }
                partition.untrusted.clone_from(&state.untrusted);
            }
            Ok(described)
        })
        .collect();
    Ok(DescribeTopicsResponse {
        topics: topics?,
        more: names.len() > 2,
    })
}

fn listed(
    state: &mut State,
    at: u32,
    topic: &str,
    partition: u32,
    position: Position,
) -> Result<ListedOffset, WireError> {
    state.leader(at, topic, partition)?;
    let found = state.partition(topic, partition)?;
    let (log_start_offset, high_watermark) = (found.log_start_offset, found.end_offset);
    let offset = match position {
        Position::Earliest => log_start_offset,
        Position::Latest | Position::Time(_) => high_watermark,
        Position::Offset(offset) => offset,
    };
    Ok(ListedOffset {
        partition,
        offset,
        log_start_offset,
        high_watermark,
    })
}

fn deployment(state: &State, name: &str) -> Result<DeploymentDescription, WireError> {
    let unknown = || error(ErrorCode::UnknownDeployment, "unknown deployment");
    let (spec, component) = state.deployments.get(name).ok_or_else(unknown)?;
    Ok(DeploymentDescription {
        spec: spec.clone(),
        revision: 1,
        digest: "00".to_owned(),
        component_bytes: component.len() as u64,
        deployed_at_ms: 0,
        imports: Vec::new(),
        workers: Vec::new(),
        activity: Activity::Active,
        latency: None,
        deployed_by: "client".to_owned(),
        change: RevisionChange::Deployed,
        shadow_of: None,
        config_unasked: Vec::new(),
        tables: Vec::new(),
    })
}

/// As many lines as asked for; with `follow`, then nothing more comes and the stream stays open.
async fn plugin_logs(mut sender: FrameSender, shared: &Shared, open: OpenPluginLogs) {
    if let Err(unknown) = shared.change(|state| deployment(state, &open.name)) {
        let _ = sender.send(&Err::<PluginLogLine, _>(unknown)).await;
        return;
    }
    for number in 0..open.tail {
        let line = PluginLogLine {
            at_ms: i64::from(number),
            level: LogLevel::Info,
            topic: "in".to_owned(),
            partition: 0,
            context: "stdout".to_owned(),
            message: format!("line {number}"),
        };
        if sender.send(&Ok::<_, WireError>(line)).await.is_err() {
            return;
        }
    }
    if open.follow == Follow::Yes {
        let _ = sender.stopped().await;
    }
}
