//! Brokers that have gone silent.
//!
//! A connection that ends says so; a broker that was killed does not, and its connection is taken for ended
//! only after its idle timeout. Long before that, other brokers know whether it is gone: they are asked as soon
//! as nothing has come from it for [`SILENCE_LIMIT`](crate::limits::SILENCE_LIMIT). A broker that is merely slow keeps its connections.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use millstream_protocol::api::cluster::{BrokerAddress, DescribeBrokers};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep, timeout};

use crate::brokers::BrokerId;
use crate::client::{Client, Shared};
use crate::dialer::Session;
use crate::leaders::TopicLeaders;
use crate::limits::{ENQUIRY_PAUSE, SILENCE_CHECK, WITNESS_PATIENCE};

/// When a broker was heard last, as far as anybody has looked.
#[derive(Debug)]
pub(crate) struct Hearing {
    heard: Mutex<(u64, Instant)>,
    /// Others are being asked about it.
    is_asked_about: AtomicBool,
}

impl Hearing {
    pub(crate) fn new(datagrams: u64) -> Self {
        Self {
            heard: Mutex::new((datagrams, Instant::now())),
            is_asked_about: AtomicBool::new(false),
        }
    }

    /// For how long nothing has come, at least, if so many datagrams have come by now.
    pub(crate) fn silence(&self, datagrams: u64, now: Instant) -> Duration {
        let mut heard = self.heard.lock();
        if heard.0 != datagrams {
            *heard = (datagrams, now);
        }
        now - heard.1
    }
}

/// What other brokers say of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It leads nothing any more.
    Gone,
    /// It is there as far as they know, or they say nothing.
    Unknown,
}

/// Looks for silent brokers as long as the client lives.
pub(crate) async fn watch(client: Weak<Shared>) {
    loop {
        sleep(SILENCE_CHECK).await;
        let Some(client) = Client::upgrade(&client) else {
            return;
        };
        if client.links().home().is_closed() {
            return;
        }
        for session in client.links().open() {
            let is_new = || !(session.hearing.is_asked_about).swap(true, Ordering::AcqRel);
            if client.is_of_several_brokers() && session.is_silent() && is_new() {
                tracing::debug!(
                    broker = session.broker(),
                    "a broker is silent; others are asked"
                );
                tokio::spawn(enquire(client.downgrade(), Arc::clone(&session)));
            }
        }
    }
}

/// Asks others about a broker until it is heard again, or gone.
async fn enquire(client: Weak<Shared>, session: Arc<Session>) {
    while session.is_open() && session.is_silent() {
        let Some(client) = Client::upgrade(&client) else {
            break;
        };
        let topics = client.leaders_in_use();
        client.ask_others(&session, &topics).await;
        drop(client);
        sleep(ENQUIRY_PAUSE).await;
    }
    let is_asked_about = &session.hearing.is_asked_about;
    is_asked_about.store(false, Ordering::Release);
}

impl Client {
    /// Asks other brokers whether the one of this session is gone, and who leads the partitions of these
    /// topics. A session with one that is gone ends, and with it everything that waits for its answers.
    pub(crate) async fn ask_others(&self, session: &Session, topics: &[Arc<TopicLeaders>]) {
        let broker = session.broker();
        let witnesses = self.links().witnesses(broker).await;
        let asking = witnesses.iter().map(|it| async move {
            let verdict = self.ask(it, broker).await;
            (it, verdict)
        });
        let mut answers: FuturesUnordered<_> = asking.collect();
        while let Some((witness, verdict)) = answers.next().await {
            if verdict == Verdict::Gone {
                tracing::info!(broker, "the broker is gone, as others say");
                session.close();
                // Whoever needs another one finds it under way.
                self.links().home().start();
                return self.learn_leaders(witness, topics).await;
            }
            // Others may lead all the same.
            self.learn_leaders(witness, topics).await;
        }
    }

    /// Asks one of them.
    async fn ask(&self, witness: &Session, about: BrokerId) -> Verdict {
        let asking = witness.ask(DescribeBrokers {}, None);
        let Ok(Ok(listed)) = timeout(WITNESS_PATIENCE, asking).await else {
            return Verdict::Unknown;
        };
        let is_gone = listed.brokers.iter().any(|it| is_gone(it, about));
        self.links().dialer.take_listing(witness, listed.brokers);
        match is_gone {
            true => Verdict::Gone,
            false => Verdict::Unknown,
        }
    }

    /// Takes what one of them says of who leads, as far as it says so soon.
    async fn learn_leaders(&self, witness: &Session, topics: &[Arc<TopicLeaders>]) {
        let learning = async {
            for leaders in topics {
                if let Ok(described) = witness.describe(&leaders.topic).await {
                    leaders.note(&described);
                }
            }
        };
        // What was not said is asked by who needs it.
        let _ = timeout(WITNESS_PATIENCE, learning).await;
    }
}

fn is_gone(listed: &BrokerAddress, broker: BrokerId) -> bool {
    listed.broker_id == broker && !listed.is_live
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::SILENCE_LIMIT;

    #[test]
    fn silence_ends_with_the_next_datagram() {
        let hearing = Hearing::new(1);
        let begun = hearing.heard.lock().1;
        assert_eq!(hearing.silence(1, begun + SILENCE_LIMIT), SILENCE_LIMIT);
        assert_eq!(hearing.silence(2, begun + SILENCE_LIMIT), Duration::ZERO);
        let later = begun + SILENCE_LIMIT + SILENCE_CHECK;
        assert_eq!(hearing.silence(2, later), SILENCE_CHECK);
    }
}
