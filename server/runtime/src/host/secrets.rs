//! `millstream:plugin/secrets`: what the operator has given, to those who are granted it.

use super::HostState;
use crate::bindings::secret_reader::millstream::plugin::secrets;

impl secrets::Host for HostState {
    fn get(&mut self, name: String) -> wasmtime::Result<Option<String>> {
        self.quota.count()?;
        let value = self.grants.secret(&name);
        if let Some(value) = &value {
            // From here on the guest knows it, and may let it slip.
            self.logs().mask(value);
        }
        Ok(value)
    }
}
