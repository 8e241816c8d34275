//! A stream as bytes without frames: to measure what QUIC itself can do on a path.

use std::fmt;

use bytes::Bytes;

use crate::close::StreamCode;
use crate::receiver::{ReceiveError, receive_error};
use crate::sender::{SendError, send_error};

/// Chunks that are taken from QUIC at once.
const BATCH_CHUNKS: usize = 16;

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
    stream: quinn::RecvStream,
    batch: [Bytes; BATCH_CHUNKS],
    next: usize,
    filled: usize,
}

impl RawReceiver {
    pub(crate) fn new(stream: quinn::RecvStream) -> Self {
        Self {
            stream,
            batch: Default::default(),
            next: 0,
            filled: 0,
        }
    }

    /// Receives the next bytes, as they came off the network; `None` at the stream's end.
    /// Cancel-safe.
    pub async fn read(&mut self) -> Result<Option<Bytes>, ReceiveError> {
        if self.next == self.filled {
            self.next = 0;
            self.filled = 0;
            match self
                .stream
                .read_chunks(&mut self.batch)
                .await
                .map_err(receive_error)?
            {
                Some(filled) => self.filled = filled,
                None => return Ok(None),
            }
        }
        let bytes = std::mem::take(&mut self.batch[self.next]);
        self.next += 1;
        Ok(Some(bytes))
    }

    /// Tells the peer to send no more.
    pub fn stop(&mut self, code: StreamCode) {
        // An error says that the stream has ended already.
        let _ = self.stream.stop(code.to_wire());
    }
}

impl fmt::Debug for RawReceiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawReceiver")
            .field("stream", &self.stream.id())
            .finish_non_exhaustive()
    }
}
