//! How a cluster stands, as it is shown.

use std::fmt::Write as _;
use std::time::Duration;

use millstream::cluster::{
    BrokerState, ClusterBroker, ClusterDescription, DiskSpace, Listed, OfflineReason, QuorumMember,
};
use millstream_metadata::limits::SILENCE_LIMIT_MS;
use serde::Serialize;

use crate::output::{Facts, Table, View, bytes, count, counted, elapsed, plain};

const UNKNOWN: &str = "unknown";

/// A silence that is no chance any more, milliseconds: whoever is silent for so long would be taken for gone,
/// if anything could be decided.
const LONG_SILENCE_MS: u64 = 2 * SILENCE_LIMIT_MS;

/// A replica that lacks more records than these does not take over at once.
const LONG_LAG: u64 = 10_000;

/// A disk with less room than this part of it is as good as full, if these are no more bytes than
/// [`LITTLE_ROOM_BYTES`].
const LITTLE_ROOM_FRACTION: u64 = 8;

const LITTLE_ROOM_BYTES: u64 = 64 << 20;

/// A cluster, as it stands.
#[derive(Debug, Serialize)]
pub(super) struct ClusterView {
    /// What needs somebody's attention; empty if nothing does.
    problems: Vec<String>,
    /// `null`: nothing was decided yet.
    cluster_id: Option<String>,
    feature_level: u16,
    /// The broker that says all this.
    told_by: u32,
    /// The broker that looks after the cluster; `null`: there is none, or it cannot be reached.
    controller: Option<u32>,
    quorum: QuorumView,
    brokers: Vec<BrokerView>,
    partitions: u64,
    offline: ListedView<OfflineView>,
    under_replicated: ListedView<UnderReplicatedView>,
    changing: ListedView<ChangingView>,
}

#[derive(Debug, Serialize)]
struct QuorumView {
    term: u64,
    /// `null`: nobody is known to lead it.
    leader: Option<u32>,
    voters: Vec<u32>,
    learners: Vec<u32>,
    /// How long ago a majority has last answered the leader; `null`: unknown.
    majority_silent_ms: Option<u64>,
}

#[derive(Debug, Serialize)]
struct BrokerView {
    broker_id: u32,
    address: String,
    rack: Option<String>,
    directory_id: String,
    incarnation: u64,
    /// `live`, `gone`, `draining` or `gone_draining`.
    state: &'static str,
    /// `null`: unknown.
    silent_ms: Option<u64>,
    leads: u32,
    /// How many of these it leads by now; `null`: unknown.
    active: Option<u32>,
    keeps: u32,
    stuck: u32,
    /// `voter`, `learner` or `none`.
    quorum: &'static str,
    /// Entries of the metadata that it lacks; `null`: unknown.
    metadata_behind: Option<u64>,
    /// The rest is what it tells of itself; `null`: unknown.
    software: Option<String>,
    uptime_ms: Option<u64>,
    largest_lag: Option<u64>,
    disk_used_bytes: Option<u64>,
    disk_free_bytes: Option<u64>,
    disk_total_bytes: Option<u64>,
}

/// Things of which only the first are named.
#[derive(Debug, Serialize)]
struct ListedView<T> {
    count: u64,
    first: Vec<T>,
}

#[derive(Debug, Serialize)]
struct OfflineView {
    topic: String,
    partition: u32,
    leader: u32,
    leader_epoch: u32,
    /// `no_leader`, `no_majority` or `not_leading`.
    reason: &'static str,
    /// Of `not_leading`: for how long.
    for_ms: Option<u64>,
    /// Of `not_leading`: how many leaders have not got so far.
    attempts: Option<u32>,
}

#[derive(Debug, Serialize)]
struct UnderReplicatedView {
    topic: String,
    partition: u32,
    missing: Vec<u32>,
}

#[derive(Debug, Serialize)]
struct ChangingView {
    topic: String,
    partition: u32,
    from: Vec<u32>,
    to: Vec<u32>,
}

