//! What a consumer has been given to read, and what has been fetched and not yet handed out.
//!
//! One place decides what is current: the claims. Fetch tasks bring what they have fetched for a
//! claim, the consumer takes it, the membership adds and removes claims; whatever comes for a claim
//! that is gone is dropped here.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use millstream_protocol::api::fetch::FetchPartition;
use millstream_protocol::api::group::NamedPartition;
use millstream_protocol::batch::RecordBatch;
use millstream_protocol::{Offset, PartitionIndex};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::OutOfRange;
use super::claim::{Claim, ClaimId, ClaimTarget};
use super::fetch::Fetch;
use super::gate::Gate;
use super::lanes::{LaneId, LaneRun, Lanes};
use super::source::Nearness;
use crate::client::Client;
use crate::error::{Error, Result};

/// How a consumer fetches.
#[derive(Clone, Debug)]
pub(super) struct FetchSettings {
    pub(super) buffer_bytes: usize,
    pub(super) out_of_range: OutOfRange,
    /// If it need not be the leader that is read.
    pub(super) near: Option<Arc<Nearness>>,
    /// Fetch streams of the connection before claims share them.
    pub(super) streams: usize,
}

/// What one frame brought for one claim.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) claim: Arc<Claim>,
    pub(super) batches: VecDeque<RecordBatch>,
    /// Behind the frame, also behind what in it is not for the application.
    pub(super) next_offset: Offset,
    pub(super) high_watermark: Offset,
    bytes: usize,
}

/// One frame as a fetch task has read it.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) batches: Vec<RecordBatch>,
    pub(super) next_offset: Offset,
    pub(super) high_watermark: Offset,
    pub(super) bytes: usize,
}

/// What became of an arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pushed {
    /// It waits for the application.
    Taken,
    /// Its claim is not fetched any more; others of the lane are.
    Unwanted,
    /// The run that brought it is not the lane's latest.
    Stale,
}

/// One partition that a fetch task is to fetch.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) claim: Arc<Claim>,
    pub(super) offset: Offset,
}

impl Wanted {
    pub(super) fn to_fetch(&self) -> FetchPartition {
        FetchPartition {
            topic: self.claim.topic.to_string(),
            topic_id: Some(self.claim.topic_id),
            partition: self.claim.partition,
            offset: self.offset,
        }
    }
}

/// The claims of one consumer and what was fetched for them.
#[derive(Debug)]
pub(super) struct Intake {
    pub(super) client: Client,
    pub(super) settings: FetchSettings,
    runtime: Handle,
    state: Mutex<State>,
    /// Counts what may make a taken chunk stale.
    changes: AtomicU64,
    /// The claim of the records in the application's hands, 0 for none.
    outstanding: AtomicU64,
    came_back: Notify,
    share_bytes: AtomicUsize,
}

#[derive(Debug, Default)]
struct State {
    claims: HashMap<ClaimId, Claimed>,
    /// The claims by the names of their partitions.
    names: HashMap<Arc<str>, HashMap<PartitionIndex, ClaimId>>,
    /// Claims with something to hand out, in turn.
    ready: VecDeque<ClaimId>,
    /// Revoked claims that the application may still be working on.
    releasing: Vec<Arc<Claim>>,
    lanes: Lanes,
    claims_made: u64,
    /// What ended the consumer.
    failure: Option<Error>,
    reader: Option<Waker>,
}

#[derive(Debug)]
struct Claimed {
    claim: Arc<Claim>,
    chunks: VecDeque<Chunk>,
    next_fetch: Offset,
    high_watermark: Option<Offset>,
    paused: bool,
    /// Once it has failed, it is not fetched any more until a seek.
    stalled: bool,
    /// Why it failed, until that is told, behind the chunks.
    fault: Option<Error>,
    lane: LaneId,
    gate: Arc<Gate>,
}

impl Claimed {
    fn has_news(&self) -> bool {
        !self.paused && (!self.chunks.is_empty() || self.fault.is_some())
    }

    fn move_to(&mut self, lane: LaneId, gate: Arc<Gate>) {
        let bytes = self.chunks.iter().map(|chunk| chunk.bytes).sum();
        self.gate.remove(bytes);
        gate.add(bytes);
        (self.lane, self.gate) = (lane, gate);
    }

    fn discard_chunks(&mut self) {
        let bytes = self.chunks.drain(..).map(|chunk| chunk.bytes).sum();
        self.gate.remove(bytes);
    }
}

impl Intake {
    pub(super) fn new(client: Client, settings: FetchSettings) -> Arc<Self> {
        Arc::new(Self {
            client,
            runtime: Handle::current(),
            state: Mutex::default(),
            changes: AtomicU64::new(0),
            outstanding: AtomicU64::new(0),
            came_back: Notify::new(),
            share_bytes: AtomicUsize::new(settings.buffer_bytes),
            settings,
        })
    }

