//! The state in memory against the rules of `wit/state.wit`.

use super::*;
use crate::testing;
use crate::{Context, NewRecord, Outputs, Record};

/// Handles one record a value, and returns what the call came to.
fn run(
    values: &[&[u8]],
    handler: impl FnMut(Record<'_>, &mut Outputs<'_>) -> Result<(), Failure>,
) -> Result<Vec<testing::Outcome>, String> {
    let records: Vec<_> = values.iter().map(|value| NewRecord::new(value)).collect();
    testing::run(&Context::new("keep", "things", 0), &records, handler)
}

fn entry(key: &str, value: &str) -> (Vec<u8>, Vec<u8>) {
    (key.into(), value.into())
}

fn keys(scan: Scan) -> Vec<Vec<u8>> {
    scan.map(|entry| entry.unwrap().key).collect()
}

#[test]
fn a_call_sees_what_it_has_written() {
    testing::clear_state();
    run(&[b"a", b"b"], |record, _| {
        let before = get(b"last")?;
        let expect = (record.offset() == 1).then(|| b"a".to_vec());
        assert_eq!(before, expect);
        put(b"last", record.value().unwrap())?;
        put(b"gone", b"soon")?;
        delete(b"gone")?;
        assert_eq!(get(b"gone")?, None);
        Ok(())
    })
    .unwrap();
    assert_eq!(testing::state(), [entry("last", "b")]);
}

#[test]
fn a_call_that_fails_leaves_no_trace() {
    testing::clear_state();
    put(b"kept", b"1").unwrap();
    put(b"deleted", b"1").unwrap();
    let before = testing::state();
    let failed = run(&[b"a", b"b"], |record, _| {
        put(b"kept", record.value().unwrap())?;
        put(b"new", b"1")?;
        delete(b"deleted")?;
        match record.offset() {
            0 => Ok(()),
            _ => Err(Failure::abort("no")),
        }
    });
    assert_eq!(failed, Err("no".into()));
    assert_eq!(testing::state(), before);
}

#[test]
fn a_call_that_panics_leaves_no_trace() {
    testing::clear_state();
    let panicked = std::panic::catch_unwind(|| {
        run(&[b"a"], |_, _| {
            put(b"new", b"1")?;
            panic!("as told")
        })
    });
    panicked.unwrap_err();
    assert_eq!(testing::state(), []);
}

#[test]
fn a_record_that_is_rejected_has_written() {
    testing::clear_state();
    let outcomes = run(&[b"a"], |_, _| {
        put(b"tries", b"1")?;
        Err(Failure::reject("bad"))
    });
    assert_eq!(outcomes.unwrap().len(), 1);
    assert_eq!(testing::state(), [entry("tries", "1")]);
}

#[test]
fn a_scan_gives_a_prefix_in_order_over_many_pages() {
    testing::clear_state();
    let mut expect: Vec<_> = (0..1_000u32)
        .map(|number| format!("k{number}").into_bytes())
        .collect();
    for key in &expect {
        put(key, b"").unwrap();
    }
    expect.sort_unstable();
    put(b"j", b"").unwrap();
    put(b"l", b"").unwrap();
    assert_eq!(keys(scan(b"k")), expect);
    assert_eq!(keys(scan(b"")).len(), 1_002);
    assert_eq!(keys(scan(b"none")), Vec::<Vec<u8>>::new());
    let page = PAGE_ENTRIES as usize;
    assert_eq!(keys(scan(b"k"))[page - 1..=page], expect[page - 1..=page]);
}

#[test]
fn what_is_too_large_rejects_the_record() {
    testing::clear_state();
    let outcomes = run(&[b"a", b"b", b"c"], |record, _| {
        match record.offset() {
            0 => put(&[0; MAX_KEY_BYTES], &vec![0; MAX_VALUE_BYTES])?,
            1 => put(&[0; MAX_KEY_BYTES + 1], b"")?,
            _ => put(b"", &vec![0; MAX_VALUE_BYTES + 1])?,
        }
        Ok(())
    })
    .unwrap();
    let expect = [
        "too large for the state: a key of 1025 bytes, more than 1024",
        "too large for the state: a value of 1048577 bytes, more than 1048576",
    ];
    for (outcome, expect) in outcomes.iter().zip(expect) {
        let testing::Outcome::Rejected { reason, .. } = outcome else {
            panic!("{outcome:?}")
        };
        assert_eq!(reason, expect);
    }
    assert_eq!(outcomes.len(), 2);
    assert_eq!(testing::state().len(), 1);
}

#[test]
fn too_many_changes_fail_the_call() {
    testing::clear_state();
    let value = vec![0; MAX_VALUE_BYTES];
    let put_values = |count: u8| {
        let value = &value;
        run(&[b"a"], move |_, _| {
            for key in 0..count {
                put(&[key], value)?;
                // Over again, it counts once.
                put(&[key], value)?;
            }
            Ok(())
        })
    };
    put_values(7).unwrap();
    put_values(7).unwrap();
    let error = put_values(8).unwrap_err();
    assert!(
        error.starts_with("too many changes of the state: "),
        "{error}"
    );
}

#[test]
fn an_init_may_return_its_errors() {
    fn init() -> Result<(), Box<dyn Error>> {
        get(&[0; MAX_KEY_BYTES + 1])?;
        Ok(())
    }
    let expect = "too large for the state: a key of 1025 bytes, more than 1024";
    assert_eq!(init().unwrap_err().to_string(), expect);
}
