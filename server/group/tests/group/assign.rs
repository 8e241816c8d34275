//! Properties of the assignment function.

use std::collections::BTreeSet;

use millstream_group::assign::{Demand, Owners, assign};
use proptest::prelude::*;

/// A demand that owns its parts.
#[derive(Clone, Debug)]
struct Case {
    partitions: Vec<u32>,
    subscriptions: Vec<BTreeSet<usize>>,
    current: Owners,
    preferred: Owners,
}

impl Case {
    fn fresh(partitions: &[u32], members: usize) -> Self {
        let all = (0..partitions.len()).collect();
        Self {
            partitions: partitions.to_vec(),
            subscriptions: vec![all; members],
            current: Vec::new(),
            preferred: Vec::new(),
        }
    }

    fn assign(&self) -> Owners {
        let Self {
            partitions,
            subscriptions,
            current,
            preferred,
        } = self;
        let owners = assign(&Demand {
            partitions,
            subscriptions,
            current,
            preferred,
        });
        self.assert_complete(&owners);
        owners
    }

    /// The case in which what was assigned is the case.
    fn settled(mut self) -> Self {
        self.current = self.assign();
        self
    }

    fn without(&self, gone: usize) -> Self {
        let mut case = self.clone();
        case.subscriptions.remove(gone);
        for owner in case.current.iter_mut().flatten() {
            *owner = owner
                .filter(|&member| member != gone)
                .map(|member| member - usize::from(member > gone));
        }
        case
    }

    fn with_one_more(&self) -> Self {
        let mut case = self.clone();
        case.subscriptions
            .push((0..self.partitions.len()).collect());
        case
    }

    fn total(&self) -> usize {
        self.partitions.iter().map(|&count| count as usize).sum()
    }

    fn assert_complete(&self, owners: &Owners) {
        assert_eq!(owners.len(), self.partitions.len());
        for (topic, row) in owners.iter().enumerate() {
            assert_eq!(row.len(), self.partitions[topic] as usize);
            let subscribed = |member: usize| self.subscriptions[member].contains(&topic);
            let anybody = (0..self.subscriptions.len()).any(subscribed);
            for owner in row {
                assert_eq!(owner.is_some(), anybody);
                assert!(owner.is_none_or(subscribed));
            }
        }
    }
}

fn loads(owners: &Owners, members: usize) -> Vec<usize> {
    let mut loads = vec![0; members];
    for member in owners.iter().flatten().flatten() {
        loads[*member] += 1;
    }
    loads
}

fn spread(loads: &[usize]) -> usize {
    loads.iter().max().unwrap() - loads.iter().min().unwrap()
}

fn held_by(owners: &Owners, member: usize) -> BTreeSet<(usize, usize)> {
    let all = owners.iter().enumerate().flat_map(|(topic, row)| {
        row.iter()
            .enumerate()
            .map(move |(partition, owner)| ((topic, partition), *owner))
    });
    all.filter(|(_, owner)| *owner == Some(member))
        .map(|(at, _)| at)
        .collect()
}

fn moved(before: &Owners, after: &Owners) -> Vec<Option<usize>> {
    let pairs = before.iter().flatten().zip(after.iter().flatten());
    pairs
        .filter(|(before, after)| before != after)
        .map(|(_, after)| *after)
        .collect()
}

/// The smallest sum of squared loads that any assignment has, by trying them all.
fn best_squares(case: &Case) -> usize {
    let all: Vec<usize> = case
        .partitions
        .iter()
        .enumerate()
        .flat_map(|(topic, &count)| vec![topic; count as usize])
        .collect();
    fn search(case: &Case, left: &[usize], loads: &mut Vec<usize>) -> usize {
        let Some((topic, left)) = left.split_first() else {
            return loads.iter().map(|load| load * load).sum();
        };
        let subscribers =
            (0..loads.len()).filter(|&member| case.subscriptions[member].contains(topic));
        let best = subscribers.collect::<Vec<_>>().into_iter().map(|member| {
            loads[member] += 1;
            let squares = search(case, left, loads);
            loads[member] -= 1;
            squares
        });
        best.min().unwrap_or_else(|| search(case, left, loads))
    }
    search(case, &all, &mut vec![0; case.subscriptions.len()])
}

/// Several topics, all members subscribed to all of them, and any owners at all.
fn uniform() -> impl Strategy<Value = Case> {
    (prop::collection::vec(0u32..20, 1..5), 1usize..9).prop_flat_map(|(partitions, members)| {
        let owners = any_owners(&partitions, members);
        (
            Just(Case::fresh(&partitions, members)),
            owners.clone(),
            owners,
        )
            .prop_map(|(case, current, preferred)| Case {
                current,
                preferred,
                ..case
            })
    })
}

/// Small topics, members with subscriptions of their own, and any owners at all.
fn mixed() -> impl Strategy<Value = Case> {
    (prop::collection::vec(0u32..4, 1..4), 1usize..5).prop_flat_map(|(partitions, members)| {
        let topics = prop::collection::btree_set(0..partitions.len(), 0..=partitions.len());
        let owners = any_owners(&partitions, members);
        (
            Just(partitions),
            prop::collection::vec(topics, members),
            owners.clone(),
            owners,
        )
            .prop_map(|(partitions, subscriptions, current, preferred)| Case {
                partitions,
                subscriptions,
                current,
                preferred,
            })
    })
}

fn any_owners(partitions: &[u32], members: usize) -> impl Strategy<Value = Owners> + Clone + use<> {
    let rows: Vec<_> = partitions
        .iter()
        .map(|&count| prop::collection::vec(prop::option::of(0..members), count as usize))
        .collect();
    rows
}

