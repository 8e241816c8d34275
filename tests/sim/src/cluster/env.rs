//! What the parts of a run share: time, the network, chance, and who watches.

use millstream_protocol::TopicPartition;
use millstream_replication::BrokerId;

use super::dice::Dice;
use super::network::Network;
use super::oracle::Oracles;
use super::packet::{Node, Packet};
use super::queue::Queue;
use super::report::Report;

#[derive(Debug)]
pub(crate) struct Env {
    pub(crate) queue: Queue,
    pub(crate) network: Network,
    pub(crate) dice: Dice,
    pub(crate) oracles: Oracles,
    pub(crate) report: Report,
    /// What a sync takes, microseconds.
    pub(crate) sync_us: (u64, u64),
    /// Of what happened so far.
    pub(crate) hash: u64,
    /// What one message carries of a log, bytes.
    pub(crate) message_bytes: usize,
    /// Who has just begun to lead.
    pub(crate) activated: Option<BrokerId>,
    /// The machine that promises this broker something next loses power.
    pub(crate) cuts_at_promise: Option<BrokerId>,
    /// The leader whose death is measured, and when it was.
    pub(crate) died: Option<(BrokerId, u64)>,
    /// How many brokers there are.
    pub(crate) brokers: u32,
    /// How many partitions of events there are.
    pub(crate) events: u32,
    /// What has a number that nothing else has.
    pub(crate) numbered: u64,
    /// Prints what happens.
    pub(crate) tracing: bool,
}

impl Env {
    pub(crate) fn send(&mut self, from: Node, to: Node, packet: Packet) {
        self.trace(|| format!("   {from:?} -> {to:?}: {}", shown(&packet)));
        self.network.send(&mut self.queue, from, to, packet);
    }

    /// How long a sync takes now. Now and then a disk takes its time.
    pub(crate) fn sync_us(&mut self) -> u64 {
        let (low, high) = self.sync_us;
        match self.dice.happens(5) {
            true => self.dice.within(high, 40 * high),
            false => self.dice.within(low, high),
        }
    }

    /// Something has happened that two runs of a seed must have in common (FNV-1a, by words).
    pub(crate) fn mark(&mut self, what: u64) {
        for word in [self.queue.now_us, what] {
            self.hash = (self.hash ^ word).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    /// A number that nothing else has.
    pub(crate) fn next_number(&mut self) -> u64 {
        self.numbered += 1;
        self.numbered
    }

    /// Which of the run's partitions this is.
    pub(crate) fn ordinal(&self, at: TopicPartition) -> u64 {
        self.oracles.ordinal(at)
    }

    #[expect(clippy::print_stdout, reason = "a trace was asked for")]
    pub(crate) fn trace(&self, what: impl FnOnce() -> String) {
        if self.tracing {
            println!("{:>10} {}", self.queue.now_us, what());
        }
    }
}

fn shown(packet: &Packet) -> String {
    match packet {
        Packet::Replica {
            message, beside, ..
        } => {
            let (batches, producers) = (beside.batches.len(), beside.producers.is_some());
            format!("{message:?} ({batches} batches, producers: {producers})")
        }
        Packet::Produce { request, .. } => format!("Produce {request}"),
        Packet::Records {
            request,
            next_offset,
            ..
        } => format!("Records {request} until {next_offset}"),
        other => format!("{other:?}"),
    }
}
