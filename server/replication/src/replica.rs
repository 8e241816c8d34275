//! A replica: what it holds, what it is told, and how it promises.

use millstream_planted::planted;
use millstream_protocol::{LeaderEpoch, Offset};

use crate::BrokerId;
use crate::durable::Durable;
use crate::effect::{Appointment, Deposition, Durability, Effect, Input};
use crate::follower::{Following, Writing};
use crate::leader::Leading;
use crate::message::Message;
use crate::sealing::{Answer, Sealing};
use crate::view::LogView;

/// What a replica is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// It takes what a leader sends, if there is one.
    Follower,
    /// It is to lead, and gathers promises and entries.
    Sealing,
    /// It leads.
    Leader,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum State {
    Following(Following),
    Sealing(Sealing),
    Leading(Leading),
}

/// One partition's replica on one broker. See the [crate](crate) for the order of calls.
///
/// # Panics
///
/// All its methods assert the protocol's invariants, in release builds as well: a broker on which
/// one does not hold must stop before it loses something.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Replica {
    pub(crate) me: BrokerId,
    /// What it has decided to have on its disk.
    pub(crate) wanted: Durable,
    /// What it is known to have on its disk.
    pub(crate) durable: Durable,
    pub(crate) log: LogView,
    pub(crate) appointment: Option<Appointment>,
    /// Everything below is committed, and verified to be here.
    pub(crate) high_watermark: Offset,
    /// The records below are to be deleted, as far as they are known to be committed.
    pub(crate) to_delete: Offset,
    pub(crate) state: State,
    /// A write is under way.
    pub(crate) writing: Option<Writing>,
    /// The time of the last step.
    pub(crate) now_ms: u64,
    /// What the step under way wants to be done.
    pub(crate) effects: Vec<Effect>,
}

impl Replica {
    /// A replica with what is on its disk: what was there at the last stop, or what a new one begins
    /// with (see [`Durable::assigned`] and [`Durable::registered`]), which is stored before this. It
    /// follows: an epoch in which it led is not resumed.
    pub fn open(me: BrokerId, durable: Durable, log: LogView, effects: &mut Vec<Effect>) -> Self {
        // It is the shell's to look whether the log has all of it.
        let durable = Durable {
            deleted: durable.deleted.min(log.end()),
            committed: durable.committed.min(log.end()),
            ..durable
        };
        let known = log.start().max(durable.deleted).max(durable.committed);
        let mut replica = Self {
            me,
            wanted: durable,
            durable,
            high_watermark: known,
            to_delete: durable.deleted,
            log,
            appointment: None,
            state: State::Following(Following::default()),
            writing: None,
            now_ms: 0,
            effects: Vec::new(),
        };
        // Entries of an epoch that was never promised on the disk are as good as the promise.
        replica.promise(replica.log.tip().epoch);
        effects.append(&mut replica.effects);
        replica
    }

    /// Takes what has happened at `now_ms`, on any clock that does not go back, and appends what is
    /// to be done.
    pub fn step(&mut self, now_ms: u64, input: Input, effects: &mut Vec<Effect>) {
        assert!(
            self.writing.is_none() || matches!(input, Input::Written { .. } | Input::NotRestarted),
            "the end of a write is told before anything else"
        );
        let (mut high_watermark, promised) = (self.high_watermark, self.wanted.promised);
        self.now_ms = now_ms;
        std::mem::swap(&mut self.effects, effects);
        match input {
            Input::Appointed(appointment) => self.appointed(appointment),
            Input::Received { from, message } => self.received(from, message),
            Input::Persisted(durable) => self.persisted(durable),
            Input::Written { end } => self.written(end),
            Input::NotRestarted => {
                self.not_restarted();
                high_watermark = self.high_watermark;
            }
            Input::Flushed { offset } => {
                self.log.set_flushed(offset);
                self.flushed();
            }
            Input::Retained { start } => {
                assert!(
                    start <= self.high_watermark,
                    "only what is committed outlives its retention"
                );
                self.log.set_start(start);
            }
            Input::Delete { below } => self.delete(below),
            Input::Remember => self.remember(),
            Input::Linked { peer } => self.linked(peer),
            Input::Tick => self.tick(),
        }
        self.forget();
        self.pump();
        std::mem::swap(&mut self.effects, effects);
        assert!(
            self.high_watermark >= high_watermark && self.wanted.promised >= promised,
            "neither the high watermark nor a promise goes back"
        );
        assert!(
            self.high_watermark <= self.log.end(),
            "what is committed is here"
        );
        assert!(
            self.wanted.deleted.max(self.wanted.committed) <= self.high_watermark,
            "only what is committed is deleted, or said to be committed"
        );
    }

