//! The reader against the guest SDK's writer, and against guests that lie.

use std::time::Duration;

use millstream_plugin::{Context, Failure, Header, NewRecord, process, testing};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;

const EXPECTED: Expected = Expected {
    records: 10,
    outputs: 2,
    outputs_per_record: 3,
};

/// A zigzag varint.
fn varint(value: i64) -> Vec<u8> {
    let mut zigzag = ((value << 1) ^ (value >> 63)) as u64;
    let mut bytes = Vec::new();
    while zigzag >= 0x80 {
        bytes.push(zigzag as u8 | 0x80);
        zigzag >>= 7;
    }
    bytes.push(zigzag as u8);
    bytes
}

/// Concatenates varints, and the text behind them.
fn bytes(varints: &[i64], text: &str) -> Vec<u8> {
    let mut bytes: Vec<u8> = varints.iter().copied().flat_map(varint).collect();
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

/// An entry that emits to the first output: kind 0, output 0, a record of a value alone.
fn emit(delta: i64, value: &str) -> Vec<u8> {
    let record = [
        vec![0],
        bytes(&[42, 0, -1, value.len() as i64], value),
        varint(0),
    ]
    .concat();
    [
        varint(delta),
        vec![EMIT],
        bytes(&[0, record.len() as i64], ""),
        record,
    ]
    .concat()
}

/// An entry of kind 0 whose record is `fields`.
fn emit_raw(output: i64, fields: &[u8]) -> Vec<u8> {
    [
        varint(0),
        vec![EMIT],
        bytes(&[output, fields.len() as i64], ""),
        fields.to_vec(),
    ]
    .concat()
}

fn check_ok(returned: &[u8]) -> Outcomes {
    Outcomes::check(Bytes::copy_from_slice(returned), EXPECTED).unwrap()
}

fn check_bad(returned: &[u8], at: usize, what: &str) {
    let error = Outcomes::check(Bytes::copy_from_slice(returned), EXPECTED).unwrap_err();
    assert_eq!(
        error,
        BadOutput {
            at: BadOutputPlace::Byte(at),
            what: what.into()
        }
    );
}

#[test]
fn nothing_returned_drops_all() {
    let outcomes = check_ok(&[]);
    assert_eq!((outcomes.records(), outcomes.iter().count()), (10, 0));
}

#[test]
fn each_kind_is_read() {
    let retry = [bytes(&[3], ""), vec![RETRY], bytes(&[1_500, 4], "busy")].concat();
    let reject = [bytes(&[1], ""), vec![REJECT], bytes(&[3], "bad")].concat();
    let outcomes = check_ok(&[emit(5, "a"), emit(0, "b"), retry, reject].concat());
    let headers = EmitHeaders {
        rest: &[],
        remaining: 0,
    };
    let emitted = |value| Emit {
        input: 5,
        output: 0,
        timestamp_ms: 42,
        key: None,
        value: Some(value),
        headers,
    };
    let expect = [
        Outcome::Emit(emitted(b"a")),
        Outcome::Emit(emitted(b"b")),
        Outcome::Retry {
            input: 8,
            after_ms: 1_500,
            reason: "busy",
        },
        Outcome::Reject {
            input: 9,
            reason: "bad",
        },
    ];
    assert_eq!(outcomes.iter().collect::<Vec<_>>(), expect);
    assert_eq!(
        (outcomes.emitted(), outcomes.rejected(), outcomes.retried()),
        (2, 1, 1)
    );
}

#[test]
fn lying_lengths_are_refused() {
    check_bad(&[0, EMIT], 0, "the end is missing");
    check_bad(&[0], 0, "the end is missing");
    check_bad(&[0xff; 12], 0, "a varint is too long");
    check_bad(&[0, 7], 0, "unknown kind 7");
    check_bad(&[0, REJECT, 2], 0, "1 bytes claimed, 0 are there");
    check_bad(
        &[bytes(&[0], ""), vec![EMIT], bytes(&[0, 1_000_000], "")].concat(),
        0,
        "1000000 bytes claimed, 0 are there",
    );
    check_bad(
        &[vec![0, REJECT], bytes(&[4_097], "")].concat(),
        0,
        "reason length 4097 is not within 0 to 4096",
    );
    check_bad(
        &[vec![0, REJECT], bytes(&[-1], "")].concat(),
        0,
        "reason length -1 is not within 0 to 4096",
    );
    let too_late = [vec![0, RETRY], bytes(&[86_400_001, 0], "")].concat();
    check_bad(
        &too_late,
        0,
        "retry time 86400001 is not within 0 to 86400000",
    );
    check_bad(&[0, REJECT, 2, 0xff], 0, "a reason is not UTF-8");
    // The second entry is the bad one, and the place is told.
    let good = emit(0, "x");
    check_bad(
        &[good.clone(), vec![0, 9]].concat(),
        good.len(),
        "unknown kind 9",
    );
}

#[test]
fn records_that_break_the_format_are_refused() {
    let record = |varints: &[i64]| [vec![0], bytes(varints, "")].concat();
    check_bad(&emit_raw(0, &[1]), 0, "record attributes are not 0");
    check_bad(&emit_raw(0, &record(&[0, 1])), 0, "offset delta is not 0");
    check_bad(
        &emit_raw(0, &record(&[0, 0, 100])),
        0,
        "100 bytes claimed, 0 are there",
    );
    check_bad(
        &emit_raw(0, &record(&[0, 0, -2])),
        0,
        "length -2 is negative",
    );
    check_bad(
        &emit_raw(0, &record(&[0, 0, -1, -1])),
        0,
        "the end is missing",
    );
    check_bad(
        &emit_raw(0, &record(&[0, 0, -1, -1, 0, 0])),
        0,
        "1 bytes too many in a record",
    );
    check_bad(
        &emit_raw(0, &record(&[0, 0, -1, -1, 257])),
        0,
        "header count 257 is not within 0 to 256",
    );
    check_bad(
        &emit_raw(0, &record(&[0, 0, -1, -1, 1, -1])),
        0,
        "a header has no name",
    );
    let unnamed = [record(&[0, 0, -1, -1, 1, 1]), vec![0xff], bytes(&[-1], "")].concat();
    check_bad(&emit_raw(0, &unnamed), 0, "a header's name is not UTF-8");
    let long_name = [
        record(&[0, 0, -1, -1, 1, 1_025]),
        vec![b'n'; 1_025],
        bytes(&[-1], ""),
    ]
    .concat();
    check_bad(
        &emit_raw(0, &long_name),
        0,
        "a header's name has 1025 bytes, more than 1024",
    );
    let year_10000 = record(&[253_402_300_800_000, 0, -1, -1, 0]);
    check_bad(
        &emit_raw(0, &year_10000),
        0,
        "timestamp 253402300800000 is out of range",
    );
    let large = [
        record(&[0, 0, 4_194_304]),
        vec![0; 4_194_304],
        bytes(&[1], "x"),
        varint(0),
    ]
    .concat();
    check_bad(
        &emit_raw(0, &large),
        0,
        "a record of 4194305 bytes, more than 4194304",
    );
}

#[test]
fn limits_of_the_call_are_kept() {
    check_bad(&emit(10, "x"), 0, "input 10 of a call with 10 records");
    check_bad(
        &emit(-1, "x"),
        0,
        "input index -1 is not within 0 to 4294967295",
    );
    let overflow = [emit(5, "x"), emit(4_294_967_295, "x")].concat();
    check_bad(
        &overflow,
        overflow.len() / 2 - 2,
        "input index is out of range",
    );
    check_bad(
        &emit_raw(2, &[0, 0, 0, 1, 1, 0]),
        0,
        "output 2 of a deployment with 2",
    );
    let four = [emit(1, "x"), emit(0, "x"), emit(0, "x"), emit(0, "x")].concat();
    check_bad(
        &four,
        four.len() / 4 * 3,
        "input 1 has more than 3 outputs, the limit `outputs-per-record`",
    );
    // Three of one record and three of the next are within the limit.
    check_ok(
        &[
            emit(1, "x"),
            emit(0, "x"),
            emit(0, "x"),
            emit(1, "x"),
            emit(0, "x"),
            emit(0, "x"),
        ]
        .concat(),
    );
    let error = Outcomes::check(Bytes::from(vec![0; MAX_OUTPUT_BYTES + 1]), EXPECTED).unwrap_err();
    assert_eq!(error.what, "33554433 bytes returned, more than 33554432");
}

#[test]
fn outcomes_that_exclude_each_other_are_refused() {
    let reject = |delta| [varint(delta), vec![REJECT], bytes(&[0], "")].concat();
    let excluded = "input 4 has outcomes that exclude each other";
    check_bad(
        &[emit(4, "x"), reject(0)].concat(),
        emit(4, "x").len(),
        excluded,
    );
    check_bad(
        &[reject(4), emit(0, "x")].concat(),
        reject(4).len(),
        excluded,
    );
    check_bad(&[reject(4), reject(0)].concat(), reject(4).len(), excluded);
    check_ok(&[reject(4), reject(1)].concat());
}

#[derive(Clone, Debug)]
enum Done {
    Emit(Vec<testing::Emitted>),
    Reject(String),
    Retry(u32, String),
}

fn some_emitted() -> impl Strategy<Value = testing::Emitted> {
    let some_bytes = || option::of(vec(any::<u8>(), 0..80));
    let headers = vec(("[a-zé]{0,9}", some_bytes()), 0..3);
    let output = prop_oneof![Just("first".to_owned()), Just("second".to_owned())];
    let timestamp_ms = -MAX_TIMESTAMP_MS..=MAX_TIMESTAMP_MS;
    (output, timestamp_ms, some_bytes(), some_bytes(), headers).prop_map(
        |(output, timestamp_ms, key, value, headers)| testing::Emitted {
            input: 0,
            output,
            timestamp_ms,
            key,
            value,
            headers,
        },
    )
}

fn some_done() -> impl Strategy<Value = Done> {
    prop_oneof![
        4 => vec(some_emitted(), 0..4).prop_map(Done::Emit),
        1 => "[a-zé]{0,20}".prop_map(Done::Reject),
        1 => (0..=MAX_RETRY_MS, "[a-zé]{0,20}").prop_map(|(after_ms, reason)| Done::Retry(after_ms, reason)),
    ]
}

/// Has the SDK write `done`, one input record after the other.
fn write(done: &[Done]) -> Vec<u8> {
    let context = Context::new("test", "in", 0)
        .with_output("first")
        .with_output("second");
    let batch = testing::batch(&vec![NewRecord::new(b"in"); done.len()]);
    let (mut out, mut next) = (Vec::new(), done.iter());
    let handled = process(&context, &batch, &mut out, |_, out| {
        match next.next().unwrap() {
            Done::Emit(records) => records.iter().try_for_each(|record| {
                let header =
                    |(name, value): &'_ (String, Option<Vec<u8>>)| (name.clone(), value.clone());
                let headers: Vec<_> = record.headers.iter().map(header).collect();
                let headers: Vec<_> = headers
                    .iter()
                    .map(|(name, value)| Header {
                        name,
                        value: value.as_deref(),
                    })
                    .collect();
                let mut new = NewRecord::default()
                    .with_headers(&headers)
                    .with_timestamp_ms(record.timestamp_ms);
                new = record.key.as_deref().map_or(new, |key| new.with_key(key));
                new = record
                    .value
                    .as_deref()
                    .map_or(new, |value| new.with_value(value));
                let output = out.output(&record.output)?;
                out.emit(output, &new)
            }),
            Done::Reject(reason) => Err(Failure::reject(reason)),
            Done::Retry(after_ms, reason) => Err(Failure::retry(
                Duration::from_millis((*after_ms).into()),
                reason,
            )),
        }
    });
    handled.unwrap();
    out
}

/// What the reader makes of it, as the writer was told.
fn read(outcomes: &Outcomes) -> Vec<Done> {
    let mut done = vec![Done::Emit(Vec::new()); outcomes.records() as usize];
    for outcome in outcomes {
        let done = &mut done[outcome.input() as usize];
        match (outcome, done) {
            (Outcome::Emit(emit), Done::Emit(records)) => records.push(testing::Emitted {
                input: 0,
                output: ["first", "second"][emit.output].to_owned(),
                timestamp_ms: emit.timestamp_ms,
                key: emit.key.map(<[u8]>::to_vec),
                value: emit.value.map(<[u8]>::to_vec),
                headers: emit
                    .headers
                    .map(|(name, value)| (name.to_owned(), value.map(<[u8]>::to_vec)))
                    .collect(),
            }),
            (Outcome::Reject { reason, .. }, done) => *done = Done::Reject(reason.to_owned()),
            (
                Outcome::Retry {
                    after_ms, reason, ..
                },
                done,
            ) => *done = Done::Retry(after_ms, reason.to_owned()),
            (outcome, done) => panic!("{outcome:?} after {done:?}"),
        }
    }
    done
}

proptest! {
    #[test]
    fn what_the_sdk_writes_is_read(done in vec(some_done(), 1..200)) {
        let expected = Expected { records: done.len() as u32, ..EXPECTED };
        let outcomes = Outcomes::check(write(&done).into(), expected).unwrap();
        prop_assert_eq!(format!("{:?}", read(&outcomes)), format!("{:?}", done));
    }

    #[test]
    fn any_bytes_are_read_or_refused(
        done in vec(some_done(), 1..10),
        flips in vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let mut returned = write(&done);
        for (index, byte) in flips {
            if !returned.is_empty() {
                let index = index.index(returned.len());
                returned[index] = byte;
            }
        }
        let bytes = returned.len();
        if let Ok(outcomes) = Outcomes::check(returned.into(), EXPECTED) {
            let counted = outcomes.emitted() + outcomes.rejected() + outcomes.retried();
            prop_assert_eq!(outcomes.iter().count(), counted as usize);
            prop_assert!(outcomes.iter().all(|outcome| outcome.input() < EXPECTED.records));
            prop_assert!(counted as usize <= bytes);
        }
    }
}

#[test]
fn a_masked_reason_does_not_tell_how_long_the_secret_is() {
    let entry = |kinds: &[u8], reason: &str| {
        let after_ms = if kinds == [RETRY] {
            varint(5)
        } else {
            Vec::new()
        };
        let length = varint(reason.len() as i64);
        [
            varint(1),
            kinds.to_vec(),
            after_ms,
            length,
            reason.as_bytes().to_vec(),
        ]
        .concat()
    };
    let returned = [
        emit(0, "hunter2"),
        entry(&[REJECT], "no hunter2, añejo"),
        entry(&[RETRY], "hunter2"),
        entry(&[REJECT], "fine"),
        emit(1, "behind"),
    ]
    .concat();
    let mut masks = Masks::default();
    let plain = check_ok(&returned).masked(&masks);
    assert_eq!(plain, check_ok(&returned));
    masks.add("hunter2");
    masks.add("añejo");
    let masked = check_ok(&returned).masked(&masks);
    let expected = [
        emit(0, "hunter2"),
        entry(&[REJECT], "no ***, ***"),
        entry(&[RETRY], "***"),
        entry(&[REJECT], "fine"),
        emit(1, "behind"),
    ]
    .concat();
    assert_eq!(masked, check_ok(&expected));
    masks.add("nowhere");
    assert_eq!(masked.clone().masked(&masks), masked);
}
