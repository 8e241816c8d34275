//! One partition as the rest of the broker sees it: a cheap handle to read from, to wait on and to
//! append through. The log itself is the writer's alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::BytesMut;
pub(crate) use millstream_log::ReadBatches;
use millstream_log::{LogReader, ReadError};
use millstream_protocol::api::offsets::Position;
use millstream_protocol::api::topic::TopicConfig;
use millstream_protocol::batch::{self, BatchHeader};
use millstream_protocol::{
    ErrorCode, LeaderEpoch, Offset, ProducerId, TimestampMs, TopicPartition, WireError,
};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};

use crate::errors;
use crate::writer::{Writer, WriterCommand};

/// What readers may see of a partition, taken at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Visible {
    /// Records below are visible.
    pub(crate) high_watermark: Offset,
    /// The first offset still there.
    pub(crate) log_start_offset: Offset,
    /// What this broker is to the partition.
    pub(crate) standing: Standing,
    /// What can be relied upon of what is here, by whoever is not told by a leader.
    pub(crate) replica: ReplicaState,
    /// There is no other replica.
    pub(crate) is_alone: bool,
    /// Nothing more will come.
    pub(crate) closed: Option<Closed>,
}

/// What a broker is to a partition that it keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It follows a leader, or waits for one, or is to lead and does not know yet what is committed.
    Following,
    /// The log is damaged, and nobody else has it: what is sound of it can be read.
    ReadOnly,
    /// It leads in this epoch, and knows all that was committed before.
    Leading(LeaderEpoch),
}

/// What a replica is worth to a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReplicaState {
    /// It counts: below its high watermark all is as its leader has it.
    Trusted,
    /// What is below its high watermark is committed. It is catching up.
    Untrusted,
    /// Its log is damaged.
    Damaged,
}

/// Why nothing more will come of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Closed {
    /// Its topic was deleted.
    Deleted,
    /// This broker keeps it no longer, or begins anew with it.
    Left,
}

/// How a partition's log stands on disk, taken at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct LogStatus {
    pub(crate) log_end_offset: Offset,
    pub(crate) flushed_offset: Offset,
    pub(crate) size_bytes: u64,
    /// Compaction may have taken tombstones below.
    pub(crate) tombstones_gone_until: Offset,
    pub(crate) damage: Option<String>,
}

/// A handle to one partition.
#[derive(Clone)]
pub(crate) struct Partition {
    pub(crate) shared: Arc<Shared>,
}

/// What the writer and the handles of a partition share.
pub(crate) struct Shared {
    pub(crate) id: TopicPartition,
    pub(crate) topic: Arc<str>,
    pub(crate) reader: LogReader,
    /// Counts how often the log was cut, or begun anew.
    pub(crate) rewritten: AtomicU64,
    pub(crate) visible: watch::Sender<Visible>,
    pub(crate) status: Mutex<LogStatus>,
    pub(crate) config: Mutex<TopicConfig>,
    pub(crate) writer: Writer,
}

impl Shared {
    /// The log is about to be cut or begun anew: whoever reads what is not committed looks afterwards
    /// whether that has happened.
    pub(crate) fn rewritten(&self) {
        self.rewritten.fetch_add(1, Ordering::SeqCst);
    }
}

/// A batch is appended, or was before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Appended {
    /// The offset of its first record.
    pub(crate) base_offset: Offset,
    /// The writer's clock at the append.
    pub(crate) appended_at_ms: TimestampMs,
}

pub(crate) type AppendResult = Result<Appended, WireError>;

/// Where the outcome of each append of one stream goes, in order. After the first error the
/// writer appends nothing more that comes through the same sink, so that what was pipelined
/// behind a failed batch cannot overtake it.
#[derive(Clone)]
pub(crate) struct AckSink {
    results: mpsc::UnboundedSender<AppendResult>,
    failed: Arc<AtomicBool>,
    /// Of one batch: its share of the memory that batches may take until they are acknowledged.
    share: Option<Arc<OwnedSemaphorePermit>>,
}

/// Batches in an order that must stay: where one fails, those behind it are not appended and never
/// acknowledged.
#[derive(Default)]
pub(crate) struct Line(Arc<AtomicBool>);

impl AckSink {
    /// A sink and the end that the acknowledgements come out of. The queue is bounded by the
    /// appends under way, which the stream bounds in bytes.
    pub(crate) fn new() -> (Self, mpsc::UnboundedReceiver<AppendResult>) {
        Self::in_line(&Line::default())
    }

    /// The same, for batches of which none may be appended behind one of the same line that failed.
    pub(crate) fn in_line(line: &Line) -> (Self, mpsc::UnboundedReceiver<AppendResult>) {
        let (results, outcomes) = mpsc::unbounded_channel();
        (
            Self {
                results,
                failed: Arc::clone(&line.0),
                share: None,
            },
            outcomes,
        )
    }

