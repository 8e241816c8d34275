//! The chaos run, in short: see `make chaos` for all of it.

use millstream_e2e::chaos::{Plan, run};

/// Decides what happens. A failure comes back, as far as the machine's own timing lets it.
const SEED: u64 = 7;

#[tokio::test(flavor = "multi_thread")]
async fn whatever_happens_nothing_acknowledged_is_lost_or_repeated() {
    run(Plan::short(SEED)).await.check();
}
