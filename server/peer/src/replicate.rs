//! The side of the replication streams that opens them: what waits in the outbox goes out.

use std::time::Duration;

use bytes::Bytes;
use millstream_protocol::WireError;
use millstream_protocol::api::peer::{OpenReplication, OpenedReplication};
use millstream_protocol::api::{Request, RequestFrame};
use millstream_replication::Message;
use millstream_transport::{
    CloseReason, Connection, FrameReceiver, FrameSender, Priority, ReceiveError, SendError,
};
use tokio::time::timeout;

use crate::gather::{Gathered, Read, read, read_cached};
use crate::limits::REASON_TIMEOUT;
use crate::mailbox::Mailbox;
use crate::outbox::{Lane, Outgoing};
use crate::throttle::Throttle;

/// Why a replication stream ended, or did not begin.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StreamEnd {
    #[error("the peer refuses the stream: {0}")]
    Refused(WireError),
    #[error("the peer has ended the stream")]
    Ended,
    #[error("the peer has not accepted the stream within {0:?}")]
    TimedOut(Duration),
    #[error(transparent)]
    Send(#[from] SendError),
    #[error(transparent)]
    Receive(#[from] ReceiveError),
    #[error(transparent)]
    Closed(#[from] CloseReason),
}

/// Both streams to a peer.
pub(crate) struct Streams {
    spans: (FrameSender, FrameReceiver),
    words: (FrameSender, FrameReceiver),
}

impl Streams {
    /// Opens them; the peer has accepted them then.
    pub(crate) async fn open(
        connection: &Connection,
        request: &OpenReplication,
    ) -> Result<Self, StreamEnd> {
        Ok(Self {
            spans: open(connection, request, Priority::Data).await?,
            words: open(connection, request, Priority::Control).await?,
        })
    }

    /// Sends what is in the mailbox until one of the streams ends.
    pub(crate) async fn send_all(self, mailbox: &Mailbox, catch_up: &Throttle) -> StreamEnd {
        tokio::select! {
            end = keep_sending((mailbox, Lane::Spans), catch_up, self.spans) => end,
            end = keep_sending((mailbox, Lane::Words), catch_up, self.words) => end,
        }
    }
}

/// Sends what is in a lane until its stream ends, and says why it has.
async fn keep_sending(
    from: (&Mailbox, Lane),
    catch_up: &Throttle,
    (sender, mut receiver): (FrameSender, FrameReceiver),
) -> StreamEnd {
    let end = tokio::select! {
        end = send_lane(from, catch_up, sender) => end,
        end = answer(&mut receiver) => return end,
    };
    match end {
        // Why, it says in a frame.
        StreamEnd::Send(SendError::Stopped(_)) => {
            let answered = timeout(REASON_TIMEOUT, answer(&mut receiver)).await;
            answered.unwrap_or(end)
        }
        end => end,
    }
}

async fn open(
    connection: &Connection,
    request: &OpenReplication,
    priority: Priority,
) -> Result<(FrameSender, FrameReceiver), StreamEnd> {
    let (mut sender, mut receiver) = connection.open_stream().await?;
    sender.set_priority(priority);
    let request = Request::OpenReplication(request.clone());
    sender.send(&RequestFrame::from_client(request)).await?;
    let answer = receiver.receive::<Result<OpenedReplication, WireError>>(0);
    match answer.await?.map(|frame| frame.body) {
        Some(Ok(OpenedReplication {})) => Ok((sender, receiver)),
        Some(Err(error)) => Err(StreamEnd::Refused(error)),
        None => Err(StreamEnd::Ended),
    }
}

/// Whether a message is for a follower. A leader-to-be that asks for entries is not to wait.
fn is_catching_up(outgoing: &Outgoing) -> bool {
    matches!(outgoing.message, Message::Append { .. })
}

/// Waits for what the peer says of an open stream: only that it ends.
async fn answer(receiver: &mut FrameReceiver) -> StreamEnd {
    match receiver.receive::<Result<(), WireError>>(0).await {
        Ok(Some(frame)) => frame
            .body
            .map_or_else(StreamEnd::Refused, |()| StreamEnd::Ended),
        Ok(None) => StreamEnd::Ended,
        Err(error) => error.into(),
    }
}

/// The next message of a lane: one that was held, once it may be sent.
async fn next((mailbox, lane): (&Mailbox, Lane), catch_up: &Throttle) -> Outgoing {
    loop {
        let next = tokio::select! {
            biased;
            () = catch_up.free(), if lane == Lane::Spans && mailbox.has_held() => mailbox.next_held(),
            next = mailbox.next(lane) => Some(next),
        };
        if let Some(next) = next {
            return next;
        }
    }
}

async fn send_lane(
    (mailbox, lane): (&Mailbox, Lane),
    catch_up: &Throttle,
    mut sender: FrameSender,
) -> StreamEnd {
    let mut carried = None;
    loop {
        let mut gathered = Gathered::default();
        let mut next = match carried.take() {
            Some(outgoing) => Some(outgoing),
            None => Some(next((mailbox, lane), catch_up).await),
        };
        while let Some(outgoing) = next.take() {
            let entries = match read_cached(&outgoing) {
                Read::Done(entries) => entries,
                Read::NeedsDisk if !gathered.is_empty() => {
                    // What is there already does not wait for the disk.
                    carried = Some(outgoing);
                    break;
                }
                Read::NeedsDisk if is_catching_up(&outgoing) && !catch_up.is_free() => {
                    mailbox.hold(outgoing);
                    next = mailbox.try_next(lane);
                    continue;
                }
                Read::NeedsDisk => {
                    let entries = read(&outgoing).await;
                    if let Some(piece) = entries.as_ref().filter(|_| is_catching_up(&outgoing)) {
                        catch_up.passed(piece.batches.iter().map(Bytes::len).sum());
                    }
                    entries
                }
            };
            if let Some(rest) = gathered.add(outgoing, entries) {
                mailbox.put_back(rest);
            }
            if !gathered.is_full() {
                next = mailbox.try_next(lane);
            }
        }
        if gathered.is_empty() {
            continue;
        }
        let (frame, payload) = gathered.into_frame();
        if let Err(error) = sender.send_with_payload(&frame, payload).await {
            return error.into();
        }
    }
}
