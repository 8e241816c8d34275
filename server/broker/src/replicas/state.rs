//! What is on the disk about a replica, besides its log.
//!
//! | first byte | then | meaning |
//! |---|---|---|
//! | 1 | see [`Durable::to_bytes`] | a replica, and what it has promised |
//! | 255 | directory (8 bytes) | that directory has lost something, and is to begin anew under another number |

use millstream_replication::{DirectoryId, Durable};

const LOST: u8 = 0xff;

/// What is on the disk about a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// It is there, and has promised this.
    Replica(Durable),
    /// What was in this directory does not count any more.
    Lost(DirectoryId),
}

impl State {
    pub(crate) fn directory(self) -> DirectoryId {
        match self {
            Self::Replica(durable) => durable.directory,
            Self::Lost(directory) => directory,
        }
    }

    pub(crate) fn to_bytes(self) -> Vec<u8> {
        match self {
            Self::Replica(durable) => durable.to_bytes().to_vec(),
            Self::Lost(directory) => {
                let mut bytes = vec![LOST];
                bytes.extend(directory.0.to_be_bytes());
                bytes
            }
        }
    }

    /// Reads it back; `None` if these are not its bytes.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        match bytes.split_first()? {
            (&LOST, directory) => {
                let directory = directory.try_into().ok().map(u64::from_be_bytes)?;
                Some(Self::Lost(DirectoryId(directory)))
            }
            _ => Durable::from_bytes(bytes).map(Self::Replica),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_bytes_are_read_back() {
        let durable = Durable::assigned(DirectoryId(7), 3);
        for state in [State::Replica(durable), State::Lost(DirectoryId(9))] {
            assert_eq!(State::from_bytes(&state.to_bytes()), Some(state));
        }
        assert_eq!(State::from_bytes(&[LOST, 1]), None);
        assert_eq!(State::from_bytes(&[]), None);
    }
}
