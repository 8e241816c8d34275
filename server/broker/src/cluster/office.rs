//! The steward's office: on every broker, and filled on the one that leads the metadata quorum.

use std::sync::Arc;
use std::time::Duration;

use millstream_consensus::Role;
use millstream_metadata::beat::{Beat, BeatAnswer, Session};
use millstream_metadata::limits::HEARTBEAT_MS;
use millstream_metadata::plan::widen;
use millstream_metadata::steward::{ClusterStatus, Patience, Steward};
use millstream_metadata::{Command, Start};
use parking_lot::Mutex;
use tokio::time::{Instant, MissedTickBehavior, interval};
use uuid::Uuid;

use super::quorum::Quorum;

/// Where the cluster's steward is, if it is on this broker.
pub(crate) struct Office {
    quorum: Arc<Quorum>,
    /// This start of this broker.
    start: Start,
    steward: Mutex<Option<Held>>,
    opened: Instant,
}

/// A steward, and in which term of the quorum's leadership it took office.
struct Held {
    term: u64,
    steward: Steward,
}

impl Office {
    pub(crate) fn new(quorum: Arc<Quorum>, start: Start) -> Self {
        Self {
            quorum,
            start,
            steward: Mutex::new(None),
            opened: Instant::now(),
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Hears a broker's beat. `None` if the steward is not here.
    pub(crate) fn hear(&self, beat: &Beat) -> Option<BeatAnswer> {
        let image = self.quorum.applied().image;
        let mut held = self.steward.lock();
        let steward = &mut held.as_mut()?.steward;
        Some(steward.beat(self.now_ms(), &image, beat))
    }

    /// How the cluster stands. `None` if the steward is not here.
    pub(crate) fn status(&self) -> Option<ClusterStatus> {
        let applied = self.quorum.applied();
        let held = self.steward.lock();
        Some(held.as_ref()?.steward.status(self.now_ms(), &applied.image))
    }

    /// Takes office whenever this broker leads the quorum, and has done what the steward decides.
    pub(crate) async fn run(&self) {
        let mut ticks = interval(Duration::from_millis(HEARTBEAT_MS));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut images = self.quorum.watch();
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                changed = images.changed() => if changed.is_err() { return },
            }
            if !self.hold().await {
                continue;
            }
            let applied = images.borrow_and_update().clone();
            let commands = {
                let now_ms = self.now_ms();
                let mut held = self.steward.lock();
                let steward = held.as_mut().map(|held| &mut held.steward);
                steward.map(|it| it.decide(now_ms, applied.revision, &applied.image))
            };
            let mut commands = commands.unwrap_or_default();
            if commands.is_empty() {
                commands.extend(widen(&applied.image));
            }
            for command in commands {
                self.carry_out(command).await;
            }
        }
    }

    /// Whether the steward is here, having taken or left office if that has changed.
    async fn hold(&self) -> bool {
        let status = self.quorum.status();
        if status.role != Role::Leader {
            if self.steward.lock().take().is_some() {
                tracing::info!("another broker looks after the cluster from here on");
            }
            return false;
        }
        let is_held = |held: &Option<Held>| held.as_ref().is_some_and(|it| it.term == status.term);
        if is_held(&self.steward.lock()) {
            return true;
        }
        // It begins with all that was decided before.
        if self.quorum.consensus().linearizable_read().await.is_err() {
            return false;
        }
        let (own_id, patience) = (self.quorum.me(), Patience::default());
        let session = Session(Uuid::new_v4().as_u64_pair().0);
        let steward = Steward::new(own_id, self.start, session, patience, self.now_ms());
        let term = status.term;
        tracing::info!(term, "this broker looks after the cluster from here on");
        *self.steward.lock() = Some(Held { term, steward });
        true
    }

    async fn carry_out(&self, command: Command) {
        let shown = describe(&command);
        match self.quorum.consensus().propose(command).await {
            Ok(Some(_)) => {
                if let Some(shown) = shown {
                    tracing::info!("{shown}");
                }
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, shown, "a decision was not carried out"),
        }
    }
}

/// What a decision is about, for the log.
fn describe(command: &Command) -> Option<String> {
    match command {
        Command::FenceBroker { broker_id, .. } => Some(format!(
            "broker {broker_id} is silent: it leads nothing until it is there again"
        )),
        Command::AppointLeaders { nominations } => {
            Some(format!("{} partitions get a leader", nominations.len()))
        }
        Command::ReassignPartitions { reassignments } => Some(format!(
            "{} partitions get other replicas",
            reassignments.len()
        )),
        _ => None,
    }
}
