//! A guest that was written for `wasi:messaging`: records in as messages, sent messages out as emits.

use std::sync::LazyLock;

use millstream_runtime::{CallError, Outcome, Outcomes, Plugin};

use crate::{BATCH_TIME_MS, RUNTIME, batch, built, setup};

static COURIER: LazyLock<Plugin> = LazyLock::new(|| {
    let component = built::component("server/runtime/tests/guests/courier", "courier.wasm");
    RUNTIME.compile(&component).unwrap()
});

fn handle(commands: &[&[u8]]) -> Result<Outcomes, CallError> {
    let mut worker = COURIER.start(setup().0).unwrap();
    Ok(worker.handle(&batch(5, commands))?.outcomes)
}

#[test]
fn a_record_comes_as_a_message() {
    let outcomes = handle(&[b"show"]).unwrap();
    let Some(Outcome::Emit(emit)) = outcomes.iter().next() else {
        panic!("nothing was sent");
    };
    assert_eq!(
        str::from_utf8(emit.value.unwrap()).unwrap(),
        r#"Some("commands") None Some([("h", "v"), ("millstream-key", "key")]) Ok(Some("blue"))"#
    );
    assert_eq!((emit.key, emit.timestamp_ms), (None, BATCH_TIME_MS));
}

#[test]
fn a_message_that_is_sent_on_becomes_a_record() {
    let outcomes = handle(&[b"forward"]).unwrap();
    let Some(Outcome::Emit(emit)) = outcomes.iter().next() else {
        panic!("nothing was sent");
    };
    assert_eq!(emit.key, Some(&b"key"[..]));
    assert_eq!(emit.value, Some(&b"forwarded"[..]));
    assert_eq!(
        emit.headers.collect::<Vec<_>>(),
        [
            ("content-type", Some(&b"text/plain"[..])),
            ("seen", Some(&b"yes"[..])),
        ]
    );
}

#[test]
fn each_record_has_its_own_outcome() {
    let commands: [&[u8]; 6] = [b"drop", b"twice", b"fail", b"time out", b"lost", b"twice"];
    let outcomes = handle(&commands).unwrap();
    let told = outcomes.iter().map(|outcome| match outcome {
        Outcome::Emit(emit) => {
            let value = str::from_utf8(emit.value.unwrap()).unwrap();
            format!("{} emits {value}", emit.input)
        }
        Outcome::Retry { input, reason, .. } => format!("{input} retries: {reason}"),
        Outcome::Reject { input, reason } => format!("{input} rejects: {reason}"),
    });
    assert_eq!(
        told.collect::<Vec<_>>(),
        [
            "1 emits one",
            "1 emits two",
            "2 retries: as told",
            "3 retries: it took too long",
            "4 retries: not permitted: the deployment has no output of this name; it has [\"found\"]",
            "5 emits one",
            "5 emits two",
        ]
    );
}

#[test]
fn what_a_guest_holds_is_bounded() {
    for (command, problem) in [
        ("panic", "as told"),
        ("hoard", "messages of more than 33554432 bytes in one call"),
        ("leak", "resource table has no free keys"),
    ] {
        let error = handle(&[command.as_bytes()]).unwrap_err();
        let CallError::Trap { reason, .. } = &error else {
            panic!("{command}: {error}");
        };
        assert!(reason.contains(problem), "{command}: {reason}");
    }
}
