//! Which steps there are in a state, and what comes of one.

use std::fmt;
use std::sync::Arc;

use millstream_protocol::Offset;
use millstream_replication::{
    Appointment, BrokerId, DirectoryId, Durable, Input, LogView, Replica, ReplicaSet,
};
use stateright::{Model, Property};

use super::asserts::{asserted, silence_asserts};
use super::bounds::Bounds;
use super::faults;
use super::ghost::Ghost;
use super::relevance::{arrival, is_news, is_of, is_unknown};
use super::rules::{Violation, properties};
use super::shell::{Arrived, Shell};
use super::state::{Did, Entry, Letter, Log, Metadata, Node, Seen, Shared, Spent, State};

/// The model: one partition, within bounds.
#[derive(Clone, Debug)]
pub struct Partition {
    /// How much of everything.
    pub bounds: Bounds,
    /// What was done within them so far, by whichever thread.
    pub(crate) seen: Arc<Seen>,
}

/// A step.
#[derive(Clone, PartialEq)]
pub enum Action {
    /// Metadata appoints a leader, for the next epoch.
    Appoint {
        /// Who.
        leader: BrokerId,
    },
    /// Metadata begins to change the replica set.
    Change {
        /// Who are to be the replicas.
        next: Vec<BrokerId>,
    },
    /// Metadata makes a change final, as the leader has said.
    Finalise,
    /// A broker is told a decision of metadata.
    Learn {
        /// Who.
        broker: BrokerId,
        /// Which.
        version: u64,
    },
    /// A message arrives. It may arrive again.
    Deliver {
        /// The message.
        letter: Shared<Letter>,
        /// The end of its span, if it is shorter than it was.
        until: Option<Offset>,
    },
    /// What was to be persisted is on the disk.
    Persist {
        /// Whose.
        broker: BrokerId,
        /// Which of what is under way.
        index: usize,
    },
    /// The log is on the disk, up to here.
    Flush {
        /// Whose.
        broker: BrokerId,
        /// The end of what is on the disk.
        offset: Offset,
    },
    /// A leader appends a record.
    Produce {
        /// Who.
        broker: BrokerId,
    },
    /// A process ends and is there again.
    Crash {
        /// Whose.
        broker: BrokerId,
    },
    /// A process ends in the middle of what an arriving message has it write.
    CrashWriting {
        /// The message.
        letter: Shared<Letter>,
        /// Entries that are in the log by then.
        written: usize,
    },
    /// Of what an arriving message has a broker write, only the beginning is written.
    WriteShort {
        /// The message.
        letter: Shared<Letter>,
        /// Entries that are in the log by then.
        written: usize,
    },
    /// A machine loses its power.
    LosePower {
        /// Whose.
        broker: BrokerId,
        /// The end of what is left of the log.
        kept: Offset,
    },
    /// A directory is emptied.
    Wipe {
        /// Whose.
        broker: BrokerId,
    },
    /// A link was down, and is there again.
    Link {
        /// Who notices.
        broker: BrokerId,
        /// To whom.
        peer: BrokerId,
    },
    /// The log's committed entries go by retention.
    Retain {
        /// Whose.
        broker: BrokerId,
    },
}

impl Action {
    /// Whether it befalls the replicas, instead of being what they do by themselves.
    pub(crate) fn is_fate(&self) -> bool {
        match self {
            Self::Appoint { .. }
            | Self::Change { .. }
            | Self::Crash { .. }
            | Self::CrashWriting { .. }
            | Self::WriteShort { .. }
            | Self::LosePower { .. }
            | Self::Wipe { .. }
            | Self::Link { .. }
            | Self::Retain { .. } => true,
            Self::Finalise
            | Self::Learn { .. }
            | Self::Deliver { .. }
            | Self::Persist { .. }
            | Self::Flush { .. }
            | Self::Produce { .. } => false,
        }
    }
}

impl Partition {
    /// A model within these bounds.
    pub fn new(bounds: Bounds) -> Self {
        silence_asserts();
        Self {
            bounds,
            seen: Arc::default(),
        }
    }

    /// Plants the mistake of the bounds in what this thread does.
    pub(crate) fn plant(&self) {
        #[cfg(planted)]
        millstream_replication::planted::plant(self.bounds.mistake);
    }

    /// Whether something has failed on the way to this state.
    pub(crate) fn has_failed(&self, state: &State) -> bool {
        let spent = &state.spent;
        spent.crashes + spent.power_losses + spent.wipes > 0
    }

