//! Leading: entries go out, acknowledgements come in, the high watermark moves.

use std::collections::BTreeMap;

use millstream_planted::planted;
use millstream_protocol::{LeaderEpoch, Offset};

use crate::BrokerId;
use crate::durable::DirectoryId;
use crate::effect::{Appointment, Durability, Effect};
use crate::limits::{MAX_RETRY_MS, RETRY_MS};
use crate::message::{Ack, Message};
use crate::replica::{Replica, State};
use crate::set::{ReplicaSet, majority_of};
use crate::view::Position;

/// A leader.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Leading {
    pub(crate) epoch: LeaderEpoch,
    /// The offset of its `EpochStart`, from which on followers are sent entries first.
    first: Offset,
    /// The offset behind its `EpochStart`: nothing is committed as long as that is not. The same as
    /// `first` if it has none.
    pub(crate) start: Offset,
    replicas: ReplicaSet,
    /// The version of the appointment that names these replicas.
    version: u64,
    followers: BTreeMap<BrokerId, Follower>,
    /// That the change may be made final was last said then.
    finalised_at_ms: Option<u64>,
}

/// What a leader knows of a follower.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Follower {
    /// Its newest directory. What older ones acknowledge is ignored.
    directory: Option<DirectoryId>,
    /// If it is not trusted: up to here it must have everything, and have deleted what was to be, to be
    /// so. Nothing behind is committed or deleted by counting what an older directory had.
    target: Option<(Offset, Offset)>,
    verified: Offset,
    flushed: Offset,
    deleted: Offset,
    /// Whether its disk says that it is trusted: it counts.
    trusted: bool,
    /// Everything before was sent.
    next: Offset,
    /// Where sending has begun, after the start or a mismatch.
    base: Offset,
    /// The high watermark that was sent, and what is to be deleted, if anything was.
    told: Option<(Offset, Offset)>,
    /// It was asked where it is: nothing is sent until it answers.
    asked: bool,
    /// A question is to be sent.
    ask: bool,
    /// When it is to be asked (again), and how long the wait will be then.
    ask_at_ms: Option<u64>,
    patience_ms: u64,
}

/// How a follower stands, for who looks from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FollowerStatus {
    /// The follower.
    pub broker: BrokerId,
    /// Whether its acknowledgements count.
    pub trusted: bool,
    /// Up to here its log is known to be the leader's.
    pub verified: Offset,
    /// Up to here that is on its disk.
    pub flushed: Offset,
    /// It does not answer.
    pub silent: bool,
}

impl Follower {
    fn new(directory: Option<DirectoryId>, next: Offset) -> Self {
        Self {
            directory,
            next,
            base: next,
            patience_ms: RETRY_MS,
            ..Self::default()
        }
    }

    /// It has another directory: what the older one had is gone. It is trusted again when it has
    /// everything up to `target`.
    fn begin_anew(&mut self, directory: Option<DirectoryId>, target: (Offset, Offset)) {
        self.directory = directory;
        self.target = Some(target);
        (self.verified, self.flushed, self.deleted) = (0, 0, 0);
        self.trusted = false;
    }

    /// How far it counts, if it does.
    fn counts(&self, durability: Durability) -> Option<Offset> {
        let reached = match durability {
            Durability::Sync => self.flushed,
            Durability::Relaxed => self.verified,
        };
        self.trusted.then_some(reached)
    }
}

impl Leading {
    pub(crate) fn new(epoch: LeaderEpoch, first: Offset, start: Offset) -> Self {
        Self {
            epoch,
            first,
            start,
            replicas: ReplicaSet::default(),
            version: 0,
            followers: BTreeMap::new(),
            finalised_at_ms: None,
        }
    }

    /// A replica has promised with this directory.
    pub(crate) fn know(&mut self, broker: BrokerId, directory: DirectoryId) {
        let follower = Follower::new(Some(directory), self.first);
        self.followers.insert(broker, follower);
    }

    /// Metadata has decided who the replicas are.
    pub(crate) fn learn(
        &mut self,
        appointment: &Appointment,
        me: BrokerId,
        (high_watermark, deleted): (Offset, Offset),
    ) {
        self.replicas = appointment.replicas.clone();
        self.version = appointment.version;
        self.finalised_at_ms = None;
        let replicas = &self.replicas;
        self.followers
            .retain(|broker, _| *broker != me && replicas.contains(*broker));
        let (next, target) = (self.first, (self.start.max(high_watermark), deleted));
        for broker in replicas.members().filter(|it| *it != me) {
            let newest = appointment.directories.get(&broker).copied();
            let follower = self.followers.entry(broker);
            let follower = follower.or_insert_with(|| Follower::new(None, next));
            if follower.directory < newest {
                follower.begin_anew(newest, target);
                follower.ask = true;
            }
        }
    }

