//! `millstream plugin deploy`.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use bytes::Bytes;
use clap::Args;
use millstream::{
    Admin, DeployPlugin, DeploymentDescription, DeploymentSpec, ErrorCode, MissingTopics,
    OnExisting, OutputSpec, TableSpec,
};
use millstream_metadata::Limits;
use millstream_metadata::deployment::check_alone;
use millstream_protocol::limits::MAX_COMPONENT_BYTES;

use super::build::{BuildArgs, build, is_source};
use super::grants::GrantArgs;
use super::limits::LimitArgs;
use super::manifest;
use super::policy::{DeliveryArg, FailureArgs};
use super::started::started;
use crate::cli::Context;
use crate::errors::{Exit, Problem};
use crate::output::{bytes, counted};
use crate::parse::{Pair, PositionArg, now_ms, pair};

/// How a component begins: the magic of WebAssembly, then version 13 of the component layer.
const COMPONENT_MAGIC: [u8; 8] = *b"\0asm\x0d\0\x01\0";

/// How a core module begins, which is no component.
const MODULE_MAGIC: [u8; 8] = *b"\0asm\x01\0\0\0";

/// Where a deployment starts that does not say where.
pub(super) const DEFAULT_START: PositionArg = PositionArg::Earliest;

/// How many partitions topics are made with, unless it is said.
pub(super) const DEFAULT_PARTITIONS: u32 = 1;

/// What stands for a name that is known once the component is built.
pub(super) const NAME_TO_COME: &str = "plugin";

#[derive(Args, Debug)]
pub(crate) struct DeployArgs {
    /// The file that declares the deployment, in place of COMPONENT and the options about it. When
    /// the deployment is there and is as the file says, nothing changes
    #[arg(short, long, value_name = "FILE", conflicts_with_all = ["path", "name", "inputs", "outputs", "tables", "config", "from", "delivery", "create_topics", "partitions", "memory", "deadline", "outputs_per_record", "log_lines_per_second", "state", "on_failure", "dead_letter_topic", "attempts", "first_back_off", "longest_back_off", "on_retry", "given"])]
    file: Option<PathBuf>,

    #[command(flatten)]
    spec: SpecArgs,

    /// Takes the place of a deployment of the same name, between two turns of its workers: its
    /// offsets, its state and what waits to be tried again stay
    #[arg(long)]
    replace: bool,
}

/// What is to be deployed, as options say it or a file.
#[derive(Args, Debug)]
pub(super) struct SpecArgs {
    /// The component's file, or the plugin's folder to build it from
    #[arg(value_name = "COMPONENT|FOLDER", required_unless_present = "file", value_parser = component_path)]
    pub(super) path: Option<PathBuf>,

    /// The deployment's name, and its consumer group's [default: the crate's, folder's or file's name]
    #[arg(long)]
    pub(super) name: Option<String>,

    /// A topic that the plugin reads; may be given again
    #[arg(long = "input", required_unless_present = "file", value_name = "TOPIC")]
    pub(super) inputs: Vec<String>,

    /// The topic that one of the plugin's outputs goes to; may be given again
    #[arg(long = "output-topic", value_parser = pair("OUTPUT=TOPIC"), value_name = "OUTPUT=TOPIC")]
    pub(super) outputs: Vec<Pair>,

    /// The compacted topic that one of the plugin's tables is made of; may be given again
    #[arg(long = "table", value_parser = pair("TABLE=TOPIC"), value_name = "TABLE=TOPIC")]
    pub(super) tables: Vec<Pair>,

    /// What the plugin reads as its configuration; may be given again
    #[arg(long = "config", value_parser = pair("NAME=VALUE"), value_name = "NAME=VALUE")]
    pub(super) config: Vec<Pair>,

    /// Where to start in a partition that was never read: earliest, latest, offset:N, time:T or a
    /// duration back from now
    #[arg(long, default_value_t = DEFAULT_START, value_name = "POSITION")]
    pub(super) from: PositionArg,

    #[command(flatten)]
    pub(super) limits: LimitArgs,

    /// How often a record's outputs may come
    #[arg(long, value_enum, default_value_t)]
    pub(super) delivery: DeliveryArg,

    #[command(flatten)]
    pub(super) failure: FailureArgs,

    #[command(flatten)]
    pub(super) grants: GrantArgs,

    /// Makes the topics that are not there yet; those of tables are compacted
    #[arg(long)]
    pub(super) create_topics: bool,

    /// How many partitions topics are made with
    #[arg(long, default_value_t = DEFAULT_PARTITIONS, requires = "create_topics", value_parser = clap::value_parser!(u32).range(1..), value_name = "N")]
    pub(super) partitions: u32,
}

