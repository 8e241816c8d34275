//! State that is kept in memory: of a plugin that runs without a broker.

use std::collections::BTreeMap;
use std::ops::Bound;

use parking_lot::RwLock;

use crate::state::{StateChanges, StateReadError, StateReader, StateVisitor, scan_start};

/// All of such a state, keys and values, bytes.
pub const MAX_STATE_BYTES: usize = 256 << 20;

/// What an entry counts beside its key and its value, bytes.
const ENTRY_OVERHEAD_BYTES: usize = 64;

/// The state of one worker, in memory: what the calls that count have left.
#[derive(Debug, Default)]
pub struct MemoryState(RwLock<Entries>);

#[derive(Debug, Default)]
struct Entries {
    map: BTreeMap<Vec<u8>, Vec<u8>>,
    bytes: usize,
}

/// With a call's changes, the state would be larger than a worker's may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the state would take more than {MAX_STATE_BYTES} bytes")]
pub struct StateFull;

fn entry_bytes(key: &[u8], value: &[u8]) -> usize {
    ENTRY_OVERHEAD_BYTES + key.len() + value.len()
}

impl MemoryState {
    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.0.read().map.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What it takes, bytes: every key and value, and some for each entry.
    pub fn bytes(&self) -> usize {
        self.0.read().bytes
    }

    /// Forgets everything.
    pub fn clear(&self) {
        *self.0.write() = Entries::default();
    }

    /// Whether it may grow by the changes of a call.
    ///
    /// # Errors
    ///
    /// It may not: it would have more than [`MAX_STATE_BYTES`].
    pub fn check_room(&self, changes: &StateChanges) -> Result<(), StateFull> {
        if changes.is_empty() || self.bytes() + changes.bytes() <= MAX_STATE_BYTES {
            Ok(())
        } else {
            Err(StateFull)
        }
    }

    /// Makes the changes of a call that counts.
    pub fn apply(&self, changes: StateChanges) {
        let mut entries = self.0.write();
        for (key, value) in changes {
            entries.set(key, value);
        }
    }

    /// Makes one change: a new value of a key, or none.
    pub fn set(&self, key: Vec<u8>, value: Option<Vec<u8>>) {
        self.0.write().set(key, value);
    }
}

impl Entries {
    fn set(&mut self, key: Vec<u8>, value: Option<Vec<u8>>) {
        if let Some(value) = &value {
            self.bytes += entry_bytes(&key, value);
        }
        let key_bytes = entry_bytes(&key, &[]);
        let before = match value {
            Some(value) => self.map.insert(key, value),
            None => self.map.remove(&key),
        };
        if let Some(before) = before {
            self.bytes -= key_bytes + before.len();
        }
    }
}

impl StateReader for MemoryState {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StateReadError> {
        Ok(self.0.read().map.get(key).cloned())
    }

    fn scan(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        visit: &mut StateVisitor<'_>,
    ) -> Result<(), StateReadError> {
        let entries = self.0.read();
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
    fn what_was_left_is_found_in_order_and_counted() {
        let state = MemoryState::default();
        for (key, value) in [("b", "1"), ("a/2", "2"), ("a/1", "3"), ("a/2", "44")] {
            state.set(key.into(), Some(value.into()));
        }
        state.set("b".into(), None);
        state.set("b".into(), None);
        assert_eq!(state.bytes(), 2 * ENTRY_OVERHEAD_BYTES + 3 + 1 + 3 + 2);
        assert_eq!(state.len(), 2);
        assert_eq!(state.get(b"a/2"), Ok(Some(b"44".to_vec())));
        assert_eq!(state.get(b"b"), Ok(None));
        let mut seen = Vec::new();
        let scanned = state.scan(b"a/", Some(b"a/1"), &mut |key, _| {
            seen.push(key.to_vec());
            ControlFlow::Continue(())
        });
        assert_eq!((scanned, seen), (Ok(()), vec![b"a/2".to_vec()]));
        state.clear();
        assert!(state.is_empty() && state.bytes() == 0);
    }
}
