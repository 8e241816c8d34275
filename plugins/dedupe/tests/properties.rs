//! The handler against a model that never forgets.

use std::collections::{BTreeMap, BTreeSet};

use dedupe::{handle, init};
use millstream_plugin::testing::{self, Outcome};
use millstream_plugin::{Context, NewRecord};
use proptest::collection::vec;
use proptest::prelude::*;

const WINDOW_MS: i64 = 200;

/// Every record, and the time of the newest.
#[derive(Default)]
struct Model {
    last_ms: BTreeMap<u8, i64>,
    newest_ms: Option<i64>,
}

impl Model {
    fn passes(&mut self, id: u8, at_ms: i64) -> bool {
        if at_ms < self.cutoff_ms() {
            return true;
        }
        self.newest_ms = self.newest_ms.max(Some(at_ms));
        let first = !self.within().contains(&id);
        let last_ms = self.last_ms.entry(id).or_insert(at_ms);
        *last_ms = at_ms.max(*last_ms);
        first
    }

    fn cutoff_ms(&self) -> i64 {
        self.newest_ms
            .map_or(i64::MIN, |newest_ms| newest_ms - WINDOW_MS)
    }

    /// The ids that must be known.
    fn within(&self) -> BTreeSet<u8> {
        let within = |(id, last_ms): (&u8, &i64)| (*last_ms >= self.cutoff_ms()).then_some(*id);
        self.last_ms.iter().filter_map(within).collect()
    }
}

/// A record: an id, and how far its time is from that of the record before, ms.
fn some_record() -> impl Strategy<Value = (u8, i64)> {
    let step_ms =
        prop_oneof![6 => 0..8_i64, 2 => -40..40_i64, 1 => -300..300_i64, 1 => 200..600_i64];
    (0..60_u8, step_ms)
}

/// The ids with a key of this kind, and whether each has one such key alone.
fn ids(kind: u8, id_at: usize) -> BTreeSet<u8> {
    let keys = testing::state();
    let mut ids = BTreeSet::new();
    for (key, _) in keys.iter().filter(|(key, _)| key[0] == kind) {
        assert!(ids.insert(key[id_at]), "{keys:?}");
    }
    ids
}

proptest! {
    #[test]
    fn it_does_what_the_model_does(calls in vec((vec(some_record(), 1..20), any::<bool>()), 1..40)) {
        testing::clear_state();
        let context = Context::new("dedupe", "orders", 0)
            .with_output("unique")
            .with_config("window", format!("{WINDOW_MS}ms"));
        let mut model = Model::default();
        let mut worker = init(&context).unwrap();
        let mut at_ms = 0;
        for (call, restarted) in calls {
            if restarted {
                worker = init(&context).unwrap();
            }
            let ids_and_times: Vec<_> = call
                .into_iter()
                .map(|(id, step_ms)| {
                    at_ms += step_ms;
                    ([id], at_ms)
                })
                .collect();
            let records: Vec<_> = ids_and_times
                .iter()
                .map(|(id, at_ms)| NewRecord::new(b"").with_key(id).with_timestamp_ms(*at_ms))
                .collect();
            let outcomes = testing::run(&context, &records, |record, out| handle(&mut worker, record, out)).unwrap();
            let passed: Vec<_> = outcomes
                .into_iter()
                .map(|outcome| match outcome {
                    Outcome::Emitted(emitted) => emitted.input,
                    other => panic!("{other:?}"),
                })
                .collect();
            let expect: Vec<_> = ids_and_times
                .iter()
                .enumerate()
                .filter_map(|(index, ([id], at_ms))| model.passes(*id, *at_ms).then_some(index))
                .collect();
            prop_assert_eq!(passed, expect);
        }

        // Each id that is kept has one place in the buckets; all within the window are kept.
        let kept = ids(b'i', 1);
        prop_assert_eq!(&kept, &ids(b't', 9));
        prop_assert!(kept.is_superset(&model.within()));

        // Once it has caught up, nothing else is, but for one bucket.
        let newest_ms = model.newest_ms.unwrap();
        for _ in 0..200 {
            let record = NewRecord::new(b"").with_key(&[99]).with_timestamp_ms(newest_ms);
            testing::run(&context, &[record], |record, out| handle(&mut worker, record, out)).unwrap();
        }
        for (key, time) in testing::state().iter().filter(|(key, _)| key[0] == b'i') {
            let last_ms = i64::from_be_bytes(time[..].try_into().unwrap()) ^ i64::MIN;
            prop_assert!(last_ms > model.cutoff_ms() - WINDOW_MS / 64 - 1, "{:?} at {}", key, last_ms);
        }
    }
}
