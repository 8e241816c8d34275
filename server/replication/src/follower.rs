//! Following: promises, entries of a leader, acknowledgements.

use millstream_protocol::{LeaderEpoch, Offset};

use crate::BrokerId;
use crate::durable::DirectoryId;
use crate::effect::{Durability, Effect};
use crate::message::{Ack, Message};
use crate::replica::{Replica, State};
use crate::view::{Position, Run, Span};

/// What a follower knows of the leader of the epoch that it has promised.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Following {
    /// Who has sent entries in this epoch.
    leader: Option<BrokerId>,
    /// Up to here the log is the leader's.
    verified: Offset,
    /// Who waits for the promise to be on the disk.
    asked_by: Option<BrokerId>,
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
    },
    EpochStart {
        epoch: LeaderEpoch,
    },
}

/// What holds once a span is in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Taken {
    until: Offset,
    high_watermark: Offset,
    /// The leader wants an answer.
    asks: bool,
}

impl Replica {
    /// A leader-to-be asks for a promise.
    pub(crate) fn seal(&mut self, from: BrokerId, epoch: LeaderEpoch, effects: &mut Vec<Effect>) {
        if epoch < self.wanted.promised {
            return;
        }
        if self.is_led_by_another(epoch, from) {
            let reason = "it wants to lead in an epoch that is another's";
            return effects.push(Effect::Refused { from, reason });
        }
        self.promise(epoch, effects);
        match &mut self.state {
            State::Following(following) => following.asked_by = Some(from),
            State::Sealing(_) | State::Leading(_) => {
                let reason = "it wants to lead in an epoch that is led from here";
                effects.push(Effect::Refused { from, reason });
            }
        }
        self.answer_seal(effects);
    }

    /// Answers whoever waits for a promise, once it is on the disk.
    pub(crate) fn answer_seal(&mut self, effects: &mut Vec<Effect>) {
        let is_durable = self.durable.promised == self.wanted.promised;
        let State::Following(following) = &mut self.state else {
            return;
        };
        if (is_durable || planted!(AnswerBeforePromise))
            && let Some(candidate) = following.asked_by.take()
        {
            self.say_sealed(candidate, effects);
        }
    }

    fn say_sealed(&self, to: BrokerId, effects: &mut Vec<Effect>) {
        let message = Message::Sealed {
            epoch: self.wanted.promised,
            durable: self.durable,
            tip: self.log.tip(),
            high_watermark: self.high_watermark,
        };
        self.send(to, message, effects);
    }

