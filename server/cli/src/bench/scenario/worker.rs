//! The plugin `quake-alert` between two topics.

use std::path::Path;

use millstream::Durability::Relaxed;

use crate::bench::agent::Agent;
use crate::bench::catalogue::WORKER;
use crate::bench::results::Repetition;
use crate::bench::run::Bench;
use crate::bench::task::BrokerTask;

/// Measures the records that a worker handles in a second, where there is a component.
pub(super) fn quake_alert(bench: &mut Bench) -> anyhow::Result<()> {
    let wanted = bench.plan.wants(WORKER);
    let Some(component) = bench.component.clone().filter(|_| wanted) else {
        return Ok(());
    };
    bench.progress.now("a worker");
    let mut records = bench.settings.quakes;
    for repetition in bench.repetitions() {
        let rate = run(&mut bench.agent, &component, records)?;
        bench.results.record(repetition, WORKER, rate, None);
        if repetition == Repetition::Discarded {
            // A fast machine gets as many more as it takes to last.
            records = records.max((rate * bench.settings.transfer.as_secs_f64()) as u64);
        }
    }
    Ok(())
}

fn run(agent: &mut Agent, component: &Path, records: u64) -> anyhow::Result<f64> {
    agent.with_topic(1, Relaxed, |agent, input| {
        agent.done(BrokerTask::FillQuakes {
            topic: input.to_owned(),
            records,
        })?;
        agent.with_topic(1, Relaxed, |agent, output| {
            agent.per_second(BrokerTask::RunWorker {
                // The input's name is a deployment's that nobody has had before.
                name: input.to_owned(),
                component: component.to_owned(),
                input: input.to_owned(),
                output: output.to_owned(),
                records,
            })
        })
    })
}
