//! `wasi:cli/stdout` and `stderr`: what is written there are log lines.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use wasmtime::component::Resource;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::bindings::cli::{stderr, stdout};
use wasmtime_wasi::p2::{DynOutputStream, OutputStream, Pollable, StreamResult};

use super::HostState;
use crate::logs::{Logs, Standard};

/// What a guest may write at once.
const WRITE_BYTES: usize = 4 * 1024;

impl stdout::Host for HostState {
    fn get_stdout(&mut self) -> wasmtime::Result<Resource<DynOutputStream>> {
        self.log_stream(Standard::Output)
    }
}

impl stderr::Host for HostState {
    fn get_stderr(&mut self) -> wasmtime::Result<Resource<DynOutputStream>> {
        self.log_stream(Standard::Error)
    }
}

impl HostState {
    fn log_stream(&mut self, stream: Standard) -> wasmtime::Result<Resource<DynOutputStream>> {
        let stream: DynOutputStream = Box::new(LogStream { logs: Arc::clone(&self.logs), stream });
        Ok(self.table.push(stream)?)
    }
}

/// Always ready, keeps nothing itself.
struct LogStream {
    logs: Arc<Mutex<Logs>>,
    stream: Standard,
}

impl OutputStream for LogStream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        let mut logs = self.logs.lock().unwrap_or_else(PoisonError::into_inner);
        logs.text(self.stream, &bytes, Instant::now());
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES)
    }
}

#[async_trait]
impl Pollable for LogStream {
    async fn ready(&mut self) {}
}
