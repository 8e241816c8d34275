//! The task that sends one partition's batches: one produce stream at a time, batches pipelined,
//! and everything unacknowledged sent again when the stream breaks.

use std::convert::Infallible;
use std::sync::Arc;

use millstream_protocol::api::Request;
use millstream_protocol::api::produce::{
    InitProducer, OpenProduce, ProduceAck, ProduceBatch, ProduceOpened, ProducerIdentity,
};
use millstream_protocol::batch::{Compression, ProducerStamp, sequence_after};
use millstream_protocol::{Advice, ErrorCode, TopicId, WireError};
use millstream_transport::{FrameReceiver, FrameSender};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::batch::{PendingBatch, SentBatch};
use super::queue::{Next, Outlook, PartitionQueue};
use super::state::ProducerState;
use crate::backoff::Backoff;
use crate::client::Client;
use crate::dialer::Session;
use crate::error::{Error, Result};
use crate::leaders::{LedPartition, TopicLeaders};
use crate::limits::{COMPRESS_ASIDE_BYTES, MOVE_PATIENCE, PRODUCE_STREAM_IDLE, STALL_LIMIT};
use crate::route::{Opened, Route, is_unknown};
use crate::stream::receive;

/// Sends one partition's batches until the producer is closed and everything is settled.
pub(super) struct PartitionSender {
    client: Client,
    state: Arc<ProducerState>,
    queue: Arc<PartitionQueue>,
    topic_id: TopicId,
    leaders: Arc<TopicLeaders>,
    /// `None`: take a new identity before anything else is sent.
    identity: Option<ProducerIdentity>,
    next_sequence: u32,
    backoff: Backoff,
    /// What the broker last refused with, as long as it may mend itself.
    refusal: Option<WireError>,
}

/// Why a stream ended before its work did.
#[derive(Debug)]
enum Interruption {
    /// The connection or stream broke, or could not be made.
    Lost(Error),
    /// The broker does not open the stream.
    NotOpened(WireError),
    /// The broker refused the oldest batch in flight.
    Refused(WireError),
    /// The oldest batch has waited too long.
    Expired,
}

impl From<Error> for Interruption {
    fn from(error: Error) -> Self {
        match error {
            Error::Broker(error) => Self::NotOpened(error),
            error => Self::Lost(error),
        }
    }
}

impl PartitionSender {
    pub(super) fn new(
        client: Client,
        state: Arc<ProducerState>,
        queue: Arc<PartitionQueue>,
        topic_id: TopicId,
        leaders: Arc<TopicLeaders>,
        identity: ProducerIdentity,
    ) -> Self {
        Self {
            client,
            state,
            queue,
            topic_id,
            leaders,
            identity: Some(identity),
            next_sequence: 0,
            backoff: Backoff::default(),
            refusal: None,
        }
    }

    /// Runs until the producer is closed and everything is settled.
    pub(super) async fn run(mut self) {
        loop {
            match self.queue.outlook() {
                Outlook::Finished => return,
                Outlook::Idle => self.queue.changed().await,
                Outlook::Work => {
                    let (queue, state) = (Arc::clone(&self.queue), Arc::clone(&self.state));
                    let ended = tokio::select! {
                        ended = self.serve() => ended,
                        () = expired(&queue, &state) => Err(Interruption::Expired),
                    };
                    if let Err(interruption) = ended {
                        self.recover(interruption).await;
                    }
                }
            }
        }
    }

    /// Opens a stream and works on it until there is nothing more to do.
    async fn serve(&mut self) -> Result<(), Interruption> {
        let client = self.client.clone();
        let _place = client.produce_streams().acquire().await?;
        let identity = self.take_identity().await?;
        let Opened {
            mut sender,
            mut receiver,
            mut route,
            ..
        } = self.open().await?;
        let ended = self
            .use_stream(&client, identity, &mut route, (&mut sender, &mut receiver))
            .await;
        match &ended {
            Err(Interruption::Lost(error)) => route.note_failure(error),
            Err(Interruption::Refused(refusal)) => route.note_refusal(refusal),
            _ => {}
        }
        ended
    }

    /// Works on a stream until there is nothing more to do, or there is a better way.
    async fn use_stream(
        &mut self,
        client: &Client,
        identity: ProducerIdentity,
        route: &mut Route,
        (sender, receiver): (&mut FrameSender, &mut FrameReceiver),
    ) -> Result<(), Interruption> {
        let Self {
            queue,
            next_sequence,
            backoff,
            state,
            leaders,
            ..
        } = self;
        let session = Arc::clone(route.session());
        let doubting = doubt(client, queue, leaders, &session);
        let mut writer = Writer {
            client,
            state,
            queue,
            identity,
            next_sequence,
            sender,
            route,
        };
        let acknowledged = read_acknowledgements(queue, backoff, receiver);
        tokio::pin!(acknowledged);
        let written = tokio::select! {
            interruption = &mut acknowledged => return Err(interruption),
            written = writer.run() => written,
            never = doubting => match never {},
        };
        match written {
            // Everything is acknowledged, or is sent again elsewhere. The end of the stream needs no
            // answer.
            Ok(()) => {
                let _ = sender.finish().await;
                Ok(())
            }
            // The broker stopped listening: what it said before tells why.
            Err(_) => Err(acknowledged.await),
        }
    }

