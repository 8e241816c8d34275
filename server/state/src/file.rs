//! One worker's file: a database of redb with three tables.
//!
//! | table | key | value |
//! |---|---|---|
//! | `state` | the guest's key | the guest's value |
//! | `journal` | a key of the journal | what the journal says there, of what is not state |
//! | `stamp` | empty | [`Stamp`] |
//!
//! All three change in one transaction. Every transaction saves what a quick repair needs, so that a
//! file that was not closed opens without being read through.

use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use millstream_protocol::TopicPartition;
use redb::{
    Builder, Database, ReadOnlyTable, ReadTransaction, ReadableDatabase, ReadableTable,
    TableDefinition, TableError, WriteTransaction,
};

use crate::checkpoint::{Checkpoint, Size, Stamp};
use crate::error::StateError;
use crate::overlay::{Overlay, entry_bytes};

type Definition = TableDefinition<'static, &'static [u8], &'static [u8]>;
pub(crate) type Table = ReadOnlyTable<&'static [u8], &'static [u8]>;

const STATE: Definition = TableDefinition::new("state");
const JOURNAL: Definition = TableDefinition::new("journal");
const STAMP: Definition = TableDefinition::new("stamp");

const STAMP_KEY: &[u8] = b"";

/// A file that is open.
#[derive(Debug)]
pub(crate) struct StateFile {
    database: Database,
    path: PathBuf,
    journal: TopicPartition,
    /// Something was wrong with it: it is not to be used again.
    given_up: AtomicBool,
}

impl StateFile {
    /// Opens a file; `None` when there is none.
    pub(crate) fn open(
        path: &Path,
        journal: TopicPartition,
        cache_bytes: usize,
    ) -> Result<Option<Self>, StateError> {
        match fs::metadata(path) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StateError::io("look for", path, &error)),
        }
        let open = |builder: &Builder| builder.open(path);
        Self::with(path, journal, cache_bytes, "open", open).map(Some)
    }

    /// Makes a file where none is.
    pub(crate) fn create(
        path: &Path,
        journal: TopicPartition,
        cache_bytes: usize,
    ) -> Result<Self, StateError> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(|error| StateError::io("make", folder, &error))?;
        }
        let create = |builder: &Builder| builder.create(path);
        Self::with(path, journal, cache_bytes, "create", create)
    }

    fn with(
        path: &Path,
        journal: TopicPartition,
        cache_bytes: usize,
        doing: &'static str,
        open: impl FnOnce(&Builder) -> Result<Database, redb::DatabaseError>,
    ) -> Result<Self, StateError> {
        let mut builder = Builder::new();
        builder.set_cache_size(cache_bytes);
        let database = guarded(doing, path, || Ok(open(&builder)?))?;
        Ok(Self {
            database,
            path: path.to_owned(),
            journal,
            given_up: AtomicBool::new(false),
        })
    }

    pub(crate) fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::Acquire)
    }

    /// The state as the last transaction has left it; `None` when there was none yet.
    pub(crate) fn view(self: &Arc<Self>) -> Result<Option<View>, StateError> {
        let view = self.run("read", || {
            let transaction = self.database.begin_read()?;
            let stamp = match transaction.open_table(STAMP) {
                Ok(stamps) => stamps.get(STAMP_KEY)?,
                Err(TableError::TableDoesNotExist(_)) => None,
                Err(error) => return Err(error.into()),
            };
            let Some(stamp) = stamp else {
                return Ok(None);
            };
            let stamp = stamp.value().to_vec();
            Ok(Some((stamp, transaction.open_table(STATE)?, transaction)))
        })?;
        let Some((stamp, table, transaction)) = view else {
            return Ok(None);
        };
        let stamp = Stamp::decode(&stamp, self.journal)
            .map_err(|reason| StateError::damaged("use", &self.path, reason))?;
        Ok(Some(View {
            table,
            stamp,
            transaction,
            file: Arc::clone(self),
        }))
    }

    /// Begins a change. It waits for the end of another one.
    pub(crate) fn change(self: &Arc<Self>) -> Result<Change, StateError> {
        let (transaction, stamp) = self.run("change", || {
            let mut transaction = self.database.begin_write()?;
            transaction.set_quick_repair(true);
            let stamps = transaction.open_table(STAMP)?;
            let stamp = stamps.get(STAMP_KEY)?.map(|stamp| stamp.value().to_vec());
            drop(stamps);
            Ok((transaction, stamp))
        })?;
        let stamp = stamp.map(|stamp| Stamp::decode(&stamp, self.journal));
        let stamp = stamp
            .transpose()
            .map_err(|reason| StateError::damaged("use", &self.path, reason))?;
        Ok(Change {
            transaction,
            size: stamp.map_or_else(Size::default, |stamp| stamp.size),
            file: Arc::clone(self),
        })
    }

    /// Does something with the database. After damage the file is given up: it goes, and is made
    /// again from the journal.
    fn run<T>(
        &self,
        doing: &'static str,
        work: impl FnOnce() -> Result<T, redb::Error>,
    ) -> Result<T, StateError> {
        let result = guarded(doing, &self.path, work);
        if let Err(error) = &result
            && error.is_damage
            && !self.given_up.swap(true, Ordering::AcqRel)
        {
            tracing::error!(%error, "a store's file is damaged: the log that it was made from is read instead");
            if let Err(error) = fs::remove_file(&self.path) {
                tracing::error!(path = %self.path.display(), %error, "it cannot be removed");
            }
        }
        result
    }
}

