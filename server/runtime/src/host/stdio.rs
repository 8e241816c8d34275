//! `wasi:cli/stdout` and `stderr`: what is written there are log lines.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use wasmtime::component::Resource;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::bindings::cli::{stderr, stdout};
use wasmtime_wasi::p2::{DynOutputStream, OutputStream, Pollable, StreamError, StreamResult};

use super::HostState;
use crate::logs::{Logs, Standard};

/// What a guest may write at once.
const WRITE_BYTES: usize = 4 * 1024;

impl stdout::Host for HostState {
    fn get_stdout(&mut self) -> wasmtime::Result<Resource<DynOutputStream>> {
        self.quota.count()?;
        self.log_stream(Standard::Output)
    }
}

impl stderr::Host for HostState {
    fn get_stderr(&mut self) -> wasmtime::Result<Resource<DynOutputStream>> {
        self.quota.count()?;
        self.log_stream(Standard::Error)
    }
}

impl HostState {
    fn log_stream(&mut self, stream: Standard) -> wasmtime::Result<Resource<DynOutputStream>> {
        let stream: DynOutputStream = Box::new(LogStream {
            logs: Arc::clone(&self.logs),
            stream,
        });
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
        if bytes.len() > WRITE_BYTES {
            return Err(StreamError::trap("more was written than is permitted"));
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::{LogLine, LogSink};

    struct Nowhere;

    impl LogSink for Nowhere {
        fn write(&self, _line: LogLine) {}
    }

    #[test]
    fn a_guest_cannot_write_more_than_is_permitted() {
        let logs = Arc::new(Mutex::new(Logs::new(Arc::new(Nowhere), 100)));
        let mut stream = LogStream {
            logs,
            stream: Standard::Output,
        };
        let permitted = stream.check_write().unwrap();
        assert!(stream.write(vec![b'x'; permitted].into()).is_ok());
        assert!(stream.write_zeroes(permitted).is_ok());
        assert!(matches!(
            stream.write(vec![b'x'; permitted + 1].into()),
            Err(StreamError::Trap(_))
        ));
        assert!(matches!(
            stream.write_zeroes(usize::MAX),
            Err(StreamError::Trap(_))
        ));
    }
}
