//! What brokers ask of each other besides consensus and replication.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 1 | format version, 1 |
//! | 1 | 1 | what is asked: 1 a command, 2 a beat |
//! | 2 | 1 | how often it was passed on: a beat is not |
//! | 3 | | [`Command::encode`], [`Beat::encode`] |
//!
//! The answers are those of [`Answer::encode`](millstream_metadata::Answer::encode) and
//! [`BeatAnswer::encode`](millstream_metadata::beat::BeatAnswer::encode).

use millstream_metadata::Command;
use millstream_metadata::beat::Beat;
use millstream_protocol::{ErrorCode, WireError};

const FORMAT_VERSION: u8 = 1;
const PROPOSE: u8 = 1;
const BEAT: u8 = 2;

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
}

impl ClusterRequest {
    pub(super) fn encode(&self) -> Result<Vec<u8>, WireError> {
        match self {
            Self::Propose { hops, command } => {
                let command = command.encode().map_err(malformed)?;
                Ok([&[FORMAT_VERSION, PROPOSE, *hops], &command[..]].concat())
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
        for malformed in [&[][..], &[2, 1, 0], &[1, 9, 0], &[1, 1, 0, 0xff]] {
            assert!(ClusterRequest::decode(malformed).is_err(), "{malformed:?}");
        }
    }
}
