//! A turn with several calls, for a worker that has more to do than one call takes.
//!
//! What the calls came to is one commit, so that they pay together for what surrounds a turn: the way to
//! its thread and back, and the journal. While one of them is made, what the next one is about is read. Where
//! the next turn needs nothing of what a turn came to, it is made while that is settled: a streak.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use millstream_protocol::{Offset, WireError};
use millstream_runtime::{Waits, thread_cpu_time};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::task::JoinHandle;

use super::guest::Caller;
use crate::partition::PartitionReader;
use crate::workers::deployment::Shared;
use crate::workers::input::{Input, Wanted};
use crate::workers::threads;
use crate::workers::turn::{Turn, TurnError};

/// A turn makes further calls while it is expected to end within this, whoever waits: that is what those
/// who take turns with a long call get for it. One that takes longer than 20 ms is lowered.
const LONG_TURN: Duration = Duration::from_millis(15);

/// A streak ends with the turn that reaches this, so that the worker looks at what else there is to do.
const LONGEST_STREAK: Duration = Duration::from_millis(100);

/// How many turns have one call alone after one of several did not fit into a commit.
const SHORT_TURNS: u32 = 64;

/// What the turns of a worker are like.
#[derive(Default)]
pub(super) struct Pace {
    /// How long each call of the last turn took, if it could have gone on. Not known of a worker that begins.
    call: Option<Duration>,
    /// Turns to come that have one call.
    short_turns: u32,
}

impl Pace {
    /// Whether another call is expected to fit into a turn.
    pub(super) fn goes_on(&self) -> bool {
        self.short_turns == 0 && self.call.is_some_and(|call| call * 2 < LONG_TURN)
    }

    /// A turn that took so long has been made.
    pub(super) fn note(&mut self, turn: &Turn, took: Duration) {
        self.short_turns = self.short_turns.saturating_sub(1);
        self.call = (turn.calls > 0 && turn.is_open()).then(|| took / turn.calls);
    }

    /// A turn of several calls did not fit into a commit.
    pub(super) fn shorten(&mut self) {
        self.short_turns = SHORT_TURNS;
    }
}

/// Turns of records, one after the other.
pub(super) struct Streak {
    pub(super) shared: Arc<Shared>,
    pub(super) reader: PartitionReader,
    /// What the next call may have.
    pub(super) wanted: Wanted,
    /// Where it is read for further ones: not below everything else, as guests are, since a turn waits for it.
    pub(super) runtime: Handle,
    pub(super) waits: Arc<dyn Waits>,
    /// Whether there may be further ones.
    pub(super) goes_on: bool,
    /// Takes the turns but the last. Boxed: a channel makes room for 32 of what it is for, and most workers
    /// never hand one over.
    pub(super) hand_over: mpsc::Sender<Box<Done>>,
}

/// What came of a turn.
pub(super) struct Done {
    pub(super) turn: Turn,
    /// What a call failed with that was not the first: the turn counts without it.
    pub(super) failed: Option<TurnError>,
    pub(super) took: Duration,
    /// The part of it that the guest's thread was busy.
    pub(super) computed: Duration,
}

/// The turns of a streak in their order: those that it hands over, and then what it returns.
pub(super) struct HandedOver<T, F: Future> {
    turns: mpsc::Receiver<T>,
    streak: F,
    returned: Option<F::Output>,
}

impl<T, F: Future + Unpin> HandedOver<T, F> {
    /// `turns` ends no later than the streak does.
    pub(super) fn new(turns: mpsc::Receiver<T>, streak: F) -> Self {
        Self {
            turns,
            streak,
            returned: None,
        }
    }

    /// The next turn that was handed over. That the streak has returned meanwhile is no reason to pass over
    /// one: it may have handed it over in the same moment.
    pub(super) async fn next(&mut self) -> Option<T> {
        loop {
            tokio::select! {
                biased;
                turn = self.turns.recv() => return turn,
                returned = &mut self.streak, if self.returned.is_none() => {
                    self.returned = Some(returned);
                }
            }
        }
    }

    /// What the streak returns. It ends: nobody takes its turns any more.
    pub(super) async fn returned(self) -> F::Output {
        drop(self.turns);
        match self.returned {
            Some(returned) => returned,
            None => self.streak.await,
        }
    }
}

/// What is being read, and its bytes in one piece.
type Ahead = JoinHandle<Result<(Input, Bytes), WireError>>;

impl Streak {
    /// Makes the turns, and gives back the last, if it has not been handed over. An error is of a
    /// turn's first call.
    pub(super) fn run(mut self, caller: &mut Caller<'_>) -> Result<Option<Box<Done>>, TurnError> {
        let began = Instant::now();
        let mut ahead = None;
        loop {
            let done = Box::new(self.turn(caller, &mut ahead)?);
            self.wanted.offset = done.turn.input.next_offset;
            let goes_on = ahead.is_some() && done.failed.is_none() && done.turn.is_open();
            // A prompt turn is as long as one turn may be.
            if !goes_on || !threads::in_background() || began.elapsed() > LONGEST_STREAK {
                return Ok(Some(done));
            }
            match self.hand_over.try_send(done) {
                Ok(()) => {}
                // The journal does not keep up.
                Err(TrySendError::Full(done)) => return Ok(Some(done)),
                Err(TrySendError::Closed(_)) => return Ok(None),
            }
            if self.waits.computed().is_err() {
                return Ok(None);
            }
        }
    }

