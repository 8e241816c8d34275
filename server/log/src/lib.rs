//! One partition's log: segments on a disk, their indexes, and what recovery, retention and
//! compaction make of them.
//!
//! A [`Log`] is owned by one writer. Readers hold a [`LogReader`] and read while it is appended to;
//! a [`FlushTicket`] makes appends durable on another thread, a [`CompactionTask`] compacts on
//! another. The crate is a core: it knows no executor, no clock and no randomness. Time is an
//! argument, and files are touched only through [`storage::Storage`], synchronously.
//!
//! What it does _not_ do: it does not replicate, does not know which records are committed (readers
//! pass their high watermark), does not decide when to flush, retain or compact, and knows nothing
//! of topics but their id.
//!
//! # Layout
//!
//! - [`storage`]: the trait, real files, and files in memory that crash; `mmap`: mapped files
//! - `log`, `append`, `roll`, `flush`, `retention`, `truncate`, `restart`, `compaction`: the writer's side
//! - `start`: what is known of where the log starts, for replicas that begin there
//! - `reader`, `time_lookup`, `cache`: the readers' side; `view`: what the two share
//! - `recovery`: opening a log after whatever has happened
//! - `segment`, `index`, `scan`: one segment, its sparse index, the walk over its entries
//! - `producers`, `epochs`, `derived`: what is known of producers and leader epochs
//! - `state_file`: what replicas keep besides their logs, of all partitions in one file
//! - `format`: the bytes on the disk, one file per structure; `files`, `atomic_file`,
//!   `checkpoint_file`: reading and replacing them
//! - [`limits`]: every limit, by name
//!
//! # Example
//!
//! ```
//! use std::sync::Arc;
//!
//! use bytes::BytesMut;
//! use millstream_log::storage::MemoryStorage;
//! use millstream_log::{Log, LogConfig, LogIdentity, LogSetup, ProducedBatch, TailBudget, limits};
//! use millstream_protocol::batch::{BatchBuilder, BatchHeader, Compression};
//! # use millstream_protocol::TopicId;
//! # let topic_id = TopicId(uuid::Uuid::from_u128(7));
//!
//! let (mut log, _) = Log::create_or_open(
//!     LogSetup {
//!         storage: Arc::new(MemoryStorage::new()),
//!         dir: "/events-0".into(),
//!         identity: LogIdentity { topic_id, partition: 0 },
//!         config: LogConfig::default(),
//!         tail_budget: TailBudget::new(limits::DEFAULT_TAIL_BUDGET_BYTES),
//!         salt: 0x5eed,
//!     },
//!     1_700_000_000_000,
//! )?;
//!
//! let mut builder = BatchBuilder::new(Compression::None, 16 * 1024);
//! builder.append(1_700_000_000_000, Some(b"key"), Some(b"value"), &[])?;
//! let bytes = builder.finish(None)?;
//! let header = BatchHeader::parse(&bytes)?;
//! let batch = ProducedBatch { bytes: BytesMut::from(bytes), header };
//!
//! let mut outcomes = Vec::new();
//! log.append(vec![batch], 0, 1_700_000_000_001, &mut outcomes)?;
//! if let Some(ticket) = log.flush_ticket() {
//!     let outcome = ticket.run();
//!     assert_eq!(log.flushed(outcome)?, 1);
//! }
//! let read = log.reader().read(0, log.flushed_offset(), 1 << 20)?;
//! assert_eq!((read.batches.len(), read.next_offset), (1, 1));
//! log.close()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod planted;

mod append;
mod atomic_file;
mod cache;
mod checkpoint_file;
mod compaction;
mod config;
mod damage;
mod derived;
mod epochs;
mod error;
mod files;
mod flush;
mod format;
mod index;
pub mod limits;
mod log;
mod mmap;
mod producers;
mod reader;
mod recovery;
mod restart;
mod retention;
mod roll;
mod scan;
mod segment;
mod start;
mod state_file;
pub mod storage;
#[cfg(test)]
mod testing;
mod time_lookup;
mod truncate;
mod view;

pub use append::{AppendOutcome, ProducedBatch, RejectReason};
pub use cache::TailBudget;
pub use compaction::{
    Compacted, CompactionError, CompactionPlan, CompactionReport, CompactionTask,
};
pub use config::{Cleanup, LogConfig, LogIdentity, LogSetup};
pub use damage::Damage;
pub use error::{
    AppendError, ChangeError, OpenError, ProducersError, RestartError, SnapshotError,
    StorageFailure,
};
pub use flush::{FlushError, FlushTicket, Flushed};
pub use log::{Log, delete_dir};
pub use reader::{LogReader, ReadBatches, ReadError};
pub use recovery::Recovery;
pub use retention::RetentionPlan;
pub use state_file::{StateFile, States};
