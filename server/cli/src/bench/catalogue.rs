//! The rows: their names, which are stable, their units and their order.

use std::fmt;

use millstream::DeliveryGuarantee::{self, AtLeastOnce, Deterministic, ExactlyOnce};
use millstream::Durability;
use serde::Serialize;

use super::stats::Percentile;
use super::workload::plugins::Work;

/// What a row's figures count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) enum Unit {
    /// Millions of bytes of record values in a second.
    #[serde(rename = "MB/s")]
    MegabytesPerSecond,
    /// Records in a second.
    #[serde(rename = "records/s")]
    RecordsPerSecond,
    /// Calls in a second.
    #[serde(rename = "calls/s")]
    CallsPerSecond,
    /// Microseconds.
    #[serde(rename = "µs")]
    Microseconds,
    /// Milliseconds.
    #[serde(rename = "ms")]
    Milliseconds,
    /// Mebibytes.
    #[serde(rename = "MiB")]
    Mebibytes,
    /// Hundredths of one processor's time.
    #[serde(rename = "% of a core")]
    PercentOfCore,
    /// Processor seconds for each GiB of record values.
    #[serde(rename = "s/GiB")]
    SecondsPerGibibyte,
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::MegabytesPerSecond => "MB/s",
            Self::RecordsPerSecond => "records/s",
            Self::CallsPerSecond => "calls/s",
            Self::Microseconds => "µs",
            Self::Milliseconds => "ms",
            Self::Mebibytes => "MiB",
            Self::PercentOfCore => "% of a core",
            Self::SecondsPerGibibyte => "s/GiB",
        })
    }
}

/// How large records are, and over how many partitions they go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    /// Bytes of a record's value. It has no key and no headers.
    pub(super) record_bytes: usize,
    /// Partitions of the topic.
    pub(super) partitions: u32,
}

impl Shape {
    const KIB_1P: Self = Self {
        record_bytes: 1024,
        partitions: 1,
    };
    const SMALL_1P: Self = Self {
        record_bytes: 100,
        partitions: 1,
    };
    const KIB_4P: Self = Self {
        record_bytes: 1024,
        partitions: 4,
    };
    const SMALL_4P: Self = Self {
        record_bytes: 100,
        partitions: 4,
    };

    /// All of them.
    pub(super) const ALL: [Self; 4] = [Self::KIB_1P, Self::SMALL_1P, Self::KIB_4P, Self::SMALL_4P];
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.record_bytes {
            1024 => f.write_str("1KiB")?,
            bytes => write!(f, "{bytes}B")?,
        }
        write!(f, "/{}p", self.partitions)
    }
}

/// Both durabilities, in the order of the rows.
pub(super) const DURABILITIES: [Durability; 2] = [Durability::Relaxed, Durability::Sync];

/// A durability as rows call it.
pub(super) fn durability(durability: Durability) -> &'static str {
    match durability {
        Durability::Relaxed => "relaxed",
        Durability::Sync => "sync",
    }
}

/// A row to be measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RowSpec {
    /// Its name.
    pub(super) name: String,
    /// What its figures count.
    pub(super) unit: Unit,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    /// The broker, with one plugin.
    Broker,
    /// Plugins, and what they cost.
    Worker,
    /// Three brokers that keep the same partitions, and what becomes of them when one fails.
    Cluster,
}

/// How much of it is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// Every row.
    Full,
    /// The rows of one partition that say most, in less than a minute.
    Quick,
}