impl<T> ListedView<T> {
    fn of<U>(listed: &Listed<U>, of: impl Fn(&U) -> T) -> Self {
        Self {
            count: listed.count,
            first: listed.first.iter().map(of).collect(),
        }
    }

    /// Says what is not named, if anything.
    fn rest(&self) -> String {
        match self.count.saturating_sub(self.first.len() as u64) {
            0 => String::new(),
            rest => format!("and {} more\n", count(rest)),
        }
    }
}

impl ClusterView {
    pub(super) fn of(cluster: &ClusterDescription) -> Self {
        let members = &cluster.quorum.members;
        let ids = |votes| {
            let chosen = members.iter().filter(move |it| it.votes == votes);
            chosen.map(|it| it.broker_id).collect()
        };
        let broker = |broker: &ClusterBroker| {
            let member = members.iter().find(|it| it.broker_id == broker.broker_id);
            BrokerView::of(broker, member)
        };
        Self {
            problems: problems(cluster),
            cluster_id: cluster.cluster_id.map(|it| it.to_string()),
            feature_level: cluster.feature_level,
            told_by: cluster.told_by,
            controller: cluster.controller,
            quorum: QuorumView {
                term: cluster.quorum.term,
                leader: cluster.quorum.leader,
                voters: ids(true),
                learners: ids(false),
                majority_silent_ms: cluster.quorum.majority_silent_ms,
            },
            brokers: cluster.brokers.iter().map(broker).collect(),
            partitions: cluster.partitions,
            offline: ListedView::of(&cluster.offline, |it| OfflineView {
                topic: it.topic.clone(),
                partition: it.partition,
                leader: it.leader,
                leader_epoch: it.leader_epoch,
                reason: match it.reason {
                    OfflineReason::NoLeader => "no_leader",
                    OfflineReason::NoMajority => "no_majority",
                    OfflineReason::NotLeading { .. } => "not_leading",
                },
                for_ms: match it.reason {
                    OfflineReason::NotLeading { for_ms, .. } => Some(for_ms),
                    OfflineReason::NoLeader | OfflineReason::NoMajority => None,
                },
                attempts: match it.reason {
                    OfflineReason::NotLeading { attempts, .. } => Some(attempts),
                    OfflineReason::NoLeader | OfflineReason::NoMajority => None,
                },
            }),
            under_replicated: ListedView::of(&cluster.under_replicated, |it| UnderReplicatedView {
                topic: it.topic.clone(),
                partition: it.partition,
                missing: it.missing.clone(),
            }),
            changing: ListedView::of(&cluster.changing, |it| ChangingView {
                topic: it.topic.clone(),
                partition: it.partition,
                from: it.from.clone(),
                to: it.to.clone(),
            }),
        }
    }

    /// The metadata quorum in a line.
    fn quorum_text(&self) -> String {
        let quorum = &self.quorum;
        let leader = match quorum.leader {
            Some(leader) => format!("led by broker {leader}"),
            None => "led by nobody that is known".to_owned(),
        };
        let mut text = format!("{leader} in term {}", quorum.term);
        // Writing to a string does not fail.
        let _ = write!(text, ", voters {}", numbers(&quorum.voters));
        if !quorum.learners.is_empty() {
            let _ = write!(text, ", learners {}", numbers(&quorum.learners));
        }
        text
    }

    fn brokers_text(&self) -> String {
        let columns = &[
            "#BROKER",
            "STATE",
            "ADDRESS",
            "RACK",
            "#SILENT",
            "#LEADS",
            "#KEEPS",
            "#LAG",
            "#LOGS",
            "#DISK FREE",
            "QUORUM",
            "SOFTWARE",
        ];
        let unknown = || UNKNOWN.to_owned();
        let mut table = Table::new(columns, "no brokers");
        for broker in &self.brokers {
            table.row([
                broker.broker_id.to_string(),
                broker.state.replace('_', ", "),
                broker.address.clone(),
                broker.rack.clone().unwrap_or_default(),
                broker
                    .silent_ms
                    .map_or_else(unknown, |ms| elapsed(Duration::from_millis(ms))),
                match broker.active {
                    Some(active) if active < broker.leads => {
                        format!("{active} of {}", broker.leads)
                    }
                    _ => broker.leads.to_string(),
                },
                broker.keeps.to_string(),
                broker.largest_lag.map_or_else(unknown, count),
                broker.disk_used_bytes.map_or_else(unknown, bytes),
                broker.disk_free_bytes.map_or_else(unknown, bytes),
                match broker.metadata_behind {
                    Some(behind) if behind > 0 => {
                        format!("{}, {} behind", broker.quorum, count(behind))
                    }
                    _ => broker.quorum.to_owned(),
                },
                broker.software.clone().unwrap_or_else(unknown),
            ]);
        }
        table.text()
    }

