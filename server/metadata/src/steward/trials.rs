//! Partitions whose leader has yet to show that it leads.
//!
//! Most partitions are at rest: their leader has said that it leads in the newest epoch. Of the
//! others it is noted here by when that has to be. A leader that is late gets a new epoch, once; then
//! others get one in turn, and the waits grow. Nobody is blamed while nobody can seal.

use std::collections::BTreeMap;

use millstream_protocol::{LeaderEpoch, TopicPartition};

use crate::broker::BrokerId;
use crate::image::Image;
use crate::leaders::Nomination;
use crate::limits::{CALM_MS, MAX_ACTIVATION_DOUBLINGS, TROUBLE_MS};
use crate::partition::{Partition, has};

/// The partitions that are not at rest.
#[derive(Clone, Debug)]
pub(super) struct Trials {
    /// How long a leader has at first.
    limit_ms: u64,
    partitions: BTreeMap<TopicPartition, Trial>,
}

/// A partition that is not at rest.
#[derive(Clone, Copy, Debug)]
struct Trial {
    epoch: LeaderEpoch,
    /// Epochs that it got because leaders did not lead.
    attempts: u32,
    state: State,
}

/// How the leadership of a partition stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Its leader has said that it leads in the newest epoch.
    Led,
    /// Its leader could lead, and has not said so.
    Due,
    /// It has no leader, or one that cannot seal, or one that has not come to say what it leads.
    Excused,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// As [`Standing::Excused`].
    Excused,
    /// Its leader could lead.
    Waiting {
        /// Since when somebody could.
        since_ms: u64,
        /// When another epoch is due.
        due_ms: u64,
    },
    /// Its leader leads. It is not at rest only because others did not get so far.
    Led { since_ms: u64 },
}

impl Trials {
    pub(super) fn new(limit_ms: u64) -> Self {
        Self {
            limit_ms,
            partitions: BTreeMap::new(),
        }
    }

    /// Whether a partition is led, and all went well with it lately.
    pub(super) fn is_at_rest(&self, partition: TopicPartition) -> bool {
        !self.partitions.contains_key(&partition)
    }

    /// Whether a partition is led, and has been for a while if not all went well with it before.
    pub(super) fn is_settled(&self, partition: TopicPartition, now_ms: u64) -> bool {
        let trial = self.partitions.get(&partition);
        trial.is_none_or(|it| match it.state {
            State::Led { since_ms } => since_ms.saturating_add(CALM_MS) <= now_ms,
            State::Excused | State::Waiting { .. } => false,
        })
    }

    /// How many partitions could be led and are not.
    pub(super) fn waiting(&self) -> usize {
        let states = self.partitions.values().map(|it| it.state);
        states
            .filter(|it| matches!(it, State::Waiting { .. }))
            .count()
    }

    /// Since when a partition could be led and is not, and how many leaders have not got there.
    pub(super) fn waits(&self, partition: TopicPartition) -> Option<(u64, u32)> {
        let trial = self.partitions.get(&partition)?;
        match trial.state {
            State::Waiting { since_ms, .. } => Some((since_ms, trial.attempts)),
            State::Excused | State::Led { .. } => None,
        }
    }

    /// Looks at all partitions of a new image.
    pub(super) fn follow(
        &mut self,
        image: &Image,
        now_ms: u64,
        standing: impl Fn(TopicPartition, &Partition) -> Standing,
    ) {
        self.partitions
            .retain(|at, _| image.partition(*at).is_some());
        for (at, partition) in image.partitions() {
            let standing = standing(at, partition);
            if standing != Standing::Led || !self.is_at_rest(at) {
                self.look(now_ms, at, partition.leader_epoch, standing);
            }
        }
    }

    /// A leader has said that it leads a partition in the newest epoch, or that it does no more.
    pub(super) fn reported(
        &mut self,
        now_ms: u64,
        at: TopicPartition,
        epoch: LeaderEpoch,
        standing: Standing,
    ) {
        if standing != Standing::Led {
            self.partitions.entry(at).or_insert(Trial {
                epoch,
                attempts: 0,
                state: State::Led { since_ms: 0 },
            });
        }
        if !self.is_at_rest(at) {
            self.look(now_ms, at, epoch, standing);
        }
    }