    /// When [`Input::Tick`] is due, if nothing happens before.
    pub fn deadline(&self) -> Option<u64> {
        match &self.state {
            State::Following(_) => None,
            State::Sealing(sealing) => Some(sealing.retry_at_ms),
            State::Leading(leading) => leading.deadline(),
        }
    }

    /// What it is.
    pub fn role(&self) -> Role {
        match &self.state {
            State::Following(_) => Role::Follower,
            State::Sealing(_) => Role::Sealing,
            State::Leading(_) => Role::Leader,
        }
    }

    /// The epoch in which it leads, and in which its shell may append.
    pub fn leading(&self) -> Option<LeaderEpoch> {
        match &self.state {
            State::Leading(leading) => Some(leading.epoch),
            State::Following(_) | State::Sealing(_) => None,
        }
    }

    /// Who was appointed to lead, as far as it knows, and in which epoch.
    pub fn appointed_leader(&self) -> Option<(BrokerId, LeaderEpoch)> {
        let appointment = self.appointment.as_ref()?;
        Some((appointment.leader, appointment.epoch))
    }

    /// Everything below is committed and may be seen.
    pub fn high_watermark(&self) -> Offset {
        if planted!(ReadPastCommit) {
            return self.log.end();
        }
        self.high_watermark
    }

    /// Everything below is deleted and not to be seen, although it may be in the log yet.
    pub fn hidden(&self) -> Offset {
        self.to_delete.min(self.high_watermark)
    }

    /// Whether a log is to be flushed that otherwise need not be: to count again, or for a deletion to
    /// be for good.
    pub fn wants_flush(&self) -> bool {
        !self.durable.trusted || self.to_delete > self.wanted.deleted
    }

    /// Whether the high watermark covers all that was committed in older epochs. Where it does not
    /// yet, the end of the log is not to be told to anybody.
    pub fn is_settled(&self) -> bool {
        match &self.state {
            State::Leading(leading) => self.high_watermark >= leading.start,
            State::Following(_) | State::Sealing(_) => false,
        }
    }

    /// What is on its disk besides its log.
    pub fn durable(&self) -> Durable {
        self.durable
    }

    /// What it knows of its log.
    pub fn log(&self) -> &LogView {
        &self.log
    }

    fn appointed(&mut self, appointment: Appointment) {
        let known = self.appointment.as_ref();
        if known.is_some_and(|known| known.version >= appointment.version) {
            return;
        }
        assert!(
            known.is_none_or(|known| known.epoch <= appointment.epoch),
            "epochs do not go back"
        );
        let epoch = appointment.epoch;
        let needed = (self.high_watermark, self.hidden());
        let own = appointment.directories.get(&self.me);
        let is_mine = appointment.leader == self.me && own == Some(&self.wanted.directory);
        let is_accepted = appointment.accepted == Some(self.wanted.directory);
        self.appointment = Some(appointment);
        if is_accepted && !self.wanted.trusted {
            self.wanted.trusted = true;
            self.effects.push(Effect::Persist(self.wanted));
        }
        match &mut self.state {
            State::Leading(leading) if leading.epoch == epoch => {
                if let Some(appointment) = &self.appointment {
                    leading.learn(appointment, self.me, needed);
                }
                self.advance();
            }
            State::Sealing(sealing) if sealing.epoch == epoch => {}
            _ => {
                self.step_down(Deposition::Appointed(epoch));
                // What was promised before is not led: a candidate of that epoch may have been
                // here before a restart.
                if is_mine && self.wanted.promised < epoch {
                    self.promise(epoch);
                    self.begin_sealing(epoch);
                } else if let State::Following(Following {
                    asked_by: Some((from, epoch)),
                    ..
                }) = self.state
                {
                    self.seal(from, epoch);
                }
            }
        }
    }

    fn received(&mut self, from: BrokerId, message: Message) {
        match message {
            Message::Seal { epoch } => self.seal(from, epoch),
            Message::Sealed {
                epoch,
                durable,
                tip,
                high_watermark,
            } => {
                let answer = Answer {
                    durable,
                    tip,
                    high_watermark,
                };
                self.sealed(from, epoch, answer);
            }
            Message::Fetch {
                epoch,
                directory,
                tip,
                from: position,
            } => self.fetch(from, epoch, directory, tip, position),
            Message::Fetched { epoch, span } => self.fetched(from, epoch, span),
            Message::Parted {
                epoch,
                asked,
                floor,
            } => self.parted(from, epoch, asked, floor),
            Message::Append {
                epoch,
                span,
                high_watermark,
                deleted,
                asks,
            } => self.append(from, (epoch, span), (high_watermark, deleted), asks),
            Message::Ack(ack) => self.acknowledged(from, ack),
            Message::Mismatch {
                epoch,
                asked,
                floor,
            } => self.mismatched(from, epoch, asked, floor),
            Message::Trust { epoch, directory } => self.trust(from, epoch, directory),
        }
    }

