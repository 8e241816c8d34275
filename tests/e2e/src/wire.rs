//! Frames and bytes as only a test would send them.

use bytes::{Bytes, BytesMut};
use millstream::Identity;
use millstream_protocol::WireError;
use millstream_protocol::api::hello::{Hello, HelloResponse};
use millstream_protocol::api::{PROTOCOL_VERSION, Request, RequestFrame, Unary};
use millstream_protocol::frame::{self, FrameHeader};
use millstream_transport::{
    Connection, Connector, FrameReceiver, FrameSender, ReceiveError, TransportConfig,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::broker::Broker;
use crate::patience::within;

/// What a test is ready to receive behind a body, bytes.
const PAYLOAD_LIMIT: usize = 16 << 20;

/// A connection without a client's manners.
#[derive(Debug)]
pub struct Wire(pub Connection);

/// One stream of it.
#[derive(Debug)]
pub struct WireStream {
    /// Towards the broker.
    pub sender: FrameSender,
    /// From the broker.
    pub receiver: FrameReceiver,
}

/// The handshake of the version that this release speaks.
pub fn hello() -> Hello {
    hello_for(PROTOCOL_VERSION, PROTOCOL_VERSION)
}

/// A handshake for these versions.
pub fn hello_for(version_min: u16, version_max: u16) -> Hello {
    Hello {
        version_min,
        version_max,
        client_name: "e2e".to_owned(),
        software: "millstream-e2e".to_owned(),
    }
}

impl Wire {
    /// Connects, and does not shake hands.
    pub async fn connect(broker: &Broker) -> Self {
        let profile = broker.profile();
        let identity = profile.identity().expect("the client's identity");
        Self::connect_as(&identity, &broker.address()).await
    }

    /// The same with an identity of the test's own.
    pub async fn connect_as(identity: &Identity, address: &str) -> Self {
        let connector = Connector::new(identity, TransportConfig::client()).expect("a connector");
        let connected = within("connecting", connector.connect(address, "localhost")).await;
        Self(connected.expect("a connection"))
    }

    /// Connects and shakes hands.
    pub async fn greeted(broker: &Broker) -> Self {
        let wire = Self::connect(broker).await;
        let _: HelloResponse = wire.ask(hello()).await.expect("an answer to the handshake");
        wire
    }

    /// One request and its answer.
    pub async fn ask<R: Unary>(&self, request: R) -> Result<R::Response, WireError> {
        let mut stream = self.open(request.into()).await;
        stream.sender.finish().await.expect("a stream to finish");
        stream.answer().await
    }

    /// Opens a stream with a request.
    pub async fn open(&self, request: Request) -> WireStream {
        self.open_with(&RequestFrame::from_client(request), Bytes::new())
            .await
    }

    /// Opens a stream with any body and payload.
    pub async fn open_with<T: Serialize>(&self, body: &T, payload: Bytes) -> WireStream {
        let (mut sender, receiver) = self.0.open_stream().await.expect("a stream");
        sender
            .send_with_payload(body, [payload])
            .await
            .expect("a frame to send");
        WireStream { sender, receiver }
    }

    /// Opens a stream with bytes and gives the error that the broker answers and ends it with.
    pub async fn refusal_of(&self, bytes: impl Into<Bytes>, end: StreamEnd) -> WireError {
        let (mut sender, mut receiver) = self.0.open_raw().await.expect("a stream");
        // The broker may refuse, and stop listening, before it has read everything.
        let _ = sender.write(bytes.into()).await;
        if end == StreamEnd::Finished {
            let _ = sender.finish();
        }
        let mut answer = Vec::new();
        while let Some(bytes) = within("a refusal", receiver.read())
            .await
            .expect("an answer")
        {
            answer.extend_from_slice(&bytes);
        }
        last_error(&answer)
    }
}

impl WireStream {
    /// The answer to a request.
    pub async fn answer<T: DeserializeOwned>(&mut self) -> Result<T, WireError> {
        self.next()
            .await
            .expect("an answer before the stream's end")
    }

    /// The next frame's body; `None` at the stream's end.
    pub async fn next<T: DeserializeOwned>(&mut self) -> Option<Result<T, WireError>> {
        let frame = within("a frame", self.receiver.receive(PAYLOAD_LIMIT)).await;
        frame
            .expect("a frame, or the stream's end")
            .map(|frame| frame.body)
    }

    /// Sends a frame.
    pub async fn send<T: Serialize>(&mut self, body: &T, payload: impl Into<Bytes>) {
        // The broker may have refused an earlier one.
        let _ = self.sender.send_with_payload(body, [payload.into()]).await;
    }

    /// The error that the broker ends the stream with, behind whatever else it says.
    pub async fn refusal(self) -> WireError {
        let refusal = self.refusal_if_open().await;
        refusal.expect("a connection that stays open")
    }

    /// The same; `None` if the broker has closed the connection instead.
    pub async fn refusal_if_open(mut self) -> Option<WireError> {
        let mut last = None;
        loop {
            let frame = within("a frame", self.receiver.receive_undecoded(PAYLOAD_LIMIT)).await;
            match frame {
                Ok(Some(frame)) => last = Some(frame.body),
                Ok(None) => return Some(error_in(&last.expect("a frame before the stream's end"))),
                Err(ReceiveError::Closed(_)) => return None,
                Err(error) => panic!("a frame, or the stream's end: {error}"),
            }
        }
    }
}

/// Whether a test ends its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamEnd {
    /// It does.
    Finished,
    /// It leaves it open, as if more were to come.
    Open,
}

/// A frame with these lengths in its header, whatever follows.
pub fn frame_claiming(body_bytes: u32, payload_bytes: u32, rest: &[u8]) -> Bytes {
    [
        &body_bytes.to_be_bytes()[..],
        &payload_bytes.to_be_bytes(),
        rest,
    ]
    .concat()
    .into()
}

/// A whole frame.
pub fn frame_of<T: Serialize>(body: &T, payload: &[u8]) -> Bytes {
    let mut out = BytesMut::new();
    frame::encode(body, payload.len(), &mut out).expect("a body that can be encoded");
    out.extend_from_slice(payload);
    out.freeze()
}

/// The error in the last of these frames.
fn last_error(mut bytes: &[u8]) -> WireError {
    let mut body: &[u8] = &[];
    while let Some((header, rest)) = bytes.split_first_chunk() {
        let header = FrameHeader::parse(*header, PAYLOAD_LIMIT).expect("a frame");
        body = &rest[..header.body_bytes];
        bytes = &rest[header.body_bytes + header.payload_bytes..];
    }
    assert!(
        bytes.is_empty(),
        "the broker ended its stream within a frame"
    );
    error_in(body)
}

fn error_in(body: &[u8]) -> WireError {
    let answer: Result<Result<(), WireError>, _> = frame::decode_body(body);
    answer
        .expect("an error as the last answer")
        .expect_err("an error as the last answer")
}
