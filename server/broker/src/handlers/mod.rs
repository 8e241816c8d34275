//! One file per API family: each takes a decoded request and answers it, or serves its stream.

mod cluster;
pub(crate) mod fetch;
mod forward;
mod gather;
pub(crate) mod group;
pub(crate) mod hello;
mod intake;
pub(crate) mod lifecycle;
pub(crate) mod offsets;
mod outputs;
pub(crate) mod plugin;
pub(crate) mod produce;
mod secret;
pub(crate) mod state;
pub(crate) mod topic;

use std::sync::Arc;

use bytes::Bytes;
use millstream_protocol::api::peer::{PeerCalled, PeerService};
use millstream_protocol::api::{MAX_HOPS, Request, RequestFrame};
use millstream_protocol::frame::FrameError;
use millstream_protocol::limits::MAX_COMPONENT_BYTES;
use millstream_protocol::{ErrorCode, WireError};
use millstream_transport::{FrameReceiver, FrameSender, ReceiveError, SendError};
use serde::Serialize;
use tokio::time::timeout;

use crate::config::UPLOAD_LIMIT;
use crate::context::{Front, ReadFrom};
use crate::errors;
use crate::session::Session;
use crate::workers::peers;

/// Why a stream ended before its time.
#[derive(Debug)]
pub(crate) enum StreamEnd {
    /// The peer is told this, and the stream is closed.
    Refused(WireError),
    /// The peer is gone, or wants no more: there is nobody to tell.
    Gone,
}

impl From<WireError> for StreamEnd {
    fn from(error: WireError) -> Self {
        Self::Refused(error)
    }
}

impl From<FrameError> for StreamEnd {
    fn from(error: FrameError) -> Self {
        Self::Refused(WireError::new(ErrorCode::Internal, error.to_string()))
    }
}

impl From<SendError> for StreamEnd {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Frame(error) => error.into(),
            _ => Self::Gone,
        }
    }
}

impl From<ReceiveError> for StreamEnd {
    fn from(error: ReceiveError) -> Self {
        error.to_wire_error().map_or(Self::Gone, Self::Refused)
    }
}

/// Serves one stream from its first frame to its end.
pub(crate) async fn serve(
    front: &Front,
    session: &Arc<Session>,
    mut sender: FrameSender,
    mut receiver: FrameReceiver,
) {
    if let Err(StreamEnd::Refused(error)) = answer(front, session, &mut sender, &mut receiver).await
    {
        tracing::debug!(peer = %session.peer(), code = ?error.code, %error, "request refused");
        // The peer may have gone while it was being refused.
        let _ = sender.send(&Err::<(), _>(error)).await;
    }
    let _ = sender.finish().await;
}

