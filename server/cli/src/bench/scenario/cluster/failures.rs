//! Many partitions on three brokers, and brokers that are killed.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use millstream::Durability::Sync;

use super::RECORD_BYTES;
use super::trio::{BROKERS, Roles, Trio};
use crate::bench::catalogue::{
    CLUSTER_IDLE_CPU, CLUSTER_IDLE_MEMORY, ELECTIONS, FAIL_OVER, FAIL_OVER_WITH_METADATA,
};
use crate::bench::procfs;
use crate::bench::results::Repetition;
use crate::bench::run::Bench;
use crate::bench::task::BrokerTask;

/// Partitions that are kept by every broker.
const MANY: u32 = 1_000;
const MANY_TOPIC: &str = "many";

/// How long the brokers are left alone before they are looked at.
const SETTLE: Duration = Duration::from_secs(3);

/// How long their processor time is counted: what they do now and then is in it several times.
const IDLE_WINDOW: Duration = Duration::from_secs(10);

/// Partitions of a topic of which one is led as it is wanted.
const CHOICE: u32 = 6;

/// Measures what a thousand partitions cost that nobody uses, and how soon others lead them.
pub(in crate::bench::scenario) fn many_partitions(bench: &mut Bench) -> anyhow::Result<()> {
    let idle = [CLUSTER_IDLE_CPU, CLUSTER_IDLE_MEMORY];
    let wants_idle = idle.iter().any(|row| bench.plan.wants(row));
    if !wants_idle && !bench.plan.wants(ELECTIONS) {
        return Ok(());
    }
    bench.progress.now("three brokers with 1,000 partitions");
    let mut trio = Trio::start(bench, "cluster-many")?;
    trio.agent.done(BrokerTask::CreateTopic {
        topic: MANY_TOPIC.to_owned(),
        partitions: MANY,
        durability: Sync,
        replicas: BROKERS as u8,
    })?;
    // A log that was never written to would begin its next epoch without a write.
    trio.agent.done(BrokerTask::Touch {
        topic: MANY_TOPIC.to_owned(),
        partitions: MANY,
    })?;
    trio.brokers.until_well()?;
    if wants_idle {
        thread::sleep(SETTLE);
        for repetition in bench.repetitions() {
            rest(bench, &trio, repetition)?;
        }
    }
    if bench.plan.wants(ELECTIONS) {
        for repetition in bench.repetitions() {
            let milliseconds = elections(&mut trio)?;
            bench
                .results
                .record(repetition, ELECTIONS, milliseconds, None);
        }
    }
    trio.close()
}

/// What the broker takes that takes the most.
fn rest(bench: &mut Bench, trio: &Trio, repetition: Repetition) -> anyhow::Result<()> {
    let ids: Vec<u32> = (1..=BROKERS)
        .map(|broker| trio.brokers.id(broker))
        .collect::<anyhow::Result<_>>()?;
    let begun = Instant::now();
    let cpu = |id: &u32| procfs::cpu_seconds(*id);
    let before: Vec<f64> = ids.iter().map(cpu).collect::<anyhow::Result<_>>()?;
    thread::sleep(IDLE_WINDOW);
    let elapsed = begun.elapsed().as_secs_f64();
    let (mut percent, mut mebibytes) = (0.0_f64, 0.0_f64);
    for (id, before) in ids.iter().zip(before) {
        percent = percent.max((cpu(id)? - before) / elapsed * 100.0);
        let resident = procfs::resident_bytes(*id)? as f64 / f64::from(1 << 20);
        mebibytes = mebibytes.max(resident);
    }
    let results = &mut bench.results;
    results.record(repetition, CLUSTER_IDLE_CPU, percent, None);
    results.record(repetition, CLUSTER_IDLE_MEMORY, mebibytes, None);
    Ok(())
}

/// Kills the broker that leads the most, of those that do not lead the metadata quorum.
fn elections(trio: &mut Trio) -> anyhow::Result<f64> {
    let roles = trio.brokers.roles(MANY_TOPIC)?;
    let controller = roles.first().context("a partition")?.controller;
    let led = |broker: &u32| roles.iter().filter(|it| it.leader == *broker).count();
    let others = (1..=BROKERS).filter(|it| *it != controller);
    let victim = others.max_by_key(led).context("three brokers")?;
    let brokers = (1..=BROKERS)
        .filter(|it| *it != victim)
        .map(|it| trio.brokers.address(it));
    let seconds = trio.agent.seconds(BrokerTask::Elect {
        topic: MANY_TOPIC.to_owned(),
        process: trio.brokers.id(victim)?,
        brokers: brokers.collect(),
    })?;
    trio.brokers.kill(victim);
    trio.brokers.start(victim)?;
    trio.brokers.until_well()?;
    Ok(seconds * 1_000.0)
}

/// Measures how long a partition takes no records whose leader was killed.
pub(in crate::bench::scenario) fn fail_over(bench: &mut Bench) -> anyhow::Result<()> {
    let kinds = [(FAIL_OVER, false), (FAIL_OVER_WITH_METADATA, true)];
    // The name of one row is the beginning of the other's.
    let is_planned = |row: &str| bench.plan.rows().iter().any(|it| it.name == row);
    let kinds: Vec<_> = kinds
        .into_iter()
        .filter(|(row, _)| is_planned(row))
        .collect();
    if kinds.is_empty() {
        return Ok(());
    }
    bench
        .progress
        .now("three brokers, of which leaders are killed");
    let mut trio = Trio::start(bench, "cluster-fail-over")?;
    for repetition in Repetition::series(bench.settings.fail_overs) {
        for (row, with_metadata) in &kinds {
            let chosen = |it: &Roles| (it.leader == it.controller) == *with_metadata;
            let milliseconds = outage(&mut trio, chosen)?;
            bench.results.record(repetition, row, milliseconds, None);
        }
    }
    trio.close()
}

/// Kills the leader of a partition of a new topic. How long it took no records, milliseconds.
fn outage(trio: &mut Trio, chosen: impl Fn(&Roles) -> bool) -> anyhow::Result<f64> {
    let brokers = &mut trio.brokers;
    let seconds = trio.agent.with_topic(CHOICE, Sync, |agent, topic| {
        let roles = brokers.roles(topic)?;
        let (partition, roles) = (0..)
            .zip(roles)
            .find(|(_, roles)| chosen(roles))
            .context("no partition is led by such a broker")?;
        let outage = agent.seconds(BrokerTask::FailOver {
            topic: topic.to_owned(),
            partition,
            record_bytes: RECORD_BYTES,
            process: brokers.id(roles.leader)?,
        });
        brokers.kill(roles.leader);
        brokers.start(roles.leader)?;
        brokers.until_well()?;
        outage
    })?;
    Ok(seconds * 1_000.0)
}
