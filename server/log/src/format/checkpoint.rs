//! The checkpoint: where the log stands, as far as its segments do not say it themselves.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 4 | magic `MCHK` |
//! | 4 | 2 | format version, 2 |
//! | 6 | 16 | topic id |
//! | 22 | 4 | partition |
//! | 26 | 2 | flags: bit 0 the log was closed, 1 a truncation is under way, 2 a restart is |
//! | 28 | 8 | the log's salt |
//! | 36 | 8 | log start offset |
//! | 44 | 8 | flushed offset: everything below it was durable |
//! | 52 | 8 | compacted up to this offset |
//! | 60 | 8 | tombstones may be gone below this offset |
//! | 68 | 8 | the offset to truncate to (flag 1), or to begin anew at (flag 2) |
//! | 76 | 4 | CRC-32C of the above |
//!
//! It is replaced as a whole (see `atomic_file`), so one that cannot be read is damage.

use millstream_protocol::Offset;

use super::{DecodeError, Decoder, Encoder};
use crate::config::LogIdentity;

/// The file's length.
pub(crate) const CHECKPOINT_BYTES: usize = 80;

const MAGIC: [u8; 4] = *b"MCHK";
const VERSION: u16 = 2;

const CLEAN_STOP: u16 = 1;
const TRUNCATING: u16 = 1 << 1;
const RESTARTING: u16 = 1 << 2;
const UNKNOWN: u16 = !0 << 3;

/// What has begun and must be finished, whatever happens in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unfinished {
    /// A truncation to this offset.
    Truncation(Offset),
    /// The log is thrown away, and one begins at this offset.
    Restart(Offset),
}

/// Where a log stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    /// See [`super::entry`].
    pub(crate) salt: u64,
    /// Records below are gone, even if their segment is still there.
    pub(crate) log_start_offset: Offset,
    /// Everything below was durable when this was written.
    pub(crate) flushed_offset: Offset,
    /// Below, every key has one record at most.
    pub(crate) compacted_until: Offset,
    /// At and above, no tombstone has gone: whoever has applied everything below misses no deletion.
    pub(crate) tombstones_gone_until: Offset,
    /// What is to be finished when the log is opened.
    pub(crate) unfinished: Option<Unfinished>,
    /// The log was closed, and nothing was appended since.
    pub(crate) clean_stop: bool,
}

impl Checkpoint {
    pub(crate) fn encode(&self, identity: &LogIdentity) -> Vec<u8> {
        let clean_stop = if self.clean_stop { CLEAN_STOP } else { 0 };
        let (unfinished, to) = match self.unfinished {
            None => (0, 0),
            Some(Unfinished::Truncation(to)) => (TRUNCATING, to),
            Some(Unfinished::Restart(at)) => (RESTARTING, at),
        };
        Encoder::new(MAGIC, VERSION)
            .identity(identity)
            .u16(clean_stop | unfinished)
            .u64(self.salt)
            .u64(self.log_start_offset)
            .u64(self.flushed_offset)
            .u64(self.compacted_until)
            .u64(self.tombstones_gone_until)
            .u64(to)
            .seal()
    }

    pub(crate) fn decode(bytes: &[u8], identity: &LogIdentity) -> Result<Self, DecodeError> {
        let mut fields = Decoder::open(bytes, MAGIC, VERSION)?;
        fields.identity(identity)?;
        let flags = fields.u16()?;
        if flags & UNKNOWN != 0 {
            return Err(DecodeError::Broken);
        }
        let mut checkpoint = Self {
            salt: fields.u64()?,
            log_start_offset: fields.u64()?,
            flushed_offset: fields.u64()?,
            compacted_until: fields.u64()?,
            tombstones_gone_until: fields.u64()?,
            unfinished: None,
            clean_stop: flags & CLEAN_STOP != 0,
        };
        let to = fields.u64()?;
        checkpoint.unfinished = match flags & (TRUNCATING | RESTARTING) {
            0 => None,
            TRUNCATING => Some(Unfinished::Truncation(to)),
            RESTARTING => Some(Unfinished::Restart(to)),
            _ => return Err(DecodeError::Broken),
        };
        fields.end()?;
        Ok(checkpoint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::identity;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_checkpoint_reads_back(
            (salt, log_start_offset, flushed_offset) in any::<(u64, u64, u64)>(),
            (compacted_until, tombstones_gone_until) in any::<(u64, u64)>(),
            (to, restarts, clean_stop) in any::<(Option<u64>, bool, bool)>(),
            (byte, bit) in (0..CHECKPOINT_BYTES, 0..8),
        ) {
            let unfinished = to.map(|to| match restarts {
                false => Unfinished::Truncation(to),
                true => Unfinished::Restart(to),
            });
            let checkpoint = Checkpoint {
                salt,
                log_start_offset,
                flushed_offset,
                compacted_until,
                tombstones_gone_until,
                unfinished,
                clean_stop,
            };
            let mut bytes = checkpoint.encode(&identity());
            prop_assert_eq!(bytes.len(), CHECKPOINT_BYTES);
            prop_assert_eq!(Checkpoint::decode(&bytes, &identity()), Ok(checkpoint));
            bytes[byte] ^= 1_u8 << bit;
            prop_assert_eq!(Checkpoint::decode(&bytes, &identity()), Err(DecodeError::Broken));
        }
    }
}
