//! What nobody in the system knows all of: what was committed, and by whom.

use millstream_protocol::{LeaderEpoch, Offset};
use millstream_replication::{BrokerId, Durability, ReplicaSet};

use super::rules::{Rule, Violation};
use super::state::{Entry, Node, State};

/// The history that the rules need.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Ghost {
    /// Everything that was committed, from the first offset on.
    pub(crate) committed: Vec<Entry>,
    /// How far leaders of an epoch have committed, where that is further than all older ones.
    pub(crate) reached: Vec<(LeaderEpoch, Offset)>,
    /// Epochs that were led.
    led: Vec<LeaderEpoch>,
    /// What was on disks that are gone.
    lost: Vec<Lost>,
}

/// What was on a disk that is gone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Lost {
    broker: BrokerId,
    /// The newest epoch at the time.
    epoch: LeaderEpoch,
    entries: Vec<Entry>,
}

impl Ghost {
    /// How far leaders of epochs older than `epoch` have committed.
    pub(crate) fn reached_before(&self, epoch: LeaderEpoch) -> Offset {
        let older = self.reached.iter().filter(|(it, _)| *it < epoch);
        older.map(|(_, end)| *end).max().unwrap_or(0)
    }

    /// Whether a log is the committed one between two offsets, where it has begun.
    pub(crate) fn agrees(&self, node: &Node, until: Offset) -> bool {
        let from = node.log.start.offset;
        until <= node.log.end()
            && until <= self.committed.len() as Offset
            && (from..until).all(|it| node.log.at(it) == self.committed.get(it as usize).copied())
    }

    /// An epoch begins to be led.
    pub(crate) fn lead(&mut self, epoch: LeaderEpoch) -> Result<(), Violation> {
        if self.led.contains(&epoch) {
            let what = format!("epoch {epoch} is led twice");
            return Err(Violation::new(Rule::OneLeader, what));
        }
        self.led.push(epoch);
        Ok(())
    }

    /// A leader has moved its high watermark.
    pub(crate) fn commit(
        &mut self,
        node: &Node,
        epoch: LeaderEpoch,
        end: Offset,
    ) -> Result<(), Violation> {
        let known = self.committed.len() as Offset;
        let (log, start) = (&node.log, node.log.start.offset);
        let agrees = self.agrees(node, end.min(known));
        if !agrees || start > known || end > log.end() {
            let what = format!("epoch {epoch} commits something else below {end}");
            return Err(Violation::new(Rule::CommittedAgree, what));
        }
        self.committed.extend(log.slice(known, end));
        let place = self.reached.partition_point(|(it, _)| *it < epoch);
        self.reached.insert(place, (epoch, end));
        self.keep_steps();
        Ok(())
    }

    /// A disk is gone, with what was on it.
    pub(crate) fn lose(&mut self, broker: BrokerId, epoch: LeaderEpoch, entries: Vec<Entry>) {
        if !entries.is_empty() {
            self.lost.push(Lost {
                broker,
                epoch,
                entries,
            });
        }
    }

    /// Forgets what no rule can ask for any more.
    pub(crate) fn forget(&mut self, state: &State) {
        // No epoch below this one is led, or can begin to be.
        let leads = |node: &Node| node.core.leading().unwrap_or(node.promised());
        let lowest = state.nodes.iter().map(|it| leads(it)).min().unwrap_or(0);
        for (epoch, _) in &mut self.reached {
            if *epoch < lowest {
                *epoch = 0;
            }
        }
        self.keep_steps();
        let is_known = |epoch| state.metadata.decisions.iter().any(|it| it.epoch == epoch);
        self.led.retain(|epoch| is_known(*epoch));
        self.led.sort_unstable();
        let led = |epoch| state.leaders().any(|(it, _)| it <= epoch);
        self.lost.retain(|lost| led(lost.epoch));
    }

    /// Keeps those that have reached further than all older ones.
    fn keep_steps(&mut self) {
        let mut furthest = 0;
        let mut steps: Vec<(LeaderEpoch, Offset)> = Vec::with_capacity(self.reached.len());
        for &(epoch, end) in &self.reached {
            if end > furthest {
                furthest = end;
                match steps.last_mut() {
                    Some(last) if last.0 == epoch => last.1 = end,
                    _ => steps.push((epoch, end)),
                }
            }
        }
        self.reached = steps;
    }

    /// Whether a majority of those that commit have everything below `end`, or had it until their
    /// disks were lost.
    pub(crate) fn is_held(
        &self,
        state: &State,
        (leader, node): (BrokerId, &Node),
        set: &ReplicaSet,
        end: Offset,
    ) -> bool {
        let committing = match set.next() {
            [] => set.current(),
            next => next,
        };
        let durability = node.told.as_ref().map(|it| it.durability);
        let is_relaxed = durability == Some(Durability::Relaxed);
        let same = |at: Offset, entry: Option<Entry>| {
            let own = node.log.at(at);
            own.is_none() || own == entry
        };
        let holds = |broker: BrokerId| {
            let other = if broker == leader {
                node
            } else {
                state.node(broker)
            };
            let held = if is_relaxed {
                other.log.end()
            } else {
                other.core.log().flushed()
            };
            let begins = other.log.start.offset;
            let counts = broker != leader || node.core.durable().trusted;
            let has = counts && held >= end && (begins..end).all(|it| same(it, other.log.at(it)));
            let had = self.lost.iter().any(|lost| {
                let entry = |it: Offset| lost.entries.get(it as usize).copied();
                lost.broker == broker
                    && lost.entries.len() as Offset >= end
                    && (0..end).all(|it| same(it, entry(it)))
            });
            has || had
        };
        let holding = committing.iter().filter(|it| holds(**it)).count();
        holding * 2 > committing.len()
    }
}
