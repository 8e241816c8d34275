//! Opening a log: what a crash has left is finished or cleaned up, the torn tail is cut, and
//! damage is found.
//!
//! In order:
//!
//! 1. The checkpoint and the segments' headers are read. Sealed segments below the flushed offset
//!    are not scanned: they were durable before anything behind them counted.
//! 2. A truncation or a restart that was under way is finished; what a removal or a compaction has
//!    left is removed.
//! 3. The segments from the flushed offset on are scanned, every checksum verified. After an
//!    unclean stop they are synced first and dropped from the page cache, so that what is scanned
//!    is what the disk holds: pages whose sync has failed stay in memory as if they were written.
//! 4. At the first entry that is not sound the log either ends, torn, and is cut; or it is
//!    damaged. It is damaged if anything shows that this place was durable once: the checkpoint, a
//!    snapshot, or the flushed offset that any later entry records. A damaged log is not cut.
//! 5. Producers and epochs are those of the newest snapshot and the batches behind it. A log that does
//!    not begin at 0 and has no snapshot of what was before is damaged.
//!
//! What remains in doubt: damage in what was flushed last, with nothing appended and no checkpoint
//! written since, looks like a torn tail, and is cut. A replica has it then; and a checkpoint when
//! a log falls idle (see [`Log::request_checkpoint`]) narrows it down.

mod found;
mod scan;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use arc_swap::ArcSwap;
use millstream_protocol::{Offset, TimestampMs};
use parking_lot::Mutex;

use crate::atomic_file;
use crate::cache::TailCache;
use crate::checkpoint_file::CheckpointFile;
use crate::config::{LogConfig, LogSetup};
use crate::damage::Damage;
use crate::derived::Derived;
use crate::error::{Attempt, OpenError, StorageFailure};
use crate::files::Files;
use crate::flush::Unflushed;
use crate::format::DecodeError;
use crate::format::checkpoint::{CHECKPOINT_BYTES, Checkpoint, Unfinished};
use crate::format::names::{self, FileKind};
use crate::format::segment::{Density, SegmentHeader};
use crate::log::Log;
use crate::restart;
use crate::roll;
use crate::start;
use crate::truncate;
use crate::view::{Shared, View};
use found::Found;
use scan::Scan;

/// What opening a log found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// There was no log.
    pub created: bool,
    /// The log was closed before, and not used since.
    pub clean_stop: bool,
    /// A truncation was finished that had begun before.
    pub truncated: bool,
    /// The log was thrown away, and one begun, as it had begun to be before.
    pub restarted: bool,
    /// Bytes of segments that were scanned.
    pub scanned_bytes: u64,
    /// Bytes of torn tail that were cut.
    pub cut_bytes: u64,
    /// What is broken. If anything is, the log takes no appends.
    pub damage: Vec<Damage>,
}

/// The names in a log's directory.
#[derive(Debug, Default)]
struct Listing {
    segments: BTreeSet<Offset>,
    indexes: BTreeSet<Offset>,
    snapshots: BTreeSet<Offset>,
    restarts: BTreeSet<Offset>,
}