    /// The identity to send under. A new one moves the batches in flight into its sequence.
    async fn take_identity(&mut self) -> Result<ProducerIdentity> {
        if let Some(identity) = self.identity {
            return Ok(identity);
        }
        let identity = self.client.call(InitProducer {}).await?;
        self.next_sequence = self.queue.restamp(stamp(identity, 0));
        self.identity = Some(identity);
        Ok(identity)
    }

    async fn open(&self) -> Result<Opened<ProduceOpened>> {
        let partition = self.queue.partition;
        let led = [LedPartition {
            near: None,
            leaders: Arc::clone(&self.leaders),
            partition,
        }];
        let request = Request::OpenProduce(OpenProduce {
            topic: self.state.topic.to_string(),
            topic_id: Some(self.topic_id),
            partition,
        });
        let opened = self.client.open_toward::<ProduceOpened>(&led, request);
        match opened.await {
            Ok(opened) => {
                let max_batch_bytes = opened.answer.max_batch_bytes as usize;
                self.state.set_max_batch_bytes(max_batch_bytes);
                Ok(opened)
            }
            Err(Error::Broker(refusal)) if self.is_not_known_yet(&refusal).await => {
                Err(WireError::new(ErrorCode::NotReady, refusal.message).into())
            }
            Err(error) => Err(error),
        }
    }

    /// Whether the partition's leader says that there is no such partition because it has not heard
    /// of it yet.
    async fn is_not_known_yet(&self, refusal: &WireError) -> bool {
        let (topic, partition) = (&self.state.topic, self.queue.partition);
        is_unknown(refusal.code) && self.client.is_there(topic, self.topic_id, partition).await
    }

    /// Settles what an interruption decides, and pauses before the next stream.
    async fn recover(&mut self, interruption: Interruption) {
        let state = Arc::clone(&self.state);
        let (topic, partition) = (&state.topic, self.queue.partition);
        match interruption {
            Interruption::Lost(error) if error.advice() == Advice::GiveUp => {
                self.queue.fail_all(&error)
            }
            Interruption::Lost(error) => {
                if self.backoff.is_worth_telling() {
                    tracing::warn!(%topic, partition, %error, "records wait; trying again");
                } else if self.backoff.is_failing() {
                    tracing::debug!(%topic, partition, %error, "produce stream lost; trying again");
                } else {
                    tracing::info!(%topic, partition, %error, "produce stream lost; opening another");
                }
                self.refusal = None;
                self.pause().await;
            }
            Interruption::NotOpened(error) | Interruption::Refused(error)
                if error.code == ErrorCode::UnknownProducer =>
            {
                tracing::debug!(%topic, partition, "the broker has forgotten this producer; taking a new identity");
                self.identity = None;
                self.pause().await;
            }
            Interruption::NotOpened(error) | Interruption::Refused(error)
                if error.code.advice() != Advice::GiveUp =>
            {
                let is_known = self.refusal.as_ref().map(|last| last.code) == Some(error.code);
                // That a leader moves is nothing to worry about.
                let is_quiet = is_known || error.code == ErrorCode::NotLeader;
                if is_quiet && !self.backoff.is_worth_telling() {
                    tracing::debug!(%topic, partition, %error, "refused; trying again");
                } else {
                    tracing::warn!(%topic, partition, %error, "records wait; trying again");
                }
                self.refusal = Some(error);
                self.pause().await;
            }
            Interruption::NotOpened(error) => self.queue.fail_all(&Error::Broker(error)),
            Interruption::Refused(error) => {
                let error = Error::Broker(error);
                if self.queue.refuse_oldest(&error) {
                    self.identity = None;
                } else {
                    // It was not about a batch.
                    self.queue.fail_all(&error);
                }
            }
            Interruption::Expired => {
                let refusal = self.refusal.take().filter(|_| self.backoff.is_failing());
                if self.queue.expire(refusal) {
                    self.identity = None;
                }
            }
        }
    }

    async fn pause(&mut self) {
        let resume_at = Instant::now() + self.backoff.after_failure();
        sleep_until(
            self.queue
                .deadline()
                .map_or(resume_at, |deadline| resume_at.min(deadline)),
        )
        .await;
    }
}

/// The sending half of a produce stream.
struct Writer<'a> {
    client: &'a Client,
    state: &'a ProducerState,
    queue: &'a PartitionQueue,
    identity: ProducerIdentity,
    next_sequence: &'a mut u32,
    sender: &'a mut FrameSender,
    route: &'a mut Route,
}

