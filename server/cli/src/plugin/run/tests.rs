use std::sync::LazyLock;

use clap::Parser;
use millstream_runtime::{LogLine, LogSink, Plugin};

use millstream_protocol::Offset;

use super::cause::Cause;
use super::input::{FIRST_TIMESTAMP_MS, InputRecord};
use super::session::{Tally, Told};
use super::*;
use crate::output::OutputFormat;

/// A guest that does what its records say: see the file.
const GUEST: &str = include_str!("guest.wat");

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Runtime::new(RuntimeConfig::default()).unwrap());

static PLUGIN: LazyLock<Plugin> =
    LazyLock::new(|| RUNTIME.compile(&wat::parse_str(GUEST).unwrap()).unwrap());

struct Silent;

impl LogSink for Silent {
    fn write(&self, _: LogLine) {}
}

fn session() -> Session {
    let setup = WorkerSetup {
        deployment: "test".to_owned(),
        topic: "records".to_owned(),
        partition: PARTITION,
        outputs: vec!["out".to_owned()],
        config: Vec::new(),
        limits: WorkerLimits::default(),
        logs: Arc::new(Silent),
        grants: WorkerGrants::default(),
        state: Arc::new(EmptyState),
        metrics: Arc::default(),
        tables: Vec::new(),
        waits: Arc::new(OwnThread),
    };
    Session::start(PLUGIN.clone(), setup, Arc::new(Place::default())).unwrap()
}

fn records(values: &[&str]) -> Vec<InputRecord> {
    records_from(0, values)
}

fn records_from(first: Offset, values: &[&str]) -> Vec<InputRecord> {
    (first..)
        .zip(values)
        .map(|(offset, value)| InputRecord {
            offset,
            line: offset + 1,
            timestamp_ms: FIRST_TIMESTAMP_MS + offset as i64,
            key: None,
            value: Some(value.as_bytes().to_vec()),
        })
        .collect()
}

fn line(told: &Told<'_>) -> String {
    let name = |cause: &Cause<'_>| match cause {
        Cause::Record(record) => record.offset.to_string(),
        Cause::Timer(timer) => format!("timer {}", timer.key.escape_ascii()),
    };
    match told {
        Told::Emitted(cause, emit) => {
            let value = String::from_utf8_lossy(emit.value.unwrap());
            format!("{} emits {value}", name(cause))
        }
        Told::Rejected(cause, reason) => format!("{} rejected: {reason}", name(cause)),
        Told::Retried(cause, after_ms, reason) => {
            format!("{} retried after {after_ms}: {reason}", name(cause))
        }
        Told::Failed(cause, failure) => format!("{} failed: {failure}", name(cause)),
        Told::CallFailed(at, _) => format!("the call with {at} failed"),
    }
}

/// What is told of one call.
fn call(session: &mut Session, records: &[InputRecord]) -> Vec<String> {
    let mut lines = Vec::new();
    let mut tell = |told: Told<'_>| {
        lines.push(line(&told));
        Ok(())
    };
    session.call(records, &mut tell).unwrap();
    lines
}

/// What is told of one call, and what the session has come to then.
fn check(values: &[&str]) -> (Vec<String>, Session) {
    let mut session = session();
    let lines = call(&mut session, &records(values));
    (lines, session)
}

/// A session that has handled these, in a call each.
fn after(values: &[&str]) -> Session {
    let mut session = session();
    for record in records(values) {
        call(&mut session, &[record]);
    }
    session
}

#[test]
fn outcomes_are_told() {
    assert_eq!(check(&["a", "b"]).0, ["0 emits v"]);
    assert_eq!(check(&["a?"]).0, ["0 rejected: no"]);
    let (lines, session) = check(&["a%"]);
    assert_eq!(lines, ["0 retried after 1000: later"]);
    assert_eq!((session.tally().retried, session.tally().calls), (1, 1));
}

#[test]
fn a_failed_call_is_narrowed_down_to_its_record() {
    let (lines, session) = check(&["a", "b", "c!", "d", "e"]);
    let failed = "2 failed: trapped: wasm trap: wasm `unreachable` instruction executed";
    // Halves: 0 to 1, 2 to 4 (fails), 2 (fails), 3 to 4.
    assert_eq!(
        lines,
        [
            "the call with offsets 0 to 4 failed",
            "0 emits v",
            failed,
            "3 emits v"
        ]
    );
    let tally = session.tally().clone();
    let expected = Tally {
        records: 5,
        calls: 5,
        emitted: 2,
        failed: 1,
        failed_calls: 1,
        time: tally.time,
        ..Tally::default()
    };
    assert_eq!(tally, expected);
}

#[test]
fn a_failed_call_leaves_no_state_behind() {
    assert_eq!(check(&["a+!"]).1.state_entries(), 0);
    assert_eq!(check(&["a+"]).1.state_entries(), 1);
    assert_eq!(check(&["a+?"]).1.state_entries(), 1);
}

