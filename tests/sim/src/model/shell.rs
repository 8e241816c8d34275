//! What a broker does for a core: its log, its disk, its messages.

use millstream_protocol::Offset;
use millstream_replication::{
    BrokerId, Durable, Effect, Input, LogView, Message, Position, Replica, Role, Span,
};

use super::bounds::Bounds;
use super::rules::{Rule, Violation};
use super::state::{Entry, Letter, Log, Node, Shared, State};

/// A broker at work: a replica that is told something, with all that it then wants done.
pub(crate) struct Shell<'a> {
    pub(crate) state: &'a mut State,
    pub(crate) broker: BrokerId,
    pub(crate) node: Node,
    /// How many entries get into the log.
    pub(crate) room: usize,
    /// Whether there was no room for one.
    pub(crate) is_short: bool,
    /// The process ends after its first write.
    pub(crate) ends: bool,
}

/// A span and its entries, as they arrive.
pub(crate) type Arrived<'a> = Option<(&'a Span, &'a [Entry])>;

type Outcome = Result<(), Violation>;

impl<'a> Shell<'a> {
    pub(crate) fn new(state: &'a mut State, broker: BrokerId) -> Self {
        let node = Node::clone(state.node(broker));
        Self {
            state,
            broker,
            node,
            room: usize::MAX,
            is_short: false,
            ends: false,
        }
    }

    /// Tells the replica something and does what it wants; then, what need not wait.
    pub(crate) fn tell(mut self, bounds: &Bounds, input: Input, arrived: Arrived<'_>) -> Outcome {
        self.step(input, arrived)?;
        self.finish(bounds)
    }

    /// Does at once what makes no difference when it is late.
    pub(crate) fn finish(mut self, bounds: &Bounds) -> Outcome {
        let spent = &self.state.spent;
        let power_may_go = spent.power_losses < bounds.power_losses;
        let process_may_end = spent.crashes < bounds.crashes;
        loop {
            let end = self.node.log.end();
            if !power_may_go && !process_may_end && !self.node.pending.is_empty() {
                self.persisted(0)?;
            } else if !power_may_go && self.node.core.log().flushed() < end {
                self.step(Input::Flushed { offset: end }, None)?;
            } else {
                break;
            }
        }
        self.state.nodes[self.broker as usize - 1] = Shared::new(self.node);
        Ok(())
    }

    /// One of what is being persisted is on the disk, and with it what came before.
    pub(crate) fn persisted(&mut self, index: usize) -> Outcome {
        let durable = self.node.pending.drain(..=index).next_back();
        durable.map_or(Ok(()), |durable| self.step(Input::Persisted(durable), None))
    }

    /// Tells the replica something, and does what it wants in the order in which it wants it.
    pub(crate) fn step(&mut self, input: Input, arrived: Arrived<'_>) -> Outcome {
        let core = &mut self.node.core;
        let before = (core.high_watermark(), core.durable(), core.leading());
        let mut effects = Vec::new();
        core.step(0, input, &mut effects);
        let moved = self.compare(before)?;
        let wrote = self.run(effects, arrived)?;
        if wrote && !self.ends {
            let end = self.node.log.end();
            self.step(Input::Written { end }, None)?;
        }
        if moved {
            self.commit()?;
        }
        if !wrote {
            self.compare_log()?;
        }
        Ok(())
    }

    /// Opens a replica on what is on the disk by now.
    pub(crate) fn open(&mut self, durable: Durable, log: Log, flushed: Offset) -> Outcome {
        let mut effects = Vec::new();
        let view: LogView = log.view(flushed);
        let before = self.node.core.durable();
        self.node.core = Replica::open(self.broker, durable, view, &mut effects);
        self.node.log = log;
        self.node.pending.clear();
        self.node.told = None;
        let after = self.node.core.durable();
        if after.directory == before.directory && after.promised < before.promised {
            return Err(Violation::new(Rule::NothingGoesBack, "a promise is lost"));
        }
        self.run(effects, None).map(|_| ())
    }

