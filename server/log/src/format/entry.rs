//! One entry of a segment: a record batch and what binds it to its place.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 4 | binding checksum |
//! | 4 | 8 | flushed offset of the log when the entry was written |
//! | 12 | … | the record batch as it is, 61 bytes or more |
//!
//! The binding checksum is the CRC-32C of the log's salt, the topic id, the partition, the flushed
//! offset, and the batch's header, 61 bytes. That covers the fields outside the batch's own checksum
//! (base offset, length, leader epoch, magic) and that checksum itself. So the two together cover
//! every byte, and an entry that belongs to another log, another place or another time does not
//! pass: not a flipped bit, nor a sector that was written elsewhere, nor one that was not written.
//! It also lets a walk over headers trust them without reading the bodies.
//!
//! The salt is a number that producers do not know. It keeps a producer from placing in a record's
//! value what recovery, when it looks for entries behind a torn one, would take for an entry.
//!
//! The flushed offset is what tells a torn tail from damage without a write of its own: whatever
//! lies below the flushed offset that a later entry records was durable once.

use millstream_protocol::Offset;
use millstream_protocol::batch::{BATCH_HEADER_BYTES, BatchError, BatchHeader};

use super::crc32c;
use crate::config::LogIdentity;

/// Bytes before the batch.
pub(crate) const ENTRY_PREFIX_BYTES: usize = 12;

/// The least that an entry takes, and all that must be read to judge it but for the batch's body.
pub(crate) const ENTRY_HEADER_BYTES: usize = ENTRY_PREFIX_BYTES + BATCH_HEADER_BYTES;

/// Where the batch's magic lies in an entry, and what it is: the search for entries goes by it.
const MAGIC_POSITION: usize = ENTRY_PREFIX_BYTES + 16;
const MAGIC: u8 = 2;

/// Salt, topic id, partition.
const LOG_BYTES: usize = 8 + 16 + 4;

/// What an entry is bound to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Binding {
    log: [u8; LOG_BYTES],
}

/// An entry's header, judged; the batch's body is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EntryHeader {
    /// The log's flushed offset when the entry was written.
    pub(crate) flushed_offset: Offset,
    pub(crate) batch: BatchHeader,
}

impl EntryHeader {
    pub(crate) fn entry_bytes(&self) -> usize {
        ENTRY_PREFIX_BYTES + self.batch.batch_bytes
    }
}

/// What is wrong with an entry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EntryFault {
    #[error("an incomplete entry")]
    Incomplete,
    #[error("a binding checksum that does not match")]
    Binding,
    #[error("an entry at offset {got} where {expected} was expected")]
    Offset { expected: Offset, got: Offset },
    #[error("an entry that records a flush of what it precedes")]
    Flushed,
    #[error(transparent)]
    Batch(#[from] BatchError),
}

impl Binding {
    pub(crate) fn new(identity: &LogIdentity, salt: u64) -> Self {
        let mut log = [0; LOG_BYTES];
        log[..8].copy_from_slice(&salt.to_be_bytes());
        log[8..24].copy_from_slice(identity.topic_id.as_bytes());
        log[24..].copy_from_slice(&identity.partition.to_be_bytes());
        Self { log }
    }

    /// The prefix of an entry whose batch begins with `batch`, its place already assigned.
    pub(crate) fn prefix(&self, flushed_offset: Offset, batch: &[u8]) -> [u8; ENTRY_PREFIX_BYTES] {
        let flushed = flushed_offset.to_be_bytes();
        let mut prefix = [0; ENTRY_PREFIX_BYTES];
        prefix[..4].copy_from_slice(&self.checksum(flushed, batch).to_be_bytes());
        prefix[4..].copy_from_slice(&flushed);
        prefix
    }

    /// Reads the header of the entry at the front of `bytes`, which may end after
    /// [`ENTRY_HEADER_BYTES`].
    pub(crate) fn parse(&self, bytes: &[u8]) -> Result<EntryHeader, EntryFault> {
        let (Some(prefix), Some(batch)) = (
            bytes.first_chunk::<ENTRY_PREFIX_BYTES>(),
            bytes.get(ENTRY_PREFIX_BYTES..ENTRY_HEADER_BYTES),
        ) else {
            return Err(EntryFault::Incomplete);
        };
        let [c0, c1, c2, c3, flushed @ ..] = *prefix;
        if u32::from_be_bytes([c0, c1, c2, c3]) != self.checksum(flushed, batch) {
            return Err(EntryFault::Binding);
        }
        let header = EntryHeader {
            flushed_offset: u64::from_be_bytes(flushed),
            batch: BatchHeader::parse(batch)?,
        };
        if header.flushed_offset > header.batch.base_offset {
            return Err(EntryFault::Flushed);
        }
        Ok(header)
    }

