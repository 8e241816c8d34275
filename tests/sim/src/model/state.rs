//! What there is: replicas with their logs and disks, a network, a metadata quorum.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use millstream_protocol::{LeaderEpoch, Offset};
use millstream_replication::{
    Appointment, BrokerId, DirectoryId, Durable, LogView, Message, Position, Replica, ReplicaSet,
    Role, Run,
};

use super::ghost::Ghost;
use super::rules::Violation;

/// A value that many states have in common, with its hash: most of a state is not what a step
/// changes.
#[derive(Debug)]
pub struct Shared<T> {
    hash: u64,
    value: Arc<T>,
}

impl<T: Hash> Shared<T> {
    pub(crate) fn new(value: T) -> Self {
        let mut hasher = DefaultHasher::new();
        value.hash(&mut hasher);
        Self {
            hash: hasher.finish(),
            value: Arc::new(value),
        }
    }
}

impl<T: Hash + Clone> Shared<T> {
    /// Changes the value, if it does change.
    pub(crate) fn update(&mut self, change: impl FnOnce(&mut T)) {
        let mut value = (*self.value).clone();
        change(&mut value);
        *self = Self::new(value);
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self {
            hash: self.hash,
            value: Arc::clone(&self.value),
        }
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> Hash for Shared<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.hash.hash(state);
    }
}

impl<T: PartialEq> PartialEq for Shared<T> {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash
            && (Arc::ptr_eq(&self.value, &other.value) || *self.value == *other.value)
    }
}

/// An entry of a log.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Entry {
    /// The epoch whose leader has appended it.
    pub epoch: LeaderEpoch,
    /// The record's number, from 1; 0 for an `EpochStart`, and for what a warm start begins with.
    pub record: u8,
}

/// The entries of a replica, in the page cache. What is on the disk is a prefix of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Log {
    /// Where the log begins.
    pub(crate) start: Position,
    pub(crate) entries: Vec<Entry>,
}

impl Log {
    pub(crate) fn end(&self) -> Offset {
        self.start.offset + self.entries.len() as Offset
    }

    /// The entry at an offset that is within the log.
    pub(crate) fn at(&self, offset: Offset) -> Option<Entry> {
        let place = offset.checked_sub(self.start.offset)?;
        self.entries.get(place as usize).copied()
    }

    /// Entries from one offset to another, both within the log.
    pub(crate) fn slice(&self, from: Offset, until: Offset) -> Vec<Entry> {
        (from..until).filter_map(|it| self.at(it)).collect()
    }

    pub(crate) fn cut(&mut self, to: Offset) {
        let kept = to.saturating_sub(self.start.offset);
        self.entries.truncate(kept as usize);
    }

    /// The epoch of the entry before an offset.
    pub(crate) fn epoch_before(&self, offset: Offset) -> LeaderEpoch {
        let before = offset.checked_sub(1).and_then(|it| self.at(it));
        before.map_or(self.start.epoch, |it| it.epoch)
    }

    /// What a core is told of this log when it is opened.
    pub(crate) fn view(&self, flushed: Offset) -> LogView {
        let floor = (self.start.epoch > 0).then(|| Run {
            epoch: self.start.epoch,
            start: self.start.offset.saturating_sub(1),
        });
        let offsets = self.start.offset..self.end();
        let mut runs: Vec<Run> = floor.into_iter().collect();
        for (entry, start) in self.entries.iter().zip(offsets) {
            if runs.last().is_none_or(|run| run.epoch < entry.epoch) {
                let epoch = entry.epoch;
                runs.push(Run { epoch, start });
            }
        }
        LogView::new(self.start.offset, self.end(), flushed, runs)
    }
}

/// A broker, as far as the partition goes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Node {
    pub(crate) core: Replica,
    pub(crate) log: Log,
    /// What is being persisted, the oldest first.
    pub(crate) pending: Vec<Durable>,
    /// The last metadata decision that the core was told since it was opened.
    pub(crate) told: Option<Appointment>,
}

impl Node {
    /// The version of the last decision that the core was told.
    pub(crate) fn version(&self) -> u64 {
        self.told.as_ref().map_or(0, |it| it.version)
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.core.role() == Role::Follower
    }

    pub(crate) fn directory(&self) -> DirectoryId {
        self.core.durable().directory
    }

    /// Whether it is who is to lead by a decision.
    pub(crate) fn is_meant(&self, broker: BrokerId, decision: &Appointment) -> bool {
        let newest = decision.directories.get(&broker);
        decision.leader == broker && newest == Some(&self.directory())
    }

    pub(crate) fn promised(&self) -> LeaderEpoch {
        self.core.durable().promised
    }
}