    fn offline_text(&self) -> String {
        let columns = &["OFFLINE", "#PARTITION", "#LEADER", "#EPOCH", "WHY"];
        let mut table = Table::new(columns, "");
        for it in &self.offline.first {
            table.row([
                it.topic.clone(),
                it.partition.to_string(),
                it.leader.to_string(),
                it.leader_epoch.to_string(),
                match (it.reason, it.for_ms) {
                    ("no_leader", _) => "its leader is not there".to_owned(),
                    ("no_majority", _) => "too few of its replicas are there and whole".to_owned(),
                    (_, for_ms) => format!(
                        "its leader has not begun to lead for {}",
                        elapsed(Duration::from_millis(for_ms.unwrap_or_default()))
                    ),
                },
            ]);
        }
        table.text() + &self.offline.rest()
    }

    fn under_replicated_text(&self) -> String {
        let columns = &["UNDER-REPLICATED", "#PARTITION", "MISSING ON"];
        let mut table = Table::new(columns, "");
        for it in &self.under_replicated.first {
            table.row([
                it.topic.clone(),
                it.partition.to_string(),
                numbers(&it.missing),
            ]);
        }
        table.text() + &self.under_replicated.rest()
    }

    fn changing_text(&self) -> String {
        let mut table = Table::new(&["CHANGING", "#PARTITION", "FROM", "TO"], "");
        for it in &self.changing.first {
            table.row([
                it.topic.clone(),
                it.partition.to_string(),
                numbers(&it.from),
                numbers(&it.to),
            ]);
        }
        table.text() + &self.changing.rest()
    }
}

impl BrokerView {
    fn of(broker: &ClusterBroker, member: Option<&QuorumMember>) -> Self {
        let report = broker.report.as_ref();
        let disk = report.and_then(|it| it.disk);
        Self {
            broker_id: broker.broker_id,
            address: broker.address.clone(),
            rack: broker.rack.clone(),
            directory_id: broker.directory_id.to_string(),
            incarnation: broker.incarnation,
            state: match broker.state {
                BrokerState::Live => "live",
                BrokerState::Gone => "gone",
                BrokerState::Draining => "draining",
                BrokerState::GoneDraining => "gone_draining",
            },
            silent_ms: broker.silent_ms,
            leads: broker.leads,
            active: broker.active,
            keeps: broker.keeps,
            stuck: broker.stuck,
            quorum: match member {
                Some(QuorumMember { votes: true, .. }) => "voter",
                Some(QuorumMember { votes: false, .. }) => "learner",
                None => "none",
            },
            metadata_behind: member.and_then(|it| it.behind),
            software: report.map(|it| it.software.clone()),
            uptime_ms: report.map(|it| it.uptime_ms),
            largest_lag: report.and_then(|it| it.largest_lag),
            disk_used_bytes: disk.map(|it| it.used_bytes),
            disk_free_bytes: disk.map(|it| it.free_bytes),
            disk_total_bytes: disk.map(|it| it.total_bytes),
        }
    }
}

