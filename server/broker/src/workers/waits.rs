//! What a worker's turns do when their guest waits for a server, or computes for long.

use std::future::Future;
use std::pin::Pin;

use millstream_runtime::{GivenUp, Waits};
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::workers::threads;

/// Gives the turn's place away, finds it another one, and ends the call when the worker is to stop or to stand
/// still.
pub(crate) struct TurnWaits {
    pub(crate) stopped: watch::Receiver<bool>,
    pub(crate) held: watch::Receiver<bool>,
    pub(crate) runtime: Handle,
}

impl TurnWaits {
    /// Blocks until the turn may go on.
    fn until(&self, it_may: impl Future<Output = ()>) -> Result<(), GivenUp> {
        self.runtime.block_on(async {
            tokio::select! {
                biased;
                () = self.given_up() => Err(GivenUp),
                () = it_may => Ok(()),
            }
        })
    }
}

impl Waits for TurnWaits {
    fn began(&self) {
        threads::waiting();
    }

    fn ended(&self) -> Result<(), GivenUp> {
        self.until(threads::waited())
    }

    fn computed(&self) -> Result<(), GivenUp> {
        self.until(threads::computed())
    }

    fn given_up(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        let (mut stopped, mut held) = (self.stopped.clone(), self.held.clone());
        Box::pin(async move {
            // Where nobody is left to say it, nobody wants the answer either.
            tokio::select! {
                _ = stopped.wait_for(|stopped| *stopped) => {}
                _ = held.wait_for(|held| *held) => {}
            }
        })
    }
}
