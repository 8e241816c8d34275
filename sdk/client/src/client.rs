//! The client: one connection, and everything that is done with it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use millstream_protocol::api::hello::HelloResponse;
use millstream_protocol::api::{Request, Unary};
use millstream_protocol::{Advice, ErrorCode};
use millstream_transport::address::Address;
use millstream_transport::{
    Connector, FrameReceiver, FrameSender, Identity, Profile, TransportConfig,
};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::admin::Admin;
use crate::backoff::Backoff;
use crate::consumer::ConsumerBuilder;
use crate::error::{Error, Result};
use crate::limits::{
    DEFAULT_CONNECT_TIMEOUT, DEFAULT_REQUEST_TIMEOUT, PRODUCE_STREAMS_PER_CONNECTION,
};
use crate::link::{Dialer, Link, Session};
use crate::producer::ProducerBuilder;
use crate::quota::{FetchStreams, StreamQuota};
use crate::stream::receive_answer;

/// A client of one Millstream cluster.
///
/// It holds one connection, shared by every producer, consumer and request, and makes it anew when
/// it dies. Clones are handles to the same connection. Any broker's address will do: a broker
/// forwards what another one leads.
///
/// ```no_run
/// use millstream::{Client, ProduceRecord};
///
/// # async fn example() -> millstream::Result<()> {
/// let client = Client::discover().await?;
/// let producer = client.producer("orders").build().await?;
/// let stored = producer.send(ProduceRecord::new("hello").key("customer-7")).await?.await?;
/// println!("stored in partition {} at offset {}", stored.partition, stored.offset);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Client {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    link: Link,
    request_timeout: Duration,
    produce_streams: StreamQuota,
    fetch_streams: FetchStreams,
}

impl Client {
    /// Connects with the user's profile: the file named by `MILLSTREAM_PROFILE`, or the one that
    /// `millstream dev` has written.
    pub async fn discover() -> Result<Self> {
        Self::from_profile(&Profile::discover()?).await
    }

    /// Connects with this profile.
    pub async fn from_profile(profile: &Profile) -> Result<Self> {
        Self::builder().profile(profile)?.connect().await
    }

    /// A client with settings of its own.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::new()
    }

    /// A producer to `topic`.
    pub fn producer(&self, topic: impl Into<String>) -> ProducerBuilder {
        ProducerBuilder::new(self.clone(), topic.into())
    }

    /// A consumer: of a group, or on its own.
    pub fn consumer(&self) -> ConsumerBuilder {
        ConsumerBuilder::new(self.clone())
    }

    /// Topics, offsets, groups and plugins.
    pub fn admin(&self) -> Admin {
        Admin::new(self.clone())
    }

    /// What the broker said of itself when the connection was made. Connects if need be.
    pub async fn broker(&self) -> Result<HelloResponse> {
        Ok(self.session().await?.hello.clone())
    }

    /// Whether there is a connection now, as far as is known: that a broker was killed is noticed when nothing
    /// has come from it for the connection's idle timeout. What is lost is made anew by whoever needs it.
    pub fn is_connected(&self) -> bool {
        self.shared.link.current().is_some()
    }

    /// Closes the connection at once, for all clones. What producers have not sent yet is lost:
    /// close them first.
    pub fn close(&self) {
        self.shared.link.close();
    }

    /// The session, or the outcome of one attempt to have one.
    pub(crate) async fn session(&self) -> Result<Arc<Session>> {
        match self.shared.link.current() {
            Some(session) => Ok(session),
            None => self.shared.link.session().await,
        }
    }

    pub(crate) fn produce_streams(&self) -> &StreamQuota {
        &self.shared.produce_streams
    }

    pub(crate) fn fetch_streams(&self) -> &FetchStreams {
        &self.shared.fetch_streams
    }

    pub(crate) fn request_timeout(&self) -> Duration {
        self.shared.request_timeout
    }

    /// Opens a stream, in one attempt.
    pub(crate) async fn open_stream(
        &self,
        request: Request,
    ) -> Result<(FrameSender, FrameReceiver)> {
        self.session().await?.open(request, None).await
    }

    /// Opens a stream and waits for the broker's word that it is open, in one attempt.
    pub(crate) async fn open_answered<T: DeserializeOwned>(
        &self,
        request: Request,
    ) -> Result<(T, FrameSender, FrameReceiver)> {
        let opening = async {
            let (sender, mut receiver) = self.open_stream(request).await?;
            let opened = receive_answer(&mut receiver).await?;
            Ok((opened, sender, receiver))
        };
        let timeout = self.shared.request_timeout;
        tokio::time::timeout(timeout, opening)
            .await
            .unwrap_or(Err(Error::Timeout {
                what: "opening a stream",
                after: timeout,
            }))
    }

    /// Makes a request, as often as its answer allows within the request timeout.
    pub(crate) async fn call<R: Unary + Clone>(&self, request: R) -> Result<R::Response> {
        self.call_with(request, None, self.shared.request_timeout)
            .await
            .0
    }

    /// The same with a payload and a timeout of its own. Beside the answer it says whether an
    /// earlier attempt was lost after it was sent: then the broker may have done what was asked
    /// already, and this answer is to the repetition.
    pub(crate) async fn call_with<R: Unary + Clone>(
        &self,
        request: R,
        payload: Option<Bytes>,
        timeout: Duration,
    ) -> (Result<R::Response>, EarlierAttempt) {
        let deadline = Instant::now() + timeout;
        let mut backoff = Backoff::default();
        let mut earlier = EarlierAttempt::None;
        let mut last_error = None;
        loop {
            let attempt = self.attempt(request.clone(), payload.clone());
            let Ok(outcome) = timeout_at(deadline, attempt).await else {
                let timed_out = Error::Timeout {
                    what: "the request",
                    after: timeout,
                };
                return (Err(last_error.unwrap_or(timed_out)), earlier);
            };
            match outcome {
                Err(error) if error.advice() != Advice::GiveUp => {
                    let resume_at = Instant::now() + backoff.after_failure();
                    if resume_at >= deadline {
                        return (Err(error), earlier);
                    }
                    tracing::debug!(%error, "trying the request again");
                    let unanswered = matches!(error, Error::ConnectionLost(_));
                    if unanswered || error.code() == Some(ErrorCode::TimedOut) {
                        earlier = EarlierAttempt::Lost;
                    }
                    last_error = Some(error);
                    sleep_until(resume_at).await;
                }
                outcome => return (outcome, earlier),
            }
        }
    }

    async fn attempt<R: Unary>(&self, request: R, payload: Option<Bytes>) -> Result<R::Response> {
        let session = self.session().await?;
        let (mut sender, mut receiver) = session.open(request.into(), payload).await?;
        sender.finish().await?;
        receive_answer(&mut receiver).await
    }
}

