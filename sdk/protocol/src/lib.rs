//! What travels on Millstream's wire and lies on its disks.
//!
//! This is the only crate that knows bytes on the wire: identifiers, named limits, the record
//! batch, frames, one module per API and the error codes. It does no IO, knows no clock and no
//! network; both the SDK and the broker are built on it.
//!
//! # Layout
//!
//! - [`ids`]: identifiers and the words for positions in a log
//! - [`limits`]: every limit that a peer can run into, with its default
//! - [`batch`]: the record batch (Kafka's RecordBatch v2 layout), its builder, reader and checks
//! - [`frame`]: the frame that carries a postcard body and a raw payload
//! - [`api`]: one module per API, each with its request, its response and their meaning
//! - [`error`]: the closed, append-only list of error codes, and what a client must do about each
//! - [`partitioner`]: how a key finds its partition
//!
//! # Example
//!
//! A produced batch as it goes over a stream: a frame, and behind its body the raw batch.
//!
//! ```
//! use bytes::BytesMut;
//! use millstream_protocol::api::produce::ProduceBatch;
//! use millstream_protocol::batch::{self, BatchBuilder, Compression};
//! use millstream_protocol::{frame, limits};
//!
//! let mut builder = BatchBuilder::new(Compression::Lz4, limits::MAX_BATCH_BYTES);
//! builder.append(1_700_000_000_000, Some(b"sensor-7"), Some(b"21.5"), &[])?;
//! let batch = builder.finish(None)?;
//!
//! let mut out = BytesMut::new();
//! frame::encode(&ProduceBatch {}, batch.len(), &mut out)?;
//! out.extend_from_slice(&batch);
//!
//! // The broker, once it has read the header, the body and the payload:
//! let header = batch::validate_produced(&batch, limits::MAX_BATCH_BYTES)?;
//! assert_eq!(header.record_count, 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod api;
pub mod batch;
pub mod error;
pub mod frame;
pub mod ids;
pub mod limits;
pub mod partitioner;

pub use error::{Advice, ErrorCode, WireError};
pub use ids::{
    DIRECT_WORKER_PRODUCER_ID, FIRST_WORKER_PRODUCER_ID, LeaderEpoch, Offset, PartitionIndex,
    ProducerEpoch, ProducerId, TimestampMs, TopicId, TopicPartition,
};
