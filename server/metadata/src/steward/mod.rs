//! The steward: what the broker that leads the metadata quorum decides on behalf of the cluster.
//!
//! It hears the brokers' [beats](crate::beat) and says which commands to give: who has gone is
//! fenced, what has no leader gets one, a leader that does not get to lead is replaced, a broker that
//! drains is emptied step by step, companions follow their inputs, one whose disk is full leads nothing that another can,
//! and leaderships go back to preferred leaders when all is calm.
//!
//! What it does _not_ do: it changes nothing by itself, keeps nothing on a disk and has no clock. It
//! makes no replicas for those that are lost, moves none for balance, and accepts no loss: these are
//! an operator's decisions.
//!
//! # How it is used
//!
//! There is one while a broker leads the metadata quorum, made when it begins to, once its image has
//! all that was decided before. [`Steward::beat`] is called for every beat, the own broker's included,
//! and its answer sent back. [`Steward::decide`] is called every [`HEARTBEAT_MS`] or sooner, and at
//! once when the image has changed; its commands are proposed by this broker itself, in their order,
//! and it is not called again before all of them are granted, refused or given up. Nothing else is to
//! be said to it: what became of a command is seen in the image. A command that comes too late does
//! nothing, as it names the start or the epoch that it means.
//!
//! Brokers register by themselves. Nobody is fenced for a silence from before the steward was there,
//! or from while it was itself asleep; nor is the process that it is in.
//!
//! # Soft state
//!
//! When each broker was heard, what it leads, and which partitions have trouble. A new steward begins
//! with nothing: it gives everybody the time anew, and is told by the brokers what they lead.
//!
//! [`HEARTBEAT_MS`]: crate::limits::HEARTBEAT_MS

mod reporter;
mod status;
mod trials;
mod watch;

use std::borrow::Cow;

pub use reporter::Reporter;
pub use status::{
    BrokerStatus, ClusterStatus, Listed, OfflinePartition, OfflineReason, UnderReplicated,
};

use crate::beat::{Beat, BeatAnswer, Session};
use crate::broker::{BrokerId, Start};
use crate::command::Command;
use crate::companions::Companions;
use crate::image::Image;
use crate::leaders::Nomination;
use crate::limits::{
    ACTIVATION_LIMIT_MS, BALANCE_PAUSE_MS, CALM_MS, Limits, MAX_BALANCED, SILENCE_LIMIT_MS,
};
use crate::load::Load;
use crate::partition::Partition;
use crate::plan::{appoint, back_to_preferred, drain, elections, follow, leaders_astray};
use trials::{Standing, Trials};
use watch::{Watch, Watched};

/// How long the steward waits for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// For a sign of life of a broker, milliseconds. Default [`SILENCE_LIMIT_MS`].
    pub silence_ms: u64,
    /// For a leader to lead, milliseconds. Default [`ACTIVATION_LIMIT_MS`]. It doubles as attempts
    /// fail.
    pub activation_ms: u64,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            silence_ms: SILENCE_LIMIT_MS,
            activation_ms: ACTIVATION_LIMIT_MS,
        }
    }
}

/// See the [module](self).
#[derive(Clone, Debug)]
pub struct Steward {
    /// The broker that it is on, and its start.
    own: (BrokerId, Start),
    session: Session,
    patience: Patience,
    now_ms: u64,
    watch: Watch,
    trials: Trials,
    /// The revision at which no partition was without a leader that could have one.
    elected: Option<u64>,
    /// The revision at which there was no step left to drain anybody.
    drained: Option<u64>,
    /// The revision at which no companion was astray that could follow its input.
    followed: Option<u64>,
    /// When it is next looked at who leads companions.
    align_ms: u64,
    /// When it is next looked at what brokers lead whose disks are full.
    relieve_ms: u64,
    /// When leaderships are next looked at for balance.
    balance_ms: u64,
}

