//! An entry of a state file: the newest state of one partition's replica.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 4 | magic `MSTA` |
//! | 4 | 2 | format version, 1 |
//! | 6 | 16 | topic id |
//! | 22 | 4 | partition |
//! | 26 | 8 | sequence: one more than that of the entry before it in the file |
//! | 34 | 8 | durable below: entries of a lower sequence were durable when this was written |
//! | 42 | 2 | length of the state, bytes; 0: the partition is gone |
//! | 44 | n | the state |
//! | 44 + n | 4 | CRC-32C of the above |
//!
//! An entry has a sector to itself, filled up with zeros, and stands in the file twice, in two
//! sectors, so that a spoilt one costs nothing.

use millstream_protocol::TopicPartition;

use super::{DecodeError, Decoder, Encoder};
use crate::config::LogIdentity;
use crate::limits::MAX_STATE_BYTES;

/// What one copy of an entry takes.
pub(crate) const SECTOR_BYTES: usize = 512;

/// What an entry takes.
pub(crate) const ENTRY_BYTES: usize = 2 * SECTOR_BYTES;

const MAGIC: [u8; 4] = *b"MSTA";
const VERSION: u16 = 1;
const HEADER_BYTES: usize = 44;
const CRC_BYTES: usize = 4;

const _: () = assert!(HEADER_BYTES + MAX_STATE_BYTES + CRC_BYTES <= SECTOR_BYTES);

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StateEntry {
    pub(crate) partition: TopicPartition,
    pub(crate) sequence: u64,
    pub(crate) durable_below: u64,
    pub(crate) state: Vec<u8>,
}

impl StateEntry {
    /// Both copies.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let TopicPartition {
            topic_id,
            partition,
        } = self.partition;
        let mut sector = Encoder::new(MAGIC, VERSION)
            .identity(&LogIdentity {
                topic_id,
                partition,
            })
            .u64(self.sequence)
            .u64(self.durable_below)
            .u16(self.state.len() as u16)
            .bytes(&self.state)
            .seal();
        sector.resize(SECTOR_BYTES, 0);
        sector.repeat(2)
    }

    /// Reads whichever copy is sound.
    pub(crate) fn decode(entry: &[u8]) -> Result<Self, DecodeError> {
        let mut copies = entry.chunks(SECTOR_BYTES).map(Self::decode_copy);
        let first = copies.next().unwrap_or(Err(DecodeError::Broken));
        first.or_else(|_| copies.next().unwrap_or(Err(DecodeError::Broken)))
    }

    fn decode_copy(sector: &[u8]) -> Result<Self, DecodeError> {
        let length = sector
            .get(HEADER_BYTES - 2..HEADER_BYTES)
            .and_then(|length| Some(u16::from_be_bytes(length.try_into().ok()?)))
            .map(usize::from)
            .filter(|length| *length <= MAX_STATE_BYTES)
            .ok_or(DecodeError::Broken)?;
        let end = HEADER_BYTES + length + CRC_BYTES;
        let sealed = sector.get(..end).ok_or(DecodeError::Broken)?;
        let mut fields = Decoder::open(sealed, MAGIC, VERSION)?;
        let LogIdentity {
            topic_id,
            partition,
        } = fields.any_identity()?;
        let (sequence, durable_below) = (fields.u64()?, fields.u64()?);
        fields.u16()?;
        Ok(Self {
            partition: TopicPartition {
                topic_id,
                partition,
            },
            sequence,
            durable_below,
            state: sealed[HEADER_BYTES..HEADER_BYTES + length].to_vec(),
        })
    }
}
