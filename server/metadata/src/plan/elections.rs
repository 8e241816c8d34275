//! New leaders, after a broker has gone or has come.

use millstream_protocol::{LeaderEpoch, TopicPartition};

use crate::broker::BrokerId;
use crate::command::Command;
use crate::image::Image;
use crate::limits::MAX_APPOINTMENTS;
use crate::load::Load;
use crate::partition::{Partition, has};

/// Who leads what after this broker was fenced, or has registered, or has begun anew with replicas
/// that it leads.
///
/// A partition that it leads gets a leader in a new epoch: the broker itself if it is there (an
/// epoch is not resumed after a start), otherwise the live replica that leads the fewest by then,
/// in the preferred order among equals. If the broker is there, the same is done for partitions
/// that it keeps and whose leader is not. A replica that is trusted goes before one that is not,
/// and one on a draining broker leads only what no other can. A partition without a live replica
/// keeps its leader, and waits.
pub fn elections(image: &Image, broker_id: BrokerId) -> Vec<Command> {
    let mut load = Load::of(image);
    let is_live = image.is_live(broker_id);
    let mut appointments = Vec::new();
    for (at, partition) in image.partitions() {
        let may_help =
            is_live && !image.is_live(partition.leader) && partition.member(broker_id).is_some();
        if partition.leader != broker_id && !may_help {
            continue;
        }
        if let Some(leader) = successor(image, &load, partition, None) {
            load.yield_lead(partition.leader);
            load.lead(leader);
            appointments.push((at, leader));
        }
    }
    appoint(&appointments)
}

/// The commands that appoint these.
pub(super) fn appoint(appointments: &[(TopicPartition, BrokerId)]) -> Vec<Command> {
    let chunks = appointments.chunks(MAX_APPOINTMENTS);
    let command = |chunk: &[(TopicPartition, BrokerId)]| Command::AppointLeaders {
        appointments: chunk.to_vec(),
    };
    chunks.map(command).collect()
}

/// Who is to lead a partition, but for `without`.
pub(super) fn successor(
    image: &Image,
    load: &Load<'_>,
    partition: &Partition,
    without: Option<BrokerId>,
) -> Option<BrokerId> {
    if partition.leader_epoch == LeaderEpoch::MAX {
        return None;
    }
    let live = partition
        .members()
        .filter(|it| image.is_live(it.broker_id) && Some(it.broker_id) != without);
    let best = live.min_by_key(|it| {
        (
            !it.trusted,
            !image.takes_new(it.broker_id),
            !has(&partition.replicas, it.broker_id),
            !has(partition.target(), it.broker_id),
            it.broker_id != partition.leader,
            load.led(it.broker_id),
        )
    });
    best.map(|it| it.broker_id)
}
