//! Partitions whose leader has yet to show that it leads.
//!
//! Most partitions are at rest: their leader has said that it leads in the newest epoch. Of the
//! others it is noted here by when that has to be. A leader that is late gets a new epoch, once; then
//! others get one in turn, and the waits grow. While fewer than half of the replicas are there and
//! whole nobody can seal, and nobody is blamed for it.

use std::collections::BTreeMap;

use millstream_protocol::{LeaderEpoch, TopicPartition};

use crate::broker::BrokerId;
use crate::image::Image;
use crate::leaders::Nomination;
use crate::limits::{CALM_MS, MAX_ACTIVATION_DOUBLINGS, TROUBLE_MS};
use crate::partition::{Partition, Replica, has};

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

#[derive(Clone, Copy, Debug)]
enum State {
    /// It has no leader, or too few replicas for one to seal.
    Unable,
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
            State::Unable | State::Led { .. } => None,
        }
    }

    /// How long a leader has when so many before it were late.
    fn wait_ms(&self, attempts: u32) -> u64 {
        wait_ms(self.limit_ms, attempts)
    }

    /// Looks at all partitions of a new image. `is_led` says which are led in the newest epoch.
    pub(super) fn follow(
        &mut self,
        image: &Image,
        now_ms: u64,
        is_led: impl Fn(TopicPartition, &Partition) -> bool,
    ) {
        self.partitions
            .retain(|at, _| image.partition(*at).is_some());
        for (at, partition) in image.partitions() {
            let is_led = is_led(at, partition);
            if !is_led || !self.is_at_rest(at) {
                self.look(image, now_ms, at, partition, is_led);
            }
        }
    }

    /// The leader of a partition has said that it leads in the newest epoch, or that it does no more.
    pub(super) fn reported(
        &mut self,
        image: &Image,
        now_ms: u64,
        at: TopicPartition,
        partition: &Partition,
        is_led: bool,
    ) {
        if !is_led {
            // It was led until now.
            self.partitions.entry(at).or_insert(Trial {
                epoch: partition.leader_epoch,
                attempts: 0,
                state: State::Led { since_ms: 0 },
            });
        }
        if !self.is_at_rest(at) {
            self.look(image, now_ms, at, partition, is_led);
        }
    }

    fn look(
        &mut self,
        image: &Image,
        now_ms: u64,
        at: TopicPartition,
        partition: &Partition,
        is_led: bool,
    ) {
        let epoch = partition.leader_epoch;
        let before = self.partitions.get(&at).copied();
        let mut attempts = before.map_or(0, |it| it.attempts);
        let state = before.map(|it| it.state);
        let is_same = before.is_some_and(|it| it.epoch == epoch);
        let state = match state {
            Some(State::Led { since_ms }) if is_led && is_same => State::Led { since_ms },
            _ if is_led => State::Led { since_ms: now_ms },
            _ if !is_able(image, partition) => State::Unable,
            Some(State::Waiting { since_ms, due_ms }) if is_same => {
                State::Waiting { since_ms, due_ms }
            }
            Some(State::Waiting { since_ms, .. }) => State::Waiting {
                since_ms,
                due_ms: now_ms + self.wait_ms(attempts),
            },
            Some(State::Led { since_ms }) if is_same => {
                if since_ms + CALM_MS <= now_ms {
                    attempts = 0;
                }
                // It led, and does not any more. Nothing is waited for the first time.
                let wait_ms = match attempts {
                    0 => 0,
                    attempts => self.wait_ms(attempts),
                };
                State::Waiting {
                    since_ms: now_ms,
                    due_ms: now_ms + wait_ms,
                }
            }
            Some(State::Led { .. }) | None => State::Waiting {
                since_ms: now_ms,
                due_ms: now_ms + self.wait_ms(attempts),
            },
            Some(State::Unable) => {
                // What has failed, has failed without those that are there now.
                attempts = 0;
                State::Waiting {
                    since_ms: now_ms,
                    due_ms: now_ms + self.wait_ms(0),
                }
            }
        };
        match (state, attempts) {
            (State::Led { .. }, 0) => self.partitions.remove(&at),
            _ => self.partitions.insert(
                at,
                Trial {
                    epoch,
                    attempts,
                    state,
                },
            ),
        };
    }

    /// New epochs for those that are due. Partitions that were led for long are at rest from here on.
    pub(super) fn overdue(&mut self, image: &Image, now_ms: u64) -> Vec<Nomination> {
        let is_old = |it: &Trial| matches!(it.state, State::Led { since_ms } if since_ms + TROUBLE_MS <= now_ms);
        self.partitions.retain(|_, it| !is_old(it));
        let limit_ms = self.limit_ms;
        let mut nominations = Vec::new();
        for (at, trial) in &mut self.partitions {
            let State::Waiting { since_ms, due_ms } = trial.state else {
                continue;
            };
            let partition = image.partition(*at);
            let partition = partition.filter(|it| it.leader_epoch == trial.epoch);
            let (true, Some(partition)) = (due_ms <= now_ms, partition) else {
                continue;
            };
            let Some(leader) = next_leader(image, partition, trial.attempts) else {
                continue;
            };
            nominations.push(partition.nominate(*at, leader));
            trial.attempts += 1;
            let due_ms = now_ms + wait_ms(limit_ms, trial.attempts);
            trial.state = State::Waiting { since_ms, due_ms };
        }
        nominations
    }

    /// Nobody could lead for so long.
    pub(super) fn sleep(&mut self, gap_ms: u64) {
        for trial in self.partitions.values_mut() {
            if let State::Waiting { due_ms, .. } = &mut trial.state {
                *due_ms += gap_ms;
            }
        }
    }
}

fn wait_ms(limit_ms: u64, attempts: u32) -> u64 {
    limit_ms << attempts.min(MAX_ACTIVATION_DOUBLINGS)
}

/// Whether a partition has a leader, and enough whole replicas for it to seal: half of each set.
fn is_able(image: &Image, partition: &Partition) -> bool {
    let half = |set: &[Replica]| {
        let whole = set.iter().filter(|it| image.is_whole(it)).count();
        whole * 2 >= set.len()
    };
    image.has_leader(partition) && half(&partition.replicas) && half(&partition.next)
}

/// Who is to lead instead of a leader that does not: itself the first time, then the next whole
/// replica behind it. Those that are yet to come, or that are on draining brokers, only if there is
/// no other.
fn next_leader(image: &Image, partition: &Partition, attempts: u32) -> Option<BrokerId> {
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
    let best = in_turn.min_by_key(|it| {
        let is_draining = !image.takes_new(it.broker_id);
        let is_to_come = !has(&partition.replicas, it.broker_id);
        (is_draining, it.broker_id == leader, is_to_come)
    });
    best.map(|it| it.broker_id)
}
