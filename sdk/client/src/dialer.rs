//! Making a connection: to any broker of the cluster, or to a certain one.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use millstream_protocol::api::cluster::{BrokerAddress, DescribeBrokers};
use millstream_protocol::api::hello::{Hello, HelloResponse};
use millstream_protocol::api::topic::{
    DescribeTopics, TopicDescription, TopicDetail, TopicSelection,
};
use millstream_protocol::api::{PROTOCOL_VERSION, Request, RequestFrame, Unary};
use millstream_protocol::{Advice, ErrorCode};
use millstream_transport::address::Address;
use millstream_transport::{
    CloseCode, ConnectError, Connection, Connector, FrameReceiver, FrameSender, ReceiveError,
    SendError,
};
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use crate::brokers::{BrokerId, Brokers, Target};
use crate::changes::Changes;
use crate::error::{Error, Result, StreamError};
use crate::limits::{LISTING_PATIENCE, NEXT_BROKER_DELAY, SILENCE_LIMIT};
use crate::silence::Hearing;
use crate::stream::receive_answer;

/// A connection on which the version handshake is done.
#[derive(Debug)]
pub(crate) struct Session {
    connection: Connection,
    pub(crate) hello: HelloResponse,
    pub(crate) hearing: Hearing,
}

impl Session {
    /// The number of the broker at the other end.
    pub(crate) fn broker(&self) -> BrokerId {
        self.hello.broker_id
    }

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

    /// Makes a request, in one attempt.
    pub(crate) async fn ask<R: Unary>(
        &self,
        request: R,
        payload: Option<bytes::Bytes>,
    ) -> Result<R::Response> {
        let (mut sender, mut receiver) = self.open(request.into(), payload).await?;
        sender.finish().await?;
        receive_answer(&mut receiver).await
    }

    /// One topic, in one attempt.
    pub(crate) async fn describe(&self, topic: &str) -> Result<TopicDescription> {
        let request = DescribeTopics {
            topics: TopicSelection::Named(vec![topic.to_owned()]),
            after: None,
            detail: TopicDetail::Placement,
        };
        let described = self.ask(request, None).await?;
        let mut topics = described.topics.into_iter();
        let found = topics.find(|found| found.name == topic);
        found.ok_or_else(|| Error::unexpected("other topics than asked for"))
    }

    /// Whether nothing has come from the broker for so long that it may be gone.
    pub(crate) fn is_silent(&self) -> bool {
        let datagrams = self.connection.datagrams_received();
        self.hearing.silence(datagrams, Instant::now()) >= SILENCE_LIMIT
    }

    pub(crate) fn is_open(&self) -> bool {
        self.connection.close_reason().is_none()
    }

    pub(crate) fn close(&self) {
        self.connection.close(CloseCode::Done, "");
    }
}

/// Whom a connection is to be made to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whom {
    /// Any broker of the cluster. It is asked which others there are.
    Any,
    /// The broker of this number.
    Broker(BrokerId),
}

/// Whether a broker that was reached answers clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Readiness {
    Ready,
    Starting,
}

/// Whom and how to connect.
#[derive(Debug)]
pub(crate) struct Dialer {
    pub(crate) connector: Connector,
    pub(crate) brokers: Brokers,
    pub(crate) client_name: String,
    pub(crate) connect_timeout: Duration,
    pub(crate) changes: Arc<Changes>,
}

impl Dialer {
    /// One attempt. Of any broker: they are tried one after the other, the next one beside those that
    /// are silent, and the first that is ready is taken. One that is still starting is taken if no
    /// other is ready.
    pub(crate) async fn dial(&self, whom: Whom) -> Result<Session> {
        let mut targets = match whom {
            // Those who have lost the same broker do not all go to the same other one.
            Whom::Any => self.brokers.all(Uuid::new_v4().as_u128() as usize),
            Whom::Broker(broker_id) => self.brokers.get(broker_id).into_iter().collect(),
        }
        .into_iter();
        let mut attempts = FuturesUnordered::new();
        let mut starting = None;
        let mut failure = None;
        loop {
            attempts.extend(targets.next().map(|target| self.reach(target, whom)));
            let patience = match starting {
                None if targets.len() == 0 => Duration::MAX,
                _ => NEXT_BROKER_DELAY,
            };
            match timeout(patience, attempts.next()).await {
                Ok(Some(Ok((session, Readiness::Ready)))) => return Ok(session),
                Ok(Some(Ok((session, Readiness::Starting)))) => {
                    starting.get_or_insert(session);
                }
                Ok(Some(Err(error))) => failure = Some(more_hopeful(failure, error)),
                Ok(None) => break,
                Err(_) if targets.len() == 0 => break,
                Err(_) => {}
            }
        }
        starting.ok_or_else(|| {
            failure.unwrap_or_else(|| Error::invalid("the broker's address is not known"))
        })
    }

