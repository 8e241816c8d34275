//! Keyed state: what is stored elsewhere, and what one call has changed.
//!
//! The runtime stores nothing. It reads through a [`StateReader`], keeps a call's changes apart
//! from what is stored, and hands them back as [`StateChanges`] when the call counts.

use std::collections::BTreeMap;
use std::collections::btree_map::{self, Entry};
use std::fmt;
use std::ops::{Bound, ControlFlow};

use millstream_protocol::limits::MAX_RECORD_BYTES;

/// A key, or the prefix of a scan, bytes.
pub const MAX_STATE_KEY_BYTES: usize = 1024;

/// A value, bytes.
pub const MAX_STATE_VALUE_BYTES: usize = 1024 * 1024;

/// All changes of one call, bytes, as [`StateChanges::bytes`] counts them.
pub const MAX_STATE_CHANGE_BYTES: usize = 8 * 1024 * 1024;

/// The same, of a call that takes over a part of another version's state, bytes. It is less, because no
/// smaller call could be made in its place: it fits into a commit with all else that the call may do.
pub const MAX_MIGRATION_CHANGE_BYTES: usize = 4 * 1024 * 1024;

/// What a changed key counts for beside itself and its value, bytes: small ones cost memory too.
pub const STATE_CHANGE_OVERHEAD_BYTES: usize = 64;

/// Entries of one page of a scan.
pub const MAX_STATE_PAGE_ENTRIES: usize = 1_000;

/// Keys and values of one page of a scan, bytes. A single entry may have more.
pub const MAX_STATE_PAGE_BYTES: usize = 1024 * 1024;

const LARGEST_ENTRY_BYTES: usize = MAX_STATE_KEY_BYTES + MAX_STATE_VALUE_BYTES;
const _: () = assert!(LARGEST_ENTRY_BYTES + STATE_CHANGE_OVERHEAD_BYTES <= MAX_STATE_CHANGE_BYTES);
// A change can be kept as a record.
const _: () = assert!(LARGEST_ENTRY_BYTES <= MAX_RECORD_BYTES);

/// Reads the stored state of one worker: one deployment at one input partition. Called on the
/// worker's thread, within a call of the guest.
///
/// It must show the changes of every earlier call of the instance, durable or not, and nothing
/// that is not of this worker.
pub trait StateReader: Send + Sync {
    /// The value of a key, if it has one.
    ///
    /// # Errors
    ///
    /// It cannot be read: the call fails.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StateReadError>;

    /// Visits the keys that begin with `prefix` and are greater than `after`, each with its value, in
    /// the order of the keys' bytes, until the visitor breaks off.
    ///
    /// # Errors
    ///
    /// They cannot be read: the call fails.
    fn scan(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        visit: &mut StateVisitor<'_>,
    ) -> Result<(), StateReadError>;
}

/// Takes the entries of a scan: a key and its value at a time.
pub type StateVisitor<'a> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'a;

/// The stored state cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot read the state: {reason}")]
pub struct StateReadError {
    /// What failed, for the operator.
    pub reason: String,
}

/// A state with nothing in it: of a new deployment, or of a trial of `init`.
#[derive(Clone, Copy, Debug, Default)]
pub struct EmptyState;

impl StateReader for EmptyState {
    fn get(&self, _key: &[u8]) -> Result<Option<Vec<u8>>, StateReadError> {
        Ok(None)
    }

    fn scan(
        &self,
        _prefix: &[u8],
        _after: Option<&[u8]>,
        _visit: &mut StateVisitor<'_>,
    ) -> Result<(), StateReadError> {
        Ok(())
    }
}

/// Where the keys of a scan begin, as a bound of a range: at `prefix`, or behind `after`.
pub fn scan_start<'a>(prefix: &'a [u8], after: Option<&'a [u8]>) -> Bound<&'a [u8]> {
    match after {
        Some(after) if after >= prefix => Bound::Excluded(after),
        _ => Bound::Included(prefix),
    }
}

/// What one call changed in the state, in the order of the keys: of each key, the last change.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct StateChanges {
    changes: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    bytes: usize,
}

/// With one more change, a call's changes would have too many bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct QuotaExceeded {
    pub(crate) bytes: usize,
}

