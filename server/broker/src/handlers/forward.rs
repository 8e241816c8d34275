//! Passing a client's request on to the broker that can answer it: one address is enough for a client.
//!
//! What belongs to one partition goes to its leader, what belongs to groups to the leader of their
//! log, and so do changes of secrets; changes of deployments go to the leader of the components' log. The stream is passed
//! on as it is, both ways, until it ends, or until the metadata says that the other broker is gone or answers
//! for this no more: one that was killed does not say so itself.

use std::collections::BTreeMap;

use bytes::Bytes;
use millstream_metadata::Image;
use millstream_protocol::api::fetch::FetchPartition;
use millstream_protocol::api::plugin::FailureAction;
use millstream_protocol::api::{Request, RequestFrame};
use millstream_protocol::{ErrorCode, PartitionIndex, WireError};
use millstream_transport::{FrameReceiver, FrameSender, StreamCode, relay};

use crate::cluster::Cluster;
use crate::context::Context;
use crate::handlers::StreamEnd;
use crate::handlers::group::Silence;
use crate::internal::{ARTEFACTS_PARTITION, GROUPS_PARTITION};
use crate::session::Session;

/// The broker that is to answer a request, if it is not this one.
pub(super) fn elsewhere(context: &Context, request: &Request) -> Option<u32> {
    elsewhere_in(&context.controller.image(), context.me(), request)
}

fn elsewhere_in(image: &Image, me: u32, request: &Request) -> Option<u32> {
    let leader = match request {
        Request::OpenProduce(it) => leader(image, &it.topic, it.partition),
        Request::DeleteRecords(it) => leader(image, &it.topic, it.partition),
        Request::Fetch(it) => common_leader(image, &it.partitions),
        Request::OpenFetch(it) => common_leader(image, &it.partitions),
        Request::OpenGroup(_)
        | Request::ListGroups(_)
        | Request::DescribeGroup(_)
        | Request::CommitOffsets(_)
        | Request::FetchOffsets(_)
        | Request::ResetGroup(_)
        | Request::DeleteGroup(_)
        | Request::SetSecret(_)
        | Request::RemoveSecret(_) => image.partition(GROUPS_PARTITION).map(|it| it.leader),
        Request::DeployPlugin(_)
        | Request::RemoveDeployment(_)
        | Request::PauseDeployment(_)
        | Request::ResumeDeployment(_)
        | Request::RollBackDeployment(_)
        | Request::ReplayDeployment(_)
        | Request::PromoteDeployment(_) => image.partition(ARTEFACTS_PARTITION).map(|it| it.leader),
        Request::RetryDeadLetters(it) => {
            dead_letters(image, &it.name).and_then(|topic| leader(image, topic, it.partition))
        }
        _ => None,
    };
    leader.filter(|leader| *leader != me)
}

/// The topic with the dead letters of a deployment.
fn dead_letters<'a>(image: &'a Image, deployment: &str) -> Option<&'a str> {
    match &image.deployment(deployment)?.spec.on_failure.finally {
        FailureAction::DeadLetter { topic } => Some(topic),
        FailureAction::Skip | FailureAction::Pause => None,
    }
}

fn leader(image: &Image, topic: &str, partition: PartitionIndex) -> Option<u32> {
    let placed = image.topic(topic)?.partitions.get(partition as usize)?;
    Some(placed.leader)
}

/// Whether a request only reads records: if their leader cannot be reached, what is known here can be read.
pub(super) fn is_read(request: &Request) -> bool {
    matches!(request, Request::Fetch(_) | Request::OpenFetch(_))
}

/// The leader of all these partitions, if it is one.
fn common_leader(image: &Image, partitions: &[FetchPartition]) -> Option<u32> {
    let mut leaders = partitions
        .iter()
        .map(|it| leader(image, &it.topic, it.partition));
    let first = leaders.next()??;
    leaders.all(|it| it == Some(first)).then_some(first)
}

/// Which of the partitions that a request names each broker leads, by their places in the request. Those
/// that nobody is known to lead are this broker's to refuse.
pub(super) fn by_leader<'a>(
    context: &Context,
    partitions: impl Iterator<Item = (&'a str, PartitionIndex)>,
) -> BTreeMap<u32, Vec<usize>> {
    let image = context.controller.image();
    let mut parts: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for (place, (topic, partition)) in partitions.enumerate() {
        let leader = leader(&image, topic, partition).unwrap_or(context.me());
        parts.entry(leader).or_default().push(place);
    }
    parts
}

/// The same of those that are to be fetched.
pub(super) fn parts(context: &Context, asked: &[FetchPartition]) -> BTreeMap<u32, Vec<usize>> {
    by_leader(context, asked.iter().map(|it| (&*it.topic, it.partition)))
}

/// The streams to the broker that is to answer a request.
pub(super) type Streams = (FrameSender, FrameReceiver);

/// Passes a request on, if the other broker does not go meanwhile.
pub(super) async fn open(
    context: &Context,
    to: u32,
    frame: RequestFrame,
    payload: Bytes,
) -> Result<Streams, WireError> {
    let request = frame.request.clone();
    tokio::select! {
        opened = context.cluster.open(to, frame, payload) => opened,
        () = moved(&context.cluster, to, &request) => Err(answers_no_more(to)),
    }
}

/// Passes on everything that follows on a client's stream whose request was passed on, both ways.
pub(super) async fn pass_on(
    context: &Context,
    session: &Session,
    (to, request): (u32, &Request),
    (mut to_peer, mut from_peer): Streams,
    (sender, receiver): (&mut FrameSender, &mut FrameReceiver),
) -> Result<(), StreamEnd> {
    let passing = async {
        let (there, back) =
            tokio::join!(relay(receiver, &mut to_peer), relay(&mut from_peer, sender));
        tracing::trace!(?there, ?back, "a stream that was passed on has ended");
    };
    let silent = async {
        match request {
            // Its broker hears of this broker only: whether the member is silent is seen here.
            Request::OpenGroup(_) => Silence::new(session).watch().await,
            _ => std::future::pending().await,
        }
    };
    tokio::select! {
        () = passing => return Ok(()),
        end = silent => return Err(end),
        () = moved(&context.cluster, to, request) => {}
    }
    tracing::debug!(
        broker = to,
        "a stream was passed on to a broker that is gone or answers for it no more"
    );
    // The client may have got a part of a frame: there is no place for a word.
    sender.reset(StreamCode::Dropped);
    Err(StreamEnd::Gone)
}

/// Waits until another broker than this is to answer a request, or this one is gone.
pub(super) async fn moved(cluster: &Cluster, from: u32, request: &Request) {
    let moved = |image: &Image| {
        !image.is_live(from) || elsewhere_in(image, cluster.me(), request) != Some(from)
    };
    cluster.until(moved).await;
}

/// It has.
pub(super) fn answers_no_more(broker: u32) -> WireError {
    WireError::new(
        ErrorCode::NotLeader,
        format!("broker {broker} was to answer this, and is gone or does so no more"),
    )
}
