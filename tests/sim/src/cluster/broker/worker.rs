//! The shell of workers' journals: on the broker that leads a journal and its input, while it does.
//!
//! The guest counts the records of each producer: for every record it emits where that was and which one of its
//! producer's it is. So what is missing or twice is seen in the outputs, and what is lost of the state as well.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use millstream_protocol::batch::{BatchBuilder, Compression};
use millstream_protocol::{
    FIRST_WORKER_PRODUCER_ID, LeaderEpoch, Offset, PartitionIndex, TopicPartition,
};
use millstream_replication::BrokerId;
use millstream_worker::{Commit, CommitBuilder, Journal, Recovery, Sending};

use super::{Broker, Trouble};
use crate::cluster::env::Env;
use crate::cluster::layout::{JOURNALS, OUTPUTS, events, journal};
use crate::cluster::oracle::{Name, Output};
use crate::cluster::packet::{Node, Packet, Refusal};
use crate::cluster::queue::Event;

/// How often a worker looks for input.
const PACE_US: u64 = 20_000;

/// When it gives up on an answer to outputs, and how soon it tries again after a refusal.
const TIMEOUT_US: u64 = 300_000;
const RETRY_US: u64 = 30_000;

/// Records that one commit is about, at most.
const MAX_RECORDS: u64 = 12;

/// What it reads at a time, bytes.
const INPUT_BYTES: usize = 1_000;

/// What the outputs of one commit take at most, bytes.
const BATCH_BYTES: usize = 16 * 1024;

/// A worker at work. After a failure it is thrown away, and another one reads the journal back.
#[derive(Debug)]
pub(super) struct Worker {
    /// No other one has this.
    number: u64,
    /// It has read the journal in this epoch, and others may write into it in a later one.
    epoch: LeaderEpoch,
    journal: Journal,
    /// The guest's state: how many records of each producer it has seen.
    counters: Counters,
    appending: Option<Appending>,
    /// What is to be sent, or was and is not known to have arrived; oldest first.
    sendings: VecDeque<Sending>,
    /// The newest request with outputs, and when they are sent again.
    request: u64,
    resend_at_us: u64,
    hint: Option<BrokerId>,
}

type Counters = BTreeMap<Bytes, u64>;

/// A commit that lies in the journal and is not committed.
#[derive(Debug)]
struct Appending {
    visible_at: Offset,
    commit: Commit,
    changed: Counters,
}

impl Broker {
    fn worker(&mut self, partition: PartitionIndex) -> Option<&mut Worker> {
        self.process.as_mut()?.workers.get_mut(&partition)
    }

    fn discard_worker(&mut self, partition: PartitionIndex) {
        if let Some(process) = &mut self.process {
            process.workers.remove(&partition);
        }
    }

    /// Has a worker here while this broker leads a partition and its journal, and in each epoch of the journal
    /// another one.
    pub(super) fn employ(
        &mut self,
        env: &mut Env,
        partition: PartitionIndex,
    ) -> Result<(), Trouble> {
        let input = self.settled_in(events(partition));
        let leads = input.and(self.settled_in(journal(partition)));
        if planted!(AppendInAnyEpoch)
            && let Some(worker) = self.worker(partition)
        {
            worker.epoch = leads.unwrap_or(worker.epoch);
        } else if self.worker(partition).map(|it| it.epoch) != leads {
            self.discard_worker(partition);
            if let Some(epoch) = leads {
                self.open_journal(env, partition, epoch)?;
            }
        }
        self.note_commit(env, partition);
        Ok(())
    }

    /// Does so for every partition. One that had no room begins anew.
    pub(super) fn employ_all(&mut self, env: &mut Env) -> Result<(), Trouble> {
        let partitions = self.partitions.clone();
        let mut journals = partitions.iter().filter(|at| at.topic_id == JOURNALS);
        journals.try_for_each(|at| self.employ(env, at.partition))
    }

    /// Reads a journal back: what may not have arrived is sent first.
    fn open_journal(
        &mut self,
        env: &mut Env,
        partition: PartitionIndex,
        epoch: LeaderEpoch,
    ) -> Result<(), Trouble> {
        let read = self.read_journal(env, partition)?;
        let Some((recovered, counters)) = read else {
            return Ok(());
        };
        env.report.workers += 1;
        env.report.fail_overs += u64::from(recovered.is_some());
        let (journal, sendings) = recovered.unwrap_or_else(|| {
            let id = FIRST_WORKER_PRODUCER_ID | env.next_number();
            (Journal::new(id, 0), Vec::new())
        });
        env.report.outputs_sent_again += sendings.len() as u64;
        let number = env.next_number();
        let worker = Worker {
            number,
            epoch,
            journal,
            counters,
            appending: None,
            sendings: sendings.into(),
            request: env.next_number(),
            resend_at_us: 0,
            hint: None,
        };
        let (broker, boot) = (self.id, self.boot);
        if let Some(process) = &mut self.process {
            process.workers.insert(partition, worker);
        }
        let event = Event::Works {
            broker,
            boot,
            partition,
            number,
        };
        env.queue.push(0, event);
        Ok(())
    }

