//! Passing a stream on to another connection, as it comes.

use crate::close::StreamCode;
use crate::receiver::{FrameReceiver, ReceiveError};
use crate::sender::{FrameSender, SendError};

/// Why a stream was passed on no further.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RelayError {
    /// Nothing more comes. Whoever it was passed on to is told that it was abandoned.
    #[error(transparent)]
    Receive(#[from] ReceiveError),
    /// Nothing more is taken. Whoever it comes from is told to stop.
    #[error(transparent)]
    Send(#[from] SendError),
}

/// Passes frames on until the stream ends, and ends the other one then. Frames are not looked at: those
/// that have not been received yet are passed on from the next one on. Nothing is kept back, and no more
/// is read than the other side takes.
///
/// Dropping the future abandons both streams, whenever that is.
pub async fn relay(from: &mut FrameReceiver, to: &mut FrameSender) -> Result<(), RelayError> {
    let stopped = to.stopped();
    let outcome = tokio::select! {
        outcome = pass_on(from, to) => outcome,
        // Without this, a stream on which nothing comes would stay open for ever.
        stopped = stopped => Err(match stopped {
            Ok(code) => SendError::Stopped(code.unwrap_or(StreamCode::Dropped)).into(),
            Err(reason) => SendError::Closed(reason).into(),
        }),
    };
    match &outcome {
        Ok(()) => {}
        Err(RelayError::Receive(ReceiveError::Reset(code))) => to.reset(*code),
        Err(RelayError::Receive(_)) => to.reset(StreamCode::Dropped),
        Err(RelayError::Send(SendError::Stopped(code))) => from.stop(*code),
        Err(RelayError::Send(_)) => from.stop(StreamCode::Dropped),
    }
    outcome
}

async fn pass_on(from: &mut FrameReceiver, to: &mut FrameSender) -> Result<(), RelayError> {
    while let Some(chunk) = from.next_chunk().await? {
        to.send_chunk(chunk).await?;
    }
    Ok(to.finish().await?)
}
