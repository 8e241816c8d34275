//! The shell around the group coordinator: one task that owns it, appends what it writes, and
//! tells members and callers only what is durable.
//!
//! Calls that come while an append is under way are handled together afterwards and share the next
//! append: a group commit for group commits.

pub(crate) mod office;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use millstream_group::{
    Coordinator, Effect, Limits, MemberHandle, Outcome, Record, ResolvedStart, StartWanted, Topic,
};
use millstream_protocol::api::group::CoordinatorMessage;
use millstream_protocol::api::offsets::Position;
use millstream_protocol::{ErrorCode, LeaderEpoch, Offset, TopicId, TopicPartition, WireError};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::AbortHandle;

use crate::clock;
use crate::controller::group_topics;
use crate::internal::{self, GROUPS_PARTITION, InternalRecord};
use crate::leaders::Leaders;
use crate::partition::{Partition, Visible};

/// Calls that wait for the coordinator; beyond it callers wait for room.
const MAX_QUEUED_CALLS: usize = 4_096;

/// Calls handled together, and so in one append.
const MAX_CALLS_PER_TURN: usize = 512;

/// Messages that wait for one member. A member that reads none of them is cut off.
const MAX_QUEUED_MESSAGES: usize = 4_096;

/// How long a start that cannot be resolved waits before it is tried again.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// What a member's stream is told, in order. The channel's end is the end of the membership.
pub(crate) type MemberMessages = mpsc::Receiver<CoordinatorMessage>;

/// What one call led to.
struct Done {
    records: Vec<Record>,
    effects: Vec<Effect>,
    respond: Box<dyn FnOnce(Result<(), WireError>) + Send>,
}

type Call = Box<dyn FnOnce(&mut Coordinator) -> Done + Send>;

/// The way to the coordinator: on the broker that leads the groups' log, and on no other.
pub(crate) struct Groups {
    leaders: Arc<Leaders>,
    /// The coordinator, while this broker leads the groups' log.
    calls: watch::Sender<Option<mpsc::Sender<Call>>>,
    /// Up to which entry of the metadata's log the coordinator knows the topics, while there is one.
    followed: watch::Sender<Option<u64>>,
    members: Members,
    next_member: AtomicU64,
}

type Members = Arc<Mutex<HashMap<MemberHandle, mpsc::Sender<CoordinatorMessage>>>>;

/// What the coordinator's task holds.
struct Shell {
    /// None after a failed append, until the log is read back.
    coordinator: Option<Coordinator>,
    log: Partition,
    /// The log is led here in this epoch; in a later one others may have written into it.
    epoch: LeaderEpoch,
    members: Members,
    leaders: Arc<Leaders>,
    groups: std::sync::Weak<Groups>,
}

impl Groups {
    /// The way to no coordinator yet: see [`run`](Self::run).
    pub(crate) fn new(leaders: Arc<Leaders>) -> Arc<Self> {
        Arc::new(Self {
            leaders,
            calls: watch::Sender::new(None),
            followed: watch::Sender::new(None),
            members: Members::default(),
            // Seeded from the clock, so that member ids are not used again after a restart.
            next_member: AtomicU64::new(clock::now_ms().unsigned_abs() << 16),
        })
    }

    /// Runs a coordinator whenever this broker leads the groups' log, for as long as it does.
    pub(crate) async fn run(self: Arc<Self>) {
        loop {
            let log = self.leaders.partitions.led(GROUPS_PARTITION).await;
            let Some(epoch) = log.leading() else { continue };
            match self.start(log.clone(), epoch).await {
                Ok(coordinator) => {
                    tracing::info!(epoch, "this broker coordinates the groups");
                    log.led_no_more(epoch).await;
                    self.calls.send_replace(None);
                    // Members join the next coordinator.
                    self.members.lock().clear();
                    drop(coordinator);
                    self.followed.send_replace(None);
                }
                Err(error) => {
                    tracing::error!(%error, "the groups' offsets cannot be read back");
                    tokio::time::sleep(ASK_AGAIN_AFTER).await;
                }
            }
        }
    }

    /// Waits until there is a coordinator here.
    pub(crate) async fn started(&self) {
        let mut calls = self.calls.subscribe();
        // The sender is here.
        let _ = calls.wait_for(Option::is_some).await;
    }

    /// Reads the committed offsets back and starts the coordinator.
    async fn start(
        self: &Arc<Self>,
        log: Partition,
        epoch: LeaderEpoch,
    ) -> Result<Running, WireError> {
        // Before the log is read: what is decided meanwhile is told afterwards.
        let topics = group_topics(&self.leaders.controller.image());
        let coordinator = load(&log, topics.clone())?;
        let (calls, queue) = mpsc::channel(MAX_QUEUED_CALLS);
        let shell = Shell {
            coordinator: Some(coordinator),
            log,
            epoch,
            members: Arc::clone(&self.members),
            leaders: Arc::clone(&self.leaders),
            groups: Arc::downgrade(self),
        };
        let coordinator = tokio::spawn(shell.run(queue)).abort_handle();
        let following = tokio::spawn(Arc::clone(self).follow(topics)).abort_handle();
        self.calls.send_replace(Some(calls));
        // What was deleted while no coordinator was there to hear of it.
        let forgotten = self
            .call(|coordinator| coordinator.forget_unknown_topics())
            .await;
        if let Err(error) = forgotten {
            tracing::warn!(%error, "groups of deleted topics are not forgotten yet");
        }
        Ok(Running {
            coordinator,
            following,
        })
    }

