//! A guest with a `record-handler`: typed records in, typed outcomes out, and the same for callers.

use std::sync::LazyLock;

use millstream_runtime::{
    BadOutput, BadOutputPlace, CallError, Emit, Instance, MAX_OUTPUT_BYTES, Outcome, Outcomes,
    Plugin,
};

use crate::{BATCH_TIME_MS, RUNTIME, batch, built, setup};

static PLAIN: LazyLock<Plugin> = LazyLock::new(|| {
    let component = built::component("server/runtime/tests/guests/plain", "plain.wasm");
    RUNTIME.compile(&component).unwrap()
});

fn start() -> Instance {
    PLAIN.start(setup().0).unwrap()
}

fn handle(commands: &[&str]) -> Result<Outcomes, CallError> {
    let commands: Vec<_> = commands.iter().map(|command| command.as_bytes()).collect();
    Ok(start().handle(&batch(5, &commands))?.outcomes)
}

fn emits(outcomes: &Outcomes) -> Vec<Emit<'_>> {
    let emit = |outcome| match outcome {
        Outcome::Emit(emit) => emit,
        other => panic!("{other:?}"),
    };
    outcomes.iter().map(emit).collect()
}

fn texts(outcomes: &Outcomes) -> Vec<String> {
    let text = |emit: &Emit<'_>| String::from_utf8(emit.value.unwrap().to_vec()).unwrap();
    emits(outcomes).iter().map(text).collect()
}

#[test]
fn a_worker_knows_itself() {
    let expect =
        r#"Context { deployment: "probe-1", topic: "commands", partition: 7, outputs: ["found"] }"#;
    assert_eq!(texts(&handle(&["context"]).unwrap()), [expect]);
    let (mut setup, _) = setup();
    setup.config = vec![("refuse".into(), "not today".into())];
    let error = PLAIN.start(setup).unwrap_err();
    assert_eq!(error.to_string(), "init refused: not today");
}

#[test]
fn all_of_a_record_comes_in() {
    let two = [batch(5, &[b"drop", b"show"]), batch(9, &[b"show"])].concat();
    let outcomes = start().handle(&two).unwrap().outcomes;
    assert_eq!(outcomes.records(), 3);
    let shown = |offset| {
        format!(
            "InputRecord {{ offset: {offset}, timestamp-ms: {BATCH_TIME_MS}, \
             key: Some([107, 101, 121]), value: Some([115, 104, 111, 119]), \
             headers: [Header {{ name: \"h\", value: Some([118]) }}] }}"
        )
    };
    assert_eq!(texts(&outcomes), [shown(6), shown(9)]);
    let inputs: Vec<_> = emits(&outcomes).iter().map(|emit| emit.input).collect();
    assert_eq!(inputs, [1, 2]);
}

#[test]
fn all_of_a_record_goes_out() {
    let outcomes = handle(&["forward", "emit 1"]).unwrap();
    let [forwarded, bare] = emits(&outcomes)[..] else {
        panic!("{outcomes:?}")
    };
    assert_eq!((forwarded.input, forwarded.output), (0, 0));
    assert_eq!(forwarded.timestamp_ms, BATCH_TIME_MS + 1);
    assert_eq!(forwarded.key, Some(&b"key"[..]));
    assert_eq!(forwarded.value, Some(&b"forward"[..]));
    let headers: Vec<_> = forwarded.headers.collect();
    assert_eq!(headers, [("h", Some(&b"v"[..]))]);

    // Without a time of its own, the record has that of its input.
    assert_eq!((bare.input, bare.timestamp_ms), (1, BATCH_TIME_MS));
    assert_eq!((bare.key, bare.value), (None, Some(&b""[..])));
    assert_eq!(bare.headers.count(), 0);
}

