//! A snapshot in bytes, on the disk and on its way to a peer.
//!
//! ```text
//! 1 byte   the format version
//! 8 bytes  the image's revision, little-endian
//! 4 bytes  CRC-32C of the revision and the image, little-endian
//! rest     the image: [`Image::encode`]
//! ```
//!
//! The newest one is kept in a file, which takes the place of the one before as a whole:
//!
//! ```text
//! 4 bytes  CRC-32C of the description, little-endian
//! 4 bytes  length of the description, little-endian
//! n bytes  the description (the last entry, the members): the format version, postcard
//! rest     the snapshot
//! ```

use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;

use millstream_log::storage::Storage;
use millstream_metadata::{CodecError as ImageError, Image};
use parking_lot::Mutex;
use thiserror::Error;

use super::{FileError, crc32c, create_file};
use crate::codec::{self, CodecError};
use crate::error::StorageFailed;
use crate::limits::{MAX_DESCRIPTION_BYTES, MAX_SNAPSHOT_FILE_BYTES};
use crate::types::{LogId, SnapshotMeta};

const FORMAT_VERSION: u8 = 1;
const HEAD_BYTES: usize = 13;

/// A snapshot that cannot be read or written.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum SnapshotError {
    #[error("a snapshot of {0} bytes is too short")]
    TooShort(usize),
    #[error("a snapshot has version {0}, which this release does not know")]
    Version(u8),
    #[error("a snapshot's checksum does not match")]
    Checksum,
    #[error(transparent)]
    Image(#[from] ImageError),
}

pub(crate) fn encode(image: &Image, revision: u64) -> Result<Vec<u8>, SnapshotError> {
    let image = image.encode()?;
    let revision = revision.to_le_bytes();
    let mut bytes = Vec::with_capacity(HEAD_BYTES + image.len());
    bytes.push(FORMAT_VERSION);
    bytes.extend_from_slice(&revision);
    bytes.extend_from_slice(&crc32c(&[&revision, &image]).to_le_bytes());
    bytes.extend_from_slice(&image);
    Ok(bytes)
}

/// What is in a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Decoded {
    pub(crate) image: Image,
    pub(crate) revision: u64,
    /// The snapshot's length.
    pub(crate) bytes: usize,
}

pub(crate) fn decode(bytes: &[u8]) -> Result<Decoded, SnapshotError> {
    let Some(([version, head @ ..], image)) = bytes.split_first_chunk::<HEAD_BYTES>() else {
        return Err(SnapshotError::TooShort(bytes.len()));
    };
    if *version != FORMAT_VERSION {
        return Err(SnapshotError::Version(*version));
    }
    let [a, b, c, d, e, f, g, h, crc @ ..] = *head;
    let revision = [a, b, c, d, e, f, g, h];
    if crc32c(&[&revision, image]) != u32::from_le_bytes(crc) {
        return Err(SnapshotError::Checksum);
    }
    Ok(Decoded {
        image: Image::decode(image)?,
        revision: u64::from_le_bytes(revision),
        bytes: bytes.len(),
    })
}

/// The newest snapshot, in its file.
#[derive(Debug)]
pub(crate) struct Snapshots {
    storage: Arc<dyn Storage>,
    path: PathBuf,
    newest: Mutex<Newest>,
}

/// What is known of the newest snapshot.
#[derive(Clone, Copy, Debug, Default)]
struct Newest {
    last: Option<LogId>,
    /// By how much a sum of records exceeds what they have come to.
    excess_bytes: u64,
}

impl Snapshots {
    pub(crate) fn new(storage: Arc<dyn Storage>, path: PathBuf) -> Self {
        Self {
            storage,
            path,
            newest: Mutex::default(),
        }
    }