    /// Has the coordinator know of the topics as they come, change and go.
    async fn follow(self: Arc<Self>, known: Vec<Topic>) {
        let by_id = |topics: Vec<Topic>| -> HashMap<TopicId, Topic> {
            topics.into_iter().map(|it| (it.topic_id, it)).collect()
        };
        let mut known = by_id(known);
        let mut images = self.leaders.controller.quorum.watch();
        images.mark_changed();
        while images.changed().await.is_ok() {
            let applied = images.borrow_and_update().clone();
            let now = by_id(group_topics(&applied.image));
            for topic_id in known.keys().filter(|it| !now.contains_key(it)) {
                self.tell(self.topic_deleted(*topic_id)).await;
            }
            for (topic_id, topic) in &now {
                if known.get(topic_id) != Some(topic) {
                    self.tell(self.topic_updated(topic.clone())).await;
                }
            }
            known = now;
            self.followed.send_replace(applied.index);
        }
    }

    /// Waits until there is a coordinator here that knows the topics as the metadata has them at an index.
    pub(crate) async fn followed(&self, index: u64) {
        let mut followed = self.followed.subscribe();
        // The sender is here.
        let _ = followed.wait_for(|followed| *followed >= Some(index)).await;
    }

    async fn tell(&self, telling: impl Future<Output = Result<(), WireError>>) {
        if let Err(error) = telling.await {
            // Every member joins again, and finds the topics as they are.
            tracing::warn!(%error, "the coordinator was not told of a topic");
        }
    }

    /// Runs one request on the coordinator, and returns its response once all that it rests on is
    /// durable.
    pub(crate) async fn call<T: Send + 'static>(
        &self,
        request: impl FnOnce(&mut Coordinator) -> Outcome<T> + Send + 'static,
    ) -> Result<T, WireError> {
        let (sender, response) = oneshot::channel();
        let call: Call = Box::new(move |coordinator| {
            let Outcome {
                records,
                effects,
                response,
            } = request(coordinator);
            let respond = Box::new(move |durable: Result<(), WireError>| {
                // The caller may have gone; what it asked for is done all the same.
                let _ = sender.send(durable.map(|()| response));
            });
            Done {
                records,
                effects,
                respond,
            }
        });
        let calls = self.calls.borrow().clone().ok_or_else(not_loaded)?;
        calls.send(call).await.map_err(|_| not_loaded())?;
        // A call is dropped unanswered while there is no coordinator to ask.
        response.await.unwrap_or_else(|_| Err(not_loaded()))
    }

    /// Reads from the coordinator what is durable.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        request: impl FnOnce(&Coordinator) -> T + Send + 'static,
    ) -> Result<T, WireError> {
        self.call(|coordinator| Outcome {
            records: Vec::new(),
            effects: Vec::new(),
            response: request(coordinator),
        })
        .await
    }

    /// A new member's handle, and what it will be told.
    pub(crate) fn new_member(&self) -> (MemberHandle, MemberMessages) {
        let handle = MemberHandle(self.next_member.fetch_add(1, Ordering::Relaxed));
        let (sender, messages) = mpsc::channel(MAX_QUEUED_MESSAGES);
        self.members.lock().insert(handle, sender);
        (handle, messages)
    }

    /// The member is gone: its partitions go to others.
    pub(crate) async fn leave(&self, member: MemberHandle) {
        self.members.lock().remove(&member);
        // A coordinator that is gone has no members.
        let _ = self
            .call(move |coordinator| coordinator.leave(member))
            .await;
    }

    /// A topic was made or has grown.
    async fn topic_updated(&self, topic: Topic) -> Result<(), WireError> {
        self.call(move |coordinator| coordinator.topic_updated(topic, clock::now_ms()))
            .await
    }

    /// A topic was deleted.
    async fn topic_deleted(&self, topic_id: TopicId) -> Result<(), WireError> {
        self.call(move |coordinator| coordinator.topic_deleted(topic_id))
            .await
    }
}

/// A coordinator at work. It ends when this is dropped.
struct Running {
    coordinator: AbortHandle,
    following: AbortHandle,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.coordinator.abort();
        self.following.abort();
    }
}

