//! A broker's shell around the replica: it does what the core says with a real log on a disk in
//! memory.

mod internal;
mod office;
mod retention;
mod serving;
mod shell;
mod worker;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use millstream_log::storage::{MemoryStorage, Storage, SyncBehaviour};
use millstream_log::{
    FlushTicket, Log, LogConfig, LogIdentity, LogSetup, OpenError, ReadError, StateFile, TailBudget,
};
use millstream_protocol::batch::verify_crc;
use millstream_protocol::{Offset, PartitionIndex, TopicPartition};
use millstream_replication::{
    BrokerId, DirectoryId, Durability, Durable, Effect, Input, LogView, Replica, Role, Run,
};

use self::office::Office;
pub(crate) use self::office::SILENCE_US;
use self::worker::Worker;
use super::env::Env;
use super::layout::{EVENTS, log_dir};
use super::packet::{Assigned, Beat, Beside, Decision, Node, Packet, Standing};
use super::plan::Retention;
use super::queue::Event;

/// How often a broker says that it is alive.
const BEAT_US: u64 = 100_000;

/// What one answer to a consumer carries.
const READ_BYTES: usize = 32_000;

/// A log that is small for a test rolls and writes checkpoints often.
const SEGMENT_BYTES: u64 = 4 * 1024;
const CHECKPOINT_BYTES: u64 = 10 * 1024;

/// What a broker writes for itself, or workers write, has larger batches.
const OTHERS_FACTOR: u64 = 8;

/// Nothing travels beside most messages.
pub(crate) const NOTHING: Beside = Beside {
    batches: Vec::new(),
    producers: None,
};

/// A state that says that the directory was lost, and which one it was.
const VOID: u8 = 0xff;

/// Why a step could not be done.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The storage has failed: the process ends.
    Stop,
    /// A log is damaged: its replica begins anew.
    Damaged(TopicPartition),
}

/// The clock of one machine: it begins anywhere and goes a little too fast or too slow.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    pub(crate) offset_us: u64,
    pub(crate) per_mille: u64,
}

impl Clock {
    fn ms(&self, now_us: u64) -> u64 {
        (self.offset_us + now_us / 1000 * self.per_mille) / 1000
    }

    fn delay_us(&self, until_ms: u64, now_us: u64) -> u64 {
        until_ms.saturating_sub(self.ms(now_us)) * 1_000_000 / self.per_mille
    }
}

/// A produced batch that waits for the high watermark.
#[derive(Debug)]
struct Waiting {
    visible_at: Offset,
    base_offset: Offset,
    to: Node,
    request: u64,
}

#[derive(Debug)]
pub(crate) struct Partition {
    pub(crate) replica: Replica,
    pub(crate) log: Log,
    flushing: Option<FlushTicket>,
    waiting: VecDeque<Waiting>,
    tick_at_ms: Option<u64>,
    /// Up to where records are to be deleted, and whoever wants it waits.
    deleting: Vec<Offset>,
    /// What the oracle was told.
    told: Offset,
}

/// What runs between a start and a crash.
#[derive(Debug)]
pub(crate) struct Process {
    states: StateFile,
    places: Vec<(TopicPartition, Place)>,
    /// The groups' coordinator, while the groups' log is led here.
    office: Option<Office>,
    /// The workers of partitions that are led here.
    workers: BTreeMap<PartitionIndex, Worker>,
}

impl Process {
    fn partition(&self, at: TopicPartition) -> Option<&Partition> {
        let place = self.places.iter().find(|(it, _)| *it == at);
        place?.1.partition.as_ref()
    }

    fn partition_mut(&mut self, at: TopicPartition) -> Option<&mut Partition> {
        self.place(at)?.partition.as_mut()
    }

    fn place(&mut self, at: TopicPartition) -> Option<&mut Place> {
        let place = self.places.iter_mut().find(|(it, _)| *it == at);
        place.map(|(_, place)| place)
    }
}

/// Where a partition's replica is, or may come to be.
#[derive(Debug, Default)]
struct Place {
    persisting: VecDeque<Durable>,
    partition: Option<Partition>,
    version: u64,
    /// The directory that was lost, while another one is registered.
    lost: Option<Option<DirectoryId>>,
    /// A relaxed log, kept through a loss of power.
    keeps_log: bool,
}

