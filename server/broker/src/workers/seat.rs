//! A deployment's seat in its group: that of the workers on this broker, as one member.
//!
//! The coordinator is on the broker that leads the groups' log. Where that is this one, it is asked
//! directly; otherwise through a stream, which ends when another broker leads that log, or its broker is gone.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use millstream_group::error::Coded;
use millstream_group::{Join, MemberHandle};
use millstream_metadata::Image;
use millstream_protocol::api::group::{
    CoordinatorMessage, MemberKind, MemberMessage, NamedPartition, OffsetCommit,
};
use millstream_protocol::api::offsets::Position;
use millstream_protocol::api::peer::OpenHostedMember;
use millstream_protocol::api::{Request, RequestFrame};
use millstream_protocol::{ErrorCode, WireError};
use millstream_transport::{FrameReceiver, FrameSender};
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;

use crate::clock;
use crate::cluster::ask::unreachable;
use crate::groups::office::GroupOffice;
use crate::groups::{Groups, MemberMessages};
use crate::internal::GROUPS_PARTITION;

/// Messages of the coordinator that wait for the deployment's task, and the other way round.
const MAX_QUEUED_MESSAGES: usize = 4_096;

/// Who wants to take part.
pub(crate) struct Applicant {
    pub(crate) group: String,
    pub(crate) topics: Vec<String>,
    pub(crate) start: Position,
}

impl Applicant {
    fn member_name(&self) -> String {
        format!("{}-worker", self.group)
    }

    fn principal(&self) -> String {
        format!("deployment/{}", self.group)
    }
}

/// A seat in a group.
pub(crate) struct Seat(Way);

enum Way {
    Here {
        groups: Arc<Groups>,
        member: MemberHandle,
    },
    There {
        words: mpsc::Sender<Word>,
        stream: AbortHandle,
    },
}

/// What is said to a coordinator elsewhere.
struct Word {
    message: MemberMessage,
    /// Where it is told that a commit is durable.
    committed: Option<oneshot::Sender<Result<(), WireError>>>,
}

impl Seat {
    /// Takes a seat, and hears there what is to be done. The end of the messages is the end of it.
    pub(crate) async fn take(
        office: &GroupOffice,
        applicant: Applicant,
    ) -> Result<(Self, MemberMessages), WireError> {
        match office.elsewhere() {
            None => Self::take_here(office, applicant).await,
            Some(coordinator) => Self::take_there(office, coordinator, applicant).await,
        }
    }

    async fn take_here(
        office: &GroupOffice,
        applicant: Applicant,
    ) -> Result<(Self, MemberMessages), WireError> {
        let groups = Arc::clone(&office.groups);
        let (member, messages) = groups.new_member();
        let join = Join {
            member,
            member_name: applicant.member_name(),
            principal: applicant.principal(),
            kind: MemberKind::Worker,
            home: Some(office.cluster().me()),
            group: applicant.group,
            topics: applicant.topics,
            start: applicant.start,
        };
        let joined = groups.call(move |it| it.join(join)).await;
        match joined.and_then(|joined| joined.map_err(|error| error.to_wire())) {
            Ok(()) => Ok((Self(Way::Here { groups, member }), messages)),
            Err(error) => {
                groups.leave(member).await;
                Err(error)
            }
        }
    }

    async fn take_there(
        office: &GroupOffice,
        coordinator: u32,
        applicant: Applicant,
    ) -> Result<(Self, MemberMessages), WireError> {
        let cluster = Arc::clone(office.cluster());
        let request = Request::OpenHostedMember(OpenHostedMember {
            introduction: cluster.introduction(),
            member_name: applicant.member_name(),
            principal: applicant.principal(),
            group: applicant.group,
            topics: applicant.topics,
            start: applicant.start,
        });
        let request = RequestFrame::from_client(request);
        let opened = cluster.open(coordinator, request, Bytes::new()).await?;
        let (words, spoken) = mpsc::channel(MAX_QUEUED_MESSAGES);
        let (heard, messages) = mpsc::channel(MAX_QUEUED_MESSAGES);
        let speaking = tokio::spawn(async move {
            let stream = Stream {
                coordinator,
                heard,
                commits: VecDeque::new(),
            };
            let moved = |image: &Image| {
                let leader = image.partition(GROUPS_PARTITION).map(|it| it.leader);
                leader != Some(coordinator) || !image.is_live(coordinator)
            };
            tokio::select! {
                () = stream.run(opened, spoken) => {}
                () = cluster.until(moved) => {}
            }
        });
        let stream = speaking.abort_handle();
        Ok((Self(Way::There { words, stream }), messages))
    }

