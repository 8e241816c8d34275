//! A turn with several calls, for a worker that has more to do than one call takes.
//!
//! What the calls came to is one commit, so that they pay together for what surrounds a turn: the way to
//! its thread and back, and the journal. While one of them is made, the input of the next is read.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use millstream_protocol::{Offset, WireError};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::Caller;
use crate::partition::PartitionReader;
use crate::workers::deployment::Shared;
use crate::workers::input::{Input, Wanted};
use crate::workers::turn::{Turn, TurnError};

/// A turn makes calls for so long, if there is enough to do and nobody waits for its place. One that takes
/// longer than 20 ms is lowered.
const LONG_TURN: Duration = Duration::from_millis(15);

/// A turn of records.
pub(super) struct LongTurn {
    pub(super) shared: Arc<Shared>,
    pub(super) reader: PartitionReader,
    /// What the first call may have.
    pub(super) wanted: Wanted,
    /// Where the input of further ones is read: not below everything else, as guests are, since a turn waits
    /// for it.
    pub(super) runtime: Handle,
    /// Whether there may be further ones.
    pub(super) goes_on: bool,
}

/// Input that is being read, with its [bytes](Input::bytes).
type Ahead = JoinHandle<Result<(Input, Bytes), WireError>>;

impl LongTurn {
    /// Makes the calls. What goes wrong with one that is not the first counts for nothing: it is met again by
    /// the next turn's first.
    pub(super) fn run(self, caller: &mut Caller<'_>) -> Result<Turn, TurnError> {
        let began = Instant::now();
        let Caller {
            setting,
            instance,
            start,
        } = caller;
        let first = Input::read(&self.reader, &self.wanted)?;
        let mut ahead = self.read_ahead(first.next_offset);
        let mut turn = setting.run(instance, *start, first)?;
        let mut calls = 1;
        while let Some(reading) = ahead
            .take()
            .filter(|_| turn.is_open() && !self.is_awaited())
        {
            let read = self.runtime.block_on(reading).ok().and_then(Result::ok);
            let Some((input, bytes)) = read.filter(|(input, _)| !input.is_empty()) else {
                break;
            };
            // One more would take as long as one of these, on average.
            if began.elapsed() * (calls + 2) / calls < LONG_TURN {
                ahead = self.read_ahead(input.next_offset);
            }
            let Ok(next) = setting.run_joined(instance, *start, input, bytes) else {
                break;
            };
            turn.append(next);
            calls += 1;
        }
        Ok(turn)
    }

    fn is_awaited(&self) -> bool {
        self.shared.threads.any_waits()
    }

    /// Begins to read what follows, if there is something and it may be handled in this turn.
    fn read_ahead(&self, offset: Offset) -> Option<Ahead> {
        if !self.goes_on || !self.reader.has_visible(offset) || self.is_awaited() {
            return None;
        }
        let reader = self.reader.clone();
        let wanted = Wanted {
            offset,
            ..self.wanted.clone()
        };
        let read = move || {
            let input = Input::read(&reader, &wanted)?;
            let bytes = input.bytes();
            Ok((input, bytes))
        };
        Some(self.runtime.spawn_blocking(read))
    }
}
