//! Events in the order of time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use millstream_protocol::{PartitionIndex, TopicPartition};
use millstream_replication::BrokerId;

use super::packet::{Node, Packet};
use super::plan::Fault;

#[derive(Debug)]
pub(crate) enum Event {
    /// A packet is there.
    Arrives {
        from: Node,
        to: Node,
        packet: Box<Packet>,
    },
    /// A broker's process starts.
    Starts { broker: BrokerId, boot: u64 },
    /// What was to be persisted is synced.
    Persists {
        broker: BrokerId,
        boot: u64,
        at: TopicPartition,
    },
    /// The log is synced.
    Flushes {
        broker: BrokerId,
        boot: u64,
        at: TopicPartition,
    },
    /// The core's deadline has come.
    Ticks {
        broker: BrokerId,
        boot: u64,
        at: TopicPartition,
    },
    /// A broker says that it is alive.
    Beats { broker: BrokerId, boot: u64 },
    /// The worker of this number goes on.
    Works {
        broker: BrokerId,
        boot: u64,
        partition: PartitionIndex,
        number: u64,
    },
    /// The metadata quorum looks after its brokers.
    Watches,
    /// A producer or a consumer goes on.
    Wakes(Node),
    /// Something goes wrong.
    Fails(Fault),
    /// No more faults.
    Heals,
    /// It is looked whether everything is done.
    Ends,
}

#[derive(Debug)]
struct Timed {
    at_us: u64,
    number: u64,
    event: Event,
}

impl PartialEq for Timed {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Timed {}

impl PartialOrd for Timed {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Timed {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at_us, self.number).cmp(&(other.at_us, other.number))
    }
}

/// Events to come. Of those at the same time, the one that was pushed first comes first.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    events: BinaryHeap<Reverse<Timed>>,
    pushed: u64,
    pub(crate) now_us: u64,
}

impl Queue {
    /// In `delay_us` microseconds from now.
    pub(crate) fn push(&mut self, delay_us: u64, event: Event) {
        let at_us = self.now_us + delay_us;
        let number = self.pushed;
        self.pushed += 1;
        self.events.push(Reverse(Timed {
            at_us,
            number,
            event,
        }));
    }

    /// The next one; time goes on to it.
    pub(crate) fn pop(&mut self) -> Option<Event> {
        let Reverse(timed) = self.events.pop()?;
        self.now_us = timed.at_us;
        Some(timed.event)
    }
}