/// Opens or creates a log.
pub(crate) fn open(setup: LogSetup, now_ms: TimestampMs) -> Result<(Log, Recovery), OpenError> {
    let config = setup.config.bounded();
    let mut files = Files {
        storage: setup.storage,
        dir: setup.dir,
        identity: setup.identity,
        salt: setup.salt,
        index_interval_bytes: config.index_interval_bytes,
    };
    let mut recovery = Recovery::default();
    let mut listing = list(&files)?;
    let (checkpoint, mut segments) = load(&mut files, &mut listing, &mut recovery)?;
    recovery.clean_stop = checkpoint.clean_stop;
    let files = Arc::new(files);
    if !checkpoint.clean_stop {
        files.sync_dir()?;
    }
    match checkpoint.unfinished {
        None => {}
        Some(Unfinished::Truncation(to)) => {
            finish_truncation(&files, &mut listing, &mut segments, to)?;
            recovery.truncated = true;
        }
        Some(Unfinished::Restart(at)) => {
            restart::clear(&files, at)?;
            listing = list(&files)?;
            segments.clear();
            recovery.restarted = true;
        }
    }
    for offset in &listing.restarts {
        files.remove(&files.path(&names::restart(*offset)))?;
    }
    let known = listing.snapshots.iter().copied();
    let derived = Derived::from_snapshots(&files, known, Offset::MAX, config.max_producers)?;
    remove_leftovers(&files, &listing, &mut segments, checkpoint.log_start_offset)?;
    if segments.is_empty() {
        let start = checkpoint.log_start_offset;
        segments.push(new_segment(&files, &config, start, None, now_ms)?);
    }
    if let Some(first) = segments.first()
        && first.base_offset > derived.offset
    {
        let unknown = start::unknown_producers(&files, first.base_offset);
        recovery.damage.push(unknown);
    }
    let damage = std::mem::take(&mut recovery.damage);
    let scan = Scan::new(&files, &config, &checkpoint, derived, damage, now_ms);
    let outcome = scan.run(&mut segments)?;
    recovery.scanned_bytes = outcome.scanned_bytes;
    recovery.cut_bytes = outcome.cut_bytes;
    recovery.damage = outcome.damage;
    let grows = segments
        .last()
        .and_then(|last| last.header)
        .is_some_and(|header| header.compacted.is_none());
    if !grows && recovery.damage.is_empty() {
        // The active segment was lost before anything in it counted.
        let previous_base = segments.last().map(|found| found.base_offset);
        segments.push(new_segment(
            &files,
            &config,
            outcome.end,
            previous_base,
            now_ms,
        )?);
    }
    let checkpoint_file = CheckpointFile::new(Arc::clone(&files), checkpoint);
    checkpoint_file.update(|checkpoint| checkpoint.unfinished = None)?;
    let cache = TailCache::new(setup.tail_budget);
    let derived = outcome.derived;
    let view = view(&files, checkpoint.log_start_offset, segments, outcome.end)?;
    let mut log = assemble(
        files,
        config,
        cache,
        checkpoint_file,
        view,
        derived,
        &recovery,
    );
    log.thinned_until = outcome.thinned_until;
    Ok((log, recovery))
}

fn assemble(
    files: Arc<Files>,
    config: LogConfig,
    cache: Arc<TailCache>,
    checkpoint: CheckpointFile,
    view: View,
    mut derived: Derived,
    recovery: &Recovery,
) -> Log {
    derived.epochs.forget_before(view.start_border);
    for damage in &recovery.damage {
        tracing::error!(
            dir = %files.dir.display(),
            offset = damage.offset,
            "the log is damaged: {}",
            damage.what
        );
    }
    let active_since_ms = Some(view.active.header.created_ms).filter(|_| !view.active.is_empty());
    let clean_stop = checkpoint.get().clean_stop;
    Log {
        flushed_offset: view.end_offset(),
        snapshot_offset: derived.snapshot_offset,
        producers: derived.producers,
        epochs: derived.epochs,
        shared: Arc::new(Shared {
            binding: files.binding(),
            files,
            view: ArcSwap::from_pointee(view),
            cache,
            damage: Mutex::new(recovery.damage.clone()),
        }),
        config,
        checkpoint: Arc::new(checkpoint),
        unflushed: Unflushed::default(),
        underway: None,
        gate: Arc::default(),
        next_ticket: 0,
        bytes_since_checkpoint: 0,
        active_since_ms,
        clean_stop,
        compacting: false,
        thinned_until: 0,
        poisoned: None,
        damaged: recovery
            .damage
            .iter()
            .min_by_key(|damage| damage.offset)
            .cloned(),
    }
}

