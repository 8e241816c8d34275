//! Doing what the core says, and telling it what came of it.

use bytes::BytesMut;
use millstream_log::{AppendError, ChangeError, ProducedBatch, ProducersError, RestartError};
use millstream_protocol::batch::{BatchHeader, epoch_start};
use millstream_protocol::{Offset, TopicPartition};
use millstream_replication::{BrokerId, Effect, Input, Message, Role, Run, Span};

use super::{Broker, NOTHING, Place, Trouble, Waiting, trouble_of};
use crate::cluster::env::Env;
use crate::cluster::layout::{GROUPS, JOURNALS};
use crate::cluster::packet::{Beside, Node, Packet, Refusal};
use crate::cluster::plan::{Fault, Whom};
use crate::cluster::queue::Event;

/// What an effect has done to the log.
enum Done {
    Nothing,
    Changed,
    /// There was no room to begin it anew.
    NotRestarted,
}

impl Broker {
    /// Gives the core an input and does what it says.
    pub(crate) fn step(
        &mut self,
        env: &mut Env,
        at: TopicPartition,
        input: Input,
        beside: &Beside,
    ) -> Result<(), Trouble> {
        self.input(env, at, input);
        self.perform(env, at, beside)?;
        self.settle(env, at)
    }

    pub(super) fn input(&mut self, env: &mut Env, at: TopicPartition, input: Input) {
        let now_ms = self.clock.ms(env.queue.now_us);
        let id = self.id;
        env.trace(|| format!("{id} <- {input:?}"));
        if let Some(partition) = self.process.as_mut().and_then(|it| it.partition_mut(at)) {
            partition.replica.step(now_ms, input, &mut self.effects);
        }
    }

    /// Does what the core has said, and tells it what came of it.
    pub(super) fn perform(
        &mut self,
        env: &mut Env,
        at: TopicPartition,
        beside: &Beside,
    ) -> Result<(), Trouble> {
        loop {
            let mut effects = std::mem::take(&mut self.effects);
            let mut changed = false;
            let mut restarts = true;
            for effect in effects.drain(..) {
                let id = self.id;
                env.trace(|| format!("{id}    {effect:?}"));
                match self.effect(env, at, effect, beside)? {
                    Done::Nothing => {}
                    Done::Changed => changed = true,
                    Done::NotRestarted => {
                        restarts = false;
                        break;
                    }
                }
            }
            self.effects = effects;
            if !restarts {
                env.report.restarts_put_off += 1;
                self.input(env, at, Input::NotRestarted);
                continue;
            }
            let Some(end) = self.partition(at).map(|it| it.log.log_end_offset()) else {
                return Ok(());
            };
            if changed {
                self.input(env, at, Input::Written { end });
                continue;
            }
            let partition = self.partition(at);
            let flushed =
                partition.filter(|it| it.log.flushed_offset() > it.replica.log().flushed());
            if let Some(offset) = flushed.map(|it| it.log.flushed_offset()) {
                self.input(env, at, Input::Flushed { offset });
            }
            if self.effects.is_empty() {
                return Ok(());
            }
        }
    }

