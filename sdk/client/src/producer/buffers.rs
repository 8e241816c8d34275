//! The memory of acknowledged batches, kept for new ones.

use bytes::Bytes;
use parking_lot::Mutex;

/// A buffer that has grown to a batch's size need not grow again, and its pages are there.
#[derive(Debug)]
pub(super) struct BatchBuffers {
    max_spare_bytes: usize,
    spare: Mutex<Spare>,
}

#[derive(Debug, Default)]
struct Spare {
    buffers: Vec<Vec<u8>>,
    /// Their capacities, together.
    bytes: usize,
}

impl BatchBuffers {
    /// Keeps up to `max_spare_bytes` of memory that nobody uses.
    pub(super) fn new(max_spare_bytes: usize) -> Self {
        Self {
            max_spare_bytes,
            spare: Mutex::default(),
        }
    }

    /// A buffer of any content, or one without memory when none is spare.
    pub(super) fn take(&self) -> Vec<u8> {
        let mut spare = self.spare.lock();
        let buffer = spare.buffers.pop().unwrap_or_default();
        spare.bytes -= buffer.capacity();
        buffer
    }

    /// Keeps the memory of a batch, unless somebody still reads it or enough is kept.
    pub(super) fn give_back(&self, batch: Bytes) {
        if !batch.is_unique() {
            return;
        }
        let buffer = Vec::from(batch);
        let mut spare = self.spare.lock();
        if spare.bytes + buffer.capacity() <= self.max_spare_bytes {
            spare.bytes += buffer.capacity();
            spare.buffers.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_comes_back_once_nobody_reads_it() {
        let buffers = BatchBuffers::new(100);
        let batch = Bytes::from(Vec::with_capacity(60));
        let place = batch.as_ptr();
        let reader = batch.clone();
        buffers.give_back(batch);
        assert_eq!(buffers.take().capacity(), 0, "somebody reads it");
        buffers.give_back(reader);
        let buffer = buffers.take();
        assert_eq!((buffer.capacity(), buffer.as_ptr()), (60, place));
        assert_eq!(buffers.take().capacity(), 0, "it was taken");
    }

    #[test]
    fn no_more_is_kept_than_allowed() {
        let buffers = BatchBuffers::new(100);
        for _ in 0..3 {
            buffers.give_back(vec![0; 40].into());
        }
        let kept = [(); 3].map(|()| buffers.take().capacity());
        assert_eq!(kept, [40, 40, 0]);
    }
}
