//! `wasi:logging` and `wasi:config`: what a deployment gives its workers.

use std::time::Instant;

use millstream_protocol::api::plugin::LogLevel;

use super::HostState;
use crate::bindings::wasi::config::store;
use crate::bindings::wasi::logging::logging::{self, Level};

impl logging::Host for HostState {
    fn log(&mut self, level: Level, context: String, message: String) -> wasmtime::Result<()> {
        self.quota.count()?;
        let level = match level {
            Level::Trace => LogLevel::Trace,
            Level::Debug => LogLevel::Debug,
            Level::Info => LogLevel::Info,
            Level::Warn => LogLevel::Warn,
            Level::Error => LogLevel::Error,
            Level::Critical => LogLevel::Critical,
        };
        self.logs().line(level, &context, &message, Instant::now());
        Ok(())
    }
}

impl store::Host for HostState {
    fn get(&mut self, key: String) -> wasmtime::Result<Result<Option<String>, store::Error>> {
        self.quota.count()?;
        let value = self
            .config
            .iter()
            .find(|(name, _)| *name == key)
            .map(|(_, value)| value.clone());
        if value.is_some() {
            self.metrics.lock().asked_for(&key);
        }
        Ok(Ok(value))
    }

    fn get_all(&mut self) -> wasmtime::Result<Result<Vec<(String, String)>, store::Error>> {
        self.quota.count()?;
        self.metrics.lock().read_all();
        Ok(Ok(self.config.clone()))
    }
}