    /// What a journal says, and the guest's state.
    #[expect(clippy::type_complexity, reason = "it is taken apart at once")]
    pub(crate) fn read_journal(
        &self,
        env: &mut Env,
        partition: PartitionIndex,
    ) -> Result<Option<(Option<(Journal, Vec<Sending>)>, Counters)>, Trouble> {
        let mut recovery = Recovery::default();
        let mut counters = Counters::new();
        let at = journal(partition);
        self.each_record(env, at, 0, |env, offset, key, value| {
            match recovery.record(key, value) {
                Ok(Some((key, value))) => {
                    let value = value.and_then(|it| it[..].try_into().ok());
                    counters.insert(key, value.map_or(0, u64::from_be_bytes));
                }
                Ok(None) => {}
                Err(error) => env
                    .oracles
                    .violated(format!("{offset} of journal {partition}: {error}")),
            }
        })?;
        match recovery.finish() {
            Ok(recovered) => Ok(Some((recovered, counters))),
            Err(error) => {
                env.oracles
                    .violated(format!("journal {partition}: {error}"));
                Ok(None)
            }
        }
    }

    /// A worker goes on: it sends what has not arrived, and handles what there is of its input.
    pub(crate) fn works(
        &mut self,
        env: &mut Env,
        partition: PartitionIndex,
        number: u64,
    ) -> Result<(), Trouble> {
        self.employ(env, partition)?;
        let is_here = |it: &mut Worker| it.number == number;
        if !self.worker(partition).is_some_and(is_here) {
            return Ok(());
        }
        let (broker, boot) = (self.id, self.boot);
        let delay_us = env.dice.within(PACE_US / 2, PACE_US * 3 / 2);
        let event = Event::Works {
            broker,
            boot,
            partition,
            number,
        };
        env.queue.push(delay_us, event);
        self.send_outputs(env, partition);
        self.handle_input(env, partition)
    }

    /// Handles some records, and appends what has come of them to the journal as one commit.
    fn handle_input(&mut self, env: &mut Env, partition: PartitionIndex) -> Result<(), Trouble> {
        let most = env.dice.within(1, MAX_RECORDS);
        let now_ms = self.now_ms(env);
        let Some(worker) = self.worker(partition) else {
            return Ok(());
        };
        if worker.appending.is_some() || !worker.journal.has_room() {
            return Ok(());
        }
        let (epoch, from) = (worker.epoch, worker.journal.next_offset());
        let (records, next_offset) = self.read_input(env, events(partition), from, most)?;
        let Some(worker) = self.worker(partition).filter(|_| next_offset > from) else {
            return Ok(());
        };
        let mut changed = Counters::new();
        let mut outputs = BatchBuilder::new(Compression::None, BATCH_BYTES);
        for (offset, name) in &records {
            let key = Bytes::copy_from_slice(&name.producer.to_be_bytes());
            let known = changed.get(&key).or(worker.counters.get(&key));
            let count = known.copied().unwrap_or(0) + 1;
            changed.insert(key, count);
            let output = Output {
                partition,
                offset: *offset,
                producer: name.producer,
                count,
            };
            // It is small.
            let _ = outputs.append(now_ms, None, Some(&output.to_bytes()), &[]);
        }
        let mut commit = CommitBuilder::new(&worker.journal, now_ms);
        commit.advance_to(next_offset);
        let emitted = match records.is_empty() {
            true => Ok(()),
            false => commit.emit(OUTPUTS, outputs),
        };
        let mut changes = changed.iter();
        let finished = emitted
            .and_then(|()| {
                changes.try_for_each(|(key, count)| {
                    commit.change_state(key, Some(&count.to_be_bytes()))
                })
            })
            .and_then(|()| commit.finish());
        let commit = match finished {
            Ok(commit) => commit,
            Err(error) => {
                env.oracles.violated(format!("a small commit: {error}"));
                return Ok(());
            }
        };
        let at = journal(partition);
        let Some((_, end)) = self.append_in(env, at, epoch, &commit.batch)? else {
            self.discard_worker(partition);
            return Ok(());
        };
        if let Some(worker) = self.worker(partition) {
            worker.appending = Some(Appending {
                visible_at: end,
                commit,
                changed,
            });
        }
        self.written(env, at)
    }

