//! The one connection that everything shares, made anew when it dies.

use std::sync::Arc;
use std::time::Duration;

use millstream_protocol::api::hello::{Hello, HelloResponse};
use millstream_protocol::api::{PROTOCOL_VERSION, Request, RequestFrame};
use millstream_transport::address::Address;
use millstream_transport::{
    CloseCode, ConnectError, Connection, Connector, FrameReceiver, FrameSender,
};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::backoff::Backoff;
use crate::error::{Error, Result, StreamError};
use crate::stream::receive_answer;

/// A connection on which the version handshake is done.
#[derive(Debug)]
pub(crate) struct Session {
    connection: Connection,
    pub(crate) hello: HelloResponse,
}

impl Session {
    /// Opens a stream with its first frame.
    pub(crate) async fn open(
        &self,
        request: Request,
        payload: Option<bytes::Bytes>,
    ) -> Result<(FrameSender, FrameReceiver)> {
        let (mut sender, receiver) = self.connection.open_stream().await?;
        sender
            .send_with_payload(&RequestFrame::from_client(request), payload)
            .await?;
        Ok((sender, receiver))
    }

    fn is_open(&self) -> bool {
        self.connection.close_reason().is_none()
    }
}

/// Where and how to connect.
#[derive(Debug)]
pub(crate) struct Dialer {
    pub(crate) connector: Connector,
    pub(crate) address: String,
    pub(crate) server_name: String,
    pub(crate) client_name: String,
    pub(crate) connect_timeout: Duration,
}

impl Dialer {
    /// One attempt: the connection and the version handshake.
    async fn dial(&self) -> Result<Session> {
        let attempt = async {
            let connection = self
                .connector
                .connect(&self.address, &self.server_name)
                .await?;
            let hello = self
                .greet(&connection)
                .await
                .map_err(|error| self.as_connect_error(error))?;
            Ok(Session { connection, hello })
        };
        tokio::time::timeout(self.connect_timeout, attempt)
            .await
            .unwrap_or(Err(Error::Timeout {
                what: "connecting to the broker",
                after: self.connect_timeout,
            }))
    }

    async fn greet(&self, connection: &Connection) -> Result<HelloResponse> {
        let hello = Hello {
            version_min: PROTOCOL_VERSION,
            version_max: PROTOCOL_VERSION,
            client_name: self.client_name.clone(),
            software: concat!("millstream-rust/", env!("CARGO_PKG_VERSION")).to_owned(),
        };
        let (mut sender, mut receiver) = connection.open_stream().await?;
        sender
            .send(&RequestFrame::from_client(hello.into()))
            .await?;
        sender.finish().await?;
        receive_answer(&mut receiver).await
    }

    /// A broker looks at the client's certificate after the client's handshake is complete: its
    /// refusal comes out of the first stream, and is a failure to connect all the same.
    fn as_connect_error(&self, error: Error) -> Error {
        let reason = match &error {
            Error::ConnectionLost(
                StreamError::Open(reason)
                | StreamError::Send(millstream_transport::SendError::Closed(reason))
                | StreamError::Receive(millstream_transport::ReceiveError::Closed(reason)),
            ) => reason.clone(),
            _ => return error,
        };
        match self.address.parse::<Address>() {
            Ok(address) => ConnectError::Closed { address, reason }.into(),
            Err(_) => error,
        }
    }
}

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
    state: Arc<watch::Sender<LinkState>>,
    backoff: Arc<Mutex<Backoff>>,
    runtime: Handle,
}

impl Link {
    /// A link that is not connected yet. Its attempts run on the runtime this is called in.
    pub(crate) fn new(dialer: Dialer) -> Self {
        Self {
            dialer: Arc::new(dialer),
            state: Arc::new(watch::Sender::new(LinkState::Down {
                attempt: 0,
                error: None,
            })),
            backoff: Arc::default(),
            runtime: Handle::current(),
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
            let backoff = Arc::clone(&self.backoff);
            self.runtime.spawn(async move {
                let outcome = dialer.dial().await;
                hold_back(&dialer, &outcome, &backoff).await;
                tell(&state, next, outcome);
            });
        }
    }

    /// Closes the connection for good, after everything sent before has arrived.
    pub(crate) fn close(&self) {
        let before = self.state.send_replace(LinkState::Closed);
        if let LinkState::Up { session, .. } = before {
            session.connection.close(CloseCode::Done, "");
        }
    }
}

/// Pauses after a failure, before it is told: whoever tries again at once waits too.
async fn hold_back(dialer: &Dialer, outcome: &Result<Session>, backoff: &Mutex<Backoff>) {
    let address = &dialer.address;
    match outcome {
        Ok(session) => {
            backoff.lock().reset();
            tracing::debug!(address, broker = session.hello.broker_id, "connected");
        }
        Err(error) => {
            let pause = backoff.lock().after_failure();
            tracing::debug!(address, %error, ?pause, "could not connect");
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