proptest! {
    #[test]
    fn loads_differ_by_one_at_most(case in uniform()) {
        let owners = case.assign();
        prop_assert!(spread(&loads(&owners, case.subscriptions.len())) <= 1);
    }

    #[test]
    fn no_more_moves_than_the_balance_needs(case in uniform()) {
        // Whoever has more than the upper share must give; who has less than the lower must take.
        let members = case.subscriptions.len();
        let before = loads(&case.current, members);
        let free = case.total() - before.iter().sum::<usize>();
        let (share, extras) = (case.total() / members, case.total() % members);
        let mut above: Vec<usize> = before.iter().map(|&load| load.saturating_sub(share)).collect();
        above.sort_unstable();
        let keep_one_more = above.iter().filter(|&&more| more > 0).count().min(extras);
        let needed = above.iter().sum::<usize>() - keep_one_more + free;
        prop_assert_eq!(moved(&case.current, &case.assign()).len(), needed);
    }

    #[test]
    fn one_member_more_takes_its_share_and_nothing_else_moves(case in uniform()) {
        let case = case.settled().with_one_more();
        let newcomer = case.subscriptions.len() - 1;
        let after = case.assign();
        let moved = moved(&case.current, &after);
        prop_assert!(moved.iter().all(|owner| *owner == Some(newcomer)));
        prop_assert!(moved.len() <= case.total().div_ceil(newcomer + 1));
    }

    #[test]
    fn one_member_less_moves_only_what_it_had(case in uniform(), gone: prop::sample::Index) {
        let case = case.settled();
        prop_assume!(case.subscriptions.len() > 1);
        let gone = gone.index(case.subscriptions.len());
        let had = held_by(&case.current, gone);
        let case = case.without(gone);
        prop_assert_eq!(moved(&case.current, &case.assign()).len(), had.len());
    }

    #[test]
    fn who_comes_back_has_what_it_had(case in uniform(), gone: prop::sample::Index) {
        let case = Case { preferred: Vec::new(), ..case }.settled();
        prop_assume!(case.subscriptions.len() > 1);
        let gone = gone.index(case.subscriptions.len());
        let had = held_by(&case.current, gone);
        let mut back = case.without(gone).settled().with_one_more();
        let newcomer = back.subscriptions.len() - 1;
        back.preferred = back.partitions.iter().map(|&count| vec![None; count as usize]).collect();
        for &(topic, partition) in &had {
            back.preferred[topic][partition] = Some(newcomer);
        }
        let has = held_by(&back.assign(), newcomer);
        prop_assert!(has.is_subset(&had), "{has:?} of {had:?}");
        prop_assert!(has.len() >= case.total() / case.subscriptions.len());
    }

    #[test]
    fn different_subscriptions_are_as_even_as_can_be(case in mixed()) {
        let loads = loads(&case.assign(), case.subscriptions.len());
        let squares: usize = loads.iter().map(|load| load * load).sum();
        prop_assert_eq!(squares, best_squares(&case));
    }

    #[test]
    fn what_is_settled_stays(uniform in uniform(), mixed in mixed()) {
        for case in [uniform.settled(), mixed.settled()] {
            prop_assert_eq!(&case.assign(), &case.current);
        }
    }

    #[test]
    fn equal_numbers_go_together_where_the_balance_allows(
        topics in 1usize..4, per_member in 1u32..5, members in 1usize..6, other in 0u32..3,
    ) {
        let count = per_member * members as u32;
        let mut partitions = vec![count; topics];
        partitions.push(other * members as u32);
        let owners = Case::fresh(&partitions, members).assign();
        for row in &owners[1..topics] {
            prop_assert_eq!(row, &owners[0]);
        }
    }
}

#[test]
fn equal_numbers_stay_together_as_members_come_and_go() {
    let mut case = Case::fresh(&[12, 12], 1).settled();
    for members in [2, 3, 4] {
        case = case.with_one_more().settled();
        assert_eq!(case.subscriptions.len(), members);
        assert_eq!(case.current[0], case.current[1], "with {members} members");
    }
    for members in [3, 2, 1] {
        case = case.without(1).settled();
        assert_eq!(case.current[0], case.current[1], "with {members} members");
    }
}

#[test]
fn a_chain_of_members_is_levelled_through_its_middle() {
    // 0 has three, 1 two, 2 one; 0 and 2 share no topic.
    let case = Case {
        partitions: vec![4, 2],
        subscriptions: vec![
            BTreeSet::from([0]),
            BTreeSet::from([0, 1]),
            BTreeSet::from([1]),
        ],
        current: vec![
            vec![Some(0), Some(0), Some(0), Some(1)],
            vec![Some(1), Some(2)],
        ],
        preferred: Vec::new(),
    };
    let owners = case.assign();
    assert_eq!(loads(&owners, 3), [2, 2, 2]);
    assert_eq!(moved(&case.current, &owners).len(), 2);
}

#[test]
fn members_that_share_no_topic_do_not_bear_on_each_other() {
    let case = Case {
        partitions: vec![9, 1],
        subscriptions: vec![BTreeSet::from([0]), BTreeSet::from([1]), BTreeSet::new()],
        current: Vec::new(),
        preferred: Vec::new(),
    };
    assert_eq!(loads(&case.assign(), 3), [9, 1, 0]);
}

#[test]
fn a_thousand_members_and_ten_thousand_partitions() {
    let mut case = Case::fresh(&[5_000, 5_000], 999).settled();
    case = case.with_one_more();
    let owners = case.assign();
    assert_eq!(loads(&owners, 1_000), [10; 1_000]);
    assert_eq!(moved(&case.current, &owners).len(), 10);
}
