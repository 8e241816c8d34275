//! The client's connections: one to any broker, over which everything can be done, and one to each
//! broker that leads partitions in use, where that can be reached.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout};

use crate::brokers::BrokerId;
use crate::dialer::{Dialer, Session, Whom};
use crate::error::Result;
use crate::limits::{DIRECT_PATIENCE, MAX_DIRECT_LINKS, MAX_WITNESSES, WITNESS_PATIENCE};
use crate::link::Link;

/// The connections of one client.
#[derive(Debug)]
pub(crate) struct Links {
    pub(crate) dialer: Arc<Dialer>,
    home: Link,
    direct: Mutex<BTreeMap<BrokerId, Direct>>,
    runtime: Handle,
}

/// A connection to a leader.
#[derive(Clone, Debug)]
struct Direct {
    link: Arc<Link>,
    /// Its first attempt has been waited for. From then on nobody waits: what it would carry goes
    /// through the other connection until it is there.
    was_awaited: Arc<AtomicBool>,
    used_at: Instant,
}

impl Links {
    /// Not connected yet. Connections are made on the runtime that this is called in.
    pub(crate) fn new(dialer: Arc<Dialer>) -> Self {
        let runtime = Handle::current();
        Self {
            home: Link::new(Arc::clone(&dialer), Whom::Any, runtime.clone()),
            dialer,
            direct: Mutex::default(),
            runtime,
        }
    }

    /// The connection over which everything can be done.
    pub(crate) fn home(&self) -> &Link {
        &self.home
    }

    /// A session over which everything can be done, with a broker that is heard if there is one; or the
    /// outcome of one attempt to have one.
    pub(crate) async fn session(&self) -> Result<Arc<Session>> {
        let home = self.home.current();
        if let Some(home) = home.as_ref().filter(|home| !home.is_silent()) {
            return Ok(Arc::clone(home));
        }
        let mut others = self.open().into_iter();
        match others.find(|it| !it.is_silent()).or(home) {
            Some(session) => {
                self.home.start();
                Ok(session)
            }
            None => self.home.session().await,
        }
    }

    /// All sessions that are open now.
    pub(crate) fn open(&self) -> Vec<Arc<Session>> {
        let direct = self.direct.lock();
        let links = direct.values().map(|direct| &*direct.link);
        let links = links.chain([&self.home]);
        links.filter_map(Link::current).collect()
    }

    /// Sessions with some other brokers, which are heard. If there is none, connections are made.
    pub(crate) async fn witnesses(&self, about: BrokerId) -> Vec<Arc<Session>> {
        let mut witnesses = self.open();
        witnesses.retain(|it| it.broker() != about && !it.is_silent());
        witnesses.sort_by_key(|it| it.broker());
        witnesses.dedup_by_key(|it| it.broker());
        witnesses.truncate(MAX_WITNESSES);
        if witnesses.len() >= 2 {
            return witnesses;
        }
        // One alone may itself be cut off, and know less than the others.
        let others = self.dialer.brokers.others(about).into_iter();
        let others = others.take(MAX_WITNESSES);
        let others: Vec<Direct> = others.filter_map(|it| self.direct(it)).collect();
        others.iter().for_each(|it| it.link.start());
        if witnesses.is_empty() {
            let attempts = others.iter().map(|it| it.link.session());
            let attempts: FuturesUnordered<_> = attempts.collect();
            let mut made = attempts.filter_map(async |made| made.ok()).boxed();
            let first = timeout(WITNESS_PATIENCE, made.next()).await;
            witnesses.extend(first.ok().flatten());
        }
        witnesses
    }

    /// The session in which to ask for what a broker leads: its own if it can be had, or else one in
    /// which it is passed on.
    pub(crate) async fn toward(&self, leader: Option<BrokerId>) -> Result<Arc<Session>> {
        let Some(leader) = leader else {
            return self.session().await;
        };
        if let Some(session) = self.open_to(leader) {
            return Ok(session);
        }
        let home = self.session().await;
        if home.as_ref().is_ok_and(|home| home.broker() == leader) {
            return home;
        }
        match self.first_session(leader).await {
            Some(session) => Ok(session),
            None => home,
        }
    }

    /// Whether [`Links::toward`] would give another broker's session by now.
    pub(crate) fn is_better_than(&self, session: &Session, leader: BrokerId) -> bool {
        if session.broker() == leader {
            return false;
        }
        if self.open_to(leader).is_some() {
            return true;
        }
        if let Some(direct) = self.direct(leader) {
            direct.link.start();
        }
        let home = self.home.current();
        home.is_some_and(|home| home.broker() != session.broker())
    }

