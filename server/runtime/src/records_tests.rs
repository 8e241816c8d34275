//! What a record handler returns, against what a reader of outcomes makes of it.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::outcomes;

const OUTPUTS: usize = 3;

/// When the input record of an index was made.
fn input_time_ms(input: u32) -> i64 {
    i64::from(input) * 1_000 - 5_000
}

fn times(count: usize) -> impl ExactSizeIterator<Item = i64> {
    (0..count).map(|input| input_time_ms(input as u32))
}

fn expected(records: usize) -> Expected {
    Expected {
        records: records as u32,
        outputs: OUTPUTS,
        outputs_per_record: 4,
    }
}

fn some_bytes() -> impl Strategy<Value = Option<Vec<u8>>> {
    option::of(vec(any::<u8>(), 0..300))
}

prop_compose! {
    fn some_record()(
        output in 0..OUTPUTS as u32,
        timestamp_ms in option::of(-9_000_000_000i64..9_000_000_000_000),
        key in some_bytes(),
        value in some_bytes(),
        headers in vec((".{0,8}", some_bytes()), 0..4),
    ) -> OutputRecord {
        let header = |(name, value)| HeaderResult { name, value };
        OutputRecord {
            output,
            timestamp_ms,
            key,
            value,
            headers: headers.into_iter().map(header).collect(),
        }
    }
}

fn some_outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        4 => vec(some_record(), 0..4).prop_map(Outcome::Emit),
        2 => Just(Outcome::Drop),
        1 => ".{0,40}".prop_map(Outcome::Reject),
        1 => (0..86_400_000u32, ".{0,40}")
            .prop_map(|(after_ms, reason)| Outcome::Retry(Retry { after_ms, reason })),
    ]
}

/// What the guest returned, in the order and words of a reader.
fn told(returned: &[Outcome]) -> Vec<String> {
    let mut told = Vec::new();
    for (input, outcome) in (0u32..).zip(returned) {
        match outcome {
            Outcome::Emit(records) => told.extend(records.iter().map(|record| {
                let time_ms = record.timestamp_ms.unwrap_or(input_time_ms(input));
                let headers: Vec<_> = record
                    .headers
                    .iter()
                    .map(|header| (header.name.as_str(), header.value.as_deref()))
                    .collect();
                let (key, value) = (&record.key, &record.value);
                format!(
                    "{input} {} {time_ms} {key:?} {value:?} {headers:?}",
                    record.output
                )
            })),
            Outcome::Drop => {}
            Outcome::Reject(reason) => told.push(format!("{input} reject {reason}")),
            Outcome::Retry(retry) => {
                told.push(format!("{input} retry {} {}", retry.after_ms, retry.reason));
            }
        }
    }
    told
}

/// What the reader finds.
fn found(checked: &Outcomes) -> Vec<String> {
    let found = |outcome| match outcome {
        outcomes::Outcome::Emit(emit) => {
            let headers: Vec<_> = emit.headers.collect();
            let (time_ms, key, value) = (emit.timestamp_ms, emit.key, emit.value);
            format!(
                "{} {} {time_ms} {key:?} {value:?} {headers:?}",
                emit.input, emit.output
            )
        }
        outcomes::Outcome::Reject { input, reason } => format!("{input} reject {reason}"),
        outcomes::Outcome::Retry {
            input,
            after_ms,
            reason,
        } => format!("{input} retry {after_ms} {reason}"),
    };
    checked.iter().map(found).collect()
}

proptest! {
    #[test]
    fn what_is_returned_is_read(returned in vec(some_outcome(), 1..100)) {
        let checked = check(times(returned.len()), &returned, expected(returned.len())).unwrap();
        prop_assert_eq!(checked.records() as usize, returned.len());
        prop_assert_eq!(found(&checked), told(&returned));
    }

    #[test]
    fn the_input_of_what_is_bad_is_told(
        mut returned in vec(some_outcome(), 1..20),
        at in any::<prop::sample::Index>(),
    ) {
        let at = at.index(returned.len());
        returned[at] = Outcome::Reject("x".repeat(outcomes::MAX_REASON_BYTES + 1));
        let error = check(times(returned.len()), &returned, expected(returned.len())).unwrap_err();
        prop_assert_eq!(error.at, BadOutputPlace::Input(at as u32));
    }
}

#[test]
fn the_place_of_what_is_bad_is_told_in_words() {
    let error = check(times(2), &[Outcome::Drop], expected(2)).unwrap_err();
    let expect = "bad outcomes for input 1: 1 outcomes of a call with 2 inputs";
    assert_eq!(error.to_string(), expect);
}
