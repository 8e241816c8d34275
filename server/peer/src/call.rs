//! Calls: one request and one answer, each a bounded number of bytes.

use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use millstream_protocol::WireError;
use millstream_protocol::api::RequestFrame;
use millstream_protocol::api::peer::{CallPeer, Introduction, PeerCalled, PeerService};
use millstream_protocol::frame::FrameError;
use millstream_transport::{
    Connection, FrameReceiver, FrameSender, Priority, ReceiveError, SendError,
};

use crate::limits::MAX_CALL_BYTES;
use crate::link::{Link, LinkState};

/// Whether a call waits until not too many others are under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    Waits,
    /// It does not.
    Ahead,
}

const ENDED: &str = "it is no peer any longer";

/// Why a call was not answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// Nothing was asked: there was no connection, or too many others were asking.
    #[error("the broker was not asked: {reason}")]
    NotAsked {
        /// Why not.
        reason: String,
    },
    /// The connection ended meanwhile: what was asked for may have been done.
    #[error("the broker cannot be reached: {reason}")]
    Unreachable {
        /// Why not.
        reason: String,
    },
    /// It has not answered in time: what was asked for may have been done.
    #[error("the broker has not answered in time")]
    TimedOut,
    /// It refuses.
    #[error("the broker refuses the call: {0}")]
    Refused(WireError),
    /// The request or the answer is longer than a call may be.
    #[error("{bytes} bytes are more than the {MAX_CALL_BYTES} of a call")]
    TooLong {
        /// How long it is.
        bytes: usize,
    },
}

impl CallError {
    pub(crate) fn not_asked(reason: impl ToString) -> Self {
        Self::NotAsked {
            reason: reason.to_string(),
        }
    }

    fn unreachable(reason: impl ToString) -> Self {
        Self::Unreachable {
            reason: reason.to_string(),
        }
    }
}

impl From<SendError> for CallError {
    fn from(error: SendError) -> Self {
        Self::unreachable(error)
    }
}

impl From<ReceiveError> for CallError {
    fn from(error: ReceiveError) -> Self {
        match error {
            ReceiveError::Frame(FrameError::PayloadTooLarge { bytes, .. }) => {
                Self::TooLong { bytes }
            }
            error => Self::unreachable(error),
        }
    }
}

/// Refuses a request that is too long.
pub(crate) fn check_length(request: &Bytes) -> Result<(), CallError> {
    match request.len() {
        bytes if bytes > MAX_CALL_BYTES => Err(CallError::TooLong { bytes }),
        _ => Ok(()),
    }
}

impl Link {
    /// Calls the peer, as soon as there is a connection and, unless it goes `ahead`, not too many others call.
    /// `begun` tells whether anything was asked.
    pub(crate) async fn call(
        &self,
        introduction: Introduction,
        (service, turn): (PeerService, Turn),
        request: Bytes,
        begun: &AtomicBool,
    ) -> Result<Bytes, CallError> {
        let _under_way = match turn {
            Turn::Ahead => None,
            Turn::Waits => {
                let under_way = self.calls(service).acquire().await;
                Some(under_way.map_err(CallError::not_asked)?)
            }
        };
        let (mut sender, mut receiver) = self.open_stream().await?;
        begun.store(true, Ordering::Relaxed);
        sender.set_priority(Priority::Control);
        let call = CallPeer {
            introduction,
            service,
        };
        let frame = RequestFrame::from_client(call.into());
        sender.send_with_payload(&frame, [request]).await?;
        sender.finish().await?;
        let answer = receiver.receive::<Result<PeerCalled, WireError>>(MAX_CALL_BYTES);
        let answer = answer.await?;
        let answer = answer.ok_or_else(|| CallError::unreachable("the stream ended early"))?;
        match answer.body {
            Ok(PeerCalled {}) => Ok(answer.payload.freeze()),
            Err(error) => Err(CallError::Refused(error)),
        }
    }

    /// Opens a stream, as soon as there is a connection.
    pub(crate) async fn open_stream(&self) -> Result<(FrameSender, FrameReceiver), CallError> {
        let connection = self.connected().await?;
        let opened = connection.open_stream().await;
        opened.map_err(CallError::not_asked)
    }

    /// Whether there is a connection now.
    pub(crate) fn is_up(&self) -> bool {
        matches!(*self.state.borrow(), LinkState::Up(_))
    }

    /// What a call came to that took too long, and of which something was asked or not.
    pub(crate) fn timed_out(&self, begun: bool) -> CallError {
        if begun {
            return CallError::TimedOut;
        }
        match &*self.state.borrow() {
            LinkState::Down { reason } => CallError::not_asked(reason),
            LinkState::Up(_) => CallError::not_asked("too many others call it"),
            LinkState::Ended => CallError::not_asked(ENDED),
        }
    }

    async fn connected(&self) -> Result<Connection, CallError> {
        let mut states = self.state.subscribe();
        loop {
            match &*states.borrow_and_update() {
                LinkState::Up(connection) => return Ok(connection.clone()),
                LinkState::Ended => return Err(CallError::not_asked(ENDED)),
                LinkState::Down { .. } => {}
            }
            states.changed().await.map_err(CallError::not_asked)?;
        }
    }
}