/// Lists the log's directory, or makes it. Removes what was unfinished.
fn list(files: &Files) -> Result<Listing, OpenError> {
    let names = match files.storage.list(&files.dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let created = files.storage.create_dir(&files.dir);
            created.attempt("create", &files.dir)?;
            Vec::new()
        }
        listed => listed.attempt("list", &files.dir)?,
    };
    let mut listing = Listing::default();
    for name in names {
        match names::kind(&name) {
            FileKind::Segment(base_offset) => {
                listing.segments.insert(base_offset);
            }
            FileKind::Index(base_offset) => {
                listing.indexes.insert(base_offset);
            }
            FileKind::Snapshot(offset) => {
                listing.snapshots.insert(offset);
            }
            FileKind::Restart(offset) => {
                listing.restarts.insert(offset);
            }
            FileKind::Unfinished => files.remove(&files.path(&name))?,
            FileKind::Checkpoint | FileKind::Foreign => {}
        }
    }
    Ok(listing)
}

/// Reads the checkpoint and the segments' headers.
fn load(
    files: &mut Files,
    listing: &mut Listing,
    recovery: &mut Recovery,
) -> Result<(Checkpoint, Vec<Found>), OpenError> {
    let read = read_checkpoint(files)?;
    if let SavedCheckpoint::Read(checkpoint) = &read {
        files.salt = checkpoint.salt;
    }
    let mut segments = Vec::with_capacity(listing.segments.len());
    for base_offset in &listing.segments {
        segments.push(Found::load(files, *base_offset)?);
    }
    let lost = match read {
        SavedCheckpoint::Read(_) => None,
        SavedCheckpoint::Missing if segments.is_empty() => None,
        SavedCheckpoint::Missing => Some("is missing"),
        SavedCheckpoint::Broken => Some("cannot be read"),
    };
    let checkpoint = match (read, lost) {
        (SavedCheckpoint::Read(checkpoint), _) => checkpoint,
        (_, None) => {
            recovery.created = true;
            create_checkpoint(files)?
        }
        (_, Some(how)) => {
            // The salt stands in every header. What else the checkpoint said is lost.
            if let Some(header) = segments.iter().find_map(|found| found.header.as_ref()) {
                files.salt = header.salt;
            }
            let start = listing.segments.first().copied().unwrap_or_default();
            recovery.damage.push(Damage {
                offset: start,
                what: format!("{} {how}", files.path(names::CHECKPOINT).display()),
            });
            new_checkpoint(files.salt, start)
        }
    };
    for found in &mut segments {
        found.header = found.header.filter(|header| header.salt == files.salt);
    }
    Ok((checkpoint, segments))
}

/// The checkpoint as it was found.
#[derive(Clone, Copy, Debug)]
enum SavedCheckpoint {
    Read(Checkpoint),
    Missing,
    Broken,
}

fn read_checkpoint(files: &Files) -> Result<SavedCheckpoint, OpenError> {
    let path = files.path(names::CHECKPOINT);
    // A byte more shows a file that is too long.
    let Some(bytes) = files.read(names::CHECKPOINT, CHECKPOINT_BYTES + 1)? else {
        return Ok(SavedCheckpoint::Missing);
    };
    match Checkpoint::decode(&bytes, &files.identity) {
        Ok(checkpoint) => Ok(SavedCheckpoint::Read(checkpoint)),
        Err(DecodeError::Broken) => Ok(SavedCheckpoint::Broken),
        Err(DecodeError::OtherPartition) => Err(OpenError::OtherPartition { path }),
        Err(DecodeError::Version(version)) => Err(OpenError::Version { path, version }),
    }
}

fn new_checkpoint(salt: u64, log_start_offset: Offset) -> Checkpoint {
    Checkpoint {
        salt,
        log_start_offset,
        flushed_offset: log_start_offset,
        compacted_until: log_start_offset,
        tombstones_gone_until: log_start_offset,
        unfinished: None,
        clean_stop: false,
    }
}

/// A new log begins with its checkpoint, so that segments without one are damage.
fn create_checkpoint(files: &Files) -> Result<Checkpoint, StorageFailure> {
    let parent = files.dir.parent().unwrap_or(&files.dir);
    let synced = files.storage.sync_dir(parent);
    synced.attempt("sync directory", parent)?;
    let checkpoint = new_checkpoint(files.salt, 0);
    let encoded = checkpoint.encode(&files.identity);
    atomic_file::replace(files, names::CHECKPOINT, &encoded)?;
    Ok(checkpoint)
}

