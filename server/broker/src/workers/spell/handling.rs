//! What a worker has its guest handle: the next records, or batches of a deterministic one, a record that was
//! parked, timers; and how it goes on when that fails.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use millstream_protocol::api::plugin::{DeliveryGuarantee, LogLevel};
use millstream_protocol::{ErrorCode, Offset, WireError};
use millstream_runtime::StateChanges;
use millstream_state::Growth;
use millstream_worker::limits::MAX_FIRED_TIMERS;
use millstream_worker::{ParkedRecord, Timer};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::guest::{Caller, Ran, failed_whole};
use super::streak::{Done, HandedOver, Streak};
use super::{Settled, Spell, Trouble};
use crate::clock;
use crate::partition::PartitionReader;
use crate::workers::input::{Input, Stored, Wanted};
use crate::workers::journal;
use crate::workers::settle::{Tried, Unsettled, Work, timer_name};
use crate::workers::turn::{SpotCheck, Turn, TurnError};

/// Of a deterministic guest's turns, the first two of so many begin with a call that is made twice and
/// compared: at a start with an instance that is as new as the one it is compared with, then with one
/// that has something to remember.
const SPOT_CHECK_EVERY: u64 = 64;

/// Records, or timers, of one call of a plugin that is granted requests to other hosts.
const MAX_RECORDS_OF_ASKING_CALL: u32 = 100;

/// Whether what came of records counts.
enum Counts {
    Yes,
    /// Not of several calls together: they are made again, one in a turn.
    NotTogether,
    /// That of the last call does not.
    No(Unsettled),
}

impl Spell {
    /// Records, or timers, that a call may have: few where each may have to wait for a server, because
    /// everything is asked again when a call fails, or takes too long.
    fn at_most(&self, bite: u32) -> u32 {
        if self.shared.spec.grants.http.is_empty() {
            bite
        } else {
            bite.min(MAX_RECORDS_OF_ASKING_CALL)
        }
    }

    /// Handles the next records.
    pub(super) async fn go_on(&mut self, offset: Offset, until: Offset) -> Result<(), Trouble> {
        if self.shared.spec.delivery == DeliveryGuarantee::Deterministic {
            return self.go_on_stored(offset, until).await;
        }
        let (hand_over, turns) = mpsc::channel(1);
        let streak = pin!(self.begin_streak(offset, until, hand_over));
        let mut handed_over = HandedOver::new(turns, streak);
        while let Some(done) = handed_over.next().await {
            let counts = self.settle_records(*done).await;
            let noted = match counts {
                Ok(Counts::Yes) => self.note_arrivals().await.map(|()| Counts::Yes),
                other => other,
            };
            if !matches!(noted, Ok(Counts::Yes)) {
                // What the guest has handled since, and remembers, is not to be.
                drop(handed_over.returned().await);
                return self.unless_it_counts(noted?).await;
            }
        }
        let returned = handed_over.returned().await;
        let counts = match self.returned(returned)? {
            Ok(Some(done)) => self.settle_records(*done).await?,
            Ok(None) => Counts::Yes,
            Err(failed) => Counts::No(self.failed(failed)?),
        };
        self.unless_it_counts(counts).await
    }

    async fn unless_it_counts(&mut self, counts: Counts) -> Result<(), Trouble> {
        match counts {
            Counts::Yes | Counts::NotTogether => Ok(()),
            Counts::No(unsettled) => self.narrow_down(unsettled).await,
        }
    }

