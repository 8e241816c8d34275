//! Has the replicas here follow the image, and the quorum decide what they have come to.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use millstream_peer::Links;
use millstream_protocol::{Offset, TopicPartition, WireError};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use crate::cluster::heart::Heart;
use crate::cluster::quorum::Quorum;
use crate::cluster::{Cluster, producers};
use crate::config::{MAX_PRODUCERS_FETCHES, WISHES_REPEATED_EVERY};
use crate::replicas::ReplicaEvent;
use crate::replicas::actor::Fault;
use crate::replicas::hosting::{Hosting, HostingError};
use crate::replicas::wishes::Wishes;
use crate::writer::{Writer, WriterCommand};

/// What replicas have come to, heeded at once.
const EVENTS_AT_ONCE: usize = 1_024;

/// Hears what replicas come to. What others wait for goes on from here at once; the rest is for the
/// [`Follower`], which may be busy.
pub(crate) struct Ears {
    events: UnboundedReceiver<ReplicaEvent>,
    news: UnboundedSender<ReplicaEvent>,
    heart: Arc<Heart>,
    links: Option<Arc<Links>>,
    writer: Writer,
    /// Partitions for which it is being asked what a leader's log knows of its producers.
    fetches: BTreeSet<TopicPartition>,
    fetching: JoinSet<(TopicPartition, Offset, Result<Bytes, WireError>)>,
}

impl Ears {
    /// Gives what is to go to the follower as well.
    pub(crate) fn new(
        events: UnboundedReceiver<ReplicaEvent>,
        heart: Arc<Heart>,
        links: Option<Arc<Links>>,
        writer: Writer,
    ) -> (Self, UnboundedReceiver<ReplicaEvent>) {
        let (news, heard) = mpsc::unbounded_channel();
        let ears = Self {
            events,
            news,
            heart,
            links,
            writer,
            fetches: BTreeSet::new(),
            fetching: JoinSet::new(),
        };
        (ears, heard)
    }

    /// Hears until there is nothing more to be heard.
    pub(crate) async fn run(mut self) {
        loop {
            tokio::select! {
                event = self.events.recv() => match event {
                    Some(event) => self.heed(event),
                    None => return,
                },
                Some(fetched) = self.fetching.join_next() => self.fetched(fetched),
            }
        }
    }

    fn heed(&mut self, event: ReplicaEvent) {
        match event {
            ReplicaEvent::Leads { partition, leads } => self.heart.leads(partition, leads),
            ReplicaEvent::Lacks {
                partition,
                leader,
                at,
            } => self.fetch(leader, partition, at),
            ReplicaEvent::Damaged { .. }
            | ReplicaEvent::Trusted { .. }
            | ReplicaEvent::Complete { .. } => {
                // A follower that has ended has told why.
                let _ = self.news.send(event);
            }
        }
    }

    /// Asks what another replica's log knows of its producers, unless that is being asked. The replica says again
    /// what it lacks.
    fn fetch(&mut self, from: u32, partition: TopicPartition, at: Offset) {
        let Some(links) = &self.links else { return };
        if self.fetches.len() < MAX_PRODUCERS_FETCHES && self.fetches.insert(partition) {
            let fetching = producers::fetch(Arc::clone(links), from, partition, at);
            self.fetching
                .spawn(async move { (partition, at, fetching.await) });
        }
    }

    fn fetched(
        &mut self,
        fetched: Result<(TopicPartition, Offset, Result<Bytes, WireError>), tokio::task::JoinError>,
    ) {
        let Ok((partition, at, producers)) = fetched else {
            // Which one has panicked is not known: all may be asked for again.
            self.fetches.clear();
            return;
        };
        self.fetches.remove(&partition);
        match producers {
            Ok(producers) => {
                // A writer that has stopped has told its fault.
                let _ = self.writer.send(WriterCommand::Producers {
                    partition,
                    at,
                    producers,
                });
            }
            Err(error) => tracing::warn!(%partition, at, %error, "its log cannot begin yet"),
        }
    }
}

/// Has the replicas here follow the image, and asks the quorum for what they want of it, until it is so.
pub(crate) struct Follower {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) quorum: Arc<Quorum>,
    pub(crate) hosting: Hosting,
    /// What replicas have come to.
    pub(crate) news: UnboundedReceiver<ReplicaEvent>,
    pub(crate) following: watch::Sender<Option<u64>>,
}

impl Follower {
    pub(crate) async fn run(mut self, faults: UnboundedSender<Fault>) {
        let quorum = Arc::clone(&self.quorum);
        let fault = tokio::select! {
            followed = self.follow() => match followed {
                // There is no image any more: its node says why.
                Ok(()) => Fault::Metadata(quorum.stopped().await),
                Err(error) => Fault::Replicas(error.to_string()),
            },
            reason = quorum.stopped() => Fault::Metadata(reason),
        };
        // The broker may be stopping for an earlier fault already.
        let _ = faults.send(fault);
    }

    async fn follow(&mut self) -> Result<(), HostingError> {
        let mut images = self.quorum.watch();
        let mut wishes = Wishes::default();
        let mut repeats = interval(WISHES_REPEATED_EVERY);
        repeats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut news = Vec::new();
        loop {
            // The newest, each time: what is long to do for one must not keep the replicas from what a later one says.
            let applied = images.borrow_and_update().clone();
            self.cluster.link_to(&applied.image);
            if !self.hosting.follow(&applied.image).await? {
                continue;
            }
            self.following.send_replace(applied.index);
            wishes.look();
            loop {
                wishes.ask(&self.quorum, &self.hosting);
                tokio::select! {
                    changed = images.changed() => match changed {
                        Ok(()) => break,
                        Err(_) => return Ok(()),
                    },
                    received = self.news.recv_many(&mut news, EVENTS_AT_ONCE) => {
                        if received == 0 {
                            return Ok(());
                        }
                        for event in news.drain(..) {
                            self.heed(event, &mut wishes).await?;
                        }
                    }
                    () = wishes.answered() => {}
                    _ = repeats.tick() => wishes.look(),
                }
            }
        }
    }

    async fn heed(&mut self, event: ReplicaEvent, wishes: &mut Wishes) -> Result<(), HostingError> {
        match event {
            ReplicaEvent::Damaged {
                partition,
                directory,
            } => {
                self.hosting.damaged(partition, directory).await?;
                wishes.look();
            }
            ReplicaEvent::Complete {
                partition,
                epoch,
                version,
            } => wishes.complete(partition, epoch, version),
            // What it is now, the partition says.
            ReplicaEvent::Trusted { .. } => wishes.look(),
            ReplicaEvent::Leads { .. } | ReplicaEvent::Lacks { .. } => {}
        }
        Ok(())
    }
}
