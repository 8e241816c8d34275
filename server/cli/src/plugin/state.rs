//! `millstream plugin state`: what the workers of a deployment remember.

mod export;
mod key;

use clap::{Args, Subcommand};
use millstream::{Admin, PluginState, StateItem, StateOrigin};
use serde::Serialize;

use crate::cli::Context;
use crate::consume::format::hex;
use crate::errors::{Exit, Problem};
use crate::output::{Table, View, plain};
use export::ExportArgs;
use key::StateKey;

/// Entries that are listed unless told otherwise.
const DEFAULT_LISTED: u64 = 100;

/// Characters of a value that a table shows.
const SHOWN_CHARS: usize = 100;

/// How keys and values look, for `--help`.
const KEYS_HELP: &str = "\
A key stands in the table as a shell takes it, in single quotes where that needs them: what `scan` prints is what \
`get` takes. A key whose text has quotes of its own, as one of JSON, has them within: '\"attic\"'. \
Keys and values that are no text that can be printed are `hex:` and hexadecimal digits, as hex:0000000000000002 of a \
counter in eight bytes, the highest first. Values are cut after 100 characters; `--output json` has all of them.";

#[derive(Subcommand, Debug)]
pub(crate) enum StateCommand {
    /// Shows what workers remember under a key
    #[command(after_help = KEYS_HELP)]
    Get(GetArgs),
    /// Lists what workers remember, in the order of the keys' bytes
    #[command(after_help = KEYS_HELP)]
    Scan(ScanArgs),
    /// Writes all that workers remember, one JSON object a line
    #[command(after_help = export::HELP)]
    Export(ExportArgs),
}

#[derive(Args, Debug)]
pub(crate) struct GetArgs {
    /// The deployment
    name: String,

    /// The key: text, or `hex:` and hexadecimal digits
    #[arg(allow_negative_numbers = true)]
    key: StateKey,

    #[command(flatten)]
    workers: WorkerArgs,
}

#[derive(Args, Debug)]
pub(crate) struct ScanArgs {
    /// The deployment
    name: String,

    /// Of keys that begin with this: text, or `hex:` and hexadecimal digits
    #[arg(
        long,
        default_value = "",
        hide_default_value = true,
        allow_hyphen_values = true
    )]
    prefix: StateKey,

    /// At most this many
    #[arg(long, default_value_t = DEFAULT_LISTED, value_name = "N")]
    limit: u64,

    #[command(flatten)]
    workers: WorkerArgs,
}

/// Which workers.
#[derive(Args, Debug)]
pub(crate) struct WorkerArgs {
    /// Of the workers at this input topic alone
    #[arg(long)]
    topic: Option<String>,

    /// Of the workers at this partition alone
    #[arg(long, value_name = "N")]
    partition: Option<u32>,
}

pub(super) async fn run(command: StateCommand, context: &Context) -> anyhow::Result<()> {
    let admin = context.admin().await?;
    match command {
        StateCommand::Get(args) => {
            let state = ask(&admin, args.name.clone(), &args.workers).key(args.key.bytes());
            let found = Entries::take(state.await?, u64::MAX).await?;
            if found.entries.is_empty() {
                let problem = format!("no worker of {} remembers that key", args.name);
                let advice = "`millstream plugin state scan` lists keys";
                return Err(Problem::new(Exit::NotFound, problem).advise(advice).into());
            }
            context.output.print(&found)
        }
        StateCommand::Scan(args) => {
            let state = ask(&admin, args.name, &args.workers);
            // One more tells whether there are more.
            let state = state.prefix(args.prefix.bytes());
            let state = state.limit(args.limit.saturating_add(1));
            let mut found = Entries::take(state.await?, args.limit.saturating_add(1)).await?;
            let all = found.entries.len() as u64;
            found
                .entries
                .truncate(usize::try_from(args.limit).unwrap_or(usize::MAX));
            context.output.print(&found)?;
            if all > args.limit {
                context.output.say(format_args!(
                    "there are more than these {}: --limit shows more, `millstream plugin state export` all",
                    args.limit
                ));
            }
            Ok(())
        }
        StateCommand::Export(args) => export::run(args, &admin, context).await,
    }
}

fn ask(admin: &Admin, name: String, workers: &WorkerArgs) -> millstream::PluginStateBuilder {
    let mut state = admin.plugin_state(name);
    if let Some(topic) = &workers.topic {
        state = state.topic(topic);
    }
    if let Some(partition) = workers.partition {
        state = state.partition(partition);
    }
    state
}

/// Entries, as they are listed.
#[derive(Debug, Serialize)]
struct Entries {
    entries: Vec<EntryView>,
}

#[derive(Debug, Serialize)]
struct EntryView {
    topic: String,
    partition: u32,
    /// What the records of the input below this offset have led to.
    offset: u64,
    #[serde(flatten)]
    entry: EntryJson,
}

