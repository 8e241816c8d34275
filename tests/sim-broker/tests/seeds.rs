//! Whole brokers, simulated: few seeds here, and more by hand (`cargo run --release -p millstream-sim-broker`).

use std::time::Duration;

use millstream_sim_broker::run::{Setup, run, run_many};

#[test]
fn one_seed_gives_one_trace() {
    let setup = Setup {
        seed: 1,
        works: Duration::from_secs(10),
        is_shown: false,
    };
    let (first, second) = (run(setup), run(setup));
    assert_eq!(first.fingerprint, second.fingerprint);
    let other = run(Setup { seed: 2, ..setup });
    assert_ne!(first.fingerprint, other.fingerprint);
}

#[test]
fn nothing_is_lost() {
    let first = Setup {
        seed: 1,
        works: Duration::from_secs(60),
        is_shown: false,
    };
    let report = run_many(first, 10, 2);
    println!("{report}");
    assert!(report.wrong.is_empty(), "{report}");
    assert_eq!(report.seeds, 10);
}
