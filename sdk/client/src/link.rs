//! One connection, shared by all who need it, and made anew when it dies.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::backoff::Backoff;
use crate::dialer::{Dialer, Session, Whom};
use crate::error::{Error, Result};

/// What the connection is doing. Attempts are counted, so that one who waits can tell the outcome
/// of an attempt from an older one's.
#[derive(Clone, Debug)]
enum LinkState {
    Down { attempt: u64, error: Option<Error> },
    Dialing { attempt: u64 },
    Up { attempt: u64, session: Arc<Session> },
    Closed,
}

/// The connection. Whoever needs it and finds it dead starts an attempt; all others wait for that
/// attempt's outcome.
#[derive(Debug)]
pub(crate) struct Link {
    dialer: Arc<Dialer>,
    whom: Whom,
    state: Arc<watch::Sender<LinkState>>,
    backoff: Arc<Mutex<Backoff>>,
    runtime: Handle,
}

impl Link {
    /// A link that is not connected yet. Its attempts run on `runtime`.
    pub(crate) fn new(dialer: Arc<Dialer>, whom: Whom, runtime: Handle) -> Self {
        Self {
            dialer,
            whom,
            state: Arc::new(watch::Sender::new(LinkState::Down {
                attempt: 0,
                error: None,
            })),
            backoff: Arc::default(),
            runtime,
        }
    }

    /// The session, or the outcome of one attempt to have one.
    pub(crate) async fn session(&self) -> Result<Arc<Session>> {
        let mut states = self.state.subscribe();
        let mut outcomes_before = None;
        loop {
            let state = states.borrow_and_update().clone();
            match state {
                LinkState::Closed => return Err(Error::Closed { what: "client" }),
                LinkState::Up { session, .. } if session.is_open() => return Ok(session),
                LinkState::Up { attempt, .. } => {
                    outcomes_before.get_or_insert(attempt);
                    self.start_attempt(attempt);
                }
                LinkState::Down { attempt, error } => match (outcomes_before, error) {
                    (Some(before), Some(error)) if attempt > before => return Err(error),
                    _ => {
                        outcomes_before.get_or_insert(attempt);
                        self.start_attempt(attempt);
                    }
                },
                LinkState::Dialing { attempt } => {
                    outcomes_before.get_or_insert(attempt - 1);
                }
            }
            // The sender lives as long as `self`.
            let _ = states.changed().await;
        }
    }

    /// The session that is open now.
    pub(crate) fn current(&self) -> Option<Arc<Session>> {
        match &*self.state.borrow() {
            LinkState::Up { session, .. } if session.is_open() => Some(Arc::clone(session)),
            _ => None,
        }
    }

    /// Whether it was closed for good.
    pub(crate) fn is_closed(&self) -> bool {
        matches!(&*self.state.borrow(), LinkState::Closed)
    }

    /// Starts an attempt, unless there is a session or one is under way. Nobody waits for it.
    pub(crate) fn start(&self) {
        let attempt = match &*self.state.borrow() {
            LinkState::Up { attempt, session } if !session.is_open() => *attempt,
            LinkState::Down { attempt, .. } => *attempt,
            LinkState::Up { .. } | LinkState::Dialing { .. } | LinkState::Closed => return,
        };
        self.start_attempt(attempt);
    }

    /// Starts the attempt after `attempt`, unless another caller has. The attempt belongs to no
    /// caller: one that loses patience does not take it from the others.
    fn start_attempt(&self, attempt: u64) {
        let next = attempt + 1;
        let started = self.state.send_if_modified(|state| {
            let stale = match state {
                LinkState::Down {
                    attempt: current, ..
                }
                | LinkState::Up {
                    attempt: current, ..
                } => *current == attempt,
                LinkState::Dialing { .. } | LinkState::Closed => false,
            };
            if stale {
                *state = LinkState::Dialing { attempt: next };
            }
            stale
        });
        if started {
            let (dialer, state) = (Arc::clone(&self.dialer), Arc::clone(&self.state));
            let (backoff, whom) = (Arc::clone(&self.backoff), self.whom);
            self.runtime.spawn(async move {
                let outcome = dialer.dial(whom).await;
                hold_back(&outcome, &backoff).await;
                let is_up = outcome.is_ok();
                tell(&state, next, outcome);
                if is_up {
                    dialer.changes.note();
                }
            });
        }
    }

    /// Closes the connection for good, after everything sent before has arrived.
    pub(crate) fn close(&self) {
        let before = self.state.send_replace(LinkState::Closed);
        if let LinkState::Up { session, .. } = before {
            session.close();
        }
    }
}

/// Pauses after a failure, before it is told: whoever tries again at once waits too.
async fn hold_back(outcome: &Result<Session>, backoff: &Mutex<Backoff>) {
    match outcome {
        Ok(_) => backoff.lock().reset(),
        Err(_) => {
            let pause = backoff.lock().after_failure();
            tokio::time::sleep(pause).await;
        }
    }
}

fn tell(state: &watch::Sender<LinkState>, attempt: u64, outcome: Result<Session>) {
    state.send_if_modified(|state| {
        if matches!(state, LinkState::Closed) {
            return false;
        }
        *state = match outcome {
            Ok(session) => LinkState::Up {
                attempt,
                session: Arc::new(session),
            },
            Err(error) => LinkState::Down {
                attempt,
                error: Some(error),
            },
        };
        true
    });
}
