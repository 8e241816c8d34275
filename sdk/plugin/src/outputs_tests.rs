//! The writer, read back.

use std::time::Duration;

use super::*;
use crate::testing::{self, Emitted, Outcome};

fn context() -> Context {
    Context::new("test", "in", 0)
        .with_output("first")
        .with_output("second")
}

fn run(
    count: usize,
    mut handler: impl FnMut(usize, Record<'_>, &mut Outputs<'_>) -> Result<(), Failure>,
) -> Result<Vec<Outcome>, String> {
    let records = vec![NewRecord::new(b"in").with_timestamp_ms(42); count];
    let mut index = 0;
    testing::run(&context(), &records, |record, out| {
        index += 1;
        handler(index - 1, record, out)
    })
}

fn emitted(input: usize, output: &str, value: &[u8]) -> Outcome {
    Outcome::Emitted(Emitted {
        input,
        output: output.into(),
        timestamp_ms: 42,
        key: None,
        value: Some(value.to_vec()),
        headers: Vec::new(),
    })
}

#[test]
fn a_record_has_any_number_of_outputs() {
    let outcomes = run(200, |index, _, out| {
        let (first, second) = (out.output("first")?, out.output("second")?);
        if index == 3 || index == 199 {
            out.emit(first, &NewRecord::new(b"1"))?;
            out.emit(second, &NewRecord::new(b"2"))?;
        }
        Ok(())
    });
    let expect = [
        emitted(3, "first", b"1"),
        emitted(3, "second", b"2"),
        emitted(199, "first", b"1"),
        emitted(199, "second", b"2"),
    ];
    assert_eq!(outcomes.unwrap(), expect);
}

#[test]
fn all_of_a_record_goes_out() {
    let headers = [
        Header {
            name: "h",
            value: Some(b"v"),
        },
        Header {
            name: "none",
            value: None,
        },
    ];
    let input = NewRecord::tombstone(b"key")
        .with_headers(&headers)
        .with_timestamp_ms(-5);
    let outcomes = testing::run(&context(), &[input], |record, out| {
        let first = out.output("first")?;
        out.emit(first, &NewRecord::of(&record))?;
        out.emit(
            first,
            &NewRecord::of(&record)
                .with_key(b"other")
                .with_value(b"")
                .with_timestamp_ms(9),
        )?;
        out.emit(first, &NewRecord::of(&record).with_headers(&[]))
    });
    let copied = vec![
        ("h".to_owned(), Some(b"v".to_vec())),
        ("none".to_owned(), None),
    ];
    let first = Emitted {
        input: 0,
        output: "first".into(),
        timestamp_ms: -5,
        key: Some(b"key".to_vec()),
        value: None,
        headers: copied,
    };
    let changed = Emitted {
        key: Some(b"other".to_vec()),
        value: Some(Vec::new()),
        timestamp_ms: 9,
        ..first.clone()
    };
    let bare = Emitted {
        headers: Vec::new(),
        ..first.clone()
    };
    assert_eq!(
        outcomes.unwrap(),
        [first, changed, bare].map(Outcome::Emitted)
    );
}

#[test]
fn a_failure_withdraws_what_was_emitted_for_its_record_alone() {
    let outcomes = run(4, |index, _, out| {
        let first = out.output("first")?;
        out.emit(first, &NewRecord::new(b"out"))?;
        match index {
            1 => Err(Failure::reject("bad")),
            2 => Err(Failure::retry(Duration::from_millis(250), "busy")),
            _ => Ok(()),
        }
    });
    let expect = [
        emitted(0, "first", b"out"),
        Outcome::Rejected {
            input: 1,
            reason: "bad".into(),
        },
        Outcome::Retried {
            input: 2,
            after_ms: 250,
            reason: "busy".into(),
        },
        emitted(3, "first", b"out"),
    ];
    assert_eq!(outcomes.unwrap(), expect);
}

#[test]
fn an_abort_fails_the_call() {
    assert_eq!(
        run(2, |_, _, _| Err(Failure::abort("the end"))),
        Err("the end".into())
    );
    let unknown = run(1, |_, _, out| out.output("third").map(|_| ()));
    assert_eq!(
        unknown.unwrap_err(),
        "the deployment declares no output `third` (it declares `first`, `second`)"
    );
}

#[test]
fn any_error_rejects() {
    let outcomes = run(1, |_, _, _| {
        "x".parse::<u32>()?;
        Ok(())
    });
    assert_eq!(
        outcomes.unwrap(),
        [Outcome::Rejected {
            input: 0,
            reason: "invalid digit found in string".into()
        }]
    );
}

#[test]
fn what_the_host_would_refuse_is_rejected_here() {
    let check = |record: &NewRecord<'_>, expect: &str| {
        let outcomes = run(1, |_, _, out| {
            let first = out.output("first")?;
            out.emit(first, record)
        });
        assert_eq!(
            outcomes.unwrap(),
            [Outcome::Rejected {
                input: 0,
                reason: expect.into()
            }]
        );
    };
    let large = vec![0; MAX_RECORD_BYTES];
    check(
        &NewRecord::new(&large).with_key(b"k"),
        "an output has 4194305 bytes, more than 4194304",
    );
    let headers = [Header {
        name: "h",
        value: None,
    }; 257];
    check(
        &NewRecord::new(b"").with_headers(&headers),
        "an output has 257 headers, more than 256",
    );
    let name = "n".repeat(1025);
    let headers = [Header {
        name: &name,
        value: None,
    }];
    check(
        &NewRecord::new(b"").with_headers(&headers),
        "an output has a header's name of 1025 bytes, more than 1024",
    );
}

#[test]
fn a_long_reason_is_cut_between_characters() {
    let reason = "é".repeat(600) + "x";
    let outcomes = run(1, |_, _, _| Err(Failure::reject(&reason))).unwrap();
    assert_eq!(
        outcomes,
        [Outcome::Rejected {
            input: 0,
            reason: "é".repeat(512)
        }]
    );
}

#[test]
fn a_retry_is_at_most_a_day_away() {
    let outcomes = run(1, |_, _, _| Err(Failure::retry(Duration::MAX, ""))).unwrap();
    assert_eq!(
        outcomes,
        [Outcome::Retried {
            input: 0,
            after_ms: 86_400_000,
            reason: String::new()
        }]
    );
}
