//! The client: its connection to the cluster, and everything that is done with it.

use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use millstream_protocol::api::hello::HelloResponse;
use millstream_protocol::api::topic::TopicDescription;
use millstream_protocol::api::{Request, Unary};
use millstream_protocol::{Advice, ErrorCode};
use millstream_transport::{
    Connector, FrameReceiver, FrameSender, Identity, Profile, TransportConfig,
};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use crate::admin::Admin;
use crate::backoff::Backoff;
use crate::brokers::Brokers;
use crate::changes::Changes;
use crate::consumer::ConsumerBuilder;
use crate::dialer::{Dialer, Session};
use crate::error::{Error, Result};
use crate::leaders::{Leaders, TopicLeaders};
use crate::limits::{
    DEFAULT_CLUSTER_REFRESH, DEFAULT_CONNECT_TIMEOUT, DEFAULT_REQUEST_TIMEOUT, DIRECT_LINK_IDLE,
    PRODUCE_STREAMS_PER_CONNECTION,
};
use crate::links::Links;
use crate::producer::ProducerBuilder;
use crate::quota::{FetchStreams, StreamQuota};
use crate::silence;
use crate::stream::receive_answer;

/// A client of one Millstream cluster.
///
/// It holds one connection to any broker and one to each that leads partitions in use, shared by every
/// producer, consumer and request, and makes them anew when they die. Clones are handles to the same
/// connections. Any broker's address will do: see [how a client finds brokers](crate#how-a-client-finds-brokers).
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
pub(crate) struct Shared {
    links: Links,
    leaders: Leaders,
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

    /// What the broker that the client is connected to said of itself when the connection was made.
    /// Connects if need be.
    pub async fn broker(&self) -> Result<HelloResponse> {
        Ok(self.session().await?.hello.clone())
    }

    /// Whether there is a connection now over which everything can be done, as far as is known: that a
    /// broker was killed is noticed when other brokers say so, about a second later, or when nothing has come
    /// from it for the connection's idle timeout. What is lost is made anew by whoever needs it.
    pub fn is_connected(&self) -> bool {
        self.shared.links.home().current().is_some()
    }

    /// Closes all connections at once, for all clones. What producers have not sent yet is lost:
    /// close them first.
    pub fn close(&self) {
        self.shared.links.close();
    }

    /// The session, or the outcome of one attempt to have one.
    pub(crate) async fn session(&self) -> Result<Arc<Session>> {
        self.shared.links.session().await
    }

    pub(crate) fn downgrade(&self) -> Weak<Shared> {
        Arc::downgrade(&self.shared)
    }

    pub(crate) fn upgrade(shared: &Weak<Shared>) -> Option<Self> {
        shared.upgrade().map(|shared| Self { shared })
    }

    /// Who leads the partitions of each topic that is in use.
    pub(crate) fn leaders_in_use(&self) -> Vec<Arc<TopicLeaders>> {
        self.shared.leaders.in_use()
    }

    pub(crate) fn links(&self) -> &Links {
        &self.shared.links
    }

    /// Who leads a topic's partitions. It is kept up to date for as long as this is held.
    pub(crate) fn leaders(&self, topic: &str) -> Arc<TopicLeaders> {
        self.shared.leaders.of(topic)
    }

    /// Takes what a broker has said of a topic, as to who leads it.
    pub(crate) fn note_leaders(&self, described: &TopicDescription) {
        self.shared.leaders.note(described);
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
                    if backoff.is_worth_telling() {
                        let seconds = deadline.duration_since(Instant::now()).as_secs();
                        tracing::warn!(%error, "trying again for up to {seconds} s more");
                    } else {
                        tracing::debug!(%error, "trying the request again");
                    }
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
        self.session().await?.ask(request, payload).await
    }

    /// Looks again which brokers there are and what they lead, if there is a connection.
    async fn refresh(&self) {
        let links = &self.shared.links;
        if let Some(session) = links.home().current() {
            links.dialer.learn_again(&session).await;
            if self.is_of_several_brokers() {
                for topic in self.leaders_in_use() {
                    self.look_up(&topic).await;
                }
            }
        }
        links.close_idle(DIRECT_LINK_IDLE);
        // What could not be reached is tried again by those who want it.
        links.dialer.changes.note();
    }
}

