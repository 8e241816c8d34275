//! More replicas for what the cluster keeps for itself, once there are brokers for them.

use std::collections::BTreeSet;

use crate::broker::BrokerId;
use crate::command::Command;
use crate::companions::Companions;
use crate::image::Image;
use crate::limits::{INTERNAL_REPLICAS, MAX_CHANGES_UNDER_WAY};
use crate::load::Load;
use crate::names::is_internal;

/// The next step to as many replicas of internal topics as the cluster can have, up to
/// [`INTERNAL_REPLICAS`]: groups' offsets and the like are to be no less safe than what they are about.
/// What is kept beside another topic has as many as that one. A topic that has them keeps them:
/// brokers that are away are not replaced.
pub fn widen(image: &Image) -> Option<Command> {
    let mut load = Load::of(image);
    let companions = Companions::of(image);
    let takers: BTreeSet<BrokerId> = load.takers().collect();
    let under_way = image.partitions().filter(|(_, it)| it.is_changing());
    let room = MAX_CHANGES_UNDER_WAY.saturating_sub(under_way.count());
    let mut reassignments = Vec::new();
    for topic in image.topics().filter(|topic| is_internal(&topic.name)) {
        for (number, partition) in (0..).zip(&topic.partitions) {
            let has_enough = partition.target().len() >= INTERNAL_REPLICAS;
            let at = topic.at(number);
            if partition.is_changing()
                || has_enough
                || companions.has(at)
                || reassignments.len() == room
            {
                continue;
            }
            let mut brokers = partition.brokers();
            let others = takers.iter().filter(|it| !brokers.contains(it)).count();
            if brokers.len() + others < INTERNAL_REPLICAS {
                continue;
            }
            let before = brokers.len();
            while brokers.len() < INTERNAL_REPLICAS
                && let Some(further) = load.further(&brokers)
            {
                brokers.push(further);
            }
            load.keep(&brokers[before..]);
            reassignments.push((at, brokers));
        }
    }
    (!reassignments.is_empty()).then_some(Command::ReassignPartitions { reassignments })
}
