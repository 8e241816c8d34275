//! Consuming records.
//!
//! Claims (`claim`) say which partitions a consumer reads and how far it has come. They are made by
//! the group (`membership`) or by the application. `lanes` spreads them over fetch streams, one task
//! each (`fetch`), which bring frames into the `intake`, as far as each stream's `gate` lets it read
//! ahead. The consumer takes them from there, and looks at records only when they are handed out.

mod builder;
mod claim;
mod commit;
mod committer;
mod fetch;
mod gate;
mod intake;
mod lanes;
mod membership;
mod record;
mod source;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use millstream_protocol::api::group::{NamedPartition, OffsetCommit};
use millstream_protocol::api::offsets::Position;
use millstream_protocol::batch::{BatchError, OwnedRecordIter, RecordBatch};
use millstream_protocol::{Offset, PartitionIndex};
use tokio::sync::{mpsc, oneshot};

pub use builder::ConsumerBuilder;
pub use record::{ConsumedBatch, ConsumedRecord};
pub(crate) use source::Nearness;
pub use source::ReadFrom;

use crate::error::{Error, Result};
use claim::Claim;
use commit::{Command, Offsets};
use intake::{Chunk, Intake};

/// What to do when the offset to be read does not exist any more, or not yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OutOfRange {
    /// Go on at the nearest offset that exists, with a warning in the log: the first record still
    /// there when older ones were deleted, the end when the log has become shorter.
    #[default]
    Nearest,
    /// Tell the application, and leave the partition alone until it seeks.
    Fail,
}

/// Reads records of one or many partitions.
///
/// Made by [`Client::consumer`](crate::Client::consumer). Records of one partition come in order;
/// partitions take turns. It is also a [`Stream`].
///
/// # At least once
///
/// A consumer that commits by itself ([`ConsumerBuilder::auto_commit`]) commits what the
/// application has come back from: everything handed out before the last call of
/// [`Consumer::next`] or [`Consumer::next_batch`]. A record that is being worked on when the
/// process dies is handed out again, here or to another member. An application that collects
/// records over several calls commits on its own: [`ConsumerBuilder::manual_commit`] and
/// [`Consumer::commit`].
///
/// # Rebalancing
///
/// When the group moves a partition, this member stops handing out its records at once, waits until
/// the application comes back from the one it has (at most
/// [`ConsumerBuilder::release_timeout`]), commits if it commits by itself, and releases it. When the
/// connection is lost, the member joins again under its name; what was not committed is handed out
/// again.
///
/// # Reading ahead
///
/// What is not read is not sent: each fetch stream reads ahead up to its share of
/// [`ConsumerBuilder::buffer_bytes`]. The member stays alive however slow the application is.
///
/// ```no_run
/// use millstream::{Client, Position};
///
/// # async fn example(client: Client) -> millstream::Result<()> {
/// let mut consumer = client
///     .consumer()
///     .group("billing")
///     .topics(["orders"])
///     .start(Position::Earliest)
///     .build()
///     .await?;
/// loop {
///     let record = consumer.next().await?;
///     println!("{}-{} at {}: {:?}", record.topic, record.partition, record.offset, record.value);
/// }
/// # }
/// ```
#[derive(Debug)]
pub struct Consumer {
    intake: Arc<Intake>,
    group: Option<Arc<str>>,
    /// To the membership or committer; `None` without a group.
    commands: Option<mpsc::Sender<Command>>,
    current: Option<Current>,
    /// [`Intake::changes`] when `current` was last known to be so.
    changes: u64,
}

/// The chunk that is being handed out.
#[derive(Debug)]
struct Current {
    chunk: Chunk,
    /// The first batch of the chunk, once it is being handed out record by record.
    records: Option<OwnedRecordIter>,
}

impl Current {
    fn claim(&self) -> &Arc<Claim> {
        &self.chunk.claim
    }

