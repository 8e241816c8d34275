//! The threads that move the bytes of guests' requests.

use std::io;

use millstream_http::MAX_LOOK_UPS_AT_ONCE;
use tokio::runtime::{Builder, EnterGuard, Runtime};

/// All guests share one thread: they cannot take more than one processor beside their turns, whatever
/// they receive and decrypt.
const THREADS: usize = 1;

/// Threads that may block: each look-up has one, and whoever reads the machine's certificates.
const BLOCKING_THREADS: usize = MAX_LOOK_UPS_AT_ONCE + 1;

/// A run-time for what guests wait for.
pub(crate) struct IoThreads(Option<Runtime>);

impl IoThreads {
    /// Starts them; `begin` is called on each.
    pub(crate) fn start(begin: fn()) -> io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .thread_name("guest-io")
            .worker_threads(THREADS)
            .max_blocking_threads(BLOCKING_THREADS)
            .on_thread_start(begin)
            .enable_io()
            .enable_time()
            .build()?;
        Ok(Self(Some(runtime)))
    }

    /// What the calling thread starts or waits for is done by these until the guard is dropped.
    pub(crate) fn enter(&self) -> Option<EnterGuard<'_>> {
        self.0.as_ref().map(Runtime::enter)
    }
}

impl Drop for IoThreads {
    fn drop(&mut self) {
        // Whoever holds the engine last may be where nobody may block.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
