//! Deployments, as they are shown.

use std::collections::BTreeMap;

use millstream::{
    Activity, Admin, CallLatency, DeliveryGuarantee, DeploymentDescription, ErrorCode,
    FailureAction, FailurePolicy, HoldBack, Position, RevisionChange, TableDescription, TableSpec,
    TableState, WorkerDescription, WorkerState,
};
use serde::Serialize;

use crate::output::{
    Facts, Table, View, bytes, count, counted, duration_ms, micros, plain, time_ms,
};

/// A deployment with its settings and workers.
#[derive(Debug, Serialize)]
pub(super) struct DeploymentView {
    name: String,
    inputs: Vec<String>,
    outputs: Vec<OutputView>,
    config: Vec<ConfigView>,
    /// `earliest`, `latest`, `offset:N` or `time:MS`.
    start: String,
    limits: LimitsView,
    /// In the words of `--grant`.
    grants: Vec<String>,
    /// `exactly-once` or `at-least-once`.
    delivery: &'static str,
    on_failure: FailureView,
    revision: u32,
    /// The component's SHA-256.
    digest: String,
    component_bytes: u64,
    deployed_at_ms: i64,
    imports: Vec<String>,
    /// Records still to be read, over all workers.
    lag: u64,
    workers: Vec<WorkerView>,
    /// A person has paused it.
    paused: bool,
    /// How long calls of the plugin took, over all workers.
    call_latency: Option<LatencyView>,
    /// Who put this revision in place.
    deployed_by: String,
    /// How it came about: `deployed`, `upgraded`, `rolled-back` or `promoted`.
    change: &'static str,
    /// The revision that was put back.
    rolled_back_to: Option<u32>,
    /// The live deployment, if this is a shadow.
    shadow_of: Option<String>,
    tables: Vec<TableView>,
    /// Records in its dead-letter topic, where that was looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    dead_letters_waiting: Option<u64>,
    /// Keys of the configuration that the plugin has not asked for so far.
    config_unasked: Vec<String>,
}

/// What the figures are, for `describe --help`.
pub(super) const DESCRIBE_HELP: &str = "\
The workers' table. Figures are of now, or count from the moment that `counting since` says: a worker begins with \
a revision of its deployment, with its broker and when a partition comes to it. They are no history of the stream.
  COMMITTED  now    the next offset to read; all before it is done, or parked
  LAG        now    records still to be read
  TRIED      count  records handed to the plugin; one that is tried again counts each time
  OUT        count  records emitted
  TRIED/S    now    TRIED in a second, a running average: what is ten seconds ago counts a third
  P50, P99   count  how long a call of the plugin took; a call is of many records
  RETRIES    count  how often a record was tried once more
  FAILURES   count  calls that trapped, took too long or broke a limit
  NEW DEAD   count  records and timers that became dead letters; `dead letters` says how many wait
  SKIPPED    count  records and timers that were given up and are kept nowhere
  PARKED     now    records that wait to be tried again, and those behind them
  TIMERS     now    timers that wait
  MEMORY     now    the plugin's linear memory
  STATE      now    running; backing-off; paused, in front of a record; held, as its deployment is paused;
                    finished, with all that it is to replay
`plugin metrics` shows what the plugin itself counts.";

/// The same for `list --help`.
pub(super) const LIST_HELP: &str = "\
LAG is of now, over all workers. TRIED (records handed to the plugin, each time), OUT (records emitted), FAILURES \
(calls that failed) and NEW DEAD (records that became dead letters) count since the workers began, which is with a \
revision of the deployment or with the broker. `millstream plugin describe --help` says it of each column.";

/// How long calls of a plugin took.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct LatencyView {
    p50_us: u64,
    p99_us: u64,
}

impl LatencyView {
    pub(super) fn of(latency: &CallLatency) -> Self {
        Self {
            p50_us: latency.p50_us,
            p99_us: latency.p99_us,
        }
    }

    /// The two figures, each `-` before the first call.
    pub(super) fn text(latency: Option<Self>) -> [String; 2] {
        let figure = |figure: Option<u64>| figure.map_or_else(|| "-".to_owned(), micros);
        [
            figure(latency.map(|it| it.p50_us)),
            figure(latency.map(|it| it.p99_us)),
        ]
    }
}

#[derive(Debug, Serialize)]
struct OutputView {
    name: String,
    topic: String,
}

