//! New leaders where there is none.

use std::collections::BTreeMap;

use millstream_protocol::LeaderEpoch;

use crate::broker::BrokerId;
use crate::command::Command;
use crate::companions::Companions;
use crate::image::Image;
use crate::leaders::Nomination;
use crate::limits::MAX_APPOINTMENTS;
use crate::load::Load;
use crate::partition::{Partition, Replica, has};

/// New leaders for the partitions whose leader is not there, or has another directory than the one
/// with which it was appointed.
///
/// The leader itself leads on in a new epoch if it is there and has all it should; otherwise it is
/// the live replica that leads the fewest by then, in the preferred order among equals. A replica
/// that is trusted goes before one that is not, and one on a draining broker leads only what no
/// other can. A partition without a live replica keeps its leader, and waits. A companion is led where
/// its input is, if its replica there is trusted.
pub fn elections(image: &Image) -> Vec<Command> {
    if image.partitions().all(|(_, it)| image.has_leader(it)) {
        return Vec::new();
    }
    let companions = Companions::of(image);
    let mut load = Load::of(image);
    let mut nominations = Vec::new();
    let mut elected = BTreeMap::new();
    let lost = companions.independent();
    for (at, partition) in lost.filter(|(_, it)| !image.has_leader(it)) {
        if let Some(leader) = successor(image, &load, partition, None) {
            load.yield_lead(partition.leader);
            load.lead(leader);
            nominations.push(partition.nominate(at, leader));
            elected.insert(at, leader);
        }
    }
    let lost = companions.all();
    for it in lost.filter(|it| !image.has_leader(it.partition)) {
        let now = image.has_leader(it.input).then_some(it.input.leader);
        let beside = elected.get(&it.input_at).copied().or(now);
        let beside = beside.filter(|leader| may_lead_beside(image, it.partition, *leader));
        let leader = beside.or_else(|| successor(image, &load, it.partition, None));
        nominations.extend(leader.map(|leader| it.partition.nominate(it.at, leader)));
    }
    appoint(&nominations)
}

/// Whether a broker can take the lead of a companion, and will be granted it before it leads the
/// input.
fn may_lead_beside(image: &Image, partition: &Partition, leader: BrokerId) -> bool {
    let has_all = partition
        .member(leader)
        .is_some_and(|it| image.is_whole(it));
    let is_better = |it: &Replica| it.trusted && image.takes_new(it.broker_id);
    let stays = image.takes_new(leader) || partition.leader == leader;
    let may = stays || !partition.members().any(is_better);
    has_all && may && partition.leader_epoch.checked_add(1).is_some()
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
