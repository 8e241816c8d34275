//! Following: promises, entries of a leader, acknowledgements.

use millstream_planted::planted;
use millstream_protocol::{LeaderEpoch, Offset};

use crate::BrokerId;
use crate::durable::DirectoryId;
use crate::effect::{Deposition, Durability, Effect};
use crate::message::{Ack, Message};
use crate::replica::{Replica, State};
use crate::view::{LogView, Position, Run, Span};

/// What a follower knows of the leader of the epoch that it has promised.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Following {
    /// Who has sent entries in this epoch.
    leader: Option<BrokerId>,
    /// Up to here the log is the leader's.
    verified: Offset,
    /// Who waits for a promise, of this epoch: for the appointment to be known here, and for the
    /// promise to be on the disk.
    pub(crate) asked_by: Option<(BrokerId, LeaderEpoch)>,
    /// What the last acknowledgement said, for not saying it twice.
    said: Option<Ack>,
    /// The leader has asked, and waits.
    owes_answer: bool,
}

/// A write under way, and what it will have added to the log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Writing {
    Span {
        runs: Vec<Run>,
        until: Offset,
        then: Taken,
        /// The log, and the high watermark, that are thrown away for it.
        instead_of: Option<Box<(LogView, Offset)>>,
    },
    EpochStart,
}

/// What holds once a span is in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Taken {
    until: Offset,
    high_watermark: Offset,
    /// The leader wants an answer.
    asks: bool,
}

/// Why a span cannot be taken.
pub(crate) enum Unfit {
    /// The log does not have the span's first position. This is the last one that they may have in
    /// common.
    Parted(Position),
    /// It differs from what is settled: no sound replica sends it.
    Differs,
}

impl Replica {
    /// A leader-to-be asks for a promise.
    pub(crate) fn seal(&mut self, from: BrokerId, epoch: LeaderEpoch) {
        if epoch < self.wanted.promised || self.is_anothers(from, epoch) {
            return;
        }
        if self.is_known(epoch) {
            self.promise(epoch);
        }
        if let State::Following(following) = &mut self.state {
            following.asked_by = Some((from, epoch));
        }
        self.answer_seal();
    }

    /// Answers whoever waits for a promise, once it is on the disk.
    pub(crate) fn answer_seal(&mut self) {
        let promised = self.wanted.promised;
        let is_durable = self.durable.promised == promised;
        let State::Following(following) = &mut self.state else {
            return;
        };
        if (is_durable || planted!(AnswerBeforePromise))
            && let Some((candidate, _)) = following.asked_by.take_if(|it| it.1 == promised)
        {
            self.say_sealed(candidate);
        }
    }

    fn say_sealed(&mut self, to: BrokerId) {
        let message = Message::Sealed {
            epoch: self.wanted.promised,
            durable: self.durable,
            tip: self.log.tip(),
            high_watermark: self.high_watermark,
        };
        self.send(to, message);
    }

    /// A leader-to-be asks for entries, of the log that this was when it promised.
    pub(crate) fn fetch(
        &mut self,
        from: BrokerId,
        epoch: LeaderEpoch,
        directory: DirectoryId,
        tip: Position,
        asked: Position,
    ) {
        if epoch != self.durable.promised || epoch != self.wanted.promised {
            return;
        }
        if directory != self.durable.directory || tip != self.log.tip() {
            // It is another log by now. The candidate decides anew.
            return self.say_sealed(from);
        }
        let floor = self.log.floor(asked);
        // Who is behind the log's start begins there.
        let message = if floor == asked || asked.offset <= self.log.start() {
            let span = self.log.span(floor);
            Message::Fetched { epoch, span }
        } else {
            Message::Parted {
                epoch,
                asked,
                floor,
            }
        };
        self.send(from, message);
    }

    /// A leader's entries.
    pub(crate) fn append(
        &mut self,
        from: BrokerId,
        (epoch, span): (LeaderEpoch, Span),
        (high_watermark, deleted): (Offset, Offset),
        asks: bool,
    ) {
        if !span.is_sound(epoch) {
            return self.refuse(from, "its entries do not hold together");
        }
        if deleted > high_watermark {
            return self.refuse(from, "it deletes what is not committed");
        }
        let is_late = epoch < self.wanted.promised;
        if is_late || !self.is_known(epoch) || self.is_anothers(from, epoch) {
            return;
        }
        self.promise(epoch);
        let State::Following(following) = &mut self.state else {
            return;
        };
        following.leader = Some(from);
        self.to_delete = self.to_delete.max(deleted);
        let is_first = following.said.is_none();
        if planted!(TruncateToHighWatermark) && is_first && self.log.end() > self.high_watermark {
            self.cut(self.high_watermark);
        }
        let then = Taken {
            until: span.until,
            high_watermark,
            asks,
        };
        let asked = span.prev;
        match self.take(span, then) {
            Ok(()) if self.writing.is_none() => self.span_taken(then),
            Ok(()) => {}
            Err(Unfit::Parted(floor)) => {
                let message = Message::Mismatch {
                    epoch,
                    asked,
                    floor,
                };
                self.send(from, message);
            }
            Err(Unfit::Differs) => self.refuse(from, "its entries differ from what is committed"),
        }
    }

