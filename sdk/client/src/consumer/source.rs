//! Which replica of a partition a consumer reads.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use millstream_protocol::PartitionIndex;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::brokers::BrokerId;
use crate::client::Client;
use crate::error::Result;
use crate::leaders::Placed;
use crate::limits::REPLICA_AVOIDED_FOR;

/// Which replica of a partition a consumer reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReadFrom {
    /// The one that leads.
    #[default]
    Leader,
    /// One that is close and in sync, also if it does not lead. It shows what its leader has told it to
    /// be committed, so that records come a little later, and never too early. While there is none, or
    /// it does not have what is wanted, it is the leader.
    ///
    /// Close is what is in the [rack](crate::ConsumerBuilder::rack) that is given. Without one it is the
    /// broker that the client is connected to.
    Closest,
}

/// What brokers are close, and which replicas have turned out not to do.
#[derive(Debug)]
pub(crate) struct Nearness {
    client: Client,
    /// The brokers of the own rack, if it is named.
    rack: Option<BTreeSet<BrokerId>>,
    avoided: Mutex<HashMap<(Arc<str>, PartitionIndex), Instant>>,
}

impl Nearness {
    /// Asks which brokers are in a rack.
    pub(super) async fn find(client: &Client, rack: Option<&str>) -> Result<Arc<Self>> {
        let rack = match rack {
            None => None,
            Some(name) => {
                let described = client.admin().describe_cluster().await?;
                let brokers = described.brokers.into_iter();
                let within = brokers.filter(|it| it.rack.as_deref() == Some(name));
                Some(within.map(|it| it.broker_id).collect())
            }
        };
        Ok(Arc::new(Self {
            client: client.clone(),
            rack,
            avoided: Mutex::default(),
        }))
    }

    /// Whom to read a partition from.
    pub(crate) fn choose(
        &self,
        topic: &Arc<str>,
        partition: PartitionIndex,
        placed: &Placed,
    ) -> BrokerId {
        if self.avoided_until(topic, partition).is_some() {
            return placed.leader;
        }
        match &self.rack {
            Some(rack) => closest(placed, partition, |broker| rack.contains(&broker)),
            None => {
                let home = self.client.links().home().current();
                let home = home.map(|session| session.broker());
                closest(placed, partition, |broker| Some(broker) == home)
            }
        }
    }

    /// The replica does not do: the leader is read for a while.
    pub(super) fn avoid(&self, topic: &Arc<str>, partition: PartitionIndex) {
        let until = Instant::now() + REPLICA_AVOIDED_FOR;
        let key = (Arc::clone(topic), partition);
        self.avoided.lock().insert(key, until);
    }

    /// Until when it is avoided, if it is.
    pub(super) fn avoided_until(
        &self,
        topic: &Arc<str>,
        partition: PartitionIndex,
    ) -> Option<Instant> {
        let key = (Arc::clone(topic), partition);
        let until = self.avoided.lock().get(&key).copied();
        until.filter(|until| *until > Instant::now())
    }
}

/// The leader if it is near, or else one of the near ones that are in sync, for each partition another one;
/// the leader if there is none.
fn closest(
    placed: &Placed,
    partition: PartitionIndex,
    is_near: impl Fn(BrokerId) -> bool,
) -> BrokerId {
    if is_near(placed.leader) {
        return placed.leader;
    }
    let near = placed.in_sync.iter().filter(|broker| is_near(**broker));
    let near: Vec<BrokerId> = near.copied().collect();
    let chosen = near.get(partition as usize % near.len().max(1));
    chosen.copied().unwrap_or(placed.leader)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_leader_is_read_if_it_is_near_or_nobody_is() {
        let placed = Placed {
            epoch: 1,
            leader: 1,
            in_sync: vec![1, 2, 3, 5],
        };
        let read = |partition, near: &[BrokerId]| {
            closest(&placed, partition, |broker| near.contains(&broker))
        };
        assert_eq!(read(0, &[]), 1);
        assert_eq!(read(0, &[4]), 1, "it is in sync with nobody");
        assert_eq!(read(0, &[3, 1]), 1);
        assert_eq!(read(0, &[3]), 3);
        let spread: Vec<_> = (0..4)
            .map(|partition| read(partition, &[2, 3, 4]))
            .collect();
        assert_eq!(spread, [2, 3, 2, 3]);
    }
}
