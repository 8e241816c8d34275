//! The handler, run natively.

use enrich::{Enrich, handle, init};
use millstream_plugin::testing::{self, Emitted, Metric, Outcome};
use millstream_plugin::{Context, Header, NewRecord};

/// A deployment that looks up `net` and adds `network`.
fn context(config: &[(&str, &str)]) -> Context {
    let context = Context::new("enrich", "earthquakes", 0).with_output("enriched");
    let usual = [("field", "net"), ("as", "network")];
    let usual = usual
        .iter()
        .filter(|(name, _)| !config.iter().any(|(other, _)| name == other));
    let set = usual.chain(config).filter(|(_, value)| *value != "-");
    set.fold(context, |context, (name, value)| {
        context.with_config(*name, *value)
    })
}

/// A worker, and a table with two networks.
fn fresh(context: &Context) -> Enrich {
    testing::clear_tables();
    testing::clear_metrics();
    let us = br#"{"name": "National", "country": "US", "since": 1966}"#;
    testing::put_in_table("reference", b"us", us);
    testing::put_in_table("reference", b"no", b"not an object");
    init(context).unwrap()
}

fn call(context: &Context, records: &[NewRecord<'_>]) -> Vec<Outcome> {
    let mut worker = fresh(context);
    testing::run(context, records, |record, out| {
        handle(&mut worker, record, out)
    })
    .unwrap()
}

/// What comes of one value: that which is emitted, or why not.
fn joined(config: &[(&str, &str)], value: &str) -> String {
    match &call(
        &context(config),
        &[NewRecord::new(value.as_bytes()).with_key(b"us")],
    )[..]
    {
        [] => "nothing".to_owned(),
        [Outcome::Emitted(emitted)] => String::from_utf8(emitted.value.clone().unwrap()).unwrap(),
        [Outcome::Rejected { reason, .. }] => format!("rejected: {reason}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_the_table_has_is_added() {
    assert_eq!(
        joined(&[], r#"{"net": "us", "mag": 4.50}"#),
        r#"{"net": "us", "mag": 4.50,"network":{"name": "National", "country": "US", "since": 1966}}"#
    );
    assert_eq!(
        joined(&[("take", "country, nothing,name")], r#"{"net":"\u0075s"}"#),
        r#"{"net":"\u0075s","network":{"country":"US","name":"National"}}"#
    );
    // By the record's key.
    assert_eq!(
        joined(&[("field", "-"), ("as", "-"), ("take", "since")], "{}"),
        r#"{"reference":{"since":1966}}"#
    );
}

#[test]
fn what_the_table_does_not_have_passes_is_dropped_or_rejected() {
    let event = r#"{"net":"xx"}"#;
    assert_eq!(joined(&[], event), event);
    assert_eq!(joined(&[("missing", "pass")], event), event);
    assert_eq!(joined(&[("missing", "drop")], event), "nothing");
    assert_eq!(
        joined(&[("missing", "reject")], event),
        "rejected: the table has no `xx`"
    );
}

#[test]
fn what_cannot_be_joined_is_rejected() {
    let check = |value: &str, expect: &str| {
        assert_eq!(joined(&[], value), format!("rejected: {expect}"), "{value}");
    };
    check("[]", "invalid JSON at byte 0: expected an object");
    check("{}", "the record has no `net`");
    check(r#"{"net":null}"#, "the record has no `net`");
    check(
        r#"{"net":[]}"#,
        "`net` is neither a string nor a number nor a boolean",
    );
    check(
        r#"{"net":"us","network":1}"#,
        "the record has a `network` already",
    );
    check(
        r#"{"net":"no"}"#,
        "the table's value: invalid JSON at byte 0: expected an object",
    );
    let long = "k".repeat(1_025);
    check(
        &format!(r#"{{"net":"{long}"}}"#),
        "too large for a table: a key of 1025 bytes, more than 1024",
    );
    let by_key = context(&[("field", "-")]);
    let [Outcome::Rejected { reason, .. }] = &call(&by_key, &[NewRecord::new(b"{}")])[..] else {
        panic!("it has no key");
    };
    assert_eq!(reason, "the record has no key");
}

#[test]
fn key_headers_and_time_stay_and_deletions_pass() {
    let headers = [Header {
        name: "h",
        value: Some(b"1"),
    }];
    let record = NewRecord::new(br#"{"net":"us"}"#)
        .with_key(b"k")
        .with_headers(&headers)
        .with_timestamp_ms(7);
    let outcomes = call(
        &context(&[("take", "name")]),
        &[record, NewRecord::tombstone(b"k")],
    );
    let [Outcome::Emitted(joined), Outcome::Emitted(deletion)] = &outcomes[..] else {
        panic!("{outcomes:?}");
    };
    let expected = Emitted {
        input: 0,
        output: "enriched".to_owned(),
        timestamp_ms: 7,
        key: Some(b"k".to_vec()),
        value: Some(br#"{"net":"us","network":{"name":"National"}}"#.to_vec()),
        headers: vec![("h".to_owned(), Some(b"1".to_vec()))],
    };
    assert_eq!(*joined, expected);
    assert_eq!(
        (deletion.key.as_deref(), &deletion.value),
        (Some(&b"k"[..]), &None)
    );
}

#[test]
fn a_lookup_sees_the_table_as_it_is_then() {
    let context = context(&[("take", "name")]);
    let mut worker = fresh(&context);
    let mut next = || {
        let event = [NewRecord::new(br#"{"net":"us"}"#)];
        let outcomes = testing::run(&context, &event, |record, out| {
            handle(&mut worker, record, out)
        });
        let outcomes = outcomes.unwrap();
        match &outcomes[..] {
            [Outcome::Emitted(emitted)] => {
                String::from_utf8(emitted.value.clone().unwrap()).unwrap()
            }
            other => panic!("{other:?}"),
        }
    };
    assert!(next().contains("National"));
    testing::put_in_table("reference", b"us", br#"{"name":"Another"}"#);
    assert!(next().contains("Another"));
    testing::delete_from_table("reference", b"us");
    assert_eq!(next(), r#"{"net":"us"}"#);
    let counted = [
        ("joined".to_owned(), Metric::Counter(2)),
        ("missing".to_owned(), Metric::Counter(1)),
    ];
    assert_eq!(testing::metrics(), counted);
}

#[test]
fn what_cannot_be_configured_is_refused() {
    let refused = |config: &[(&str, &str)]| {
        testing::add_table("reference");
        init(&context(config))
            .err()
            .expect("it is refused")
            .to_string()
    };
    assert!(refused(&[("field", "")]).starts_with("field must be"));
    assert!(refused(&[("as", "")]).starts_with("as must be"));
    assert!(refused(&[("take", "a,,b")]).starts_with("take must be"));
    assert!(refused(&[("missing", "no")]).ends_with("not `no`"));
    testing::clear_tables();
    let error = init(&context(&[]))
        .err()
        .expect("it has no table")
        .to_string();
    assert_eq!(
        error,
        "the deployment has no table `reference` (it has none)"
    );
}
