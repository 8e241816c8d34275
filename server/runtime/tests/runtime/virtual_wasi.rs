//! What a Rust guest finds when it looks around, through its own standard library.

use std::sync::{Arc, LazyLock};
use std::time::{SystemTime, UNIX_EPOCH};

use millstream_protocol::api::plugin::LogLevel;
use millstream_runtime::{CallError, Instance, Outcome, Plugin};

use crate::{BATCH_TIME_MS, Kept, RUNTIME, batch, built, setup};

pub(crate) static PROBE: LazyLock<Plugin> = LazyLock::new(|| {
    let component = built::component("server/runtime/tests/guests/probe", "probe.wasm");
    RUNTIME.compile(&component).unwrap()
});

pub(crate) fn start() -> (Instance, Arc<Kept>) {
    let (setup, kept) = setup();
    (PROBE.start(setup).unwrap(), kept)
}

/// Tells a new worker one thing at an offset, and returns what it found.
fn find_at(offset: u64, command: &str) -> String {
    let (mut worker, _) = start();
    let outcomes = worker
        .handle(&batch(offset, &[command.as_bytes()]))
        .unwrap()
        .outcomes;
    let found: Vec<_> = outcomes.iter().collect();
    let [Outcome::Emit(emit)] = found[..] else {
        panic!("{found:?}")
    };
    assert_eq!(
        (emit.input, emit.output, emit.timestamp_ms),
        (0, 0, BATCH_TIME_MS)
    );
    String::from_utf8(emit.value.unwrap().to_vec()).unwrap()
}

fn find(command: &str) -> String {
    find_at(0, command)
}

#[test]
fn a_worker_knows_itself() {
    assert_eq!(
        find("context"),
        r#"probe-1 commands 7 ["found"] Some("blue")"#
    );
}

#[test]
fn the_clock_shows_the_records_time() {
    assert_eq!(find("clock"), BATCH_TIME_MS.to_string());
}

#[test]
fn real_clocks_and_randomness_are_granted() {
    let found = |command: &str| {
        let (mut setup, _) = setup();
        setup.grants.grants.real_clocks = true;
        setup.grants.grants.real_randomness = true;
        let mut worker = PROBE.start(setup).unwrap();
        let handled = worker.handle(&batch(0, &[command.as_bytes()])).unwrap();
        let Some(Outcome::Emit(emit)) = handled.outcomes.iter().next() else {
            panic!("{command} gives nothing");
        };
        String::from_utf8(emit.value.unwrap().to_vec()).unwrap()
    };
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    assert!(found("clock").parse::<u128>().unwrap() >= since_epoch.as_millis());
    assert_ne!(found("random"), found("random"));
    // Neither keeps the host.
    assert_eq!(found("sleep"), "awake");
}

#[test]
fn sleeping_returns_at_once() {
    // It would sleep for an hour; the host cannot be kept.
    assert_eq!(find("sleep"), "awake");
}

#[test]
fn randomness_is_the_positions() {
    let first = find_at(5, "random");
    assert_eq!(find_at(5, "random"), first);
    assert_ne!(find_at(6, "random"), first);
}

#[test]
fn there_is_nothing_around() {
    assert_eq!(
        find("surroundings"),
        "0 arguments, 0 variables, Err(NotFound), 0 from stdin"
    );
}

#[test]
fn there_is_no_network() {
    let imports = PROBE.imports();
    for interface in ["tcp", "udp", "ip-name-lookup"] {
        let import = format!("wasi:sockets/{interface}@");
        assert!(
            imports.iter().any(|name| name.starts_with(&import)),
            "{imports:?}"
        );
    }
    assert_eq!(
        find("network"),
        "connecting: refused, listening: refused, sending: refused, looking up: refused"
    );
}

#[test]
fn what_is_printed_is_logged() {
    let (mut worker, kept) = start();
    worker.handle(&batch(0, &[b"print", b"log"])).unwrap();
    let lines = kept.lines();
    let line =
        |level, context: &str, message: &str| (level, context.to_owned(), message.to_owned());
    let (logged, printed): (Vec<_>, Vec<_>) = lines
        .into_iter()
        .partition(|(_, _, message)| message == "logged");
    let expect = [
        line(LogLevel::Info, "stdout", "one"),
        line(LogLevel::Info, "stdout", "two"),
        line(LogLevel::Warn, "stderr", "four\\u{1b}"),
        line(LogLevel::Info, "stdout", "three"),
    ];
    assert_eq!(printed, expect);
    let [(LogLevel::Warn, context, _)] = &logged[..] else {
        panic!("{logged:?}")
    };
    assert!(context.starts_with("src/lib.rs:"), "{context}");
}

#[test]
fn a_panic_is_told_with_its_message() {
    let (mut worker, kept) = start();
    let error = worker.handle(&batch(0, &[b"panic"])).unwrap_err();
    let CallError::Trap { reason, backtrace } = error else {
        panic!("{error}")
    };
    // Without the trap that ends every panic, its thread, and how to have Rust's own backtrace.
    let place = reason.strip_prefix("panicked at src/lib.rs:");
    let place = place.and_then(|rest| rest.strip_suffix(": as told"));
    assert!(place.is_some_and(|place| place.len() < 10), "{reason}");
    assert!(!backtrace.is_empty());
    assert!(
        kept.lines()
            .iter()
            .any(|(_, context, line)| context == "stderr" && line == "as told")
    );
}

#[test]
fn an_exit_is_a_trap() {
    let error = start().0.handle(&batch(0, &[b"exit"])).unwrap_err();
    let CallError::Trap { reason, .. } = error else {
        panic!("{error}")
    };
    assert!(reason.starts_with("exited with status"), "{reason}");
}

#[test]
fn a_handlers_failures_arrive() {
    let (mut worker, _) = start();
    let outcomes = worker
        .handle(&batch(0, &[b"drop", b"reject", b"retry", b"forward"]))
        .unwrap()
        .outcomes;
    let outcomes: Vec<_> = outcomes.iter().collect();
    let [first, second, Outcome::Emit(emit)] = outcomes[..] else {
        panic!("{outcomes:?}")
    };
    assert_eq!(
        first,
        Outcome::Reject {
            input: 1,
            reason: "as told"
        }
    );
    assert_eq!(
        second,
        Outcome::Retry {
            input: 2,
            after_ms: 1_500,
            reason: "as told"
        }
    );
    assert_eq!(
        (emit.input, emit.key, emit.value),
        (3, Some(&b"key"[..]), Some(&b"forward"[..]))
    );
    assert_eq!(emit.headers.collect::<Vec<_>>(), [("h", Some(&b"v"[..]))]);
    assert_eq!(emit.to_headers()[0].name, "h");

    let error = worker.handle(&batch(4, &[b"drop", b"abort"])).unwrap_err();
    assert_eq!(error, CallError::Guest("as told".into()));
}

#[test]
fn init_may_refuse() {
    let (mut setup, _) = setup();
    setup.config.push(("refuse".into(), "not today".into()));
    assert_eq!(
        PROBE.start(setup).unwrap_err().to_string(),
        "init refused: not today"
    );
    let (mut setup, _) = crate::setup();
    setup.outputs.clear();
    let expect = "init refused: the deployment declares no output `found` (it declares none)";
    assert_eq!(PROBE.start(setup).unwrap_err().to_string(), expect);
}
