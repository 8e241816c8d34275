//! The ceilings of the disk: the writes that a log makes, with no log.

use std::fs::{self, File, OpenOptions};
use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use millstream::limits::{DEFAULT_BATCH_BYTES, MAX_BATCHES_IN_FLIGHT};

use super::payload::Payload;
use super::stats::{LatencyFigures, LatencyRecorder};

/// What one `pwritev` writes: a full record batch.
pub(super) const WRITE_BYTES: usize = DEFAULT_BATCH_BYTES;

/// The first syncs of a file, which are not counted.
const WARM_UP_RECORDS: u64 = 10;

/// What one fdatasync covers when producers of `partitions` partitions wait for it: the batches
/// that each may have on their way.
pub(super) fn group_bytes(partitions: u32) -> u64 {
    (WRITE_BYTES * MAX_BATCHES_IN_FLIGHT) as u64 * u64::from(partitions)
}

/// Whether writes are made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flush {
    /// Never.
    Never,
    /// By an fdatasync after these many bytes, and at the end.
    Each(u64),
}

/// A file that is gone when this is dropped.
struct Scratch {
    path: PathBuf,
    file: File,
}

impl Scratch {
    fn create(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join("ceiling");
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)?;
        Ok(Self { path, file })
    }

    fn write_all(&self, mut bytes: &[u8], mut position: u64) -> anyhow::Result<()> {
        while !bytes.is_empty() {
            let written = rustix::io::pwritev(&self.file, &[IoSlice::new(bytes)], position)?;
            anyhow::ensure!(written > 0, "the disk takes no more");
            bytes = &bytes[written..];
            position += written as u64;
        }
        Ok(())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // The folder goes with the run.
        let _ = fs::remove_file(&self.path);
    }
}

/// Appends `bytes` to a new file in `folder`; the seconds it takes. Blocks.
pub(super) fn write(
    folder: &Path,
    payload: &Payload,
    bytes: u64,
    flush: Flush,
) -> anyhow::Result<f64> {
    let scratch = Scratch::create(folder)?;
    let begun = Instant::now();
    let (mut written, mut flushed) = (0, 0);
    while written < bytes {
        let length = (bytes - written).min(WRITE_BYTES as u64);
        scratch.write_all(payload.slice(written, length as usize), written)?;
        written += length;
        if let Flush::Each(group) = flush
            && (written - flushed >= group || written == bytes)
        {
            scratch.file.sync_data()?;
            flushed = written;
        }
    }
    Ok(begun.elapsed().as_secs_f64())
}

/// Appends and syncs one record after the other for this long, after as many as warm up. Blocks.
pub(super) fn sync_records(
    folder: &Path,
    payload: &Payload,
    record_bytes: usize,
    duration: Duration,
) -> anyhow::Result<LatencyFigures> {
    let scratch = Scratch::create(folder)?;
    let mut latencies = LatencyRecorder::new()?;
    let begun = Instant::now();
    let mut position = 0;
    loop {
        let record_begun = Instant::now();
        scratch.write_all(payload.slice(position, record_bytes), position)?;
        scratch.file.sync_data()?;
        if position >= WARM_UP_RECORDS * record_bytes as u64 {
            latencies.record(record_begun.elapsed());
            if begun.elapsed() >= duration {
                return Ok(latencies.figures());
            }
        }
        position += record_bytes as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_written_and_gone() {
        let folder = tempfile::tempdir().unwrap();
        let payload = Payload::new();
        for flush in [Flush::Never, Flush::Each(group_bytes(1)), Flush::Each(1)] {
            assert!(
                write(folder.path(), &payload, 6 * WRITE_BYTES as u64 + 5, flush).unwrap() > 0.0
            );
        }
        assert_eq!(
            sync_records(folder.path(), &payload, 100, Duration::ZERO)
                .unwrap()
                .count,
            1
        );
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn every_byte_is_written_in_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let scratch = Scratch::create(folder.path()).unwrap();
        scratch.write_all(b"stream", 4).unwrap();
        scratch.write_all(b"mill", 0).unwrap();
        assert_eq!(fs::read(&scratch.path).unwrap(), b"millstream");
    }
}