async fn answer(
    front: &Front,
    session: &Arc<Session>,
    sender: &mut FrameSender,
    receiver: &mut FrameReceiver,
) -> Result<(), StreamEnd> {
    let received = receiver.receive_body(MAX_COMPONENT_BYTES).await?;
    let Some((RequestFrame { hops, request }, payload_bytes)) = received else {
        return Ok(());
    };
    check_order(session, hops, &request)?;
    check_payload(&request, payload_bytes)?;
    let request = match request {
        Request::Hello(request) => {
            let answer = hello::hello(&front.data_dir, session, request);
            return Reply(sender).with(answer).await;
        }
        Request::OpenReplication(request) => {
            receiver.receive_payload().await?;
            let cluster = &front.cluster;
            return cluster
                .serve_replication(session, request, sender, receiver)
                .await;
        }
        Request::CallPeer(call) => {
            let payload = receiver.receive_payload().await?.freeze();
            // A broker that has stood still finds calls of which nobody awaits an answer any more: what was asked for
            // since must not be undone by them.
            tokio::select! {
                biased;
                _ = sender.stopped() => return Err(StreamEnd::Gone),
                () = std::future::ready(()) => {}
            }
            let answer = match call.service {
                PeerService::Workers => {
                    front.cluster.check(session, &call.introduction)?;
                    peers::answer(front.context()?, &payload).await?
                }
                PeerService::Consensus | PeerService::Cluster => {
                    front.cluster.answer(session, call, payload).await?
                }
            };
            return Reply(sender)
                .with_payload(PeerCalled {}, vec![answer])
                .await;
        }
        request => request,
    };
    let context = front.context()?;
    // A component is large: no more are received at once than can be worked on soon.
    let _upload = match payload_bytes {
        0 => None,
        _ => Some(context.uploads.acquire().await.map_err(errors::stopping)?),
    };
    let mut payload = timeout(UPLOAD_LIMIT, receiver.receive_payload())
        .await
        .map_err(|_| errors::too_slow(payload_bytes))??;
    let mut from = ReadFrom::Leader;
    if let Some(to) = forward::elsewhere(context, &request) {
        let frame = RequestFrame {
            hops,
            request: request.clone(),
        };
        match forward::open(context, to, frame, payload.split().freeze()).await {
            Err(error) if error.code == ErrorCode::NotReady && forward::is_read(&request) => {
                tracing::debug!(%error, "a reader gets what is known here");
                from = ReadFrom::Anybody;
            }
            opened => {
                let (asked, streams) = ((to, &request), (sender, receiver));
                return forward::pass_on(context, session, asked, opened?, streams).await;
            }
        }
    }
    let reply = &mut Reply(sender);
    // For what is changed in a task of its own.
    let (shared, by) = (Arc::clone(context), Arc::clone(session));
    match request {
        Request::Hello(_) | Request::OpenReplication(_) | Request::CallPeer(_) => Ok(()),
        Request::DescribeBroker(_) => reply.with(Ok(hello::describe(context))).await,
        Request::DescribeTopics(request) => {
            reply
                .with(topic::describe(context, hops, request).await)
                .await
        }
        Request::CreateTopic(request) => {
            let change = async move { topic::create(&shared, request).await };
            reply.with(whole(change).await).await
        }
        Request::AlterTopic(request) => {
            let change = async move { topic::alter(&shared, request).await };
            reply.with(whole(change).await).await
        }
        Request::DeleteTopic(request) => {
            let change = async move { topic::delete(&shared, request).await };
            reply.with(whole(change).await).await
        }
        Request::ListOffsets(request) => {
            reply
                .with(offsets::list(context, hops, request).await)
                .await
        }
        Request::DeleteRecords(request) => {
            reply
                .with(offsets::delete_records(context, request).await)
                .await
        }
        Request::InitProducer(request) => reply.with(produce::init(context, request).await).await,
        Request::OpenProduce(request) => produce::open(context, request, reply.0, receiver).await,
        Request::Fetch(request) => {
            let (response, payload) = fetch::fetch(context, request, from).await?;
            reply.with_payload(response, payload).await
        }
        Request::OpenFetch(request)
            if from == ReadFrom::Leader
                && forward::parts(context, &request.partitions).len() > 1 =>
        {
            gather::open(context, hops, request, (reply.0, receiver)).await
        }
        Request::OpenFetch(request) => {
            fetch::open(context, request, from, (reply.0, receiver)).await
        }
        Request::OpenReplicaFetch(request) => {
            fetch::open(context, request, ReadFrom::Counting, (reply.0, receiver)).await
        }
        Request::OpenGroup(request) => {
            group::open(context, session, request, reply.0, receiver).await
        }
        Request::ListGroups(request) => reply.with(group::list(context, request).await).await,
        Request::DescribeGroup(request) => {
            reply.with(group::describe(context, request).await).await
        }
        Request::CommitOffsets(request) => reply.with(group::commit(context, request).await).await,
        Request::FetchOffsets(request) => reply.with(group::offsets(context, request).await).await,
        Request::ResetGroup(request) => {
            let change = async move { group::reset(&shared, request).await };
            reply.with(whole(change).await).await
        }
        Request::DeleteGroup(request) => {
            let change = async move { group::delete(&shared, request).await };
            reply.with(whole(change).await).await
        }
        Request::DeployPlugin(request) => {
            let component = payload.freeze();
            let change = async move { plugin::deploy(&shared, &by, request, component).await };
            reply.with(whole(change).await).await
        }
        Request::ListDeployments(request) => reply.with(plugin::list(context, request).await).await,
        Request::DescribeDeployment(request) => {
            reply.with(plugin::describe(context, request).await).await
        }
        Request::RemoveDeployment(request) => {
            let change = async move { plugin::remove(&shared, request).await };
            reply.with(whole(change).await).await
        }
        Request::ResumeDeployment(request) => {
            let change = async move { lifecycle::resume(&shared, request).await };
            reply.with(whole(change).await).await
        }
        Request::RetryDeadLetters(request) => {
            let change = async move { plugin::retry_dead_letters(&shared, request).await };
            reply.with(whole(change).await).await
        }
        Request::PauseDeployment(request) => {
            let change = async move { lifecycle::pause(&shared, request).await };
            reply.with(whole(change).await).await
        }
        Request::DescribePluginMetrics(request) => {
            reply.with(lifecycle::metrics(context, request).await).await
        }
        Request::ListRevisions(request) => reply.with(lifecycle::revisions(context, request)).await,
        Request::RollBackDeployment(request) => {
            let change = async move { lifecycle::roll_back(&shared, &by, request).await };
            reply.with(whole(change).await).await
        }
        Request::ReplayDeployment(request) => {
            let component = payload.freeze();
            let change = async move { lifecycle::replay(&shared, &by, request, component).await };
            reply.with(whole(change).await).await
        }
        Request::DescribeReplay(request) => {
            reply
                .with(lifecycle::describe_replay(context, request))
                .await
        }
        Request::PromoteDeployment(request) => {
            let change = async move { lifecycle::promote(&shared, &by, request).await };
            reply.with(whole(change).await).await
        }
        Request::SetSecret(request) => {
            let change = async move { secret::set(&shared, request).await };
            reply.with(whole(change).await).await
        }
        Request::ListSecrets(_) => reply.with(Ok(secret::list(context))).await,
        Request::RemoveSecret(request) => {
            let change = async move { secret::remove(&shared, request).await };
            reply.with(whole(change).await).await
        }
        Request::IssueTicket(request) => {
            let change = async move { cluster::issue_ticket(&shared, &by, request).await };
            reply.with(whole(change).await).await
        }
        Request::DescribeBrokers(_) => reply.with(cluster::describe_brokers(context)).await,
        Request::DescribeCluster(request) => {
            reply
                .with(cluster::describe(context, hops, request).await)
                .await
        }
        Request::DescribeReplicas(request) => {
            reply.with(cluster::describe_own(context, request)).await
        }
        Request::DrainBroker(request) => {
            let change = async move { cluster::drain_broker(&shared, request).await };
            reply.with(whole(change).await).await
        }
        Request::UndrainBroker(request) => {
            let change = async move { cluster::undrain_broker(&shared, request).await };
            reply.with(whole(change).await).await
        }
        Request::RemoveBroker(request) => {
            let change = async move { cluster::remove_broker(&shared, request).await };
            reply.with(whole(change).await).await
        }
        Request::RebalanceCluster(_) => {
            let change = async move { cluster::rebalance_cluster(&shared).await };
            reply.with(whole(change).await).await
        }
        Request::AcceptLoss(request) => {
            let change = async move { cluster::accept_loss(&shared, &by, hops, request).await };
            reply.with(whole(change).await).await
        }
        Request::OpenPluginLogs(request) => plugin::logs(context, hops, request, reply.0).await,
        Request::OpenState(request) => state::open(context, hops, request, reply.0).await,
        Request::OpenOutputs(request) => {
            outputs::open(context, session, request, reply.0, receiver).await
        }
        Request::OpenHostedMember(request) => {
            group::open_hosted(context, session, request, reply.0, receiver).await
        }
    }
}

