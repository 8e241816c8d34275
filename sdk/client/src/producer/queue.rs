//! One partition's records on their way: an open batch, sealed batches, batches in flight.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use millstream_protocol::batch::{AppendError, BATCH_HEADER_BYTES, ProducerStamp, sequence_after};
use millstream_protocol::{Offset, PartitionIndex, TimestampMs, WireError};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::batch::{PendingBatch, SentBatch};
use super::delivery::{BatchCompletion, Delivery};
use super::record::ProduceRecord;
use super::state::ProducerState;
use crate::error::Error;
use crate::limits::{MAX_BATCHES_IN_FLIGHT, RESERVATION_BYTES};

/// Why a record was not taken.
#[derive(Debug)]
pub(super) enum PushError {
    /// The producer's bound is reached: reserve this many bytes and push again.
    Full {
        /// Bytes to reserve.
        wanted_bytes: usize,
    },
    /// It will not be taken.
    Refused(Error),
}

/// Why a record comes to this partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Placement {
    /// It belongs here.
    Fixed,
    /// It is this partition's turn.
    Turn,
}

/// What a partition's sender does next.
#[derive(Debug)]
pub(super) enum Next {
    /// Send this batch.
    Batch(PendingBatch),
    /// Wait for [`PartitionQueue::changed`], and at most until this.
    Linger(Instant),
    /// Batches are in flight: wait for [`PartitionQueue::changed`].
    Wait,
    /// Nothing is queued or in flight: wait for [`PartitionQueue::changed`].
    Idle,
    /// The same, and nothing will come any more.
    Finished,
}

/// Whether a partition's sender is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outlook {
    /// Something is queued or in flight.
    Work,
    /// Nothing is: wait for [`PartitionQueue::changed`].
    Idle,
    /// Nothing is, and nothing will come any more.
    Finished,
}

/// What the sender waits for. Only then is it woken: a wake-up costs more than a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaited {
    Nothing,
    Record,
    SealedBatch,
}

/// The queue of one partition.
#[derive(Debug)]
pub(super) struct PartitionQueue {
    pub(super) partition: PartitionIndex,
    state: Arc<ProducerState>,
    batches: Mutex<Batches>,
    changed: Notify,
}

#[derive(Debug)]
struct Batches {
    open: Option<PendingBatch>,
    sealed: VecDeque<PendingBatch>,
    in_flight: VecDeque<SentBatch>,
    /// How many were acknowledged.
    acknowledged: u64,
    /// The completion of the batch that was opened last. Batches are settled in order, so that
    /// everything is settled when this one is.
    newest: Option<Arc<BatchCompletion>>,
    awaited: Awaited,
    sender_started: bool,
    closed: bool,
}

impl PartitionQueue {
    pub(super) fn new(state: &Arc<ProducerState>, partition: PartitionIndex) -> Arc<Self> {
        Arc::new(Self {
            partition,
            state: Arc::clone(state),
            batches: Mutex::new(Batches {
                open: None,
                sealed: VecDeque::new(),
                in_flight: VecDeque::with_capacity(MAX_BATCHES_IN_FLIGHT),
                acknowledged: 0,
                newest: None,
                awaited: Awaited::Nothing,
                sender_started: false,
                closed: false,
            }),
            changed: Notify::new(),
        })
    }