#[derive(Debug)]
pub(crate) struct Broker {
    pub(crate) id: BrokerId,
    pub(crate) storage: MemoryStorage,
    /// Its disk's identity.
    pub(crate) disk: u64,
    pub(crate) boot: u64,
    pub(crate) clock: Clock,
    pub(crate) process: Option<Process>,
    /// Its power was cut since the last start.
    pub(crate) lost_power: bool,
    pub(crate) paused_until_us: u64,
    /// Partitions in whose logs a bit was flipped.
    pub(crate) flipped: BTreeSet<TopicPartition>,
    /// The partitions of the run.
    partitions: Rc<[TopicPartition]>,
    durability: Durability,
    retention: Retention,
    effects: Vec<Effect>,
}

impl Broker {
    pub(crate) fn new(
        id: BrokerId,
        clock: Clock,
        partitions: Rc<[TopicPartition]>,
        durability: Durability,
        retention: Retention,
    ) -> Self {
        Self {
            id,
            storage: MemoryStorage::new(),
            disk: u64::from(id),
            boot: 0,
            clock,
            process: None,
            lost_power: false,
            paused_until_us: 0,
            flipped: BTreeSet::new(),
            partitions,
            durability,
            retention,
            effects: Vec::new(),
        }
    }

    fn node(&self) -> Node {
        Node::Broker(self.id)
    }

    /// The replica of a partition, if there is one.
    pub(crate) fn partition(&self, at: TopicPartition) -> Option<&Partition> {
        self.process.as_ref()?.partition(at)
    }

    fn place(&mut self, at: TopicPartition) -> Option<&mut Place> {
        self.process.as_mut()?.place(at)
    }

    /// Starts the process.
    pub(crate) fn start(&mut self, env: &mut Env) -> Result<(), Trouble> {
        let storage = Arc::new(self.storage.clone());
        let opened = StateFile::open(storage, PathBuf::from("/replicas"));
        let (states, damaged) = opened.map_err(|_| Trouble::Stop)?;
        let found = self.partitions.iter();
        let found = found.map(|at| (*at, states.states().get(at).cloned()));
        let found: Vec<_> = found.collect();
        let places = self.partitions.iter().map(|at| (*at, Place::default()));
        self.process = Some(Process {
            states,
            places: places.collect(),
            office: None,
            workers: BTreeMap::new(),
        });
        let lost_power = std::mem::take(&mut self.lost_power);
        let mut is_whole = true;
        for (at, state) in found {
            match self.restart(env, at, state.as_deref(), (damaged, lost_power)) {
                Ok(()) => {}
                Err(trouble @ Trouble::Stop) => return Err(trouble),
                Err(trouble @ Trouble::Damaged(_)) => {
                    self.trouble(env, trouble);
                    is_whole = false;
                }
            }
        }
        // Who has found damage has said so.
        if is_whole {
            self.beat(env);
        }
        Ok(())
    }

    /// Opens a replica again, as its state has it.
    fn restart(
        &mut self,
        env: &mut Env,
        at: TopicPartition,
        state: Option<&[u8]>,
        (damaged, lost_power): (bool, bool),
    ) -> Result<(), Trouble> {
        let void = state.and_then(directory_of_void);
        let durable = state.and_then(Durable::from_bytes);
        if let Some(void) = void {
            self.lose(at, Some(void), false)
        } else if damaged {
            self.lose(at, durable.map(|it| it.directory), false)
        } else if let Some(durable) = durable {
            match lost_power && self.durability == Durability::Relaxed {
                true => self.lose(at, Some(durable.directory), true),
                false => self.open(env, at, durable),
            }
        } else {
            Ok(())
        }
    }

    fn config(&self, at: TopicPartition) -> LogConfig {
        let (factor, retention) = match at.topic_id {
            EVENTS => (1, self.retention),
            _ => (OTHERS_FACTOR, Retention::None),
        };
        LogConfig {
            segment_bytes: SEGMENT_BYTES * factor,
            retention_bytes: match retention {
                Retention::Bytes(bytes) => Some(bytes),
                Retention::None | Retention::Any | Retention::Requests => None,
            },
            checkpoint_bytes: CHECKPOINT_BYTES * factor,
            tail_cache_bytes: 16 * 1024,
            ..LogConfig::default()
        }
    }

    fn log_setup(&self, at: TopicPartition) -> LogSetup {
        LogSetup {
            storage: Arc::new(self.storage.clone()),
            dir: log_dir(at),
            identity: LogIdentity {
                topic_id: at.topic_id,
                partition: at.partition,
            },
            config: self.config(at),
            tail_budget: TailBudget::new(1 << 20),
            salt: 0x5a17,
        }
    }

