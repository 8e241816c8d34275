//! What must hold in every state, and what must happen in some.

use stateright::Property;

use super::state::{Entry, Node, State};
use super::steps::Partition;

/// A rule of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    /// An epoch begins at most once, so that it has one leader at most.
    OneLeader,
    /// Within a directory a promise does not go back; while a process runs, neither do a high
    /// watermark and the epoch in which it leads.
    NothingGoesBack,
    /// Where two logs have an entry of the same epoch at the same offset, they are the same up to
    /// there.
    LogsMatch,
    /// A leader has everything that leaders of older epochs have committed, at any time.
    LeaderHasAll,
    /// What two leaders have committed at an offset is the same.
    CommittedAgree,
    /// When a leader commits, a majority of the replicas that commit has it on its disks (or has it
    /// written, where that is enough), or had it until its disk was lost; a leader that is not
    /// trusted is not among them.
    DurableOnMajority,
    /// Everything below a replica's high watermark is committed.
    VisibleIsCommitted,
    /// What the core knows of its log is so.
    LogIsKnown,
    /// No assertion of the core fails: nothing below a high watermark is cut off, for one.
    CoreAsserts,
    /// No message of a sound replica is taken for a broken one.
    NobodyRefused,
}

/// How a step has broken a rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Violation {
    /// Which.
    pub rule: Rule,
    /// How.
    pub what: String,
}

impl Violation {
    pub(crate) fn new(rule: Rule, what: impl Into<String>) -> Self {
        let what = what.into();
        Self { rule, what }
    }
}

fn holds(state: &State, rule: Rule) -> bool {
    state.violation.as_ref().is_none_or(|it| it.rule != rule)
}

/// All rules, and what shows that a check goes where it should.
pub(crate) fn properties(model: &Partition) -> Vec<Property<Partition>> {
    let mut all = vec![
        Property::always("one leader in an epoch", |_, it| holds(it, Rule::OneLeader)),
        Property::always(
            "promises, epochs, high watermarks do not go back",
            |_, it| holds(it, Rule::NothingGoesBack),
        ),
        Property::always("same epoch and offset, same log up to there", |_, it| {
            logs_match(it)
        }),
        Property::always("a leader has all that older epochs committed", |_, it| {
            leaders_have_all(it)
        }),
        Property::always("what is committed stays what it is", |_, it| {
            holds(it, Rule::CommittedAgree)
        }),
        Property::always("what is acknowledged is on a majority's disks", |_, it| {
            holds(it, Rule::DurableOnMajority)
        }),
        Property::always("what is visible is committed", |model: &Partition, it| {
            model.plant();
            visible_is_committed(it)
        }),
        Property::always("what a core knows of its log is so", |_, it| {
            holds(it, Rule::LogIsKnown)
        }),
        Property::always("the core's own assertions hold", |_, it| {
            holds(it, Rule::CoreAsserts)
        }),
        Property::always("no sound message is refused", |_, it| {
            holds(it, Rule::NobodyRefused)
        }),
    ];
    all.extend(witnesses(model));
    all
}

/// What a check within these bounds has to come across.
fn witnesses(model: &Partition) -> Vec<Property<Partition>> {
    let bounds = &model.bounds;
    let (several, later) = (bounds.replicas > 1, bounds.epochs > 1);
    let fails = bounds.crashes + bounds.power_losses + bounds.wipes > 0;
    let mut all = vec![Property::sometimes(
        "all records are committed",
        |model: &Partition, it: &State| {
            let committed = it.ghost.committed.iter().filter(|it| it.record > 0);
            committed.count() == model.bounds.records as usize
        },
    )];
    if later {
        all.push(Property::sometimes(
            "a record is committed under a later epoch",
            |_, it: &State| it.leaders().any(|(epoch, node)| commits_older(epoch, node)),
        ));
    }
    if several && later {
        all.push(Property::sometimes("two lead at once", |_, it: &State| {
            it.leaders().count() > 1
        }));
    }
    // Where epochs begin with nothing, it takes two records or a third epoch for two logs to differ.
    if several && later && (bounds.warm || bounds.epochs > 2 || bounds.records > 1) {
        all.push(Property::sometimes(
            "a log is cut",
            |model: &Partition, _| model.seen.all().truncate,
        ));
    }
    // Of two replicas each one may begin with what it has, if it is trusted.
    if later && (bounds.replicas > 2 || (several && bounds.wipes > 0)) {
        all.push(Property::sometimes(
            "a leader-to-be fetches entries",
            |model: &Partition, _| model.seen.all().adopt,
        ));
    }
    if fails {
        all.push(Property::sometimes(
            "a replica that leads again after a failure commits",
            |model: &Partition, it: &State| {
                model.has_failed(it)
                    && it
                        .leaders()
                        .any(|(epoch, node)| epoch > 1 && node.core.is_settled())
            },
        ));
    }
    if bounds.wipes > 0 && bounds.changes == 0 && several {
        all.push(Property::sometimes(
            "an emptied replica is trusted again",
            |model: &Partition, it: &State| {
                let new = |it: &&Node| it.directory().0 > u64::from(model.bounds.brokers);
                let mut nodes = it.nodes.iter().map(|it| &**it);
                nodes.any(|it| new(&it) && it.core.durable().trusted)
            },
        ));
    }
    if bounds.changes > 0 {
        all.push(Property::sometimes(
            "a change is made final",
            |model: &Partition, it: &State| {
                let replicas = it.metadata.replicas();
                let first: Vec<_> = (1..=model.bounds.replicas).collect();
                replicas.next().is_empty() && replicas.current() != first
            },
        ));
    }
    if bounds.retentions > 0 && several {
        all.push(Property::sometimes(
            "a log begins anew",
            |model: &Partition, _| model.seen.all().restart,
        ));
    }
    all
}

/// A leader has committed a record of an epoch before its own, with its own.
fn commits_older(epoch: u32, node: &Node) -> bool {
    let below = node.core.high_watermark();
    let older = |it: &Entry| it.epoch < epoch && it.record > 0;
    node.core.is_settled()
        && node
            .log
            .slice(node.log.start.offset, below)
            .iter()
            .any(older)
}

fn logs_match(state: &State) -> bool {
    state.nodes.iter().enumerate().all(|(index, a)| {
        state.nodes[..index].iter().all(|b| {
            let from = a.log.start.offset.max(b.log.start.offset);
            let until = a.log.end().min(b.log.end());
            // Once they have parted, no epoch is at the same offset in both.
            let parted = (from..until).skip_while(|it| a.log.at(*it) == b.log.at(*it));
            let epochs = |it| {
                (
                    a.log.at(it).map(|it| it.epoch),
                    b.log.at(it).map(|it| it.epoch),
                )
            };
            parted.map(epochs).all(|(a, b)| a != b)
        })
    })
}

fn leaders_have_all(state: &State) -> bool {
    state.leaders().all(|(epoch, node)| {
        let end = state.ghost.reached_before(epoch);
        state.ghost.agrees(node, end)
    })
}

fn visible_is_committed(state: &State) -> bool {
    let nodes = state.nodes.iter();
    nodes.into_iter().all(|it| {
        let end = it.core.high_watermark();
        state.ghost.agrees(it, end)
    })
}
