//! What others keep, by key: compacted topics that the deployment names as its tables.
//!
//! A table has the latest value of each key of its topic, and moves on as the topic does: also within a
//! call. A lookup sees it as it is at that moment, whatever the time of the record at hand. When the first
//! record is handled, each table has all that its topic had when the worker began.
//!
//! ```
//! use millstream_plugin::tables::Table;
//! use millstream_plugin::{Context, Failure, NewRecord, Output, Outputs, Record, testing};
//!
//! struct Join {
//!     places: Table,
//!     joined: Output,
//! }
//!
//! /// A table that the deployment does not name is found out here.
//! fn init(context: &Context) -> Result<Join, Box<dyn std::error::Error>> {
//!     Ok(Join { places: context.table("places")?, joined: context.output("joined")? })
//! }
//!
//! /// Emits the place that the record's value is the code of.
//! fn handle(join: &Join, record: Record<'_>, out: &mut Outputs<'_>) -> Result<(), Failure> {
//!     let code = record.value().ok_or_else(|| Failure::reject("no value"))?;
//!     match join.places.get(code)? {
//!         Some(place) => out.emit(join.joined, &NewRecord::new(&place)),
//!         None => Err(Failure::reject("no such place")),
//!     }
//! }
//!
//! testing::put_in_table("places", b"pdx", b"Portland");
//! let context = Context::new("join", "codes", 0).with_output("joined");
//! let join = init(&context)?;
//! let codes = [NewRecord::new(b"pdx"), NewRecord::new(b"xxx")];
//! let outcomes = testing::run(&context, &codes, |record, out| handle(&join, record, out))?;
//! let [testing::Outcome::Emitted(place), testing::Outcome::Rejected { input: 1, .. }] = &outcomes[..]
//! else {
//!     panic!("{outcomes:?}");
//! };
//! assert_eq!(place.value.as_deref(), Some(&b"Portland"[..]));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Natively, tables are what [`testing::put_in_table`](crate::testing::put_in_table) has put in, for each
//! thread its own.

use std::error::Error;
use std::fmt;

use crate::context::Context;
use crate::failure::Failure;

#[cfg(target_arch = "wasm32")]
use self::guest as backend;
#[cfg(not(target_arch = "wasm32"))]
use self::memory as backend;

/// The longest key, bytes. Records with a longer one are not in a table.
pub const MAX_KEY_BYTES: usize = 1024;

/// A table of the deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    name: String,
}

impl Table {
    /// The deployment's name for it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The value of a key as it is now, if it has one. An empty value is one.
    ///
    /// # Errors
    ///
    /// The key is too large.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, TableError> {
        backend::get(&self.name, key)
    }
}

impl Context {
    /// The table of this name.
    ///
    /// A plugin that calls this is refused by deployments without any table.
    ///
    /// # Errors
    ///
    /// The deployment names none so. Returned from `init`, this keeps the worker from starting and tells
    /// the operator why.
    pub fn table(&self, name: &str) -> Result<Table, UnknownTable> {
        let declared = backend::names();
        if declared.iter().any(|declared| declared == name) {
            let name = name.to_owned();
            return Ok(Table { name });
        }
        Err(UnknownTable {
            name: name.to_owned(),
            declared,
        })
    }
}

/// The deployment has no table of this name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownTable {
    /// The name.
    pub name: String,
    /// The names there are.
    pub declared: Vec<String>,
}

impl fmt::Display for UnknownTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the deployment has no table `{}`", self.name)?;
        match self.declared.as_slice() {
            [] => f.write_str(" (it has none)"),
            declared => write!(f, " (it has `{}`)", declared.join("`, `")),
        }
    }
}

impl Error for UnknownTable {}

/// Why nothing was looked up.
///
/// As a [`Failure`] (the operator `?`), a key that is too large rejects the record: it always will be. A
/// table that is not there fails the call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TableError {
    /// The deployment has no such table.
    NoSuchTable(String),
    /// The key has more than [`MAX_KEY_BYTES`]: how many.
    TooLarge(String),
}

impl fmt::Display for TableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchTable(what) => f.write_str(what),
            Self::TooLarge(what) => write!(f, "too large for a table: {what}"),
        }
    }
}

// `TableError` is no `Error`: as one, it would always reject the record.
impl From<TableError> for Failure {
    fn from(error: TableError) -> Self {
        match error {
            TableError::TooLarge(_) => Self::reject(error),
            TableError::NoSuchTable(_) => Self::abort(error),
        }
    }
}

