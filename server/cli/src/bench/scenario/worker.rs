//! Plugins between two topics.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use millstream::DeliveryGuarantee::{self, AtLeastOnce, Deterministic, ExactlyOnce};
use millstream::Durability::Relaxed;

use super::latency::LATENCY_RECORD_BYTES;
use crate::bench::agent::Agent;
use crate::bench::catalogue::{
    BESIDE_ENDLESS_ACK, BESIDE_ENDLESS_WORKER, WORKER, WORKER_LATENCY, WORKER_MEMORY,
    WORKER_REDEPLOY, WORKER_RESTART, delivered, from_log, native,
};
use crate::bench::procfs;
use crate::bench::results::Repetition;
use crate::bench::run::{Bench, BrokerProcess};
use crate::bench::stats::LatencyFigures;
use crate::bench::task::{BrokerTask, Deployment, NativeTask};
use crate::bench::workload::native::BATCH_RECORDS;
use crate::bench::workload::plugins::{REMEMBERED_BYTES, Work};

/// One in so many of the records is handled where each costs a call of the state.
const STATE_ONE_IN: u64 = 6;

/// Deployments that compute without end, at once, and what they have to do.
const ENDLESS: u32 = 4;
const ENDLESS_RECORDS: u64 = 10_000;
const ENDLESS_INPUT: &str = "endless-in";
const ENDLESS_OUTPUT: &str = "endless-out";

/// Workers that are idle at once.
const IDLE_WORKERS: u32 = 1_000;

/// What a worker remembers that is restarted, bytes.
const STATE_BYTES: u64 = 1 << 30;

/// What its topic, its journal and its state take of the disk, at most, bytes for each of these.
const DISK_FOR_STATE: u64 = 4;

/// How long they are left alone before the broker's memory is looked at.
const SETTLE: Duration = Duration::from_secs(2);

/// Measures the records that `quake-alert` handles in a second, where there is a component.
pub(super) fn quake_alert(bench: &mut Bench) -> anyhow::Result<()> {
    if !bench.plan.wants(WORKER) {
        return Ok(());
    }
    let Some(component) = bench.components.of(Work::Json) else {
        return Ok(());
    };
    bench.progress.now("a worker");
    let mut records = bench.settings.quakes;
    for repetition in bench.repetitions() {
        let rate = bench.agent.with_topic(1, Relaxed, |agent, input| {
            fill(agent, input, records, None)?;
            run(agent, &component, Work::Json, ExactlyOnce, input, records)
        })?;
        bench.results.record(repetition, WORKER, rate, None);
        if repetition == Repetition::Discarded {
            // A fast machine gets as many more as it takes to last.
            records = records.max((rate * bench.settings.transfer.as_secs_f64()) as u64);
        }
    }
    Ok(())
}

/// Measures what plugins do beside their twins in native code, and what their guarantees cost.
pub(super) fn throughput(bench: &mut Bench) -> anyhow::Result<()> {
    let records = bench.settings.quakes;
    for repetition in bench.repetitions() {
        for work in [Work::Drop, Work::Json] {
            if wants(bench, work, &[from_log(work), native(work)]) {
                beside_native(bench, repetition, work, records)?;
            }
        }
        let compared = [
            (Work::Json, &[ExactlyOnce][..]),
            (Work::Copy, &[ExactlyOnce, Deterministic]),
        ];
        for (work, deliveries) in compared {
            let all = [AtLeastOnce, ExactlyOnce, Deterministic];
            if wants(bench, work, &all.map(|delivery| delivered(delivery, work))) {
                guarantees(bench, repetition, work, deliveries, records)?;
            }
        }
        for work in [Work::Get, Work::Put] {
            if wants(bench, work, &[from_log(work)]) {
                bench.progress.now(format!("a worker: {work}"));
                let records = records / STATE_ONE_IN;
                let rate = alone(bench, work, ExactlyOnce, records)?;
                bench
                    .results
                    .record(repetition, &from_log(work), rate, None);
            }
        }
        bench.tell();
    }
    Ok(())
}