/// A key and its value. Bytes that are no text, or text that cannot be printed, come as `key_hex` and `value_hex`.
#[derive(Debug, Serialize)]
struct EntryJson {
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_hex: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_hex: Option<String>,
}

impl EntryJson {
    fn new(key: &[u8], value: &[u8]) -> Self {
        let (key, key_hex) = text_or_digits(key);
        let (value, value_hex) = text_or_digits(value);
        Self {
            key,
            key_hex,
            value,
            value_hex,
        }
    }

    /// The key as it is typed.
    fn typed_key(&self) -> String {
        match (&self.key, &self.key_hex) {
            (Some(text), _) => key::typed(text),
            (None, Some(digits)) => key::typed_digits(digits),
            (None, None) => String::new(),
        }
    }
}

/// Text that can be printed as it is, and everything else as hexadecimal digits: of a counter, whose bytes may
/// be UTF-8 or not, each value looks the same.
fn text_or_digits(bytes: &[u8]) -> (Option<String>, Option<String>) {
    let is_printed = |it: char| !it.is_control() || it == '\n' || it == '\t';
    match str::from_utf8(bytes) {
        Ok(text) if text.chars().all(is_printed) => (Some(text.to_owned()), None),
        _ => (None, Some(hex(bytes))),
    }
}

impl Entries {
    async fn take(mut state: PluginState, limit: u64) -> anyhow::Result<Self> {
        let mut origin: Option<StateOrigin> = None;
        let mut entries = Vec::new();
        while (entries.len() as u64) < limit
            && let Some(item) = state.next().await?
        {
            match (item, &origin) {
                (StateItem::Worker(of), _) => origin = Some(of),
                (StateItem::Entry { key, value }, Some(of)) => entries.push(EntryView {
                    topic: of.topic.clone(),
                    partition: of.partition,
                    offset: of.offset,
                    entry: EntryJson::new(&key, &value),
                }),
                (StateItem::Entry { .. }, None) => {}
            }
        }
        Ok(Self { entries })
    }
}

impl View for Entries {
    fn text(&self) -> String {
        let columns = &["TOPIC", "#PARTITION", "#OFFSET", "KEY", "VALUE"];
        let mut table = Table::new(columns, "nothing");
        for EntryView {
            topic,
            partition,
            offset,
            entry,
        } in &self.entries
        {
            table.row([
                plain(topic),
                partition.to_string(),
                offset.to_string(),
                entry.typed_key(),
                shown(entry.value.as_deref(), entry.value_hex.as_deref()),
            ]);
        }
        table.text()
    }
}

/// As it can be typed again, and cut where it is long.
fn shown(text: Option<&str>, hex: Option<&str>) -> String {
    let whole = match (text, hex) {
        (Some(text), _) => plain(text),
        (None, Some(hex)) => format!("hex:{hex}"),
        (None, None) => String::new(),
    };
    match whole.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{}...", &whole[..end]),
        None => whole,
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(subcommand)]
        command: StateCommand,
    }

    #[test]
    fn keys_may_begin_with_a_hyphen() {
        let scan = Line::try_parse_from([
            "state", "scan", "gauge", "--prefix", "-room/", "--limit", "3",
        ]);
        let StateCommand::Scan(args) = scan.unwrap().command else {
            panic!("it is a scan");
        };
        assert_eq!((args.prefix.bytes(), args.limit), (b"-room/".to_vec(), 3));

        let get = Line::try_parse_from(["state", "get", "gauge", "-5", "--partition", "1"]);
        let StateCommand::Get(args) = get.unwrap().command else {
            panic!("it is a get");
        };
        assert_eq!(
            (args.key.bytes(), args.workers.partition),
            (b"-5".to_vec(), Some(1))
        );
    }

    #[test]
    fn a_counter_looks_the_same_whatever_it_has_counted() {
        let digits = |count: u64| text_or_digits(&count.to_be_bytes());
        assert_eq!(digits(2), (None, Some("0000000000000002".to_owned())));
        assert_eq!(digits(200), (None, Some("00000000000000c8".to_owned())));
    }

    #[test]
    fn entries_in_both_forms() {
        let view = |partition, key: &[u8], value: &[u8]| EntryView {
            topic: "orders".to_owned(),
            partition,
            offset: 7,
            entry: EntryJson::new(key, value),
        };
        let entries = Entries {
            entries: vec![
                view(0, b"a\n", b"1"),
                view(1, b"\xff\0", "ä".repeat(101).as_bytes()),
            ],
        };
        let text = entries.text();
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[1].contains("hex:610a") && lines[2].contains("hex:ff00"));
        assert!(lines[2].ends_with(&format!("{}...", "ä".repeat(100))));
        insta::assert_snapshot!(serde_json::to_string(&entries.entries[0]).unwrap(), @r#"{"topic":"orders","partition":0,"offset":7,"key":"a\n","value":"1"}"#);
        let hex = serde_json::to_value(&entries.entries[1]).unwrap();
        assert_eq!(hex["key_hex"], "ff00");
        assert!(hex.get("key").is_none());
    }
}
