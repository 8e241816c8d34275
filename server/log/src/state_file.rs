//! What replicas keep besides their logs, of all partitions in one file, so that a thousand of them
//! can promise something with one sync.
//!
//! A change is appended. When the file has grown, and whenever it is opened, it is written anew and
//! replaces the old one.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use millstream_protocol::TopicPartition;

use crate::error::{Attempt, OpenError, StorageFailure};
use crate::format::DecodeError;
use crate::format::state::{ENTRY_BYTES, StateEntry};
use crate::limits::{MAX_STATE_BYTES, MAX_STATE_FILE_BYTES, STATE_FILE_GROWTH_BYTES};
use crate::storage::{Storage, StorageFile};

/// What is read at once.
const CHUNK_BYTES: usize = 1024 * ENTRY_BYTES;

/// The newest state of each partition's replica, on the disk.
///
/// [`put`](Self::put) changes states, and [`flush`](Self::flush) makes all changes since durable with
/// one sync. After a failure nothing is written any more: the process has to stop, because what is
/// on the disk is only known after the file was opened again.
#[derive(Debug)]
pub struct StateFile {
    storage: Arc<dyn Storage>,
    path: PathBuf,
    file: Arc<dyn StorageFile>,
    states: States,
    changed: Vec<TopicPartition>,
    next_sequence: u64,
    bytes: u64,
    /// What it had when it was last written anew.
    bytes_anew: u64,
    failed: Option<StorageFailure>,
}

/// States by partition; each [`MAX_STATE_BYTES`] at most.
pub type States = BTreeMap<TopicPartition, Vec<u8>>;

/// What was found in a file.
#[derive(Debug, Default)]
struct Found {
    states: States,
    next_sequence: u64,
    /// Something that was durable cannot be read.
    damaged: bool,
}

impl StateFile {
    /// Opens the file, or makes one. `true` says that it was damaged: something that was durable
    /// cannot be read, and it cannot be told of which partition. The states that can be read are
    /// there, but each may be an old one.
    ///
    /// # Errors
    ///
    /// The storage failed, or a later release has written the file.
    pub fn open(storage: Arc<dyn Storage>, path: PathBuf) -> Result<(Self, bool), OpenError> {
        let found = match storage.open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Found::default(),
            opened => {
                let file = opened.attempt("open", &path)?;
                // What is only in memory is no promise.
                file.sync_data().attempt("sync", &path)?;
                let forgotten = file.forget_cached(0);
                forgotten.attempt("drop from memory", &path)?;
                read(&*file, &path)?
            }
        };
        let Found {
            states,
            next_sequence,
            damaged,
        } = found;
        let (file, bytes) = write_anew(&*storage, &path, &states, next_sequence)?;
        let next_sequence = next_sequence + states.len() as u64;
        let state_file = Self {
            storage,
            path,
            file,
            states,
            changed: Vec::new(),
            next_sequence,
            bytes,
            bytes_anew: bytes,
            failed: None,
        };
        Ok((state_file, damaged))
    }

    /// The states, those not yet flushed among them.
    pub fn states(&self) -> &States {
        &self.states
    }

    /// Changes a partition's state; `None` when the partition is gone. Durable after the next
    /// [`flush`](Self::flush).
    ///
    /// # Panics
    ///
    /// The state is longer than [`MAX_STATE_BYTES`], or empty.
    pub fn put(&mut self, partition: TopicPartition, state: Option<&[u8]>) {
        match state {
            Some(state) => {
                let length = state.len();
                assert!((1..=MAX_STATE_BYTES).contains(&length), "{length} bytes");
                self.states.insert(partition, state.to_vec());
            }
            None => {
                self.states.remove(&partition);
            }
        }
        if !self.changed.contains(&partition) {
            self.changed.push(partition);
        }
    }

    /// Makes the changes durable.
    ///
    /// # Errors
    ///
    /// The storage failed, now or before.
    pub fn flush(&mut self) -> Result<(), StorageFailure> {
        if let Some(failure) = &self.failed {
            return Err(failure.clone());
        }
        if self.changed.is_empty() {
            return Ok(());
        }
        let flushed = if self.bytes > 2 * self.bytes_anew + STATE_FILE_GROWTH_BYTES {
            self.rewrite()
        } else {
            self.append()
        };
        if let Err(failure) = &flushed {
            tracing::error!("{failure}");
            self.failed = Some(failure.clone());
        }
        flushed
    }

    fn append(&mut self) -> Result<(), StorageFailure> {
        let durable_below = self.next_sequence;
        let mut bytes = Vec::with_capacity(self.changed.len() * ENTRY_BYTES);
        for partition in self.changed.drain(..) {
            let state = self.states.get(&partition).cloned().unwrap_or_default();
            let entry = StateEntry {
                partition,
                sequence: self.next_sequence,
                durable_below,
                state,
            };
            bytes.extend(entry.encode());
            self.next_sequence += 1;
        }
        let written = self
            .file
            .write_vectored_at(&mut [IoSlice::new(&bytes)], self.bytes);
        written.attempt("write", &self.path)?;
        self.bytes += bytes.len() as u64;
        self.file.sync_data().attempt("sync", &self.path)
    }

    fn rewrite(&mut self) -> Result<(), StorageFailure> {
        let Self {
            storage,
            path,
            states,
            ..
        } = self;
        let (file, bytes) = write_anew(&**storage, path, states, self.next_sequence)?;
        self.next_sequence += self.states.len() as u64;
        self.changed.clear();
        self.file = file;
        (self.bytes, self.bytes_anew) = (bytes, bytes);
        Ok(())
    }
}