#[test]
fn a_record_to_be_retried_leaves_no_trace_in_the_state() {
    // The first is set aside, and the others are handled again without it.
    let (lines, session) = check(&["a+%", "b", "c"]);
    assert_eq!(lines, ["1 emits v", "0 retried after 1000: later"]);
    assert_eq!(session.state_entries(), 0);
    let tally = session.tally();
    assert_eq!((tally.calls, tally.retried, tally.emitted), (2, 1, 1));
}

#[test]
fn a_timer_fires_after_the_call_whose_records_have_reached_its_time() {
    let mut session = after(&["@2a"]);
    assert_eq!(session.timers_waiting(), 1);
    assert_eq!(call(&mut session, &records_from(1, &["b"])), ["1 emits v"]);
    let lines = call(&mut session, &records_from(2, &["c", "d"]));
    assert_eq!(lines, ["2 emits v", "timer a emits v"]);
    assert_eq!((session.timers_waiting(), session.tally().timers), (0, 1));
    assert_eq!(call(&mut session, &records_from(4, &["e"])), ["4 emits v"]);
}

#[test]
fn a_failed_call_of_timers_is_narrowed_down_to_its_timer() {
    let mut session = after(&["@9d", "@8t", "@7b", "@6a"]);
    let lines = call(&mut session, &records_from(9, &["x"]));
    let failed = "timer t failed: trapped: wasm trap: wasm `unreachable` instruction executed";
    let first = FIRST_TIMESTAMP_MS;
    assert_eq!(
        lines,
        [
            "9 emits v".to_owned(),
            format!(
                "the call with the timers of {} to {} failed",
                first + 6,
                first + 9
            ),
            "timer a emits v".to_owned(),
            failed.to_owned(),
            "timer d emits v".to_owned(),
        ]
    );
    let tally = session.tally();
    assert_eq!((tally.timers, tally.failed_timers, tally.failed), (4, 1, 0));
    assert_eq!(session.timers_waiting(), 0);
}

#[test]
fn a_timer_to_be_retried_leaves_no_trace_in_the_state() {
    let mut session = after(&["@5r", "@6b"]);
    let lines = call(&mut session, &records_from(9, &["x"]));
    assert_eq!(lines, ["9 emits v", "timer r retried after 1000: later"]);
    let mut session = after(&["@5r", "@6p"]);
    let lines = call(&mut session, &records_from(9, &["x"]));
    let told = [
        "9 emits v",
        "timer p emits v",
        "timer r retried after 1000: later",
    ];
    assert_eq!(lines, told);
    assert_eq!((session.state_entries(), session.timers_waiting()), (1, 0));
    let mut session = after(&["@5n"]);
    let lines = call(&mut session, &records_from(9, &["x"]));
    assert_eq!(lines, ["9 emits v", "timer n rejected: no"]);
}

#[test]
fn in_the_end_every_timer_fires_that_waits_then() {
    let mut session = after(&["@6l", "#5w", "x"]);
    // What `l` sets is a second later than the last of them.
    assert!(report::summary("test", &session).contains("\ntimers: 0 fired, 2 still wait"));
    let mut lines = Vec::new();
    let mut tell = |told: Told<'_>| {
        lines.push(line(&told));
        Ok(())
    };
    session.fire_all(&mut tell).unwrap();
    assert_eq!(lines, ["timer w emits v"]);
    assert!(report::summary("test", &session).contains("\ntimers: 2 fired, 1 still wait"));
}

#[test]
fn timers_that_set_each_other_for_ever_are_stopped() {
    let mut session = after(&["@9s"]);
    let ran = session.call(&records_from(9, &["x"]), &mut |_| Ok(()));
    let error = ran.unwrap_err().to_string();
    insta::assert_snapshot!(error, @"timers have fired in 1000 calls on end, and more are due");
}

#[test]
fn a_timer_is_told_in_place_of_the_offset() {
    let mut session = session();
    let mut json = Vec::new();
    let mut tell = |told: Told<'_>| {
        if let Told::Emitted(cause, emit) = told {
            json.push(emitted::line(OutputFormat::Json, "out", cause, &emit)?);
        }
        Ok(())
    };
    session.call(&records(&["@0a"]), &mut tell).unwrap();
    insta::assert_snapshot!(json.join("\n"), @r#"
    {"output":"out","key":null,"value":"v","headers":[],"timestamp_ms":0,"offset":0}
    {"output":"out","key":null,"value":"v","headers":[],"timestamp_ms":0,"timer":{"clock":"record-time","key":"a","at_ms":1577836800000}}
    "#);
}

#[test]
fn the_summary_counts() {
    let (_, mut session) = check(&["a+", "b!", "c?"]);
    session.call(&records(&["d"]), &mut |_| Ok(())).unwrap();
    let summary = report::summary("test", &session);
    let first = summary.lines().next().unwrap();
    insta::assert_snapshot!(first, @"ran test over 4 records: 2 emitted, 1 rejected, 0 to be retried, 1 failed");
    assert!(summary.contains("state: 1 entry;"), "{summary}");
}

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    run: RunArgs,
}