fn wants(bench: &Bench, work: Work, rows: &[String]) -> bool {
    bench.components.of(work).is_some() && rows.iter().any(|row| bench.plan.wants(row))
}

fn beside_native(
    bench: &mut Bench,
    repetition: Repetition,
    work: Work,
    records: u64,
) -> anyhow::Result<()> {
    bench.progress.now(format!("a worker: {work}"));
    let ceiling = bench.agent.per_second(NativeTask { work, records })?;
    let rate = alone(bench, work, ExactlyOnce, records)?;
    bench
        .results
        .record(repetition, &native(work), ceiling, None);
    bench
        .results
        .record(repetition, &from_log(work), rate, Some(ceiling));
    Ok(())
}

fn guarantees(
    bench: &mut Bench,
    repetition: Repetition,
    work: Work,
    guarantees: &[DeliveryGuarantee],
    records: u64,
) -> anyhow::Result<()> {
    bench.progress.now(format!("a worker's guarantees: {work}"));
    let ceiling = alone(bench, work, AtLeastOnce, records)?;
    bench
        .results
        .record(repetition, &delivered(AtLeastOnce, work), ceiling, None);
    for delivery in guarantees {
        let rate = alone(bench, work, *delivery, records)?;
        let name = delivered(*delivery, work);
        bench.results.record(repetition, &name, rate, Some(ceiling));
    }
    Ok(())
}

/// The records that a plugin handles in a second, from a topic of its own.
fn alone(
    bench: &mut Bench,
    work: Work,
    delivery: DeliveryGuarantee,
    records: u64,
) -> anyhow::Result<f64> {
    let component = bench.components.of(work).unwrap_or_default();
    bench.agent.with_topic(1, Relaxed, |agent, input| {
        fill(agent, input, records, Some(BATCH_RECORDS as usize))?;
        run(agent, &component, work, delivery, input, records)
    })
}

fn fill(
    agent: &mut Agent,
    topic: &str,
    records: u64,
    batch_records: Option<usize>,
) -> anyhow::Result<()> {
    agent.done(BrokerTask::FillQuakes {
        topic: topic.to_owned(),
        records,
        batch_records,
    })
}

fn run(
    agent: &mut Agent,
    component: &Path,
    work: Work,
    delivery: DeliveryGuarantee,
    input: &str,
    records: u64,
) -> anyhow::Result<f64> {
    agent.with_topic(1, Relaxed, |agent, output| {
        agent.per_second(BrokerTask::RunWorker {
            deployment: Deployment {
                // The input's name is a deployment's that nobody has had before.
                name: input.to_owned(),
                component: component.to_owned(),
                work,
                delivery,
                input: input.to_owned(),
                output: output.to_owned(),
            },
            records,
        })
    })
}

/// Measures the latency from a record's time until a consumer has the plugin's copy of it.
pub(super) fn latency(bench: &mut Bench) -> anyhow::Result<()> {
    if !wants(bench, Work::Copy, &[WORKER_LATENCY.to_owned()]) {
        return Ok(());
    }
    bench.progress.now("the latency through a worker");
    for repetition in bench.repetitions() {
        let figures = copy_latency(bench)?;
        bench
            .results
            .record_latency(repetition, WORKER_LATENCY, &figures, None);
    }
    Ok(())
}

