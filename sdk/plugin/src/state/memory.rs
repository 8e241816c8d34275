//! State in memory, one for each thread: what a handler finds when it runs natively.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;
use std::ops::Bound;

use super::{Entry, MAX_CHANGE_BYTES, MAX_KEY_BYTES, MAX_VALUE_BYTES, Page, StateError};

/// What a changed key counts for beside itself and its value, bytes.
const CHANGE_OVERHEAD_BYTES: usize = 64;

thread_local! {
    static STATE: RefCell<State> = const { RefCell::new(State { entries: BTreeMap::new(), call: None }) };
}

struct State {
    entries: BTreeMap<Vec<u8>, Vec<u8>>,
    /// What the call under way has changed. Without one, a write is at once what it is.
    call: Option<Undo>,
}

/// How to take a call back.
#[derive(Default)]
struct Undo {
    /// Each changed key, and its value before the call.
    before: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    /// The changes, as the host counts them.
    change_bytes: usize,
}

/// A call under way: taken back when dropped, unless it is committed.
pub(crate) struct Call(());

impl Call {
    /// Begins a call. It holds what is written on this thread until it ends.
    pub(crate) fn begin() -> Self {
        STATE.with_borrow_mut(|state| state.call = Some(Undo::default()));
        Self(())
    }

    /// Ends the call: what it has written counts.
    pub(crate) fn commit(self) {
        STATE.with_borrow_mut(|state| state.call = None);
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        STATE.with_borrow_mut(State::take_back);
    }
}

impl State {
    fn take_back(&mut self) {
        for (key, value) in self.call.take().unwrap_or_default().before {
            match value {
                Some(value) => self.entries.insert(key, value),
                None => self.entries.remove(&key),
            };
        }
    }

    fn change(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), StateError> {
        let current = self.entries.get(key);
        if let Some(call) = &mut self.call {
            call.count(key, current, value)?;
        }
        match value {
            Some(value) => self.entries.insert(key.to_vec(), value.to_vec()),
            None => self.entries.remove(key),
        };
        Ok(())
    }
}

impl Undo {
    /// Counts a change, and remembers what was there before the call.
    fn count(
        &mut self,
        key: &[u8],
        current: Option<&Vec<u8>>,
        value: Option<&[u8]>,
    ) -> Result<(), StateError> {
        let slot = self.before.entry(key.to_vec());
        let counted_before = match &slot {
            Slot::Occupied(_) => self.change_bytes - current.map_or(0, Vec::len),
            Slot::Vacant(_) => self.change_bytes + key.len() + CHANGE_OVERHEAD_BYTES,
        };
        let change_bytes = counted_before + value.map_or(0, <[u8]>::len);
        if change_bytes > MAX_CHANGE_BYTES {
            return Err(StateError::QuotaExceeded(format!(
                "the changes of the call would have {change_bytes} bytes, more than \
                 {MAX_CHANGE_BYTES}"
            )));
        }
        self.change_bytes = change_bytes;
        slot.or_insert_with(|| current.cloned());
        Ok(())
    }
}

fn check_len(what: &str, bytes: &[u8], limit: usize) -> Result<(), StateError> {
    if bytes.len() > limit {
        let len = bytes.len();
        return Err(StateError::TooLarge(format!(
            "a {what} of {len} bytes, more than {limit}"
        )));
    }
    Ok(())
}

pub(super) fn get(key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
    check_len("key", key, MAX_KEY_BYTES)?;
    Ok(STATE.with_borrow(|state| state.entries.get(key).cloned()))
}

pub(super) fn put(key: &[u8], value: &[u8]) -> Result<(), StateError> {
    check_len("key", key, MAX_KEY_BYTES)?;
    check_len("value", value, MAX_VALUE_BYTES)?;
    STATE.with_borrow_mut(|state| state.change(key, Some(value)))
}

pub(super) fn delete(key: &[u8]) -> Result<(), StateError> {
    check_len("key", key, MAX_KEY_BYTES)?;
    STATE.with_borrow_mut(|state| state.change(key, None))
}

pub(super) fn scan(prefix: &[u8], after: Option<&[u8]>, limit: u32) -> Result<Page, StateError> {
    check_len("prefix", prefix, MAX_KEY_BYTES)?;
    let start = match after {
        Some(after) if after >= prefix => Bound::Excluded(after),
        _ => Bound::Included(prefix),
    };
    STATE.with_borrow(|state| {
        let mut found = state
            .entries
            .range::<[u8], _>((start, Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix));
        let entries = found
            .by_ref()
            .take(limit as usize)
            .map(|(key, value)| Entry {
                key: key.clone(),
                value: value.clone(),
            })
            .collect();
        let more = found.next().is_some();
        Ok(Page { entries, more })
    })
}

/// All keys, in order, with their values.
pub(crate) fn entries() -> Vec<(Vec<u8>, Vec<u8>)> {
    let copy = |(key, value): (&Vec<u8>, &Vec<u8>)| (key.clone(), value.clone());
    STATE.with_borrow(|state| state.entries.iter().map(copy).collect())
}

/// Deletes all keys, for good.
pub(crate) fn clear() {
    STATE.with_borrow_mut(|state| {
        state.entries.clear();
        // The call has nothing to take back any more.
        if let Some(call) = &mut state.call {
            *call = Undo::default();
        }
    });
}