    /// The next record of this chunk.
    fn next_record(&mut self) -> Option<Result<ConsumedRecord, BatchError>> {
        loop {
            let records = match &mut self.records {
                Some(records) => records,
                None => match open(self.chunk.batches.front()?) {
                    Ok(records) => self.records.insert(records),
                    Err(error) => return Some(Err(error)),
                },
            };
            let claim = &self.chunk.claim;
            match records.next() {
                Some(Ok((offset, _))) if offset < claim.handed() => {}
                Some(Ok((offset, record))) => {
                    claim.hand_out_to(offset + 1);
                    return Some(Ok(ConsumedRecord::new(
                        &claim.topic,
                        claim.partition,
                        offset,
                        record,
                    )));
                }
                Some(Err(error)) => return Some(Err(error)),
                None => {
                    self.records = None;
                    self.chunk.batches.pop_front();
                }
            }
        }
    }

    /// The next batch of this chunk with records to hand out.
    fn next_batch(&mut self) -> Option<Result<ConsumedBatch, BatchError>> {
        self.records = None;
        let Chunk {
            claim,
            batches,
            high_watermark,
            ..
        } = &mut self.chunk;
        while let Some(batch) = batches.front() {
            let next_offset = batch.header().next_offset();
            let consumed = batch.records().and_then(|records| {
                ConsumedBatch::new(
                    &claim.topic,
                    claim.partition,
                    records,
                    claim.handed(),
                    next_offset,
                    *high_watermark,
                )
            });
            // A batch that cannot be read stays: the claim stands still there.
            let consumed = match consumed {
                Ok(consumed) => consumed,
                Err(error) => return Some(Err(error)),
            };
            batches.pop_front();
            if let Some(consumed) = consumed {
                claim.hand_out_to(next_offset);
                return Some(Ok(consumed));
            }
        }
        None
    }
}

fn open(batch: &RecordBatch) -> Result<OwnedRecordIter, BatchError> {
    Ok(batch.records()?.into_owned())
}

impl Consumer {
    fn new(
        intake: Arc<Intake>,
        group: Option<Arc<str>>,
        commands: Option<mpsc::Sender<Command>>,
    ) -> Self {
        let changes = intake.changes();
        Self {
            intake,
            group,
            commands,
            current: None,
            changes,
        }
    }

    /// Waits for the next record. Everything handed out before counts as worked on from now.
    ///
    /// Cancel-safe: a call that is dropped while it waits takes no record.
    ///
    /// # Errors
    ///
    /// Those of single partitions come once, and reading goes on with the others: a record that
    /// cannot be read ([`Error::Corrupt`]), an offset out of range ([`OutOfRange::Fail`]), a topic
    /// that was deleted. What ends the consumer, such as a group that does not take it any more,
    /// comes at every call.
    pub async fn next(&mut self) -> Result<ConsumedRecord> {
        std::future::poll_fn(|cx| self.poll_record(cx)).await
    }

    /// Waits for the next batch of records, all of one partition: the fastest way to consume.
    /// Everything handed out before counts as worked on from now. Cancel-safe.
    ///
    /// # Errors
    ///
    /// As [`Consumer::next`].
    ///
    /// ```no_run
    /// # async fn example(mut consumer: millstream::Consumer) -> millstream::Result<()> {
    /// let mut bytes = 0;
    /// loop {
    ///     let batch = consumer.next_batch().await?;
    ///     bytes += batch.iter().map(|record| record.value.unwrap_or_default().len()).sum::<usize>();
    /// }
    /// # }
    /// ```
    pub async fn next_batch(&mut self) -> Result<ConsumedBatch> {
        std::future::poll_fn(|cx| self.poll_batch(cx)).await
    }

    /// Commits everything handed out so far, and waits until it is durable. Partitions that were
    /// taken away meanwhile are left out: their next owner gets those records again.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] without a group, [`Error::MembershipLost`] when the group was lost
    /// before it answered, [`Error::Broker`] when it refuses.
    pub async fn commit(&self) -> Result<()> {
        let positions = self.intake.committable().into_iter().map(|claim| {
            let handed = claim.handed();
            (claim, handed)
        });
        self.send_commit(Offsets::Claims(positions.collect())).await
    }

