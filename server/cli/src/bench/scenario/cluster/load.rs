//! What three replicas cost, and what a follower does to the others that stalls or comes late.

use std::thread;

use millstream::Durability::{self, Sync};
use rustix::process::Signal;

use super::RECORD_BYTES;
use super::trio::{BROKERS, Trio};
use crate::bench::agent::Agent;
use crate::bench::catalogue::{self, DURABILITIES, QUIC_UP, STALLED_ACK};
use crate::bench::run::Bench;
use crate::bench::scenario::ceilings::{quic, quic_bytes, touch_page_cache};
use crate::bench::settings::STALL_MARGIN;
use crate::bench::task::BrokerTask;

/// The durabilities of which a row is wanted.
fn wanted(bench: &Bench, row: impl Fn(Durability) -> String) -> Vec<Durability> {
    let all = DURABILITIES.into_iter();
    all.filter(|of| bench.plan.wants(&row(*of))).collect()
}

/// Measures how much is stored by three brokers, beside one.
pub(in crate::bench::scenario) fn throughput(bench: &mut Bench) -> anyhow::Result<()> {
    let durabilities = wanted(bench, catalogue::replicated_produce);
    if durabilities.is_empty() {
        return Ok(());
    }
    bench.progress.now("three replicas: throughput");
    let bytes = quic_bytes(bench)?;
    let copies = u64::from(BROKERS);
    bench.require_space(bytes * (copies + 1))?;
    let mut trio = Trio::start(bench, "cluster-throughput")?;
    for repetition in bench.repetitions() {
        for durability in &durabilities {
            touch_page_cache(bench, bytes)?;
            let alone = produce(&mut bench.agent, *durability, bytes)?;
            touch_page_cache(bench, bytes * copies)?;
            let replicated = produce(&mut trio.agent, *durability, bytes)?;
            let name = catalogue::replicated_produce(*durability);
            bench
                .results
                .record(repetition, &name, replicated, Some(alone));
        }
    }
    trio.close()
}

fn produce(agent: &mut Agent, durability: Durability, bytes: u64) -> anyhow::Result<f64> {
    agent.with_topic(1, durability, |agent, topic| {
        let task = BrokerTask::Produce {
            topic: topic.to_owned(),
            record_bytes: RECORD_BYTES,
            records: bytes / RECORD_BYTES as u64,
        };
        agent.megabytes_per_second(bytes, task)
    })
}

/// Measures how long single records take with three brokers, beside one.
pub(in crate::bench::scenario) fn acknowledgements(bench: &mut Bench) -> anyhow::Result<()> {
    let durabilities = wanted(bench, catalogue::replicated_ack);
    if durabilities.is_empty() {
        return Ok(());
    }
    bench.progress.now("three replicas: acknowledgements");
    let mut trio = Trio::start(bench, "cluster-acknowledgements")?;
    let schedule = bench.settings.latency;
    let measure = |agent: &mut Agent, durability| {
        agent.with_topic(1, durability, |agent, topic| {
            agent.latency(BrokerTask::AckLatency {
                topic: topic.to_owned(),
                schedule,
                record_bytes: RECORD_BYTES,
            })
        })
    };
    for repetition in bench.repetitions() {
        for durability in &durabilities {
            let alone = measure(&mut bench.agent, *durability)?;
            let replicated = measure(&mut trio.agent, *durability)?;
            let name = catalogue::replicated_ack(*durability);
            bench
                .results
                .record_latency(repetition, &name, &replicated, Some(&alone));
        }
    }
    trio.close()
}

/// Measures how long single records take while a follower stands still, beside when none does.
pub(in crate::bench::scenario) fn stalled(bench: &mut Bench) -> anyhow::Result<()> {
    if !bench.plan.wants(STALLED_ACK) {
        return Ok(());
    }
    bench.progress.now("three replicas: a follower stalls");
    let mut trio = Trio::start(bench, "cluster-stalled")?;
    let schedule = bench.settings.latency_of_stall();
    let stall = bench.settings.stall;
    for repetition in bench.repetitions() {
        let brokers = &trio.brokers;
        let (calm, stalled) = trio.agent.with_topic(1, Sync, |agent, topic| {
            let task = BrokerTask::AckLatency {
                topic: topic.to_owned(),
                schedule,
                record_bytes: RECORD_BYTES,
            };
            let calm = agent.latency(task.clone())?;
            let follower = brokers.roles(topic)?[0].bystander()?;
            let stalled = agent.latency_while(task, || {
                thread::sleep(schedule.due(schedule.warm_up) + STALL_MARGIN);
                brokers.signal(follower, Signal::STOP)?;
                thread::sleep(stall);
                brokers.signal(follower, Signal::CONT)
            })?;
            Ok((calm, stalled))
        })?;
        bench
            .results
            .record_latency(repetition, STALLED_ACK, &stalled, Some(&calm));
        brokers.until_well()?;
    }
    trio.close()
}

/// Measures how fast a replica fills that begins empty, beside what QUIC carries.
pub(in crate::bench::scenario) fn catch_up(bench: &mut Bench) -> anyhow::Result<()> {
    let durabilities = wanted(bench, catalogue::catch_up);
    if durabilities.is_empty() {
        return Ok(());
    }
    bench.progress.now("three replicas: one catches up");
    let bytes = quic_bytes(bench)?;
    bench.require_space(bytes * u64::from(BROKERS))?;
    let mut trio = Trio::start(bench, "cluster-catch-up")?;
    for repetition in bench.repetitions() {
        for durability in &durabilities {
            let ceiling = quic(bench, repetition, QUIC_UP, bytes)?;
            touch_page_cache(bench, bytes * u64::from(BROKERS))?;
            let brokers = &mut trio.brokers;
            let rate = trio.agent.with_topic(1, *durability, |agent, topic| {
                let follower = brokers.roles(topic)?[0].bystander()?;
                brokers.kill(follower);
                agent.seconds(BrokerTask::Produce {
                    topic: topic.to_owned(),
                    record_bytes: RECORD_BYTES,
                    records: bytes / RECORD_BYTES as u64,
                })?;
                brokers.start(follower)?;
                agent.per_second(BrokerTask::CatchUp {
                    broker: brokers.address(follower),
                    topic: topic.to_owned(),
                })
            })?;
            let name = catalogue::catch_up(*durability);
            bench.results.record(repetition, &name, rate, Some(ceiling));
            brokers.until_well()?;
        }
    }
    trio.close()
}
