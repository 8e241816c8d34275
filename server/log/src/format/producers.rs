//! The producers of a log as of an offset: as they stand in a snapshot on the disk, and as one replica
//! hands them to another that begins there.
//!
//! What is handed over:
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 4 | magic `MPRD` |
//! | 4 | 2 | format version, 1 |
//! | 6 | 16 | topic id |
//! | 22 | 4 | partition |
//! | 26 | 8 | the offset: the batches below it are taken into account, and no others |
//! | 34 | … | the list of producers |
//! | … | 4 | CRC-32C of the above |
//!
//! The list of producers:
//!
//! | size | field |
//! |---|---|
//! | 4 | count of producers |
//! | 12 + 16 n each | producers, least recently used first, workers behind all others: id (8), epoch (2), n (2), and n batches, oldest first: first sequence (4), last sequence (4), base offset (8) |
//!
//! What is handed over has no salt: every replica's log has its own.

use std::collections::{HashSet, VecDeque};

use millstream_protocol::Offset;

use super::{DecodeError, Decoder, Encoder};
use crate::config::LogIdentity;
use crate::limits::BATCHES_PER_PRODUCER;
use crate::producers::{ProducerBatch, ProducerState, ProducerTable, is_worker};

const MAGIC: [u8; 4] = *b"MPRD";
const VERSION: u16 = 1;

/// What a list has besides batches, of each producer.
const PRODUCER_BYTES: usize = 12;
const BATCH_BYTES: usize = 16;

/// What is handed over besides the producers: what stands before them, their count, the checksum.
const FRAME_BYTES: usize = 34 + 4 + 4;

/// What is handed over; no longer than `max_bytes`, for which the least recently used producers that
/// are no workers are left out. `None` if the workers alone are too many.
pub(crate) fn encode(
    offset: Offset,
    table: &ProducerTable,
    identity: &LogIdentity,
    max_bytes: usize,
) -> Option<Vec<u8>> {
    let bytes = |state: &ProducerState| PRODUCER_BYTES + BATCH_BYTES * state.batches.len();
    let whole: usize = table.iter().map(|(_, state)| bytes(state)).sum();
    let mut surplus = (FRAME_BYTES + whole).saturating_sub(max_bytes);
    let mut left_out = 0;
    for (_, state) in table.iter().take_while(|(id, _)| !is_worker(*id)) {
        if surplus == 0 {
            break;
        }
        surplus = surplus.saturating_sub(bytes(state));
        left_out += 1;
    }
    if surplus > 0 {
        return None;
    }
    let fields = Encoder::new(MAGIC, VERSION).identity(identity).u64(offset);
    Some(encode_list(fields, table, left_out).seal())
}

/// Reads what another replica has handed over: the offset, and the producers as of it, of which the
/// most recently used are kept.
pub(crate) fn decode(
    bytes: &[u8],
    identity: &LogIdentity,
    max_producers: usize,
) -> Result<(Offset, ProducerTable), DecodeError> {
    let mut fields = Decoder::open(bytes, MAGIC, VERSION)?;
    fields.identity(identity)?;
    let offset = fields.u64()?;
    let table = decode_list(&mut fields, offset, max_producers)?;
    fields.end()?;
    Ok((offset, table))
}

/// Writes the list, without the first `left_out`.
pub(super) fn encode_list(fields: Encoder, table: &ProducerTable, left_out: usize) -> Encoder {
    let mut fields = fields.u32((table.len() - left_out) as u32);
    for (id, state) in table.iter().skip(left_out) {
        fields = fields
            .u64(id)
            .u16(state.epoch)
            .u16(state.batches.len() as u16);
        for batch in &state.batches {
            fields = fields
                .u32(batch.first_sequence)
                .u32(batch.last_sequence)
                .u64(batch.base_offset);
        }
    }
    fields
}

/// Reads the list as of `offset`. What cannot be so is refused: a producer that comes twice or out of
/// order, a batch that does not end below.
pub(super) fn decode_list(
    fields: &mut Decoder<'_>,
    offset: Offset,
    max_producers: usize,
) -> Result<ProducerTable, DecodeError> {
    if i64::try_from(offset).is_err() {
        return Err(DecodeError::Broken);
    }
    let mut table = ProducerTable::default();
    let count = fields.count(PRODUCER_BYTES + BATCH_BYTES)?;
    let mut known = HashSet::with_capacity(count);
    let mut last_used = None;
    let mut workers = false;
    for _ in 0..count {
        let (id, epoch) = (fields.u64()?, fields.u16()?);
        let batches = batches(fields, offset)?;
        let used = batches.back().map(|batch| batch.base_offset);
        workers |= is_worker(id);
        let in_order = workers == is_worker(id) && (workers || used > last_used);
        if !in_order || !known.insert(id) {
            return Err(DecodeError::Broken);
        }
        last_used = used;
        table.restore(id, ProducerState { epoch, batches }, max_producers);
    }
    Ok(table)
}

