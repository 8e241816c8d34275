//! The record batch: one byte format on the wire, on disk, in replication and as a guest's input.
//!
//! The layout is Kafka's [RecordBatch v2](https://kafka.apache.org/documentation/#recordbatch),
//! every integer big-endian. A batch is encoded once, by its producer; the broker checks it and
//! patches the first three fields, which lie outside the checksum.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 8 | base offset: the offset of the first record |
//! | 8 | 4 | length: the bytes that follow this field |
//! | 12 | 4 | leader epoch |
//! | 16 | 1 | magic, always 2 |
//! | 17 | 4 | CRC-32C of everything that follows |
//! | 21 | 2 | attributes: bits 0–2 [`Compression`], 3 [`TimestampKind`], 4 transactional, 5 control, 6 delete horizon; 7–15 are zero |
//! | 23 | 4 | last offset delta: the last offset less the base offset |
//! | 27 | 8 | base timestamp, milliseconds |
//! | 35 | 8 | max timestamp, milliseconds |
//! | 43 | 8 | producer id, or −1 |
//! | 51 | 2 | producer epoch |
//! | 53 | 4 | sequence of the first record |
//! | 57 | 4 | record count |
//! | 61 | … | the records one after the other, compressed together |
//!
//! One record; every integer but the attributes is a zigzag varint (see the private module
//! `varint`):
//!
//! | field | content |
//! |---|---|
//! | length | the bytes that follow this field |
//! | attributes | one byte, zero |
//! | timestamp delta | to the batch's base timestamp |
//! | offset delta | to the batch's base offset |
//! | key | length and bytes; length −1: no key |
//! | value | length and bytes; length −1: no value |
//! | headers | a count; for each the name (length, bytes) and the value (length or −1, bytes) |
//!
//! # Layout
//!
//! - `header`: [`BatchHeader`], [`ProducerStamp`], [`verify_crc`], [`assign`]
//! - `attributes`: [`Compression`], [`TimestampKind`]
//! - `record`: [`Record`], [`RecordView`], [`Header`], and the walk over one encoded record
//! - `builder`: [`BatchBuilder`]
//! - `control`: [`epoch_start`]
//! - `validate`: [`validate_produced`], what a broker checks before it appends
//! - `reader`: [`RecordBatch`], [`Records`] and their iterators
//! - `rewrite`: [`retain`], [`emptied`], [`split`] and [`RecordBatch::uncompressed`]
//! - `compression`: the codecs, bounded while they inflate
//! - `error`: [`BatchError`], [`AppendError`]

mod attributes;
mod builder;
mod compression;
mod control;
mod error;
mod header;
mod reader;
mod record;
mod rewrite;
mod validate;
mod varint;

pub use attributes::{Compression, TimestampKind, UnknownCompression};
pub use builder::BatchBuilder;
pub use control::epoch_start;
pub use error::{AppendError, BatchError, RecordFault};
pub use header::{
    BATCH_HEADER_BYTES, BatchHeader, ProducerStamp, assign, sequence_after, verify_crc,
};
pub use reader::{OwnedRecordIter, RecordBatch, RecordIter, Records};
pub use record::{Header, HeaderIter, HeaderView, Record, RecordView};
pub use rewrite::{emptied, retain, split};
pub use validate::validate_produced;