    /// Whether the log was changed.
    fn run(&mut self, effects: Vec<Effect>, arrived: Arrived<'_>) -> Result<bool, Violation> {
        let mut wrote = false;
        for effect in effects {
            match effect {
                Effect::Persist(durable) => self.node.pending.push(durable),
                Effect::Truncate { to } => {
                    self.state.did.truncate |= to < self.node.log.end();
                    self.node.log.cut(to);
                    wrote = true;
                }
                Effect::Restart { at } => {
                    self.state.did.restart = true;
                    self.node.log = Log {
                        start: at,
                        entries: Vec::new(),
                    };
                    wrote = true;
                }
                Effect::Write { from } => {
                    self.state.did.adopt |= self.node.core.role() == Role::Sealing;
                    self.write(from, arrived);
                    wrote = true;
                }
                Effect::WriteEpochStart { epoch } => {
                    self.append([Entry { epoch, record: 0 }]);
                    wrote = true;
                }
                Effect::Send { to, message } if !self.ends => {
                    self.send(to, message);
                }
                Effect::Activated { epoch } => {
                    let mut led = Ok(());
                    self.state.ghost.update(|ghost| led = ghost.lead(epoch));
                    led?;
                }
                Effect::Finalise { epoch, version } => {
                    let now = self.state.metadata.now();
                    if now.is_some_and(|it| (it.epoch, it.version) == (epoch, version)) {
                        self.state.metadata.update(|it| it.finalise = true);
                    }
                }
                Effect::Refused { from, reason } => {
                    let what = format!("of {from}: {reason}");
                    return Err(Violation::new(Rule::NobodyRefused, what));
                }
                Effect::Send { .. } | Effect::Deposed { .. } => {}
            }
        }
        Ok(wrote)
    }

    fn write(&mut self, from: Offset, arrived: Arrived<'_>) {
        let Some((span, entries)) = arrived else {
            return;
        };
        let known = from.saturating_sub(span.prev.offset) as usize;
        self.append(entries.iter().skip(known).copied());
    }

    /// Writes as much as there is room for.
    fn append(&mut self, entries: impl IntoIterator<Item = Entry>) {
        for entry in entries {
            if self.room == 0 {
                self.is_short = true;
                return;
            }
            self.room -= 1;
            self.node.log.entries.push(entry);
        }
    }

    fn send(&mut self, to: BrokerId, message: Message) {
        let entries = match &message {
            Message::Append { span, .. } | Message::Fetched { span, .. } => {
                self.node.log.slice(span.prev.offset, span.until)
            }
            _ => Vec::new(),
        };
        self.state.post(Letter {
            from: self.broker,
            to,
            message,
            entries,
        });
    }

    /// Whether a leader's high watermark has moved.
    fn compare(
        &self,
        (high_watermark, durable, leading): (Offset, Durable, Option<u32>),
    ) -> Result<bool, Violation> {
        let core = &self.node.core;
        let back = if core.high_watermark() < high_watermark {
            "a high watermark goes back"
        } else if core.durable().promised < durable.promised {
            "a promise goes back"
        } else if core.leading() < leading && core.leading().is_some() {
            "an epoch goes back"
        } else {
            return Ok(core.leading().is_some() && core.high_watermark() > high_watermark);
        };
        Err(Violation::new(Rule::NothingGoesBack, back))
    }

    fn commit(&mut self) -> Outcome {
        let core = &self.node.core;
        let (Some(epoch), end) = (core.leading(), core.high_watermark()) else {
            return Ok(());
        };
        let is_news = end > self.state.ghost.committed.len() as Offset;
        let mut agrees = Ok(());
        self.state
            .ghost
            .update(|ghost| agrees = ghost.commit(&self.node, epoch, end));
        agrees?;
        // What a leader takes over as committed was so under an older one, whose replicas were others.
        if !is_news {
            return Ok(());
        }
        let told = self.node.told.as_ref();
        let set = told.map(|it| it.replicas.clone()).unwrap_or_default();
        let leader = (self.broker, &self.node);
        if self.state.ghost.is_held(self.state, leader, &set, end) {
            return Ok(());
        }
        let what = format!("below {end} in epoch {epoch}");
        Err(Violation::new(Rule::DurableOnMajority, what))
    }

    /// What the core knows of its log is so.
    fn compare_log(&self) -> Outcome {
        let (view, log) = (self.node.core.log(), &self.node.log);
        let borders = (view.start(), view.end()) == (log.start.offset, log.end());
        let is_so = |offset| {
            let epoch = log.epoch_before(offset);
            view.position(offset) == Some(Position { epoch, offset })
        };
        if borders && (log.start.offset..=log.end()).all(is_so) {
            return Ok(());
        }
        let what = format!("{view:?}");
        Err(Violation::new(Rule::LogIsKnown, what))
    }
}
