//! A broker's shell around the replica: it does what the core says with a real log on a disk in
//! memory.

mod retention;
mod serving;
mod shell;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;

use millstream_log::storage::{MemoryStorage, Storage, SyncBehaviour};
use millstream_log::{
    FlushTicket, Log, LogConfig, LogIdentity, LogSetup, OpenError, ReadError, StateFile, TailBudget,
};
use millstream_protocol::batch::verify_crc;
use millstream_protocol::{Offset, TopicId, TopicPartition};
use millstream_replication::{
    BrokerId, DirectoryId, Durability, Durable, Effect, Input, LogView, Replica, Role, Run,
};
use uuid::Uuid;

use super::env::Env;
use super::packet::{Assigned, Beat, Beside, Decision, Node, Packet};
use super::plan::Retention;
use super::queue::Event;

/// How often a broker says that it is alive.
const BEAT_US: u64 = 100_000;

/// What one answer to a consumer carries.
const READ_BYTES: usize = 32_000;

/// A log that is small for a test rolls and writes checkpoints often.
const SEGMENT_BYTES: u64 = 4 * 1024;
const CHECKPOINT_BYTES: u64 = 10 * 1024;

pub(crate) const PARTITION: TopicPartition = TopicPartition {
    topic_id: TopicId(Uuid::from_u128(0x5eed)),
    partition: 0,
};

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
    /// The log is damaged: the replica begins anew.
    Damaged,
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
    persisting: VecDeque<Durable>,
    pub(crate) partition: Option<Partition>,
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
    /// A bit was flipped in the log of this directory.
    pub(crate) flipped_in: Option<DirectoryId>,
    durability: Durability,
    retention: Retention,
    effects: Vec<Effect>,
}

