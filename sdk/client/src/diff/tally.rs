//! Which records are the same on both sides, by counting.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::reading::Side;
use crate::consumer::ConsumedRecord;
use crate::error::{Error, Result};

/// Different records that are counted at once: those that are the same on both sides meet and are
/// forgotten.
const MAX_COUNTED: usize = 10_000_000;

/// Counts records of both sides by all that they are.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// More on the live side (above 0) or on the shadow's (below); what is even is not there.
    counts: HashMap<u128, i64>,
    records: u64,
}

impl Tally {
    /// # Errors
    ///
    /// The two have too little in common.
    pub(super) fn count(&mut self, side: Side, record: &ConsumedRecord) -> Result<()> {
        let fingerprint = fingerprint(record);
        self.records += 1;
        let count = self.counts.entry(fingerprint).or_default();
        *count += side.sign();
        if *count == 0 {
            self.counts.remove(&fingerprint);
        }
        if self.counts.len() > MAX_COUNTED {
            return Err(Error::invalid(format!(
                "more than {MAX_COUNTED} records differ: replay a shorter range"
            )));
        }
        Ok(())
    }

    /// Records that are there on both sides.
    pub(super) fn equal(&self) -> u64 {
        let left: u64 = self.counts.values().map(|count| count.unsigned_abs()).sum();
        (self.records - left) / 2
    }

    /// Whether both sides are the same.
    pub(super) fn is_even(&self) -> bool {
        self.counts.is_empty()
    }

    /// Whether this record is one that is left on its side. Each is taken once.
    pub(super) fn take_left(&mut self, side: Side, record: &ConsumedRecord) -> bool {
        match self.counts.get_mut(&fingerprint(record)) {
            Some(count) if count.signum() == side.sign() => {
                *count -= side.sign();
                true
            }
            _ => false,
        }
    }
}

/// What a record is, but for where it lies: two hashes, so that no two records are taken for one.
fn fingerprint(record: &ConsumedRecord) -> u128 {
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        salt.hash(&mut hasher);
        record.timestamp_ms.hash(&mut hasher);
        record.key.hash(&mut hasher);
        record.value.hash(&mut hasher);
        for header in &record.headers {
            header.name.hash(&mut hasher);
            header.value.hash(&mut hasher);
        }
        u128::from(hasher.finish())
    };
    half(0) << 64 | half(1)
}

#[cfg(test)]
mod tests {
    use super::super::pairs::tests::record;
    use super::*;

    #[test]
    fn what_is_on_both_sides_is_equal_and_the_rest_is_left() {
        let mut tally = Tally::default();
        let (a, b, c) = (
            record(1, "k", "a"),
            record(1, "k", "b"),
            record(2, "k", "a"),
        );
        for (side, record) in [
            (Side::Live, &a),
            (Side::Live, &a),
            (Side::Live, &b),
            (Side::Shadow, &b),
            (Side::Shadow, &a),
            (Side::Shadow, &c),
        ] {
            tally.count(side, record).unwrap();
        }
        assert_eq!(tally.equal(), 2);
        assert!(!tally.is_even());
        assert!(tally.take_left(Side::Live, &a), "one of the two");
        assert!(!tally.take_left(Side::Live, &a));
        assert!(!tally.take_left(Side::Shadow, &b));
        assert!(tally.take_left(Side::Shadow, &c));
    }
}
