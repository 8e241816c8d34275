//! What brokers ask of each other besides consensus and replication.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 1 | format version, 1 |
//! | 1 | 1 | what is asked: 1 a command, 2 a beat, 3 what a log knows of its producers |
//! | 2 | 1 | how often it was passed on: only commands are |
//! | 3 | | [`Command::encode`]; [`Beat::encode`]; a [`ProducersWanted`], postcard |
//!
//! The answers are those of [`Answer::encode`](millstream_metadata::Answer::encode) and
//! [`BeatAnswer::encode`](millstream_metadata::beat::BeatAnswer::encode); of producers, how many bytes there
//! are (4 bytes), and those asked for.

use millstream_metadata::Command;
use millstream_metadata::beat::Beat;
use millstream_protocol::{ErrorCode, Offset, TopicPartition, WireError};
use serde::{Deserialize, Serialize};

const FORMAT_VERSION: u8 = 1;
const PROPOSE: u8 = 1;
const BEAT: u8 = 2;
const PRODUCERS: u8 = 3;

/// What one answer has of what a log knows of its producers, bytes.
pub(super) const PRODUCERS_PIECE_BYTES: usize = 2 << 20;

/// What a log knew of its producers at an offset, as another replica's log is to begin there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ProducersWanted {
    /// The partition.
    pub(super) partition: TopicPartition,
    /// The offset.
    pub(super) at: Offset,
    /// How many bytes of it are there already.
    pub(super) have: u32,
}

/// What a broker asks of another.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum ClusterRequest {
    /// Has whoever leads the metadata quorum carry out a command.
    Propose {
        /// How often it was passed on.
        hops: u8,
        /// The command.
        command: Command,
    },
    /// Tells the steward of the cluster that a broker is there.
    Beat(Beat),
    /// Asks the leader of a partition.
    Producers(ProducersWanted),
}

impl ClusterRequest {
    pub(super) fn encode(&self) -> Result<Vec<u8>, WireError> {
        match self {
            Self::Propose { hops, command } => {
                let command = command.encode().map_err(malformed)?;
                Ok([&[FORMAT_VERSION, PROPOSE, *hops], &command[..]].concat())
            }
            Self::Producers(wanted) => {
                let bytes = vec![FORMAT_VERSION, PRODUCERS, 0];
                postcard::to_extend(wanted, bytes).map_err(malformed)
            }
            Self::Beat(beat) => {
                let beat = beat.encode().map_err(malformed)?;
                Ok([&[FORMAT_VERSION, BEAT, 0], &beat[..]].concat())
            }
        }
    }

    /// Reads what has come from another broker, whose length is bounded by that of a call.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        match bytes {
            [FORMAT_VERSION, PROPOSE, hops, command @ ..] => Ok(Self::Propose {
                hops: *hops,
                command: Command::decode(command).map_err(malformed)?,
            }),
            [FORMAT_VERSION, BEAT, _, beat @ ..] => {
                Ok(Self::Beat(Beat::decode(beat).map_err(malformed)?))
            }
            [FORMAT_VERSION, PRODUCERS, _, wanted @ ..] => Ok(Self::Producers(
                postcard::from_bytes(wanted).map_err(malformed)?,
            )),
            [FORMAT_VERSION, asked, ..] => Err(malformed(format!("it asks for {asked}"))),
            [version, ..] => Err(malformed(format!("its version is {version}"))),
            [] => Err(malformed("it is empty")),
        }
    }
}

fn malformed(reason: impl std::fmt::Display) -> WireError {
    WireError::new(
        ErrorCode::MalformedFrame,
        format!("a broker's request is not understood: {reason}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_is_read_back() {
        let request = ClusterRequest::Propose {
            hops: 1,
            command: Command::AllocateProducerIds { count: 3 },
        };
        let bytes = request.encode().unwrap();
        assert_eq!(ClusterRequest::decode(&bytes), Ok(request));
        let request = ClusterRequest::Producers(ProducersWanted {
            partition: crate::internal::GROUPS_PARTITION,
            at: 77,
            have: 5,
        });
        let bytes = request.encode().unwrap();
        assert_eq!(ClusterRequest::decode(&bytes), Ok(request));
        for malformed in [&[][..], &[2, 1, 0], &[1, 9, 0], &[1, 1, 0, 0xff]] {
            assert!(ClusterRequest::decode(malformed).is_err(), "{malformed:?}");
        }
    }
}
