//! Runs seeds by hand.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use millstream_sim::cluster::{self, Options};
use rustix::time::{ClockId, clock_gettime};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Simulates clusters, one for each seed.
#[derive(Parser)]
struct Args {
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// How many seeds.
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// Prints everything that happens in the first seed, and runs no other.
    #[arg(long)]
    trace: bool,
    /// Plants the first mistake whose name begins so.
    #[cfg(planted)]
    #[arg(long)]
    mistake: Option<String>,
}

#[expect(clippy::print_stdout, reason = "this is what it is for")]
fn main() -> ExitCode {
    let args = Args::parse();
    let options = Options {
        tracing: args.trace,
        fail_over: false,
        #[cfg(planted)]
        mistake: args.mistake.and_then(|name| {
            let mut all = millstream_sim::planted::MISTAKES.into_iter();
            all.find(|(it, _)| it.starts_with(&name)).map(|(_, it)| it)
        }),
    };
    if args.trace {
        let outcome = cluster::run(args.seed, options);
        println!("{}", outcome.report);
        println!("{:#?}", outcome.violations);
        return ExitCode::SUCCESS;
    }
    // What panics is told with its seed.
    std::panic::set_hook(Box::new(|_| {}));
    let (report, failures) = cluster::run_many(args.seed, args.seeds, options);
    let seconds = processor_time().as_secs_f64();
    println!("{report}");
    let per_second = report.steps as f64 / seconds;
    println!("{per_second:.0} steps per second of processor time, of {seconds:.1} s");
    for failure in &failures {
        println!("seed {}: {:#?}", failure.seed, failure.violations);
    }
    match failures.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// What this process has used, on all threads: other processes make it no longer.
fn processor_time() -> Duration {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(used.tv_sec as u64, used.tv_nsec as u32)
}