    /// Opens the log and the replica with what is on the disk.
    fn open(&mut self, env: &mut Env, at: TopicPartition, durable: Durable) -> Result<(), Trouble> {
        let opened = Log::create_or_open(self.log_setup(at), self.now_ms(env));
        let (log, recovery) = match opened {
            Ok(opened) => opened,
            Err(OpenError::Storage(_)) => return Err(Trouble::Stop),
            Err(OpenError::OtherPartition { .. } | OpenError::Version { .. }) => {
                return Err(Trouble::Damaged(at));
            }
        };
        env.trace(|| format!("{} opens {recovery:?}", self.id));
        // A replica's log is made before its state is stored: where it is not there, it is gone.
        if recovery.created || !recovery.damage.is_empty() {
            return Err(Trouble::Damaged(at));
        }
        if log.log_end_offset() < durable.deleted.max(durable.committed) {
            let what = format!("{} lacks some of what it knows of: {durable:?}", self.id);
            env.oracles.violated(what);
        }
        let runs = log.epochs().map(|(epoch, start)| Run { epoch, start });
        let view = LogView::new(
            log.start_border(),
            log.log_end_offset(),
            log.flushed_offset(),
            runs.collect(),
        );
        let mut effects = std::mem::take(&mut self.effects);
        let replica = Replica::open(self.id, durable, view, &mut effects);
        env.oracles.of(at).opened(self.id, replica.high_watermark());
        let partition = Partition {
            told: replica.log().start(),
            deleting: Vec::new(),
            replica,
            log,
            flushing: None,
            waiting: VecDeque::new(),
            tick_at_ms: None,
        };
        self.effects = effects;
        if let Some(place) = self.place(at) {
            place.partition = Some(partition);
        }
        self.perform(env, at, &NOTHING)?;
        self.settle(env, at)
    }

    /// The replica begins anew under another directory's identity.
    fn damaged(&mut self, env: &mut Env, at: TopicPartition) -> Result<(), Trouble> {
        env.trace(|| format!("{} is damaged: {at}", self.id));
        let Some(process) = &mut self.process else {
            return Ok(());
        };
        let state = process.states.states().get(&at);
        let directory = state
            .and_then(|it| Durable::from_bytes(it))
            .map(|it| it.directory);
        if let Some(place) = self.place(at) {
            place.partition = None;
        }
        self.lose(at, directory, false)?;
        self.beat(env);
        Ok(())
    }

    /// Notes on the disk that this directory does not count any more, before anything else.
    fn lose(
        &mut self,
        at: TopicPartition,
        directory: Option<DirectoryId>,
        keeps_log: bool,
    ) -> Result<(), Trouble> {
        let mut void = vec![VOID];
        void.extend(directory.unwrap_or_default().0.to_be_bytes());
        self.store(at, Some(&void))?;
        if let Some(place) = self.place(at) {
            place.lost = Some(directory);
            place.keeps_log = keeps_log;
        }
        Ok(())
    }

    /// Stores what a replica is to remember, or that there is none.
    fn store(&mut self, at: TopicPartition, state: Option<&[u8]>) -> Result<(), Trouble> {
        let Some(process) = &mut self.process else {
            return Ok(());
        };
        process.states.put(at, state);
        process.states.flush().map_err(|_| Trouble::Stop)
    }

    fn now_ms(&self, env: &Env) -> i64 {
        self.clock.ms(env.queue.now_us) as i64
    }

    fn delete_log(&self, at: TopicPartition) -> Result<(), Trouble> {
        millstream_log::delete_dir(&self.storage, &log_dir(at)).map_err(|_| Trouble::Stop)
    }

    /// Says that it is alive, and asks again for what it waits for.
    pub(crate) fn beat(&mut self, env: &mut Env) {
        let Some(process) = &self.process else {
            return;
        };
        let standings = process.places.iter().map(|(at, place)| {
            let replica = place.partition.as_ref().map(|it| &it.replica);
            let trusted = replica.map(Replica::durable).filter(|it| it.trusted);
            Standing {
                at: *at,
                leads: replica.and_then(Replica::leading),
                version: place.version,
                trusted: trusted.map(|it| it.directory),
            }
        });
        let beat = Beat {
            boot: self.boot,
            number: env.queue.now_us + 1,
            disk: self.disk,
            standings: standings.collect(),
        };
        env.send(self.node(), Node::Metadata, Packet::Beat(beat));
        for (at, place) in &process.places {
            if let Some(instead_of) = place.lost {
                let packet = Packet::Register {
                    at: *at,
                    instead_of,
                };
                env.send(self.node(), Node::Metadata, packet);
            }
        }
        let (broker, boot) = (self.id, self.boot);
        env.queue.push(BEAT_US, Event::Beats { broker, boot });
    }