/// A path that may be a component's.
fn component_path(path: &str) -> Result<PathBuf, String> {
    match path.ends_with(".toml") {
        true => Err(format!("a deployment file goes behind `-f`: `-f {path}`")),
        false => Ok(path.into()),
    }
}

impl SpecArgs {
    /// What the broker is asked for. What it would refuse whatever topics there are is refused here: so
    /// nothing is built or made for it.
    pub(super) fn spec(&self, default_name: &str) -> Result<DeploymentSpec, Problem> {
        let name = self.name.clone().unwrap_or_else(|| default_name.to_owned());
        let outputs = self.outputs.iter().map(|Pair { name, value }| OutputSpec {
            name: name.clone(),
            topic: value.clone(),
        });
        let tables = self.tables.iter().map(|Pair { name, value }| TableSpec {
            name: name.clone(),
            topic: value.clone(),
        });
        let on_failure = self.failure.policy(&name)?;
        let spec = DeploymentSpec {
            name,
            inputs: self.inputs.clone(),
            outputs: outputs.collect(),
            config: self.config.iter().cloned().map(Pair::into).collect(),
            start: self.from.at(now_ms()),
            limits: self.limits.limits()?,
            delivery: self.delivery.into(),
            on_failure,
            grants: self.grants.grants(),
            tables: tables.collect(),
        };
        check_alone(&spec, &Limits::default()).map_err(|error| {
            Problem::usage(error.to_string())
                .advise("`millstream plugin deploy --help` shows what a deployment may be")
        })?;
        Ok(spec)
    }

    /// What asks for it.
    pub(super) fn request(&self, spec: DeploymentSpec, on_existing: OnExisting) -> DeployPlugin {
        DeployPlugin {
            spec,
            on_existing,
            missing_topics: match self.create_topics {
                true => MissingTopics::Make {
                    partitions: self.partitions,
                },
                false => MissingTopics::Refuse,
            },
        }
    }

    /// The component's file or the plugin's folder.
    pub(super) fn path(&self) -> Result<&Path, Problem> {
        self.path.as_deref().ok_or_else(|| {
            Problem::usage("no component is named").advise("name its file or its folder")
        })
    }
}

pub(super) async fn run(
    args: DeployArgs,
    context: &Context,
) -> anyhow::Result<DeploymentDescription> {
    let declared = match &args.file {
        Some(file) => manifest::read(file)?,
        None => {
            // Before anything is built, whatever name that may have.
            args.spec.spec(NAME_TO_COME)?;
            args.spec
        }
    };
    let (name, component) = match &args.file {
        Some(file) => component_of(file, &declared).await?,
        None => component(declared.path()?).await?,
    };
    let spec = declared.spec(&name)?;
    let admin = context.admin().await?;
    let deployed = find(&admin, &spec.name).await?;
    let goes_on = deployed.is_none() && has_offsets(&admin, &spec).await;
    if let Some(file) = &args.file
        && let Some(deployed) = deployed
    {
        let digest = millstream_runtime::digest(&component);
        let differences = manifest::differences(&declared, &spec, &digest, &deployed);
        if differences.is_empty() {
            context.output.say(format_args!(
                "deployment {} is as {} says: nothing changed",
                spec.name,
                file.display()
            ));
            return Ok(deployed);
        }
        if !args.replace {
            return Err(manifest::differs(file, &spec.name, differences).into());
        }
    }
    context.output.say(format_args!(
        "deploying {} ({})",
        spec.name,
        bytes(component.len() as u64)
    ));
    let on_existing = match args.replace {
        true => OnExisting::Replace,
        false => OnExisting::Refuse,
    };
    let request = declared.request(spec, on_existing);
    let deployed = put(component, request, &admin, context).await?;
    if goes_on {
        let name = &deployed.spec.name;
        context.output.say(format_args!(
            "going on from the offsets of the group {name}, which were there; to begin anew, `millstream plugin \
             remove {name}`, then `millstream group delete {name}`, and deploy again"
        ));
    }
    Ok(deployed)
}

/// Puts a deployment in place, and tells which topics were made with it.
pub(super) async fn put(
    component: Bytes,
    request: DeployPlugin,
    admin: &Admin,
    context: &Context,
) -> anyhow::Result<DeploymentDescription> {
    let missing = match request.missing_topics {
        MissingTopics::Make { partitions } => {
            let missing = missing_topics(admin, &request.spec).await?;
            Some((missing, counted(partitions.into(), "partition")))
        }
        MissingTopics::Refuse => None,
    };
    let deployed = admin.put_plugin(component, request).await?;
    if let Some((missing, partitions)) = missing {
        for topic in missing {
            context
                .output
                .say(format_args!("made topic {topic} with {partitions}"));
        }
    }
    Ok(started(admin, deployed).await)
}

