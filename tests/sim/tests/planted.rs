//! Every mistake that can be planted is found. Compiled with `--cfg planted` alone: see the Makefile.
#![cfg(planted)]

use millstream_log::planted as log;
use millstream_sim::cluster::{self, Options};
use millstream_sim::planted::{MISTAKES, Mistake};

/// A mistake that is not found within so many seeds counts as not found.
const SEEDS: u64 = 1_000;

/// What has to be seen of it: mostly anything that is wrong.
fn shows_as(mistake: Mistake) -> &'static str {
    match mistake {
        Mistake::Log(log::Mistake::RestartWithoutProducers) => "duplicate",
        _ => "",
    }
}

fn first_seed_that_finds(mistake: Mistake) -> Option<(u64, String)> {
    let options = Options {
        mistake: Some(mistake),
        ..Options::default()
    };
    let mut seed = 0;
    while seed < SEEDS {
        let (_, failures) = cluster::run_many(seed, SEEDS - seed, options);
        let failure = failures.into_iter().next()?;
        let violation = failure.violations.into_iter().next()?;
        if violation.starts_with(shows_as(mistake)) {
            return Some((failure.seed, violation));
        }
        seed = failure.seed + 1;
    }
    None
}

#[test]
fn every_planted_mistake_is_found() {
    std::panic::set_hook(Box::new(|_| {}));
    let mut missed = Vec::new();
    for (name, mistake) in MISTAKES {
        match first_seed_that_finds(mistake) {
            Some((seed, violation)) => println!("{name:<40} seed {seed:>4}: {violation:.100}"),
            None => missed.push(name),
        }
    }
    assert!(missed.is_empty(), "not found in {SEEDS} seeds: {missed:?}");
    println!("planted mistakes found: {0} of {0}", MISTAKES.len());
}

#[test]
fn without_a_mistake_nothing_is_found() {
    let (report, failures) = cluster::run_many(0, SEEDS, Options::default());
    assert!(failures.is_empty(), "{failures:?}");
    assert_eq!(report.seeds, SEEDS);
}
