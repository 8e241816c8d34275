//! When a guest waits for something outside of this machine, a server's answer, or computes for long.
//!
//! It holds its thread meanwhile. Whoever owns the thread is told, so that it can have others go on, and
//! may end a wait.

use std::future::Future;
use std::pin::Pin;

/// Is told that a guest waits, and that it computes on.
pub trait Waits: Send + Sync {
    /// The guest has begun to wait. Called on the worker's thread.
    fn began(&self);

    /// What it has waited for is there. Called on the worker's thread, which may be blocked until there is
    /// room for the guest to go on. Not called for a wait that was given up or too long.
    fn ended(&self);

    /// The guest has computed for two or three [ticks](crate::EPOCH_TICK) by the clock, since its call began or
    /// since this was last said. Called on the worker's thread, which may be blocked until it is the guest's
    /// turn again: its deadline is of processor time.
    fn computed(&self);

    /// Is there when nobody wants what the guest is working on any more: its call then fails with
    /// [`CallError::Interrupted`](crate::CallError::Interrupted).
    fn given_up(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
}

/// Of a worker whose thread is nobody else's.
#[derive(Clone, Copy, Debug, Default)]
pub struct OwnThread;

impl Waits for OwnThread {
    fn began(&self) {}

    fn ended(&self) {}

    fn computed(&self) {}

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
