//! Which broker gets a new partition.

use std::collections::BTreeMap;

use crate::broker::{BrokerId, BrokerState};
use crate::error::NoLiveBroker;
use crate::image::Image;
use crate::topic::{FIRST_LEADER_EPOCH, Partition};

/// Places `count` new partitions, each on the live broker that leads the fewest by then, the lower
/// number first. A partition has one replica: its leader.
pub fn place(image: &Image, count: u32) -> Result<Vec<Partition>, NoLiveBroker> {
    let live = image
        .brokers()
        .filter(|broker| broker.state == BrokerState::Live);
    let mut led: BTreeMap<BrokerId, usize> = live.map(|broker| (broker.broker_id, 0)).collect();
    for partition in image.topics().flat_map(|topic| &topic.partitions) {
        if let Some(led) = led.get_mut(&partition.leader) {
            *led += 1;
        }
    }
    (0..count)
        .map(|_| place_one(&mut led).ok_or(NoLiveBroker))
        .collect()
}

fn place_one(led: &mut BTreeMap<BrokerId, usize>) -> Option<Partition> {
    let (&leader, count) = led
        .iter_mut()
        .min_by_key(|(broker_id, count)| (**count, **broker_id))?;
    *count += 1;
    Some(Partition {
        leader,
        leader_epoch: FIRST_LEADER_EPOCH,
        replicas: vec![leader],
    })
}
