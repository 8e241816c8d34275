//! What a group of consumers was promised.

use std::collections::BTreeMap;

use millstream_group::MemberHandle;
use millstream_protocol::api::group::Generation;
use millstream_protocol::{LeaderEpoch, Offset, PartitionIndex};

use super::Violations;

/// Sees all assignments, commits and deliveries, and says what is wrong.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    /// Who was given a partition in a generation, by whichever coordinator.
    given: BTreeMap<(PartitionIndex, Generation), MemberHandle>,
    /// Who has a partition, for the coordinator of an epoch.
    owners: BTreeMap<(LeaderEpoch, PartitionIndex), MemberHandle>,
    /// The highest offset of which a member was told in an epoch that it is committed.
    acknowledged: BTreeMap<(PartitionIndex, LeaderEpoch), Offset>,
    /// Up to where members have got all records.
    delivered: BTreeMap<PartitionIndex, Offset>,
    pub(super) violations: Violations,
}

impl Groups {
    /// A coordinator tells a member that it has a partition from now on, and where it is to go on.
    pub(crate) fn assigned(
        &mut self,
        epoch: LeaderEpoch,
        member: MemberHandle,
        generation: Generation,
        (partition, offset): (PartitionIndex, Offset),
    ) {
        let given = self.given.entry((partition, generation)).or_insert(member);
        if *given != member {
            self.violations.add(format!(
                "two owners: {given} and {member} have {partition} in generation {generation}"
            ));
        }
        if let Some(owner) = self.owners.insert((epoch, partition), member) {
            self.violations.add(format!(
                "two owners: {member} gets {partition} in epoch {epoch}, and {owner} has it"
            ));
        }
        // A coordinator that was replaced and does not know it has not heard of later commits.
        let known = self.acknowledged.range((partition, 0)..=(partition, epoch));
        if let Some(known) = known.map(|(_, known)| *known).max()
            && offset < known
        {
            self.violations.add(format!(
                "lost commit: {member} is to read {partition} from {offset}, and {known} was acknowledged"
            ));
        }
        let delivered = self.delivered(partition);
        if offset > delivered {
            self.violations.add(format!(
                "skipped: {member} is to read {partition} from {offset}, and the group has it up to {delivered}"
            ));
        }
    }

    /// A coordinator has heard that a member has let a partition go.
    pub(crate) fn released(
        &mut self,
        epoch: LeaderEpoch,
        member: MemberHandle,
        partition: PartitionIndex,
    ) {
        if self.owners.get(&(epoch, partition)) == Some(&member) {
            self.owners.remove(&(epoch, partition));
        }
    }

    /// A coordinator takes a member for gone.
    pub(crate) fn gone(&mut self, epoch: LeaderEpoch, member: MemberHandle) {
        self.owners
            .retain(|(known_in, _), owner| *known_in != epoch || *owner != member);
    }

    /// A coordinator of an epoch begins, or begins anew, without members.
    pub(crate) fn begins(&mut self, epoch: LeaderEpoch) {
        self.owners.retain(|(known_in, _), _| *known_in != epoch);
    }

    /// A member commits; of the partition, all below `high_watermark` is known to be committed.
    pub(crate) fn commits(
        &mut self,
        (partition, offset): (PartitionIndex, Offset),
        high_watermark: Offset,
    ) {
        if offset > high_watermark {
            self.violations.add(format!(
                "ahead: {offset} of {partition} is committed, of {high_watermark}"
            ));
        }
    }

    /// A member was told that its commit is made.
    pub(crate) fn acknowledged(
        &mut self,
        epoch: LeaderEpoch,
        partition: PartitionIndex,
        offset: Offset,
    ) {
        let known = self.acknowledged.entry((partition, epoch)).or_insert(0);
        *known = offset.max(*known);
    }

    /// A member has got records.
    pub(crate) fn got(&mut self, partition: PartitionIndex, from: Offset, to: Offset) {
        let delivered = self.delivered.entry(partition).or_insert(0);
        if from > *delivered {
            self.violations.add(format!(
                "skipped: {partition} is read from {from}, and the group has it up to {delivered}"
            ));
        }
        *delivered = to.max(*delivered);
    }

    /// Up to where members have got all records of a partition.
    pub(crate) fn delivered(&self, partition: PartitionIndex) -> Offset {
        self.delivered.get(&partition).copied().unwrap_or(0)
    }

    /// Up to where a group was told that its commits are made.
    pub(crate) fn committed(&self, partition: PartitionIndex) -> Offset {
        let known = (partition, 0)..=(partition, LeaderEpoch::MAX);
        let known = self.acknowledged.range(known).map(|(_, known)| *known);
        known.max().unwrap_or(0)
    }
}