#[test]
fn each_outcome_arrives() {
    let outcomes = handle(&["emit 2", "drop", "reject", "emit 0", "retry 1500", "emit 1"]);
    let outcomes = outcomes.unwrap();
    assert_eq!(
        (outcomes.emitted(), outcomes.rejected(), outcomes.retried()),
        (3, 1, 1)
    );
    let inputs: Vec<_> = outcomes.iter().map(|outcome| outcome.input()).collect();
    assert_eq!(inputs, [0, 0, 2, 4, 5]);
    let failures: Vec<_> = outcomes.iter().skip(2).take(2).collect();
    let (reason, after_ms) = ("as told", 1_500);
    let expect = [
        Outcome::Reject { input: 2, reason },
        Outcome::Retry {
            input: 4,
            after_ms,
            reason,
        },
    ];
    assert_eq!(failures, expect);
}

#[test]
fn what_breaks_a_rule_is_refused_with_its_input() {
    let check = |command: &str, input: u32, what: &str| {
        let mut worker = start();
        let batch = batch(0, &[b"emit 1", b"drop", command.as_bytes(), b"drop"]);
        let error = worker.handle(&batch).unwrap_err();
        let expect = BadOutput {
            at: BadOutputPlace::Input(input),
            what: what.into(),
        };
        assert_eq!(error, CallError::BadOutput(expect), "{command}");
        assert_eq!(worker.handle(&batch).unwrap_err(), CallError::Spent);
    };
    check("none", 3, "3 outcomes of a call with 4 inputs");
    check("two", 4, "5 outcomes of a call with 4 inputs");
    check(
        "emit 1001",
        2,
        "input 2 has more than 1000 outputs, the limit `outputs-per-record`",
    );
    check("emit-to 1", 2, "output 1 of a deployment with 1");
    check(
        "emit-bytes 4194305",
        2,
        "a record of 4194305 bytes, more than 4194304",
    );
    check(
        "emit-headers 257 1",
        2,
        "header count 257 is not within 0 to 256",
    );
    check(
        "emit-headers 1 1025",
        2,
        "a header's name has 1025 bytes, more than 1024",
    );
    check(
        "reject-bytes 4097",
        2,
        "reason length 4097 is not within 0 to 4096",
    );
    check(
        "retry 86400001",
        2,
        "retry time 86400001 is not within 0 to 86400000",
    );
}

#[test]
fn all_outcomes_of_a_call_are_limited() {
    let (mut setup, _) = setup();
    setup.limits.memory_bytes = 256 << 20;
    setup.limits.deadline_ms = 60_000;
    let mut worker = PLAIN.start(setup).unwrap();
    let commands = [&b"emit-bytes 4000000"[..]; 9];
    let expect = BadOutput {
        at: BadOutputPlace::Input(8),
        what: format!("more than {MAX_OUTPUT_BYTES} bytes returned"),
    };
    let error = worker.handle(&batch(0, &commands)).unwrap_err();
    assert_eq!(error, CallError::BadOutput(expect));
}

#[test]
fn a_call_that_fails_says_why() {
    let error = handle(&["emit 1", "fail"]).unwrap_err();
    assert_eq!(error, CallError::Guest("as told".into()));
    let error = handle(&["panic"]).unwrap_err();
    let CallError::Trap { reason, .. } = &error else {
        panic!("{error}")
    };
    assert!(reason.contains("as told"), "{reason}");
}

#[test]
fn state_is_kept_as_for_any_handler() {
    let handled = start().handle(&batch(0, &[b"count", b"count"])).unwrap();
    assert_eq!(texts(&handled.outcomes), ["1", "2"]);
    let changes: Vec<_> = handled.state.into_iter().collect();
    assert_eq!(changes, [(b"key".to_vec(), Some(vec![0, 0]))]);
}

#[test]
fn what_are_no_batches_is_not_handed_over() {
    let mut worker = start();
    let good = batch(0, &[b"emit 1"]);
    let mut flipped = good.clone();
    *flipped.last_mut().unwrap() ^= 1;
    for bad in [&b"nonsense"[..], &[], &good[..good.len() - 1], &flipped] {
        let error = worker.handle(bad).unwrap_err();
        assert!(matches!(error, CallError::BadInput(_)), "{error}");
    }
    assert_eq!(worker.handle(&good).unwrap().outcomes.emitted(), 1);
}
