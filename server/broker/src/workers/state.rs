//! The state of a worker's guest, as of the last commit.

use std::collections::BTreeMap;
use std::ops::Bound;

use millstream_runtime::{StateChanges, StateReadError, StateReader, StateVisitor, scan_start};
use parking_lot::RwLock;

/// All of a worker's state, keys and values, bytes.
pub(crate) const MAX_STATE_BYTES: usize = 256 << 20;

/// What an entry counts beside its key and its value, bytes.
const ENTRY_OVERHEAD_BYTES: usize = 64;

/// A worker's state, in memory. The journal is what is durable of it.
#[derive(Default)]
pub(crate) struct WorkerState(RwLock<Entries>);

#[derive(Default)]
struct Entries {
    map: BTreeMap<Vec<u8>, Vec<u8>>,
    bytes: usize,
}

fn entry_bytes(key: &[u8], value: &[u8]) -> usize {
    ENTRY_OVERHEAD_BYTES + key.len() + value.len()
}

impl WorkerState {
    pub(crate) fn clear(&self) {
        *self.0.write() = Entries::default();
    }

    /// Bytes it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.0.read().bytes
    }

    /// Whether it may grow by these changes.
    pub(crate) fn has_room_for(&self, changes: &StateChanges) -> bool {
        changes.is_empty() || self.bytes() + changes.bytes() <= MAX_STATE_BYTES
    }

    /// Makes a change that is committed visible.
    pub(crate) fn apply(&self, key: &[u8], value: Option<&[u8]>) {
        let mut entries = self.0.write();
        let before = match value {
            Some(value) => {
                entries.bytes += entry_bytes(key, value);
                entries.map.insert(key.to_vec(), value.to_vec())
            }
            None => entries.map.remove(key),
        };
        if let Some(before) = before {
            entries.bytes -= entry_bytes(key, &before);
        }
    }
}

impl StateReader for WorkerState {
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
    use super::*;

    #[test]
    fn what_it_takes_follows_its_changes() {
        let state = WorkerState::default();
        state.apply(b"a", Some(b"1"));
        state.apply(b"b", Some(b"22"));
        state.apply(b"a", Some(b"333"));
        assert_eq!(
            state.get(b"a").expect("a read").as_deref(),
            Some(&b"333"[..])
        );
        assert_eq!(state.bytes(), 2 * ENTRY_OVERHEAD_BYTES + 4 + 3);
        state.apply(b"a", None);
        state.apply(b"a", None);
        state.apply(b"b", None);
        assert_eq!(state.bytes(), 0);
    }
}
