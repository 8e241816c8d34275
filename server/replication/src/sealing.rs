//! Becoming a leader: promises are gathered, the highest log is adopted, the epoch begins.

use std::collections::BTreeMap;

use millstream_planted::planted;
use millstream_protocol::{LeaderEpoch, Offset};

use crate::BrokerId;
use crate::durable::Durable;
use crate::effect::Effect;
use crate::follower::{Taken, Writing};
use crate::leader::Leading;
use crate::limits::RETRY_MS;
use crate::message::Message;
use crate::replica::{Replica, State};
use crate::set::ReplicaSet;
use crate::view::{Position, Span};

/// A leader-to-be.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Sealing {
    pub(crate) epoch: LeaderEpoch,
    /// The replicas as of the appointment.
    replicas: ReplicaSet,
    /// Who has promised, and what it has.
    answers: BTreeMap<BrokerId, Answer>,
    /// Who was asked for entries, and from where on.
    fetching: Option<(BrokerId, Position)>,
    pub(crate) retry_at_ms: u64,
}

/// What a replica has said with its promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Answer {
    pub(crate) durable: Durable,
    pub(crate) tip: Position,
    pub(crate) high_watermark: Offset,
}

impl Sealing {
    /// Those whose answers count.
    fn trusted(&self) -> impl Iterator<Item = (BrokerId, Answer)> {
        let answers = self.answers.iter().map(|(broker, it)| (*broker, *it));
        answers.filter(|(_, it)| it.durable.trusted)
    }

    /// Whether a replica's answer is one of them.
    fn counts(&self, broker: BrokerId) -> bool {
        let answer = self.answers.get(&broker);
        answer.is_some_and(|it| it.durable.trusted)
    }

    /// The replica with the highest log, once enough have promised. Of equals the one here, which
    /// has nothing to fetch.
    fn best(&self, me: BrokerId) -> Option<(BrokerId, Answer)> {
        let highest = |(broker, it): &(BrokerId, Answer)| (it.tip, *broker == me, *broker);
        let is_sealed = self.replicas.seals(|broker| self.counts(broker));
        self.trusted().max_by_key(highest).filter(|_| is_sealed)
    }
}

impl Replica {
    pub(crate) fn begin_sealing(&mut self, epoch: LeaderEpoch) {
        let Some(appointment) = &self.appointment else {
            return;
        };
        self.state = State::Sealing(Sealing {
            epoch,
            replicas: appointment.replicas.clone(),
            answers: BTreeMap::new(),
            fetching: None,
            retry_at_ms: self.now_ms + RETRY_MS,
        });
    }

    /// The own promise is on the disk: others are asked.
    pub(crate) fn promised_oneself(&mut self) {
        let State::Sealing(sealing) = &self.state else {
            return;
        };
        let is_new = !sealing.answers.contains_key(&self.me);
        if is_new && self.durable.promised == sealing.epoch {
            self.seal_again();
            self.adopt();
        }
    }

    /// Asks all that have not answered, and the donor once more.
    pub(crate) fn seal_again(&mut self) {
        let me = self.me;
        let is_durable = self.durable.promised == self.wanted.promised;
        let State::Sealing(sealing) = &mut self.state else {
            return;
        };
        sealing.retry_at_ms = self.now_ms + RETRY_MS;
        if !is_durable {
            return;
        }
        let epoch = sealing.epoch;
        let missing = sealing
            .replicas
            .members()
            .filter(|it| *it != me && !sealing.counts(*it));
        self.effects.extend(missing.map(|to| Effect::Send {
            to,
            message: Message::Seal { epoch },
        }));
        // The same question: what a slow donor has answered meanwhile is still what was asked for.
        if let Some((donor, from)) = sealing.fetching
            && let Some(answer) = sealing.answers.get(&donor).copied()
        {
            self.ask_for((donor, answer), from);
        }
    }

    /// A promise of another replica.
    pub(crate) fn sealed(&mut self, from: BrokerId, epoch: LeaderEpoch, answer: Answer) {
        let State::Sealing(sealing) = &mut self.state else {
            return;
        };
        if sealing.epoch != epoch || !sealing.replicas.contains(from) || from == self.me {
            return;
        }
        let Answer {
            durable,
            tip,
            high_watermark,
        } = answer;
        if !tip.is_sound(epoch.saturating_sub(1)) || high_watermark > tip.offset {
            return self.refuse(
                from,
                "its log is newer than its promise, or shorter than what is committed",
            );
        }
        if durable.deleted > high_watermark {
            return self.refuse(from, "it has deleted what is not committed");
        }
        let appointment = self.appointment.as_ref();
        if appointment.is_some_and(|it| !it.knows(from, durable.directory)) {
            return;
        }
        // An emptied directory's answer is not undone by one that its predecessor gave.
        let known = sealing.answers.get(&from);
        if known.is_some_and(|known| known.durable.directory > durable.directory) {
            return;
        }
        sealing.answers.insert(from, answer);
        if sealing.fetching.is_some_and(|(donor, _)| donor == from) {
            sealing.fetching = None;
        }
        self.adopt();
    }

