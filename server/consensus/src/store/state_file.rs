//! The little state beside the log, in a file that is written over in place.
//!
//! ```text
//! at 0 and 4096, a slot each:
//!   4 bytes  CRC-32C of the rest of the slot, little-endian
//!   4 bytes  length of the body, little-endian
//!   8 bytes  generation, little-endian: of two sound slots, the higher one counts
//!   rest     the body: the format version and the state in postcard
//! ```
//!
//! A generation has the slot that the one before does not have, so that a write that a power cut
//! tears leaves the other. The vote and the borders are written twice, once to each slot: a slot that
//! has gone bad does not take them back. How far the log is committed is written once.

use std::io::{self, ErrorKind, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use millstream_log::storage::{Storage, StorageFile};
use millstream_protocol::Offset;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{FileError, crc32c, create_file};
use crate::NodeId;
use crate::codec::{self, CodecError};
use crate::error::StorageFailed;
use crate::types::{LogId, Vote};

const SLOT_BYTES: usize = 4096;
const HEAD_BYTES: usize = 16;
const MAX_BODY_BYTES: usize = SLOT_BYTES - HEAD_BYTES;

/// Whose directory it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) cluster_id: Uuid,
    pub(crate) node_id: NodeId,
}

/// An offset of the log, and the index of the entry that stands there or is to come there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Origin {
    pub(crate) offset: Offset,
    pub(crate) index: u64,
}

/// What is durable beside the log. Grows only with another version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Durable {
    pub(crate) identity: Identity,
    pub(crate) vote: Option<Vote>,
    pub(crate) committed: Option<LogId>,
    /// The last entry that was dropped for a snapshot.
    pub(crate) purged: Option<LogId>,
    pub(crate) origin: Origin,
}

/// How often a state is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Copies {
    /// To one slot.
    One,
    /// To both.
    Two,
}

/// The file. After a failed write it is not to be written any more.
#[derive(Debug)]
pub(crate) struct StateFile {
    file: Arc<dyn StorageFile>,
    path: PathBuf,
    generation: u64,
}

impl StateFile {
    /// Opens the file, and reads it; `None` if there is none.
    pub(crate) fn open(
        storage: &dyn Storage,
        path: &Path,
    ) -> Result<Option<(Self, Durable)>, FileError> {
        let fail = |doing, error: io::Error| StorageFailed::new(doing, path, error);
        let file = match storage.open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(fail("open", error).into()),
        };
        // What is acted upon has to be durable, and not only in memory: after a kill it may not have
        // been synced, and after a failed sync memory may show what the disk does not hold.
        let bytes = file
            .sync_data()
            .and_then(|()| file.forget_cached(0))
            .and_then(|()| file.read_at(0, 2 * SLOT_BYTES))
            .map_err(|error| fail("read", error))?;
        let path = path.to_owned();
        let newest = bytes
            .chunks(SLOT_BYTES)
            .filter_map(read_slot)
            .max_by_key(|(generation, _)| *generation);
        let Some((generation, body)) = newest else {
            let reason = "neither of its slots is sound".to_owned();
            return Err(FileError::Damaged { path, reason });
        };
        match codec::decode(body, MAX_BODY_BYTES) {
            Ok(durable) => {
                let state = Self {
                    file,
                    path,
                    generation,
                };
                Ok(Some((state, durable)))
            }
            Err(CodecError::Version(version)) => Err(FileError::Version { path, version }),
            Err(error) => {
                let reason = error.to_string();
                Err(FileError::Damaged { path, reason })
            }
        }
    }

    /// Makes the file. It has its name when all of it is durable.
    pub(crate) fn create(
        storage: &dyn Storage,
        path: &Path,
        durable: &Durable,
    ) -> Result<Self, StorageFailed> {
        let mut bytes = Vec::with_capacity(2 * SLOT_BYTES);
        for generation in 0..2 {
            bytes.extend(
                slot(generation, durable)
                    .map_err(|error| StorageFailed::new("write", path, error))?,
            );
        }
        let file = create_file(storage, path, &[&bytes])?;
        Ok(Self {
            file,
            path: path.to_owned(),
            generation: 1,
        })
    }

    /// Writes another state. Durable when it returns.
    pub(crate) fn write(&mut self, durable: &Durable, copies: Copies) -> Result<(), StorageFailed> {
        self.write_slot(durable)?;
        if copies == Copies::Two {
            self.write_slot(durable)?;
        }
        Ok(())
    }

    fn write_slot(&mut self, durable: &Durable) -> Result<(), StorageFailed> {
        let generation = self.generation + 1;
        let fail = |doing, reason: String| StorageFailed::new(doing, &self.path, reason);
        let slot = slot(generation, durable).map_err(|error| fail("write", error.to_string()))?;
        let position = generation % 2 * SLOT_BYTES as u64;
        self.file
            .write_vectored_at(&mut [IoSlice::new(&slot)], position)
            .map_err(|error| fail("write", error.to_string()))?;
        self.file
            .sync_data()
            .map_err(|error| fail("sync", error.to_string()))?;
        self.generation = generation;
        Ok(())
    }
}

