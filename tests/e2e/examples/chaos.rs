//! The chaos run in full: `make chaos`. Its only argument is the seed.

use std::time::Duration;

use millstream_e2e::chaos::{Killed, Measured, Plan, run};

/// The longest that 99 of a hundred fail-overs may take.
const LEADER_KILLED: Duration = Duration::from_secs(2);
const METADATA_LEADER_KILLED: Duration = Duration::from_secs(3);

#[tokio::main]
async fn main() {
    let seed = std::env::args().nth(1);
    let seed = seed.map_or(1, |seed| seed.parse().expect("a number as the seed"));
    println!("seed {seed}");
    let report = run(Plan::full(seed)).await;
    report.check();
    let bars = [
        (Killed::Leader, LEADER_KILLED),
        (Killed::MetadataLeader, METADATA_LEADER_KILLED),
    ];
    for (killed, bar) in bars {
        for what in [Measured::Write, Measured::Read] {
            let p99 = report.p99(killed, what).expect("fail-overs of every kind");
            assert!(
                p99 <= bar,
                "{killed:?}: {what:?} after {p99:?}, which is more than {bar:?}"
            );
        }
    }
}
