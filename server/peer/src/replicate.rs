//! The side of the replication streams that opens them: what waits in the outbox goes out.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use millstream_protocol::api::peer::{OpenReplication, OpenedReplication};
use millstream_protocol::api::{Request, RequestFrame};
use millstream_protocol::batch::BatchHeader;
use millstream_protocol::{Offset, WireError};
use millstream_replication::Message;
use millstream_transport::{
    CloseReason, Connection, FrameReceiver, FrameSender, Priority, ReceiveError, SendError,
};

use crate::entries::{Entries, Piece, read_on};
use crate::limits::{MAX_ENTRIES_BYTES, TURN_BYTES};
use crate::mailbox::Mailbox;
use crate::outbox::{Lane, Outgoing, has_entries, span_of, split};
use crate::wire::ReplicationFrame;

/// Why a replication stream ended, or did not begin.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StreamEnd {
    #[error("the peer refuses the stream: {0}")]
    Refused(WireError),
    #[error("the peer has ended the stream")]
    Ended,
    #[error("the peer has not accepted the stream within {0:?}")]
    TimedOut(Duration),
    #[error(transparent)]
    Send(#[from] SendError),
    #[error(transparent)]
    Receive(#[from] ReceiveError),
    #[error(transparent)]
    Closed(#[from] CloseReason),
}

/// Both streams to a peer.
pub(crate) struct Streams {
    spans: (FrameSender, FrameReceiver),
    words: (FrameSender, FrameReceiver),
}

impl Streams {
    /// Opens them; the peer has accepted them then.
    pub(crate) async fn open(
        connection: &Connection,
        request: &OpenReplication,
    ) -> Result<Self, StreamEnd> {
        Ok(Self {
            spans: open(connection, request, Priority::Data).await?,
            words: open(connection, request, Priority::Control).await?,
        })
    }

    /// Sends what is in the mailbox until one of the streams ends.
    pub(crate) async fn send_all(self, mailbox: &Mailbox) -> StreamEnd {
        let Self { spans, words } = self;
        let (mut spans_end, mut words_end) = (spans.1, words.1);
        tokio::select! {
            end = send_lane(mailbox, Lane::Spans, spans.0) => end,
            end = send_lane(mailbox, Lane::Words, words.0) => end,
            end = answer(&mut spans_end) => end,
            end = answer(&mut words_end) => end,
        }
    }
}

async fn open(
    connection: &Connection,
    request: &OpenReplication,
    priority: Priority,
) -> Result<(FrameSender, FrameReceiver), StreamEnd> {
    let (mut sender, mut receiver) = connection.open_stream().await?;
    sender.set_priority(priority);
    let request = Request::OpenReplication(request.clone());
    sender.send(&RequestFrame::from_client(request)).await?;
    let answer = receiver.receive::<Result<OpenedReplication, WireError>>(0);
    match answer.await?.map(|frame| frame.body) {
        Some(Ok(OpenedReplication {})) => Ok((sender, receiver)),
        Some(Err(error)) => Err(StreamEnd::Refused(error)),
        None => Err(StreamEnd::Ended),
    }
}

/// Waits for what the peer says of an open stream: only that it ends.
async fn answer(receiver: &mut FrameReceiver) -> StreamEnd {
    match receiver.receive::<Result<(), WireError>>(0).await {
        Ok(Some(frame)) => frame
            .body
            .map_or_else(StreamEnd::Refused, |()| StreamEnd::Ended),
        Ok(None) => StreamEnd::Ended,
        Err(error) => error.into(),
    }
}

async fn send_lane(mailbox: &Mailbox, lane: Lane, mut sender: FrameSender) -> StreamEnd {
    loop {
        let outgoing = mailbox.next(lane).await;
        let Some((outgoing, batches)) = with_entries(mailbox, outgoing).await else {
            continue;
        };
        let frame = ReplicationFrame {
            partition: outgoing.partition,
            message: outgoing.message,
        };
        if let Err(error) = sender.send_with_payload(&frame, batches).await {
            return error.into();
        }
    }
}

/// Reads the entries that go with a message, as many as a turn allows, and puts back the rest. `None`
/// if the message is lost.
async fn with_entries(mailbox: &Mailbox, mut outgoing: Outgoing) -> Option<(Outgoing, Vec<Bytes>)> {
    let span = span_of(&outgoing.message).filter(|span| has_entries(span));
    let Some((from, until)) = span.map(|span| (span.prev.offset, span.until)) else {
        return Some((outgoing, Vec::new()));
    };
    let partition = outgoing.partition;
    let entries = outgoing.entries.clone()?;
    let Some(piece) = read(entries, from, until).await else {
        tracing::debug!(%partition, from, until, "the log has changed: a message is not sent");
        return None;
    };
    if piece.batches.is_empty() {
        return without_entries(outgoing).map(|outgoing| (outgoing, Vec::new()));
    }
    if !is_sendable(&piece, from, until) {
        tracing::error!(%partition, from, until, "the log gives other entries than asked for");
        return None;
    }
    if let Some(message) = split(&mut outgoing.message, piece.next_offset) {
        mailbox.put_back(Outgoing {
            partition,
            message,
            entries: outgoing.entries.clone(),
        });
    }
    Some((outgoing, piece.batches))
}

/// What is left of a message whose entries compaction has taken away: that they were there is not
/// said.
fn without_entries(mut outgoing: Outgoing) -> Option<Outgoing> {
    match &mut outgoing.message {
        Message::Append { span, .. } => {
            span.cut(span.prev.offset);
            Some(outgoing)
        }
        _ => None,
    }
}

/// Whether a peer would take a piece of what lies between two offsets.
fn is_sendable(piece: &Piece, from: Offset, until: Offset) -> bool {
    let bytes: usize = piece.batches.iter().map(Bytes::len).sum();
    let first = piece.batches.first();
    let first = first.and_then(|batch| BatchHeader::parse(batch).ok());
    first.is_some_and(|first| first.base_offset >= from)
        && (from + 1..=until).contains(&piece.next_offset)
        && bytes <= MAX_ENTRIES_BYTES
}

async fn read(entries: Arc<dyn Entries>, from: Offset, until: Offset) -> Option<Piece> {
    let cached = read_on((from, until), |from| {
        entries.read_cached(from, until, TURN_BYTES)
    });
    if cached.is_some() {
        return cached;
    }
    let reading = move || read_on((from, until), |from| entries.read(from, until, TURN_BYTES));
    match tokio::task::spawn_blocking(reading).await {
        Ok(piece) => piece,
        Err(error) => {
            tracing::error!(%error, "reading entries for a peer failed");
            None
        }
    }
}
