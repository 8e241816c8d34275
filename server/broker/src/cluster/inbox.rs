//! The way of what replicas hear from each other to the writer.

use millstream_log::ProducedBatch;
use millstream_peer::{Inbox, Received};
use millstream_replication::BrokerId;

use crate::writer::{Heard, Writer, WriterCommand};

/// Hands everything to the writer, which ends with the broker.
pub(super) struct WriterInbox {
    writer: Writer,
}

impl WriterInbox {
    pub(super) fn new(writer: Writer) -> Self {
        Self { writer }
    }
}

impl Inbox for WriterInbox {
    fn received(&self, received: Received) {
        let Received {
            from,
            partition,
            message,
            batches,
            room,
        } = received;
        let batches = batches.into_iter().map(|it| ProducedBatch {
            bytes: it.bytes,
            header: it.header,
        });
        // A writer that has stopped takes nothing: the peer finds the links gone soon.
        let _ = self.writer.hear(Heard {
            partition,
            from,
            message,
            batches: batches.collect(),
            room,
        });
    }

    fn linked(&self, peer: BrokerId) {
        tracing::info!(broker = peer, "linked");
        // As above.
        let _ = self.writer.send(WriterCommand::Linked { peer });
    }

    fn unlinked(&self, peer: BrokerId, reason: String) {
        tracing::info!(broker = peer, reason, "the link is gone");
    }
}
