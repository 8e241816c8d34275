//! When to end.

use std::collections::BTreeMap;

use millstream::{Admin, Consumer, ListedOffset, Offset, PartitionIndex, Position};

/// How far to read in each partition: to the high watermark seen at the start. A partition without
/// anything to read has no entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Goal(BTreeMap<PartitionIndex, Offset>);

impl Goal {
    /// Everything between where reading starts and what is there now.
    pub(super) fn of(listed: &[ListedOffset]) -> Self {
        let unread = listed
            .iter()
            .filter(|listed| listed.offset < listed.high_watermark);
        Self(
            unread
                .map(|listed| (listed.partition, listed.high_watermark))
                .collect(),
        )
    }

    /// Is a record beyond it?
    pub(super) fn excludes(&self, partition: PartitionIndex, offset: Offset) -> bool {
        self.0.get(&partition).is_none_or(|end| offset >= *end)
    }

    /// Forgets the partitions in which it is reached.
    pub(super) fn reach(&mut self, position: impl Fn(PartitionIndex) -> Option<Offset>) {
        self.0
            .retain(|partition, end| position(*partition).is_none_or(|position| position < *end));
    }

    /// Forgets the partitions that this consumer has read far enough.
    pub(super) fn reach_by(&mut self, consumer: &Consumer, topic: &str) {
        self.reach(|partition| consumer.position(topic, partition));
    }

    /// Forgets the partitions that a group has committed far enough, whichever member it was.
    pub(super) async fn reach_by_group(
        &mut self,
        admin: &Admin,
        group: &str,
        topic: &str,
    ) -> millstream::Result<()> {
        let committed = admin.group_offsets(group).await?;
        self.reach(|partition| {
            let offset = committed
                .iter()
                .find(|offset| offset.topic == topic && offset.partition == partition);
            offset.map(|offset| offset.offset)
        });
        Ok(())
    }

    pub(super) fn is_reached(&self) -> bool {
        self.0.is_empty()
    }
}

/// Where a position is in each of a topic's partitions, or in those named.
pub(super) async fn locate(
    admin: &Admin,
    topic: &str,
    partitions: &[PartitionIndex],
    position: Position,
) -> millstream::Result<Vec<ListedOffset>> {
    let partitions = match partitions {
        [] => admin
            .describe_topic(topic)
            .await?
            .partitions
            .iter()
            .map(|partition| partition.partition)
            .collect(),
        named => named.to_vec(),
    };
    let listed = admin
        .list_offsets(
            topic,
            partitions
                .into_iter()
                .map(|partition| (partition, position)),
        )
        .await?;
    listed
        .into_iter()
        .map(|listed| listed.map_err(Into::into))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(partition: PartitionIndex, offset: Offset, high_watermark: Offset) -> ListedOffset {
        ListedOffset {
            partition,
            offset,
            log_start_offset: 0,
            high_watermark,
        }
    }

    #[test]
    fn it_ends_with_what_is_there_now() {
        let mut goal = Goal::of(&[listed(0, 0, 10), listed(1, 5, 5), listed(2, 3, 4)]);
        assert!(!goal.excludes(0, 9) && goal.excludes(0, 10));
        assert!(goal.excludes(1, 5), "nothing was there to read");
        goal.reach(|partition| (partition == 0).then_some(10));
        assert!(!goal.is_reached());
        goal.reach(|_| Some(3));
        assert!(!goal.is_reached());
        goal.reach(|_| Some(4));
        assert!(goal.is_reached());
    }

    #[test]
    fn an_empty_topic_is_read_at_once() {
        assert!(Goal::of(&[listed(0, 0, 0)]).is_reached());
    }
}