    /// Does one thing.
    fn effect(
        &mut self,
        env: &mut Env,
        at: TopicPartition,
        effect: Effect,
        beside: &Beside,
    ) -> Result<Done, Trouble> {
        let now_ms = self.now_ms(env);
        let (broker, boot) = (self.id, self.boot);
        let Some(place) = self.place(at) else {
            return Ok(Done::Nothing);
        };
        let Place {
            partition: Some(partition),
            persisting,
            ..
        } = place
        else {
            return Ok(Done::Nothing);
        };
        let log = &mut partition.log;
        match effect {
            Effect::Persist(durable) => {
                persisting.push_back(durable);
                let delay_us = env.sync_us();
                let follows = partition.replica.role() == Role::Follower;
                if follows && let Some(candidate) = env.cuts_at_promise.take() {
                    // And then it does not hear of it again for a while.
                    let link = (Node::Broker(candidate), Node::Broker(broker));
                    env.network.cut.insert(link);
                    let fault = Fault::PowerCut(Whom::This(broker));
                    env.queue.push(delay_us * 3 / 4, Event::Fails(fault));
                }
                env.queue
                    .push(delay_us, Event::Persists { broker, boot, at });
            }
            Effect::Truncate { to } => {
                env.report.truncations += 1;
                let end = log.truncate(to).map_err(|_| Trouble::Stop)?;
                // It is cut where a batch ends, unless what says so was spoilt.
                if end != to || log.damage().is_some() {
                    return Err(Trouble::Damaged(at));
                }
            }
            Effect::Restart { at } => {
                env.report.restarts += 1;
                env.report.restarts_of_empty += u64::from(log.log_end_offset() == 0);
                let Some(producers) = &beside.producers else {
                    let what = format!("{broker} is to begin at {at:?} and knows no producers");
                    env.oracles.violated(what);
                    return Err(Trouble::Stop);
                };
                match log.restart(at.offset, at.epoch, producers, now_ms) {
                    Ok(()) => return Ok(Done::Changed),
                    Err(RestartError::Log(ChangeError::StorageFull)) => {
                        return Ok(Done::NotRestarted);
                    }
                    Err(RestartError::Log(_)) => return Err(Trouble::Stop),
                    Err(RestartError::Producers(error)) => env
                        .oracles
                        .violated(format!("{broker} cannot begin at {at:?}: {error}")),
                }
            }
            Effect::Write { from } => {
                let rest = beside.batches.iter().filter_map(|bytes| {
                    let header = BatchHeader::parse(bytes).ok()?;
                    (header.base_offset >= from).then(|| ProducedBatch {
                        bytes: BytesMut::from(&bytes[..]),
                        header,
                    })
                });
                let rest: Vec<_> = rest.collect();
                match log.append_as_follower(rest, now_ms) {
                    Ok(_) | Err(AppendError::StorageFull) => {}
                    Err(AppendError::Poisoned(_)) => return Err(Trouble::Stop),
                    Err(AppendError::Damaged(_)) => return Err(Trouble::Damaged(at)),
                    Err(error) => env
                        .oracles
                        .violated(format!("{broker} cannot append: {error}")),
                }
                return Ok(Done::Changed);
            }
            Effect::WriteEpochStart { epoch } => {
                let bytes = epoch_start(now_ms).map_err(|_| Trouble::Stop)?;
                let header = BatchHeader::parse(&bytes).map_err(|_| Trouble::Stop)?;
                let bytes = BytesMut::from(&bytes[..]);
                let batch = ProducedBatch { bytes, header };
                let appended = log.append(vec![batch], epoch, now_ms, &mut Vec::new());
                match appended {
                    Ok(()) | Err(AppendError::StorageFull) => {}
                    Err(AppendError::Damaged(_)) => return Err(Trouble::Damaged(at)),
                    Err(_) => return Err(Trouble::Stop),
                }
                return Ok(Done::Changed);
            }
            Effect::Send { to, message } => self.send(env, at, to, message)?,
            Effect::Activated { epoch } => {
                env.report.activations += 1;
                env.activated = Some(broker);
                let replica = &partition.replica;
                let oracle = env.oracles.of(at);
                oracle.activated(broker, epoch, replica.log(), replica.hidden());
                self.beat(env);
            }
            Effect::Deposed { .. } => {
                env.report.depositions += 1;
                partition.deleting.clear();
                for Waiting { to, request, .. } in std::mem::take(&mut partition.waiting) {
                    let result = Err(Refusal::NotLeader(None));
                    env.send(
                        Node::Broker(broker),
                        to,
                        Packet::Produced { request, result },
                    );
                }
            }
            Effect::Finalise { epoch, version } => {
                let packet = Packet::Finalise { at, epoch, version };
                env.send(Node::Broker(broker), Node::Metadata, packet);
            }
            Effect::Refused { from, reason } => {
                env.oracles
                    .violated(format!("{broker} refused {from}: {reason}"));
            }
        }
        Ok(Done::Nothing)
    }

    /// Sends a message, its span in as many pieces as it takes.
    fn send(
        &mut self,
        env: &mut Env,
        at: TopicPartition,
        to: BrokerId,
        mut message: Message,
    ) -> Result<(), Trouble> {
        let (from, to) = (self.node(), Node::Broker(to));
        loop {
            let mut rest = None;
            let mut beside = Beside::default();
            if let Message::Append { span, .. } | Message::Fetched { span, .. } = &mut message
                && let Some(partition) = self.partition(at)
            {
                if span.from_start && span.prev.offset > 0 {
                    let producers = partition.log.reader().producers_at(span.prev.offset);
                    beside.producers =
                        Some(producers.map_err(|error| no_producers(&error, at, env))?);
                }
                if span.until > span.prev.offset {
                    let (log, replica) = (&partition.log, &partition.replica);
                    // The first batch may hold records that were deleted.
                    let from = span.prev.offset.max(log.log_start_offset());
                    let read = log.reader().read(from, span.until, env.message_bytes);
                    let read = read.map_err(|error| trouble_of(&error, at, env))?;
                    rest = replica.log().position(read.next_offset).map(|prev| Span {
                        prev,
                        runs: clip(&span.runs, read.next_offset),
                        until: span.until,
                        from_start: false,
                    });
                    span.cut(read.next_offset);
                    beside.batches = read.batches;
                }
            }
            let next = rest.filter(|rest| rest.until > rest.prev.offset);
            let following = match (&message, next) {
                (
                    Message::Append {
                        epoch,
                        high_watermark,
                        deleted,
                        ..
                    },
                    Some(span),
                ) => Some(Message::Append {
                    epoch: *epoch,
                    span,
                    high_watermark: *high_watermark,
                    deleted: *deleted,
                    asks: false,
                }),
                _ => None,
            };
            let packet = Packet::Replica {
                at,
                message,
                beside,
            };
            env.send(from, to, packet);
            match following {
                Some(following) => message = following,
                None => return Ok(()),
            }
        }
    }

