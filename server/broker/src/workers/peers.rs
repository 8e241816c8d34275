//! What brokers ask of each other for deployments, whose workers are on all of them.
//!
//! A request and its answer are postcard: brokers of one cluster agree on what they are by the feature
//! level. Where a broker is gone, or does not answer in time, what it would have told is left out.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use millstream_peer::PeerService;
use millstream_peer::limits::MAX_CALL_BYTES;
use millstream_protocol::api::metrics::DescribePluginMetrics;
use millstream_protocol::api::offsets::Position;
use millstream_protocol::limits::MAX_COMPONENT_BYTES;
use millstream_protocol::{
    ErrorCode, Offset, PartitionIndex, ProducerId, TopicPartition, WireError,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::Deployments;
use super::steer::Steer;
use crate::cluster::Cluster;
use crate::cluster::ask::unreachable;
use crate::config::ASK_LIMIT;
use crate::context::Context;
use crate::errors;
use crate::groups::resolve_within;
use crate::internal::ARTEFACTS_PARTITION;
use crate::leaders;
use crate::secrets::Secret;
use crate::workers::worker::Again;

/// How long others may take to have their workers as a change wants them. Who takes longer does it all the
/// same, and is not waited for.
pub(crate) const SETTLE_LIMIT: Duration = Duration::from_secs(20);

/// What one answer has of a component, bytes: few pieces, because each has all of it read.
const COMPONENT_PIECE_BYTES: usize = 8 << 20;

const _: () = assert!(COMPONENT_PIECE_BYTES < MAX_CALL_BYTES);

/// Deployments that one request asks about.
const MAX_DEPLOYMENTS_ASKED: usize = 1_000;

/// What a broker asks of another.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum WorkersRequest {
    /// Of the leader of a partition: the last sequence that its log has of a worker's producer, if any.
    LastSequence {
        partition: TopicPartition,
        producer_id: ProducerId,
    },
    /// Of the groups' coordinator: where a group was reset to in a partition, where no worker has gone yet.
    ResetTo {
        group: String,
        partition: TopicPartition,
    },
    /// Of the leader of the components' log: a piece of one, from there on, and how many bytes it has.
    Component { digest: String, have: u32 },
    /// Waits until the deployments are as the metadata has them at an index.
    Follow { index: u64 },
    /// Waits until the groups' coordinator knows the topics as the metadata has them at an index.
    GroupsFollow { index: u64 },
    /// What is known of the workers of these deployments.
    Describe { names: Vec<String> },
    /// What the workers of one have measured, some of them.
    Metrics(DescribePluginMetrics),
    /// Has the workers of a deployment that stand still go on.
    Resume { name: String },
    /// Hands records back to a worker.
    TryAgain {
        name: String,
        topic: String,
        partition: PartitionIndex,
        again: Again,
    },
    /// Of the leader of a partition: how far that reaches.
    Extent(TopicPartition),
    /// Of the leader of a partition: whole batches from an offset on.
    Read {
        partition: TopicPartition,
        offset: Offset,
        max_bytes: u32,
    },
    /// Of the leader of a partition: the offset of a position.
    Resolve(TopicPartition, Position),
    /// Of the leader of a partition: the timestamp of the record at an offset, or of the next one.
    TimeAt(TopicPartition, Offset),
    /// Tells what is kept under the names of secrets now.
    TakeSecrets(Vec<(String, Secret)>),
    /// What is kept under names of secrets, behind one.
    Secrets { after: Option<String> },
    /// Steers the workers of a deployment for a while.
    Steer { name: String, steer: Steer },
}

impl Cluster {
    /// Asks another broker.
    pub(crate) async fn ask_workers<T: DeserializeOwned>(
        &self,
        to: u32,
        request: &WorkersRequest,
        limit: Duration,
    ) -> Result<T, WireError> {
        let links = self
            .links()
            .ok_or_else(|| unreachable(to, &"this broker opens no connections"))?;
        let request = postcard::to_allocvec(request).map_err(internal)?;
        let called = links.call(to, PeerService::Workers, request.into(), limit);
        let answer = called.await.map_err(|error| match error {
            millstream_peer::CallError::Refused(error) => error,
            error => unreachable(to, &error),
        })?;
        postcard::from_bytes(&answer).map_err(|error| unreachable(to, &error))
    }
}

