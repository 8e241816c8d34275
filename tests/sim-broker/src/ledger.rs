//! What clients were told.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use millstream::{Offset, PartitionIndex};

use crate::trace::Trace;

/// Which record: its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Number {
    pub(crate) producer: u32,
    pub(crate) index: u64,
}

impl Number {
    /// Reads what [`Display`](fmt::Display) writes.
    pub(crate) fn of(value: &[u8]) -> Self {
        let text = std::str::from_utf8(value).ok();
        let parts = text.and_then(|text| text.split_once('/'));
        let numbers = parts.and_then(|(producer, index)| {
            Some(Self {
                producer: producer.parse().ok()?,
                index: index.parse().ok()?,
            })
        });
        numbers.expect("a record's number")
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.producer, self.index)
    }
}

/// Where a record is.
pub(crate) type Location = (PartitionIndex, Offset);

/// What was sent, acknowledged and read.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// How many records each producer has sent.
    pub(crate) sent: BTreeMap<u32, u64>,
    pub(crate) acked: BTreeMap<Number, Location>,
    /// What the reader of everything has got, in the order of each partition.
    pub(crate) read: BTreeMap<Location, Number>,
    /// What members of the group have got, at least once.
    pub(crate) delivered: BTreeSet<Number>,
    /// How often the replicas of a partition were seen to be others than before.
    pub(crate) moves: u64,
    /// What went wrong before the end: an order that was not kept, a record that was refused.
    pub(crate) wrong: Vec<String>,
    /// The longest times from a record's sending to its acknowledgement.
    pub(crate) longest: Duration,
}

/// The same, shared by all clients of a run.
#[derive(Debug, Default)]
pub(crate) struct Ledger(Mutex<Told>);

impl Ledger {
    /// Looks at it, or changes it.
    pub(crate) fn with<T>(&self, act: impl FnOnce(&mut Told) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Notes what must not be.
    pub(crate) fn wrong(&self, trace: &Trace, what: String) {
        trace.event(format_args!("WRONG: {what}"));
        self.with(|told| told.wrong.push(what));
    }
}
