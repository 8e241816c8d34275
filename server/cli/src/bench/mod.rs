//! `millstream bench`: what a broker does on this machine, next to what the machine could do.
//!
//! Broker, client and the raw QUIC server it is compared with are processes of their own, started
//! from this program's own file in a hidden role. The run itself only tells them what to do.
//!
//! # Rows
//!
//! The names are stable; `--list` gives them all. A **ceiling** is measured in the same repetitions
//! as its row, just before it. A **ratio** is the median over the median of the ceiling: of a
//! throughput the share of it that is reached, of a latency how many times it takes.
//!
//! `<d>` is a durability, `relaxed` or `sync`; `<s>` a shape of records, `1KiB/1p`, `100B/1p`,
//! `1KiB/4p` or `100B/4p`: bytes of a value, and partitions; `<p>` a percentile, `p50`, `p99` or
//! `p99.9`. MB/s are millions of bytes of values; `<row>/records` says the same in records.
//!
//! | row | unit | what | ceiling |
//! |---|---|---|---|
//! | `quic/up`, `quic/down` | MB/s | bytes on one stream of raw QUIC, to the server or from it | |
//! | `quic/both` | MB/s | both at once, on two connections: as many bytes each way | |
//! | `quic/round-trip/ack/<p>` | µs | 1 KiB there, 32 B back, 1,000 a second | |
//! | `quic/round-trip/record/<p>` | µs | 1 KiB there, 1 KiB back, 1,000 a second | |
//! | `disk/write` | MB/s | `pwritev` of 512 KiB, a full batch, appending | |
//! | `disk/sync/1p`, `disk/sync/4p` | MB/s | the same with an fdatasync every 4 or 16 MiB: the batches that a producer has on their way to so many partitions, which one group commit covers | |
//! | `disk/sync/record/<p>` | µs | `pwritev` of 1 KiB and fdatasync, one after the other | |
//! | `produce/<d>/<s>`, `…/records` | MB/s, records/s | until the last is acknowledged; an idempotent producer as it comes | relaxed: `quic/up`; sync: the lower of `disk/sync` and relaxed |
//! | `consume/<s>`, `…/records` | MB/s, records/s | from the start, by batches; reading does not depend on durability | `quic/down` |
//! | `end-to-end/<d>/<s>`, `…/records` | MB/s, records/s | producing and consuming at once, until the last is consumed | relaxed: `quic/both`; sync: the lower of `disk/sync` and relaxed |
//! | `latency/ack/<d>/<p>` | µs | a record of 1 KiB until its acknowledgement, 1,000 a second | `quic/round-trip/ack` |
//! | `latency/end-to-end/<d>/<p>` | µs | a record of 1 KiB until another client's consumer has it, 1,000 a second | `quic/round-trip/record` |
//! | `worker/quake-alert` | records/s | records of 100 B of JSON through the plugin, from log to log, one partition | |
//! | `broker/memory/idle` | MiB | resident memory of a broker that has just started | |
//! | `broker/start/empty` | ms | from the process's start until it is ready, on an empty directory | |
//! | `broker/start/<n>GiB` | ms | the same on a log of so many GiB, after a stop | |
//! | `broker/start/<n>GiB/after-kill` | ms | the same after it was killed while idle | |
//! | `broker/cpu/produce/relaxed/<s>` | s/GiB | processor time of the broker for each GiB produced (`1KiB/1p`, `100B/1p`) | |
//!
//! `bench worker` has rows of its own. `drop` does nothing with a record, `copy` emits it, `json` is
//! `quake-alert`, `get` and `put` make one call of the state for each record.
//!
//! | row | unit | what | ceiling |
//! |---|---|---|---|
//! | `native/drop`, `native/json` | records/s | the same handlers in native code, over the same batches in memory | |
//! | `worker/drop`, `worker/json` | records/s | records of 100 B in batches of 1,000, from log to log, exactly once | `native/…` |
//! | `worker/at-least-once/json`, `…/copy` | records/s | the same without a journal of the outputs | |
//! | `worker/exactly-once/json`, `…/copy` | records/s | the same with it | `worker/at-least-once/…` |
//! | `worker/deterministic/copy` | records/s | the same for a plugin that is declared deterministic | `worker/at-least-once/copy` |
//! | `worker/state/get`, `worker/state/put` | calls/s | of 10,000 keys, with values of 100 B | |
//! | `worker/latency/<p>` | µs | a record of 1 KiB until another client's consumer has its copy, 1,000 a second, `relaxed` | |
//! | `beside-endless/ack/<p>` | µs | a record of 1 KiB until its acknowledgement, 1,000 a second, `relaxed`, while four other deployments compute without end | the same without them |
//! | `beside-endless/worker/<p>` | µs | `worker/latency`, while they do | the same without them |
//! | `worker/memory/1000` | MiB | resident memory of a broker above what it was, with 1,000 workers that have handled a record each | |
//! | `worker/redeploy` | ms | until a deployment of a component that another one has is confirmed | |
//! | `worker/restart/1GiB` | ms | from the start of a broker that was killed until its worker, which remembers so much, has handled one more record | |
//!
//! `bench cluster` has rows of three brokers that all keep three replicas, beside one broker with one
//! replica, which is the ceiling unless another is named. All of them are processes on this machine: what
//! three machines have for themselves, these share.
//!
//! | row | unit | what | ceiling |
//! |---|---|---|---|
//! | `cluster/produce/<d>` | MB/s | records of 1 KiB, one partition, until the last is acknowledged | the same with one replica |
//! | `cluster/ack/<d>/<p>` | µs | a record of 1 KiB until its acknowledgement, 1,000 a second | the same with one replica |
//! | `cluster/stalled/ack/<p>` | µs | the same, `sync`, while a follower stands still for ten seconds | the same without that |
//! | `cluster/catch-up/<d>` | MB/s | bytes that a replica gets which begins empty, from the first that are seen on | `quic/up` |
//! | `cluster/idle/cpu` | % of a core | with 1,000 partitions, of the broker that takes the most | |
//! | `cluster/idle/memory` | MiB | resident memory of each broker with these, of the one that takes the most | |
//! | `cluster/elections/1000` | ms | from the kill of a broker until the others lead all 1,000 | |
//! | `cluster/fail-over` | ms | from the kill of a partition's leader until a record sent after it is acknowledged | |
//! | `cluster/fail-over/with-metadata` | ms | the same where it leads the metadata quorum as well | |
//!
//! # Method
//!
//! The first repetition is discarded. Transfers are sized so that the ceiling itself lasts a second
//! (less with `--quick`), and a row moves as many bytes as its ceiling. Payloads are in memory
//! before anything is timed, and so is the page cache that a log will take; connections are open.
//! Latencies count from the time at which a request is due by an open-loop schedule. Every topic is
//! deleted after its measurement.
//!
//! # Layout
//!
//! - `settings`, `catalogue`, `bars`: what is asked for, the rows, what they must reach
//! - `run`, `scenario`, `results`, `report`, `progress`: the run, what it measures and what it tells
//! - `process`, `agent`, `task`: the processes and what is said to them
//! - `client`, `workload`, `servers`, `raw_quic`, `disk`: what they do
//! - `payload`, `schedule`, `stats`, `identities`, `machine`, `procfs`: what all of that needs