fn batches(
    fields: &mut Decoder<'_>,
    offset: Offset,
) -> Result<VecDeque<ProducerBatch>, DecodeError> {
    let count = usize::from(fields.u16()?);
    if !(1..=BATCHES_PER_PRODUCER).contains(&count) {
        return Err(DecodeError::Broken);
    }
    let mut batches: VecDeque<ProducerBatch> = VecDeque::with_capacity(count);
    for _ in 0..count {
        let batch = ProducerBatch {
            first_sequence: fields.u32()?,
            last_sequence: fields.u32()?,
            base_offset: fields.u64()?,
        };
        let begins = batches.back().map_or(0, ProducerBatch::next_offset);
        let is_sound = batch.has_sequences()
            && (begins..offset).contains(&batch.base_offset)
            && batch.next_offset() <= offset;
        if !is_sound {
            return Err(DecodeError::Broken);
        }
        batches.push_back(batch);
    }
    Ok(batches)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::crc32c;
    use crate::limits::MAX_PRODUCERS_BYTES;
    use crate::testing::{identity, stamped};
    use millstream_protocol::FIRST_WORKER_PRODUCER_ID;
    use proptest::prelude::*;

    /// Producer, epoch, records: batches that follow each other.
    fn table(batches: &[(u64, u16, u32)]) -> (ProducerTable, Offset) {
        let (mut table, mut end) = (ProducerTable::default(), 0);
        for (id, epoch, records) in batches {
            let batch = stamped(*id, *epoch, 7, *records, end);
            end = batch.next_offset();
            table.note(&batch, 100);
        }
        (table, end)
    }

    const WORKER: u64 = FIRST_WORKER_PRODUCER_ID + 1;

    /// The bytes of the first version. They never change.
    #[test]
    fn the_bytes_are_these() {
        let (table, end) = table(&[(5, 1, 2), (WORKER, 0, 1), (9, 0, 3), (5, 1, 1)]);
        let bytes = encode(end, &table, &identity(), MAX_PRODUCERS_BYTES).expect("room");
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let expected = "
            4d505244 0001 00000000000000000000000012345678 00000003
            0000000000000007 00000003
            0000000000000009 0000 0001
            00000007 00000009 0000000000000003
            0000000000000005 0001 0002
            00000007 00000008 0000000000000000
            00000007 00000007 0000000000000006
            4000000000000001 0000 0001
            00000007 00000007 0000000000000002
        ";
        let expected: String = expected.split_whitespace().collect();
        let (body, crc) = hex.split_at(hex.len() - 8);
        assert_eq!(body, expected);
        assert_eq!(crc, format!("{:08x}", crc32c(&bytes[..bytes.len() - 4])));
        assert_eq!(crc, "4d7b8a76");
        let (offset, read) = decode(&bytes, &identity(), 100).expect("producers");
        assert_eq!(offset, 7);
        assert!(read.iter().eq(table.iter()));
    }

    proptest! {
        #[test]
        fn what_is_handed_over_reads_back(
            batches in proptest::collection::vec((0..6_u64, 0..3_u16, 1..5_u32), 0..60),
            flip in any::<(usize, u8)>(),
        ) {
            // One of them is a worker's.
            let batches: Vec<_> = batches
                .into_iter()
                .map(|(id, epoch, records)| (if id == 3 { WORKER } else { id }, epoch, records))
                .collect();
            let (table, end) = table(&batches);
            let mut bytes = encode(end, &table, &identity(), MAX_PRODUCERS_BYTES).expect("room");
            let (offset, read) = decode(&bytes, &identity(), 100).expect("producers");
            prop_assert_eq!(offset, end);
            prop_assert!(read.iter().eq(table.iter()));
            let byte = flip.0 % bytes.len();
            bytes[byte] ^= 1 << (flip.1 % 8);
            prop_assert!(decode(&bytes, &identity(), 100).is_err());
        }

        /// With a right checksum too, no bytes are taken that cannot be read back the same.
        #[test]
        fn hostile_bytes_are_refused_or_make_sense(
            batches in proptest::collection::vec((0..6_u64, 0..3_u16, 1..5_u32), 0..20),
            changes in proptest::collection::vec(any::<(usize, u8)>(), 1..6),
            cut in any::<Option<usize>>(),
        ) {
            let (table, end) = table(&batches);
            let mut bytes = encode(end, &table, &identity(), MAX_PRODUCERS_BYTES).expect("room");
            bytes.truncate(bytes.len() - 4);
            if let Some(cut) = cut {
                bytes.truncate(cut % (bytes.len() + 1));
            }
            for (at, byte) in changes {
                let at = at % bytes.len().max(1);
                if let Some(changed) = bytes.get_mut(at) {
                    *changed = byte;
                }
            }
            let crc = crc32c(&bytes);
            bytes.extend_from_slice(&crc.to_be_bytes());
            if let Ok((offset, read)) = decode(&bytes, &identity(), 100) {
                let again = encode(offset, &read, &identity(), MAX_PRODUCERS_BYTES);
                prop_assert_eq!(again, Some(bytes));
            }
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        /// A producer and its batches: first and last sequence, base offset.
        type Listed<'a> = (u64, &'a [(u32, u32, u64)]);
        let sealed = |offset: u64, fields: &[Listed<'_>]| {
            let list = Encoder::new(MAGIC, VERSION)
                .identity(&identity())
                .u64(offset)
                .u32(fields.len() as u32);
            let list = fields.iter().fold(list, |list, (id, batches)| {
                let list = list.u64(*id).u16(0).u16(batches.len() as u16);
                batches.iter().fold(list, |list, (first, last, base)| {
                    list.u32(*first).u32(*last).u64(*base)
                })
            });
            decode(&list.seal(), &identity(), 100).map(|(_, table)| table.len())
        };
        let broken = Err(DecodeError::Broken);
        assert_eq!(sealed(9, &[(1, &[(0, 1, 3)]), (2, &[(0, 0, 8)])]), Ok(2));
        // It ends behind the offset, or overflows.
        assert_eq!(sealed(9, &[(1, &[(0, 1, 8)])]), broken);
        assert_eq!(sealed(u64::MAX, &[(1, &[(0, 9, u64::MAX - 3)])]), broken);
        // Batches that overlap or go back; none; sequences that are none.
        assert_eq!(sealed(9, &[(1, &[(0, 1, 3), (2, 2, 4)])]), broken);
        assert_eq!(sealed(9, &[(1, &[(0, 1, 3), (2, 2, 1)])]), broken);
        assert_eq!(sealed(9, &[(1, &[])]), broken);
        assert_eq!(sealed(9, &[(1, &[(1 << 31, 1 << 31, 3)])]), broken);
        // One that comes twice, two that were used last at the same offset, out of order.
        assert_eq!(sealed(9, &[(1, &[(0, 0, 3)]), (1, &[(1, 1, 4)])]), broken);
        assert_eq!(sealed(9, &[(1, &[(0, 0, 3)]), (2, &[(0, 0, 3)])]), broken);
        assert_eq!(sealed(9, &[(1, &[(0, 0, 4)]), (2, &[(0, 0, 3)])]), broken);
        assert_eq!(
            sealed(9, &[(WORKER, &[(0, 0, 3)]), (2, &[(0, 0, 4)])]),
            broken
        );
        // Nothing lies below 0.
        assert_eq!(sealed(0, &[]), Ok(0));
        assert_eq!(sealed(0, &[(1, &[(0, 0, 0)])]), broken);
    }

    #[test]
    fn a_count_beyond_the_bytes_is_refused() {
        let bytes = Encoder::new(MAGIC, VERSION)
            .identity(&identity())
            .u64(9)
            .u32(u32::MAX)
            .seal();
        let read = decode(&bytes, &identity(), 100);
        assert_eq!(read.map(|read| read.0), Err(DecodeError::Broken));
    }

    #[test]
    fn the_least_recently_used_are_left_out_but_no_workers() {
        let batches = [(WORKER, 0, 1), (1, 0, 1), (2, 0, 1), (1, 0, 1), (3, 0, 1)];
        let (table, end) = table(&batches);
        let whole = encode(end, &table, &identity(), MAX_PRODUCERS_BYTES).expect("room");
        let ids = |max_bytes| {
            let bytes = encode(end, &table, &identity(), max_bytes)?;
            assert!(bytes.len() <= max_bytes);
            let (_, read) = decode(&bytes, &identity(), 100).expect("producers");
            Some(read.iter().map(|(id, _)| id).collect::<Vec<_>>())
        };
        assert_eq!(ids(whole.len()), Some(vec![2, 1, 3, WORKER]));
        assert_eq!(ids(whole.len() - 1), Some(vec![1, 3, WORKER]));
        assert_eq!(ids(whole.len() - 29), Some(vec![3, WORKER]));
        assert_eq!(ids(FRAME_BYTES + 28), Some(vec![WORKER]));
        assert_eq!(ids(FRAME_BYTES + 27), None);
        // The receiver keeps as many as it remembers.
        let (_, read) = decode(&whole, &identity(), 1).expect("producers");
        assert!(read.iter().map(|(id, _)| id).eq([3, WORKER]));
    }
}