/// A table, and how the broker stands with it.
#[derive(Debug, Serialize)]
struct TableView {
    name: String,
    topic: String,
    /// `loading`, `following`, `too-large` or `failed`; nothing while the deployment does not run.
    state: Option<&'static str>,
    /// Why it is too large, or has failed.
    reason: Option<String>,
    bytes: u64,
    lag: u64,
    records_read: u64,
    records_ignored: u64,
}

impl TableView {
    fn of(table: &TableSpec, described: Option<&TableDescription>) -> Self {
        let (state, reason) = match described.map(|table| &table.state) {
            None => (None, None),
            Some(TableState::Loading) => (Some("loading"), None),
            Some(TableState::Following) => (Some("following"), None),
            Some(TableState::TooLarge { reason }) => (Some("too-large"), Some(reason.clone())),
            Some(TableState::Failed { reason }) => (Some("failed"), Some(reason.clone())),
        };
        let figure = |figure: fn(&TableDescription) -> u64| described.map(figure).unwrap_or(0);
        Self {
            name: table.name.clone(),
            topic: table.topic.clone(),
            state,
            reason,
            bytes: figure(|table| table.bytes),
            lag: figure(|table| table.lag),
            records_read: figure(|table| table.records_read),
            records_ignored: figure(|table| table.records_ignored),
        }
    }

    fn text(&self) -> String {
        let Self { name, topic, .. } = self;
        let told = match (self.state, &self.reason) {
            (None, _) => "not open".to_owned(),
            (Some(state), Some(reason)) => format!("{state}: {reason}"),
            (Some(state), None) => format!(
                "{state}, {}, {} behind, {} read",
                bytes(self.bytes),
                count(self.lag),
                counted(self.records_read, "record")
            ),
        };
        let ignored = match self.records_ignored {
            0 => String::new(),
            ignored => format!(", {} without a key that can be found", count(ignored)),
        };
        format!("{name}={topic} ({told}{ignored})")
    }
}

#[derive(Debug, Serialize)]
struct ConfigView {
    name: String,
    value: String,
}

#[derive(Debug, Serialize)]
struct LimitsView {
    memory_bytes: u64,
    deadline_ms: u32,
    outputs_per_record: u32,
    log_lines_per_second: u32,
    state_bytes: u64,
}

#[derive(Debug, Serialize)]
struct FailureView {
    attempts: u32,
    first_back_off_ms: u32,
    longest_back_off_ms: u32,
    /// `park-key`, `park` or `block`.
    on_retry: &'static str,
    /// `dead-letter`, `skip` or `pause`.
    finally: &'static str,
    dead_letter_topic: Option<String>,
}

impl FailureView {
    fn of(policy: &FailurePolicy) -> Self {
        let (finally, dead_letter_topic) = match &policy.finally {
            FailureAction::DeadLetter { topic } => ("dead-letter", Some(topic.clone())),
            FailureAction::Skip => ("skip", None),
            FailureAction::Pause => ("pause", None),
        };
        Self {
            attempts: policy.attempts,
            first_back_off_ms: policy.first_back_off_ms,
            longest_back_off_ms: policy.longest_back_off_ms,
            on_retry: match policy.holds_back {
                HoldBack::Key => "park-key",
                HoldBack::Nothing => "park",
                HoldBack::Partition => "block",
            },
            finally,
            dead_letter_topic,
        }
    }

    fn text(&self) -> String {
        let finally = match &self.dead_letter_topic {
            Some(topic) => format!("dead-letter to {topic}"),
            None => self.finally.to_owned(),
        };
        format!(
            "{} attempts, {} to {} apart, {}, then {finally}",
            count(self.attempts.into()),
            duration_ms(self.first_back_off_ms.into()),
            duration_ms(self.longest_back_off_ms.into()),
            self.on_retry,
        )
    }
}

#[derive(Debug, Serialize)]
struct WorkerView {
    topic: String,
    partition: u32,
    /// `running`, `backing-off`, `paused` in front of a record, `held` with its deployment, or `finished` with
    /// what it replays.
    state: &'static str,
    /// Failures in a row, while it backs off.
    attempts: Option<u32>,
    /// Why it backs off or is paused.
    reason: Option<String>,
    committed_offset: u64,
    lag: u64,
    records_in: u64,
    records_out: u64,
    failures: u64,
    dead_letters: u64,
    skipped: u64,
    parked: u64,
    timers: u64,
    memory_bytes: u64,
    /// The broker that it runs on.
    broker_id: u32,
    records_per_second: u64,
    calls: u64,
    call_latency: Option<LatencyView>,
    retries: u64,
    /// Since when all that is counted is counted.
    started_at_ms: i64,
}

