//! The handler on any objects, against what a parser makes of them.

use enrich::{handle, init};
use millstream_plugin::testing::{self, Outcome};
use millstream_plugin::{Context, NewRecord};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde_json::{Map, Value};

/// Any value, some of them nested.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            object(inner).prop_map(Value::from),
        ]
    })
}

fn object(value: impl Strategy<Value = Value>) -> impl Strategy<Value = Map<String, Value>> {
    btree_map("[a-z\"{}]{1,3}", value, 0..4).prop_map(|fields| fields.into_iter().collect())
}

proptest! {
    #[test]
    fn an_event_has_one_more_field_and_is_as_it_was(
        mut event in object(value()),
        known in object(value()),
        net in ".{0,6}",
        pretty in any::<bool>(),
    ) {
        event.insert("the net".to_owned(), net.clone().into());
        let write = if pretty { serde_json::to_vec_pretty } else { serde_json::to_vec };
        let (written, table) = (write(&event).unwrap(), write(&known).unwrap());
        testing::clear_tables();
        testing::put_in_table("reference", net.as_bytes(), &table);
        let context = Context::new("enrich", "in", 0).with_output("enriched");
        let context = context.with_config("field", "the net").with_config("as", "what is known");
        let mut worker = init(&context).unwrap();
        let records = [NewRecord::new(&written)];
        let outcomes = testing::run(&context, &records, |record, out| handle(&mut worker, record, out));
        let outcomes = outcomes.unwrap();
        let [Outcome::Emitted(emitted)] = &outcomes[..] else {
            panic!("{outcomes:?}");
        };
        event.insert("what is known".to_owned(), known.into());
        let joined: Map<String, Value> = serde_json::from_slice(emitted.value.as_deref().unwrap()).unwrap();
        prop_assert_eq!(joined, event);
    }
}
