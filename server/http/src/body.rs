//! Bodies, counted.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::error::SendError;
use crate::send::Driver;
use crate::{MAX_REQUEST_BODY_BYTES, MAX_RESPONSE_BODY_BYTES};

/// What is sent.
pub(crate) struct RequestBody<B> {
    inner: B,
    left_bytes: u64,
}

impl<B> RequestBody<B> {
    pub(crate) fn new(inner: B) -> Self {
        Self {
            inner,
            left_bytes: MAX_REQUEST_BODY_BYTES,
        }
    }
}

impl<B> Body for RequestBody<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(context) else {
            return Poll::Pending;
        };
        let frame = frame.map(|frame| {
            let frame = frame.map_err(Into::into)?;
            self.left_bytes =
                counted(self.left_bytes, &frame).ok_or(SendError::RequestTooLarge {
                    limit: MAX_REQUEST_BODY_BYTES,
                })?;
            Ok(frame)
        });
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// What is left when this has come, if it may.
fn counted(left_bytes: u64, frame: &Frame<Bytes>) -> Option<u64> {
    let bytes = frame.data_ref().map_or(0, Bytes::len);
    left_bytes.checked_sub(bytes as u64)
}

/// What comes after the head of a response: at most [`MAX_RESPONSE_BODY_BYTES`], in bounded time.
#[derive(Debug)]
pub struct ResponseBody {
    incoming: Incoming,
    left_bytes: u64,
    between: Duration,
    /// When all of it must be there.
    ends: Instant,
    /// When the next part must be there.
    next_by: Pin<Box<Sleep>>,
    ended: bool,
    _driver: Driver,
}

impl ResponseBody {
    pub(crate) fn new(
        incoming: Incoming,
        between: Duration,
        ends: Instant,
        driver: Driver,
    ) -> Self {
        let by = (Instant::now() + between).min(ends);
        Self {
            incoming,
            left_bytes: MAX_RESPONSE_BODY_BYTES,
            between,
            ends,
            next_by: Box::pin(sleep_until(by)),
            ended: false,
            _driver: driver,
        }
    }

    fn counted(
        &mut self,
        frame: Result<Frame<Bytes>, hyper::Error>,
    ) -> Result<Frame<Bytes>, SendError> {
        let frame = frame?;
        let limit = MAX_RESPONSE_BODY_BYTES;
        let left_bytes = counted(self.left_bytes, &frame);
        self.left_bytes = left_bytes.ok_or(SendError::ResponseTooLarge { limit })?;
        // What trickles has an end as well.
        if Instant::now() >= self.ends {
            return Err(SendError::ResponseTimeout);
        }
        let by = (Instant::now() + self.between).min(self.ends);
        self.next_by.as_mut().reset(by);
        Ok(frame)
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = SendError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, SendError>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let came = match Pin::new(&mut self.incoming).poll_frame(context) {
            Poll::Ready(Some(frame)) => Some(self.counted(frame)),
            Poll::Ready(None) => None,
            Poll::Pending => match self.next_by.as_mut().poll(context) {
                Poll::Ready(()) => Some(Err(SendError::ResponseTimeout)),
                Poll::Pending => return Poll::Pending,
            },
        };
        self.ended = !matches!(came, Some(Ok(_)));
        Poll::Ready(came)
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
