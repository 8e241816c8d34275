//! Values in bytes: a version number and postcard, of a bounded length.

use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

/// The version of entries, values and messages that this crate writes: the first byte of each.
pub(crate) const FORMAT_VERSION: u8 = 1;

/// Bytes that cannot be read, or a value that cannot be written.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum CodecError {
    #[error("{bytes} bytes are more than {limit}")]
    TooLong { bytes: usize, limit: usize },
    #[error("version {0} is not known to this release")]
    Version(u8),
    #[error("it is empty")]
    Empty,
    #[error("it does not decode: {0}")]
    Malformed(#[from] postcard::Error),
    #[error("something follows its end")]
    Trailing,
}

pub(crate) fn encode<T: Serialize>(value: &T, limit: usize) -> Result<Vec<u8>, CodecError> {
    let bytes = postcard::to_extend(value, vec![FORMAT_VERSION])?;
    check_length(&bytes, limit)?;
    Ok(bytes)
}

/// Reads `bytes` to their end. Their length is checked first, and bounds what is allocated.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8], limit: usize) -> Result<T, CodecError> {
    check_length(bytes, limit)?;
    let body = match bytes.split_first() {
        Some((&FORMAT_VERSION, body)) => body,
        Some((&version, _)) => return Err(CodecError::Version(version)),
        None => return Err(CodecError::Empty),
    };
    match postcard::take_from_bytes(body)? {
        (value, []) => Ok(value),
        _ => Err(CodecError::Trailing),
    }
}

fn check_length(bytes: &[u8], limit: usize) -> Result<(), CodecError> {
    match bytes.len() {
        bytes if bytes > limit => Err(CodecError::TooLong { bytes, limit }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_does_not_fit_is_said() {
        let bytes = encode(&7u64, 16).expect("a number");
        assert_eq!(decode::<u64>(&bytes, 16), Ok(7));
        let too_long = CodecError::TooLong { bytes: 2, limit: 1 };
        assert_eq!(decode::<u64>(&bytes, 1), Err(too_long));
        assert_eq!(decode::<u64>(&[], 16), Err(CodecError::Empty));
        assert_eq!(decode::<u64>(&[9, 7], 16), Err(CodecError::Version(9)));
        assert_eq!(decode::<u64>(&[1, 7, 0], 16), Err(CodecError::Trailing));
        assert!(matches!(
            decode::<u64>(&[1, 0x80], 16),
            Err(CodecError::Malformed(_))
        ));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(value) = decode::<Vec<(u64, String)>>(&bytes, 64) {
                prop_assert!(value.len() <= bytes.len());
            }
        }
    }
}
