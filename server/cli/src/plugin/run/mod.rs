//! `millstream plugin run`: a plugin on a file of records, without a broker.

mod cause;
mod emitted;
mod expect;
mod input;
mod log;
mod report;
mod secrets;
mod session;
mod tables;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use bytes::Bytes;
use clap::Args;
use millstream::{Grants, WorkerLimits};
use millstream_runtime::{
    EmptyState, Lack, OwnThread, RefusedError, Runtime, RuntimeConfig, Table, WorkerGrants,
    WorkerSetup,
};

use self::expect::Expectation;
use self::log::{LogPrinter, Place};
use self::report::Report;
use self::secrets::Secrets;
use self::session::Session;
use super::deploy::{component, component_of};
use super::grants::GrantArgs;
use super::limits::LimitArgs;
use super::manifest;
use crate::cli::Context;
use crate::errors::{Exit, Problem};
use crate::output::{Output, plain};
use crate::parse::{Pair, pair};
use crate::produce::{Field, LineFormat, parse_field};

/// Records that one call may have, at most.
const MAX_RECORDS_PER_CALL: u32 = 100_000;

/// The input topic, unless one is named.
const DEFAULT_TOPIC: &str = "records";

/// There is one partition.
const PARTITION: u32 = 0;

/// What comes out, for `--help`.
pub(super) const HELP: &str = "\
What the plugin emits goes to standard output, in the order of the records: a line each of output,
key and value with tabs between them, or with `--output json` an object each that has the headers,
the time and the input's offset, or the timer, as well. Rejected records, log lines and a summary go
to standard error. State is kept from call to call, and gone at the end. A record that is to be
retried is not tried again, and none waits behind it. A call that fails is made again with halves of
its records until the one at fault is found; the others count, and the run fails in the end.

Timers of the record-time clock fire after the call whose records have reached their time, at most
1,000 together. A file has no clock on the wall: timers of that clock fire with `--fire-timers` only,
in the end, in the order of time together with those that no record has reached. What is set there
for a time beyond the last of them does not fire.";

#[derive(Args, Debug)]
pub(crate) struct RunArgs {
    /// The component's file, or the plugin's folder to build it from
    #[arg(value_name = "COMPONENT|FOLDER", required_unless_present = "file")]
    path: Option<PathBuf>,

    /// A deployment file, for the component, its outputs, configuration and limits
    #[arg(short, long, value_name = "FILE", conflicts_with_all = ["path", "output_names", "deployment", "memory", "deadline", "outputs_per_record", "log_lines_per_second", "state", "given"])]
    file: Option<PathBuf>,

    /// The file with a record on each line; `-` is standard input. The first has offset 0 and, unless
    /// `--timestamp-field` tells another, the time 2020-01-01T00:00:00Z; each further one is a
    /// millisecond later
    #[arg(long, value_name = "FILE")]
    records: PathBuf,

    /// The key is this field of the line, which is JSON; dots lead inwards: `properties.net`
    #[arg(long, value_name = "FIELD", value_parser = parse_field)]
    key_field: Option<Field>,

    /// The record's time is this field of the line, which is JSON: milliseconds since 1970
    #[arg(long, value_name = "FIELD", value_parser = parse_field)]
    timestamp_field: Option<Field>,

    /// When the records are done, fires every timer that still waits, of either clock
    #[arg(long)]
    fire_timers: bool,

    /// The plugin's name for one of its outputs; may be given again. (`--output` is the format of
    /// what is written.)
    #[arg(long = "output-name", value_name = "OUTPUT")]
    output_names: Vec<String>,

    /// What the plugin reads as its configuration; may be given again, and goes before what a file
    /// says
    #[arg(long = "config", value_parser = pair("NAME=VALUE"), value_name = "NAME=VALUE")]
    config: Vec<Pair>,

    #[command(flatten)]
    limits: LimitArgs,

    #[command(flatten)]
    grants: GrantArgs,

    /// Reads the secrets that are granted from this file, with a line `NAME = "VALUE"` for each; those that
    /// are not in it from the environment, where `api-key` is $MILLSTREAM_SECRET_API_KEY
    #[arg(long, value_name = "FILE")]
    secrets: Option<PathBuf>,

