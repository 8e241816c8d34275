//! Values in bytes: a version number and postcard, within bounds.

use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

/// How values of one kind are written.
pub(crate) struct Format {
    /// What they are, in errors.
    pub(crate) what: &'static str,
    /// The first byte of each.
    pub(crate) version: u8,
    /// The most bytes that one may have.
    pub(crate) limit: usize,
}

/// Bytes that cannot be read or written: of a record or a snapshot, or of what brokers tell each
/// other.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CodecError {
    /// It is longer than it may be.
    #[error("a metadata {what} of {bytes} bytes is longer than {limit}")]
    TooLong {
        /// Record, snapshot and so on.
        what: &'static str,
        /// How long it is.
        bytes: usize,
        /// How long it may be.
        limit: usize,
    },
    /// It was written by a later broker, or is empty.
    #[error("a metadata {what} has the unknown version {version:?}")]
    Version {
        /// Record, snapshot and so on.
        what: &'static str,
        /// The version it claims, if there is a byte at all.
        version: Option<u8>,
    },
    /// It is damaged, or something in it is of a later broker.
    #[error("a metadata {what} is damaged")]
    Malformed {
        /// Record, snapshot and so on.
        what: &'static str,
        /// What the codec says.
        source: postcard::Error,
    },
    /// It has more of something than it may.
    #[error("a metadata {what} has {count} {part}, more than {limit}")]
    TooMany {
        /// Record, snapshot and so on.
        what: &'static str,
        /// What it has too many of.
        part: &'static str,
        /// How many.
        count: usize,
        /// How many there may be.
        limit: usize,
    },
    /// Its parts contradict each other.
    #[error("a metadata {what} has the {part} {name} twice")]
    Repeated {
        /// Record, snapshot and so on.
        what: &'static str,
        /// Topic, broker and so on.
        part: &'static str,
        /// Its name or number.
        name: String,
    },
}

impl Format {
    pub(crate) fn encode<T: Serialize>(&self, value: &T) -> Result<Vec<u8>, CodecError> {
        let bytes = postcard::to_extend(value, vec![self.version]);
        let bytes = bytes.map_err(|source| self.malformed(source))?;
        self.check_length(&bytes)?;
        Ok(bytes)
    }

    /// Reads `bytes` to the end. Their length is checked first, and bounds what the codec allocates.
    pub(crate) fn decode<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T, CodecError> {
        self.check_length(bytes)?;
        let body = match bytes.split_first() {
            Some((version, body)) if *version == self.version => body,
            other => {
                return Err(CodecError::Version {
                    what: self.what,
                    version: other.map(|(version, _)| *version),
                });
            }
        };
        match postcard::take_from_bytes(body) {
            Ok((value, [])) => Ok(value),
            Ok(_) => Err(self.malformed(postcard::Error::DeserializeBadEncoding)),
            Err(source) => Err(self.malformed(source)),
        }
    }

    fn malformed(&self, source: postcard::Error) -> CodecError {
        CodecError::Malformed {
            what: self.what,
            source,
        }
    }

    fn check_length(&self, bytes: &[u8]) -> Result<(), CodecError> {
        match bytes.len() {
            bytes if bytes > self.limit => Err(CodecError::TooLong {
                what: self.what,
                bytes,
                limit: self.limit,
            }),
            _ => Ok(()),
        }
    }
}
