//! Producers and consumers.

use std::collections::VecDeque;

use bytes::Bytes;
use millstream_protocol::batch::{BatchBuilder, Compression, ProducerStamp, RecordBatch};
use millstream_protocol::{FIRST_WORKER_PRODUCER_ID, Offset, TopicPartition};
use millstream_replication::BrokerId;

use super::env::Env;
use super::oracle::Name;
use super::packet::{Node, Packet, Refusal};
use super::queue::Event;

/// When a producer gives up on an answer and asks another broker.
const TIMEOUT_US: u64 = 400_000;

/// How soon it tries again after a refusal.
const RETRY_US: u64 = 30_000;

/// Batches under way.
const IN_FLIGHT: u64 = 4;

/// How much more rarely a worker sends than a client.
const WORKER_PACE: u64 = 20;

/// What a producer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It has several batches under way, and sends none again that was acknowledged.
    Client,
    /// It has one batch under way, and now and then sends the last one again as if it had crashed and
    /// did not know of the acknowledgement.
    Worker,
}

#[derive(Debug)]
struct Sent {
    request: u64,
    first: u32,
    records: u32,
    batch: Bytes,
    /// It was acknowledged before.
    again: bool,
}

/// An idempotent producer: it sends what was not acknowledged again, in order, until it is.
#[derive(Debug)]
pub(crate) struct Producer {
    number: u32,
    at: TopicPartition,
    kind: Kind,
    next_sequence: u32,
    next_request: u64,
    in_flight: VecDeque<Sent>,
    target: BrokerId,
    hint: Option<BrokerId>,
    /// Everything is sent again then, unless an answer comes.
    resend_at_us: Option<u64>,
    /// The last batch that was acknowledged.
    last: Option<Sent>,
    pace_us: u64,
    pub(crate) stopped: bool,
}

impl Producer {
    pub(crate) fn new(number: u32, at: TopicPartition, kind: Kind, pace_us: u64) -> Self {
        let pace_us = match kind {
            Kind::Client => pace_us,
            Kind::Worker => pace_us * WORKER_PACE,
        };
        Self {
            number,
            at,
            kind,
            last: None,
            next_sequence: 0,
            next_request: 0,
            in_flight: VecDeque::new(),
            target: 1,
            hint: None,
            resend_at_us: None,
            pace_us,
            stopped: false,
        }
    }

    fn node(&self) -> Node {
        Node::Producer(self.number)
    }

    pub(crate) fn is_done(&self) -> bool {
        self.in_flight.is_empty()
    }

    /// Time has passed: it sends something, and what was lost again.
    pub(crate) fn wake(&mut self, env: &mut Env, brokers: &[BrokerId]) {
        let now_us = env.queue.now_us;
        if self.resend_at_us.is_some_and(|at_us| at_us <= now_us) {
            let hint = self.hint.take();
            let any = env.dice.pick(brokers).unwrap_or(1);
            self.target = hint.filter(|it| brokers.contains(it)).unwrap_or(any);
            self.resend_at_us = Some(now_us + TIMEOUT_US);
            for sent in &self.in_flight {
                let packet = Packet::Produce {
                    at: self.at,
                    request: sent.request,
                    batch: sent.batch.clone(),
                };
                env.send(self.node(), Node::Broker(self.target), packet);
            }
        }
        // A broker recognises the last few batches of a producer when they come again.
        let oldest = self
            .in_flight
            .front()
            .map_or(self.next_request, |it| it.request);
        let in_flight = match self.kind {
            Kind::Client => IN_FLIGHT,
            Kind::Worker => 1,
        };
        if !self.stopped && self.next_request - oldest < in_flight {
            let forgets = self.kind == Kind::Worker && env.dice.happens(500);
            match self.last.take().filter(|_| forgets) {
                Some(last) => self.send(
                    env,
                    Sent {
                        again: true,
                        ..last
                    },
                ),
                None => self.send_new(env),
            }
        }
        if !(self.stopped && self.in_flight.is_empty()) {
            let delay_us = env.dice.within(self.pace_us / 2, self.pace_us * 3 / 2);
            env.queue.push(delay_us, Event::Wakes(self.node()));
        }
    }

    fn send_new(&mut self, env: &mut Env) {
        let first = self.next_sequence;
        let records = env.dice.within(1, 3) as u32;
        let Some(batch) = build(self.kind, self.number, first, records) else {
            return env
                .oracles
                .violated("a small batch cannot be built".to_owned());
        };
        self.next_sequence += records;
        env.oracles
            .of(self.at)
            .sent
            .insert(self.number, self.next_sequence);
        let sent = Sent {
            request: 0,
            first,
            records,
            batch,
            again: false,
        };
        self.send(env, sent);
    }

    fn send(&mut self, env: &mut Env, sent: Sent) {
        let request = self.next_request;
        self.next_request += 1;
        let batch = sent.batch.clone();
        self.in_flight.push_back(Sent { request, ..sent });
        self.resend_at_us
            .get_or_insert(env.queue.now_us + TIMEOUT_US);
        let at = self.at;
        let packet = Packet::Produce { at, request, batch };
        env.send(self.node(), Node::Broker(self.target), packet);
    }