impl Steward {
    /// A steward that takes office now, in the process that is this start of this broker. Times are
    /// those of one clock that does not go back, milliseconds.
    pub fn new(
        own_id: BrokerId,
        own_start: Start,
        session: Session,
        patience: Patience,
        now_ms: u64,
    ) -> Self {
        Self {
            own: (own_id, own_start),
            session,
            patience,
            now_ms,
            watch: Watch::new(now_ms),
            trials: Trials::new(patience.activation_ms),
            elected: None,
            drained: None,
            followed: None,
            align_ms: now_ms,
            relieve_ms: now_ms,
            balance_ms: now_ms,
        }
    }

    /// Takes a beat in, and says what the broker is told.
    pub fn beat(&mut self, now_ms: u64, image: &Image, beat: &Beat) -> BeatAnswer {
        self.pass(now_ms);
        let broker_id = beat.broker_id;
        let (answer, news) = self.watch.beat(image, self.session, self.now_ms, beat);
        if news.is_sweeping {
            self.elected = None;
        }
        for (at, before) in news.named {
            let Some(partition) = image.partition(at).filter(|it| it.leader == broker_id) else {
                continue;
            };
            let epoch = partition.leader_epoch;
            let was_led = before.is_some_and(|it| it.epoch == epoch);
            let standing = self.watch.standing(image, at, partition);
            if was_led || standing == Standing::Led {
                self.trials.reported(self.now_ms, at, epoch, standing);
            }
        }
        answer
    }

    /// What is to be done now. `revision` is that of the image: the index of the last entry that has
    /// changed it.
    pub fn decide(&mut self, now_ms: u64, revision: u64, image: &Image) -> Vec<Command> {
        self.pass(now_ms);
        let is_new = self.elected != Some(revision);
        if is_new {
            self.watch.follow(image, self.now_ms);
        }
        let mut commands = self.fence();
        // What follows holds for the cluster as it is then.
        let image = match commands.is_empty() {
            true => Cow::Borrowed(image),
            false => Cow::Owned(after(image, &commands)),
        };
        if is_new || !commands.is_empty() {
            self.elect(&image, &mut commands);
            self.elected = commands.is_empty().then_some(revision);
        }
        commands.extend(appoint(&self.trials.overdue(&image, self.now_ms)));
        if commands.is_empty() && self.followed != Some(revision) {
            commands.extend(follow(&image));
            self.followed = commands.is_empty().then_some(revision);
        }
        if commands.is_empty() {
            commands = appoint(&self.align(&image));
        }
        if commands.is_empty() {
            commands = appoint(&self.relieve(&image));
        }
        if commands.is_empty() && self.drained != Some(revision) {
            commands = drain_one(&image);
            self.drained = commands.is_empty().then_some(revision);
        }
        if commands.is_empty() {
            commands = appoint(&self.balance(&image));
        }
        commands
    }

    /// Time has passed. What the steward slept through, nobody is blamed for.
    fn pass(&mut self, now_ms: u64) {
        let gap_ms = now_ms.saturating_sub(self.now_ms);
        if gap_ms > self.patience.silence_ms / 2 {
            self.watch.sleep(gap_ms);
            self.trials.sleep(gap_ms);
        }
        self.now_ms = self.now_ms.max(now_ms);
    }

    fn fence(&self) -> Vec<Command> {
        let silent = self.watch.silent(self.patience.silence_ms, self.now_ms);
        let silent = silent.filter(|it| *it != self.own);
        let fence = |(broker_id, start)| Command::FenceBroker { broker_id, start };
        silent.map(fence).collect()
    }

    /// Leaders for what has none. Which partitions are led is looked at anew.
    fn elect(&mut self, image: &Image, commands: &mut Vec<Command>) {
        let watch = &self.watch;
        let standing = |at, partition: &Partition| watch.standing(image, at, partition);
        self.trials.follow(image, self.now_ms, standing);
        commands.extend(elections(image));
    }

