//! The state of a guest, in memory, for as long as the run takes.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use millstream_runtime::{StateChanges, StateReadError, StateReader, StateVisitor, scan_start};

/// All of the state, keys and values, bytes: what a worker may have in a broker.
const MAX_STATE_BYTES: usize = 256 << 20;

/// What an entry counts beside its key and its value, bytes.
const ENTRY_OVERHEAD_BYTES: usize = 64;

/// What the calls so far have left.
#[derive(Default)]
pub(super) struct MemoryState(RwLock<Entries>);

#[derive(Default)]
struct Entries {
    map: BTreeMap<Vec<u8>, Vec<u8>>,
    bytes: usize,
}

/// With a call's changes, the state would be larger than a worker's may be.
#[derive(Debug, thiserror::Error)]
#[error("the state would take more than {MAX_STATE_BYTES} bytes")]
pub(super) struct StateFull;

fn entry_bytes(key: &[u8], value: &[u8]) -> usize {
    ENTRY_OVERHEAD_BYTES + key.len() + value.len()
}

impl MemoryState {
    /// How many keys there are.
    pub(super) fn len(&self) -> usize {
        self.entries().map.len()
    }

    /// Makes a call's changes, all or none.
    pub(super) fn apply(&self, changes: StateChanges) -> Result<(), StateFull> {
        let mut entries = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if !changes.is_empty() && entries.bytes + changes.bytes() > MAX_STATE_BYTES {
            return Err(StateFull);
        }
        for (key, value) in changes {
            entries.set(key, value);
        }
        Ok(())
    }

    fn entries(&self) -> RwLockReadGuard<'_, Entries> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entries {
    fn set(&mut self, key: Vec<u8>, value: Option<Vec<u8>>) {
        if let Some(before) = self.map.remove(&key) {
            self.bytes -= entry_bytes(&key, &before);
        }
        if let Some(value) = value {
            self.bytes += entry_bytes(&key, &value);
            self.map.insert(key, value);
        }
    }
}

impl StateReader for MemoryState {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StateReadError> {
        Ok(self.entries().map.get(key).cloned())
    }

    fn scan(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        visit: &mut StateVisitor<'_>,
    ) -> Result<(), StateReadError> {
        let entries = self.entries();
        let range = (scan_start(prefix, after), Bound::Unbounded);
        // Breaking off is the visitor's right.
        let _ = entries
            .map
            .range::<[u8], _>(range)
            .take_while(|(key, _)| key.starts_with(prefix))
            .try_for_each(|(key, value)| visit(key, value));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use super::*;

    #[test]
    fn what_was_left_is_found_in_order() {
        let state = MemoryState::default();
        let mut entries = Entries::default();
        for (key, value) in [("b", "1"), ("a/2", "2"), ("a/1", "3"), ("a/2", "44")] {
            entries.set(key.into(), Some(value.into()));
        }
        entries.set("b".into(), None);
        assert_eq!(entries.bytes, 2 * ENTRY_OVERHEAD_BYTES + 3 + 1 + 3 + 2);
        *state.0.write().unwrap() = entries;
        assert_eq!(state.len(), 2);
        assert_eq!(state.get(b"a/2"), Ok(Some(b"44".to_vec())));
        assert_eq!(state.get(b"b"), Ok(None));
        let mut seen = Vec::new();
        state
            .scan(b"a/", Some(b"a/1"), &mut |key, _| {
                seen.push(key.to_vec());
                ControlFlow::Continue(())
            })
            .unwrap();
        assert_eq!(seen, [b"a/2".to_vec()]);
    }
}
