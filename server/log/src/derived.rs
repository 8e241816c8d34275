//! What is derived from the batches of a log: producers and leader epochs.

use millstream_protocol::Offset;
use millstream_protocol::batch::BatchHeader;

use crate::epochs::EpochList;
use crate::error::StorageFailure;
use crate::files::Files;
use crate::format::{names, snapshot};
use crate::limits::MAX_SNAPSHOT_BYTES;
use crate::producers::ProducerTable;

/// Producers and epochs, from a snapshot and the batches behind it.
#[derive(Debug, Default)]
pub(crate) struct Derived {
    pub(crate) producers: ProducerTable,
    pub(crate) epochs: EpochList,
    /// Every batch below is taken into account.
    pub(crate) offset: Offset,
    /// The offset of the snapshot; 0 when none was used.
    pub(crate) snapshot_offset: Offset,
}

impl Derived {
    /// Begins with the newest of `snapshots` that can be read, and is not above `up_to`.
    pub(crate) fn from_snapshots(
        files: &Files,
        snapshots: impl DoubleEndedIterator<Item = Offset>,
        up_to: Offset,
        max_producers: usize,
    ) -> Result<Self, StorageFailure> {
        for offset in snapshots.rev().filter(|offset| *offset <= up_to) {
            if let Some(found) = Self::from_snapshot(files, offset, max_producers)? {
                return Ok(found);
            }
        }
        Ok(Self::default())
    }

    /// What the snapshot at `offset` says; `None` if there is none that can be read. Nothing comes
    /// before offset 0, and needs none.
    pub(crate) fn from_snapshot(
        files: &Files,
        offset: Offset,
        max_producers: usize,
    ) -> Result<Option<Self>, StorageFailure> {
        if offset == 0 {
            return Ok(Some(Self::default()));
        }
        let name = names::snapshot(offset);
        let Some(bytes) = files.read(&name, MAX_SNAPSHOT_BYTES)? else {
            return Ok(None);
        };
        match snapshot::decode(&bytes, &files.identity, files.salt, max_producers) {
            Ok(snapshot) if snapshot.offset == offset => Ok(Some(Self {
                producers: snapshot.producers,
                epochs: snapshot.epochs,
                offset,
                snapshot_offset: offset,
            })),
            _ => {
                let path = files.path(&name);
                tracing::warn!(path = %path.display(), "an unreadable snapshot is not used");
                Ok(None)
            }
        }
    }

    /// Takes the next batch into account, unless it is already.
    pub(crate) fn note(&mut self, batch: &BatchHeader, max_producers: usize) {
        if batch.base_offset >= self.offset {
            self.producers.note(batch, max_producers);
            self.epochs.note(batch.leader_epoch, batch.base_offset);
            self.offset = batch.next_offset();
        }
    }
}
