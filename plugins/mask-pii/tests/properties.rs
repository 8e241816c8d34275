//! The handler against a model that makes values of everything.

use mask_pii::{handle, init};
use millstream_plugin::testing::{self, Outcome};
use millstream_plugin::{Context, NewRecord, json};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde_json::{Map, Value};

/// Redacted below: `a`, and `b` in the objects of `a`'s sibling `c`.
const FIELDS: &str = "a,c.b";

fn some_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        "[ab\"\\\\{}\\[\\],:\u{1}é]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            some_object(inner).prop_map(Value::from),
        ]
    })
}

fn some_object(value: impl Strategy<Value = Value>) -> impl Strategy<Value = Map<String, Value>> {
    btree_map("[a-d]", value, 0..5).prop_map(|map| map.into_iter().collect())
}

#[derive(Clone, Copy, Debug)]
enum Mode {
    Mask,
    Drop,
}

/// What becomes of an object, said in the plainest way.
fn model(object: &mut Map<String, Value>, mode: Mode) {
    redact(object, "a", mode);
    if let Some(within) = object.get_mut("c") {
        redact_within(within, "b", mode);
    }
}

fn redact_within(value: &mut Value, name: &str, mode: Mode) {
    match value {
        Value::Object(object) => redact(object, name, mode),
        Value::Array(elements) => {
            for element in elements {
                redact_within(element, name, mode);
            }
        }
        _ => {}
    }
}

fn redact(object: &mut Map<String, Value>, name: &str, mode: Mode) {
    match (mode, object.get_mut(name)) {
        (Mode::Drop, _) => drop(object.remove(name)),
        (Mode::Mask, Some(value)) if !value.is_null() => *value = "***".into(),
        _ => {}
    }
}

/// What the handler makes of a record; `None`: it rejects it.
fn handled(json: &[u8], fields: &str, mode: Mode) -> Option<Vec<u8>> {
    let mode = match mode {
        Mode::Mask => "mask",
        Mode::Drop => "drop",
    };
    let context = Context::new("mask-pii", "customers", 0)
        .with_output("masked")
        .with_config("fields", fields)
        .with_config("mode", mode);
    let mut worker = init(&context).unwrap();
    let outcomes = testing::run(&context, &[NewRecord::new(json)], |record, out| {
        handle(&mut worker, record, out)
    });
    match outcomes.unwrap().pop() {
        Some(Outcome::Emitted(emitted)) => emitted.value,
        _ => None,
    }
}

proptest! {
    #[test]
    fn it_does_what_the_model_does(
        object in some_object(some_value()),
        mode in prop_oneof![Just(Mode::Mask), Just(Mode::Drop)],
        pretty in any::<bool>(),
    ) {
        let json = if pretty { serde_json::to_vec_pretty(&object) } else { serde_json::to_vec(&object) }.unwrap();
        let masked = handled(&json, FIELDS, mode).unwrap();
        let mut expect = object;
        model(&mut expect, mode);
        let found: Map<String, Value> = serde_json::from_slice(&masked).unwrap();
        prop_assert_eq!(&found, &expect);
        if !pretty {
            // The order of the names is that of the text.
            prop_assert_eq!(masked, serde_json::to_vec(&expect).unwrap());
        }
    }

    #[test]
    fn what_has_no_such_field_stays_as_it_is(object in some_object(some_value()), mode in prop_oneof![Just(Mode::Mask), Just(Mode::Drop)]) {
        let json = serde_json::to_vec_pretty(&object).unwrap();
        prop_assert_eq!(handled(&json, "x,a.x,b.a.x", mode), Some(json));
    }

    #[test]
    fn hostile_bytes_are_rejected_or_handled(
        object in some_object(some_value()),
        changes in vec((any::<prop::sample::Index>(), prop::sample::select(&b"{}[]\":,\\ux0.-+e tn\x1f\xff"[..])), 0..4),
        mode in prop_oneof![Just(Mode::Mask), Just(Mode::Drop)],
    ) {
        let mut json = serde_json::to_vec(&object).unwrap();
        for (index, byte) in changes {
            let index = index.index(json.len());
            json[index] = byte;
        }
        if let Some(masked) = handled(&json, FIELDS, mode) {
            prop_assert_eq!(json::fields(&masked, []), Ok([]));
        }
    }
}
