//! When a guest waits for something outside of this machine: a server's answer.
//!
//! It holds its thread meanwhile. Whoever owns the thread is told, so that it can have others go on, and
//! may end the wait.

use std::future::Future;
use std::pin::Pin;

/// Is told that a guest waits. Called on the worker's thread.
pub trait Waits: Send + Sync {
    /// The guest has begun to wait. It may be told again before it is told of an end.
    fn began(&self);

    /// Is there when nobody wants what the guest is working on any more: its call then fails with
    /// [`CallError::Interrupted`](crate::CallError::Interrupted).
    fn given_up(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
}

/// Of a worker whose thread is nobody else's.
#[derive(Clone, Copy, Debug, Default)]
pub struct OwnThread;

impl Waits for OwnThread {
    fn began(&self) {}

    fn given_up(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(std::future::pending())
    }
}

/// Why a wait ended without what was waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WaitEnded {
    #[error("given up")]
    GivenUp,
    #[error("too long")]
    TooLong,
}
