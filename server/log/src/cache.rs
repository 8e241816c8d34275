//! The last appended batches in memory, so that consumers at the tail make no system call and no
//! copy: they get the very buffer that was produced.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use millstream_protocol::Offset;
use parking_lot::Mutex;

use crate::reader::ReadBatches;

/// The memory that all logs of a broker share for their recent batches.
///
/// When it is used up, the log that appends takes from those that have not appended for longest
/// (by second chance, so roughly), and from itself last.
#[derive(Debug)]
pub struct TailBudget {
    max_bytes: usize,
    used_bytes: AtomicUsize,
    /// In the order in which they are asked to give.
    caches: Mutex<VecDeque<Weak<TailCache>>>,
}

impl TailBudget {
    /// A budget of `max_bytes`; see
    /// [`DEFAULT_TAIL_BUDGET_BYTES`](crate::limits::DEFAULT_TAIL_BUDGET_BYTES).
    pub fn new(max_bytes: usize) -> Arc<Self> {
        Arc::new(Self {
            max_bytes,
            used_bytes: AtomicUsize::new(0),
            caches: Mutex::new(VecDeque::new()),
        })
    }

    /// The bytes in use now.
    pub fn used_bytes(&self) -> usize {
        self.used_bytes.load(Ordering::Relaxed)
    }

    fn is_exceeded(&self) -> bool {
        self.used_bytes() > self.max_bytes
    }

    /// Empties caches other than `own` until the budget holds, or all were asked twice.
    fn reclaim(&self, own: &TailCache) {
        let mut caches = self.caches.lock();
        for _ in 0..2 * caches.len() {
            if !self.is_exceeded() {
                return;
            }
            let Some(weak) = caches.pop_front() else {
                return;
            };
            let Some(cache) = weak.upgrade() else {
                continue;
            };
            let is_own = std::ptr::eq(Arc::as_ptr(&cache), own);
            if !is_own && !cache.used.swap(false, Ordering::Relaxed) {
                cache.clear();
            }
            caches.push_back(weak);
        }
    }
}

/// The last batches of one log: always without a gap, and always up to the log's end.
#[derive(Debug)]
pub(crate) struct TailCache {
    budget: Arc<TailBudget>,
    tail: Mutex<Tail>,
    /// Appended to since the budget last asked.
    used: AtomicBool,
}

#[derive(Debug, Default)]
struct Tail {
    batches: VecDeque<CachedBatch>,
    bytes: usize,
}

/// A batch with its place in the log.
#[derive(Clone, Debug)]
pub(crate) struct CachedBatch {
    pub(crate) base_offset: Offset,
    pub(crate) next_offset: Offset,
    pub(crate) bytes: Bytes,
}

impl TailCache {
    pub(crate) fn new(budget: Arc<TailBudget>) -> Arc<Self> {
        let cache = Arc::new(Self {
            budget,
            tail: Mutex::default(),
            used: AtomicBool::new(false),
        });
        let mut caches = cache.budget.caches.lock();
        caches.retain(|other| other.strong_count() > 0);
        caches.push_back(Arc::downgrade(&cache));
        drop(caches);
        cache
    }

    /// Takes in the batches that follow the last one, and keeps at most `max_bytes`.
    pub(crate) fn push(&self, batches: impl Iterator<Item = CachedBatch>, max_bytes: usize) {
        self.used.store(true, Ordering::Relaxed);
        {
            let mut tail = self.tail.lock();
            for batch in batches {
                tail.bytes += batch.bytes.len();
                self.budget
                    .used_bytes
                    .fetch_add(batch.bytes.len(), Ordering::Relaxed);
                tail.batches.push_back(batch);
            }
            self.shrink(&mut tail, |tail| tail.bytes > max_bytes);
        }
        if self.budget.is_exceeded() {
            self.budget.reclaim(self);
            let mut tail = self.tail.lock();
            self.shrink(&mut tail, |_| self.budget.is_exceeded());
        }
    }

