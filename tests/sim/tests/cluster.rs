//! Seeds of the cluster of cores.

use millstream_sim::cluster::{self, Options};

const SEEDS: u64 = 10_000;

/// Without it no seed could be looked at again.
fn the_same_seed_gives_the_same_run() {
    for seed in 0..50 {
        let [first, second] = [(); 2].map(|()| cluster::run(seed, Options::default()));
        assert_eq!(first.hash, second.hash, "seed {seed}");
        assert_eq!(first.report.steps, second.report.steps, "seed {seed}");
    }
}

#[test]
fn nothing_is_lost_repeated_or_out_of_order() {
    the_same_seed_gives_the_same_run();
    let (report, failures) = cluster::run_many(0, SEEDS, Options::default());
    println!("{report}");
    assert!(failures.is_empty(), "{failures:#?}");
    assert_eq!(report.seeds, SEEDS);
    // Each kind of fault was there, and did what it is to do.
    for (what, count, least) in [
        ("crashes of leaders", report.leaders_hit, SEEDS),
        ("power cuts", report.power_cuts, SEEDS),
        ("pauses", report.pauses, SEEDS / 2),
        ("partitions", report.partitions, SEEDS),
        ("replaced disks", report.wipes, SEEDS / 50),
        ("damages", report.damages, SEEDS / 100),
        ("bad syncs", report.bad_syncs, SEEDS / 50),
        ("stops for a failed disk", report.stops, SEEDS / 50),
        ("full disks", report.full_disks, SEEDS / 50),
        ("changed replicas", report.reassignments, SEEDS / 50),
        ("truncations", report.truncations, SEEDS / 50),
        ("logs begun late", report.restarts, SEEDS / 50),
        (
            "old logs begun late",
            report.restarts - report.restarts_of_empty,
            SEEDS / 50,
        ),
        (
            "empty logs begun late",
            report.restarts_of_empty,
            SEEDS / 50,
        ),
        ("retentions", report.retentions, SEEDS),
        ("deletions", report.deletions_acked, SEEDS),
        ("deletions on replicas", report.deletions, SEEDS),
        ("coordinators", report.coordinators, SEEDS / 10),
        ("generations", report.generations, SEEDS / 10),
        ("silent members", report.expulsions, SEEDS / 100),
        ("commits of members", report.commits, SEEDS),
        ("records of groups", report.delivered, SEEDS * 10),
        ("fail-overs of workers", report.fail_overs, SEEDS / 10),
        ("commits of workers", report.worker_commits, SEEDS),
        ("outputs", report.outputs, SEEDS),
        ("outputs sent again", report.outputs_sent_again, SEEDS / 10),
        ("lost packets", report.lost_packets, SEEDS / 50),
        ("repeated packets", report.repeated_packets, SEEDS / 50),
    ] {
        assert!(count >= least, "{count} {what} in {SEEDS} seeds");
    }
}

/// The metadata quorum is there all the time: what it takes to miss a leader, to appoint another one,
/// to seal, and for a producer to find it.
#[test]
fn a_dead_leader_is_replaced_within_two_seconds() {
    let options = Options {
        fail_over: true,
        ..Options::default()
    };
    let (report, failures) = cluster::run_many(0, 2_000, options);
    assert!(failures.is_empty(), "{failures:#?}");
    let mut gaps_us = report.gaps_us;
    gaps_us.sort_unstable();
    assert_eq!(gaps_us.len(), 2_000);
    let [median, p99, longest] = [1_000, 1_980, 1_999].map(|place| gaps_us[place] / 1_000);
    println!(
        "a leader's death to the first acknowledgement: median {median} ms, p99 {p99} ms, longest {longest} ms"
    );
    assert!(p99 <= 2_000, "p99 {p99} ms");
}
