//! The sending half of a stream, as frames.

use std::fmt;
use std::future::Future;
use std::iter;

use bytes::{Bytes, BytesMut};
use millstream_protocol::frame::{self, FrameError};
use quinn::{StoppedError, WriteError};
use serde::Serialize;

use crate::close::{CloseReason, StreamCode};

/// The encoded heads of frames share allocations of this size.
const HEAD_BUFFER_BYTES: usize = 4 * 1024;

/// Which streams of a connection go first when there is more to send than the link carries.
///
/// Streams of one priority share the link in turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// Behind everything: catching up, copying.
    Background,
    /// Records. What every stream starts with.
    Data,
    /// Ahead of all records: group membership, commits, a peer's control stream. Few bytes.
    Control,
}

/// The sending half of a stream.
///
/// Dropping it after whole frames ends the stream cleanly, as [`FrameSender::finish`] does;
/// dropping it with a frame half sent resets the stream, so that the peer does not take a part for
/// the whole.
///
/// # Cancellation
///
/// A send that is dropped before it is done never leaves a torn stream behind: what is left of its
/// frame goes out before the next one. Whether a cancelled frame is sent is therefore not known to
/// the caller; whether the stream is well-formed is.
pub struct FrameSender {
    stream: quinn::SendStream,
    /// Where the heads of frames are encoded.
    head: BytesMut,
    /// The frame being sent; the first `sent` chunks are gone already.
    chunks: Vec<Bytes>,
    sent: usize,
}

/// Why a frame could not be sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The frame cannot be encoded or exceeds a limit. Nothing of it was sent.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The peer does not read this stream any more.
    #[error("the peer stopped the stream: {0}")]
    Stopped(StreamCode),
    /// The stream has been finished or reset by this side.
    #[error("the stream is finished")]
    Finished,
    /// The connection is closed.
    #[error(transparent)]
    Closed(#[from] CloseReason),
}

impl FrameSender {
    pub(crate) fn new(stream: quinn::SendStream) -> Self {
        Self {
            stream,
            head: BytesMut::new(),
            chunks: Vec::new(),
            sent: 0,
        }
    }

    /// Sends a frame without a payload. Waits while flow control holds it back.
    pub async fn send<T: Serialize + ?Sized>(&mut self, body: &T) -> Result<(), SendError> {
        self.send_with_payload(body, iter::empty()).await
    }

    /// Sends a frame whose payload is the given chunks, one after the other. They are not copied:
    /// they stay alive until the peer has acknowledged them.
    pub async fn send_with_payload<T: Serialize + ?Sized>(
        &mut self,
        body: &T,
        payload: impl IntoIterator<Item = Bytes>,
    ) -> Result<(), SendError> {
        self.flush().await?;
        self.queue(body, payload)?;
        self.flush().await
    }

    /// Sends bytes of frames that another stream has brought.
    pub(crate) async fn send_chunk(&mut self, chunk: Bytes) -> Result<(), SendError> {
        self.flush().await?;
        self.chunks.push(chunk);
        self.flush().await
    }

    /// Ends the stream after the frames sent so far. Sends what a cancelled send left over first.
    pub async fn finish(&mut self) -> Result<(), SendError> {
        self.flush().await?;
        self.stream.finish().map_err(|_| SendError::Finished)
    }

    /// Abandons the stream: what has not arrived yet is not sent again.
    pub fn reset(&mut self, code: StreamCode) {
        self.chunks.clear();
        self.sent = 0;
        // An error says that the stream has ended already.
        let _ = self.stream.reset(code.to_wire());
    }

    /// Chooses when this stream's frames go out, compared with other streams of the connection.
    pub fn set_priority(&self, priority: Priority) {
        let level = match priority {
            Priority::Background => -1,
            Priority::Data => 0,
            Priority::Control => 1,
        };
        // An error says that the stream has ended already.
        let _ = self.stream.set_priority(level);
    }

    /// Waits until the peer stops reading (`Some`), or, after [`FrameSender::finish`], until
    /// everything has arrived at the peer (`None`). Arrived does not mean read.
    pub fn stopped(
        &self,
    ) -> impl Future<Output = Result<Option<StreamCode>, CloseReason>> + Send + 'static {
        let stopped = self.stream.stopped();
        async move {
            match stopped.await {
                Ok(code) => Ok(code.map(StreamCode::from_wire)),
                Err(StoppedError::ConnectionLost(error)) => Err(CloseReason::of(error)),
                Err(StoppedError::ZeroRttRejected) => Err(early_data()),
            }
        }
    }

    /// Finishes the stream and waits until everything has arrived at the peer.
    pub async fn delivered(mut self) -> Result<(), SendError> {
        self.finish().await?;
        match self.stopped().await? {
            None => Ok(()),
            Some(code) => Err(SendError::Stopped(code)),
        }
    }

    /// Encodes a frame behind the ones being sent.
    fn queue<T: Serialize + ?Sized>(
        &mut self,
        body: &T,
        payload: impl IntoIterator<Item = Bytes>,
    ) -> Result<(), SendError> {
        self.chunks.push(Bytes::new());
        self.chunks
            .extend(payload.into_iter().filter(|chunk| !chunk.is_empty()));
        let payload_bytes = self.chunks.iter().map(Bytes::len).sum();
        if self.head.capacity() == 0 {
            self.head.reserve(HEAD_BUFFER_BYTES);
        }
        if let Err(error) = frame::encode(&body, payload_bytes, &mut self.head) {
            self.head.clear();
            self.chunks.clear();
            return Err(error.into());
        }
        self.chunks[0] = self.head.split().freeze();
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), SendError> {
        while let Some(unsent @ [_, ..]) = self.chunks.get_mut(self.sent..) {
            let written = self.stream.write_chunks(unsent).await.map_err(send_error)?;
            self.sent += written.chunks;
        }
        self.chunks.clear();
        self.sent = 0;
        Ok(())
    }
}

impl Drop for FrameSender {
    fn drop(&mut self) {
        if !self.chunks.is_empty() {
            self.reset(StreamCode::Dropped);
        }
    }
}

impl fmt::Debug for FrameSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrameSender")
            .field("stream", &self.stream.id())
            .finish_non_exhaustive()
    }
}

pub(crate) fn send_error(error: WriteError) -> SendError {
    match error {
        WriteError::Stopped(code) => SendError::Stopped(StreamCode::from_wire(code)),
        WriteError::ConnectionLost(error) => SendError::Closed(CloseReason::of(error)),
        WriteError::ClosedStream => SendError::Finished,
        WriteError::ZeroRttRejected => SendError::Closed(early_data()),
    }
}

/// Early data is never sent, so QUIC has no reason to say that it was rejected.
pub(crate) fn early_data() -> CloseReason {
    CloseReason::Protocol {
        message: "early data was rejected".to_owned(),
    }
}