pub(super) const QUIC_UP: &str = "quic/up";
pub(super) const QUIC_DOWN: &str = "quic/down";
pub(super) const QUIC_BOTH: &str = "quic/both";
pub(super) const ROUND_TRIP_ACK: &str = "quic/round-trip/ack";
pub(super) const ROUND_TRIP_RECORD: &str = "quic/round-trip/record";
pub(super) const DISK_WRITE: &str = "disk/write";
pub(super) const DISK_SYNC_RECORD: &str = "disk/sync/record";
pub(super) const WORKER: &str = "worker/quake-alert";
pub(super) const WORKER_LATENCY: &str = "worker/latency";
pub(super) const BESIDE_ENDLESS_ACK: &str = "beside-endless/ack";
pub(super) const BESIDE_ENDLESS_WORKER: &str = "beside-endless/worker";
pub(super) const WORKER_MEMORY: &str = "worker/memory/1000";
pub(super) const WORKER_REDEPLOY: &str = "worker/redeploy";
pub(super) const WORKER_RESTART: &str = "worker/restart/1GiB";
pub(super) const STALLED_ACK: &str = "cluster/stalled/ack";
pub(super) const CLUSTER_IDLE_CPU: &str = "cluster/idle/cpu";
pub(super) const CLUSTER_IDLE_MEMORY: &str = "cluster/idle/memory";
pub(super) const ELECTIONS: &str = "cluster/elections/1000";
pub(super) const FAIL_OVER: &str = "cluster/fail-over";
pub(super) const FAIL_OVER_WITH_METADATA: &str = "cluster/fail-over/with-metadata";
pub(super) const IDLE_MEMORY: &str = "broker/memory/idle";
pub(super) const START_EMPTY: &str = "broker/start/empty";

/// The row of a plugin's twin in native code.
pub(super) fn native(work: Work) -> String {
    format!("native/{work}")
}

/// The row of a plugin at work.
pub(super) fn from_log(work: Work) -> String {
    format!("worker/{work}")
}

/// The row of a plugin at work under a guarantee.
pub(super) fn delivered(delivery: DeliveryGuarantee, work: Work) -> String {
    let delivery = match delivery {
        ExactlyOnce => "exactly-once",
        AtLeastOnce => "at-least-once",
        Deterministic => "deterministic",
    };
    format!("worker/{delivery}/{work}")
}

pub(super) fn disk_sync(partitions: u32) -> String {
    format!("disk/sync/{partitions}p")
}

pub(super) fn produce(of: Durability, shape: Shape) -> String {
    format!("produce/{}/{shape}", durability(of))
}

pub(super) fn consume(shape: Shape) -> String {
    format!("consume/{shape}")
}

pub(super) fn end_to_end(of: Durability, shape: Shape) -> String {
    format!("end-to-end/{}/{shape}", durability(of))
}

pub(super) fn ack_latency(of: Durability) -> String {
    format!("latency/ack/{}", durability(of))
}

pub(super) fn end_to_end_latency(of: Durability) -> String {
    format!("latency/end-to-end/{}", durability(of))
}

pub(super) fn replicated_produce(of: Durability) -> String {
    format!("cluster/produce/{}", durability(of))
}

pub(super) fn replicated_ack(of: Durability) -> String {
    format!("cluster/ack/{}", durability(of))
}

pub(super) fn catch_up(of: Durability) -> String {
    format!("cluster/catch-up/{}", durability(of))
}

pub(super) fn produce_cpu(shape: Shape) -> String {
    format!("broker/cpu/produce/relaxed/{shape}")
}

pub(super) fn start_with_log(gib: u32) -> String {
    format!("broker/start/{gib}GiB")
}

pub(super) fn start_after_kill(gib: u32) -> String {
    format!("broker/start/{gib}GiB/after-kill")
}

/// The row that says the same in records a second.
pub(super) fn in_records(name: &str) -> String {
    format!("{name}/records")
}

/// The row of one percentile of a latency.
pub(super) fn at(name: &str, percentile: Percentile) -> String {
    format!("{name}/{}", percentile.name())
}

/// Every row of plugins at work of this extent, in the order of the table.
pub(super) fn worker_rows(extent: Extent) -> Vec<RowSpec> {
    let mut rows = Rows::default();
    for work in [Work::Drop, Work::Json] {
        rows.add(native(work), Unit::RecordsPerSecond);
        rows.add(from_log(work), Unit::RecordsPerSecond);
    }
    for work in [Work::Json, Work::Copy] {
        for delivery in [AtLeastOnce, ExactlyOnce] {
            rows.add(delivered(delivery, work), Unit::RecordsPerSecond);
        }
    }
    rows.add(delivered(Deterministic, Work::Copy), Unit::RecordsPerSecond);
    for work in [Work::Get, Work::Put] {
        rows.add(from_log(work), Unit::CallsPerSecond);
    }
    rows.latency(WORKER_LATENCY);
    rows.latency(BESIDE_ENDLESS_ACK);
    rows.latency(BESIDE_ENDLESS_WORKER);
    rows.add(WORKER_MEMORY, Unit::Mebibytes);
    rows.add(WORKER_REDEPLOY, Unit::Milliseconds);
    if extent == Extent::Full {
        rows.add(WORKER_RESTART, Unit::Milliseconds);
    }
    rows.0
}

