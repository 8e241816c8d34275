//! A broker under attack.

use millstream::{Client, Position};
use millstream_protocol::api::{Request, RequestFrame};

use crate::broker::Broker;
use crate::history::History;
use crate::load::Load;
use crate::patience::within;
use crate::random::Random;
use crate::wire::{Wire, frame_of};

/// The topic of those who behave.
pub const HEALTHY: &str = "healthy";

/// The topic that is aimed at.
pub const TARGET: &str = "target";

/// What hostile bytes may make the broker keep, bytes: far less than they claim.
pub const MEMORY_ALLOWANCE_BYTES: u64 = 192 << 20;

/// A broker under attack, with clients at work that must not notice.
pub struct Siege {
    /// The broker.
    pub broker: Broker,
    /// A client that behaves.
    pub client: Client,
    load: Load,
    process_id: u32,
    resident_bytes: u64,
}

impl Siege {
    /// Starts the broker and the clients.
    pub async fn begin() -> Self {
        let mut broker = Broker::start();
        let client = broker.client().await;
        let admin = client.admin();
        admin.create_topic(HEALTHY).partitions(2).await.unwrap();
        admin.create_topic(TARGET).await.unwrap();
        let mut load = Load::start(&broker, HEALTHY, 2).await;
        load.advance(100).await;
        let resident_bytes = admin.describe_broker().await.unwrap().resident_bytes;
        let process_id = broker.process_id();
        Self {
            broker,
            client,
            load,
            process_id,
            resident_bytes,
        }
    }

    /// A connection to attack on.
    pub async fn wire(&self) -> Wire {
        Wire::greeted(&self.broker).await
    }

    /// The end of what is visible of the target.
    pub async fn high_watermark(&self) -> u64 {
        let latest = self
            .client
            .admin()
            .offset(TARGET, 0, Position::Latest)
            .await;
        latest.expect("an offset").offset
    }

    /// The healthy clients went on all the while, and go on.
    pub async fn end(mut self) {
        self.load.advance(100).await;
        let acked = self.load.finish().await;
        let history = History::read(&self.client, HEALTHY).await;
        let verdict = history.judge(&acked);
        assert!(
            verdict.is_clean() && history.len() == acked.len(),
            "{verdict:?}"
        );
        assert!(self.broker.is_running() && self.broker.process_id() == self.process_id);
        let resident_bytes = self
            .client
            .admin()
            .describe_broker()
            .await
            .unwrap()
            .resident_bytes;
        let grown = resident_bytes.saturating_sub(self.resident_bytes);
        assert!(
            grown < MEMORY_ALLOWANCE_BYTES,
            "the broker has grown by {grown} bytes"
        );
        assert!(
            !self.broker.log().contains("panicked"),
            "{}",
            self.broker.log()
        );
    }
}

/// Sends a thousand of these requests, each with a byte that is another one.
pub async fn throw_damaged(wire: &Wire, requests: &[Request], random: &mut Random) {
    for _ in 0..1_000 {
        let request = &requests[random.between(0..requests.len() as u64) as usize];
        let mut bytes = frame_of(&RequestFrame::from_client(request.clone()), &[]).to_vec();
        // The lengths stay: what is damaged is what they frame.
        let at = random.between(8..bytes.len() as u64) as usize;
        bytes[at] = random.number() as u8;
        let (mut sender, mut receiver) = wire.0.open_raw().await.unwrap();
        // Whatever the broker makes of it, it answers or ends the stream.
        let _ = sender.write(bytes.into()).await;
        let _ = sender.finish();
        let _ = within("an answer or an end", receiver.read())
            .await
            .expect("a connection");
    }
}