    /// Claims partitions. A claim of the same partition ends.
    pub(super) fn claim(self: &Arc<Self>, targets: &[ClaimTarget]) {
        let mut state = self.state.lock();
        if state.failure.is_some() {
            return;
        }
        let mut restart = HashSet::new();
        for target in targets {
            let before = state.find(&target.topic, target.partition);
            let before = before.and_then(|id| self.remove(&mut state, id, &mut restart));
            let paused = before.is_some_and(|claimed| claimed.paused);
            state.claims_made += 1;
            let id = state.claims_made;
            let leaders = self.client.leaders(&target.topic);
            let claim = Claim::new(id, target, leaders, self.settings.near.clone());
            let (lane, gate) = self.join(&mut state.lanes, &claim);
            let claimed = Claimed {
                claim,
                chunks: VecDeque::new(),
                next_fetch: target.start,
                high_watermark: None,
                paused,
                stalled: false,
                fault: None,
                lane,
                gate,
            };
            state.insert(id, claimed);
            restart.insert(lane);
        }
        self.restart_lanes(&mut state, restart);
    }

    fn join(&self, lanes: &mut Lanes, claim: &Claim) -> (LaneId, Arc<Gate>) {
        let (streams, limit) = (self.client.fetch_streams(), self.settings.streams);
        lanes.join(claim.id, claim.goal(), streams, limit)
    }

    /// Moves those claims of a lane that are read elsewhere than its first to other lanes: a stream is one to
    /// one broker.
    pub(super) fn part(self: &Arc<Self>, run: LaneRun) {
        let mut state = self.state.lock();
        let state = &mut *state;
        let members = state.lanes.members(run).unwrap_or_default();
        let claims = members.iter().filter_map(|id| state.claims.get(id));
        let claims: Vec<Arc<Claim>> = claims.map(|it| Arc::clone(&it.claim)).collect();
        let leader = claims.first().and_then(|claim| claim.goal());
        state.lanes.set_goal(run, leader);
        let mut restart = HashSet::new();
        for claim in claims.iter().filter(|claim| claim.goal() != leader) {
            if let Some(claimed) = state.claims.get_mut(&claim.id) {
                state.lanes.leave(run.lane, claim.id);
                let (lane, gate) = self.join(&mut state.lanes, claim);
                claimed.move_to(lane, gate);
                restart.insert(lane);
            }
        }
        self.restart_lanes(state, restart);
    }

    /// Starts a claim anew elsewhere; false when it has ended.
    pub(super) fn seek(self: &Arc<Self>, claim: &Claim, start: Offset) -> bool {
        let current = self.state.lock().claims.contains_key(&claim.id);
        if current {
            let Claim {
                topic,
                topic_id,
                partition,
                ..
            } = claim;
            let target = ClaimTarget {
                topic: Arc::clone(topic),
                topic_id: *topic_id,
                partition: *partition,
                start,
            };
            self.claim(&[target]);
        }
        current
    }

    /// Ends the claims of these partitions and keeps them as being released. Gives those found.
    pub(super) fn begin_release(
        self: &Arc<Self>,
        partitions: &[NamedPartition],
    ) -> Vec<Arc<Claim>> {
        let mut state = self.state.lock();
        let mut restart = HashSet::new();
        let mut released = Vec::new();
        for partition in partitions {
            let found = state.find(&partition.topic, partition.partition);
            if let Some(claimed) = found.and_then(|id| self.remove(&mut state, id, &mut restart)) {
                released.push(claimed.claim);
            }
        }
        state.releasing.extend(released.iter().cloned());
        self.restart_lanes(&mut state, restart);
        released
    }

    /// These claims are released for good.
    pub(super) fn end_release(&self, claims: &[Arc<Claim>]) {
        let released = |claim: &Arc<Claim>| claims.iter().any(|released| released.id == claim.id);
        self.state.lock().releasing.retain(|claim| !released(claim));
    }

    /// Ends all claims, those being released too.
    pub(super) fn forget_all(&self) {
        let mut state = self.state.lock();
        state.forget_claims();
        self.changes.fetch_add(1, Ordering::Release);
    }

    /// Ends the consumer: whoever reads gets this error from now on.
    pub(super) fn fail(&self, error: Error) {
        let mut state = self.state.lock();
        state.forget_claims();
        state.failure.get_or_insert(error);
        state.wake_reader();
        self.changes.fetch_add(1, Ordering::Release);
    }

    /// The current claims.
    pub(super) fn claims(&self) -> Vec<Arc<Claim>> {
        self.state
            .lock()
            .claims
            .values()
            .map(|claimed| Arc::clone(&claimed.claim))
            .collect()
    }

