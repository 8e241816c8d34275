//! `millstream plugin diff`: what a shadow has written beside what the live deployment wrote.

use std::time::Duration;

use clap::Args;
use millstream::{Admin, ConsumedRecord, Difference, OutputDiff, PluginDiff, WorkerState};
use serde::Serialize;

use super::replay::ShadowArgs;
use crate::cli::Context;
use crate::errors::{Exit, Problem};
use crate::output::{Output, Table, View, count, counted, plain, time_ms};

/// Differences that are shown unless told otherwise.
const DEFAULT_SHOWN: usize = 10;

/// How often it is looked at how far a replay is.
const LOOK_EVERY: Duration = Duration::from_millis(100);

#[derive(Args, Debug)]
pub(crate) struct DiffArgs {
    #[command(flatten)]
    shadow: ShadowArgs,

    /// Shows at most this many differences, the oldest of each output first
    #[arg(long, default_value_t = DEFAULT_SHOWN, value_name = "N")]
    limit: usize,
}

pub(super) async fn run(args: DiffArgs, context: &Context) -> anyhow::Result<()> {
    let admin = context.admin().await?;
    let shadow = args.shadow.shadow(&admin).await?;
    wait(&admin, &shadow, context.output).await?;
    let diff = admin.diff_plugin(&shadow, args.limit).await?;
    context.output.print(&DiffView::of(&diff))
}

