//! The functions of a guest, whichever handlers it has.

use wasmtime::Store;
use wasmtime::component::InstancePre;

use crate::bindings::exports::millstream::plugin::timer_handler::Fired;
use crate::bindings::exports::millstream::plugin::{batch_handler, lifecycle, timer_handler};
use crate::bindings::messaging::exports::wasi::messaging::incoming_handler;
use crate::bindings::migration::exports::millstream::plugin::state_migration;
use crate::bindings::typed::exports::millstream::plugin::record_timer_handler::Fired as TypedFired;
use crate::bindings::typed::exports::millstream::plugin::{record_handler, record_timer_handler};
use crate::fit::HandlerKind;
use crate::host::HostState;
use crate::timers::FiredTimer;

/// A guest of which instances can be made.
pub(crate) struct GuestPre {
    instance: InstancePre<HostState>,
    /// What knows Millstream has one.
    lifecycle: Option<lifecycle::GuestIndices>,
    handler: HandlerIndices,
    timers: Option<TimerIndices>,
    migration: Option<state_migration::GuestIndices>,
}

enum HandlerIndices {
    Batch(batch_handler::GuestIndices),
    Record(record_handler::GuestIndices),
    Message(incoming_handler::GuestIndices),
}

enum TimerIndices {
    Batch(timer_handler::GuestIndices),
    Record(record_timer_handler::GuestIndices),
}

impl GuestPre {
    pub(crate) fn new(
        instance: InstancePre<HostState>,
        handler: HandlerKind,
        timers: Option<HandlerKind>,
        migrates: bool,
    ) -> wasmtime::Result<Self> {
        let lifecycle = match handler {
            HandlerKind::Batch | HandlerKind::Record => {
                Some(lifecycle::GuestIndices::new(&instance)?)
            }
            HandlerKind::Message => None,
        };
        let handler = match handler {
            HandlerKind::Batch => {
                HandlerIndices::Batch(batch_handler::GuestIndices::new(&instance)?)
            }
            HandlerKind::Record => {
                HandlerIndices::Record(record_handler::GuestIndices::new(&instance)?)
            }
            HandlerKind::Message => {
                HandlerIndices::Message(incoming_handler::GuestIndices::new(&instance)?)
            }
        };
        let timers = match timers {
            Some(HandlerKind::Batch) => Some(TimerIndices::Batch(
                timer_handler::GuestIndices::new(&instance)?,
            )),
            Some(HandlerKind::Record) => Some(TimerIndices::Record(
                record_timer_handler::GuestIndices::new(&instance)?,
            )),
            // There are no timers of messages.
            Some(HandlerKind::Message) | None => None,
        };
        let migration = migrates.then(|| state_migration::GuestIndices::new(&instance));
        Ok(Self {
            migration: migration.transpose()?,
            instance,
            lifecycle,
            handler,
            timers,
        })
    }

    pub(crate) fn handles_timers(&self) -> bool {
        self.timers.is_some()
    }

    pub(crate) fn migrates_state(&self) -> bool {
        self.migration.is_some()
    }

    pub(crate) fn instantiate(&self, store: &mut Store<HostState>) -> wasmtime::Result<Guest> {
        let instance = self.instance.instantiate(&mut *store)?;
        let lifecycle = match &self.lifecycle {
            Some(indices) => Some(indices.load(&mut *store, &instance)?),
            None => None,
        };
        let timers = match &self.timers {
            Some(TimerIndices::Batch(indices)) => {
                Some(TimerHandler::Batch(indices.load(&mut *store, &instance)?))
            }
            Some(TimerIndices::Record(indices)) => {
                Some(TimerHandler::Record(indices.load(&mut *store, &instance)?))
            }
            None => None,
        };
        let migration = self.migration.as_ref();
        let migration = migration.map(|indices| indices.load(&mut *store, &instance));
        let migration = migration.transpose()?;
        let handler = match &self.handler {
            HandlerIndices::Batch(indices) => Handler::Batch(indices.load(store, &instance)?),
            HandlerIndices::Record(indices) => Handler::Record(indices.load(store, &instance)?),
            HandlerIndices::Message(indices) => Handler::Message(indices.load(store, &instance)?),
        };
        Ok(Guest {
            lifecycle,
            handler,
            timers,
            migration,
        })
    }
}

/// What is called of an instance.
pub(crate) struct Guest {
    pub(crate) lifecycle: Option<lifecycle::Guest>,
    pub(crate) handler: Handler,
    pub(crate) timers: Option<TimerHandler>,
    pub(crate) migration: Option<state_migration::Guest>,
}

/// Its handler.
pub(crate) enum Handler {
    Batch(batch_handler::Guest),
    Record(record_handler::Guest),
    Message(incoming_handler::Guest),
}

/// Its handler of timers.
pub(crate) enum TimerHandler {
    Batch(timer_handler::Guest),
    Record(record_timer_handler::Guest),
}

/// Timers as a `timer-handler` takes them.
pub(crate) fn fired(timers: &[FiredTimer]) -> Vec<Fired> {
    let fired = |timer: &FiredTimer| Fired {
        clock: timer.clock.into(),
        key: timer.key.clone(),
        at_ms: timer.at_ms,
    };
    timers.iter().map(fired).collect()
}

/// Timers as a `record-timer-handler` takes them.
pub(crate) fn typed_fired(timers: &[FiredTimer]) -> Vec<TypedFired<'_>> {
    fn fired(timer: &FiredTimer) -> TypedFired<'_> {
        TypedFired {
            clock: timer.clock.into(),
            key: &timer.key,
            at_ms: timer.at_ms,
        }
    }
    timers.iter().map(fired).collect()
}
