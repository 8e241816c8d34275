//! `millstream:plugin/state`: what is stored, under what the call has changed.

use std::sync::Arc;

use super::{Access, HostState};
use crate::bindings::millstream::plugin::state::{self, Entry, Error, Page};
use crate::state::{
    MAX_MIGRATION_CHANGE_BYTES, MAX_STATE_CHANGE_BYTES, MAX_STATE_KEY_BYTES, MAX_STATE_VALUE_BYTES,
    QuotaExceeded, STATE_CHANGE_OVERHEAD_BYTES, StateChanges, StateReader, read_page,
};

/// The state as one call sees it.
pub(super) struct CallState {
    reader: Arc<dyn StateReader>,
    changes: StateChanges,
}

impl CallState {
    pub(super) fn new(reader: Arc<dyn StateReader>) -> Self {
        Self {
            reader,
            changes: StateChanges::default(),
        }
    }

    pub(super) fn begin_call(&mut self) {
        self.changes = StateChanges::default();
    }

    pub(super) fn take_changes(&mut self) -> StateChanges {
        std::mem::take(&mut self.changes)
    }

    fn change(
        &mut self,
        access: Access,
        key: Vec<u8>,
        value: Option<Vec<u8>>,
    ) -> Result<(), Error> {
        if access == Access::ReadOnly {
            return Err(Error::ReadOnly);
        }
        check_len("key", &key, MAX_STATE_KEY_BYTES)?;
        if let Some(value) = &value {
            check_len("value", value, MAX_STATE_VALUE_BYTES)?;
        }
        if access == Access::Migration {
            let value_bytes = value.as_ref().map_or(0, Vec::len);
            let bytes =
                self.changes.bytes() + key.len() + value_bytes + STATE_CHANGE_OVERHEAD_BYTES;
            if bytes > MAX_MIGRATION_CHANGE_BYTES {
                return Err(Error::QuotaExceeded(format!(
                    "the changes of a call of `migrate` would have {bytes} bytes, more than \
                     {MAX_MIGRATION_CHANGE_BYTES}: return a cursor, to go on in another call"
                )));
            }
        }
        self.changes
            .set(key, value)
            .map_err(|QuotaExceeded { bytes }| {
                Error::QuotaExceeded(format!(
                    "the changes of the call would have {bytes} bytes, more than \
                     {MAX_STATE_CHANGE_BYTES}"
                ))
            })
    }
}

fn check_len(what: &str, bytes: &[u8], limit: usize) -> Result<(), Error> {
    if bytes.len() > limit {
        return Err(Error::TooLarge(format!(
            "a {what} of {} bytes, more than {limit}",
            bytes.len()
        )));
    }
    Ok(())
}

impl state::Host for HostState {
    fn get(&mut self, key: Vec<u8>) -> wasmtime::Result<Result<Option<Vec<u8>>, Error>> {
        self.quota.count()?;
        if let Err(error) = check_len("key", &key, MAX_STATE_KEY_BYTES) {
            return Ok(Err(error));
        }
        let value = match self.state.changes.get(&key) {
            Some(changed) => changed.map(<[u8]>::to_vec),
            None => self.state.reader.get(&key)?,
        };
        Ok(Ok(value))
    }

    fn put(&mut self, key: Vec<u8>, value: Vec<u8>) -> wasmtime::Result<Result<(), Error>> {
        self.quota.count()?;
        Ok(self.state.change(self.access, key, Some(value)))
    }

    fn delete(&mut self, key: Vec<u8>) -> wasmtime::Result<Result<(), Error>> {
        self.quota.count()?;
        Ok(self.state.change(self.access, key, None))
    }

    fn scan(
        &mut self,
        prefix: Vec<u8>,
        after: Option<Vec<u8>>,
        limit: u32,
    ) -> wasmtime::Result<Result<Page, Error>> {
        self.quota.count()?;
        let after = after.as_deref();
        let checked = check_len("prefix", &prefix, MAX_STATE_KEY_BYTES)
            .and_then(|()| check_len("key", after.unwrap_or_default(), MAX_STATE_KEY_BYTES));
        if let Err(error) = checked {
            return Ok(Err(error));
        }
        let CallState { reader, changes } = &self.state;
        let page = read_page(reader.as_ref(), changes, &prefix, after, limit as usize)?;
        let entries = page.entries.into_iter();
        Ok(Ok(Page {
            entries: entries.map(|(key, value)| Entry { key, value }).collect(),
            more: page.more,
        }))
    }
}
