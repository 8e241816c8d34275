//! `wasi:io`, whose waiting is ours.
//!
//! Streams and what they do are wasmtime-wasi's. But a guest that waits holds its thread where no epoch
//! reaches it, so every wait ends when its call may last no longer, and when nobody wants what the call
//! comes to. All that is linked here can wait, and nothing else can.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use wasmtime::component::{HasData, Resource, ResourceTable};
use wasmtime::{Result, Trap};
use wasmtime_wasi::p2::bindings::io::{poll as waiting_poll, streams as waiting_streams};
use wasmtime_wasi::p2::bindings::sync::io::{poll, streams};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, DynPollable, StreamError, StreamResult};
use wasmtime_wasi::runtime::{in_tokio, poll_noop, with_ambient_tokio_runtime};

use super::{Access, HostState};
use crate::deadline::Deadline;
use crate::waits::{GivenUp, WaitedTooLong, Waits};

/// Serves `wasi:io`.
pub(super) struct Io;

impl HasData for Io {
    type Data<'a> = View<'a>;
}

/// What streams and pollables are, and how long they may be waited for.
pub(super) struct View<'a> {
    table: &'a mut ResourceTable,
    waits: Waiting<'a>,
}

/// How a wait ends.
struct Waiting<'a> {
    waits: Arc<dyn Waits>,
    deadline: &'a mut Deadline,
    until: Instant,
    access: Access,
}

impl HostState {
    pub(super) fn io(&mut self) -> View<'_> {
        // Whoever deploys waits for `init`, and other changes wait for them.
        let until = match self.access {
            Access::ReadOnly => self.deadline.ends_unstretched(),
            Access::ReadWrite | Access::Migration => self.deadline.ends(),
        };
        View {
            waits: Waiting {
                waits: Arc::clone(&self.waits),
                deadline: &mut self.deadline,
                until,
                access: self.access,
            },
            table: self.quota.table(&mut self.table),
        }
    }
}

impl Waiting<'_> {
    /// What a future comes to. The owner of the thread hears of it only if it takes its time.
    fn wait<T>(&mut self, future: impl Future<Output = T>) -> Result<T> {
        let mut future = pin!(future);
        if let Some(done) = with_ambient_tokio_runtime(|| poll_noop(future.as_mut())) {
            return Ok(done);
        }
        self.waits.began();
        let waited = in_tokio(async {
            tokio::select! {
                biased;
                done = future => Ok(done),
                () = self.waits.given_up() => Err(GivenUp.into()),
                () = tokio::time::sleep_until(self.until.into()) => Err(match self.access {
                    Access::ReadOnly => Trap::Interrupt.into(),
                    Access::ReadWrite | Access::Migration => WaitedTooLong.into(),
                }),
            }
        });
        if waited.is_ok() {
            self.deadline.stand_still(|| self.waits.ended())?;
        }
        waited
    }

    fn wait_for_stream<T>(
        &mut self,
        future: impl Future<Output = StreamResult<T>>,
    ) -> StreamResult<T> {
        self.wait(future).map_err(StreamError::Trap)?
    }
}

impl poll::Host for View<'_> {
    fn poll(&mut self, pollables: Vec<Resource<DynPollable>>) -> Result<Vec<u32>> {
        self.waits
            .wait(waiting_poll::Host::poll(self.table, pollables))?
    }
}

impl poll::HostPollable for View<'_> {
    fn ready(&mut self, pollable: Resource<DynPollable>) -> Result<bool> {
        self.waits
            .wait(waiting_poll::HostPollable::ready(self.table, pollable))?
    }

    fn block(&mut self, pollable: Resource<DynPollable>) -> Result<()> {
        self.waits
            .wait(waiting_poll::HostPollable::block(self.table, pollable))?
    }

    fn drop(&mut self, pollable: Resource<DynPollable>) -> Result<()> {
        waiting_poll::HostPollable::drop(self.table, pollable)
    }
}

impl streams::Host for View<'_> {
    fn convert_stream_error(&mut self, error: StreamError) -> Result<streams::StreamError> {
        streams::Host::convert_stream_error(self.table, error)
    }
}

