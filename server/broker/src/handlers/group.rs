//! `OpenGroup`, the member's stream, and the administration of groups.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use millstream_group::error::Coded;
use millstream_group::{Join, MemberHandle, PartitionEnds, Reset};
use millstream_protocol::api::group::{
    CommitOffsets, CoordinatorMessage, DeleteGroup, DescribeGroup, FetchOffsets,
    FetchOffsetsResponse, GroupDescription, ListGroups, ListGroupsResponse, MemberKind,
    MemberMessage, OpenGroup, ResetGroup, ResetGroupResponse,
};
use millstream_protocol::api::offsets::{ListOffsets, Position};
use millstream_protocol::api::peer::OpenHostedMember;
use millstream_protocol::limits::MAX_ITEMS_PER_REQUEST;
use millstream_protocol::{ErrorCode, TopicPartition, WireError};
use millstream_transport::{FrameReceiver, FrameSender, Priority};
use tokio::time::{Instant, Interval, interval};

use crate::clock;
use crate::config::{MEMBER_SILENCE_CHECK, MEMBER_SILENCE_LIMIT, REPORT_LIMIT};
use crate::context::Context;
use crate::errors;
use crate::groups::MemberMessages;
use crate::handlers::cluster::of_partitions;
use crate::handlers::{StreamEnd, offsets};
use crate::session::Session;

pub(crate) async fn open(
    context: &Context,
    session: &Session,
    request: OpenGroup,
    sender: &mut FrameSender,
    receiver: &mut FrameReceiver,
) -> Result<(), StreamEnd> {
    let applicant = Applicant {
        group: request.group,
        member_name: request.member_name,
        principal: session.principal().to_owned(),
        kind: MemberKind::Client,
        home: None,
        topics: request.topics,
        start: request.start,
    };
    serve(context, session, applicant, sender, receiver).await
}

async fn serve(
    context: &Context,
    session: &Session,
    applicant: Applicant,
    sender: &mut FrameSender,
    receiver: &mut FrameReceiver,
) -> Result<(), StreamEnd> {
    sender.set_priority(Priority::Control);
    let (member, messages) = context.groups.new_member();
    let join = Join {
        group: applicant.group,
        member,
        member_name: applicant.member_name,
        principal: applicant.principal,
        kind: applicant.kind,
        home: applicant.home,
        topics: applicant.topics,
        start: applicant.start,
    };
    // Whatever ends this task, a cut connection included, ends the membership.
    let _membership = Membership {
        groups: Arc::clone(&context.groups),
        member,
    };
    context
        .groups
        .call(move |coordinator| coordinator.join(join))
        .await?
        .map_err(|error| error.to_wire())?;
    MemberStream {
        context,
        session,
        member,
        messages,
        generation: 0,
    }
    .run(sender, receiver)
    .await
}

/// Serves the member that a deployment's workers on another broker are.
pub(crate) async fn open_hosted(
    context: &Context,
    session: &Session,
    request: OpenHostedMember,
    sender: &mut FrameSender,
    receiver: &mut FrameReceiver,
) -> Result<(), StreamEnd> {
    let home = context.cluster.check(session, &request.introduction)?;
    let applicant = Applicant {
        group: request.group,
        member_name: request.member_name,
        principal: request.principal,
        kind: MemberKind::Worker,
        home: Some(home),
        topics: request.topics,
        start: request.start,
    };
    tokio::select! {
        ended = serve(context, session, applicant, sender, receiver) => ended,
        // Its connection finds out later.
        () = context.cluster.until_gone(home) => Err(StreamEnd::Refused(membership_ended())),
    }
}

/// Who wants to be a member.
struct Applicant {
    group: String,
    member_name: String,
    principal: String,
    kind: MemberKind,
    home: Option<u32>,
    topics: Vec<String>,
    start: Position,
}

/// Leaves the group when it is dropped.
struct Membership {
    groups: Arc<crate::groups::Groups>,
    member: MemberHandle,
}

impl Drop for Membership {
    fn drop(&mut self) {
        let (groups, member) = (Arc::clone(&self.groups), self.member);
        tokio::spawn(async move { groups.leave(member).await });
    }
}