/// A coordinator with what the log says.
fn load(log: &Partition, topics: Vec<Topic>) -> Result<Coordinator, WireError> {
    let mut coordinator = Coordinator::new(Limits::default(), topics);
    internal::replay(log, |key, value| {
        let record = Record::decode(key.unwrap_or_default(), value)
            .map_err(|error| WireError::new(ErrorCode::Internal, error.to_string()))?;
        coordinator.replay(&record);
        Ok::<_, WireError>(())
    })?;
    Ok(coordinator)
}

impl Shell {
    async fn run(mut self, mut queue: mpsc::Receiver<Call>) {
        let mut calls = Vec::new();
        while queue.recv_many(&mut calls, MAX_CALLS_PER_TURN).await > 0 {
            self.turn(calls.drain(..)).await;
        }
    }

    async fn turn(&mut self, calls: impl Iterator<Item = Call>) {
        let Some(coordinator) = self.loaded() else {
            return;
        };
        let mut done: Vec<Done> = calls.map(|call| call(coordinator)).collect();
        let records: Vec<Record> = done
            .iter_mut()
            .flat_map(|done| std::mem::take(&mut done.records))
            .collect();
        if let Err(error) = self.append(&records).await {
            // What the coordinator holds did not become durable: it is read back from the log, and
            // every member joins again.
            tracing::error!(%error, "group records were not appended; every member must join again");
            self.coordinator = None;
            self.members.lock().clear();
            for Done { respond, .. } in done {
                respond(Err(WireError::new(
                    ErrorCode::NotReady,
                    error.message.clone(),
                )));
            }
            return;
        }
        for Done {
            effects, respond, ..
        } in done
        {
            for effect in effects {
                self.perform(effect);
            }
            respond(Ok(()));
        }
    }

    /// The coordinator, read back from the log if it has to be. An empty one would use generations
    /// again and forget offsets, so without a log there is none.
    fn loaded(&mut self) -> Option<&mut Coordinator> {
        if self.coordinator.is_none() {
            match load(&self.log, group_topics(&self.leaders.controller.image())) {
                Ok(coordinator) => self.coordinator = Some(coordinator),
                Err(error) => tracing::error!(%error, "the groups' offsets cannot be read back"),
            }
        }
        self.coordinator.as_mut()
    }

    async fn append(&self, records: &[Record]) -> Result<(), WireError> {
        if records.is_empty() {
            return Ok(());
        }
        let encoded = records
            .iter()
            .map(|record| {
                record.encode().map(|r| InternalRecord {
                    key: r.key,
                    value: r.value,
                })
            })
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| WireError::new(ErrorCode::Internal, error.to_string()))?;
        internal::append(&self.log, self.epoch, &encoded, clock::now_ms())
            .await
            .map(|_| ())
    }

    fn perform(&self, effect: Effect) {
        match effect {
            Effect::Send { member, message } => {
                let mut members = self.members.lock();
                if members
                    .get(&member)
                    .is_some_and(|sender| sender.try_send(message).is_err())
                {
                    // It is gone, or has not read for very long: its stream ends.
                    members.remove(&member);
                }
            }
            Effect::ResolveStarts { group, starts } => {
                let leaders = Arc::clone(&self.leaders);
                let groups = self.groups.clone();
                tokio::spawn(async move {
                    let resolved = resolve_all(&leaders, starts).await;
                    if let Some(groups) = groups.upgrade() {
                        let answer = groups
                            .call(move |coordinator| {
                                coordinator.starts_resolved(&group, resolved, clock::now_ms())
                            })
                            .await;
                        if let Err(error) = answer {
                            tracing::warn!(%error, "starts of a group were not committed");
                        }
                    }
                });
            }
        }
    }
}

async fn resolve_all(leaders: &Leaders, starts: Vec<StartWanted>) -> Vec<ResolvedStart> {
    let mut resolved = Vec::with_capacity(starts.len());
    for wanted in starts {
        let id = TopicPartition {
            topic_id: wanted.topic_id,
            partition: wanted.partition,
        };
        // A topic that was deleted meanwhile needs no answer; a partition whose leader is on its way does.
        while leaders.of(id).is_some() {
            match leaders.resolve(id, wanted.position).await {
                Ok(offset) => {
                    resolved.push(wanted.at(offset));
                    break;
                }
                Err(error) => {
                    tracing::debug!(partition = %id, %error, "a group's start is not known yet");
                    tokio::time::sleep(ASK_AGAIN_AFTER).await;
                }
            }
        }
    }
    resolved
}

fn not_loaded() -> WireError {
    WireError::new(ErrorCode::NotReady, "the group coordinator is being loaded")
}

/// The offset of a position, moved into the log where it lies outside.
pub(crate) async fn resolve_within(partition: &Partition, position: Position) -> Offset {
    let Visible {
        high_watermark,
        log_start_offset,
        ..
    } = partition.visible();
    match position {
        Position::Offset(offset) => offset.clamp(log_start_offset, high_watermark),
        // What cannot be found by its time is not skipped.
        other => partition.resolve(other).await.unwrap_or(log_start_offset),
    }
}
