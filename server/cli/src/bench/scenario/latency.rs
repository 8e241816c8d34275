//! Single records at a constant rate, between requests of the same size over QUIC itself.

use crate::bench::catalogue::{self, DURABILITIES, ROUND_TRIP_ACK, ROUND_TRIP_RECORD};
use crate::bench::run::Bench;
use crate::bench::stats::LatencyFigures;
use crate::bench::task::{BrokerTask, QuicTask};

/// Bytes of a record whose latency is measured.
pub(super) const LATENCY_RECORD_BYTES: usize = 1024;

/// Bytes of an acknowledgement on the wire, about.
const ACK_BYTES: usize = 32;

/// Measures latencies until the acknowledgement.
pub(super) fn acknowledgements(bench: &mut Bench) -> anyhow::Result<()> {
    let wanted = DURABILITIES.map(|of| bench.plan.wants(&catalogue::ack_latency(of)));
    if !wanted.contains(&true) && !bench.plan.wants(ROUND_TRIP_ACK) {
        return Ok(());
    }
    bench.progress.now("the latency of acknowledgements");
    for repetition in bench.repetitions() {
        let ceiling = round_trips(bench, ACK_BYTES)?;
        bench
            .results
            .record_latency(repetition, ROUND_TRIP_ACK, &ceiling, None);
        for (durability, _) in DURABILITIES
            .into_iter()
            .zip(wanted)
            .filter(|(_, wanted)| *wanted)
        {
            let schedule = bench.settings.latency;
            let figures = bench.agent.with_topic(1, durability, |agent, topic| {
                let (topic, record_bytes) = (topic.to_owned(), LATENCY_RECORD_BYTES);
                agent.latency(BrokerTask::AckLatency {
                    topic,
                    schedule,
                    record_bytes,
                })
            })?;
            bench.results.record_latency(
                repetition,
                &catalogue::ack_latency(durability),
                &figures,
                Some(&ceiling),
            );
        }
    }
    Ok(())
}

/// Measures latencies until a consumer has the record.
pub(super) fn end_to_end(bench: &mut Bench) -> anyhow::Result<()> {
    let wanted = DURABILITIES.map(|of| bench.plan.wants(&catalogue::end_to_end_latency(of)));
    if !wanted.contains(&true) && !bench.plan.wants(ROUND_TRIP_RECORD) {
        return Ok(());
    }
    bench.progress.now("the latency from producer to consumer");
    for repetition in bench.repetitions() {
        let ceiling = round_trips(bench, LATENCY_RECORD_BYTES)?;
        bench
            .results
            .record_latency(repetition, ROUND_TRIP_RECORD, &ceiling, None);
        for (durability, _) in DURABILITIES
            .into_iter()
            .zip(wanted)
            .filter(|(_, wanted)| *wanted)
        {
            let schedule = bench.settings.latency;
            let figures = bench.agent.with_topic(1, durability, |agent, topic| {
                let (topic, record_bytes) = (topic.to_owned(), LATENCY_RECORD_BYTES);
                agent.latency(BrokerTask::EndToEndLatency {
                    topic,
                    output: None,
                    schedule,
                    record_bytes,
                })
            })?;
            let name = catalogue::end_to_end_latency(durability);
            bench
                .results
                .record_latency(repetition, &name, &figures, Some(&ceiling));
        }
    }
    Ok(())
}

fn round_trips(bench: &mut Bench, answer_bytes: usize) -> anyhow::Result<LatencyFigures> {
    let schedule = bench.settings.latency;
    bench.agent.latency(QuicTask::RoundTrips {
        schedule,
        request_bytes: LATENCY_RECORD_BYTES,
        answer_bytes,
    })
}
