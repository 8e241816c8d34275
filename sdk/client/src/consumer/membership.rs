//! The task of a group's member: joins, takes and releases partitions, commits, and joins again
//! when its stream breaks.

use std::collections::{HashSet, VecDeque};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use millstream_protocol::api::Request;
use millstream_protocol::api::group::{
    AssignedPartition, CoordinatorMessage, Generation, MemberMessage, NamedPartition, OpenGroup,
};
use millstream_protocol::{Advice, ErrorCode, WireError};
use millstream_transport::{FrameReceiver, FrameSender, Priority};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep, sleep_until};

use super::claim::{Claim, ClaimId, ClaimTarget};
use super::commit::{Command, CommitPart, Offsets, Settlement};
use super::intake::Intake;
use crate::backoff::Backoff;
use crate::error::{Error, Result, StreamError};
use crate::limits::{BACKOFF_MAX, OFFSETS_PER_COMMIT};
use crate::stream::receive;

/// How a member behaves.
#[derive(Clone, Debug)]
pub(super) struct MemberSettings {
    pub(super) open: OpenGroup,
    pub(super) auto_commit: Option<Duration>,
    pub(super) release_timeout: Duration,
}

/// A member of a group.
pub(super) struct Membership {
    settings: MemberSettings,
    group: Arc<str>,
    intake: Arc<Intake>,
    commands: mpsc::Receiver<Command>,
    /// Told of the first join, or why it never came to be.
    joined: Option<oneshot::Sender<Result<()>>>,
}

/// The group has let the member in.
struct Joined {
    generation: Generation,
    sender: FrameSender,
    receiver: FrameReceiver,
}

/// Partitions that were revoked and are not released yet.
struct Release {
    generation: Generation,
    partitions: Vec<NamedPartition>,
    claims: Vec<Arc<Claim>>,
    /// When they are released whatever the application does.
    deadline: Instant,
}

/// A part of a commit on its way.
struct Pending {
    part: CommitPart,
    /// The generation it was sent under.
    generation: Generation,
    settlement: Arc<Settlement>,
}

/// How a membership ended.
enum Ended {
    /// The consumer has left.
    Left,
    /// The stream broke or was refused.
    Lost(Error),
}

impl Membership {
    pub(super) fn new(
        settings: MemberSettings,
        intake: Arc<Intake>,
        commands: mpsc::Receiver<Command>,
        joined: oneshot::Sender<Result<()>>,
    ) -> Self {
        let group = settings.open.group.as_str().into();
        Self {
            settings,
            group,
            intake,
            commands,
            joined: Some(joined),
        }
    }

    /// Runs until the consumer leaves, is dropped, or the group refuses it for good.
    pub(super) async fn run(mut self) {
        let mut backoff = Backoff::default();
        loop {
            let ended = match self.join().await {
                Ok(Some(Joined {
                    generation,
                    sender,
                    receiver,
                })) => {
                    if let Some(joined) = self.joined.take() {
                        let _ = joined.send(Ok(()));
                    }
                    let joined_at = Instant::now();
                    let ended = Session::new(&mut self, generation, sender)
                        .run(receiver)
                        .await;
                    // A membership that ends at once is a failed attempt to have one.
                    if joined_at.elapsed() >= BACKOFF_MAX {
                        backoff.reset();
                    }
                    ended
                }
                Ok(None) => Ended::Left,
                Err(error) => Ended::Lost(error),
            };
            // Others may own the partitions by now.
            self.intake.forget_all();
            match ended {
                Ended::Left => return,
                Ended::Lost(error) if error.advice() == Advice::GiveUp => {
                    if let Some(joined) = self.joined.take() {
                        let _ = joined.send(Err(error.clone()));
                    }
                    self.intake.fail(error);
                    return;
                }
                Ended::Lost(error) => {
                    tracing::debug!(group = %self.group, %error, "membership lost; joining again");
                    let pause = sleep(backoff.after_failure());
                    if self.while_absent(pause).await.is_none() {
                        return;
                    }
                }
            }
        }
    }

    /// Opens the group stream and waits to be let in; `None` when the consumer left meanwhile.
    async fn join(&mut self) -> Result<Option<Joined>> {
        let client = self.intake.client.clone();
        let request = Request::OpenGroup(self.settings.open.clone());
        let joining = async move {
            let (first, sender, receiver) = client.open_answered(request).await?;
            sender.set_priority(Priority::Control);
            match first {
                CoordinatorMessage::Joined { generation, .. } => Ok(Joined {
                    generation,
                    sender,
                    receiver,
                }),
                _ => Err(Error::unexpected(
                    "something else than the member's place in the group",
                )),
            }
        };
        self.while_absent(joining).await.transpose()
    }