    /// Makes the calls of one turn, until one fails.
    fn turn(
        &mut self,
        caller: &mut Caller<'_>,
        ahead: &mut Option<Ahead>,
    ) -> Result<Done, TurnError> {
        let (began, before) = (Instant::now(), thread_cpu_time());
        let Caller {
            setting,
            instance,
            start,
        } = caller;
        let (first, bytes) = match ahead.take().and_then(|ahead| self.awaited(ahead)) {
            Some((first, bytes)) => (first, Some(bytes)),
            None => (Input::read(&self.reader, &self.wanted)?, None),
        };
        // Where nothing was left of what was read, only the way to the next record counts.
        self.goes_on &= !first.is_empty();
        *ahead = self.read_ahead(first.next_offset);
        let mut turn = setting.run(instance, *start, first, bytes)?;
        let mut failed = None;
        while failed.is_none() && turn.is_open() {
            // One more takes as long as one of these, on average.
            let expected = began.elapsed() * (turn.calls + 1) / turn.calls.max(1);
            if expected > LONG_TURN {
                break;
            }
            // Where it cannot be read, the next turn says so.
            let Some((input, bytes)) = ahead.take().and_then(|ahead| self.awaited(ahead)) else {
                break;
            };
            if input.is_empty() {
                break;
            }
            *ahead = self.read_ahead(input.next_offset);
            match setting.run(instance, *start, input, Some(bytes)) {
                Ok(next) => turn.append(next),
                Err(error) => failed = Some(error),
            }
        }
        Ok(Done {
            turn,
            failed,
            took: began.elapsed(),
            computed: thread_cpu_time().saturating_sub(before),
        })
    }

    /// Begins to read what follows, if there is something and it may be handled without a look at what came
    /// before.
    fn read_ahead(&self, offset: Offset) -> Option<Ahead> {
        let wanted = Wanted {
            offset,
            ..self.wanted.clone()
        };
        if !self.goes_on || offset >= wanted.until || !self.reader.has_visible(offset) {
            return None;
        }
        let (reader, shared) = (self.reader.clone(), Arc::clone(&self.shared));
        let read = move || {
            let before = thread_cpu_time();
            let input = Input::read(&reader, &wanted)?;
            let bytes = input.bytes();
            let took = thread_cpu_time().saturating_sub(before);
            shared.share.take(took, Instant::now());
            Ok((input, bytes))
        };
        Some(self.runtime.spawn_blocking(read))
    }

    /// What was read, if it could be.
    fn awaited(&self, ahead: Ahead) -> Option<(Input, Bytes)> {
        self.runtime.block_on(ahead).ok()?.ok()
    }
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use bytes::Bytes;

    use super::*;
    use crate::workers::input::parked;

    const QUICK: Duration = Duration::from_millis(2);

    fn turn(calls: u32) -> Turn {
        Turn {
            calls,
            ..Turn::default()
        }
    }

    #[test]
    fn turns_go_on_once_one_was_quick_and_open() {
        let mut pace = Pace::default();
        assert!(!pace.goes_on(), "nothing is known yet");
        pace.note(&turn(0), QUICK);
        assert!(!pace.goes_on(), "there was no call");
        pace.note(&turn(1), QUICK);
        assert!(pace.goes_on());
        pace.note(&turn(7), LONG_TURN);
        assert!(pace.goes_on(), "each call took a part of it");
        pace.note(&turn(1), LONG_TURN);
        assert!(!pace.goes_on(), "a second one would take as long");
        let mut closed = turn(1);
        let held = parked(0, None, Bytes::new());
        closed.input.held.push(held);
        pace.note(&closed, QUICK);
        assert!(
            !pace.goes_on(),
            "the next call must not have what is behind that record"
        );
    }

    #[tokio::test]
    async fn what_is_handed_over_in_the_moment_of_the_return_comes_before_it() {
        let (hand_over, turns) = mpsc::channel(1);
        let mut hand_over = Some(hand_over);
        // As a thread that is quicker than the look at both.
        let streak = std::future::poll_fn(|_| {
            hand_over.take().unwrap().try_send("handed over").unwrap();
            Poll::Ready("returned")
        });
        let mut handed_over = HandedOver::new(turns, streak);
        assert_eq!(handed_over.next().await, Some("handed over"));
        assert_eq!(handed_over.next().await, None);
        assert_eq!(handed_over.returned().await, "returned");
    }

    #[tokio::test]
    async fn a_streak_whose_turns_nobody_takes_any_more_ends() {
        let (hand_over, turns) = mpsc::channel(1);
        let streak = tokio::spawn(async move {
            let mut turns = 0;
            while hand_over.send(turns).await.is_ok() {
                turns += 1;
            }
            turns
        });
        let mut handed_over = HandedOver::new(turns, streak);
        assert_eq!(handed_over.next().await, Some(0));
        assert!(handed_over.returned().await.unwrap() >= 1);
    }

    #[test]
    fn turns_are_short_for_a_while_after_one_was_too_large() {
        let mut pace = Pace::default();
        pace.note(&turn(2), QUICK);
        pace.shorten();
        for _ in 0..SHORT_TURNS {
            assert!(!pace.goes_on());
            pace.note(&turn(1), QUICK);
        }
        assert!(pace.goes_on());
    }
}