    /// After every step: what has become visible is told, and what is to be done later is set.
    pub(super) fn settle(&mut self, env: &mut Env, at: TopicPartition) -> Result<(), Trouble> {
        self.forget(env, at)?;
        self.tell_deleted(env, at);
        let (broker, node) = (self.id, self.node());
        let Some(partition) = self.process.as_mut().and_then(|it| it.partition_mut(at)) else {
            return Ok(());
        };
        let high_watermark = partition.replica.high_watermark();
        let log = partition.replica.log();
        // Where a log begins, all before was committed.
        partition.told = partition.told.max(log.start());
        if high_watermark > partition.told {
            let epoch = partition.replica.durable().promised;
            env.oracles
                .of(at)
                .committed((broker, epoch), log, partition.told, high_watermark);
            partition.told = high_watermark;
        }
        while let Some(waiting) = partition.waiting.front() {
            if waiting.visible_at > high_watermark {
                break;
            }
            let (to, request) = (waiting.to, waiting.request);
            let result = Ok(waiting.base_offset);
            env.send(node, to, Packet::Produced { request, result });
            partition.waiting.pop_front();
        }
        env.mark(
            partition.replica.log().end()
                ^ high_watermark << 20
                ^ u64::from(broker) << 40
                ^ env.ordinal(at) << 50,
        );
        self.schedule(env, at);
        match at.topic_id {
            id if id == GROUPS.topic_id => self.coordinate(env),
            JOURNALS => self.employ(env, at.partition),
            _ => Ok(()),
        }
    }

    /// Sets when the log is synced next, and when the core is asked again.
    fn schedule(&mut self, env: &mut Env, at: TopicPartition) {
        let (broker, boot, clock) = (self.id, self.boot, self.clock);
        let Some(partition) = self.process.as_mut().and_then(|it| it.partition_mut(at)) else {
            return;
        };
        if partition.flushing.is_none() {
            partition.flushing = partition.log.flush_ticket();
            if partition.flushing.is_some() {
                let delay_us = env.sync_us();
                env.queue
                    .push(delay_us, Event::Flushes { broker, boot, at });
            }
        }
        let deadline = partition.replica.deadline();
        if deadline.is_some() && partition.tick_at_ms.is_none_or(|at| deadline < Some(at)) {
            partition.tick_at_ms = deadline;
            let delay_us = deadline.map_or(0, |at| clock.delay_us(at, env.queue.now_us));
            env.queue.push(delay_us, Event::Ticks { broker, boot, at });
        }
    }

    /// A state is synced.
    pub(crate) fn persisted(&mut self, env: &mut Env, at: TopicPartition) -> Result<(), Trouble> {
        let Some(place) = self.place(at) else {
            return Ok(());
        };
        let Some(durable) = place.persisting.pop_front() else {
            return Ok(());
        };
        let known = place.partition.as_ref().map(|it| it.replica.durable());
        if known.is_none_or(|known| known.directory != durable.directory) {
            return Ok(());
        }
        self.store(at, Some(&durable.to_bytes()))?;
        self.step(env, at, Input::Persisted(durable), &NOTHING)
    }

    /// The log is synced.
    pub(crate) fn flushed(&mut self, env: &mut Env, at: TopicPartition) -> Result<(), Trouble> {
        let Some(partition) = self.process.as_mut().and_then(|it| it.partition_mut(at)) else {
            return Ok(());
        };
        let Some(ticket) = partition.flushing.take() else {
            return Ok(());
        };
        let outcome = ticket.run();
        partition.log.flushed(outcome).map_err(|_| Trouble::Stop)?;
        let offset = partition.log.flushed_offset();
        self.step(env, at, Input::Flushed { offset }, &NOTHING)
    }

    /// The core's deadline may have come.
    pub(crate) fn ticked(&mut self, env: &mut Env, at: TopicPartition) -> Result<(), Trouble> {
        let now_ms = self.clock.ms(env.queue.now_us);
        let Some(partition) = self.process.as_mut().and_then(|it| it.partition_mut(at)) else {
            return Ok(());
        };
        partition.tick_at_ms = None;
        match partition.replica.deadline() {
            Some(at_ms) if at_ms <= now_ms => self.step(env, at, Input::Tick, &NOTHING),
            _ => self.settle(env, at),
        }
    }
}

fn no_producers(error: &ProducersError, at: TopicPartition, env: &mut Env) -> Trouble {
    match error {
        ProducersError::Read(error) => trouble_of(error, at, env),
        ProducersError::NoBorder { .. } | ProducersError::TooMany { .. } => {
            env.oracles.violated(format!("nothing is told: {error}"));
            Trouble::Stop
        }
    }
}

fn clip(runs: &[Run], from: Offset) -> Vec<Run> {
    let first = runs
        .partition_point(|run| run.start <= from)
        .saturating_sub(1);
    let mut runs = runs.get(first..).unwrap_or_default().to_vec();
    if let Some(run) = runs.first_mut() {
        run.start = run.start.max(from);
    }
    runs
}