    /// Has the guest handle the records from there on.
    fn begin_streak(
        &mut self,
        offset: Offset,
        until: Offset,
        hand_over: mpsc::Sender<Box<Done>>,
    ) -> impl Future<Output = Ran<Result<Option<Box<Done>>, TurnError>>> + use<> {
        let wanted = Wanted {
            offset,
            until,
            records: self.at_most(self.bite.timely_records()),
            held_keys: self.journal.core().parked().keys().cloned().collect(),
        };
        let streak = Streak {
            shared: Arc::clone(&self.shared),
            reader: self.reader.clone(),
            wanted,
            runtime: Handle::current(),
            waits: Arc::clone(&self.waits),
            goes_on: self.may_go_on(),
            hand_over,
        };
        self.begin_on_a_thread(move |_: &PartitionReader, caller: &mut Caller<'_>| {
            streak.run(caller)
        })
    }

    /// Makes it count what came of the next records.
    async fn settle_records(&mut self, done: Done) -> Result<Counts, Trouble> {
        let Done {
            turn,
            failed,
            took,
            computed,
        } = done;
        self.pace.note(&turn, took);
        let calls = turn.calls;
        if calls > 0 {
            let deadline_ms = self.shared.spec.limits.deadline_ms.into();
            let deadline = Duration::from_millis(deadline_ms);
            self.bite.took(turn.input.taken, computed, deadline);
        }
        match self.settle(turn, Work::Next).await? {
            Settled::Yes => {
                self.bite.succeeded();
                Ok(match failed {
                    Some(failed) => Counts::No(self.failed(failed)?),
                    None => Counts::Yes,
                })
            }
            // Each of them may fit by itself, and the one that does not is to be named.
            Settled::TooLarge(_) if calls > 1 => {
                self.pace.shorten();
                Ok(Counts::NotTogether)
            }
            Settled::TooLarge(unsettled) => Ok(Counts::No(unsettled)),
        }
    }

    /// Whether a turn may have several calls: none has failed of late, each takes as much as there is, and
    /// nothing is due in between.
    fn may_go_on(&self) -> bool {
        let core = self.journal.core();
        self.pace.goes_on()
            && self.bite.is_whole()
            && self.shared.spec.grants.http.is_empty()
            && core.parked().is_empty()
            && core.timers().is_empty()
    }

    /// Handles the next batches of a deterministic guest. While there are outputs in doubt, nothing but
    /// the calls that they came of may be made.
    async fn go_on_stored(&mut self, offset: Offset, until: Offset) -> Result<(), Trouble> {
        let doubtful = !self.in_doubt.is_empty();
        if doubtful && offset > self.journal.core().next_offset() {
            return self.leave_doubts().await;
        }
        let wanted = Wanted {
            offset,
            until,
            records: self.bite.records(),
            held_keys: self.journal.core().parked().keys().cloned().collect(),
        };
        let check = match self.stored_turns % SPOT_CHECK_EVERY {
            0 | 1 => SpotCheck::Yes,
            _ => SpotCheck::No,
        };
        self.stored_turns += 1;
        let call = move |reader: &PartitionReader, caller: &mut Caller<'_>| {
            let Caller {
                setting,
                instance,
                start,
            } = caller;
            match Input::read_stored(reader, &wanted)? {
                Stored::Whole(batches) => setting.run_stored(instance, start, batches, check),
                Stored::Part(_) if doubtful => Err(in_parts(wanted.offset).into()),
                Stored::Part(input) => setting.run(instance, *start, input, None),
            }
        };
        let unsettled = match self.call(call).await? {
            Ok(turn) if doubtful && !turn.failed.is_empty() => {
                failed_whole(turn.input, "records fail that did not before".to_owned())
            }
            Ok(turn) => match self.settle(turn, Work::Next).await? {
                Settled::Yes => {
                    self.bite.succeeded();
                    self.journal.settle_doubts(&mut self.in_doubt);
                    return Ok(());
                }
                Settled::TooLarge(unsettled) => unsettled,
            },
            Err(failed) => failed,
        };
        if self.pause.is_some() {
            return Ok(());
        }
        if doubtful {
            let from = self.journal.core().next_offset();
            let reason = unsettled.reason;
            return Err(Trouble(format!(
                "offset {from} on: what came of it is in the outputs already, and now it fails: {reason}; \
                 reset the group to go on without it"
            )));
        }
        self.narrow_down(unsettled).await
    }

    /// Goes on after a call that failed: with fewer records, or without the only one.
    async fn narrow_down(&mut self, unsettled: Unsettled) -> Result<(), Trouble> {
        // Of several records that were taken, some may have been set aside already: that is forgotten
        // with the call, and comes again with fewer of them.
        let single = self.bite.failed(unsettled.input.taken);
        let place = place(&unsettled, single.then_some(1))?;
        self.tell_failure(&place, &unsettled.reason);
        if single {
            self.settle_failed(unsettled, Work::Next).await?;
        }
        Ok(())
    }

    /// Takes outputs in doubt for what they are: the records that they came of are gone from the topic.
    async fn leave_doubts(&mut self) -> Result<(), Trouble> {
        let mut commit = self.journal.commit(clock::now_ms());
        for (target, next) in std::mem::take(&mut self.in_doubt) {
            commit.skip_direct_to(target, next);
        }
        let commit = commit.finish().map_err(|error| journal::refused(&error))?;
        self.commit(commit, StateChanges::default(), Growth::AtMost)
            .await?;
        Ok(())
    }

    /// Handles a parked record once more.
    pub(super) async fn try_again(&mut self, parked: ParkedRecord) -> Result<(), Trouble> {
        let tried = Tried {
            offset: parked.offset,
            attempts: parked.attempts,
        };
        let work = Work::Parked(tried);
        // What waited behind another record has not been tried before.
        let retries = u64::from(tried.attempts > 0);
        self.progress.change(|progress| progress.retries += retries);
        let call = move |reader: &PartitionReader, caller: &mut Caller<'_>| match Input::parked(
            reader, &parked,
        )? {
            Some(input) => caller
                .setting
                .run(caller.instance, caller.start, input, None),
            None => Ok(Turn::gone(parked)),
        };
        let unsettled = match self.call(call).await? {
            Ok(turn) => match self.settle(turn, work).await? {
                Settled::Yes => return Ok(()),
                Settled::TooLarge(unsettled) => unsettled,
            },
            Err(failed) => failed,
        };
        let place = place(&unsettled, Some(tried.attempts + 1))?;
        self.tell_failure(&place, &unsettled.reason);
        self.settle_failed(unsettled, work).await
    }

    /// Timers that fire now, as many as one call may have; none where the guest takes none.
    pub(super) fn due_timers(&self) -> Option<Vec<Timer>> {
        let core = self.journal.core();
        if core.timers().is_empty() || !self.shared.plugin.handles_timers() {
            return None;
        }
        let most = MAX_FIRED_TIMERS.min(self.at_most(self.timer_bite.records()) as usize);
        let due = core
            .timers()
            .due(core.record_time_ms(), clock::now_ms(), most);
        (!due.is_empty()).then_some(due)
    }

    /// Has the guest handle timers.
    pub(super) async fn fire(&mut self, timers: Vec<Timer>) -> Result<(), Trouble> {
        let (fired, position) = (timers.clone(), self.journal.core().next_offset());
        let call = move |_: &PartitionReader, caller: &mut Caller<'_>| {
            caller
                .setting
                .fire(caller.instance, caller.start, timers, position)
        };
        let reason = match self.call(call).await? {
            Ok(turn) => match self.settle(turn, Work::Timers).await? {
                Settled::Yes => {
                    self.timer_bite.succeeded();
                    return Ok(());
                }
                Settled::TooLarge(unsettled) => unsettled.reason,
            },
            Err(unsettled) => unsettled.reason,
        };
        let place = match fired.as_slice() {
            [timer] => timer_name(timer),
            timers => format!("{} timers", timers.len()),
        };
        self.tell_failure(&place, &reason);
        let single = self.timer_bite.failed(fired.len() as u32);
        let Some(timer) = fired.into_iter().next().filter(|_| single) else {
            return Ok(());
        };
        let turn = Turn::failed_timer(timer, reason);
        match self.settle(turn, Work::Timers).await? {
            Settled::Yes => Ok(()),
            Settled::TooLarge(it) => Err(Trouble(it.reason)),
        }
    }

    /// Makes it count that a parked record of which only the offset was kept is not there any more.
    pub(super) async fn give_up(&mut self, parked: ParkedRecord) -> Result<(), Trouble> {
        let tried = Tried {
            offset: parked.offset,
            attempts: parked.attempts,
        };
        match self.settle(Turn::gone(parked), Work::Parked(tried)).await? {
            Settled::Yes => Ok(()),
            Settled::TooLarge(it) => Err(Trouble(it.reason)),
        }
    }

    /// Makes it count that a call with a single record has failed.
    async fn settle_failed(&mut self, unsettled: Unsettled, work: Work) -> Result<(), Trouble> {
        let Unsettled {
            input,
            failed,
            reason,
        } = unsettled;
        let holds_back = self.shared.spec.on_failure.holds_back;
        let turn = Turn::failed(input, failed, reason, holds_back)?;
        match self.settle(turn, work).await? {
            Settled::Yes => Ok(()),
            Settled::TooLarge(it) => Err(Trouble(it.reason)),
        }
    }

    fn tell_failure(&self, place: &str, reason: &str) {
        self.log(LogLevel::Error, format!("{place}: {reason}"));
        self.progress.change(|progress| progress.failures += 1);
    }
}

/// What came of a batch is in the outputs already, and the batch cannot be handled as it was then.
fn in_parts(offset: Offset) -> WireError {
    let what = format!(
        "offset {offset} on: what came of it is in the outputs already, and now only a part of its batch \
         may be handled; reset the group to go on without it"
    );
    WireError::new(ErrorCode::NotReady, what)
}

/// Where a call failed, and at which attempt if that counts: the offsets that it was made with.
fn place(unsettled: &Unsettled, attempt: Option<u32>) -> Result<String, WireError> {
    let failed = unsettled.failed.iter().map(|it| it.record.offset);
    let range = unsettled.input.range()?.into_iter();
    let offsets = range.flat_map(|(first, last)| [first, last]).chain(failed);
    let (first, last) = (offsets.clone().min(), offsets.max());
    let mut place = match (first, last) {
        (Some(first), Some(last)) if first < last => format!("offsets {first} to {last}"),
        (Some(only), _) => format!("offset {only}"),
        // All of them wait behind others.
        _ => format!("offsets below {}", unsettled.input.next_offset),
    };
    if let Some(attempt) = attempt {
        place.push_str(&format!(", attempt {attempt}"));
    }
    Ok(place)
}
