//! The handler, run natively.

use std::collections::BTreeSet;

use millstream_plugin::testing::{self, Emitted, Outcome};
use millstream_plugin::{Context, NewRecord};
use quake_alert::{handle, init};
use serde_json::Value;

/// One week of the USGS's feed: see `tests/fixtures/README.md` at the root.
const EARTHQUAKES: &str = include_str!("../../../tests/fixtures/earthquakes.ndjson");

fn context() -> Context {
    Context::new("quake-alert", "earthquakes", 0).with_output("alerts")
}

fn run(context: &Context, lines: &[&str]) -> Vec<Outcome> {
    let records: Vec<_> = lines
        .iter()
        .map(|line| NewRecord::new(line.as_bytes()))
        .collect();
    let mut worker = init(context).unwrap();
    testing::run(context, &records, |record, out| {
        handle(&mut worker, record, out)
    })
    .unwrap()
}

fn emitted(outcomes: &[Outcome]) -> Vec<&Emitted> {
    let mut alerts = Vec::new();
    for outcome in outcomes {
        match outcome {
            Outcome::Emitted(emitted) => alerts.push(emitted),
            other => panic!("{other:?}"),
        }
    }
    alerts
}

#[test]
fn a_week_of_earthquakes_gives_85_alerts() {
    let lines: Vec<_> = EARTHQUAKES.lines().collect();
    assert_eq!(lines.len(), 1_707);
    let outcomes = run(&context(), &lines);
    let alerts = emitted(&outcomes);
    assert_eq!(alerts.len(), 85);

    let mut ids = BTreeSet::new();
    for emitted in alerts {
        let alert: Value = serde_json::from_slice(emitted.value.as_deref().unwrap()).unwrap();
        let event: Value = serde_json::from_str(lines[emitted.input]).unwrap();
        let fields: Vec<_> = alert
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        assert_eq!(
            fields,
            [
                "depth_km", "id", "lat", "lon", "mag", "net", "place", "time"
            ]
        );
        for field in fields {
            assert_eq!(alert[field], event[field], "{field}");
        }
        assert!(alert["mag"].as_f64().unwrap() >= 4.5);
        assert_eq!(
            emitted.key.as_deref(),
            alert["net"].as_str().map(str::as_bytes)
        );
        assert_eq!(emitted.output, "alerts");
        assert!(ids.insert(alert["id"].to_string()));
    }
}

#[test]
fn the_threshold_is_configured() {
    let lines: Vec<_> = EARTHQUAKES.lines().collect();
    let context = context().with_config("min-mag", "4");
    assert_eq!(run(&context, &lines).len(), 128);
}

#[test]
fn what_has_no_magnitude_is_dropped() {
    assert_eq!(run(&context(), &["{}", r#"{"mag":null}"#]), []);
}

#[test]
fn what_is_no_earthquake_is_rejected() {
    let check = |line: &str, expect: &str| {
        let outcomes = run(&context(), &[line]);
        assert_eq!(
            outcomes,
            [Outcome::Rejected {
                input: 0,
                reason: expect.into()
            }]
        );
    };
    check("", "invalid JSON at byte 0: expected an object");
    check(
        r#"{"mag":5.0"#,
        "invalid JSON at byte 10: expected `,` or `}`",
    );
    check(
        r#"{"mag":1.0,"x":[}"#,
        "invalid JSON at byte 16: expected a value",
    );
    check(
        r#"{"mag":"strong"}"#,
        r#"`mag` must be a number, not "strong""#,
    );
    check(r#"{"mag":5.0}"#, "missing field `id`");
    check(
        r#"{"id":1,"time":2,"mag":5.0,"net":7,"lon":3,"lat":4}"#,
        "invalid type: integer `7`, expected a string at line 1 column 1",
    );
}

#[test]
fn a_record_without_a_value_is_rejected() {
    let context = context();
    let mut worker = init(&context).unwrap();
    let outcomes = testing::run(&context, &[NewRecord::tombstone(b"key")], |record, out| {
        handle(&mut worker, record, out)
    });
    let expect = Outcome::Rejected {
        input: 0,
        reason: "the record has no value".into(),
    };
    assert_eq!(outcomes, Ok(vec![expect]));
}

#[test]
fn a_deployment_that_cannot_work_does_not_start() {
    let check = |context: Context, expect: &str| {
        assert_eq!(init(&context).err().unwrap().to_string(), expect);
    };
    let bare = Context::new("quake-alert", "earthquakes", 0);
    check(
        bare.clone(),
        "the deployment declares no output `alerts` (it declares none)",
    );
    check(
        bare.with_output("alert"),
        "the deployment declares no output `alerts` (it declares `alert`)",
    );
    check(
        context().with_config("min-mag", "big"),
        "min-mag must be a number, not `big`",
    );
    check(
        context().with_config("min-mag", "NaN"),
        "min-mag must be a number, not `NaN`",
    );
}