/// Makes a change as a whole, although the client may go away in between: in a task of its own, which the
/// end of the connection does not cut off.
async fn whole<T: Send + 'static>(
    change: impl Future<Output = Result<T, WireError>> + Send + 'static,
) -> Result<T, WireError> {
    tokio::spawn(change).await.map_err(errors::unfinished)?
}

/// The one answer of a unary request.
struct Reply<'a>(&'a mut FrameSender);

impl Reply<'_> {
    async fn with<T: Serialize>(&mut self, result: Result<T, WireError>) -> Result<(), StreamEnd> {
        self.with_payload(result?, Vec::new()).await
    }

    async fn with_payload<T: Serialize>(
        &mut self,
        response: T,
        payload: Vec<Bytes>,
    ) -> Result<(), StreamEnd> {
        Ok(self
            .0
            .send_with_payload(&Ok::<_, WireError>(response), payload)
            .await?)
    }
}

fn check_order(session: &Session, hops: u8, request: &Request) -> Result<(), WireError> {
    if hops > MAX_HOPS {
        return Err(WireError::new(
            ErrorCode::NotLeader,
            format!("the request was passed on {hops} times, more than {MAX_HOPS}"),
        ));
    }
    if !session.is_open() && !matches!(request, Request::Hello(_)) {
        return Err(WireError::new(
            ErrorCode::HandshakeRequired,
            "the first request on a connection is the version handshake",
        ));
    }
    Ok(())
}

fn check_payload(request: &Request, bytes: usize) -> Result<(), WireError> {
    if bytes == 0
        || matches!(
            request,
            Request::DeployPlugin(_) | Request::ReplayDeployment(_) | Request::CallPeer(_)
        )
    {
        return Ok(());
    }
    Err(WireError::new(
        ErrorCode::MalformedFrame,
        format!("{bytes} bytes of payload behind a request without payload"),
    ))
}

/// Refuses a request with too many items of one kind.
pub(crate) fn check_items(what: &str, found: usize, limit: usize) -> Result<(), WireError> {
    if found == 0 {
        return Err(WireError::new(
            ErrorCode::InvalidRequest,
            format!("the request names no {what}"),
        ));
    }
    if found > limit {
        return Err(WireError::new(
            ErrorCode::InvalidRequest,
            format!("the request has {found} {what}, more than {limit}"),
        ));
    }
    Ok(())
}
