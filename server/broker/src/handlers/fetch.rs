//! `OpenFetch`, the pushed stream, and `Fetch`, the single long poll.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::select_all;
use millstream_protocol::api::fetch::{
    Fetch, FetchOpened, FetchPartition, FetchResponse, Fetched, FetchedPartition, OpenFetch,
};
use millstream_protocol::limits::{
    MAX_FETCH_BYTES, MAX_FETCH_WAIT_MS, MAX_PARTITIONS_PER_FETCH_STREAM,
};
use millstream_protocol::{ErrorCode, Offset, WireError};
use millstream_transport::{FrameReceiver, FrameSender};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::context::Context;
use crate::errors;
use crate::handlers::{StreamEnd, check_items};
use crate::partition::{Partition, PartitionReader, Visible};

/// A reader's place in one partition.
struct Cursor {
    partition: Partition,
    reader: PartitionReader,
    offset: Offset,
    changes: watch::Receiver<Visible>,
}

/// Batches read in one go, and what to say beside them.
struct Push {
    batches: Vec<Bytes>,
    visible: Visible,
    next_offset: Offset,
}

impl Cursor {
    fn open(context: &Context, asked: &FetchPartition) -> Result<Self, WireError> {
        let partition = context.partition(&asked.topic, asked.topic_id, asked.partition)?;
        partition.check_offset(asked.offset)?;
        let changes = partition.watch();
        Ok(Self {
            reader: partition.reader(),
            partition,
            offset: asked.offset,
            changes,
        })
    }

    /// Reads what is visible from here, and moves on. `None`: nothing yet.
    async fn read(&mut self, max_bytes: usize) -> Result<Option<Push>, WireError> {
        let visible = *self.changes.borrow_and_update();
        if let Some(why) = visible.closed {
            return Err(errors::closed(&self.partition.name(), why));
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

/// Waits until something changes in one of the partitions.
async fn changed(cursors: &mut [Cursor]) {
    // Its result says which one: every cursor is looked at anyhow.
    let _ = select_all(
        cursors
            .iter_mut()
            .map(|cursor| Box::pin(cursor.changes.changed())),
    )
    .await;
}

pub(crate) async fn open(
    context: &Context,
    request: OpenFetch,
    sender: &mut FrameSender,
    receiver: &mut FrameReceiver,
) -> Result<(), StreamEnd> {
    check_items(
        "partitions of a fetch stream",
        request.partitions.len(),
        MAX_PARTITIONS_PER_FETCH_STREAM,
    )?;
    let max_bytes = checked_max_bytes(request.max_bytes)?;
    let mut cursors = request
        .partitions
        .iter()
        .map(|asked| Cursor::open(context, asked))
        .collect::<Result<Vec<_>, _>>()?;
    let topic_ids = cursors
        .iter()
        .map(|cursor| cursor.partition.id().topic_id)
        .collect();
    sender
        .send(&Ok::<_, WireError>(FetchOpened { topic_ids }))
        .await?;

    loop {
        let mut idle = true;
        for (index, cursor) in cursors.iter_mut().enumerate() {
            let Some(push) = cursor.read(max_bytes).await? else {
                continue;
            };
            idle = false;
            let body = Fetched {
                index: index as u32,
                high_watermark: push.visible.high_watermark,
                log_start_offset: push.visible.log_start_offset,
                next_offset: push.next_offset,
            };
            // The client's reading is the credit: this waits for it.
            sender
                .send_with_payload(&Ok::<_, WireError>(body), push.batches)
                .await?;
        }
        if idle {
            tokio::select! {
                () = changed(&mut cursors) => {}
                // The client sends nothing after its request: what comes is the end of the stream.
                _ = receiver.receive::<()>(0) => return Ok(()),
                _ = sender.stopped() => return Ok(()),
            }
        }
    }
}

pub(crate) async fn fetch(
    context: &Context,
    request: Fetch,
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
    let mut answers: Vec<Answer> = request
        .partitions
        .iter()
        .map(|asked| Answer::new(Cursor::open(context, asked)))
        .collect();
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