/// Does again what [`Log::truncate`] does; each step may have happened already.
fn finish_truncation(
    files: &Arc<Files>,
    listing: &mut Listing,
    segments: &mut Vec<Found>,
    to: Offset,
) -> Result<(), StorageFailure> {
    let gone = segments.split_off(segments.partition_point(|found| found.base_offset <= to));
    for found in gone {
        files.remove(&found.path(files))?;
    }
    truncate::remove_snapshots_above(files, to)?;
    listing.snapshots = listing.snapshots.range(..=to).copied().collect();
    if let Some(cut) = segments.last_mut() {
        files.remove(&files.path(&names::index(cut.base_offset)))?;
        cut.cut_to(files, to)?;
    }
    files.sync_dir()
}

/// Removes what interrupted removals and compactions have left: segments that lie below the log's
/// `start`, once their producers are known without them, or within a compacted one; and indexes
/// without a segment.
fn remove_leftovers(
    files: &Files,
    listing: &Listing,
    segments: &mut Vec<Found>,
    start: Offset,
) -> Result<(), StorageFailure> {
    let mut kept: Vec<Found> = Vec::with_capacity(segments.len());
    let mut gone = Vec::new();
    let mut replaced_below = 0;
    for found in std::mem::take(segments) {
        if found.base_offset < replaced_below {
            gone.push(found);
            continue;
        }
        if let Some(part) = found.header.and_then(|header| header.compacted) {
            replaced_below = part.end_offset;
        }
        kept.push(found);
    }
    let bases: Vec<Offset> = kept.iter().map(|found| found.base_offset).collect();
    let first = start::covered_from(files, &bases, start)?;
    let below = bases.partition_point(|base| *base < first);
    gone.extend(kept.drain(..below));
    for found in &gone {
        files.remove(&found.path(files))?;
    }
    let bases: BTreeSet<Offset> = kept.iter().map(|found| found.base_offset).collect();
    for base_offset in listing.indexes.difference(&bases) {
        files.remove(&files.path(&names::index(*base_offset)))?;
    }
    *segments = kept;
    if gone.is_empty() {
        return Ok(());
    }
    files.sync_dir()
}

/// A segment that can grow, for a log that has none.
fn new_segment(
    files: &Files,
    config: &LogConfig,
    base_offset: Offset,
    previous_base: Option<Offset>,
    now_ms: TimestampMs,
) -> Result<Found, StorageFailure> {
    let header = SegmentHeader {
        base_offset,
        previous_base,
        created_ms: now_ms,
        salt: files.salt,
        density: Density::of(config.cleanup),
        compacted: None,
    };
    let file = roll::create_file(files, &header)?;
    file.sync_data()
        .attempt("sync", &files.path(&names::segment(header.base_offset)))?;
    files.sync_dir()?;
    Ok(Found::new(header, files.index_interval_bytes))
}

/// The segments as readers see them: all sealed but the last.
fn view(
    files: &Arc<Files>,
    log_start_offset: Offset,
    found: Vec<Found>,
    end: Offset,
) -> Result<View, StorageFailure> {
    let bases: Vec<Offset> = found.iter().map(|found| found.base_offset).collect();
    let ends = bases.iter().skip(1).copied().chain([end]);
    let mut segments = Vec::with_capacity(found.len());
    for (i, (found, end_offset)) in found.into_iter().zip(ends).enumerate() {
        let is_active = i + 1 == bases.len();
        segments.push(Arc::new(found.into_segment(files, end_offset, is_active)?));
    }
    let active = match segments.pop() {
        Some(active) => active,
        // There is always one: see `new_segment`.
        None => Arc::new(
            Found::new(found::placeholder(files, end), files.index_interval_bytes)
                .into_segment(files, end, true)?,
        ),
    };
    let mut view = View {
        log_start_offset,
        start_border: log_start_offset,
        sealed: segments,
        active,
    };
    view.start_border = start::border_at(&view, &files.binding(), log_start_offset)?;
    Ok(view)
}
