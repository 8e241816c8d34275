//! The task of one fetch stream: opens it, reads it as far as the gate lets it, and opens it again
//! when it breaks.

use std::sync::Arc;

use bytes::Bytes;
use millstream_protocol::api::Request;
use millstream_protocol::api::fetch::{FetchOpened, Fetched, OpenFetch};
use millstream_protocol::api::offsets::Position;
use millstream_protocol::batch::{BatchError, RecordBatch};
use millstream_protocol::limits::{DEFAULT_FETCH_BYTES, MAX_FETCH_BYTES};
use millstream_protocol::{Advice, ErrorCode, Offset, WireError};

use super::OutOfRange;
use super::claim::Claim;
use super::gate::Gate;
use super::intake::{Arrival, Intake, Pushed, Wanted};
use super::lanes::LaneRun;
use crate::backoff::Backoff;
use crate::error::{Error, Result, StreamError};
use crate::limits::{FRAME_OVERHEAD_BYTES, MIN_FETCH_FRAME_BYTES};
use crate::route::{Opened, Route, is_unknown};
use crate::stream::receive_with_payload;
use millstream_transport::FrameReceiver;
use tokio::time::Instant;

/// Why a stream is not read any more.
enum Stopped {
    /// This run is stale.
    Stale,
    /// What is to be fetched has changed.
    Replan,
    /// It broke or was refused.
    Failed(Error),
}

/// One run of a lane.
pub(super) struct Fetch {
    pub(super) intake: Arc<Intake>,
    pub(super) run: LaneRun,
    pub(super) gate: Arc<Gate>,
}

impl Fetch {
    /// Fetches until there is nothing left to fetch or the run is stale.
    pub(super) async fn run(self) {
        let mut backoff = Backoff::default();
        while let Some(wanted) = self.intake.plan(self.run) {
            if !self.have_one_goal(&wanted).await {
                self.intake.part(self.run);
                continue;
            }
            let is_off_leader = wanted.iter().any(|it| it.claim.is_off_leader());
            let error = match self.read(&wanted, &mut backoff).await {
                Stopped::Stale => return,
                Stopped::Replan => continue,
                Stopped::Failed(error) if is_off_leader => {
                    tracing::debug!(%error, "a replica does not do; its leader is read");
                    wanted.iter().for_each(|it| it.claim.avoid_replica());
                    continue;
                }
                Stopped::Failed(error) => error,
            };
            let outcome = match error {
                Error::Broker(refusal) if refusal.code.advice() == Advice::GiveUp => {
                    diagnose(&self.intake, &wanted, refusal).await
                }
                error => Err(error),
            };
            match outcome {
                Ok(()) => {}
                Err(error) if error.advice() == Advice::GiveUp => {
                    self.intake.fail(error);
                    return;
                }
                Err(error) => {
                    if backoff.is_worth_telling() {
                        tracing::warn!(%error, "nothing can be read; trying again");
                    } else {
                        tracing::debug!(%error, "fetch stream lost; opening another");
                    }
                    tokio::time::sleep(backoff.after_failure()).await;
                }
            }
        }
    }

    /// Finds out where what is wanted is read.
    async fn have_one_goal(&self, wanted: &[Wanted]) -> bool {
        let client = &self.intake.client;
        for Wanted { claim, .. } in wanted {
            client.find_leader(&claim.led()).await;
        }
        let mut goals = wanted.iter().map(|wanted| wanted.claim.goal());
        let first = goals.next();
        goals.all(|goal| Some(goal) == first)
    }

    /// Reads one stream until it stops.
    async fn read(&self, wanted: &[Wanted], backoff: &mut Backoff) -> Stopped {
        // The broker reads this side's end of the stream for as long as the stream lives.
        let Opened {
            sender: _sender,
            mut receiver,
            mut route,
            ..
        } = match self.open(wanted).await {
            Ok(opened) => opened,
            Err(error) => return Stopped::Failed(error),
        };
        let stopped = self
            .read_on(wanted, &mut receiver, &mut route, backoff)
            .await;
        if let Stopped::Failed(error) = &stopped {
            route.note_failure(error);
        }
        stopped
    }

    async fn read_on(
        &self,
        wanted: &[Wanted],
        receiver: &mut FrameReceiver,
        route: &mut Route,
        backoff: &mut Backoff,
    ) -> Stopped {
        let mut next: Vec<Offset> = wanted.iter().map(|wanted| wanted.offset).collect();
        let avoided = wanted
            .iter()
            .filter_map(|it| it.claim.avoided_until())
            .min();
        loop {
            self.gate.below(|| self.intake.share_bytes()).await;
            let received = tokio::select! {
                received = receive_with_payload::<Fetched>(receiver, MAX_FETCH_BYTES) => received,
                () = route.outdated() => return Stopped::Replan,
                () = passed(avoided) => return Stopped::Replan,
            };
            let frame = match received {
                Ok(Some(frame)) => frame,
                Ok(None) => return Stopped::Failed(Error::ConnectionLost(StreamError::Ended)),
                Err(error) => return Stopped::Failed(error),
            };
            backoff.reset();
            let index = frame.0.index as usize;
            let (Some(wanted), Some(next)) = (wanted.get(index), next.get_mut(index)) else {
                let what = "records of a partition that was not asked for";
                return Stopped::Failed(Error::unexpected(what));
            };
            if let Err(stopped) = self.take(&wanted.claim, next, frame) {
                return stopped;
            }
        }
    }

