//! The receiving half of a stream, as frames.

use std::fmt;

use bytes::{Buf, Bytes, BytesMut};
use millstream_protocol::frame::{FRAME_HEADER_BYTES, FrameError, FrameHeader, decode_body};
use millstream_protocol::{ErrorCode, WireError};
use quinn::ReadError;
use serde::de::DeserializeOwned;

use crate::chunks::Chunks;
use crate::close::{CloseReason, StreamCode};
use crate::sender::early_data;

/// What is allocated for a claimed length before any of it has come; from then on at most as much
/// again as has come. A claim alone costs its sender nothing, so it buys no more than this, times
/// the streams of a connection.
pub(crate) const FIRST_ALLOCATION_BYTES: usize = 16 * 1024;

/// What a stream that has carried payloads as large is allocated at once: a stream of batches is
/// received without copying what has come to a larger place.
const MAX_EARNED_ALLOCATION_BYTES: usize = 1024 * 1024;

/// What is taken at once of a stream that is passed on.
const RELAYED_AT_ONCE_BYTES: usize = 32 * 1024;

/// A body buffer larger than this is not kept for the next frame.
const KEPT_BODY_BYTES: usize = 64 * 1024;

/// The receiving half of a stream.
///
/// Dropping it before the stream's end tells the peer to stop ([`StreamCode::Dropped`]).
///
/// # Memory
///
/// A frame's payload is assembled in one contiguous buffer. On the word of the peer 16 KiB are
/// allocated, or as much as the largest payload that has come on this stream, at most 1 MiB;
/// beyond it, the buffer is never more than twice what has arrived.
///
/// # Cancellation
///
/// Receiving is cancel-safe: a call that is dropped loses nothing, and the next one goes on where
/// it stopped. An error is final: every later call returns it again.
pub struct FrameReceiver {
    chunks: Chunks,
    /// Bytes that have come and belong to no frame yet.
    chunk: Bytes,
    frame: Partial,
    failed: Option<ReceiveError>,
}

/// A frame: its decoded body and its payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame<T> {
    /// The decoded body.
    pub body: T,
    /// The raw bytes behind it; empty when the frame has none.
    pub payload: BytesMut,
}

/// A frame whose body has not been decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UndecodedFrame {
    /// The body, postcard.
    pub body: Bytes,
    /// The raw bytes behind it; empty when the frame has none.
    pub payload: BytesMut,
}

/// Why no frame could be received.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReceiveError {
    /// The frame exceeds a limit, or its body is malformed.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The stream ended within a frame.
    #[error("the stream ended within a frame")]
    Truncated,
    /// The peer abandoned the stream.
    #[error("the peer abandoned the stream: {0}")]
    Reset(StreamCode),
    /// This side has stopped the stream.
    #[error("the stream is stopped")]
    Stopped,
    /// The connection is closed.
    #[error(transparent)]
    Closed(#[from] CloseReason),
}

impl ReceiveError {
    /// What to answer a peer that sent something unreadable; `None` where nobody is left to hear
    /// an answer.
    pub fn to_wire_error(&self) -> Option<WireError> {
        let code = match self {
            Self::Frame(FrameError::BodyTooLarge { .. } | FrameError::PayloadTooLarge { .. }) => {
                ErrorCode::FrameTooLarge
            }
            Self::Frame(FrameError::Malformed(_) | FrameError::Trailing { .. })
            | Self::Truncated => ErrorCode::MalformedFrame,
            Self::Reset(_) | Self::Stopped | Self::Closed(_) => return None,
        };
        Some(WireError::new(code, self.to_string()))
    }
}

impl FrameReceiver {
    pub(crate) fn new(stream: quinn::RecvStream) -> Self {
        Self {
            chunks: Chunks::new(stream),
            chunk: Bytes::new(),
            frame: Partial::default(),
            failed: None,
        }
    }

    /// Receives the next frame and decodes its body; `None` when the peer has finished the stream
    /// after a whole frame.
    ///
    /// `payload_limit` is what the caller is ready to hold, bytes. A frame that claims more is
    /// refused before anything is allocated for it.
    pub async fn receive<T: DeserializeOwned>(
        &mut self,
        payload_limit: usize,
    ) -> Result<Option<Frame<T>>, ReceiveError> {
        if !self.assemble(payload_limit, Part::Whole).await? {
            return Ok(None);
        }
        let body = decode_body(&self.frame.body).map_err(|error| self.fail(error.into()))?;
        let payload = self.frame.take_payload();
        Ok(Some(Frame { body, payload }))
    }

