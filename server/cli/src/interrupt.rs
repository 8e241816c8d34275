//! Ctrl-C and SIGTERM.

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::errors::Exit;

/// The person, or whoever runs this program, wants it to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Interrupted {
    /// Ctrl-C.
    #[error("interrupted")]
    CtrlC,
    /// SIGTERM.
    #[error("terminated")]
    Terminate,
}

impl Interrupted {
    /// How a program ends that did not finish because of it.
    pub(crate) fn exit(self) -> Exit {
        match self {
            Self::CtrlC => Exit::Interrupted,
            Self::Terminate => Exit::Terminated,
        }
    }
}

/// The signals, caught from the program's first moment to its last.
#[derive(Debug)]
pub(crate) struct Interrupts {
    ctrl_c: Signal,
    terminate: Signal,
}

impl Interrupts {
    /// Catches the signals from now on. They do nothing until somebody asks for the [`next`](Self::next).
    pub(crate) fn catch() -> anyhow::Result<Self> {
        let catch = |kind| signal(kind).context("cannot catch signals");
        Ok(Self {
            ctrl_c: catch(SignalKind::interrupt())?,
            terminate: catch(SignalKind::terminate())?,
        })
    }

    /// The next signal. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Interrupted {
        tokio::select! {
            Some(()) = self.ctrl_c.recv() => Interrupted::CtrlC,
            Some(()) = self.terminate.recv() => Interrupted::Terminate,
            else => std::future::pending().await,
        }
    }

    /// Runs `work` until it is done or a signal drops it.
    pub(crate) async fn unless<T>(
        &mut self,
        work: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<T> {
        tokio::select! {
            result = work => result,
            interrupted = self.next() => Err(interrupted.into()),
        }
    }
}
