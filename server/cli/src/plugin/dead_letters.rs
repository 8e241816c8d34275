//! `millstream plugin dlq`: the records that a deployment could not handle.

use clap::{Args, Subcommand};
use millstream::{Client, ConsumedRecord, FailureAction, Position};
use serde::Serialize;

use crate::cli::Context;
use crate::errors::Problem;
use crate::output::{Table, View, count, counted, plain, time_ms};

/// What the names of a dead letter's own headers begin with.
const PREFIX: &str = "millstream.dead-letter.";

/// Characters of a value that are listed.
const SHOWN_CHARS: usize = 80;

/// Letters that are listed unless told otherwise.
const DEFAULT_LISTED: u64 = 100;

/// What is different from the first time, for `--help`.
const RETRY_HELP: &str = "\
What a plugin wrote into its state for a record before it rejected that record is still there: a plugin that counts \
first and looks at the record then counts it once more now. `millstream plugin state scan` shows the state before \
and after; a plugin that rejects before it writes has nothing to fear. What fails again is a dead letter again.";

#[derive(Subcommand, Debug)]
pub(crate) enum DlqCommand {
    /// Lists dead letters: where they came from, why they are here, and how their values begin; the time
    /// is the record's own
    List(ListArgs),
    /// Hands all dead letters back to the workers, which handle them as if for the first time
    #[command(after_help = RETRY_HELP)]
    Retry(DeploymentArgs),
    /// Deletes all dead letters
    Drop(DeploymentArgs),
}

#[derive(Args, Debug)]
pub(crate) struct ListArgs {
    /// The deployment
    name: String,

    /// At most this many, the oldest
    #[arg(long, default_value_t = DEFAULT_LISTED, value_name = "N")]
    limit: u64,
}

#[derive(Args, Debug)]
pub(crate) struct DeploymentArgs {
    /// The deployment
    name: String,
}

pub(super) async fn run(command: DlqCommand, context: &Context) -> anyhow::Result<()> {
    let output = context.output;
    let client = context.client().await?;
    match command {
        DlqCommand::List(args) => output.print(&list(&client, &args).await?),
        DlqCommand::Retry(DeploymentArgs { name }) => {
            let letters = client.admin().retry_dead_letters(name.clone()).await?;
            output.print(&Done {
                deployment: name,
                what: "handed back",
                letters,
            })
        }
        DlqCommand::Drop(DeploymentArgs { name }) => {
            let letters = drop_all(&client, &name).await?;
            output.print(&Done {
                deployment: name,
                what: "deleted",
                letters,
            })
        }
    }
}

/// Where a deployment's dead letters go.
async fn topic(client: &Client, name: &str) -> anyhow::Result<String> {
    let deployment = client.admin().describe_plugin(name).await?;
    match deployment.spec.on_failure.finally {
        FailureAction::DeadLetter { topic } => Ok(topic),
        FailureAction::Skip | FailureAction::Pause => Err(Problem::usage(format!(
            "deployment {name} has no dead-letter topic"
        ))
        .advise("`millstream plugin describe` shows what it does with records that fail")
        .into()),
    }
}

async fn list(client: &Client, args: &ListArgs) -> anyhow::Result<DeadLetters> {
    let topic = topic(client, &args.name).await?;
    let described = client.admin().describe_topic(topic.clone()).await?;
    let partitions = described.partitions.iter();
    let there = partitions.map(|it| Ok(it.known_log()?.visible_offsets()));
    let there = there.sum::<millstream::Result<u64>>()?;
    let mut letters = Vec::new();
    if there > 0 {
        let consumer = client.consumer().topics([topic.clone()]);
        let mut consumer = consumer.start(Position::Earliest).build().await?;
        while (letters.len() as u64) < there.min(args.limit) {
            letters.push(DeadLetter::of(&consumer.next().await?));
        }
    }
    Ok(DeadLetters {
        topic,
        there,
        letters,
    })
}

async fn drop_all(client: &Client, name: &str) -> anyhow::Result<u64> {
    let topic = topic(client, name).await?;
    let admin = client.admin();
    let mut dropped = 0;
    for partition in admin.describe_topic(topic.clone()).await?.partitions {
        let log = partition.known_log().map_err(millstream::Error::from)?;
        let (start, end) = (log.log_start_offset, log.high_watermark);
        if start < end {
            admin
                .delete_records(topic.clone(), partition.partition, end)
                .await?;
            dropped += end - start;
        }
    }
    Ok(dropped)
}

/// Dead letters, as they are listed.
#[derive(Debug, Serialize)]
struct DeadLetters {
    topic: String,
    /// How many there are.
    there: u64,
    letters: Vec<DeadLetter>,
}

/// A dead letter. What its headers do not say is absent.
#[derive(Debug, Serialize)]
struct DeadLetter {
    partition: u32,
    offset: u64,
    timestamp_ms: i64,
    /// As text, escaped where it is none.
    key: Option<String>,
    value_bytes: usize,
    /// The value's beginning, as text, escaped where it is none.
    value: Option<String>,
    from_topic: Option<String>,
    from_partition: Option<u32>,
    from_offset: Option<u64>,
    attempts: Option<u32>,
    reason: Option<String>,
    /// The digest of the component that failed.
    plugin: Option<String>,
}

