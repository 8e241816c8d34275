//! Every mistake that can be planted is found. Compiled with `--cfg planted` alone: see the Makefile.
#![cfg(planted)]

use millstream_sim::cluster::{self, Options};
use millstream_sim::planted::{MISTAKES, Mistake};

/// A mistake that is not found within so many seeds counts as not found.
const SEEDS: u64 = 1_000;

fn first_seed_that_finds(mistake: Mistake) -> Option<(u64, String)> {
    let options = Options {
        mistake: Some(mistake),
        ..Options::default()
    };
    let (_, failures) = cluster::run_many(0, SEEDS, options);
    let failure = failures.into_iter().next()?;
    Some((failure.seed, failure.violations.into_iter().next()?))
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