/// The deployment of this name, if there is one.
async fn find(admin: &Admin, name: &str) -> millstream::Result<Option<DeploymentDescription>> {
    match admin.describe_plugin(name).await {
        Ok(deployed) => Ok(Some(deployed)),
        Err(error) if error.code() == Some(ErrorCode::UnknownDeployment) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether the group of a deployment to come has offsets in its inputs, as one of the same name leaves them.
async fn has_offsets(admin: &Admin, spec: &DeploymentSpec) -> bool {
    let Ok(group) = admin.describe_group(spec.name.as_str()).await else {
        return false;
    };
    group.partitions.iter().any(|partition| {
        spec.inputs.contains(&partition.topic) && partition.committed_offset.is_some()
    })
}

/// Those topics of a deployment that are not there.
async fn missing_topics(
    admin: &Admin,
    spec: &DeploymentSpec,
) -> millstream::Result<BTreeSet<String>> {
    let outputs = spec.outputs.iter().map(|output| &output.topic);
    let tables = spec.tables.iter().map(|table| &table.topic);
    let named = spec.inputs.iter().chain(outputs).chain(tables);
    let mut missing: BTreeSet<String> = named.cloned().collect();
    for topic in admin.list_topics().await? {
        missing.remove(&topic.name);
    }
    Ok(missing)
}

/// The same of what a deployment file names.
pub(super) async fn component_of(
    file: &Path,
    declared: &SpecArgs,
) -> anyhow::Result<(String, Bytes)> {
    let path = declared.path()?;
    if !path.exists() {
        let message = format!(
            "the field `component` of {} names {}, which is not there",
            file.display(),
            path.display()
        );
        return Err(Problem::new(Exit::NotFound, message)
            .advise("a component's .wasm file or a plugin's folder, seen from the deployment file: `component = \".\"` is the folder that it is in")
            .into());
    }
    component(path)
        .await
        .map_err(|error| named(error, file, path))
}

/// An error about what a deployment file names as its component, which says so.
fn named(error: anyhow::Error, file: &Path, path: &Path) -> anyhow::Error {
    match error.downcast::<Problem>() {
        // What is wrong within a plugin's folder is told by its tools.
        Ok(problem) if is_source(path) => problem.into(),
        Ok(problem) => problem
            .within(format!("the field `component` of {}", file.display()))
            .into(),
        Err(error) => error.context(format!("the field `component` of {}", file.display())),
    }
}

/// The component at `path` and a name for it; a plugin's folder is built first.
pub(super) async fn component(path: &Path) -> anyhow::Result<(String, Bytes)> {
    if is_source(path) {
        let built = build(&BuildArgs {
            path: path.to_owned(),
            target_dir: None,
            arguments: Vec::new(),
        })
        .await?;
        return Ok((built.name, read(&built.component)?));
    }
    let stem = path
        .file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .replace('_', "-");
    Ok((stem, read(path)?))
}

/// Reads a component, and looks at no more of the file than that it is one.
pub(crate) fn read(path: &Path) -> anyhow::Result<Bytes> {
    let shown = path.display();
    let file = File::open(path).with_context(|| format!("cannot read {shown}"))?;
    let mut component = Vec::new();
    let limit = MAX_COMPONENT_BYTES as u64;
    file.take(limit + 1)
        .read_to_end(&mut component)
        .with_context(|| format!("cannot read {shown}"))?;
    if component.len() > MAX_COMPONENT_BYTES {
        return Err(Problem::new(
            Exit::Refused,
            format!("{shown} is larger than {}", bytes(limit)),
        )
        .advise(
            "in Rust, build it with `strip = true` and `opt-level = \"s\"` below [profile.release]",
        )
        .into());
    }
    if component.starts_with(&MODULE_MAGIC) {
        return Err(Problem::usage(format!(
            "{shown} is a core module of WebAssembly, not a component"
        ))
        .advise("build it with `millstream plugin build`, which makes a component")
        .into());
    }
    if !component.starts_with(&COMPONENT_MAGIC) {
        return Err(
            Problem::usage(format!("{shown} is not a WebAssembly component"))
                .advise("name a component's .wasm file or a plugin's folder")
                .into(),
        );
    }
    Ok(component.into())
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};
    use millstream::{
        DeliveryGuarantee, FailureAction, FailurePolicy, Grants, Position, WorkerLimits,
    };

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        deploy: DeployArgs,
    }

    fn parse(args: &[&str]) -> Result<SpecArgs, clap::Error> {
        Line::try_parse_from([&["test"], args].concat()).map(|line| line.deploy.spec)
    }

    #[test]
    fn the_line_becomes_a_deployment() {
        let args = parse(&[
            "quake_alert.wasm",
            "--name=alerts-eu",
            "--input=earthquakes",
            "--output-topic=alerts=quake-alerts",
            "--table=networks=seismic-networks",
            "--config=min-mag=4.5",
            "--from=offset:7",
            "--memory=16MiB",
            "--deadline=250ms",
            "--delivery=at-least-once",
            "--attempts=3",
            "--longest-back-off=2s",
            "--on-failure=skip",
            "--grant=randomness",
            "--grant=secret=api-key",
            "--grant=http=http://enricher:8080",
        ]);
        let usual = FailurePolicy::default_for("alerts-eu");
        let expected = DeploymentSpec {
            name: "alerts-eu".to_owned(),
            inputs: vec!["earthquakes".to_owned()],
            outputs: vec![OutputSpec {
                name: "alerts".to_owned(),
                topic: "quake-alerts".to_owned(),
            }],
            config: vec![("min-mag".to_owned(), "4.5".to_owned())],
            start: Position::Offset(7),
            limits: WorkerLimits {
                memory_bytes: 16 << 20,
                deadline_ms: 250,
                ..WorkerLimits::default()
            },
            delivery: DeliveryGuarantee::AtLeastOnce,
            on_failure: FailurePolicy {
                attempts: 3,
                longest_back_off_ms: 2_000,
                finally: FailureAction::Skip,
                ..usual
            },
            grants: Grants {
                real_clocks: false,
                real_randomness: true,
                secrets: vec!["api-key".to_owned()],
                http: vec!["http://enricher:8080".parse().unwrap()],
            },
            tables: vec![TableSpec {
                name: "networks".to_owned(),
                topic: "seismic-networks".to_owned(),
            }],
        };
        assert_eq!(args.unwrap().spec("quake-alert").unwrap(), expected);
    }

    #[test]
    fn what_is_not_given_is_usual() {
        let spec = parse(&["x.wasm", "--input=a", "--input=b"])
            .unwrap()
            .spec("x")
            .unwrap();
        assert_eq!(
            (spec.name.as_str(), spec.inputs.len(), spec.start),
            ("x", 2, Position::Earliest)
        );
        assert_eq!(spec.limits, WorkerLimits::default());
        assert_eq!(spec.delivery, DeliveryGuarantee::ExactlyOnce);
        assert_eq!(spec.on_failure, FailurePolicy::default_for("x"));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        assert!(parse(&["x.wasm"]).is_err());
        assert!(
            parse(&[
                "x.wasm",
                "--input=a",
                "--on-failure=skip",
                "--dead-letter-topic=d"
            ])
            .unwrap()
            .spec("x")
            .is_err()
        );
        assert!(parse(&["x.wasm", "--input=a", "--output-topic=alerts"]).is_err());
        assert!(parse(&["x.wasm", "--input=a", "--partitions=2"]).is_err());
        assert!(
            parse(&["x.wasm", "--input=a", "--deadline=60d"])
                .unwrap()
                .spec("x")
                .is_err()
        );
    }

    #[test]
    fn a_file_says_all_of_it() {
        parse(&["-f", "deployment.toml", "--replace"]).unwrap();
        for option in [
            "x.wasm",
            "--name=x",
            "--input=a",
            "--from=latest",
            "--memory=1MiB",
            "--attempts=3",
            "--grant=clocks",
            "--create-topics",
            "--partitions=2",
        ] {
            let error = parse(&["--file=deployment.toml", option]).unwrap_err();
            assert_eq!(
                error.kind(),
                clap::error::ErrorKind::ArgumentConflict,
                "{option}"
            );
        }
    }

    #[test]
    fn a_file_leaves_no_option_about_the_deployment() {
        let mut command = Line::command();
        command.build();
        let file = command.get_arguments().find(|it| it.get_id() == "file");
        let conflicts = command.get_arg_conflicts_with(file.unwrap());
        let beside: Vec<_> = command
            .get_arguments()
            .filter(|it| !conflicts.contains(it))
            .map(|it| it.get_id().as_str())
            .collect();
        assert_eq!(beside, ["file", "replace", "help"]);
    }

    #[test]
    fn only_components_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.wasm");
        let check = |content: &[u8]| {
            std::fs::write(&path, content).unwrap();
            read(&path).map_err(|error| {
                error
                    .to_string()
                    .replace(&*folder.path().to_string_lossy(), "")
            })
        };
        assert_eq!(check(&COMPONENT_MAGIC).unwrap(), COMPONENT_MAGIC.as_slice());
        insta::assert_snapshot!(check(&MODULE_MAGIC).unwrap_err(), @"/x.wasm is a core module of WebAssembly, not a component");
        insta::assert_snapshot!(check(b"#!/bin/sh").unwrap_err(), @"/x.wasm is not a WebAssembly component");
    }
}