struct MemberStream<'a> {
    context: &'a Context,
    session: &'a Session,
    member: MemberHandle,
    messages: MemberMessages,
    /// The newest generation told to the member.
    generation: u32,
}

impl MemberStream<'_> {
    async fn run(
        mut self,
        sender: &mut FrameSender,
        receiver: &mut FrameReceiver,
    ) -> Result<(), StreamEnd> {
        let mut silence = Silence::new(self.session);
        let mut checks = interval(MEMBER_SILENCE_CHECK);
        loop {
            tokio::select! {
                message = self.messages.recv() => {
                    let Some(message) = message else { return Err(StreamEnd::Refused(membership_ended())) };
                    self.tell(message, sender, &mut silence, &mut checks).await?;
                }
                frame = receiver.receive::<MemberMessage>(0) => {
                    let Some(frame) = frame? else { return Ok(()) };
                    if !self.take(frame.body).await? {
                        return Ok(());
                    }
                }
                _ = checks.tick() => silence.check()?,
            }
        }
    }

    /// Sends one message; a member whose link is dead does not hold this up for longer than its
    /// silence is borne.
    async fn tell(
        &mut self,
        message: CoordinatorMessage,
        sender: &mut FrameSender,
        silence: &mut Silence<'_>,
        checks: &mut Interval,
    ) -> Result<(), StreamEnd> {
        self.generation = self.generation.max(generation_of(&message));
        let frame = Ok::<_, WireError>(message);
        let mut send = std::pin::pin!(sender.send(&frame));
        loop {
            tokio::select! {
                sent = &mut send => return Ok(sent?),
                _ = checks.tick() => silence.check()?,
            }
        }
    }

    /// Handles what the member sends. False: it leaves.
    async fn take(&mut self, message: MemberMessage) -> Result<bool, StreamEnd> {
        let (groups, member) = (&self.context.groups, self.member);
        let handled = match message {
            MemberMessage::Commit {
                generation,
                offsets,
            } => {
                if generation > self.generation {
                    return Err(StreamEnd::Refused(WireError::new(
                        ErrorCode::InvalidRequest,
                        format!(
                            "a commit of generation {generation}, which this member was never told of"
                        ),
                    )));
                }
                groups
                    .call(move |c| c.commit(member, generation, offsets, clock::now_ms()))
                    .await?
            }
            MemberMessage::Released {
                generation,
                partitions,
            } => {
                groups
                    .call(move |c| c.released(member, generation, &partitions))
                    .await?
            }
            MemberMessage::Leave => return Ok(false),
        };
        handled.map_err(|error| error.to_wire())?;
        Ok(true)
    }
}

fn generation_of(message: &CoordinatorMessage) -> u32 {
    match message {
        CoordinatorMessage::Joined { generation, .. }
        | CoordinatorMessage::Assign { generation, .. }
        | CoordinatorMessage::Revoke { generation, .. }
        | CoordinatorMessage::Seek { generation, .. } => *generation,
        CoordinatorMessage::Committed(_) => 0,
    }
}

fn membership_ended() -> WireError {
    WireError::new(
        ErrorCode::UnknownMember,
        "the membership has ended; join again",
    )
}

/// How long nothing has come from the peer. Both sides send keep-alives, so a peer that is there
/// is never silent for long, however slowly it works.
pub(super) struct Silence<'a> {
    session: &'a Session,
    datagrams: u64,
    since: Instant,
}

impl<'a> Silence<'a> {
    pub(super) fn new(session: &'a Session) -> Self {
        Self {
            session,
            datagrams: session.connection().datagrams_received(),
            since: Instant::now(),
        }
    }

    /// Waits until the peer has been silent for too long.
    pub(super) async fn watch(mut self) -> StreamEnd {
        let mut checks = interval(MEMBER_SILENCE_CHECK);
        loop {
            checks.tick().await;
            if let Err(end) = self.check() {
                return end;
            }
        }
    }

    fn check(&mut self) -> Result<(), StreamEnd> {
        let datagrams = self.session.connection().datagrams_received();
        if datagrams != self.datagrams {
            self.datagrams = datagrams;
            self.since = Instant::now();
        } else if self.since.elapsed() > MEMBER_SILENCE_LIMIT {
            tracing::info!(
                peer = self.session.peer(),
                "group member is silent; its partitions go to others"
            );
            return Err(StreamEnd::Refused(membership_ended()));
        }
        Ok(())
    }
}

