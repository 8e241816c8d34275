//! What a run is like and what goes wrong in it, drawn from its seed.

use millstream_replication::{BrokerId, Durability};

use super::dice::Dice;
use super::layout::Layout;
use super::network::Weather;

/// One thing that goes wrong. Which broker it hits is decided when it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A process is killed.
    Crash(Whom),
    /// A process is killed, and what it has sent does not arrive.
    Die(BrokerId),
    /// A leader's process is killed for good, and the time without one is measured.
    LastDeath,
    /// A machine loses power.
    PowerCut(Whom),
    /// All machines lose power.
    PowerCutAll,
    /// A process stands still for a while.
    Pause(Whom),
    /// A broker is cut off from all others.
    Isolate(Whom),
    /// One broker does not reach another one.
    OneWay,
    /// All links are whole again.
    Mend,
    /// A broker's next sync fails.
    SyncFails(Whom),
    /// A broker's syncs do nothing, and then its disk is lost with the power.
    SyncLies,
    /// One bit of a log is not what was written.
    Flip,
    /// An empty disk takes the place of a broker's.
    Wipe,
    /// A disk is full for a while.
    Fill(Whom),
    /// There is room on all disks again.
    Empty,
    /// Other replicas are to take the place of some.
    Reassign,
    /// Leadership goes to another broker, for no reason.
    Move,
    /// For a while, every new leader is killed soon after it has begun to lead.
    Hunt,
    /// A leader dies with entries that no other one has, the next one dies with nothing but the start
    /// of its epoch, and the first one comes back and gets to send a part (the case of figure 8 of
    /// the [Raft paper](https://raft.github.io/raft.pdf)).
    Fork,
    /// This broker is appointed, and all links are whole.
    Return(BrokerId),
    /// One broker does not reach any other one.
    Silence(BrokerId),
    /// The machine that promises next loses power before that is on its disk.
    PowerCutAtPromise,
}

/// Whom a fault hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whom {
    Leader,
    Anyone,
    This(BrokerId),
}

/// How a log gets rid of what is old.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Retention {
    /// It keeps everything.
    None,
    /// It keeps so many bytes, in whole segments.
    Bytes(u64),
    /// It lets go of any part of what it has, for itself.
    Any,
    /// Records are deleted by request, of all replicas.
    Requests,
}

/// What a run is like.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) layout: Layout,
    pub(crate) brokers: u32,
    pub(crate) replication_factor: u8,
    pub(crate) durability: Durability,
    pub(crate) weather: Weather,
    pub(crate) sync_us: (u64, u64),
    pub(crate) producers: u32,
    /// Members of the group of consumers, if there is one.
    pub(crate) members: u32,
    /// Producers that send as workers do, besides.
    pub(crate) workers: u32,
    pub(crate) pace_us: u64,
    pub(crate) retention: Retention,
    /// What one message carries of a log, bytes.
    pub(crate) message_bytes: usize,
    pub(crate) faults_until_us: u64,
    /// When and what.
    pub(crate) faults: Vec<(u64, Fault)>,
}

/// How long things go wrong.
const FAULTS_US: u64 = 6_000_000;

/// How many of a thousand runs have a group of consumers.
const GROUPS_PER_MILLE: u64 = 80;

/// And how many have workers.
const WORKERS_PER_MILLE: u64 = 50;

/// How often a leadership moves in these, besides what else goes wrong.
const MOVES: u32 = 8;

/// A leader is there by then.
const START_US: u64 = 800_000;

impl Plan {
    /// Three replicas, a calm network, and one leader that dies.
    pub(crate) fn fail_over(dice: &mut Dice) -> Self {
        let at_us = START_US + dice.below(1_000_000);
        Self {
            layout: Layout::Plain,
            brokers: 3,
            replication_factor: 3,
            durability: Durability::Sync,
            weather: Weather::calm(),
            sync_us: (100, 3_000),
            producers: 3,
            members: 0,
            workers: 0,
            pace_us: 10_000,
            retention: Retention::None,
            message_bytes: 2_000,
            faults_until_us: 20_000_000,
            faults: vec![(at_us, Fault::LastDeath)],
        }
    }

