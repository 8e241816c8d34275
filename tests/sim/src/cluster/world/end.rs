//! The end of a run: everything is there, and all replicas have the same.

use std::collections::BTreeMap;

use millstream_log::ReadError;
use millstream_protocol::{Offset, TopicPartition};

use super::World;
use crate::cluster::broker::{Broker, Trouble};
use crate::cluster::layout::{EVENTS, Layout, OUTPUTS, journal};
use crate::cluster::oracle::{Expected, Name};
use crate::cluster::queue::Event;
use crate::cluster::run::MIN_ACKED;

/// When all is well again, everything must be done within this.
pub(super) const HEALED_WITHIN_US: u64 = 20_000_000;

/// How long producers go on when all is well again.
pub(super) const GOES_ON_US: u64 = 1_500_000;

/// How much of a log is compared at once.
const COMPARED_BYTES: usize = 64 * 1024;

/// How often it is looked whether everything is done.
const LOOK_US: u64 = 100_000;

impl World {
    /// Whether everything is done.
    pub(super) fn looks(&mut self) {
        let shown = self.env.report.acked >= MIN_ACKED;
        for producer in &mut self.producers {
            producer.stopped = shown;
        }
        let now_us = self.env.queue.now_us;
        if let Some(ends) = self.ends() {
            if matches!(self.plan.layout, Layout::Workers(_))
                && let Err(trouble) = self.check_workers(&ends)
            {
                let what = format!("what workers have done cannot be read: {trouble:?}");
                self.env.oracles.violated(what);
            }
            for (at, end) in ends {
                if at.topic_id == EVENTS {
                    self.env.oracles.of(at).read_all(end);
                }
                self.compare(at, end);
            }
            self.finish();
        } else if now_us > self.deadline_us {
            self.stuck();
        } else {
            self.env.queue.push(LOOK_US, Event::Ends);
        }
    }

    fn stuck(&mut self) {
        let mut what = Vec::new();
        for at in self.partitions.iter().copied() {
            let brokers = self.brokers.iter().map(|it| {
                let replica = it.partition(at).map(|it| {
                    let replica = &it.replica;
                    let (role, durable) = (replica.role(), replica.durable());
                    format!(
                        "{role:?} {durable:?} {:?} hw {}",
                        replica.log().tip(),
                        replica.high_watermark()
                    )
                });
                format!("{}: {replica:?}", it.id)
            });
            let brokers: Vec<String> = brokers.collect();
            let replicas = self.metadata.replicas(at);
            what.push(format!("{at} {replicas:?}, {}", brokers.join("; ")));
        }
        let open = self.producers.iter().filter(|it| !it.is_done()).count();
        let read: Vec<Offset> = self.consumers.iter().map(|it| it.position).collect();
        let (group, workers) = self.progress();
        self.env.oracles.violated(format!(
            "stuck: {open} producers wait, consumers at {read:?}, group at {group:?}, workers at {workers:?}, \
             replicas {}",
            what.join("; ")
        ));
    }

    /// How far the group and the workers are in each partition of events.
    fn progress(&self) -> (Vec<Offset>, Vec<Offset>) {
        let groups = &self.env.oracles.groups;
        let events = self.plan.layout.events();
        let progress = events.map(|at| {
            let mut workers = self.brokers.iter();
            let worker = workers.find_map(|it| it.handled(at.partition));
            (groups.committed(at.partition), worker.unwrap_or(0))
        });
        progress.unzip()
    }

    /// Where the logs end, once all producers have their answers and everything is settled.
    fn ends(&self) -> Option<Vec<(TopicPartition, Offset)>> {
        let done = self.producers.iter().all(|it| it.stopped && it.is_done());
        let ends = self.partitions.iter().filter(|_| done);
        let ends: Option<Vec<_>> = ends.map(|at| Some((*at, self.end_of(*at)?))).collect();
        ends.filter(|ends| done && self.group_is_done(ends) && self.workers_are_done(ends))
    }

    /// Whether workers have handled everything, and all of it has arrived.
    fn workers_are_done(&self, ends: &[(TopicPartition, Offset)]) -> bool {
        let mut ends = ends.iter().filter(|(at, _)| at.topic_id == EVENTS);
        !matches!(self.plan.layout, Layout::Workers(_))
            || ends.all(|(at, end)| {
                let mut brokers = self.brokers.iter();
                brokers.any(|it| it.has_handled(at.partition, *end).is_some())
            })
    }

