//! The way between brokers and their steward: late, lost, repeated.

use millstream_metadata::{Beat, BeatAnswer, Session, Start};

use super::Town;

#[derive(Clone, Debug)]
pub(super) enum Mail {
    Beat(Session, Beat),
    Answer(Start, u32, BeatAnswer),
}

impl Town {
    pub(super) fn send(&mut self, mail: Mail) {
        let (lost, repeated, slow) = match self.is_calm {
            true => (0, 0, 0),
            false => (20, 20, 20),
        };
        let times = match (self.dice.happens(lost), self.dice.happens(repeated)) {
            (true, _) => 0,
            (_, true) => 2,
            _ => 1,
        };
        for _ in 0..times {
            let most_ms = match self.dice.happens(slow) {
                true => 2_000,
                false => 60,
            };
            let due_ms = self.now_ms + self.dice.within(0, most_ms);
            self.mail.push((due_ms, mail.clone()));
        }
    }

    pub(super) fn delivers(&mut self) {
        let now_ms = self.now_ms;
        let (mut due, later): (Vec<_>, Vec<_>) = self
            .mail
            .drain(..)
            .partition(|(due_ms, _)| *due_ms <= now_ms);
        self.mail = later;
        due.sort_by_key(|(due_ms, _)| *due_ms);
        for (due_ms, mail) in due {
            match mail {
                // It is read when the steward is awake.
                Mail::Beat(..) if now_ms < self.sleeps_until_ms => self.mail.push((due_ms, mail)),
                Mail::Beat(session, beat) => self.hears(session, &beat),
                Mail::Answer(start, broker_id, answer) => self.is_told(start, broker_id, &answer),
            }
        }
    }

    pub(super) fn hears(&mut self, to: Session, beat: &Beat) {
        let Some((_, session, steward)) = &mut self.steward else {
            return;
        };
        if *session != to {
            return;
        }
        let answer = steward.beat(self.now_ms, &self.image, beat);
        if let BeatAnswer::Stop(_) = &answer {
            // Nobody is stopped who is the one that is known.
            let known = self.image.broker(beat.broker_id).unwrap();
            assert_ne!(known.start(), beat.start);
        }
        self.send(Mail::Answer(beat.start, beat.broker_id, answer));
    }

    pub(super) fn is_told(&mut self, start: Start, broker_id: u32, answer: &BeatAnswer) {
        let machine = self.machines.get_mut(&broker_id).unwrap();
        if matches!(answer, BeatAnswer::Stop(_)) {
            let before = machine.outlived.len();
            machine.outlived.retain(|it| it.start != start);
            self.exercised.stopped += before - machine.outlived.len();
        }
        let Some(process) = machine.process.as_mut().filter(|it| it.start == start) else {
            return;
        };
        match answer {
            BeatAnswer::Heard { .. } => process.reporter.answered(answer),
            BeatAnswer::Register => process.is_registered = false,
            BeatAnswer::Stop(reason) => panic!("{broker_id} is to stop: {reason}"),
        }
    }
}