    /// Commits these offsets: of each partition, the next one to read.
    ///
    /// # Errors
    ///
    /// As [`Consumer::commit`]; [`Error::Broker`] also for partitions that this member does not own.
    pub async fn commit_offsets(
        &self,
        offsets: impl IntoIterator<Item = OffsetCommit>,
    ) -> Result<()> {
        self.send_commit(Offsets::Named(offsets.into_iter().collect()))
            .await
    }

    /// Goes on reading a partition from elsewhere. What was fetched of it is dropped; nothing is
    /// committed.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] for a partition that this consumer does not read,
    /// [`Error::Broker`] when the position cannot be looked up.
    pub async fn seek(
        &mut self,
        topic: &str,
        partition: PartitionIndex,
        to: Position,
    ) -> Result<()> {
        let claim = self.claim_of(topic, partition)?;
        let start = match to {
            Position::Offset(offset) => offset,
            position => {
                self.intake
                    .client
                    .admin()
                    .offset(topic, partition, position)
                    .await?
                    .offset
            }
        };
        if !self.intake.seek(&claim, start) {
            return Err(not_read(topic, partition));
        }
        Ok(())
    }

    /// The partitions that this consumer reads now, in name order. A group's member that stands by
    /// has none.
    pub fn assignment(&self) -> Vec<NamedPartition> {
        let mut partitions: Vec<_> = self
            .intake
            .claims()
            .iter()
            .map(|claim| claim.name())
            .collect();
        partitions.sort_unstable();
        partitions
    }

    /// The offset behind the last record handed out of a partition; `None` when this consumer does
    /// not read it.
    pub fn position(&self, topic: &str, partition: PartitionIndex) -> Option<Offset> {
        self.intake
            .claim_of(topic, partition)
            .map(|claim| claim.handed())
    }

    /// Records of a partition below this offset are visible, as far as the broker has said: `None`
    /// before it has pushed anything.
    pub fn high_watermark(&self, topic: &str, partition: PartitionIndex) -> Option<Offset> {
        self.intake.high_watermark(topic, partition)
    }

    /// Hands out no more records of a partition until [`Consumer::resume`]. Others go on.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] for a partition that this consumer does not read.
    pub fn pause(&mut self, topic: &str, partition: PartitionIndex) -> Result<()> {
        self.set_paused(topic, partition, true)
    }

    /// Hands a paused partition's records out again.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] for a partition that this consumer does not read.
    pub fn resume(&mut self, topic: &str, partition: PartitionIndex) -> Result<()> {
        self.set_paused(topic, partition, false)
    }

    /// Bytes fetched ahead and not yet handed out.
    pub fn buffered_bytes(&self) -> usize {
        self.intake.buffered_bytes()
    }

    /// The group's name, if there is one.
    pub fn group(&self) -> Option<&str> {
        self.group.as_deref()
    }

    /// Commits everything handed out if the consumer commits by itself, and leaves the group, so
    /// that its partitions move at once. A consumer that is dropped instead does the same in the
    /// background, without the records handed out last.
    ///
    /// # Errors
    ///
    /// As [`Consumer::commit`]; the consumer is gone all the same.
    pub async fn leave(mut self) -> Result<()> {
        self.take_back();
        let Some(commands) = self.commands.take() else {
            return Ok(());
        };
        let (reply, left) = oneshot::channel();
        let timeout = self.intake.client.request_timeout();
        let leaving = async {
            let closed = |_| Error::Closed { what: "consumer" };
            commands
                .send(Command::Leave { reply })
                .await
                .map_err(|_| Error::Closed { what: "consumer" })?;
            left.await.map_err(closed)?
        };
        tokio::time::timeout(timeout, leaving)
            .await
            .unwrap_or(Err(Error::Timeout {
                what: "leaving the group",
                after: timeout,
            }))
    }

