//! The life of a stream on which batches come: each is taken, handed on, and acknowledged in the order of
//! all of them.

use millstream_protocol::WireError;
use millstream_transport::{Frame, FrameReceiver, FrameSender, ReceiveError};
use serde::de::DeserializeOwned;

use crate::handlers::StreamEnd;

/// What happens next on such a stream.
pub(super) enum Event<B, A> {
    /// A batch has come, or no more will.
    Frame(Result<Option<Frame<B>>, ReceiveError>),
    /// It is known what came of the oldest batches.
    Acks(A),
}

/// Where the batches go.
pub(super) trait Intake: Send {
    /// What is sent with each batch.
    type Body: DeserializeOwned + Send;
    /// What came of batches.
    type Acks: Send;

    /// Whether no batch waits for its acknowledgement.
    fn is_idle(&self) -> bool;

    /// Waits for what happens next. No more batches are to be taken unless the stream is `open`.
    fn next(
        &mut self,
        open: bool,
        receiver: &mut FrameReceiver,
    ) -> impl Future<Output = Event<Self::Body, Self::Acks>> + Send;

    /// Takes a batch.
    fn accept(
        &mut self,
        frame: Frame<Self::Body>,
    ) -> impl Future<Output = Result<(), WireError>> + Send;

    /// Tells what came of the oldest batches.
    fn answer(
        &mut self,
        acks: Self::Acks,
        sender: &mut FrameSender,
    ) -> impl Future<Output = Result<(), StreamEnd>> + Send;
}

/// Serves the stream to its end.
pub(super) async fn run(
    mut intake: impl Intake,
    sender: &mut FrameSender,
    receiver: &mut FrameReceiver,
) -> Result<(), StreamEnd> {
    let mut open = true;
    let mut end = Ok(());
    while open || !intake.is_idle() {
        match intake.next(open, receiver).await {
            Event::Acks(acks) => intake.answer(acks, sender).await?,
            Event::Frame(Ok(None)) => open = false,
            // What was taken before a fault is still answered, then the fault is told.
            Event::Frame(Ok(Some(frame))) => {
                if let Err(error) = intake.accept(frame).await {
                    (open, end) = (false, Err(StreamEnd::Refused(error)));
                }
            }
            Event::Frame(Err(error)) => (open, end) = (false, Err(error.into())),
        }
    }
    end
}