    /// Looks after who is here: members that are silent, and workers that had to begin anew.
    pub(crate) fn look_after(&mut self, env: &mut Env) -> Result<(), Trouble> {
        self.expel(env)?;
        self.employ_all(env)
    }

    /// A packet has arrived.
    pub(crate) fn receive(
        &mut self,
        env: &mut Env,
        from: Node,
        packet: Packet,
    ) -> Result<(), Trouble> {
        match (from, packet) {
            (
                Node::Broker(from),
                Packet::Replica {
                    at,
                    message,
                    beside,
                },
            ) => {
                let sound = beside.batches.iter().all(|batch| verify_crc(batch).is_ok());
                let is_here = self.partition(at).is_some();
                if is_here && sound {
                    return self.step(env, at, Input::Received { from, message }, &beside);
                }
                Ok(())
            }
            (Node::Metadata, Packet::Decided(decision)) => self.decided(env, decision),
            (Node::Metadata, Packet::Registered(registered, at, assigned)) => {
                match registered == (self.boot, self.disk) {
                    true => self.registered(env, at, assigned),
                    false => Ok(()),
                }
            }
            (Node::Broker(from), Packet::Produced { request, result }) => {
                self.outputs_answered(env, from, request, result);
                Ok(())
            }
            (_, Packet::Produce { at, request, batch }) => {
                self.produce(env, at, (from, request), &batch)
            }
            (
                _,
                Packet::Read {
                    at,
                    request,
                    offset,
                },
            ) => self.read(env, at, (from, request), offset),
            (
                Node::Member(number),
                Packet::Heard {
                    stream,
                    session,
                    segment,
                },
            ) => self.heard_member(env, number, (stream, session), segment),
            _ => Ok(()),
        }
    }

    fn decided(&mut self, env: &mut Env, decision: Decision) -> Result<(), Trouble> {
        if decision.registered != (self.boot, self.disk) {
            return Ok(());
        }
        let at = decision.at;
        let Some(place) = self.place(at) else {
            return Ok(());
        };
        if place.version >= decision.appointment.version || place.lost.is_some() {
            return Ok(());
        }
        let known = place.partition.as_ref();
        let directory = known.map(|it| it.replica.durable().directory);
        match (directory, decision.assigned) {
            (None, None) => {}
            (Some(_), None) => {
                place.partition = None;
                self.store(at, None)?;
                self.delete_log(at)?;
            }
            (Some(directory), Some(assigned)) if directory >= assigned.directory => {}
            (known, Some(assigned)) => {
                // A new replica, or one that was away while it was none.
                place.partition = None;
                if known.is_some() {
                    self.store(at, None)?;
                }
                self.begin(env, at, assigned, false)?;
            }
        }
        if let Some(place) = self.place(at) {
            place.version = decision.appointment.version;
        }
        if self.partition(at).is_some() {
            let appointed = Input::Appointed(decision.appointment);
            self.step(env, at, appointed, &NOTHING)?;
        }
        Ok(())
    }

    fn registered(
        &mut self,
        env: &mut Env,
        at: TopicPartition,
        assigned: Assigned,
    ) -> Result<(), Trouble> {
        let Some(place) = self.place(at) else {
            return Ok(());
        };
        let is_meant = place
            .lost
            .is_some_and(|lost| lost.is_none_or(|lost| lost < assigned.directory));
        if !is_meant {
            return Ok(());
        }
        place.lost = None;
        let keeps_log = place.keeps_log;
        self.begin(env, at, assigned, keeps_log)
    }