    /// Goes on as soon as it can be: asks for what is missing, or begins the epoch.
    pub(crate) fn adopt(&mut self) {
        let (me, tip) = (self.me, self.log.tip());
        let is_alone = self.is_alone();
        let State::Sealing(sealing) = &mut self.state else {
            return;
        };
        if self.durable.promised != sealing.epoch || self.writing.is_some() {
            return;
        }
        let own = Answer {
            durable: self.durable,
            tip,
            high_watermark: self.high_watermark,
        };
        sealing.answers.insert(me, own);
        let Some((donor, best)) = sealing.best(me) else {
            return;
        };
        // Nobody leads without what is committed. Which of the two is wrong is not known here.
        let mut answers = sealing.answers.iter();
        if let Some((knows, _)) = answers.find(|(_, it)| it.high_watermark > best.tip.offset) {
            let from = if *knows == me { donor } else { *knows };
            return self.refuse(from, "more is committed than is in the highest log");
        }
        if best.tip == tip {
            // Where nothing ever was, nothing of an older epoch can count; and with a single replica
            // there is no other log that could differ. So there is no need to tell where the own
            // entries begin.
            if tip == Position::default() || is_alone {
                return self.activate(tip.offset);
            }
            let epoch = sealing.epoch;
            self.writing = Some(Writing::EpochStart);
            self.effects.push(Effect::WriteEpochStart { epoch });
        } else if sealing.fetching.is_none_or(|(known, _)| known != donor) {
            self.ask_for((donor, best), tip);
        }
    }

    /// Asks the donor for what follows a position of this log.
    fn ask_for(&mut self, (donor, best): (BrokerId, Answer), from: Position) {
        if let State::Sealing(sealing) = &mut self.state {
            sealing.fetching = Some((donor, from));
            sealing.retry_at_ms = self.now_ms + RETRY_MS;
            let message = Message::Fetch {
                epoch: sealing.epoch,
                directory: best.durable.directory,
                tip: best.tip,
                from,
            };
            self.effects.push(Effect::Send { to: donor, message });
        }
    }

    /// What the donor has answered, if it is the one asked and this is the position asked for.
    fn donor(&self, from: BrokerId, epoch: LeaderEpoch, asked: Position) -> Option<Answer> {
        let State::Sealing(sealing) = &self.state else {
            return None;
        };
        // What comes late is not taken: the log has grown, or another donor was chosen.
        let is_asked = sealing.epoch == epoch && sealing.fetching == Some((from, asked));
        let answer = sealing.answers.get(&from).copied();
        answer.filter(|_| is_asked)
    }

    /// Entries of the donor.
    pub(crate) fn fetched(&mut self, from: BrokerId, epoch: LeaderEpoch, span: Span) {
        let asked = match &self.state {
            // The donor's log begins behind what was asked for.
            State::Sealing(Sealing { fetching, .. }) if span.from_start => fetching.map(|it| it.1),
            _ => Some(span.prev),
        };
        let Some(donor) = asked.and_then(|asked| self.donor(from, epoch, asked)) else {
            return;
        };
        let until = span.until;
        if !span.is_sound(epoch.saturating_sub(1)) || until > donor.tip.offset {
            return self.refuse(from, "its entries do not hold together");
        }
        if self.take(span, Taken::default()).is_err() {
            return self.refuse(from, "its entries do not follow this log");
        }
        if let State::Sealing(sealing) = &mut self.state {
            sealing.fetching = None;
        }
        if self.writing.is_some() {
            return;
        }
        // The two logs are the same up to here, and this one goes on.
        match self.log.position(until) {
            Some(position) if until < donor.tip.offset => {
                self.ask_for((from, donor), position);
            }
            Some(_) => {
                self.cut(until);
                self.adopt();
            }
            None => {
                self.refuse(from, "its log ends before this one begins");
            }
        }
    }

    /// The donor does not have the position asked for.
    pub(crate) fn parted(
        &mut self,
        from: BrokerId,
        epoch: LeaderEpoch,
        asked: Position,
        floor: Position,
    ) {
        let Some(donor) = self.donor(from, epoch, asked) else {
            return;
        };
        // Nothing is cut off before it is known where the logs part.
        let next = self.log.floor(floor);
        if next >= asked {
            return self.refuse(from, "it does not say where the logs part");
        }
        self.ask_for((from, donor), next);
    }

    /// Whether there is no other replica, and none that is to become one.
    fn is_alone(&self) -> bool {
        let sealed = match &self.state {
            State::Sealing(sealing) => Some(&sealing.replicas),
            State::Following(_) | State::Leading(_) => None,
        };
        let decided = self.appointment.as_ref().map(|it| &it.replicas);
        let alone = |set: Option<&ReplicaSet>| {
            set.is_some_and(|set| set.current() == [self.me] && set.next().is_empty())
        };
        alone(sealed) && alone(decided)
    }

    /// The epoch's start is in the log, from `first` on, or it needs none.
    pub(crate) fn activate(&mut self, first: Offset) {
        let State::Sealing(sealing) = &self.state else {
            return;
        };
        let epoch = sealing.epoch;
        assert!(
            self.wanted.promised == epoch,
            "a leader has promised its epoch, and nothing newer"
        );
        // What any of them knows to be committed is in the log. A deletion that was acknowledged is known
        // to one of them.
        for answer in sealing.answers.values() {
            self.high_watermark = self.high_watermark.max(answer.high_watermark);
            if !planted!(SealWithoutDeletions) {
                self.to_delete = self.to_delete.max(answer.durable.deleted);
            }
        }
        let mut leading = Leading::new(epoch, first, self.log.end());
        for (broker, answer) in sealing.trusted() {
            leading.know(broker, answer.durable.directory);
        }
        // A change of the replicas that was decided meanwhile holds from here on.
        if let Some(appointment) = &self.appointment {
            let needed = (self.high_watermark, self.hidden());
            leading.learn(appointment, self.me, needed);
        }
        self.state = State::Leading(leading);
        self.effects.push(Effect::Activated { epoch });
        self.trust_oneself();
        self.advance();
    }
}
