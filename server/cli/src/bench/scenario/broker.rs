//! What a broker costs that does nothing, and how fast it is there.

use std::fs;
use std::thread;
use std::time::Duration;

use millstream::Durability;

use crate::bench::agent::Agent;
use crate::bench::catalogue::{self, IDLE_MEMORY, START_EMPTY};
use crate::bench::procfs;
use crate::bench::run::{Bench, BrokerProcess};
use crate::bench::task::BrokerTask;

/// How long a broker is left alone before its memory is looked at.
const SETTLE: Duration = Duration::from_millis(300);

const LOG_TOPIC: &str = "log";
const LOG_PARTITIONS: u32 = 4;
const LOG_RECORD_BYTES: usize = 1024;

/// Starts brokers on empty directories.
pub(super) fn facts(bench: &mut Bench) -> anyhow::Result<()> {
    if !bench.plan.wants(IDLE_MEMORY) && !bench.plan.wants(START_EMPTY) {
        return Ok(());
    }
    bench.progress.now("an idle broker");
    let data_dir = bench.folder.join("idle-broker");
    for repetition in bench.repetitions() {
        let broker = BrokerProcess::start(&bench.started, &bench.identities, &data_dir)?;
        bench.results.record(
            repetition,
            START_EMPTY,
            milliseconds(broker.ready_after),
            None,
        );
        thread::sleep(SETTLE);
        let mebibytes = procfs::resident_bytes(broker.id())? as f64 / f64::from(1 << 20);
        bench
            .results
            .record(repetition, IDLE_MEMORY, mebibytes, None);
        broker.stop()?;
        fs::remove_dir_all(&data_dir)?;
    }
    Ok(())
}

/// Starts a broker on a log of some size, after it was stopped and after it was killed.
pub(super) fn start_with_log(bench: &mut Bench) -> anyhow::Result<()> {
    let Some(gib) = bench.settings.start_gib else {
        return Ok(());
    };
    let (stopped, killed) = (
        catalogue::start_with_log(gib),
        catalogue::start_after_kill(gib),
    );
    if !bench.plan.wants(&stopped) {
        return Ok(());
    }
    bench
        .progress
        .now(format!("a broker with a log of {gib} GiB"));
    let log_bytes = u64::from(gib) << 30;
    bench.require_space(log_bytes + log_bytes / 8)?;
    let data_dir = bench.folder.join("log-broker");
    let start = |bench: &Bench| BrokerProcess::start(&bench.started, &bench.identities, &data_dir);

    let mut broker = start(bench)?;
    let records = log_bytes / LOG_RECORD_BYTES as u64;
    fill(bench, &broker, records)?;
    // Every start takes over from a stop and, the next, from a kill.
    for repetition in bench.repetitions() {
        broker.stop()?;
        let restarted = start(bench)?;
        bench.results.record(
            repetition,
            &stopped,
            milliseconds(restarted.ready_after),
            None,
        );
        restarted.kill();
        broker = start(bench)?;
        bench
            .results
            .record(repetition, &killed, milliseconds(broker.ready_after), None);
    }
    verify(bench, &broker, records)?;
    broker.stop()?;
    fs::remove_dir_all(&data_dir)?;
    Ok(())
}

fn fill(bench: &Bench, broker: &BrokerProcess, records: u64) -> anyhow::Result<()> {
    let mut agent = Agent::start(&bench.started, &bench.identities, &broker.address, None)?;
    let topic = LOG_TOPIC.to_owned();
    agent.done(BrokerTask::CreateTopic {
        topic: topic.clone(),
        partitions: LOG_PARTITIONS,
        durability: Durability::Relaxed,
        replicas: 1,
    })?;
    agent.seconds(BrokerTask::Produce {
        topic,
        record_bytes: LOG_RECORD_BYTES,
        records,
    })?;
    agent.stop()
}

/// A start that loses records is no fast start.
fn verify(bench: &Bench, broker: &BrokerProcess, records: u64) -> anyhow::Result<()> {
    let mut agent = Agent::start(&bench.started, &bench.identities, &broker.address, None)?;
    let found = agent.count(BrokerTask::Count {
        topic: LOG_TOPIC.to_owned(),
    })?;
    anyhow::ensure!(
        found == records,
        "{found} of {records} records are there after the last start"
    );
    agent.stop()
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}