    /// Promises to follow no older epoch than this one, and gives up what it was in an older one.
    pub(crate) fn promise(&mut self, epoch: LeaderEpoch) {
        if epoch <= self.wanted.promised {
            return;
        }
        self.wanted.promised = epoch;
        self.step_down(Deposition::Promised(epoch));
        self.state = State::Following(Following::default());
        self.effects.push(Effect::Persist(self.wanted));
    }

    pub(crate) fn step_down(&mut self, reason: Deposition) {
        let epoch = match &self.state {
            State::Following(_) => return,
            State::Sealing(sealing) => sealing.epoch,
            State::Leading(leading) => leading.epoch,
        };
        self.state = State::Following(Following::default());
        self.effects.push(Effect::Deposed { epoch, reason });
    }

    fn persisted(&mut self, durable: Durable) {
        assert!(
            durable.promised >= self.durable.promised && durable.promised <= self.wanted.promised,
            "a promise on the disk does not go back"
        );
        self.durable = durable;
        match &self.state {
            State::Following(_) => {
                self.answer_seal();
                self.acknowledge();
            }
            State::Sealing(_) => self.promised_oneself(),
            State::Leading(_) => self.advance(),
        }
    }

    fn written(&mut self, end: Offset) {
        match self.writing.take() {
            Some(Writing::Span {
                runs, until, then, ..
            }) => {
                assert!(end >= self.log.end(), "a write does not shorten the log");
                self.log.extend(&runs, end);
                assert!(self.log.end() == end, "what was written was sent");
                match &self.state {
                    State::Following(_) => self.span_taken(then),
                    State::Sealing(_) if end < until => {
                        self.step_down(Deposition::NotWritten);
                    }
                    State::Sealing(_) => self.adopt(),
                    State::Leading(_) => {}
                }
            }
            Some(Writing::EpochStart) => {
                let base = self.log.end();
                self.log.grow(self.wanted.promised, end);
                if end == base + 1 {
                    self.activate(base);
                } else {
                    self.step_down(Deposition::NotWritten);
                }
            }
            None => {
                let epoch = self.leading();
                assert!(
                    epoch.is_some() || end == self.log.end(),
                    "only a leader appends by itself"
                );
                if let Some(epoch) = epoch {
                    self.log.grow(epoch, end);
                    self.advance();
                }
            }
        }
    }

    /// Notes what is deleted of what is committed and on the disk: the log ends behind it, whatever
    /// happens. One note at a time: the next one takes what has come meanwhile.
    fn forget(&mut self) {
        let deleted = self.hidden().min(self.log.flushed());
        let is_free = self.writing.is_none() && self.durable == self.wanted;
        if deleted > self.wanted.deleted && is_free {
            self.wanted.deleted = deleted;
            self.effects.push(Effect::Persist(self.wanted));
        }
    }

    fn remember(&mut self) {
        let settled = self.high_watermark.min(self.log.flushed());
        if settled > self.wanted.committed {
            self.wanted.committed = settled;
            self.effects.push(Effect::Persist(self.wanted));
        }
    }

    fn flushed(&mut self) {
        match &self.state {
            State::Following(_) => self.acknowledge(),
            State::Sealing(_) => {}
            State::Leading(_) => {
                self.trust_oneself();
                self.advance();
            }
        }
    }

    fn tick(&mut self) {
        match &mut self.state {
            State::Following(_) => {}
            State::Sealing(_) => self.seal_again(),
            State::Leading(leading) => leading.ask_again(self.now_ms),
        }
    }

    fn linked(&mut self, peer: BrokerId) {
        match &mut self.state {
            State::Following(_) => {}
            State::Sealing(_) => self.seal_again(),
            State::Leading(leading) => leading.ask(self.now_ms, peer),
        }
    }

    pub(crate) fn durability(&self) -> Durability {
        let appointment = self.appointment.as_ref();
        appointment.map_or(Durability::Sync, |it| it.durability)
    }

    pub(crate) fn send(&mut self, to: BrokerId, message: Message) {
        self.effects.push(Effect::Send { to, message });
    }

    pub(crate) fn refuse(&mut self, from: BrokerId, reason: &'static str) {
        self.effects.push(Effect::Refused { from, reason });
    }
}