/// What became of a request's earlier attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EarlierAttempt {
    /// None was made, or each was answered.
    None,
    /// One was sent and its answer was lost.
    Lost,
}

/// Settings of a [`Client`].
///
/// ```no_run
/// use millstream::{Client, Identity};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let identity = Identity::load("client.pem".as_ref(), "client-key.pem".as_ref(), "ca.pem".as_ref())?;
/// let client = Client::builder()
///     .address("broker.example:9092")
///     .identity(identity)
///     .client_name("billing")
///     .connect()
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a builder does nothing until it connects"]
pub struct ClientBuilder {
    address: Option<String>,
    server_name: Option<String>,
    identity: Option<Identity>,
    transport: TransportConfig,
    client_name: Option<String>,
    connect_timeout: Duration,
    request_timeout: Duration,
}

impl ClientBuilder {
    fn new() -> Self {
        Self {
            address: None,
            server_name: None,
            identity: None,
            transport: TransportConfig::client(),
            client_name: None,
            connect_timeout: DEFAULT_CONNECT_TIMEOUT,
            request_timeout: DEFAULT_REQUEST_TIMEOUT,
        }
    }

    /// Takes address, server name and identity from a profile.
    ///
    /// # Errors
    ///
    /// [`Error::Identity`] when the files that it names cannot be read.
    pub fn profile(self, profile: &Profile) -> Result<Self> {
        let identity = profile.identity()?;
        Ok(self
            .address(profile.address.clone())
            .server_name(profile.server_name.clone())
            .identity(identity))
    }

    /// Where a broker listens: `host:port`, or `host` with the default port.
    pub fn address(mut self, address: impl Into<String>) -> Self {
        self.address = Some(address.into());
        self
    }

    /// The name that the broker's certificate must be issued for. Unless given: the host of the
    /// address.
    pub fn server_name(mut self, server_name: impl Into<String>) -> Self {
        self.server_name = Some(server_name.into());
        self
    }

    /// Who this client is, and whose brokers it trusts.
    pub fn identity(mut self, identity: Identity) -> Self {
        self.identity = Some(identity);
        self
    }

    /// The client's name for itself, for the broker's logs and listings. Unless given: the name of
    /// the program.
    pub fn client_name(mut self, name: impl Into<String>) -> Self {
        self.client_name = Some(name.into());
        self
    }

    /// How long one attempt to connect may take, the version handshake included.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long one request may take with all its attempts.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// How the network is used: windows, datagram sizes, timeouts.
    pub fn transport(mut self, config: TransportConfig) -> Self {
        self.transport = config;
        self
    }

    /// Connects, in one attempt. From then on the client reconnects by itself.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] without an address or identity, [`Error::Connector`] for an
    /// identity or configuration that cannot be used, [`Error::Connect`] or [`Error::Timeout`] when
    /// no broker answers or one side does not trust the other, [`Error::Broker`] when the broker
    /// refuses the version handshake.
    pub async fn connect(self) -> Result<Client> {
        let address = self
            .address
            .ok_or_else(|| Error::invalid("no broker address is given"))?;
        let identity = self
            .identity
            .ok_or_else(|| Error::invalid("no client identity is given"))?;
        let server_name = match self.server_name {
            Some(name) => name,
            None => {
                address
                    .parse::<Address>()
                    .map_err(millstream_transport::ConnectError::from)?
                    .host
            }
        };
        let dialer = Dialer {
            connector: Connector::new(&identity, self.transport)?,
            address,
            server_name,
            client_name: self.client_name.unwrap_or_else(program_name),
            connect_timeout: self.connect_timeout,
        };
        let client = Client {
            shared: Arc::new(Shared {
                link: Link::new(dialer),
                request_timeout: self.request_timeout,
                produce_streams: StreamQuota::new(PRODUCE_STREAMS_PER_CONNECTION),
                fetch_streams: FetchStreams::default(),
            }),
        };
        client.session().await?;
        Ok(client)
    }
}

fn program_name() -> String {
    let path = std::env::current_exe().unwrap_or_default();
    path.file_stem().map_or_else(
        || "client".to_owned(),
        |name| name.to_string_lossy().into_owned(),
    )
}
