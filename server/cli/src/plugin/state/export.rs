//! `millstream plugin state export`.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use millstream::{Admin, StateItem};
use serde::Serialize;

use super::{EntryJson, WorkerArgs, ask};
use crate::cli::Context;
use crate::output::{Stdout, View, count};

pub(super) const HELP: &str = "\
For each worker comes one line that says whose state it is, and of when:
  {\"topic\":\"orders\",\"partition\":0,\"offset\":1200}
Behind it come its entries, in the order of the keys' bytes:
  {\"key\":\"order/7\",\"value\":\"paid\"}
The state is what the records of that partition below that offset have led to, all of them and no \
other; the worker goes on while it is read. Bytes that are no text come as `key_hex` and `value_hex`.";

#[derive(Args, Debug)]
pub(crate) struct ExportArgs {
    /// The deployment
    name: String,

    /// Writes to this file instead of standard output; it is there when it is whole
    #[arg(long)]
    file: Option<PathBuf>,

    #[command(flatten)]
    workers: WorkerArgs,
}

pub(super) async fn run(args: ExportArgs, admin: &Admin, context: &Context) -> anyhow::Result<()> {
    let mut state = ask(admin, args.name, &args.workers).await?;
    let Some(path) = args.file else {
        let mut stdout = Stdout::new();
        let mut export = Export::new(&mut stdout);
        while let Some(item) = state.next().await? {
            export
                .write(&item)
                .context("cannot write to standard output")?;
        }
        return stdout.flush().context("cannot write to standard output");
    };
    let mut draft = path.clone().into_os_string();
    draft.push(".draft");
    let draft = PathBuf::from(draft);
    let cannot_write = || format!("cannot write {}", path.display());
    let file = File::create(&draft).with_context(cannot_write)?;
    let mut file = BufWriter::new(file);
    let mut export = Export::new(&mut file);
    while let Some(item) = state.next().await? {
        export.write(&item).with_context(cannot_write)?;
    }
    let (workers, entries) = (export.workers, export.entries);
    let finish = || -> std::io::Result<()> {
        file.into_inner()?.sync_all()?;
        std::fs::rename(&draft, &path)
    };
    finish().with_context(cannot_write)?;
    context.output.print(&Exported {
        file: path,
        workers,
        entries,
    })
}

/// An export that is being written.
struct Export<'a, W> {
    into: &'a mut W,
    workers: u64,
    entries: u64,
}

/// The line before the entries of a worker.
#[derive(Serialize)]
struct OriginJson<'a> {
    topic: &'a str,
    partition: u32,
    offset: u64,
}

impl<'a, W: Write> Export<'a, W> {
    fn new(into: &'a mut W) -> Self {
        Self {
            into,
            workers: 0,
            entries: 0,
        }
    }

    fn write(&mut self, item: &StateItem) -> std::io::Result<()> {
        match item {
            StateItem::Worker(of) => {
                self.workers += 1;
                let origin = OriginJson {
                    topic: &of.topic,
                    partition: of.partition,
                    offset: of.offset,
                };
                serde_json::to_writer(&mut *self.into, &origin)?;
            }
            StateItem::Entry { key, value } => {
                self.entries += 1;
                serde_json::to_writer(&mut *self.into, &EntryJson::new(key, value))?;
            }
        }
        self.into.write_all(b"\n")
    }
}

/// What was exported.
#[derive(Debug, Serialize)]
struct Exported {
    file: PathBuf,
    workers: u64,
    entries: u64,
}

impl View for Exported {
    fn text(&self) -> String {
        format!(
            "{} entries of {} workers in {}\n",
            count(self.entries),
            count(self.workers),
            self.file.display()
        )
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use millstream::StateOrigin;

    use super::*;

    #[test]
    fn an_export_is_what_the_help_says() {
        let mut lines = Vec::new();
        let mut export = Export::new(&mut lines);
        let origin = StateOrigin {
            topic: "orders".to_owned(),
            partition: 0,
            offset: 1200,
        };
        let entry = |key, value| StateItem::Entry {
            key: Bytes::from_static(key),
            value: Bytes::from_static(value),
        };
        export.write(&StateItem::Worker(origin)).unwrap();
        export.write(&entry(b"order/7", b"paid")).unwrap();
        export.write(&entry(b"\xff", b"")).unwrap();
        let lines = String::from_utf8(lines).unwrap();
        let lines: Vec<_> = lines.lines().collect();
        assert!(lines[..2].iter().all(|line| HELP.contains(line)));
        assert_eq!(lines[2], r#"{"key_hex":"ff","value":""}"#);
    }
}
