//! The handler and its timers, run natively.

use millstream_plugin::testing::{self, Emitted, Metric, Outcome};
use millstream_plugin::timers::Clock;
use millstream_plugin::{Context, NewRecord, state};
use quake_stats::{QuakeStats, handle, init, window_over};
use serde_json::{Value, json};

/// A deployment with windows of a second.
fn context() -> Context {
    Context::new("quake-stats", "earthquakes", 0)
        .with_output("stats")
        .with_config("window", "1s")
}

/// A worker with an empty state.
fn fresh(context: &Context) -> QuakeStats {
    testing::clear_state();
    testing::clear_timers();
    testing::clear_metrics();
    init(context).unwrap()
}

/// Has the worker handle one record.
fn call(context: &Context, worker: &mut QuakeStats, value: &str, at_ms: i64) -> Vec<Outcome> {
    let record = NewRecord::new(value.as_bytes())
        .with_key(b"key")
        .with_timestamp_ms(at_ms);
    testing::run(context, &[record], |record, out| {
        handle(worker, record, out)
    })
    .unwrap()
}

fn quake(net: &str, mag: f64) -> String {
    json!({"id": "x", "net": net, "mag": mag}).to_string()
}

/// The records' clock stands at a time: what has been emitted then.
fn fire(context: &Context, worker: &mut QuakeStats, now_ms: i64) -> Vec<(i64, Value)> {
    let fired = testing::fire(context, Clock::RecordTime, now_ms, |timer, out| {
        window_over(worker, timer, out)
    });
    let result = |outcome| match outcome {
        Outcome::Emitted(emitted) => {
            let stats: Value = serde_json::from_slice(&emitted.value.unwrap()).unwrap();
            assert_eq!(emitted.output, "stats");
            assert_eq!(
                emitted.key.as_deref(),
                stats["net"].as_str().map(str::as_bytes)
            );
            (emitted.timestamp_ms, stats)
        }
        other => panic!("{other:?}"),
    };
    fired.unwrap().into_iter().map(result).collect()
}

fn counter(name: &str) -> u64 {
    let metrics = testing::metrics();
    let found = metrics.iter().find(|(known, _)| known == name);
    found.map_or(0, |(_, metric)| match metric {
        Metric::Counter(count) => *count,
        other => panic!("{other:?}"),
    })
}

#[test]
fn a_window_gives_its_figures_when_it_is_over() {
    let context = context();
    let mut worker = fresh(&context);
    for (net, mag, at_ms) in [("us", 4.0, 1_000), ("us", 5.5, 1_999), ("ak", -0.5, 1_500)] {
        assert_eq!(call(&context, &mut worker, &quake(net, mag), at_ms), []);
    }
    assert_eq!(call(&context, &mut worker, &quake("us", 9.0), 2_000), []);
    assert_eq!(fire(&context, &mut worker, 1_999), []);
    let mut results = fire(&context, &mut worker, 2_000);
    results.sort_by_key(|(_, stats)| stats["net"].as_str().map(str::to_owned));
    let ak = json!({"net": "ak", "from": 1_000, "to": 2_000, "count": 1, "mean_mag": -0.5, "max_mag": -0.5});
    let us = json!({"net": "us", "from": 1_000, "to": 2_000, "count": 2, "mean_mag": 4.75, "max_mag": 5.5});
    assert_eq!(results, [(1_999, ak), (1_999, us)]);
    assert_eq!(counter("windows_closed"), 2);
}

#[test]
fn the_state_of_a_window_goes_with_it() {
    let context = context();
    let mut worker = fresh(&context);
    for at_ms in [0, 1_000, 2_000] {
        call(&context, &mut worker, &quake("us", 1.0), at_ms);
    }
    // Each window, and the newest time.
    assert_eq!((testing::state().len(), testing::timers().len()), (4, 3));
    assert_eq!(fire(&context, &mut worker, 2_000).len(), 2);
    assert_eq!((testing::state().len(), testing::timers().len()), (2, 1));
    assert_eq!(fire(&context, &mut worker, 3_000).len(), 1);
    assert_eq!((testing::state().len(), testing::timers().len()), (1, 0));
}

#[test]
fn late_records_are_counted_and_go_where_that_is_declared() {
    let context = context();
    let mut worker = fresh(&context);
    call(&context, &mut worker, &quake("us", 1.0), 2_000);
    assert_eq!(call(&context, &mut worker, &quake("us", 1.0), 1_999), []);
    assert_eq!(call(&context, &mut worker, &quake("us", 1.0), 2_000), []);
    assert_eq!(counter("late_records"), 1);
    let stats = fire(&context, &mut worker, 3_000);
    assert_eq!(stats[0].1["count"], 2);

    let context = context.with_output("late");
    let mut worker = fresh(&context);
    call(&context, &mut worker, &quake("us", 1.0), 2_000);
    let late = quake("us", 7.0);
    let expect = Emitted {
        input: 0,
        output: "late".to_owned(),
        timestamp_ms: 5,
        key: Some(b"key".to_vec()),
        value: Some(late.clone().into_bytes()),
        headers: Vec::new(),
    };
    assert_eq!(
        call(&context, &mut worker, &late, 5),
        [Outcome::Emitted(expect)]
    );
    assert_eq!(counter("late_records"), 1);
}

#[test]
fn a_window_is_over_once_and_for_all() {
    let context = context();
    let mut worker = fresh(&context);
    call(&context, &mut worker, &quake("us", 1.0), 0);
    // A record that is rejected has brought the clock there, too.
    assert!(matches!(
        &call(&context, &mut worker, "{}", 1_000)[..],
        [Outcome::Rejected { .. }]
    ));
    assert_eq!(fire(&context, &mut worker, 1_000).len(), 1);
    let mut worker = init(&context).unwrap();
    assert_eq!(call(&context, &mut worker, &quake("us", 1.0), 999), []);
    assert_eq!(counter("late_records"), 1);
    assert!(testing::timers().is_empty());
}

#[test]
fn what_is_no_earthquake_is_rejected_and_what_has_no_magnitude_is_not_counted() {
    let context = context();
    let mut worker = fresh(&context);
    let long = quake(&"n".repeat(1_016), 1.0);
    for value in ["", "[]", r#"{"mag": 1}"#, r#"{"net": 7, "mag": 1}"#, &long] {
        let outcomes = call(&context, &mut worker, value, 0);
        assert!(
            matches!(&outcomes[..], [Outcome::Rejected { .. }]),
            "{outcomes:?}"
        );
    }
    for value in [r#"{"net": "us"}"#, r#"{"net": "us", "mag": null}"#] {
        assert_eq!(call(&context, &mut worker, value, 0), []);
    }
    assert!(testing::timers().is_empty());
}

#[test]
fn a_worker_that_cannot_work_does_not_start() {
    testing::clear_state();
    let refused = |context: &Context| init(context).err().unwrap().to_string();
    let bad = Context::new("d", "t", 0)
        .with_output("stats")
        .with_config("window", "soon");
    assert!(refused(&bad).starts_with("window must be a duration"));
    assert!(refused(&Context::new("d", "t", 0)).contains("`stats`"));
    state::put(b"n", b"of another").unwrap();
    assert!(refused(&context()).starts_with("the state was not written by this plugin"));
}