impl streams::HostInputStream for View<'_> {
    fn drop(&mut self, stream: Resource<DynInputStream>) -> Result<()> {
        self.waits
            .wait(waiting_streams::HostInputStream::drop(self.table, stream))?
    }

    fn read(&mut self, stream: Resource<DynInputStream>, len: u64) -> StreamResult<Vec<u8>> {
        waiting_streams::HostInputStream::read(self.table, stream, len)
    }

    fn blocking_read(
        &mut self,
        stream: Resource<DynInputStream>,
        len: u64,
    ) -> StreamResult<Vec<u8>> {
        let read = waiting_streams::HostInputStream::blocking_read(self.table, stream, len);
        self.waits.wait_for_stream(read)
    }

    fn skip(&mut self, stream: Resource<DynInputStream>, len: u64) -> StreamResult<u64> {
        waiting_streams::HostInputStream::skip(self.table, stream, len)
    }

    fn blocking_skip(&mut self, stream: Resource<DynInputStream>, len: u64) -> StreamResult<u64> {
        let skipped = waiting_streams::HostInputStream::blocking_skip(self.table, stream, len);
        self.waits.wait_for_stream(skipped)
    }

    fn subscribe(&mut self, stream: Resource<DynInputStream>) -> Result<Resource<DynPollable>> {
        waiting_streams::HostInputStream::subscribe(self.table, stream)
    }
}

impl streams::HostOutputStream for View<'_> {
    fn drop(&mut self, stream: Resource<DynOutputStream>) -> Result<()> {
        self.waits
            .wait(waiting_streams::HostOutputStream::drop(self.table, stream))?
    }

    fn check_write(&mut self, stream: Resource<DynOutputStream>) -> StreamResult<u64> {
        waiting_streams::HostOutputStream::check_write(self.table, stream)
    }

    fn write(&mut self, stream: Resource<DynOutputStream>, bytes: Vec<u8>) -> StreamResult<()> {
        waiting_streams::HostOutputStream::write(self.table, stream, bytes)
    }

    fn blocking_write_and_flush(
        &mut self,
        stream: Resource<DynOutputStream>,
        bytes: Vec<u8>,
    ) -> StreamResult<()> {
        let table = &mut *self.table;
        let written =
            waiting_streams::HostOutputStream::blocking_write_and_flush(table, stream, bytes);
        self.waits.wait_for_stream(written)
    }

    fn blocking_write_zeroes_and_flush(
        &mut self,
        stream: Resource<DynOutputStream>,
        len: u64,
    ) -> StreamResult<()> {
        let table = &mut *self.table;
        let written =
            waiting_streams::HostOutputStream::blocking_write_zeroes_and_flush(table, stream, len);
        self.waits.wait_for_stream(written)
    }

    fn subscribe(&mut self, stream: Resource<DynOutputStream>) -> Result<Resource<DynPollable>> {
        waiting_streams::HostOutputStream::subscribe(self.table, stream)
    }

    fn write_zeroes(&mut self, stream: Resource<DynOutputStream>, len: u64) -> StreamResult<()> {
        waiting_streams::HostOutputStream::write_zeroes(self.table, stream, len)
    }

    fn flush(&mut self, stream: Resource<DynOutputStream>) -> StreamResult<()> {
        waiting_streams::HostOutputStream::flush(self.table, stream)
    }

    fn blocking_flush(&mut self, stream: Resource<DynOutputStream>) -> StreamResult<()> {
        let flushed = waiting_streams::HostOutputStream::blocking_flush(self.table, stream);
        self.waits.wait_for_stream(flushed)
    }

    fn splice(
        &mut self,
        to: Resource<DynOutputStream>,
        from: Resource<DynInputStream>,
        len: u64,
    ) -> StreamResult<u64> {
        waiting_streams::HostOutputStream::splice(self.table, to, from, len)
    }

    fn blocking_splice(
        &mut self,
        to: Resource<DynOutputStream>,
        from: Resource<DynInputStream>,
        len: u64,
    ) -> StreamResult<u64> {
        let table = &mut *self.table;
        let spliced = waiting_streams::HostOutputStream::blocking_splice(table, to, from, len);
        self.waits.wait_for_stream(spliced)
    }
}
