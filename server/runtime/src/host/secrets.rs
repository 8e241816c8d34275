//! `millstream:plugin/secrets`: what the operator has given, to those who are granted it.

use std::time::Instant;

use millstream_protocol::api::plugin::LogLevel;

use super::HostState;
use crate::bindings::secret_reader::millstream::plugin::secrets;
use crate::logs::HOST_CONTEXT;

impl secrets::Host for HostState {
    fn get(&mut self, name: String) -> wasmtime::Result<Option<String>> {
        self.quota.count()?;
        let value = self.grants.secret(&name);
        match &value {
            // From here on the guest knows it, and may let it slip.
            Some(value) => self.logs().mask(value),
            None => self.tell_missing(name),
        }
        Ok(value)
    }
}

/// Secrets that an instance is told to lack. It may ask for others without end.
const MAX_TOLD_MISSING: usize = 16;

/// The name of one, bytes: no secret has a longer one.
const MAX_TOLD_NAME_BYTES: usize = 255;

impl HostState {
    /// Says once in the log that a secret is not granted, and how it would be: what the guest makes of it may
    /// not name it.
    fn tell_missing(&mut self, name: String) {
        let is_told = self.missing_secrets.len() >= MAX_TOLD_MISSING
            || name.len() > MAX_TOLD_NAME_BYTES
            || self.missing_secrets.contains(&name);
        if is_told {
            return;
        }
        let message = format!(
            "the secret `{name}` is asked for and not granted: `secrets = [\"{name}\"]` below [grants] of the \
             deployment file, or `--grant secret={name}`, grants it"
        );
        let now = Instant::now();
        self.logs()
            .line(LogLevel::Warn, HOST_CONTEXT, &message, now);
        self.missing_secrets.push(name);
    }
}