    /// Waits for `future`, and answers commands meanwhile; `None` when the consumer left.
    async fn while_absent<T>(&mut self, future: impl Future<Output = T>) -> Option<T> {
        let mut future = pin!(future);
        loop {
            tokio::select! {
                output = &mut future => return Some(output),
                command = self.commands.recv() => match command {
                    Some(Command::Commit { offsets, reply }) => {
                        let lost = Error::MembershipLost { group: Arc::clone(&self.group) };
                        let _ = reply.send(if offsets.is_empty() { Ok(()) } else { Err(lost) });
                    }
                    Some(Command::Leave { reply }) => {
                        let _ = reply.send(Ok(()));
                        return None;
                    }
                    None => return None,
                },
            }
        }
    }
}

/// One membership, from joining to the end of its stream.
struct Session<'a> {
    member: &'a mut Membership,
    sender: FrameSender,
    /// The newest that the coordinator has named.
    generation: Generation,
    releases: Vec<Release>,
    pending: VecDeque<Pending>,
    leaving: Option<Leaving>,
}

/// The consumer leaves; its last commit is on its way.
struct Leaving {
    reply: Option<oneshot::Sender<Result<()>>>,
    committed: oneshot::Receiver<Result<()>>,
}

impl<'a> Session<'a> {
    fn new(member: &'a mut Membership, generation: Generation, sender: FrameSender) -> Self {
        Self {
            member,
            sender,
            generation,
            releases: Vec::new(),
            pending: VecDeque::new(),
            leaving: None,
        }
    }

    async fn run(mut self, mut receiver: FrameReceiver) -> Ended {
        let outcome = self.serve(&mut receiver).await;
        for pending in self.pending {
            pending.settlement.fail(Error::MembershipLost {
                group: Arc::clone(&self.member.group),
            });
        }
        let Some(Leaving {
            reply,
            mut committed,
        }) = self.leaving
        else {
            return outcome.map_or_else(Ended::Lost, |()| Ended::Left);
        };
        // A consumer that leaves is gone also when its stream breaks over it.
        if let Some(reply) = reply {
            let committed = committed.try_recv().unwrap_or(Ok(()));
            let _ = reply.send(outcome.and(committed));
        }
        Ended::Left
    }

    async fn serve(&mut self, receiver: &mut FrameReceiver) -> Result<()> {
        let mut ticks = self.member.settings.auto_commit.map(ticks);
        loop {
            self.release().await?;
            if self.leaving.is_some() && self.pending.is_empty() {
                return self.say_goodbye(receiver).await;
            }
            let release_at = self.releases.iter().map(|release| release.deadline).min();
            let intake = Arc::clone(&self.member.intake);
            tokio::select! {
                message = receive::<CoordinatorMessage>(receiver) => self.handle(message??).await?,
                command = self.member.commands.recv(), if self.leaving.is_none() => self.obey(command).await?,
                () = next_tick(&mut ticks), if self.pending.is_empty() => {
                    self.commit_returned(Settlement::new(None)).await?;
                }
                () = intake.came_back(), if release_at.is_some() => {}
                () = sleep_until(release_at.unwrap_or_else(Instant::now)), if release_at.is_some() => {}
            }
        }
    }

    async fn handle(&mut self, message: CoordinatorMessage) -> Result<()> {
        match message {
            CoordinatorMessage::Joined { .. } => {
                return Err(Error::unexpected("a second place in the group"));
            }
            CoordinatorMessage::Assign {
                generation,
                partitions,
            } => {
                let group = &self.member.group;
                tracing::debug!(%group, generation, partitions = partitions.len(), "assigned");
                self.generation = generation;
                self.member.intake.claim(&targets(partitions));
            }
            CoordinatorMessage::Seek {
                generation,
                partitions,
            } => {
                self.generation = generation;
                self.member.intake.claim(&targets(partitions));
            }
            CoordinatorMessage::Revoke {
                generation,
                partitions,
            } => {
                let group = &self.member.group;
                tracing::debug!(%group, generation, partitions = partitions.len(), "revoked");
                self.generation = generation;
                let claims = self.member.intake.begin_release(&partitions);
                let deadline = Instant::now() + self.member.settings.release_timeout;
                self.releases.push(Release {
                    generation,
                    partitions,
                    claims,
                    deadline,
                });
            }
            CoordinatorMessage::Committed(outcome) => return self.settle_commit(outcome).await,
        }
        Ok(())
    }