    pub(crate) fn deadline(&self) -> Option<u64> {
        let asks = self.followers.values().filter_map(|it| it.ask_at_ms);
        asks.chain(self.finalised_at_ms.map(|it| it + MAX_RETRY_MS))
            .min()
    }

    /// Marks those that have been silent for too long.
    pub(crate) fn ask_again(&mut self, now_ms: u64) {
        for follower in self.followers.values_mut() {
            follower.ask |= follower.ask_at_ms.is_some_and(|at_ms| at_ms <= now_ms);
        }
        self.finalised_at_ms
            .take_if(|it| *it + MAX_RETRY_MS <= now_ms);
    }

    /// A follower may not have got what was sent.
    pub(crate) fn ask(&mut self, now_ms: u64, peer: BrokerId) {
        if let Some(follower) = self.followers.get_mut(&peer) {
            follower.patience_ms = RETRY_MS;
            follower.ask_at_ms = Some(now_ms + RETRY_MS);
            follower.ask = true;
        }
    }
}

impl Replica {
    /// How the followers stand; none if it does not lead.
    pub fn followers(&self) -> impl Iterator<Item = FollowerStatus> + '_ {
        let leading = match &self.state {
            State::Leading(leading) => Some(leading),
            State::Following(_) | State::Sealing(_) => None,
        };
        let followers = leading.into_iter().flat_map(|it| &it.followers);
        followers.map(|(broker, follower)| FollowerStatus {
            broker: *broker,
            trusted: follower.trusted,
            verified: follower.verified,
            flushed: follower.flushed,
            silent: follower.asked,
        })
    }

    /// A follower says how far it is.
    pub(crate) fn acknowledged(&mut self, from: BrokerId, ack: Ack) {
        let (end, high_watermark, deleted) = (self.log.end(), self.high_watermark, self.hidden());
        let State::Leading(leading) = &mut self.state else {
            return;
        };
        if ack.epoch != leading.epoch {
            return;
        }
        let needed = (leading.start.max(high_watermark), deleted);
        let Some(follower) = leading.followers.get_mut(&from) else {
            return;
        };
        if ack.verified > end || ack.flushed > ack.verified {
            return self.refuse(from, "it acknowledges what it was not sent");
        }
        if follower.directory > Some(ack.directory) {
            return;
        }
        if follower.directory < Some(ack.directory) {
            follower.begin_anew(Some(ack.directory), needed);
        }
        let grows = ack.verified > follower.verified || ack.flushed > follower.flushed;
        follower.verified = follower.verified.max(ack.verified);
        follower.flushed = follower.flushed.max(ack.flushed);
        follower.deleted = follower.deleted.max(ack.deleted);
        follower.trusted |= ack.trusted;
        let target = *follower.target.get_or_insert(needed);
        if !ack.trusted && ack.flushed >= target.0 && ack.deleted >= target.1 {
            let message = Message::Trust {
                epoch: ack.epoch,
                directory: ack.directory,
            };
            self.effects.push(Effect::Send { to: from, message });
        }
        if ack.answers && std::mem::take(&mut follower.asked) && ack.verified < follower.next {
            // It lacks something that was sent.
            follower.next = ack.verified.max(self.log.start());
            follower.base = follower.next;
        }
        // Who gets nowhere, because its disk is full, is sent the same ever more rarely.
        if grows {
            follower.patience_ms = RETRY_MS;
        }
        let up_to_date = ack.flushed == end
            && ack.trusted
            && ack.high_watermark == high_watermark
            && ack.deleted >= deleted;
        // Who still owes an answer is asked for it again.
        if !follower.asked {
            follower.ask_at_ms = (!up_to_date).then_some(self.now_ms + follower.patience_ms);
        }
        self.advance();
    }

    /// A follower does not have the position from which on it was sent entries.
    pub(crate) fn mismatched(
        &mut self,
        from: BrokerId,
        epoch: LeaderEpoch,
        asked: Position,
        floor: Position,
    ) {
        let State::Leading(leading) = &mut self.state else {
            return;
        };
        if epoch != leading.epoch {
            return;
        }
        if let Some(follower) = leading.followers.get_mut(&from)
            // All that was sent behind the first mismatch is answered alike.
            && (asked.offset == follower.base || follower.asked)
        {
            follower.next = self.log.floor(floor).offset.min(follower.next);
            follower.base = follower.next;
            follower.asked = false;
            follower.patience_ms = RETRY_MS;
        }
    }

    /// A leader whose directory is new counts itself once everything is on its disk.
    pub(crate) fn trust_oneself(&mut self) {
        let State::Leading(leading) = &self.state else {
            return;
        };
        let hidden = self.hidden();
        if !self.wanted.trusted && self.log.flushed() >= leading.start.max(hidden) {
            self.wanted.trusted = true;
            self.wanted.deleted = self.wanted.deleted.max(hidden);
            self.effects.push(Effect::Persist(self.wanted));
        }
    }

    /// How far a replica counts, if it does.
    fn counted(&self, leading: &Leading, broker: BrokerId) -> Option<Offset> {
        let durability = self.durability();
        if broker != self.me {
            return leading.followers.get(&broker)?.counts(durability);
        }
        let reached = match durability {
            Durability::Sync if planted!(CountSelfBeforeFlush) => self.log.end(),
            Durability::Sync => self.log.flushed(),
            Durability::Relaxed => self.log.end(),
        };
        self.durable.trusted.then_some(reached)
    }

    /// What the majority that commits has, if a majority counts.
    fn reached(&self, leading: &Leading) -> Option<Offset> {
        let committing = leading.replicas.committing();
        majority_of(committing, |broker| self.counted(leading, broker))
    }

    /// Somebody wants the records below to be gone.
    pub(crate) fn delete(&mut self, below: Offset) {
        if matches!(self.state, State::Leading(_)) {
            self.to_delete = self.to_delete.max(below.min(self.high_watermark));
        }
    }

    /// A leader's records below are deleted on a majority: no later leader shows them.
    pub fn deleted(&self) -> Offset {
        let State::Leading(leading) = &self.state else {
            return 0;
        };
        if planted!(DeleteAlone) {
            return self.durable.deleted;
        }
        let has_deleted = |broker| match leading.followers.get(&broker) {
            Some(follower) => follower.trusted.then_some(follower.deleted),
            None if broker == self.me => self.durable.trusted.then_some(self.durable.deleted),
            None => None,
        };
        majority_of(leading.replicas.committing(), has_deleted).unwrap_or(0)
    }

    /// Moves the high watermark to what a majority has.
    pub(crate) fn advance(&mut self) {
        let State::Leading(leading) = &self.state else {
            return;
        };
        let Some(reached) = self.reached(leading) else {
            return;
        };
        // Below lies what older epochs wrote: it is committed with the epoch's start, not before.
        if (reached >= leading.start || planted!(NoEpochStart)) && reached > self.high_watermark {
            assert!(reached <= self.log.end(), "what is committed is here");
            self.high_watermark = reached;
        }
    }

    /// Sends followers what they were not sent yet, and questions to the silent ones.
    pub(crate) fn pump(&mut self) {
        self.finalise();
        let (log, high_watermark, deleted) = (&self.log, self.high_watermark, self.hidden());
        let State::Leading(leading) = &mut self.state else {
            return;
        };
        for (broker, follower) in &mut leading.followers {
            let asks = std::mem::take(&mut follower.ask);
            let news = log.end() > follower.next || follower.told < Some((high_watermark, deleted));
            if !asks && (follower.asked || !news) {
                continue;
            }
            let from = match follower.verified {
                verified if asks && verified > 0 => verified,
                _ => follower.next,
            };
            let from = from.max(log.start());
            let Some(prev) = log.position(from) else {
                continue;
            };
            let mut span = log.span(prev);
            if asks {
                span.cut(from);
                follower.base = from;
                follower.patience_ms = (follower.patience_ms * 2).min(MAX_RETRY_MS);
                follower.ask_at_ms = Some(self.now_ms + follower.patience_ms);
            } else {
                follower.next = span.until;
                follower
                    .ask_at_ms
                    .get_or_insert(self.now_ms + follower.patience_ms);
            }
            follower.asked |= asks;
            follower.told = Some((high_watermark, deleted));
            let message = Message::Append {
                epoch: leading.epoch,
                span,
                high_watermark,
                deleted,
                asks,
            };
            self.effects.push(Effect::Send {
                to: *broker,
                message,
            });
        }
    }

    /// Says that the new replicas have everything, when they do.
    fn finalise(&mut self) {
        let State::Leading(leading) = &self.state else {
            return;
        };
        let (epoch, version) = (leading.epoch, leading.version);
        let is_final = !leading.replicas.next().is_empty()
            && leading.finalised_at_ms.is_none()
            && self.high_watermark >= leading.start
            && self.deleted() >= self.hidden()
            && self.reached(leading) >= Some(self.high_watermark);
        if let State::Leading(leading) = &mut self.state
            && is_final
        {
            leading.finalised_at_ms = Some(self.now_ms);
            self.effects.push(Effect::Finalise { epoch, version });
        }
    }
}
