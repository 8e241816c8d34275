//! Runs seeds, and tells what they have come to.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use millstream_sim_broker::run::{Setup, run_many};

/// Runs whole brokers and clients in a simulation, seed after seed.
#[derive(Parser)]
struct Arguments {
    /// How many seeds
    #[arg(long, default_value_t = 150)]
    seeds: u64,
    /// The first one
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Simulated seconds in which clients are at work and everything happens
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Seeds at the same time
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Print what happens
    #[arg(long)]
    show: bool,
}

fn main() -> ExitCode {
    // What brokers log, if a filter is given: `MILLSTREAM_LOG=millstream=debug`.
    let wanted = std::env::var("MILLSTREAM_LOG").unwrap_or_else(|_| "off".to_owned());
    let filter = tracing_subscriber::EnvFilter::new(wanted);
    let log = tracing_subscriber::fmt().with_env_filter(filter);
    log.with_ansi(false).without_time().init();
    let arguments = Arguments::parse();
    let first = Setup {
        seed: arguments.from,
        works: Duration::from_secs(arguments.seconds),
        is_shown: arguments.show,
    };
    let report = run_many(first, arguments.seeds, arguments.threads);
    print!("{report}");
    match report.wrong.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}