    /// One attempt at one broker: the connection, the version handshake, and the list of brokers if
    /// this may be any.
    async fn reach(&self, target: Target, whom: Whom) -> Result<(Session, Readiness)> {
        let attempt = async {
            let connection = self
                .connector
                .connect(&target.address, &target.server_name)
                .await?;
            let hello = self
                .greet(&connection)
                .await
                .map_err(|error| as_connect_error(&target.address, error))?;
            if !target.is(&hello) {
                return Err(Error::unexpected("the name of another broker or cluster"));
            }
            self.brokers.meet(&target, hello.broker_id);
            let hearing = Hearing::new(connection.datagrams_received());
            let session = Session {
                connection,
                hello,
                hearing,
            };
            let readiness = match whom {
                Whom::Any => self.learn(&session).await,
                Whom::Broker(_) => Readiness::Ready,
            };
            let address = &target.address;
            tracing::debug!(address, broker = session.broker(), "connected");
            Ok((session, readiness))
        };
        let attempt = timeout(self.connect_timeout, attempt);
        let outcome = attempt.await.unwrap_or(Err(Error::Timeout {
            what: "connecting to the broker",
            after: self.connect_timeout,
        }));
        if let Err(error) = &outcome {
            tracing::debug!(address = target.address, %error, "could not connect");
        }
        outcome
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

    /// Asks which brokers there are. A client works without knowing it, as long as this one lives.
    async fn learn(&self, session: &Session) -> Readiness {
        let asking = session.ask(DescribeBrokers {}, None);
        match timeout(LISTING_PATIENCE, asking).await {
            Ok(Ok(listed)) => self.take_listing(session, listed.brokers),
            Ok(Err(error)) if error.code() == Some(ErrorCode::NotReady) => {
                return Readiness::Starting;
            }
            Ok(Err(error)) => {
                tracing::debug!(broker = session.broker(), %error, "which brokers there are was not said");
            }
            Err(_) => {
                tracing::debug!(
                    broker = session.broker(),
                    "which brokers there are was not said in time"
                );
            }
        }
        Readiness::Ready
    }

    /// Takes a broker's word of which brokers there are.
    pub(crate) fn take_listing(&self, session: &Session, brokers: Vec<BrokerAddress>) {
        if self.brokers.learn(session.hello.cluster_id, brokers) {
            self.changes.note();
        }
    }

    /// Looks again which brokers there are.
    pub(crate) async fn learn_again(&self, session: &Session) {
        // What it is, it can be asked for.
        let _ = self.learn(session).await;
    }
}

/// Of two failures, the one after which to try again: one broker that refuses does not mean that the
/// others do.
fn more_hopeful(before: Option<Error>, error: Error) -> Error {
    match before {
        Some(before) if before.advice() != Advice::GiveUp || error.advice() == Advice::GiveUp => {
            before
        }
        _ => error,
    }
}

/// A broker looks at the client's certificate after the client's handshake is complete: its refusal
/// comes out of the first stream, and is a failure to connect all the same.
fn as_connect_error(address: &str, error: Error) -> Error {
    let reason = match &error {
        Error::ConnectionLost(
            StreamError::Open(reason)
            | StreamError::Send(SendError::Closed(reason))
            | StreamError::Receive(ReceiveError::Closed(reason)),
        ) => reason.clone(),
        _ => return error,
    };
    match address.parse::<Address>() {
        Ok(address) => ConnectError::Closed { address, reason }.into(),
        Err(_) => error,
    }
}
