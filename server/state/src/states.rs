//! All stores of a kind: their folder, and the memory that they share.
//!
//! ```text
//! <journal's topic id>/<partition>.redb    one worker's state
//! ```

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use millstream_protocol::{Offset, TopicId, TopicPartition};
use parking_lot::Mutex;
use uuid::Uuid;

use crate::error::StateError;
use crate::file::{StateFile, View};
use crate::limits;
use crate::loading::Loading;

/// How much may be in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateConfig {
    /// Changes of one worker that are in memory before they go into its file, bytes.
    pub overlay_bytes: usize,
    /// Changes of all workers that are in memory, bytes; beyond it, they are written earlier.
    pub memory_bytes: usize,
    /// Changes that are gathered in memory while a whole journal is read back, bytes.
    pub loading_bytes: usize,
    /// Pages of all files that are kept in memory, bytes; see
    /// [`CACHE_BYTES_OF_ONE`](limits::CACHE_BYTES_OF_ONE).
    pub cache_bytes: usize,
}

impl Default for StateConfig {
    fn default() -> Self {
        Self {
            overlay_bytes: limits::DEFAULT_OVERLAY_BYTES,
            memory_bytes: limits::DEFAULT_MEMORY_BYTES,
            loading_bytes: limits::DEFAULT_LOADING_BYTES,
            cache_bytes: limits::DEFAULT_CACHE_BYTES,
        }
    }
}

/// What there is of a journal. A file that does not fit to it is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalExtent {
    /// The first offset that is there.
    pub start_offset: Offset,
    /// The next offset to be appended.
    pub end_offset: Offset,
    /// Deletions below may have been compacted away: a file that does not hold them never hears of
    /// them.
    pub tombstones_gone_until: Offset,
}

/// Whether so many bytes may be written into a folder: what is left of the disk then is enough for others.
pub type HasRoom = fn(&Path, u64) -> bool;

/// A folder with the files of stores, of all workers on a broker or of all tables, and what they share.
#[derive(Debug)]
pub struct States {
    folder: PathBuf,
    pub(crate) config: StateConfig,
    has_room: HasRoom,
    /// Files that are open. A reader may hold one while its worker opens it anew.
    open: Mutex<HashMap<TopicPartition, Weak<StateFile>>>,
    /// Changes in memory of all stores, bytes.
    in_memory: Arc<AtomicUsize>,
}

impl States {
    /// The states in a folder that exists.
    pub fn new(folder: PathBuf, config: StateConfig, has_room: HasRoom) -> Arc<Self> {
        Arc::new(Self {
            folder,
            config,
            has_room,
            open: Mutex::default(),
            in_memory: Arc::default(),
        })
    }

    /// The stores of another folder that exists, which share the bound on changes in memory with these.
    pub fn beside(&self, folder: PathBuf) -> Arc<Self> {
        Arc::new(Self {
            folder,
            config: self.config,
            has_room: self.has_room,
            open: Mutex::default(),
            in_memory: Arc::clone(&self.in_memory),
        })
    }

    /// Opens the state of the worker with this journal, to be read on from the journal. What cannot
    /// be used of it is removed, and said in the broker's log. Blocks on the disk.
    ///
    /// # Errors
    ///
    /// The operating system does not let the file be read or removed.
    pub fn open(
        self: &Arc<Self>,
        journal: TopicPartition,
        extent: JournalExtent,
        limit_bytes: u64,
    ) -> Result<Loading, StateError> {
        let stored = match self.usable(journal, extent) {
            Ok(stored) => stored,
            Err(error) if error.is_damage => {
                tracing::warn!(%error, "the whole log that it was made from is read instead");
                self.discard(journal)?;
                None
            }
            Err(error) => return Err(error),
        };
        Loading::new(Arc::clone(self), journal, stored, limit_bytes)
    }

    /// Opens the state of the worker with this journal, to be read from the whole journal: its file
    /// is removed.
    ///
    /// # Errors
    ///
    /// The operating system does not let the file be removed.
    pub fn rebuild(
        self: &Arc<Self>,
        journal: TopicPartition,
        limit_bytes: u64,
    ) -> Result<Loading, StateError> {
        self.discard(journal)?;
        Loading::new(Arc::clone(self), journal, None, limit_bytes)
    }

