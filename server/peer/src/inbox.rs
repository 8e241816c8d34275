//! What comes from peers, as it is handed to the broker.

use bytes::BytesMut;
use millstream_protocol::TopicPartition;
use millstream_protocol::batch::BatchHeader;
use millstream_replication::{BrokerId, Message};
use tokio::sync::OwnedSemaphorePermit;

/// Who is told what comes from peers. No method may block.
pub trait Inbox: Send + Sync + 'static {
    /// A message of a peer, with its entries. Only what holds together comes here.
    fn received(&self, received: Received);

    /// There is a link to the peer again: what was sent before may be lost. What is sent from here on
    /// is on its way.
    fn linked(&self, peer: BrokerId);

    /// The link that was there is gone: what is sent is lost until there is one again.
    fn unlinked(&self, peer: BrokerId, reason: String);
}

/// A message of a peer.
#[derive(Debug)]
pub struct Received {
    /// Who has sent it.
    pub from: BrokerId,
    /// Which partition it is about.
    pub partition: TopicPartition,
    /// What it says.
    pub message: Message,
    /// The entries of its span: they begin at `prev` or, where compaction has left a gap, behind it,
    /// and end at `until`. Their checksums hold, and their epochs are the span's.
    pub batches: Vec<ReceivedBatch>,
    /// To be dropped when the entries are written, or are not going to be.
    pub room: Room,
}

/// One batch, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceivedBatch {
    /// The whole batch. The batches of a message share one buffer, of at most twice their size.
    pub bytes: BytesMut,
    /// Its header.
    pub header: BatchHeader,
}

/// The room that a message takes of what its stream may have in flight
/// ([`RECEIVED_BYTES_IN_FLIGHT`](crate::limits::RECEIVED_BYTES_IN_FLIGHT)). As long as there is none
/// left the stream is not read, so that a peer is no faster than the disk here.
#[derive(Debug)]
pub struct Room {
    /// What its drop gives back.
    _taken: Option<OwnedSemaphorePermit>,
}

impl Room {
    /// For a message that came on no stream.
    pub fn none() -> Self {
        Self { _taken: None }
    }

    pub(crate) fn of(taken: Option<OwnedSemaphorePermit>) -> Self {
        Self { _taken: taken }
    }
}
