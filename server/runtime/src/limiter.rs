//! What a guest may allocate, and whether it tried for more.

use wasmtime::ResourceLimiter;

/// Core instances, memories and tables of one worker.
const MAX_INSTANCES: usize = 64;
const MAX_MEMORIES: usize = 4;
const MAX_TABLES: usize = 64;

/// Elements of all tables of one worker together.
const MAX_TABLE_ELEMENTS: usize = 1_000_000;

/// Bounds the memories and tables of one worker, all of them together.
pub(crate) struct Limiter {
    limit_bytes: usize,
    memory_bytes: usize,
    table_elements: usize,
    refused: bool,
}

impl Limiter {
    pub(crate) fn new(limit_bytes: usize) -> Self {
        Self {
            limit_bytes,
            memory_bytes: 0,
            table_elements: 0,
            refused: false,
        }
    }

    /// Linear memory now, bytes.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }

    /// Whether the guest has been refused memory since the last [`forget`](Self::forget).
    pub(crate) fn refused(&self) -> bool {
        self.refused
    }

    /// Begins a call.
    pub(crate) fn forget(&mut self) {
        self.refused = false;
    }
}

/// The total after one part has grown, if it stays within the limit.
fn grown(total: usize, current: usize, desired: usize, limit: usize) -> Option<usize> {
    total
        .saturating_sub(current)
        .checked_add(desired)
        .filter(|total| *total <= limit)
}

impl ResourceLimiter for Limiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        // Growth beyond the memory's own maximum fails afterwards: it is not counted, nor ours.
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        let total = grown(self.memory_bytes, current, desired, self.limit_bytes);
        self.refused |= total.is_none();
        self.memory_bytes = total.unwrap_or(self.memory_bytes);
        Ok(total.is_some())
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        let total = grown(self.table_elements, current, desired, MAX_TABLE_ELEMENTS);
        self.refused |= total.is_none();
        self.table_elements = total.unwrap_or(self.table_elements);
        Ok(total.is_some())
    }

    fn instances(&self) -> usize {
        MAX_INSTANCES
    }

    fn memories(&self) -> usize {
        MAX_MEMORIES
    }

    fn tables(&self) -> usize {
        MAX_TABLES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memories_share_one_limit_and_a_refusal_is_remembered() {
        let mut limiter = Limiter::new(300);
        assert!(limiter.memory_growing(0, 200, None).unwrap());
        assert!(limiter.memory_growing(0, 100, None).unwrap());
        assert!(!limiter.refused());
        assert!(!limiter.memory_growing(200, 201, None).unwrap());
        assert!(limiter.refused());
        assert_eq!(limiter.memory_bytes(), 300);
        limiter.forget();
        assert!(!limiter.refused());
        assert!(!limiter.memory_growing(100, 150, Some(120)).unwrap());
        assert!(
            !limiter.refused(),
            "the guest's own maximum is not the deployment's limit"
        );
    }

    #[test]
    fn tables_are_bounded_apart_from_memory() {
        let mut limiter = Limiter::new(1);
        assert!(limiter.table_growing(0, MAX_TABLE_ELEMENTS, None).unwrap());
        assert!(!limiter.table_growing(0, 1, None).unwrap());
        assert!(limiter.refused());
    }
}
