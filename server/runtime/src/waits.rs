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
    /// room for the guest to go on: that time counts for nothing in how long the call may last. Not called for
    /// a wait that was given up or too long.
    ///
    /// # Errors
    ///
    /// Nobody wants what the guest is working on any more, as for [`Waits::given_up`].
    fn ended(&self) -> Result<(), GivenUp>;

    /// The guest has computed for two or three [ticks](crate::EPOCH_TICK) by the clock, since its call began or
    /// since this was last said. Called on the worker's thread, which may be blocked until it is the guest's
    /// turn again: that time counts for nothing in how long the call may last.
    ///
    /// # Errors
    ///
    /// As for [`Waits::ended`].
    fn computed(&self) -> Result<(), GivenUp>;

    /// Is there when nobody wants what the guest is working on any more: its call then fails with
    /// [`CallError::Interrupted`](crate::CallError::Interrupted).
    fn given_up(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
}

/// Of a worker whose thread is nobody else's.
#[derive(Clone, Copy, Debug, Default)]
pub struct OwnThread;

impl Waits for OwnThread {
    fn began(&self) {}

    fn ended(&self) -> Result<(), GivenUp> {
        Ok(())
    }

    fn computed(&self) -> Result<(), GivenUp> {
        Ok(())
    }

    fn given_up(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(std::future::pending())
    }
}

/// Nobody wants any more what a guest is working on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("given up")]
pub struct GivenUp;

/// A guest has waited for longer than its call may last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("waited too long")]
pub(crate) struct WaitedTooLong;