/// Follows how the cluster changes, as long as the client lives.
async fn follow_cluster(client: Weak<Shared>, interval: Duration) {
    loop {
        sleep(interval).await;
        let Some(client) = Client::upgrade(&client) else {
            return;
        };
        if client.links().home().is_closed() {
            return;
        }
        client.refresh().await;
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
    addresses: Vec<String>,
    server_name: Option<String>,
    identity: Option<Identity>,
    transport: TransportConfig,
    client_name: Option<String>,
    connect_timeout: Duration,
    request_timeout: Duration,
    cluster_refresh: Duration,
}

impl ClientBuilder {
    fn new() -> Self {
        Self {
            addresses: Vec::new(),
            server_name: None,
            identity: None,
            transport: TransportConfig::client(),
            client_name: None,
            connect_timeout: DEFAULT_CONNECT_TIMEOUT,
            request_timeout: DEFAULT_REQUEST_TIMEOUT,
            cluster_refresh: DEFAULT_CLUSTER_REFRESH,
        }
    }

    /// Takes addresses, server name and identity from a profile.
    ///
    /// # Errors
    ///
    /// [`Error::Identity`] when the files that it names cannot be read.
    pub fn profile(self, profile: &Profile) -> Result<Self> {
        let identity = profile.identity()?;
        Ok(self
            .addresses(profile.addresses.iter().cloned())
            .server_name(profile.server_name.clone())
            .identity(identity))
    }

    /// Where a broker listens: `host:port`, or `host` with the default port. It may be called several
    /// times, for several brokers of the cluster; they are tried in this order. One is enough, as long
    /// as its broker runs when the client connects first: then the client learns of all others.
    pub fn address(self, address: impl Into<String>) -> Self {
        self.addresses([address])
    }

    /// The same for several brokers at once.
    pub fn addresses<S: Into<String>>(mut self, addresses: impl IntoIterator<Item = S>) -> Self {
        self.addresses.extend(addresses.into_iter().map(Into::into));
        self
    }

    /// The name that the certificates of all brokers must be issued for. Unless given, each must be
    /// issued for the host of its own address: of the one given here, or of the one that the cluster
    /// knows the broker by. So it is, too, if this name is the host of the first address: then it is
    /// that broker's own.
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

    /// How long one attempt to connect to a broker may take, the version handshake included.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long one request may take with all its attempts.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// How often to ask which brokers the cluster has. It is asked at every new connection besides.
    pub fn cluster_refresh(mut self, interval: Duration) -> Self {
        self.cluster_refresh = interval;
        self
    }

    /// How the network is used: windows, datagram sizes, timeouts.
    pub fn transport(mut self, config: TransportConfig) -> Self {
        self.transport = config;
        self
    }

    /// Connects to the first broker that answers, in one attempt at each. From then on the client
    /// reconnects by itself, to whichever broker it reaches.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] without an address or identity, [`Error::Connector`] for an
    /// identity or configuration that cannot be used, [`Error::Connect`] or [`Error::Timeout`] when
    /// no broker answers or one side does not trust the other, [`Error::Broker`] when the broker
    /// refuses the version handshake.
    pub async fn connect(self) -> Result<Client> {
        if self.cluster_refresh.is_zero() {
            return Err(Error::invalid("a client's cluster_refresh is zero"));
        }
        let brokers = Brokers::given(self.addresses, self.server_name)?;
        let identity = self
            .identity
            .ok_or_else(|| Error::invalid("no client identity is given"))?;
        let dialer = Arc::new(Dialer {
            connector: Connector::new(&identity, self.transport)?,
            brokers,
            client_name: self.client_name.unwrap_or_else(program_name),
            connect_timeout: self.connect_timeout,
            changes: Arc::new(Changes::default()),
        });
        let client = Client {
            shared: Arc::new(Shared {
                leaders: Leaders::new(Arc::clone(&dialer.changes)),
                links: Links::new(dialer),
                request_timeout: self.request_timeout,
                produce_streams: StreamQuota::new(PRODUCE_STREAMS_PER_CONNECTION),
                fetch_streams: FetchStreams::default(),
            }),
        };
        client.session().await?;
        tokio::spawn(follow_cluster(client.downgrade(), self.cluster_refresh));
        tokio::spawn(silence::watch(client.downgrade()));
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
