//! What lies on the disk: one file per structure, each with its byte table.
//!
//! Every integer is big-endian, as in the record batch. Every file but the segment's entries ends
//! (or its header ends) with a CRC-32C of what stands before it.

pub(crate) mod checkpoint;
pub(crate) mod entry;
pub(crate) mod index;
pub(crate) mod names;
pub(crate) mod producers;
pub(crate) mod segment;
pub(crate) mod snapshot;
pub(crate) mod state;

use millstream_protocol::TopicId;
use uuid::Uuid;

use crate::config::LogIdentity;

/// CRC-32C (RFC 3720, appendix B.4).
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

/// Why a structure could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DecodeError {
    /// Its bytes are not what was written: the checksum, the magic or a length is wrong.
    Broken,
    /// Its checksum is right, but it is another log's.
    OtherPartition,
    /// Its checksum is right, but a later release wrote it.
    Version(u16),
}

/// Collects a structure's fields.
#[derive(Debug)]
pub(crate) struct Encoder(Vec<u8>);

impl Encoder {
    /// Starts with the structure's magic and version.
    pub(crate) fn new(magic: [u8; 4], version: u16) -> Self {
        Self(magic.to_vec()).u16(version)
    }

    pub(crate) fn u16(mut self, value: u16) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    pub(crate) fn u32(mut self, value: u32) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    pub(crate) fn u64(mut self, value: u64) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    pub(crate) fn i64(mut self, value: i64) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// Topic id and partition: 20 bytes.
    pub(crate) fn identity(mut self, identity: &LogIdentity) -> Self {
        self.0.extend_from_slice(identity.topic_id.as_bytes());
        self.u32(identity.partition)
    }

    pub(crate) fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// The bytes with their checksum behind them.
    pub(crate) fn seal(self) -> Vec<u8> {
        let crc = crc32c(&self.0);
        self.u32(crc).0
    }
}

/// Takes a structure apart; every read checks that the bytes are there.
#[derive(Debug)]
pub(crate) struct Decoder<'a>(&'a [u8]);

impl<'a> Decoder<'a> {
    /// Checks checksum and magic, and that the version is the one known.
    pub(crate) fn open(bytes: &'a [u8], magic: [u8; 4], version: u16) -> Result<Self, DecodeError> {
        let (body, crc) = bytes.split_last_chunk().ok_or(DecodeError::Broken)?;
        if u32::from_be_bytes(*crc) != crc32c(body) || !body.starts_with(&magic) {
            return Err(DecodeError::Broken);
        }
        let mut fields = Self(&body[magic.len()..]);
        match fields.u16()? {
            found if found == version => Ok(fields),
            found => Err(DecodeError::Version(found)),
        }
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (field, rest) = self.0.split_first_chunk().ok_or(DecodeError::Broken)?;
        self.0 = rest;
        Ok(*field)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, DecodeError> {
        self.take().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, DecodeError> {
        self.take().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, DecodeError> {
        self.take().map(u64::from_be_bytes)
    }

    pub(crate) fn i64(&mut self) -> Result<i64, DecodeError> {
        self.take().map(i64::from_be_bytes)
    }

    /// Checks that the structure is this log's.
    pub(crate) fn identity(&mut self, identity: &LogIdentity) -> Result<(), DecodeError> {
        match self.any_identity()? {
            found if found == *identity => Ok(()),
            _ => Err(DecodeError::OtherPartition),
        }
    }

    /// Whose the structure is.
    pub(crate) fn any_identity(&mut self) -> Result<LogIdentity, DecodeError> {
        let topic_id: [u8; 16] = self.take()?;
        Ok(LogIdentity {
            topic_id: TopicId(Uuid::from_bytes(topic_id)),
            partition: self.u32()?,
        })
    }

    /// Reads a count of items of `item_bytes` each, and checks that so many can be there, before
    /// anybody allocates for them.
    pub(crate) fn count(&mut self, item_bytes: usize) -> Result<usize, DecodeError> {
        let count = self.u32()? as usize;
        if count > self.0.len() / item_bytes {
            return Err(DecodeError::Broken);
        }
        Ok(count)
    }

    /// Checks that nothing is left.
    pub(crate) fn end(self) -> Result<(), DecodeError> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::Broken)
        }
    }
}
