//! A stream as bytes without frames: to measure what QUIC itself can do on a path.

use std::fmt;

use bytes::Bytes;

use crate::chunks::Chunks;
use crate::close::StreamCode;
use crate::receiver::{ReceiveError, receive_error};
use crate::sender::{SendError, send_error};

/// The sending half of a raw stream. Dropping it finishes the stream.
pub struct RawSender {
    stream: quinn::SendStream,
}

impl RawSender {
    pub(crate) fn new(stream: quinn::SendStream) -> Self {
        Self { stream }
    }

    /// Sends bytes without copying them. Not cancel-safe: a part may have been sent.
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), SendError> {
        self.stream.write_chunk(bytes).await.map_err(send_error)
    }

    /// Ends the stream after what was sent so far.
    pub fn finish(&mut self) -> Result<(), SendError> {
        self.stream.finish().map_err(|_| SendError::Finished)
    }
}

impl fmt::Debug for RawSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawSender")
            .field("stream", &self.stream.id())
            .finish_non_exhaustive()
    }
}

/// The receiving half of a raw stream.
pub struct RawReceiver {
    chunks: Chunks,
}

impl RawReceiver {
    pub(crate) fn new(stream: quinn::RecvStream) -> Self {
        Self {
            chunks: Chunks::new(stream),
        }
    }

    /// Receives the next bytes, as they came off the network; `None` at the stream's end.
    /// Cancel-safe.
    pub async fn read(&mut self) -> Result<Option<Bytes>, ReceiveError> {
        self.chunks.next(usize::MAX).await.map_err(receive_error)
    }

    /// Tells the peer to send no more.
    pub fn stop(&mut self, code: StreamCode) {
        self.chunks.stop(code);
    }
}

impl fmt::Debug for RawReceiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawReceiver")
            .field("stream", &self.chunks.stream_id())
            .finish_non_exhaustive()
    }
}
