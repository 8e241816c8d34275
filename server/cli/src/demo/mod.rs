//! `millstream demo`: the main job on real input, by real processes. `millstream demo-cluster`: what a
//! cluster survives.
//!
//! It builds the workspace's example plugin, starts a broker of its own, deploys the plugin there,
//! streams a week of earthquakes through it, and verifies what comes out against what it knows of
//! the input. The user's own broker and profile are not touched.
//!
//! # Layout
//!
//! - `workspace`: where the plugin and the input are
//! - `node`: the broker, a child process in a temporary directory
//! - `quakes`: the input, and what must come of it
//! - `pipeline`: from the first record to the last alert
//! - `summary`: what is told at the end
//! - `cluster`: three brokers, of which one is killed

pub(crate) mod cluster;
mod launch;
mod node;
mod pipeline;
mod quakes;
mod summary;
mod workspace;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context as _;
use bytes::Bytes;
use clap::Args;
use millstream::{Client, DeploymentSpec, OutputSpec};

use crate::cli::Context;
use crate::interrupt::{Interrupted, Interrupts};
use crate::output::{bytes, elapsed};
use crate::plugin::build::{BuildArgs, build};
use crate::plugin::deploy;
use node::Node;
use pipeline::Pipeline;
use quakes::{MIN_MAGNITUDE, Quakes};
use summary::Summary;
use workspace::Workspace;

/// The topic that the plugin reads.
const INPUT: &str = "earthquakes";
const INPUT_PARTITIONS: u32 = 4;

/// The topic that the plugin's output of the same name goes to.
const ALERTS: &str = "alerts";
const ALERT_PARTITIONS: u32 = 2;

/// The deployment, and its consumer group.
const DEPLOYMENT: &str = "quake-alert";

#[derive(Args, Debug)]
pub(crate) struct DemoArgs {
    /// The checkout of Millstream's sources, with the example plugin and its input [default: the one
    /// that the working directory is in]
    #[arg(long, value_name = "DIR")]
    workspace: Option<PathBuf>,
}

/// Runs the demo and stops what it has started, however it ends.
pub(crate) async fn run(
    args: DemoArgs,
    context: &Context,
    interrupts: &mut Interrupts,
) -> anyhow::Result<()> {
    let output = context.output;
    let workspace = Workspace::find(args.workspace)?;
    let quakes = Quakes::read(&workspace.input())?;
    output.say(format_args!(
        "1. building the plugin {}",
        workspace.plugin().display()
    ));
    let component = interrupts.unless(build_plugin(&workspace, context)).await?;

    let mut node = interrupts.unless(Node::start()).await?;
    output.say(format_args!(
        "2. started a broker (process {}) at {}",
        node.process_id(),
        node.address()
    ));
    let outcome = interrupts
        .unless(process(&node, component, &quakes, context))
        .await;
    let stopped = interrupts.unless(node.stop()).await;
    if outcome
        .as_ref()
        .is_err_and(|error| !error.is::<Interrupted>())
    {
        node.show_log();
    }
    let summary = outcome?;
    stopped?;
    output.say("6. stopped the broker and removed its data\n");
    output.print(&summary)
}

async fn build_plugin(workspace: &Workspace, context: &Context) -> anyhow::Result<Bytes> {
    let plugin = workspace.plugin();
    workspace::ensure_target(&plugin, context.output)?;
    let args = BuildArgs {
        path: plugin,
        target_dir: workspace.target_dir(),
        arguments: Vec::new(),
    };
    deploy::read(&build(&args).await?.component)
}

/// The demo itself, against a broker that is ready.
async fn process(
    node: &Node,
    component: Bytes,
    quakes: &Quakes,
    context: &Context,
) -> anyhow::Result<Summary> {
    let output = context.output;
    let client = Client::from_profile(node.profile())
        .await
        .context("cannot connect to the demo's broker")?;
    let admin = client.admin();
    admin
        .create_topic(INPUT)
        .partitions(INPUT_PARTITIONS)
        .await?;
    admin
        .create_topic(ALERTS)
        .partitions(ALERT_PARTITIONS)
        .await?;
    output.say(format_args!(
        "3. made topics {INPUT} ({INPUT_PARTITIONS} partitions) and {ALERTS} ({ALERT_PARTITIONS})"
    ));

    let size = bytes(component.len() as u64);
    let started = Instant::now();
    admin.deploy_plugin(component, deployment()).await?;
    output.say(format_args!(
        "4. deployed {DEPLOYMENT} ({size}) in {}",
        elapsed(started.elapsed())
    ));

    output.say(format_args!(
        "5. streaming {}, keyed by id; alerts are those of magnitude {MIN_MAGNITUDE} and above:",
        quakes.path().display()
    ));
    let mut pipeline = Pipeline::open(&client, quakes, output).await?;
    let figures = pipeline.run().await?;
    let summary = pipeline.verify(figures).await?;
    client.close();
    Ok(summary)
}

fn deployment() -> DeploymentSpec {
    DeploymentSpec {
        inputs: vec![INPUT.to_owned()],
        outputs: vec![OutputSpec {
            name: ALERTS.to_owned(),
            topic: ALERTS.to_owned(),
        }],
        config: vec![("min-mag".to_owned(), MIN_MAGNITUDE.to_string())],
        ..DeploymentSpec::new(DEPLOYMENT)
    }
}