impl Broker {
    pub(crate) fn new(
        id: BrokerId,
        clock: Clock,
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
            flipped_in: None,
            durability,
            retention,
            effects: Vec::new(),
        }
    }

    fn node(&self) -> Node {
        Node::Broker(self.id)
    }

    /// The replica, if there is one.
    pub(crate) fn partition(&self) -> Option<&Partition> {
        self.process.as_ref()?.partition.as_ref()
    }

    /// Starts the process.
    pub(crate) fn start(&mut self, env: &mut Env) -> Result<(), Trouble> {
        let storage = Arc::new(self.storage.clone());
        let opened = StateFile::open(storage, PathBuf::from("/replicas"));
        let (states, damaged) = opened.map_err(|_| Trouble::Stop)?;
        let state = states.states().get(&PARTITION).cloned();
        self.process = Some(Process {
            states,
            persisting: VecDeque::new(),
            partition: None,
            version: 0,
            lost: None,
            keeps_log: false,
        });
        let lost_power = std::mem::take(&mut self.lost_power);
        let void = state.as_deref().and_then(directory_of_void);
        let durable = state.as_deref().and_then(Durable::from_bytes);
        if let Some(void) = void {
            self.lose(Some(void), false)?;
        } else if damaged {
            self.lose(durable.map(|it| it.directory), false)?;
        } else if let Some(durable) = durable {
            if lost_power && self.durability == Durability::Relaxed {
                self.lose(Some(durable.directory), true)?;
            } else {
                self.open(env, durable)?;
            }
        }
        self.beat(env);
        Ok(())
    }

    fn config(&self) -> LogConfig {
        LogConfig {
            segment_bytes: SEGMENT_BYTES,
            retention_bytes: match self.retention {
                Retention::Bytes(bytes) => Some(bytes),
                Retention::None | Retention::Any | Retention::Requests => None,
            },
            checkpoint_bytes: CHECKPOINT_BYTES,
            tail_cache_bytes: 16 * 1024,
            ..LogConfig::default()
        }
    }

    fn log_setup(&self) -> LogSetup {
        LogSetup {
            storage: Arc::new(self.storage.clone()),
            dir: PathBuf::from("/log"),
            identity: LogIdentity {
                topic_id: PARTITION.topic_id,
                partition: PARTITION.partition,
            },
            config: self.config(),
            tail_budget: TailBudget::new(1 << 20),
            salt: 0x5a17,
        }
    }

    /// Opens the log and the replica with what is on the disk.
    fn open(&mut self, env: &mut Env, durable: Durable) -> Result<(), Trouble> {
        let opened = Log::create_or_open(self.log_setup(), self.now_ms(env));
        let (log, recovery) = match opened {
            Ok(opened) => opened,
            Err(OpenError::Storage(_)) => return Err(Trouble::Stop),
            Err(OpenError::OtherPartition { .. } | OpenError::Version { .. }) => {
                return Err(Trouble::Damaged);
            }
        };
        env.trace(|| format!("{} opens {recovery:?}", self.id));
        // A replica's log is made before its state is stored: where it is not there, it is gone.
        if recovery.created || !recovery.damage.is_empty() {
            return Err(Trouble::Damaged);
        }
        if log.log_end_offset() < durable.deleted.max(durable.committed) {
            let what = format!("{} lacks some of what it knows of: {durable:?}", self.id);
            env.oracle.violated(what);
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
        env.oracle.opened(self.id, replica.high_watermark());
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
        if let Some(process) = &mut self.process {
            process.partition = Some(partition);
        }
        self.perform(env, &NOTHING)?;
        self.settle(env)
    }

    /// The replica begins anew under another directory's identity.
    fn damaged(&mut self, env: &mut Env) -> Result<(), Trouble> {
        env.trace(|| format!("{} is damaged", self.id));
        let Some(process) = &mut self.process else {
            return Ok(());
        };
        process.partition = None;
        let state = process.states.states().get(&PARTITION);
        let directory = state
            .and_then(|it| Durable::from_bytes(it))
            .map(|it| it.directory);
        self.lose(directory, false)?;
        self.beat(env);
        Ok(())
    }

    /// Notes on the disk that this directory does not count any more, before anything else.
    fn lose(&mut self, directory: Option<DirectoryId>, keeps_log: bool) -> Result<(), Trouble> {
        let Some(process) = &mut self.process else {
            return Ok(());
        };
        let mut void = vec![VOID];
        void.extend(directory.unwrap_or_default().0.to_be_bytes());
        process.states.put(PARTITION, Some(&void));
        process.states.flush().map_err(|_| Trouble::Stop)?;
        process.lost = Some(directory);
        process.keeps_log = keeps_log;
        Ok(())
    }

    fn now_ms(&self, env: &Env) -> i64 {
        self.clock.ms(env.queue.now_us) as i64
    }

    fn delete_log(&self) -> Result<(), Trouble> {
        millstream_log::delete_dir(&self.storage, "/log".as_ref()).map_err(|_| Trouble::Stop)
    }

    /// Says that it is alive, and asks again for what it waits for.
    pub(crate) fn beat(&mut self, env: &mut Env) {
        let Some(process) = &self.process else {
            return;
        };
        let trusted = process.partition.as_ref().map(|it| it.replica.durable());
        let beat = Beat {
            boot: self.boot,
            number: env.queue.now_us + 1,
            leads: process
                .partition
                .as_ref()
                .and_then(|it| it.replica.leading()),
            version: process.version,
            disk: self.disk,
            trusted: trusted.filter(|it| it.trusted).map(|it| it.directory),
        };
        env.send(self.node(), Node::Metadata, Packet::Beat(beat));
        if let Some(instead_of) = process.lost {
            let packet = Packet::Register { instead_of };
            env.send(self.node(), Node::Metadata, packet);
        }
        let (broker, boot) = (self.id, self.boot);
        env.queue.push(BEAT_US, Event::Beats { broker, boot });
    }

    /// A packet has arrived.
    pub(crate) fn receive(
        &mut self,
        env: &mut Env,
        from: Node,
        packet: Packet,
    ) -> Result<(), Trouble> {
        match (from, packet) {
            (Node::Broker(from), Packet::Replica { message, beside }) => {
                let sound = beside.batches.iter().all(|batch| verify_crc(batch).is_ok());
                let is_here = self.partition().is_some();
                if is_here && sound {
                    return self.step(env, Input::Received { from, message }, &beside);
                }
                Ok(())
            }
            (Node::Metadata, Packet::Decided(decision)) => self.decided(env, decision),
            (Node::Metadata, Packet::Registered(registered, assigned)) => {
                match registered == (self.boot, self.disk) {
                    true => self.registered(env, assigned),
                    false => Ok(()),
                }
            }
            (_, Packet::Produce { request, batch }) => self.produce(env, from, request, batch),
            (_, Packet::Read { request, offset }) => self.read(env, from, request, offset),
            _ => Ok(()),
        }
    }

    fn decided(&mut self, env: &mut Env, decision: Decision) -> Result<(), Trouble> {
        if decision.registered != (self.boot, self.disk) {
            return Ok(());
        }
        let Some(process) = &mut self.process else {
            return Ok(());
        };
        if process.version >= decision.appointment.version || process.lost.is_some() {
            return Ok(());
        }
        let directory = process
            .partition
            .as_ref()
            .map(|it| it.replica.durable().directory);
        match (directory, decision.assigned) {
            (None, None) => {}
            (Some(_), None) => {
                process.partition = None;
                process.states.put(PARTITION, None);
                process.states.flush().map_err(|_| Trouble::Stop)?;
                self.delete_log()?;
            }
            (Some(directory), Some(assigned)) if directory >= assigned.directory => {}
            (known, Some(assigned)) => {
                // A new replica, or one that was away while it was none.
                process.partition = None;
                if known.is_some() {
                    process.states.put(PARTITION, None);
                    process.states.flush().map_err(|_| Trouble::Stop)?;
                }
                self.begin(env, assigned, false)?;
            }
        }
        if let Some(process) = &mut self.process {
            process.version = decision.appointment.version;
        }
        if self.partition().is_some() {
            self.step(env, Input::Appointed(decision.appointment), &NOTHING)?;
        }
        Ok(())
    }

    fn registered(&mut self, env: &mut Env, assigned: Assigned) -> Result<(), Trouble> {
        let Some(process) = &mut self.process else {
            return Ok(());
        };
        let is_meant = process
            .lost
            .is_some_and(|lost| lost.is_none_or(|lost| lost < assigned.directory));
        if !is_meant {
            return Ok(());
        }
        process.lost = None;
        let keeps_log = process.keeps_log;
        self.begin(env, assigned, keeps_log)
    }

    /// Begins a replica, with an empty log or what is there.
    fn begin(&mut self, env: &mut Env, assigned: Assigned, keeps_log: bool) -> Result<(), Trouble> {
        let Assigned {
            directory, epoch, ..
        } = assigned;
        let durable = match assigned.replaces {
            true => Durable::registered(directory, epoch),
            false => Durable::assigned(directory, epoch),
        };
        if !keeps_log {
            self.delete_log()?;
            let made = Log::create_or_open(self.log_setup(), self.now_ms(env));
            let (log, _) = made.map_err(|_| Trouble::Stop)?;
            log.close().map_err(|_| Trouble::Stop)?;
        }
        let Some(process) = &mut self.process else {
            return Ok(());
        };
        process.states.put(PARTITION, Some(&durable.to_bytes()));
        process.states.flush().map_err(|_| Trouble::Stop)?;
        if !keeps_log {
            self.flipped_in = None;
        }
        self.open(env, durable)
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
            Trouble::Damaged => {
                env.report.damages += 1;
                if let Err(trouble) = self.damaged(env) {
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
        self.flipped_in = None;
    }

    /// Flips a bit of one of the log's sealed segments, or of a snapshot of producers. `false` if there
    /// is none.
    pub(crate) fn flip(&mut self, chance: u64) -> bool {
        let Some(partition) = self.partition() else {
            return false;
        };
        let directory = partition.replica.durable().directory;
        let names = self.storage.list("/log".as_ref()).unwrap_or_default();
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
        let path = PathBuf::from("/log").join(name);
        let length = self.storage.content(&path).map_or(0, |it| it.len() as u64);
        let flipped = length > 0 && self.storage.flip_bit(&path, (chance >> 8) % length, 3);
        if flipped {
            self.flipped_in = Some(directory);
        }
        flipped
    }

    pub(crate) fn set_sync(&self, behaviour: SyncBehaviour) {
        self.storage.set_sync(behaviour);
    }

    /// Whether its replica is one on which others may rely: there, trusted, in sync with its disk.
    pub(crate) fn is_trusted(&self) -> bool {
        self.partition()
            .is_some_and(|it| it.replica.durable().trusted)
    }

    pub(crate) fn is_leading(&self) -> bool {
        self.partition()
            .is_some_and(|it| it.replica.role() == Role::Leader)
    }
}

fn trouble_of(error: &ReadError, env: &mut Env) -> Trouble {
    env.trace(|| format!("   cannot read: {error}"));
    match error {
        ReadError::Damaged(_) => Trouble::Damaged,
        ReadError::Storage(_) => Trouble::Stop,
        ReadError::OutOfRange { .. } => {
            env.oracle
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