    /// The current claims and those being released: what may be committed.
    pub(super) fn committable(&self) -> Vec<Arc<Claim>> {
        let state = self.state.lock();
        state
            .claims
            .values()
            .map(|claimed| &claimed.claim)
            .chain(&state.releasing)
            .cloned()
            .collect()
    }

    /// The current claim of a partition.
    pub(super) fn claim_of(&self, topic: &str, partition: PartitionIndex) -> Option<Arc<Claim>> {
        let state = self.state.lock();
        let id = state.find(topic, partition)?;
        state
            .claims
            .get(&id)
            .map(|claimed| Arc::clone(&claimed.claim))
    }

    /// The high watermark of a partition, as far as it has been heard of.
    pub(super) fn high_watermark(&self, topic: &str, partition: PartitionIndex) -> Option<Offset> {
        let state = self.state.lock();
        state
            .claims
            .get(&state.find(topic, partition)?)?
            .high_watermark
    }

    /// Stops or goes on handing out a partition's records; false when it is not claimed.
    pub(super) fn set_paused(
        self: &Arc<Self>,
        topic: &str,
        partition: PartitionIndex,
        paused: bool,
    ) -> bool {
        let mut state = self.state.lock();
        let Some(id) = state.find(topic, partition) else {
            return false;
        };
        let Some(claimed) = state.claims.get_mut(&id) else {
            return false;
        };
        let lane = claimed.lane;
        if std::mem::replace(&mut claimed.paused, paused) == paused {
            return true;
        }
        if claimed.has_news() {
            state.ready.push_back(id);
            state.wake_reader();
        }
        if paused {
            state.ready.retain(|ready| *ready != id);
            self.changes.fetch_add(1, Ordering::Release);
        }
        // On a shared stream a paused partition would hold the others up.
        if state.lanes.is_shared(lane) {
            self.restart_lanes(&mut state, HashSet::from([lane]));
        }
        true
    }

    /// Looks whether a taken chunk may still be handed out, and gives it back if so. A chunk of a
    /// paused claim is kept here until the claim goes on.
    pub(super) fn confirm(&self, chunk: Chunk) -> Option<Chunk> {
        let mut state = self.state.lock();
        let claimed = state.claims.get_mut(&chunk.claim.id)?;
        if !claimed.paused {
            return Some(chunk);
        }
        claimed.gate.add(chunk.bytes);
        claimed.chunks.push_front(chunk);
        None
    }