    /// Whether metadata is known to have handed out an epoch. Nothing is promised before: an epoch that
    /// never comes would be for ever.
    fn is_known(&self, epoch: LeaderEpoch) -> bool {
        let appointed = self.appointed_leader();
        appointed.is_some_and(|(_, newest)| epoch <= newest)
    }

    /// Whether somebody else is known to lead in an epoch: was appointed in it, or has sent entries.
    fn is_anothers(&mut self, from: BrokerId, epoch: LeaderEpoch) -> bool {
        let appointed = self.appointed_leader().filter(|it| it.1 == epoch);
        let followed = match &self.state {
            State::Following(it) if epoch == self.wanted.promised => it.leader,
            _ => None,
        };
        let leader = appointed.map_or(followed, |it| Some(it.0));
        let is_anothers = leader.is_some_and(|leader| leader != from);
        if is_anothers {
            self.refuse(from, "it wants to lead in an epoch that is another's");
        }
        is_anothers
    }

    /// Makes the log equal to another one over a span.
    pub(crate) fn take(&mut self, span: Span, then: Taken) -> Result<(), Unfit> {
        let mut instead_of = None;
        if !self.log.has(span.prev) {
            if !span.from_start {
                return Err(Unfit::Parted(self.log.floor(span.prev)));
            }
            // What is settled up to there is another position.
            if span.prev.offset <= self.settled() {
                return Err(Unfit::Differs);
            }
            self.effects.push(Effect::Restart { at: span.prev });
            let log = std::mem::replace(&mut self.log, LogView::empty_at(span.prev));
            instead_of = Some(Box::new((log, self.high_watermark)));
            // Where a log begins, everything before was committed.
            self.high_watermark = span.prev.offset;
        } else if let Some(to) = self.log.divergence(&span) {
            if to < self.settled() {
                return Err(Unfit::Differs);
            }
            self.cut(to);
        }
        let grows = span.until > self.log.end();
        if grows {
            let from = self.log.end();
            self.effects.push(Effect::Write { from });
        }
        if grows || instead_of.is_some() {
            self.writing = Some(Writing::Span {
                runs: span.runs,
                until: span.until,
                then,
                instead_of,
            });
        }
        Ok(())
    }

    /// Below this the log is committed, or was found to be the leader's: it does not change any more.
    fn settled(&self) -> Offset {
        match &self.state {
            State::Following(following) => following.verified.max(self.high_watermark),
            State::Sealing(_) | State::Leading(_) => self.high_watermark,
        }
    }

    pub(crate) fn cut(&mut self, to: Offset) {
        assert!(
            to >= self.high_watermark,
            "nothing below the high watermark is cut off"
        );
        self.effects.push(Effect::Truncate { to });
        self.log.truncate(to);
    }

    /// The log could not be thrown away: it is as it was, and so is what is known of it. What was to take
    /// its place is sent again.
    pub(crate) fn not_restarted(&mut self) {
        let Some(Writing::Span {
            instead_of: Some(before),
            ..
        }) = self.writing.take()
        else {
            unreachable!("a restart was under way");
        };
        (self.log, self.high_watermark) = *before;
        self.step_down(Deposition::NotWritten);
    }

    /// A leader's span is in the log.
    pub(crate) fn span_taken(&mut self, taken: Taken) {
        let State::Following(following) = &mut self.state else {
            return;
        };
        // A write may have fallen short of the span.
        let until = taken.until.min(self.log.end());
        following.verified = following.verified.max(until);
        self.high_watermark = self
            .high_watermark
            .max(taken.high_watermark.min(following.verified));
        following.owes_answer |= taken.asks;
        self.acknowledge();
    }

    /// Acknowledges what there is, if that is news.
    pub(crate) fn acknowledge(&mut self) {
        let relaxed = self.durability() == Durability::Relaxed;
        let State::Following(following) = &mut self.state else {
            return;
        };
        let Some(leader) = following.leader else {
            return;
        };
        if self.durable.promised != self.wanted.promised {
            return;
        }
        let mut flushed = self.log.flushed().min(following.verified);
        if planted!(AckBeforeFlush) {
            flushed = following.verified;
        }
        let ack = Ack {
            epoch: self.wanted.promised,
            directory: self.durable.directory,
            trusted: self.durable.trusted,
            verified: following.verified,
            flushed,
            high_watermark: self.high_watermark,
            deleted: self.durable.deleted,
            answers: following.owes_answer,
        };
        // What is written counts only where it need not be on the disk.
        let news = following.said.is_none_or(|said| {
            (said.flushed, said.trusted, said.deleted) != (ack.flushed, ack.trusted, ack.deleted)
                || (relaxed && said.verified != ack.verified)
        });
        if news || following.owes_answer {
            following.owes_answer = false;
            following.said = Some(ack);
            self.send(leader, Message::Ack(ack));
        }
    }

    /// The leader has found that everything is here.
    pub(crate) fn trust(&mut self, from: BrokerId, epoch: LeaderEpoch, directory: DirectoryId) {
        let State::Following(following) = &self.state else {
            return;
        };
        let is_meant = following.leader == Some(from)
            && epoch == self.wanted.promised
            && directory == self.wanted.directory;
        if is_meant && !self.wanted.trusted {
            self.wanted.trusted = true;
            self.effects.push(Effect::Persist(self.wanted));
        }
    }
}