    fn first(&self) -> Option<State> {
        let bounds = &self.bounds;
        let replicas: Vec<BrokerId> = (1..=bounds.replicas).collect();
        let directory = |broker: BrokerId| DirectoryId(broker.into());
        let appointment = Appointment {
            version: 1,
            epoch: 1,
            leader: 1,
            directories: replicas.iter().map(|it| (*it, directory(*it))).collect(),
            replicas: ReplicaSet::new(&replicas)?,
            durability: bounds.durability,
            accepted: None,
        };
        let node = |broker: BrokerId| Node {
            core: Replica::open(
                broker,
                Durable::assigned(directory(broker), 0),
                LogView::default(),
                &mut Vec::new(),
            ),
            log: Log::default(),
            pending: Vec::new(),
            told: None,
        };
        let mut state = State {
            nodes: bounds.all().map(|it| Shared::new(node(it))).collect(),
            network: Vec::new(),
            metadata: Shared::new(Metadata {
                decisions: vec![appointment.clone()],
                newest: DirectoryId(bounds.brokers.into()),
                finalise: false,
            }),
            ghost: Shared::new(Ghost::default()),
            spent: Spent::default(),
            violation: None,
            did: Did::default(),
        };
        for broker in bounds.all() {
            let told = self.learn(&mut state, broker, 1);
            state.violation = told.err().or(state.violation);
        }
        if bounds.warm {
            self.settle(&mut state);
            let began = self.append(&mut state, 1, 0);
            state.violation = began.err().or(state.violation);
            self.settle(&mut state);
            state.network.clear();
        }
        self.forget(&mut state);
        Some(state)
    }

    /// Goes on until nothing more happens by itself.
    fn settle(&self, state: &mut State) {
        loop {
            let mut actions = Vec::new();
            self.actions(state, &mut actions);
            let goes_on = actions.into_iter().find_map(|action| match action {
                Action::Learn { .. } | Action::Persist { .. } | Action::Flush { .. } => {
                    self.next_state(state, action)
                }
                Action::Deliver { letter, until } => {
                    let mut once = state.clone();
                    once.network.retain(|it| *it != letter);
                    self.next_state(&once, Action::Deliver { letter, until })
                        .or(Some(once))
                }
                _ => None,
            });
            match goes_on {
                Some(next) => *state = next,
                None => return,
            }
        }
    }

    /// `None` if the step cannot be taken.
    fn take(&self, state: &mut State, action: Action) -> Result<Option<()>, Violation> {
        let bounds = &self.bounds;
        match action {
            Action::Appoint { leader } => {
                state.metadata.update(|metadata| {
                    metadata.decide(|it| {
                        it.epoch += 1;
                        it.leader = leader;
                    });
                });
            }
            Action::Change { next } => {
                let Some(replicas) =
                    ReplicaSet::changing(state.metadata.replicas().current(), &next)
                else {
                    return Ok(None);
                };
                state.spent.changes += 1;
                let current = replicas.current().to_vec();
                let joins: Vec<_> = next
                    .into_iter()
                    .filter(|it| !current.contains(it))
                    .collect();
                let mut joined = Vec::new();
                state.metadata.update(|metadata| {
                    joined.extend(joins.iter().map(|it| (*it, metadata.identify())));
                    metadata.decide(|it| {
                        it.replicas = replicas;
                        it.directories.extend(joined.iter().copied());
                    });
                });
                for (broker, directory) in joined {
                    faults::join(state, bounds, broker, directory)?;
                }
            }
            Action::Finalise => {
                let Some(replicas) = ReplicaSet::new(state.metadata.replicas().next()) else {
                    return Ok(None);
                };
                state.metadata.update(|metadata| {
                    metadata.decide(|it| {
                        it.directories
                            .retain(|broker, _| replicas.contains(*broker));
                        it.replicas = replicas;
                    });
                });
            }
            Action::Learn { broker, version } => self.learn(state, broker, version)?,
            Action::Deliver { letter, until } => self.deliver(state, &letter, until)?,
            Action::Persist { broker, index } => {
                let mut shell = Shell::new(state, broker);
                shell.persisted(index)?;
                shell.finish(bounds)?;
            }
            Action::Flush { broker, offset } => {
                Shell::new(state, broker).tell(bounds, Input::Flushed { offset }, None)?;
            }
            Action::Produce { broker } => {
                state.spent.records += 1;
                self.append(state, broker, state.spent.records)?;
            }
            Action::Crash { broker } => faults::crash(state, bounds, broker)?,
            Action::CrashWriting { letter, written } => {
                self.introduce(state, &letter)?;
                let (input, span) = arrival(&letter, None);
                let told = (input, span.as_ref().map(|it| (it, &letter.entries[..])));
                return faults::crash_writing(state, bounds, letter.to, told, written);
            }
            Action::WriteShort { letter, written } => {
                self.introduce(state, &letter)?;
                let (input, span) = arrival(&letter, None);
                let told = (input, span.as_ref().map(|it| (it, &letter.entries[..])));
                return faults::write_short(state, bounds, letter.to, told, written);
            }
            Action::LosePower { broker, kept } => {
                faults::lose_power(state, bounds, broker, kept)?;
            }
            Action::Wipe { broker } => faults::wipe(state, bounds, broker)?,
            Action::Link { broker, peer } => {
                state.spent.links += 1;
                Shell::new(state, broker).tell(bounds, Input::Linked { peer }, None)?;
            }
            Action::Retain { broker } => faults::retain(state, bounds, broker)?,
        }
        Ok(Some(()))
    }

