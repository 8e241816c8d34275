//! Seeds of the cluster of cores.

use millstream_sim::cluster::{self, Options};

const SEEDS: u64 = 10_000;

/// Checked first: without it no seed can be looked at again.
#[test]
fn a_the_same_seed_gives_the_same_run() {
    for seed in 0..50 {
        let [first, second] = [(); 2].map(|()| cluster::run(seed, Options::default()));
        assert_eq!(first.hash, second.hash, "seed {seed}");
        assert_eq!(first.report.steps, second.report.steps, "seed {seed}");
    }
}

#[test]
fn nothing_is_lost_repeated_or_out_of_order() {
    let (report, failures) = cluster::run_many(0, SEEDS, Options::default());
    println!("{report}");
    assert!(failures.is_empty(), "{failures:#?}");
    assert_eq!(report.seeds, SEEDS);
    // Each kind of fault was there, and did what it is to do.
    for (what, count) in [
        ("crashes of leaders", report.leaders_hit),
        ("power cuts", report.power_cuts),
        ("pauses", report.pauses),
        ("partitions", report.partitions),
        ("replaced disks", report.wipes),
        ("damages", report.damages),
        ("bad syncs", report.bad_syncs),
        ("stops for a failed disk", report.stops),
        ("full disks", report.full_disks),
        ("changed replicas", report.reassignments),
        ("truncations", report.truncations),
        ("lost packets", report.lost_packets),
        ("repeated packets", report.repeated_packets),
    ] {
        assert!(count > SEEDS / 20, "{count} {what} in {SEEDS} seeds");
    }
}