    /// Encodes a record into the open batch; `None` when that was full and it is another
    /// partition's turn now. `held_bytes` is what the caller has reserved for it; the queue takes
    /// it over when it takes the record.
    pub(super) fn push(
        &self,
        record: &ProduceRecord<'_>,
        placement: Placement,
        timestamp_ms: TimestampMs,
        held_bytes: &mut usize,
    ) -> Result<Option<Delivery>, PushError> {
        let mut batches = self.batches.lock();
        if batches.closed {
            return Err(PushError::Refused(Error::Closed { what: "producer" }));
        }
        let bound = record.encoded_bytes_bound();
        let batch_bytes = self.state.batches.batch_bytes;
        if batches
            .open
            .as_ref()
            .is_some_and(|open| open.builder.encoded_bytes() + bound > batch_bytes)
        {
            self.seal_open(&mut batches);
            if placement == Placement::Turn && self.state.turn() != self.partition {
                return Ok(None);
            }
        }
        let (delta, completion) =
            match self.append(&mut batches, record, timestamp_ms, bound, held_bytes)? {
                Some(appended) => appended,
                // More records than a batch takes, or timestamps too far apart: the next one has room.
                None => {
                    self.seal_open(&mut batches);
                    self.append(&mut batches, record, timestamp_ms, bound, held_bytes)?
                        .ok_or_else(does_not_fit)?
                }
            };
        if batches
            .open
            .as_ref()
            .is_some_and(|open| open.builder.encoded_bytes() >= batch_bytes)
        {
            self.seal_open(&mut batches);
        } else if batches.awaited == Awaited::Record {
            batches.awaited = Awaited::Nothing;
            self.changed.notify_one();
        }
        drop(batches);
        Ok(Some(Delivery::new(completion, delta, timestamp_ms)))
    }

    /// Appends to the open batch, or opens one; `None` when the open batch has no room.
    fn append(
        &self,
        batches: &mut Batches,
        record: &ProduceRecord<'_>,
        timestamp_ms: TimestampMs,
        bound: usize,
        held_bytes: &mut usize,
    ) -> Result<Option<(u32, Arc<BatchCompletion>)>, PushError> {
        let (encoded, reserved) = match &batches.open {
            Some(open) => (open.builder.encoded_bytes(), open.reserved_bytes()),
            None => (BATCH_HEADER_BYTES, 0),
        };
        let missing_bytes = (encoded + bound).saturating_sub(reserved + *held_bytes);
        if missing_bytes > 0 {
            let wanted_bytes = missing_bytes.max(RESERVATION_BYTES);
            *held_bytes += self
                .state
                .budget
                .try_reserve(wanted_bytes)
                .ok_or(PushError::Full { wanted_bytes })?;
        }
        let open = batches.open.get_or_insert_with(|| {
            let batch = PendingBatch::open(&self.state, self.partition);
            batches.newest = Some(Arc::clone(&batch.ticket.completion));
            batch
        });
        open.hold(std::mem::take(held_bytes));
        match open.builder.append(
            timestamp_ms,
            record.key_bytes(),
            record.value(),
            record.header_list(),
        ) {
            Ok(delta) => Ok(Some((delta, Arc::clone(&open.ticket.completion)))),
            Err(AppendError::Full) => Ok(None),
            Err(error) => {
                if open.builder.is_empty() {
                    batches.open = None;
                }
                Err(PushError::Refused(refusal(error)))
            }
        }
    }

    /// Closes the open batch to further records; the sender sends it as soon as it may.
    fn seal_open(&self, batches: &mut Batches) {
        let Some(mut open) = batches.open.take() else {
            return;
        };
        open.seal();
        batches.sealed.push_back(open);
        self.state.end_turn(self.partition);
        self.wake_sender(batches);
    }

    fn wake_sender(&self, batches: &mut Batches) {
        if batches.awaited != Awaited::Nothing {
            batches.awaited = Awaited::Nothing;
            self.changed.notify_one();
        }
    }

    /// Whether a sender must be started; says yes once.
    pub(super) fn claim_sender(&self) -> bool {
        !std::mem::replace(&mut self.batches.lock().sender_started, true)
    }

    /// Sends what is there without waiting for more.
    pub(super) fn seal(&self) {
        self.seal_open(&mut self.batches.lock());
    }

    /// The same; gives the completion of the newest batch.
    pub(super) fn flush(&self) -> Option<Arc<BatchCompletion>> {
        let mut batches = self.batches.lock();
        self.seal_open(&mut batches);
        batches
            .newest
            .clone()
            .filter(|completion| !completion.is_settled())
    }

