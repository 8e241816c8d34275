//! Checks every order of a few steps of a partition's replicas, within bounds given by hand.

use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use millstream_replication::Durability;
use millstream_sim::model::report::Report;
use millstream_sim::model::walks::walk;
use millstream_sim::model::{Bounds, Partition};
use stateright::{Checker, HasDiscoveries, Model};

/// Checks every order of a few steps of a partition's replicas.
#[derive(Parser)]
struct Arguments {
    /// Replicas in the beginning
    #[arg(long, default_value_t = 3)]
    replicas: u32,
    /// Brokers; as many as replicas unless given
    #[arg(long)]
    brokers: Option<u32>,
    /// Leader epochs
    #[arg(long, default_value_t = 2)]
    epochs: u32,
    /// Records that are produced
    #[arg(long, default_value_t = 1)]
    records: u8,
    /// Processes that crash
    #[arg(long, default_value_t = 0)]
    crashes: u8,
    /// Machines that lose their power
    #[arg(long, default_value_t = 0)]
    power_losses: u8,
    /// Directories that are emptied
    #[arg(long, default_value_t = 0)]
    wipes: u8,
    /// Changes of the replica set
    #[arg(long, default_value_t = 0)]
    changes: u8,
    /// Writes of which only the beginning succeeds
    #[arg(long, default_value_t = 0)]
    short_writes: u8,
    /// Links that break and are there again
    #[arg(long, default_value_t = 0)]
    links: u8,
    /// Logs whose beginning goes by retention
    #[arg(long, default_value_t = 0)]
    retentions: u8,
    /// Who leads in the second epoch, in the third, and so on; after them anybody
    #[arg(long, value_delimiter = ',')]
    leaders: Vec<u32>,
    /// An entry counts once it is written
    #[arg(long)]
    relaxed: bool,
    /// Begins where the first epoch's first entry is everywhere
    #[arg(long)]
    warm: bool,
    /// Spans may arrive, and logs be flushed, as their beginnings only
    #[arg(long)]
    cuts: bool,
    /// How to go through it
    #[arg(long, value_enum, default_value_t = Search::Breadth)]
    search: Search,
    /// No further than so many steps
    #[arg(long)]
    depth: Option<usize>,
    /// Threads; as many as there are processors unless given
    #[arg(long)]
    threads: Option<usize>,
    /// Seconds after which it ends in any case
    #[arg(long, default_value_t = 600)]
    seconds: u64,
    /// Where random walks begin
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Search {
    /// All states, the nearest first
    Breadth,
    /// Random walks, until the time is over
    Walks,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let bounds = Bounds {
        brokers: arguments.brokers.unwrap_or(arguments.replicas),
        replicas: arguments.replicas,
        epochs: arguments.epochs,
        records: arguments.records,
        crashes: arguments.crashes,
        power_losses: arguments.power_losses,
        wipes: arguments.wipes,
        changes: arguments.changes,
        short_writes: arguments.short_writes,
        links: arguments.links,
        retentions: arguments.retentions,
        durability: match arguments.relaxed {
            true => Durability::Relaxed,
            false => Durability::Sync,
        },
        leaders: arguments.leaders.clone(),
        warm: arguments.warm,
        cuts: arguments.cuts,
        #[cfg(planted)]
        mistake: None,
    };
    println!("{bounds:?}");
    let processors = available_parallelism().map_or(1, NonZeroUsize::get);
    let limit = Duration::from_secs(arguments.seconds);
    let threads = arguments.threads.unwrap_or(processors);
    let model = Partition::new(bounds);
    let report = match arguments.search {
        Search::Breadth => exhaust(model, &arguments, threads, limit),
        Search::Walks => walk(&model, arguments.seed, threads, limit),
    };
    print!("{report}");
    match report.broken().count() {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

fn exhaust(model: Partition, arguments: &Arguments, threads: usize, limit: Duration) -> Report {
    let builder = model
        .checker()
        .threads(threads)
        .timeout(limit)
        .finish_when(HasDiscoveries::AnyFailures);
    let builder = match arguments.depth {
        Some(depth) => builder.target_max_depth(depth),
        None => builder,
    };
    let began = Instant::now();
    let checker = builder.spawn_bfs().join();
    let took = began.elapsed();
    let all = took < limit && arguments.depth.is_none();
    Report::of(&checker, took, all)
}