impl DeploymentView {
    pub(super) fn of(deployment: &DeploymentDescription) -> Self {
        let spec = &deployment.spec;
        let output = |output: &millstream::OutputSpec| OutputView {
            name: output.name.clone(),
            topic: output.topic.clone(),
        };
        let config = |(name, value): &(String, String)| ConfigView {
            name: name.clone(),
            value: value.clone(),
        };
        let table = |table: &TableSpec| {
            let mut described = deployment.tables.iter();
            TableView::of(table, described.find(|it| it.name == table.name))
        };
        Self {
            name: spec.name.clone(),
            inputs: spec.inputs.clone(),
            outputs: spec.outputs.iter().map(output).collect(),
            config: spec.config.iter().map(config).collect(),
            start: position(spec.start),
            limits: LimitsView {
                memory_bytes: spec.limits.memory_bytes,
                deadline_ms: spec.limits.deadline_ms,
                outputs_per_record: spec.limits.outputs_per_record,
                log_lines_per_second: spec.limits.log_lines_per_second,
                state_bytes: spec.limits.state_bytes,
            },
            grants: spec.grants.words(),
            delivery: match spec.delivery {
                DeliveryGuarantee::ExactlyOnce => "exactly-once",
                DeliveryGuarantee::AtLeastOnce => "at-least-once",
                DeliveryGuarantee::Deterministic => "exactly-once, deterministic",
            },
            on_failure: FailureView::of(&spec.on_failure),
            revision: deployment.revision,
            digest: deployment.digest.clone(),
            component_bytes: deployment.component_bytes,
            deployed_at_ms: deployment.deployed_at_ms,
            imports: deployment.imports.clone(),
            lag: deployment.workers.iter().map(|worker| worker.lag).sum(),
            workers: deployment.workers.iter().map(WorkerView::of).collect(),
            paused: deployment.activity == Activity::Paused,
            call_latency: deployment.latency.as_ref().map(LatencyView::of),
            deployed_by: deployment.deployed_by.clone(),
            change: change(&deployment.change),
            rolled_back_to: rolled_back_to(&deployment.change),
            shadow_of: deployment.shadow_of.clone(),
            tables: spec.tables.iter().map(table).collect(),
            dead_letters_waiting: None,
            config_unasked: deployment.config_unasked.clone(),
        }
    }

    /// A deployment, and how much is in its dead-letter topic.
    pub(super) async fn look(
        admin: &Admin,
        deployment: &DeploymentDescription,
    ) -> millstream::Result<Self> {
        let mut view = Self::of(deployment);
        if let Some(topic) = &view.on_failure.dead_letter_topic {
            view.dead_letters_waiting = waiting_in(admin, topic).await?;
        }
        Ok(view)
    }

    fn sum(&self, figure: impl Fn(&WorkerView) -> u64) -> u64 {
        self.workers.iter().map(figure).sum()
    }

    /// The state that needs attention most.
    fn state(&self) -> String {
        let in_state = |state| {
            self.workers
                .iter()
                .filter(|worker| worker.state == state)
                .count()
        };
        let state = match (
            self.workers.len(),
            in_state("paused"),
            in_state("backing-off"),
        ) {
            _ if self.paused => "paused".to_owned(),
            (0, ..) => "no workers".to_owned(),
            (all, ..) if in_state("finished") == all => "finished".to_owned(),
            (_, 0, 0) => "running".to_owned(),
            (all, 0, backing_off) => format!("{backing_off} of {all} backing off"),
            (all, paused, _) => format!("{paused} of {all} paused in front of a record"),
        };
        match &self.shadow_of {
            Some(live) => format!("shadow of {live}, {state}"),
            None => state,
        }
    }

    fn revision(&self) -> String {
        let number = count(self.revision.into());
        let change = change_text(self.change, self.rolled_back_to);
        format!("{number}, {change} by {}", plain(&self.deployed_by))
    }

    fn calls(&self) -> String {
        let calls = count(self.sum(|worker| worker.calls));
        let [p50, p99] = LatencyView::text(self.call_latency);
        format!("{calls}, p50 {p50}, p99 {p99}")
    }

    /// What of its configuration is of no use, as far as can be known.
    fn unasked(&self) -> String {
        match self.config_unasked.as_slice() {
            [] => String::new(),
            keys => format!(" (never asked for so far: {})", keys.join(", ")),
        }
    }

