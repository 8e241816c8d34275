//! What a file knows of the journal that it was made from.

use millstream_protocol::{Offset, TopicId, TopicPartition};
use serde::{Deserialize, Serialize};

use crate::store::StandsFor;

/// The only version of [`Stamp`].
const FORMAT: u8 = 1;

/// A moment of a journal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checkpoint {
    /// What the state is that of.
    pub stands_for: StandsFor,
    /// What is not state has to be read again from this offset of the journal on.
    pub replay_from: Offset,
    /// What is not state and may lie before that: records of the journal, keys and values.
    pub records: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What a file says of itself, and of how much it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stamp {
    format: u8,
    topic_id: TopicId,
    partition: u32,
    journal_offset: Offset,
    input_offset: Offset,
    replay_from: Offset,
    pub(crate) size: Size,
}

/// How much state there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Size {
    pub(crate) entries: u64,
    /// See [`entry_bytes`](crate::overlay::entry_bytes).
    pub(crate) bytes: u64,
}

impl Stamp {
    pub(crate) fn new(journal: TopicPartition, checkpoint: &Checkpoint, size: Size) -> Self {
        Self {
            format: FORMAT,
            topic_id: journal.topic_id,
            partition: journal.partition,
            journal_offset: checkpoint.stands_for.journal_offset,
            input_offset: checkpoint.stands_for.input_offset,
            replay_from: checkpoint.replay_from,
            size,
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        // Into memory, and without a map or a sequence of unknown length: it cannot fail.
        postcard::to_allocvec(self).unwrap_or_default()
    }

    /// Reads a stamp; what is not one of this journal and version is refused with the reason.
    pub(crate) fn decode(bytes: &[u8], journal: TopicPartition) -> Result<Self, &'static str> {
        match bytes.first() {
            Some(&FORMAT) => {}
            Some(_) => return Err("it has another version's format"),
            None => return Err("its stamp is empty"),
        }
        let stamp: Self = postcard::from_bytes(bytes).map_err(|_| "its stamp cannot be read")?;
        if (stamp.topic_id, stamp.partition) != (journal.topic_id, journal.partition) {
            return Err("it was made from another journal");
        }
        Ok(stamp)
    }

    pub(crate) fn stands_for(&self) -> StandsFor {
        StandsFor {
            journal_offset: self.journal_offset,
            input_offset: self.input_offset,
        }
    }

    pub(crate) fn replay_from(&self) -> Offset {
        self.replay_from
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use uuid::Uuid;

    proptest! {
        #[test]
        fn a_stamp_reads_back(
            (journal_offset, input_offset, replay_from) in any::<(u64, u64, u64)>(),
            (entries, bytes, partition) in any::<(u64, u64, u32)>(),
            cut in 0..20_usize,
        ) {
            let journal = TopicPartition { topic_id: TopicId(Uuid::from_u128(7)), partition };
            let stands_for = StandsFor { journal_offset, input_offset };
            let checkpoint = Checkpoint { stands_for, replay_from, records: Vec::new() };
            let stamp = Stamp::new(journal, &checkpoint, Size { entries, bytes });
            let encoded = stamp.encode();
            prop_assert_eq!(Stamp::decode(&encoded, journal), Ok(stamp));
            prop_assert!(Stamp::decode(&encoded[..cut], journal).is_err());
            let other = TopicPartition { partition: partition.wrapping_add(1), ..journal };
            prop_assert!(Stamp::decode(&encoded, other).is_err());
            let mut newer = encoded;
            newer[0] += 1;
            prop_assert!(Stamp::decode(&newer, journal).is_err());
        }
    }
}