    /// Takes no more records. The sender ends when everything is settled.
    pub(super) fn close(&self) {
        let mut batches = self.batches.lock();
        batches.closed = true;
        self.seal_open(&mut batches);
        self.wake_sender(&mut batches);
    }

    /// Waits for what the sender was told to wait for.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Whether there is anything to do.
    pub(super) fn outlook(&self) -> Outlook {
        let mut batches = self.batches.lock();
        if batches.open.is_some() || !batches.sealed.is_empty() || !batches.in_flight.is_empty() {
            return Outlook::Work;
        }
        batches.awaited = Awaited::Record;
        if batches.closed {
            Outlook::Finished
        } else {
            Outlook::Idle
        }
    }

    pub(super) fn has_in_flight(&self) -> bool {
        !self.batches.lock().in_flight.is_empty()
    }

    /// How many batches were acknowledged so far.
    pub(super) fn acknowledged(&self) -> u64 {
        self.batches.lock().acknowledged
    }

    /// What the sender does next.
    pub(super) fn next(&self) -> Next {
        let mut batches = self.batches.lock();
        batches.awaited = Awaited::Nothing;
        if batches.in_flight.len() >= MAX_BATCHES_IN_FLIGHT {
            return Next::Wait;
        }
        if let Some(batch) = batches.sealed.pop_front() {
            return Next::Batch(batch);
        }
        let Some(open) = &batches.open else {
            batches.awaited = Awaited::Record;
            return match (batches.in_flight.is_empty(), batches.closed) {
                (false, _) => Next::Wait,
                (true, false) => Next::Idle,
                (true, true) => Next::Finished,
            };
        };
        let linger = self.state.batches.linger;
        let due = open.ticket.opened_at + linger;
        // Without a linger, a batch fills while the one before it is on its way (as in Nagle's
        // algorithm): an idle partition answers at once, a busy one sends large batches.
        let ready = if linger.is_zero() {
            batches.in_flight.is_empty()
        } else {
            due <= Instant::now()
        };
        if ready {
            self.seal_open(&mut batches);
            return batches.sealed.pop_front().map_or(Next::Idle, Next::Batch);
        }
        batches.awaited = Awaited::SealedBatch;
        if linger.is_zero() {
            Next::Wait
        } else {
            Next::Linger(due)
        }
    }

    /// Takes a batch that is about to be sent, and gives its bytes to send.
    pub(super) fn track(&self, mut batch: SentBatch) -> Bytes {
        batch.streams = 1;
        let bytes = batch.bytes.clone();
        self.batches.lock().in_flight.push_back(batch);
        bytes
    }

    /// The batches in flight, in order, to be sent once more on a new stream.
    pub(super) fn resend(&self) -> Vec<Bytes> {
        let mut batches = self.batches.lock();
        batches
            .in_flight
            .iter_mut()
            .for_each(|batch| batch.streams += 1);
        batches
            .in_flight
            .iter()
            .map(|batch| batch.bytes.clone())
            .collect()
    }

    /// Settles the oldest batch in flight; `false` when there is none.
    pub(super) fn acknowledge(&self, base_offset: Offset) -> bool {
        let acknowledged = {
            let mut batches = self.batches.lock();
            batches.acknowledged += 1;
            batches.in_flight.pop_front()
        };
        let found = acknowledged.is_some();
        if let Some(batch) = acknowledged {
            self.state.acknowledge(batch.records);
            batch.acknowledge(base_offset);
        }
        self.changed.notify_one();
        found
    }

