//! What the steward costs where nothing is to be done.

use std::hint::black_box;
use std::time::Instant;

use millstream_metadata::limits::{BALANCE_PAUSE_MS, CALM_MS, MAX_LEADS_PER_BEAT};

use super::cluster::Cluster;
use super::steward::Office;

/// A cluster that stands still, seen by its steward.
fn still(brokers: u32, partitions: u32) -> Office {
    let mut cluster = Cluster::with_brokers(brokers);
    let topics = partitions.div_ceil(1_000);
    for topic in 0..topics {
        cluster.create_replicated(&format!("t{topic}"), partitions / topics, 3);
    }
    let mut office = Office::new(cluster);
    office.lead_all();
    let pieces = 1 + partitions as usize / MAX_LEADS_PER_BEAT;
    for _ in 0..=pieces {
        let brokers = office.brokers();
        assert_eq!(office.pass(100, &brokers), []);
    }
    office
}

/// Microseconds for one of so many.
fn each_us(count: u32, mut act: impl FnMut()) -> f64 {
    let began = Instant::now();
    (0..count).for_each(|_| act());
    began.elapsed().as_secs_f64() * 1e6 / f64::from(count)
}

fn measure(brokers: u32, partitions: u32, rounds: u32) -> [f64; 4] {
    let mut office = still(brokers, partitions);
    let beats: Vec<_> = (0..rounds).map(|_| office.next_beat(2)).collect();
    let mut beats = beats.iter();
    let (image, now_ms) = (&office.cluster.image, office.now_ms);
    let (steward, revision) = (&mut office.steward, office.revision);
    let beat_us = each_us(rounds, || {
        black_box(steward.beat(now_ms, image, beats.next().unwrap()));
    });
    let idle_us = each_us(rounds, || {
        assert!(steward.decide(now_ms, revision, image).is_empty())
    });
    let mut revision = revision;
    let changed_us = each_us(rounds.div_ceil(100), || {
        revision += 1;
        assert!(steward.decide(now_ms, revision, image).is_empty());
    });
    // As seldom as it is called, nobody is fenced; in the calm, leaderships are looked at each time.
    let mut now_ms = now_ms + CALM_MS;
    let calm_us = each_us(rounds.div_ceil(100), || {
        now_ms += BALANCE_PAUSE_MS;
        assert!(steward.decide(now_ms, revision, image).is_empty());
    });
    [beat_us, idle_us, changed_us, calm_us]
}

/// As a ratio in one run: what there is nothing to decide about is not looked through.
#[test]
fn standing_still_costs_next_to_nothing() {
    let [beat_us, idle_us, changed_us, calm_us] = measure(5, 10_000, 1_000);
    println!(
        "a beat {beat_us:.2} µs, a decision {idle_us:.2} µs, one after a change {changed_us:.0} µs, one that \
         looks at leaderships {calm_us:.0} µs"
    );
    assert!(beat_us * 20.0 < changed_us, "{beat_us} and {changed_us} µs");
    assert!(idle_us * 20.0 < changed_us, "{idle_us} and {changed_us} µs");
}