    /// Receives and decodes the next frame's body alone, for a caller whose readiness to hold a
    /// payload depends on it; `None` when the peer has finished the stream after a whole frame.
    /// With it come the bytes of payload that follow, at most `payload_limit`; they are received
    /// by [`FrameReceiver::receive_payload`], which has to be called, also for none.
    pub async fn receive_body<T: DeserializeOwned>(
        &mut self,
        payload_limit: usize,
    ) -> Result<Option<(T, usize)>, ReceiveError> {
        if !self.assemble(payload_limit, Part::Body).await? {
            return Ok(None);
        }
        let body = decode_body(&self.frame.body).map_err(|error| self.fail(error.into()))?;
        let payload_bytes = self
            .frame
            .lengths
            .map_or(0, |lengths| lengths.payload_bytes);
        Ok(Some((body, payload_bytes)))
    }

    /// Receives the payload of the frame whose body [`FrameReceiver::receive_body`] has given.
    pub async fn receive_payload(&mut self) -> Result<BytesMut, ReceiveError> {
        // The limit was checked with the body.
        match self.assemble(usize::MAX, Part::Whole).await? {
            true => Ok(self.frame.take_payload()),
            false => Err(self.fail(ReceiveError::Truncated)),
        }
    }

    /// Like [`FrameReceiver::receive`], but leaves the body as it came, for a caller that decides
    /// by itself what to make of a malformed one.
    pub async fn receive_undecoded(
        &mut self,
        payload_limit: usize,
    ) -> Result<Option<UndecodedFrame>, ReceiveError> {
        if !self.assemble(payload_limit, Part::Whole).await? {
            return Ok(None);
        }
        let body = self.frame.body.split().freeze();
        let payload = self.frame.take_payload();
        Ok(Some(UndecodedFrame { body, payload }))
    }

    /// The next bytes, where a frame begins or within one that is being passed on; `None` when the peer has
    /// finished the stream.
    pub(crate) async fn next_chunk(&mut self) -> Result<Option<Bytes>, ReceiveError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        if !self.chunk.is_empty() {
            return Ok(Some(std::mem::take(&mut self.chunk)));
        }
        let next = self.chunks.next(RELAYED_AT_ONCE_BYTES).await;
        next.map_err(|error| self.fail(receive_error(error)))
    }

    /// Tells the peer to send no more on this stream. Whatever is received afterwards is
    /// [`ReceiveError::Stopped`].
    pub fn stop(&mut self, code: StreamCode) {
        self.chunks.stop(code);
        self.failed.get_or_insert(ReceiveError::Stopped);
    }

    /// Reads until that part of the frame is complete; false at a clean end of the stream.
    async fn assemble(&mut self, payload_limit: usize, part: Part) -> Result<bool, ReceiveError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        loop {
            if let Err(error) = self.frame.absorb(&mut self.chunk, payload_limit, part) {
                return Err(self.fail(error.into()));
            }
            if self.frame.has(part) {
                return Ok(true);
            }
            match self.chunks.next(self.frame.missing_payload()).await {
                Ok(Some(chunk)) => self.chunk = chunk,
                Ok(None) if self.frame.is_untouched() => return Ok(false),
                Ok(None) => return Err(self.fail(ReceiveError::Truncated)),
                Err(error) => return Err(self.fail(receive_error(error))),
            }
        }
    }

    fn fail(&mut self, error: ReceiveError) -> ReceiveError {
        self.failed.get_or_insert(error).clone()
    }

    /// Bytes of the frame being received that have come.
    #[cfg(test)]
    pub(crate) fn frame_progress(&self) -> usize {
        let frame = &self.frame;
        let body = if frame.lengths.is_some() {
            frame.body.len()
        } else {
            0
        };
        frame.header_filled + body + frame.payload.len()
    }

    /// Chunks of later frames that were taken from QUIC.
    #[cfg(test)]
    pub(crate) fn chunks_left(&self) -> usize {
        self.chunks.left()
    }

    /// The payload being received: what has come of it, and what is allocated for it.
    #[cfg(test)]
    pub(crate) fn payload_progress(&self) -> (usize, usize) {
        (self.frame.payload.len(), self.frame.payload.capacity())
    }
}

