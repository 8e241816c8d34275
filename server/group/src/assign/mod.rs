//! Who shall own what: a pure function from subscriptions to owners.
//!
//! Its rules, the stronger first:
//!
//! 1. **Complete**: every partition whose topic has a subscriber has exactly one owner, and that
//!    owner subscribes to the topic.
//! 2. **Balanced**: no move of a partition, or chain of moves, would make the loads more even.
//!    Where all members subscribe to the same topics, any two loads differ by at most 1.
//! 3. **Sticky**: a partition moves only for rule 1 or 2. A member more takes at most its share,
//!    and nothing moves between the others; a member less moves only what it had.
//! 4. **Faithful**: of the partitions that may go to a member, those that it is preferred for go
//!    first (what a member that comes back had before it went).
//! 5. **Co-partitioned**: topics with the same number of partitions have partition *n* at the same
//!    member, as far as the rules above leave the choice.
//!
//! Members that share no topic, directly or through others, do not bear on each other: each such
//! component is shared out on its own. One where all members subscribe to the same topics has
//! exact quotas (`Shares::trim`); any other is first filled and then levelled along
//! cost-reducing paths (`level`).

mod level;
mod shares;

use std::collections::BTreeSet;

use shares::Shares;

/// The owner of every partition: `owners[topic][partition]` is a member's index. Rows may be
/// shorter than the topic; what they lack has no owner.
pub type Owners = Vec<Vec<Option<usize>>>;

/// What there is to share out. Topics and members are known by their index.
#[derive(Clone, Copy, Debug)]
pub struct Demand<'a> {
    /// How many partitions each topic has.
    pub partitions: &'a [u32],
    /// The topics of each member.
    pub subscriptions: &'a [BTreeSet<usize>],
    /// Who owns what now. Owners that do not subscribe to the topic lose the partition.
    pub current: &'a Owners,
    /// Who had what before it went and came back.
    pub preferred: &'a Owners,
}

/// Shares the partitions out. Deterministic: members of equal standing come in the order of their
/// index.
pub fn assign(demand: &Demand<'_>) -> Owners {
    let mut shares = Shares::kept(demand);
    for component in components(demand) {
        if component.is_uniform(demand) {
            let quota = shares.trim(&component);
            shares.fill(&component, quota);
        } else {
            let quota = shares.fair_shares(&component);
            shares.fill(&component, quota);
            level::level(&mut shares, &component);
        }
    }
    shares.into_owners()
}

/// Members that share topics, and those topics. Both in ascending order.
struct Component {
    members: Vec<usize>,
    topics: Vec<usize>,
}

impl Component {
    /// Whether all members subscribe to the same topics.
    fn is_uniform(&self, demand: &Demand<'_>) -> bool {
        self.members
            .iter()
            .all(|&member| demand.subscriptions[member].len() == self.topics.len())
    }
}

/// The components that have a member and a topic.
fn components(demand: &Demand<'_>) -> Vec<Component> {
    // The smallest topic known to be connected with each topic, found by path halving.
    let mut roots: Vec<usize> = (0..demand.partitions.len()).collect();
    fn root(roots: &mut [usize], mut topic: usize) -> usize {
        while roots[topic] != topic {
            roots[topic] = roots[roots[topic]];
            topic = roots[topic];
        }
        topic
    }
    for topics in demand.subscriptions {
        let Some(&first) = topics.first() else {
            continue;
        };
        for &topic in topics {
            let (a, b) = (root(&mut roots, first), root(&mut roots, topic));
            roots[a.max(b)] = a.min(b);
        }
    }
    let mut components: Vec<Component> = (0..roots.len())
        .map(|_| Component {
            members: Vec::new(),
            topics: Vec::new(),
        })
        .collect();
    for topic in 0..demand.partitions.len() {
        components[root(&mut roots, topic)].topics.push(topic);
    }
    for (member, topics) in demand.subscriptions.iter().enumerate() {
        if let Some(&first) = topics.first() {
            components[root(&mut roots, first)].members.push(member);
        }
    }
    components.retain(|component| !component.members.is_empty());
    components
}
