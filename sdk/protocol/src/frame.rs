//! The frame: what every stream carries, in both directions.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 4 | body length in bytes, big-endian, at most [`MAX_BODY_BYTES`] |
//! | 4 | 4 | payload length in bytes, big-endian, at most what the receiver allows here |
//! | 8 | body length | the body, [postcard](https://postcard.jamesmunns.com/wire-format) |
//! | … | payload length | the payload: raw record batches or a component, never through serde |
//!
//! The first frame on a stream is a [`crate::api::RequestFrame`]. Every frame that a broker sends
//! has the body `Result<T, WireError>`.

use bytes::{BufMut, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::limits::MAX_BODY_BYTES;

/// Bytes before the body.
pub const FRAME_HEADER_BYTES: usize = 8;

/// Why a frame could not be read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The body is longer than [`MAX_BODY_BYTES`].
    #[error("frame body of {bytes} bytes exceeds the limit of {MAX_BODY_BYTES}")]
    BodyTooLarge {
        /// The length the frame claims.
        bytes: usize,
    },
    /// The payload is longer than the receiver allows.
    #[error("frame payload of {bytes} bytes exceeds the limit of {limit}")]
    PayloadTooLarge {
        /// The length the frame claims.
        bytes: usize,
        /// What is allowed at this place.
        limit: usize,
    },
    /// The body is not what is expected at this place.
    #[error("malformed frame body: {0}")]
    Malformed(#[from] postcard::Error),
    /// The body is followed by bytes that belong to nothing.
    #[error("{bytes} stray bytes behind the frame body")]
    Trailing {
        /// How many.
        bytes: usize,
    },
}

/// The lengths at the start of a frame, checked against the limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// Bytes of postcard that follow the header.
    pub body_bytes: usize,
    /// Raw bytes that follow the body.
    pub payload_bytes: usize,
}

impl FrameHeader {
    /// Reads a header and checks both lengths, so that the caller may allocate them.
    pub fn parse(
        header: [u8; FRAME_HEADER_BYTES],
        payload_limit: usize,
    ) -> Result<Self, FrameError> {
        let [b0, b1, b2, b3, p0, p1, p2, p3] = header;
        let body_bytes = u32::from_be_bytes([b0, b1, b2, b3]) as usize;
        let payload_bytes = u32::from_be_bytes([p0, p1, p2, p3]) as usize;
        if body_bytes > MAX_BODY_BYTES {
            return Err(FrameError::BodyTooLarge { bytes: body_bytes });
        }
        if payload_bytes > payload_limit {
            return Err(FrameError::PayloadTooLarge {
                bytes: payload_bytes,
                limit: payload_limit,
            });
        }
        Ok(Self {
            body_bytes,
            payload_bytes,
        })
    }
}

/// Appends a frame's header and body to `out`; the caller sends `payload_bytes` raw bytes after it.
/// On an error `out` stays as it was.
pub fn encode<T: Serialize>(
    body: &T,
    payload_bytes: usize,
    out: &mut BytesMut,
) -> Result<(), FrameError> {
    let start = out.len();
    let appended = append(body, payload_bytes, out);
    if appended.is_err() {
        out.truncate(start);
    }
    appended
}

fn append<T: Serialize>(
    body: &T,
    payload_bytes: usize,
    out: &mut BytesMut,
) -> Result<(), FrameError> {
    let payload = u32::try_from(payload_bytes).map_err(|_| FrameError::PayloadTooLarge {
        bytes: payload_bytes,
        limit: u32::MAX as usize,
    })?;
    let start = out.len();
    out.put_bytes(0, FRAME_HEADER_BYTES);
    postcard::serialize_with_flavor(body, Appender(out))?;
    let body_bytes = out.len() - start - FRAME_HEADER_BYTES;
    if body_bytes > MAX_BODY_BYTES {
        return Err(FrameError::BodyTooLarge { bytes: body_bytes });
    }
    out[start..start + 4].copy_from_slice(&(body_bytes as u32).to_be_bytes());
    out[start + 4..start + 8].copy_from_slice(&payload.to_be_bytes());
    Ok(())
}

/// Reads a whole body, which a [`FrameHeader`] has bounded; bytes left over are an error.
pub fn decode_body<T: DeserializeOwned>(body: &[u8]) -> Result<T, FrameError> {
    let (value, rest) = postcard::take_from_bytes(body)?;
    if rest.is_empty() {
        Ok(value)
    } else {
        Err(FrameError::Trailing { bytes: rest.len() })
    }
}

struct Appender<'a>(&'a mut BytesMut);

impl postcard::ser_flavors::Flavor for Appender<'_> {
    type Output = ();

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.put_u8(byte);
        Ok(())
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.put_slice(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}