    /// Begins a replica, with an empty log or what is there.
    fn begin(
        &mut self,
        env: &mut Env,
        at: TopicPartition,
        assigned: Assigned,
        keeps_log: bool,
    ) -> Result<(), Trouble> {
        let Assigned {
            directory, epoch, ..
        } = assigned;
        let durable = match assigned.replaces {
            true => Durable::registered(directory, epoch),
            false => Durable::assigned(directory, epoch),
        };
        if !keeps_log {
            self.delete_log(at)?;
            let made = Log::create_or_open(self.log_setup(at), self.now_ms(env));
            let (log, _) = made.map_err(|_| Trouble::Stop)?;
            log.close().map_err(|_| Trouble::Stop)?;
        }
        self.store(at, Some(&durable.to_bytes()))?;
        if !keeps_log {
            self.flipped.remove(&at);
        }
        self.open(env, at, durable)
    }

    /// The process ends, and what follows from a [`Trouble`].
    pub(crate) fn trouble(&mut self, env: &mut Env, trouble: Trouble) {
        self.effects.clear();
        match trouble {
            Trouble::Stop => {
                env.report.stops += 1;
                self.kill();
                let delay_us = env.dice.within(50_000, 1_000_000);
                let (broker, boot) = (self.id, self.boot);
                env.queue.push(delay_us, Event::Starts { broker, boot });
            }
            Trouble::Damaged(at) => {
                env.report.damages += 1;
                if let Err(trouble) = self.damaged(env, at) {
                    self.trouble(env, trouble);
                }
            }
        }
    }

    /// The process ends at once; what it has written stays.
    pub(crate) fn kill(&mut self) {
        self.stop(self.storage.kill());
    }

    /// The power is cut.
    pub(crate) fn cut_power(&mut self, seed: u64) {
        self.lost_power = true;
        self.stop(self.storage.crash(seed));
    }

    fn stop(&mut self, storage: MemoryStorage) {
        self.process = None;
        self.effects.clear();
        self.storage = storage;
        self.boot += 1;
    }

    /// Another disk is put in.
    pub(crate) fn replace_disk(&mut self, disk: u64) {
        self.stop(MemoryStorage::new());
        self.disk = disk;
        self.flipped.clear();
    }

    /// Flips a bit of one of the log's sealed segments, or of a snapshot of producers. `false` if there
    /// is none.
    pub(crate) fn flip(&mut self, at: TopicPartition, chance: u64) -> bool {
        if self.partition(at).is_none() {
            return false;
        }
        let names = self.storage.list(&log_dir(at)).unwrap_or_default();
        let ending = [".log", ".log", ".log", ".snapshot"][chance as usize % 4];
        let mut files: Vec<_> = names.iter().filter(|it| it.ends_with(ending)).collect();
        files.sort();
        if ending == ".log" {
            // What was flushed last, with nothing written behind it, cannot be told from a torn write.
            files.pop();
        }
        let Some(name) = files.get((chance >> 2) as usize % files.len().max(1)) else {
            return false;
        };
        let path = log_dir(at).join(name);
        let length = self.storage.content(&path).map_or(0, |it| it.len() as u64);
        let flipped = length > 0 && self.storage.flip_bit(&path, (chance >> 8) % length, 3);
        if flipped {
            self.flipped.insert(at);
        }
        flipped
    }

    pub(crate) fn set_sync(&self, behaviour: SyncBehaviour) {
        self.storage.set_sync(behaviour);
    }

    /// Whether its replica is one on which others may rely: there, trusted, in sync with its disk.
    pub(crate) fn is_trusted(&self, at: TopicPartition) -> bool {
        self.partition(at)
            .is_some_and(|it| it.replica.durable().trusted)
    }

    pub(crate) fn leads(&self, at: TopicPartition) -> bool {
        self.partition(at)
            .is_some_and(|it| it.replica.role() == Role::Leader)
    }

    /// Whether it leads anything.
    pub(crate) fn is_leading(&self) -> bool {
        self.partitions.iter().any(|at| self.leads(*at))
    }
}

fn trouble_of(error: &ReadError, at: TopicPartition, env: &mut Env) -> Trouble {
    env.trace(|| format!("   cannot read: {error}"));
    match error {
        ReadError::Damaged(_) => Trouble::Damaged(at),
        ReadError::Storage(_) => Trouble::Stop,
        ReadError::OutOfRange { .. } => {
            env.oracles
                .violated(format!("a read of what is there: {error}"));
            Trouble::Stop
        }
    }
}

fn directory_of_void(state: &[u8]) -> Option<DirectoryId> {
    let (tag, rest) = state.split_first()?;
    let directory = rest.try_into().ok().map(u64::from_be_bytes)?;
    (*tag == VOID).then_some(DirectoryId(directory))
}
