//! Whole brokers, simulated: few seeds here, and more by hand (`server/docs/replication.md`).

use std::path::Path;
use std::time::Duration;

use millstream_sim_broker::many::{Times, run_many, run_one};
use millstream_sim_broker::run::Setup;

fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_millstream-sim-broker"))
}

fn setup(seed: u64, seconds: u64) -> Setup {
    Setup {
        seed,
        works: Duration::from_secs(seconds),
        is_shown: false,
    }
}

#[test]
fn one_seed_gives_one_trace() {
    let report = run_many(program(), setup(1, 10), 2, 2, Times::Twice);
    assert!(report.wrong.is_empty(), "{report}");
    let one = |seed| run_one(program(), setup(seed, 10)).fingerprint;
    assert_ne!(one(1), one(2));
}

#[test]
fn nothing_is_lost() {
    let report = run_many(program(), setup(1, 60), 10, 2, Times::Once);
    println!("{report}");
    assert!(report.wrong.is_empty(), "{report}");
    assert_eq!(report.seeds, 10);
}