    /// Some leaderships of companions for those who lead their inputs.
    fn align(&mut self, image: &Image) -> Vec<Nomination> {
        if self.now_ms < self.align_ms {
            return Vec::new();
        }
        let companions = Companions::of(image);
        if companions.is_empty() {
            return Vec::new();
        }
        self.align_ms = self.now_ms + BALANCE_PAUSE_MS;
        let is_led = |at, partition: &Partition| self.watch.led(image, at, partition).is_some();
        let astray = leaders_astray(image, &companions).filter(|(it, _)| {
            is_led(it.input_at, it.input)
                && is_led(it.at, it.partition)
                && self.trials.is_settled(it.at, self.now_ms)
        });
        // Where many partitions have trouble these go on, if slowly.
        let room = MAX_BALANCED.saturating_sub(self.trials.waiting()).max(1);
        astray
            .take(room)
            .map(|(_, nomination)| nomination)
            .collect()
    }

    /// Some leaderships of brokers whose disks are full, for others with room. Companions follow.
    fn relieve(&mut self, image: &Image) -> Vec<Nomination> {
        let is_full = |broker_id| self.watch.get(broker_id).is_some_and(Watched::is_full);
        if self.now_ms < self.relieve_ms || !image.brokers().any(|it| is_full(it.broker_id)) {
            return Vec::new();
        }
        self.relieve_ms = self.now_ms + BALANCE_PAUSE_MS;
        let companions = Companions::of(image);
        let mut load = Load::of(image);
        let room = MAX_BALANCED.saturating_sub(self.trials.waiting());
        let burdens = companions.independent().filter(|(at, partition)| {
            is_full(partition.leader)
                && self.watch.led(image, *at, partition).is_some()
                && self.trials.is_settled(*at, self.now_ms)
        });
        let has_room = |broker_id| {
            let watched = self.watch.get(broker_id);
            watched.is_some_and(|it| it.has_room(self.now_ms))
        };
        let relief = burdens.filter_map(|(at, partition)| {
            let others = partition.replicas.iter().filter(|it| {
                let broker_id = it.broker_id;
                image.is_whole(it) && image.takes_new(broker_id) && has_room(broker_id)
            });
            let leader = others
                .map(|it| it.broker_id)
                .min_by_key(|it| load.led(*it))?;
            load.yield_lead(partition.leader);
            load.lead(leader);
            Some(partition.nominate(at, leader))
        });
        relief.take(room).collect()
    }

    /// Some leaderships for preferred leaders, where these could lead at once.
    fn balance(&mut self, image: &Image) -> Vec<Nomination> {
        let is_calm = self.watch.restless_ms + CALM_MS <= self.now_ms;
        if !is_calm || self.now_ms < self.balance_ms {
            return Vec::new();
        }
        self.balance_ms = self.now_ms + BALANCE_PAUSE_MS;
        let may = |it: &Nomination| {
            let partition = image.partition(it.partition);
            let led =
                partition.and_then(|partition| self.watch.led(image, it.partition, partition));
            let leader = self.watch.get(it.leader);
            led.is_some_and(|it| it.is_whole) && leader.is_none_or(|it| it.has_room(self.now_ms))
        };
        let companions = Companions::of(image);
        let room = MAX_BALANCED.saturating_sub(self.trials.waiting());
        let mut nominations = Vec::new();
        for together in back_to_preferred(image, &companions) {
            if nominations.len() >= room {
                break;
            }
            let mut beside = together.iter().skip(1);
            if together.iter().all(may)
                && together
                    .first()
                    .is_some_and(|it| self.trials.is_at_rest(it.partition))
                && beside.all(|it| self.trials.is_settled(it.partition, self.now_ms))
            {
                nominations.extend(together);
            }
        }
        nominations
    }
}

/// The image as it will be when these commands are carried out.
fn after(image: &Image, commands: &[Command]) -> Image {
    let mut image = image.clone();
    for command in commands {
        if let Ok(Some(record)) = image.validate(command, &Limits::default()) {
            image.apply(&record);
        }
    }
    image
}

/// The next step to empty the first of the draining brokers for which there is one.
fn drain_one(image: &Image) -> Vec<Command> {
    let draining = image.brokers().filter(|it| it.state.is_draining());
    let steps = draining.map(|it| drain(image, it.broker_id).commands);
    steps
        .into_iter()
        .find(|it| !it.is_empty())
        .unwrap_or_default()
}