    /// Removes the files of all partitions of a topic with journals. Readers keep what they have.
    ///
    /// # Errors
    ///
    /// The operating system does not let them be removed.
    pub fn remove(&self, topic_id: TopicId) -> Result<(), StateError> {
        self.open.lock().retain(|at, _| at.topic_id != topic_id);
        let folder = self.folder.join(topic_id.to_string());
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(StateError::io("remove", &folder, &error))
            }
            _ => Ok(()),
        }
    }

    /// Removes the files of every topic that is not `known` any more. To be called before any store
    /// is opened.
    ///
    /// # Errors
    ///
    /// The operating system does not let the folder be read, or files be removed.
    pub fn retain(&self, known: impl Fn(TopicId) -> bool) -> Result<(), StateError> {
        let failed = |error: io::Error| StateError::io("list", &self.folder, &error);
        for entry in fs::read_dir(&self.folder).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            let topic_id = name.to_str().and_then(|name| Uuid::try_parse(name).ok());
            if let Some(topic_id) = topic_id.map(TopicId)
                && !known(topic_id)
            {
                self.remove(topic_id)?;
            }
        }
        Ok(())
    }

    /// Changes of all stores that are in memory, bytes.
    pub fn in_memory_bytes(&self) -> usize {
        self.in_memory.load(Ordering::Relaxed)
    }

    /// Notes that a store's changes in memory take more, or less.
    pub(crate) fn note(&self, change: isize) {
        self.in_memory
            .fetch_add(change.cast_unsigned(), Ordering::Relaxed);
    }

    /// Refuses to write so many bytes if there is no room for them. What the file takes beyond them is not counted.
    pub(crate) fn check_room(
        &self,
        journal: TopicPartition,
        bytes: usize,
    ) -> Result<(), StateError> {
        match (self.has_room)(&self.folder, bytes as u64) {
            true => Ok(()),
            false => {
                let full = io::ErrorKind::StorageFull.into();
                Err(StateError::io("write", &self.path(journal), &full))
            }
        }
    }

    pub(crate) fn create(&self, journal: TopicPartition) -> Result<Arc<StateFile>, StateError> {
        // What is there was refused, or never finished.
        self.discard(journal)?;
        let path = self.path(journal);
        let mut open = self.open.lock();
        let file = StateFile::create(&path, journal, self.cache_bytes(&mut open))?;
        let file = Arc::new(file);
        open.insert(journal, Arc::downgrade(&file));
        Ok(file)
    }

    /// What the next file may keep in memory.
    fn cache_bytes(&self, open: &mut HashMap<TopicPartition, Weak<StateFile>>) -> usize {
        open.retain(|_, file| file.strong_count() > 0);
        let (least, most) = limits::CACHE_BYTES_OF_ONE.into_inner();
        (self.config.cache_bytes / (open.len() + 1)).clamp(least, most)
    }

    fn path(&self, journal: TopicPartition) -> PathBuf {
        let folder = self.folder.join(journal.topic_id.to_string());
        folder.join(format!("{}.redb", journal.partition))
    }

    /// What the file holds, when it can be trusted.
    fn usable(
        &self,
        journal: TopicPartition,
        extent: JournalExtent,
    ) -> Result<Option<View>, StateError> {
        let Some(file) = self.file(journal)? else {
            return Ok(None);
        };
        let refuse = |reason| StateError::damaged("use", &self.path(journal), reason);
        let view = file
            .view()?
            .ok_or_else(|| refuse("it was never finished"))?;
        let holds_until = view.stamp.stands_for().journal_offset;
        if holds_until < extent.tombstones_gone_until {
            return Err(refuse(
                "deletions that it does not hold were compacted away",
            ));
        }
        if !(extent.start_offset..=extent.end_offset).contains(&holds_until) {
            return Err(refuse("it was made from another stretch of the journal"));
        }
        Ok(Some(view))
    }

    fn file(&self, journal: TopicPartition) -> Result<Option<Arc<StateFile>>, StateError> {
        let mut open = self.open.lock();
        if let Some(file) = open.get(&journal).and_then(Weak::upgrade) {
            return Ok(Some(file).filter(|file| !file.is_given_up()));
        }
        let cache_bytes = self.cache_bytes(&mut open);
        let opened = StateFile::open(&self.path(journal), journal, cache_bytes)?;
        let opened = opened.map(Arc::new);
        if let Some(file) = &opened {
            open.insert(journal, Arc::downgrade(file));
        }
        Ok(opened)
    }

    fn discard(&self, journal: TopicPartition) -> Result<(), StateError> {
        self.open.lock().remove(&journal);
        let path = self.path(journal);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(StateError::io("remove", &path, &error))
            }
            _ => Ok(()),
        }
    }
}