/// A message under way, with its entries.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Letter {
    /// Who has sent it.
    pub from: BrokerId,
    /// To whom.
    pub to: BrokerId,
    /// What.
    pub message: Message,
    /// The entries of its span, as they were when it was sent.
    pub entries: Vec<Entry>,
}

/// What the metadata quorum has decided.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Metadata {
    /// Decisions that somebody may still be told, the newest last.
    pub(crate) decisions: Vec<Appointment>,
    /// The newest identity of a directory.
    pub(crate) newest: DirectoryId,
    /// The leader of the newest epoch and version says that the change may be made final.
    pub(crate) finalise: bool,
}

impl Metadata {
    /// The newest decision.
    pub(crate) fn now(&self) -> Option<&Appointment> {
        self.decisions.last()
    }

    /// Decides something: what `change` makes of the newest decision.
    pub(crate) fn decide(&mut self, change: impl FnOnce(&mut Appointment)) {
        if let Some(mut next) = self.now().cloned() {
            next.version += 1;
            change(&mut next);
            self.decisions.push(next);
            self.finalise = false;
        }
    }

    /// The next directory's identity.
    pub(crate) fn identify(&mut self) -> DirectoryId {
        self.newest.0 += 1;
        self.newest
    }

    /// The newest epoch.
    pub(crate) fn epoch(&self) -> LeaderEpoch {
        self.now().map_or(0, |it| it.epoch)
    }

    /// Who the replicas are.
    pub(crate) fn replicas(&self) -> ReplicaSet {
        let now = self.now();
        now.map_or_else(ReplicaSet::default, |it| it.replicas.clone())
    }
}

/// How much of the bounds is used up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Spent {
    pub(crate) records: u8,
    pub(crate) crashes: u8,
    pub(crate) power_losses: u8,
    pub(crate) wipes: u8,
    pub(crate) changes: u8,
    pub(crate) short_writes: u8,
    pub(crate) links: u8,
    pub(crate) retentions: u8,
}

/// What the last step has done. No part of what a state is: which of the steps that lead to a state comes first is
/// chance.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Did {
    pub(crate) truncate: bool,
    pub(crate) adopt: bool,
    pub(crate) restart: bool,
}

/// What any step has done so far.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    truncate: AtomicBool,
    adopt: AtomicBool,
    restart: AtomicBool,
}

impl Seen {
    pub(crate) fn note(&self, did: Did) {
        for (seen, did) in [
            (&self.truncate, did.truncate),
            (&self.adopt, did.adopt),
            (&self.restart, did.restart),
        ] {
            if did {
                seen.store(true, Ordering::Relaxed);
            }
        }
    }

    pub(crate) fn all(&self) -> Did {
        Did {
            truncate: self.truncate.load(Ordering::Relaxed),
            adopt: self.adopt.load(Ordering::Relaxed),
            restart: self.restart.load(Ordering::Relaxed),
        }
    }
}

/// A state of the partition.
#[derive(Clone)]
pub struct State {
    pub(crate) nodes: Vec<Shared<Node>>,
    /// In the order of their hashes.
    pub(crate) network: Vec<Shared<Letter>>,
    pub(crate) metadata: Shared<Metadata>,
    pub(crate) ghost: Shared<Ghost>,
    pub(crate) spent: Spent,
    pub(crate) violation: Option<Violation>,
    pub(crate) did: Did,
}

impl State {
    pub(crate) fn node(&self, broker: BrokerId) -> &Shared<Node> {
        &self.nodes[broker as usize - 1]
    }

    /// Puts a message into the network, once.
    pub(crate) fn post(&mut self, letter: Letter) {
        let letter = Shared::new(letter);
        let place = self.network.partition_point(|it| it.hash < letter.hash);
        let is_there = self.network[place..]
            .iter()
            .take_while(|it| it.hash == letter.hash);
        if !is_there.into_iter().any(|it| *it == letter) {
            self.network.insert(place, letter);
        }
    }

    /// Those that lead, with their epochs.
    pub(crate) fn leaders(&self) -> impl Iterator<Item = (LeaderEpoch, &Node)> {
        let leading = |it: &Shared<Node>| it.core.leading();
        self.nodes
            .iter()
            .filter_map(move |it| leading(it).map(|epoch| (epoch, &**it)))
    }
}

impl Hash for State {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.nodes.hash(state);
        self.network.hash(state);
        self.metadata.hash(state);
        self.ghost.hash(state);
        self.spent.hash(state);
        self.violation.hash(state);
    }
}

impl PartialEq for State {
    fn eq(&self, other: &Self) -> bool {
        self.nodes == other.nodes
            && self.network == other.network
            && self.metadata == other.metadata
            && self.ghost == other.ghost
            && self.spent == other.spent
            && self.violation == other.violation
    }
}
