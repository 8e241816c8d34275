//! The keys of what was not compacted yet, each with the offset of its latest record.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use millstream_protocol::Offset;
use millstream_protocol::batch::RecordBatch;

use super::{CompactionError, CompactionPlan};
use crate::damage::Damage;
use crate::error::Attempt;
use crate::files::Files;
use crate::limits::HEADER_CHUNK_BYTES;
use crate::scan::{Scanner, Step};
use crate::segment::Segment;

/// What an entry of the map takes besides its key, roughly.
const OVERHEAD_BYTES: usize = 64;

/// The latest record of each key that the dirty part of a log holds, as far as there is room.
#[derive(Debug, Default)]
pub(super) struct LatestKeys {
    latest: HashMap<Box<[u8]>, Offset>,
    bytes: usize,
    /// All batches below are taken into account.
    pub(super) until: Offset,
}

impl LatestKeys {
    /// Collects the keys of whole batches, until they take `max_bytes`; of one batch at least.
    pub(super) fn collect(
        files: &Files,
        sources: &[Arc<Segment>],
        plan: CompactionPlan,
        max_bytes: usize,
    ) -> Result<Self, CompactionError> {
        let mut keys = Self {
            until: plan.dirty_from,
            ..Self::default()
        };
        for source in sources {
            let end_offset = source.extent().end_offset;
            if end_offset > plan.dirty_from {
                keys.add_segment(files, source, plan.dirty_from, max_bytes)?;
                if keys.bytes >= max_bytes {
                    return Ok(keys);
                }
                keys.until = end_offset;
            }
        }
        Ok(keys)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.latest.is_empty()
    }

    /// Whether a later record has the same key.
    pub(super) fn supersede(&self, key: &[u8], offset: Offset) -> bool {
        self.latest.get(key).is_some_and(|latest| *latest > offset)
    }

    fn add_segment(
        &mut self,
        files: &Files,
        source: &Segment,
        from: Offset,
        max_bytes: usize,
    ) -> Result<(), CompactionError> {
        let (bytes, binding) = (source.bytes()?, files.binding());
        let landing = source.by_offset(from)?;
        let start = (landing.offset, landing.position);
        let density = source.header.density;
        let mut scanner = Scanner::new(&bytes, &binding, density, start, HEADER_CHUNK_BYTES);
        let path = source.path();
        loop {
            let entry = match scanner.step().attempt("read", path)? {
                Step::Entry(entry) => entry,
                Step::End => return Ok(()),
                Step::Fault(fault) => {
                    return Err(CompactionError::Damaged(Damage {
                        offset: scanner.expected(),
                        what: format!("{} has {fault}", path.display()),
                    }));
                }
            };
            let header = &entry.header.batch;
            if header.next_offset() <= from {
                continue;
            }
            if !header.control {
                let batch = scanner.batch(&entry).attempt("read", path)?;
                let batch = batch.map_err(|fault| {
                    CompactionError::Damaged(Damage {
                        offset: header.base_offset,
                        what: format!("{} has {fault}", path.display()),
                    })
                })?;
                self.add_batch(batch);
            }
            self.until = header.next_offset();
            if self.bytes >= max_bytes {
                return Ok(());
            }
        }
    }

    /// A batch whose records cannot be read adds no keys, and is kept.
    fn add_batch(&mut self, batch: Bytes) {
        let records = RecordBatch::parse(batch).and_then(|batch| batch.records());
        let Ok(records) = records else {
            return;
        };
        for record in records.iter().map_while(Result::ok) {
            let Some(key) = record.key else {
                continue;
            };
            match self.latest.get_mut(key) {
                Some(latest) => *latest = record.offset,
                None => {
                    self.bytes += key.len() + OVERHEAD_BYTES;
                    self.latest.insert(key.into(), record.offset);
                }
            }
        }
    }
}