/// What needs somebody's attention.
fn problems(cluster: &ClusterDescription) -> Vec<String> {
    let mut problems = Vec::new();
    if cluster.controller.is_none() {
        problems.push(format!(
            "nobody who looks after the cluster can be asked: this is what broker {} has heard last",
            cluster.told_by
        ));
    }
    let is_long = |silent_ms: &u64| *silent_ms >= LONG_SILENCE_MS;
    if let Some(silent_ms) = cluster.quorum.majority_silent_ms.filter(is_long) {
        problems.push(format!(
            "no majority of the metadata quorum has answered for {}: nothing can be decided, not even that a \
             broker is gone",
            elapsed(Duration::from_millis(silent_ms))
        ));
    }
    let (offline, lacking) = (cluster.offline.count, cluster.under_replicated.count);
    if offline > 0 {
        problems.push(format!(
            "{} of {} take no records",
            count(offline),
            counted(cluster.partitions, "partition")
        ));
    }
    if lacking > 0 {
        problems.push(format!(
            "{} of {} have fewer whole replicas than they should",
            count(lacking),
            counted(cluster.partitions, "partition")
        ));
    }
    for broker in &cluster.brokers {
        let broker_id = broker.broker_id;
        if matches!(broker.state, BrokerState::Gone | BrokerState::GoneDraining) {
            let silent = broker.silent_ms.map_or_else(String::new, |ms| {
                format!(" for {}", elapsed(Duration::from_millis(ms)))
            });
            problems.push(format!("broker {broker_id} is gone{silent}"));
        } else if let Some(silent_ms) = broker.silent_ms.filter(is_long) {
            let silent = elapsed(Duration::from_millis(silent_ms));
            problems.push(format!(
                "nothing was heard of broker {broker_id} for {silent}"
            ));
        }
        let report = broker.report.as_ref();
        if let Some(lag) = report
            .and_then(|it| it.largest_lag)
            .filter(|it| *it > LONG_LAG)
        {
            let lag = counted(lag, "record");
            problems.push(format!(
                "broker {broker_id} is {lag} behind in a partition: it does not take over there at once"
            ));
        }
        let is_full = |disk: &DiskSpace| {
            let little = LITTLE_ROOM_BYTES.min(disk.total_bytes / LITTLE_ROOM_FRACTION);
            disk.free_bytes < little
        };
        if let Some(disk) = report.and_then(|it| it.disk).filter(is_full) {
            problems.push(format!(
                "the disk of broker {broker_id} is full, or nearly so: {} are free",
                bytes(disk.free_bytes)
            ));
        }
        let stuck = u64::from(broker.stuck);
        if stuck > 0 {
            let replicas = counted(stuck, "replica");
            problems.push(format!(
                "broker {broker_id} is to be emptied, and there is nowhere to go for {replicas} of it"
            ));
        }
    }
    problems
}

fn numbers(numbers: &[u32]) -> String {
    let numbers: Vec<_> = numbers.iter().map(u32::to_string).collect();
    numbers.join(",")
}

impl View for ClusterView {
    fn text(&self) -> String {
        let mut text = match self.problems.is_empty() {
            true => "all is well\n".to_owned(),
            false => self
                .problems
                .iter()
                .map(|it| format!("{}\n", plain(it)))
                .collect(),
        };
        let controller = match self.controller {
            Some(controller) => format!("broker {controller}"),
            None => UNKNOWN.to_owned(),
        };
        let facts = Facts::default()
            .fact(
                "cluster",
                self.cluster_id.as_deref().unwrap_or("not made yet"),
            )
            .fact("looked after by", controller)
            .fact("metadata", self.quorum_text())
            .fact(
                "partitions",
                format!(
                    "{}, {} offline, {} under-replicated, {} changing",
                    count(self.partitions),
                    count(self.offline.count),
                    count(self.under_replicated.count),
                    count(self.changing.count)
                ),
            );
        // Writing to a string does not fail.
        let _ = write!(text, "\n{}\n{}", facts.text(), self.brokers_text());
        for (listed, part) in [
            (self.offline.count, self.offline_text()),
            (self.under_replicated.count, self.under_replicated_text()),
            (self.changing.count, self.changing_text()),
        ] {
            if listed > 0 {
                let _ = write!(text, "\n{part}");
            }
        }
        text
    }
}

#[cfg(test)]
mod tests;