    pub(crate) fn send(&self, result: AppendResult) {
        // A stream that is gone wants no acknowledgement.
        let _ = self.results.send(result);
    }

    /// Keeps a batch's share until its outcome is told.
    pub(crate) fn hold(&mut self, share: OwnedSemaphorePermit) {
        self.share = Some(Arc::new(share));
    }

    pub(crate) fn mark_failed(&self) {
        self.failed.store(true, Ordering::Relaxed);
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }
}

/// One validated batch on its way to the log.
pub(crate) struct StagedBatch {
    pub(crate) bytes: BytesMut,
    pub(crate) header: BatchHeader,
    pub(crate) ack: AckSink,
    /// The only epoch in which it may be appended, if it rests on what its writer has read of the log.
    pub(crate) only_in: Option<LeaderEpoch>,
}

impl StagedBatch {
    /// Checks a produced batch; what passes can be appended.
    pub(crate) fn validate(
        bytes: BytesMut,
        max_batch_bytes: usize,
        ack: AckSink,
    ) -> Result<Self, WireError> {
        let header =
            batch::validate_produced(&bytes, max_batch_bytes).map_err(errors::from_batch)?;
        Ok(Self {
            bytes,
            header,
            ack,
            only_in: None,
        })
    }

    /// The same, appended while this broker leads the partition in this epoch, and in no later one: others
    /// may have appended in between.
    pub(crate) fn only_in(self, epoch: LeaderEpoch) -> Self {
        Self {
            only_in: Some(epoch),
            ..self
        }
    }
}

/// Reads a partition in order. It goes on where it stopped without a search.
#[derive(Clone)]
pub(crate) struct PartitionReader {
    partition: Partition,
    log: Arc<LogReader>,
}

impl PartitionReader {
    /// Whether there is anything visible from an offset on.
    pub(crate) fn has_visible(&self, offset: Offset) -> bool {
        offset < self.partition.visible().high_watermark
    }

    /// Up to where there is something to be seen from an offset on. What is deleted may be in the log yet.
    fn visible_from(&self, offset: Offset) -> Result<Offset, WireError> {
        let visible = self.partition.visible();
        if offset < visible.log_start_offset {
            self.partition.check_offset(offset)?;
        }
        Ok(visible.high_watermark)
    }

    /// Whole batches from the one that contains `offset`, visible ones only. It may block on the
    /// disk.
    pub(crate) fn read_blocking(
        &self,
        offset: Offset,
        max_bytes: usize,
    ) -> Result<ReadBatches, WireError> {
        let up_to = self.visible_from(offset)?;
        self.log
            .read(offset, up_to, max_bytes)
            .map_err(|error| self.partition.unreadable(&error))
    }

    /// The same. What is in memory comes at once; for the rest a thread waits that may.
    pub(crate) async fn read(
        &self,
        offset: Offset,
        max_bytes: usize,
    ) -> Result<ReadBatches, WireError> {
        let up_to = self.visible_from(offset)?;
        if let Some(read) = self.log.read_cached(offset, up_to, max_bytes) {
            return Ok(read);
        }
        let reader = self.clone();
        millstream_offload::run(move || reader.read_blocking(offset, max_bytes))
            .await
            .map_err(errors::unfinished)?
    }
}

impl Partition {
    pub(crate) fn id(&self) -> TopicPartition {
        self.shared.id
    }

    /// The epoch in which this broker leads it, if it does.
    pub(crate) fn leading(&self) -> Option<LeaderEpoch> {
        match self.visible().standing {
            Standing::Leading(epoch) => Some(epoch),
            Standing::Following | Standing::ReadOnly => None,
        }
    }

    /// Waits until this broker does not lead it in this epoch.
    pub(crate) async fn led_no_more(&self, epoch: LeaderEpoch) {
        let mut visible = self.watch();
        let ended =
            visible.wait_for(|it| it.standing != Standing::Leading(epoch) || it.closed.is_some());
        // A partition that is gone is not led.
        let _ = ended.await;
    }

    pub(crate) fn topic(&self) -> &Arc<str> {
        &self.shared.topic
    }

    pub(crate) fn visible(&self) -> Visible {
        *self.shared.visible.borrow()
    }

    /// Wakes whenever what is visible changes.
    pub(crate) fn watch(&self) -> watch::Receiver<Visible> {
        self.shared.visible.subscribe()
    }

    pub(crate) fn status(&self) -> LogStatus {
        let mut status = self.shared.status.lock().clone();
        // A read may have met damage since the last write.
        let damage = || self.shared.reader.damage();
        status.damage = status.damage.or_else(|| damage().map(|it| it.to_string()));
        status
    }

    pub(crate) fn config(&self) -> TopicConfig {
        self.shared.config.lock().clone()
    }

    /// The topic's name and the partition's number, as people write them.
    pub(crate) fn name(&self) -> String {
        format!("{}-{}", self.shared.topic, self.shared.id.partition)
    }

