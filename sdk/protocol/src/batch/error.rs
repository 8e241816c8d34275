//! What can be wrong with a batch, and why a record is not taken into one.

use super::attributes::Compression;
use crate::error::ErrorCode;

/// What is wrong with a record batch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// The bytes are fewer or more than the batch says it has.
    #[error("record batch of {expected} bytes in {actual} bytes")]
    Length {
        /// What the batch needs, bytes; the header alone when not even that is there.
        expected: usize,
        /// What is there, bytes.
        actual: usize,
    },
    /// The batch is larger than is allowed here, or would be after decompression.
    #[error("record batch exceeds the limit of {limit} bytes")]
    TooLarge {
        /// What is allowed, bytes.
        limit: usize,
    },
    /// Not the format's second version, the only one spoken here.
    #[error("record batch of format version {magic}, not 2")]
    Magic {
        /// What stands in the version's place.
        magic: u8,
    },
    /// The checksum does not fit the bytes.
    #[error("record batch checksum {computed:#010x} does not match the stored {stored:#010x}")]
    Crc {
        /// What the batch says.
        stored: u32,
        /// What its bytes give.
        computed: u32,
    },
    /// A field of the header holds what it never may, or what contradicts the records.
    #[error("record batch {field} {value} is out of range")]
    Field {
        /// The field's name.
        field: &'static str,
        /// Its value.
        value: i64,
    },
    /// An attribute that is not a client's to set.
    #[error("a client may not set the {attribute} of a record batch")]
    Forbidden {
        /// The attribute's name.
        attribute: &'static str,
    },
    /// A record is malformed.
    #[error("record {index} of the batch: {fault}")]
    Record {
        /// Which one, counted from 0.
        index: u32,
        /// What is wrong with it.
        fault: RecordFault,
    },
    /// The codec cannot be written, or the records cannot be compressed or decompressed with it.
    #[error("record batch codec {compression}: {reason}")]
    Codec {
        /// The codec.
        compression: Compression,
        /// What it says.
        reason: String,
    },
}

impl BatchError {
    /// The code that a broker answers with.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::TooLarge { .. } => ErrorCode::RecordTooLarge,
            Self::Forbidden { .. } => ErrorCode::InvalidRequest,
            Self::Record { fault, .. } => fault.code(),
            Self::Length { .. }
            | Self::Magic { .. }
            | Self::Crc { .. }
            | Self::Field { .. }
            | Self::Codec { .. } => ErrorCode::CorruptBatch,
        }
    }
}

/// What is wrong with one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordFault {
    /// It ends before its fields do.
    #[error("ends before its fields do")]
    Truncated,
    /// Its fields end before it does.
    #[error("is longer than its fields")]
    Trailing,
    /// A variable-length integer is longer than it need be, or out of its type's range.
    #[error("malformed variable-length integer")]
    Varint,
    /// A length or count is negative where it may not be.
    #[error("negative length")]
    NegativeLength,
    /// Its offset delta is not the one expected: in order, and within the batch.
    #[error("offset delta out of order")]
    OffsetDelta,
    /// Its timestamp lies outside what 64 bits of milliseconds hold.
    #[error("timestamp out of range")]
    Timestamp,
    /// Its attributes, which mean nothing yet, are not zero.
    #[error("attributes are not zero")]
    Attributes,
    /// Its key, value and headers exceed [`MAX_RECORD_BYTES`](crate::limits::MAX_RECORD_BYTES).
    #[error("larger than {} bytes", crate::limits::MAX_RECORD_BYTES)]
    TooLarge,
    /// More headers than [`MAX_HEADERS_PER_RECORD`](crate::limits::MAX_HEADERS_PER_RECORD).
    #[error("more than {} headers", crate::limits::MAX_HEADERS_PER_RECORD)]
    TooManyHeaders,
    /// A header's name is not UTF-8, or longer than
    /// [`MAX_HEADER_NAME_BYTES`](crate::limits::MAX_HEADER_NAME_BYTES).
    #[error(
        "header name is not UTF-8 of at most {} bytes",
        crate::limits::MAX_HEADER_NAME_BYTES
    )]
    HeaderName,
}

impl RecordFault {
    fn code(self) -> ErrorCode {
        match self {
            Self::TooLarge => ErrorCode::RecordTooLarge,
            Self::TooManyHeaders | Self::HeaderName => ErrorCode::InvalidRequest,
            Self::Truncated
            | Self::Trailing
            | Self::Varint
            | Self::NegativeLength
            | Self::OffsetDelta
            | Self::Timestamp
            | Self::Attributes => ErrorCode::CorruptBatch,
        }
    }
}

/// Why a [`BatchBuilder`](super::BatchBuilder) does not take a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// It does not fit any more: finish this batch and append it to the next.
    #[error("the record batch is full")]
    Full,
    /// It will never fit into a batch.
    #[error("record of {bytes} bytes exceeds the limit of {limit}")]
    RecordTooLarge {
        /// The record's size, bytes.
        bytes: usize,
        /// What is allowed, bytes.
        limit: usize,
    },
    /// More headers than [`MAX_HEADERS_PER_RECORD`](crate::limits::MAX_HEADERS_PER_RECORD).
    #[error(
        "{count} headers exceed the limit of {}",
        crate::limits::MAX_HEADERS_PER_RECORD
    )]
    TooManyHeaders {
        /// How many it has.
        count: usize,
    },
    /// A header's name is not UTF-8, or longer than
    /// [`MAX_HEADER_NAME_BYTES`](crate::limits::MAX_HEADER_NAME_BYTES).
    #[error(
        "the name of header {index} is not UTF-8 of at most {} bytes",
        crate::limits::MAX_HEADER_NAME_BYTES
    )]
    HeaderName {
        /// Which header, counted from 0.
        index: usize,
    },
}