/// Does something with a database. On a damaged file it may panic, which is an error like others.
fn guarded<T>(
    doing: &'static str,
    path: &Path,
    work: impl FnOnce() -> Result<T, redb::Error>,
) -> Result<T, StateError> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => done.map_err(|error| StateError::redb(doing, path, error)),
        Err(_) => Err(StateError::damaged(doing, path, "the store has panicked")),
    }
}

/// What a file held at one moment. While it is there, what has been written over since stays in
/// the file as well.
pub(crate) struct View {
    table: Table,
    pub(crate) stamp: Stamp,
    transaction: ReadTransaction,
    // Last: the database outlives what reads it.
    file: Arc<StateFile>,
}

impl View {
    pub(crate) fn file(&self) -> &Arc<StateFile> {
        &self.file
    }

    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        self.file.run("read", || {
            let value = self.table.get(key)?;
            Ok(value.map(|value| value.value().to_vec()))
        })
    }

    /// The size of a key's value, if it has one, bytes.
    pub(crate) fn value_bytes(&self, key: &[u8]) -> Result<Option<usize>, StateError> {
        self.file.run("read", || {
            let value = self.table.get(key)?;
            Ok(value.map(|value| value.value().len()))
        })
    }

    /// Works with the table of the state.
    pub(crate) fn read<T>(
        &self,
        work: impl FnOnce(&Table) -> Result<T, redb::Error>,
    ) -> Result<T, StateError> {
        self.file.run("read", || work(&self.table))
    }

    pub(crate) fn checkpoint(&self) -> Result<Checkpoint, StateError> {
        let records = self.file.run("read", || {
            let journal = self.transaction.open_table(JOURNAL)?;
            let mut records = Vec::new();
            for record in journal.iter()? {
                let (key, value) = record?;
                records.push((key.value().to_vec(), value.value().to_vec()));
            }
            Ok(records)
        })?;
        Ok(Checkpoint {
            stands_for: self.stamp.stands_for(),
            replay_from: self.stamp.replay_from(),
            records,
        })
    }
}

/// A change of a file, which counts as a whole when it is committed, or not at all.
pub(crate) struct Change {
    transaction: WriteTransaction,
    size: Size,
    file: Arc<StateFile>,
}

impl Change {
    /// Makes the changes of an overlay.
    pub(crate) fn put(&mut self, overlay: &Overlay) -> Result<(), StateError> {
        let Self {
            transaction, size, ..
        } = self;
        self.file.run("change", || {
            let mut table = transaction.open_table(STATE)?;
            for (key, value) in overlay.range(std::ops::Bound::Unbounded) {
                let before = match value {
                    Some(value) => {
                        size.entries += 1;
                        size.bytes += entry_bytes(key.len(), value.len());
                        table.insert(key, value)?
                    }
                    None => table.remove(key)?,
                };
                if let Some(before) = before {
                    size.entries = size.entries.saturating_sub(1);
                    let bytes = entry_bytes(key.len(), before.value().len());
                    size.bytes = size.bytes.saturating_sub(bytes);
                }
            }
            Ok(())
        })
    }

    /// Makes it count, durably, as the state at a checkpoint.
    pub(crate) fn commit(self, checkpoint: &Checkpoint) -> Result<View, StateError> {
        let Self {
            transaction,
            size,
            file,
        } = self;
        file.run("change", || {
            transaction.open_table(STATE)?;
            transaction.delete_table(JOURNAL)?;
            let mut journal = transaction.open_table(JOURNAL)?;
            for (key, value) in &checkpoint.records {
                journal.insert(key.as_slice(), value.as_slice())?;
            }
            drop(journal);
            let stamp = Stamp::new(file.journal, checkpoint, size).encode();
            transaction
                .open_table(STAMP)?
                .insert(STAMP_KEY, stamp.as_slice())?;
            Ok(transaction.commit()?)
        })?;
        let view = file.view()?;
        view.ok_or_else(|| StateError::damaged("use", &file.path, "what was written is not there"))
    }
}