    /// The records of some of the input, and where that ends.
    fn read_input(
        &self,
        env: &mut Env,
        at: TopicPartition,
        from: Offset,
        most: u64,
    ) -> Result<(Vec<(Offset, Name)>, Offset), Trouble> {
        let until = self.visible(at).min(from + most);
        let mut records = Vec::new();
        self.each_record_until(
            env,
            at,
            (from, until),
            INPUT_BYTES,
            |_, offset, _, value| {
                records.extend(value.and_then(|it| Some((offset, Name::from_bytes(&it)?))));
            },
        )?;
        Ok((records, until.max(from)))
    }

    /// A commit may count by now: then its outputs are to be sent.
    fn note_commit(&mut self, env: &mut Env, partition: PartitionIndex) {
        let visible = self.visible(journal(partition));
        let Some(worker) = self.worker(partition) else {
            return;
        };
        let counts = |it: &mut Appending| it.visible_at <= visible || planted!(SendBeforeCommit);
        let Some(appended) = worker.appending.take_if(counts) else {
            return;
        };
        worker.counters.extend(appended.changed);
        let sending = worker.journal.committed(appended.commit);
        env.report.worker_commits += 1;
        let is_idle = worker.sendings.is_empty();
        worker
            .sendings
            .extend(Some(sending).filter(|it| !it.outputs.is_empty()));
        if is_idle {
            worker.resend_at_us = 0;
            self.send_outputs(env, partition);
        }
    }

    /// Sends the oldest outputs, if it is time. What comes behind them waits until they have arrived: an output
    /// log takes nothing later that was overtaken.
    fn send_outputs(&mut self, env: &mut Env, partition: PartitionIndex) {
        let now_us = env.queue.now_us;
        let appointed = self.partition(OUTPUTS);
        let appointed = appointed.and_then(|it| it.replica.appointed_leader());
        let node = self.node();
        let Some(worker) = self.worker(partition) else {
            return;
        };
        let oldest = worker.sendings.front().and_then(|it| it.outputs.first());
        let Some(output) = oldest.filter(|_| worker.resend_at_us <= now_us) else {
            return;
        };
        let packet = Packet::Produce {
            at: output.target,
            request: env.next_number(),
            batch: output.batch.clone(),
        };
        worker.request = env.numbered;
        worker.resend_at_us = now_us + TIMEOUT_US;
        let known = worker.hint.take().or(appointed.map(|(leader, _)| leader));
        let any = env.dice.within(1, u64::from(env.brokers)) as BrokerId;
        let to = known.filter(|_| env.dice.happens(800)).unwrap_or(any);
        env.send(node, Node::Broker(to), packet);
    }

    /// An output log has answered.
    pub(super) fn outputs_answered(
        &mut self,
        env: &mut Env,
        from: BrokerId,
        request: u64,
        result: Result<Offset, Refusal>,
    ) {
        let Some(process) = &mut self.process else {
            return;
        };
        let mut workers = process.workers.iter_mut();
        let Some((partition, worker)) = workers.find(|(_, it)| it.request == request) else {
            return;
        };
        let partition = *partition;
        worker.hint = Some(from);
        match result {
            Ok(_) => {
                // It is asked once.
                worker.request = env.next_number();
                worker.resend_at_us = 0;
                env.report.outputs += 1;
                if let Some(oldest) = worker.sendings.front_mut() {
                    oldest.outputs.remove(0);
                }
                if let Some(arrived) = worker.sendings.pop_front_if(|it| it.outputs.is_empty()) {
                    worker.journal.settled(arrived.commit);
                }
                self.send_outputs(env, partition);
            }
            Err(refusal) => {
                if let Refusal::NotLeader(leader) = refusal {
                    worker.hint = leader;
                }
                worker.resend_at_us = worker.resend_at_us.min(env.queue.now_us + RETRY_US);
            }
        }
    }

    /// Up to where a worker here has handled its input.
    pub(crate) fn handled(&self, partition: PartitionIndex) -> Option<Offset> {
        let worker = self.process.as_ref()?.workers.get(&partition)?;
        Some(worker.journal.next_offset())
    }

    /// Whether a worker here has handled everything below an offset, and all of it has arrived; and what its
    /// guest's state is.
    pub(crate) fn has_handled(&self, partition: PartitionIndex, end: Offset) -> Option<&Counters> {
        let worker = self.process.as_ref()?.workers.get(&partition)?;
        let is_done = worker.journal.next_offset() == end
            && worker.appending.is_none()
            && worker.sendings.is_empty();
        is_done.then_some(&worker.counters)
    }
}
