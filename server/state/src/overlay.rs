//! Changes in memory.

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::limits::ENTRY_OVERHEAD_BYTES;

/// Of each key that has changed its value now, or none. In key order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Overlay {
    map: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    bytes: usize,
}

/// The size that an entry counts for.
pub(crate) fn entry_bytes(key_bytes: usize, value_bytes: usize) -> u64 {
    ENTRY_OVERHEAD_BYTES + (key_bytes + value_bytes) as u64
}

fn change_bytes(key: &[u8], value: Option<&Vec<u8>>) -> usize {
    entry_bytes(key.len(), value.map_or(0, Vec::len)) as usize
}

impl Overlay {
    /// Makes a change. Returns what the overlay had of the key before, the size of its value, as
    /// [`Self::get`] says it.
    pub(crate) fn set(&mut self, key: Vec<u8>, value: Option<Vec<u8>>) -> Option<Option<usize>> {
        let key_bytes = change_bytes(&key, None);
        self.bytes += change_bytes(&key, value.as_ref());
        let before = self.map.insert(key, value)?;
        let before = before.as_ref().map(Vec::len);
        self.bytes -= key_bytes + before.unwrap_or(0);
        Some(before)
    }

    /// How a key was changed: `None` if it was not, `Some(None)` if it was deleted.
    pub(crate) fn get(&self, key: &[u8]) -> Option<Option<&[u8]>> {
        self.map.get(key).map(Option::as_deref)
    }

    /// The changes from a key on.
    pub(crate) fn range<'a>(
        &'a self,
        start: Bound<&[u8]>,
    ) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> {
        let range = self.map.range::<[u8], _>((start, Bound::Unbounded));
        range.map(|(key, value)| (key.as_slice(), value.as_deref()))
    }

    /// The memory that it takes, roughly.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}
