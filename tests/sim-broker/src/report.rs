//! What runs have done and met.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::trace::Fingerprint;

/// Counts of one run, or of many.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// Runs.
    pub seeds: u64,
    /// Simulated time.
    pub simulated: Duration,
    /// What that took.
    pub took: Duration,
    /// Records acknowledged.
    pub acked: u64,
    /// Records read, by the reader of everything.
    pub read: u64,
    /// Brokers killed.
    pub kills: u64,
    /// Brokers that lost their power.
    pub power_cuts: u64,
    /// Brokers cut off.
    pub partitions: u64,
    /// Brokers that nobody heard for a while, and that went on.
    pub pauses: u64,
    /// Times of a bad network.
    pub bad_weather: u64,
    /// Disks that failed to sync.
    pub failed_disks: u64,
    /// Disks that were full.
    pub full_disks: u64,
    /// Brokers that have stopped by themselves, for their disks.
    pub stops: u64,
    /// Of all these: brokers that led partitions.
    pub leaders_hit: u64,
    /// Times that a partition was seen to have other replicas than before.
    pub moves: u64,
    /// The longest wait for an acknowledgement.
    pub longest: Duration,
    /// Of one run: its events.
    pub fingerprint: Fingerprint,
    /// What was wrong, with the seed.
    pub wrong: Vec<String>,
}

impl Report {
    /// Adds another's counts.
    pub fn add(&mut self, other: Self) {
        self.seeds += other.seeds;
        self.simulated += other.simulated;
        self.took += other.took;
        self.acked += other.acked;
        self.read += other.read;
        self.kills += other.kills;
        self.power_cuts += other.power_cuts;
        self.partitions += other.partitions;
        self.pauses += other.pauses;
        self.bad_weather += other.bad_weather;
        self.failed_disks += other.failed_disks;
        self.full_disks += other.full_disks;
        self.stops += other.stops;
        self.leaders_hit += other.leaders_hit;
        self.moves += other.moves;
        self.longest = self.longest.max(other.longest);
        self.fingerprint.events += other.fingerprint.events;
        self.wrong.extend(other.wrong);
    }

    /// How much faster than its clock a simulation has run, in one thread.
    pub fn speed(&self) -> f64 {
        self.simulated.as_secs_f64() / self.took.as_secs_f64()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, count) in [
            ("seeds", self.seeds),
            ("simulated seconds", self.simulated.as_secs()),
            ("events", self.fingerprint.events),
            ("records acknowledged", self.acked),
            ("records read", self.read),
            ("brokers killed", self.kills),
            ("power cuts", self.power_cuts),
            ("network partitions", self.partitions),
            ("pauses", self.pauses),
            ("times of a bad network", self.bad_weather),
            ("disks failed", self.failed_disks),
            ("disks full", self.full_disks),
            ("brokers stopped", self.stops),
            ("leaders hit by these", self.leaders_hit),
            ("changes of replicas", self.moves),
            ("longest wait, ms", self.longest.as_millis() as u64),
            ("wrong", self.wrong.len() as u64),
        ] {
            writeln!(f, "{name:<24} {count:>10}")?;
        }
        writeln!(f, "{:<24} {:>10.1}", "times real time", self.speed())?;
        self.wrong.iter().try_for_each(|it| writeln!(f, "{it}"))
    }
}
