//! The steps of the traffic, and how often each comes.

use std::collections::BTreeSet;

use millstream_protocol::Offset;
use millstream_protocol::api::offsets::Position;
use proptest::prelude::*;
use proptest::sample::Index;

pub(super) const GROUPS: [&str; 3] = ["g", "h", WORKERS];
/// The group whose members are workers, each on a broker.
pub(super) const WORKERS: &str = "w";
pub(super) const BROKERS: [u32; 3] = [1, 2, 3];
pub(super) const TOPICS: [&str; 3] = ["a", "b", "c"];
pub(super) const NAMES: [&str; 4] = ["k", "l", "m", "n"];
pub(super) const POSITIONS: [Position; 3] =
    [Position::Earliest, Position::Latest, Position::Time(5)];

#[derive(Clone, Debug)]
pub(super) enum Step {
    Join {
        group: Index,
        topics: BTreeSet<usize>,
        name: Index,
        start: Index,
        home: Index,
    },
    Leave {
        who: Index,
    },
    /// Of something it holds, with the generation it saw last or an older one.
    Commit {
        who: Index,
        which: Index,
        offset: Offset,
        late: u32,
    },
    /// Of anything, as likely as not somebody else's.
    CommitAny {
        who: Index,
        topic: Index,
        partition: u32,
        offset: Offset,
    },
    Release {
        who: Index,
        how_many: usize,
    },
    /// Says its last release again.
    Repeat {
        who: Index,
    },
    Resolve {
        which: Index,
        offset: Offset,
    },
    Reset {
        group: Index,
        topic: Index,
        partitions: BTreeSet<u32>,
        offset: Offset,
    },
    Admin {
        group: Index,
        topic: Index,
        partition: u32,
        offset: Offset,
    },
    Drop {
        group: Index,
    },
    Grow {
        topic: Index,
        by: u32,
    },
    Recreate {
        topic: Index,
        partitions: u32,
    },
    Delete {
        topic: Index,
    },
    /// Another broker leads a partition, or nobody does.
    Lead {
        topic: Index,
        partition: Index,
        leader: Option<u32>,
    },
    Crash,
}

pub(super) fn pick<T: Copy>(index: &Index, from: &[T]) -> T {
    from[index.index(from.len())]
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    let index = any::<Index>;
    let offset = || 0u64..1000;
    let some_topics = prop::collection::btree_set(0..TOPICS.len(), 1..=TOPICS.len());
    let some_partitions = prop::collection::btree_set(0u32..5, 1..4);
    prop_oneof![
        14 => (index(), some_topics, index(), index(), index())
            .prop_map(|(group, topics, name, start, home)| Step::Join { group, topics, name, start, home }),
        4 => index().prop_map(|who| Step::Leave { who }),
        10 => (index(), index(), offset(), prop_oneof![5 => Just(0u32), 1 => 1u32..4])
            .prop_map(|(who, which, offset, late)| Step::Commit { who, which, offset, late }),
        3 => (index(), index(), 0u32..6, offset())
            .prop_map(|(who, topic, partition, offset)| Step::CommitAny { who, topic, partition, offset }),
        10 => (index(), 1usize..4).prop_map(|(who, how_many)| Step::Release { who, how_many }),
        4 => index().prop_map(|who| Step::Repeat { who }),
        10 => (index(), offset()).prop_map(|(which, offset)| Step::Resolve { which, offset }),
        6 => (index(), index(), some_partitions, offset())
            .prop_map(|(group, topic, partitions, offset)| Step::Reset { group, topic, partitions, offset }),
        2 => (index(), index(), 0u32..5, offset())
            .prop_map(|(group, topic, partition, offset)| Step::Admin { group, topic, partition, offset }),
        1 => index().prop_map(|group| Step::Drop { group }),
        3 => (index(), 1u32..3).prop_map(|(topic, by)| Step::Grow { topic, by }),
        1 => (index(), 1u32..5).prop_map(|(topic, partitions)| Step::Recreate { topic, partitions }),
        1 => index().prop_map(|topic| Step::Delete { topic }),
        10 => (index(), index(), prop::option::weighted(0.8, 1u32..=3))
            .prop_map(|(topic, partition, leader)| Step::Lead { topic, partition, leader }),
        1 => Just(Step::Crash),
    ]
}
