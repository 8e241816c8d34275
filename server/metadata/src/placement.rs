//! Which brokers get a new partition.

use crate::broker::BrokerId;
use crate::error::TooFewBrokers;
use crate::image::Image;
use crate::load::Load;
use crate::partition::{DirectoryNumber, Partition, Replica};

/// Places `count` new partitions with this many replicas each, on brokers that take new ones.
///
/// A partition's leader is the broker that leads the fewest by then. Its other replicas go to other
/// racks first, and among those of a rack to the broker that keeps the fewest. Where nothing else
/// tells two brokers apart, it is the lower number, counted from the leader's.
pub fn place(
    image: &Image,
    count: u32,
    replication_factor: u8,
) -> Result<Vec<Partition>, TooFewBrokers> {
    let mut directory = image.next_directory();
    place_from(image, count, replication_factor, &mut directory)
}

/// As [`place`], in directories from this one on.
pub(crate) fn place_from(
    image: &Image,
    count: u32,
    replication_factor: u8,
    directory: &mut DirectoryNumber,
) -> Result<Vec<Partition>, TooFewBrokers> {
    if count == 0 {
        return Ok(Vec::new());
    }
    let mut load = Load::of(image);
    let too_few = || {
        let staying = image.brokers().filter(|it| !it.state.is_draining());
        TooFewBrokers {
            replication_factor,
            live: Load::of(image).takers().count(),
            known: staying.count(),
        }
    };
    (0..count)
        .map(|_| {
            let brokers = place_one(&load, replication_factor.into()).ok_or_else(too_few)?;
            load.keep(&brokers);
            brokers.iter().take(1).for_each(|it| load.lead(*it));
            let replicas = brokers.iter();
            let replicas = replicas.map(|it| Replica::new(*it, directory.take()));
            Partition::new(replicas.collect()).ok_or_else(too_few)
        })
        .collect()
}

fn place_one(load: &Load<'_>, replicas: usize) -> Option<Vec<BrokerId>> {
    let leader = load
        .takers()
        .min_by_key(|it| (load.led(*it), load.kept(*it), *it))?;
    let mut brokers = vec![leader];
    while brokers.len() < replicas {
        brokers.push(load.further(&brokers)?);
    }
    Some(brokers)
}
