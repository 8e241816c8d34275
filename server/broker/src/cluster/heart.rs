//! This broker's beats: that it is there, and what it leads, for the steward of the cluster.
//!
//! The steward is on whichever broker leads the metadata quorum. Its answers say whether this process
//! is still the broker that it takes itself for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use millstream_metadata::beat::{Beat, BeatAnswer, Leads, StopReason};
use millstream_metadata::limits::HEARTBEAT_MS;
use millstream_metadata::steward::Reporter;
use millstream_metadata::{Command, Registration, Start};
use millstream_peer::{Links, PeerService};
use millstream_protocol::TopicPartition;
use millstream_replication::BrokerId;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::Cluster;
use super::office::Office;
use super::quorum::Quorum;
use super::wire::ClusterRequest;
use crate::clock;
use crate::config::{BEAT_LIMIT, TOUCH_LIMIT};
use crate::storage::LogStore;

/// This broker's beats.
pub(crate) struct Heart {
    registration: Registration,
    quorum: Arc<Quorum>,
    office: Arc<Office>,
    links: Option<Arc<Links>>,
    store: Arc<LogStore>,
    /// The broker is about to stop.
    leaving: Arc<AtomicBool>,
    touch: watch::Sender<bool>,
    reporter: Mutex<Reporter>,
    news: Notify,
}

impl Heart {
    pub(crate) fn new(
        registration: Registration,
        quorum: Arc<Quorum>,
        office: Arc<Office>,
        cluster: &Cluster,
        store: Arc<LogStore>,
    ) -> Self {
        Self {
            registration,
            quorum,
            office,
            links: cluster.links().cloned(),
            store,
            leaving: cluster.leaving(),
            touch: cluster.touch().clone(),
            reporter: Mutex::new(Reporter::new()),
            news: Notify::new(),
        }
    }

    /// A partition is led from here on; `None`: no more.
    pub(crate) fn leads(&self, partition: TopicPartition, leads: Option<Leads>) {
        let mut reporter = self.reporter.lock();
        reporter.leads(partition, leads);
        if reporter.has_news() {
            self.news.notify_one();
        }
    }

    /// Beats until this process is no more the broker that it takes itself for. Begins once the broker
    /// has registered.
    pub(crate) async fn beat(&self) -> StopReason {
        let mut beats = interval(Duration::from_millis(HEARTBEAT_MS));
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut heard = Instant::now();
        loop {
            tokio::select! {
                _ = beats.tick() => {}
                () = self.news.notified() => {}
            }
            let beat = self.next();
            let Some(answer) = self.tell(beat).await else {
                if heard.elapsed() >= TOUCH_LIMIT && self.touch.send_replace(false) {
                    tracing::warn!(
                        "nobody who looks after the cluster answers: clients are sent to others"
                    );
                }
                continue;
            };
            heard = Instant::now();
            self.touch
                .send_if_modified(|touch| !std::mem::replace(touch, true));
            match answer {
                BeatAnswer::Heard { .. } => {
                    let mut reporter = self.reporter.lock();
                    reporter.answered(&answer);
                    if reporter.has_news() {
                        self.news.notify_one();
                    }
                }
                // It has told the cluster so itself.
                BeatAnswer::Register if self.leaving.load(Ordering::Relaxed) => {}
                BeatAnswer::Register => self.register().await,
                BeatAnswer::Stop(reason) => return reason,
            }
        }
    }

    fn next(&self) -> Beat {
        let Registration {
            broker_id,
            directory_id,
            incarnation,
            address,
            ..
        } = &self.registration;
        let (number, report) = self.reporter.lock().beat();
        Beat {
            broker_id: *broker_id,
            start: Start {
                directory_id: *directory_id,
                incarnation: *incarnation,
            },
            address: address.clone(),
            number,
            revision: self.quorum.applied().index.unwrap_or_default(),
            is_full: self.store.is_full(),
            report,
        }
    }

    /// Tells the steward, wherever it is. `None` if it has not answered.
    async fn tell(&self, beat: Beat) -> Option<BeatAnswer> {
        if let Some(answer) = self.office.hear(&beat) {
            return Some(answer);
        }
        let leader = self.quorum.status().leader?;
        let leader = BrokerId::try_from(leader).ok()?;
        let links = self.links.as_ref()?;
        let request = ClusterRequest::Beat(beat).encode(clock::now_ms()).ok()?;
        let request = Bytes::from(request);
        let called = links.call_ahead(leader, PeerService::Cluster, request, BEAT_LIMIT);
        match called.await {
            Ok(answer) => BeatAnswer::decode(&answer).ok(),
            Err(error) => {
                tracing::debug!(broker = leader, %error, "a beat was not heard");
                None
            }
        }
    }

    /// It was fenced while it was silent: it says that it is there.
    async fn register(&self) {
        tracing::warn!("the cluster took this broker for gone; it registers again");
        let registration = self.registration.clone();
        let register = self
            .quorum
            .propose(Command::RegisterBroker { registration });
        match timeout(BEAT_LIMIT * 4, register).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::warn!(%error, "it is not registered again yet"),
            Err(_) => tracing::warn!("it is not registered again yet"),
        }
    }
}