    /// A session with this very broker that is open now.
    fn open_to(&self, broker: BrokerId) -> Option<Arc<Session>> {
        let home = self.home.current().filter(|it| it.broker() == broker);
        home.or_else(|| {
            let direct = self.direct.lock().get(&broker).cloned();
            direct.and_then(|direct| direct.link.current())
        })
    }

    /// The session of a connection that was not tried before. One that was is made in the background.
    async fn first_session(&self, broker: BrokerId) -> Option<Arc<Session>> {
        let direct = self.direct(broker)?;
        if direct.was_awaited.load(Ordering::Acquire) || self.dialer.brokers.is_gone(broker) {
            direct.link.start();
            return None;
        }
        let session = timeout(DIRECT_PATIENCE, direct.link.session()).await;
        direct.was_awaited.store(true, Ordering::Release);
        session.ok()?.ok()
    }

    /// The link to a broker; `None` where there can be none.
    fn direct(&self, broker: BrokerId) -> Option<Direct> {
        let now = Instant::now();
        let mut all = self.direct.lock();
        if let Some(direct) = all.get_mut(&broker) {
            direct.used_at = now;
            return Some(direct.clone());
        }
        let is_known = self.dialer.brokers.get(broker).is_some();
        if !is_known || all.len() >= MAX_DIRECT_LINKS || self.home.is_closed() {
            return None;
        }
        let whom = Whom::Broker(broker);
        let link = Link::new(Arc::clone(&self.dialer), whom, self.runtime.clone());
        let direct = Direct {
            link: Arc::new(link),
            was_awaited: Arc::default(),
            used_at: now,
        };
        all.insert(broker, direct.clone());
        Some(direct)
    }

    /// Closes the connections to leaders that nobody has used for so long.
    pub(crate) fn close_idle(&self, idle: Duration) {
        let now = Instant::now();
        self.direct.lock().retain(|broker, direct| {
            // Whoever has a stream holds the session. One is the link's, one ours.
            let is_in_use = |session: Arc<Session>| Arc::strong_count(&session) > 2;
            if direct.link.current().is_some_and(is_in_use) {
                direct.used_at = now;
            }
            let is_kept = now - direct.used_at < idle;
            if !is_kept {
                tracing::debug!(broker, "nothing goes to this broker any more");
                direct.link.close();
            }
            is_kept
        });
    }

    /// Closes all connections for good.
    pub(crate) fn close(&self) {
        self.home.close();
        for (_, direct) in std::mem::take(&mut *self.direct.lock()) {
            direct.link.close();
        }
    }
}

#[cfg(test)]
mod tests {
    use millstream_protocol::api::cluster::BrokerAddress;
    use millstream_transport::identity::Authority;
    use millstream_transport::{Connector, Role, TransportConfig};
    use uuid::Uuid;

    use super::*;
    use crate::brokers::Brokers;

    /// Of a cluster of so many brokers, of which none answers.
    fn links(brokers: u32) -> Links {
        let authority = Authority::create("test").unwrap();
        let identity = authority.issue(Role::Client, "tester", &[]).unwrap();
        let identity = identity.identity().unwrap();
        let known = Brokers::given(vec!["nowhere.invalid:1".to_owned()], None).unwrap();
        let listed = (1..=brokers).map(|broker_id| BrokerAddress {
            broker_id,
            address: "nowhere.invalid:1".to_owned(),
            is_live: true,
        });
        known.learn(Uuid::nil(), listed.collect());
        Links::new(Arc::new(Dialer {
            connector: Connector::new(&identity, TransportConfig::client()).unwrap(),
            brokers: known,
            client_name: "tester".to_owned(),
            connect_timeout: Duration::from_secs(1),
            changes: Arc::default(),
        }))
    }

    #[tokio::test]
    async fn connections_to_leaders_are_bounded_and_closed_when_idle() {
        let most = MAX_DIRECT_LINKS as u32;
        let links = links(most + 1);
        assert!((1..=most).all(|broker| links.direct(broker).is_some()));
        assert!(
            links.direct(most + 1).is_none(),
            "there are as many as may be"
        );
        assert!(links.direct(1).is_some());
        links.close_idle(Duration::from_secs(3600));
        assert!(links.direct(most + 1).is_none());
        let first = links.direct(1).unwrap();
        links.close_idle(Duration::ZERO);
        assert!(first.link.is_closed());
        assert!(links.direct(most + 1).is_some());
        assert!(links.direct(most + 2).is_none(), "its address is not known");
        links.close();
        assert!(links.direct(1).is_none());
    }

    #[tokio::test]
    async fn the_first_attempt_alone_is_waited_for() {
        let links = links(2);
        assert!(links.first_session(2).await.is_none());
        let direct = links.direct(2).unwrap();
        assert!(direct.was_awaited.load(Ordering::Acquire));
        let waiting = links.first_session(2);
        assert!(futures_util::FutureExt::now_or_never(waiting).is_some());
    }
}
