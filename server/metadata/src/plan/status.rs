//! Partitions that stand still, or have fewer replicas than they should.

use millstream_protocol::TopicPartition;

use crate::image::Image;
use crate::partition::Replica;

/// Why a partition takes no records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outage {
    /// Its leader is not there, or has lost the directory with which it was to lead.
    NoLeader,
    /// It has a leader, but no majority of its replicas is there and has what it acknowledged: it
    /// may be read as far as it was committed, at best.
    NoMajority,
}

/// The partitions that take no records, as far as the metadata knows, by their topics' identities.
pub fn offline(image: &Image) -> impl Iterator<Item = (TopicPartition, Outage)> {
    image.partitions().filter_map(|(at, partition)| {
        let target = partition.target();
        let whole = target.iter().filter(|it| image.is_whole(it)).count();
        if !image.has_leader(partition) {
            Some((at, Outage::NoLeader))
        } else if whole * 2 <= target.len() {
            Some((at, Outage::NoMajority))
        } else {
            None
        }
    })
}

/// The partitions of which a replica is not there, or has not got all that it should, by their
/// topics' identities. While replicas change, those that are to go count as well: what takes their
/// place may not have everything yet. Those that are [`offline`] are among them, unless theirs is a
/// leader's fault alone.
pub fn under_replicated(image: &Image) -> impl Iterator<Item = TopicPartition> {
    image.partitions().filter_map(|(at, partition)| {
        let mut members = partition.members();
        (!members.all(|it| image.is_whole(it))).then_some(at)
    })
}

impl Image {
    /// Whether a replica is there and has all that it should, as far as the metadata knows.
    pub fn is_whole(&self, replica: &Replica) -> bool {
        replica.trusted && self.is_live(replica.broker_id)
    }
}
