//! A snapshot of what is derived from all batches below an offset: producers and leader epochs.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 4 | magic `MSNP` |
//! | 4 | 2 | format version, 1 |
//! | 6 | 16 | topic id |
//! | 22 | 4 | partition |
//! | 26 | 8 | the log's salt |
//! | 34 | 8 | the offset: every batch below it is taken into account, and was durable |
//! | 42 | 4 | count of leader epochs |
//! | 46 | 12 each | leader epochs, oldest first: epoch (4), start offset (8) |
//! | … | … | the list of producers, see [`super::producers`] |
//! | … | 4 | CRC-32C of the above |

use millstream_protocol::Offset;

use super::producers::{decode_list, encode_list};
use super::{DecodeError, Decoder, Encoder};
use crate::config::LogIdentity;
use crate::epochs::EpochList;
use crate::producers::ProducerTable;

const MAGIC: [u8; 4] = *b"MSNP";
const VERSION: u16 = 1;

const EPOCH_BYTES: usize = 12;

/// What is derived from all batches below `offset`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot {
    pub(crate) offset: Offset,
    pub(crate) epochs: EpochList,
    pub(crate) producers: ProducerTable,
}

pub(crate) fn encode(
    offset: Offset,
    epochs: &EpochList,
    producers: &ProducerTable,
    identity: &LogIdentity,
    salt: u64,
) -> Vec<u8> {
    let mut fields = Encoder::new(MAGIC, VERSION)
        .identity(identity)
        .u64(salt)
        .u64(offset)
        .u32(epochs.starts().len() as u32);
    for (epoch, start) in epochs.starts() {
        fields = fields.u32(*epoch).u64(*start);
    }
    encode_list(fields, producers, 0).seal()
}

pub(crate) fn decode(
    bytes: &[u8],
    identity: &LogIdentity,
    salt: u64,
    max_producers: usize,
) -> Result<Snapshot, DecodeError> {
    let mut fields = Decoder::open(bytes, MAGIC, VERSION)?;
    fields.identity(identity)?;
    if fields.u64()? != salt {
        return Err(DecodeError::OtherPartition);
    }
    let mut snapshot = Snapshot {
        offset: fields.u64()?,
        ..Snapshot::default()
    };
    for _ in 0..fields.count(EPOCH_BYTES)? {
        snapshot.epochs.note(fields.u32()?, fields.u64()?);
    }
    snapshot.producers = decode_list(&mut fields, snapshot.offset, max_producers)?;
    fields.end()?;
    Ok(snapshot)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{identity, stamped};
    use millstream_protocol::FIRST_WORKER_PRODUCER_ID;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_snapshot_reads_back(
            epochs in proptest::collection::vec((1..9_u32, 1..9_u64), 0..9),
            batches in proptest::collection::vec((0..4_u64, 0..2_u16, 1..4_u32), 0..30),
            flip in any::<(usize, u8)>(),
        ) {
            let mut list = EpochList::default();
            let (mut epoch, mut start) = (0, 0);
            for (epochs, offsets) in epochs {
                (epoch, start) = (epoch + epochs, start + offsets);
                list.note(epoch, start);
            }
            let mut table = ProducerTable::default();
            for (offset, (id, epoch, records)) in batches.into_iter().enumerate() {
                // One of them is a worker's.
                let id = if id == 3 { FIRST_WORKER_PRODUCER_ID } else { id };
                table.note(&stamped(id, epoch, 0, records, 10 * offset as u64), 3);
            }
            let mut bytes = encode(777, &list, &table, &identity(), 9);
            let read = decode(&bytes, &identity(), 9, 3).expect("a snapshot");
            prop_assert_eq!(read.offset, 777);
            prop_assert_eq!(&read.epochs, &list);
            prop_assert!(read.producers.iter().eq(table.iter()));
            let byte = flip.0 % bytes.len();
            bytes[byte] ^= 1 << (flip.1 % 8);
            prop_assert!(decode(&bytes, &identity(), 9, 3).is_err());
        }
    }

    #[test]
    fn a_count_beyond_the_bytes_is_refused() {
        let bytes = Encoder::new(MAGIC, VERSION)
            .identity(&identity())
            .u64(9)
            .u64(77)
            .u32(u32::MAX)
            .seal();
        let read = decode(&bytes, &identity(), 9, 3);
        assert_eq!(read.map(|read| read.offset), Err(DecodeError::Broken));
    }
}