impl DeadLetter {
    fn of(record: &ConsumedRecord) -> Self {
        let says = |name: &str| {
            let name = format!("{PREFIX}{name}");
            let mut headers = record.headers.iter();
            let header = headers.find(|header| header.name == name.as_bytes())?;
            let value = header.value.as_deref().unwrap_or_default();
            Some(String::from_utf8_lossy(value).into_owned())
        };
        Self {
            partition: record.partition,
            offset: record.offset,
            timestamp_ms: record.timestamp_ms,
            key: record
                .key
                .as_deref()
                .map(|key| key.escape_ascii().to_string()),
            value_bytes: record.value.as_ref().map_or(0, |value| value.len()),
            value: record.value.as_deref().map(beginning),
            from_topic: says("topic"),
            from_partition: says("partition").and_then(|it| it.parse().ok()),
            from_offset: says("offset").and_then(|it| it.parse().ok()),
            attempts: says("attempts").and_then(|it| it.parse().ok()),
            reason: says("reason"),
            plugin: says("plugin"),
        }
    }

    fn origin(&self) -> String {
        match (&self.from_topic, self.from_partition, self.from_offset) {
            (Some(topic), Some(partition), Some(offset)) => {
                format!("{topic}-{partition} offset {offset}")
            }
            _ => "no dead letter".to_owned(),
        }
    }
}

/// The beginning of a value, and whether there is more. Whole characters of UTF-8 stay as they are.
fn beginning(value: &[u8]) -> String {
    // No character has more bytes.
    let looked_at = &value[..value.len().min(4 * SHOWN_CHARS)];
    let mut shown = String::new();
    let mut chars = 0;
    for chunk in looked_at.utf8_chunks() {
        for c in chunk.valid().chars() {
            if chars == SHOWN_CHARS {
                return shown + "...";
            }
            chars += 1;
            match c {
                c if c.is_control() => shown.extend(c.escape_default()),
                c => shown.push(c),
            }
        }
        for byte in chunk.invalid() {
            if chars == SHOWN_CHARS {
                return shown + "...";
            }
            chars += 1;
            shown.extend(std::ascii::escape_default(*byte).map(char::from));
        }
    }
    if looked_at.len() < value.len() {
        shown.push_str("...");
    }
    shown
}

impl View for DeadLetters {
    fn text(&self) -> String {
        let mut table = Table::new(
            &[
                "#PARTITION",
                "#OFFSET",
                "TIME",
                "FROM",
                "KEY",
                "#ATTEMPTS",
                "REASON",
                "VALUE",
            ],
            "no dead letters",
        );
        for letter in &self.letters {
            table.row([
                letter.partition.to_string(),
                letter.offset.to_string(),
                time_ms(letter.timestamp_ms),
                letter.origin(),
                letter.key.clone().unwrap_or_default(),
                letter
                    .attempts
                    .map(|it| count(it.into()))
                    .unwrap_or_default(),
                plain(letter.reason.as_deref().unwrap_or_default()),
                plain(letter.value.as_deref().unwrap_or_default()),
            ]);
        }
        let mut text = table.text();
        let listed = self.letters.len() as u64;
        if listed < self.there {
            text += &format!(
                "{} of {} (see --limit); `millstream consume {}` shows all of them\n",
                count(listed),
                count(self.there),
                self.topic
            );
        }
        text
    }
}

/// What was done with all of them.
#[derive(Debug, Serialize)]
struct Done {
    deployment: String,
    what: &'static str,
    letters: u64,
}

impl View for Done {
    fn text(&self) -> String {
        let letters = counted(self.letters, "dead letter");
        format!("{} {letters} of {}\n", self.what, self.deployment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_a_line_each() {
        let letter = DeadLetter {
            partition: 0,
            offset: 12,
            timestamp_ms: 1_517_270_400_000,
            key: Some("us".to_owned()),
            value_bytes: 20,
            value: Some(beginning(
                format!("{{\"id\":\"ü\n{}", "x".repeat(90)).as_bytes(),
            )),
            from_topic: Some("earthquakes".to_owned()),
            from_partition: Some(3),
            from_offset: Some(1_234),
            attempts: Some(5),
            reason: Some("trapped: no JSON".to_owned()),
            plugin: Some("3f2a".to_owned()),
        };
        let letters = DeadLetters {
            topic: "quake-alert.dead-letters".to_owned(),
            there: 2,
            letters: vec![letter],
        };
        insta::assert_snapshot!(letters.text(), @r#"
        PARTITION  OFFSET  TIME                      FROM                       KEY  ATTEMPTS  REASON            VALUE
                0      12  2018-01-30T00:00:00.000Z  earthquakes-3 offset 1234  us          5  trapped: no JSON  {"id":"ü\nxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx...
        1 of 2 (see --limit); `millstream consume quake-alert.dead-letters` shows all of them
        "#);
    }
}
