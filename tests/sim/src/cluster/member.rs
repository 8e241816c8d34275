//! Members of a group of consumers.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use millstream_protocol::api::group::{
    CoordinatorMessage, Generation, MemberMessage, NamedPartition, OffsetCommit,
};
use millstream_protocol::batch::RecordBatch;
use millstream_protocol::{Offset, PartitionIndex};
use millstream_replication::BrokerId;

use super::broker::SILENCE_US;
use super::env::Env;
use super::layout::{EVENTS_NAME, events};
use super::packet::{Node, Packet, Session};
use super::queue::Event;
use super::stream::{End, Segment};

/// How often a member says that it is there, reads and commits.
const PACE_US: u64 = 40_000;

/// How often it crashes, stands still or leaves, each time that it wakes, while things go wrong.
const CRASHES_PER_MILLE: u64 = 4;
const PAUSES_PER_MILLE: u64 = 4;
const LEAVES_PER_MILLE: u64 = 4;

/// How long it is away then.
const AWAY_US: (u64, u64) = (20_000, 4_000_000);

/// A partition that a member has.
#[derive(Debug)]
struct Owned {
    position: Offset,
    /// Up to where it has asked for commits.
    committed: Offset,
    /// The newest request for records.
    request: u64,
}

/// A stream to a broker that may be the coordinator.
#[derive(Debug)]
struct Line {
    to: BrokerId,
    end: End<MemberMessage>,
    /// With whom it is, once that has answered.
    session: Option<Session>,
    /// The newest that it was told of.
    generation: Generation,
    owned: BTreeMap<PartitionIndex, Owned>,
    /// Commits that are not answered, oldest first.
    commits: VecDeque<Vec<(PartitionIndex, Offset)>>,
}

/// A member reads what it is given, and commits how far it is.
#[derive(Debug)]
pub(crate) struct Member {
    number: u32,
    /// The number of its newest stream.
    stream: u64,
    line: Option<Line>,
    hint: Option<BrokerId>,
    next_request: u64,
    away_until_us: u64,
    /// Nothing goes wrong with it any more.
    pub(crate) is_well: bool,
}

impl Member {
    pub(crate) fn new(number: u32) -> Self {
        Self {
            number,
            stream: 0,
            line: None,
            hint: None,
            next_request: 0,
            away_until_us: 0,
            is_well: false,
        }
    }

    fn node(&self) -> Node {
        Node::Member(self.number)
    }

    pub(crate) fn wake(&mut self, env: &mut Env, brokers: &[BrokerId]) {
        let delay_us = env.dice.within(PACE_US / 2, PACE_US * 3 / 2);
        env.queue.push(delay_us, Event::Wakes(self.node()));
        if self.is_away(env) || (!self.is_well && self.fails(env)) {
            return;
        }
        let now_us = env.queue.now_us;
        self.line
            .take_if(|it| it.end.silent_us(now_us) > SILENCE_US);
        if self.line.is_none() {
            self.stream += 1;
            let any = env.dice.pick(brokers).unwrap_or(1);
            self.line = Some(Line {
                to: self.hint.take().unwrap_or(any),
                end: End::new(now_us),
                session: None,
                generation: 0,
                owned: BTreeMap::new(),
                commits: VecDeque::new(),
            });
        }
        self.read(env, brokers);
        self.commit();
        self.send(env);
    }

    fn is_away(&self, env: &Env) -> bool {
        env.queue.now_us < self.away_until_us
    }

    /// Something may go wrong with it. Whether it has.
    fn fails(&mut self, env: &mut Env) -> bool {
        if env.dice.happens(LEAVES_PER_MILLE) && self.line.is_some() {
            // It says so once: that may get lost.
            if let Some(line) = &mut self.line {
                line.end.push(MemberMessage::Leave);
            }
            self.send(env);
            self.line = None;
        } else if env.dice.happens(CRASHES_PER_MILLE) {
            self.line = None;
        } else if !env.dice.happens(PAUSES_PER_MILLE) {
            return false;
        }
        env.report.members_hit += 1;
        self.away_until_us = env.queue.now_us + env.dice.within(AWAY_US.0, AWAY_US.1);
        true
    }

    fn send(&self, env: &mut Env) {
        if let Some(line) = &self.line {
            let packet = Packet::Heard {
                stream: self.stream,
                session: line.session,
                segment: line.end.segment(),
            };
            env.send(self.node(), Node::Broker(line.to), packet);
        }
    }

    /// Asks any broker for what comes next in each of its partitions.
    fn read(&mut self, env: &mut Env, brokers: &[BrokerId]) {
        let node = self.node();
        for (partition, owned) in self.line.iter_mut().flat_map(|it| &mut it.owned) {
            self.next_request += 1;
            owned.request = self.next_request;
            let packet = Packet::Read {
                at: events(*partition),
                request: owned.request,
                offset: owned.position,
            };
            let broker = env.dice.pick(brokers).unwrap_or(1);
            env.send(node, Node::Broker(broker), packet);
        }
    }