mod agent;
mod bars;
mod catalogue;
mod client;
mod disk;
mod identities;
mod machine;
mod payload;
mod process;
mod procfs;
mod progress;
mod raw_quic;
mod report;
mod results;
mod run;
mod scenario;
mod schedule;
mod servers;
mod settings;
mod stats;
mod task;
mod workload;

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Subcommand;

use crate::interrupt::Interrupts;
use crate::output::{Output, OutputFormat, Prose, View, say};
use crate::plugin::build::{BuildArgs, build};
use catalogue::{Plan, Subject, WORKER};
use machine::Machine;
use process::Started;
use run::{Components, Order};
use settings::{RunArgs, Settings};

/// The plugin of the worker's row, within the workspace.
const PLUGIN: &str = "plugins/quake-alert";

/// The plugin of the other rows of workers.
const BENCH_PLUGIN: &str = "tests/fixtures/bench";

/// What `millstream bench` is told.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, disable_help_subcommand = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    role: Option<Role>,
    #[command(flatten)]
    run: RunArgs,
}

/// What the program is within a run.
#[derive(Debug, Subcommand)]
enum Role {
    /// Measures plugins at work: beside native code, their guarantees, their state, their latency
    Worker(RunArgs),
    /// Measures a cluster of three brokers: beside one broker, when one stalls and when one is killed
    Cluster(RunArgs),
    /// A broker of a cluster
    #[command(hide = true)]
    Member(servers::MemberArgs),
    /// The broker
    #[command(hide = true)]
    Broker(servers::BrokerArgs),
    /// The raw QUIC server
    #[command(hide = true)]
    Quic(servers::QuicArgs),
    /// The client
    #[command(hide = true)]
    Client(client::ClientArgs),
}