/// Waits until a replay is done.
async fn wait(admin: &Admin, shadow: &str, output: Output) -> anyhow::Result<()> {
    let mut told = None;
    loop {
        let progress = admin.replay_progress(shadow).await?;
        if progress.is_done() {
            return Ok(());
        }
        let workers = admin.describe_plugin(shadow).await?.workers;
        let stands_still = workers
            .iter()
            .find(|worker| matches!(worker.state, WorkerState::Paused { .. } | WorkerState::Held));
        if let Some(worker) = stands_still {
            let place = format!("{}-{}", worker.topic, worker.partition);
            return Err(Problem::new(
                Exit::Refused,
                format!("the replay {shadow} stands still at {place}"),
            )
            .advise(format!(
                "`millstream plugin describe {shadow}` says why, `millstream plugin resume {shadow}` has it go on"
            ))
            .into());
        }
        let reads = progress.to_read > 0;
        if told != Some(reads) {
            let (records, what) = match reads {
                true => (progress.to_read, "to read"),
                // `describe` shows how many there are, and `logs` why.
                false => (progress.parked, "to be tried again"),
            };
            output.say(format_args!(
                "waiting for the replay {shadow}: {} {what}",
                counted(records, "record")
            ));
            told = Some(reads);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// How a shadow's outputs differ from the live ones.
#[derive(Debug, Serialize)]
struct DiffView {
    live: String,
    shadow: String,
    outputs: Vec<OutputView>,
    /// The first differences, as many as asked for.
    differences: Vec<DifferenceView>,
}

#[derive(Debug, Serialize)]
struct OutputView {
    output: String,
    live_topic: String,
    shadow_topic: String,
    equal: u64,
    changed: u64,
    only_live: u64,
    only_shadow: u64,
    /// Live records that may as well have come of records outside of the replayed part.
    left_out: u64,
    /// Records that others have written: clients, or other deployments.
    of_others: u64,
    /// Records of which it is not known who has written them. They are compared.
    of_unknown: u64,
}

#[derive(Debug, Serialize)]
struct DifferenceView {
    output: String,
    /// `changed`, `only-live` or `only-shadow`.
    what: &'static str,
    /// The fields in which the two differ.
    fields: Vec<&'static str>,
    live: Option<RecordView>,
    shadow: Option<RecordView>,
}

#[derive(Debug, Serialize)]
struct RecordView {
    partition: u32,
    offset: u64,
    timestamp_ms: i64,
    /// As text, escaped where it is none.
    key: Option<String>,
    value: Option<String>,
}

impl DiffView {
    fn of(diff: &PluginDiff) -> Self {
        Self {
            live: diff.live.clone(),
            shadow: diff.shadow.clone(),
            outputs: diff.outputs.iter().map(OutputView::of).collect(),
            differences: diff.differences.iter().map(DifferenceView::of).collect(),
        }
    }
}

impl OutputView {
    fn of(diff: &OutputDiff) -> Self {
        Self {
            output: diff.output.clone(),
            live_topic: diff.live_topic.clone(),
            shadow_topic: diff.shadow_topic.clone(),
            equal: diff.equal,
            changed: diff.changed,
            only_live: diff.only_live,
            only_shadow: diff.only_shadow,
            left_out: diff.left_out,
            of_others: diff.of_others,
            of_unknown: diff.of_unknown,
        }
    }

    fn differences(&self) -> u64 {
        self.changed + self.only_live + self.only_shadow
    }
}

impl DifferenceView {
    fn of(difference: &Difference) -> Self {
        Self {
            output: difference.output.clone(),
            what: match (&difference.live, &difference.shadow) {
                (Some(_), Some(_)) => "changed",
                (Some(_), None) => "only-live",
                (None, _) => "only-shadow",
            },
            fields: difference.fields(),
            live: difference.live.as_ref().map(RecordView::of),
            shadow: difference.shadow.as_ref().map(RecordView::of),
        }
    }

    fn text(&self) -> String {
        let Some(either) = self.live.as_ref().or(self.shadow.as_ref()) else {
            return String::new();
        };
        let key = either.key.as_deref().unwrap_or("(no key)");
        let title = format!("{} {key}", time_ms(either.timestamp_ms));
        let what = match self.what {
            "changed" => format!("changed in {}", self.fields.join(", ")),
            "only-live" => "only live".to_owned(),
            _ => "only in the shadow".to_owned(),
        };
        let mut text = format!("{}: {title}: {what}\n", plain(&self.output));
        for (sign, record) in [('-', &self.live), ('+', &self.shadow)] {
            if let Some(record) = record {
                let key = match (self.fields.contains(&"key"), &record.key) {
                    (true, Some(key)) => format!("{key}: "),
                    _ => String::new(),
                };
                let value = record.value.as_deref().unwrap_or("(no value)");
                text += &format!("  {sign} {key}{value}\n");
            }
        }
        text
    }
}

impl RecordView {
    fn of(record: &ConsumedRecord) -> Self {
        let text = |bytes: &[u8]| match std::str::from_utf8(bytes) {
            Ok(text) => plain(text),
            Err(_) => bytes.escape_ascii().to_string(),
        };
        Self {
            partition: record.partition,
            offset: record.offset,
            timestamp_ms: record.timestamp_ms,
            key: record.key.as_deref().map(text),
            value: record.value.as_deref().map(text),
        }
    }
}

impl View for DiffView {
    fn text(&self) -> String {
        const COLUMNS: &[&str] = &[
            "OUTPUT",
            "LIVE",
            "SHADOW",
            "#EQUAL",
            "#CHANGED",
            "#ONLY LIVE",
            "#ONLY SHADOW",
        ];
        let mut table = Table::new(COLUMNS, "the deployment has no outputs");
        for output in &self.outputs {
            table.row([
                output.output.clone(),
                output.live_topic.clone(),
                output.shadow_topic.clone(),
                count(output.equal),
                count(output.changed),
                count(output.only_live),
                count(output.only_shadow),
            ]);
        }
        let mut text = table.text();
        let left_out: u64 = self.outputs.iter().map(|output| output.left_out).sum();
        if left_out > 0 {
            text += &format!(
                "left out: {}, which may as well have come of records outside of the replayed part, by their time\n",
                counted(left_out, "live record")
            );
        }
        let of_others: u64 = self.outputs.iter().map(|output| output.of_others).sum();
        if of_others > 0 {
            text += &format!(
                "passed over: {} that others have written to these topics\n",
                counted(of_others, "record")
            );
        }
        let of_unknown: u64 = self.outputs.iter().map(|output| output.of_unknown).sum();
        if of_unknown > 0 {
            text += &format!(
                "compared: {} of which it is not known who has written them, because their deployment is at-least-once or its workers are no more\n",
                counted(of_unknown, "record")
            );
        }
        let all: u64 = self.outputs.iter().map(OutputView::differences).sum();
        if all == 0 {
            text += "no differences\n";
            return text;
        }
        if !self.differences.is_empty() {
            text += "\n";
        }
        for difference in &self.differences {
            text += &difference.text();
        }
        let shown = self.differences.len() as u64;
        if shown < all {
            text += &format!(
                "{} of {} (see --limit)\n",
                count(shown),
                counted(all, "difference")
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::output::both_forms;

    fn record(offset: u64, value: &str) -> ConsumedRecord {
        ConsumedRecord {
            topic: "alerts".into(),
            partition: 0,
            offset,
            timestamp_ms: 1_517_270_400_000,
            key: Some(Bytes::from_static(b"us")),
            value: Some(Bytes::copy_from_slice(value.as_bytes())),
            headers: Vec::new(),
        }
    }

    #[test]
    fn differences_with_both_values() {
        let difference = |live, shadow| Difference {
            output: "alerts".to_owned(),
            live,
            shadow,
        };
        let diff = PluginDiff {
            live: "quake-alert".to_owned(),
            shadow: "quake-alert.shadow".to_owned(),
            outputs: vec![OutputDiff {
                output: "alerts".to_owned(),
                live_topic: "alerts".to_owned(),
                shadow_topic: "alerts.quake-alert.shadow".to_owned(),
                equal: 1_200,
                changed: 1,
                only_live: 2,
                only_shadow: 0,
                left_out: 3,
                of_others: 4,
                of_unknown: 1,
            }],
            differences: vec![
                difference(Some(record(3, "4.5")), Some(record(2, "4.50"))),
                difference(Some(record(7, "4.6")), None),
            ],
        };
        insta::assert_snapshot!(both_forms(&DiffView::of(&diff)), @r#"
        OUTPUT  LIVE    SHADOW                     EQUAL  CHANGED  ONLY LIVE  ONLY SHADOW
        alerts  alerts  alerts.quake-alert.shadow  1,200        1          2            0
        left out: 3 live records, which may as well have come of records outside of the replayed part, by their time
        passed over: 4 records that others have written to these topics
        compared: 1 record of which it is not known who has written them, because their deployment is at-least-once or its workers are no more

        alerts: 2018-01-30T00:00:00.000Z us: changed in value
          - 4.5
          + 4.50
        alerts: 2018-01-30T00:00:00.000Z us: only live
          - 4.6
        2 of 3 differences (see --limit)
        ---
        {
          "live": "quake-alert",
          "shadow": "quake-alert.shadow",
          "outputs": [
            {
              "output": "alerts",
              "live_topic": "alerts",
              "shadow_topic": "alerts.quake-alert.shadow",
              "equal": 1200,
              "changed": 1,
              "only_live": 2,
              "only_shadow": 0,
              "left_out": 3,
              "of_others": 4,
              "of_unknown": 1
            }
          ],
          "differences": [
            {
              "output": "alerts",
              "what": "changed",
              "fields": [
                "value"
              ],
              "live": {
                "partition": 0,
                "offset": 3,
                "timestamp_ms": 1517270400000,
                "key": "us",
                "value": "4.5"
              },
              "shadow": {
                "partition": 0,
                "offset": 2,
                "timestamp_ms": 1517270400000,
                "key": "us",
                "value": "4.50"
              }
            },
            {
              "output": "alerts",
              "what": "only-live",
              "fields": [],
              "live": {
                "partition": 0,
                "offset": 7,
                "timestamp_ms": 1517270400000,
                "key": "us",
                "value": "4.6"
              },
              "shadow": null
            }
          ]
        }
        "#);
    }

    #[test]
    fn no_differences_are_said() {
        let diff = PluginDiff {
            live: "quake-alert".to_owned(),
            shadow: "quake-alert.shadow".to_owned(),
            outputs: Vec::new(),
            differences: Vec::new(),
        };
        insta::assert_snapshot!(DiffView::of(&diff).text(), @r"
        the deployment has no outputs
        no differences
        ");
    }
}
