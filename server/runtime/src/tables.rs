//! Tables: what is looked up by key, and is kept elsewhere.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// A key that is looked up, bytes.
pub const MAX_TABLE_KEY_BYTES: usize = 1024;

/// Reads one table. Called on the worker's thread, within a call of the guest.
pub trait TableReader: Send + Sync {
    /// The value of a key as it is now, if it has one.
    ///
    /// # Errors
    ///
    /// It cannot be read: the call fails.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, TableReadError>;
}

/// A table cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot read the table of topic {topic}: {reason}")]
pub struct TableReadError {
    /// What it is made of.
    pub topic: String,
    /// What failed, for the operator.
    pub reason: String,
}

/// A table of a deployment.
#[derive(Clone)]
pub struct Table {
    /// The guest's name for it.
    pub name: String,
    /// Where it is read.
    pub reader: Arc<dyn TableReader>,
}

impl Table {
    /// A table with nothing in it: of a trial of `init`.
    pub fn empty(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            reader: Arc::new(BTreeMap::new()),
        }
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Table").field(&self.name).finish()
    }
}

/// A table that does not move.
impl TableReader for BTreeMap<Vec<u8>, Vec<u8>> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, TableReadError> {
        Ok(BTreeMap::get(self, key).cloned())
    }
}
