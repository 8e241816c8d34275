//! The handler and its timers against a plain recomputation.

use std::collections::BTreeMap;

use millstream_plugin::testing::{self, Outcome};
use millstream_plugin::timers::Clock;
use millstream_plugin::{Context, NewRecord};
use proptest::collection::vec;
use proptest::prelude::*;
use quake_stats::{handle, init, window_over};
use serde::Deserialize;

/// One week of the USGS's feed: see `tests/fixtures/README.md` at the root.
const EARTHQUAKES: &str = include_str!("../../../tests/fixtures/earthquakes.ndjson");

#[derive(Clone, Debug, Deserialize)]
struct Quake {
    time: i64,
    net: String,
    mag: f64,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
struct Stats {
    net: String,
    from: i64,
    to: i64,
    count: u64,
    mean_mag: f64,
    max_mag: f64,
}

/// Results by window and network, and how many records were late.
type Results = (BTreeMap<(i64, String), Stats>, usize);

/// What should come out.
fn recompute(quakes: &[Quake], window_ms: i64) -> Results {
    let mut mags: BTreeMap<(i64, String), Vec<f64>> = BTreeMap::new();
    let (mut newest, mut late) = (i64::MIN, 0);
    for quake in quakes {
        let from = quake.time.div_euclid(window_ms) * window_ms;
        if newest >= from + window_ms {
            late += 1;
        } else {
            mags.entry((from, quake.net.clone()))
                .or_default()
                .push(quake.mag);
        }
        newest = newest.max(quake.time);
    }
    let stats = |((from, net), mags): ((i64, String), Vec<f64>)| {
        let mean = mags.iter().sum::<f64>() / mags.len() as f64;
        let stats = Stats {
            net: net.clone(),
            from,
            to: from + window_ms,
            count: mags.len() as u64,
            mean_mag: (mean * 1_000.0).round() / 1_000.0,
            max_mag: mags.iter().copied().fold(f64::MIN, f64::max),
        };
        ((from, net), stats)
    };
    (mags.into_iter().map(stats).collect(), late)
}

/// What comes out, in calls of so many records, with timers in between and all of them in the end.
fn run(
    quakes: &[Quake],
    window_ms: i64,
    mut calls: impl Iterator<Item = (usize, bool)>,
) -> Results {
    testing::clear_state();
    testing::clear_timers();
    let context = Context::new("quake-stats", "earthquakes", 0)
        .with_output("stats")
        .with_output("late")
        .with_config("window", format!("{window_ms}ms"));
    let mut worker = init(&context).unwrap();
    let mut results = Results::default();
    let mut newest = i64::MIN;
    let mut rest = quakes;
    while !rest.is_empty() {
        let (records, restarted) = calls.next().unwrap();
        let (call, behind) = rest.split_at(records.clamp(1, rest.len()));
        rest = behind;
        if restarted {
            worker = init(&context).unwrap();
        }
        let values: Vec<_> = call
            .iter()
            .map(|it| serde_json::json!({"net": it.net, "mag": it.mag}).to_string())
            .collect();
        let records: Vec<_> = values
            .iter()
            .zip(call)
            .map(|(value, quake)| NewRecord::new(value.as_bytes()).with_timestamp_ms(quake.time))
            .collect();
        let outcomes = testing::run(&context, &records, |record, out| {
            handle(&mut worker, record, out)
        });
        results.1 += outcomes.unwrap().len();
        newest = call.iter().map(|quake| quake.time).fold(newest, i64::max);
        let now = if rest.is_empty() { i64::MAX } else { newest };
        let fired = testing::fire(&context, Clock::RecordTime, now, |timer, out| {
            window_over(&mut worker, timer, out)
        });
        for outcome in fired.unwrap() {
            let Outcome::Emitted(emitted) = outcome else {
                panic!("{outcome:?}");
            };
            let stats: Stats = serde_json::from_slice(&emitted.value.unwrap()).unwrap();
            let before = results.0.insert((stats.from, stats.net.clone()), stats);
            assert_eq!(before, None, "a window was over twice");
        }
    }
    // Of all windows, nothing is left; there is the newest time.
    assert_eq!(testing::state().len(), usize::from(!quakes.is_empty()));
    results
}

/// A record: a network, a magnitude in tenths, and how far its time is from that of the one before.
fn some_quake() -> impl Strategy<Value = (u8, i32, i64)> {
    let step_ms = prop_oneof![6 => 0..40_i64, 2 => -80..80_i64, 1 => -900..900_i64];
    (0..4_u8, -10..90_i32, step_ms)
}

proptest! {
    #[test]
    fn it_does_what_a_recomputation_does(
        quakes in vec(some_quake(), 0..200),
        calls in vec((1..20_usize, any::<bool>()), 200),
    ) {
        let mut time = 0;
        let quakes: Vec<_> = quakes
            .into_iter()
            .map(|(net, tenths, step_ms)| {
                time += step_ms;
                Quake { time, net: format!("n{net}"), mag: f64::from(tenths) / 10.0 }
            })
            .collect();
        prop_assert_eq!(run(&quakes, 100, calls.into_iter()), recompute(&quakes, 100));
    }
}

#[test]
fn a_week_of_earthquakes() {
    let quakes: Vec<Quake> = EARTHQUAKES
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(quakes.len(), 1_707);
    for (window_ms, windows) in [(3_600_000, 850), (86_400_000, 78)] {
        let expect = recompute(&quakes, window_ms);
        for records in [1, 7, 1_000] {
            assert_eq!(
                run(&quakes, window_ms, std::iter::repeat((records, false))),
                expect
            );
        }
        // They come in the order of their time.
        assert_eq!((expect.0.len(), expect.1), (windows, 0));
        let count: u64 = expect.0.values().map(|stats| stats.count).sum();
        assert_eq!(count, 1_707);
    }
}
