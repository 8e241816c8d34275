//! `OpenFetch`, the pushed stream, and `Fetch`, the single long poll.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{join_all, select_all, try_join_all};
use millstream_protocol::api::fetch::{
    Fetch, FetchOpened, FetchPartition, FetchResponse, Fetched, FetchedPartition, OpenFetch,
};
use millstream_protocol::limits::{
    MAX_FETCH_BYTES, MAX_FETCH_WAIT_MS, MAX_PARTITIONS_PER_FETCH_STREAM,
};
use millstream_protocol::{ErrorCode, Offset, TopicId, WireError};
use millstream_transport::{FrameReceiver, FrameSender};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use crate::config::FOLLOWER_PATIENCE;
use crate::context::{Context, ReadFrom};
use crate::errors;
use crate::handlers::{StreamEnd, check_items};
use crate::partition::{Partition, PartitionReader, ReplicaState, Standing, Visible};

/// A reader's place in one partition.
struct Cursor {
    partition: Partition,
    reader: PartitionReader,
    offset: Offset,
    from: ReadFrom,
    changes: watch::Receiver<Visible>,
}

/// Batches read in one go, and what to say beside them.
struct Push {
    batches: Vec<Bytes>,
    visible: Visible,
    next_offset: Offset,
}

impl Cursor {
    async fn open(
        context: &Context,
        asked: &FetchPartition,
        from: ReadFrom,
    ) -> Result<Self, WireError> {
        let partition = context.readable(&asked.topic, asked.topic_id, asked.partition, from)?;
        let mut cursor = Self {
            reader: partition.reader(),
            changes: partition.watch(),
            partition,
            offset: asked.offset,
            from,
        };
        cursor.check(FOLLOWER_PATIENCE).await?;
        Ok(cursor)
    }

    /// Whether there is, or will be, something at its place. Only a leader can deny that: a replica that is
    /// behind is waited for, and one that does not have what is asked for says so.
    async fn check(&mut self, patience: Duration) -> Result<(), WireError> {
        let offset = self.offset;
        let is_there = |it: &Visible| {
            it.standing != Standing::Following || offset <= it.high_watermark || it.closed.is_some()
        };
        let reached = timeout(patience, self.changes.wait_for(is_there))
            .await
            .is_ok();
        let visible = self.partition.visible();
        let is_here = (visible.log_start_offset..=visible.high_watermark).contains(&offset);
        if visible.standing == Standing::Following && !(reached && is_here) {
            return Err(self.lacks(&format!("does not have offset {offset}")));
        }
        self.partition.check_offset(offset)
    }

    /// What a reader is told who should ask the leader.
    fn lacks(&self, what: &str) -> WireError {
        WireError::new(
            ErrorCode::NotReady,
            format!(
                "the replica of {} that was asked {what}, and does not lead",
                self.partition.name()
            ),
        )
    }

    /// Reads what is visible from here, and moves on. `None`: nothing yet.
    async fn read(&mut self, max_bytes: usize) -> Result<Option<Push>, WireError> {
        let visible = *self.changes.borrow_and_update();
        if let Some(why) = visible.closed {
            return Err(errors::closed(&self.partition.name(), why));
        }
        if visible.standing == Standing::Following {
            match visible.replica {
                ReplicaState::Trusted => {}
                ReplicaState::Untrusted if self.from != ReadFrom::Counting => {}
                ReplicaState::Untrusted | ReplicaState::Damaged => {
                    return Err(self.lacks("does not count"));
                }
            }
            if self.offset < visible.log_start_offset {
                return Err(self.lacks("begins behind what is to be read"));
            }
        }
        if self.offset >= visible.high_watermark {
            return Ok(None);
        }
        let read = self.reader.read(self.offset, max_bytes).await?;
        self.offset = read.next_offset;
        Ok(Some(Push {
            batches: read.batches,
            visible,
            next_offset: read.next_offset,
        }))
    }
}

/// The places of a stream, whose partitions take turns.
pub(super) struct Cursors {
    all: Vec<Cursor>,
    turn: usize,
    max_bytes: usize,
}

impl Cursors {
    pub(super) async fn open(
        context: &Context,
        request: &OpenFetch,
        from: ReadFrom,
    ) -> Result<Self, WireError> {
        check_items(
            "partitions of a fetch stream",
            request.partitions.len(),
            MAX_PARTITIONS_PER_FETCH_STREAM,
        )?;
        let max_bytes = checked_max_bytes(request.max_bytes)?;
        let partitions = request.partitions.iter();
        let opening = partitions.map(|asked| Cursor::open(context, asked, from));
        Ok(Self {
            all: try_join_all(opening).await?,
            turn: 0,
            max_bytes,
        })
    }

    pub(super) fn topic_ids(&self) -> Vec<TopicId> {
        let ids = self.all.iter().map(|cursor| cursor.partition.id().topic_id);
        ids.collect()
    }

    /// What there is in the next partition that has something; `None` if none has.
    pub(super) async fn ready(&mut self) -> Result<Option<(Fetched, Vec<Bytes>)>, WireError> {
        for _ in 0..self.all.len() {
            let index = self.turn;
            self.turn = (index + 1) % self.all.len();
            let Some(push) = self.all[index].read(self.max_bytes).await? else {
                continue;
            };
            let fetched = Fetched {
                index: index as u32,
                high_watermark: push.visible.high_watermark,
                log_start_offset: push.visible.log_start_offset,
                next_offset: push.next_offset,
            };
            return Ok(Some((fetched, push.batches)));
        }
        Ok(None)
    }