    fn learn(&self, state: &mut State, broker: BrokerId, version: u64) -> Result<(), Violation> {
        let decisions = &state.metadata.decisions;
        let Some(decision) = decisions.iter().find(|it| it.version == version).cloned() else {
            return Ok(());
        };
        let mut shell = Shell::new(state, broker);
        shell.node.told = Some(decision.clone());
        shell.tell(&self.bounds, Input::Appointed(decision), None)
    }

    /// Who is to follow a leader is told of its appointment first: as long as it is not, the message
    /// might as well be under way still.
    fn introduce(&self, state: &mut State, letter: &Letter) -> Result<(), Violation> {
        let decisions = &state.metadata.decisions;
        let decision = decisions.iter().rfind(|it| is_of(letter, it));
        match decision.map(|it| it.version) {
            Some(version) if is_unknown(state.node(letter.to), letter) => {
                self.learn(state, letter.to, version)
            }
            _ => Ok(()),
        }
    }

    fn deliver(
        &self,
        state: &mut State,
        letter: &Letter,
        until: Option<Offset>,
    ) -> Result<(), Violation> {
        self.introduce(state, letter)?;
        let (input, span) = arrival(letter, until);
        let arrived: Arrived<'_> = span.as_ref().map(|span| {
            let length = (span.until - span.prev.offset) as usize;
            (span, &letter.entries[..length])
        });
        Shell::new(state, letter.to).tell(&self.bounds, input, arrived)
    }

    /// A leader appends.
    fn append(&self, state: &mut State, broker: BrokerId, record: u8) -> Result<(), Violation> {
        let Some(epoch) = state.node(broker).core.leading() else {
            return Ok(());
        };
        let mut shell = Shell::new(state, broker);
        shell.node.log.entries.push(Entry { epoch, record });
        let end = shell.node.log.end();
        shell.tell(&self.bounds, Input::Written { end }, None)
    }

    /// Where a fault was the last one, what may be done at once now is done everywhere.
    fn catch_up(&self, state: &mut State) -> Result<(), Violation> {
        for broker in self.bounds.all() {
            Shell::new(state, broker).finish(&self.bounds)?;
        }
        Ok(())
    }

    fn faults(&self, state: &State, broker: BrokerId, actions: &mut Vec<Action>) {
        let (bounds, spent) = (&self.bounds, &state.spent);
        let node = state.node(broker);
        let (end, flushed) = (node.log.end(), node.core.log().flushed());
        if spent.crashes < bounds.crashes {
            actions.push(Action::Crash { broker });
        }
        if spent.power_losses < bounds.power_losses {
            let kept = flushed.max(node.log.start.offset)..=end;
            actions.extend(kept.map(|kept| Action::LosePower { broker, kept }));
        }
        if spent.wipes < bounds.wipes {
            actions.push(Action::Wipe { broker });
        }
        if spent.links < bounds.links && !node.is_idle() {
            let peers = bounds.all().filter(|it| *it != broker);
            actions.extend(peers.map(|peer| Action::Link { broker, peer }));
        }
        let has_old = node.core.high_watermark() > node.log.start.offset;
        if spent.retentions < bounds.retentions && has_old {
            actions.push(Action::Retain { broker });
        }
    }

    fn decisions(&self, state: &State, actions: &mut Vec<Action>) {
        let bounds = &self.bounds;
        let Some(now) = state.metadata.now() else {
            return;
        };
        if now.epoch < bounds.epochs {
            let given = bounds.leaders.get(now.epoch as usize - 1);
            let members = now.replicas.members();
            let may_lead = members.filter(|it| given.is_none_or(|given| given == it));
            actions.extend(may_lead.map(|leader| Action::Appoint { leader }));
        }
        if state.spent.changes < bounds.changes && now.replicas.next().is_empty() {
            let others = bounds.sets().filter(|it| it != now.replicas.current());
            actions.extend(others.map(|next| Action::Change { next }));
        }
        if state.metadata.finalise {
            actions.push(Action::Finalise);
        }
    }
}

