//! `millstream:plugin/tables`: what others keep, by key.

use super::HostState;
use crate::bindings::table_reader::millstream::plugin::tables::{self, Error};
use crate::tables::MAX_TABLE_KEY_BYTES;

impl tables::Host for HostState {
    fn names(&mut self) -> wasmtime::Result<Vec<String>> {
        self.quota.count()?;
        Ok(self.tables.iter().map(|it| it.name.clone()).collect())
    }

    fn get(
        &mut self,
        table: String,
        key: Vec<u8>,
    ) -> wasmtime::Result<Result<Option<Vec<u8>>, Error>> {
        self.quota.count()?;
        let Some(found) = self.tables.iter().find(|it| it.name == table) else {
            let names: Vec<_> = self.tables.iter().map(|it| it.name.as_str()).collect();
            // The guest's own words may be long.
            let asked = &table[..table.floor_char_boundary(MAX_TABLE_KEY_BYTES)];
            return Ok(Err(Error::NoSuchTable(format!(
                "no table {asked:?}, but `{}`",
                names.join("`, `")
            ))));
        };
        if key.len() > MAX_TABLE_KEY_BYTES {
            let bytes = key.len();
            return Ok(Err(Error::TooLarge(format!(
                "a key of {bytes} bytes, more than {MAX_TABLE_KEY_BYTES}"
            ))));
        }
        Ok(Ok(found.reader.get(&key)?))
    }
}