    /// Something was sent to it.
    pub(crate) fn gets(&mut self, env: &mut Env, packet: Packet) {
        if self.is_away(env) {
            return;
        }
        match packet {
            Packet::Records {
                request,
                batches,
                next_offset,
            } => self.receive(env, request, batches, next_offset),
            Packet::Told {
                stream,
                session,
                segment,
            } if stream == self.stream => self.told(env, session, segment),
            Packet::HungUp { stream, leader } if stream == self.stream && self.line.is_some() => {
                self.line = None;
                self.hint = leader;
            }
            _ => {}
        }
    }

    /// Records have come.
    fn receive(&mut self, env: &mut Env, request: u64, batches: Vec<Bytes>, next_offset: Offset) {
        let mut owned = self.line.iter_mut().flat_map(|it| &mut it.owned);
        let Some((partition, owned)) = owned.find(|(_, it)| it.request == request) else {
            return;
        };
        for bytes in batches {
            let oracle = env.oracles.of(events(*partition));
            match RecordBatch::parse(bytes) {
                Ok(batch) => oracle.read(&batch),
                Err(error) => env.oracles.violated(format!("a member reads: {error}")),
            }
        }
        let groups = &mut env.oracles.groups;
        groups.got(*partition, owned.position, next_offset);
        env.report.delivered += next_offset - owned.position;
        owned.position = next_offset;
        owned.request = 0;
    }

    /// Asks for commits of what it has read.
    fn commit(&mut self) {
        let Some(line) = &mut self.line else { return };
        let news = line.owned.iter_mut();
        let news = news.filter(|(_, it)| it.position > it.committed);
        let offsets = news.map(|(partition, it)| {
            it.committed = it.position;
            (*partition, it.position)
        });
        let offsets: Vec<_> = offsets.collect();
        if offsets.is_empty() {
            return;
        }
        let named = offsets.iter().map(|(partition, offset)| OffsetCommit {
            topic: EVENTS_NAME.to_owned(),
            partition: *partition,
            offset: *offset,
            metadata: String::new(),
        });
        line.end.push(MemberMessage::Commit {
            generation: line.generation,
            offsets: named.collect(),
        });
        line.commits.push_back(offsets);
    }

    /// The coordinator has said something.
    fn told(&mut self, env: &mut Env, session: Session, segment: Segment<CoordinatorMessage>) {
        let now_us = env.queue.now_us;
        let Some(line) = &mut self.line else { return };
        // One coordinator may have followed another one on the same broker.
        if *line.session.get_or_insert(session) != session {
            return;
        }
        let messages = line.end.take(segment, now_us);
        let has_news = !messages.is_empty();
        for message in messages {
            self.handle(env, session, message);
        }
        if has_news {
            self.send(env);
        }
    }

    fn handle(&mut self, env: &mut Env, session: Session, message: CoordinatorMessage) {
        if let CoordinatorMessage::Revoke { .. } = &message {
            // It says how far it is before it lets go.
            self.commit();
        }
        let Some(line) = &mut self.line else { return };
        match message {
            CoordinatorMessage::Joined { generation, .. } => line.generation = generation,
            CoordinatorMessage::Assign {
                generation,
                partitions,
            }
            | CoordinatorMessage::Seek {
                generation,
                partitions,
            } => {
                line.generation = generation;
                let known = &mut env.report.generations;
                *known = u64::from(generation).max(*known);
                for it in partitions {
                    let owned = Owned {
                        position: it.offset,
                        committed: it.offset,
                        request: 0,
                    };
                    line.owned.insert(it.partition, owned);
                }
            }
            CoordinatorMessage::Revoke {
                generation,
                partitions,
            } => {
                line.generation = generation;
                let is_kept = |it: &NamedPartition| line.owned.remove(&it.partition).is_none();
                if partitions.iter().any(is_kept) {
                    let what = "a member is to release what it was not given".to_owned();
                    env.oracles.violated(what);
                }
                line.end.push(MemberMessage::Released {
                    generation,
                    partitions,
                });
            }
            CoordinatorMessage::Committed(result) => {
                let offsets = line.commits.pop_front().unwrap_or_default();
                match result {
                    Ok(()) => {
                        env.report.commits += 1;
                        let groups = &mut env.oracles.groups;
                        for (partition, offset) in offsets {
                            groups.acknowledged(session.epoch, partition, offset);
                        }
                    }
                    Err(error) => env
                        .oracles
                        .violated(format!("a commit of {offsets:?} is refused: {error}")),
                }
            }
        }
    }
}