    /// Waits until something changes in one of the partitions.
    pub(super) async fn changed(&mut self) {
        let cursors = self.all.iter_mut();
        // Its result says which one: every cursor is looked at anyhow.
        let _ = select_all(cursors.map(|cursor| Box::pin(cursor.changes.changed()))).await;
    }
}

pub(crate) async fn open(
    context: &Context,
    request: OpenFetch,
    from: ReadFrom,
    (sender, receiver): (&mut FrameSender, &mut FrameReceiver),
) -> Result<(), StreamEnd> {
    let mut cursors = Cursors::open(context, &request, from).await?;
    let topic_ids = cursors.topic_ids();
    sender
        .send(&Ok::<_, WireError>(FetchOpened { topic_ids }))
        .await?;
    loop {
        while let Some((fetched, batches)) = cursors.ready().await? {
            // The client's reading is the credit: this waits for it.
            sender
                .send_with_payload(&Ok::<_, WireError>(fetched), batches)
                .await?;
        }
        tokio::select! {
            () = cursors.changed() => {}
            // The client sends nothing after its request: what comes is the end of the stream.
            _ = receiver.receive::<()>(0) => return Ok(()),
            _ = sender.stopped() => return Ok(()),
        }
    }
}

pub(crate) async fn fetch(
    context: &Context,
    request: Fetch,
    from: ReadFrom,
) -> Result<(FetchResponse, Vec<Bytes>), WireError> {
    check_items(
        "partitions of a fetch",
        request.partitions.len(),
        MAX_PARTITIONS_PER_FETCH_STREAM,
    )?;
    let max_bytes = checked_max_bytes(request.max_bytes)?;
    if request.max_wait_ms > MAX_FETCH_WAIT_MS {
        return Err(WireError::new(
            ErrorCode::InvalidRequest,
            format!(
                "a fetch waits at most {MAX_FETCH_WAIT_MS} ms, not {}",
                request.max_wait_ms
            ),
        ));
    }
    let deadline = Instant::now() + Duration::from_millis(u64::from(request.max_wait_ms));
    let opening = request
        .partitions
        .iter()
        .map(|asked| Cursor::open(context, asked, from));
    let opened = join_all(opening).await;
    let mut answers: Vec<Answer> = opened.into_iter().map(Answer::new).collect();
    let mut bytes = 0;
    loop {
        for answer in &mut answers {
            bytes += answer.fill(max_bytes.saturating_sub(bytes)).await;
        }
        let failed = answers.iter().any(|answer| answer.result.is_err());
        if failed || bytes >= request.min_bytes as usize || bytes >= max_bytes {
            break;
        }
        let mut open: Vec<&mut Cursor> = answers
            .iter_mut()
            .filter_map(|a| a.result.as_mut().ok())
            .collect();
        let wait = select_all(
            open.iter_mut()
                .map(|cursor| Box::pin(cursor.changes.changed())),
        );
        if tokio::time::timeout_at(deadline, wait).await.is_err() {
            break;
        }
    }
    let mut payload = Vec::new();
    let partitions = answers
        .into_iter()
        .map(|answer| answer.finish(&mut payload))
        .collect();
    Ok((FetchResponse { partitions }, payload))
}

/// One partition's part of a long poll while it gathers.
struct Answer {
    result: Result<Cursor, WireError>,
    batches: Vec<Bytes>,
    payload_bytes: usize,
}

impl Answer {
    fn new(result: Result<Cursor, WireError>) -> Self {
        Self {
            result,
            batches: Vec::new(),
            payload_bytes: 0,
        }
    }

    /// Adds what is visible, up to `room` bytes (a single larger batch only as the first).
    async fn fill(&mut self, room: usize) -> usize {
        let Ok(cursor) = &mut self.result else {
            return 0;
        };
        if room == 0 {
            return 0;
        }
        match cursor.read(room).await {
            Ok(Some(push)) => {
                let bytes = push.batches.iter().map(Bytes::len).sum();
                self.payload_bytes += bytes;
                self.batches.extend(push.batches);
                bytes
            }
            Ok(None) => 0,
            Err(error) => {
                self.result = Err(error);
                self.batches.clear();
                std::mem::take(&mut self.payload_bytes);
                0
            }
        }
    }

    fn finish(self, payload: &mut Vec<Bytes>) -> Result<FetchedPartition, WireError> {
        let cursor = self.result?;
        payload.extend(self.batches);
        let visible = cursor.partition.visible();
        Ok(FetchedPartition {
            payload_bytes: self.payload_bytes as u32,
            high_watermark: visible.high_watermark,
            log_start_offset: visible.log_start_offset,
            next_offset: cursor.offset,
        })
    }
}

fn checked_max_bytes(max_bytes: u32) -> Result<usize, WireError> {
    let bytes = max_bytes as usize;
    if (1..=MAX_FETCH_BYTES).contains(&bytes) {
        return Ok(bytes);
    }
    Err(WireError::new(
        ErrorCode::InvalidRequest,
        format!("a fetch takes 1 to {MAX_FETCH_BYTES} bytes at a time, not {bytes}"),
    ))
}