/// Writes a file with these states beside the old one, and puts it in its place; durable when this
/// returns.
fn write_anew(
    storage: &dyn Storage,
    path: &Path,
    states: &States,
    first_sequence: u64,
) -> Result<(Arc<dyn StorageFile>, u64), StorageFailure> {
    let beside = path.with_extension("tmp");
    match storage.remove(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).attempt("remove", &beside)?;
        }
        _ => {}
    }
    let file = storage.create(&beside).attempt("create", &beside)?;
    // All of it is durable before it counts.
    let durable_below = first_sequence + states.len() as u64;
    let mut position = 0;
    for ((partition, state), sequence) in states.iter().zip(first_sequence..) {
        let entry = StateEntry {
            partition: *partition,
            sequence,
            durable_below,
            state: state.clone(),
        };
        let bytes = entry.encode();
        let written = file.write_vectored_at(&mut [IoSlice::new(&bytes)], position);
        written.attempt("write", &beside)?;
        position += ENTRY_BYTES as u64;
    }
    file.sync_data().attempt("sync", &beside)?;
    storage.rename(&beside, path).attempt("rename", &beside)?;
    let dir = path.parent().unwrap_or(path);
    storage.sync_dir(dir).attempt("sync directory", dir)?;
    Ok((file, position))
}

fn read(file: &dyn StorageFile, path: &Path) -> Result<Found, OpenError> {
    let length = file.length().attempt("read", path)?;
    let mut found = Found {
        damaged: length > MAX_STATE_FILE_BYTES,
        ..Found::default()
    };
    // Where entries are missing, by their place in the file; and what later ones say of them.
    let (mut missing, mut first, mut durable_below) = (Vec::new(), None, 0);
    let mut place = 0;
    for position in (0..length.min(MAX_STATE_FILE_BYTES)).step_by(CHUNK_BYTES) {
        let chunk = file.read_at(position, CHUNK_BYTES).attempt("read", path)?;
        for bytes in chunk.chunks(ENTRY_BYTES) {
            match StateEntry::decode(bytes) {
                Ok(entry) => {
                    first.get_or_insert(entry.sequence.saturating_sub(place));
                    durable_below = durable_below.max(entry.durable_below);
                    found.next_sequence = found.next_sequence.max(entry.sequence + 1);
                    match entry.state.is_empty() {
                        true => found.states.remove(&entry.partition),
                        false => found.states.insert(entry.partition, entry.state),
                    };
                }
                Err(DecodeError::Version(version)) => {
                    return Err(OpenError::Version {
                        path: path.to_owned(),
                        version,
                    });
                }
                Err(DecodeError::Broken | DecodeError::OtherPartition) => missing.push(place),
            }
            place += 1;
        }
    }
    // Without a sound entry nothing says whether there ever was one: a file is made with its first
    // states in it, or empty.
    let first = first.unwrap_or_default();
    found.damaged |= missing.iter().any(|place| first + place < durable_below);
    Ok(found)
}

#[cfg(test)]
mod tests {
    use millstream_protocol::TopicId;
    use uuid::Uuid;

    use super::*;
    use crate::storage::{MemoryStorage, SyncBehaviour};

    fn partition(partition: u32) -> TopicPartition {
        TopicPartition {
            topic_id: TopicId(Uuid::from_u128(9)),
            partition,
        }
    }