    /// What waits in its dead-letter topic.
    fn dead_letters(&self) -> String {
        let topic = self.on_failure.dead_letter_topic.as_deref();
        match (self.dead_letters_waiting, topic) {
            (Some(number), Some(topic)) => format!("{} in {topic}", counted(number, "record")),
            (None, Some(topic)) => format!("in {topic}"),
            (_, None) => "not kept".to_owned(),
        }
    }

    /// The first and the last worker's beginning.
    fn counting_since(&self) -> String {
        let began = self.workers.iter().map(|worker| worker.started_at_ms);
        match (began.clone().min(), began.max()) {
            (Some(first), Some(last)) if first / 1_000 == last / 1_000 => time_ms(first),
            (Some(first), Some(last)) => format!("{} to {}", time_ms(first), time_ms(last)),
            _ => "no worker has begun".to_owned(),
        }
    }

    fn outputs(&self) -> String {
        joined(
            self.outputs
                .iter()
                .map(|output| format!("{}={}", output.name, output.topic)),
        )
    }
}

/// The records in a topic; `None` if it is not there.
pub(super) async fn waiting_in(admin: &Admin, topic: &str) -> millstream::Result<Option<u64>> {
    match admin.describe_topic(topic).await {
        Ok(described) => {
            let partitions = described.partitions.iter();
            let records = partitions.map(|it| Ok(it.known_log()?.visible_offsets()));
            records.sum::<millstream::Result<u64>>().map(Some)
        }
        Err(error) if error.code() == Some(ErrorCode::UnknownTopic) => Ok(None),
        Err(error) => Err(error),
    }
}

/// How a revision came about.
pub(super) fn change(change: &RevisionChange) -> &'static str {
    match change {
        RevisionChange::Deployed => "deployed",
        RevisionChange::Upgraded => "upgraded",
        RevisionChange::RolledBack { .. } => "rolled-back",
        RevisionChange::Promoted { .. } => "promoted",
    }
}

/// The revision that was put back.
pub(super) fn rolled_back_to(change: &RevisionChange) -> Option<u32> {
    match change {
        RevisionChange::RolledBack { to } => Some(*to),
        RevisionChange::Deployed | RevisionChange::Upgraded | RevisionChange::Promoted { .. } => {
            None
        }
    }
}

pub(super) fn change_text(change: &str, rolled_back_to: Option<u32>) -> String {
    match rolled_back_to {
        Some(to) => format!("rolled back to {to}"),
        None => change.to_owned(),
    }
}

fn position(position: Position) -> String {
    match position {
        Position::Earliest => "earliest".to_owned(),
        Position::Latest => "latest".to_owned(),
        Position::Offset(offset) => format!("offset:{offset}"),
        Position::Time(time_ms) => format!("time:{time_ms}"),
    }
}

/// The packages of interfaces, each once, and how many of it: `wasi:cli (9)`. JSON has them all.
fn packages(imports: &[String]) -> String {
    let mut packages: BTreeMap<&str, usize> = BTreeMap::new();
    for import in imports {
        let package = import
            .split_once('/')
            .map_or(import.as_str(), |(package, _)| package);
        *packages.entry(package).or_default() += 1;
    }
    joined(packages.into_iter().map(|(package, number)| match number {
        1 => package.to_owned(),
        number => format!("{package} ({number})"),
    }))
}

fn joined(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(" ")
}

impl WorkerView {
    fn of(worker: &WorkerDescription) -> Self {
        let (state, attempts, reason) = match &worker.state {
            WorkerState::Running => ("running", None, None),
            WorkerState::BackingOff { attempts, reason } => {
                ("backing-off", Some(*attempts), Some(reason.clone()))
            }
            WorkerState::Paused { reason } => ("paused", None, Some(reason.clone())),
            WorkerState::Held => ("held", None, None),
            WorkerState::Finished => ("finished", None, None),
        };
        Self {
            topic: worker.topic.clone(),
            partition: worker.partition,
            state,
            attempts,
            reason,
            committed_offset: worker.committed_offset,
            lag: worker.lag,
            records_in: worker.records_in,
            records_out: worker.records_out,
            failures: worker.failures,
            dead_letters: worker.dead_letters,
            skipped: worker.skipped,
            parked: worker.parked,
            timers: worker.timers,
            memory_bytes: worker.memory_bytes,
            broker_id: worker.broker_id,
            records_per_second: worker.records_per_second,
            calls: worker.calls,
            call_latency: worker.latency.as_ref().map(LatencyView::of),
            retries: worker.retries,
            started_at_ms: worker.started_at_ms,
        }
    }

