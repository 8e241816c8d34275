//! Records of one shape: produced, consumed, and both at once, between transfers of as many bytes
//! over QUIC itself and to the disk itself.

use millstream::Durability::{self, Relaxed, Sync};

use super::ceilings::{disk_bytes, disk_sync, quic, quic_bytes, touch_page_cache};
use crate::bench::catalogue::{self, QUIC_BOTH, QUIC_DOWN, QUIC_UP, Shape};
use crate::bench::procfs;
use crate::bench::results::Repetition;
use crate::bench::run::Bench;
use crate::bench::task::BrokerTask;

const GIB: f64 = (1_u64 << 30) as f64;

/// Measures the rows of one shape, all in each repetition.
pub(super) fn shape(bench: &mut Bench, shape: Shape) -> anyhow::Result<()> {
    let Some(wanted) = Wanted::of(bench, shape) else {
        return Ok(());
    };
    bench.progress.now(format!("records of {shape}"));
    let relaxed = Load::new(shape, quic_bytes(bench)?);
    let synced = if wanted.synced() {
        Load::new(shape, disk_bytes(bench, shape.partitions)?)
    } else {
        relaxed
    };
    // A topic or two, with what the encoding and the indexes add.
    bench.require_space(3 * relaxed.bytes.max(synced.bytes))?;
    for repetition in bench.repetitions() {
        one_way(bench, repetition, &wanted, relaxed, synced)?;
        both_ways(bench, repetition, &wanted, relaxed, synced)?;
    }
    Ok(())
}

/// Which rows of a shape are asked for.
struct Wanted {
    produce_relaxed: bool,
    produce_sync: bool,
    consume: bool,
    end_to_end_relaxed: bool,
    end_to_end_sync: bool,
}

impl Wanted {
    fn of(bench: &Bench, shape: Shape) -> Option<Self> {
        let plan = &bench.plan;
        let wanted = Self {
            produce_relaxed: plan.wants(&catalogue::produce(Relaxed, shape))
                || plan.wants(&catalogue::produce_cpu(shape)),
            produce_sync: plan.wants(&catalogue::produce(Sync, shape)),
            consume: plan.wants(&catalogue::consume(shape)),
            end_to_end_relaxed: plan.wants(&catalogue::end_to_end(Relaxed, shape)),
            end_to_end_sync: plan.wants(&catalogue::end_to_end(Sync, shape)),
        };
        (wanted.one_way() || wanted.both_ways()).then_some(wanted)
    }

    fn one_way(&self) -> bool {
        self.produce_relaxed || self.produce_sync || self.consume
    }

    fn both_ways(&self) -> bool {
        self.end_to_end_relaxed || self.end_to_end_sync
    }

    fn synced(&self) -> bool {
        self.produce_sync || self.end_to_end_sync
    }
}

/// How many records of a shape are moved.
#[derive(Clone, Copy)]
struct Load {
    shape: Shape,
    records: u64,
    /// Bytes of their values.
    bytes: u64,
}

impl Load {
    /// Bytes of the log that they make, with a margin.
    fn log_bytes(self) -> u64 {
        self.bytes + self.bytes / 4
    }
}

impl Load {
    fn new(shape: Shape, bytes: u64) -> Self {
        let records = (bytes / shape.record_bytes as u64).max(1);
        Self {
            shape,
            records,
            bytes: records * shape.record_bytes as u64,
        }
    }
}