    /// Whole batches from the one that contains `offset`, none of which reaches beyond `up_to`:
    /// one, and more up to `max_bytes`. `None` when the cache does not reach back to `offset`.
    pub(crate) fn read(
        &self,
        offset: Offset,
        up_to: Offset,
        max_bytes: usize,
    ) -> Option<ReadBatches> {
        let tail = self.tail.lock();
        if tail.batches.front()?.base_offset > offset {
            return None;
        }
        let first = tail
            .batches
            .partition_point(|batch| batch.next_offset <= offset);
        let mut read = ReadBatches::none_at(offset);
        for batch in tail.batches.range(first..) {
            if batch.next_offset > up_to || !read.has_room(batch.bytes.len(), max_bytes) {
                break;
            }
            read.push(batch.bytes.clone(), batch.next_offset);
        }
        Some(read)
    }

    pub(crate) fn clear(&self) {
        self.shrink(&mut self.tail.lock(), |_| true);
    }

    /// Drops the oldest batches while there are any and `too_much` holds.
    fn shrink(&self, tail: &mut Tail, too_much: impl Fn(&Tail) -> bool) {
        while too_much(tail)
            && let Some(batch) = tail.batches.pop_front()
        {
            tail.bytes -= batch.bytes.len();
            self.budget
                .used_bytes
                .fetch_sub(batch.bytes.len(), Ordering::Relaxed);
        }
    }
}

impl Drop for TailCache {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Batches of two records and ten bytes.
    fn fill(cache: &TailCache, offsets: std::ops::Range<Offset>, max_bytes: usize) {
        let batches = offsets.step_by(2).map(|base_offset| CachedBatch {
            base_offset,
            next_offset: base_offset + 2,
            bytes: Bytes::from(vec![base_offset as u8; 10]),
        });
        cache.push(batches, max_bytes);
    }

    fn offsets(read: Option<ReadBatches>) -> Option<Vec<u8>> {
        Some(read?.batches.iter().map(|batch| batch[0]).collect())
    }

    #[test]
    fn whole_batches_are_read_within_the_bounds() {
        let cache = TailCache::new(TailBudget::new(1000));
        assert_eq!(offsets(cache.read(0, 10, 100)), None);
        fill(&cache, 10..20, 1000);
        for (offset, up_to, max_bytes, expected) in [
            (9, 20, 100, None),
            (10, 20, 100, Some(vec![10, 12, 14, 16, 18])),
            (13, 20, 100, Some(vec![12, 14, 16, 18])),
            (10, 16, 100, Some(vec![10, 12, 14])),
            (10, 15, 100, Some(vec![10, 12])),
            (10, 20, 29, Some(vec![10, 12])),
            (10, 20, 0, Some(vec![10])),
            (18, 19, 100, Some(vec![])),
            (20, 20, 100, Some(vec![])),
        ] {
            let read = offsets(cache.read(offset, up_to, max_bytes));
            assert_eq!(read, expected, "{offset} up to {up_to}, {max_bytes} bytes");
        }
    }

    #[test]
    fn the_oldest_go_when_a_log_has_its_share() {
        let budget = TailBudget::new(1000);
        let cache = TailCache::new(Arc::clone(&budget));
        fill(&cache, 0..20, 35);
        assert_eq!(budget.used_bytes(), 30);
        assert_eq!(offsets(cache.read(13, 20, 100)), None);
        assert_eq!(offsets(cache.read(14, 20, 100)), Some(vec![14, 16, 18]));
    }

    #[test]
    fn the_log_that_appends_takes_from_the_idle_ones() {
        let budget = TailBudget::new(100);
        let idle = TailCache::new(Arc::clone(&budget));
        let busy = TailCache::new(Arc::clone(&budget));
        fill(&idle, 0..16, 1000);
        fill(&busy, 0..16, 1000);
        assert_eq!(offsets(idle.read(0, 16, 1000)), None);
        assert!(offsets(busy.read(0, 16, 1000)).is_some());
        fill(&busy, 16..26, 1000);
        assert_eq!(budget.used_bytes(), 100);
        assert!(offsets(busy.read(6, 26, 1000)).is_some());
        drop((idle, busy));
        assert_eq!(budget.used_bytes(), 0);
    }
}