/// Measures and prints, or plays a role in another process's run.
///
/// # Errors
///
/// What could not be measured; with `--check`, the bars that were missed.
pub(crate) async fn run(args: Args, output: OutputFormat) -> anyhow::Result<()> {
    match args.role {
        Some(Role::Broker(args)) => servers::broker(args).await,
        Some(Role::Member(args)) => servers::member(args).await,
        Some(Role::Quic(args)) => servers::quic(args).await,
        Some(Role::Client(args)) => client::run(args).await,
        Some(Role::Worker(run)) => {
            measure(Subject::Worker, run, Output::new(output, Prose::Shown)).await
        }
        Some(Role::Cluster(run)) => {
            measure(Subject::Cluster, run, Output::new(output, Prose::Shown)).await
        }
        None => measure(Subject::Broker, args.run, Output::new(output, Prose::Shown)).await,
    }
}

async fn measure(subject: Subject, args: RunArgs, output: Output) -> anyhow::Result<()> {
    let settings = Settings::of(subject, &args);
    let plan = Plan::select(settings.rows(), &args.only)?;
    if args.list {
        return output.print(&RowNames(
            plan.rows().iter().map(|row| row.name.clone()).collect(),
        ));
    }
    let mut interrupts = Interrupts::catch()?;
    let data_dir = data_dir(args.data_dir)?;
    for reservation in Machine::look(&data_dir)?.reservations() {
        say(format_args!("note: {reservation}"));
    }
    let components = interrupts
        .unless(components(subject, &plan, args.component))
        .await?;
    // Brokers that are killed are missed by the others, which is no news here.
    let started = Started::nothing(match subject {
        Subject::Broker | Subject::Worker => "warn",
        Subject::Cluster => "error,openraft=off",
    });
    let order = Order {
        settings,
        plan,
        data_dir,
        components,
    };
    let mut work = tokio::task::spawn_blocking({
        let started = started.clone();
        move || run::measure(order, &started)
    });
    let measured = tokio::select! {
        measured = &mut work => measured??,
        interrupted = interrupts.next() => {
            started.interrupt();
            // It fails at the next word from a process that is gone, and removes its data.
            let _ = work.await;
            return Err(interrupted.into());
        }
    };
    output.print(&measured.report)?;
    if let Some((first, others)) = measured.failures.split_first() {
        for failure in others {
            say(format_args!("not measured: {failure:#}"));
        }
        bail!("not everything was measured: {first:#}");
    }
    if args.check {
        bars::check(&measured.report.rows)
    } else {
        Ok(())
    }
}

