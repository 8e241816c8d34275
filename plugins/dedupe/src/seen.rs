//! What has been seen, as state, and how it is forgotten without a clock or a timer.
//!
//! Time is that of the records: now is the time of the newest that there has been, `newest`. The
//! window reaches back from there to the *cutoff*, which is within it.
//!
//! | key                                     | value                                             |
//! | --------------------------------------- | ------------------------------------------------- |
//! | `i`, id                                 | when the id was last seen                         |
//! | `t`, a time bucket, id                  | nothing                                           |
//! | `n`                                     | `newest`                                          |
//!
//! A time has 8 bytes, big-endian, the sign bit flipped, so that keys are in the order of time. A
//! bucket is known by the time that it begins at.
//!
//! Each id has one `t` key, in a bucket that is not newer than its last sighting: the one where it
//! was first seen. The key does not move when the id is seen again. A sweep goes through the buckets
//! that are before the cutoff, oldest first; what was seen again meanwhile moves to the bucket of that
//! time, the rest is forgotten. A record adds at most one key to be swept, or one move; a sweep does
//! two a record, and so catches up.

use millstream_plugin::{Failure, state};

const ID: u8 = b'i';
const BUCKET: u8 = b't';
const NEWEST: &[u8] = b"n";

/// Bytes of a time.
const TIME_BYTES: usize = 8;

/// The longest id, bytes: a key of the state has it, and a time.
pub(crate) const MAX_ID_BYTES: usize = state::MAX_KEY_BYTES - 1 - TIME_BYTES;

/// Buckets of a window. An id stays for at most one bucket longer than it must.
const BUCKETS_PER_WINDOW: i64 = 64;

/// Ids that are looked at for one record, to be forgotten.
const SWEPT_PER_RECORD: usize = 2;

/// What a record is to those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sighting {
    /// Its id has not been seen within the window.
    First {
        /// When it was seen before that, if it is not forgotten yet.
        last_ms: Option<i64>,
    },
    /// It has.
    Again {
        /// When it was last seen: perhaps after this record.
        last_ms: i64,
    },
    /// The record is older than the window: its id may be forgotten.
    Late,
}

/// The ids of a partition that have been seen within the window.
pub(crate) struct Seen {
    window_ms: i64,
    /// The length of a bucket.
    bucket_ms: i64,
    /// The newest time of a record, if there has been one.
    newest_ms: Option<i64>,
    /// Buckets before this one have been swept.
    swept_to_ms: i64,
    /// The sweep under way. It outlives calls as the instance does: a call that fails ends both.
    sweep: Option<Sweep>,
}

/// Goes through the old buckets.
struct Sweep {
    entries: state::Scan,
    /// The first bucket that is not old. New ids are not put before it.
    end_ms: i64,
}

impl Seen {
    /// Goes on with what is kept. For each record, calls of [`look`](Self::look),
    /// [`note`](Self::note) and [`sweep`](Self::sweep) follow, in this order.
    pub(crate) fn open(window_ms: i64) -> Result<Self, Failure> {
        Ok(Self {
            window_ms,
            bucket_ms: (window_ms / BUCKETS_PER_WINDOW).max(1),
            newest_ms: get_ms(NEWEST)?,
            swept_to_ms: i64::MIN,
            sweep: None,
        })
    }

    /// Looks for an id at a time. Changes nothing, and does not depend on how far a sweep has come:
    /// what it may have forgotten is out of the window.
    pub(crate) fn look(&self, id: &[u8], at_ms: i64) -> Result<Sighting, Failure> {
        let newest_ms = self.newest_ms.unwrap_or(at_ms).max(at_ms);
        let cutoff_ms = newest_ms.saturating_sub(self.window_ms);
        if at_ms < cutoff_ms {
            return Ok(Sighting::Late);
        }
        match get_ms(&id_key(id))? {
            Some(last_ms) if last_ms >= cutoff_ms => Ok(Sighting::Again { last_ms }),
            last_ms => Ok(Sighting::First { last_ms }),
        }
    }

    /// Remembers what [`look`](Self::look) has found, unless it is too late for that.
    pub(crate) fn note(
        &mut self,
        id: &[u8],
        at_ms: i64,
        sighting: Sighting,
    ) -> Result<(), Failure> {
        let last_ms = match sighting {
            Sighting::First { last_ms } => last_ms,
            Sighting::Again { last_ms } => Some(last_ms),
            Sighting::Late => return Ok(()),
        };
        if self.newest_ms.is_none_or(|newest_ms| newest_ms < at_ms) {
            state::put(NEWEST, &encode(at_ms))?;
            self.newest_ms = Some(at_ms);
        }
        if last_ms.is_none_or(|last_ms| last_ms < at_ms) {
            state::put(&id_key(id), &encode(at_ms))?;
        }
        if last_ms.is_none() {
            state::put(&bucket_key(self.bucket_of(at_ms), id), b"")?;
        }
        Ok(())
    }