    pub(crate) fn receive(
        &mut self,
        env: &mut Env,
        from: BrokerId,
        request: u64,
        result: Result<Offset, Refusal>,
    ) {
        let now_us = env.queue.now_us;
        let Some(place) = self.in_flight.iter().position(|it| it.request == request) else {
            return;
        };
        match result {
            Ok(base_offset) => {
                let Some(sent) = self.in_flight.remove(place) else {
                    return;
                };
                for record in 0..sent.records {
                    let name = Name {
                        producer: self.number,
                        sequence: sent.first + record,
                    };
                    let offset = base_offset + u64::from(record);
                    env.oracles.of(self.at).acknowledged(name, offset);
                }
                if !sent.again {
                    env.report.acked += u64::from(sent.records);
                }
                self.last = Some(sent);
                if let Some((_, died_us)) = env.died.take_if(|(leader, _)| *leader != from) {
                    env.report.gaps_us.push(now_us - died_us);
                }
                self.target = from;
                self.resend_at_us = (!self.in_flight.is_empty()).then_some(now_us + TIMEOUT_US);
            }
            Err(refusal) => {
                self.hint = match refusal {
                    Refusal::NotLeader(leader) => leader,
                    Refusal::Busy => Some(from),
                };
                let soon_us = now_us + RETRY_US;
                let at_us = self.resend_at_us.map_or(soon_us, |it| it.min(soon_us));
                self.resend_at_us = Some(at_us);
            }
        }
    }
}

fn build(kind: Kind, producer: u32, first: u32, records: u32) -> Option<Bytes> {
    let mut builder = BatchBuilder::new(Compression::None, 16 * 1024);
    for sequence in first..first + records {
        let name = Name { producer, sequence };
        builder.append(0, None, Some(&name.to_bytes()), &[]).ok()?;
    }
    let stamp = ProducerStamp {
        producer_id: match kind {
            Kind::Client => u64::from(producer) + 1,
            Kind::Worker => FIRST_WORKER_PRODUCER_ID + u64::from(producer),
        },
        producer_epoch: 0,
        first_sequence: first,
    };
    builder.finish(Some(stamp)).ok()
}

/// A consumer reads everything in order, from whichever broker has it.
#[derive(Debug)]
pub(crate) struct Consumer {
    number: u32,
    pub(crate) at: TopicPartition,
    pub(crate) position: Offset,
    request: u64,
    target: BrokerId,
    pace_us: u64,
    /// Whether it reads what it has read before now and then.
    pub(crate) goes_back: bool,
    /// Whether its last request was.
    answered: bool,
}

impl Consumer {
    pub(crate) fn new(number: u32, at: TopicPartition, pace_us: u64) -> Self {
        Self {
            number,
            at,
            position: 0,
            request: 0,
            target: 1,
            pace_us,
            goes_back: true,
            answered: false,
        }
    }

    fn node(&self) -> Node {
        Node::Consumer(self.number)
    }

    /// Reads from the beginning again.
    pub(crate) fn start_over(&mut self) {
        self.position = 0;
        self.request += 1;
    }

    pub(crate) fn wake(&mut self, env: &mut Env, brokers: &[BrokerId]) {
        if !self.answered || env.dice.happens(200) {
            self.target = env.dice.pick(brokers).unwrap_or(1);
        }
        // Now and then it reads from the beginning: what is old must still be there.
        if self.goes_back && env.dice.happens(10) {
            self.start_over();
        }
        self.request += 1;
        self.answered = false;
        let packet = Packet::Read {
            at: self.at,
            request: self.request,
            offset: self.position,
        };
        env.send(self.node(), Node::Broker(self.target), packet);
        let delay_us = env.dice.within(self.pace_us / 2, self.pace_us * 3 / 2);
        env.queue.push(delay_us, Event::Wakes(self.node()));
    }

    /// What lies at its position is gone: it goes on where the log starts.
    pub(crate) fn begins(&mut self, env: &mut Env, request: u64, start: Offset) {
        if request == self.request {
            env.oracles.of(self.at).begins(self.position, start);
            self.answered = true;
            self.position = start;
            self.request += 1;
        }
    }

    pub(crate) fn receive(
        &mut self,
        env: &mut Env,
        request: u64,
        batches: Vec<Bytes>,
        next_offset: Offset,
    ) {
        if request != self.request {
            return;
        }
        self.answered = true;
        let mut expected = self.position;
        for bytes in batches {
            let Ok(batch) = RecordBatch::parse(bytes) else {
                return env
                    .oracles
                    .violated(format!("the batch at {expected} is none"));
            };
            let header = batch.header();
            if header.base_offset > expected {
                let base_offset = header.base_offset;
                env.oracles
                    .violated(format!("skipped: {expected} to {base_offset}"));
            }
            expected = header.next_offset();
            env.oracles.of(self.at).read(&batch);
        }
        if next_offset < self.position || expected != next_offset {
            let position = self.position;
            env.oracles
                .violated(format!("non-monotonic: from {position} to {next_offset}"));
        }
        env.report.read += next_offset.saturating_sub(self.position);
        self.position = next_offset;
        self.request += 1;
    }
}