    fn path() -> PathBuf {
        PathBuf::from("/replicas")
    }

    fn open(storage: &MemoryStorage) -> (StateFile, bool) {
        StateFile::open(Arc::new(storage.clone()), path()).expect("it opens")
    }

    #[test]
    fn states_are_there_again() {
        let storage = MemoryStorage::new();
        let (mut file, _) = open(&storage);
        for (number, state) in [(1, b"a"), (2, b"b"), (1, b"c")] {
            file.put(partition(number), Some(state));
            file.flush().unwrap();
        }
        file.put(partition(3), Some(b"d"));
        file.put(partition(2), None);
        file.flush().unwrap();
        let expected = States::from([(partition(1), b"c".into()), (partition(3), b"d".into())]);
        assert_eq!(file.states(), &expected);
        let (file, damaged) = open(&storage.crash(1));
        assert_eq!((file.states(), damaged), (&expected, false));
    }

    /// Whatever a power cut leaves, at every operation: a state that was flushed is there, or one
    /// that was put after it; and it is no damage.
    #[test]
    fn a_power_cut_loses_nothing_that_was_flushed() {
        let script = |storage: &MemoryStorage, flushed: &mut [u64; 3]| {
            let opened = StateFile::open(Arc::new(storage.clone()), path());
            let Ok((mut file, _)) = opened else { return };
            for round in 1..6u64 {
                for number in 0..3 {
                    file.put(partition(number), Some(&round.to_be_bytes()));
                }
                if file.flush().is_err() {
                    return;
                }
                flushed.fill(round);
            }
        };
        let whole = MemoryStorage::new();
        script(&whole, &mut [0; 3]);
        let operations = whole.operations();
        assert!(operations > 10);
        for (at, seed) in (0..operations).flat_map(|at| (0..20).map(move |seed| (at, seed))) {
            let storage = MemoryStorage::new();
            storage.crash_at(at);
            let mut flushed = [0; 3];
            script(&storage, &mut flushed);
            let (file, damaged) = open(&storage.crash(seed));
            assert!(!damaged, "at {at}, seed {seed}");
            for (number, flushed) in (0..).zip(flushed) {
                let state = file.states().get(&partition(number));
                let round = state.map_or(0, |it| u64::from_be_bytes(it[..].try_into().unwrap()));
                assert!(
                    round >= flushed,
                    "at {at}, seed {seed}: {round} of {flushed}"
                );
            }
        }
    }

    #[test]
    fn one_spoilt_copy_costs_nothing_and_two_are_damage() {
        let storage = MemoryStorage::new();
        let (mut file, _) = open(&storage);
        for round in 0..4u8 {
            file.put(partition(1), Some(&[round, 1]));
            file.flush().unwrap();
        }
        for copy in [0, 512] {
            let spoilt = storage.kill();
            assert!(spoilt.flip_bit(&path(), 1024 + copy + 45, 3));
            let (file, damaged) = open(&spoilt);
            assert_eq!((file.states()[&partition(1)][0], damaged), (3, false));
        }
        let spoilt = storage.kill();
        assert!(spoilt.flip_bit(&path(), 1024 + 45, 3) && spoilt.flip_bit(&path(), 1536 + 9, 1));
        assert!(open(&spoilt).1, "an entry in the middle was durable");
    }

    #[test]
    fn a_file_that_grows_is_written_anew() {
        let storage = MemoryStorage::new();
        let (mut file, _) = open(&storage);
        let rounds = 2 * STATE_FILE_GROWTH_BYTES / ENTRY_BYTES as u64;
        for round in 0..rounds {
            file.put(partition(1), Some(&round.to_be_bytes()));
            file.flush().unwrap();
        }
        assert!(storage.used_bytes() <= STATE_FILE_GROWTH_BYTES + 4 * ENTRY_BYTES as u64);
        let (file, damaged) = open(&storage.crash(3));
        assert!(!damaged);
        assert_eq!(file.states()[&partition(1)], (rounds - 1).to_be_bytes());
    }

    #[test]
    fn nothing_is_written_after_a_failure() {
        let storage = MemoryStorage::new();
        let (mut file, _) = open(&storage);
        storage.set_sync(SyncBehaviour::Failing);
        file.put(partition(1), Some(b"a"));
        assert!(file.flush().is_err());
        storage.set_sync(SyncBehaviour::Honest);
        file.put(partition(1), Some(b"b"));
        assert!(file.flush().is_err());
    }
}