/// Every row of three brokers, in the order of the table.
pub(super) fn cluster_rows() -> Vec<RowSpec> {
    let mut rows = Rows::default();
    for of in DURABILITIES {
        rows.add(replicated_produce(of), Unit::MegabytesPerSecond);
    }
    for of in DURABILITIES {
        rows.latency(&replicated_ack(of));
    }
    rows.latency(STALLED_ACK);
    for of in DURABILITIES {
        rows.add(catch_up(of), Unit::MegabytesPerSecond);
    }
    rows.add(CLUSTER_IDLE_CPU, Unit::PercentOfCore);
    rows.add(CLUSTER_IDLE_MEMORY, Unit::Mebibytes);
    rows.add(ELECTIONS, Unit::Milliseconds);
    rows.add(FAIL_OVER, Unit::Milliseconds);
    rows.add(FAIL_OVER_WITH_METADATA, Unit::Milliseconds);
    rows.0
}

/// Every row of this extent, in the order of the table. `start_gib`: the log that the broker also
/// starts with, GiB.
pub(super) fn rows(extent: Extent, start_gib: Option<u32>) -> Vec<RowSpec> {
    let mut rows = Rows::default();
    ceilings(&mut rows, extent);
    throughput(&mut rows, extent);
    for of in DURABILITIES {
        rows.latency(&ack_latency(of));
    }
    for of in DURABILITIES {
        rows.latency(&end_to_end_latency(of));
    }
    rows.add(WORKER, Unit::RecordsPerSecond);
    rows.add(IDLE_MEMORY, Unit::Mebibytes);
    rows.add(START_EMPTY, Unit::Milliseconds);
    if let Some(gib) = start_gib {
        rows.add(start_with_log(gib), Unit::Milliseconds);
        rows.add(start_after_kill(gib), Unit::Milliseconds);
    }
    for shape in [Shape::KIB_1P, Shape::SMALL_1P] {
        rows.add(produce_cpu(shape), Unit::SecondsPerGibibyte);
    }
    rows.0
}

fn ceilings(rows: &mut Rows, extent: Extent) {
    for name in [QUIC_UP, QUIC_DOWN, QUIC_BOTH] {
        rows.add(name, Unit::MegabytesPerSecond);
    }
    for name in [ROUND_TRIP_ACK, ROUND_TRIP_RECORD] {
        rows.latency(name);
    }
    rows.add(DISK_WRITE, Unit::MegabytesPerSecond);
    rows.add(disk_sync(1), Unit::MegabytesPerSecond);
    if extent == Extent::Full {
        rows.add(disk_sync(4), Unit::MegabytesPerSecond);
    }
    rows.latency(DISK_SYNC_RECORD);
}

fn throughput(rows: &mut Rows, extent: Extent) {
    let of_extent = |of: Durability, shape: Shape| match extent {
        Extent::Full => true,
        Extent::Quick => {
            shape == Shape::KIB_1P || (of == Durability::Relaxed && shape == Shape::SMALL_1P)
        }
    };
    let pairs = || {
        DURABILITIES
            .into_iter()
            .flat_map(|of| Shape::ALL.map(|shape| (of, shape)))
    };
    for (of, shape) in pairs().filter(|(of, shape)| of_extent(*of, *shape)) {
        rows.rate(&produce(of, shape));
    }
    for shape in Shape::ALL
        .into_iter()
        .filter(|shape| of_extent(Durability::Relaxed, *shape))
    {
        rows.rate(&consume(shape));
    }
    for (of, shape) in pairs().filter(|(of, shape)| of_extent(*of, *shape)) {
        rows.rate(&end_to_end(of, shape));
    }
}

#[derive(Default)]
struct Rows(Vec<RowSpec>);