    async fn settle_commit(&mut self, outcome: Result<(), WireError>) -> Result<()> {
        let Some(Pending {
            part,
            generation,
            settlement,
        }) = self.pending.pop_front()
        else {
            return Err(Error::unexpected(
                "the answer to a commit that was not made",
            ));
        };
        match outcome {
            Ok(()) => part.committed(),
            // The group was reset or has moved partitions while the commit was under way, and has
            // said so before this answer: what is still owned is committed anew.
            Err(error)
                if error.code == ErrorCode::StaleGeneration && generation < self.generation =>
            {
                if !part.positions.is_empty() {
                    return self
                        .send_commit(Offsets::Claims(part.positions), &settlement)
                        .await;
                }
                settlement.fail(error.into());
            }
            Err(error) => {
                tracing::warn!(group = %self.member.group, %error, "the commit of offsets was refused");
                settlement.fail(error.into());
            }
        }
        Ok(())
    }

    async fn obey(&mut self, command: Option<Command>) -> Result<()> {
        // No command: the consumer was dropped.
        let reply = match command {
            Some(Command::Commit { offsets, reply }) => {
                return self
                    .send_commit(offsets, &Settlement::new(Some(reply)))
                    .await;
            }
            Some(Command::Leave { reply }) => Some(reply),
            None => None,
        };
        let (settled, committed) = oneshot::channel();
        self.leaving = Some(Leaving { reply, committed });
        self.commit_returned(Settlement::new(Some(settled))).await
    }

    /// Commits what the application has come back from, if the consumer commits by itself.
    async fn commit_returned(&mut self, settlement: Arc<Settlement>) -> Result<()> {
        if self.member.settings.auto_commit.is_none() {
            return Ok(());
        }
        let offsets = Offsets::returned(&self.member.intake.committable());
        self.send_commit(offsets, &settlement).await
    }

    /// Commits offsets, positions of claims only as far as they are still owned.
    async fn send_commit(
        &mut self,
        mut offsets: Offsets,
        settlement: &Arc<Settlement>,
    ) -> Result<()> {
        if let Offsets::Claims(positions) = &mut offsets {
            let owned = self.member.intake.committable();
            let owned: HashSet<ClaimId> = owned.iter().map(|claim| claim.id).collect();
            positions.retain(|(claim, _)| owned.contains(&claim.id));
        }
        let generation = self.generation;
        let parts = offsets.into_parts(OFFSETS_PER_COMMIT);
        let messages: Vec<_> = parts
            .iter()
            .map(|part| MemberMessage::Commit {
                generation,
                offsets: part.offsets.clone(),
            })
            .collect();
        // Before anything is sent: if the stream breaks, those who wait are told.
        let pending = parts.into_iter().map(|part| Pending {
            part,
            generation,
            settlement: Arc::clone(settlement),
        });
        self.pending.extend(pending);
        for message in messages {
            self.sender.send(&message).await?;
        }
        Ok(())
    }

    /// Releases what the application has come back from, or has had for too long. A commit that is
    /// sent before the release is taken before it.
    async fn release(&mut self) -> Result<()> {
        let now = Instant::now();
        let mut due = Vec::new();
        let intake = Arc::clone(&self.member.intake);
        self.releases.retain_mut(|release| {
            let busy = release
                .claims
                .iter()
                .any(|claim| intake.is_outstanding(claim));
            let keep = busy && now < release.deadline;
            if !keep {
                let (partitions, claims) = (
                    std::mem::take(&mut release.partitions),
                    std::mem::take(&mut release.claims),
                );
                due.push((release.generation, partitions, claims));
            }
            keep
        });
        for (generation, partitions, claims) in due {
            if self.member.settings.auto_commit.is_some() {
                self.send_commit(Offsets::returned(&claims), &Settlement::new(None))
                    .await?;
            }
            self.sender
                .send(&MemberMessage::Released {
                    generation,
                    partitions,
                })
                .await?;
            intake.end_release(&claims);
        }
        Ok(())
    }

    /// Leaves, and waits until the broker has closed its side: then it has been heard.
    async fn say_goodbye(&mut self, receiver: &mut FrameReceiver) -> Result<()> {
        self.sender.send(&MemberMessage::Leave).await?;
        self.sender.finish().await?;
        loop {
            match receive::<CoordinatorMessage>(receiver).await {
                // What was under way when we left.
                Ok(Ok(_)) => {}
                Ok(Err(refusal)) => return Err(refusal.into()),
                Err(Error::ConnectionLost(StreamError::Ended)) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }
}

fn targets(partitions: Vec<AssignedPartition>) -> Vec<ClaimTarget> {
    let target = |assigned: AssignedPartition| ClaimTarget {
        topic: assigned.topic.into(),
        topic_id: assigned.topic_id,
        partition: assigned.partition,
        start: assigned.offset,
    };
    partitions.into_iter().map(target).collect()
}

pub(super) fn ticks(period: Duration) -> Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.reset();
    ticks
}

/// Waits for the next tick; for ever without a clock.
pub(super) async fn next_tick(ticks: &mut Option<Interval>) {
    match ticks {
        Some(ticks) => {
            ticks.tick().await;
        }
        None => std::future::pending().await,
    }
}
