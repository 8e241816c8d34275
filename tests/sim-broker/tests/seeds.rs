//! Whole brokers, simulated: few seeds here, and more by hand (`server/docs/replication.md`).

use std::path::Path;
use std::time::Duration;

use millstream_sim_broker::many::{Times, run_many};
use millstream_sim_broker::run::Setup;

/// Seeds at the same time.
const THREADS: usize = 2;

fn pass(first: u64, seeds: u64, seconds: u64, times: Times) {
    let first = Setup {
        seed: first,
        works: Duration::from_secs(seconds),
        is_shown: false,
    };
    let program = Path::new(env!("CARGO_BIN_EXE_millstream-sim-broker"));
    let report = run_many(program, first, seeds, THREADS, times);
    println!("{report}");
    assert!(report.wrong.is_empty(), "{report}");
    assert_eq!(report.seeds, seeds);
}

#[test]
fn the_same_happens_twice() {
    pass(1, 8, 20, Times::Twice);
}

#[test]
fn nothing_is_lost() {
    pass(1, 12, 60, Times::Once);
}
