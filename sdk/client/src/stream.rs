//! One answer off a stream.

use bytes::Bytes;
use millstream_protocol::WireError;
use millstream_transport::FrameReceiver;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result, StreamError};

/// The next frame's body: what was asked for, or why not. The stream must not end here, and the
/// frame carries no payload.
pub(crate) async fn receive<T: DeserializeOwned>(
    receiver: &mut FrameReceiver,
) -> Result<Result<T, WireError>> {
    let frame = receiver.receive::<Result<T, WireError>>(0).await?;
    frame
        .map(|frame| frame.body)
        .ok_or(Error::ConnectionLost(StreamError::Ended))
}

/// The same, with the broker's refusal among the errors.
pub(crate) async fn receive_answer<T: DeserializeOwned>(receiver: &mut FrameReceiver) -> Result<T> {
    receive(receiver).await?.map_err(Error::from)
}

/// The next frame with its payload; `None` at the stream's end.
pub(crate) async fn receive_with_payload<T: DeserializeOwned>(
    receiver: &mut FrameReceiver,
    payload_limit: usize,
) -> Result<Option<(T, Bytes)>> {
    match receiver
        .receive::<Result<T, WireError>>(payload_limit)
        .await?
    {
        Some(frame) => Ok(Some((frame.body?, frame.payload.freeze()))),
        None => Ok(None),
    }
}
