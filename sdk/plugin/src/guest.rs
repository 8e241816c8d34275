//! The exports of the component, for any plugin.

use std::cell::RefCell;
use std::marker::PhantomData;

use crate::bindings::exports::millstream::plugin::{batch_handler, lifecycle};
use crate::bindings::migrating::exports::millstream::plugin::state_migration;
use crate::bindings::timed::exports::millstream::plugin::timer_handler;
use crate::context::Context;
use crate::process::{Plugin, fire, process};
use crate::timers::Timer;

/// Where a plugin is kept between calls.
pub trait Slot: Plugin {
    /// Gives access to the slot.
    fn with<R>(access: impl FnOnce(&RefCell<Option<Worker<Self>>>) -> R) -> R;
}

/// A plugin that has been initialised.
pub struct Worker<P> {
    context: Context,
    plugin: P,
    /// Bytes of the last call's outcomes: a good guess for the next.
    expected_bytes: usize,
}

/// Exports `P` as a component.
pub struct Exports<P>(PhantomData<P>);

impl<P: Slot> lifecycle::Guest for Exports<P> {
    fn init(given: lifecycle::Context) -> Result<(), String> {
        let context = Context::new(given.deployment, given.topic, given.partition);
        let outputs = given.outputs.into_iter();
        let context = outputs
            .fold(context, Context::with_output)
            .with_config_of_host();
        let plugin = P::init(&context)?;
        P::with(|slot| {
            slot.replace(Some(Worker {
                context,
                plugin,
                expected_bytes: 0,
            }))
        });
        Ok(())
    }
}

impl<P: Slot> batch_handler::Guest for Exports<P> {
    fn handle(batches: Vec<u8>) -> Result<Vec<u8>, String> {
        call::<P>(|context, plugin, out| {
            process(context, &batches, out, |record, out| {
                plugin.handle(record, out)
            })
        })
    }
}

impl<P: Slot> timer_handler::Guest for Exports<P> {
    fn handle(timers: Vec<timer_handler::Fired>) -> Result<Vec<u8>, String> {
        call::<P>(|context, plugin, out| {
            let timers = timers.iter().map(|timer| Timer {
                clock: timer.clock.into(),
                key: &timer.key,
                at_ms: timer.at_ms,
            });
            fire(context, timers, out, |timer, out| {
                plugin.on_timer(timer, out)
            })
        })
    }
}

impl<P: Slot> state_migration::Guest for Exports<P> {
    fn migrate(previous: String, cursor: Option<Vec<u8>>) -> Result<Option<Vec<u8>>, String> {
        P::with(|slot| {
            let slot = slot.borrow();
            let Worker { context, .. } = slot.as_ref().ok_or("init was not called")?;
            P::migrate(context, &previous, cursor.as_deref())
        })
    }
}

/// One call of the plugin: it writes its outcomes.
fn call<P: Slot>(
    handle: impl FnOnce(&Context, &mut P, &mut Vec<u8>) -> Result<(), String>,
) -> Result<Vec<u8>, String> {
    P::with(|slot| {
        let mut slot = slot.borrow_mut();
        let Worker {
            context,
            plugin,
            expected_bytes,
        } = slot.as_mut().ok_or("init was not called")?;
        let mut out = Vec::with_capacity(*expected_bytes);
        handle(context, plugin, &mut out)?;
        *expected_bytes = out.len();
        Ok(out)
    })
}
