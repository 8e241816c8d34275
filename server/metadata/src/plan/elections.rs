//! New leaders where there is none.

use millstream_protocol::LeaderEpoch;

use crate::broker::BrokerId;
use crate::command::Command;
use crate::image::Image;
use crate::leaders::Nomination;
use crate::limits::MAX_APPOINTMENTS;
use crate::load::Load;
use crate::partition::{Partition, has};

/// New leaders for the partitions whose leader is not there, or has another directory than the one
/// with which it was appointed.
///
/// The leader itself leads on in a new epoch if it is there and has all it should; otherwise it is
/// the live replica that leads the fewest by then, in the preferred order among equals. A replica
/// that is trusted goes before one that is not, and one on a draining broker leads only what no
/// other can. A partition without a live replica keeps its leader, and waits.
pub fn elections(image: &Image) -> Vec<Command> {
    let lost = image.partitions();
    let mut lost = lost.filter(|(_, it)| !image.has_leader(it)).peekable();
    if lost.peek().is_none() {
        return Vec::new();
    }
    let mut load = Load::of(image);
    let mut nominations = Vec::new();
    for (at, partition) in lost {
        if let Some(leader) = successor(image, &load, partition, None) {
            load.yield_lead(partition.leader);
            load.lead(leader);
            nominations.push(partition.nominate(at, leader));
        }
    }
    appoint(&nominations)
}

/// The commands that appoint these.
pub(crate) fn appoint(nominations: &[Nomination]) -> Vec<Command> {
    let chunks = nominations.chunks(MAX_APPOINTMENTS);
    let command = |chunk: &[Nomination]| Command::AppointLeaders {
        nominations: chunk.to_vec(),
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