/// Measures what deployments that compute without end cost those that do not, and produce.
pub(super) fn beside_endless(bench: &mut Bench) -> anyhow::Result<()> {
    let rows = [BESIDE_ENDLESS_ACK, BESIDE_ENDLESS_WORKER];
    if !wants(bench, Work::Spin, &rows.map(str::to_owned)) {
        return Ok(());
    }
    bench.progress.now("what is beside plugins without end");
    let component = bench.components.of(Work::Spin).unwrap_or_default();
    for repetition in bench.repetitions() {
        let acked = ack_latency(bench)?;
        let copied = copy_latency(bench)?;
        // They are in the way from here on.
        let topics = [ENDLESS_INPUT, ENDLESS_OUTPUT];
        for topic in topics {
            bench.agent.done(BrokerTask::CreateTopic {
                topic: topic.to_owned(),
                partitions: 1,
                durability: Relaxed,
                replicas: 1,
            })?;
        }
        fill(&mut bench.agent, ENDLESS_INPUT, ENDLESS_RECORDS, None)?;
        let names = || (0..ENDLESS).map(|number| format!("endless-{number}"));
        for name in names() {
            bench.agent.seconds(BrokerTask::Deploy(Deployment {
                name,
                component: component.clone(),
                work: Work::Spin,
                delivery: ExactlyOnce,
                input: ENDLESS_INPUT.to_owned(),
                output: ENDLESS_OUTPUT.to_owned(),
            }))?;
        }
        let beside = ack_latency(bench).and_then(|acked| Ok((acked, copy_latency(bench)?)));
        for name in names() {
            bench.agent.done(BrokerTask::Remove { name })?;
        }
        for topic in topics {
            let topic = topic.to_owned();
            bench.agent.done(BrokerTask::DeleteTopic { topic })?;
        }
        let (acked_beside, copied_beside) = beside?;
        for (name, figures, alone) in [
            (BESIDE_ENDLESS_ACK, acked_beside, acked),
            (BESIDE_ENDLESS_WORKER, copied_beside, copied),
        ] {
            bench
                .results
                .record_latency(repetition, name, &figures, Some(&alone));
        }
    }
    Ok(())
}

fn ack_latency(bench: &mut Bench) -> anyhow::Result<LatencyFigures> {
    let schedule = bench.settings.latency;
    bench.agent.with_topic(1, Relaxed, |agent, topic| {
        agent.latency(BrokerTask::AckLatency {
            topic: topic.to_owned(),
            schedule,
            record_bytes: LATENCY_RECORD_BYTES,
        })
    })
}

fn copy_latency(bench: &mut Bench) -> anyhow::Result<LatencyFigures> {
    let component = bench.components.of(Work::Copy).unwrap_or_default();
    let schedule = bench.settings.latency;
    bench.agent.with_topic(1, Relaxed, |agent, input| {
        agent.with_topic(1, Relaxed, |agent, output| {
            let name = input.to_owned();
            agent.seconds(BrokerTask::Deploy(Deployment {
                name: name.clone(),
                component: component.clone(),
                work: Work::Copy,
                delivery: ExactlyOnce,
                input: input.to_owned(),
                output: output.to_owned(),
            }))?;
            let figures = agent.latency(BrokerTask::EndToEndLatency {
                topic: input.to_owned(),
                output: Some(output.to_owned()),
                schedule,
                record_bytes: LATENCY_RECORD_BYTES,
            })?;
            agent.done(BrokerTask::Remove { name })?;
            Ok(figures)
        })
    })
}