fn parse(args: &[&str]) -> Result<RunArgs, clap::Error> {
    Line::try_parse_from([&["test", "--records=r"], args].concat()).map(|line| line.run)
}

/// A job on a component in a folder of its own, and that folder.
async fn job(args: &[&str], deployment: Option<&str>) -> anyhow::Result<(tempfile::TempDir, Job)> {
    let folder = tempfile::tempdir().unwrap();
    let component = folder.path().join("my_guest.wasm");
    std::fs::write(&component, wat::parse_str(GUEST).unwrap()).unwrap();
    let file = folder.path().join("deployment.toml");
    let named = match deployment {
        Some(text) => {
            std::fs::write(&file, text).unwrap();
            ["-f", file.to_str().unwrap()]
        }
        None => ["--", component.to_str().unwrap()],
    };
    let args = [args, &named].concat();
    let job = parse(&args).unwrap().job().await?;
    Ok((folder, job))
}

#[tokio::test]
async fn options_say_what_the_guest_is_told() {
    let args = [
        "--output-name=a",
        "--output-name=b",
        "--config=x=1",
        "--config=x=2",
        "--memory=1MiB",
    ];
    let (_folder, job) = job(&args, None).await.unwrap();
    assert_eq!(job.timers_left, TimersLeft::Wait);
    let expected = Subject {
        deployment: "my-guest".to_owned(),
        topic: "records".to_owned(),
        outputs: vec!["a".to_owned(), "b".to_owned()],
        config: vec![("x".to_owned(), "2".to_owned())],
        limits: WorkerLimits {
            memory_bytes: 1 << 20,
            ..WorkerLimits::default()
        },
        grants: Grants::default(),
        tables: Vec::new(),
    };
    assert_eq!(job.subject, expected);
}

#[tokio::test]
async fn a_file_says_it_as_well() {
    let file = "name = \"n\"\ncomponent = \"my_guest.wasm\"\ninputs = [\"in\"]\n\
                [outputs]\nb = \"t1\"\na = \"t2\"\n[config]\nx = 1\ny = 2\n[limits]\ndeadline = \"2s\"\n";
    let (_folder, job) = job(&["--config=x=7"], Some(file)).await.unwrap();
    let expected = Subject {
        deployment: "n".to_owned(),
        topic: "in".to_owned(),
        outputs: vec!["a".to_owned(), "b".to_owned()],
        config: vec![
            ("y".to_owned(), "2".to_owned()),
            ("x".to_owned(), "7".to_owned()),
        ],
        limits: WorkerLimits {
            deadline_ms: 2_000,
            ..WorkerLimits::default()
        },
        grants: Grants::default(),
        tables: Vec::new(),
    };
    assert_eq!(job.subject, expected);
}

#[test]
fn contradictions_are_refused() {
    for args in [
        &[][..],
        &["x.wasm", "-f", "d.toml"],
        &["-f", "d.toml", "--output-name=a"],
        &["-f", "d.toml", "--deadline=1s"],
        &["x.wasm", "--records-per-call=0"],
        &["x.wasm", "--records-per-call=100001"],
        &["x.wasm", "--config=a"],
    ] {
        assert!(parse(args).is_err(), "{args:?}");
    }
}

#[tokio::test]
async fn times_are_read_from_the_lines() {
    let (_folder, job) = job(&["--timestamp-field=t", "--fire-timers"], None)
        .await
        .unwrap();
    let record = job.format.record(b"{\"t\":5}").unwrap().unwrap();
    assert_eq!(record.explicit_timestamp_ms(), Some(5));
    assert_eq!(job.timers_left, TimersLeft::Fire);
}

/// Runs the guest over lines, and gives the error's words.
async fn outcome(lines: &str, expect: Option<&str>) -> Result<(), String> {
    let (folder, mut job) = job(&["--output-name=out"], None).await.unwrap();
    job.records = folder.path().join("records");
    std::fs::write(&job.records, lines).unwrap();
    if let Some(expect) = expect {
        let path = folder.path().join("expected");
        std::fs::write(&path, expect).unwrap();
        job.expect = Some(path);
    }
    let output = Output::new(OutputFormat::Table, crate::output::Prose::Hidden);
    let ran = tokio::task::spawn_blocking(move || job.run(output))
        .await
        .unwrap();
    ran.map_err(|error| {
        error
            .to_string()
            .replace(&*folder.path().to_string_lossy(), "")
    })
}

#[tokio::test]
async fn a_run_fails_when_a_record_does_or_the_output_differs() {
    assert_eq!(outcome("a\nb\n", None).await, Ok(()));
    assert_eq!(outcome("a\nb\n", Some("out\t\tv\n")).await, Ok(()));
    insta::assert_snapshot!(outcome("a\n", Some("out\t\tw\n")).await.unwrap_err(), @r"
    the output is not as /expected says: line 1
    expected: out		w
    found:    out		v
    ");
    assert_eq!(
        outcome("a\nb!\n", None).await.unwrap_err(),
        "1 record failed"
    );
}
