//! The same power cuts, under workloads that chance makes.

use millstream_log::{Cleanup, LogConfig};
use proptest::prelude::*;

use crate::crash::{Step, crash_at};
use crate::harness::small;

fn step(cleanup: Cleanup) -> BoxedStrategy<Step> {
    let append =
        (1..3_u64, 1..5_u32).prop_map(|(producer, records)| Step::Append { producer, records });
    let common = prop_oneof![
        8 => append,
        4 => Just(Step::Flush),
        2 => Just(Step::Overlap),
        1 => Just(Step::Checkpoint),
    ];
    match cleanup {
        Cleanup::Delete => prop_oneof![
            10 => common,
            1 => (0..9_u64).prop_map(|below_end| Step::DeleteTo { below_end }),
            1 => Just(Step::Retain),
            1 => (0..12_u64).prop_map(|back| Step::Truncate { back }),
            1 => Just(Step::Restart),
        ]
        .boxed(),
        Cleanup::Compact => prop_oneof![10 => common, 2 => Just(Step::Compact)].boxed(),
    }
}

/// Steps, where in them the power goes (in 1000ths of their operations), and a seed.
fn workload(cleanup: Cleanup) -> impl Strategy<Value = (Vec<Step>, Vec<(u64, u64)>)> {
    let cuts = prop::collection::vec((0..1000_u64, any::<u64>()), 5);
    (prop::collection::vec(step(cleanup), 5..60), cuts)
}

fn check(config: &LogConfig, steps: &[Step], cuts: &[(u64, u64)]) -> Result<(), TestCaseError> {
    for (at, seed) in cuts {
        crash_at(config, steps, *at, *seed).map_err(TestCaseError::fail)?;
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 60,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn logs_survive((steps, cuts) in workload(Cleanup::Delete)) {
        check(&LogConfig { retention_bytes: Some(2000), ..small() }, &steps, &cuts)?;
    }

    #[test]
    fn compacted_logs_survive((steps, cuts) in workload(Cleanup::Compact)) {
        let config = LogConfig {
            cleanup: Cleanup::Compact,
            tombstone_retention_ms: 0,
            compaction_key_bytes: 200,
            ..small()
        };
        check(&config, &steps, &cuts)?;
    }
}