/// Measures what workers cost that have handled a record each and do nothing, and how soon a
/// component is deployed that the broker knows, on brokers of their own.
pub(super) fn idle(bench: &mut Bench) -> anyhow::Result<()> {
    let rows = [WORKER_MEMORY.to_owned(), WORKER_REDEPLOY.to_owned()];
    if !wants(bench, Work::Drop, &rows) {
        return Ok(());
    }
    let component = bench.components.of(Work::Drop).unwrap_or_default();
    bench
        .progress
        .now(format!("{IDLE_WORKERS} workers that are idle"));
    let data_dir = bench.folder.join("idle-workers");
    for repetition in bench.repetitions() {
        let broker = BrokerProcess::start(&bench.started, &bench.identities, &data_dir)?;
        let mut agent = Agent::start(&bench.started, &bench.identities, &broker.address, None)?;
        let deployment = |name: &str| Deployment {
            name: name.to_owned(),
            component: component.clone(),
            work: Work::Drop,
            delivery: ExactlyOnce,
            input: "input".to_owned(),
            output: "output".to_owned(),
        };
        for (topic, partitions) in [("input", IDLE_WORKERS), ("other", 1), ("output", 1)] {
            agent.done(BrokerTask::CreateTopic {
                topic: topic.to_owned(),
                partitions,
                durability: Relaxed,
                replicas: 1,
            })?;
        }
        agent.done(BrokerTask::Touch {
            topic: "input".to_owned(),
            partitions: IDLE_WORKERS,
        })?;
        let mebibytes = || -> anyhow::Result<f64> {
            thread::sleep(SETTLE);
            Ok(procfs::resident_bytes(broker.id())? as f64 / f64::from(1 << 20))
        };
        let before = mebibytes()?;
        agent.seconds(BrokerTask::Deploy(deployment("idle")))?;
        agent.done(BrokerTask::AwaitHandled {
            name: "idle".to_owned(),
            records: IDLE_WORKERS.into(),
        })?;
        let with_workers = mebibytes()?;
        bench
            .results
            .record(repetition, WORKER_MEMORY, with_workers - before, None);
        let again = Deployment {
            input: "other".to_owned(),
            ..deployment("again")
        };
        let seconds = agent.seconds(BrokerTask::Deploy(again))?;
        bench
            .results
            .record(repetition, WORKER_REDEPLOY, seconds * 1_000.0, None);
        agent.stop()?;
        broker.stop()?;
        fs::remove_dir_all(&data_dir)?;
    }
    Ok(())
}

/// Measures how soon a worker is back that remembers much, on a broker of its own that is killed.
pub(super) fn restart(bench: &mut Bench) -> anyhow::Result<()> {
    if !wants(bench, Work::Remember, &[WORKER_RESTART.to_owned()]) {
        return Ok(());
    }
    let component = bench.components.of(Work::Remember).unwrap_or_default();
    bench.progress.now("a worker that remembers much");
    bench.require_space(DISK_FOR_STATE * STATE_BYTES)?;
    let data_dir = bench.folder.join("remembering-broker");
    let start = |bench: &Bench| -> anyhow::Result<(BrokerProcess, Agent)> {
        let broker = BrokerProcess::start(&bench.started, &bench.identities, &data_dir)?;
        let agent = Agent::start(&bench.started, &bench.identities, &broker.address, None)?;
        Ok((broker, agent))
    };
    let (mut broker, mut agent) = start(bench)?;
    for topic in ["input", "output"] {
        agent.done(BrokerTask::CreateTopic {
            topic: topic.to_owned(),
            partitions: 1,
            durability: Relaxed,
            replicas: 1,
        })?;
    }
    let mut records = STATE_BYTES / REMEMBERED_BYTES;
    // As large as what is remembered of each, so that a call writes no more than it may.
    agent.seconds(BrokerTask::Produce {
        topic: "input".to_owned(),
        record_bytes: REMEMBERED_BYTES as usize,
        records,
    })?;
    let name = "remember".to_owned();
    agent.seconds(BrokerTask::Deploy(Deployment {
        name: name.clone(),
        component,
        work: Work::Remember,
        delivery: ExactlyOnce,
        input: "input".to_owned(),
        output: "output".to_owned(),
    }))?;
    let handled = |agent: &mut Agent, records| {
        let name = name.clone();
        agent.done(BrokerTask::AwaitHandled { name, records })
    };
    handled(&mut agent, records)?;
    for repetition in bench.repetitions() {
        broker.kill();
        let began = Instant::now();
        (broker, agent) = start(bench)?;
        agent.done(BrokerTask::Touch {
            topic: "input".to_owned(),
            partitions: 1,
        })?;
        records += 1;
        handled(&mut agent, records)?;
        let ms = began.elapsed().as_secs_f64() * 1_000.0;
        bench.results.record(repetition, WORKER_RESTART, ms, None);
    }
    agent.stop()?;
    broker.stop()?;
    fs::remove_dir_all(&data_dir)?;
    Ok(())
}