/// Answers another broker, which has been checked.
pub(crate) async fn answer(context: &Context, request: &[u8]) -> Result<Bytes, WireError> {
    let request: WorkersRequest = postcard::from_bytes(request).map_err(|error| {
        WireError::new(
            ErrorCode::MalformedFrame,
            format!("a broker's request is not understood: {error}"),
        )
    })?;
    let (deployments, partitions) = (&context.deployments, &context.partitions);
    match request {
        WorkersRequest::LastSequence {
            partition,
            producer_id,
        } => {
            let led = leaders::led(partitions, partition)?;
            encode(&led.last_sequence(producer_id).await?)
        }
        WorkersRequest::ResetTo { group, partition } => {
            let reset_to = context.groups.read(move |c| c.reset_to(&group, partition));
            encode(&reset_to.await?)
        }
        WorkersRequest::Component { digest, have } => {
            let component = deployments.artefacts.load(&digest).await?;
            let from = (have as usize).min(component.len());
            let until = component.len().min(from + COMPONENT_PIECE_BYTES);
            let piece = component.get(from..until).unwrap_or_default();
            encode(&(component.len() as u64, piece))
        }
        WorkersRequest::Follow { index } => {
            let followed = timeout(SETTLE_LIMIT, deployments.followed(index)).await;
            encode(&followed.map_err(|_| errors::not_ready("the workers have not followed yet"))?)
        }
        WorkersRequest::GroupsFollow { index } => {
            let followed = timeout(ASK_LIMIT, context.groups.followed(index)).await;
            encode(&followed.map_err(|_| errors::not_ready("the groups have not followed yet"))?)
        }
        WorkersRequest::Describe { names } => {
            if names.len() > MAX_DEPLOYMENTS_ASKED {
                return Err(errors::invalid("too many deployments are asked about"));
            }
            encode(&deployments.parts(&names))
        }
        WorkersRequest::Metrics(wanted) => encode(&deployments.own_metrics(&wanted)),
        WorkersRequest::Resume { name } => {
            deployments.resume_own(&name);
            encode(&())
        }
        WorkersRequest::TryAgain {
            name,
            topic,
            partition,
            again,
        } => encode(
            &deployments
                .try_again_here(&name, (topic, partition), again)
                .await?,
        ),
        WorkersRequest::Extent(of) => encode(&leaders::extent(&leaders::led(partitions, of)?)),
        WorkersRequest::Read {
            partition,
            offset,
            max_bytes,
        } => {
            let led = leaders::led(partitions, partition)?;
            encode(&leaders::piece(&led, offset, max_bytes).await?)
        }
        WorkersRequest::Resolve(of, position) => {
            let led = leaders::led(partitions, of)?;
            encode(&resolve_within(&led, position).await)
        }
        WorkersRequest::TimeAt(of, offset) => {
            let led = leaders::led(partitions, of)?;
            encode(&leaders::time_at(&led, offset).await?)
        }
        WorkersRequest::TakeSecrets(secrets) => encode(&context.secrets.merge(secrets).await?),
        WorkersRequest::Secrets { after } => encode(&context.secrets.some(after.as_deref())),
        WorkersRequest::Steer { name, steer } => {
            encode(&deployments.steer_own(&name, steer).await?)
        }
    }
}

fn encode<T: Serialize>(answer: &T) -> Result<Bytes, WireError> {
    postcard::to_allocvec(answer)
        .map(Bytes::from)
        .map_err(internal)
}

fn internal(error: postcard::Error) -> WireError {
    WireError::new(ErrorCode::Internal, error.to_string())
}

impl Deployments {
    /// Asks all others, and gives what those have said that have answered, with who they are.
    pub(super) async fn ask_others<T: DeserializeOwned>(
        &self,
        request: &WorkersRequest,
        limit: Duration,
    ) -> Vec<(u32, Result<T, WireError>)> {
        let asked = self.cluster.others().into_iter().map(|broker| async move {
            let answer = self.cluster.ask_workers(broker, request, limit).await;
            if let Err(error) = &answer {
                tracing::debug!(broker, %error, "a broker does not answer for its workers");
            }
            (broker, answer)
        });
        join_all(asked).await
    }

    /// Waits until all brokers have their workers as the metadata has them now. Who is gone, or takes too
    /// long, is not waited for: it follows when it can.
    pub(super) async fn settled(&self) {
        let Some(index) = self.controller.quorum.applied().index else {
            return;
        };
        let request = WorkersRequest::Follow { index };
        let (here, others) = tokio::join!(
            timeout(SETTLE_LIMIT, self.followed(index)),
            self.ask_others::<()>(&request, SETTLE_LIMIT),
        );
        let late = others.iter().filter(|(_, answer)| answer.is_err());
        let mut late: BTreeSet<u32> = late.map(|(broker, _)| *broker).collect();
        if here.is_err() {
            late.insert(self.broker_id);
        }
        if !late.is_empty() {
            tracing::warn!(?late, "brokers whose workers do not follow a change yet");
        }
    }

    /// A component: from this broker's log, if it leads that, or from who does.
    pub(super) async fn component(&self, digest: &str) -> Result<Bytes, WireError> {
        let leader = self.leaders.of(ARTEFACTS_PARTITION);
        let leader = leader.unwrap_or(self.broker_id);
        if leader == self.broker_id {
            return self.artefacts.load(digest).await;
        }
        let mut component: Vec<u8> = Vec::new();
        loop {
            let request = WorkersRequest::Component {
                digest: digest.to_owned(),
                have: component.len() as u32,
            };
            let asked = self.cluster.ask_workers(leader, &request, ASK_LIMIT);
            let (total, piece): (u64, Vec<u8>) = asked.await?;
            let limit = MAX_COMPONENT_BYTES as u64;
            let has = (component.len() + piece.len()) as u64;
            if total > limit || has > total || piece.is_empty() && has < total {
                return Err(unreachable(leader, &"it answers with what is no component"));
            }
            component.extend_from_slice(&piece);
            if has == total {
                break;
            }
        }
        if millstream_runtime::digest(&component) != digest {
            return Err(unreachable(leader, &"it answers with another component"));
        }
        Ok(component.into())
    }
}