    async fn open(&self, wanted: &[Wanted]) -> Result<Opened<FetchOpened>> {
        // Two frames fill a share, so that one can be on its way while the other is being read.
        let max_bytes = self.intake.share_bytes() / 2;
        let request = OpenFetch {
            partitions: wanted.iter().map(Wanted::to_fetch).collect(),
            max_bytes: max_bytes.clamp(MIN_FETCH_FRAME_BYTES, DEFAULT_FETCH_BYTES) as u32,
        };
        let request = match wanted.iter().any(|it| it.claim.is_off_leader()) {
            true => Request::OpenReplicaFetch(request),
            false => Request::OpenFetch(request),
        };
        let led: Vec<_> = wanted.iter().map(|wanted| wanted.claim.led()).collect();
        self.intake.client.open_toward(&led, request).await
    }

    /// Takes one frame in, and moves `next` behind it.
    fn take(
        &self,
        claim: &Claim,
        next: &mut Offset,
        frame: (Fetched, Bytes),
    ) -> Result<(), Stopped> {
        let (fetched, payload) = frame;
        let bytes = payload.len() + FRAME_OVERHEAD_BYTES;
        let (batches, fault) = batches(payload, next);
        if fault.is_none() {
            *next = fetched.next_offset.max(*next);
        }
        let (next_offset, high_watermark) = (*next, fetched.high_watermark);
        let arrival = Arrival {
            batches,
            next_offset,
            high_watermark,
            bytes,
        };
        match self.intake.push(self.run, claim.id, arrival) {
            Pushed::Taken => {}
            Pushed::Unwanted => return Err(Stopped::Replan),
            Pushed::Stale => return Err(Stopped::Stale),
        }
        let Some(source) = fault else { return Ok(()) };
        let (topic, partition) = (Arc::clone(&claim.topic), claim.partition);
        self.intake.stall(
            claim.id,
            Error::Corrupt {
                topic,
                partition,
                offset: *next,
                source,
            },
        );
        Err(Stopped::Replan)
    }
}

/// Waits for a time, if there is one.
async fn passed(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// The batches of a frame that are for the application: with records at or behind `next`, and
/// without those that the brokers write for themselves. Every checksum is verified; the batches
/// before a damaged one are good, and `next` moves behind them.
fn batches(mut payload: Bytes, next: &mut Offset) -> (Vec<RecordBatch>, Option<BatchError>) {
    let mut batches = Vec::new();
    loop {
        let batch = match RecordBatch::parse_next(&mut payload) {
            Ok(Some(batch)) => batch,
            Ok(None) => return (batches, None),
            Err(error) => return (batches, Some(error)),
        };
        if batch.header().next_offset() > *next {
            *next = batch.header().next_offset();
            if !batch.header().control {
                batches.push(batch);
            }
        }
    }
}

/// Finds out which of the partitions the broker refuses: one stream may carry many, and the refusal
/// names none. Those at fault are moved or stopped; an error means that it could not be found out.
async fn diagnose(intake: &Intake, wanted: &[Wanted], refusal: WireError) -> Result<()> {
    let admin = intake.client.admin();
    let mut found = false;
    for Wanted { claim, offset } in wanted {
        match admin
            .offset(&*claim.topic, claim.partition, Position::Earliest)
            .await
        {
            Ok(listed) => {
                let nearest = (*offset).clamp(
                    listed.log_start_offset,
                    listed.high_watermark.max(listed.log_start_offset),
                );
                if nearest == *offset {
                    continue;
                }
                found = true;
                match intake.settings.out_of_range {
                    OutOfRange::Nearest => {
                        let (topic, partition) = (&claim.topic, claim.partition);
                        tracing::warn!(%topic, partition, offset, nearest, "offset is out of range; going on at the nearest");
                        intake.move_fetch(claim.id, nearest);
                    }
                    OutOfRange::Fail => {
                        let message = format!(
                            "offset {offset} of {}-{} is not between {} and {}",
                            claim.topic,
                            claim.partition,
                            listed.log_start_offset,
                            listed.high_watermark
                        );
                        intake.stall(
                            claim.id,
                            WireError::new(ErrorCode::OffsetOutOfRange, message).into(),
                        );
                    }
                }
            }
            Err(Error::Broker(error)) if error.code.advice() == Advice::GiveUp => {
                found = true;
                intake.stall(claim.id, error.into());
            }
            Err(error) => return Err(error),
        }
    }
    if found {
        return Ok(());
    }
    if refusal.code == ErrorCode::OffsetOutOfRange {
        // It was, and is not any more: the broker has caught up meanwhile.
        return Err(WireError::new(ErrorCode::NotReady, refusal.message).into());
    }
    for Wanted { claim, .. } in wanted {
        let there = intake
            .client
            .is_there(&claim.topic, claim.topic_id, claim.partition);
        if !is_unknown(refusal.code) || !there.await {
            found = true;
            intake.stall(claim.id, refusal.clone().into());
        }
    }
    if found {
        return Ok(());
    }
    // The leader has not heard of it yet.
    Err(WireError::new(ErrorCode::NotReady, refusal.message).into())
}
