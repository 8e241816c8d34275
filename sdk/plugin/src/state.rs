//! Keyed state: what a worker remembers when its instance is gone.
//!
//! It belongs to the deployment and the input partition, and is transactional with the call: a
//! handler sees what it has written, also for earlier records of the call, and all of it counts with
//! the outcomes, or none of it does. What was written for a record that is then rejected stays
//! written; one that is retried leaves no trace, because the other records of its call are handled
//! again without it. In `init`, state can be read but not written.
//!
//! ```
//! use millstream_plugin::{Failure, NewRecord, Outputs, Record, state, testing};
//!
//! /// Emits how often a key has been seen.
//! fn handle(record: Record<'_>, out: &mut Outputs<'_>) -> Result<(), Failure> {
//!     let key = record.key().ok_or_else(|| Failure::reject("no key"))?;
//!     let seen = match state::get(key)? {
//!         Some(count) => u64::from_be_bytes(count.as_slice().try_into()?),
//!         None => 0,
//!     };
//!     let count = (seen + 1).to_be_bytes();
//!     state::put(key, &count)?;
//!     let counts = out.output("counts")?;
//!     out.emit(counts, &NewRecord::new(&count).with_key(key))
//! }
//!
//! # let context = millstream_plugin::Context::new("count", "words", 0).with_output("counts");
//! let word = NewRecord::new(b"").with_key(b"word");
//! testing::run(&context, &[word, word], handle)?;
//! assert_eq!(testing::state(), [(b"word".to_vec(), 2u64.to_be_bytes().to_vec())]);
//! # Ok::<(), String>(())
//! ```
//!
//! Natively, the state is in memory, one for each thread: see [`testing`](crate::testing).

#[cfg(not(target_arch = "wasm32"))]
pub(crate) mod memory;

use std::error::Error;
use std::fmt;

use crate::failure::Failure;

#[cfg(target_arch = "wasm32")]
use self::guest as backend;
#[cfg(not(target_arch = "wasm32"))]
use self::memory as backend;

/// The longest key, or prefix of a scan, bytes.
pub const MAX_KEY_BYTES: usize = 1024;

/// The longest value, bytes.
pub const MAX_VALUE_BYTES: usize = 1024 * 1024;

/// All changes of one call, bytes: each changed key and its value, as they are at the end of the
/// call, and 64 bytes a key.
pub const MAX_CHANGE_BYTES: usize = 8 * 1024 * 1024;

/// Entries that a scan asks for at a time. The host may give fewer.
const PAGE_ENTRIES: u32 = 256;

/// Why the state was not read or not written.
///
/// As a [`Failure`] (the operator `?`), what is too large rejects the record: it always will be. The
/// others fail the call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StateError {
    /// A key, prefix or value has more bytes than it may have: which one, and how many.
    TooLarge(String),
    /// The changes of the call would have more than [`MAX_CHANGE_BYTES`].
    QuotaExceeded(String),
    /// State cannot be written in `init`.
    ReadOnly,
}

impl fmt::Display for StateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge(what) => write!(f, "too large for the state: {what}"),
            Self::QuotaExceeded(what) => write!(f, "too many changes of the state: {what}"),
            Self::ReadOnly => f.write_str("state cannot be written in init"),
        }
    }
}

// `StateError` is no `Error`: as one, it would always reject the record.
impl From<StateError> for Failure {
    fn from(error: StateError) -> Self {
        match error {
            StateError::TooLarge(_) => Self::reject(error),
            StateError::QuotaExceeded(_) | StateError::ReadOnly => Self::abort(error),
        }
    }
}

/// For an `init` that returns any error.
impl From<StateError> for Box<dyn Error> {
    fn from(error: StateError) -> Self {
        error.to_string().into()
    }
}

/// The value of a key, if it has one.
///
/// # Errors
///
/// The key is too large.
pub fn get(key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
    backend::get(key)
}

/// Sets the value of a key, whether or not it has one.
///
/// # Errors
///
/// The key, the value, or all changes of the call are too large; or this is `init`.
pub fn put(key: &[u8], value: &[u8]) -> Result<(), StateError> {
    backend::put(key, value)
}

/// Deletes a key and its value, if it has one.
///
/// # Errors
///
/// The key, or all changes of the call are too large; or this is `init`.
pub fn delete(key: &[u8]) -> Result<(), StateError> {
    backend::delete(key)
}

/// The keys that begin with `prefix`, in order, with their values. An empty prefix is that of all.
///
/// They are read page by page. What is written while the scan is under way may or may not be seen.
pub fn scan(prefix: &[u8]) -> Scan {
    Scan {
        prefix: prefix.to_vec(),
        page: Vec::new().into_iter(),
        after: None,
        more: true,
    }
}

/// As [`scan`], of the keys behind `after` alone.
pub fn scan_after(prefix: &[u8], after: &[u8]) -> Scan {
    Scan {
        after: Some(after.to_vec()),
        ..scan(prefix)
    }
}

/// A key and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: Vec<u8>,
    /// The value.
    pub value: Vec<u8>,
}

/// Iterates over keys and values: see [`scan`]. Ends after an error.
#[derive(Debug)]
pub struct Scan {
    prefix: Vec<u8>,
    /// What is left of the page that was read last.
    page: std::vec::IntoIter<Entry>,
    /// That page's last key.
    after: Option<Vec<u8>>,
    /// Whether there are pages behind it.
    more: bool,
}

/// Entries of a scan, and whether there are more behind them.
struct Page {
    entries: Vec<Entry>,
    more: bool,
}

impl Iterator for Scan {
    type Item = Result<Entry, StateError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(entry) = self.page.next() {
                return Some(Ok(entry));
            }
            if !self.more {
                return None;
            }
            match backend::scan(&self.prefix, self.after.as_deref(), PAGE_ENTRIES) {
                Ok(Page { entries, more }) => {
                    self.after = entries.last().map(|entry| entry.key.clone());
                    self.more = more && self.after.is_some();
                    self.page = entries.into_iter();
                }
                Err(error) => {
                    self.more = false;
                    return Some(Err(error));
                }
            }
        }
    }
}

/// In a guest, the host has the state.
#[cfg(target_arch = "wasm32")]
mod guest {
    use super::{Entry, Page, StateError};
    use crate::bindings::millstream::plugin::state;

    impl From<state::Error> for StateError {
        fn from(error: state::Error) -> Self {
            match error {
                state::Error::TooLarge(what) => Self::TooLarge(what),
                state::Error::QuotaExceeded(what) => Self::QuotaExceeded(what),
                state::Error::ReadOnly => Self::ReadOnly,
            }
        }
    }

    pub(super) fn get(key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        Ok(state::get(key)?)
    }

    pub(super) fn put(key: &[u8], value: &[u8]) -> Result<(), StateError> {
        Ok(state::put(key, value)?)
    }

    pub(super) fn delete(key: &[u8]) -> Result<(), StateError> {
        Ok(state::delete(key)?)
    }

    pub(super) fn scan(
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: u32,
    ) -> Result<Page, StateError> {
        let page = state::scan(prefix, after, limit)?;
        let entry = |entry: state::Entry| Entry {
            key: entry.key,
            value: entry.value,
        };
        Ok(Page {
            entries: page.entries.into_iter().map(entry).collect(),
            more: page.more,
        })
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
