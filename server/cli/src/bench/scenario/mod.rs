//! What is measured between which: each scenario takes its ceilings in the same repetitions as its
//! rows, so that what disturbs the machine disturbs both.

mod broker;
mod ceilings;
mod latency;
mod throughput;
mod worker;

use super::catalogue::Shape;
use super::run::Bench;

/// Measures every row of the plan.
pub(super) fn measure(bench: &mut Bench) -> anyhow::Result<()> {
    broker::facts(bench)?;
    bench.tell();
    for shape in Shape::ALL {
        throughput::shape(bench, shape)?;
        bench.tell();
    }
    latency::all(bench)?;
    bench.tell();
    worker::quake_alert(bench)?;
    bench.tell();
    ceilings::remaining(bench)?;
    bench.tell();
    broker::start_with_log(bench)?;
    bench.tell();
    Ok(())
}