/// Produces a topic and consumes it; what is produced under `sync` is held against the disk and
/// against `relaxed`, whichever is slower.
fn one_way(
    bench: &mut Bench,
    repetition: Repetition,
    wanted: &Wanted,
    relaxed: Load,
    synced: Load,
) -> anyhow::Result<()> {
    if !wanted.one_way() {
        return Ok(());
    }
    let up = if wanted.produce_relaxed {
        Some(quic(bench, repetition, QUIC_UP, relaxed.bytes)?)
    } else {
        None
    };
    let down = if wanted.consume {
        Some(quic(bench, repetition, QUIC_DOWN, relaxed.bytes)?)
    } else {
        None
    };
    let (speed, consumed) = produce(bench, repetition, Relaxed, relaxed, wanted.consume)?;
    let Shape {
        record_bytes,
        partitions,
    } = relaxed.shape;
    if let Some(up) = up {
        bench.results.record_rate(
            repetition,
            &catalogue::produce(Relaxed, relaxed.shape),
            record_bytes,
            speed,
            up,
        );
    }
    if let (Some(down), Some(consumed)) = (down, consumed) {
        bench.results.record_rate(
            repetition,
            &catalogue::consume(relaxed.shape),
            record_bytes,
            consumed,
            down,
        );
    }
    if wanted.produce_sync {
        let disk = disk_sync(bench, repetition, partitions, synced.bytes)?;
        let (sync_speed, _) = produce(bench, repetition, Sync, synced, false)?;
        let name = catalogue::produce(Sync, synced.shape);
        bench
            .results
            .record_rate(repetition, &name, record_bytes, sync_speed, disk.min(speed));
    }
    Ok(())
}

/// Produces a topic and perhaps consumes it; the speeds, MB/s.
fn produce(
    bench: &mut Bench,
    repetition: Repetition,
    durability: Durability,
    load: Load,
    consume: bool,
) -> anyhow::Result<(f64, Option<f64>)> {
    let Load {
        shape: Shape {
            record_bytes,
            partitions,
        },
        records,
        bytes,
    } = load;
    touch_page_cache(bench, load.log_bytes())?;
    let broker = bench.broker.id();
    let (produced, consumed, cpu) =
        bench
            .agent
            .with_topic(partitions, durability, |agent, topic| {
                let cpu_before = procfs::cpu_seconds(broker)?;
                let task = BrokerTask::Produce {
                    topic: topic.to_owned(),
                    record_bytes,
                    records,
                };
                let produced = agent.megabytes_per_second(bytes, task)?;
                let cpu = procfs::cpu_seconds(broker)? - cpu_before;
                let task = BrokerTask::Consume {
                    topic: topic.to_owned(),
                    record_bytes,
                    records,
                };
                let consumed = if consume {
                    Some(agent.megabytes_per_second(bytes, task)?)
                } else {
                    None
                };
                Ok((produced, consumed, cpu))
            })?;
    if durability == Relaxed {
        let name = catalogue::produce_cpu(load.shape);
        bench
            .results
            .record(repetition, &name, cpu / (bytes as f64 / GIB), None);
    }
    Ok((produced, consumed))
}

/// Produces and consumes at once; what is done under `sync` is held against the disk and against
/// `relaxed`, whichever is slower.
fn both_ways(
    bench: &mut Bench,
    repetition: Repetition,
    wanted: &Wanted,
    relaxed: Load,
    synced: Load,
) -> anyhow::Result<()> {
    if !wanted.both_ways() {
        return Ok(());
    }
    let Shape {
        record_bytes,
        partitions,
    } = relaxed.shape;
    let both = quic(bench, repetition, QUIC_BOTH, relaxed.bytes)?;
    let speed = end_to_end(bench, Relaxed, relaxed)?;
    bench.results.record_rate(
        repetition,
        &catalogue::end_to_end(Relaxed, relaxed.shape),
        record_bytes,
        speed,
        both,
    );
    if wanted.end_to_end_sync {
        let disk = disk_sync(bench, repetition, partitions, synced.bytes)?;
        let sync_speed = end_to_end(bench, Sync, synced)?;
        let name = catalogue::end_to_end(Sync, synced.shape);
        bench
            .results
            .record_rate(repetition, &name, record_bytes, sync_speed, disk.min(speed));
    }
    Ok(())
}

fn end_to_end(bench: &mut Bench, durability: Durability, load: Load) -> anyhow::Result<f64> {
    let Load {
        shape: Shape {
            record_bytes,
            partitions,
        },
        records,
        bytes,
    } = load;
    touch_page_cache(bench, load.log_bytes())?;
    bench
        .agent
        .with_topic(partitions, durability, |agent, topic| {
            let task = BrokerTask::EndToEnd {
                topic: topic.to_owned(),
                record_bytes,
                records,
            };
            agent.megabytes_per_second(bytes, task)
        })
}