    /// What one of the plugin's tables has: a file with an entry on each line, its key before the first
    /// tab and its value behind; where nothing is behind, the key has no value from there on. May be given
    /// again; a table that a deployment file names and nothing fills is empty
    #[arg(long = "table", value_parser = pair("TABLE=FILE"), value_name = "TABLE=FILE")]
    tables: Vec<Pair>,

    /// The lines of this table are JSON: each is a value as a whole, and this field of it is the key
    #[arg(long = "table-key", value_parser = pair("TABLE=FIELD"), value_name = "TABLE=FIELD")]
    table_keys: Vec<Pair>,

    /// Compares what is written with this file, line by line, and fails at a difference
    #[arg(long, value_name = "FILE")]
    expect: Option<PathBuf>,

    /// How many records the plugin is called with, at most; fewer if they are large
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_RECORDS_PER_CALL)), value_name = "N")]
    records_per_call: u32,

    /// What the plugin takes for its deployment's name [default: the crate's, folder's or file's name]
    #[arg(long, value_name = "NAME")]
    deployment: Option<String>,

    /// What the plugin takes for its input topic [default: a file's first input, or `records`]
    #[arg(long, value_name = "TOPIC")]
    topic: Option<String>,
}

/// What runs.
#[derive(Debug)]
struct Job {
    component: Bytes,
    secrets: Secrets,
    tables: Vec<Table>,
    /// What is to be said of those that nothing fills.
    empty_tables: Option<String>,
    subject: Subject,
    records: PathBuf,
    format: LineFormat,
    records_per_call: u32,
    timers_left: TimersLeft,
    expect: Option<PathBuf>,
}

/// What becomes of timers that wait when the records are done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TimersLeft {
    Wait,
    Fire,
}

/// What the guest is told about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Subject {
    deployment: String,
    topic: String,
    outputs: Vec<String>,
    config: Vec<(String, String)>,
    limits: WorkerLimits,
    grants: Grants,
    /// The names of its tables.
    tables: Vec<String>,
}

/// Builds the component if need be, and runs it over the records.
pub(super) async fn run(args: RunArgs, context: &Context) -> anyhow::Result<()> {
    args.check_files()?;
    let job = args.job().await?;
    let output = context.output;
    // The guest blocks, for as long as it computes.
    tokio::task::spawn_blocking(move || job.run(output))
        .await
        .context("the plugin's thread has ended before the plugin")?
}

impl RunArgs {
    /// Refuses what names a file that is not there, before anything is built.
    fn check_files(&self) -> anyhow::Result<()> {
        let records = Some(self.records.as_path()).filter(|path| *path != Path::new("-"));
        let tables = self
            .tables
            .iter()
            .map(|Pair { value, .. }| Path::new(value));
        let others = [&self.secrets, &self.expect].into_iter().flatten();
        for path in records
            .into_iter()
            .chain(tables)
            .chain(others.map(PathBuf::as_path))
        {
            // It is not opened: a pipe could be read but once.
            std::fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
        }
        Ok(())
    }

    async fn job(self) -> anyhow::Result<Job> {
        let declared = self.file.as_deref().map(manifest::read).transpose()?;
        let path = match &declared {
            Some(declared) => declared.path()?.to_owned(),
            None => self.path.clone().unwrap_or_default(),
        };
        let (name, component) = match (&self.file, &declared) {
            (Some(file), Some(declared)) => component_of(file, declared).await?,
            _ => component(&path).await?,
        };
        let subject = match declared {
            Some(declared) => {
                let spec = declared.spec(&name)?;
                Subject {
                    deployment: spec.name,
                    topic: spec.inputs.into_iter().next().unwrap_or_default(),
                    outputs: spec.outputs.into_iter().map(|output| output.name).collect(),
                    config: spec.config,
                    limits: spec.limits,
                    grants: spec.grants,
                    tables: spec.tables.into_iter().map(|table| table.name).collect(),
                }
            }
            None => Subject {
                deployment: self.deployment.unwrap_or(name),
                topic: DEFAULT_TOPIC.to_owned(),
                outputs: self.output_names,
                config: Vec::new(),
                limits: self.limits.limits()?,
                grants: self.grants.grants(),
                tables: tables::names(&self.tables),
            },
        };
        let secrets = Secrets::read(&subject.grants.secrets, self.secrets.as_deref())?;
        let empty_tables = tables::remark_on_empty(&subject.tables, &self.tables);
        let names = subject.tables.clone();
        let (files, keys) = (self.tables, self.table_keys);
        let reading = tokio::task::spawn_blocking(move || tables::read(&names, &files, &keys));
        let tables = reading.await.context("the tables' reader has ended")??;
        Ok(Job {
            component,
            secrets,
            tables,
            empty_tables,
            subject: subject.with(self.topic, self.config),
            records: self.records,
            format: LineFormat::of_fields(self.key_field, self.timestamp_field),
            records_per_call: self.records_per_call,
            timers_left: if self.fire_timers {
                TimersLeft::Fire
            } else {
                TimersLeft::Wait
            },
            expect: self.expect,
        })
    }
}