    /// Commits an offset.
    pub(crate) async fn commit(
        &self,
        generation: u32,
        commit: OffsetCommit,
    ) -> Result<(), WireError> {
        match &self.0 {
            Way::Here { groups, member } => {
                let (member, commits) = (*member, vec![commit]);
                let committed = groups
                    .call(move |it| it.commit(member, generation, commits, clock::now_ms()))
                    .await?;
                committed.map_err(|error| error.to_wire())
            }
            Way::There { words, .. } => {
                let (committed, outcome) = oneshot::channel();
                let word = Word {
                    message: MemberMessage::Commit {
                        generation,
                        offsets: vec![commit],
                    },
                    committed: Some(committed),
                };
                words.send(word).await.map_err(|_| ended())?;
                outcome.await.unwrap_or_else(|_| Err(ended()))
            }
        }
    }

    /// The workers at these partitions have stopped, as was asked by `generation`.
    pub(crate) async fn released(
        &self,
        generation: u32,
        partitions: Vec<NamedPartition>,
    ) -> Result<(), WireError> {
        match &self.0 {
            Way::Here { groups, member } => {
                let member = *member;
                let released = groups
                    .call(move |it| it.released(member, generation, &partitions))
                    .await?;
                released.map_err(|error| error.to_wire())
            }
            Way::There { words, .. } => {
                let message = MemberMessage::Released {
                    generation,
                    partitions,
                };
                let word = Word {
                    message,
                    committed: None,
                };
                words.send(word).await.map_err(|_| ended())
            }
        }
    }

    /// Gives it up.
    pub(crate) async fn leave(&self) {
        match &self.0 {
            Way::Here { groups, member } => groups.leave(*member).await,
            // The end of the stream says it.
            Way::There { stream, .. } => stream.abort(),
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Way::There { stream, .. } = &self.0 {
            stream.abort();
        }
    }
}

fn ended() -> WireError {
    WireError::new(ErrorCode::UnknownMember, "the membership has ended")
}

/// The stream to a coordinator elsewhere.
struct Stream {
    coordinator: u32,
    heard: mpsc::Sender<CoordinatorMessage>,
    /// Commits that are not answered yet, oldest first.
    commits: VecDeque<oneshot::Sender<Result<(), WireError>>>,
}

impl Stream {
    /// Passes on what both sides say, until one of them ends it.
    async fn run(
        mut self,
        (mut sender, mut receiver): (FrameSender, FrameReceiver),
        mut spoken: mpsc::Receiver<Word>,
    ) {
        loop {
            let passed = tokio::select! {
                message = hear(self.coordinator, &mut receiver) => match message {
                    Ok(message) => self.heard(message).await,
                    Err(error) => Err(error),
                },
                word = spoken.recv() => match word {
                    Some(word) => self.say(word, &mut sender).await,
                    None => return,
                },
            };
            if let Err(error) = passed {
                tracing::debug!(broker = self.coordinator, %error, "a seat in a group is lost");
                return;
            }
        }
    }

    async fn heard(&mut self, message: CoordinatorMessage) -> Result<(), WireError> {
        if let CoordinatorMessage::Committed(outcome) = message {
            if let Some(committed) = self.commits.pop_front() {
                // Whoever has committed may have stopped.
                let _ = committed.send(outcome);
            }
            return Ok(());
        }
        self.heard.send(message).await.map_err(|_| ended())
    }

    async fn say(&mut self, word: Word, sender: &mut FrameSender) -> Result<(), WireError> {
        self.commits.extend(word.committed);
        let sent = sender.send(&word.message).await;
        sent.map_err(|error| unreachable(self.coordinator, &error))
    }
}

async fn hear(
    coordinator: u32,
    receiver: &mut FrameReceiver,
) -> Result<CoordinatorMessage, WireError> {
    let frame = receiver
        .receive::<Result<CoordinatorMessage, WireError>>(0)
        .await;
    let frame = frame.map_err(|error| unreachable(coordinator, &error))?;
    frame.ok_or_else(ended)?.body
}
