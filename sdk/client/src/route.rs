//! The way of one stream to a partition's leader, or to a replica of it.

use std::sync::Arc;

use millstream_protocol::api::Request;
use millstream_protocol::api::topic::TopicDescription;
use millstream_protocol::{Advice, ErrorCode, PartitionIndex, TopicId, WireError};
use millstream_transport::{FrameReceiver, FrameSender};
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use crate::client::Client;
use crate::dialer::Session;
use crate::error::{Error, Result};
use crate::leaders::{Belief, LedPartition, TopicLeaders};
use crate::stream::receive_answer;

/// The way of a stream of one or more partitions, to the broker that leads them all. It is held for as
/// long as the stream lives.
#[derive(Debug)]
pub(crate) struct Route {
    client: Client,
    session: Arc<Session>,
    /// With the versions of the words of who leads them.
    partitions: Vec<(LedPartition, u64)>,
    changes: watch::Receiver<()>,
    is_outdated: bool,
}

impl Route {
    /// Whether there is a better way by now: another broker leads, not all have the same leader any more,
    /// or the leader can be reached itself.
    pub(crate) fn is_outdated(&mut self) -> bool {
        // Never fails: the client has the sender.
        if self.changes.has_changed().unwrap_or(false) {
            self.changes.mark_unchanged();
            self.look();
        }
        self.is_outdated
    }

    /// Waits until there is a better way.
    pub(crate) async fn outdated(&mut self) {
        while !self.is_outdated() {
            if self.changes.changed().await.is_err() {
                return std::future::pending().await;
            }
            self.look();
        }
    }

    /// The broker that it leads to, or through.
    pub(crate) fn session(&self) -> &Arc<Session> {
        &self.session
    }

    fn look(&mut self) {
        let mut goals = self.partitions.iter().map(|(it, _)| it.goal());
        let first = goals.next().flatten();
        let links = self.client.links();
        let is_parted = goals.any(|goal| goal != first);
        let is_worse = first.is_some_and(|first| links.is_better_than(&self.session, first));
        self.is_outdated |= is_parted || is_worse;
    }

    /// The stream has failed so: it may be that another broker leads.
    pub(crate) fn note_failure(&self, error: &Error) {
        for (it, version) in &self.partitions {
            it.leaders.note_failure(*version, error);
        }
    }

    /// The same of what a broker has said.
    pub(crate) fn note_refusal(&self, refusal: &WireError) {
        for (it, version) in &self.partitions {
            it.leaders.note_refusal(*version, refusal);
        }
    }
}

/// A stream to a leader, with the answer that has opened it.
pub(crate) struct Opened<T> {
    pub(crate) answer: T,
    pub(crate) sender: FrameSender,
    pub(crate) receiver: FrameReceiver,
    pub(crate) route: Route,
}

impl Client {
    /// Opens a stream to the leader of these partitions and waits for the word that it is open, in one
    /// attempt.
    pub(crate) async fn open_toward<T: DeserializeOwned>(
        &self,
        partitions: &[LedPartition],
        request: Request,
    ) -> Result<Opened<T>> {
        let opening = async {
            let route = self.route(partitions).await?;
            let answered = async {
                let (sender, mut receiver) = route.session.open(request, None).await?;
                let answer = receive_answer(&mut receiver).await?;
                Ok((answer, sender, receiver))
            };
            match answered.await {
                Ok((answer, sender, receiver)) => Ok(Opened {
                    answer,
                    sender,
                    receiver,
                    route,
                }),
                Err(error) => {
                    route.note_failure(&error);
                    Err(error)
                }
            }
        };
        let timeout = self.request_timeout();
        let opened = tokio::time::timeout(timeout, opening).await;
        opened.unwrap_or_else(|_| {
            let failure = Error::Timeout {
                what: "opening a stream",
                after: timeout,
            };
            for it in partitions {
                it.leaders.note_failure(it.belief().version, &failure);
            }
            Err(failure)
        })
    }

    /// The best way there is now to where these partitions are to be found, or the first of them.
    async fn route(&self, partitions: &[LedPartition]) -> Result<Route> {
        // Before anything is looked at: nothing that changes later is missed.
        let changes = self.links().dialer.changes.subscribe();
        let mut goal = None;
        let mut believed = Vec::with_capacity(partitions.len());
        for partition in partitions {
            let belief = self.find_leader(partition).await;
            believed.push((partition.clone(), belief.version));
            goal.get_or_insert_with(|| partition.goal());
        }
        Ok(Route {
            session: self.links().toward(goal.flatten()).await?,
            client: self.clone(),
            partitions: believed,
            changes,
            is_outdated: false,
        })
    }

    /// Who leads a partition. Asks if that is not known; if nobody can say, it is what was known before.
    pub(crate) async fn find_leader(&self, partition: &LedPartition) -> Belief {
        let is_known = |belief: &Belief| !belief.is_doubtful || !self.is_of_several_brokers();
        let belief = partition.belief();
        if is_known(&belief) {
            return belief;
        }
        let _asking = partition.leaders.asking.lock().await;
        let belief = partition.belief();
        if is_known(&belief) {
            return belief;
        }
        self.look_up(&partition.leaders).await;
        partition.belief()
    }

    /// Asks again who leads a topic's partitions.
    pub(crate) async fn look_up(&self, leaders: &TopicLeaders) {
        let topic = &leaders.topic;
        match self.describe(topic).await {
            Ok(described) => leaders.note(&described),
            Err(error) => tracing::debug!(%topic, %error, "who leads its partitions was not said"),
        }
    }

    /// Whether a partition that a broker does not know is there all the same: what leads it may not
    /// have heard of it yet.
    pub(crate) async fn is_there(
        &self,
        topic: &str,
        topic_id: TopicId,
        partition: PartitionIndex,
    ) -> bool {
        (partition as usize) < self.partitions_of(topic, Some(topic_id)).await
    }

    /// How many partitions a topic has that a broker does not know, by the word of the one that the
    /// client is connected to. It is asked only if it may know more.
    pub(crate) async fn partitions_of(&self, topic: &str, topic_id: Option<TopicId>) -> usize {
        if !self.is_of_several_brokers() {
            return 0;
        }
        match self.describe(topic).await {
            Ok(described) if topic_id.is_none_or(|id| id == described.topic_id) => {
                described.partitions.len()
            }
            Ok(_) => 0,
            Err(error) if error.advice() == Advice::GiveUp => 0,
            // Nobody has denied it.
            Err(_) => usize::MAX,
        }
    }

    /// One topic, in one attempt.
    async fn describe(&self, topic: &str) -> Result<TopicDescription> {
        let asking = async { self.session().await?.describe(topic).await };
        let timeout = self.request_timeout();
        let described = tokio::time::timeout(timeout, asking).await;
        described.unwrap_or(Err(Error::Timeout {
            what: "the request",
            after: timeout,
        }))
    }

    /// Whether several brokers are known, so that others than the one that the client is connected to can
    /// lead something.
    pub(crate) fn is_of_several_brokers(&self) -> bool {
        self.links().dialer.brokers.are_several()
    }
}

/// Whether a refusal says that there is no such partition.
pub(crate) fn is_unknown(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::UnknownTopic | ErrorCode::UnknownPartition)
}
