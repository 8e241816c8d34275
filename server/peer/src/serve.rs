//! The side of a replication stream that accepts it.

use std::sync::Arc;

use millstream_protocol::WireError;
use millstream_protocol::api::peer::OpenedReplication;
use millstream_replication::BrokerId;
use millstream_transport::{FrameReceiver, FrameSender, ReceiveError, SendError, StreamCode};
use tokio::sync::Semaphore;

use crate::check::{FrameFault, check_count, with_batches};
use crate::inbox::{Inbox, Received, Room};
use crate::limits::{MAX_FRAME_BYTES, MESSAGE_BYTES, RECEIVED_BYTES_IN_FLIGHT};
use crate::wire::{Part, ReplicationFrame};

/// Why a replication stream ended before its time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServeError {
    /// What came does not hold together. The stream is stopped.
    #[error(transparent)]
    Fault(#[from] FrameFault),
    /// Nothing more can be received.
    #[error(transparent)]
    Receive(#[from] ReceiveError),
    /// The stream could not be answered.
    #[error(transparent)]
    Send(#[from] SendError),
}

impl ServeError {
    /// What the peer is to be told; `None` where nobody is left to hear it.
    pub fn to_wire_error(&self) -> Option<WireError> {
        match self {
            Self::Fault(fault) => Some(fault.to_wire()),
            Self::Receive(error) => error.to_wire_error(),
            Self::Send(_) => None,
        }
    }
}

/// Serves a stream that was opened with an `OpenReplication` whose introduction was
/// [checked](crate::check_introduction), until the peer ends it.
///
/// The stream is answered, and then read as fast as the inbox makes room. At the first frame that
/// does not hold together that is logged and the stream is stopped; the caller sends the peer the
/// error's [wire error](ServeError::to_wire_error).
pub async fn serve_replication(
    from: BrokerId,
    sender: &mut FrameSender,
    receiver: &mut FrameReceiver,
    inbox: &dyn Inbox,
) -> Result<(), ServeError> {
    let opened = Ok::<_, WireError>(OpenedReplication {});
    sender.send(&opened).await?;
    let served = receive_all(from, receiver, inbox).await;
    if let Err(error) = &served
        && error.to_wire_error().is_some()
    {
        tracing::warn!(peer = from, %error, "refused a replication stream");
        receiver.stop(StreamCode::Malformed);
    }
    served
}

async fn receive_all(
    from: BrokerId,
    receiver: &mut FrameReceiver,
    inbox: &dyn Inbox,
) -> Result<(), ServeError> {
    let room = Arc::new(Semaphore::new(RECEIVED_BYTES_IN_FLIGHT));
    loop {
        let received = receiver.receive_body(MAX_FRAME_BYTES).await?;
        let Some((frame, payload_bytes)): Option<(ReplicationFrame, usize)> = received else {
            return Ok(());
        };
        check_count(&frame)?;
        let bytes = frame.parts.len() * MESSAGE_BYTES + payload_bytes;
        let permits = u32::try_from(bytes).unwrap_or(u32::MAX);
        // It is never closed.
        let Ok(mut permit) = Arc::clone(&room).acquire_many_owned(permits).await else {
            return Ok(());
        };
        let payload = receiver.receive_payload().await?;
        for (Part { partition, message }, batches) in with_batches(frame, payload)? {
            let entries_bytes: usize = batches.iter().map(|it| it.bytes.len()).sum();
            inbox.received(Received {
                from,
                partition,
                message,
                batches,
                room: Room::of(permit.split(MESSAGE_BYTES + entries_bytes)),
            });
        }
    }
}