    /// What workers have made of their input is what they were to make of it.
    fn check_workers(&mut self, ends: &[(TopicPartition, Offset)]) -> Result<(), Trouble> {
        let (env, brokers) = (&mut self.env, &self.brokers);
        // All replicas have the same by now, but for a bit that was flipped and not read since.
        let keeper_of = |at: TopicPartition| {
            let mut brokers = brokers.iter();
            brokers.find(move |it| it.is_trusted(at) && !it.flipped.contains(&at))
        };
        let mut expected = BTreeMap::new();
        for (at, end) in ends.iter().filter(|(at, _)| at.topic_id == EVENTS) {
            let mut worker = Expected::default();
            if let Some(keeper) = keeper_of(*at) {
                keeper.each_record(env, *at, 0, |_, offset, _, value| {
                    if let Some(name) = value.and_then(|it| Name::from_bytes(&it)) {
                        worker.record(at.partition, offset, name);
                    }
                })?;
            }
            let state = brokers
                .iter()
                .find_map(|it| it.has_handled(at.partition, *end));
            let read_back = match keeper_of(journal(at.partition)) {
                Some(keeper) => keeper.read_journal(env, at.partition)?,
                None => None,
            };
            let read_back = read_back.as_ref().map(|(_, counters)| counters);
            for counters in [state, read_back].into_iter().flatten() {
                let counters = counters.iter().map(|(key, count)| (&key[..], *count));
                env.oracles.counted((at.partition, &worker), counters);
            }
            expected.insert(at.partition, worker);
        }
        let mut outputs = Vec::new();
        if let Some(keeper) = keeper_of(OUTPUTS) {
            keeper.each_record(env, OUTPUTS, 0, |_, _, _, value| outputs.extend(value))?;
        }
        env.oracles
            .emitted(&expected, outputs.iter().map(|it| &it[..]));
        Ok(())
    }

    /// Whether the group has everything, has said so, and has an owner for each partition.
    fn group_is_done(&self, ends: &[(TopicPartition, Offset)]) -> bool {
        let groups = &self.env.oracles.groups;
        let mut ends = ends.iter().filter(|(at, _)| at.topic_id == EVENTS);
        self.members.is_empty()
            || (self.brokers.iter().any(Broker::has_settled_group)
                && ends.all(|(at, end)| {
                    let known = (
                        groups.delivered(at.partition),
                        groups.committed(at.partition),
                    );
                    known == (*end, *end)
                }))
    }

    /// The end of a log, once all replicas have everything and are trusted, no change of the replicas is
    /// under way, and consumers have read it all.
    fn end_of(&self, at: TopicPartition) -> Option<Offset> {
        let leader = self.broker(self.metadata.leader(at))?.partition(at)?;
        leader.replica.leading()?;
        let end = leader.replica.log().end();
        let replicas = self.metadata.replicas(at);
        let mut consumers = self.consumers.iter().filter(|it| it.at == at);
        let done = replicas.next().is_empty()
            && consumers.all(|it| it.position == end)
            && replicas.members().all(|id| {
                self.broker(id)
                    .filter(|it| it.is_trusted(at))
                    .and_then(|it| it.partition(at))
                    .is_some_and(|it| {
                        it.replica.log().tip() == leader.replica.log().tip()
                            && it.replica.high_watermark() == end
                            && it.log.flushed_offset() == end
                            && it.log.log_start_offset() >= leader.replica.hidden()
                    })
            });
        done.then_some(end)
    }

    /// All replicas have the same batches, byte by byte.
    fn compare(&mut self, at: TopicPartition, end: Offset) {
        let oracle = self.env.oracles.of(at);
        for id in self.metadata.replicas(at).members() {
            let Some(broker) = self.brokers.get(id as usize - 1) else {
                continue;
            };
            let Some(log) = broker.partition(at).map(|it| &it.log) else {
                continue;
            };
            let mut offset = log.log_start_offset();
            let (deleted, retained) = oracle.borders();
            if offset < deleted || offset > retained {
                oracle.violated(format!(
                    "{id} begins at {offset}: all below {deleted} is deleted, and below {retained} was to be at most"
                ));
            }
            while offset < end {
                match log.reader().read(offset, end, COMPARED_BYTES) {
                    Ok(read) => {
                        let batches = read.batches.into_iter();
                        batches.for_each(|batch| oracle.held(id, batch));
                        offset = read.next_offset;
                    }
                    // It was flipped, and nobody has read it since.
                    Err(ReadError::Damaged(_)) if broker.flipped.contains(&at) => break,
                    Err(error) => return oracle.violated(format!("{id} cannot be read: {error}")),
                }
            }
        }
    }

    pub(super) fn finish(&mut self) {
        self.over = true;
        let report = &mut self.env.report;
        report.seeds = 1;
        report.simulated_us = self.env.queue.now_us;
        report.reassignments = self.metadata.finalised;
        report.packets = self.env.network.sent;
        report.lost_packets = self.env.network.lost;
        report.repeated_packets = self.env.network.repeated;
    }
}
