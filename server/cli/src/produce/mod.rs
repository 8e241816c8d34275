//! `millstream produce`: lines into records.

mod args;
pub(crate) mod lines;
mod record;
mod tally;

use std::time::Instant;

use anyhow::anyhow;
use millstream::{Error, Producer};

pub(crate) use args::{Field, ProduceArgs, parse_field};
use lines::{Chunk, ReadChunk};
pub(crate) use record::{BadLine, LineFormat};
use tally::Tally;

use crate::cli::Context;
use crate::errors::{Exit, Problem};
use crate::interrupt::{Interrupted, Interrupts};
use crate::output::{Progress, counted, say};

/// Produces every line and says what became of them.
pub(crate) async fn run(
    args: ProduceArgs,
    context: &Context,
    interrupts: &mut Interrupts,
) -> anyhow::Result<()> {
    let client = interrupts.unless(context.client()).await?;
    let builder = args.configure(client.producer(&args.topic))?;
    let producer = interrupts
        .unless(async { Ok(builder.build().await?) })
        .await?;

    let sources = args.sources();
    let progress = match lines::total_bytes(&sources) {
        Some(total) => context.output.progress().bytes(total),
        None => context.output.progress().endless(),
    };
    let mut job = Job {
        producer: producer.clone(),
        format: args.line_format(),
        bad_lines: if args.skip_bad_lines {
            OnBadLine::Skip
        } else {
            OnBadLine::Stop
        },
        tally: Tally::default(),
        progress,
        bytes_read: 0,
    };
    let started = Instant::now();
    let outcome = job.send_all(lines::read(sources), interrupts).await;
    // What was sent is stored, however the reading ended.
    let stored = interrupts
        .unless(async { Ok(producer.close().await?) })
        .await;
    job.progress.clear();
    if stored.is_err() {
        let stored = job.producer.acknowledged_records();
        let sent = counted(job.tally.records(), "record");
        context
            .output
            .say(format_args!("{stored} of {sent} are stored"));
    }
    stored?;

    let summary = job.tally.summary(args.topic, started.elapsed());
    let produced = summary.records;
    if context.output.is_json() {
        context.output.print(&summary)?;
    } else if produced > 0 || outcome.is_ok() {
        context.output.say(summary);
    }
    outcome.map_err(|stopped| stopped.into_error(produced))
}

/// What to do with a line that is no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OnBadLine {
    Stop,
    Skip,
}

struct Job {
    producer: Producer,
    format: LineFormat,
    bad_lines: OnBadLine,
    tally: Tally,
    progress: Progress,
    bytes_read: u64,
}

/// Why not every line was sent.
enum Stopped {
    BadLine {
        source: String,
        number: u64,
        bad: BadLine,
    },
    Unreadable {
        source: String,
        error: std::io::Error,
    },
    Refused(Error),
    Interrupted(Interrupted),
}

impl Stopped {
    fn into_error(self, produced: u64) -> anyhow::Error {
        match self {
            Self::BadLine {
                source,
                number,
                bad,
            } => {
                let message = format!("line {number} of {source} is no record: {bad}");
                let advice = format!(
                    "{} before it went out; correct the line, or pass over such lines with `--skip-bad-lines`",
                    counted(produced, "record")
                );
                Problem::new(Exit::Failure, message).advise(advice).into()
            }
            Self::Unreadable { source, error } => {
                anyhow!(error).context(format!("cannot read {source}"))
            }
            Self::Refused(error) => error.into(),
            Self::Interrupted(interrupted) => interrupted.into(),
        }
    }
}

impl Job {
    async fn send_all(
        &mut self,
        mut chunks: tokio::sync::mpsc::Receiver<ReadChunk>,
        interrupts: &mut Interrupts,
    ) -> Result<(), Stopped> {
        loop {
            let chunk = tokio::select! {
                chunk = chunks.recv() => chunk,
                interrupted = interrupts.next() => return Err(Stopped::Interrupted(interrupted)),
            };
            let Some(chunk) = chunk else { return Ok(()) };
            let chunk = chunk.map_err(|(source, error)| Stopped::Unreadable {
                source: source.to_string(),
                error,
            })?;
            tokio::select! {
                sent = self.send(&chunk) => sent?,
                interrupted = interrupts.next() => return Err(Stopped::Interrupted(interrupted)),
            }
        }
    }

    async fn send(&mut self, chunk: &Chunk) -> Result<(), Stopped> {
        for (number, line) in chunk.lines() {
            let bad = match self.send_line(line.map_err(BadLine::from)).await? {
                Ok(()) => continue,
                Err(bad) => bad,
            };
            if self.bad_lines == OnBadLine::Stop {
                return Err(Stopped::BadLine {
                    source: chunk.source.to_string(),
                    number,
                    bad,
                });
            }
            self.tally.bad_line();
            self.progress.suspend(|| {
                say(format_args!(
                    "skipped line {number} of {}: {bad}",
                    chunk.source
                ))
            });
        }
        self.bytes_read += chunk.bytes_read;
        self.progress.position(self.bytes_read);
        self.progress
            .message(|| counted(self.tally.records(), "record"));
        Ok(())
    }

    /// Sends one line's record; the inner error is the line's own.
    async fn send_line(
        &mut self,
        line: Result<&[u8], BadLine>,
    ) -> Result<Result<(), BadLine>, Stopped> {
        let record = match line.and_then(|line| self.format.record(line)) {
            Ok(Some(record)) => record,
            Ok(None) => return Ok(Ok(())),
            Err(bad) => return Ok(Err(bad)),
        };
        let bytes =
            record.key_bytes().map_or(0, <[u8]>::len) + record.value().map_or(0, <[u8]>::len);
        match self.producer.send(record).await {
            Ok(delivery) => {
                self.tally.sent(delivery, bytes);
                Ok(Ok(()))
            }
            Err(Error::RecordTooLarge { bytes, limit }) => {
                Ok(Err(BadLine::RecordTooLarge { bytes, limit }))
            }
            Err(error) => Err(Stopped::Refused(error)),
        }
    }
}