impl Model for Partition {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        self.plant();
        self.first().into_iter().collect()
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.violation.is_some() {
            return;
        }
        self.decisions(state, actions);
        let newest = state.metadata.now().map_or(0, |it| it.version);
        for (broker, node) in (1..).zip(&state.nodes) {
            let decisions = state.metadata.decisions.iter();
            let news = decisions.filter(|it| is_news(node, broker, it, it.version == newest));
            actions.extend(news.map(|it| Action::Learn {
                broker,
                version: it.version,
            }));
            let pending = 0..node.pending.len();
            actions.extend(pending.map(|index| Action::Persist { broker, index }));
            let (flushed, end) = (node.core.log().flushed(), node.log.end());
            let all = if self.bounds.cuts { flushed + 1 } else { end }..=end;
            let unflushed = all.filter(|offset| *offset > flushed);
            actions.extend(unflushed.map(|offset| Action::Flush { broker, offset }));
            if node.core.leading().is_some() && state.spent.records < self.bounds.records {
                actions.push(Action::Produce { broker });
            }
            self.faults(state, broker, actions);
        }
        for letter in &state.network {
            let whole = Action::Deliver {
                letter: letter.clone(),
                until: None,
            };
            actions.push(whole);
            if state.spent.short_writes < self.bounds.short_writes {
                // The start of an epoch may be written as well.
                let written = 0..=letter.entries.len();
                actions.extend(written.map(|written| Action::WriteShort {
                    letter: letter.clone(),
                    written,
                }));
            }
            let (_, span) = arrival(letter, None);
            let Some(span) = span else { continue };
            if self.bounds.cuts {
                let shorter = span.prev.offset + 1..span.until;
                actions.extend(shorter.map(|until| Action::Deliver {
                    letter: letter.clone(),
                    until: Some(until),
                }));
            }
            if state.spent.crashes < self.bounds.crashes {
                let written = 0..letter.entries.len();
                actions.extend(written.map(|written| Action::CrashWriting {
                    letter: letter.clone(),
                    written,
                }));
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        self.plant();
        let mut state = last.clone();
        state.did = Did::default();
        let taken = asserted(|| {
            let taken = self.take(&mut state, action)?;
            if state.spent != last.spent {
                self.catch_up(&mut state)?;
            }
            Ok(taken)
        });
        match taken {
            Ok(None) => return None,
            Ok(Some(())) => self.forget(&mut state),
            Err(violation) => state.violation = Some(violation),
        }
        self.seen.note(state.did);
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties(self)
    }
}

impl fmt::Debug for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Appoint { leader } => write!(f, "metadata appoints {leader}"),
            Self::Change { next } => write!(f, "metadata wants the replicas to be {next:?}"),
            Self::Finalise => write!(f, "metadata makes the change final"),
            Self::Learn { broker, version } => write!(f, "{broker} learns decision {version}"),
            Self::Deliver { letter, until } => {
                write!(f, "{:?}", **letter)?;
                until.map_or(Ok(()), |until| write!(f, ", only below {until}"))
            }
            Self::Persist { broker, .. } => write!(f, "{broker} has persisted"),
            Self::Flush { broker, offset } => write!(f, "{broker} has flushed below {offset}"),
            Self::Produce { broker } => write!(f, "{broker} appends a record"),
            Self::Crash { broker } => write!(f, "{broker} CRASHES"),
            Self::CrashWriting { letter, written } => {
                write!(f, "{:?}, CRASHES when {written} are written", **letter)
            }
            Self::WriteShort { letter, written } => {
                write!(f, "{:?}, WRITES only {written}", **letter)
            }
            Self::LosePower { broker, kept } => {
                write!(f, "{broker} LOSES POWER, keeps what is below {kept}")
            }
            Self::Wipe { broker } => write!(f, "{broker} IS EMPTIED"),
            Self::Link { broker, peer } => write!(f, "{broker} has a link to {peer} again"),
            Self::Retain { broker } => write!(f, "{broker} drops what is old"),
        }
    }
}
