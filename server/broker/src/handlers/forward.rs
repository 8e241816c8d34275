//! Passing a client's request on to the broker that can answer it: one address is enough for a client.
//!
//! What belongs to one partition goes to its leader, what belongs to groups to the leader of their
//! log, and so do changes of deployments, which are groups' members, and of secrets. The stream is passed on as it is, both ways, until it ends.

use std::collections::BTreeMap;

use millstream_protocol::api::Request;
use millstream_protocol::api::fetch::FetchPartition;
use millstream_protocol::api::plugin::FailureAction;
use millstream_protocol::{PartitionIndex, TopicPartition};
use millstream_transport::{FrameReceiver, FrameSender, relay};

use crate::context::Context;
use crate::handlers::StreamEnd;
use crate::handlers::group::Silence;
use crate::internal::GROUPS_PARTITION;
use crate::session::Session;

/// The broker that is to answer a request, if it is not this one.
pub(super) fn elsewhere(context: &Context, request: &Request) -> Option<u32> {
    let leader = match request {
        Request::OpenProduce(it) => leader(context, &it.topic, it.partition),
        Request::DeleteRecords(it) => leader(context, &it.topic, it.partition),
        Request::Fetch(it) => common_leader(context, &it.partitions),
        Request::OpenFetch(it) => common_leader(context, &it.partitions),
        Request::OpenGroup(_)
        | Request::ListGroups(_)
        | Request::DescribeGroup(_)
        | Request::CommitOffsets(_)
        | Request::FetchOffsets(_)
        | Request::ResetGroup(_)
        | Request::DeleteGroup(_)
        | Request::DeployPlugin(_)
        | Request::RemoveDeployment(_)
        | Request::PauseDeployment(_)
        | Request::ResumeDeployment(_)
        | Request::RollBackDeployment(_)
        | Request::ReplayDeployment(_)
        | Request::PromoteDeployment(_)
        | Request::SetSecret(_)
        | Request::RemoveSecret(_) => leader_of(context, GROUPS_PARTITION),
        Request::RetryDeadLetters(it) => {
            dead_letters(context, &it.name).and_then(|topic| leader(context, &topic, it.partition))
        }
        _ => None,
    };
    leader.filter(|leader| *leader != context.me())
}

/// The topic with the dead letters of a deployment.
fn dead_letters(context: &Context, deployment: &str) -> Option<String> {
    let image = context.controller.image();
    match &image.deployment(deployment)?.spec.on_failure.finally {
        FailureAction::DeadLetter { topic } => Some(topic.clone()),
        FailureAction::Skip | FailureAction::Pause => None,
    }
}

fn leader(context: &Context, topic: &str, partition: PartitionIndex) -> Option<u32> {
    let image = context.controller.image();
    let placed = image.topic(topic)?.partitions.get(partition as usize)?;
    Some(placed.leader)
}

fn leader_of(context: &Context, partition: TopicPartition) -> Option<u32> {
    let image = context.controller.image();
    image.partition(partition).map(|it| it.leader)
}

/// Whether a request only reads records: if their leader cannot be reached, what is known here can be read.
pub(super) fn is_read(request: &Request) -> bool {
    matches!(request, Request::Fetch(_) | Request::OpenFetch(_))
}

/// The leader of all these partitions, if it is one.
fn common_leader(context: &Context, partitions: &[FetchPartition]) -> Option<u32> {
    let mut leaders = partitions
        .iter()
        .map(|it| leader(context, &it.topic, it.partition));
    let first = leaders.next()??;
    leaders.all(|it| it == Some(first)).then_some(first)
}

/// Which of the partitions that a request names each broker leads, by their places in the request. Those
/// that nobody is known to lead are this broker's to refuse.
pub(super) fn by_leader<'a>(
    context: &Context,
    partitions: impl Iterator<Item = (&'a str, PartitionIndex)>,
) -> BTreeMap<u32, Vec<usize>> {
    let mut parts: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for (place, (topic, partition)) in partitions.enumerate() {
        let leader = leader(context, topic, partition).unwrap_or(context.me());
        parts.entry(leader).or_default().push(place);
    }
    parts
}

/// The same of those that are to be fetched.
pub(super) fn parts(context: &Context, asked: &[FetchPartition]) -> BTreeMap<u32, Vec<usize>> {
    by_leader(context, asked.iter().map(|it| (&*it.topic, it.partition)))
}

/// Passes on everything that follows on a client's stream whose request was passed on, both ways.
pub(super) async fn pass_on(
    session: &Session,
    is_member: bool,
    (mut to_peer, mut from_peer): (FrameSender, FrameReceiver),
    (sender, receiver): (&mut FrameSender, &mut FrameReceiver),
) -> Result<(), StreamEnd> {
    let passing = async {
        let (there, back) =
            tokio::join!(relay(receiver, &mut to_peer), relay(&mut from_peer, sender));
        tracing::trace!(?there, ?back, "a stream that was passed on has ended");
    };
    if is_member {
        // Its broker hears of this broker only: whether the member is silent is seen here.
        tokio::select! {
            () = passing => {}
            end = Silence::new(session).watch() => return Err(end),
        }
    } else {
        passing.await;
    }
    Ok(())
}
