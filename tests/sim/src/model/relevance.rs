//! What can still have a consequence: a message, a decision of metadata. The rest is forgotten, so
//! that states that differ in nothing else are the same.

use millstream_protocol::{LeaderEpoch, Offset};
use millstream_replication::{
    Ack, Appointment, BrokerId, DirectoryId, FollowerStatus, Input, Message, Role, Span,
};

use super::asserts::asserted;
use super::state::{Letter, Node, Shared, State};
use super::steps::Partition;

impl Partition {
    /// Forgets what can have no consequence any more.
    pub(crate) fn forget(&self, state: &mut State) {
        let network = std::mem::take(&mut state.network);
        let live = network
            .into_iter()
            .filter(|it| !self.is_obsolete(state, it));
        state.network = live.collect();
        let (nodes, metadata, network) = (&state.nodes, &state.metadata, &state.network);
        let newest = metadata.now().map_or(0, |it| it.version);
        let may_tell = |it: &Appointment| {
            let news = |(broker, node): (BrokerId, &Shared<Node>)| {
                let starts = node.is_meant(broker, it)
                    && node.promised() < it.epoch
                    && node.version() < it.version;
                starts || is_news(node, broker, it, it.version == newest)
            };
            let later = metadata
                .decisions
                .iter()
                .filter(|other| other.version > it.version);
            let is_last = later.into_iter().all(|other| other.epoch != it.epoch);
            let introduces = is_last && network.iter().any(|letter| is_of(letter, it));
            it.version == newest || introduces || (1..).zip(nodes).any(news)
        };
        if !metadata.decisions.iter().all(may_tell) {
            let mut kept = (**metadata).clone();
            kept.decisions.retain(may_tell);
            state.metadata = Shared::new(kept);
        }
        let mut ghost = (*state.ghost).clone();
        ghost.forget(state);
        if ghost != *state.ghost {
            state.ghost = Shared::new(ghost);
        }
    }

    /// Whether the core that a message is for ignores it, from now on.
    fn is_obsolete(&self, state: &State, letter: &Letter) -> bool {
        let (from, to) = (state.node(letter.from), state.node(letter.to));
        let promised = to.promised();
        match &letter.message {
            // Who has promised it already would answer, to somebody who does not ask any more.
            Message::Seal { epoch } => {
                *epoch < promised || (*epoch == promised && from.core.role() != Role::Sealing)
            }
            Message::Fetch { epoch, .. } => *epoch < promised || from.core.role() != Role::Sealing,
            Message::Sealed { epoch, .. }
            | Message::Fetched { epoch, .. }
            | Message::Parted { epoch, .. } => *epoch < promised || to.core.role() != Role::Sealing,
            // While a follower can forget how far it is, it may need the message again.
            Message::Append { epoch, .. } => {
                let is_known = !self.may_fail(state) && !is_unknown(to, letter);
                *epoch < promised || (is_known && changes_nothing(to, letter))
            }
            Message::Ack(ack) => {
                to.core.leading() != Some(ack.epoch) || self.is_known(to, letter.from, ack)
            }
            Message::Mismatch { epoch, .. } => to.core.leading() != Some(*epoch),
            Message::Trust { epoch, directory } => {
                let durable = to.core.durable();
                *epoch < promised || durable.trusted || durable.directory != *directory
            }
        }
    }

    /// Whether a leader knows already what an acknowledgement says. That of a later directory than
    /// the first may have to be heard as such.
    fn is_known(&self, leader: &Node, from: BrokerId, ack: &Ack) -> bool {
        let is_first = ack.directory == DirectoryId(from.into());
        let mut followers = leader.core.followers();
        let knows = |it: FollowerStatus| {
            it.broker == from
                && it.verified >= ack.verified
                && it.flushed >= ack.flushed
                && it.trusted >= ack.trusted
        };
        is_first && self.bounds.links == 0 && followers.any(knows)
    }

    /// Whether anything can still befall a broker.
    fn may_fail(&self, state: &State) -> bool {
        let (bounds, spent) = (&self.bounds, &state.spent);
        spent.crashes < bounds.crashes
            || spent.power_losses < bounds.power_losses
            || spent.wipes < bounds.wipes
    }
}

/// Whether a decision may still make a broker do something.
pub(crate) fn is_news(
    node: &Node,
    broker: BrokerId,
    decision: &Appointment,
    is_newest: bool,
) -> bool {
    if decision.version <= node.version() {
        return false;
    }
    let is_theirs = node.is_meant(broker, decision);
    let begins = is_theirs && (node.promised() < decision.epoch || is_newest);
    let goes_on = match node.core.role() {
        Role::Follower => false,
        Role::Sealing => is_theirs || is_newest,
        Role::Leader => is_newest || node.core.leading() == Some(decision.epoch),
    };
    begins || goes_on
}

/// Whether a message is one that is heeded because of this decision.
pub(crate) fn is_of(letter: &Letter, decision: &Appointment) -> bool {
    leads(letter) == Some(decision.epoch)
}

/// Whether a broker was told of no leader in the epoch of who leads or wants to, or a newer one.
pub(crate) fn is_unknown(node: &Node, letter: &Letter) -> bool {
    leads(letter) > Some(node.told.as_ref().map_or(0, |it| it.epoch))
}

/// The epoch of who leads or wants to.
fn leads(letter: &Letter) -> Option<LeaderEpoch> {
    match &letter.message {
        Message::Seal { epoch } | Message::Append { epoch, .. } => Some(*epoch),
        _ => None,
    }
}

/// A message as it arrives, and its span.
pub(crate) fn arrival(letter: &Letter, until: Option<Offset>) -> (Input, Option<Span>) {
    let (from, mut message) = (letter.from, letter.message.clone());
    let mut arrived = None;
    if let Message::Append { span, .. } | Message::Fetched { span, .. } = &mut message {
        if let Some(until) = until {
            span.cut(until);
        }
        arrived = Some(span.clone());
    }
    (Input::Received { from, message }, arrived)
}

/// Whether a message says nothing new to a core.
fn changes_nothing(node: &Node, letter: &Letter) -> bool {
    let mut core = node.core.clone();
    let mut effects = Vec::new();
    let (input, _) = arrival(letter, None);
    let done = asserted(|| {
        core.step(0, input, &mut effects);
        Ok(())
    });
    done.is_ok() && effects.is_empty() && core == node.core
}