pub(crate) async fn list(
    context: &Context,
    request: ListGroups,
) -> Result<ListGroupsResponse, WireError> {
    context
        .groups
        .read(move |coordinator| coordinator.list(request.after.as_deref()))
        .await
}

pub(crate) async fn describe(
    context: &Context,
    request: DescribeGroup,
) -> Result<GroupDescription, WireError> {
    let group = request.group.clone();
    let wanted = context
        .groups
        .read(move |coordinator| {
            let wanted = RefCell::new(Vec::new());
            let described = coordinator.describe(&group, |id| {
                wanted.borrow_mut().push(id);
                None
            });
            described.map(|_| wanted.into_inner())
        })
        .await?;
    let wanted = wanted.map_err(|error| error.to_wire())?;
    let ends = ends_of(context, wanted).await;
    let described = context
        .groups
        .read(move |coordinator| coordinator.describe(&request.group, |id| ends.get(&id).copied()))
        .await?;
    described.map_err(|error| error.to_wire())
}

/// Where these partitions begin and end, as their leaders have it. Those whose leader does not answer soon
/// are left out.
async fn ends_of(
    context: &Context,
    wanted: Vec<TopicPartition>,
) -> HashMap<TopicPartition, PartitionEnds> {
    let mut asked: HashMap<u32, Vec<TopicPartition>> = HashMap::new();
    for id in wanted {
        if let Some(leader) = context.leaders.of(id) {
            asked.entry(leader).or_default().push(id);
        }
    }
    let told = of_partitions(context, 0, asked, REPORT_LIMIT).await;
    let ends = told.into_iter().map(|((_, id), replica)| {
        let ends = PartitionEnds {
            log_start_offset: replica.log_start_offset,
            high_watermark: replica.high_watermark,
        };
        (id, ends)
    });
    ends.collect()
}

pub(crate) async fn commit(context: &Context, request: CommitOffsets) -> Result<(), WireError> {
    let committed = context
        .groups
        .call(move |c| c.commit_offsets(request, clock::now_ms()))
        .await?;
    committed.map_err(|error| error.to_wire())
}

pub(crate) async fn offsets(
    context: &Context,
    request: FetchOffsets,
) -> Result<FetchOffsetsResponse, WireError> {
    context
        .groups
        .read(move |coordinator| coordinator.fetch_offsets(&request.group))
        .await
}

pub(crate) async fn reset(
    context: &Context,
    request: ResetGroup,
) -> Result<ResetGroupResponse, WireError> {
    let topic = context.topic(&request.topic)?;
    if request.partitions.len() > MAX_ITEMS_PER_REQUEST {
        return Err(WireError::new(
            ErrorCode::InvalidRequest,
            format!(
                "the request names {} partitions, more than {MAX_ITEMS_PER_REQUEST}",
                request.partitions.len()
            ),
        ));
    }
    let partitions = if request.partitions.is_empty() {
        (0..topic.partitions.len() as u32).collect()
    } else {
        request.partitions
    };
    let positions = partitions.into_iter().map(|number| (number, request.to));
    let wanted = ListOffsets {
        topic: request.topic.clone(),
        positions: positions.collect(),
    };
    let mut offsets = BTreeMap::new();
    for listed in offsets::list(context, 0, wanted).await?.offsets {
        let listed = listed?;
        offsets.insert(listed.partition, listed.offset);
    }
    let reset = Reset {
        group: request.group,
        topic: request.topic,
        topic_id: topic.topic_id,
        offsets,
    };
    let done = context
        .groups
        .call(move |coordinator| coordinator.reset(reset, clock::now_ms()))
        .await?;
    done.map_err(|error| error.to_wire())
}

pub(crate) async fn delete(context: &Context, request: DeleteGroup) -> Result<(), WireError> {
    if context
        .controller
        .image()
        .deployment(&request.group)
        .is_some()
    {
        return Err(errors::owned_by_deployment(&request.group));
    }
    let deleted = context
        .groups
        .call(move |coordinator| coordinator.delete_group(&request.group))
        .await?;
    deleted.map_err(|error| error.to_wire())
}