    /// Grows whenever a taken chunk may have become stale.
    pub(super) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// The next chunk, partitions in turn. The application has come back from what it had.
    pub(super) fn poll_take(&self, cx: &mut Context<'_>) -> Poll<Result<Chunk>> {
        let mut state = self.state.lock();
        self.outstanding.store(0, Ordering::Release);
        if !state.releasing.is_empty() {
            self.came_back.notify_one();
        }
        if let Some(error) = &state.failure {
            return Poll::Ready(Err(error.clone()));
        }
        while let Some(id) = state.ready.pop_front() {
            let Some(claimed) = state.claims.get_mut(&id) else {
                continue;
            };
            let taken = match claimed.chunks.pop_front() {
                Some(chunk) => {
                    claimed.gate.remove(chunk.bytes);
                    self.outstanding.store(id, Ordering::Release);
                    Ok(chunk)
                }
                None => match claimed.fault.take() {
                    Some(fault) => Err(fault),
                    None => continue,
                },
            };
            if claimed.has_news() {
                state.ready.push_back(id);
            }
            return Poll::Ready(taken);
        }
        state.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Whether the application is working on records of this claim.
    pub(super) fn is_outstanding(&self, claim: &Claim) -> bool {
        self.outstanding.load(Ordering::Acquire) == claim.id
    }

    /// Waits until the application comes back while claims are being released.
    pub(super) async fn came_back(&self) {
        self.came_back.notified().await;
    }

    /// What one fetch stream may have buffered, bytes; never 0.
    pub(super) fn share_bytes(&self) -> usize {
        self.share_bytes.load(Ordering::Relaxed)
    }

    /// What a run of a lane is to fetch; `None` when there is nothing, or the run is stale.
    pub(super) fn plan(&self, run: LaneRun) -> Option<Vec<Wanted>> {
        let state = self.state.lock();
        let members = state.lanes.members(run)?;
        let alone = members.len() == 1;
        let wanted: Vec<Wanted> = members
            .iter()
            .filter_map(|id| state.claims.get(id))
            .filter(|claimed| !claimed.stalled && (alone || !claimed.paused))
            .map(|claimed| Wanted {
                claim: Arc::clone(&claimed.claim),
                offset: claimed.next_fetch,
            })
            .collect();
        (!wanted.is_empty()).then_some(wanted)
    }

    /// Takes what was fetched.
    pub(super) fn push(&self, run: LaneRun, claim: ClaimId, arrival: Arrival) -> Pushed {
        let mut state = self.state.lock();
        let state = &mut *state;
        let Some(members) = state.lanes.members(run) else {
            return Pushed::Stale;
        };
        let is_member = members.contains(&claim);
        let claimed = state.claims.get_mut(&claim);
        let Some(claimed) = claimed.filter(|claimed| is_member && !claimed.stalled) else {
            return Pushed::Unwanted;
        };
        let Arrival {
            batches,
            next_offset,
            high_watermark,
            bytes,
        } = arrival;
        claimed.next_fetch = next_offset;
        claimed.high_watermark = Some(high_watermark);
        claimed.gate.add(bytes);
        let was_ready = claimed.has_news();
        claimed.chunks.push_back(Chunk {
            claim: Arc::clone(&claimed.claim),
            batches: batches.into(),
            next_offset,
            high_watermark,
            bytes,
        });
        if !was_ready && claimed.has_news() {
            state.ready.push_back(claim);
            state.wake_reader();
        }
        Pushed::Taken
    }

    /// Goes on fetching a claim from elsewhere.
    pub(super) fn move_fetch(&self, claim: ClaimId, offset: Offset) {
        if let Some(claimed) = self.state.lock().claims.get_mut(&claim) {
            claimed.next_fetch = offset;
        }
    }

    /// Stops a claim until a seek, and tells the application why, once it has what was fetched
    /// before.
    pub(super) fn stall(&self, claim: ClaimId, error: Error) {
        self.stall_with(claim, error, |_| {});
    }

    /// The same at once: what was fetched before is dropped.
    pub(super) fn stall_now(&self, claim: ClaimId, error: Error) {
        self.stall_with(claim, error, Claimed::discard_chunks);
    }

    fn stall_with(&self, claim: ClaimId, error: Error, prepare: impl FnOnce(&mut Claimed)) {
        let mut state = self.state.lock();
        let Some(claimed) = state.claims.get_mut(&claim) else {
            return;
        };
        let was_ready = claimed.has_news();
        prepare(claimed);
        claimed.stalled = true;
        claimed.fault.get_or_insert(error);
        if !was_ready && claimed.has_news() {
            state.ready.push_back(claim);
            state.wake_reader();
        }
    }

    /// Bytes fetched and not taken.
    pub(super) fn buffered_bytes(&self) -> usize {
        let state = self.state.lock();
        let chunks = state.claims.values().flat_map(|claimed| &claimed.chunks);
        chunks.map(|chunk| chunk.bytes).sum()
    }

    fn remove(
        &self,
        state: &mut State,
        id: ClaimId,
        restart: &mut HashSet<LaneId>,
    ) -> Option<Claimed> {
        let mut claimed = state.forget(id)?;
        claimed.discard_chunks();
        if state.lanes.leave(claimed.lane, id) {
            restart.insert(claimed.lane);
        }
        self.changes.fetch_add(1, Ordering::Release);
        Some(claimed)
    }

    fn restart_lanes(self: &Arc<Self>, state: &mut State, lanes: HashSet<LaneId>) {
        let share = self.settings.buffer_bytes / state.lanes.len().max(1);
        self.share_bytes.store(share.max(1), Ordering::Relaxed);
        for lane in lanes {
            state.lanes.restart(lane, |run, gate| {
                let fetch = Fetch {
                    intake: Arc::clone(self),
                    run,
                    gate,
                };
                self.runtime.spawn(fetch.run()).abort_handle()
            });
        }
    }
}

impl State {
    fn insert(&mut self, id: ClaimId, claimed: Claimed) {
        let Claim {
            topic, partition, ..
        } = &*claimed.claim;
        let partitions = self.names.entry(Arc::clone(topic)).or_default();
        partitions.insert(*partition, id);
        self.claims.insert(id, claimed);
    }

    /// A claim may stay among the ready ones: its number is not given again.
    fn forget(&mut self, id: ClaimId) -> Option<Claimed> {
        let claimed = self.claims.remove(&id)?;
        if let Some(partitions) = self.names.get_mut(&claimed.claim.topic) {
            partitions.remove(&claimed.claim.partition);
        }
        Some(claimed)
    }

    fn find(&self, topic: &str, partition: PartitionIndex) -> Option<ClaimId> {
        self.names.get(topic)?.get(&partition).copied()
    }

    fn forget_claims(&mut self) {
        self.lanes.clear();
        self.names.clear();
        self.claims
            .drain()
            .for_each(|(_, mut claimed)| claimed.discard_chunks());
        self.ready.clear();
        self.releasing.clear();
    }

    fn wake_reader(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}