impl fmt::Debug for FrameReceiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrameReceiver")
            .field("stream", &self.chunks.stream_id())
            .finish_non_exhaustive()
    }
}

/// The frame being received, as far as it has come.
#[derive(Default)]
struct Partial {
    header: [u8; FRAME_HEADER_BYTES],
    header_filled: usize,
    /// The header's lengths, once it is complete and within the limits.
    lengths: Option<FrameHeader>,
    body: BytesMut,
    payload: BytesMut,
    /// The largest payload that has come on this stream, at most [`MAX_EARNED_ALLOCATION_BYTES`].
    earned: usize,
}

/// What of a frame is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// Its header and body.
    Body,
    /// Its payload too.
    Whole,
}

impl Partial {
    /// Takes from `chunk` what belongs to this frame.
    fn absorb(
        &mut self,
        chunk: &mut Bytes,
        payload_limit: usize,
        part: Part,
    ) -> Result<(), FrameError> {
        let lengths = match self.lengths {
            Some(lengths) => lengths,
            None => {
                let take = (FRAME_HEADER_BYTES - self.header_filled).min(chunk.len());
                chunk.copy_to_slice(&mut self.header[self.header_filled..][..take]);
                self.header_filled += take;
                if self.header_filled < FRAME_HEADER_BYTES {
                    return Ok(());
                }
                self.body.clear();
                *self
                    .lengths
                    .insert(FrameHeader::parse(self.header, payload_limit)?)
            }
        };
        absorb_into(&mut self.body, lengths.body_bytes, 0, chunk);
        if self.body.len() == lengths.body_bytes && part == Part::Whole {
            absorb_into(&mut self.payload, lengths.payload_bytes, self.earned, chunk);
        }
        Ok(())
    }

    /// Whether that part of the frame is complete.
    fn has(&self, part: Part) -> bool {
        self.lengths.is_some_and(|lengths| {
            self.body.len() == lengths.body_bytes
                && (part == Part::Body || self.payload.len() == lengths.payload_bytes)
        })
    }

    /// Bytes of the payload that are still to come, as far as is known.
    fn missing_payload(&self) -> usize {
        self.lengths
            .map_or(0, |lengths| lengths.payload_bytes - self.payload.len())
    }

    fn is_untouched(&self) -> bool {
        self.header_filled == 0
    }

    /// Hands out the payload and makes ready for the next frame.
    fn take_payload(&mut self) -> BytesMut {
        self.header_filled = 0;
        self.lengths = None;
        if self.body.capacity() > KEPT_BODY_BYTES {
            self.body = BytesMut::new();
        }
        let came = self.payload.len().min(MAX_EARNED_ALLOCATION_BYTES);
        self.earned = self.earned.max(came);
        std::mem::take(&mut self.payload)
    }
}

/// Moves from `chunk` what `buffer` lacks of `total`, without trusting that all of it will come.
fn absorb_into(buffer: &mut BytesMut, total: usize, earned: usize, chunk: &mut Bytes) {
    while buffer.len() < total && !chunk.is_empty() {
        let missing = total - buffer.len();
        if buffer.len() == buffer.capacity() {
            let trusted = earned.max(FIRST_ALLOCATION_BYTES);
            buffer.reserve(missing.min(buffer.len().max(trusted)));
        }
        let room = buffer.capacity() - buffer.len();
        let take = room.min(missing).min(chunk.len());
        buffer.extend_from_slice(&chunk[..take]);
        chunk.advance(take);
    }
}

pub(crate) fn receive_error(error: ReadError) -> ReceiveError {
    match error {
        ReadError::Reset(code) => ReceiveError::Reset(StreamCode::from_wire(code)),
        ReadError::ConnectionLost(error) => ReceiveError::Closed(CloseReason::of(error)),
        ReadError::ClosedStream => ReceiveError::Stopped,
        ReadError::IllegalOrderedRead => ReceiveError::Closed(CloseReason::Protocol {
            message: "the stream was read out of order".to_owned(),
        }),
        ReadError::ZeroRttRejected => ReceiveError::Closed(early_data()),
    }
}
