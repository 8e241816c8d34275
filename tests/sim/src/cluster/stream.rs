//! A stream over a network that loses, repeats and reorders: what is sent is taken in once and in order.

use std::collections::VecDeque;

/// Everything that one end has sent and the other has not acknowledged.
#[derive(Clone, Debug)]
pub(crate) struct Segment<T> {
    /// The number of the first item.
    first: u64,
    items: Vec<T>,
    /// How many items of the other end have come.
    seen: u64,
}

/// One end of a stream, that sends items of one kind and takes in others.
#[derive(Debug)]
pub(crate) struct End<T> {
    /// How many of its items the other end has.
    acknowledged: u64,
    unacknowledged: VecDeque<T>,
    taken: u64,
    /// When the other end was heard of.
    heard_us: u64,
}

impl<T: Clone> End<T> {
    pub(crate) fn new(now_us: u64) -> Self {
        Self {
            acknowledged: 0,
            unacknowledged: VecDeque::new(),
            taken: 0,
            heard_us: now_us,
        }
    }

    /// Something is to be sent.
    pub(crate) fn push(&mut self, item: T) {
        self.unacknowledged.push_back(item);
    }

    /// What is sent, and sent again until it is acknowledged.
    pub(crate) fn segment(&self) -> Segment<T> {
        Segment {
            first: self.acknowledged,
            items: self.unacknowledged.iter().cloned().collect(),
            seen: self.taken,
        }
    }

    /// What is new of what has come.
    pub(crate) fn take<U>(&mut self, segment: Segment<U>, now_us: u64) -> Vec<U> {
        self.heard_us = now_us;
        while self.acknowledged < segment.seen && self.unacknowledged.pop_front().is_some() {
            self.acknowledged += 1;
        }
        // It begins at or before what is missing: it was acknowledged up to there.
        let known = self.taken.saturating_sub(segment.first) as usize;
        let new: Vec<U> = segment.items.into_iter().skip(known).collect();
        self.taken += new.len() as u64;
        new
    }

    /// How long the other end was not heard of.
    pub(crate) fn silent_us(&self, now_us: u64) -> u64 {
        now_us - self.heard_us
    }
}
