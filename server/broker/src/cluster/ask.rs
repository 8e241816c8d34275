//! Asking another broker what clients ask: a request is passed on, or one is made for it.

use bytes::Bytes;
use millstream_metadata::Image;
use millstream_protocol::api::{MAX_HOPS, RequestFrame, Unary};
use millstream_protocol::{ErrorCode, WireError};
use millstream_replication::BrokerId;
use millstream_transport::{FrameReceiver, FrameSender};
use tokio::time::timeout;

use super::Cluster;
use crate::config::{ASK_LIMIT, FORWARD_LIMIT};

impl Cluster {
    /// Asks another broker for a part of what a client has asked, in a request that was passed on `hops`
    /// times.
    pub(crate) async fn ask<R: Unary>(
        &self,
        to: BrokerId,
        hops: u8,
        request: R,
    ) -> Result<R::Response, WireError> {
        let request = request.into();
        let frame = RequestFrame { hops, request };
        let asking = async {
            let (mut sender, mut receiver) = self.open(to, frame, Bytes::new()).await?;
            let answering = async {
                // An answer may come before the end has gone out.
                let _ = sender.finish().await;
                receiver.receive::<Result<R::Response, WireError>>(0).await
            };
            let answer = timeout(ASK_LIMIT, answering).await;
            let answer = answer.map_err(|_| unreachable(to, &"it does not answer"))?;
            let answer = answer.map_err(|error| unreachable(to, &error))?;
            answer
                .ok_or_else(|| unreachable(to, &"it has not answered"))?
                .body
        };
        tokio::select! {
            answer = asking => answer,
            () = self.until_gone(to) => Err(unreachable(to, &"it is gone")),
        }
    }

    /// The other brokers that are there.
    pub(crate) fn others(&self) -> Vec<BrokerId> {
        let Some((quorum, _)) = self.quorum.get() else {
            return Vec::new();
        };
        let image = quorum.applied().image;
        let brokers = image.brokers().map(|it| it.broker_id);
        let others = brokers.filter(|it| *it != self.me() && image.is_live(*it));
        others.collect()
    }

    /// Waits until a broker is not there any more, as far as is known. A connection finds out later.
    pub(crate) async fn until_gone(&self, broker: BrokerId) {
        self.until(|image| !image.is_live(broker)).await;
    }

    /// Waits until the image is such.
    pub(crate) async fn until(&self, mut holds: impl FnMut(&Image) -> bool) {
        if let Some((quorum, _)) = self.quorum.get() {
            let mut images = quorum.watch();
            while !holds(&images.borrow_and_update().image) {
                if images.changed().await.is_err() {
                    break;
                }
            }
            if holds(&images.borrow().image) {
                return;
            }
        }
        // This broker starts or stops, and ends its streams itself.
        std::future::pending().await
    }

    /// Opens a stream to another broker with a client's request, passed on once more.
    pub(crate) async fn open(
        &self,
        to: BrokerId,
        frame: RequestFrame,
        payload: Bytes,
    ) -> Result<(FrameSender, FrameReceiver), WireError> {
        if frame.hops >= MAX_HOPS {
            return Err(WireError::new(
                ErrorCode::NotLeader,
                format!(
                    "the request was passed on {} times, and broker {to} is to answer it",
                    frame.hops
                ),
            ));
        }
        let links = self.links().ok_or_else(|| {
            WireError::new(
                ErrorCode::NotReady,
                format!(
                    "broker {to} is to answer this, and this broker's certificate opens no connections"
                ),
            )
        })?;
        let (mut sender, receiver) = links
            .open_stream(to, FORWARD_LIMIT)
            .await
            .map_err(|error| unreachable(to, &error))?;
        let frame = RequestFrame {
            hops: frame.hops + 1,
            request: frame.request,
        };
        sender
            .send_with_payload(&frame, [payload])
            .await
            .map_err(|error| unreachable(to, &error))?;
        Ok((sender, receiver))
    }
}

/// A broker that is to answer cannot be asked.
pub(crate) fn unreachable(to: BrokerId, error: &dyn std::fmt::Display) -> WireError {
    WireError::new(
        ErrorCode::NotReady,
        format!("broker {to} is to answer this, and cannot be reached: {error}"),
    )
}