impl Rows {
    fn add(&mut self, name: impl Into<String>, unit: Unit) {
        self.0.push(RowSpec {
            name: name.into(),
            unit,
        });
    }

    fn rate(&mut self, name: &str) {
        self.add(name, Unit::MegabytesPerSecond);
        self.add(in_records(name), Unit::RecordsPerSecond);
    }

    fn latency(&mut self, name: &str) {
        for percentile in Percentile::ALL {
            self.add(at(name, percentile), Unit::Microseconds);
        }
    }
}

/// The rows that were asked for.
#[derive(Clone, Debug)]
pub(super) struct Plan(Vec<RowSpec>);

impl Plan {
    /// The rows whose name starts with one of these; all, if there are none.
    ///
    /// # Errors
    ///
    /// A prefix that no row has.
    pub(super) fn select(rows: Vec<RowSpec>, prefixes: &[String]) -> anyhow::Result<Self> {
        for prefix in prefixes {
            anyhow::ensure!(
                rows.iter().any(|row| row.name.starts_with(prefix)),
                "no row's name starts with {prefix:?}: --list names them"
            );
        }
        let wanted = |row: &RowSpec| {
            prefixes.is_empty() || prefixes.iter().any(|prefix| row.name.starts_with(prefix))
        };
        Ok(Self(rows.into_iter().filter(wanted).collect()))
    }

    /// The rows, in the order of the table.
    pub(super) fn rows(&self) -> &[RowSpec] {
        &self.0
    }

    /// Whether this row, or one below it, was asked for.
    pub(super) fn wants(&self, name: &str) -> bool {
        self.0.iter().any(|row| {
            row.name
                .strip_prefix(name)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn names(extent: Extent, start_gib: Option<u32>) -> Vec<String> {
        rows(extent, start_gib)
            .into_iter()
            .map(|row| row.name)
            .collect()
    }

    /// Scripts compare these from release to release: a name that changes is a name that is lost.
    #[test]
    fn names_are_stable() {
        insta::assert_snapshot!(names(Extent::Full, Some(10)).join("\n"));
    }

    #[test]
    fn names_of_workers_are_stable() {
        let names: Vec<_> = worker_rows(Extent::Full)
            .into_iter()
            .map(|row| row.name)
            .collect();
        insta::assert_snapshot!(names.join("\n"));
    }

    #[test]
    fn names_of_clusters_are_stable() {
        let names: Vec<_> = cluster_rows().into_iter().map(|row| row.name).collect();
        insta::assert_snapshot!(names.join("\n"));
    }

    #[test]
    fn no_name_is_twice_and_a_quick_run_has_no_name_of_its_own() {
        let full = names(Extent::Full, Some(10));
        let set: HashSet<_> = full.iter().collect();
        assert_eq!(set.len(), full.len());
        let quick = names(Extent::Quick, None);
        assert!(quick.len() < full.len() && quick.iter().all(|name| set.contains(name)));
    }

    #[test]
    fn a_prefix_selects_and_an_unknown_one_is_refused() {
        let all = || rows(Extent::Quick, None);
        let plan = Plan::select(all(), &["consume".into(), "broker/start".into()]).unwrap();
        let selected: Vec<_> = plan.rows().iter().map(|row| row.name.as_str()).collect();
        assert_eq!(
            selected,
            [
                "consume/1KiB/1p",
                "consume/1KiB/1p/records",
                "consume/100B/1p",
                "consume/100B/1p/records",
                START_EMPTY
            ]
        );
        assert!(plan.wants("consume/1KiB/1p") && plan.wants("consume") && !plan.wants("cons"));
        assert!(!plan.wants("consume/1KiB/4p") && !plan.wants(QUIC_UP));
        assert!(Plan::select(all(), &["konsume".into()]).is_err());
        assert_eq!(Plan::select(all(), &[]).unwrap().rows(), all());
    }

    #[test]
    fn units_read_the_same_in_the_table_and_in_json() {
        for row in rows(Extent::Full, Some(10))
            .into_iter()
            .chain(cluster_rows())
        {
            assert_eq!(
                serde_json::to_value(row.unit).unwrap(),
                row.unit.to_string()
            );
        }
    }
}
