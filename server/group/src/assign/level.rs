//! Levelling along cost-reducing paths.
//!
//! When members subscribe to different topics, two loads can be uneven and yet no single partition
//! may move between the two: it takes a third member that shares a topic with each. An assignment
//! is as even as it can be if and only if there is no path from a member to one with at least two
//! partitions less, each step along a topic that the one owns and the next subscribes to (Harvey,
//! Ladner, Lovász, Tamir: *Semi-matchings for bipartite graphs and load balancing*, 2003).

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::Component;
use super::shares::Shares;

/// One step of a path: the giver, and the topic of which it gives a partition.
type Giver = (usize, usize);

/// Moves partitions along cost-reducing paths until there are none.
pub(super) fn level(shares: &mut Shares<'_>, component: &Component) {
    // Ends, because every path lowers the sum of the squares of the loads.
    while let Some((givers, mut taker)) = cost_reducing_path(shares, component) {
        while let Some(&(giver, topic)) = givers.get(&taker) {
            shares.shift(topic, giver, taker);
            taker = giver;
        }
    }
}

/// A shortest path from the heaviest member that has one, to the lightest at that distance: from
/// whom each member on the way takes, and the last of them.
fn cost_reducing_path(
    shares: &Shares<'_>,
    component: &Component,
) -> Option<(BTreeMap<usize, Giver>, usize)> {
    let lightest = component
        .members
        .iter()
        .map(|&member| shares.load(member))
        .min()?;
    let mut heavy: Vec<usize> = component
        .members
        .iter()
        .copied()
        .filter(|&member| shares.load(member) >= lightest + 2)
        .collect();
    heavy.sort_by_key(|&member| (Reverse(shares.load(member)), member));
    heavy
        .into_iter()
        .find_map(|member| path_from(shares, member))
}

fn path_from(shares: &Shares<'_>, start: usize) -> Option<(BTreeMap<usize, Giver>, usize)> {
    let light_enough = shares.load(start).checked_sub(2)?;
    let mut givers: BTreeMap<usize, Giver> = BTreeMap::new();
    let mut seen_topics = BTreeSet::new();
    let mut frontier = vec![start];
    while !frontier.is_empty() {
        let mut next = Vec::new();
        for giver in frontier {
            for topic in shares.topics_of(giver) {
                if !seen_topics.insert(topic) {
                    continue;
                }
                for &member in shares.subscribers(topic) {
                    if member != start && !givers.contains_key(&member) {
                        givers.insert(member, (giver, topic));
                        next.push(member);
                    }
                }
            }
        }
        let lightest = next
            .iter()
            .copied()
            .min_by_key(|&member| (shares.load(member), member));
        if let Some(taker) = lightest.filter(|&member| shares.load(member) <= light_enough) {
            return Some((givers, taker));
        }
        frontier = next;
    }
    None
}
