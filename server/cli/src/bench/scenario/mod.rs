//! What is measured between which: each scenario takes its ceilings in the same repetitions as its
//! rows, so that what disturbs the machine disturbs both.

mod broker;
mod ceilings;
mod cluster;
mod latency;
mod throughput;
mod worker;

use super::catalogue::{Shape, Subject};
use super::run::Bench;

/// Measures every row of the plan. What fails is given back, and the others are measured all the
/// same.
pub(super) fn measure(bench: &mut Bench) -> Vec<anyhow::Error> {
    let mut failures = Vec::new();
    let subject = bench.settings.subject;
    let mut attempt = |scenario: &dyn Fn(&mut Bench) -> anyhow::Result<()>| {
        failures.extend(scenario(bench).err());
        bench.tell();
    };
    if subject == Subject::Worker {
        attempt(&worker::throughput);
        attempt(&worker::latency);
        attempt(&worker::beside_endless);
        attempt(&worker::idle);
        attempt(&worker::restart);
        return failures;
    }
    if subject == Subject::Cluster {
        attempt(&cluster::load::throughput);
        attempt(&cluster::load::acknowledgements);
        attempt(&cluster::load::stalled);
        attempt(&cluster::load::catch_up);
        attempt(&cluster::failures::many_partitions);
        attempt(&cluster::failures::fail_over);
        return failures;
    }
    attempt(&broker::facts);
    for shape in Shape::ALL {
        attempt(&|bench| throughput::shape(bench, shape));
    }
    attempt(&latency::acknowledgements);
    attempt(&latency::end_to_end);
    attempt(&worker::quake_alert);
    attempt(&ceilings::remaining);
    attempt(&broker::start_with_log);
    failures
}