    fn look(&mut self, now_ms: u64, at: TopicPartition, epoch: LeaderEpoch, standing: Standing) {
        let before = self.partitions.get(&at).copied();
        let attempts = before.map_or(0, |it| it.attempts);
        let state = before.map(|it| it.state);
        let is_same = before.is_some_and(|it| it.epoch == epoch);
        let waiting = |since_ms, attempts| State::Waiting {
            since_ms,
            due_ms: now_ms.saturating_add(self.wait_ms(attempts)),
        };
        let (state, attempts) = match (standing, state) {
            (Standing::Excused, _) => (State::Excused, attempts),
            (Standing::Led, Some(led @ State::Led { .. })) if is_same => (led, attempts),
            (Standing::Led, _) => (State::Led { since_ms: now_ms }, attempts),
            (Standing::Due, Some(waiting @ State::Waiting { .. })) if is_same => {
                (waiting, attempts)
            }
            (Standing::Due, Some(State::Waiting { since_ms, .. })) => {
                (waiting(since_ms, attempts), attempts)
            }
            // What has failed, has failed without those that are there now.
            (Standing::Due, Some(State::Excused) | None) => (waiting(now_ms, 0), 0),
            (Standing::Due, Some(State::Led { .. })) if !is_same => {
                (waiting(now_ms, attempts), attempts)
            }
            (Standing::Due, Some(State::Led { since_ms })) => {
                // It led, and does not any more. Unless that happens again and again, nothing is
                // waited for.
                let is_rare = attempts == 0 || since_ms + CALM_MS <= now_ms;
                let at_once = State::Waiting {
                    since_ms: now_ms,
                    due_ms: now_ms,
                };
                match is_rare {
                    true => (at_once, 0),
                    false => (waiting(now_ms, attempts), attempts),
                }
            }
        };
        let trial = Trial {
            epoch,
            attempts,
            state,
        };
        match (state, attempts) {
            (State::Led { .. }, 0) => self.partitions.remove(&at),
            _ => self.partitions.insert(at, trial),
        };
    }

    /// How long a leader has when so many before it were late.
    fn wait_ms(&self, attempts: u32) -> u64 {
        let times = 1 << attempts.min(MAX_ACTIVATION_DOUBLINGS);
        self.limit_ms.saturating_mul(times)
    }

    /// New epochs for those that are due. Partitions that were led for long are at rest from here on.
    pub(super) fn overdue(&mut self, image: &Image, now_ms: u64) -> Vec<Nomination> {
        let is_over = |since_ms: u64| since_ms + TROUBLE_MS <= now_ms;
        self.partitions
            .retain(|_, it| !matches!(it.state, State::Led { since_ms } if is_over(since_ms)));
        let due = self.partitions.iter().filter_map(|(at, trial)| {
            let State::Waiting { due_ms, .. } = trial.state else {
                return None;
            };
            let partition = image.partition(*at)?;
            let is_due = due_ms <= now_ms && trial.epoch == partition.leader_epoch;
            let leader = is_due.then(|| next_leader(image, *at, partition, trial.attempts));
            Some(partition.nominate(*at, leader.flatten()?))
        });
        let due: Vec<_> = due.collect();
        for nomination in &due {
            self.failed(nomination.partition, now_ms);
        }
        due
    }

    /// A leader was late.
    fn failed(&mut self, at: TopicPartition, now_ms: u64) {
        let Some(mut trial) = self.partitions.get(&at).copied() else {
            return;
        };
        trial.attempts += 1;
        if let State::Waiting { due_ms, .. } = &mut trial.state {
            *due_ms = now_ms.saturating_add(self.wait_ms(trial.attempts));
        }
        self.partitions.insert(at, trial);
    }

    /// Nobody could lead for so long.
    pub(super) fn sleep(&mut self, gap_ms: u64) {
        for trial in self.partitions.values_mut() {
            if let State::Waiting { due_ms, .. } = &mut trial.state {
                *due_ms = due_ms.saturating_add(gap_ms);
            }
        }
    }
}

/// Who is to lead instead of a leader that does not: itself the first time, then the next whole
/// replica behind it. Those that are yet to come, or that are on draining brokers, only if there is
/// no other. A companion is first tried where its input is.
fn next_leader(
    image: &Image,
    at: TopicPartition,
    partition: &Partition,
    attempts: u32,
) -> Option<BrokerId> {
    partition.leader_epoch.checked_add(1)?;
    let whole: Vec<_> = partition
        .members()
        .filter(|it| image.is_whole(it))
        .collect();
    let leader = partition.leader;
    if attempts == 0 && whole.iter().any(|it| it.broker_id == leader) {
        return Some(leader);
    }
    let place = whole.iter().position(|it| it.broker_id == leader);
    let (before, behind) = whole.split_at(place.map_or(0, |place| place + 1));
    let in_turn = behind.iter().chain(before);
    let beside = image.leader_beside(at).filter(|_| attempts < 2);
    let best = in_turn.min_by_key(|it| {
        let is_draining = !image.takes_new(it.broker_id);
        let is_to_come = !has(&partition.replicas, it.broker_id);
        let is_elsewhere = beside.is_some_and(|beside| beside != it.broker_id);
        (
            is_draining,
            it.broker_id == leader,
            is_to_come,
            is_elsewhere,
        )
    });
    best.map(|it| it.broker_id)
}
