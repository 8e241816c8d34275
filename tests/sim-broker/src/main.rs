//! Runs seeds, and tells what they have come to.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use millstream_sim_broker::many::{Times, run_many};
use millstream_sim_broker::run::{Setup, run};

/// Runs whole brokers and clients in a simulation, seed after seed.
#[derive(Parser)]
struct Arguments {
    /// How many seeds
    #[arg(long, default_value_t = 150)]
    seeds: u64,
    /// The first one
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// This one alone
    #[arg(long, conflicts_with_all = ["seeds", "from", "twice", "threads"])]
    seed: Option<u64>,
    /// Simulated seconds in which clients are at work and everything happens
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Seeds at the same time
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Run every seed twice, and compare what has happened
    #[arg(long)]
    twice: bool,
    /// Print what happens
    #[arg(long, requires = "seed")]
    show: bool,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    // What brokers log, if a filter is given: `MILLSTREAM_LOG=millstream=debug`.
    let wanted = std::env::var("MILLSTREAM_LOG").unwrap_or_else(|_| "off".to_owned());
    let filter = tracing_subscriber::EnvFilter::new(wanted);
    let log = tracing_subscriber::fmt().with_env_filter(filter);
    log.with_ansi(false).without_time().init();
    let arguments = Arguments::parse();
    let setup = Setup {
        seed: arguments.seed.unwrap_or(arguments.from),
        works: Duration::from_secs(arguments.seconds),
        is_shown: arguments.show,
    };
    let report = match arguments.seed {
        Some(_) => run(setup),
        None => {
            let times = match arguments.twice {
                true => Times::Twice,
                false => Times::Once,
            };
            let program = std::env::current_exe().expect("this program's own file");
            run_many(&program, setup, arguments.seeds, arguments.threads, times)
        }
    };
    match arguments.json {
        true => println!("{}", serde_json::to_string(&report).expect("a report")),
        false => print!("{report}"),
    }
    match report.wrong.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}
