//! The attribute bits of a batch: its codec, whose clock its timestamps come from, and what only a
//! broker may set.

use std::fmt;
use std::str::FromStr;

use super::error::BatchError;
use super::header::BatchHeader;

/// How the records of a batch are compressed. All are read; [`None`](Self::None),
/// [`Lz4`](Self::Lz4) and [`Zstd`](Self::Zstd) are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// gzip, RFC 1952. Read only.
    Gzip,
    /// Snappy, raw or in the framing of xerial's snappy-java. Read only.
    Snappy,
    /// LZ4, frame format.
    Lz4,
    /// Zstandard, RFC 8878.
    Zstd,
}

/// Every codec; its place is its number in the attributes.
const CODECS: [Compression; 5] = [
    Compression::None,
    Compression::Gzip,
    Compression::Snappy,
    Compression::Lz4,
    Compression::Zstd,
];

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        })
    }
}

/// No codec has this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown compression {name:?}")]
pub struct UnknownCompression {
    /// The name.
    pub name: String,
}

/// From the name that [`Display`](fmt::Display) gives.
impl FromStr for Compression {
    type Err = UnknownCompression;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let named = CODECS.into_iter().find(|codec| codec.to_string() == name);
        named.ok_or_else(|| UnknownCompression {
            name: name.to_owned(),
        })
    }
}

/// Whose clock the timestamps of a batch come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TimestampKind {
    /// The producer's: every record has its own.
    #[default]
    Created,
    /// The broker's at the append: every record has the batch's max timestamp.
    Appended,
}

const COMPRESSION_MASK: u16 = 0b111;
const APPENDED: u16 = 1 << 3;
const TRANSACTIONAL: u16 = 1 << 4;
const CONTROL: u16 = 1 << 5;
const DELETE_HORIZON: u16 = 1 << 6;
const RESERVED: u16 = !0 << 7;

/// The two bytes as they stand in the header.
#[derive(Clone, Copy)]
pub(super) struct Attributes(pub(super) u16);

impl Attributes {
    pub(super) fn of(header: &BatchHeader) -> Self {
        let bits = [
            (header.timestamps == TimestampKind::Appended, APPENDED),
            (header.transactional, TRANSACTIONAL),
            (header.control, CONTROL),
        ];
        let set = bits.into_iter().filter(|(set, _)| *set);
        Self(set.fold(0, |all, (_, bit)| all | bit)).with_compression(header.compression)
    }

    /// Refuses bits that mean nothing yet: what they will mean may change how the rest is read.
    pub(super) fn check_reserved(self) -> Result<(), BatchError> {
        if self.0 & RESERVED == 0 {
            return Ok(());
        }
        Err(BatchError::Field {
            field: "attributes",
            value: self.0.into(),
        })
    }

    pub(super) fn compression(self) -> Result<Compression, BatchError> {
        let number = self.0 & COMPRESSION_MASK;
        CODECS
            .get(usize::from(number))
            .copied()
            .ok_or(BatchError::Field {
                field: "compression",
                value: number.into(),
            })
    }

    pub(super) fn with_compression(self, compression: Compression) -> Self {
        Self(self.0 & !COMPRESSION_MASK | compression as u16)
    }

    pub(super) fn with_control(self) -> Self {
        Self(self.0 | CONTROL)
    }

    pub(super) fn timestamps(self) -> TimestampKind {
        if self.0 & APPENDED == 0 {
            TimestampKind::Created
        } else {
            TimestampKind::Appended
        }
    }

    pub(super) fn transactional(self) -> bool {
        self.0 & TRANSACTIONAL != 0
    }

    pub(super) fn control(self) -> bool {
        self.0 & CONTROL != 0
    }

    /// Refuses what a client may not set.
    pub(super) fn check_produced(self) -> Result<(), BatchError> {
        let brokers_own = [
            (APPENDED, "append time"),
            (TRANSACTIONAL, "transactional bit"),
            (CONTROL, "control bit"),
            (DELETE_HORIZON, "delete horizon"),
        ];
        match brokers_own.into_iter().find(|(bit, _)| self.0 & bit != 0) {
            Some((_, attribute)) => Err(BatchError::Forbidden { attribute }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_of_a_codec_is_its_number() {
        for (number, codec) in CODECS.into_iter().enumerate() {
            assert_eq!(codec as usize, number);
            assert_eq!(Attributes(number as u16).compression(), Ok(codec));
        }
        for number in 5..8 {
            assert!(Attributes(number).compression().is_err());
        }
    }

    #[test]
    fn names_are_read_back() {
        for codec in CODECS {
            assert_eq!(codec.to_string().parse(), Ok(codec));
        }
        assert_eq!(
            "LZ4".parse::<Compression>().unwrap_err().to_string(),
            "unknown compression \"LZ4\""
        );
    }

    #[test]
    fn another_codec_leaves_the_other_bits() {
        let attributes = Attributes(0b111_1100).with_compression(Compression::Lz4);
        assert_eq!(attributes.0, 0b111_1011);
    }
}
