//! Assertions of the core that fail in a step.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

use super::rules::{Rule, Violation};

thread_local! {
    static IS_ASSERTING: Cell<bool> = const { Cell::new(false) };
}

/// Has an assertion that fails inside of a step say nothing: it is a broken rule.
pub(crate) fn silence_asserts() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let other = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !IS_ASSERTING.get() {
                other(info);
            }
        }));
    });
}

/// Runs a step; an assertion that fails in it is a broken rule.
pub(crate) fn asserted<T>(step: impl FnOnce() -> Result<T, Violation>) -> Result<T, Violation> {
    let outer = IS_ASSERTING.replace(true);
    let done = panic::catch_unwind(AssertUnwindSafe(step));
    IS_ASSERTING.set(outer);
    done.unwrap_or_else(|payload| {
        let text = payload.downcast_ref::<String>().cloned();
        let text = text.or_else(|| payload.downcast_ref::<&str>().map(|it| (*it).into()));
        let what = text.unwrap_or_default();
        Err(Violation::new(Rule::CoreAsserts, what))
    })
}
