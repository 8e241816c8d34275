//! Passing a client's request on to the broker that can answer it: one address is enough for a client.
//!
//! What belongs to one partition goes to its leader, what belongs to groups to the leader of their
//! log. The stream is passed on as it is, both ways, until it ends, or until the metadata says that the other
//! broker is gone or answers for this no more: one that was killed does not say so itself.

use std::collections::BTreeMap;

use bytes::Bytes;
use millstream_metadata::Image;
use millstream_protocol::api::fetch::FetchPartition;
use millstream_protocol::api::{MAX_HOPS, Request, RequestFrame, Unary};
use millstream_protocol::{ErrorCode, PartitionIndex, WireError};
use millstream_transport::{FrameReceiver, FrameSender, StreamCode, relay};
use tokio::time::timeout;

use crate::config::{ASK_LIMIT, FORWARD_LIMIT};
use crate::context::Context;
use crate::handlers::StreamEnd;
use crate::handlers::group::Silence;
use crate::internal::GROUPS_PARTITION;
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
        | Request::DeleteGroup(_) => image.partition(GROUPS_PARTITION).map(|it| it.leader),
        _ => None,
    };
    leader.filter(|leader| *leader != me)
}

fn leader(image: &Image, topic: &str, partition: PartitionIndex) -> Option<u32> {
    let placed = image.topic(topic)?.partitions.get(partition as usize)?;
    Some(placed.leader)
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
pub(super) fn by_leader(
    context: &Context,
    topic: &str,
    partitions: impl Iterator<Item = PartitionIndex>,
) -> BTreeMap<u32, Vec<usize>> {
    let image = context.controller.image();
    let mut parts: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for (place, partition) in partitions.enumerate() {
        let leader = leader(&image, topic, partition).unwrap_or(context.me());
        parts.entry(leader).or_default().push(place);
    }
    parts
}

/// Asks another broker for a part of what a client has asked, in a request that was passed on `hops`
/// times.
pub(super) async fn ask<R: Unary>(
    context: &Context,
    to: u32,
    hops: u8,
    request: R,
) -> Result<R::Response, WireError> {
    let request = request.into();
    let frame = RequestFrame { hops, request };
    let asking = async {
        let (mut sender, mut receiver) = open(context, to, frame, Bytes::new()).await?;
        let answering = async {
            // An answer may come before the end has gone out.
            let _ = sender.finish().await;
            receiver.receive::<Result<R::Response, WireError>>(0).await
        };
        let answer = timeout(ASK_LIMIT, answering).await;
        let answer = answer.map_err(|_| unreachable(to, &"it does not answer"))?;
        let answer = answer.map_err(|error| unreachable(to, &error))?;
        answer
            .ok_or_else(|| unreachable(to, &"it has not answered"))?
            .body
    };
    tokio::select! {
        answer = asking => answer,
        () = until(context, |image| is_gone(image, to)) => Err(unreachable(to, &"it is gone")),
    }
}

/// Passes a request on, and everything that follows on its stream.
pub(super) async fn forward(
    context: &Context,
    session: &Session,
    to: u32,
    frame: RequestFrame,
    payload: Bytes,
    streams: (&mut FrameSender, &mut FrameReceiver),
) -> Result<(), StreamEnd> {
    let (sender, receiver) = streams;
    let is_member = matches!(frame.request, Request::OpenGroup(_));
    let request = frame.request.clone();
    let moved = until(context, |image| {
        is_gone(image, to) || elsewhere_in(image, context.me(), &request) != Some(to)
    });
    tokio::pin!(moved);
    let opened = tokio::select! {
        opened = open(context, to, frame, payload) => opened,
        () = &mut moved => Err(WireError::new(
            ErrorCode::NotLeader,
            format!("broker {to} was to answer this, and is gone or does so no more"),
        )),
    };
    let (mut to_peer, mut from_peer) = opened?;
    let passing = async {
        let (there, back) =
            tokio::join!(relay(receiver, &mut to_peer), relay(&mut from_peer, sender));
        tracing::trace!(?there, ?back, "a stream that was passed on has ended");
    };
    let silent = async {
        match is_member {
            // Its broker hears of this broker only: whether the member is silent is seen here.
            true => Silence::new(session).watch().await,
            false => std::future::pending().await,
        }
    };
    tokio::select! {
        () = passing => return Ok(()),
        end = silent => return Err(end),
        () = moved => {}
    }
    tracing::debug!(
        broker = to,
        "a stream was passed on to a broker that is gone or answers for it no more"
    );
    // The client may have got a part of a frame: there is no place for a word.
    sender.reset(StreamCode::Dropped);
    Err(StreamEnd::Gone)
}

/// Waits until the image is such.
async fn until(context: &Context, mut holds: impl FnMut(&Image) -> bool) {
    let mut images = context.controller.quorum.watch();
    while !holds(&images.borrow_and_update().image) {
        if images.changed().await.is_err() {
            // This broker stops, and ends its streams itself.
            return std::future::pending().await;
        }
    }
}

/// Whether a broker answers nobody: it is not there, as far as is known.
fn is_gone(image: &Image, broker: u32) -> bool {
    !image.broker(broker).is_some_and(|it| it.state.is_live())
}

/// Opens a stream to another broker with a client's request, passed on once more.
pub(super) async fn open(
    context: &Context,
    to: u32,
    frame: RequestFrame,
    payload: Bytes,
) -> Result<(FrameSender, FrameReceiver), WireError> {
    if frame.hops >= MAX_HOPS {
        return Err(WireError::new(
            ErrorCode::NotLeader,
            format!(
                "the request was passed on {} times, and broker {to} is to answer it",
                frame.hops
            ),
        ));
    }
    let links = context.cluster.links().ok_or_else(|| {
        WireError::new(
            ErrorCode::NotReady,
            format!(
                "broker {to} is to answer this, and this broker's certificate opens no connections"
            ),
        )
    })?;
    let (mut sender, receiver) = links
        .open_stream(to, FORWARD_LIMIT)
        .await
        .map_err(|error| unreachable(to, &error))?;
    let frame = RequestFrame {
        hops: frame.hops + 1,
        request: frame.request,
    };
    sender
        .send_with_payload(&frame, [payload])
        .await
        .map_err(|error| unreachable(to, &error))?;
    Ok((sender, receiver))
}

fn unreachable(to: u32, error: &dyn std::fmt::Display) -> WireError {
    WireError::new(
        ErrorCode::NotReady,
        format!("broker {to} is to answer this, and cannot be reached: {error}"),
    )
}
