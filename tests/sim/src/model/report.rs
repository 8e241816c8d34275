//! A check's outcome, for who reads it.

use std::fmt;
use std::time::Duration;

use millstream_replication::{Message, Position, Role, Span};
use stateright::{Checker, Expectation, Model};

use super::state::{Entry, Letter, Log, Node, State};
use super::steps::{Action, Partition};

/// What a check has found.
#[derive(Debug)]
pub struct Report {
    /// States that were generated.
    pub generated: usize,
    /// Different ones among them, where that is known.
    pub unique: Option<usize>,
    /// Steps to the farthest.
    pub depth: usize,
    /// How long it took.
    pub took: Duration,
    /// Whether nothing within the bounds was left out.
    pub exhaustive: bool,
    /// Every property, in their order.
    pub findings: Vec<Finding>,
}

/// What a check has found of one property.
#[derive(Debug)]
pub struct Finding {
    /// The property.
    pub name: &'static str,
    /// Whether it is a rule, not a thing that has to happen.
    pub is_rule: bool,
    /// The steps that break the rule, or make the thing happen.
    pub steps: Option<Vec<String>>,
}

impl Finding {
    /// Whether it is as it should be.
    pub fn is_good(&self) -> bool {
        self.is_rule == self.steps.is_none()
    }
}

impl Report {
    /// Of a check that has ended.
    pub fn of(checker: &impl Checker<Partition>, took: Duration, exhaustive: bool) -> Self {
        let broken = checker.discoveries();
        let is_whole = |name| {
            let property = checker.model().property(name);
            property.expectation != Expectation::Always
        };
        let exhaustive = exhaustive && broken.keys().all(|name| is_whole(name));
        let found = |name| checker.discovery(name).map(|it| describe(&it.into_vec()));
        let properties = checker.model().properties().into_iter();
        Self {
            generated: checker.state_count(),
            unique: Some(checker.unique_state_count()),
            depth: checker.max_depth(),
            took,
            exhaustive,
            findings: properties
                .map(|it| Finding {
                    name: it.name,
                    is_rule: it.expectation == Expectation::Always,
                    steps: found(it.name),
                })
                .collect(),
        }
    }

    /// Whether every rule holds, and everything has happened that should.
    pub fn is_good(&self) -> bool {
        self.findings.iter().all(Finding::is_good)
    }

    /// The rules that are broken.
    pub fn broken(&self) -> impl Iterator<Item = &Finding> {
        self.findings
            .iter()
            .filter(|it| it.is_rule && !it.is_good())
    }
}

/// A state, and the step that follows.
pub(crate) type Step = (State, Option<Action>);

/// A path in words: each step, and what has become of the replicas.
pub(crate) fn describe(path: &[Step]) -> Vec<String> {
    let mut before: Option<&State> = None;
    let mut all = Vec::new();
    for (index, (state, _)) in path.iter().enumerate() {
        let done = index.checked_sub(1).and_then(|it| path[it].1.as_ref());
        let done = done.map_or("at first".into(), |it| format!("{it:?}"));
        let mut line = format!("{index:3} {done}");
        for (broker, node) in (1..).zip(&state.nodes) {
            if before.is_none_or(|it| *it.node(broker) != *node) {
                line += &format!("\n        {broker}: {:?}", Shown(node));
            }
        }
        if let Some(violation) = &state.violation {
            line += &format!("\n        {:?}: {}", violation.rule, violation.what);
        }
        all.push(line);
        before = Some(state);
    }
    all
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = if self.exhaustive { "all" } else { "NOT all" };
        write!(f, "{} states, ", self.generated)?;
        if let Some(unique) = self.unique {
            write!(f, "{unique} unique, ")?;
        }
        let seconds = self.took.as_secs_f64();
        writeln!(
            f,
            "{} deep, {seconds:.1} s, {end} within the bounds",
            self.depth
        )?;
        for finding in &self.findings {
            let steps = finding.steps.as_ref().map_or(0, |it| it.len() - 1);
            match (finding.is_rule, &finding.steps) {
                (true, None) => writeln!(f, "  ok     {}", finding.name)?,
                (true, Some(path)) => {
                    writeln!(f, "  FAIL   {} (in {steps} steps)", finding.name)?;
                    for step in path {
                        writeln!(f, "    {step}")?;
                    }
                }
                (false, None) => writeln!(f, "  NEVER  {}", finding.name)?,
                (false, Some(_)) => {
                    writeln!(f, "  seen   {} (in {steps} steps)", finding.name)?;
                }
            }
        }
        Ok(())
    }
}

struct Shown<'a>(&'a Node);

impl fmt::Debug for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let node = self.0;
        let durable = node.core.durable();
        match (node.core.role(), node.core.leading()) {
            (Role::Leader, Some(epoch)) => write!(f, "leads {epoch}")?,
            (Role::Sealing, _) => write!(f, "seals")?,
            _ => write!(f, "follows")?,
        }
        write!(f, " {}", node.log)?;
        write!(f, ", on disk below {}", node.core.log().flushed())?;
        write!(f, ", committed below {}", node.core.high_watermark())?;
        write!(f, ", promised {}", durable.promised)?;
        if let Some(last) = node.pending.last() {
            write!(f, " (soon {})", last.promised)?;
        }
        write!(f, ", directory {}", durable.directory.0)?;
        if !durable.trusted {
            write!(f, ", not trusted")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.record {
            0 => write!(f, "S{}", self.epoch),
            it => write!(f, "{}{}", (b'a' + it - 1) as char, self.epoch),
        }
    }
}

impl fmt::Display for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let start = self.start.offset;
        if start > 0 {
            write!(f, "{start}..")?;
        }
        write!(f, "{:?}", self.entries)
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nodes = self.nodes.iter().map(|it| Shown(it));
        f.debug_list().entries(nodes).finish()?;
        write!(f, " {:?} {:?}", self.network.len(), self.violation)
    }
}

impl fmt::Debug for Letter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}: ", self.from, self.to)?;
        let at = |it: &Position| format!("{}@{}", it.epoch, it.offset);
        let entries = |it: &Span| format!("{:?} behind {}", self.entries, at(&it.prev));
        match &self.message {
            Message::Seal { epoch } => write!(f, "seal {epoch}"),
            Message::Sealed {
                epoch,
                durable,
                tip,
                high_watermark,
            } => {
                let trusted = if durable.trusted { "" } else { ", not trusted" };
                write!(f, "sealed {epoch}, log to {}", at(tip))?;
                write!(f, ", committed below {high_watermark}{trusted}")
            }
            Message::Fetch { epoch, from, .. } => write!(f, "fetch {epoch} from {}", at(from)),
            Message::Fetched { epoch, span } => write!(f, "fetched {epoch} {}", entries(span)),
            Message::Parted { epoch, floor, .. } => write!(f, "parted {epoch} at {}", at(floor)),
            Message::Append {
                epoch,
                span,
                high_watermark,
                asks,
                ..
            } => {
                let asks = if *asks { ", asks" } else { "" };
                write!(f, "append {epoch} {}", entries(span))?;
                write!(f, ", committed below {high_watermark}{asks}")
            }
            Message::Ack(ack) => write!(
                f,
                "ack {} of {}, {} on disk, directory {}",
                ack.epoch, ack.verified, ack.flushed, ack.directory.0
            ),
            Message::Mismatch { epoch, floor, .. } => {
                write!(f, "mismatch {epoch}, at most {}", at(floor))
            }
            Message::Trust { epoch, .. } => write!(f, "trust {epoch}"),
        }
    }
}