/// For an `init` that returns any error.
impl From<TableError> for Box<dyn Error> {
    fn from(error: TableError) -> Self {
        error.to_string().into()
    }
}

/// In a guest, the host has the tables.
#[cfg(target_arch = "wasm32")]
mod guest {
    use super::TableError;
    use crate::bindings::table_reader::millstream::plugin::tables;

    pub(super) fn names() -> Vec<String> {
        tables::names()
    }

    pub(super) fn get(table: &str, key: &[u8]) -> Result<Option<Vec<u8>>, TableError> {
        tables::get(table, key).map_err(|error| match error {
            tables::Error::NoSuchTable(what) => TableError::NoSuchTable(what),
            tables::Error::TooLarge(what) => TableError::TooLarge(what),
        })
    }
}

/// What a handler looks up in when it runs natively.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) mod memory {
    use std::cell::RefCell;
    use std::collections::BTreeMap;

    use super::{MAX_KEY_BYTES, TableError};

    type Tables = BTreeMap<String, BTreeMap<Vec<u8>, Vec<u8>>>;

    thread_local! {
        static TABLES: RefCell<Tables> = const { RefCell::new(BTreeMap::new()) };
    }

    pub(super) fn names() -> Vec<String> {
        TABLES.with_borrow(|tables| tables.keys().cloned().collect())
    }

    pub(super) fn get(table: &str, key: &[u8]) -> Result<Option<Vec<u8>>, TableError> {
        TABLES.with_borrow(|tables| {
            let Some(entries) = tables.get(table) else {
                return Err(TableError::NoSuchTable(format!("no table {table:?}")));
            };
            if key.len() > MAX_KEY_BYTES {
                let bytes = key.len();
                let what = format!("a key of {bytes} bytes, more than {MAX_KEY_BYTES}");
                return Err(TableError::TooLarge(what));
            }
            Ok(entries.get(key).cloned())
        })
    }

    pub(crate) fn add(table: &str) {
        TABLES.with_borrow_mut(|tables| {
            tables.entry(table.to_owned()).or_default();
        });
    }

    pub(crate) fn set(table: &str, key: &[u8], value: Option<&[u8]>) {
        TABLES.with_borrow_mut(|tables| {
            let entries = tables.entry(table.to_owned()).or_default();
            // A record with a longer one is not in a table.
            match value.filter(|_| key.len() <= MAX_KEY_BYTES) {
                Some(value) => entries.insert(key.to_vec(), value.to_vec()),
                None => entries.remove(key),
            };
        });
    }

    pub(crate) fn clear() {
        TABLES.take();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn what_is_put_in_is_found_until_it_is_taken_away() {
        testing::clear_tables();
        let context = Context::new("a", "b", 0);
        let unknown = context.table("t").unwrap_err();
        assert_eq!(
            unknown.to_string(),
            "the deployment has no table `t` (it has none)"
        );
        testing::add_table("t");
        let table = context.table("t").unwrap();
        assert_eq!((table.name(), table.get(b"k")), ("t", Ok(None)));
        testing::put_in_table("t", b"k", b"");
        assert_eq!(table.get(b"k"), Ok(Some(Vec::new())));
        testing::delete_from_table("t", b"k");
        assert_eq!(table.get(b"k"), Ok(None));
        let unknown = context.table("u").unwrap_err();
        assert_eq!(
            unknown.to_string(),
            "the deployment has no table `u` (it has `t`)"
        );
    }

    #[test]
    fn long_keys_are_told_apart_and_reject_the_record() {
        testing::clear_tables();
        testing::put_in_table("t", &[7; MAX_KEY_BYTES], b"longest");
        testing::put_in_table("t", &[7; MAX_KEY_BYTES + 1], b"longer");
        let table = Context::new("a", "b", 0).table("t").unwrap();
        let longest = table.get(&[7; MAX_KEY_BYTES]).unwrap();
        assert_eq!(longest.as_deref(), Some(&b"longest"[..]));
        let error = table.get(&[7; MAX_KEY_BYTES + 1]).unwrap_err();
        let what = "a key of 1025 bytes, more than 1024".to_owned();
        assert_eq!(error, TableError::TooLarge(what));
        let failure = Failure::from(error.clone());
        assert_eq!(failure, Failure::reject(error));
    }
}
