//! `millstream consume`: records onto standard output.

mod args;
pub(crate) mod format;
mod goal;

use std::io::Write;
use std::time::Duration;

use anyhow::Context as _;
use millstream::{
    Client, ConsumedBatch, Consumer, Offset, OffsetCommit, PartitionIndex, Position, RecordView,
};
use tokio::time::MissedTickBehavior;

pub(crate) use args::ConsumeArgs;
use format::{Origin, RecordFormat};
use goal::{Goal, locate};

use crate::absence::Absence;
use crate::cli::Context;
use crate::interrupt::Interrupts;
use crate::output::{Stdout, counted};
use crate::parse::now_ms;

/// How often it is looked, while no records come, whether the broker is there, and whether everything is read:
/// the last offsets of a partition may hold none, or be another member's to read.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Writes records until all are read, enough are, or a signal comes.
pub(crate) async fn run(
    args: ConsumeArgs,
    context: &Context,
    interrupts: &mut Interrupts,
) -> anyhow::Result<()> {
    let client = interrupts.unless(context.client()).await?;
    let start = args.from.at(now_ms());
    let (mut consumer, goal) = interrupts.unless(open(&client, &args, start)).await?;
    let mut sink = Sink {
        stdout: Stdout::new(),
        format: args.format(context.output.format()),
        separator: args.separator.clone().into_bytes(),
        left: args.max.unwrap_or(u64::MAX),
        written: 0,
    };
    let mut reading = Reading {
        consumer: &mut consumer,
        client: &client,
        topic: &args.topic,
        group: args.group.as_deref(),
        goal,
        commit: Commit::of(&args),
        absence: Absence::new(context.output),
    };
    let outcome = interrupts.unless(reading.run(&mut sink)).await;
    // What was written is committed, however the reading ended; but nothing that could not be
    // written.
    let outcome = match outcome {
        Err(error) if error.is::<std::io::Error>() => return Err(error),
        outcome => outcome,
    };
    consumer.leave().await?;
    context
        .output
        .say(format_args!("consumed {}", counted(sink.written, "record")));
    outcome
}

/// Opens the consumer, and finds out how far it has to read; `None`: it follows.
async fn open(
    client: &Client,
    args: &ConsumeArgs,
    start: Position,
) -> anyhow::Result<(Consumer, Option<Goal>)> {
    let admin = client.admin();
    let builder = client.consumer().read_from(args.read_from.into());
    let builder = match &args.rack {
        None => builder,
        Some(rack) => builder.rack(rack),
    };
    match &args.group {
        Some(group) => {
            let goal = if args.follow {
                None
            } else {
                let mut goal =
                    Goal::of(&locate(&admin, &args.topic, &[], Position::Earliest).await?);
                goal.reach_by_group(&admin, group, &args.topic).await?;
                Some(goal)
            };
            let builder = builder
                .group(group)
                .member_name(format!("millstream-cli-{}", std::process::id()))
                .topics([&args.topic])
                .start(start);
            let builder = match Commit::of(args) {
                Commit::ByItself => builder,
                Commit::EachBatch => builder.manual_commit(),
            };
            Ok((builder.build().await?, goal))
        }
        None => {
            let listed = locate(&admin, &args.topic, &args.partitions, start).await?;
            let goal = (!args.follow).then(|| Goal::of(&listed));
            let assigned = listed.iter().map(|listed| {
                (
                    &args.topic,
                    listed.partition,
                    Position::Offset(listed.offset),
                )
            });
            Ok((builder.assign(assigned).build().await?, goal))
        }
    }
}

/// Where records go.
struct Sink {
    stdout: Stdout,
    format: RecordFormat,
    separator: Vec<u8>,
    /// Records still wanted.
    left: u64,
    written: u64,
}

impl Sink {
    fn write(&mut self, origin: Origin<'_>, record: &RecordView<'_>) -> anyhow::Result<()> {
        format::write(
            &mut self.stdout,
            self.format,
            &self.separator,
            origin,
            record,
        )
        .context("cannot write to standard output")?;
        self.left -= 1;
        self.written += 1;
        Ok(())
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        self.stdout
            .flush()
            .context("cannot write to standard output")
    }
}

/// Who commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Commit {
    /// The consumer, if it has a group: whole batches, behind the next one.
    ByItself,
    /// This program, behind every batch: the end may lie inside of one.
    EachBatch,
}

impl Commit {
    fn of(args: &ConsumeArgs) -> Self {
        if args.group.is_some() && args.max.is_some() {
            Self::EachBatch
        } else {
            Self::ByItself
        }
    }
}

struct Reading<'a> {
    consumer: &'a mut Consumer,
    client: &'a Client,
    topic: &'a str,
    group: Option<&'a str>,
    goal: Option<Goal>,
    commit: Commit,
    absence: Absence,
}

impl Reading<'_> {
    async fn run(&mut self, sink: &mut Sink) -> anyhow::Result<()> {
        let mut checks = tokio::time::interval(LOOK_EVERY);
        checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while sink.left > 0 && !self.goal.as_ref().is_some_and(Goal::is_reached) {
            tokio::select! {
                batch = self.consumer.next_batch() => self.write(&batch?, sink).await?,
                _ = checks.tick() => {
                    self.absence.look(self.client);
                    self.ask_group().await?;
                }
            }
            if let Some(goal) = &mut self.goal {
                goal.reach_by(self.consumer, self.topic);
            }
        }
        Ok(())
    }

    /// Writes a batch's records, as far as they are wanted.
    async fn write(&self, batch: &ConsumedBatch, sink: &mut Sink) -> anyhow::Result<()> {
        let partition = batch.partition();
        let origin = Origin {
            topic: batch.topic(),
            partition,
        };
        let mut next_offset = batch.next_offset();
        for record in batch.iter() {
            // A group's member writes all that it is given: it is committed.
            let beyond = self.group.is_none()
                && self
                    .goal
                    .as_ref()
                    .is_some_and(|goal| goal.excludes(partition, record.offset));
            if sink.left == 0 || beyond {
                next_offset = record.offset;
                break;
            }
            sink.write(origin, &record)?;
        }
        sink.flush()?;
        match self.commit {
            Commit::ByItself => Ok(()),
            Commit::EachBatch => self.commit(partition, next_offset).await,
        }
    }

    /// Commits one partition's offset, if the partition is still this member's.
    async fn commit(&self, partition: PartitionIndex, offset: Offset) -> anyhow::Result<()> {
        let owned = self.consumer.position(self.topic, partition).is_some();
        if owned {
            let offset = OffsetCommit {
                topic: self.topic.to_owned(),
                partition,
                offset,
                metadata: String::new(),
            };
            self.consumer.commit_offsets([offset]).await?;
        }
        Ok(())
    }

    /// Looks whether the group's other members have read what this one does not.
    async fn ask_group(&mut self) -> anyhow::Result<()> {
        if let (Some(goal), Some(group)) = (&mut self.goal, self.group) {
            goal.reach_by_group(&self.client.admin(), group, self.topic)
                .await?;
        }
        Ok(())
    }
}
