//! A turn with several calls, for a worker that has more to do than one call takes.
//!
//! What the calls came to is one commit, so that they pay together for what surrounds a turn: the way to
//! its thread and back, and the journal. While one of them is made, what the next one is about is read.

use std::sync::Arc;
use std::time::{Duration, Instant};

use millstream_protocol::{Offset, WireError};
use millstream_runtime::thread_cpu_time;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::guest::Caller;
use crate::partition::{PartitionReader, ReadBatches};
use crate::workers::deployment::Shared;
use crate::workers::input::{Input, TURN_BYTES, Wanted};
use crate::workers::turn::{Turn, TurnError};

/// A turn makes further calls while it is expected to end within this, whoever waits: that is what those
/// who take turns with a long call get for it. One that takes longer than 20 ms is lowered.
const LONG_TURN: Duration = Duration::from_millis(15);

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

/// A turn of records.
pub(super) struct LongTurn {
    pub(super) shared: Arc<Shared>,
    pub(super) reader: PartitionReader,
    /// What the first call may have.
    pub(super) wanted: Wanted,
    /// Where it is read for further ones: not below everything else, as guests are, since a turn waits for it.
    pub(super) runtime: Handle,
    /// Whether there may be further ones.
    pub(super) goes_on: bool,
}

/// What is being read.
type Ahead = JoinHandle<Result<ReadBatches, WireError>>;

impl LongTurn {
    /// Makes the calls, until one fails that is not the first: the turn counts without it, and what it failed
    /// with comes beside it.
    pub(super) fn run(
        mut self,
        caller: &mut Caller<'_>,
    ) -> Result<(Turn, Option<TurnError>), TurnError> {
        let began = Instant::now();
        let Caller {
            setting,
            instance,
            start,
        } = caller;
        let first = Input::read(&self.reader, &self.wanted)?;
        // Where nothing was left of what was read, only the way to the next record counts.
        self.goes_on &= !first.is_empty();
        let mut ahead = self.read_ahead(first.next_offset);
        let mut turn = setting.run(instance, *start, first)?;
        while let Some(reading) = ahead.take() {
            // One more takes as long as one of these, on average.
            let expected = |more| began.elapsed() * (turn.calls + more) / turn.calls.max(1);
            if !turn.is_open() || expected(1) > LONG_TURN {
                break;
            }
            let two_more = expected(2) < LONG_TURN;
            // Where it cannot be read, the next turn says so.
            let Ok(Ok(read)) = self.runtime.block_on(reading) else {
                break;
            };
            self.wanted.offset = turn.input.next_offset;
            let Ok(input) = Input::of(read, &self.wanted) else {
                break;
            };
            if input.is_empty() {
                break;
            }
            if two_more {
                ahead = self.read_ahead(input.next_offset);
            }
            match setting.run(instance, *start, input) {
                Ok(next) => turn.append(next),
                Err(failed) => return Ok((turn, Some(failed))),
            }
        }
        Ok((turn, None))
    }

    /// Begins to read what follows, if there is something and it may be handled in this turn.
    fn read_ahead(&self, offset: Offset) -> Option<Ahead> {
        if !self.goes_on || !self.reader.has_visible(offset) {
            return None;
        }
        let (reader, shared) = (self.reader.clone(), Arc::clone(&self.shared));
        let read = move || {
            let before = thread_cpu_time();
            let read = reader.read_blocking(offset, TURN_BYTES);
            let took = thread_cpu_time().saturating_sub(before);
            shared.share.take(took, Instant::now());
            read
        };
        Some(self.runtime.spawn_blocking(read))
    }
}

#[cfg(test)]
mod tests {
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