/// The names of the rows.
#[derive(serde::Serialize)]
#[serde(transparent)]
struct RowNames(Vec<String>);

impl View for RowNames {
    fn text(&self) -> String {
        self.0.iter().map(|name| format!("{name}\n")).collect()
    }
}

/// Beside what is built, where there is such a place: it is on a disk, and ignored by git.
fn data_dir(given: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    if let Some(given) = given {
        std::fs::create_dir_all(&given)
            .with_context(|| format!("cannot make {}", given.display()))?;
        return Ok(given);
    }
    let here = std::env::current_dir().context("the working directory is gone")?;
    let target = here.join("target");
    Ok(if target.is_dir() { target } else { here })
}

/// The components of the workers' rows that are wanted: `quake-alert` as it is given, or built from
/// the workspace like the other.
async fn components(
    subject: Subject,
    plan: &Plan,
    quake_alert: Option<PathBuf>,
) -> anyhow::Result<Components> {
    let given = |given: PathBuf| {
        let found = given.canonicalize();
        found.with_context(|| format!("cannot find {}", given.display()))
    };
    let wanted = subject == Subject::Worker || plan.wants(WORKER);
    Ok(Components {
        quake_alert: match quake_alert {
            _ if !wanted => None,
            Some(path) => Some(given(path)?),
            None => component(PLUGIN).await?,
        },
        bench: match subject {
            Subject::Broker | Subject::Cluster => None,
            Subject::Worker => component(BENCH_PLUGIN).await?,
        },
    })
}

/// A component that is built from the workspace, if it can be.
async fn component(plugin: &str) -> anyhow::Result<Option<PathBuf>> {
    let left_out = |why: &str| {
        say(format_args!(
            "note: the rows of {plugin} are left out: {why}; see --component"
        ))
    };
    let here = std::env::current_dir().context("the working directory is gone")?;
    let Some(workspace) = workspace_above(&here) else {
        left_out("it is not here");
        return Ok(None);
    };
    let target_dir = Some(workspace.join("target").join("plugins"));
    let args = BuildArgs {
        path: workspace.join(plugin),
        target_dir,
        arguments: Vec::new(),
    };
    match build(&args).await {
        Ok(built) => Ok(Some(built.component)),
        Err(error) => {
            left_out(&format!("{error:#}"));
            Ok(None)
        }
    }
}

/// The folder at or above `folder` that has the plugin.
fn workspace_above(folder: &Path) -> Option<&Path> {
    folder
        .ancestors()
        .find(|folder| folder.join(PLUGIN).join("Cargo.toml").is_file())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn roles_are_hidden_and_take_no_arguments_of_a_run() {
        let help = Line::try_parse_from(["bench", "--help"])
            .unwrap_err()
            .to_string();
        assert!(
            help.contains("--quick") && !help.contains("broker("),
            "{help}"
        );
        assert!(!help.contains("raw QUIC server"), "{help}");
        let role = Line::try_parse_from(["bench", "quic", "--identities", "/tmp/ids"]).unwrap();
        assert!(matches!(role.args.role, Some(Role::Quic(_))));
        assert!(
            Line::try_parse_from(["bench", "--quick", "quic", "--identities", "/tmp/ids"]).is_err()
        );
        assert!(
            Line::try_parse_from(["bench", "--quick"])
                .unwrap()
                .args
                .role
                .is_none()
        );
    }

    #[test]
    fn the_plugin_is_found_from_below() {
        let workspace = tempfile::tempdir().unwrap();
        let plugin = workspace.path().join(PLUGIN);
        std::fs::create_dir_all(&plugin).unwrap();
        assert_eq!(workspace_above(&plugin), None);
        std::fs::write(plugin.join("Cargo.toml"), "").unwrap();
        assert_eq!(workspace_above(&plugin.join("src")), Some(workspace.path()));
    }
}
