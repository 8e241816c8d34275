//! Timers, through the boundary of a Rust guest.

use std::sync::LazyLock;

use millstream_protocol::api::plugin::TimerClock;
use millstream_runtime::{
    CallError, FiredTimer, Handled, Instance, MAX_TIMER_CHANGES, MAX_TIMER_KEY_BYTES, Outcome,
    Plugin, TimerChanges,
};

use crate::{RUNTIME, batch, built, setup};

const RECORD: TimerClock = TimerClock::RecordTime;
const WALL: TimerClock = TimerClock::WallTime;

static KEEPER: LazyLock<Plugin> = LazyLock::new(|| {
    let component = built::component("server/runtime/tests/guests/keeper", "keeper.wasm");
    RUNTIME.compile(&component).unwrap()
});

fn start() -> Instance {
    KEEPER.start(setup().0).unwrap()
}

fn call(worker: &mut Instance, commands: &[&str]) -> Result<Handled, CallError> {
    let commands: Vec<_> = commands.iter().map(|it| it.as_bytes()).collect();
    worker.handle(&batch(0, &commands))
}

fn timer(clock: TimerClock, key: &str, at_ms: i64) -> FiredTimer {
    FiredTimer {
        clock,
        key: key.into(),
        at_ms,
    }
}

fn found(handled: &Handled) -> Vec<String> {
    let text = |outcome| match outcome {
        Outcome::Emit(emit) => {
            let value = String::from_utf8(emit.value.unwrap().to_vec()).unwrap();
            format!("{} {value} at {}", emit.input, emit.timestamp_ms)
        }
        Outcome::Reject { input, reason } => format!("{input} rejected: {reason}"),
        Outcome::Retry { input, reason, .. } => format!("{input} retried: {reason}"),
    };
    handled.outcomes.iter().map(text).collect()
}

fn listed(timers: &TimerChanges) -> Vec<(TimerClock, String, Option<i64>)> {
    let text = |key: &[u8]| String::from_utf8(key.to_vec()).unwrap();
    let timers = timers.iter();
    timers
        .map(|(clock, key, at_ms)| (clock, text(key), at_ms))
        .collect()
}

#[test]
fn what_is_set_and_cancelled_is_handed_back_with_the_call() {
    let mut worker = start();
    let commands = [
        "set wall a 5",
        "set record a 6",
        "set wall a 7",
        "cancel wall b",
    ];
    let handled = call(&mut worker, &commands).unwrap();
    let expect = [
        (RECORD, "a".to_owned(), Some(6)),
        (WALL, "a".to_owned(), Some(7)),
        (WALL, "b".to_owned(), None),
    ];
    assert_eq!(listed(&handled.timers), expect);
    let next = call(&mut worker, &["get a"]).unwrap();
    assert!(next.timers.is_empty(), "they were of the call before");
    call(&mut worker, &["set wall c 1", "abort"]).unwrap_err();
}

#[test]
fn timers_that_fire_are_handled_in_one_call() {
    let mut worker = start();
    let timers = [
        timer(WALL, "a", 5),
        timer(RECORD, "again", 6),
        timer(WALL, "reject", 7),
    ];
    let handled = worker.fire(&timers, 100).unwrap();
    let expect = [
        "0 WallTime a 5 at 5",
        "1 RecordTime again 6 at 6",
        "2 rejected: as told",
    ];
    assert_eq!(found(&handled), expect);
    assert_eq!(handled.outcomes.records(), 3);
    assert_eq!(handled.state.get(b"a"), Some(Some(&b"fired"[..])));
    assert_eq!(
        listed(&handled.timers),
        [(RECORD, "again".to_owned(), Some(7))]
    );
}

#[test]
fn a_timer_that_traps_spends_the_instance() {
    let mut worker = start();
    let failed = worker.fire(&[timer(WALL, "panic", 1)], 0).unwrap_err();
    assert!(matches!(failed, CallError::Trap { .. }), "{failed}");
    let spent = worker.fire(&[timer(WALL, "a", 1)], 0).unwrap_err();
    assert_eq!(spent, CallError::Spent);
}

#[test]
fn limits_are_told_to_the_guest() {
    let mut worker = start();
    let rejected = |handled: &Handled| found(handled).concat();
    let long = format!("set-key-bytes {}", MAX_TIMER_KEY_BYTES + 1);
    let handled = call(&mut worker, &[&long]).unwrap();
    assert_eq!(
        rejected(&handled),
        "0 rejected: too large for a timer: a key of 1025 bytes, more than 1024"
    );
    let fits = format!("set-many {MAX_TIMER_CHANGES}");
    assert_eq!(
        call(&mut worker, &[&fits]).unwrap().timers.len(),
        MAX_TIMER_CHANGES
    );
    let many = format!("set-many {}", MAX_TIMER_CHANGES + 1);
    let failed = call(&mut worker, &[&many]).unwrap_err();
    assert!(
        failed.to_string().contains("more than 10000 timers"),
        "{failed}"
    );
}

#[test]
fn a_plugin_says_whether_it_handles_timers() {
    assert!(KEEPER.handles_timers());
    assert!(
        KEEPER
            .imports()
            .contains(&"millstream:plugin/timers@0.1.0".to_owned())
    );
}
