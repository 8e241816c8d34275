//! The bytes of a stream as they came off the network.

use bytes::Bytes;
use quinn::{ReadError, StreamId};

use crate::close::StreamCode;
use crate::config::MAX_RECEIVED_DATAGRAM_BYTES;

/// Chunks that are taken from a connection at once. To take them needs the connection's lock, which
/// its driver needs too; to copy them somewhere does not.
const CHUNKS_PER_READ: usize = 16;

/// A stream's bytes in order, without copying them.
pub(crate) struct Chunks {
    stream: quinn::RecvStream,
    taken: [Bytes; CHUNKS_PER_READ],
    next: usize,
    filled: usize,
}

impl Chunks {
    pub(crate) fn new(stream: quinn::RecvStream) -> Self {
        Self {
            stream,
            taken: Default::default(),
            next: 0,
            filled: 0,
        }
    }

    pub(crate) fn stream_id(&self) -> StreamId {
        self.stream.id()
    }

    /// The next bytes, some at least; `None` at the stream's end. Cancel-safe.
    ///
    /// As many chunks are taken as surely belong to the `wanted` bytes, and one at least: what is
    /// taken gives the peer credit for more, so it must not lie here unread.
    pub(crate) async fn next(&mut self, wanted: usize) -> Result<Option<Bytes>, ReadError> {
        if self.next == self.filled {
            (self.next, self.filled) = (0, 0);
            // A chunk comes from one datagram; QUIC merges only small ones.
            let chunks = wanted / usize::from(MAX_RECEIVED_DATAGRAM_BYTES);
            let room = &mut self.taken[..chunks.clamp(1, CHUNKS_PER_READ)];
            match self.stream.read_chunks(room).await? {
                Some(filled) => self.filled = filled,
                None => return Ok(None),
            }
        }
        let bytes = std::mem::take(&mut self.taken[self.next]);
        self.next += 1;
        Ok(Some(bytes))
    }

    /// Chunks that were taken and not handed out.
    #[cfg(test)]
    pub(crate) fn left(&self) -> usize {
        self.filled - self.next
    }

    /// Tells the peer to send no more.
    pub(crate) fn stop(&mut self, code: StreamCode) {
        // An error says that the stream has ended already.
        let _ = self.stream.stop(code.to_wire());
    }
}
