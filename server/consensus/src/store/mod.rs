//! What a node has on its disk.
//!
//! ```text
//! state   whose directory it is, the vote, how far the log is committed and was dropped
//! image   the newest snapshot, once there is one
//! log/    the entries
//! ```
//!
//! `state` is made before the log: a directory without it has never been used.

#[cfg(test)]
mod crash_tests;
mod log;
mod machine;
mod snapshot;
mod state_file;
#[cfg(test)]
mod suite_tests;

use std::io::{self, ErrorKind, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use millstream_log::storage::{Storage, StorageFile};
use millstream_log::{Log, LogConfig, LogIdentity, LogSetup, OpenError, TailBudget};
use millstream_protocol::TopicId;
use thiserror::Error;

pub use machine::Applied;

pub(crate) use log::RaftLog;
pub(crate) use machine::Machine;

use crate::Config;
use crate::error::{StartError, StorageFailed};
use crate::limits::{LOG_SEGMENT_BYTES, LOG_TAIL_BYTES};
use log::State;
use snapshot::Snapshots;
use state_file::{Durable, Identity, Origin, StateFile};

const STATE_FILE: &str = "state";
const IMAGE_FILE: &str = "image";
const LOG_DIR: &str = "log";

/// Stands behind the name of a file that is not complete.
const UNFINISHED: &str = ".new";

/// What a node has on its disk, opened.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) log: RaftLog,
    pub(crate) machine: Machine,
}

/// Opens a node's directory, or makes it. Blocks on the disk.
pub(crate) fn open(config: &Config) -> Result<Opened, StartError> {
    let dir = &config.dir;
    create_dir(&*config.storage, dir)?;
    let file = open_state(config)?;
    let snapshots = Snapshots::new(Arc::clone(&config.storage), dir.join(IMAGE_FILE));
    let machine = Machine::load(snapshots).map_err(|error| unread(config, error))?;
    let state = open_log(config, file)?;
    let Durable {
        purged, committed, ..
    } = *state.durable();
    if let Some(purged) = purged.filter(|purged| machine.last() < Some(*purged)) {
        let index = purged.index;
        return Err(damaged(
            config,
            format!("entries up to {index} were dropped for a snapshot that is not there"),
        ));
    }
    let reached = state.last().max(machine.last());
    if let Some(committed) = committed.filter(|it| reached < Some(*it)) {
        let index = committed.index;
        return Err(damaged(
            config,
            format!("the log ends before entry {index}, which was committed"),
        ));
    }
    Ok(Opened {
        log: RaftLog::new(state),
        machine,
    })
}

/// Why a file cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum FileError {
    #[error(transparent)]
    Storage(#[from] StorageFailed),
    #[error("{} has version {version}", path.display())]
    Version { path: PathBuf, version: u8 },
    #[error("{} cannot be read: {reason}", path.display())]
    Damaged { path: PathBuf, reason: String },
}

fn unread(config: &Config, error: FileError) -> StartError {
    match error {
        FileError::Storage(failed) => failed.into(),
        FileError::Version { path, version } => StartError::Version {
            path,
            found: version.into(),
        },
        FileError::Damaged { .. } => damaged(config, error),
    }
}

fn damaged(config: &Config, what: impl ToString) -> StartError {
    StartError::Damaged {
        dir: config.dir.clone(),
        what: what.to_string(),
    }
}

fn open_state(config: &Config) -> Result<(StateFile, Durable), StartError> {
    let (storage, dir) = (&*config.storage, &config.dir);
    let path = dir.join(STATE_FILE);
    let identity = Identity {
        cluster_id: config.cluster_id,
        node_id: config.node_id,
    };
    match StateFile::open(storage, &path) {
        Ok(Some((file, durable))) => {
            check_identity(config, durable.identity)?;
            return Ok((file, durable));
        }
        Ok(None) => {}
        Err(error) => return Err(unread(config, error)),
    }
    let names = storage.list(dir);
    let names = names.map_err(|error| StorageFailed::new("list", dir, error))?;
    if names
        .iter()
        .any(|name| [LOG_DIR, IMAGE_FILE].contains(&name.as_str()))
    {
        return Err(damaged(
            config,
            format!("its file `{STATE_FILE}` is missing"),
        ));
    }
    let durable = Durable {
        identity,
        vote: None,
        committed: None,
        purged: None,
        origin: Origin::default(),
    };
    Ok((StateFile::create(storage, &path, &durable)?, durable))
}

