//! The handler, run natively.

use dedupe::{Dedupe, handle, init};
use millstream_plugin::testing::{self, Emitted, Metric, Outcome};
use millstream_plugin::{Context, Header, NewRecord, state};

/// A deployment with a window of 1000 ms.
fn context() -> Context {
    Context::new("dedupe", "orders", 0)
        .with_output("unique")
        .with_config("window", "1s")
}

/// A worker with an empty state.
fn fresh(context: &Context) -> Dedupe {
    testing::clear_state();
    testing::clear_metrics();
    init(context).unwrap()
}

fn call(context: &Context, worker: &mut Dedupe, records: &[NewRecord<'_>]) -> Vec<Outcome> {
    testing::run(context, records, |record, out| handle(worker, record, out)).unwrap()
}

/// Handles one record; whether it passed.
fn passes(worker: &mut Dedupe, id: &str, at_ms: i64) -> bool {
    let record = NewRecord::new(b"")
        .with_key(id.as_bytes())
        .with_timestamp_ms(at_ms);
    match &call(&context(), worker, &[record])[..] {
        [] => false,
        [Outcome::Emitted(_)] => true,
        other => panic!("{other:?}"),
    }
}

/// Checks which of the records of a script pass: id, time, whether it does.
fn check(script: &[(&str, i64, bool)]) {
    let mut worker = fresh(&context());
    for (step, (id, at_ms, expect)) in script.iter().enumerate() {
        assert_eq!(
            passes(&mut worker, id, *at_ms),
            *expect,
            "step {step}: {id} at {at_ms}"
        );
    }
}

/// How many ids are kept: each has two keys, and there is one more.
fn kept_ids() -> usize {
    let keys = testing::state().len();
    assert_eq!(keys % 2, 1, "{:?}", testing::state());
    keys / 2
}

#[test]
fn a_duplicate_within_the_window_is_dropped() {
    check(&[
        ("a", 0, true),
        ("a", 0, false),
        ("b", 10, true),
        ("a", 20, false),
        ("b", 1_010, false),
    ]);
}

#[test]
fn a_duplicate_outside_the_window_passes() {
    check(&[
        ("a", 0, true),
        ("a", 1_001, true),
        ("a", 2_001, false),
        ("a", 3_002, true),
    ]);
}

#[test]
fn an_id_that_keeps_coming_stays_away() {
    check(&[
        ("a", 0, true),
        ("a", 800, false),
        ("a", 1_600, false),
        ("a", 2_601, true),
    ]);
}

#[test]
fn order_within_the_window_does_not_matter() {
    check(&[
        ("b", 5_000, true),
        ("a", 4_500, true),
        ("a", 4_100, false),
        ("b", 4_000, false),
        // Still last seen at 4500, not at 4100.
        ("a", 5_400, false),
    ]);
}

#[test]
fn the_window_reaches_back_from_the_newest_record() {
    check(&[
        ("a", 0, true),
        ("b", 1_001, true),
        // Within a second of the other, which is out of the window by now.
        ("a", 900, true),
        ("a", 900, false),
    ]);
}

#[test]
fn a_late_record_passes_and_is_not_remembered() {
    check(&[
        ("a", 5_000, true),
        // The oldest that is not late, and the first that is.
        ("b", 4_000, true),
        ("b", 4_000, false),
        ("a", 3_999, true),
        ("c", 3_999, true),
        ("c", 3_999, true),
        // Nobody has seen it within the window, and it does not put the window back.
        ("c", 4_500, true),
        ("a", 5_001, false),
    ]);
    assert_eq!(metric("late_passed"), Some(Metric::Counter(3)));
    assert_eq!(metric("duplicates_dropped"), Some(Metric::Counter(2)));
}

fn metric(name: &str) -> Option<Metric> {
    let found = testing::metrics()
        .into_iter()
        .find(|(known, _)| known == name);
    found.map(|(_, metric)| metric)
}

#[test]
fn what_is_seen_outlives_the_instance() {
    let context = context();
    let mut worker = fresh(&context);
    assert!(passes(&mut worker, "a", 5_000));
    let mut next = init(&context).unwrap();
    assert!(!passes(&mut next, "a", 5_500));
    // What is late is known as well.
    assert!(passes(&mut next, "b", 4_499));
    assert!(passes(&mut next, "b", 4_499));
}

#[test]
fn a_record_of_a_failed_call_was_not_seen() {
    let context = context();
    let mut worker = fresh(&context);
    let record = NewRecord::new(b"").with_key(b"a");
    let mut calls = 0;
    let failed = testing::run(&context, &[record, record], |record, out| {
        calls += 1;
        handle(&mut worker, record, out)?;
        match calls {
            2 => Err(millstream_plugin::Failure::abort("out of luck")),
            _ => Ok(()),
        }
    });
    assert_eq!(failed, Err("out of luck".to_owned()));
    assert_eq!(testing::state(), []);
    assert!(passes(&mut init(&context).unwrap(), "a", 0));
}

#[test]
fn what_is_kept_is_documented() {
    let mut worker = fresh(&context());
    // Buckets of a second have 15 ms.
    assert!(passes(&mut worker, "a", 31));
    assert!(!passes(&mut worker, "a", 46));
    let time = |ms: u64| ((1 << 63) + ms).to_be_bytes();
    let expect = [
        (b"ia".to_vec(), time(46).to_vec()),
        (b"n".to_vec(), time(46).to_vec()),
        ([b"t", &time(30)[..], b"a"].concat(), Vec::new()),
    ];
    assert_eq!(testing::state(), expect);
}

#[test]
fn ids_are_forgotten_with_the_window() {
    let mut worker = fresh(&context());
    for id in 0..10 {
        assert!(passes(&mut worker, &format!("old-{id}"), 100));
    }
    assert_eq!(kept_ids(), 10);
    // Their bucket is not old as a whole.
    assert!(passes(&mut worker, "new", 1_104));
    assert_eq!(kept_ids(), 11);
    for _ in 0..6 {
        passes(&mut worker, "new", 9_000);
    }
    assert_eq!(kept_ids(), 1);
    assert_eq!(metric("ids_forgotten"), Some(Metric::Counter(10)));
    assert!(passes(&mut worker, "old-3", 9_000));
}

#[test]
fn an_id_that_was_seen_again_is_not_forgotten() {
    let mut worker = fresh(&context());
    assert!(passes(&mut worker, "a", 0));
    assert!(!passes(&mut worker, "a", 900));
    // Its first bucket is old, the id is not.
    assert!(passes(&mut worker, "b", 1_800));
    assert_eq!(kept_ids(), 2);
    assert!(!passes(&mut worker, "a", 1_850));
    // It is, and is moved and forgotten in its turn.
    for step in 0..4 {
        passes(&mut worker, "c", 5_000 + step);
    }
    assert_eq!(kept_ids(), 1);
}

#[test]
fn a_record_pays_for_two_ids_at_most() {
    let mut worker = fresh(&context());
    for id in 0..1_000 {
        assert!(passes(&mut worker, &format!("old-{id}"), id));
    }
    assert_eq!(kept_ids(), 1_000);
    // All are out of the window at once. A new id adds one, and takes two away.
    for step in 1..=1_000 {
        assert!(passes(&mut worker, &format!("new-{step}"), 1_000_000));
        assert_eq!(kept_ids(), (1_000 - step).max(step), "step {step}");
    }
}

#[test]
fn a_restart_in_the_middle_of_a_sweep_goes_on() {
    let context = context();
    let mut worker = fresh(&context);
    for id in 0..600 {
        assert!(passes(&mut worker, &format!("old-{id}"), 0));
    }
    for step in 0..400 {
        passes(&mut worker, "new", 10_000);
        if step % 7 == 0 {
            worker = init(&context).unwrap();
        }
    }
    assert_eq!(kept_ids(), 1);
}

#[test]
fn a_steady_stream_keeps_a_window_of_ids() {
    let mut worker = fresh(&context());
    let mut most = 0;
    for id in 0..5_000 {
        assert!(passes(&mut worker, &id.to_string(), id * 10));
        most = most.max(kept_ids());
    }
    // A window has 101 of them, and a bucket two.
    assert!((101..=105).contains(&most), "{most}");
}

#[test]
fn a_record_passes_as_it_is() {
    let context = context();
    let headers = [Header {
        name: "trace",
        value: None,
    }];
    let record = NewRecord::new(b"two of the blue ones")
        .with_key(b"order-7")
        .with_headers(&headers)
        .with_timestamp_ms(1_700_000_000_000);
    let expect = Outcome::Emitted(Emitted {
        input: 0,
        output: "unique".into(),
        timestamp_ms: 1_700_000_000_000,
        key: Some(b"order-7".to_vec()),
        value: Some(b"two of the blue ones".to_vec()),
        headers: vec![("trace".into(), None)],
    });
    assert_eq!(
        call(&context, &mut fresh(&context), &[record, record]),
        [expect]
    );
}

#[test]
fn the_id_may_be_a_field() {
    let context = context().with_config("field", "order");
    let mut worker = fresh(&context);
    let values: [&[u8]; 6] = [
        br#"{"order":7,"step":"paid"}"#,
        br#"{"order":7,"step":"paid again"}"#,
        br#"{"order":"7"}"#,
        br#"{"order":-7.5}"#,
        br#"{"step":"none","order":"seven"}"#,
        br#"{"order" : "seven"}"#,
    ];
    let records = values.map(|value| NewRecord::new(value).with_key(b"the same"));
    let passed: Vec<_> = call(&context, &mut worker, &records)
        .into_iter()
        .map(|outcome| match outcome {
            Outcome::Emitted(emitted) => emitted.input,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(passed, [0, 2, 3, 4]);
}

#[test]
fn a_record_without_an_id_is_rejected_and_leaves_no_trace() {
    let check = |context: &Context, record: NewRecord<'_>, expect: &str| {
        let expect = Outcome::Rejected {
            input: 0,
            reason: expect.into(),
        };
        assert_eq!(call(context, &mut fresh(context), &[record]), [expect]);
        assert_eq!(testing::state(), []);
    };
    let by_key = context();
    check(&by_key, NewRecord::new(b"x"), "the record has no key");
    check(
        &by_key,
        NewRecord::new(b"x").with_key(b""),
        "the record has no key",
    );
    let long = [b'x'; 1_016];
    check(
        &by_key,
        NewRecord::new(b"x").with_key(&long),
        "the id has 1016 bytes, more than 1015",
    );
    let by_field = context().with_config("field", "id");
    let check = |value, expect| check(&by_field, NewRecord::new(value), expect);
    check(b"{}", "the record has no `id`");
    check(br#"{"id":null}"#, "the record has no `id`");
    check(br#"{"id":""}"#, "the record has no `id`");
    check(br#"{"id":[1]}"#, "`id` is neither a string nor a number");
    check(br#"{"id":true}"#, "`id` is neither a string nor a number");
    check(b"7", "invalid JSON at byte 0: expected an object");
    let deleted = call(
        &by_field,
        &mut fresh(&by_field),
        &[NewRecord::tombstone(b"k")],
    );
    let expect = Outcome::Rejected {
        input: 0,
        reason: "the record has no value".into(),
    };
    assert_eq!(deleted, [expect]);
}

#[test]
fn the_longest_id_is_kept() {
    let mut worker = fresh(&context());
    let id = "x".repeat(1_015);
    assert!(passes(&mut worker, &id, 0));
    assert!(!passes(&mut worker, &id, 0));
}

#[test]
fn the_state_of_another_plugin_is_left_alone() {
    let context = context();
    let mut worker = fresh(&context);
    state::put(b"ia", b"7").unwrap();
    let record = NewRecord::new(b"").with_key(b"a");
    let failed = testing::run(&context, &[record], |record, out| {
        handle(&mut worker, record, out)
    });
    let expect = "the state was not written by this plugin: use a deployment's name of its own";
    assert_eq!(failed, Err(expect.to_owned()));
    state::put(b"n", b"7").unwrap();
    assert_eq!(init(&context).err().unwrap().to_string(), expect);
}

#[test]
fn a_deployment_that_cannot_work_does_not_start() {
    let check = |context: Context, expect: &str| {
        assert_eq!(init(&context).err().unwrap().to_string(), expect);
    };
    let bare = Context::new("dedupe", "orders", 0);
    check(
        bare.clone(),
        "the deployment declares no output `unique` (it declares none)",
    );
    let bare = bare.with_output("unique");
    check(
        bare.clone().with_config("window", "a day"),
        "window must be a duration, for example 90s, 1h30m or 7d, not `a day`",
    );
    check(
        bare.clone().with_config("field", ""),
        "field must be the name of a field, or not be set",
    );
    assert!(init(&bare).is_ok());
}