impl Writer<'_> {
    /// Sends what is not acknowledged, then what comes, until the stream is of no more use.
    async fn run(&mut self) -> Result<()> {
        for batch in self.queue.resend() {
            self.send(batch).await?;
        }
        let places = self.client.produce_streams();
        let mut served = false;
        loop {
            if self.route.is_outdated() {
                self.settle().await;
                return Ok(());
            }
            // Others wait for a stream: finish what is on its way and let them.
            if served && places.is_contended() {
                if !self.queue.has_in_flight() {
                    return Ok(());
                }
                self.queue.changed().await;
                continue;
            }
            match self.queue.next() {
                Next::Batch(batch) => {
                    if let Some(batch) = self.stamp(batch) {
                        self.send(self.queue.track(batch)).await?;
                    }
                    served = true;
                }
                Next::Wait => tokio::select! {
                    () = self.queue.changed() => {}
                    () = self.route.outdated() => {}
                },
                Next::Linger(due) => tokio::select! {
                    () = self.queue.changed() => {}
                    () = sleep_until(due) => {}
                    () = self.route.outdated() => {}
                },
                Next::Idle => tokio::select! {
                    woken = timeout(PRODUCE_STREAM_IDLE, self.queue.changed()) => {
                        if woken.is_err() {
                            return Ok(());
                        }
                    }
                    () = places.contended() => return Ok(()),
                    () = self.route.outdated() => {}
                },
                Next::Finished => return Ok(()),
            }
        }
    }

    /// Waits until what is on its way is acknowledged, but not for long: the broker may not lead any
    /// more and never say so. Nor if nothing is heard of it.
    async fn settle(&self) {
        if self.route.session().is_silent() {
            return;
        }
        let settled = async {
            while self.queue.has_in_flight() {
                self.queue.changed().await;
            }
        };
        let _ = timeout(MOVE_PATIENCE, settled).await;
    }

    async fn send(&mut self, batch: bytes::Bytes) -> Result<()> {
        self.sender
            .send_with_payload(&ProduceBatch {}, [batch])
            .await
            .map_err(Error::from)
    }

    /// Gives the batch its place in the sequence; `None` when it cannot be encoded and has failed.
    fn stamp(&mut self, batch: PendingBatch) -> Option<SentBatch> {
        let stamp = stamp(self.identity, *self.next_sequence);
        let heavy = self.state.batches.compression != Compression::None
            && batch.builder.encoded_bytes() >= COMPRESS_ASIDE_BYTES
            && Handle::current().runtime_flavor() == RuntimeFlavor::MultiThread;
        let stamped = if heavy {
            tokio::task::block_in_place(|| batch.stamp(stamp))
        } else {
            batch.stamp(stamp)
        };
        let batch = stamped.ok()?;
        *self.next_sequence = sequence_after(*self.next_sequence, batch.records);
        Some(batch)
    }
}

fn stamp(identity: ProducerIdentity, first_sequence: u32) -> ProducerStamp {
    ProducerStamp {
        producer_id: identity.producer_id,
        producer_epoch: identity.producer_epoch,
        first_sequence,
    }
}

/// The receiving half of a produce stream: settles batches in order until the stream ends.
async fn read_acknowledgements(
    queue: &PartitionQueue,
    backoff: &mut Backoff,
    receiver: &mut FrameReceiver,
) -> Interruption {
    loop {
        match receive::<ProduceAck>(receiver).await {
            Ok(Ok(ack)) if queue.acknowledge(ack.base_offset) => backoff.reset(),
            Ok(Ok(_)) => {
                return Interruption::Lost(Error::unexpected("an acknowledgement of nothing"));
            }
            Ok(Err(refusal)) => return Interruption::Refused(refusal),
            Err(error) => return Interruption::Lost(error),
        }
    }
}

/// Asks other brokers who leads, as often as nothing is acknowledged for a while: a leader that is cut off from
/// them does not know that it is none any more.
async fn doubt(
    client: &Client,
    queue: &PartitionQueue,
    leaders: &Arc<TopicLeaders>,
    session: &Session,
) -> Infallible {
    loop {
        let before = queue.acknowledged();
        sleep(STALL_LIMIT).await;
        let is_stalled = queue.has_in_flight() && queue.acknowledged() == before;
        if is_stalled && client.is_of_several_brokers() {
            let topic = [Arc::clone(leaders)];
            client.ask_others(session, &topic).await;
        }
    }
}

/// Waits until the oldest batch has waited too long.
async fn expired(queue: &PartitionQueue, state: &ProducerState) {
    loop {
        let now = Instant::now();
        // What is not there yet cannot expire before a whole timeout has passed.
        let deadline = queue
            .deadline()
            .unwrap_or(now + state.batches.delivery_timeout);
        if deadline <= now {
            return;
        }
        sleep_until(deadline).await;
    }
}
