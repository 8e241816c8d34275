//! What a run has done and met.

use std::fmt;

/// Counts of one run, or of many.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Runs.
    pub seeds: u64,
    /// Events handled.
    pub steps: u64,
    /// Simulated time, microseconds.
    pub simulated_us: u64,
    /// Records acknowledged to producers.
    pub acked: u64,
    /// Records and control records read by consumers.
    pub read: u64,
    /// Leaders that began to lead, and that were deposed.
    pub activations: u64,
    /// Leaders and candidates deposed.
    pub depositions: u64,
    /// Tails cut off.
    pub truncations: u64,
    /// Logs thrown away and begun further on.
    pub restarts: u64,
    /// Of these: by replicas that had nothing.
    pub restarts_of_empty: u64,
    /// Logs that could not be, because the disk was full.
    pub restarts_put_off: u64,
    /// Logs whose start has moved up.
    pub retentions: u64,
    /// Wishes to have records deleted.
    pub deletions_asked: u64,
    /// Wishes that were acknowledged, alone or together.
    pub deletions_acked: u64,
    /// Logs that have deleted records by request.
    pub deletions: u64,
    /// Damages found.
    pub damages: u64,
    /// Processes that ended because their storage failed.
    pub stops: u64,
    /// Processes killed, of leaders among them.
    pub crashes: u64,
    /// Leaders killed, powered off or paused.
    pub leaders_hit: u64,
    /// Power cuts.
    pub power_cuts: u64,
    /// Pauses.
    pub pauses: u64,
    /// Links cut.
    pub partitions: u64,
    /// Disks replaced by empty ones.
    pub wipes: u64,
    /// Bits flipped.
    pub flips: u64,
    /// Syncs made to fail, or to lie.
    pub bad_syncs: u64,
    /// Disks filled.
    pub full_disks: u64,
    /// Changes of the replicas made final.
    pub reassignments: u64,
    /// Leaderships moved while all was well.
    pub moves: u64,
    /// Packets sent.
    pub packets: u64,
    /// Packets lost.
    pub lost_packets: u64,
    /// Packets repeated.
    pub repeated_packets: u64,
    /// Partitions given to members of groups.
    pub assignments: u64,
    /// Coordinators that have read the groups' log.
    pub coordinators: u64,
    /// Members that have joined.
    pub joins: u64,
    /// Members taken for gone because they were silent.
    pub expulsions: u64,
    /// Members that crashed, stood still or left.
    pub members_hit: u64,
    /// Commits of offsets acknowledged to members.
    pub commits: u64,
    /// Records and control records delivered to members.
    pub delivered: u64,
    /// Generations of groups.
    pub generations: u64,
    /// Workers that have read a journal.
    pub workers: u64,
    /// Of these: after another one.
    pub fail_overs: u64,
    /// Commits of workers.
    pub worker_commits: u64,
    /// Batches of outputs acknowledged to workers.
    pub outputs: u64,
    /// Commits whose outputs the next worker has sent again.
    pub outputs_sent_again: u64,
    /// From a leader's death to the first record that another one has acknowledged, microseconds; of
    /// runs that measure it.
    pub gaps_us: Vec<u64>,
}

impl Report {
    /// Adds another's counts.
    pub fn add(&mut self, other: &Self) {
        self.seeds += other.seeds;
        self.steps += other.steps;
        self.simulated_us += other.simulated_us;
        self.acked += other.acked;
        self.read += other.read;
        self.activations += other.activations;
        self.depositions += other.depositions;
        self.truncations += other.truncations;
        self.restarts += other.restarts;
        self.restarts_of_empty += other.restarts_of_empty;
        self.restarts_put_off += other.restarts_put_off;
        self.retentions += other.retentions;
        self.deletions_asked += other.deletions_asked;
        self.deletions_acked += other.deletions_acked;
        self.deletions += other.deletions;
        self.damages += other.damages;
        self.stops += other.stops;
        self.crashes += other.crashes;
        self.leaders_hit += other.leaders_hit;
        self.power_cuts += other.power_cuts;
        self.pauses += other.pauses;
        self.partitions += other.partitions;
        self.wipes += other.wipes;
        self.flips += other.flips;
        self.bad_syncs += other.bad_syncs;
        self.full_disks += other.full_disks;
        self.reassignments += other.reassignments;
        self.moves += other.moves;
        self.packets += other.packets;
        self.lost_packets += other.lost_packets;
        self.repeated_packets += other.repeated_packets;
        self.assignments += other.assignments;
        self.coordinators += other.coordinators;
        self.joins += other.joins;
        self.expulsions += other.expulsions;
        self.members_hit += other.members_hit;
        self.commits += other.commits;
        self.delivered += other.delivered;
        self.generations += other.generations;
        self.workers += other.workers;
        self.fail_overs += other.fail_overs;
        self.worker_commits += other.worker_commits;
        self.outputs += other.outputs;
        self.outputs_sent_again += other.outputs_sent_again;
        self.gaps_us.extend(&other.gaps_us);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, count) in [
            ("seeds", self.seeds),
            ("steps", self.steps),
            ("simulated seconds", self.simulated_us / 1_000_000),
            ("records acknowledged", self.acked),
            ("records read", self.read),
            ("leaders activated", self.activations),
            ("leaders deposed", self.depositions),
            ("tails truncated", self.truncations),
            ("logs begun late", self.restarts),
            ("of which were empty", self.restarts_of_empty),
            ("not for a full disk", self.restarts_put_off),
            ("starts moved up", self.retentions),
            ("deletions asked for", self.deletions_asked),
            ("deletions acknowledged", self.deletions_acked),
            ("deletions on a replica", self.deletions),
            ("process crashes", self.crashes),
            ("power cuts", self.power_cuts),
            ("pauses", self.pauses),
            ("network partitions", self.partitions),
            ("leaders hit by these", self.leaders_hit),
            ("disks replaced", self.wipes),
            ("bits flipped", self.flips),
            ("damages found", self.damages),
            ("syncs failed or lied", self.bad_syncs),
            ("stops for a failed disk", self.stops),
            ("disks filled", self.full_disks),
            ("replica sets changed", self.reassignments),
            ("leaderships moved", self.moves),
            ("partitions assigned", self.assignments),
            ("coordinators begun", self.coordinators),
            ("members joined", self.joins),
            ("members silent", self.expulsions),
            ("members hit", self.members_hit),
            ("commits acknowledged", self.commits),
            ("records delivered", self.delivered),
            ("group generations", self.generations),
            ("workers begun", self.workers),
            ("after another one", self.fail_overs),
            ("worker commits", self.worker_commits),
            ("outputs acknowledged", self.outputs),
            ("outputs sent again", self.outputs_sent_again),
            ("packets", self.packets),
            ("packets lost", self.lost_packets),
            ("packets repeated", self.repeated_packets),
        ] {
            writeln!(f, "{name:<24} {count:>14}")?;
        }
        Ok(())
    }
}
