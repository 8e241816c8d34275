//! What a replica keeps on its disk besides its log.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 1 | format version, 2 |
//! | 1 | 8 | directory |
//! | 9 | 4 | promised epoch |
//! | 13 | 1 | 1 if it is trusted, else 0 |
//! | 14 | 8 | deleted; version 1 ends before it |
//! | 22 | 8 | committed |

use millstream_planted::planted;
use millstream_protocol::{LeaderEpoch, Offset};

const VERSION: u8 = 2;

/// Without the offsets behind.
const VERSION_1: u8 = 1;
const BYTES_1: usize = 14;

/// The identity of the directory that holds a replica's log. The metadata quorum hands them out,
/// and a later one is greater: a directory that was emptied, replaced or damaged gets another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DirectoryId(pub u64);

/// What a replica keeps on its disk besides its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Durable {
    /// Which directory this is.
    pub directory: DirectoryId,
    /// It follows no leader of an older epoch.
    pub promised: LeaderEpoch,
    /// Whether it counts in majorities: everything that it has acknowledged is there.
    pub trusted: bool,
    /// Somebody has had all records below deleted. All of them were committed, and on this disk.
    pub deleted: Offset,
    /// Everything below is committed, and on this disk, as was known some time ago.
    pub committed: Offset,
}

impl Durable {
    /// Its length in bytes.
    pub const BYTES: usize = 30;

    /// What a replica begins with that the metadata quorum has just given the partition, in a
    /// directory that never was another replica's: empty, and trusted, as there is nothing that it
    /// could have forgotten. `epoch` is the partition's newest epoch as of that: whoever led before
    /// does not get its help.
    pub fn assigned(directory: DirectoryId, epoch: LeaderEpoch) -> Self {
        Self {
            directory,
            promised: epoch,
            trusted: true,
            deleted: 0,
            committed: 0,
        }
    }

    /// What a directory begins with that was emptied, replaced or damaged, or whose relaxed log has
    /// gone through a loss of power, after the metadata quorum has given it a new identity.
    /// `epoch` is the partition's newest epoch as of that: by promising it, the replica does not
    /// help a leader that its forgotten promises were against.
    ///
    /// It is not trusted until a leader finds that it has everything.
    pub fn registered(directory: DirectoryId, epoch: LeaderEpoch) -> Self {
        Self {
            directory,
            trusted: planted!(VoteByEmptyDisk),
            ..Self::assigned(directory, epoch)
        }
    }

    /// The bytes that a shell stores.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [VERSION; Self::BYTES];
        bytes[1..9].copy_from_slice(&self.directory.0.to_be_bytes());
        bytes[9..13].copy_from_slice(&self.promised.to_be_bytes());
        bytes[13] = self.trusted.into();
        bytes[14..22].copy_from_slice(&self.deleted.to_be_bytes());
        bytes[22..].copy_from_slice(&self.committed.to_be_bytes());
        bytes
    }

    /// Reads it back; `None` if these are not its bytes.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (version, rest) = bytes.split_first()?;
        let (directory, rest) = rest.split_first_chunk()?;
        let (promised, rest) = rest.split_first_chunk()?;
        let (trusted, rest) = rest.split_first()?;
        let (deleted, committed) = match (*version, bytes.len()) {
            (VERSION_1, BYTES_1) => (0, 0),
            (VERSION, Self::BYTES) => {
                let (deleted, rest) = rest.split_first_chunk()?;
                let committed = rest.try_into().ok()?;
                (u64::from_be_bytes(*deleted), u64::from_be_bytes(committed))
            }
            _ => return None,
        };
        (*trusted <= 1).then_some(Self {
            directory: DirectoryId(u64::from_be_bytes(*directory)),
            promised: LeaderEpoch::from_be_bytes(*promised),
            trusted: *trusted == 1,
            deleted,
            committed,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_bytes_are_read_back() {
        let durable = Durable {
            directory: DirectoryId(0x0102_0304),
            promised: 0x0506,
            trusted: true,
            deleted: 0x0708,
            committed: 0x090a,
        };
        let bytes = durable.to_bytes();
        let begins = [2, 0, 0, 0, 0, 1, 2, 3, 4, 0, 0, 5, 6, 1];
        let offsets = [0, 0, 0, 0, 0, 0, 7, 8, 0, 0, 0, 0, 0, 0, 9, 10];
        assert_eq!(bytes, *[&begins[..], &offsets].concat());
        assert_eq!(Durable::from_bytes(&bytes), Some(durable));
        for (place, byte) in [(0, 1), (0, 3), (13, 2)] {
            let mut bytes = bytes;
            bytes[place] = byte;
            assert_eq!(Durable::from_bytes(&bytes), None);
        }
        for length in 0..bytes.len() {
            assert_eq!(Durable::from_bytes(&bytes[..length]), None);
        }
    }

    #[test]
    fn what_an_older_release_has_stored_is_read() {
        let bytes = [1, 0, 0, 0, 0, 1, 2, 3, 4, 0, 0, 5, 6, 1];
        let expected = Durable::assigned(DirectoryId(0x0102_0304), 0x0506);
        assert_eq!(Durable::from_bytes(&bytes), Some(expected));
    }
}