    /// A leader-to-be asks for entries, of the log that this was when it promised.
    pub(crate) fn fetch(
        &mut self,
        from: BrokerId,
        epoch: LeaderEpoch,
        (directory, tip): (DirectoryId, Position),
        asked: Position,
        effects: &mut Vec<Effect>,
    ) {
        if epoch != self.durable.promised || epoch != self.wanted.promised {
            return;
        }
        if directory != self.durable.directory || tip != self.log.tip() {
            // It is another log by now. The candidate decides anew.
            return self.say_sealed(from, effects);
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
        self.send(from, message, effects);
    }

    /// A leader's entries.
    pub(crate) fn append(
        &mut self,
        from: BrokerId,
        epoch: LeaderEpoch,
        span: Span,
        (high_watermark, asks): (Offset, bool),
        effects: &mut Vec<Effect>,
    ) {
        if !span.is_sound(epoch) {
            let reason = "its entries do not hold together";
            return effects.push(Effect::Refused { from, reason });
        }
        if epoch < self.wanted.promised {
            return;
        }
        if self.is_led_by_another(epoch, from) {
            let reason = "it leads in an epoch that is another's";
            return effects.push(Effect::Refused { from, reason });
        }
        self.promise(epoch, effects);
        let State::Following(following) = &mut self.state else {
            let reason = "it leads in an epoch that is led from here";
            return effects.push(Effect::Refused { from, reason });
        };
        if *following.leader.get_or_insert(from) != from {
            let reason = "it leads in an epoch that another one leads in";
            return effects.push(Effect::Refused { from, reason });
        }
        let is_first = following.said.is_none();
        if planted!(TruncateToHighWatermark) && is_first && self.log.end() > self.high_watermark {
            self.cut(self.high_watermark, effects);
        }
        let then = Taken {
            until: span.until,
            high_watermark,
            asks,
        };
        match self.take(span, then, effects) {
            Ok(()) if self.writing.is_none() => self.span_taken(then, effects),
            Ok(()) => {}
            Err((asked, floor)) => {
                let message = Message::Mismatch {
                    epoch,
                    asked,
                    floor,
                };
                self.send(from, message, effects);
            }
        }
    }

    /// Makes the log equal to another one over a span. If the log does not have the span's first
    /// position, `Err` has that and the last one that they may have in common.
    pub(crate) fn take(
        &mut self,
        span: Span,
        then: Taken,
        effects: &mut Vec<Effect>,
    ) -> Result<(), (Position, Position)> {
        let mut restarted = false;
        if !self.log.has(span.prev) {
            if !span.from_start {
                return Err((span.prev, self.log.floor(span.prev)));
            }
            assert!(
                span.prev.offset >= self.high_watermark,
                "nothing below the high watermark is thrown away"
            );
            effects.push(Effect::Restart { at: span.prev });
            self.log = crate::LogView::empty_at(span.prev);
            // Where a log begins, everything before was committed.
            self.high_watermark = span.prev.offset;
            restarted = true;
        }
        if let Some(to) = self.log.divergence(&span) {
            self.cut(to, effects);
        }
        let grows = span.until > self.log.end();
        if grows {
            let from = self.log.end();
            effects.push(Effect::Write { from });
        }
        if grows || restarted {
            let (runs, until) = (span.runs, span.until);
            self.writing = Some(Writing::Span { runs, until, then });
        }
        Ok(())
    }

    pub(crate) fn cut(&mut self, to: Offset, effects: &mut Vec<Effect>) {
        assert!(
            to >= self.high_watermark,
            "nothing below the high watermark is cut off"
        );
        effects.push(Effect::Truncate { to });
        self.log.truncate(to);
    }

    /// A leader's span is in the log.
    pub(crate) fn span_taken(&mut self, taken: Taken, effects: &mut Vec<Effect>) {
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
        self.acknowledge(effects);
    }

    /// Acknowledges what there is, if that is news.
    pub(crate) fn acknowledge(&mut self, effects: &mut Vec<Effect>) {
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
            answers: following.owes_answer,
        };
        // What is written counts only where it need not be on the disk.
        let news = following.said.is_none_or(|said| {
            (said.flushed, said.trusted) != (ack.flushed, ack.trusted)
                || (relaxed && said.verified != ack.verified)
        });
        if news || following.owes_answer {
            following.owes_answer = false;
            following.said = Some(ack);
            self.send(leader, Message::Ack(ack), effects);
        }
    }

    /// The leader has found that everything is here.
    pub(crate) fn trust(
        &mut self,
        from: BrokerId,
        epoch: LeaderEpoch,
        directory: DirectoryId,
        effects: &mut Vec<Effect>,
    ) {
        let State::Following(following) = &self.state else {
            return;
        };
        let is_meant = following.leader == Some(from)
            && epoch == self.wanted.promised
            && directory == self.wanted.directory;
        if is_meant && !self.wanted.trusted {
            self.wanted.trusted = true;
            effects.push(Effect::Persist(self.wanted));
        }
    }
}

impl Taken {
    /// What a leader-to-be takes from a donor: it decides by itself what that means.
    pub(crate) fn adopted() -> Self {
        Self {
            until: 0,
            high_watermark: 0,
            asks: false,
        }
    }
}