fn slot(generation: u64, durable: &Durable) -> Result<Vec<u8>, CodecError> {
    let body = codec::encode(durable, MAX_BODY_BYTES)?;
    let mut slot = vec![0; 4];
    slot.extend_from_slice(&(body.len() as u32).to_le_bytes());
    slot.extend_from_slice(&generation.to_le_bytes());
    slot.extend_from_slice(&body);
    slot.resize(SLOT_BYTES, 0);
    let crc = crc32c(&[&slot[4..]]);
    slot[..4].copy_from_slice(&crc.to_le_bytes());
    Ok(slot)
}

/// The generation and the body of a slot; `None` if it is not sound.
fn read_slot(slot: &[u8]) -> Option<(u64, &[u8])> {
    let (crc, rest) = slot.split_first_chunk::<4>()?;
    if slot.len() != SLOT_BYTES || u32::from_le_bytes(*crc) != crc32c(&[rest]) {
        return None;
    }
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (generation, rest) = rest.split_first_chunk::<8>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    Some((u64::from_le_bytes(*generation), rest.get(..length)?))
}

#[cfg(test)]
mod tests {
    use millstream_log::storage::MemoryStorage;
    use openraft::CommittedLeaderId;
    use proptest::prelude::*;

    use super::*;

    const PATH: &str = "/state";

    fn durable(term: u64) -> Durable {
        Durable {
            identity: Identity {
                cluster_id: Uuid::from_u128(1),
                node_id: 2,
            },
            vote: Some(Vote::new(term, 2)),
            committed: None,
            purged: None,
            origin: Origin::default(),
        }
    }

    fn read(storage: &MemoryStorage) -> Result<Option<Durable>, FileError> {
        let opened = StateFile::open(storage, Path::new(PATH))?;
        Ok(opened.map(|(_, durable)| durable))
    }

    #[test]
    fn a_slot_that_goes_bad_takes_no_vote_back() {
        let storage = MemoryStorage::new();
        let path = Path::new(PATH);
        let mut file = StateFile::create(&storage, path, &durable(1)).expect("a file");
        file.write(&durable(2), Copies::Two).expect("a write");
        for byte in [40, 40 + SLOT_BYTES as u64] {
            assert!(storage.flip_bit(path, byte, 3));
            assert_eq!(read(&storage), Ok(Some(durable(2))));
            assert!(storage.flip_bit(path, byte, 3));
        }
        assert!(storage.flip_bit(path, 40, 3));
        assert!(storage.flip_bit(path, 40 + SLOT_BYTES as u64, 3));
        assert!(matches!(read(&storage), Err(FileError::Damaged { .. })));
    }

    #[test]
    fn what_one_slot_holds_is_found_whichever_it_is() {
        let storage = MemoryStorage::new();
        let path = Path::new(PATH);
        let mut file = StateFile::create(&storage, path, &durable(1)).expect("a file");
        for term in 2..6 {
            file.write(&durable(term), Copies::One).expect("a write");
            assert_eq!(read(&storage), Ok(Some(durable(term))));
        }
    }

    #[test]
    fn a_later_version_is_named() {
        let storage = MemoryStorage::new();
        let mut slot = slot(0, &durable(1)).expect("a slot");
        slot[HEAD_BYTES] += 1;
        let crc = crc32c(&[&slot[4..]]);
        slot[..4].copy_from_slice(&crc.to_le_bytes());
        create_file(&storage, Path::new(PATH), &[&slot]).expect("a file");
        let path = PATH.into();
        assert_eq!(read(&storage), Err(FileError::Version { path, version: 2 }));
    }

    #[test]
    fn the_bytes_are_those_of_the_format() {
        let log_id = |index| Some(LogId::new(CommittedLeaderId::new(3, 2), index));
        let state = Durable {
            committed: log_id(300),
            purged: log_id(4),
            origin: Origin {
                offset: 5,
                index: 6,
            },
            ..durable(7)
        };
        let slot = slot(9, &state).expect("a slot");
        let head = [128, 71, 225, 106, 34, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0];
        let mut body = vec![1, 16];
        body.extend_from_slice(Uuid::from_u128(1).as_bytes());
        body.extend_from_slice(&[2, 1, 7, 2, 0, 1, 3, 2, 172, 2, 1, 3, 2, 4, 5, 6]);
        assert_eq!(slot[HEAD_BYTES..HEAD_BYTES + body.len()], body);
        assert_eq!(slot[..HEAD_BYTES], head);
    }

    proptest! {
        #[test]
        fn any_bytes_are_no_slot(mut bytes in proptest::collection::vec(any::<u8>(), SLOT_BYTES)) {
            prop_assert_eq!(read_slot(&bytes), None);
            // With a checksum that fits, too, no length is trusted.
            let crc = crc32c(&[&bytes[4..]]);
            bytes[..4].copy_from_slice(&crc.to_le_bytes());
            if let Some((_, body)) = read_slot(&bytes) {
                prop_assert!(body.len() <= MAX_BODY_BYTES);
            }
        }
    }
}