    /// The positions in `bytes` at which an entry's header can be read, without regard to what
    /// surrounds it.
    pub(crate) fn search<'a>(
        &'a self,
        bytes: &'a [u8],
    ) -> impl Iterator<Item = (usize, EntryHeader)> + 'a {
        let last = (bytes.len() + 1).saturating_sub(ENTRY_HEADER_BYTES);
        (0..last).filter_map(move |position| {
            if bytes[position + MAGIC_POSITION] != MAGIC {
                return None;
            }
            let header = self.parse(&bytes[position..]).ok()?;
            Some((position, header))
        })
    }

    fn checksum(&self, flushed: [u8; 8], batch: &[u8]) -> u32 {
        let mut bound = [0; LOG_BYTES + 8 + BATCH_HEADER_BYTES];
        bound[..LOG_BYTES].copy_from_slice(&self.log);
        bound[LOG_BYTES..LOG_BYTES + 8].copy_from_slice(&flushed);
        bound[LOG_BYTES + 8..].copy_from_slice(&batch[..BATCH_HEADER_BYTES]);
        crc32c(&bound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{batch_of, identity};

    fn entry(binding: &Binding, flushed_offset: Offset, base_offset: Offset) -> Vec<u8> {
        let mut batch = batch_of(&["a", "b"]).bytes;
        millstream_protocol::batch::assign(&mut batch, base_offset, 3).expect("a place");
        let mut entry = binding.prefix(flushed_offset, &batch).to_vec();
        entry.extend_from_slice(&batch);
        entry
    }

    #[test]
    fn an_entry_reads_back() {
        let binding = Binding::new(&identity(), 5);
        let bytes = entry(&binding, 40, 42);
        let header = binding.parse(&bytes).expect("an entry");
        assert_eq!(header.flushed_offset, 40);
        assert_eq!(header.batch.base_offset, 42);
        assert_eq!(header.batch.leader_epoch, 3);
        assert_eq!(header.entry_bytes(), bytes.len());
    }

    #[test]
    fn every_flipped_bit_is_seen_by_one_of_the_checksums() {
        let binding = Binding::new(&identity(), 5);
        let bytes = entry(&binding, 40, 42);
        for byte in 0..bytes.len() {
            for bit in 0..8 {
                let mut bytes = bytes.clone();
                bytes[byte] ^= 1 << bit;
                let judged = binding.parse(&bytes);
                let body = millstream_protocol::batch::verify_crc(&bytes[ENTRY_PREFIX_BYTES..]);
                assert!(judged.is_err() || body.is_err(), "byte {byte} bit {bit}");
            }
        }
    }

    #[test]
    fn an_entry_is_bound_to_its_log() {
        let bytes = entry(&Binding::new(&identity(), 5), 40, 42);
        let other_salt = Binding::new(&identity(), 6);
        assert_eq!(other_salt.parse(&bytes), Err(EntryFault::Binding));
        let mut other = identity();
        other.partition += 1;
        let other = Binding::new(&other, 5);
        assert_eq!(other.parse(&bytes), Err(EntryFault::Binding));
    }

    #[test]
    fn a_flush_of_the_future_is_refused() {
        let binding = Binding::new(&identity(), 5);
        assert_eq!(
            binding.parse(&entry(&binding, 43, 42)),
            Err(EntryFault::Flushed)
        );
    }

    #[test]
    fn the_search_finds_entries_among_other_bytes() {
        let binding = Binding::new(&identity(), 5);
        let mut bytes = vec![2; 333];
        let first = entry(&binding, 1, 7);
        bytes.extend_from_slice(&first);
        bytes.extend_from_slice(&[2; 29]);
        bytes.extend_from_slice(&entry(&binding, 7, 9));
        let found: Vec<_> = binding
            .search(&bytes)
            .map(|(position, header)| (position, header.batch.base_offset))
            .collect();
        assert_eq!(found, [(333, 7), (333 + first.len() + 29, 9)]);
    }
}
