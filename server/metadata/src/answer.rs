//! What comes back to a broker that has passed a command on.

use millstream_protocol::WireError;
use serde::{Deserialize, Serialize};

use crate::codec::{CodecError, Format};
use crate::command::WIRE_VERSION;
use crate::limits::MAX_ANSWER_BYTES;
use crate::record::Record;

const FORMAT: Format = Format {
    what: "answer",
    version: WIRE_VERSION,
    limit: MAX_ANSWER_BYTES,
};

/// What became of a [`Command`](crate::Command).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// What was decided; `None` if it was granted and there was nothing to change. An error is that
    /// of [`CommandError::to_wire`](crate::CommandError::to_wire), or why no decision was come to.
    pub outcome: Result<Option<Record>, WireError>,
    /// The index of the last entry of the metadata log that the answering broker has applied. Who
    /// has asked sees the outcome in its own image once that has come as far.
    pub revision: u64,
}

impl Answer {
    /// The answer in bytes, at most [`MAX_ANSWER_BYTES`].
    pub fn encode(&self) -> Result<Vec<u8>, CodecError> {
        FORMAT.encode(self)
    }

    /// Reads an answer of the broker that leads the metadata quorum.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        FORMAT.decode(bytes)
    }
}