    pub(crate) fn new(dice: &mut Dice) -> Self {
        let replication_factor = dice.pick(&[1, 2, 3, 3, 3, 3, 3, 5]).unwrap_or(3);
        let brokers = (replication_factor + dice.below(2) as u32).max(2);
        let durability = match dice.happens(150) {
            true => Durability::Relaxed,
            false => Durability::Sync,
        };
        let weather = match dice.happens(300) {
            true => Weather::calm(),
            false => Weather::any(dice),
        };
        let slow_us = dice.pick(&[1_000, 3_000, 15_000]).unwrap_or(1_000);
        // Some runs have much of a few kinds of faults, so that they meet each other.
        let kinds = kinds(replication_factor, durability, brokers);
        let favourites: Vec<Fault> = (0..3).filter_map(|_| dice.pick(&kinds)).collect();
        let mut faults = Vec::new();
        let mut at_us = START_US;
        faults.push((at_us, Fault::Crash(Whom::Leader)));
        let pause_us = dice.pick(&[150_000, 300_000, 700_000]).unwrap_or(300_000);
        while at_us < FAULTS_US {
            let from = match dice.happens(500) {
                true => &favourites,
                false => &kinds,
            };
            faults.extend(dice.pick(from).map(|fault| (at_us, fault)));
            at_us += dice.within(pause_us / 3, pause_us * 2);
        }
        let plain = Self {
            layout: Layout::Plain,
            brokers,
            replication_factor: replication_factor as u8,
            durability,
            weather,
            sync_us: (100, slow_us),
            producers: dice.within(1, 3) as u32,
            members: 0,
            workers: dice.below(2) as u32,
            retention: dice
                .pick(&[
                    Retention::None,
                    Retention::Bytes(0),
                    Retention::Bytes(10_000),
                    Retention::Any,
                    Retention::Requests,
                    Retention::Requests,
                ])
                .unwrap_or(Retention::None),
            pace_us: dice.pick(&[4_000, 10_000, 25_000]).unwrap_or(10_000),
            message_bytes: dice.pick(&[200, 2_000, 2_000]).unwrap_or(2_000),
            faults_until_us: FAULTS_US,
            faults,
        };
        plain.with_layout(dice)
    }

    /// Some runs have something that reads the events.
    fn with_layout(self, dice: &mut Dice) -> Self {
        let drawn = dice.below(1000);
        let layout = match dice.within(2, 3) as u32 {
            events if drawn < GROUPS_PER_MILLE => Layout::Group(events),
            events if drawn < GROUPS_PER_MILLE + WORKERS_PER_MILLE => Layout::Workers(events),
            _ => return self,
        };
        let members = match layout {
            Layout::Group(_) => dice.within(2, 4) as u32,
            Layout::Plain | Layout::Workers(_) => 0,
        };
        // Coordinators and workers follow leaders, also to where they were before.
        let mut faults = self.faults;
        let moves = (0..MOVES).map(|_| (dice.within(START_US, FAULTS_US), Fault::Move));
        faults.extend(moves);
        Self {
            layout,
            members,
            faults,
            // What is deleted cannot be told from what was skipped.
            retention: Retention::None,
            ..self
        }
    }
}

fn kinds(replication_factor: u32, durability: Durability, brokers: u32) -> Vec<Fault> {
    use Fault::*;
    use Whom::{Anyone, Leader};
    let mut kinds = vec![
        Crash(Leader),
        Crash(Leader),
        Crash(Anyone),
        PowerCut(Leader),
        PowerCut(Leader),
        PowerCut(Anyone),
        Pause(Leader),
        Pause(Anyone),
        Isolate(Leader),
        Isolate(Anyone),
        OneWay,
        Mend,
        Mend,
        Fill(Leader),
        Fill(Anyone),
        Empty,
        Move,
        Hunt,
        Fork,
        Fork,
        Hunt,
        PowerCutAtPromise,
        PowerCutAtPromise,
    ];
    if durability == Durability::Sync {
        // What a relaxed log has acknowledged and not synced is lost with either.
        kinds.extend([
            PowerCutAll,
            PowerCutAll,
            SyncFails(Leader),
            SyncFails(Anyone),
        ]);
    }
    if replication_factor > 1 {
        kinds.extend([SyncLies, Flip, Flip, Wipe, Wipe]);
    }
    if brokers > replication_factor || replication_factor > 2 {
        kinds.extend([Reassign, Reassign]);
    }
    kinds
}
