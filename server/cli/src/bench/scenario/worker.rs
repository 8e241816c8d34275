//! The plugin `quake-alert` between two topics.

use millstream::Durability::Relaxed;

use crate::bench::catalogue::WORKER;
use crate::bench::run::Bench;
use crate::bench::task::BrokerTask;

/// Measures the records that a worker handles in a second, where there is a component.
pub(super) fn quake_alert(bench: &mut Bench) -> anyhow::Result<()> {
    let Some(component) = bench.component.clone().filter(|_| bench.plan.wants(WORKER)) else {
        return Ok(());
    };
    bench.progress.now("a worker");
    let records = bench.settings.quakes;
    for (number, repetition) in bench.repetitions().enumerate() {
        let component = component.clone();
        let rate = bench.agent.with_topic(1, Relaxed, |agent, input| {
            agent.done(BrokerTask::FillQuakes {
                topic: input.to_owned(),
                records,
            })?;
            agent.with_topic(1, Relaxed, |agent, output| {
                let (input, output) = (input.to_owned(), output.to_owned());
                agent.per_second(BrokerTask::RunWorker {
                    name: format!("bench-{number}"),
                    component,
                    input,
                    output,
                    records,
                })
            })
        })?;
        bench.results.record(repetition, WORKER, rate, None);
    }
    Ok(())
}
