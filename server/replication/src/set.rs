//! Which replicas a partition has, and what a majority of them is.

use millstream_planted::planted;

use crate::BrokerId;
use crate::limits::MAX_REPLICAS;

/// The replicas of a partition, and those that are to take their place.
///
/// While there are two sets, a leader is sealed by both and commits with the new one: whatever was
/// committed, by the old set before or by the new one since, every later seal meets it. This way
/// round (instead of committing with both), the survivor of two replicas can shrink the set to
/// itself, although the old set has no majority any more. (Vertical Paxos II, Lamport, Malkhi and
/// Zhou, 2009.)
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ReplicaSet {
    current: Vec<BrokerId>,
    next: Vec<BrokerId>,
}

impl ReplicaSet {
    /// A set that does not change. [`MAX_REPLICAS`] at most; `None` if there are more, or none, or
    /// one of them twice.
    pub fn new(replicas: &[BrokerId]) -> Option<Self> {
        let current = checked(replicas)?;
        Some(Self {
            current,
            next: Vec::new(),
        })
    }

    /// A set that is to become another one.
    pub fn changing(replicas: &[BrokerId], next: &[BrokerId]) -> Option<Self> {
        Some(Self {
            current: checked(replicas)?,
            next: checked(next)?,
        })
    }

    /// The replicas, in the order of their numbers.
    pub fn current(&self) -> &[BrokerId] {
        &self.current
    }

    /// Those that are to take their place; empty if the set does not change.
    pub fn next(&self) -> &[BrokerId] {
        &self.next
    }

    /// All replicas of both sets, each once.
    pub fn members(&self) -> impl Iterator<Item = BrokerId> + '_ {
        let new = self.next.iter().filter(|it| !self.current.contains(it));
        self.current.iter().chain(new).copied()
    }

    /// Whether a replica is in one of the sets.
    pub fn contains(&self, broker: BrokerId) -> bool {
        self.current.contains(&broker) || self.next.contains(&broker)
    }

    /// Whether these replicas suffice to seal: from each set half at least, so that one of them has
    /// whatever a majority of the set has.
    pub(crate) fn seals(&self, has: impl Fn(BrokerId) -> bool) -> bool {
        let half = |set: &[BrokerId]| set.iter().filter(|it| has(**it)).count() * 2 >= set.len();
        let some = self.members().any(&has);
        some && half(&self.current) && half(&self.next)
    }

    /// The set that commits.
    pub(crate) fn committing(&self) -> &[BrokerId] {
        if self.next.is_empty() || planted!(CommitWithOldSet) {
            &self.current
        } else {
            &self.next
        }
    }
}

/// The highest value that a majority of `replicas` has reached; `None` is lower than all.
pub(crate) fn majority_of(
    replicas: &[BrokerId],
    reached: impl Fn(BrokerId) -> Option<u64>,
) -> Option<u64> {
    let mut values = [None; MAX_REPLICAS];
    let values = &mut values[..replicas.len()];
    for (value, replica) in values.iter_mut().zip(replicas) {
        *value = reached(*replica);
    }
    values.sort_unstable();
    // With n values sorted, those from (n - 1) / 2 on are a majority.
    values.get((values.len().max(1) - 1) / 2).copied().flatten()
}

fn checked(replicas: &[BrokerId]) -> Option<Vec<BrokerId>> {
    let mut sorted = replicas.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    let sound = sorted.len() == replicas.len() && (1..=MAX_REPLICAS).contains(&sorted.len());
    sound.then_some(sorted)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever commits in a set meets whatever seals it, for every size.
    #[test]
    fn every_seal_meets_every_commit() {
        for size in 1..=MAX_REPLICAS as u32 {
            let all: Vec<BrokerId> = (0..size).collect();
            let set = ReplicaSet::new(&all).unwrap();
            let chosen = |mask: u32| move |it: BrokerId| mask >> it & 1 == 1;
            for sealing in 0..1u32 << size {
                for committing in 0..1u32 << size {
                    let reached = |it| chosen(committing)(it).then_some(1);
                    if set.seals(chosen(sealing)) && majority_of(&all, reached).is_some() {
                        assert_ne!(sealing & committing, 0, "{size} {sealing:b} {committing:b}");
                    }
                }
            }
            assert!(set.seals(chosen((1 << size.div_ceil(2)) - 1)));
            assert!(!set.seals(chosen(0)));
        }
    }

    #[test]
    fn a_changing_set_is_sealed_by_both_and_commits_with_the_new() {
        let set = ReplicaSet::changing(&[1, 2], &[1]).unwrap();
        assert!(set.seals(|it| it == 1), "the survivor of two");
        assert!(!set.seals(|it| it == 2), "the one that is to go");
        assert_eq!(set.committing(), [1]);
        let set = ReplicaSet::changing(&[1, 2, 3], &[4, 5, 6]).unwrap();
        assert!(!set.seals(|it| it <= 3) && !set.seals(|it| it > 3));
        assert!(set.seals(|it| [1, 2, 5, 6].contains(&it)));
        assert_eq!(set.members().collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn a_majority_has_reached_the_lower_middle() {
        let reached = |it: BrokerId| [None, Some(40), Some(20), Some(30), Some(50)][it as usize];
        for (set, expected) in [
            (vec![1], Some(40)),
            (vec![0, 1], None),
            (vec![0, 1, 2], Some(20)),
            (vec![0, 1, 2, 3], Some(20)),
            (vec![0, 1, 2, 3, 4], Some(30)),
        ] {
            assert_eq!(majority_of(&set, reached), expected, "{set:?}");
        }
    }

    #[test]
    fn a_set_holds_each_replica_once() {
        assert_eq!(ReplicaSet::new(&[3, 1, 2]).unwrap().current(), [1, 2, 3]);
        assert_eq!(ReplicaSet::new(&[]), None);
        assert_eq!(ReplicaSet::new(&[1, 1]), None);
        assert_eq!(ReplicaSet::new(&[1, 2, 3, 4, 5, 6]), None);
    }
}