impl StateChanges {
    /// Makes a change: the new value of a key, or none.
    pub(crate) fn set(
        &mut self,
        key: Vec<u8>,
        value: Option<Vec<u8>>,
    ) -> Result<(), QuotaExceeded> {
        let len = |value: &Option<Vec<u8>>| value.as_ref().map_or(0, Vec::len);
        let key_bytes = key.len() + STATE_CHANGE_OVERHEAD_BYTES;
        let entry = self.changes.entry(key);
        let bytes = match &entry {
            Entry::Occupied(entry) => self.bytes - len(entry.get()) + len(&value),
            Entry::Vacant(_) => self.bytes + key_bytes + len(&value),
        };
        if bytes > MAX_STATE_CHANGE_BYTES {
            return Err(QuotaExceeded { bytes });
        }
        self.bytes = bytes;
        entry.insert_entry(value);
        Ok(())
    }

    /// How a key was changed: `None` if it was not, `Some(None)` if it was deleted.
    pub fn get(&self, key: &[u8]) -> Option<Option<&[u8]>> {
        self.changes.get(key).map(Option::as_deref)
    }

    /// The changes: each key with its new value, or with none if it was deleted.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        self.changes
            .iter()
            .map(|(key, value)| (key.as_slice(), value.as_deref()))
    }

    /// How many keys were changed.
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// Whether nothing was changed.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// The bytes of all keys and new values, and [`STATE_CHANGE_OVERHEAD_BYTES`] for each key. At
    /// most [`MAX_STATE_CHANGE_BYTES`].
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl IntoIterator for StateChanges {
    type Item = (Vec<u8>, Option<Vec<u8>>);
    type IntoIter = btree_map::IntoIter<Vec<u8>, Option<Vec<u8>>>;

    fn into_iter(self) -> Self::IntoIter {
        self.changes.into_iter()
    }
}

impl fmt::Debug for StateChanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The contents are the deployment's, not for a log.
        f.debug_struct("StateChanges")
            .field("keys", &self.len())
            .field("bytes", &self.bytes)
            .finish()
    }
}

/// One page of a scan.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) entries: Vec<(Vec<u8>, Vec<u8>)>,
    /// Whether there is an entry behind the last.
    pub(crate) more: bool,
}

/// Reads one page of at most `limit` entries: what is stored, under what was changed.
pub(crate) fn read_page(
    reader: &dyn StateReader,
    changes: &StateChanges,
    prefix: &[u8],
    after: Option<&[u8]>,
    limit: usize,
) -> Result<Page, StateReadError> {
    let range = (scan_start(prefix, after), Bound::Unbounded);
    let mut changed = changes
        .changes
        .range::<[u8], _>(range)
        .take_while(|(key, _)| key.starts_with(prefix))
        .peekable();
    let mut filling = Filling {
        page: Page::default(),
        limit: limit.min(MAX_STATE_PAGE_ENTRIES),
        bytes: 0,
    };
    reader.scan(prefix, after, &mut |key, stored| {
        while let Some((earlier, value)) = changed.next_if(|(changed, _)| changed.as_slice() < key)
        {
            filling.take(earlier, value.as_deref())?;
        }
        match changed.next_if(|(changed, _)| changed.as_slice() == key) {
            Some((_, value)) => filling.take(key, value.as_deref()),
            None => filling.take(key, Some(stored)),
        }
    })?;
    for (key, value) in changed {
        if filling.take(key, value.as_deref()).is_break() {
            break;
        }
    }
    Ok(filling.page)
}

/// A page being filled.
struct Filling {
    page: Page,
    limit: usize,
    bytes: usize,
}

impl Filling {
    /// Takes the next key with its value, or without one if it was deleted. Breaks off when the page
    /// is full.
    fn take(&mut self, key: &[u8], value: Option<&[u8]>) -> ControlFlow<()> {
        let Some(value) = value else {
            return ControlFlow::Continue(());
        };
        let entries = &mut self.page.entries;
        self.bytes += key.len() + value.len();
        let too_many_bytes = self.bytes > MAX_STATE_PAGE_BYTES && !entries.is_empty();
        if self.page.more || entries.len() >= self.limit || too_many_bytes {
            self.page.more = true;
            return ControlFlow::Break(());
        }
        entries.push((key.to_vec(), value.to_vec()));
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