    fn state(&self) -> String {
        let reason = self.reason.as_deref().unwrap_or_default();
        match self.attempts {
            Some(attempts) => format!("{} after {attempts} failures: {reason}", self.state),
            None if reason.is_empty() => self.state.to_owned(),
            None => format!("{}: {reason}", self.state),
        }
    }
}

impl View for DeploymentView {
    fn text(&self) -> String {
        let limits = &self.limits;
        let config = joined(
            self.config
                .iter()
                .map(|config| format!("{}={}", config.name, config.value)),
        );
        let nothing_if_empty = |text: String| {
            if text.is_empty() {
                "nothing".to_owned()
            } else {
                text
            }
        };
        let facts = Facts::default()
            .fact("deployment", &self.name)
            .fact("state", self.state())
            .fact("reads", self.inputs.join(" "))
            .fact("emits", nothing_if_empty(self.outputs()))
            .fact(
                "looks up in",
                nothing_if_empty(joined(self.tables.iter().map(TableView::text))),
            )
            .fact("config", nothing_if_empty(config) + &self.unasked())
            .fact("start", &self.start)
            .fact(
                "limits",
                format!(
                    "{} of memory, {} of state, {} a call, {} outputs a record, {} log lines a second",
                    bytes(limits.memory_bytes),
                    bytes(limits.state_bytes),
                    duration_ms(limits.deadline_ms.into()),
                    count(limits.outputs_per_record.into()),
                    count(limits.log_lines_per_second.into()),
                ),
            )
            .fact("granted", nothing_if_empty(self.grants.join(" ")))
            .fact("delivery", self.delivery)
            .fact("on failure", self.on_failure.text())
            .fact("revision", self.revision())
            .fact(
                "component",
                format!("{}, sha256 {}", bytes(self.component_bytes), self.digest),
            )
            .fact("deployed at", time_ms(self.deployed_at_ms))
            .fact("imports", nothing_if_empty(packages(&self.imports)))
            .fact("lag", count(self.lag))
            .fact("dead letters", self.dead_letters())
            .fact("counting since", self.counting_since())
            .fact("calls", self.calls());
        let mut table = Table::new(
            &[
                "TOPIC",
                "#PARTITION",
                "#BROKER",
                "#COMMITTED",
                "#LAG",
                "#TRIED",
                "#OUT",
                "#TRIED/S",
                "#P50",
                "#P99",
                "#RETRIES",
                "#FAILURES",
                "#NEW DEAD",
                "#SKIPPED",
                "#PARKED",
                "#TIMERS",
                "#MEMORY",
                "STATE",
            ],
            "no workers: they have not begun yet, or the broker's log says why they do not",
        );
        for worker in &self.workers {
            let [p50, p99] = LatencyView::text(worker.call_latency);
            table.row([
                worker.topic.clone(),
                worker.partition.to_string(),
                worker.broker_id.to_string(),
                count(worker.committed_offset),
                count(worker.lag),
                count(worker.records_in),
                count(worker.records_out),
                count(worker.records_per_second),
                p50,
                p99,
                count(worker.retries),
                count(worker.failures),
                count(worker.dead_letters),
                count(worker.skipped),
                count(worker.parked),
                count(worker.timers),
                bytes(worker.memory_bytes),
                worker.state(),
            ]);
        }
        format!("{}\n{}", facts.text(), table.text())
    }
}

/// Deployments, a line each.
#[derive(Debug, Serialize)]
pub(super) struct Deployments {
    deployments: Vec<DeploymentView>,
}

impl Deployments {
    pub(super) fn of(deployments: &[DeploymentDescription]) -> Self {
        Self {
            deployments: deployments.iter().map(DeploymentView::of).collect(),
        }
    }
}

impl View for Deployments {
    fn text(&self) -> String {
        let mut table = Table::new(
            &[
                "DEPLOYMENT",
                "READS",
                "EMITS",
                "#WORKERS",
                "#LAG",
                "#TRIED",
                "#OUT",
                "#FAILURES",
                "#NEW DEAD",
                "STATE",
            ],
            "no plugins: `millstream plugin deploy` deploys one",
        );
        for deployment in &self.deployments {
            table.row([
                deployment.name.clone(),
                deployment.inputs.join(" "),
                deployment.outputs(),
                deployment.workers.len().to_string(),
                count(deployment.lag),
                count(deployment.sum(|worker| worker.records_in)),
                count(deployment.sum(|worker| worker.records_out)),
                count(deployment.sum(|worker| worker.failures)),
                count(deployment.sum(|worker| worker.dead_letters)),
                deployment.state(),
            ]);
        }
        table.text()
    }
}

#[cfg(test)]
mod tests;