    fn poll_record(&mut self, cx: &mut Context<'_>) -> Poll<Result<ConsumedRecord>> {
        self.settle();
        loop {
            match self.current.as_mut().and_then(Current::next_record) {
                Some(Ok(record)) => return Poll::Ready(Ok(record)),
                Some(Err(error)) => self.stall(error),
                None => ready!(self.poll_chunk(cx))?,
            }
        }
    }

    fn poll_batch(&mut self, cx: &mut Context<'_>) -> Poll<Result<ConsumedBatch>> {
        self.settle();
        loop {
            match self.current.as_mut().and_then(Current::next_batch) {
                Some(Ok(batch)) => return Poll::Ready(Ok(batch)),
                Some(Err(error)) => self.stall(error),
                None => ready!(self.poll_chunk(cx))?,
            }
        }
    }

    /// The application has come back; what it had may have become stale meanwhile.
    fn settle(&mut self) {
        self.take_back();
        let changes = self.intake.changes();
        if changes != self.changes {
            self.changes = changes;
            if let Some(Current { chunk, records }) = self.current.take() {
                self.current = self
                    .intake
                    .confirm(chunk)
                    .map(|chunk| Current { chunk, records });
            }
        }
    }

    fn take_back(&self) {
        if let Some(current) = &self.current {
            current.claim().take_back();
        }
    }

    /// Takes the next chunk in place of the one that is done.
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        if let Some(Current { chunk, .. }) = self.current.take() {
            // Past what the frame brought that is not for the application.
            chunk.claim.skip_to(chunk.next_offset);
        }
        let chunk = ready!(self.intake.poll_take(cx))?;
        self.current = Some(Current {
            chunk,
            records: None,
        });
        Poll::Ready(Ok(()))
    }

    /// The current chunk cannot be read on: its claim stands still.
    fn stall(&mut self, source: BatchError) {
        if let Some(current) = self.current.take() {
            let claim = current.claim();
            let topic = Arc::clone(&claim.topic);
            let error = Error::Corrupt {
                topic,
                partition: claim.partition,
                offset: claim.handed(),
                source,
            };
            self.intake.stall_now(claim.id, error);
        }
    }

    fn set_paused(&self, topic: &str, partition: PartitionIndex, paused: bool) -> Result<()> {
        match self.intake.set_paused(topic, partition, paused) {
            true => Ok(()),
            false => Err(not_read(topic, partition)),
        }
    }

    fn claim_of(&self, topic: &str, partition: PartitionIndex) -> Result<Arc<Claim>> {
        self.intake
            .claim_of(topic, partition)
            .ok_or_else(|| not_read(topic, partition))
    }

    async fn send_commit(&self, offsets: Offsets) -> Result<()> {
        let Some(commands) = &self.commands else {
            return Err(Error::invalid(
                "a consumer without a group has nowhere to commit to",
            ));
        };
        let (reply, committed) = oneshot::channel();
        let timeout = self.intake.client.request_timeout();
        let committing = async {
            let command = Command::Commit { offsets, reply };
            commands
                .send(command)
                .await
                .map_err(|_| Error::Closed { what: "consumer" })?;
            committed
                .await
                .unwrap_or(Err(Error::Closed { what: "consumer" }))
        };
        tokio::time::timeout(timeout, committing)
            .await
            .unwrap_or(Err(Error::Timeout {
                what: "the commit",
                after: timeout,
            }))
    }
}

impl Stream for Consumer {
    type Item = Result<ConsumedRecord>;

    /// Never ends: [`Consumer::next`] as a stream.
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_record(cx).map(Some)
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        // With a group, its task commits, leaves and ends the claims.
        if self.group.is_none() {
            self.intake.forget_all();
        }
    }
}

fn not_read(topic: &str, partition: PartitionIndex) -> Error {
    Error::invalid(format!(
        "this consumer does not read partition {partition} of topic {topic}"
    ))
}