    /// A reader of its own for whoever follows the partition.
    pub(crate) fn reader(&self) -> PartitionReader {
        PartitionReader {
            partition: self.clone(),
            log: Arc::new(self.shared.reader.clone()),
        }
    }

    /// Why something cannot be read. Where others have what is damaged here, one of them leads before long: whoever
    /// reads waits for it.
    fn unreadable(&self, error: &ReadError) -> WireError {
        if matches!(error, ReadError::Damaged(_)) && !self.visible().is_alone {
            let partition = self.id();
            // A writer that has stopped has told its fault.
            let _ = self
                .shared
                .writer
                .send(WriterCommand::Examine { partition });
            return errors::not_ready(format!("{} is read from others: {error}", self.name()));
        }
        errors::from_read(self, error)
    }

    /// The offset of a position, within what is there and visible.
    pub(crate) async fn resolve(&self, position: Position) -> Result<Offset, WireError> {
        let Visible {
            high_watermark,
            log_start_offset,
            ..
        } = self.visible();
        Ok(match position {
            Position::Earliest => log_start_offset,
            Position::Latest => high_watermark,
            Position::Offset(offset) => {
                self.check_offset(offset)?;
                offset
            }
            Position::Time(timestamp_ms) => {
                let reader = self.shared.reader.clone();
                let look_up = move || reader.offset_for_time(timestamp_ms, high_watermark);
                let found = millstream_offload::run(look_up).await;
                let found = found
                    .map_err(errors::unfinished)?
                    .map_err(|error| self.unreadable(&error))?;
                found.map_or(high_watermark, |(offset, _)| offset.max(log_start_offset))
            }
        })
    }

    /// The same where this broker does not lead: what is committed may have no end here.
    pub(crate) async fn resolve_for_sure(&self, position: Position) -> Result<Offset, WireError> {
        let unknown = || {
            WireError::new(
                ErrorCode::NotReady,
                format!("partition {} has no leader that knows its end", self.name()),
            )
        };
        let high_watermark = self.visible().high_watermark;
        match position {
            Position::Latest => Err(unknown()),
            Position::Offset(offset) if offset > high_watermark => Err(unknown()),
            Position::Offset(_) | Position::Earliest => self.resolve(position).await,
            Position::Time(_) => match self.resolve(position).await? {
                offset if offset < high_watermark => Ok(offset),
                _ => Err(unknown()),
            },
        }
    }

    /// Forgets the records below `before`. Returns the new log start.
    pub(crate) async fn delete_records(&self, before: Offset) -> Result<Offset, WireError> {
        let (done, outcome) = oneshot::channel();
        let command = WriterCommand::DeleteRecords {
            partition: self.shared.id,
            before,
            done,
        };
        self.shared
            .writer
            .send(command)
            .map_err(|_| errors::shutting_down())?;
        outcome
            .await
            .unwrap_or_else(|_| Err(errors::shutting_down()))
    }

    /// The last sequence that its log has of a worker's producer.
    pub(crate) async fn last_sequence(
        &self,
        producer_id: ProducerId,
    ) -> Result<Option<u32>, WireError> {
        let (done, outcome) = oneshot::channel();
        let command = WriterCommand::LastSequence {
            partition: self.shared.id,
            producer_id,
            done,
        };
        self.shared
            .writer
            .send(command)
            .map_err(|_| errors::shutting_down())?;
        outcome.await.map_err(|_| errors::shutting_down())
    }

    /// Hands a validated batch to the writer; the outcome comes through the batch's sink.
    pub(crate) fn append(&self, batch: StagedBatch) {
        let ack = batch.ack.clone();
        let command = WriterCommand::Append {
            partition: self.shared.id,
            batch,
        };
        if self.shared.writer.send(command).is_err() {
            ack.send(Err(errors::shutting_down()));
        }
    }

    /// Appends one batch of the broker's own and waits until it is acknowledged. It rests on what was read
    /// of the log while this broker led it in `epoch`.
    pub(crate) async fn append_and_wait(
        &self,
        bytes: BytesMut,
        epoch: LeaderEpoch,
    ) -> AppendResult {
        let (ack, mut outcomes) = AckSink::new();
        let limit = self.config().max_batch_bytes as usize;
        self.append(StagedBatch::validate(bytes, limit, ack)?.only_in(epoch));
        outcomes
            .recv()
            .await
            .unwrap_or_else(|| Err(errors::shutting_down()))
    }

    /// Refuses `offset` when nothing can ever be read there now.
    pub(crate) fn check_offset(&self, offset: Offset) -> Result<(), WireError> {
        let Visible {
            high_watermark,
            log_start_offset,
            ..
        } = self.visible();
        if (log_start_offset..=high_watermark).contains(&offset) {
            return Ok(());
        }
        Err(WireError::new(
            ErrorCode::OffsetOutOfRange,
            format!(
                "offset {offset} of {} is out of range: it holds {log_start_offset} to {high_watermark}",
                self.name()
            ),
        ))
    }
}
