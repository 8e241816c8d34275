//! What goes into one frame: messages, and the entries that are read for them now.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use millstream_protocol::Offset;
use millstream_protocol::batch::BatchHeader;
use millstream_protocol::limits::MAX_BATCH_BYTES;
use millstream_replication::Message;

use crate::entries::{Entries, Piece};
use crate::limits::{FULL_FRAME_BYTES, MAX_MESSAGES_PER_FRAME, SMALL_BATCH_BYTES, TURN_BYTES};
use crate::outbox::{Outgoing, has_entries, span_of, split};
use crate::wire::{Part, ReplicationFrame};

/// What is read of a message's entries.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Read {
    /// This, without the disk.
    Done(Option<Piece>),
    /// Nothing yet.
    NeedsDisk,
}

/// Where a message's entries are, if it has any.
fn wanted(outgoing: &Outgoing) -> Option<(&Arc<dyn Entries>, Offset, Offset)> {
    let span = span_of(&outgoing.message).filter(|span| has_entries(span))?;
    let entries = outgoing.entries.as_ref()?;
    Some((entries, span.prev.offset, span.until))
}

/// Reads the entries of a message for one turn, where that needs no disk or there are none.
pub(crate) fn read_cached(outgoing: &Outgoing) -> Read {
    let Some((entries, from, until)) = wanted(outgoing) else {
        return Read::Done(None);
    };
    let read = |from| entries.read_cached(from, until, TURN_BYTES);
    match read_on(from, until, read) {
        Some(piece) => Read::Done(Some(piece)),
        None => Read::NeedsDisk,
    }
}

/// Reads them from wherever they are.
pub(crate) async fn read(outgoing: &Outgoing) -> Option<Piece> {
    let (entries, from, until) = wanted(outgoing)?;
    let entries = Arc::clone(entries);
    let reading = move || read_on(from, until, |from| entries.read(from, until, TURN_BYTES));
    match millstream_offload::run(reading).await {
        Ok(piece) => piece,
        Err(error) => {
            tracing::error!(%error, "reading entries for a peer failed");
            None
        }
    }
}

/// Reads until there is something, or nothing before `until`.
fn read_on(
    mut from: Offset,
    until: Offset,
    read: impl Fn(Offset) -> Option<Piece>,
) -> Option<Piece> {
    loop {
        let piece = read(from)?;
        let next = piece.next_offset;
        if !piece.batches.is_empty() || next <= from || next >= until {
            return Some(piece);
        }
        from = next;
    }
}

/// A frame that is being filled.
#[derive(Default)]
pub(crate) struct Gathered {
    parts: Vec<Part>,
    payload: Vec<Bytes>,
    /// Small batches, behind the payload so far.
    small: BytesMut,
    bytes: usize,
}

impl Gathered {
    /// Adds a message and what was read for it, and gives what is left of the message. One whose
    /// entries are not there any more is lost.
    pub(crate) fn add(&mut self, mut outgoing: Outgoing, piece: Option<Piece>) -> Option<Outgoing> {
        let partition = outgoing.partition;
        let Some((_, from, until)) = wanted(&outgoing) else {
            self.push(outgoing);
            return None;
        };
        let Some(piece) = piece else {
            tracing::debug!(%partition, from, until, "the log has changed: a message is not sent");
            return None;
        };
        if piece.batches.is_empty() {
            if let Some(outgoing) = without_entries(outgoing) {
                self.push(outgoing);
            }
            return None;
        }
        if !is_sendable(&piece, from, until) {
            tracing::error!(%partition, from, until, "the log gives other entries than asked for");
            return None;
        }
        let rest = split(&mut outgoing.message, piece.next_offset);
        let rest = rest.map(|message| Outgoing {
            partition,
            message,
            entries: outgoing.entries.clone(),
        });
        self.push(outgoing);
        let small = piece
            .batches
            .iter()
            .map(Bytes::len)
            .filter(|it| *it < SMALL_BATCH_BYTES);
        self.small.reserve(small.sum());
        for batch in piece.batches {
            self.push_batch(batch);
        }
        rest
    }

    fn push(&mut self, outgoing: Outgoing) {
        self.parts.push(Part {
            partition: outgoing.partition,
            message: outgoing.message,
        });
    }

    fn push_batch(&mut self, batch: Bytes) {
        self.bytes += batch.len();
        if batch.len() < SMALL_BATCH_BYTES {
            self.small.extend_from_slice(&batch);
        } else {
            self.end_small();
            self.payload.push(batch);
        }
    }

    fn end_small(&mut self) {
        if !self.small.is_empty() {
            self.payload.push(self.small.split().freeze());
        }
    }

    /// Whether there is nothing to send.
    pub(crate) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Whether nothing more is to be added.
    pub(crate) fn is_full(&self) -> bool {
        self.bytes >= FULL_FRAME_BYTES || self.parts.len() == MAX_MESSAGES_PER_FRAME
    }

    /// The frame's body and payload.
    pub(crate) fn into_frame(mut self) -> (ReplicationFrame, Vec<Bytes>) {
        self.end_small();
        (ReplicationFrame { parts: self.parts }, self.payload)
    }
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
        && (bytes <= TURN_BYTES || (bytes <= MAX_BATCH_BYTES && piece.batches.len() == 1))
}

#[cfg(test)]
mod tests;