    /// Looks at no more than [`SWEPT_PER_RECORD`] ids of old buckets. Returns how many were forgotten.
    pub(crate) fn sweep(&mut self) -> Result<u64, Failure> {
        let Some(cutoff_ms) = self.cutoff_ms() else {
            return Ok(0);
        };
        let mut forgotten = 0;
        for _ in 0..SWEPT_PER_RECORD {
            let Some(key) = self.next_old(cutoff_ms)? else {
                break;
            };
            forgotten += u64::from(self.forget(&key, cutoff_ms)?);
        }
        Ok(forgotten)
    }

    /// The next key of an old bucket. `None`: the sweep is over, or none is due.
    fn next_old(&mut self, cutoff_ms: i64) -> Result<Option<Vec<u8>>, Failure> {
        let end_ms = self.bucket_of(cutoff_ms);
        if self.sweep.is_none() && self.swept_to_ms < end_ms {
            self.sweep = Some(Sweep {
                entries: state::scan(&[BUCKET]),
                end_ms,
            });
        }
        let Some(sweep) = &mut self.sweep else {
            return Ok(None);
        };
        if let Some(entry) = sweep.entries.next() {
            let key = entry?.key;
            if split_bucket_key(&key)?.0 < sweep.end_ms {
                return Ok(Some(key));
            }
        }
        self.swept_to_ms = sweep.end_ms;
        self.sweep = None;
        Ok(None)
    }

    /// Forgets the id of a bucket's key, or moves the key to where the id was last seen. Whether it is
    /// forgotten.
    fn forget(&self, key: &[u8], cutoff_ms: i64) -> Result<bool, Failure> {
        let (_, id) = split_bucket_key(key)?;
        let id_key = id_key(id);
        state::delete(key)?;
        match get_ms(&id_key)? {
            Some(last_ms) if last_ms >= cutoff_ms => {
                state::put(&bucket_key(self.bucket_of(last_ms), id), b"")?;
                Ok(false)
            }
            _ => {
                state::delete(&id_key)?;
                Ok(true)
            }
        }
    }

    /// The oldest time within the window, if there is a window.
    fn cutoff_ms(&self) -> Option<i64> {
        let newest_ms = self.newest_ms?;
        Some(newest_ms.saturating_sub(self.window_ms))
    }

    /// The bucket that a time is in.
    fn bucket_of(&self, at_ms: i64) -> i64 {
        at_ms.saturating_sub(at_ms.rem_euclid(self.bucket_ms))
    }
}

fn id_key(id: &[u8]) -> Vec<u8> {
    [&[ID], id].concat()
}

fn bucket_key(bucket_ms: i64, id: &[u8]) -> Vec<u8> {
    [&[BUCKET], &encode(bucket_ms)[..], id].concat()
}

/// The bucket and the id.
fn split_bucket_key(key: &[u8]) -> Result<(i64, &[u8]), Failure> {
    key.get(1..)
        .and_then(|key| key.split_first_chunk())
        .map(|(bucket, id)| (decode(*bucket), id))
        .ok_or_else(foreign)
}

/// The time that is the value of a key.
fn get_ms(key: &[u8]) -> Result<Option<i64>, Failure> {
    state::get(key)?
        .map(|value| <[u8; TIME_BYTES]>::try_from(value).map_err(|_| foreign()))
        .transpose()
        .map(|time| time.map(decode))
}

fn encode(at_ms: i64) -> [u8; TIME_BYTES] {
    (at_ms ^ i64::MIN).to_be_bytes()
}

fn decode(time: [u8; TIME_BYTES]) -> i64 {
    i64::from_be_bytes(time) ^ i64::MIN
}

/// It would be wrong for every record: the worker stops in front of it.
fn foreign() -> Failure {
    Failure::abort("the state was not written by this plugin: use a deployment's name of its own")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_in_the_order_of_time() {
        let times = [i64::MIN, -86_400_000, -1, 0, 1, 1_700_000_000_000, i64::MAX];
        assert!(times.map(encode).is_sorted());
        assert_eq!(times.map(encode).map(decode), times);
        let key = bucket_key(-7, b"id");
        assert_eq!(split_bucket_key(&key), Ok((-7, &b"id"[..])));
        assert_eq!(split_bucket_key(b"t1234567"), Err(foreign()));
    }

    #[test]
    fn a_time_is_in_the_bucket_that_begins_before_it() {
        let seen = Seen::open(640).unwrap();
        let buckets = [-11, -10, -1, 0, 9, 10, i64::MIN].map(|at_ms| seen.bucket_of(at_ms));
        assert_eq!(buckets, [-20, -10, -10, 0, 0, 10, i64::MIN]);
    }
}