impl Subject {
    /// The same, but for what was typed.
    fn with(mut self, topic: Option<String>, config: Vec<Pair>) -> Self {
        self.topic = topic.unwrap_or(self.topic);
        for Pair { name, value } in config {
            self.config.retain(|(before, _)| *before != name);
            self.config.push((name, value));
        }
        self
    }
}

impl Job {
    fn run(self, output: Output) -> anyhow::Result<()> {
        let expectation = self.expect.as_deref().map(Expectation::open).transpose()?;
        let runtime = Runtime::new(RuntimeConfig::default())?;
        let compiled = runtime.compile(&self.component).and_then(|plugin| {
            plugin.check_grants(&self.subject.grants, self.tables.len())?;
            Ok(plugin)
        });
        let plugin = compiled.map_err(|refused| {
            let problem = Problem::new(Exit::Refused, "the component does not fit")
                .advise(what_it_lacks(&refused));
            anyhow!(refused).context(problem)
        })?;
        if let Some(remark) = &self.empty_tables {
            output.say(remark);
        }
        let place = Arc::new(Place::default());
        let deployment = self.subject.deployment.clone();
        let mut report = Report::new(output, self.subject.outputs.clone(), expectation);
        let logs = LogPrinter {
            output,
            place: Arc::clone(&place),
        };
        let setup = self
            .subject
            .setup(Arc::new(logs), self.secrets, self.tables);
        let mut session = Session::start(plugin, setup, place)?;
        let records_per_call = self.records_per_call as usize;
        let read = input::read(&self.records, &self.format, records_per_call, |records| {
            session.call(records, &mut |told| report.tell(told))?;
            report.flush()
        });
        let ran = read.and_then(|()| match self.timers_left {
            TimersLeft::Wait => Ok(()),
            TimersLeft::Fire => session.fire_all(&mut |told| report.tell(told)),
        });
        // What was emitted before the trouble is there.
        report.flush()?;
        ran?;
        output.say(report::summary(&deployment, &session));
        for key in session.unasked() {
            output.say(format_args!(
                "the config key `{}` was never asked for: is it misspelt?",
                plain(key)
            ));
        }
        report.finish(session.tally())
    }
}

/// What to try where a component is refused.
fn what_it_lacks(refused: &RefusedError) -> &'static str {
    let RefusedError::Settings { lack, .. } = refused else {
        return "`millstream plugin build` builds a component for the world that `wit/` describes";
    };
    match lack {
        Lack::Secret => {
            "`--grant secret=NAME` grants it one, `[grants]` of a deployment file (`-f`) as well"
        }
        Lack::Host => {
            "`--grant http=HOST` has it send requests to that host, `[grants]` of a deployment file (`-f`) as well"
        }
        Lack::Table => {
            "`--table TABLE=FILE` gives it a table and its entries; a deployment file (`-f`) names them below `[tables]`"
        }
    }
}

impl Subject {
    fn setup(self, logs: Arc<LogPrinter>, secrets: Secrets, tables: Vec<Table>) -> WorkerSetup {
        WorkerSetup {
            deployment: self.deployment,
            topic: self.topic,
            partition: PARTITION,
            outputs: self.outputs,
            config: self.config,
            limits: self.limits,
            logs,
            grants: WorkerGrants {
                grants: self.grants,
                secrets: Some(Arc::new(secrets)),
            },
            state: Arc::new(EmptyState),
            metrics: Arc::default(),
            tables,
            waits: Arc::new(OwnThread),
        }
    }
}

#[cfg(test)]
mod tests;
