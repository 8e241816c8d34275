//! A log's entries on their way to other replicas, read beside its writer.

use std::sync::atomic::Ordering;

use millstream_log::{LogReader, ReadBatches};
use millstream_peer::{Entries, Piece};
use millstream_protocol::Offset;

use crate::partition::Partition;

/// The entries of a log as they were when this was made, committed or not.
pub(super) struct SharedEntries {
    partition: Partition,
    reader: LogReader,
    /// How often the log had been cut or begun anew.
    rewritten: u64,
}

impl SharedEntries {
    pub(super) fn new(partition: &Partition) -> Self {
        Self {
            reader: partition.shared.reader.clone(),
            rewritten: partition.shared.rewritten.load(Ordering::SeqCst),
            partition: partition.clone(),
        }
    }

    /// Where reading from an offset begins. Records may have been deleted up to the middle of a batch: the whole
    /// batch is still there. `None` if whole batches behind `from` are gone meanwhile: whoever gets the rest without
    /// them would not know what they said of producers.
    fn reachable(&self, from: Offset) -> Option<Offset> {
        let start = self.reader.log_start_offset();
        (from >= self.reader.start_border()).then(|| from.max(start))
    }

    /// What was read, unless the log may have been another one by then.
    fn checked(&self, read: ReadBatches) -> Option<Piece> {
        let rewritten = self.partition.shared.rewritten.load(Ordering::SeqCst);
        (rewritten == self.rewritten).then_some(Piece {
            batches: read.batches,
            next_offset: read.next_offset,
        })
    }
}

impl Entries for SharedEntries {
    fn read(&self, from: Offset, until: Offset, max_bytes: usize) -> Option<Piece> {
        match self.reader.read(self.reachable(from)?, until, max_bytes) {
            Ok(read) => self.checked(read),
            Err(error) => {
                tracing::warn!(partition = self.partition.name(), %error, "entries cannot be sent");
                None
            }
        }
    }

    fn read_cached(&self, from: Offset, until: Offset, max_bytes: usize) -> Option<Piece> {
        let from = self.reachable(from)?;
        let read = self.reader.read_cached(from, until, max_bytes)?;
        self.checked(read)
    }
}
