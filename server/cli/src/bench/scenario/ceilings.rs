//! The machine's own limits. Most are measured between other rows; here come those that were not.

use crate::bench::catalogue::{self, DISK_SYNC_RECORD, DISK_WRITE, QUIC_BOTH, QUIC_DOWN, QUIC_UP};
use crate::bench::disk;
use crate::bench::results::Repetition;
use crate::bench::run::Bench;
use crate::bench::task::{DiskTask, QuicTask};

use super::latency::LATENCY_RECORD_BYTES;

/// What tells how large a transfer must be to last.
const TRIAL_BYTES: u64 = 64 << 20;

/// The largest transfer, whatever the machine's speed.
const MAX_TRANSFER_BYTES: u64 = 8 << 30;

/// Bytes that QUIC moves in the time of one transfer.
pub(super) fn quic_bytes(bench: &mut Bench) -> anyhow::Result<u64> {
    // The first finds the path's datagram size and window.
    bench.agent.seconds(QuicTask::Up { bytes: TRIAL_BYTES })?;
    let seconds = bench.agent.seconds(QuicTask::Up { bytes: TRIAL_BYTES })?;
    Ok(bench
        .settings
        .bytes_of_transfer(TRIAL_BYTES, seconds)
        .min(MAX_TRANSFER_BYTES))
}

/// Bytes that the disk takes with syncs in the time of one transfer.
pub(super) fn disk_bytes(bench: &mut Bench, partitions: u32) -> anyhow::Result<u64> {
    let seconds = bench
        .agent
        .seconds(disk_sync_task(bench, TRIAL_BYTES, partitions))?;
    Ok(bench
        .settings
        .bytes_of_transfer(TRIAL_BYTES, seconds)
        .clamp(TRIAL_BYTES, MAX_TRANSFER_BYTES))
}

/// Touches the memory that files of `bytes` will take in the page cache, by a file that is removed
/// again. A virtual machine hands free memory back to its host, and to fetch it again costs more
/// than what is measured.
pub(super) fn touch_page_cache(bench: &mut Bench, bytes: u64) -> anyhow::Result<()> {
    let task = DiskTask::Write {
        folder: bench.folder.clone(),
        bytes,
        group_bytes: None,
    };
    bench.agent.seconds(task)?;
    Ok(())
}

/// One transfer over QUIC itself, MB/s.
pub(super) fn quic(
    bench: &mut Bench,
    repetition: Repetition,
    name: &str,
    bytes: u64,
) -> anyhow::Result<f64> {
    let task = match name {
        QUIC_UP => QuicTask::Up { bytes },
        QUIC_DOWN => QuicTask::Down { bytes },
        _ => QuicTask::Both { bytes },
    };
    let speed = bench.agent.megabytes_per_second(bytes, task)?;
    bench.results.record(repetition, name, speed, None);
    Ok(speed)
}

/// The disk with syncs, MB/s.
pub(super) fn disk_sync(
    bench: &mut Bench,
    repetition: Repetition,
    partitions: u32,
    bytes: u64,
) -> anyhow::Result<f64> {
    touch_page_cache(bench, bytes)?;
    let speed = bench
        .agent
        .megabytes_per_second(bytes, disk_sync_task(bench, bytes, partitions))?;
    bench
        .results
        .record(repetition, &catalogue::disk_sync(partitions), speed, None);
    Ok(speed)
}

/// Measures the rows of the plan that nothing else has measured.
pub(super) fn remaining(bench: &mut Bench) -> anyhow::Result<()> {
    let missing = |bench: &Bench, name: &str| bench.plan.wants(name) && !bench.results.has(name);
    bench.progress.now("the network's and the disk's limits");
    for name in [QUIC_UP, QUIC_DOWN, QUIC_BOTH] {
        if missing(bench, name) {
            let bytes = quic_bytes(bench)?;
            for repetition in bench.repetitions() {
                quic(bench, repetition, name, bytes)?;
            }
        }
    }
    for partitions in [1, 4] {
        if missing(bench, &catalogue::disk_sync(partitions)) {
            let bytes = disk_bytes(bench, partitions)?;
            bench.require_space(bytes)?;
            for repetition in bench.repetitions() {
                disk_sync(bench, repetition, partitions, bytes)?;
            }
        }
    }
    if bench.plan.wants(DISK_WRITE) {
        disk_write(bench)?;
    }
    if bench.plan.wants(DISK_SYNC_RECORD) {
        disk_sync_record(bench)?;
    }
    Ok(())
}

fn disk_write(bench: &mut Bench) -> anyhow::Result<()> {
    let task = |bench: &Bench, bytes| DiskTask::Write {
        folder: bench.folder.clone(),
        bytes,
        group_bytes: None,
    };
    let seconds = bench.agent.seconds(task(bench, TRIAL_BYTES))?;
    let bytes = bench
        .settings
        .bytes_of_transfer(TRIAL_BYTES, seconds)
        .clamp(TRIAL_BYTES, MAX_TRANSFER_BYTES);
    bench.require_space(bytes)?;
    for repetition in bench.repetitions() {
        let speed = bench
            .agent
            .megabytes_per_second(bytes, task(bench, bytes))?;
        bench.results.record(repetition, DISK_WRITE, speed, None);
    }
    Ok(())
}

fn disk_sync_record(bench: &mut Bench) -> anyhow::Result<()> {
    for repetition in bench.repetitions() {
        let task = DiskTask::Sync {
            folder: bench.folder.clone(),
            record_bytes: LATENCY_RECORD_BYTES,
            duration: bench.settings.latency.counted_for(),
        };
        let figures = bench.agent.latency(task)?;
        bench
            .results
            .record_latency(repetition, DISK_SYNC_RECORD, &figures, None);
    }
    Ok(())
}

fn disk_sync_task(bench: &Bench, bytes: u64, partitions: u32) -> DiskTask {
    DiskTask::Write {
        folder: bench.folder.clone(),
        bytes,
        group_bytes: Some(disk::group_bytes(partitions)),
    }
}