fn check_identity(config: &Config, found: Identity) -> Result<(), StartError> {
    let dir = config.dir.clone();
    if found.cluster_id != config.cluster_id {
        return Err(StartError::OtherCluster {
            dir,
            found: found.cluster_id,
            expected: config.cluster_id,
        });
    }
    if found.node_id != config.node_id {
        return Err(StartError::OtherNode {
            dir,
            found: found.node_id,
            expected: config.node_id,
        });
    }
    Ok(())
}

fn open_log(config: &Config, file: (StateFile, Durable)) -> Result<State, StartError> {
    let dir = config.dir.join(LOG_DIR);
    let setup = LogSetup {
        storage: Arc::clone(&config.storage),
        dir: dir.clone(),
        identity: LogIdentity {
            topic_id: TopicId(config.cluster_id),
            partition: 0,
        },
        config: LogConfig {
            segment_bytes: LOG_SEGMENT_BYTES,
            segment_ms: u64::MAX,
            tail_cache_bytes: LOG_TAIL_BYTES,
            checkpoint_bytes: LOG_SEGMENT_BYTES,
            ..LogConfig::default()
        },
        tail_budget: TailBudget::new(LOG_TAIL_BYTES),
        salt: config.seed,
    };
    let (log, recovery) = match Log::create_or_open(setup, (config.clock)()) {
        Ok(opened) => opened,
        Err(OpenError::Storage(failure)) => {
            return Err(StorageFailed::new("open", &dir, failure).into());
        }
        Err(OpenError::Version { path, version }) => {
            let found = version;
            return Err(StartError::Version { path, found });
        }
        Err(error @ OpenError::OtherPartition { .. }) => return Err(damaged(config, error)),
    };
    if let Some(damage) = recovery.damage.first() {
        let (offset, what) = (damage.offset, &damage.what);
        return Err(damaged(
            config,
            format!("its log at offset {offset}: {what}"),
        ));
    }
    let used = file.1.vote.is_some() || file.1.origin != Origin::default();
    if recovery.created && used {
        return Err(damaged(config, "its log is missing"));
    }
    Ok(State::load(file, log, dir, config.clock)?)
}

/// Makes a directory if there is none. It and the names in it are durable when this returns: after a
/// kill they may be there and not be.
fn create_dir(storage: &dyn Storage, dir: &Path) -> Result<(), StorageFailed> {
    match storage.list(dir) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => storage
            .create_dir(dir)
            .map_err(|error| StorageFailed::new("create", dir, error))?,
        Err(error) => return Err(StorageFailed::new("list", dir, error)),
    }
    sync_dir(storage, dir.parent().unwrap_or(dir))?;
    sync_dir(storage, dir)
}

/// Makes a file of some parts, or puts it in the place of another as a whole. Durable when it
/// returns.
fn create_file(
    storage: &dyn Storage,
    path: &Path,
    parts: &[&[u8]],
) -> Result<Arc<dyn StorageFile>, StorageFailed> {
    let fail = |doing| move |error: io::Error| StorageFailed::new(doing, path, error);
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(UNFINISHED);
    let unfinished = PathBuf::from(unfinished);
    match storage.remove(&unfinished) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(fail("remove the unfinished")(error));
        }
        _ => {}
    }
    let file = storage.create(&unfinished).map_err(fail("create"))?;
    let mut slices: Vec<_> = parts.iter().map(|part| IoSlice::new(part)).collect();
    file.write_vectored_at(&mut slices, 0)
        .map_err(fail("write"))?;
    file.sync_data().map_err(fail("sync"))?;
    storage.rename(&unfinished, path).map_err(fail("rename"))?;
    sync_dir(storage, path.parent().unwrap_or(path))?;
    Ok(file)
}

fn sync_dir(storage: &dyn Storage, dir: &Path) -> Result<(), StorageFailed> {
    let synced = storage.sync_dir(dir);
    synced.map_err(|error| StorageFailed::new("sync directory", dir, error))
}

fn crc32c(parts: &[&[u8]]) -> u32 {
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    parts.iter().for_each(|part| digest.update(part));
    // Of a CRC of 32 bits, the lower half.
    digest.finalize() as u32
}
