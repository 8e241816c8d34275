//! What a replica keeps on its disk besides its log.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 1 | format version, 1 |
//! | 1 | 8 | directory |
//! | 9 | 4 | promised epoch |
//! | 13 | 1 | 1 if it is trusted, else 0 |

use millstream_protocol::LeaderEpoch;

const VERSION: u8 = 1;

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
}

impl Durable {
    /// Its length in bytes.
    pub const BYTES: usize = 14;

    /// What a replica begins with that the metadata quorum has just given the partition, in a
    /// directory that never was another replica's: empty, and trusted, as there is nothing that it
    /// could have forgotten. `epoch` is the partition's newest epoch as of that: whoever led before
    /// does not get its help.
    pub fn assigned(directory: DirectoryId, epoch: LeaderEpoch) -> Self {
        Self {
            directory,
            promised: epoch,
            trusted: true,
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
            promised: epoch,
            trusted: planted!(VoteByEmptyDisk),
        }
    }

    /// The bytes that a shell stores.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [VERSION; Self::BYTES];
        bytes[1..9].copy_from_slice(&self.directory.0.to_be_bytes());
        bytes[9..13].copy_from_slice(&self.promised.to_be_bytes());
        bytes[13] = self.trusted.into();
        bytes
    }

    /// Reads it back; `None` if these are not its bytes.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; Self::BYTES] = bytes.try_into().ok()?;
        let (version, rest) = bytes.split_first()?;
        let (directory, rest) = rest.split_first_chunk()?;
        let (promised, rest) = rest.split_first_chunk()?;
        let trusted = match rest {
            [0] => false,
            [1] => true,
            _ => return None,
        };
        (*version == VERSION).then_some(Self {
            directory: DirectoryId(u64::from_be_bytes(*directory)),
            promised: LeaderEpoch::from_be_bytes(*promised),
            trusted,
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
        };
        let bytes = durable.to_bytes();
        assert_eq!(bytes, [1, 0, 0, 0, 0, 1, 2, 3, 4, 0, 0, 5, 6, 1]);
        assert_eq!(Durable::from_bytes(&bytes), Some(durable));
        for (place, byte) in [(0, 2), (13, 2)] {
            let mut bytes = bytes;
            bytes[place] = byte;
            assert_eq!(Durable::from_bytes(&bytes), None);
        }
        assert_eq!(Durable::from_bytes(&bytes[1..]), None);
    }
}