    /// The newest snapshot and its description.
    pub(crate) fn read(&self) -> Result<Option<(SnapshotMeta, Vec<u8>)>, FileError> {
        let file = match self.storage.open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.fail("open", error).into()),
        };
        let length = file.length().map_err(|error| self.fail("read", error))?;
        let limit = MAX_SNAPSHOT_FILE_BYTES + MAX_DESCRIPTION_BYTES;
        let length = usize::try_from(length).ok().filter(|it| *it <= limit);
        let Some(length) = length else {
            return Err(self.damaged(format!("it is longer than {limit} bytes")));
        };
        let bytes = file.read_at(0, length);
        let bytes = bytes.map_err(|error| self.fail("read", error))?;
        let Some((description, snapshot)) = split(&bytes) else {
            return Err(self.damaged("its description is not sound"));
        };
        let meta: SnapshotMeta = match codec::decode(description, MAX_DESCRIPTION_BYTES) {
            Ok(meta) => meta,
            Err(CodecError::Version(version)) => return Err(self.version(version)),
            Err(error) => return Err(self.damaged(error)),
        };
        let mut newest = self.newest.lock();
        newest.last = newest.last.max(meta.last_log_id);
        Ok(Some((meta, snapshot.to_vec())))
    }

    /// The newest image and its revision, with the description.
    pub(crate) fn load(&self) -> Result<Option<(SnapshotMeta, Decoded)>, FileError> {
        let Some((meta, bytes)) = self.read()? else {
            return Ok(None);
        };
        match decode(&bytes) {
            Ok(decoded) => Ok(Some((meta, decoded))),
            Err(SnapshotError::Version(version)) => Err(self.version(version)),
            Err(error) => Err(self.damaged(error)),
        }
    }

    /// Keeps a snapshot, unless there is a newer one. Durable when it returns. `sum_bytes` is what
    /// the image was thought to have at most.
    pub(crate) fn keep(
        &self,
        meta: &SnapshotMeta,
        bytes: &[u8],
        sum_bytes: u64,
    ) -> Result<(), StorageFailed> {
        let mut newest = self.newest.lock();
        if newest.last > meta.last_log_id {
            return Ok(());
        }
        let description = codec::encode(meta, MAX_DESCRIPTION_BYTES)
            .map_err(|error| self.fail("write", error))?;
        let crc = crc32c(&[&description]).to_le_bytes();
        let length = (description.len() as u32).to_le_bytes();
        let parts: [&[u8]; 4] = [&crc, &length, &description, bytes];
        create_file(&*self.storage, &self.path, &parts)?;
        *newest = Newest {
            last: meta.last_log_id,
            excess_bytes: sum_bytes.saturating_sub(bytes.len() as u64),
        };
        Ok(())
    }

    /// By how much the sum of a snapshot and all records since exceeds what they have come to, as
    /// far as the newest snapshot shows.
    pub(crate) fn excess_bytes(&self) -> u64 {
        self.newest.lock().excess_bytes
    }

    fn version(&self, version: u8) -> FileError {
        let path = self.path.clone();
        FileError::Version { path, version }
    }

    fn damaged(&self, reason: impl ToString) -> FileError {
        FileError::Damaged {
            path: self.path.clone(),
            reason: reason.to_string(),
        }
    }

    pub(crate) fn fail(&self, doing: &'static str, reason: impl ToString) -> StorageFailed {
        StorageFailed::new(doing, &self.path, reason)
    }
}

/// The description and the snapshot; `None` if the description is not sound.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (crc, rest) = bytes.split_first_chunk::<4>()?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    let (description, snapshot) = rest.split_at_checked(length)?;
    (u32::from_le_bytes(*crc) == crc32c(&[description])).then_some((description, snapshot))
}

#[cfg(test)]
mod tests {
    use millstream_log::storage::MemoryStorage;

    use super::*;

    #[test]
    fn the_bytes_are_those_of_the_format() {
        let bytes = encode(&Image::default(), 0x0102).expect("a snapshot");
        let image = Image::default().encode().expect("an image");
        assert_eq!(bytes[..9], [1, 2, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[HEAD_BYTES..], image);
        let decoded = decode(&bytes).expect("a snapshot");
        assert_eq!(decoded.image, Image::default());
        assert_eq!((decoded.revision, decoded.bytes), (0x0102, bytes.len()));
    }

    #[test]
    fn a_snapshot_that_is_not_whole_is_refused() {
        let bytes = encode(&Image::default(), 7).expect("a snapshot");
        for length in 0..bytes.len() {
            assert!(decode(&bytes[..length]).is_err());
        }
        for byte in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[byte] ^= 0x10;
            assert!(decode(&bytes).is_err(), "byte {byte}");
        }
    }

    #[test]
    fn a_file_that_is_not_sound_is_an_error() {
        let storage = MemoryStorage::new();
        let path = PathBuf::from("/image");
        let snapshots = Snapshots::new(Arc::new(storage.clone()), path.clone());
        let bytes = encode(&Image::default(), 7).expect("a snapshot");
        let meta = SnapshotMeta::default();
        snapshots.keep(&meta, &bytes, 0).expect("a write");
        assert_eq!(snapshots.read(), Ok(Some((meta, bytes))));
        let length = storage.content(&path).expect("a file").len() as u64;
        for byte in 0..length {
            assert!(storage.flip_bit(&path, byte, 4));
            let error = snapshots.load().expect_err("no snapshot");
            assert!(
                matches!(error, FileError::Damaged { .. } | FileError::Version { .. }),
                "byte {byte}: {error}"
            );
            assert!(storage.flip_bit(&path, byte, 4));
        }
        assert!(matches!(snapshots.load(), Ok(Some(_))));
    }
}
