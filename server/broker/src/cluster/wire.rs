//! What brokers ask of each other besides consensus and replication.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 1 | format version, 2 |
//! | 1 | 1 | what is asked: 1 a command, 2 a beat, 3 what a log knows of its producers, 4 nothing |
//! | 2 | 1 | how often it was passed on: only commands are |
//! | 3 | 8 | the time of day of who asks, milliseconds since the Unix epoch |
//! | 11 | | [`Command::encode`]; [`Beat::encode`]; a [`ProducersWanted`], postcard; nothing |
//!
//! The answers are those of [`Answer::encode`](millstream_metadata::Answer::encode) and
//! [`BeatAnswer::encode`](millstream_metadata::beat::BeatAnswer::encode); of producers, how many bytes there
//! are (4 bytes), and those asked for. Nothing is answered by nothing.

use millstream_metadata::Command;
use millstream_metadata::beat::Beat;
use millstream_protocol::{ErrorCode, Offset, TimestampMs, TopicPartition, WireError};
use serde::{Deserialize, Serialize};

const FORMAT_VERSION: u8 = 2;
const PROPOSE: u8 = 1;
const BEAT: u8 = 2;
const PRODUCERS: u8 = 3;
const KNOW: u8 = 4;

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
#[expect(
    clippy::large_enum_variant,
    reason = "there is one at a time, and it does not last"
)]
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
    /// Asks whether who asks is who it takes itself for. Who is not is refused whatever it asks.
    Know,
}

impl ClusterRequest {
    /// The bytes of what is asked at this time of day.
    pub(super) fn encode(&self, now_ms: TimestampMs) -> Result<Vec<u8>, WireError> {
        let begun = |asked, hops| {
            let mut bytes = vec![FORMAT_VERSION, asked, hops];
            bytes.extend(now_ms.to_be_bytes());
            bytes
        };
        match self {
            Self::Propose { hops, command } => {
                let command = command.encode().map_err(malformed)?;
                Ok([begun(PROPOSE, *hops), command].concat())
            }
            Self::Producers(wanted) => {
                postcard::to_extend(wanted, begun(PRODUCERS, 0)).map_err(malformed)
            }
            Self::Know => Ok(begun(KNOW, 0)),
            Self::Beat(beat) => {
                let beat = beat.encode().map_err(malformed)?;
                Ok([begun(BEAT, 0), beat].concat())
            }
        }
    }

    /// Reads what has come from another broker, whose length is bounded by that of a call, and what time it was
    /// there.
    pub(super) fn decode(bytes: &[u8]) -> Result<(TimestampMs, Self), WireError> {
        let (asked, hops, rest) = match bytes {
            [FORMAT_VERSION, asked, hops, rest @ ..] => (*asked, *hops, rest),
            [FORMAT_VERSION, ..] => return Err(malformed("it is too short")),
            [version, ..] => return Err(malformed(format!("its version is {version}"))),
            [] => return Err(malformed("it is empty")),
        };
        let Some((now_ms, rest)) = rest.split_first_chunk() else {
            return Err(malformed("it is too short"));
        };
        let request = match asked {
            PROPOSE => Self::Propose {
                hops,
                command: Command::decode(rest).map_err(malformed)?,
            },
            BEAT => Self::Beat(Beat::decode(rest).map_err(malformed)?),
            PRODUCERS => Self::Producers(postcard::from_bytes(rest).map_err(malformed)?),
            KNOW if rest.is_empty() => Self::Know,
            _ => return Err(malformed(format!("it asks for {asked}"))),
        };
        Ok((TimestampMs::from_be_bytes(*now_ms), request))
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
        let bytes = request.encode(77).unwrap();
        assert_eq!(ClusterRequest::decode(&bytes), Ok((77, request)));
        let request = ClusterRequest::Producers(ProducersWanted {
            partition: crate::internal::GROUPS_PARTITION,
            at: 77,
            have: 5,
        });
        let bytes = request.encode(77).unwrap();
        assert_eq!(ClusterRequest::decode(&bytes), Ok((77, request)));
        let bytes = ClusterRequest::Know.encode(77).unwrap();
        assert_eq!(
            ClusterRequest::decode(&bytes),
            Ok((77, ClusterRequest::Know))
        );
        let unknown = [2, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let broken = [2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff];
        for malformed in [&[][..], &[1, 1, 0], &[2, 1, 0], &unknown, &broken] {
            assert!(ClusterRequest::decode(malformed).is_err(), "{malformed:?}");
        }
    }
}
