//! Whole brokers, simulated: few seeds here, and more by hand (`server/docs/replication.md`).

use std::path::Path;
use std::time::Duration;

use millstream_sim_broker::many::{Times, run_many};
use millstream_sim_broker::run::Setup;

const SEEDS: u64 = 6;

#[test]
fn nothing_is_lost() {
    let first = Setup {
        seed: 1,
        works: Duration::from_secs(60),
        is_shown: false,
    };
    let program = Path::new(env!("CARGO_BIN_EXE_millstream-sim-broker"));
    let report = run_many(program, first, SEEDS, 2, Times::Once);
    println!("{report}");
    assert!(report.wrong.is_empty(), "{report}");
    assert_eq!(report.seeds, SEEDS);
}
