//! Companions to where their inputs are, where they have not come there together.

use super::moves::may_become;
use crate::command::Command;
use crate::companions::{Companion, Companions};
use crate::image::Image;
use crate::leaders::Nomination;
use crate::limits::MAX_CHANGES_UNDER_WAY;

/// The next step to companions that are kept where their inputs are, or are to be. No more than
/// [`MAX_CHANGES_UNDER_WAY`] partitions change at a time, whatever they change for.
pub fn follow(image: &Image) -> Option<Command> {
    let companions = Companions::of(image);
    if companions.is_empty() {
        return None;
    }
    let under_way = image.partitions().filter(|(_, it)| it.is_changing());
    let room = MAX_CHANGES_UNDER_WAY.saturating_sub(under_way.count());
    let astray = companions.all().filter_map(|it| {
        let next = it.astray().filter(|_| !it.partition.is_changing())?;
        may_become(image, it.partition, &next).then_some((it.at, next))
    });
    let reassignments: Vec<_> = astray.take(room).collect();
    (!reassignments.is_empty()).then_some(Command::ReassignPartitions { reassignments })
}

/// The companions that are led elsewhere than their inputs, and could be led there.
pub(crate) fn leaders_astray<'a>(
    image: &'a Image,
    companions: &Companions<'a>,
) -> impl Iterator<Item = (Companion<'a>, Nomination)> {
    companions.all().filter_map(|it| {
        let leader = it.input.leader;
        let can = it.partition.leader != leader
            && image.has_leader(it.input)
            && it.partition.can_go_to(leader)
            && image.can_be_sealed(it.partition);
        can.then(|| (it, it.partition.nominate(it.at, leader)))
    })
}