    /// Gives the batches in flight their places in a new sequence, from `stamp` on, and returns
    /// the first sequence behind them. A batch that cannot be encoded again fails.
    pub(super) fn restamp(&self, mut stamp: ProducerStamp) -> u32 {
        let mut batches = self.batches.lock();
        for mut batch in std::mem::take(&mut batches.in_flight) {
            match batch.restamp(stamp) {
                Ok(()) => {
                    stamp.first_sequence = sequence_after(stamp.first_sequence, batch.records);
                    batches.in_flight.push_back(batch);
                }
                Err(error) => batch.fail(&Error::invalid(error.to_string())),
            }
        }
        stamp.first_sequence
    }

    /// The broker refused the oldest batch for good; `false` when there is none. Those behind it
    /// were not stored either, unless an earlier stream carried them: of these nobody knows, and
    /// they fail with it.
    pub(super) fn refuse_oldest(&self, error: &Error) -> bool {
        let mut batches = self.batches.lock();
        let Some(oldest) = batches.in_flight.pop_front() else {
            return false;
        };
        let behind = std::mem::take(&mut batches.in_flight).into_iter();
        let (unknown, not_stored): (Vec<_>, Vec<_>) = behind.partition(|batch| batch.streams > 1);
        batches.in_flight = not_stored.into();
        drop(batches);
        oldest.fail(error);
        unknown.into_iter().for_each(|batch| batch.fail(error));
        true
    }

    /// Fails everything.
    pub(super) fn fail_all(&self, error: &Error) {
        let mut batches = self.batches.lock();
        self.seal_open(&mut batches);
        let in_flight = std::mem::take(&mut batches.in_flight);
        let sealed = std::mem::take(&mut batches.sealed);
        drop(batches);
        in_flight.into_iter().for_each(|batch| batch.fail(error));
        sealed.into_iter().for_each(|batch| batch.fail(error));
    }

    /// When the oldest batch will have waited too long.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let batches = self.batches.lock();
        let in_flight = batches.in_flight.front().map(|batch| &batch.ticket);
        let waiting = batches
            .sealed
            .front()
            .or(batches.open.as_ref())
            .map(|batch| &batch.ticket);
        in_flight
            .or(waiting)
            .map(|ticket| ticket.opened_at + self.state.batches.delivery_timeout)
    }

    /// Fails what has waited too long, and says whether batches in flight were among it. They fail
    /// together: nobody knows which of them were stored, so none may be sent under a new sequence.
    ///
    /// They fail with what the broker has refused them with all the time, if it has.
    pub(super) fn expire(&self, refusal: Option<WireError>) -> bool {
        let timeout = self.state.batches.delivery_timeout;
        let too_late = Error::Timeout {
            what: "the delivery of a record",
            after: timeout,
        };
        let error = refusal.map_or(too_late, Error::Broker);
        let now = Instant::now();
        let expired = |opened_at: Instant| opened_at + timeout <= now;

        let mut batches = self.batches.lock();
        let lost = batches
            .in_flight
            .front()
            .is_some_and(|batch| expired(batch.ticket.opened_at));
        let in_flight = if lost {
            std::mem::take(&mut batches.in_flight)
        } else {
            VecDeque::new()
        };
        if batches
            .open
            .as_ref()
            .is_some_and(|open| expired(open.ticket.opened_at))
        {
            self.seal_open(&mut batches);
        }
        let mut waiting = Vec::new();
        while batches
            .sealed
            .front()
            .is_some_and(|batch| expired(batch.ticket.opened_at))
        {
            waiting.extend(batches.sealed.pop_front());
        }
        drop(batches);
        in_flight.into_iter().for_each(|batch| batch.fail(&error));
        waiting.into_iter().for_each(|batch| batch.fail(&error));
        lost
    }
}

fn refusal(error: AppendError) -> Error {
    match error {
        AppendError::RecordTooLarge { bytes, limit } => Error::RecordTooLarge { bytes, limit },
        other => Error::invalid(other.to_string()),
    }
}

fn does_not_fit() -> PushError {
    PushError::Refused(Error::invalid(
        "the record does not fit into an empty batch",
    ))
}
