//! What brokers ask of each other besides consensus and replication.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 1 | format version, 1 |
//! | 1 | 1 | what is asked: 1 a command |
//! | 2 | 1 | how often it was passed on |
//! | 3 | | [`Command::encode`] |
//!
//! The answer to a command is [`Answer::encode`](millstream_metadata::Answer::encode).

use millstream_metadata::Command;
use millstream_protocol::{ErrorCode, WireError};

const FORMAT_VERSION: u8 = 1;
const PROPOSE: u8 = 1;

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
}

impl ClusterRequest {
    pub(super) fn encode(&self) -> Result<Vec<u8>, WireError> {
        match self {
            Self::Propose { hops, command } => {
                let command = command.encode().map_err(malformed)?;
                Ok([&[FORMAT_VERSION, PROPOSE, *hops], &command[..]].concat())
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
