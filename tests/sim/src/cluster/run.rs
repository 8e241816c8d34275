//! Running seeds.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::report::Report;
use super::world::World;

/// What a run may do before it counts as one that does not end.
const MAX_STEPS: u64 = 5_000_000;

/// A run with fewer acknowledged records has shown nothing.
pub(crate) const MIN_ACKED: u64 = 50;

/// How seeds are run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Prints what happens.
    pub tracing: bool,
    /// A leader dies, and the run ends with the first record that another one acknowledges.
    pub fail_over: bool,
    /// A mistake that is compiled in.
    #[cfg(planted)]
    pub mistake: Option<crate::planted::Mistake>,
}

/// What came of a seed.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What it has done and met.
    pub report: Report,
    /// Of everything that happened: the same for the same seed.
    pub hash: u64,
    /// What was wrong; empty if nothing was.
    pub violations: Vec<String>,
}

/// A seed that has failed.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// What was wrong.
    pub violations: Vec<String>,
}

/// Runs one seed.
pub fn run(seed: u64, options: Options) -> Outcome {
    #[cfg(planted)]
    crate::planted::plant(options.mistake);
    let mut world = World::new(seed, options);
    let steps = AssertUnwindSafe(
        || {
            while world.env.report.steps < MAX_STEPS && world.step() {}
        },
    );
    let panic = catch_unwind(steps).err();
    #[cfg(planted)]
    crate::planted::plant(None);
    let mut violations = world.env.oracles.violations();
    if let Some(panic) = panic {
        violations.push(format!("an invariant does not hold: {}", message(&*panic)));
    }
    let report = world.env.report.clone();
    if violations.is_empty() {
        if report.seeds == 0 {
            violations.push(format!("it does not end within {MAX_STEPS} steps"));
        } else if report.acked < MIN_ACKED {
            violations.push(format!("only {} records were acknowledged", report.acked));
        } else if report.leaders_hit == 0 {
            violations.push("no leader was hit".to_owned());
        }
    }
    Outcome {
        report,
        hash: world.env.hash,
        violations,
    }
}

fn message(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("it panicked")
}

/// Runs seeds from `first` on, on as many threads as there are processors, and stops at the first
/// failures.
pub fn run_many(first: u64, count: u64, options: Options) -> (Report, Vec<Failure>) {
    use std::sync::atomic::{AtomicU64, Ordering};
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicU64::new(first);
    let work = || {
        let (mut total, mut failures) = (Report::default(), Vec::new());
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + count || !failures.is_empty() {
                return (total, failures);
            }
            let outcome = run(seed, options);
            total.add(&outcome.report);
            if !outcome.violations.is_empty() {
                let violations = outcome.violations;
                failures.push(Failure { seed, violations });
                next.store(first + count, Ordering::Relaxed);
            }
        }
    };
    let mut total = Report::default();
    let mut failures = Vec::new();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            if let Ok((report, failed)) = worker.join() {
                total.add(&report);
                failures.extend(failed);
            }
        }
    });
    failures.sort_by_key(|it| it.seed);
    (total, failures)
}
